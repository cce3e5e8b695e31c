"""Request targets by RFC 6570, the part of it that is safe: `{var}`, `{?a,b}`, `{&a,b}`, and `*` on arrays.

A value never leaves its place: path values are percent-encoded down to the unreserved characters (RFC 3986 section 2.3), and are
never empty, `.` or `..`, nor do they hold such a segment, for some servers decode `%2F` before they resolve dots.
"""

import re
from collections.abc import Mapping
from typing import Literal, TypeAlias
from urllib.parse import quote

from homing.core.scalars import pointer, scalar_text
from homing.core.specs import MappingError

CALL_NAMES = ("call.id", "call.key", "call.principal")
"""Variables that come from the call and not from its params."""

_EXPRESSION = re.compile(r"\{([^{}]*)\}")
_OPERATORS = "+#./;?&=,!@|"  # RFC 6570 section 2.2, the reserved ones too
_NAME = re.compile(r"[A-Za-z0-9_]+")
_ENCODED = re.compile(r"%[0-9A-Fa-f]{2}")
_LITERAL = re.compile(r"[A-Za-z0-9\-._~!$&'()*+,;=:@/?\x80-\U0010ffff]|" + _ENCODED.pattern)
_UNRESERVED = re.compile(r"[A-Za-z0-9\-._~]*")
_DOTS = re.compile(r"(?:^|[/\\])\.\.?(?:\Z|[/\\])")


class Variable:
    """A variable that stands alone: one path value, or a piece of the literal query."""

    __slots__ = ("in_query", "name")

    def __init__(self, name: str, in_query: bool) -> None:
        self.name = name
        self.in_query = in_query


class Form:
    """`{?a,b*}` or `{&a,b*}`: names with their values, left out where there is none."""

    __slots__ = ("names",)

    def __init__(self, names: tuple[tuple[str, bool], ...]) -> None:
        self.names = names  # (name, explode)


Part: TypeAlias = str | Variable | Form


class Template:
    """A parsed target. `names` are the params it uses, `needed` those it cannot do without; `constant` is all of it if it uses none."""

    __slots__ = ("constant", "names", "needed", "parts", "uses_key")

    def __init__(self, parts: tuple[Part, ...]) -> None:
        self.parts = parts
        names: list[str] = []
        for part in parts:
            if isinstance(part, Variable):
                names.append(part.name)
            elif isinstance(part, Form):
                names += [name for name, _ in part.names]
        self.uses_key = "call.key" in names
        self.names = tuple(dict.fromkeys(name for name in names if name not in CALL_NAMES))
        self.needed = frozenset(part.name for part in parts if isinstance(part, Variable))
        self.constant = "".join(part for part in parts if isinstance(part, str)) if not names else None

    def expand(self, root: Mapping[str, object]) -> str:
        """Return the target for `{"params": {…}, "call": {…}}`, with `?` exactly where a query begins. Raises MappingError."""
        if self.constant is not None:
            return self.constant
        out: list[str] = []
        begun = False
        for part in self.parts:
            if isinstance(part, str):
                begun = begun or "?" in part
                out.append(part)
                continue
            if isinstance(part, Variable):
                value = value_of(part.name, root)
                out.append(_query_piece(value, part.name) if part.in_query else path_value(value, part.name))
                continue
            for name, explode in part.names:
                for text in form_values(value_of(name, root), name, explode):
                    out += ("&" if begun else "?", name, "=", text)
                    begun = True
        return "".join(out)


def value_of(name: str, root: Mapping[str, object]) -> object:
    """Return what a variable stands for: a member of the params, or of the call."""
    source = root["call"] if name in CALL_NAMES else root["params"]
    assert isinstance(source, dict)
    return source.get(name[5:] if name in CALL_NAMES else name)


def encode(text: str) -> str:
    """Percent-encode all but the unreserved characters, in UTF-8. Raises ValueError for a lone surrogate."""
    return text if _UNRESERVED.fullmatch(text) else quote(text, safe="")


def path_value(value: object, name: str) -> str:
    """Encode one path value: a non-empty text or an integer, without a segment `.` or `..`."""
    if isinstance(value, str):
        if value and not _DOTS.search(value):
            return _encode_value(value, name)
        reason = "must not be, or hold as a segment, . or .." if value else "must not be empty in a URL"
    elif isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    else:
        reason = "is missing, and the URL needs it" if value is None else "must be a non-empty text or an integer in a URL"
    raise MappingError(f"`{name}` {reason}", _pointer(name))


def form_values(value: object, name: str, explode: bool) -> list[str]:
    """Encode a value of a query: one text for a scalar, one for each element if exploded, one with commas else, none if absent."""
    if not isinstance(value, list):
        text = _text(value, name)
        return [] if text is None else [_encode_value(text, name)]
    texts = [_encode_value(text, name) for item in value if (text := _text(item, name)) is not None]
    return texts if explode or not texts else [",".join(texts)]


