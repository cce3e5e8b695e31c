"""homing.core.traps: what compiles, and would be null or raise for ever, is found before the first call."""

import pytest

from homing.core.mapping import compile_expression
from homing.core.traps import HEADERS, REQUEST, RESPONSE, Place, did_you_mean, is_closed, properties, undeclared

SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "name": {"type": "string"},
        "amount": {"type": "integer"},
        "items": {
            "type": "array",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "properties": {"label": {"type": "string"}, "price": {"type": "number"}, "true": {}},
            },
        },
        "open": {"type": "object"},
    },
}


def problems_of(text: str, place: Place = REQUEST, schema: object = SCHEMA) -> list[str]:
    expression, problems = compile_expression(text, place, schema)
    assert (expression is None) == bool(problems)
    return problems


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("true", "written in backticks, `true`"),
        ("false", "written in backticks, `false`"),
        ("null", "written in backticks, `null`"),
        ("params.name == null", "written in backticks, `null`"),
        ("params.items[?price == null]", "written in backticks, `null`"),
        ("params.{a: true}", "written in backticks, `true`"),
        ('params.name == "shop"', "'shop'"),
        ('"shop"', "'shop'"),
        ('params.items[?label == "x"]', "'x'"),
        ('params.items[?"label" == `1`]', '@."label"'),
        ('["a"]', "'a'"),
        ("!params.name.first", "write !(a.b)"),
        ("(!params).name", "write !(a.b)"),
        ("!params.items[0]", "write !(a.b)"),
        ("!params[?x]", "write !(a.b)"),
        ("!params.*", "write !(a.b)"),
        ("!params[]", "write !(a.b)"),
        ("lenght(params.name)", "unknown function lenght(): did you mean length?"),
        ("now()", "unknown function now()"),
        ("params.items[].upper(label)", "unknown function upper()"),
        ("length()", "takes 1 argument, not 0"),
        ("length(params.name, params.name)", "takes 1 argument, not 2"),
        ("join(',')", "takes 2 arguments, not 1"),
        ("not_null()", "takes at least 1 argument, not 0"),
        ("sort_by(params.items, 'price')", "argument 2 of sort_by() is an &expression"),
        ("length(&params.name)", "argument 1 of length() is a value"),
        ("&params.name", "an argument of functions such as sort_by"),
        ("[&params.name]", "an argument of functions such as sort_by"),
        ("unknown(&params.name)", "unknown function"),
        ("params.name > 'm'", "> compares numbers only"),
        ("params.amount < params.name", "< compares numbers only"),
        ("params.amount <= to_string(params.amount)", "<= compares numbers only"),
        ("params.items[?label >= `1`]", ">= compares numbers only"),
        ("call.id > `1`", "> compares numbers only"),
        ("amount", "unknown name amount: an expression here begins with params or call; a text is written 'amount'"),
        ("body.id", "unknown name body"),
        ("@.amount", "unknown name amount"),
        ("params['name']", 'body."a-b"'),
        ("params[0]", "params is an object"),
        ("params[*]", "params is an object"),
        ("@[0]", "what an expression begins with is an object"),
        ("call[]", "call is an object"),
        ("call.attempt", "call.attempt may stand in headers only"),
        ("call.time", "call has no time: it has id, key, principal"),
        ("params.amount == `1e999`", "not finite"),
        ('params.amount == `[{"a": NaN}]`', "not finite"),
        ("`foo`", "'text'"),
    ],
)
def test_a_trap_in_a_request(text: str, why: str) -> None:
    problems = problems_of(text)
    assert any(why in problem for problem in problems), problems


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("params.amounts", "has no amounts: did you mean amount?"),
        ("params | amounts", "has no amounts"),
        ("@.params.amounts", "has no amounts"),
        ("params.items[0].cost", "has no cost"),
        ("params.items[*].cost", "has no cost"),
        ("params.items[].cost", "has no cost"),
        ("params.items[?cost]", "has no cost"),
        ("params.{a: amounts}", "has no amounts"),
    ],
)
def test_a_member_that_no_params_can_have_is_legal_and_unwise(text: str, why: str) -> None:
    expression, problems = compile_expression(text, REQUEST, SCHEMA)
    assert problems == []
    assert expression is not None
    assert why in expression.doubts[0]


