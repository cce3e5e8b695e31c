"""homing.core.methods: a whole method, from its table to its requests and answers."""

import datetime as dt
import re
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from homing.core.exchange import HttpRequest, HttpResponse
from homing.core.jsonrpc import decode_value, encode_value
from homing.core.methods import Method, check_provider, compile_method, invalid_params
from homing.core.specs import AnswerRow, CallInfo, IdempotencySpec, LookupSpec, MappingError, MethodSpec, Problem, ProviderSpec
from homing.errors import Outcome, ParamError

ACME = ProviderSpec(
    name="acme",
    base_url="https://api.acme.example/v2/",
    headers={"Accept": "application/json"},
    answers=(AnswerRow(when="status == `429` && body.error.code == 'spend_limit'", is_="refused"),),
    call_id_header="X-Call-Id",
    attempts_max=5,
)
SCHEMA = {
    "required": ["account", "amount"],
    "additionalProperties": False,
    "properties": {"account": {"type": "string"}, "amount": {"type": "integer", "minimum": 1}, "expand": {}, "metadata": {}},
}
CHARGE = MethodSpec(
    name="acme.charge",
    provider="acme",
    summary="Charge a card",
    deadline=60.0,
    effect="keyed",
    idempotency_key=IdempotencySpec(header="Idempotency-Key", lifetime=3600.0, required=True),
    positional=("account", "amount"),
    request="POST /accounts/{account}/charges{?expand}",
    body={"amount": "=params.amount", "currency": "eur", "metadata": "=params.metadata"},
    result="body.charge",
    answers=(AnswerRow(when="status == `402`", is_="failed", executed="no"),),
    lookup=LookupSpec(request="GET /charges", query={"reference": "=call.key"}, found="body.data[0]", reserve=4.0),
    params=SCHEMA,
)
OPEN = {"additionalProperties": True}


def method(spec: MethodSpec = CHARGE, provider: ProviderSpec | None = ACME) -> Method:
    made, problems = compile_method(spec, provider)
    assert made is not None, problems
    return made


def problems_of(provider: ProviderSpec | None = ACME, **fields: Any) -> list[Problem]:
    base = MethodSpec(name="acme.do", provider="acme", request="POST /do", effect="safe", params=OPEN)
    made, problems = compile_method(replace(base, **fields), provider)
    assert (made is None) == any(not problem.warning for problem in problems)
    return problems


def test_what_others_read() -> None:
    made = method()
    assert (made.name, made.provider, made.service, made.summary) == ("acme.charge", "acme", "acme", "Charge a card")
    assert (made.effect, made.deadline_s, made.positional, made.params_schema) == ("keyed", 60.0, ("account", "amount"), SCHEMA)
    assert (made.has_lookup, made.reserve_s, made.attempts_max, made.notifications) == (True, 4.0, 5, True)
    assert (made.key_header, made.key_lifetime_s, made.key_required, made.key_scope) == (
        "Idempotency-Key",
        3600.0,
        True,
        "principal",
    )
    assert compile_method(CHARGE, ACME)[1] == []


def test_a_method_as_it_is_without_saying_more() -> None:
    made = method(MethodSpec(name="acme.do", provider="acme", request="POST /do"))
    assert (made.effect, made.notifications, made.has_lookup, made.reserve_s) == ("once", False, False, 0.0)
    assert (made.key_header, made.key_lifetime_s, made.key_required, made.deadline_s) == (None, 86400.0, False, None)
    assert method(MethodSpec(name="a", provider="acme", request="POST /do", notifications=True)).notifications
    assert method(MethodSpec(name="a", provider="acme", service="heavy", request="POST /do")).service == "heavy"


def test_safe_methods_send_no_key() -> None:
    made = method(MethodSpec(name="a", provider="acme", effect="safe", request="GET /a", idempotency_key=CHARGE.idempotency_key))
    assert (made.key_header, made.key_required) == (None, False)


