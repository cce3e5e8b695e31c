"""The clients' promise on their own leg, over real sockets; every test runs on `Client` and on `AsyncClient`."""

import json
import pickle
import subprocess
import sys

import msgspec
import pytest

import homing
import homing.client
from homing import AsyncClient, CallError, Client, Executed, NotExecuted, OutcomeUnknown
from tests.scripted_gateway import Either, ScriptedGateway, Visit, each, error, joined, response, result

KINDS = ["blocking", "asyncio"]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


def refuse(reason: str, code: int, status: int = 200, **data: object):
    """Answer with an error that proves nothing was executed, as a gateway does."""
    said = {"reason": reason, "executed": "no", "retry": "safe", "call_id": "c" * 32} | data
    headers = [("Homing-Executed", "no"), ("Homing-Reason", reason)]
    return lambda request: error(request, code, "Not now.", said, status, headers if status != 200 else ())


# What is asked


def test_a_call_brings_home_its_result(kind: str) -> None:
    with joined(kind, each(lambda request: result(request, {"charge": 7})), api_key="hk_secret") as (client, gateway):
        assert client.call("acme.charge", {"amount": 1200}, timeout=30, idempotency_key="order-17") == {"charge": 7}
    (request,) = gateway.requests
    assert request.head.startswith(b"POST /rpc HTTP/1.1\r\nHost: 127.0.0.1:")
    assert request.header("authorization") == "Bearer hk_secret"
    assert request.header("content-type") == "application/json"
    assert request.header("idempotency-key") == "order-17"
    assert 29 < float(request.header("homing-timeout") or 0) <= 30
    asked = json.loads(request.body)
    assert asked == {"jsonrpc": "2.0", "method": "acme.charge", "params": {"amount": 1200}, "id": request.id}
    assert len(request.id) > 32


def test_without_a_timeout_the_methods_own_deadline_holds(kind: str) -> None:
    with joined(kind, each(result)) as (client, gateway):
        client.call("acme.charge")
    (request,) = gateway.requests
    assert request.header("homing-timeout") is None
    assert "params" not in json.loads(request.body)
    assert request.header("authorization") is None


def test_a_key_that_no_header_can_carry_travels_in_the_body(kind: str) -> None:
    with joined(kind, each(result)) as (client, gateway):
        client.call("acme.charge", {}, idempotency_key='Auftrag "17"\r\nX: ü')
    (request,) = gateway.requests
    assert request.header("idempotency-key") is None
    assert json.loads(request.body)["meta"] == {"idempotency_key": 'Auftrag "17"\r\nX: ü'}


def test_numbers_survive(kind: str) -> None:
    def echo(request):
        return response(
            b'{"jsonrpc":"2.0","id":"%s","result":%s}' % (request.id.encode(), msgspec.json.encode(request.json["params"]))
        )

    numbers = {"big": 2**200 + 1, "negative": -(10**40), "float": 0.1}
    with joined(kind, each(echo)) as (client, _):
        assert client.call("echo", numbers) == numbers


def test_a_result_comes_as_the_type_that_is_asked_for(kind: str) -> None:
    class Charge(msgspec.Struct):
        id: str
        amount: float

    body = b'{"jsonrpc":"2.0","id":"%s","result":{"id":"ch_1", "amount":1E2}}'
    with joined(kind, each(lambda request: response(body % request.id.encode()))) as (client, _):
        assert client.call("acme.charge", result_type=Charge) == Charge("ch_1", 100.0)
        assert bytes(client.call("acme.charge", result_type=msgspec.Raw)) == b'{"id":"ch_1", "amount":1E2}'
        caught = client.error("acme.charge", result_type=int)
    assert isinstance(caught, Executed)
    assert (caught.reason, caught.code, caught.retry) == ("response_invalid", 5022, "unsafe")
    assert caught.body == '{"id":"ch_1", "amount":1E2}'


def test_what_a_type_raises_does_not_hide_that_the_call_was_carried_out(kind: str) -> None:
    class Charge(msgspec.Struct):
        id: str

        def __post_init__(self) -> None:
            raise KeyError(self.id)

    with joined(kind, each(lambda request: result(request, {"id": "ch_1"}))) as (client, _):
        caught = client.error("acme.charge", result_type=Charge)
    assert isinstance(caught, Executed)
    assert isinstance(caught.__cause__, KeyError)


