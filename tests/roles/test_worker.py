"""What the worker's hands make of a provider, seen from the caller's side."""

import gzip
import socket
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from homing.core.exchange import ExchangeResult, HttpRequest
from homing.core.machine import Event, Finished, Start
from homing.core.methods import Method
from homing.edges.auth import new_key
from homing.edges.provider import Provider, Running
from homing.errors import Effect, Outcome
from tests.serving import Answer, Asked, Serving

HOUSE = """
[gateway]
anonymous = ["*"]

[providers.acme]
base_url = "{provider}"
request_id_header = "request-id"
call_id_header = "x-call-id"
timeout = { attempt = "300ms" }
retry = { attempts_max = 2 }
response_max = "1KiB"

[methods."acme.safe"]
provider = "acme"
effect = "safe"
request = "POST /safe"

[methods."acme.once"]
provider = "acme"
request = "POST /once{?p}"

[methods."acme.path"]
provider = "acme"
request = "GET /x/{name}"
effect = "safe"
"""


def test_an_attempt_has_a_bound_of_its_own(tmp_path: Path) -> None:
    answers = iter([Answer(never=True), Answer(body=1)])
    with Serving(HOUSE, tmp_path, lambda asked: next(answers)) as homing:
        assert homing.call("acme.safe", {}).result == 1
    with Serving(HOUSE, tmp_path, lambda asked: Answer(never=True)) as homing:
        data = homing.call("acme.once", {}).data
    assert (data["reason"], data["executed"], len(data["attempts"])) == ("provider_timeout", "unknown", 1)