def test_a_call() -> None:
    made = method()
    params, errors = made.validate({"account": "a/1", "amount": 1200, "expand": ["x"]})
    assert errors == ()
    key = made.provider_key("shop", "order-17")
    call = CallInfo(id="f" * 32, key=key, principal="shop")
    request = made.render(params, b'{"account":"a/1","amount":1200,"expand":["x"]}', call)
    assert request == HttpRequest(
        "POST",
        "/v2/accounts/a%2F1/charges?expand=x",
        (("Content-Type", "application/json"), ("Accept", "application/json"), ("Idempotency-Key", key), ("X-Call-Id", "f" * 32)),
        b'{"amount":1200,"currency":"eur"}',
    )
    lookup = made.render_lookup(params, call)
    assert lookup == HttpRequest(
        "GET", f"/v2/charges?reference={key}", (("Accept", "application/json"), ("X-Call-Id", "f" * 32)), None
    )
    assert made.interpret(HttpResponse(200, {}, b'{"charge":{"id":1}}'), 0.0) == Outcome(
        reason="ok", executed="yes", result=b'{"id":1}', status=200
    )
    assert made.interpret(HttpResponse(402, {}, b""), 0.0).reason == "provider_failed"
    words, outcome = made.explain(HttpResponse(429, {}, b'{"error":{"code":"spend_limit"}}'), 0.0)
    assert (words, outcome.reason) == (
        "providers.acme.answers[0]: status == `429` && body.error.code == 'spend_limit'",
        "provider_refused",
    )
    assert made.explain(HttpResponse(402, {}, b""), 0.0)[0] == 'methods."acme.charge".answers[0]: status == `402`'
    assert made.interpret_lookup(HttpResponse(200, {}, b'{"data":[{"id":1}]}')) == b'{"id":1}'
    assert made.interpret_lookup(HttpResponse(404, {}, b"")) is None
    made.interpret_lookup(HttpResponse(200, {}, b"<html>"))
    assert made.evaluations_failed == 1


def test_a_lookups_answer_is_judged_by_its_providers_rows_and_not_by_the_methods() -> None:
    busy = replace(ACME, answers=(AnswerRow(when="body.error", is_="throttled"),))
    own = replace(CHARGE, answers=(AnswerRow(when="!(body.charge)", is_="failed"),))
    made = method(own, busy)
    assert made.interpret_lookup(HttpResponse(200, {}, b'{"data":[{"id":1}]}')) == b'{"id":1}'
    assert made.interpret_lookup(HttpResponse(200, {}, b'{"data":[{"id":1}],"error":{"code":"busy"}}')) is None


@pytest.mark.parametrize(
    "fields",
    [
        {"request": "GET /c", "query": {"limit": 1, "reference": "=params.reference"}},
        {"request": "GET /c{?reference,note}"},
        {"request": "GET /c?all=1{&reference}"},
        {"request": "POST /search", "body": {"where": [{"reference": "=params.reference"}], "limit": 1}},
        {"request": "POST /search", "body": "=params.reference"},
    ],
    ids=["query", "url", "url, behind a query", "body", "whole body"],
)
@pytest.mark.parametrize("absent", [{}, {"reference": None}, {"reference": ""}, {"reference": []}])
def test_a_lookup_is_not_made_when_it_has_nothing_to_ask_by(fields: dict[str, Any], absent: dict[str, Any]) -> None:
    """What it would find was done by another call, and is no proof of this one."""
    made = method(replace(CHARGE, params=OPEN, lookup=LookupSpec(**fields)))
    params, call = {"account": "a1", "amount": 1}, CallInfo(id="f" * 32, key="k")
    made.render_lookup(params | {"reference": "r1"}, call)
    with pytest.raises(MappingError, match="none of the params is there that it asks by"):
        made.render_lookup(params | absent, call)
    query = fields.get("query", {})
    for more in ("=call.key", "=call.id", "=params.account"):  # then it has
        made = method(replace(CHARGE, params=OPEN, lookup=LookupSpec(**fields | {"query": query | {"more": more}})))
        made.render_lookup(params | absent, call)


