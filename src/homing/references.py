"""Strings that stand elsewhere: `env:NAME` and `file:PATH`. What they lead to is never printed, logged or shown in a repr."""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Self
from urllib.parse import quote, quote_plus

SECRET_BYTES_MAX = 64 * 1024
MASK = "***"
TOLD_MAX = 200  # characters of an expression
MASKED_LENGTH_MIN = 4  # "1" and "eu" would be found everywhere

_REFERENCE = re.compile(r"(env|file):(.+)", re.DOTALL)
_ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


class Secret:
    """A string that shows itself only to who asks: `reveal()`. Its repr and str are `***`."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The string itself."""
        return self._text

    def __repr__(self) -> str:
        return MASK

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)


class Referred(str):
    """A plain string that came from a reference. It is used like any other, but a repr, and so a repr of what holds it, hides it."""

    __slots__ = ("reference",)
    reference: str

    def __new__(cls, text: str, reference: str) -> Self:
        made = super().__new__(cls, text)
        made.reference = reference
        return made

    def __repr__(self) -> str:
        return MASK


def plain(value: object, *, template: bool = False) -> object:
    """A value of the configuration, with every `Referred` in it as an exact `str`: encoders take no subclasses.

    In a `template` a string that begins with = is an expression. What a reference led to never is: it is escaped.
    """
    if isinstance(value, str):
        return f"={value}" if template and isinstance(value, Referred) and value.startswith("=") else str(value)
    if isinstance(value, dict):
        return {key: plain(inner, template=template) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(plain(inner, template=template) for inner in value)
    return value


def mask(text: str, values: Iterable[str]) -> str:
    """`text` without what references led to, as it is or as it stands in JSON, in a URL or in a form. Very short values are left.

    A value that was an expression is told on one line, and not all of it if it is long.
    """
    forms: set[str] = set()
    for value in {told for given in values for told in (given, " ".join(given.split())[:TOLD_MAX])}:
        if len(value) >= MASKED_LENGTH_MIN:
            forms |= {value, quote(value, safe=""), quote_plus(value), quote(value)}
            for ascii_only in (True, False):
                escaped = json.dumps(value, ensure_ascii=ascii_only)[1:-1]
                forms |= {escaped, json.dumps(escaped, ensure_ascii=ascii_only)[1:-1]}  # a body of JSON, told in JSON
    for form in sorted(forms, key=len, reverse=True):
        text = text.replace(form, MASK)
    return text


class ReferenceBroken(Exception):
    """The reference leads nowhere; the message says why, and never what was found."""


def resolve(text: str, folder: Path, environ: Mapping[str, str]) -> str:
    """`text` itself, or what it refers to as a `Referred`, without one trailing newline. Raises ReferenceBroken.

    A relative PATH counts from `folder`, the folder of the file that names it.
    """
    found = _REFERENCE.fullmatch(text)
    if found is None:
        return text
    kind, target = found[1], found[2]
    if kind == "env":
        value = _from_environment(target, environ)
    else:
        value = _from_file(target, folder)
    return Referred(value.removesuffix("\n").removesuffix("\r") if value.endswith("\n") else value, text)


def _from_environment(name: str, environ: Mapping[str, str]) -> str:
    if not _ENVIRONMENT_NAME.fullmatch(name):
        raise ReferenceBroken(f"env:{name} is no reference, for an environment variable's name has letters, digits and _ only")
    if name not in environ:
        raise ReferenceBroken(f"the environment variable {name} is not set")
    if not environ[name]:
        raise ReferenceBroken(f"the environment variable {name} is empty")
    return environ[name]


def _from_file(name: str, folder: Path) -> str:
    path = folder / name
    try:
        with path.open("rb") as opened:
            value = opened.read(SECRET_BYTES_MAX + 1)
    except (OSError, ValueError) as error:
        raise ReferenceBroken(f"the file {path} cannot be read: {why_unreadable(error)}") from None
    if len(value) > SECRET_BYTES_MAX:
        raise ReferenceBroken(f"the file {path} is over {SECRET_BYTES_MAX // 1024} KiB, too large for a configuration value")
    if not value:
        raise ReferenceBroken(f"the file {path} is empty")
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise ReferenceBroken(f"the file {path} is not UTF-8 text") from None


def why_unreadable(error: OSError | ValueError) -> str:
    """The reason alone, in lower case: "no such file or directory"."""
    strerror = getattr(error, "strerror", None)
    return strerror.lower() if isinstance(strerror, str) else str(error)
