"""What is wrong with params, in plain words and at bounded cost; and with schemas, before there are any params.

A validator says quickly whether params fit, but listing errors costs it 20 µs for each, all at once, and an error of `anyOf` holds
those of every branch: a megabyte of wrong elements would stop the process for ten seconds. So errors are listed for small
params only. Of larger ones the longest array is looked at in windows, until one does not fit.
"""

from collections.abc import Callable, Iterable
from typing import Final, Protocol, cast

from homing.core.jsonrpc import encode_value
from homing.core.scalars import pointer
from homing.core.traps import did_you_mean
from homing.core.values import Report
from homing.errors import ParamError

ERRORS_MAX: Final = 20  # that one answer lists
MESSAGE_MAX: Final = 200  # characters
VALUES_MAX: Final = 500  # in params whose errors are listed
WINDOW_MAX: Final = 100  # elements
_TEXT_STEP: Final = 4000  # characters of a text that cost as much as one value

_DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"
_KEYWORDS: Final = (
    "$anchor", "$comment", "$defs", "$dynamicAnchor", "$dynamicRef", "$id", "$ref", "$schema", "$vocabulary", "additionalProperties",
    "allOf", "anyOf", "const", "contains", "contentEncoding", "contentMediaType", "contentSchema", "default", "definitions",
    "dependencies", "dependentRequired", "dependentSchemas", "deprecated", "description", "else", "enum", "examples",
    "exclusiveMaximum", "exclusiveMinimum", "format", "if", "items", "maxContains", "maxItems", "maxLength", "maxProperties",
    "maximum", "minContains", "minItems", "minLength", "minProperties", "minimum", "multipleOf", "not", "oneOf", "pattern",
    "patternProperties", "prefixItems", "properties", "propertyNames", "readOnly", "required", "then", "title", "type",
    "unevaluatedItems", "unevaluatedProperties", "uniqueItems", "writeOnly",
)  # fmt: skip
_OF_THE_WHOLE: Final = frozenset({"minItems", "maxItems", "contains", "uniqueItems"})  # of an array, no window tells


class Kind(Protocol):
    """Which keyword was not met, with its own fields."""

    @property
    def name(self) -> str: ...
    def as_dict(self) -> dict[str, object]: ...


class Error(Protocol):
    """One thing that does not fit."""

    @property
    def message(self) -> str: ...
    @property
    def instance_path(self) -> list[str | int]: ...
    @property
    def instance(self) -> object: ...
    @property
    def kind(self) -> Kind: ...


class Validator(Protocol):
    """A compiled schema."""

    def is_valid(self, instance: object) -> bool: ...
    def iter_errors(self, instance: object) -> Iterable[Error]: ...


def prepare(schema: object, report: Report) -> dict[str, object] | None:
    """Return the schema with what is implied: that params are an object. None if the report got a problem."""
    if not isinstance(schema, dict):
        report.problem("a JSON Schema for params is an object")
        return None
    for word in schema:
        close = did_you_mean(word, _KEYWORDS) if word not in _KEYWORDS else ""
        if close:
            report.at(word).warn(f"no keyword of JSON Schema, so it has no effect{close}")
    said = schema.get("$schema", _DRAFT)
    if isinstance(said, str) and said.rstrip("#") != _DRAFT:
        report.at("$schema").warn(f"it is read as JSON Schema 2020-12, not as {said}")
    types = schema.get("type", "object")
    if types != "object" and not (isinstance(types, list) and "object" in types):
        report.at("type").problem(f'found {types!r}, expected "object": params are an object, and an array only by `positional`')
        return None
    if "additionalProperties" not in schema and "unevaluatedProperties" not in schema:
        report.warn("members that nobody declared are taken too: write additionalProperties = false")
    # With `properties` the error about a member too many names it.
    return {"properties": {}, **schema, "type": "object"}


def errors_of(validator: Validator, params: dict[str, object], may_list: Callable[[object], bool]) -> tuple[ParamError, ...]:
    """Return what is wrong with params that do not fit: at least one, at most `ERRORS_MAX`.

    `may_list` says whether their errors, if they are small enough, can be listed in bearable time.
    """
    if _size(params, VALUES_MAX) > VALUES_MAX:
        found = _search(validator, params, may_list)
    else:
        found = _list(validator, params) if may_list(params) else []
    if not found:
        return (ParamError("", "the params do not fit the method's schema, and are too large or too deep to say where"),)
    return tuple(found)


def _list(validator: Validator, params: object) -> list[ParamError]:
    listed: list[ParamError] = []
    for error in validator.iter_errors(params):
        one = ParamError(pointer(_where(params, error)), explain(error))
        if one not in listed:
            listed.append(one)
        if len(listed) == ERRORS_MAX:
            break
    return listed


def _where(params: object, error: Error) -> list[str | int]:
    """Return the path to what does not fit. The validator's own makes numbers of names like "01", and leaves out those that are empty."""
    return _find(params, error.instance_path, error.instance) or error.instance_path


def _find(value: object, steps: list[str | int], wanted: object) -> list[str | int] | None:
    """Return the path of which the validator made `steps`, and at whose end is `wanted`; None if there is none."""
    if not steps and value == wanted:
        return []
    step = steps[0] if steps else None
    names: list[tuple[str | int, object, list[str | int]]] = []  # where the next step may lead, and what is left then
    if isinstance(value, list):
        names = [(step, value[step], steps[1:])] if isinstance(step, int) and step < len(value) else []
    elif isinstance(value, dict):
        if isinstance(step, int):
            digits = str(step).lstrip("0")
            names = [(name, item, steps[1:]) for name, item in value.items() if name and name.lstrip("+0") == digits]
        elif step is not None and step in value:
            names = [(step, value[step], steps[1:])]
        if "" in value:
            names.append(("", value[""], steps))
    for name, item, left in names:
        below = _find(item, left, wanted)
        if below is not None:
            return [name, *below]
    return None


