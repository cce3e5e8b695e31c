"""How bodies are written and read: `encode` and `decode` of a method.

A Python codec is a pure function, named `python:module:function`:

    def encode(value: object) -> bytes | tuple[bytes, str]: ...   # the mapped body, or the params; with it the Content-Type
    def decode(body: bytes) -> object: ...                        # a JSON value, Decimals welcome

What it raises in `encode` refuses the call (-32602, nothing was sent); what it raises in `decode` makes the answer invalid (5022).
"""

import base64
import importlib
import inspect
import re
from collections.abc import Callable
from typing import Final, TypeAlias

from homing.core.forms import encode_form
from homing.core.jsonrpc import check_json, decode_value, encode_value
from homing.core.scalars import plain, scalar_text
from homing.core.specs import MappingError

DEPTH_MAX: Final = 512  # nesting of a provider's JSON
NULL: Final = b"null"

ENCODINGS: Final = ("json", "form", "text", "none", "python:module:function")
DECODINGS: Final = ("json", "text", "base64", "python:module:function")

Encode: TypeAlias = Callable[[object], tuple[bytes, str | None]]
"""A value to its bytes and, if it chooses one itself, their Content-Type. Raises MappingError."""

CONTENT_TYPES: Final = {
    "json": "application/json",
    "form": "application/x-www-form-urlencoded",
    "text": "text/plain; charset=utf-8",
}

_CHARSET = re.compile(r";\s*charset\s*=\s*\"?([^\s;\"]+)", re.IGNORECASE)
_CHARSETS = {  # any other name could be a codec of Python's that is no charset
    "utf-8": "utf-8",
    "utf8": "utf-8",
    "us-ascii": "ascii",
    "ascii": "ascii",
    "iso-8859-1": "latin-1",
    "latin1": "latin-1",
    "windows-1252": "cp1252",
}


def compile_encode(name: str) -> Encode:
    """Return what `encode = "…"` names. Raises ValueError that says why there is no such thing."""
    if name.startswith("python:"):
        function = import_function(name)

        def python(value: object) -> tuple[bytes, str | None]:
            return _encode_with(function, name, value)

        return python
    simple = {
        "json": _encode_json,
        "form": lambda value: (encode_form(value), None),
        "text": _encode_text,
        "none": lambda _: (b"", None),
    }
    if name not in simple:
        raise ValueError(f"found {name}, expected one of {', '.join(ENCODINGS)}")
    return simple[name]


def _encode_json(value: object) -> tuple[bytes, str | None]:
    try:
        return encode_value(value), None
    except ValueError as error:
        raise MappingError("the body is no Unicode text") from error


def _encode_text(value: object) -> tuple[bytes, str | None]:
    try:
        return (scalar_text(value) or "").encode(), None
    except ValueError as error:
        raise MappingError(f"a body of text {error}") from error


def _encode_with(function: Callable[..., object], name: str, value: object) -> tuple[bytes, str | None]:
    try:
        made = function(value)
    except BaseException as error:  # CancelledError and SystemExit too: nobody else would answer the call
        raise MappingError(_told(name, error)) from error
    match made:
        case bytes():
            return made, None
        case (bytes() as body, str() as content_type):
            return body, content_type
    raise MappingError(f"{name} returned {type(made).__name__}, neither bytes nor (bytes, content type)")


def _told(name: str, error: BaseException) -> str:
    """What a function raised, as text that can be told: a file's name may have got into it that is no UTF-8."""
    said = f"{name} raised {type(error).__name__}"
    try:
        words = str(error)[:200].encode(errors="replace").decode()
    except Exception:  # its own __str__ is at fault
        return said
    return f"{said}: {words}" if words else said


class Decoder:
    """Reads bodies of answers. An empty body is null, whatever the decoding."""

    __slots__ = ("_function", "name")

    def __init__(self, name: str) -> None:
        """Raises ValueError that says why there is no such decoding."""
        self.name = name
        self._function = import_function(name) if name.startswith("python:") else None
        if self._function is None and name not in DECODINGS[:-1]:
            raise ValueError(f"found {name}, expected one of {', '.join(DECODINGS)}")

    def text(self, body: bytes, headers: dict[str, str]) -> bytes:
        """Return the body as JSON text: JSON byte for byte, once it is checked. Raises ValueError."""
        if not body:
            return NULL
        if self.name == "json":
            check_json(body, DEPTH_MAX)
            return body
        return encode_value(self.value(body, headers))

    def value(self, body: bytes, headers: dict[str, str]) -> object:
        """Return the body as a value. Raises ValueError."""
        if not body:
            return None
        if self._function is not None:
            try:
                made = self._function(body)
            except BaseException as error:  # as above
                raise ValueError(_told(self.name, error)) from error
            try:
                return plain(made)
            except Exception as error:
                raise ValueError(f"{self.name} returned what is no JSON: {error}") from error
        if self.name == "text":
            return _decode_text(body, headers.get("content-type", ""))
        if self.name == "base64":
            return base64.b64encode(body).decode()
        check_json(body, DEPTH_MAX)
        return decode_value(body)


def _decode_text(body: bytes, content_type: str) -> str:
    match = _CHARSET.search(content_type)
    charset = match[1].lower() if match else "utf-8"
    if charset not in _CHARSETS:
        raise ValueError(f"its charset {charset[:40]} is not known")
    try:
        return body.decode(_CHARSETS[charset])
    except UnicodeDecodeError as error:
        raise ValueError(f"it is no {charset} text (byte {error.start})") from error


def import_function(name: str) -> Callable[..., object]:
    """Import `python:module:function`. Raises ValueError that says why it cannot be had."""
    parts = name.split(":")
    if len(parts) != 3 or not parts[1] or not parts[2]:
        raise ValueError(f"found {name}, expected python:module:function")
    try:
        module = importlib.import_module(parts[1])
    except (Exception, SystemExit) as error:  # a module may raise anything while it is imported
        raise ValueError(f"module {parts[1]} cannot be imported: {type(error).__name__}: {error}") from error
    found = getattr(module, parts[2], None)
    if found is None:
        raise ValueError(f"module {parts[1]} has no {parts[2]}")
    if not callable(found) or inspect.iscoroutinefunction(found):
        raise ValueError(f"{parts[1]}.{parts[2]} is no plain function")
    function: Callable[..., object] = found
    return function
