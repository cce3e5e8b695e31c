"""What a gateway lets in, for how long, and how it says no."""

import hashlib
import http.client
import json
import threading
from pathlib import Path

import pytest

from homing.core.machine import Learn
from homing.core.messages import MethodOffer
from tests.serving import Answer, Asked, Serving

KEY = "hk_" + "A" * 43
OTHER = "hk_" + "B" * 43
THIRD = "hk_" + "C" * 43


def sha256(key: str) -> str:
    return "sha256:" + hashlib.sha256(key.encode()).hexdigest()


HOUSE = f"""
[gateway]
anonymous = ["open.*"]
deadline = {{ default = "5s", max = "8s" }}
batch_length_max = 5
in_flight_max = 3
origins = ["https://shop.example"]

[principals.webshop]
api_key_hash = ["{sha256(KEY)}", "{sha256(OTHER)}"]
methods = ["acme.charge", "acme.list*", "open.*"]
in_flight_max = 2

[principals."slow@shop.example"]
api_key_hash = "{sha256(THIRD)}"
methods = ["acme.*"]
rate = {{ limit = 1, per = "1h", burst = 2 }}

[providers.acme]
base_url = "{{provider}}"

[methods."acme.charge"]
provider = "acme"
request = "POST /charge"
deadline = "7s"
positional = ["account", "amount"]
[methods."acme.charge".params]
required = ["account"]
additionalProperties = false
properties.account.type = "string"
properties.amount = {{ type = "integer", minimum = 1 }}

[methods."acme.list_all"]
provider = "acme"
effect = "safe"
request = "GET /list"
params = {{ additionalProperties = false }}

[methods."acme.keyed"]
provider = "acme"
effect = "keyed"
idempotency_key = {{ header = "Key", required = true, lifetime = "1h" }}
request = "POST /keyed"

[methods."open.item"]
provider = "acme"
effect = "safe"
request = "GET /items/{{id}}"
positional = ["id"]

[methods."open.echo"]
provider = "acme"
effect = "safe"
request = "POST /echo"
"""


@pytest.fixture
def homing(tmp_path: Path) -> Serving:
    return Serving(HOUSE, tmp_path, lambda asked: Answer(body={}))


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def test_no_key_is_401_but_for_open_methods(homing: Serving) -> None:
    with homing:
        refused = homing.call("acme.charge", {"account": "a"}, id="x")
        assert (refused.status, refused.json["id"], refused.data["reason"]) == (401, "x", "unauthenticated")
        assert refused.headers["www-authenticate"].startswith("Bearer")
        assert refused.headers["homing-executed"] == "no"
        assert homing.call("open.echo", {}).result == {}


def test_a_wrong_key_is_401_even_where_none_is_needed(homing: Serving) -> None:
    with homing:
        assert homing.call("open.echo", {}, **bearer("hk_" + "Z" * 43)).status == 401


@pytest.mark.parametrize("header", [{"Homing_Timeout": "soon"}, {"Idempotency_Key": "k" * 10_000}])
def test_a_wrong_key_is_401_whatever_else_is_wrong(header: dict[str, str], homing: Serving) -> None:
    with homing:
        assert homing.call("open.echo", {}, **bearer(KEY), **header).error["code"] == -32600
        assert homing.call("open.echo", {}, **bearer("hk_" + "Z" * 43), **header).status == 401


def test_what_a_stranger_sends_as_params_is_not_read(homing: Serving) -> None:
    body = b'{"jsonrpc":"2.0","id":1,"method":"%b","params":{"a":1e9999}}'
    with homing:
        assert homing.post(body % b"open.echo").error["code"] == -32600  # as its number is too long
        assert homing.post(body % b"open.echo", **bearer(KEY)).error["code"] == -32600
        assert homing.post(body % b"open.echo", **bearer("hk_" + "Z" * 43)).status == 401
        assert homing.post(b"[%b]" % (body % b"open.echo"), **bearer("hk_" + "Z" * 43)).status == 401


def test_both_keys_of_a_rotation_open_what_the_patterns_name(homing: Serving) -> None:
    with homing:
        for key in (KEY, OTHER):
            assert homing.call("acme.charge", {"account": "a"}, **bearer(key)).result == {}
            assert homing.call("acme.list_all", **bearer(key)).result == {}
            refused = homing.call("acme.keyed", {}, **bearer(key))
            assert (refused.status, refused.error["code"], refused.data["executed"]) == (403, 4030, "no")


