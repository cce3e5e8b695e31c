"""homing.core.schemas: plain words with a path, bounded in number, length and time."""

from collections.abc import Mapping

import jsonschema_rs
import pytest

from homing.core.effort import Effort
from homing.core.schemas import ERRORS_MAX, MESSAGE_MAX, WINDOW_MAX, Validator, errors_of, prepare
from homing.core.specs import Problem
from homing.core.values import Report
from homing.errors import ParamError


def validator(schema: Mapping[str, object]) -> Validator:
    prepared = prepare(dict(schema), Report("params", []))
    assert prepared is not None
    return jsonschema_rs.Draft202012Validator(prepared, validate_formats=True, offline=True)


def always(_: object) -> bool:
    return True


def errors(schema: Mapping[str, object], params: dict[str, object]) -> list[tuple[str, str]]:
    compiled = validator(schema)
    assert not compiled.is_valid(params)
    return [(error.path, error.message) for error in errors_of(compiled, params, Effort(dict(schema)).may_list)]


@pytest.mark.parametrize(
    ("schema", "value", "message"),
    [
        ({"type": "string"}, 1, "must be of type string"),
        ({"type": ["string", "null"]}, 1, "must be of type null or string"),
        ({"minimum": 2}, 1, "must be at least 2"),
        ({"maximum": 2.5}, 3, "must be at most 2.5"),
        ({"exclusiveMinimum": 2}, 2, "must be more than 2"),
        ({"exclusiveMaximum": 2}, 2, "must be less than 2"),
        ({"multipleOf": 3}, 2, "must be a multiple of 3"),
        ({"minLength": 2}, "a", "must have at least 2 characters"),
        ({"maxLength": 2}, "abc", "must have at most 2 characters"),
        ({"minItems": 1}, [], "must have at least 1 elements"),
        ({"maxItems": 1}, [1, 2], "must have at most 1 elements"),
        ({"minProperties": 1}, {}, "must have at least 1 members"),
        ({"maxProperties": 0}, {"a": 1}, "must have at most 0 members"),
        ({"pattern": "^a+$"}, "b", "must match the pattern ^a+$"),
        ({"format": "email"}, "b", "must be of the format email"),
        ({"format": "date-time"}, "yesterday", "must be of the format date-time"),
        ({"required": ["b"]}, {}, "lacks the member b"),
        ({"dependentRequired": {"a": ["b"]}}, {"a": 1}, "lacks the member b"),
        ({"enum": ["a", 2, None]}, "x", 'must be "a" or 2 or null'),
        ({"const": {"a": 1}}, 2, 'must be {"a":1}'),
        ({"uniqueItems": True}, [1, 1], "must not have the same element twice"),
        ({"contains": {"type": "string"}}, [1], "has no element of the kind it must contain"),
        ({"not": {}}, 1, "is of a form that is not allowed"),
        (False, 1, "is not allowed"),
        ({"properties": {}, "additionalProperties": False}, {"a": 1, "b": 2}, "has what the method does not know: a, b"),
        ({"unevaluatedProperties": False}, {"a": 1}, "has what the method does not know: a"),
        ({"unevaluatedItems": False}, [1], "has elements that the method does not know"),
        ({"propertyNames": {"maxLength": 1}}, {"ab": 1}, "has a member whose name must have at most 1 characters"),
        (
            {"anyOf": [{"type": "string"}, {"minimum": 5}, {"type": "string"}]},
            1,
            "fits none of the forms it may have: it must be of type string, or it must be at least 5",
        ),
        ({"oneOf": [{"type": "string"}]}, 1, "fits none of the forms it may have: it must be of type string"),
        ({"oneOf": [{}, {}, {"type": "string"}]}, 1, "fits more than one of the forms of which it must fit one"),
    ],
)
def test_plain_words(schema: object, value: object, message: str) -> None:
    compiled = validator({"properties": {"x": schema}})
    assert errors_of(compiled, {"x": value}, always) == (ParamError("/x", message),)


def test_a_keyword_without_words_of_its_own() -> None:
    class Kind:
        name = "contentEncoding"

        def as_dict(self) -> dict[str, object]:
            return {}

    class Error:
        message = "secret"
        instance = None
        kind = Kind()

        def __init__(self) -> None:
            self.instance_path: list[str | int] = ["a"]

    class Never:
        def is_valid(self, instance: object) -> bool:
            return False

        def iter_errors(self, instance: object) -> list[Error]:
            return [Error()]

    assert errors_of(Never(), {}, always) == (ParamError("/a", "does not meet contentEncoding of the schema"),)