def _query_piece(value: object, name: str) -> str:
    return ",".join(form_values(value, name, explode=False))


def _text(value: object, name: str) -> str | None:
    try:
        return scalar_text(value)
    except ValueError as error:
        message = str(error)
        raise MappingError(f"`{name}` {message}", _pointer(name)) from error


def _encode_value(text: str, name: str) -> str:
    try:
        return encode(text)
    except ValueError as error:
        raise MappingError(f"`{name}` is no Unicode text", _pointer(name)) from error


def _pointer(name: str) -> str:
    return "" if name in CALL_NAMES else pointer((name,))


_Where: TypeAlias = Literal["path", "query", "form"]  # form: after {?…}, where only {&…} may follow


def parse(text: str) -> tuple[Template | None, list[str]]:
    """Parse the target of a `request`, path and query; without a template, the list says all that is wrong with it."""
    problems: list[str] = []
    parts: list[Part] = []
    where: _Where = "path"
    skeleton = ""  # the path with a letter for each value, to find dot segments that are written out
    position = 0
    for match in [*_EXPRESSION.finditer(text), None]:
        literal = text[position : match.start() if match else len(text)]
        if literal:
            if where == "form":
                problems.append(f"`{literal}` comes after {{?…}}, which may be empty: write it before, as in ?x=1{{&a}}")
            parts.append(_literal(literal, problems))
            if where == "path":
                before, mark, _ = literal.partition("?")
                skeleton += before
                where = "query" if mark else "path"
        if match:
            part, where = _expression(match[1], where, problems)
            parts += part
            skeleton += "x" if where == "path" else ""
            position = match.end()
    if not text.startswith("/"):
        problems.append(f"`{text}` must begin with /: the host is base_url's")
    elif text.startswith("//"):
        problems.append(f"`{text}` begins with //, which could name another host: write one /")
    if any(_ENCODED.sub(_decode_dot, segment) in {".", ".."} for segment in skeleton.split("/")):
        problems.append(f"`{text}` has a segment . or ..: write the path it means")
    return (None, problems) if problems else (Template(tuple(parts)), [])


def _decode_dot(match: re.Match[str]) -> str:
    return "." if match[0].upper() == "%2E" else match[0]


def _literal(text: str, problems: list[str]) -> str:
    """Check a literal by RFC 6570 section 2.1 and encode what is not ASCII (section 3.1)."""
    rest = _LITERAL.sub("", text)
    for character in dict.fromkeys(rest):
        if character in "{}":
            problems.append(f"a stray {character}: braces come in pairs around a variable, and as text are %7B and %7D")
        elif character == "#":
            problems.append("# begins a fragment, which is never sent: as text it is %23")
        elif character == "%":
            problems.append("a stray %: as text it is %25")
        else:
            problems.append(f"{character!r} cannot stand in a URL: as text it is %{ord(character):02X}")
    return quote(text, safe="-._~!$&'()*+,;=:@/?%")


def _expression(inside: str, where: _Where, problems: list[str]) -> tuple[list[Part], _Where]:
    """Parse what stands between two braces. Returns its part, or none if there is a problem, and where it leaves us."""
    operator = inside[:1] if inside[:1] in _OPERATORS else ""
    written = f"{{{inside}}}"
    before = len(problems)
    names = [_variable(item, written, problems) for item in inside[len(operator) :].split(",")]
    if operator in {"?", "&"}:
        if operator == "?" and where != "path":
            problems.append(f"{written}: a query has begun already: write {{&{inside[1:]}}}")
        if operator == "&" and where == "path":
            problems.append(f"{written}: no query has begun: write {{?{inside[1:]}}}")
        after: _Where = "query" if where == "query" else "form"
        return ([Form(tuple(names))] if len(problems) == before else []), after
    if operator:
        problems.append(f"{written}: operator {operator} is not supported: only {{var}}, {{?a,b}} and {{&a,b}} are")
    elif len(names) > 1:
        problems.append(f"{written}: one variable to a pair of braces: write {{{'}/{'.join(name for name, _ in names)}}}")
    elif names[0][1]:
        problems.append(f"{written}: * is for arrays in a query, as in {{?a*}}")
    elif where == "form":
        problems.append(f"{written} comes after {{?…}}, which may be empty: write {{&…}}")
    return ([Variable(names[0][0], where == "query")] if len(problems) == before else []), where


def _variable(item: str, written: str, problems: list[str]) -> tuple[str, bool]:
    """Parse one name with its modifier."""
    name = item.removesuffix("*")
    if ":" in name:
        problems.append(f"{written}: a prefix (:n) is not supported")
    elif not name:
        problems.append(f"{written}: the name of a variable is missing")
    elif name not in CALL_NAMES and not _NAME.fullmatch(name):
        hint = (
            ', or call.id, call.key, call.principal; a nested value goes into `query`, as in "=params.a.b"' if "." in name else ""
        )
        problems.append(f"{written}: a variable is the name of one param, of letters, digits and _{hint}")
    return name, item.endswith("*")