def test_errors_lead_into_the_params_as_they_were_sent(homing: Serving) -> None:
    with homing:
        for params, path in (({"account": 5}, "/account"), ([5], "/0"), (["a", 0], "/1")):
            refused = homing.call("acme.charge", params, **bearer(KEY))
            assert ([error["path"] for error in refused.data["errors"]], refused.error["code"]) == ([path], -32602)
            assert refused.error["message"].startswith(path)
        for item, path in (({"id": ".."}, "/id"), ([".."], "/0")):  # which only whoever makes the request finds out
            refused = homing.call("open.item", item)
            assert [error["path"] for error in refused.data["errors"]] == [path]


def test_a_method_that_is_not_there(homing: Serving) -> None:
    with homing:
        reply = homing.call("acme.nothing", **bearer(KEY))
        assert (reply.status, reply.error["code"]) == (200, -32601)
        assert homing.call("open.nothing").error["code"] == -32601


def test_params_are_checked_with_paths(homing: Serving) -> None:
    with homing:
        data = homing.call("acme.charge", {"account": 7, "amount": 0}, **bearer(KEY)).data
        assert {each["path"] for each in data["errors"]} == {"/account", "/amount"}
        assert data["executed"] == "no"
        assert homing.call("acme.charge", ["a1", 12], **bearer(KEY)).result == {}
        assert homing.call("acme.list_all", [1], **bearer(KEY)).error["code"] == -32602
    assert homing.provider.log[0].json == {"account": "a1", "amount": 12}


def test_one_principals_in_flight_limit(tmp_path: Path) -> None:
    held, release = threading.Semaphore(0), Answer(body={}, after_s=1.0)

    def provide(asked: Asked) -> Answer:
        held.release()
        return release

    with Serving(HOUSE, tmp_path, provide) as homing:
        callers = [threading.Thread(target=homing.call, args=("acme.list_all",), kwargs=bearer(KEY)) for _ in range(2)]
        for caller in callers:
            caller.start()
            assert held.acquire(timeout=5)
        refused = homing.call("acme.list_all", **bearer(KEY))
        assert (refused.status, refused.data["reason"]) == (503, "overloaded")
        assert refused.data["limit"] == "principals.webshop.in_flight_max"
        assert int(refused.headers["retry-after"]) >= 1
        callers.append(threading.Thread(target=homing.call, args=("open.echo",)))
        callers[-1].start()
        assert held.acquire(timeout=5)
        assert homing.call("open.echo").data["limit"] == "gateway.in_flight_max"
        for caller in callers:
            caller.join()


def test_one_principals_rate(homing: Serving) -> None:
    with homing:
        for _ in range(2):
            assert homing.call("acme.list_all", **bearer(THIRD)).status == 200
        refused = homing.call("acme.list_all", **bearer(THIRD))
        assert (refused.status, refused.data["reason"], refused.data["retry"]) == (429, "rate_limited", "safe")
        assert refused.data["limit"] == 'principals."slow@shop.example".rate'
        assert 3_500_000 < refused.data["retry_after_ms"] <= 3_600_000
        assert int(refused.headers["retry-after"]) >= 3500


@pytest.mark.parametrize(
    ("header", "meta", "granted_ms"),
    [
        (None, None, 7000),
        ("2.5", None, 2500),
        ("2.5", {"timeout": 1}, 2500),
        (None, {"timeout": 1.25}, 1250),
        ("100", None, 8000),
        ("0.001", None, 100),
    ],
)
def test_how_long_a_call_may_take(header: str | None, meta: object, granted_ms: int, homing: Serving) -> None:
    body = {"jsonrpc": "2.0", "id": 1, "method": "acme.charge", "params": {"account": "a"}}
    with homing:
        extra = {} if header is None else {"Homing_Timeout": header}
        whole = body if meta is None else {**body, "meta": meta}
        reply = homing.post(json.dumps(whole).encode(), **bearer(KEY), **extra)
    assert reply.headers["homing-deadline-ms"] == str(granted_ms)


def test_a_timeout_for_clients_that_can_add_nothing_else(homing: Serving) -> None:
    with homing:
        params = {"account": "a", "_meta": {"homing": {"timeout": 3}}}
        reply = homing.call("acme.charge", params, **bearer(KEY))
    assert reply.headers["homing-deadline-ms"] == "3000"
    assert homing.provider.log[0].json == {"account": "a"}


