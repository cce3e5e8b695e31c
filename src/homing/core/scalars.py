"""Mapped numbers that must keep their decimal value, scalars as text for URLs, headers and forms, and paths."""

import marshal
from decimal import Decimal
from math import isfinite

from homing.core.jsonrpc import encode_value


def inexact(value: object) -> Decimal | None:
    """Return the first number within a mapped value that no float can hold, None if there is none."""
    try:
        marshal.dumps(value)  # type: ignore[arg-type] # knows the plain types only and says so at the speed of C: 0.7 µs where a walk takes 10
    except ValueError:
        return _find_decimal(value)
    return None


def _find_decimal(value: object) -> Decimal | None:
    open_: list[object] = [value]  # no recursion: a provider's JSON may be nested 512 deep
    while open_:
        item = open_.pop()
        if isinstance(item, Decimal):
            return item
        if isinstance(item, dict):
            open_ += item.values()
        elif isinstance(item, list):
            open_ += item
    return None


def pointer_to(value: object, wanted: object) -> str | None:
    """Return the JSON Pointer (RFC 6901) of the very object `wanted` within `value`, None if it is not there."""
    if value is wanted:
        return ""
    pairs: list[tuple[object, object]] = []
    if isinstance(value, dict):
        pairs = list(value.items())
    elif isinstance(value, list):
        pairs = list(enumerate(value))
    for name, item in pairs:
        below = pointer_to(item, wanted)
        if below is not None:
            return pointer((name,)) + below
    return None


def pointer(path: tuple[object, ...] | list[str | int]) -> str:
    """Write a path of names and indices as a JSON Pointer (RFC 6901)."""
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in path)


def path_under(path: str, key: str) -> str:
    """Write the configuration's path of what stands under a key, as TOML would have it."""
    bare = key.isascii() and key.replace("-", "").replace("_", "").isalnum()
    return f"{path}.{key}" if bare else f'{path}."{key}"'


def scalar_text(value: object) -> str | None:
    """Write a scalar as text: booleans `true` and `false`, numbers their JSON text, null and [] None (absent).

    Raises ValueError for objects, arrays, and numbers that a mapping would change.
    """
    if isinstance(value, str):
        return value
    if value is None or value == []:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return encode_value(value).decode()
    if isinstance(value, Decimal):
        raise ValueError(TOO_EXACT)
    raise ValueError(f"must be a text, a number or a boolean, not an {'object' if isinstance(value, dict) else 'array'}")


TOO_EXACT = "is a number that no double can hold, and mapping it would change its value"


def plain(value: object) -> object:
    """Return a value that a Python codec made if it is JSON, else raise ValueError that names the type that is not.

    Texts and numbers of a class of their own (lxml, numpy and enum have some) become what they descend from.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float | Decimal):
        if not isfinite(value):
            raise ValueError(f"{value} is no JSON number")
        return float.__float__(value) if isinstance(value, float) else value
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        for name in value:
            if not isinstance(name, str):
                raise ValueError(f"{type(name).__name__} is no name of a JSON member")
        return {str.__str__(name): plain(item) for name, item in value.items()}
    raise ValueError(f"{type(value).__name__} is no JSON value")