def test_a_lookup_that_takes_nothing_of_a_call_is_made() -> None:
    made = method(replace(CHARGE, lookup=LookupSpec(request="GET /last?x=1", query={"limit": 1})))
    assert made.render_lookup({}, CallInfo(id="f" * 32)).target == "/v2/last?x=1&limit=1"


@pytest.mark.parametrize(
    ("params", "named"),
    [
        (None, {}),
        ([], {}),
        (["a1"], {"account": "a1"}),
        (["a1", 5], {"account": "a1", "amount": 5}),
        ({"amount": 1}, {"amount": 1}),
    ],
)
def test_params_by_name(params: object, named: dict[str, object]) -> None:
    assert method().by_name(params) == named


def test_what_is_wrong_with_positions_is_told_by_position() -> None:
    names = ("a/b", "c~d", "e")
    schema = {
        "additionalProperties": False,
        "required": ["f"],
        "properties": {"a/b": {"type": "integer"}, "c~d": {"items": {"type": "integer"}}, "e": {}, "f": {}},
    }
    made = method(MethodSpec(name="a", provider="acme", request="POST /a", positional=names, params=schema))
    assert {error.path for error in made.validate({"a/b": "x", "c~d": [1, "x"]})[1]} == {"", "/a~1b", "/c~0d/1"}
    assert {error.path for error in made.validate(["x", [1, "x"]])[1]} == {"", "/0", "/1/1"}
    assert made.by_position((ParamError("/e", "no"), ParamError("/0", "no"))) == (ParamError("/2", "no"), ParamError("/0", "no"))


def test_positional_params_are_rendered_too() -> None:
    made = method(MethodSpec(name="a", provider="acme", request="POST /a", positional=("x", "y")))
    assert made.render([1, "z"], b'[1,"z"]', CallInfo(id="c")).body == b'{"x":1,"y":"z"}'
    assert made.render(None, b"", CallInfo(id="c")).body == b"{}"


def test_what_passes_as_it_is_needs_no_look_at_the_params() -> None:
    plain = ProviderSpec(name="acme", base_url="https://api.acme.example")
    made = method(MethodSpec(name="acme.do", provider="acme", request="POST /do", params=OPEN), plain)
    assert (made.needs_params, made.uses_key) == (False, False)
    assert made.render_untouched(b'{"a": 1}') == made.render({"a": 1}, b'{"a": 1}', CallInfo(id="c"))
    assert method().render_untouched(b"{}") is None
    assert (method().needs_params, method().uses_key) == (True, True)
    of_a_service = method(MethodSpec(name="own.do", service="own", params=OPEN), None)
    assert (of_a_service.needs_params, of_a_service.uses_key) == (True, True)


@pytest.mark.parametrize(
    ("params", "errors"),
    [
        (["a1", 5], ()),
        (["a1"], (ParamError("", "lacks the member amount"),)),
        (
            ["a1", 5, 6],
            (ParamError("", "has 3 elements, but the method takes 2 in this order: account, amount"),),
        ),
        (
            {"account": 1, "amount": 0},
            (ParamError("/account", "must be of type string"), ParamError("/amount", "must be at least 1")),
        ),
        ({"account": "a", "amount": Decimal("0.99999999999999999999")}, None),
        ({"account": "a", "amount": 10**30}, ()),
        ("text", (ParamError("", "must be an object: this method gives no order for an array"),)),
    ],
)
def test_validation(params: object, errors: tuple[ParamError, ...] | None) -> None:
    found = method().validate(params)[1]
    assert found == errors or (errors is None and [error.path for error in found] == ["/amount", "/amount"])


def test_an_array_where_there_is_no_order() -> None:
    made = method(MethodSpec(name="a", provider="acme", request="POST /a"))
    assert made.validate([1]) == ({}, (ParamError("", "must be an object: this method gives no order for an array"),))
    assert made.validate(None) == ({}, ())
    with pytest.raises(MappingError):
        made.render([1], b"[1]", CallInfo(id="c"))


