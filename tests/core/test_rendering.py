"""homing.core.rendering: the very bytes a provider gets."""

from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from homing.core.exchange import HttpRequest
from homing.core.jsonrpc import decode_value
from homing.core.rendering import Parts, Rendering, RequestSpec, check_header_name, compile_parts, header_text
from homing.core.specs import CallInfo, MappingError, Problem
from homing.core.values import Report

CALL = CallInfo(id="c" * 32, key="k-1", principal="shop", attempt=2)
JSON = ("Content-Type", "application/json")


def compiled(request: str, **fields: object) -> tuple[Rendering | None, list[Problem]]:
    given_fields: dict[str, object] = {
        "prefix": "",
        "headers": {},
        "provider_headers": {},
        "query": {},
        "body": None,
        "encode": "json",
        "schema": None,
        "default_body": True,
        **fields,
    }
    problems: list[Problem] = []
    spec = RequestSpec(request=request, **given_fields)  # type: ignore[arg-type]
    parts = compile_parts(spec, Report("m", problems), Report("p", problems))
    assert parts.right != any(not problem.warning for problem in problems)
    return Rendering(spec, parts) if parts.right else None, problems


def parts_of(request: str, **fields: object) -> Parts:
    return rendering(request, **fields)._parts


def rendering(request: str, **fields: object) -> Rendering:
    made, problems = compiled(request, **fields)
    assert made is not None, problems
    return made


def render(request: str, params: bytes = b"{}", **fields: object) -> HttpRequest:
    value = decode_value(params)
    assert isinstance(value, dict)
    made = rendering(request, **fields)
    try:
        request_made = made.render(value, params, CALL)
    finally:  # whichever way there is round looking at the params leads to the same request
        if not made.uses_key:
            other = CallInfo(id=CALL.id, key="", principal=CALL.principal, attempt=CALL.attempt)
            assert outcome_of(made, value, params, other) == outcome_of(made, value, params, CALL)
        if not made.needs_params:
            assert outcome_of(made, {}, params, CALL) == outcome_of(made, value, params, CALL)
        if (untouched := made.untouched(params)) is not None:
            assert untouched == made.render(value, params, CALL)
    return request_made


def outcome_of(made: Rendering, params: dict[str, object], raw: bytes, call: CallInfo) -> HttpRequest | str:
    try:
        return made.render(params, raw, call)
    except MappingError as error:
        return str(error)


def test_the_default_body_is_what_came() -> None:
    raw = b'{ "a": 0.12345678901234567890, "b": 1e400, "c": 1.10 }'
    assert render("POST /x", raw) == HttpRequest("POST", "/x", (JSON,), raw)


@pytest.mark.parametrize(
    ("fields", "untouched", "needs_params", "uses_key"),
    [
        ({}, True, False, False),
        ({"headers": {"X-A": "1"}, "query": {"q": "2"}}, True, False, False),
        ({"key_header": "Key"}, False, False, True),
        ({"call_id_header": "Id"}, False, False, False),
        ({"headers": {"X-A": "=call.attempt"}}, False, True, False),
        ({"headers": {"X-A": "=call.key"}}, False, True, True),
        ({"query": {"q": "=params.a"}}, False, True, False),
        ({"body": {"k": "=call.key"}}, False, True, True),
        ({"encode": "form"}, False, True, False),
        ({"default_body": False}, False, True, False),
    ],
)
def test_what_a_request_depends_on(fields: dict[str, object], untouched: bool, needs_params: bool, uses_key: bool) -> None:
    made = rendering("POST /x", **fields)
    assert (made.untouched(b"{}") is not None, made.needs_params, made.uses_key) == (untouched, needs_params, uses_key)
    assert made.untouched(b"[]") is None
    render("POST /x", b'{"a":"1"}', **fields)


def test_the_default_body_is_what_is_left() -> None:
    raw = b'{"a": "x", "b": 0.12345678901234567890, "c": 1.10, "d": {"e": 1}}'
    made = render("POST /x/{a}{?c}", raw, headers={"X-D": "=params.d.e"})
    assert made == HttpRequest("POST", "/x/x?c=1.1", (JSON, ("X-D", "1")), b'{"b":0.12345678901234567890}')