def test_paths_are_json_pointers() -> None:
    schema = {"properties": {"a/b": {"items": {"properties": {"m~n": {"type": "string"}}}}}}
    assert errors(schema, {"a/b": [{}, {"m~n": 1}]}) == [("/a~1b/1/m~0n", "must be of type string")]
    assert errors({"required": ["x"]}, {}) == [("", "lacks the member x")]
    assert errors({"additionalProperties": False}, {"x": 1}) == [("", "has what the method does not know: x")]


@pytest.mark.parametrize("name", ["", "0", "00", "01", "+1", "+", "-1", "2024", "18446744073709551617", "0" * 5000 + "7"])
def test_paths_name_members_as_they_are(name: str) -> None:
    """The validator says `["01"]` as 1, and nothing for ""."""
    schema = {"additionalProperties": {"items": {"additionalProperties": {"type": "integer"}}}}
    assert errors(schema, {"a": [], name: [{}, {name: 1}, {name: "x", "b": 1}]}) == [
        (f"/{name}/2/{name}", "must be of type integer")
    ]
    assert errors({"additionalProperties": {"type": "integer"}}, {"1": 5, "01": "x"}) == [("/01", "must be of type integer")]
    below: dict[str, object] = {"items": {"type": "integer"}, "minItems": 3000}
    rows: list[object] = [1] * 4000
    rows[1234] = "x"
    assert errors({"additionalProperties": below}, {name: rows}) == [(f"/{name}/1234", "must be of type integer")]


def test_what_was_sent_is_not_repeated() -> None:
    secret = "s3cret" * 1000
    schema = {"properties": {"a": {"enum": ["x"]}, "b": {"type": "integer"}, "c": {"pattern": "^x$"}}}
    said = errors(schema, {"a": secret, "b": secret, "c": secret})
    assert len(said) == 3
    assert "s3cret" not in str(said)


def test_messages_are_bounded() -> None:
    for schema, params in (
        ({"properties": {"a": {"enum": ["x" * 100] * 100}}}, {"a": 1}),
        ({"additionalProperties": False}, {"x" * 5000 + str(index): 1 for index in range(300)}),
    ):
        [(_, message)] = errors(schema, params)  # type: ignore[arg-type]
        assert len(message) == MESSAGE_MAX
        assert message.endswith("…")


def test_the_number_of_errors_is_bounded() -> None:
    assert len(errors({"required": [f"x{index}" for index in range(100)]}, {})) == ERRORS_MAX
    assert len(errors({"properties": {"a": {"items": {"type": "string"}}}}, {"a": list(range(100))})) == ERRORS_MAX


def test_the_same_is_said_once() -> None:
    assert len(errors({"allOf": [{"required": ["a"]}, {"required": ["a"]}]}, {})) == 1


def test_large_params_are_searched_in_windows() -> None:
    schema = {"properties": {"rows": {"type": "array", "minItems": 5000, "items": {"properties": {"n": {"type": "integer"}}}}}}
    rows: list[object] = [{"n": 1} for _ in range(10_000)]
    rows[7301] = {"n": "x"}
    assert errors(schema, {"head": {"k": 1}, "rows": rows}) == [("/rows/7301/n", "must be of type integer")]


def test_windows_shrink_with_what_is_in_them() -> None:
    schema = {"properties": {"rows": {"items": {"items": {"type": "integer"}}}}}
    rows: list[list[object]] = [[1] * 40 for _ in range(200)]
    rows[150][3] = "x"
    assert errors(schema, {"rows": rows}) == [("/rows/150/3", "must be of type integer")]


def test_the_longest_array_may_be_within_another() -> None:
    schema = {"properties": {"a": {"items": {"properties": {"b": {"items": {"type": "integer"}}}}}}}
    params = {"a": [{"b": [1]}, {"b": [1] * 2000 + ["x"]}, {}]}
    assert errors(schema, params) == [("/a/1/b/2000", "must be of type integer")]  # type: ignore[arg-type]


def test_errors_beside_the_longest_array_are_found() -> None:
    said = errors({"required": ["b"]}, {"a": list(range(10_000))})
    assert said == [("", "lacks the member b")]


