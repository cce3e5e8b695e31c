"""Bodies of `application/x-www-form-urlencoded`, nested ones as PHP, Rails and payment APIs read them.

    {"a": {"b": 1}, "c": ["x", "y"], "d": [{"e": true}]}   is   a[b]=1&c[]=x&c[]=y&d[0][e]=true

Brackets of the structure are written as they are, those within a name or a value are encoded. Elements that are objects or arrays
carry their index, for `d[][e]=1&d[][f]=2` could be one element or two.
"""

from collections.abc import Iterator
from decimal import Decimal

from homing.core.scalars import pointer, scalar_text
from homing.core.specs import MappingError
from homing.core.uri import encode


def encode_form(value: object) -> bytes:
    """Encode an object; null and empty members are absent. Raises MappingError with the path into `value`."""
    if not isinstance(value, dict):
        raise MappingError("a form body must be an object")
    return "&".join(pair for name, item in value.items() for pair in _pairs(_encode(name, (name,)), item, (name,))).encode()


def _pairs(name: str, value: object, path: tuple[str | int, ...]) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _pairs(f"{name}[{_encode(key, (*path, key))}]", item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            nested = isinstance(item, dict | list)
            yield from _pairs(f"{name}[{index}]" if nested else f"{name}[]", item, (*path, index))
    elif isinstance(value, Decimal):  # only of params that nothing mapped: its text is exact
        yield f"{name}={_encode(str(value), path)}"
    elif (text := scalar_text(value)) is not None:
        yield f"{name}={_encode(text, path)}"


def _encode(text: str, path: tuple[str | int, ...]) -> str:
    try:
        return encode(text)
    except ValueError as error:
        raise MappingError("is no Unicode text", pointer(path)) from error
