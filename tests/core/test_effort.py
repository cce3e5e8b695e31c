"""homing.core.effort: what a schema may cost, before anything is held against it."""

import time
from collections.abc import Mapping
from typing import Any

import jsonschema_rs
import pytest

from homing.core.effort import LINKS_MAX, STEPS_MAX, Effort, TooMuch
from homing.core.methods import compile_method
from homing.core.specs import MethodSpec

Schema = dict[str, Any]


def chain(length: int, link: object, end: object = True) -> Schema:
    """Definitions that each lead to the next one as `link` does, in which NEXT stands for it."""

    def linked(value: object, name: str) -> object:
        if isinstance(value, dict):
            return {key: linked(item, name) for key, item in value.items()}
        if isinstance(value, list):
            return [linked(item, name) for item in value]
        return {"$ref": f"#/$defs/{name}"} if value == "NEXT" else value

    definitions = {f"d{index}": linked(link, f"d{index + 1}") for index in range(length)}
    return {"$defs": {**definitions, f"d{length}": end}, "properties": {"x": {"$ref": "#/$defs/d0"}}}


def too_much(schema: Schema) -> str:
    with pytest.raises(TooMuch) as caught:
        Effort(schema)
    return str(caught.value)


TWICE = ["NEXT", "NEXT"]
DOUBLING: list[object] = [
    {"anyOf": TWICE},
    {"oneOf": TWICE},
    {"allOf": TWICE},
    {"if": "NEXT", "then": "NEXT", "else": {"not": "NEXT"}},
    {"dependentSchemas": {"a": "NEXT", "b": "NEXT"}},
    {"allOf": ["NEXT"], "unevaluatedProperties": False},
    {"anyOf": [{"properties": {"a": "NEXT"}}, {"properties": {"a": "NEXT"}}]},
    {"properties": {"a": "NEXT"}, "patternProperties": {"^a": "NEXT"}},
    {"anyOf": [{"items": "NEXT"}, {"prefixItems": ["NEXT"]}]},
    {"allOf": [{"additionalProperties": "NEXT"}, {"additionalProperties": "NEXT"}]},
]


@pytest.mark.parametrize("link", DOUBLING)
def test_what_doubles_is_refused_once_it_is_too_much(link: object) -> None:
    Effort(chain(4, link))
    for length in (18, 25, 100):
        assert too_much(chain(length, link)).startswith("its allOf, anyOf, oneOf and $ref ")


@pytest.mark.parametrize(
    "link",
    [
        {"properties": {"a": "NEXT", "b": "NEXT", "c": "NEXT"}},  # each value is looked at once, though there may be many
        {"anyOf": [{"type": "integer"}, {"properties": {"a": "NEXT"}}]},
        {"properties": {"a": "NEXT"}, "additionalProperties": {"type": "integer"}},
    ],
)
def test_what_is_only_long_is_taken(link: object) -> None:
    Effort(chain(200, link))


def test_a_circle_is_remembered_and_multiplies_nothing() -> None:
    kinds = [f"k{index}" for index in range(40)]
    union = {"anyOf": [{"$ref": f"#/$defs/{kind}"} for kind in kinds]}
    definitions = {kind: {"properties": {"is": {"const": kind}, "of": {"items": union}}} for kind in kinds}
    schema: Schema = {"$defs": definitions, "properties": {"x": union}}
    Effort(schema)
    value: object = 5
    for _ in range(30):
        value = {"of": [value]}
    assert "multiply" in too_much({**schema, "properties": {"x": union, "y": HEAVY}})
    started = time.process_time()
    jsonschema_rs.Draft202012Validator(schema).is_valid({"x": value})
    assert time.process_time() - started < 5  # or else the validator does not remember, and nothing here holds