def test_any_of_over_a_large_array_is_quick_and_has_a_path() -> None:
    schema = {"properties": {"a": {"anyOf": [{"items": {"type": "string"}}, {"items": {"type": "boolean"}}]}}}
    [(path, message)] = errors(schema, {"a": list(range(300_000))})
    assert path == "/a"
    assert message.startswith("fits none of the forms")


@pytest.mark.parametrize(
    ("schema", "params"),
    [
        ({"properties": {"a": {"minItems": 20_000}}}, {"a": list(range(10_000))}),  # true of every window
        ({"additionalProperties": {"type": "string"}}, {str(index): index for index in range(10_000)}),  # no array at all
        ({"properties": {"b": {"minItems": 1}}}, {"a": [list(range(1000)), list(range(900))], "b": []}),
        ({"properties": {"a": {"minLength": 3_000_000}}}, {"a": "x" * 2_500_000}),
    ],
)
def test_what_is_too_large_to_say_where(schema: dict[str, object], params: dict[str, object]) -> None:
    assert errors(schema, params) == [
        ("", "the params do not fit the method's schema, and are too large or too deep to say where")
    ]


def test_errors_that_would_take_for_ever_are_not_listed() -> None:
    """200 bytes took an hour, though every form has its own tag."""
    forms = [
        {"properties": {"is": {"const": name}, "of": {"items": {"$ref": "#/$defs/form"}}}, "required": ["is"]} for name in "ab"
    ]
    schema = {
        "$defs": {"form": {"oneOf": forms}},
        "properties": {"x": {"$ref": "#/$defs/form"}, "y": {"items": {"type": "string"}}},
    }
    form: object = {"is": "z"}
    assert errors(schema, {"x": form})[0][0] == "/x"
    for _ in range(25):
        form = {"is": "b", "of": [form]}
    said = [("", "the params do not fit the method's schema, and are too large or too deep to say where")]
    assert errors(schema, {"x": form}) == said
    assert errors(schema, {"x": form, "y": list(range(1000))}) == said


def test_a_window_that_is_too_large_is_passed_over() -> None:
    rows: list[object] = [[1]] * 5000
    rows[WINDOW_MAX * 3] = ["x"] * 2000
    rows[WINDOW_MAX * 5] = ["x"]
    schema = {"properties": {"rows": {"items": {"items": {"type": "integer"}}}}}
    assert errors(schema, {"rows": rows}) == [(f"/rows/{WINDOW_MAX * 5}/0", "must be of type integer")]


def test_large_texts_do_not_hide_errors() -> None:
    assert errors({"required": ["b"]}, {"a": "x" * 1_000_000}) == [("", "lacks the member b")]


def prepared(schema: object) -> tuple[dict[str, object] | None, list[Problem]]:
    problems: list[Problem] = []
    return prepare(schema, Report("params", problems)), problems


def test_an_object_is_implied() -> None:
    made, problems = prepared({"additionalProperties": False, "required": ["a"]})
    assert made == {"properties": {}, "additionalProperties": False, "required": ["a"], "type": "object"}
    assert problems == []
    assert prepared({"unevaluatedProperties": False, "type": ["object", "null"]})[1] == []


@pytest.mark.parametrize(
    ("schema", "path", "why", "warning"),
    [
        (True, "params", "is an object", False),
        ([], "params", "is an object", False),
        ({"type": "array", "additionalProperties": False}, "params.type", 'expected "object"', False),
        ({"type": ["string"], "additionalProperties": False}, "params.type", 'expected "object"', False),
        ({"properties": {}}, "params", "write additionalProperties = false", True),
        ({"require": ["a"], "additionalProperties": False}, "params.require", "did you mean required?", True),
        (
            {"$schema": "http://json-schema.org/draft-07/schema#", "additionalProperties": False},
            'params."$schema"',
            "2020-12",
            True,
        ),
    ],
)
def test_what_is_said_of_a_schema(schema: object, path: str, why: str, warning: bool) -> None:
    _, problems = prepared(schema)
    assert [(problem.path, problem.warning) for problem in problems] == [(path, warning)]
    assert why in problems[0].message


def test_what_a_schema_may_have_beside() -> None:
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", "x-internal-note": 1, "additionalProperties": False}
    assert prepared(schema)[1] == []