def _size(value: object, limit: int) -> int:
    """Count the values in a value, long texts as several; stops above `limit`."""
    count = 0
    left: list[object] = [value]
    while left and count <= limit:
        item = left.pop()
        if isinstance(item, str):
            count += len(item) // _TEXT_STEP
        elif isinstance(item, dict | list):
            count += len(item)
            if count <= limit:
                left += item.values() if isinstance(item, dict) else item
    return count


def _search(validator: Validator, params: dict[str, object], may_list: Callable[[object], bool]) -> list[ParamError]:
    """Look for errors in one window of the longest array after the other; the first that has any speaks for all."""
    path, longest = _longest(params)
    if _size(_replace(params, path, longest[:1]), VALUES_MAX) > VALUES_MAX:
        return []
    step = WINDOW_MAX
    while step > 1 and _size(_replace(params, path, longest[:step]), VALUES_MAX) > VALUES_MAX:
        step //= 4
    for start in range(0, len(longest), step):
        window = _replace(params, path, longest[start : start + step])
        if validator.is_valid(window) or _size(window, VALUES_MAX) > VALUES_MAX or not may_list(window):
            continue
        listed: list[ParamError] = []
        for error in validator.iter_errors(window):
            where = _where(window, error)
            if where == path and error.kind.name in _OF_THE_WHOLE:
                continue
            if len(where) > len(path) and where[: len(path)] == path:
                where[len(path)] = start + int(where[len(path)])
            listed.append(ParamError(pointer(where), explain(error)))
        if listed:
            return listed[:ERRORS_MAX]
    return []


def _longest(params: dict[str, object]) -> tuple[list[str | int], list[object]]:
    """Return the longest array in params and its path; an empty one if there is none."""
    longest: list[object] = []
    where: list[str | int] = []
    left: list[tuple[list[str | int], dict[str, object] | list[object]]] = [([], params)]
    while left:
        path, value = left.pop()
        if isinstance(value, list) and len(value) > len(longest):
            where, longest = path, value
        pairs: Iterable[tuple[str | int, object]] = enumerate(value) if isinstance(value, list) else value.items()
        left += (([*path, step], item) for step, item in pairs if isinstance(item, dict | list))
    return where, longest


def _replace(value: object, path: list[str | int], new: object) -> object:
    """Return a copy of `value` with another value at a path; what is beside it is shared."""
    if not path:
        return new if isinstance(value, list) else value
    if isinstance(value, list):
        return [_replace(item, path[1:], new) if index == path[0] else item for index, item in enumerate(value)]
    assert isinstance(value, dict)
    return {name: _replace(item, path[1:], new) if name == path[0] else item for name, item in value.items()}


_PLAIN: Final = {
    "minimum": "must be at least {limit}",
    "maximum": "must be at most {limit}",
    "exclusiveMinimum": "must be more than {limit}",
    "exclusiveMaximum": "must be less than {limit}",
    "multipleOf": "must be a multiple of {multiple_of}",
    "minLength": "must have at least {limit} characters",
    "maxLength": "must have at most {limit} characters",
    "minItems": "must have at least {limit} elements",
    "maxItems": "must have at most {limit} elements",
    "minProperties": "must have at least {limit} members",
    "maxProperties": "must have at most {limit} members",
    "pattern": "must match the pattern {pattern}",
    "format": "must be of the format {format}",
    "required": "lacks the member {property}",
    "uniqueItems": "must not have the same element twice",
    "contains": "has no element of the kind it must contain",
    "unevaluatedItems": "has elements that the method does not know",
    "not": "is of a form that is not allowed",
    "falseSchema": "is not allowed",
}


def explain(error: Error) -> str:
    """Say what is wrong without repeating what the caller sent."""
    name = error.kind.name
    fields = error.kind.as_dict()
    if name in _PLAIN:
        said = _PLAIN[name].format(**fields)
    elif name == "type":
        said = f"must be of type {' or '.join(_listed(fields['types']))}"
    elif name == "enum":
        said = f"must be {' or '.join(_listed(fields['options'], _json))}"
    elif name == "const":
        said = f"must be {_json(fields['expected_value'])}"
    elif name in {"additionalProperties", "unevaluatedProperties"}:
        said = f"has what the method does not know: {', '.join(_listed(fields['unexpected'], _short))}"
    elif name in {"anyOf", "oneOf"}:
        said = _branches(cast(list[list[Error]], fields["context"]))
    elif name == "propertyNames":
        said = f"has a member whose name {explain(cast(Error, fields['error']))}"
    else:
        said = f"does not meet {name} of the schema"
    return said if len(said) <= MESSAGE_MAX else f"{said[: MESSAGE_MAX - 1]}…"


def _listed(items: object, text: Callable[[object], str] = str) -> list[str]:
    return [text(item) for item in cast(list[object], items)[:ERRORS_MAX]]


def _json(value: object) -> str:
    return encode_value(value).decode()


def _short(name: object) -> str:
    return str(name)[:40]


def _branches(context: list[list[Error]]) -> str:
    """Say why no branch of anyOf or oneOf fits, or that several do."""
    if not all(context):  # a branch without errors: then it is `oneOf`, and there is another such branch
        return "fits more than one of the forms of which it must fit one"
    said = dict.fromkeys(explain(branch[0]) for branch in context[:3])
    return f"fits none of the forms it may have: it {', or it '.join(said)}"
