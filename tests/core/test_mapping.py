"""homing.core.mapping: JMESPath as the library has it, but exact, quick on plain paths, and with hints for beginners."""

import math
from decimal import Decimal

import jmespath
import pytest
from hypothesis import given
from hypothesis import strategies as st

from homing.core.mapping import REQUEST, RESPONSE, EvaluationError, Expression, compile_expression, is_false


def compiled(text: str) -> Expression:
    expression, problems = compile_expression(text, REQUEST)
    assert expression is not None, problems
    return expression


def search(text: str, params: object) -> object:
    return compiled(text).search({"params": params, "call": {"id": "c", "key": "k", "principal": "p"}})


def test_a_value_is_found() -> None:
    assert search("params.items[?price > `10`].name", {"items": [{"name": "a", "price": 11}, {"name": "b", "price": 9}]}) == ["a"]
    assert search("params.a.b", {"a": {"b": [1]}}) == [1]
    assert search("params.a.b", {"a": [1]}) is None
    assert search("call.key", {}) == "k"


def test_what_is_plain_takes_the_short_way() -> None:
    assert compiled("params.a[0].b").path == ("params", "a", 0, "b")
    assert compiled('params."a-b"[-1][2]').path == ("params", "a-b", -1, 2)
    for text in (
        "params.a[0:1]",
        "params.*",
        "params.a || params.b",
        "[params.a]",
        "@.params",
        "params.a[*].b",
        "params.a.keys(@)",
    ):
        assert compiled(text).path is None


names = st.sampled_from(["a", "b", "c"])
steps = st.lists(names.map(lambda name: f".{name}") | st.integers(-3, 3).map(lambda index: f"[{index}]"), min_size=1, max_size=4)
json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=12,
)


@given(steps, st.dictionaries(names, json))
def test_the_short_way_says_what_the_library_says(path: list[str], params: dict[str, object]) -> None:
    text = f"params.a{''.join(path)}"
    root: dict[str, object] = {"params": params}
    assert compiled(text).path is not None
    assert compiled(text).search(root) == jmespath.search(text, root)


@pytest.mark.parametrize(
    ("text", "params", "value"),
    [
        ("to_number(params.x)", {"x": "12"}, 12),
        ("to_number(params.x)", {"x": "1.5"}, 1.5),
        ("to_number(params.x)", {"x": "-1e2"}, -100.0),
        ("to_number(params.x)", {"x": "12345678901234567890123"}, 12345678901234567890123),
        ("to_number(params.x)", {"x": "0.12345678901234567890"}, Decimal("0.12345678901234567890")),
        ("to_number(params.x)", {"x": "1e400"}, Decimal("1e400")),
        ("to_number(params.x)", {"x": "nan"}, None),
        ("to_number(params.x)", {"x": "1_000"}, None),
        ("to_number(params.x)", {"x": " 5"}, None),
        ("to_number(params.x)", {"x": "05"}, None),
        ("to_number(params.x)", {"x": True}, None),
        ("to_number(params.x)", {"x": [1]}, None),
        ("to_number(params.x)", {"x": Decimal("0.5")}, Decimal("0.5")),
        ("to_number(params.x)", {"x": 2}, 2),
        ("to_string(params.x)", {"x": "a"}, "a"),
        ("to_string(params.x)", {"x": {"a": [1, None, "é"]}}, '{"a":[1,null,"é"]}'),
        ("sum(params.x)", {"x": [1, 2.5]}, 3.5),
        ("sum(params.x)", {"x": []}, 0),
        ("avg(params.x)", {"x": [1, 2]}, 1.5),
        ("avg(params.x)", {"x": []}, None),
        ("type(params.x)", {"x": Decimal(1)}, "number"),
        ("type(params.x)", {"x": 1}, "number"),
        ("type(params.x)", {"x": True}, "boolean"),
        ("type(params.x)", {"x": None}, "null"),
        ("type(params.x)", {"x": "a"}, "string"),
        ("type(params.x)", {"x": []}, "array"),
        ("type(params.x)", {"x": {}}, "object"),
        ("params.x == params.y", {"x": Decimal("0.5"), "y": 0.5}, True),
        ("length(params.x)", {"x": "abc"}, 3),
    ],
)
def test_functions_are_exact(text: str, params: dict[str, object], value: object) -> None:
    found = search(text, params)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "params"),
    [
        ("length(params.x)", {"x": 1}),
        ("to_string(params.x)", {"x": [Decimal("0.1")]}),
        ("sum(params.x)", {"x": [1e308, 1e308]}),
        ("avg(params.x)", {"x": [1e308, 1e308]}),
        ("sum(params.x)", {"x": [Decimal("0.1")]}),
        ("abs(params.x)", {"x": Decimal("0.1")}),
        ("to_number(params.x)", {"x": "9" * 5000}),
        ("params.x > params.y", {"x": "a", "y": 1}),
        ("contains(params.x, params.y)", {"x": "abc", "y": 1}),
    ],
)
def test_evaluation_fails_in_one_way_only(text: str, params: dict[str, object]) -> None:
    with pytest.raises(EvaluationError) as caught:
        search(text, params)
    assert str(caught.value).startswith(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "an expression is missing"),
        ("  ", "an expression is missing"),
        ("=params.a", "leave out the ="),
        ("params.a = 'x'", "written =="),
        ("params.a === 'x'", "written =="),
        ("params.a and params.b", "&&, ||, !"),
        ("not params.a", "&&, ||, !"),
        ("params.a in params.b", "contains(list, value)"),
        ("$.params.a", "an expression begins with params or call"),
        ("params.a ? 'x' : 'y'", "condition && value || other"),
        ("params.a == 12", "in backticks"),
        ("length(params.a) > 3", "in backticks"),
        ("params.a-b", 'body."a-b"'),
        ("params.a + params.b", "no arithmetic"),
        ("params.a..b", "is no JMESPath: Expecting"),
        ("params.a[", "is no JMESPath"),
        ("{\n  a: params.a,\n}", "{ a: params.a, } is no JMESPath"),
        ("params.a." * 1000, " is no JMESPath: "),
        ("s3cret(", "a text that begins with = is written =="),
        ("params.a == 'x", "Unclosed ' delimiter at column 13"),
        ("params.`a`", "is no JMESPath"),
    ],
)
def test_what_is_no_jmespath(text: str, why: str) -> None:
    expression, problems = compile_expression(text, REQUEST)
    assert expression is None
    assert len(problems) == 1
    assert why in problems[0]
    assert "\n" not in problems[0]
    assert len(problems[0]) < 500