def test_formats_are_asserted() -> None:
    made = method(MethodSpec(name="a", provider="acme", request="POST /a", params={"properties": {"d": {"format": "date"}}}))
    assert made.validate({"d": "2026-02-30"})[1] == (ParamError("/d", "must be of the format date"),)


def test_keys_of_two_principals_never_meet() -> None:
    made = method()
    keys = {made.provider_key(principal, key) for principal in ("", "a", "ab") for key in ("order-17", "b", "é")}
    assert len(keys) == 9
    assert all(len(key) == 32 and key.isascii() for key in keys)
    other = MethodSpec(
        name="a",
        provider="acme",
        request="POST /a",
        effect="keyed",
        idempotency_key=IdempotencySpec(header="K", scope="verbatim"),
    )
    assert method(other).provider_key("shop", "order-17") == "order-17"


def test_the_key_is_the_digest_that_the_contract_names() -> None:
    import base64
    import hashlib

    digest = hashlib.sha256(b"shop\x00acme.charge\x00order-17").digest()
    assert method().provider_key("shop", "order-17") == base64.urlsafe_b64encode(digest).decode()[:32]


def test_a_method_of_a_worker_is_only_validated() -> None:
    made, problems = compile_method(MethodSpec(name="echo.say", service="echo", params={"additionalProperties": False}))
    assert problems == []
    assert made is not None
    assert (made.provider, made.service, made.attempts_max, made.evaluations_failed) == (None, "echo", 3, 0)
    assert made.validate({"x": 1})[1] == (ParamError("", "has what the method does not know: x"),)
    with pytest.raises(AssertionError):
        made.render({}, b"{}", CallInfo(id="c"))


@pytest.mark.parametrize(
    ("fields", "path", "why"),
    [
        ({"request": None}, "request", "which request is it?"),
        ({"request": "POST x"}, "request", "must begin with /"),
        ({"decode": "xml"}, "decode", "expected one of json, text, base64"),
        ({"result": "body.a ="}, "result", "is no JMESPath"),
        ({"result": "true"}, "result", "backticks"),
        ({"answers": (AnswerRow(when="true", is_="ok"),)}, "answers[0].when", "backticks"),
        ({"params": []}, "params", "is an object"),
        ({"params": {"type": "string"}}, "params.type", 'expected "object"'),
        (
            {"params": {"properties": {"a": {"type": "text"}}}},
            "params.properties.a.type",
            'found "text", expected string, integer',
        ),
        (
            {"params": {"properties": {"a": {"type": "int"}}}},
            "params.properties.a.type",
            "a list of these: did you mean integer?",
        ),
        (
            {"params": {"properties": {"a": {"type": ["string", "nil"]}}}},
            "params.properties.a.type",
            'found ["string","nil"], expected string',
        ),
        ({"params": {"properties": {"a": "string"}}}, "params.properties.a", 'expected a schema: write type = "string" below it'),
        ({"params": {"properties": {"a": {"minimum": "1"}}}}, "params.properties.a.minimum", '"1" is not of type "number"'),
        ({"params": {"properties": {"a": {"pattern": "("}}}}, "params.properties.a.pattern", "regex"),
        ({"params": {"properties": {"a": {"$ref": "#/$defs/no"}}}}, "params", "/$defs/no"),
        ({"params": {"properties": {"a": {"$ref": "http://other.example/s.json"}}}}, "params", "nothing is fetched"),
        ({"params": {"properties": {"a": {"$ref": "file:///etc/hosts"}}}}, "params", "nothing is fetched"),
        (
            {"params": {"properties": {"a": {"$ref": "other.json"}}}},
            "params",
            "'other.json' is not in this schema, and nothing is fetched",
        ),
        ({"params": {"properties": {"a": {"const": dt.date(2026, 1, 1)}}}}, "params", "has no place in JSON"),
        ({"positional": ("a", "a")}, "positional", "twice"),
        ({"positional": ("a",), "params": {"additionalProperties": False}}, "positional[0]", "has no a"),
        ({"effect": "keyed"}, "idempotency_key", "never gets the key"),
        ({"effect": "keyed", "idempotency_key": IdempotencySpec()}, "idempotency_key", "never gets the key"),
        ({"effect": "keyed", "idempotency_key": IdempotencySpec(header="a b")}, "idempotency_key.header", "without spaces"),
        (
            {"effect": "keyed", "idempotency_key": IdempotencySpec(header="Host")},
            "idempotency_key.header",
            "belongs to the connection",
        ),
        ({"request": "GET /x", "params": SCHEMA}, "request", "account, amount, expand, metadata; GET sends no params"),
        ({"request": "DELETE /x{?account}", "params": SCHEMA}, "request", "amount, expand, metadata; DELETE"),
        ({"request": "GET /x", "body": {"a": "=params.account"}, "params": SCHEMA}, "request", "amount, expand, metadata; GET"),
        ({"encode": "none", "params": SCHEMA}, "request", 'encode = "none" sends no body'),
        ({"lookup": LookupSpec(request="GET x")}, "lookup.request", "must begin with /"),
        ({"lookup": LookupSpec(request="GET /x", found="true")}, "lookup.found", "backticks"),
        ({"lookup": LookupSpec(request="GET /x", query={"a": "=true"})}, "lookup.query.a", "backticks"),
    ],
)
def test_what_is_refused(fields: dict[str, Any], path: str, why: str) -> None:
    wrong = [problem for problem in problems_of(**fields) if not problem.warning]
    assert [problem.path for problem in wrong] == [f'methods."acme.do".{path}']
    assert why in wrong[0].message