@pytest.mark.parametrize("timeout", ["0", "-1", "soon", "nan", "inf", "", "1e3", "0x10"])
def test_a_timeout_that_is_none(timeout: str, homing: Serving) -> None:
    with homing:
        reply = homing.call("acme.charge", {"account": "a"}, **bearer(KEY), Homing_Timeout=timeout)
    assert (reply.status, reply.error["code"], reply.data["executed"], reply.json["id"]) == (200, -32600, "no", 1)
    assert homing.provider.log == []


def test_idempotency_keys(homing: Serving) -> None:
    with homing:
        missing = homing.call("acme.keyed", {}, **bearer(THIRD))
        assert (missing.error["code"], missing.data["executed"]) == (-32602, "no")
        wrong = homing.call("acme.keyed", {}, **bearer(THIRD), Idempotency_Key='"open')
        assert wrong.error["code"] == -32600
        quoted = homing.call("acme.keyed", {}, **bearer(THIRD), Idempotency_Key='"order-17"')
        assert quoted.result == {}
        body = json.dumps([{"jsonrpc": "2.0", "id": 1, "method": "acme.keyed"}]).encode()
        batch = homing.post(body, **bearer(THIRD), Idempotency_Key="order-17")
        assert (batch.json["error"]["code"] if isinstance(batch.json, dict) else batch.json[0]["error"]["code"]) == -32600


def test_the_key_comes_back_with_what_may_be_repeated_under_it(tmp_path: Path) -> None:
    with Serving(HOUSE, tmp_path, lambda asked: Answer(drop=True)) as homing:
        data = homing.call("acme.keyed", {}, **bearer(THIRD), Idempotency_Key="order-17").data
    assert (data["retry"], data["idempotency_key"]) == ("same_key", "order-17")
    assert 3_500_000 < data["key_expires_ms"] <= 3_600_000


def test_a_batch_over_the_limit_is_one_array_with_one_error(homing: Serving) -> None:
    with homing:
        reply = homing.post(b"[" + b",".join([b"1"] * 6) + b"]")
    assert reply.status == 413
    assert [each["error"]["code"] for each in reply.json] == [4130]
    assert reply.json[0]["error"]["data"]["limit"] == "gateway.batch_length_max"


def test_a_batch_refused_as_a_whole_has_the_status_of_its_reason(homing: Serving) -> None:
    call = {"jsonrpc": "2.0", "id": 1, "method": "acme.list_all"}
    with homing:
        assert homing.post(json.dumps([call, call]).encode()).status == 401
        mixed = homing.post(json.dumps([call, {**call, "method": "open.echo"}]).encode())
        assert (mixed.status, mixed.headers["homing-errors"]) == (200, "1")
        notifications = [{"jsonrpc": "2.0", "method": "open.echo"}] * 2
        assert homing.post(json.dumps(notifications).encode()).status == 204


def test_an_allowed_page_may_call_and_a_foreign_one_not(homing: Serving) -> None:
    with homing:
        allowed = homing.call("open.echo", {}, Origin="https://shop.example")
        assert allowed.headers["access-control-allow-origin"] == "https://shop.example"
        assert homing.call("open.echo", {}, Origin="https://evil.example").status == 403
        refused = homing.call("open.echo", {"text": "x" * 2_000_000}, Origin="https://shop.example")
        assert (refused.status, refused.headers["access-control-allow-origin"]) == (413, "https://shop.example")
        preflight = homing.request("OPTIONS", "/rpc", headers={"Origin": "https://shop.example"})
        assert (preflight.status, preflight.body) == (204, b"")


def test_a_page_may_read_an_answer_whose_head_left_with_a_heartbeat(tmp_path: Path) -> None:
    house = HOUSE.replace("[gateway]", '[gateway]\nheartbeat = "100ms"', 1)
    call = {"jsonrpc": "2.0", "id": 1, "method": "open.echo"}
    with Serving(house, tmp_path, lambda asked: Answer(body={}, after_s=0.5)) as homing:
        for body in (call, [call, call]):
            for headers in ({"Origin": "https://shop.example"}, {}):
                answer = homing.post(json.dumps(body).encode(), **headers)
                assert answer.headers["transfer-encoding"] == "chunked"
                assert answer.headers.get("access-control-allow-origin") == headers.get("Origin")
                assert ("homing-call-id" in answer.headers) == isinstance(body, dict)