def test_a_number_beyond_a_float_is_not_bent(kind: str) -> None:
    body = b'{"jsonrpc":"2.0","id":"%s","result":1e400}'
    with joined(kind, each(lambda request: response(body % request.id.encode()))) as (client, _):
        caught = client.error("acme.charge")
        assert bytes(client.call("acme.charge", result_type=msgspec.Raw)) == b"1e400"
    assert isinstance(caught, Executed)


@pytest.mark.parametrize(
    ("method", "params", "options", "wrong"),
    [
        ("m", 7, {}, TypeError),
        ("m", "text", {}, TypeError),
        ("m", {"x": float("nan")}, {}, ValueError),
        ("m", {"x": object()}, {}, TypeError),
        ("m", {"x": "\ud800"}, {}, ValueError),
        (b"m", None, {}, TypeError),
        ("m", None, {"idempotency_key": 17}, TypeError),
        ("m", None, {"timeout": 0}, ValueError),
        ("m", None, {"timeout": -1}, ValueError),
        ("m", None, {"timeout": float("inf")}, ValueError),
        ("m", None, {"timeout": 10**400}, ValueError),
        ("m", None, {"timeout": "5"}, TypeError),
        ("m", None, {"retries": -1}, ValueError),
        ("m", None, {"result_type": list[int] | set[int]}, TypeError),
    ],
)
def test_what_cannot_be_asked_is_said_before_anything_is_sent(kind: str, method, params, options, wrong) -> None:
    with joined(kind, each(result)) as (client, gateway):
        with pytest.raises(wrong):
            client.call(method, params, **options)
        assert gateway.visits == 0


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("127.0.0.1:8370", {}),
        ("ftp://127.0.0.1", {}),
        ("http://", {}),
        ("http://user:secret@127.0.0.1", {}),
        ("http://127.0.0.1/\r\nX: y", {}),
        ("http://127.0.0.1/ü", {}),
        ("http://127.0.0.1:99999", {}),
        ("http://127.0.0.1/#rpc", {}),
        ("http://127.0.0.1", {"api_key": "hk_\r\nX: y"}),
        ("http://127.0.0.1", {"ca": "ca.pem"}),
        ("http://127.0.0.1", {"timeout": 0}),
        ("http://127.0.0.1", {"retries": -1}),
        ("http://127.0.0.1", {"connect_timeout": 0}),
    ],
)
@pytest.mark.parametrize("client", [Client, AsyncClient])
def test_what_cannot_work_is_said_at_once(client, url: str, options) -> None:
    with pytest.raises(ValueError):
        client(url, **options)


@pytest.mark.parametrize("call", ["acme.charge", ("m",), {"method": "m"}, ("m", None, "k", "service"), 5])
def test_a_call_of_a_batch_has_a_method_and_params(kind: str, call) -> None:
    with joined(kind, each(result)) as (client, gateway):
        with pytest.raises(TypeError, match=r"^a call of a batch is \(method, params\) or "):
            client.batch([("m", None), call])
        assert gateway.visits == 0


def test_certificates_that_are_not_there_are_named() -> None:
    with pytest.raises(FileNotFoundError, match=r"'/nowhere/ca\.pem'"):
        Client("https://127.0.0.1", ca="/nowhere/ca.pem")


def test_the_calls_of_a_batch_may_come_from_anything_that_has_them(kind: str) -> None:
    def answer(request):
        return answered(*({"id": asked["id"], "result": asked["params"]} for asked in members(request)))

    with joined(kind, each(answer)) as (client, _):
        assert client.batch(("m", [number]) for number in range(3)) == [[0], [1], [2]]


def test_what_is_known_when_a_client_is_closed_between_two_attempts_is_told(kind: str) -> None:
    data = {"reason": "overloaded", "executed": "no", "retry": "safe", "retry_after_ms": 1}

    def answer(request):
        asked = members(request)
        link.__dict__["_closed"] = True  # somebody else closes it, on another thread or task
        later = {"code": 5030, "message": "m", "data": data}
        return answered({"id": asked[0]["id"], "result": 1}, {"id": asked[1]["id"], "error": later})

    with joined(kind, each(answer)) as (client, gateway):
        link = client.client._link
        first, second = client.batch([("m", None), ("m", None)], timeout=20)
        assert gateway.visits == 1
    assert first == 1
    assert isinstance(second, NotExecuted)