def test_what_is_used_but_not_there_leaves_the_body_untouched() -> None:
    raw = b'{"b": 1.10}'
    assert render("POST /x{?c}", raw).body is not None
    assert render("POST /x{?c}", raw) == HttpRequest("POST", "/x", (JSON,), raw)


def test_params_used_as_a_whole_leave_nothing() -> None:
    assert render("POST /x", b'{"a":1}', query={"all": "=to_string(params)"}).body == b"{}"


@pytest.mark.parametrize(("raw", "params"), [(b"", {}), (b'["x"]', {"a": "x"})])
def test_params_without_a_text_of_their_own_are_encoded(raw: bytes, params: dict[str, object]) -> None:
    assert rendering("POST /x").render(params, raw, CALL).body == msgspec.json.encode(params)


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "OPTIONS"])
def test_some_methods_have_no_default_body(method: str) -> None:
    assert render(f"{method} /x", b'{"a":1}') == HttpRequest(method, "/x", (), None)


def test_a_get_may_have_a_body_of_its_own() -> None:
    assert render("GET /x", body={"q": 1}) == HttpRequest("GET", "/x", (JSON,), b'{"q":1}')


def test_a_lookup_has_none() -> None:
    assert render("POST /x", b'{"a":1}', default_body=False) == HttpRequest("POST", "/x", (), b"")


def test_a_mapped_body() -> None:
    body = {"amount": "=params.amount", "currency": "eur", "note": "=params.note", "by": ["=call.principal", "=call.key"]}
    made = render("POST /x", b'{"amount":12345678901234567890123}', body=body)
    assert made.body == b'{"amount":12345678901234567890123,"currency":"eur","by":["shop","k-1"]}'


def test_a_body_as_a_whole() -> None:
    assert render("POST /x", b'{"a":[1]}', body="=params.a").body == b"[1]"
    assert render("POST /x", b"{}", body="=params.a") == HttpRequest("POST", "/x", (), b"")
    assert render("GET /x", b"{}", body="=params.a") == HttpRequest("GET", "/x", (), None)


@pytest.mark.parametrize("number", [b"0.12345678901234567890", b"1e400"])
def test_a_mapped_number_that_would_change(number: bytes) -> None:
    raw = b'{"a":{"n":%b}}' % number
    for fields in ({"body": {"x": "=params.a"}}, {"query": {"x": "=params.a.n"}}, {"headers": {"X": "=params.a.n"}}):
        with pytest.raises(MappingError, match="no double can hold") as caught:
            render("POST /x", raw, **fields)
        assert caught.value.path == "/a/n"
    with pytest.raises(MappingError) as caught:
        render("POST /x/{n}", b'{"n":%b}' % number)
    assert caught.value.path == "/n"


def test_the_target() -> None:
    made = render(
        "GET /a/{id}?v=1{&x}",
        b'{"id":"i/1","x":[1,2],"list":["p q",null,true],"n":null,"e":[]}',
        prefix="/v2",
        query={"l s": "=params.list", "n": "=params.n", "e": "=params.e", "lit": ["a", 2], "ref": "=call.key"},
    )
    assert made.target == "/v2/a/i%2F1?v=1&x=1,2&l%20s=p%20q&l%20s=true&lit=a&lit=2&ref=k-1"


def test_a_target_that_never_changes() -> None:
    assert render("GET /a", prefix="/v2", query={"v": 1, "w": "x"}).target == "/v2/a?v=1&w=x"
    assert render("GET /a", query={"v": "=params.v"}).target == "/a"
    assert render("GET /a{?x}", b'{"x":1}', query={"v": 1}).target == "/a?x=1&v=1"


@pytest.mark.parametrize("value", [b'{"x":1}', b'[{"x":1}]'])
def test_an_object_has_no_place_in_a_query(value: bytes) -> None:
    with pytest.raises(MappingError, match="query `q`") as caught:
        render("GET /a", b'{"o":%b}' % value, query={"q": "=params.o"})
    assert caught.value.path == "/o"
    with pytest.raises(MappingError, match="query `q`") as caught:
        render("GET /a", b'{"o":%b}' % value, query={"q": ["=params.o"]})
    assert caught.value.path == ""


