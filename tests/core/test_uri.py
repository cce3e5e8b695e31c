"""homing.core.uri: a value stays in its place, whatever it is; a template that could move is refused."""

from decimal import Decimal
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homing.core.specs import MappingError
from homing.core.uri import Template, encode, parse

CALL = {"id": "c1", "key": "k/1", "principal": "shop"}


def template(text: str) -> Template:
    made, problems = parse(text)
    assert made is not None, problems
    return made


def expand(text: str, **params: object) -> str:
    return template(text).expand({"params": params, "call": CALL})


@pytest.mark.parametrize(
    ("text", "params", "target"),
    [
        ("/", {}, "/"),
        ("/a/b", {}, "/a/b"),
        ("/é%41", {}, "/%C3%A9%41"),
        ("/a/{b}", {"b": "x"}, "/a/x"),
        ("/a/{b}", {"b": 12}, "/a/12"),
        ("/a/{b}", {"b": "x/y?z#é %2f"}, "/a/x%2Fy%3Fz%23%C3%A9%20%252f"),
        ("/a/{b}", {"b": "\r\n"}, "/a/%0D%0A"),
        ("/a/{b}", {"b": "..."}, "/a/..."),
        ("/a/v{b}.json", {"b": 1}, "/a/v1.json"),
        ("/a/{b}/{c}", {"b": "x", "c": "y"}, "/a/x/y"),
        ("/a{?b,c}", {"b": True, "c": "x y&z=+"}, "/a?b=true&c=x%20y%26z%3D%2B"),
        ("/a{?b,c}", {"c": 2.5}, "/a?c=2.5"),
        ("/a{?b,c}", {"b": None, "c": []}, "/a"),
        ("/a{?b}", {"b": ""}, "/a?b="),
        ("/a{?b}", {"b": ["x", "y,z", None]}, "/a?b=x,y%2Cz"),
        ("/a{?b*}", {"b": ["x", 2]}, "/a?b=x&b=2"),
        ("/a{?b*}", {"b": "x"}, "/a?b=x"),
        ("/a{?b}", {"b": [None]}, "/a"),
        ("/a{?b}{&c}", {"c": 1}, "/a?c=1"),
        ("/a?x=1{&b}", {"b": 1}, "/a?x=1&b=1"),
        ("/a?x=1{&b}", {}, "/a?x=1"),
        ("/a?q={b}&r=1", {"b": "x&y"}, "/a?q=x%26y&r=1"),
        ("/a?q={b}", {}, "/a?q="),
        ("/a/{call.id}{?call.principal}", {}, "/a/c1?call.principal=shop"),
        ("/a/{call.key}", {"call.key": "mine"}, "/a/k%2F1"),
    ],
)
def test_expansion(text: str, params: dict[str, object], target: str) -> None:
    assert expand(text, **params) == target


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("", "must not be empty"),
        (".", "must not be, or hold"),
        ("..", "must not be, or hold"),
        ("../x", "must not be, or hold"),
        ("x/../y", "must not be, or hold"),
        ("x\\..", "must not be, or hold"),
        (None, "is missing"),
        (True, "a non-empty text or an integer"),
        (1.5, "a non-empty text or an integer"),
        (["x"], "a non-empty text or an integer"),
        ({}, "a non-empty text or an integer"),
        (Decimal("0.1"), "a non-empty text or an integer"),
        ("\ud800", "no Unicode text"),
    ],
)
def test_what_has_no_place_in_a_path(value: object, why: str) -> None:
    with pytest.raises(MappingError, match=why) as caught:
        expand("/a/{b}", b=value)
    assert caught.value.path == "/b"


@pytest.mark.parametrize("value", [{"x": 1}, [{"x": 1}], Decimal("1E400")])
def test_what_has_no_place_in_a_query(value: object) -> None:
    with pytest.raises(MappingError) as caught:
        expand("/a{?b}", b=value)
    assert caught.value.path == "/b"