def test_a_closed_client_makes_no_calls(kind: str) -> None:
    with joined(kind, each(result)) as (client, gateway):
        client.call("m")
        client.close()
        with pytest.raises(RuntimeError, match="closed"):
            client.call("m")
        assert gateway.visits == 1


def test_the_environment_says_where_and_with_which_key(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with ScriptedGateway(each(result)) as gateway:
        monkeypatch.setenv("HOMING_URL", gateway.url + "/rpc?tenant=a")
        monkeypatch.setenv("HOMING_API_KEY", "hk_env")
        with Either(kind, None) as client:
            client.call("m")
        with Either(kind, None, api_key="") as client:
            client.call("m")
    first, second = gateway.requests
    assert first.head.startswith(b"POST /rpc?tenant=a HTTP/1.1")
    assert first.header("authorization") == "Bearer hk_env"
    assert second.header("authorization") is None


def test_a_client_does_not_show_its_api_key() -> None:
    with Client(api_key="hk_secret") as client:
        assert repr(client) == "Client('http://127.0.0.1:8370/rpc')"


# What an answer proves


def test_an_error_arrives_with_all_it_says(kind: str) -> None:
    attempt = {"provider": "acme", "started_ms": 3, "duration_ms": 900, "reason": "provider_failed", "executed": "unknown"}
    data = {
        "reason": "provider_failed",
        "executed": "unknown",
        "retry": "same_key",
        "call_id": "a" * 32,
        "idempotency_key": "a" * 32,
        "attempts": [attempt],
        "retry_after_ms": 1500,
        "status": 500,
        "body": {"message": "oops"},
    }
    with joined(kind, each(lambda request: error(request, 5024, "The provider failed.", data))) as (client, gateway):
        caught = client.error("acme.charge")
    assert isinstance(caught, OutcomeUnknown)
    assert (caught.code, caught.message, caught.reason) == (5024, "The provider failed.", "provider_failed")
    assert (caught.executed, caught.retry, caught.retry_after) == ("unknown", "same_key", 1.5)
    assert (caught.call_id, caught.idempotency_key, caught.attempts) == ("a" * 32, "a" * 32, [attempt])
    assert (caught.status, caught.body, caught.data) == (500, {"message": "oops"}, data)
    assert len(gateway.requests) == 1
    copy = pickle.loads(pickle.dumps(caught))
    assert type(copy) is OutcomeUnknown
    assert vars(copy) == vars(caught)


@pytest.mark.parametrize(
    ("executed", "header", "status", "expected"),
    [
        ("no", None, 200, NotExecuted),
        ("no", "no", 503, NotExecuted),
        (None, "no", 503, NotExecuted),
        (None, "no", 200, NotExecuted),
        ("yes", None, 200, Executed),
        ("no", "unknown", 200, OutcomeUnknown),
        ("no", "yes", 200, Executed),
        ("unknown", "no", 200, OutcomeUnknown),
        (None, None, 200, OutcomeUnknown),
        (None, None, 503, OutcomeUnknown),
        ("perhaps", None, 200, OutcomeUnknown),
        ([], None, 200, OutcomeUnknown),
        (None, "No", 503, OutcomeUnknown),
    ],
)
def test_no_and_yes_need_proof(kind: str, executed, header, status, expected) -> None:
    data = {"reason": "forbidden", "retry": "pointless"} | ({} if executed is None else {"executed": executed})
    headers = [] if header is None else [("Homing-Executed", header)]
    with joined(kind, each(lambda request: error(request, 4030, "No.", data, status, headers))) as (client, _):
        caught = client.error("m")
    assert type(caught) is expected
    assert caught.code == 4030


@pytest.mark.parametrize("status", [301, 400, 404, 413, 429, 500, 502, 503, 504])
@pytest.mark.parametrize(
    "body", [b"<html>Bad Gateway</html>", b"", b'{"error":"bad gateway"}', b'{"jsonrpc":"2.0","id":null,"result":1}']
)
def test_a_proxys_own_answer_proves_nothing(kind: str, status: int, body: bytes) -> None:
    with joined(kind, each(lambda request: response(body, status, [("Retry-After", "0")]))) as (client, gateway):
        caught = client.error("m", idempotency_key="order-17")
    assert type(caught) is OutcomeUnknown
    assert (caught.code, caught.reason, caught.status, caught.retry) == (5024, "provider_failed", status, "unsafe")
    assert caught.idempotency_key == "order-17"
    assert isinstance(caught.data, dict)
    assert caught.data["leg"] == "gateway"
    assert len(gateway.requests) == 1


def test_a_refusal_whose_page_a_proxy_replaced_is_still_proven(kind: str) -> None:
    headers = [
        ("Homing-Executed", "no"),
        ("Homing-Reason", "forbidden"),
        ("Homing-Retry", "pointless"),
        ("Homing-Call-Id", "e" * 32),
    ]
    with joined(kind, each(lambda request: response(b"<html>", 403, headers))) as (client, _):
        caught = client.error("m")
    assert type(caught) is NotExecuted
    assert (caught.code, caught.reason, caught.retry, caught.call_id) == (4030, "forbidden", "pointless", "e" * 32)
    assert (caught.status, caught.body) == (403, "<html>")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"done",
        b"[]",
        b"null",
        b'"done"',
        b'{"jsonrpc":"2.0","id":"$ID"}',
        b'{"jsonrpc":"2.0","id":"$ID","result":1,"error":{"code":1,"message":"m"}}',
        b'{"jsonrpc":"1.0","id":"$ID","result":1}',
        b'{"id":"$ID","result":1}',
        b'{"jsonrpc":"2.0","result":1}',
        b'{"jsonrpc":"2.0","id":null,"result":1}',
        b'{"jsonrpc":"2.0","id":1,"result":1}',
        b'{"jsonrpc":"2.0","id":"other","result":1}',
        b'{"jsonrpc":"2.0","id":"other","error":{"code":4030,"message":"m","data":{"executed":"no"}}}',
        b'{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":"m"}}',
        b'{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":"m","data":{"executed":"yes"}}}',
        b'{"jsonrpc":"2.0","id":"$ID","error":{"code":"4030","message":"m","data":{"executed":"no"}}}',
        b'{"jsonrpc":"2.0","id":"$ID","error":{"code":4030,"data":{"executed":"no"}}}',
        b'{"jsonrpc":"2.0","id":"$ID","error":null}',
        b'[{"jsonrpc":"2.0","id":"$ID","result":1}]',
        b'{"jsonrpc":"2.0","id":"$ID","result":1}}',
        b'{"jsonrpc":"2.0","id":"$ID","result":1',
        b'{"jsonrpc":"2.0","id":"$ID","result":"\xff"}',
        b'{"jsonrpc":"2.0","id":"$ID","result":' + b"[" * 5000 + b"]" * 5000 + b"}",
    ],
)
def test_what_is_no_answer_to_this_call_is_unknown(kind: str, body: bytes) -> None:
    with joined(kind, each(lambda request: response(body.replace(b"$ID", request.id.encode())))) as (client, gateway):
        caught = client.error("m")
    assert type(caught) is OutcomeUnknown
    assert (caught.code, caught.reason, caught.status) == (5022, "response_invalid", 200)
    assert len(gateway.requests) == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"nonsense\r\n\r\n",
        b"HTTP/2.0 200 OK\r\nHoming-Executed: no\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_what_is_no_http_is_unknown(kind: str, answer: bytes) -> None:
    def script(visit: Visit) -> None:
        visit.request()
        visit.send(answer)
        visit.gone()

    with joined(kind, script) as (client, _):
        caught = client.error("m")
    assert type(caught) is OutcomeUnknown
    assert caught.reason == "response_invalid"