def test_headers() -> None:
    made = render(
        "GET /a",
        b'{"t":"caf\xc3\xa9","n":null}',
        provider_headers={"Accept": "application/json", "X-Same": "provider", "X-Try": "=call.attempt"},
        headers={"x-same": "method", "X-T": "=params.t", "X-N": "=params.n", "X-Bool": True, "X-None": []},
        key_header="Idempotency-Key",
        call_id_header="X-Call",
    )
    assert dict(made.headers) == {
        "Accept": "application/json",
        "x-same": "method",
        "X-Bool": "true",
        "X-Try": "2",
        "X-T": "café",
        "Idempotency-Key": "k-1",
        "X-Call": "c" * 32,
    }


def test_the_content_type_is_set_unless_headers_do() -> None:
    assert render("POST /a", encode="form").headers == (("Content-Type", "application/x-www-form-urlencoded"),)
    assert render("POST /a", encode="text", body="x").headers == (("Content-Type", "text/plain; charset=utf-8"),)
    assert render("POST /a", encode="none").headers == ()
    assert render("POST /a", headers={"content-type": "application/vnd.api+json"}).headers == (
        ("content-type", "application/vnd.api+json"),
    )
    assert render("POST /a", headers={"content-type": "=params.t"}).headers == ()


def test_encodings() -> None:
    assert render("POST /a", b'{"a":{"b":1},"c":["x"]}', encode="form").body == b"a[b]=1&c[]=x"
    assert render("POST /a", b'{"a":1}', encode="form", body={"b": "=params.a"}).body == b"b=1"
    assert render("POST /a", b'{"a":"hello"}', encode="text", body="=params.a").body == b"hello"
    assert render("POST /a", b'{"a":1}', encode="none").body == b""