@pytest.mark.parametrize(
    ("fields", "path", "why"),
    [
        ({"effect": "once"}, "lookup", "once without a lookup"),
        ({"params": None}, "params", "without a schema anything goes"),
        ({"params": {}}, "params", "additionalProperties = false"),
        (
            {"params": {**OPEN, "properties": {"a": {"format": "int64"}}}},
            "params.properties.a.format",
            "Unknown format: 'int64': nothing",
        ),
        (
            {"body": {"a": "=params.account"}, "params": SCHEMA},
            "body",
            "neither URL, query, headers nor body: amount, expand, metadata",
        ),
    ],
)
def test_what_is_warned_of(fields: dict[str, Any], path: str, why: str) -> None:
    [warning] = problems_of(**fields)
    assert warning.warning
    assert warning.path == f'methods."acme.do".{path}'
    assert why in warning.message


@pytest.mark.parametrize(
    "fields",
    [
        {"effect": "once", "lookup": LookupSpec(request="GET /x{?a}")},
        {"effect": "keyed", "body": {"idempotency_key": "=call.key"}},
        {"effect": "keyed", "request": "PUT /x/{call.key}"},
        {"effect": "keyed", "query": {"k": "=call.key"}},
        {"effect": "keyed", "idempotency_key": IdempotencySpec(header="K")},
        {"request": "GET /x{?account,amount,expand,metadata}", "params": SCHEMA},
        {"request": "GET /x", "query": {"all": "=to_string(params)"}, "params": SCHEMA},
        {"body": "=params", "params": SCHEMA},
        {"request": "GET /x", "lookup": LookupSpec(request="GET /y"), "params": OPEN},
        {"lookup": LookupSpec(request="GET /x{?account}"), "params": SCHEMA},
        {"params": {"$ref": "#/$defs/p", "$defs": {"p": {"required": ["a"]}}, "unevaluatedProperties": False}},
    ],
)
def test_what_is_not(fields: dict[str, Any]) -> None:
    assert problems_of(**fields) == []