def test_a_refusal_without_an_id_counts_with_its_proof(kind: str) -> None:
    body = (
        b'{"jsonrpc":"2.0","id":null,"error":{"code":4130,"message":"Too large.","data":{"executed":"no","reason":"too_large"}}}'
    )
    with joined(kind, each(lambda request: response(body, 413, [("Homing-Executed", "no")]))) as (client, _):
        caught = client.error("m")
    assert type(caught) is NotExecuted
    assert (caught.code, caught.reason) == (4130, "too_large")


# Asking again


@pytest.mark.parametrize(
    ("reason", "code", "status"),
    [
        ("overloaded", 5030, 503),
        ("draining", 5032, 503),
        ("no_worker", 5031, 503),
        ("rate_limited", 4290, 429),
        ("circuit_open", 5033, 200),
    ],
)
def test_what_nobody_attempted_is_asked_again(kind: str, reason: str, code: int, status: int) -> None:
    refused = refuse(reason, code, status, retry_after_ms=10)
    left = [refused, refused]
    with joined(kind, each(lambda request: left.pop()(request) if left else result(request, "at last"))) as (client, gateway):
        assert client.call("m", {"a": 1}, timeout=10) == "at last"
    assert len(gateway.requests) == 3
    told = [float(request.header("homing-timeout") or 0) for request in gateway.requests]
    assert told == sorted(told, reverse=True)
    assert told[0] > told[2]
    assert len({request.body for request in gateway.requests}) == 1