def test_a_codec_may_choose_the_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = "def xml(value):\n    return b'<x/>', value['type']\n\ndef plain(value):\n    return b'x'\n"
    (tmp_path / "codec_of_rendering.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    made = render("POST /a", b'{"type":"application/xml"}', encode="python:codec_of_rendering:xml")
    assert made == HttpRequest("POST", "/a", (("Content-Type", "application/xml"),), b"<x/>")
    made = render("POST /a", b'{"type":"a/b"}', encode="python:codec_of_rendering:xml", headers={"Content-Type": "c/d"})
    assert made.headers == (("Content-Type", "c/d"),)
    assert render("POST /a", encode="python:codec_of_rendering:plain") == HttpRequest("POST", "/a", (), b"x")
    with pytest.raises(MappingError, match="line breaks"):
        render("POST /a", b'{"type":"a/b\\r\\nX: y"}', encode="python:codec_of_rendering:xml")


@pytest.mark.parametrize("value", [b"x\\r\\nX-Evil: 1", b"\\n", b"\\u0000", b"\\u20ac", b"\\u007f"])
def test_what_has_no_place_in_a_header(value: bytes) -> None:
    with pytest.raises(MappingError, match="header X-T cannot hold") as caught:
        render("GET /a", b'{"t":"%b"}' % value, headers={"X-T": "=params.t"})
    assert caught.value.path == "/t"


@pytest.mark.parametrize("value", [b"{}", b"[1]"])
def test_a_header_is_one_text(value: bytes) -> None:
    with pytest.raises(MappingError, match="header X-T must be"):
        render("GET /a", b'{"t":%b}' % (value.replace(b"{}", b'{"a":1}')), headers={"X-T": "=params.t"})


def test_an_evaluation_that_fails() -> None:
    for fields in ({"body": "=abs(params.a)"}, {"query": {"q": "=abs(params.a)"}}, {"headers": {"X": "=abs(params.a)"}}):
        with pytest.raises(MappingError, match="abs"):
            render("POST /a", b'{"a":"x"}', **fields)


def test_a_key_that_no_header_can_hold() -> None:
    with pytest.raises(MappingError):
        rendering("POST /a", key_header="Idempotency-Key").render({}, b"{}", CallInfo(id="c", key="€"))


@given(st.text())
def test_a_header_never_ends_early(text: str) -> None:
    try:
        said = header_text(text, "X")
    except MappingError:
        return
    assert said == text
    assert not set(text) & set("\r\n\0")
    text.encode("latin-1")


CLOSED = {"additionalProperties": False, "properties": {"a": {"type": "string"}, "b": {}}}


@pytest.mark.parametrize(
    ("request_line", "fields", "path", "why"),
    [
        ("/x", {}, "m.request", "expected a method in capitals"),
        ("post /x", {}, "m.request", "expected a method in capitals"),
        ("POST  /x", {}, "m.request", "expected a method in capitals"),
        ("POST", {}, "m.request", "expected a method in capitals"),
        ("POST x", {}, "m.request", "must begin with /"),
        ("CONNECT /x", {}, "m.request", "asks for no resource"),
        ("TRACE /x", {}, "m.request", "asks for no resource"),
        ("GET https://other.example/x", {}, "m.request", "write the path alone"),
        ("GET //other.example/x", {}, "m.request", "another host"),
        ("GET /x/{c}", {"schema": CLOSED}, "m.request", "{c}: the params' schema has no c"),
        ("GET /x/{+a}", {}, "m.request", "operator +"),
        ("GET /x", {"query": {"q": "=call.attempt"}}, "m.query.q", "headers only"),
        ("GET /x", {"query": {"q": {"a": 1}}}, "m.query.q", "must be a text"),
        ("GET /x", {"query": {"q": {"a": "=params.a"}}}, "m.query.q", "an object has no place"),
        ("POST /x", {"body": {"q": "=call.attempt"}}, "m.body.q", "headers only"),
        ("POST /x", {"body": {"q": "=true"}}, "m.body.q", "backticks"),
        ("GET /x", {"headers": {"Host": "x"}}, "m.headers.Host", "belongs to the connection"),
        ("GET /x", {"headers": {"content-length": 5}}, "m.headers.content-length", "belongs to the connection"),
        ("GET /x", {"headers": {"Transfer-Encoding": "chunked"}}, "m.headers.Transfer-Encoding", "belongs to the connection"),
        ("GET /x", {"headers": {"Connection": "close"}}, "m.headers.Connection", "belongs to the connection"),
        ("GET /x", {"headers": {"X Y": "x"}}, 'm.headers."X Y"', "without spaces"),
        ("GET /x", {"headers": {"": "x"}}, 'm.headers.""', "is no header name"),
        ("GET /x", {"headers": {"X": "a\r\nb"}}, "m.headers.X", "line breaks"),
        ("GET /x", {"headers": {"X": "€"}}, "m.headers.X", "Latin-1"),
        ("GET /x", {"headers": {"X": {"a": 1}}}, "m.headers.X", "must be a text"),
        ("GET /x", {"headers": {"X": ["=params.a"]}}, "m.headers.X", "join"),
        ("GET /x", {"headers": {"X-A": "1", "x-a": "2"}}, "m.headers.x-a", "X-A has set x-a already"),
        (
            "GET /x",
            {"headers": {"idempotency-key": "1"}, "key_header": "Idempotency-Key"},
            "m.headers.idempotency-key",
            "idempotency_key.header",
        ),
        ("GET /x", {"headers": {"X-Call": "1"}, "call_id_header": "x-call"}, "m.headers.X-Call", "call_id_header"),
        (
            "GET /x",
            {"key_header": "X-Id", "call_id_header": "x-id"},
            "p.call_id_header",
            "idempotency_key.header has set x-id already",
        ),
        ("GET /x", {"provider_headers": {"Host": "x"}}, "p.headers.Host", "belongs to the connection"),
        ("POST /x", {"encode": "yaml"}, "m.encode", "expected one of json"),
        ("POST /x", {"encode": "python:no_such_module_here:f"}, "m.encode", "cannot be imported"),
        ("POST /x", {"encode": "none", "body": {"a": 1}}, "m.body", "leave out the one or the other"),
        ("POST /x", {"encode": "text"}, "m.encode", "the default body is an object"),
        ("POST /x", {"encode": "text", "body": {"a": "=params.a"}}, "m.body", "made of one value"),
        ("POST /x", {"encode": "text", "body": ["x"]}, "m.body", "made of one value"),
        ("POST /x", {"encode": "form", "body": "a=b"}, "m.body", "made of an object"),
        ("POST /x", {"encode": "form", "body": ["=params.a"]}, "m.body", "made of an object"),
    ],
)
def test_what_is_refused(request_line: str, fields: dict[str, object], path: str, why: str) -> None:
    made, problems = compiled(request_line, **fields)
    assert made is None
    assert [problem.path for problem in problems if why in problem.message] == [path], problems


def test_what_is_not() -> None:
    for fields in (
        {"encode": "text", "body": "x"},
        {"encode": "text", "body": "=params.a"},
        {"encode": "form", "body": {"a": "=params.a"}},
        {"encode": "form", "body": {"a": 1}},
        {"encode": "form", "body": "=params"},
        {"encode": "text", "default_body": False},
        {"schema": CLOSED, "query": {"q": "=params.a"}},
    ):
        assert compiled("POST /x", **fields)[1] == []
    assert compiled("GET /x", encode="text")[1] == []


def test_what_no_params_can_have_is_a_warning_where_the_request_can_do_without() -> None:
    for request_line, fields, path in (
        ("POST /x{?c}", {}, "m.request"),
        ("GET /x", {"query": {"q": "=params.c"}}, "m.query.q"),
    ):
        made, problems = compiled(request_line, schema=CLOSED, **fields)
        assert made is not None
        assert [(problem.path, problem.warning) for problem in problems if "has no c" in problem.message] == [(path, True)]


META = {"type": "object", "properties": {"trace": {"type": "string"}, "customer": {"type": "string"}}}
ALONE = {"type": "object", "properties": {"trace": {"type": "string"}}, "additionalProperties": False}


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"query": {"q": "=params.meta.trace"}}, "m.query.q"),
        ({"headers": {"X": "=params.meta.trace"}}, "m.headers.X"),
        ({"provider_headers": {"X": "=params.meta.trace"}}, "p.headers.X"),
        ({"query": {"q": "=params.meta[0]"}}, "m.query.q"),
        ({"query": {"q": "=params.meta.trace"}, "schema": {"properties": {"meta": META}}}, "m.query.q"),
        ({"query": {"q": "=params.meta.trace"}, "schema": {"properties": {"meta": ALONE}}}, None),
        ({"query": {"q": "=params.meta"}}, None),
        ({"query": {"q": "=call.id"}}, None),
        ({"query": {"q": "x"}}, None),
        ({"query": {"q": "=params.meta.trace"}, "body": "=params"}, None),
        ({"query": {"q": "=params.meta.trace"}, "encode": "none"}, None),
        ({"query": {"q": "=params.meta.trace"}, "default_body": False}, None),
    ],
)
def test_a_default_body_that_leaves_out_more_than_was_used_is_a_warning(fields: dict[str, object], path: str | None) -> None:
    made, problems = compiled("POST /x", **fields)
    assert made is not None
    assert [(problem.path, problem.warning) for problem in problems] == ([] if path is None else [(path, True)])
    assert all("leaves out all of meta" in problem.message for problem in problems)


