"""Bodies of `application/x-www-form-urlencoded`, nested ones as PHP, Rails and payment APIs read them.

    {"a": {"b": 1}, "c": ["x", "y"], "d": [{"e": true}]}   is   a[b]=1&c[]=x&c[]=y&d[0][e]=true

Brackets of the structure are written as they are, those within a name or a value are encoded. Elements that are objects or arrays
carry their index, for `d[][e]=1&d[][f]=2` could be one element or two.
"""

from collections.abc import Iterator
from decimal import Decimal

from homing.core.scalars import scalar_text
from homing.core.specs import MappingError
from homing.core.uri import encode


def encode_form(value: object) -> bytes:
    """Encode an object; null and what is empty is absent. Raises MappingError if it is no object, or holds a lone surrogate."""
    if not isinstance(value, dict):
        raise MappingError("a form body must be an object")
    try:
        return "&".join(pair for name, item in value.items() for pair in _pairs(encode(name), item)).encode()
    except UnicodeEncodeError as error:
        raise MappingError("the body is no Unicode text") from error


def _pairs(name: str, value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _pairs(f"{name}[{encode(key)}]", item)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _pairs(f"{name}[{index}]" if isinstance(item, dict | list) else f"{name}[]", item)
    elif isinstance(value, Decimal):  # only of params that nothing mapped: its text is exact
        yield f"{name}={encode(str(value))}"
    elif (text := scalar_text(value)) is not None:
        yield f"{name}={encode(text)}"