def test_a_handshake_that_takes_longer_than_an_attempt_may_is_told_as_that(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        text = HOUSE.replace("{provider}", f"https://127.0.0.1:{server.getsockname()[1]}")
        with Serving(text, tmp_path) as homing:
            reply = homing.call("acme.once", {})
    assert (reply.data["reason"], reply.data["executed"]) == ("provider_unreachable", "no")
    assert reply.error["message"] == "Provider 'acme' was not reached within its timeout.attempt."


def test_the_status_of_an_answer_that_did_not_end_in_time_is_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        text = HOUSE.replace("{provider}", f"http://127.0.0.1:{server.getsockname()[1]}")
        with Serving(text, tmp_path) as homing, ThreadPoolExecutor(1) as caller:
            reply = caller.submit(homing.call, "acme.once", {})
            line, _ = server.accept()
            with line:
                line.recv(65536)
                line.sendall(b"HTTP/1.1 201 Created\r\nContent-Length: 9\r\n\r\n{")
                data = reply.result(10).data
    assert (data["reason"], data["executed"], data["status"]) == ("provider_timeout", "unknown", 201)
    assert data["attempts"][0]["status"] == 201


class Panic(BaseException):
    """What extensions written in Rust raise when they break: no Exception."""


@pytest.mark.parametrize(("broken", "executed"), [("render_untouched", "no"), ("interpret", "unknown")])
def test_whatever_breaks_the_call_is_answered(
    broken: str, executed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: object) -> None:
        raise Panic

    with Serving(HOUSE, tmp_path, lambda asked: Answer(body=1)) as homing:
        with monkeypatch.context() as while_broken:
            while_broken.setattr(Method, broken, breaks)
            reply = homing.call("acme.once", {})
        assert (reply.data["reason"], reply.data["executed"]) == ("internal_error", executed)
        assert homing.process.worker.in_flight("acme") == 0
        assert homing.call("acme.once", {}).result == 1


def test_what_is_asked_once_goes_out_on_a_connection_as_good_as_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And so does a lookup, whatever the effect: it is made once, mostly when a connection has just died."""
    asked: list[tuple[str, bool]] = []
    exchange = Provider.exchange

    def watched(
        self: Provider, request: HttpRequest, deadline: float, fresh: bool, done: Callable[[ExchangeResult], None]
    ) -> Running:
        asked.append((request.target, fresh))
        return exchange(self, request, deadline, fresh, done)

    monkeypatch.setattr(Provider, "exchange", watched)
    text = HOUSE.replace('request = "POST /safe"', 'request = "POST /safe"\nlookup = { request = "GET /lookup" }')
    with Serving(text, tmp_path, lambda request: Answer(drop=request.path == "/safe", body=1)) as homing:
        assert homing.call("acme.safe", {}).result == 1
        assert homing.call("acme.once", {}).result == 1
    assert asked == [("/safe", False), ("/safe", False), ("/lookup", True), ("/once", True)]


def test_both_ids_cross_over(tmp_path: Path) -> None:
    with Serving(HOUSE, tmp_path, lambda asked: Answer(status=500, headers={"Request-Id": "req_9"})) as homing:
        reply = homing.call("acme.once", {})
    assert reply.data["attempts"][0]["provider_request_id"] == "req_9"
    assert homing.provider.log[0].headers["x-call-id"] == reply.data["call_id"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"{", "response_invalid"),
        (b'{"a":1}{"b":2}', "response_invalid"),
        (b'1},"error":{', "response_invalid"),
        (b"\xff", "response_invalid"),
        (b"[" * 600 + b"]" * 600, "response_too_large"),
        (b'"' + b"x" * 2000 + b'"', "response_too_large"),
    ],
)
def test_an_answer_that_is_not_what_was_promised(body: bytes, reason: str, tmp_path: Path) -> None:
    with Serving(HOUSE, tmp_path, lambda asked: Answer(body=body)) as homing:
        data = homing.call("acme.once", {}).data
        assert (data["reason"], data["executed"]) == (reason, "unknown")
        assert homing.call("acme.once", {}).data["reason"] == reason  # and the next call is not disturbed


@pytest.mark.parametrize(
    ("body", "headers", "when"),
    [
        (b'"' + b"x" * 1023 + b'"', {}, ""),
        (gzip.compress(b'"' + b"x" * 1023 + b'"'), {"Content-Encoding": "gzip"}, " once its content coding is undone"),
    ],
    ids=["plain", "gzip"],
)
def test_an_answer_that_is_too_large_names_its_limit(body: bytes, headers: dict[str, str], when: str, tmp_path: Path) -> None:
    with Serving(HOUSE, tmp_path, lambda asked: Answer(body=body, headers=headers)) as homing:
        reply = homing.call("acme.once", {})
    assert (reply.data["reason"], reply.data["limit"]) == ("response_too_large", "providers.acme.response_max")
    assert reply.error["message"].endswith(f": the response is larger than 1024 bytes{when}")


@pytest.mark.parametrize("value", ["..", ".", "", {"a": 1}, None, 1.5])
def test_params_that_cannot_be_a_path_are_refused_unsent(value: object, tmp_path: Path) -> None:
    with Serving(HOUSE, tmp_path) as homing:
        reply = homing.call("acme.path", {"name": value})
    assert (reply.error["code"], reply.data["executed"]) == (-32602, "no")
    assert homing.provider.log == []


@pytest.mark.parametrize(
    ("value", "path"), [("a/b", "/x/a%2Fb"), ("%2f", "/x/%252f"), ("a\r\nX: y", "/x/a%0D%0AX%3A%20y"), (7, "/x/7")]
)
def test_params_that_can_stay_one_segment(value: object, path: str, tmp_path: Path) -> None:
    with Serving(HOUSE, tmp_path, lambda asked: Answer(body=1)) as homing:
        assert homing.call("acme.path", {"name": value}).result == 1
    assert homing.provider.log[0].path == path


def test_keys_are_random() -> None:
    assert new_key()[0] != new_key()[0]


STRICT = (
    HOUSE
    + """
[methods."acme.charge"]
provider = "acme"
request = "POST /charge"
positional = ["account", "amount"]
[methods."acme.charge".params]
required = ["account"]
additionalProperties = false
properties.account.type = "string"
properties.amount.type = "integer"
"""
)


def ask(homing: Serving, call_id: bytes, body: bytes, effect: Effect = "once", method: str = "acme.charge") -> Outcome:
    """Have the hands ask the provider for a call, as the machine would after a grant."""
    finished: Future[Outcome] = Future()

    async def start() -> None:
        hands = homing.process.hands
        hands.looked_at = lambda call_id: call_id.startswith(b"ours")

        def feed(event: Event) -> None:
            assert isinstance(event, Finished)
            finished.set_result(event.outcome)

        hands.feed = feed
        deadline = time.monotonic() + 10
        hands.act(
            Start(
                call_id=call_id,
                number=1,
                attempt=1,
                method=method,
                provider="acme",
                effect=effect,
                principal="",
                key="",
                body=body,
                deadline=deadline,
                late="deadline_exceeded",
            )
        )

    homing.on_loop(start)
    return finished.result(20)


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (b"", ""),
        (b"{}", ""),
        (b'{"account":"a","amount":"x"}', "/amount"),
        (b'{"account":"a","account":7}', "/account"),
        (b'["a","b","c"]', ""),
        (b"7", None),
        (b'{"account":', None),
        (b"\xff", None),
    ],
    ids=["none", "missing", "type", "twice", "positions", "number", "cut", "bytes"],
)
def test_what_met_no_gateway_of_ours_is_validated_before_anything_is_sent(body: bytes, path: str | None, tmp_path: Path) -> None:
    with Serving(STRICT, tmp_path, lambda asked: Answer(body=1)) as homing:
        outcome = ask(homing, b"strange-call", body)
    assert (outcome.reason, outcome.executed) == ("invalid_params", "no")
    assert [error.path for error in outcome.errors][:1] == ([path] if path is not None else [])
    assert homing.provider.log == []


@pytest.mark.parametrize(
    ("body", "sent"),
    [
        (b'{"account":"a","amount":3}', {"account": "a", "amount": 3}),
        (b'["a",3]', {"account": "a", "amount": 3}),
        (b'{"account":7,"account":"b"}', {"account": "b"}),
    ],
    ids=["object", "positions", "twice"],
)
def test_the_provider_gets_what_was_validated(body: bytes, sent: object, tmp_path: Path) -> None:
    with Serving(STRICT, tmp_path, lambda asked: Answer(body=1)) as homing:
        assert ask(homing, b"strange-call", body).reason == "ok"
    assert homing.provider.log[0].json == sent
    assert homing.provider.log[0].body.count(b"account") == 1


def test_what_our_own_gateway_has_validated_is_not_looked_at_again(tmp_path: Path) -> None:
    with Serving(STRICT, tmp_path, lambda asked: Answer(body=1)) as homing:
        assert ask(homing, b"ours-call", b"{}").reason == "ok"
    assert homing.provider.log[0].body == b"{}"


def test_nobody_makes_a_method_less_strict_than_it_is(tmp_path: Path) -> None:
    with Serving(STRICT, tmp_path, lambda asked: Answer(body=1)) as homing:
        for effect in ("keyed", "safe"):
            outcome = ask(homing, b"strange-call", b'{"account":"a"}', effect)
            assert (outcome.reason, outcome.executed) == ("invalid_request", "no")
            assert outcome.message == f"acme.charge is 'once' here, and was called as '{effect}'."
        assert homing.provider.log == []
        assert ask(homing, b"strange-call", b"{}", "once", "acme.safe").reason == "ok"


TOKENED = STRICT.replace(
    'base_url = "{provider}"',
    """base_url = "{provider}"
auth = { type = "oauth2_client_credentials", token_url = "{provider}/token", client_id = "me", client_secret = "s" }""",
)


@pytest.mark.parametrize("status", [200, 500])
def test_nothing_is_sent_without_the_token_that_was_lost_between_claim_and_grant(status: int, tmp_path: Path) -> None:
    """Another call's 401 takes it away from all."""

    def provide(asked: Asked) -> Answer:
        return Answer(status, {"access_token": "t1"}) if asked.path == "/token" else Answer(body=1)

    with Serving(TOKENED, tmp_path, provide) as homing:
        outcome = ask(homing, b"ours-call", b"{}")
    sent = [(asked.path, asked.headers["authorization"]) for asked in homing.provider.log[1:]]
    if status == 200:
        assert outcome.reason == "ok"
        assert sent == [("/charge", "Bearer t1")]
    else:
        assert (outcome.reason, outcome.executed) == ("provider_unreachable", "no")
        assert sent == []


@pytest.mark.parametrize(
    ("row", "asked"),
    [
        ("", 2),
        ('{ when = "status == `401`", is = "denied" }', 2),
        ('{ when = "status == `401`", is = "denied", retry = false }', 1),
    ],
)
def test_a_row_that_says_so_keeps_a_fresh_token_from_being_tried(row: str, asked: int, tmp_path: Path) -> None:
    """The next call gets one all the same."""
    tokens = iter(["t1", "t2"])

    def provide(asked: Asked) -> Answer:
        if asked.path == "/token":
            return Answer(body={"access_token": next(tokens)})
        return Answer(body=1) if asked.headers["authorization"] == "Bearer t2" else Answer(401)

    text = TOKENED.replace('[methods."acme.charge"]', f'[methods."acme.charge"]\nanswers = [{row}]')
    with Serving(text, tmp_path, provide) as homing:
        first = homing.call("acme.charge", {"account": "a1"})
        if asked == 2:
            assert first.result == 1
        else:
            assert (first.data["reason"], first.data["executed"], len(first.data["attempts"])) == ("provider_denied", "no", 1)
        assert homing.call("acme.charge", {"account": "a1"}).result == 1