def test_everything_wrong_is_said_in_one_run() -> None:
    found = problems_of(
        request="POST x{",
        query={"q": "=true"},
        headers={"Host": "x"},
        body={"b": "=foo"},
        encode="yaml",
        decode="xml",
        result="body =",
    )
    keys = [problem.path.removeprefix('methods."acme.do".') for problem in found]
    assert sorted(set(keys)) == ["body.b", "decode", "encode", "headers.Host", "query.q", "request", "result"]


def test_a_method_needs_somebody_who_answers() -> None:
    made, problems = compile_method(MethodSpec(name="a", params=OPEN))
    assert made is None
    assert [problem.path for problem in problems] == ["methods.a"]
    made, problems = compile_method(MethodSpec(name="a", service="s", params=OPEN, request="GET /", body=1, lookup=CHARGE.lookup))
    assert made is None
    assert [problem.path for problem in problems] == ["methods.a.request", "methods.a.body", "methods.a.lookup"]
    for key, paths in ((IdempotencySpec(header="X"), ["methods.a.idempotency_key.header"]), (IdempotencySpec(required=True), [])):
        made, problems = compile_method(MethodSpec(name="a", service="s", params=OPEN, idempotency_key=key))
        assert made is not None
        assert [problem.path for problem in problems if problem.warning] == paths


def test_an_unknown_provider_is_for_others_to_report() -> None:
    assert compile_method(MethodSpec(name="a", provider="nobody", request="GET /", params=OPEN)) == (None, [])
    made, problems = compile_method(MethodSpec(name="a", provider="nobody", request="GET {", result="x", params=OPEN))
    assert made is None
    assert {problem.path for problem in problems} == {"methods.a.request", "methods.a.result"}


def test_without_a_request_all_else_is_looked_at() -> None:
    found = problems_of(request=None, headers={"Host": "x"}, effect="keyed")
    assert [problem.path for problem in found] == ['methods."acme.do".request', 'methods."acme.do".headers.Host']
    assert [problem.path for problem in problems_of(request=None, body="=foo")][1:] == ['methods."acme.do".body']


def test_whether_the_parts_of_a_doubtful_method_go_together_is_not_looked_at() -> None:
    spec = MethodSpec(name="a", provider="acme", request="GET /", effect="keyed", params=SCHEMA)
    assert compile_method(spec, ACME, doubtful=True) == (None, [])
    assert [problem.path for problem in compile_method(spec, ACME)[1]] == ["methods.a.request", "methods.a.idempotency_key"]


@pytest.mark.parametrize(
    ("base_url", "target"),
    [
        ("https://api.acme.example", "/do"),
        ("https://api.acme.example/", "/do"),
        ("http://127.0.0.1:8080/a/b/", "/a/b/do"),
        ("http://[::1]:8080/a%20b", "/a%20b/do"),
    ],
)
def test_the_url_is_base_url_and_the_path(base_url: str, target: str) -> None:
    made = method(MethodSpec(name="a", provider="acme", request="GET /do"), ProviderSpec(name="acme", base_url=base_url))
    assert made.render({}, b"{}", CallInfo(id="c")).target == target


@pytest.mark.parametrize(
    ("base_url", "why"),
    [
        ("api.acme.example", "expected http:// or https://"),
        ("ftp://api.acme.example", "expected http:// or https://"),
        ("https://", "expected http:// or https://"),
        ("https://host:port/", "expected http:// or https://"),
        ("https://host:0/", "expected http:// or https://"),
        ("https://[::1/", "expected http:// or https://"),
        ("https://user:secret@host/", "credentials go into `auth`"),
        ("https://host/?key=1", "a query into each method's `query`"),
        ("https://host/a?", "a query into each method's `query`"),
        ("https://host/#a", "scheme, host and path"),
        ("https://host/{tenant}/a", "no variables"),
        ("https://host/a/../b", "segment . or .."),
        ("https://host/a b", "%20"),
    ],
)
def test_base_urls_that_are_refused(base_url: str, why: str) -> None:
    [problem] = check_provider(ProviderSpec(name="acme", base_url=base_url))
    assert problem.path == "providers.acme.base_url"
    assert why in problem.message
    assert "secret" not in problem.message
    assert [found for found in problems_of(ProviderSpec(name="acme", base_url=base_url)) if not found.warning] == [problem]