@pytest.mark.parametrize(
    ("text", "place", "named"),
    [
        ("body.data[?reference == call.key] | [0]", RESPONSE, "call.key"),
        ("body.data[?a && !(reference != params.order.id)].b", RESPONSE, "params.order"),
        ("body.data[?contains(keys, call.id)]", RESPONSE, "call.id"),
        ("params.list[?id == params.id]", REQUEST, "params.id"),
        ("params.list[?call.duration > `1`]", REQUEST, None),
        ("body.calls[?call]", RESPONSE, None),
        ("body.data[*].call.key", RESPONSE, None),
        ("params.items[?params.x]", REQUEST, None),
    ],
)
def test_what_stands_outside_cannot_be_seen_from_within_a_filter(text: str, place: Place, named: str | None) -> None:
    items = {"type": "array", "items": {"type": "object", "properties": {"params": {}}}}
    expression, problems = compile_expression(text, place, {"properties": {"items": items}})
    assert expression is not None, problems
    assert [doubt.partition(" ")[0] for doubt in expression.doubts] == ([] if named is None else [named])


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("status == '429'", "status == `429`"),
        ("'429' != status", "status == `429`"),
        ("status > '400'", "compares numbers only"),
        ('headers."Retry-After"', 'headers."retry-after"'),
        ("headers.etag > `1`", "compares numbers only"),
        ("params.name", "unknown name params"),
        ("error.code == 'x'", "unknown name error: an expression here begins with status or headers or body"),
        ("headers[0]", "headers is an object"),
        ("status == true", "`true`"),
    ],
)
def test_a_trap_in_an_answer(text: str, why: str) -> None:
    problems = problems_of(text, RESPONSE)
    assert any(why in problem for problem in problems), problems


@pytest.mark.parametrize(
    "text",
    [
        "params",
        "params.name",
        "params.items[0].label",
        "params.items[-1]",
        "params.items[0:2].label",
        "params.items[*].true",
        "params.items[?price > `10` && label == 'x'].label | [0]",
        "params.items[?@.\"label\" == 'x']",
        "sort_by(params.items, &price)[0]",
        "map(&label, params.items)",
        'params.open.whatever."a-b"',
        "params.open.*",
        "params.open.true",
        "!(params.name)",
        "!params",
        "params.name || 'none'",
        "[params.name, call.key]",
        '{a: params.name, "b-c": `true`}',
        "not_null(params.name, call.id, `null`)",
        "merge(params, {id: call.id})",
        "params.amount > `0` && params.amount < length(params.items)",
        'params.name == `"x"`',
        "to_string(params)",
        "length(params.*)",
    ],
)
def test_what_is_no_trap(text: str) -> None:
    assert problems_of(text) == []


@pytest.mark.parametrize(
    "text", ["status == `429` && body.error.code == 'x'", 'headers."retry-after"', "body[0].id", "body.a > body.b"]
)
def test_what_is_no_trap_in_an_answer(text: str) -> None:
    assert problems_of(text, RESPONSE) == []


def test_attempt_is_for_headers() -> None:
    assert problems_of("call.attempt", HEADERS) == []
    assert problems_of("to_string(call.attempt)", HEADERS) == []


def test_without_a_closed_schema_any_member_may_be() -> None:
    assert problems_of("params.anything", schema=None) == []
    assert problems_of("params.anything", schema={"properties": {}}) == []
    assert problems_of("params.x_1", schema={"additionalProperties": False, "patternProperties": {"^x_": {}}}) == []


@pytest.mark.parametrize(
    ("text", "params", "key"),
    [
        ("params.name", {"name"}, False),
        ("params.items[?price > `1`].label", {"items"}, False),
        ("[params.name, params.open.x]", {"name", "open"}, False),
        ("params.{a: name, b: amount}", {"name", "amount"}, False),
        ("params | name", {"name"}, False),
        ("@.params.name", {"name"}, False),
        ("call.id", set(), False),
        ("call.key", set(), True),
        ("call", set(), True),
        ("to_string(call)", set(), True),
        ("params", None, False),
        ("params.*", None, False),
        ("keys(params)", None, False),
        ("[params.name, params]", None, False),
        ("@", None, True),
        ("*", None, True),
        ("[params, params.name]", None, False),
    ],
)
def test_what_an_expression_uses(text: str, params: set[str] | None, key: bool) -> None:
    expression, problems = compile_expression(text, REQUEST, SCHEMA)
    assert expression is not None, problems
    assert expression.params == params
    assert expression.uses_key is key


def test_a_problem_is_said_once() -> None:
    assert len(problems_of("[call.cost, call.cost]")) == 1


def test_what_a_schema_says_of_members() -> None:
    assert list(properties(SCHEMA)) == ["name", "amount", "items", "open"]
    assert properties({"properties": True}) == properties(None) == {}
    assert is_closed(SCHEMA)
    assert not is_closed({"additionalProperties": {}})
    assert not is_closed(True)
    assert undeclared("nam", ["name"]).endswith("has no nam: did you mean name?")
    assert did_you_mean("xyz", ["name"]) == ""