def test_the_count_of_retries_is_bounded(kind: str) -> None:
    with joined(kind, each(refuse("overloaded", 5030, 503, retry_after_ms=1)), retries=3) as (client, gateway):
        assert client.error("m").reason == "overloaded"
        assert len(gateway.requests) == 4
        assert client.error("m", retries=0).reason == "overloaded"
        assert len(gateway.requests) == 5


def test_a_retry_that_does_not_fit_is_not_waited_for(kind: str) -> None:
    with joined(kind, each(refuse("overloaded", 5030, 503, retry_after_ms=30_000))) as (client, gateway):
        caught = client.error("m", timeout=20)
    assert caught.retry_after == 30
    assert len(gateway.requests) == 1


@pytest.mark.parametrize(
    "answer",
    [
        refuse("provider_throttled", 4291, attempts=[{"provider": "acme", "executed": "no"}]),
        refuse("provider_unreachable", 5020, attempts=[{"provider": "acme", "executed": "no"}]),
        refuse("overloaded", 5030, 503, attempts=[{"provider": "acme", "executed": "no"}]),
        refuse("overloaded", 5030, 503, attempts={"a": "shape of a later version"}),
        refuse("overloaded", 5030, 503, retry="pointless"),
        refuse("forbidden", 4030, 403, retry="pointless"),
        refuse("expired", 5040),
        refuse("application", 1),
        refuse("overloaded", 5030, executed="unknown"),
    ],
)
def test_what_was_attempted_or_is_pointless_is_not_asked_again(kind: str, answer) -> None:
    with joined(kind, each(answer)) as (client, gateway):
        client.error("m")
    assert len(gateway.requests) == 1


# Batches and notifications


def members(request) -> list[dict[str, object]]:
    asked = json.loads(request.body)
    assert isinstance(asked, list)
    return asked


def answered(*answers: dict[str, object] | str, status: int = 200) -> bytes:
    return response(
        json.dumps([{"jsonrpc": "2.0"} | answer if isinstance(answer, dict) else answer for answer in answers]).encode(), status
    )


def test_a_batch_is_answered_in_its_own_order(kind: str) -> None:
    def answer(request):
        first, second, third = members(request)
        no = {"code": 4030, "message": "No.", "data": {"reason": "forbidden", "executed": "no", "retry": "pointless"}}
        return answered(
            {"id": third["id"], "result": 3}, {"id": second["id"], "error": no}, {"id": first["id"], "result": {"a": 2**70}}
        )

    with joined(kind, each(answer)) as (client, gateway):
        first, second, third = client.batch([("m", {"a": 1}), ("n", [1, 2], "order-17"), ("o", None)], timeout=5)
    assert (first, third) == ({"a": 2**70}, 3)
    assert type(second) is NotExecuted
    assert (second.reason, second.idempotency_key) == ("forbidden", "order-17")
    (request,) = gateway.requests
    assert request.header("idempotency-key") is None
    one, two, three = members(request)
    assert (one["method"], one["params"]) == ("m", {"a": 1})
    assert (two["params"], two["meta"]) == ([1, 2], {"idempotency_key": "order-17"})
    assert "params" not in three


def test_an_empty_batch_asks_nobody(kind: str) -> None:
    with joined(kind, each(result)) as (client, gateway):
        assert client.batch([]) == []
        assert gateway.visits == 0


@pytest.mark.parametrize(
    "surplus", ["junk", {"id": "other", "result": 1}, {"id": None, "error": {"code": -32600, "message": "m"}}]
)
def test_what_is_missing_in_a_batch_is_unknown(kind: str, surplus) -> None:
    def answer(request):
        first, _, third = members(request)
        twice = {"id": third["id"], "result": 3}
        return answered({"id": first["id"], "result": 1}, surplus, twice, twice)

    with joined(kind, each(answer)) as (client, _):
        first, second, third = client.batch([("m", None), ("m", None), ("m", None)])
    assert first == 1
    assert type(second) is type(third) is OutcomeUnknown
    assert second.reason == "response_invalid"