def test_the_call_is_not_in_the_params() -> None:
    with pytest.raises(MappingError) as caught:
        template("/a/{call.key}").expand({"params": {}, "call": {"key": ".."}})
    assert caught.value.path == ""


def test_what_a_template_uses() -> None:
    made = template("/a/{b}/{call.key}{?c,b}")
    assert made.names == ("b", "c")
    assert made.uses_key
    assert made.constant is None
    assert template("/a?b=1").constant == "/a?b=1"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a/b", "must begin with /"),
        ("{a}/b", "must begin with /"),
        ("//other.example/b", "could name another host"),
        ("/a/../b", "segment . or .."),
        ("/a/.", "segment . or .."),
        ("/a/%2e%2E/b", "segment . or .."),
        ("/a/../b?c=..", "segment . or .."),
        ("/{+a}", "operator + is not supported"),
        ("/{#a}", "operator # is not supported"),
        ("/{.a}", "operator . is not supported"),
        ("/{/a}", "operator / is not supported"),
        ("/{;a}", "operator ; is not supported"),
        ("/{=a}", "operator = is not supported"),
        ("/{|a}", "operator | is not supported"),
        ("/{a,b}", "write {a}/{b}"),
        ("/{a:3}", "prefix (:n) is not supported"),
        ("/{?a:3}", "prefix (:n) is not supported"),
        ("/{a*}", "* is for arrays in a query"),
        ("/{}", "name of a variable is missing"),
        ("/{?a,}", "name of a variable is missing"),
        ("/{a-b}", "letters, digits and _"),
        ("/{a.b}", 'as in "=params.a.b"'),
        ("/x{a", "a stray {"),
        ("/x}", "a stray }"),
        ("/x{{a}}", "a stray {"),
        ("/a b", "%20"),
        ("/a\nb", "%0A"),
        ("/a\\b", "%5C"),
        ('/a"b', "%22"),
        ("/a#b", "%23"),
        ("/a%b", "%25"),
        ("/a%zz", "%25"),
        ("/a{?b}{?c}", "write {&c}"),
        ("/a?x=1{?c}", "write {&c}"),
        ("/a{&c}", "write {?c}"),
        ("/a{?b}/c", "comes after {?…}"),
        ("/a{?b}&c=1", "comes after {?…}"),
        ("/a{?b}{c}", "write {&…}"),
    ],
)
def test_a_template_that_is_refused(text: str, why: str) -> None:
    made, problems = parse(text)
    assert made is None
    assert any(why in problem for problem in problems), problems


def test_dots_in_a_query_are_no_segments() -> None:
    assert expand("/a?b=../..") == "/a?b=../.."


values = st.text(min_size=1).filter(lambda text: not {".", ".."} & set(text.replace("\\", "/").split("/")))


@given(values, values, st.lists(st.text() | st.integers() | st.booleans(), min_size=1), st.text())
def test_no_value_leaves_its_place(first: str, second: str, several: list[object], one: str) -> None:
    target = expand("/a/{first}/b/{second}{?several*,one}", first=first, second=second, several=several, one=one)
    assert target.isascii()
    assert not set(target) & set(' \r\n\t"<>\\^`{|}#')
    parts = urlsplit(f"http://host{target}")
    assert parts.netloc == "host"
    assert [unquote(segment) for segment in parts.path.split("/")] == ["", "a", first, "b", second]
    texts = [str(item).lower() if isinstance(item, bool) else str(item) for item in several]
    wanted = [("several", text) for text in texts] + [("one", one)]
    assert parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True) == wanted


@given(st.text())
def test_parsing_never_raises_and_always_says_why(text: str) -> None:
    made, problems = parse(text)
    assert (made is None) == bool(problems)


@given(st.text())
def test_encoding_goes_round(text: str) -> None:
    assert unquote(encode(text)) == text