def test_nesting_without_end() -> None:
    expression, problems = compile_expression("(" * 5000 + "params" + ")" * 5000, REQUEST)
    assert expression is None
    assert "nested too deeply" in problems[0]


@pytest.mark.parametrize("value", [None, False, "", [], {}])
def test_what_is_false(value: object) -> None:
    assert is_false(value)


@pytest.mark.parametrize("value", [0, 0.0, True, "x", [None], {"a": None}])
def test_what_is_not_false(value: object) -> None:
    assert not is_false(value)


@pytest.mark.parametrize(
    ("text", "may", "may_not"),
    [
        ("status == `429`", [429], [200, 428]),
        ("status == `429` && body.a == 'x'", [429], [200]),
        ("(status == `429` || status > `499`) && headers.a && body.a", [429, 503], [200, 404]),
        ("body.a && status == `429`", [200, 429], []),
        ("body.a || status == `429`", [200, 429], []),
        ("`true`", [200], []),
        ("length(status) && body.a", [200], []),
    ],
)
def test_the_status_decides_first(text: str, may: list[int], may_not: list[int]) -> None:
    expression, _ = compile_expression(text, RESPONSE)
    assert expression is not None
    for _ in range(2):  # computed, then remembered
        assert all(expression.may_hold(status) for status in may)
        assert not any(expression.may_hold(status) for status in may_not)


conditions = st.sampled_from(
    ["status == `200`", "status > `300`", "body.a", "!(body.a)", "headers.x == 'y'", "status", "length(body)"]
)


@given(
    st.recursive(
        conditions, lambda inner: st.tuples(inner, st.sampled_from(["&&", "||"]), inner).map(lambda c: f"({c[0]} {c[1]} {c[2]})")
    ),
    st.sampled_from([200, 404]),
    st.sampled_from([None, {}, {"a": 1}, [1], 5]),
)
def test_the_short_way_over_the_status_never_decides_otherwise(text: str, status: int, body: object) -> None:
    expression, problems = compile_expression(text, RESPONSE)
    assert expression is not None, problems
    if not expression.may_hold(status):
        assert is_false(expression.search({"status": status, "headers": {}, "body": body}))


def test_infinity_is_no_number() -> None:
    assert math.isinf(float("1e400"))
    assert search("to_number('1e400')", {}) == Decimal("1e400")
