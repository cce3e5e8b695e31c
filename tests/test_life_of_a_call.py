"""The life of a call over real sockets: what callers get for everything that can become of it."""

import json
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.serving import Answer, Asked, Serving

HOUSE = """
[gateway]
anonymous = ["*"]
deadline = { default = "10s", max = "20s" }

[providers.acme]
base_url = "{provider}/v1"
request_id_header = "request-id"

[methods."once.it"]
provider = "acme"
request = "POST /once"

[methods."keyed.it"]
provider = "acme"
effect = "keyed"
idempotency_key = { header = "Idempotency-Key", lifetime = "1h" }
request = "POST /keyed"

[methods."safe.it"]
provider = "acme"
effect = "safe"
request = "POST /safe"

[methods."found.it"]
provider = "acme"
request = "POST /once"
body = { reference = "=call.key" }
lookup = { request = "GET /lookup", query = { reference = "=call.key" }, found = "body.data[0]", reserve = "2s" }
[methods."found.it".params]
additionalProperties = true
"""


def test_a_result_is_the_providers_body_byte_for_byte(tmp_path: Path) -> None:
    body = b'{ "big": 123456789012345678901234567890, "f": 1.10, "e": 1e400,  "u": "\xc3\xa9" }'
    with Serving(HOUSE, tmp_path, lambda asked: Answer(body=body)) as homing:
        reply = homing.post(b'{"jsonrpc":"2.0","id":  "\\u0041-17" ,"method":"once.it"}')
    assert reply.body == b'{"jsonrpc":"2.0","id":"\\u0041-17","result":' + body + b"}"
    assert (reply.status, reply.headers["homing-reason"], reply.headers["homing-executed"]) == (200, "ok", "yes")
    assert len(reply.headers["homing-call-id"]) == 32
    assert reply.headers["homing-deadline-ms"] == "10000"


def test_params_reach_the_provider_as_they_came(tmp_path: Path) -> None:
    with Serving(HOUSE, tmp_path) as homing:
        homing.post(b'{"jsonrpc":"2.0","id":1,"method":"once.it","params":{"n":12345678901234567890123, "x":1.10}}')
    assert homing.provider.log[0].body == b'{"n":12345678901234567890123, "x":1.10}'
    assert homing.provider.log[0].path == "/v1/once"


@pytest.mark.parametrize(
    ("method", "requests", "executed", "retry"),
    [("once.it", 1, "unknown", "unsafe"), ("keyed.it", 3, "unknown", "same_key"), ("safe.it", 3, "unknown", "safe")],
)
def test_after_an_unknown_the_effect_decides(method: str, requests: int, executed: str, retry: str, tmp_path: Path) -> None:
    with Serving(HOUSE, tmp_path, lambda asked: Answer(drop=True)) as homing:
        reply = homing.call(method, {})
    assert reply.status == 200
    assert len(homing.provider.log) == requests
    assert (reply.data["reason"], reply.data["executed"], reply.data["retry"]) == ("connection_lost", executed, retry)
    assert len(reply.data["attempts"]) == requests


def test_a_keyed_call_is_asked_again_under_the_same_key_and_bytes(tmp_path: Path) -> None:
    answers = iter([Answer(drop=True), Answer(status=503), Answer(body={"ok": 1})])
    with Serving(HOUSE, tmp_path, lambda asked: next(answers)) as homing:
        assert homing.call("keyed.it", {"a": 1}, Idempotency_Key="order-17").result == {"ok": 1}
    keys = {asked.headers["idempotency-key"] for asked in homing.provider.log}
    assert len(keys) == 1
    assert len({asked.body for asked in homing.provider.log}) == 1
    assert "order-17" not in keys  # two principals' order-17 must not meet


def test_an_unreachable_provider_is_proven_no(tmp_path: Path) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        text = HOUSE.replace("{provider}", f"http://127.0.0.1:{nobody.getsockname()[1]}")
        with Serving(text, tmp_path) as homing:
            reply = homing.call("once.it", {})
    assert (reply.data["reason"], reply.data["executed"], reply.data["retry"]) == ("provider_unreachable", "no", "safe")
    assert len(reply.data["attempts"]) == 3


def test_the_lookup_finds_what_was_lost(tmp_path: Path) -> None:
    def provide(asked: Asked) -> Answer:
        if asked.path == "/v1/lookup":
            return Answer(body={"data": [{"found": asked.query}]})
        return Answer(drop=True)

    with Serving(HOUSE, tmp_path, provide) as homing:
        reply = homing.call("found.it", {})
    reference = homing.provider.log[0].json["reference"]
    assert reply.result == {"found": f"reference={reference}"}


@pytest.mark.parametrize("found", [{"data": []}, {"data": [None]}, {"data": [False]}, {}])
def test_what_the_lookup_does_not_find_stays_unknown(found: Any, tmp_path: Path) -> None:
    def provide(asked: Asked) -> Answer:
        return Answer(body=found) if asked.path == "/v1/lookup" else Answer(drop=True)

    with Serving(HOUSE, tmp_path, provide) as homing:
        data = homing.call("found.it", {}).data
    assert (data["reason"], data["executed"]) == ("connection_lost", "unknown")
    assert [asked.path for asked in homing.provider.log] == ["/v1/once", "/v1/lookup"]