def test_how_deep_schemas_may_stand_within_each_other() -> None:
    Effort(chain(LINKS_MAX // 2 - 2, {"allOf": ["NEXT"]}))
    assert f"more than {LINKS_MAX} deep" in too_much(chain(LINKS_MAX, {"allOf": ["NEXT"]}))
    assert "deep" in too_much(chain(2000, {"allOf": ["NEXT"]}))
    nested: object = {}
    for _ in range(LINKS_MAX + 1):
        nested = {"not": nested}
    assert "deep" in too_much({"properties": {"a": nested}})


def test_a_schema_that_multiplies_and_is_too_large_for_a_close_look_is_refused() -> None:
    wide = {"properties": {f"a{index}": {"type": "string"} for index in range(1000)}}
    many = {f"b{index}": {"$ref": "#/$defs/wide"} for index in range(STEPS_MAX // 1000 + 1)}
    assert "too large to tell" in too_much({"$defs": {"wide": wide}, "properties": many})
    Effort({"$defs": {"wide": wide}, "properties": dict(list(many.items())[:400])})


HEAVY: Schema = {}
for _ in range(12):  # each threefold, to know what has been evaluated
    HEAVY = {"not": HEAVY, "unevaluatedItems": False}


@pytest.mark.parametrize(
    ("schema", "ref"),
    [
        ({"$defs": {"a": HEAVY}}, "#/$defs/a"),
        ({"$defs": {"a/~ b": HEAVY}}, "#/$defs/a~1~0%20b"),
        ({"$defs": {"a": {"$anchor": "here", **HEAVY}}}, "#here"),
        ({"$defs": {"a": {"$dynamicAnchor": "here", **HEAVY}}}, "#here"),
        ({"$id": "https://acme.example/s", "$defs": {"a": {"$id": "t", **HEAVY}}}, "https://acme.example/t"),
        ({"$id": "https://acme.example/s/", "$defs": {"a": {"$id": "t", "$anchor": "b", **HEAVY}}}, "t#b"),
        ({"$id": "https://acme.example/s", "$defs": {"a": {"$id": "t", **HEAVY}}}, "#/$defs/a"),
        ({"$id": "urn:acme:s", "$defs": {"a": HEAVY}}, "#/$defs/a"),
        ({"$defs": {"a": {"$id": "urn:acme:t", **HEAVY}}}, "urn:acme:t"),
        ({"$defs": {"x": [{}, {"a": HEAVY}]}}, "#/$defs/x/1/a"),
    ],
)
def test_references_are_followed(schema: Schema, ref: str) -> None:
    """To where there is too much: or else nobody would notice."""
    Effort(schema)
    for word in ("$ref", "$dynamicRef"):
        assert "multiply" in too_much({**schema, "properties": {"x": {word: ref}}})


@pytest.mark.parametrize(
    "ref",
    ["https://json-schema.org/draft/2020-12/schema", "#/nothing/0", "#nothing", "http://[", "#/required/7", "#/required/x", 5],
)
def test_references_to_what_is_not_there_cost_nothing(ref: object) -> None:
    for word in ("$ref", "$dynamicRef"):
        schema: Schema = {"$id": "https://acme.example/s", "required": ["a"], "properties": {"x": {word: ref}, "y": {word: ref}}}
        assert Effort(schema).may_list({"x": 1})


def test_a_malformed_schema_is_somebody_elses_to_refuse() -> None:
    Effort(
        {
            "properties": 5,
            "anyOf": {},
            "items": [1],
            "dependentSchemas": [],
            "$id": 5,
            "$anchor": [],
            "prefixItems": "a",
            "not": True,
        }
    )
    Effort({"properties": {"a": True, "b": {}}, "patternProperties": {"a": False}})


def tree(kinds: int) -> Schema:
    forms = [{"properties": {"is": {"const": kind}, "of": {"items": {"$ref": "#/$defs/form"}}}} for kind in range(kinds)]
    return {"$defs": {"form": {"oneOf": forms}}, "properties": {"x": {"$ref": "#/$defs/form"}}}


def grown(depth: int) -> dict[str, object]:
    value: object = {"is": "nothing"}
    for _ in range(depth):
        value = {"is": 1, "of": [value]}
    return {"x": value}


@pytest.mark.parametrize(("kinds", "depth", "may"), [(2, 6, True), (2, 20, False), (20, 1, True), (20, 3, False), (1, 60, True)])
def test_errors_are_listed_where_that_ends_soon(kinds: int, depth: int, may: bool) -> None:
    effort = Effort(tree(kinds))
    assert effort.may_list(grown(depth)) is may
    if may:
        validator = jsonschema_rs.Draft202012Validator(tree(kinds))
        started = time.process_time()
        list(validator.iter_errors(grown(depth)))
        assert time.process_time() - started < 5


@pytest.mark.parametrize(
    ("schema", "params", "may"),
    [
        ({"$ref": "#"}, {}, False),  # round and round
        ({"$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}, {}]}}, "properties": {"x": {"$ref": "#/$defs/a"}}}, {"x": 1}, False),
        ({"$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}, {}]}}, "properties": {"x": {"$ref": "#/$defs/a"}}}, {"y": 1}, True),
        (chain(12, {"anyOf": TWICE}), {"x": 1}, False),
        (chain(6, {"anyOf": TWICE}), {"x": 1}, True),
        ({"additionalProperties": {"anyOf": [{}] * 200}}, {str(index): 1 for index in range(40)}, True),
        ({"additionalProperties": {"anyOf": [{}] * 200}}, {str(index): 1 for index in range(60)}, False),
    ],
)
def test_what_is_held_against_params_counts(schema: Schema, params: Mapping[str, object], may: bool) -> None:
    assert Effort(schema).may_list(params) is may


def test_a_method_whose_schema_could_keep_the_process_is_none() -> None:
    method, problems = compile_method(MethodSpec(name="a.b", service="a", params=chain(60, {"anyOf": TWICE})))
    assert method is None
    [problem] = [problem for problem in problems if not problem.warning]
    assert problem.path == 'methods."a.b".params'
    assert "$ref" in problem.message