def test_health_on_the_callers_listener(homing: Serving) -> None:
    with homing:
        assert homing.request("GET", "/livez").status == 200
        assert homing.request("GET", "/readyz").body == b""
        for method in ("POST", "OPTIONS", "DELETE"):
            wrong = homing.request(method, "/readyz", b"")
            assert (wrong.status, wrong.headers["allow"], wrong.headers["homing-executed"]) == (405, "GET, HEAD", "no")
        homing.process.front.gateway.ready = False
        for path, status, said in (("/readyz", 503, "no"), ("/livez", 200, None)):
            answer = homing.request("GET", path)
            assert (answer.status, answer.headers.get("homing-executed"), answer.body) == (status, said, b"")


def test_what_is_no_call_is_counted(homing: Serving) -> None:
    with homing:
        listener = homing.process.front.listener
        for count, (method, path, fields, status) in enumerate(
            [
                ("POST", "/elsewhere", {}, 404),
                ("GET", "/rpc", {}, 405),
                ("POST", "/rpc", {"Origin": "https://evil.example"}, 403),
                ("POST", "/rpc", {"Content-Type": "text/plain"}, 415),
                ("POST", "/rpc", {"Expect": "more"}, 417),
            ],
            start=1,
        ):
            assert homing.request(method, path, b"", fields).status == status
            assert listener.refused == count
        assert homing.call("open.echo").result == {}
        assert homing.request("OPTIONS", "/rpc").status == 204
        assert listener.refused == count
        assert homing.request("GET", "/nothing").status == 404
        assert homing.request("GET", "/rpc").headers["allow"] == "POST, OPTIONS"


def test_every_call_has_its_line_and_no_secret_is_in_it(homing: Serving) -> None:
    with homing:
        homing.call("acme.charge", {"account": "s3cret"}, **bearer(KEY))
        homing.call("acme.charge", {"account": 1}, **bearer(KEY))
    lines = [line for line in homing.log_lines() if line["event"] == "call"]
    assert [(line["principal"], line["method"], line["reason"]) for line in lines] == [
        ("webshop", "acme.charge", "ok"),
        ("webshop", "acme.charge", "invalid_params"),
    ]
    text = json.dumps(lines)
    assert "s3cret" not in text
    assert KEY not in text


def learn(homing: Serving, *offers: MethodOffer) -> None:
    async def act() -> None:
        homing.process.gateway.act(Learn(offers))

    homing.on_loop(act)


def test_what_workers_offer_is_called_like_anything_else_until_it_is_gone(homing: Serving) -> None:
    build = MethodOffer("acme.report", "reports", "safe", 200, params=b'{"required":["year"]}', positional=("year",))
    with homing:
        assert homing.call("acme.report", {}, **bearer(THIRD)).data["reason"] == "method_not_found"
        learn(homing, build)
        assert homing.call("acme.report", {}, **bearer(THIRD)).data["errors"][0]["path"] == ""
        queued = homing.call("acme.report", [2026], **bearer(THIRD))
        assert (queued.data["reason"], queued.data["timeout_ms"]) == ("expired", 200), "validated, and nobody is there to do it"
        learn(homing)
        assert homing.call("acme.report", [2026], **bearer(THIRD)).data["reason"] == "method_not_found"
    assert [line["message"] for line in homing.log_lines() if line["event"] == "learnt"] == [
        "Workers offer acme.report.",
        "Workers offer no methods of their own.",
    ]


def test_what_is_configured_is_not_for_workers_to_change(homing: Serving) -> None:
    with homing:
        learn(homing, MethodOffer("open.echo", "elsewhere", params=b'{"required":["year"]}'))
        assert homing.call("open.echo", {}).result == {}


def test_on_one_connection_nothing_stale_is_remembered(homing: Serving) -> None:
    """The head of a request is known again on its connection, and a principal's methods are too."""
    body = b'{"jsonrpc":"2.0","id":1,"method":"acme.report","params":{}}'
    headers = {"Content-Type": "application/json", **bearer(THIRD)}
    with homing:
        connection = http.client.HTTPConnection("127.0.0.1", homing.port, timeout=30)

        def asked() -> str:
            connection.request("POST", "/rpc", body, headers)
            return str(json.loads(connection.getresponse().read())["error"]["data"]["reason"])

        learn(homing, MethodOffer("acme.report", "reports", params=b'{"required":["year"]}'))
        assert [asked(), asked()] == ["invalid_params", "invalid_params"]
        learn(homing, MethodOffer("acme.report", "reports", timeout_ms=100))
        assert asked() in ("expired", "rate_limited")
        learn(homing)
        assert asked() == "method_not_found"
        connection.close()
