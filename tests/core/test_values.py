"""homing.core.values: literals and expressions, in objects and arrays."""

import datetime as dt
from decimal import Decimal

import pytest

from homing.core.specs import MappingError, Problem
from homing.core.traps import REQUEST
from homing.core.values import Constant, Elements, Mapped, Members, Report, Template, Uses, check_exact, compile_value

ROOT: dict[str, object] = {
    "params": {"a": 1, "b": {"c": [1, None]}, "n": None},
    "call": {"id": "i", "key": "k", "principal": "p"},
}


def compiled(value: object) -> tuple[Template, list[Problem], Uses]:
    problems: list[Problem] = []
    uses = Uses()
    return compile_value(value, REQUEST, None, Report("body", problems), uses), problems, uses


@pytest.mark.parametrize(
    ("value", "kind", "rendered"),
    [
        ("eur", Constant, "eur"),
        ("==x", Constant, "=x"),
        ("", Constant, ""),
        (5, Constant, 5),
        (1.5, Constant, 1.5),
        (True, Constant, True),
        ({"a": 1, "b": {"c": ["x"]}}, Constant, {"a": 1, "b": {"c": ["x"]}}),
        (("x", 1), Constant, ["x", 1]),
        ("=params.a", Mapped, 1),
        ("=params.n", Mapped, None),
        ("=params.b.c[0]", Mapped, 1),
        ("=length(params.b.c)", Mapped, 2),
        ({"a": "=params.a", "n": "=params.n", "lit": "eur"}, Members, {"a": 1, "lit": "eur"}),
        ({"deep": {"n": "=params.n"}, "list": ["=params.n", "=params.a"]}, Members, {"deep": {}, "list": [None, 1]}),
        ({"b": "=params.b"}, Members, {"b": {"c": [1, None]}}),
        (["=call.key", {"x": 1}], Elements, ["k", {"x": 1}]),
    ],
)
def test_rendering(value: object, kind: type, rendered: object) -> None:
    template, problems, _ = compiled(value)
    assert problems == []
    assert isinstance(template, kind)
    assert template.render(ROOT) == rendered


@pytest.mark.parametrize(
    ("value", "path", "why"),
    [
        ({"a": {"b c": "=true"}}, 'body.a."b c"', "backticks"),
        ({"a": ["x", "=foo"]}, "body.a[1]", "unknown name foo"),
        ({"a": float("inf")}, "body.a", "inf is no JSON number"),
        ({"a": dt.date(2026, 1, 1)}, "body.a", "a date is no JSON value: write it as a string"),
        ("=", "body", "an expression is missing"),
    ],
)
def test_problems_have_a_path(value: object, path: str, why: str) -> None:
    _, problems, _ = compiled(value)
    assert [problem.path for problem in problems] == [path]
    assert why in problems[0].message
    assert not problems[0].warning


def test_what_is_used_is_gathered() -> None:
    assert compiled({"a": "=params.a", "b": ["=params.b.c", "=call.key"]})[2].params == {"a", "b"}
    uses = compiled({"a": "=params.a", "b": "=params"})[2]
    assert (uses.params, uses.key) == (None, False)
    assert compiled(["=params", "=params.a", "=call.key"])[2].key


def test_an_evaluation_that_fails_says_where() -> None:
    template, _, _ = compiled({"x": "=abs(params.b)"})
    with pytest.raises(MappingError, match="abs") as caught:
        template.render(ROOT)
    assert caught.value.path == ""
    plain = compiled('=params.b."x/y"')[0]
    assert isinstance(plain, Mapped)
    assert plain.pointer == "/b/x~1y"
    other = compiled("=call.key")[0]
    assert isinstance(other, Mapped)
    assert other.pointer == ""


def test_a_number_that_would_change_is_refused() -> None:
    number = Decimal("0.12345678901234567890")
    params = {"a": {"b": number}}
    check_exact({"x": 0.5}, params)
    with pytest.raises(MappingError, match=r"0\.12345678901234567890 is a number that no double can hold") as caught:
        check_exact([{"x": number}], params)
    assert caught.value.path == "/a/b"
    with pytest.raises(MappingError) as caught:
        check_exact(Decimal("1E400"), params)
    assert caught.value.path == ""


def test_a_report_writes_paths_as_toml_does() -> None:
    problems: list[Problem] = []
    report = Report("methods", problems)
    report.at("acme.charge").at("answers").at(0).at("when").problem("no")
    report.at("é").warn("hm")
    report.at("").at("a-b_1").warn("hm")
    assert [problem.path for problem in problems] == ['methods."acme.charge".answers[0].when', 'methods."é"', 'methods."".a-b_1']
    assert [problem.warning for problem in problems] == [False, True, True]