def test_what_a_body_would_be_is_not_guessed_where_it_is_wrong() -> None:
    assert [problem.path for problem in compiled("POST /x", body="=foo", encode="form")[1]] == ["m.body"]
    assert len(compiled("POST /x", body="=foo", encode="none")[1]) == 2


def test_what_a_request_uses() -> None:
    made = parts_of("POST /x/{a}{?b}", headers={"X": "=params.c"}, query={"q": "=params.d.e"}, body={"z": "=params.f"})
    assert (made.uses.params, made.body_uses.params) == ({"a", "b", "c", "d"}, {"f"})
    assert (made.uses.key, made.body_uses.key) == (False, False)
    assert parts_of("POST /x/{call.key}").uses.key
    assert parts_of("POST /x", body="=call.key").body_uses.key
    assert made.method == "POST"


@pytest.mark.parametrize("name", ["X-A", "etag", "x_y", "!#$%&'*+.^`|~1"])
def test_header_names(name: str) -> None:
    assert check_header_name(name) is None


def test_numbers_in_a_form_are_exact() -> None:
    assert render("POST /x", b'{"a":0.12345678901234567890}', encode="form").body == b"a=0.12345678901234567890"
    assert Decimal("0.12345678901234567890") != Decimal(repr(float("0.12345678901234567890")))