def test_a_lookup_has_its_reserve_of_a_deadline_that_ends_the_exchange(tmp_path: Path) -> None:
    def provide(asked: Asked) -> Answer:
        return Answer(body={"data": [7]}) if asked.path == "/v1/lookup" else Answer(never=True)

    with Serving(HOUSE, tmp_path, provide) as homing:
        assert homing.call("found.it", {}, Homing_Timeout="1").result == 7


def test_the_deadline_settles_what_a_silent_provider_does_not(tmp_path: Path) -> None:
    with Serving(HOUSE, tmp_path, lambda asked: Answer(never=True)) as homing:
        reply = homing.call("once.it", {}, Homing_Timeout="0.4")
    assert (reply.data["reason"], reply.data["executed"], reply.data["timeout_ms"]) == ("deadline_exceeded", "unknown", 400)


def test_throttling_that_does_not_fit_the_deadline_is_told_at_once(tmp_path: Path) -> None:
    with Serving(HOUSE, tmp_path, lambda asked: Answer(status=429, headers={"Retry-After": "3600"})) as homing:
        reply = homing.call("once.it", {})
    assert (reply.status, reply.data["reason"], reply.data["executed"]) == (200, "provider_throttled", "no")
    assert reply.data["retry_after_ms"] == 3_600_000
    assert len(homing.provider.log) == 1


@pytest.mark.parametrize(
    ("status", "reason", "executed"),
    [
        (400, "provider_refused", "no"),
        (422, "provider_refused", "no"),
        (401, "provider_denied", "no"),
        (302, "provider_failed", "unknown"),
        (500, "provider_failed", "unknown"),
        (409, "provider_failed", "unknown"),
    ],
)
def test_what_a_status_means(status: int, reason: str, executed: str, tmp_path: Path) -> None:
    with Serving(HOUSE, tmp_path, lambda asked: Answer(status=status, body={"why": "because"})) as homing:
        data = homing.call("once.it", {}).data
    assert (data["reason"], data["executed"], data["status"], data["body"]) == (reason, executed, status, {"why": "because"})


def test_a_batch_comes_back_in_order_and_in_one_piece(tmp_path: Path) -> None:
    def provide(asked: Asked) -> Answer:
        return Answer(body=asked.json["n"], after_s=0.2 - asked.json["n"] / 10)

    body = [
        {"jsonrpc": "2.0", "id": 1, "method": "safe.it", "params": {"n": 0}},
        7,
        {"jsonrpc": "2.0", "method": "safe.it", "params": {"n": 0}},
        {"jsonrpc": "2.0", "id": 2, "method": "no.such"},
        {"jsonrpc": "2.0", "id": 3, "method": "safe.it", "params": {"n": 2}},
    ]
    with Serving(HOUSE, tmp_path, provide) as homing:
        reply = homing.post(json.dumps(body).encode())
    assert [(each["id"], each.get("result"), each.get("error", {}).get("code")) for each in reply.json] == [
        (1, 0, None),
        (None, None, -32600),
        (2, None, -32601),
        (3, 2, None),
    ]
    assert reply.headers["homing-errors"] == "2"


def test_a_notification_is_never_answered_and_still_done(tmp_path: Path) -> None:
    done = threading.Event()

    def provide(asked: Asked) -> Answer:
        done.set()
        return Answer(body=1)

    with Serving(HOUSE, tmp_path, provide) as homing:
        reply = homing.post(b'{"jsonrpc":"2.0","method":"safe.it","params":{}}')
        assert (reply.status, reply.body) == (204, b"")
        assert done.wait(5)
        refused = homing.post(b'{"jsonrpc":"2.0","method":"once.it","params":{}}')
        assert (refused.status, refused.body) == (204, b"")
    assert len(homing.provider.log) == 1


def test_a_caller_who_hangs_up_while_it_runs_does_not_stop_it(tmp_path: Path) -> None:
    started = threading.Event()

    def provide(asked: Asked) -> Answer:
        started.set()
        return Answer(body=1, after_s=0.3)

    with Serving(HOUSE, tmp_path, provide) as homing:
        body = b'{"jsonrpc":"2.0","id":1,"method":"once.it"}'
        caller = socket.create_connection(("127.0.0.1", homing.port))
        caller.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        assert started.wait(5)
        caller.close()
        homing.stop_soon()
        homing.join()
    line = next(each for each in homing.log_lines() if each["event"] == "call")
    assert (line["reason"], line["abandoned"]) == ("ok", True)


def test_drain_refuses_new_calls_and_ends_running_ones(tmp_path: Path) -> None:
    started = threading.Event()

    def provide(asked: Asked) -> Answer:
        started.set()
        return Answer(body="late", after_s=0.5)

    with Serving(HOUSE, tmp_path, provide) as homing:
        answers: list[Any] = []
        caller = threading.Thread(target=lambda: answers.append(homing.call("safe.it", {})))
        caller.start()
        assert started.wait(5)
        kept = socket.create_connection(("127.0.0.1", homing.port))
        homing.stop_soon()
        while not homing.process.gateway.draining:
            pass
        assert homing.request("GET", "/readyz", port=homing.process.admin_port).status == 503
        body = b'{"jsonrpc":"2.0","id":1,"method":"safe.it"}'
        kept.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        refused = kept.recv(65536)
        kept.close()
        caller.join(10)
    assert b"503" in refused.split(b"\r\n")[0]
    assert b'"reason":"draining"' in refused
    assert answers[0].result == "late"