def test_what_is_wrong_with_a_provider() -> None:
    provider = ProviderSpec(
        name="acme",
        base_url="https://host",
        headers={"Host": "x", "X-A": "=call.nothing"},
        answers=(AnswerRow(when="true", is_="ok"),),
        call_id_header="X Y",
    )
    found = check_provider(provider)
    assert sorted({problem.path for problem in found}) == [
        "providers.acme.answers[0].when",
        "providers.acme.call_id_header",
        "providers.acme.headers.Host",
        "providers.acme.headers.X-A",
    ]
    assert set(found) <= set(problems_of(provider))
    assert check_provider(ACME) == []


json_texts = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=5)
    | st.sampled_from([0.5, Decimal("1E400"), Decimal("0.12345678901234567890")]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abcd"), inner, max_size=3),
    max_leaves=10,
).map(encode_value)


@given(st.dictionaries(st.sampled_from("abcd"), json_texts))
def test_whatever_the_params_are_the_request_is_sound_or_the_call_is_refused(members: dict[str, bytes]) -> None:
    raw = b"{%b}" % b",".join(b'"%b":%b' % (name.encode(), text) for name, text in members.items())
    params = decode_value(raw)
    for made in ANYTHING:
        try:
            request = made.render(params, raw, CallInfo(id="c", key="k", principal="p"))
        except MappingError:
            continue
        assert re.fullmatch(r"/v2/[A-Za-z0-9\-._~%/]+(\?[A-Za-z0-9\-._~%&=,]*)?", request.target)
        assert request.target.count("/") == 2 + ("/p/" in request.target)
        assert not any(set(name + value) & set("\r\n\0") for name, value in request.headers)
        assert request.body is not None
        assert request.body == b"" or decode_value(request.body) is not None
        if request.target == "/v2/raw":
            assert request.body is raw


ANYTHING = [
    method(MethodSpec(name="any.raw", provider="acme", request="POST /raw")),
    method(MethodSpec(name="any.left", provider="acme", request="POST /p/{a}{?b,c*}")),
    method(
        MethodSpec(name="any.header", provider="acme", request="POST /h", headers={"X": "=params.a", "Y": "=to_string(params.b)"})
    ),
    method(
        MethodSpec(
            name="any.body",
            provider="acme",
            request="POST /b",
            query={"q": "=params.a"},
            body={"x": "=params.b", "y": ["=params.c.d", "=params"]},
        )
    ),
    method(MethodSpec(name="any.sum", provider="acme", request="POST /s", body="=sum(params.a) && max_by(params.b, &c)")),
]


def test_what_a_closed_schema_does_not_have_is_said_and_the_method_works() -> None:
    narrow = {**SCHEMA, "properties": {"account": {"type": "string"}, "amount": {"type": "integer", "minimum": 1}}}
    made, problems = compile_method(replace(CHARGE, params=narrow), ACME)
    assert [(problem.path, problem.warning) for problem in problems] == [
        ('methods."acme.charge".request', True),
        ('methods."acme.charge".body.metadata', True),
    ]
    assert made is not None
    assert made.render({"account": "a", "amount": 1}, b"", CallInfo(id="c")).body == b'{"amount":1,"currency":"eur"}'


def test_the_first_thing_wrong_is_told_or_how_many_there_are() -> None:
    one, other = ParamError("/a", "is no number"), ParamError("", "b is missing")
    refused = invalid_params((one,))
    assert (refused.reason, refused.executed, refused.message, refused.errors) == (
        "invalid_params",
        "no",
        "/a: is no number",
        (one,),
    )
    assert invalid_params((other,)).message == "params: b is missing"
    assert invalid_params((one, other)).message.startswith("2 things are wrong")