@pytest.mark.parametrize("as_list", [False, True])
def test_a_batch_refused_whole_is_refused_for_each(kind: str, as_list: bool) -> None:
    refusal = {
        "jsonrpc": "2.0",
        "id": None,
        "error": {"code": 4130, "message": "m", "data": {"reason": "too_large", "executed": "no"}},
    }
    body = json.dumps([refusal] if as_list else refusal).encode()
    with joined(kind, each(lambda request: response(body, 413))) as (client, gateway):
        answers = client.batch([("m", None), ("m", None)])
    assert [type(answer) for answer in answers] == [NotExecuted, NotExecuted]
    assert {answer.reason for answer in answers} == {"too_large"}
    assert len(gateway.requests) == 1


def test_a_refusal_of_one_says_nothing_of_a_batch(kind: str) -> None:
    body = b'{"jsonrpc":"2.0","id":null,"error":{"code":4030,"message":"m"}}'
    with joined(kind, each(lambda request: response(body, 200, [("Homing-Executed", "no")]))) as (client, _):
        answers = client.batch([("m", None), ("m", None)])
    assert [type(answer) for answer in answers] == [OutcomeUnknown, OutcomeUnknown]


def test_only_what_was_refused_of_a_batch_is_asked_again(kind: str) -> None:
    def answer(request):
        asked = members(request)
        if len(asked) == 1:
            return answered({"id": asked[0]["id"], "result": "at last"})
        data = {"reason": "overloaded", "executed": "no", "retry": "safe", "retry_after_ms": 5}
        later = {"code": 5030, "message": "m", "data": data}
        never = {"code": 5030, "message": "m", "data": data | {"retry_after_ms": 60_000}}
        return answered(
            {"id": asked[0]["id"], "result": 1}, {"id": asked[1]["id"], "error": later}, {"id": asked[2]["id"], "error": never}
        )

    with joined(kind, each(answer)) as (client, gateway):
        first, second, third = client.batch([("m", None), ("m", None, "k2"), ("m", None)], timeout=20)
    assert (first, second) == (1, "at last")
    assert third.retry_after == 60
    assert [len(members(request)) for request in gateway.requests] == [3, 1]
    assert members(gateway.requests[1])[0]["meta"] == {"idempotency_key": "k2"}


def test_a_lost_batch_is_unknown_for_each(kind: str) -> None:
    with joined(kind, Visit.request) as (client, _):
        answers = client.batch([("m", None), ("m", None, "k")])
    assert [type(answer) for answer in answers] == [OutcomeUnknown, OutcomeUnknown]
    assert [answer.idempotency_key for answer in answers] == [None, "k"]


def test_a_notification_returns_when_it_is_admitted(kind: str) -> None:
    with joined(kind, each(lambda request: b"HTTP/1.1 204 No Content\r\n\r\n")) as (client, gateway):
        client.notify("acme.log", {"text": "hello"}, timeout=5)
        client.notify("acme.log")
    assert "id" not in json.loads(gateway.requests[0].body)
    assert gateway.visits == 1


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (
            response(b'{"jsonrpc":"2.0","id":null,"error":{"code":4010,"message":"m"}}', 401, [("Homing-Executed", "no")]),
            NotExecuted,
        ),
        (response(b'{"jsonrpc":"2.0","id":null,"result":null}'), OutcomeUnknown),
        (response(b""), OutcomeUnknown),
        (response(b"<html>", 502), OutcomeUnknown),
    ],
)
def test_a_notification_that_was_not_admitted_says_so(kind: str, answer: bytes, expected) -> None:
    with joined(kind, each(lambda request: answer)) as (client, _), pytest.raises(CallError) as caught:
        client.notify("acme.log")
    assert type(caught.value) is expected


# The package


def test_importing_homing_imports_nothing_else() -> None:
    heavy = "print([name for name in ('msgspec', 'httptools', 'asyncio', 'ssl') if name in sys.modules])"
    program = f"import sys, homing; {heavy}; homing.Client; print('asyncio' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["[]", "False"]


def test_the_public_names_are_there() -> None:
    assert [getattr(homing, name) for name in homing.__all__]
    assert set(homing.__all__) <= set(dir(homing))
    assert homing.__version__.count(".") == 2
    with pytest.raises(AttributeError, match="no attribute 'Clinet'"):
        homing.Clinet  # noqa: B018
