"""What the clients conclude from what happened to their bytes: every cut, every clock, TLS; on `Client` and on `AsyncClient`."""

import errno
import gc
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

from homing import CallError, Executed, NotExecuted, OutcomeUnknown
from homing.client_asyncio import AsyncLink
from homing.client_blocking import BlockingLink
from homing.client_http import ResponseReader
from homing.client_rpc import GRACE_MIN_S
from tests.scripted_gateway import (
    Either,
    Request,
    ScriptedGateway,
    Visit,
    each,
    error,
    free_port,
    in_turn,
    joined,
    response,
    result,
)


@pytest.fixture(params=["blocking", "asyncio"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


def outcome(client: Either, **options: object) -> object:
    try:
        return client.call("acme.charge", {"amount": 1200}, **options)
    except CallError as caught:
        return caught


# Before the first byte


def test_a_refused_connection_is_not_executed(kind: str) -> None:
    with Either(kind, f"http://127.0.0.1:{free_port()}", timeout=10) as client:
        caught = client.error("m", idempotency_key="order-17")
    assert (caught.data["leg"], caught.idempotency_key) == ("gateway", "order-17")
    assert type(caught) is NotExecuted
    assert (caught.code, caught.reason, caught.retry) == (5020, "provider_unreachable", "safe")
    assert caught.message.endswith("cannot be reached: Connection refused.")


def test_a_gateway_that_is_back_soon_is_found(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    link = BlockingLink if kind == "blocking" else AsyncLink
    original = link._open
    refused: list[bool] = []

    def refuse_once(self: Any, *arguments: Any) -> Any:
        if not refused:
            refused.append(True)
            raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
        return original(self, *arguments)

    monkeypatch.setattr(link, "_open", refuse_once)
    with joined(kind, each(result), retries=1) as (client, _):
        assert client.call("m", timeout=10) == "done"
    assert refused


@pytest.mark.parametrize("host", ["gateway.invalid", "a" * 64 + ".invalid", "a..invalid"])
def test_a_host_without_an_address_is_not_executed(kind: str, host: str) -> None:
    with Either(kind, f"http://{host}:8370", retries=0) as client:
        caught = client.error("m", timeout=30)
    assert type(caught) is NotExecuted
    assert caught.reason == "provider_unreachable"


def test_a_name_is_looked_up(kind: str) -> None:
    with ScriptedGateway(each(result)) as gateway, Either(kind, f"http://localhost:{gateway.port}") as client:
        assert client.call("m") == "done"  # ::1 may come first, and nobody listens there
        assert client.call("m") == "done"


def test_a_look_up_that_does_not_end_is_not_waited_for(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()

    def never(*_: object) -> list[object]:
        release.wait()
        return []

    for module in ("homing.client_blocking", "homing.client_asyncio"):
        monkeypatch.setattr(f"{module}.look_up", never)
    try:
        with Either(kind, "http://gateway.invalid", retries=0, connect_timeout=0.05) as client:
            unreachable = client.error("m", timeout=30)
        with Either(kind, "http://gateway.invalid", retries=0) as client:
            expired = client.error("m", timeout=0.05)
            release.set()
    finally:
        release.set()
    assert (type(unreachable), unreachable.reason) == (NotExecuted, "provider_unreachable")
    assert (type(expired), expired.reason, expired.code) == (NotExecuted, "expired", 5040)


@contextmanager
def full_backlog() -> Iterator[str]:
    """A port that takes no more connections: whoever connects waits."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = []
        for _ in range(8):
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex(listener.getsockname())
            waiting.append(sock)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        for sock in waiting:
            sock.close()


def test_connecting_has_a_limit_of_its_own(kind: str) -> None:
    with full_backlog() as url, Either(kind, url, retries=0, connect_timeout=0.1) as client:
        caught = client.error("m", timeout=30)
    assert (type(caught), caught.reason) == (NotExecuted, "provider_unreachable")
    assert "took too long" in caught.message


def test_time_that_runs_out_while_connecting_is_not_executed(kind: str) -> None:
    with full_backlog() as url, Either(kind, url) as client:
        caught = client.error("m", timeout=0.1)
    assert (type(caught), caught.reason, caught.retry) == (NotExecuted, "expired", "safe")


# Cuts

HEADERS = [("Homing-Call-Id", "c" * 32), ("Homing-Reason", "ok"), ("Homing-Executed", "yes"), ("Homing-Deadline-Ms", "5000")]
FORBIDDEN = {"reason": "forbidden", "executed": "no", "retry": "pointless"}
NO = [("Homing-Call-Id", "c" * 32), ("Homing-Reason", "forbidden"), ("Homing-Executed", "no"), ("Homing-Retry", "pointless")]


def chunked(request: Request) -> bytes:
    """A head that a heartbeat sent early, spaces, and the answer."""
    body = json.dumps({"jsonrpc": "2.0", "id": request.id, "result": "done"}).encode()
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nHoming-Call-Id: %s\r\nHoming-Deadline-Ms: 5000\r\n\r\n" % (
        b"c" * 32
    )
    return head + b"1\r\n \r\n" * 3 + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)


ANSWERS: dict[str, Callable[[Request], bytes]] = {
    "result": lambda request: result(request, "done", HEADERS),
    "refusal": lambda request: error(request, 4030, "No.", FORBIDDEN, 403, NO),
    "heartbeats": chunked,
}


def end(visit: Visit, *, reset: bool) -> None:
    if reset:
        visit.reset()
    else:
        visit.sock.close()


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("shape", ANSWERS)
def test_a_response_cut_at_every_byte_never_lies(kind: str, shape: str, reset: bool) -> None:
    """The gateway had read the whole request: NotExecuted only where the head that arrived says so, Executed likewise."""
    length = 0
    cut = 0

    def script(visit: Visit) -> None:
        nonlocal length
        while (request := visit.request()) is not None:
            answer = ANSWERS[shape](request)
            length = len(answer)
            visit.send(answer[:cut])
            if cut < length:
                if reset and cut:
                    time.sleep(0.001)  # an RST overtakes what was not read yet; both are fine, and both should be seen
                end(visit, reset=reset)
                return

    proofs = {"result": b"Homing-Executed: yes", "refusal": b"Homing-Executed: no", "heartbeats": b"\0"}
    seen: list[str] = []
    with joined(kind, script, retries=0) as (client, gateway):
        while not length or cut <= length:
            asked = len(gateway.requests)
            got = outcome(client, idempotency_key="order-17")
            if isinstance(got, CallError) and got.reason == "provider_unreachable":
                assert (len(gateway.requests), got.executed) == (asked, "no")  # the last one's end overtook it
                continue
            seen.append(got.executed if isinstance(got, CallError) else "result")
            sent = ANSWERS[shape](gateway.requests[-1])[:cut]
            if got == "done":
                assert cut == length
            elif seen[-1] != "unknown":
                assert isinstance(got, CallError)
                assert proofs[shape] in sent
                assert got.reason == ("connection_lost" if shape == "result" else "forbidden")
            else:
                assert isinstance(got, OutcomeUnknown)
                assert (got.reason, got.code, got.retry) == ("connection_lost", 5021, "unsafe")
            if isinstance(got, CallError):
                assert got.idempotency_key == "order-17"
            cut += 1
        assert len(gateway.requests) == length + 1  # nothing was ever sent twice
    assert seen[0] == "unknown"
    assert seen[-1] == ("no" if shape == "refusal" else "result")
    if not reset:
        assert ("yes" in seen) is (shape == "result")


@pytest.mark.parametrize("reset", [False, True])
def test_a_request_cut_at_every_byte_is_unknown(kind: str, reset: bool) -> None:
    """Once a byte was sent, nobody here can say how many of them somebody read."""
    cut, whole = 1, False

    def script(visit: Visit) -> None:
        nonlocal whole
        head = visit.read(cut)
        whole = len(head) < cut or (b"\r\n\r\n" in head and head.endswith(b"}"))
        end(visit, reset=reset)

    with joined(kind, script, retries=2) as (client, gateway):
        while not whole:
            assert type(outcome(client)) is OutcomeUnknown
            assert gateway.visits == cut
            cut += 1
    assert cut > 200


def test_a_head_that_came_early_names_the_call(kind: str) -> None:
    """Without a key of the caller's, the call's id is the key to ask again under."""

    def script(visit: Visit) -> None:
        request = visit.request()
        assert request is not None
        visit.send(chunked(request)[:-40])

    with joined(kind, script) as (client, _):
        caught = client.error("m")
    assert type(caught) is OutcomeUnknown
    assert caught.call_id == caught.idempotency_key == "c" * 32


def test_a_large_request_that_is_refused_early_is_read(kind: str) -> None:
    """The gateway answers before it has read everything, as it does for a body that is too large."""
    body = (
        b'{"jsonrpc":"2.0","id":null,"error":{"code":4130,"message":"Too large.","data":{"reason":"too_large","executed":"no"}}}'
    )

    def script(visit: Visit) -> None:
        visit.read(1000)
        visit.send(response(body, 413, [("Homing-Executed", "no"), ("Connection", "close")]))
        visit.sock.shutdown(socket.SHUT_WR)
        visit.gone()

    with joined(kind, script) as (client, _):
        caught = client.error("m", {"text": "x" * 20_000_000})
    assert (type(caught), caught.reason) == (NotExecuted, "too_large")


def test_a_large_request_that_nobody_reads_is_unknown(kind: str) -> None:
    def script(visit: Visit) -> None:
        visit.read(1000)
        visit.reset()

    with joined(kind, script) as (client, _):
        caught = client.error("m", {"text": "x" * 20_000_000})
    assert (type(caught), caught.reason) == (OutcomeUnknown, "connection_lost")


def test_a_large_request_and_a_large_answer_arrive(kind: str) -> None:
    text = "x" * 3_000_000
    with joined(kind, each(lambda request: result(request, json.loads(request.body)["params"]))) as (client, _):
        assert client.call("echo", {"text": text}) == {"text": text}


def test_a_response_that_is_too_large_is_unknown(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ResponseReader.__init__, "__defaults__", (1000,))
    with joined(kind, each(lambda request: result(request, "x" * 1000))) as (client, _):
        caught = client.error("m")
    assert (type(caught), caught.reason, caught.code) == (OutcomeUnknown, "response_too_large", 5023)


# Shapes of responses


@pytest.mark.parametrize(
    "shape",
    [
        chunked,
        lambda request: b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nHoming-Executed: no\r\n\r\n" + result(request),
        lambda request: b"HTTP/1.0 200 OK\r\n\r\n" + result(request).partition(b"\r\n\r\n")[2],
        lambda request: b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n   " + result(request).partition(b"\r\n\r\n")[2] + b"\n",
        lambda request: result(request, headers=[("Connection", "close")]),
    ],
)
@pytest.mark.parametrize("dripping", [False, True])
def test_a_response_of_any_shape_is_read(kind: str, shape: Callable[[Request], bytes], dripping: bool) -> None:
    def script(visit: Visit) -> None:
        visit.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        request = visit.request()
        assert request is not None
        answer = shape(request)
        for part in [answer[i : i + 1] for i in range(len(answer))] if dripping else [answer]:
            visit.send(part)
        if b"content-length" in answer.lower() or b"chunked" in answer:
            each(result)(visit)
        else:  # its end is the connection's
            visit.sock.shutdown(socket.SHUT_WR)
            visit.gone()

    with joined(kind, script) as (client, gateway):
        assert [client.call("m") for _ in range(3)] == ["done"] * 3
    assert len(gateway.requests) == 3


@pytest.mark.parametrize("surplus", [b"junk", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"])
def test_bytes_that_belong_to_no_call_answer_none(kind: str, surplus: bytes) -> None:
    with joined(kind, each(lambda request: result(request) + surplus)) as (client, gateway):
        assert [client.call("m") for _ in range(3)] == ["done"] * 3
        assert gateway.visits == 3


# Clocks


@pytest.fixture
def _short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("homing.client_rpc.GRACE_MIN_S", 0.05)


@pytest.mark.usefixtures("_short_grace")
@pytest.mark.parametrize("beats", [False, True])
def test_the_clients_own_clock_ends_a_call_that_nobody_answers(kind: str, beats: bool) -> None:
    """Heartbeats do not extend it."""
    released = threading.Event()

    def script(visit: Visit) -> None:
        visit.request()
        if beats:
            visit.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nHoming-Deadline-Ms: 60000\r\n\r\n")
        while beats and not released.wait(0.01):
            visit.send(b"1\r\n \r\n")
        visit.gone()

    with joined(kind, script) as (client, gateway):
        caught = client.error("m", timeout=0.1)
        released.set()
    assert type(caught) is OutcomeUnknown
    assert (caught.code, caught.reason, caught.retry) == (5041, "deadline_exceeded", "unsafe")
    assert len(gateway.requests) == 1


@pytest.mark.usefixtures("_short_grace")
def test_a_head_that_came_early_says_how_long_to_wait(kind: str) -> None:
    def script(visit: Visit) -> None:
        visit.request()
        visit.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nHoming-Deadline-Ms: 100\r\n\r\n1\r\n \r\n")
        visit.gone()

    with joined(kind, script) as (client, _):
        caught = client.error("m")
    assert (type(caught), caught.reason) == (OutcomeUnknown, "deadline_exceeded")


def test_an_answer_within_the_grace_is_taken(kind: str) -> None:
    def script(visit: Visit) -> None:
        request = visit.request()
        assert request is not None
        time.sleep(0.2)
        visit.send(result(request))

    assert GRACE_MIN_S >= 1
    with joined(kind, script) as (client, _):
        assert client.call("m", timeout=0.1) == "done"


@pytest.mark.usefixtures("_short_grace")
def test_a_request_that_is_not_taken_runs_out_of_time(kind: str) -> None:
    def script(visit: Visit) -> None:
        visit.read(10)
        stop.wait()

    stop = threading.Event()
    with joined(kind, script) as (client, _):
        caught = client.error("m", {"text": "x" * 20_000_000}, timeout=1.5)
        stop.set()
    assert (type(caught), caught.reason) == (OutcomeUnknown, "deadline_exceeded")


# Connections that are kept


def test_a_connection_is_used_again(kind: str) -> None:
    with joined(kind, each(result)) as (client, gateway):
        assert [client.call("m") for _ in range(5)] == ["done"] * 5
        assert gateway.visits == 1


def test_a_connection_that_was_idle_for_long_is_not_used_again(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("homing.client_blocking", "homing.client_asyncio"):
        monkeypatch.setattr(f"{module}.IDLE_MAX_S", 0.0)
    with joined(kind, each(result)) as (client, gateway):
        client.call("m")
        client.call("m")
        assert gateway.visits == 2


@pytest.mark.parametrize("parting", ["close", "reset", "408"])
def test_a_connection_that_ended_while_idle_is_not_used_again(kind: str, parting: str) -> None:
    ended = threading.Event()

    def script(visit: Visit) -> None:
        request = visit.request()
        assert request is not None
        visit.send(result(request))
        if parting == "reset":
            visit.reset()
        else:
            if parting == "408":
                visit.send(response(b"", 408, [("Connection", "close")]))
            visit.sock.shutdown(socket.SHUT_WR)
        ended.set()
        visit.gone()

    with joined(kind, in_turn(script, each(result)), retries=0) as (client, gateway):
        assert client.call("m") == "done"
        assert ended.wait(10)
        assert client.call("m") == "done"
        assert gateway.visits == 2


def test_a_kept_connection_that_dies_with_the_request_is_unknown(kind: str) -> None:
    """The gateway read the second request and died: sending it again would be a lie."""

    def script(visit: Visit) -> None:
        request = visit.request()
        assert request is not None
        visit.send(result(request))
        visit.request()

    with joined(kind, script) as (client, gateway):
        assert client.call("m") == "done"
        caught = client.error("m")
        assert (type(caught), caught.reason) == (OutcomeUnknown, "connection_lost")
        assert gateway.visits == 1


def test_a_late_answer_never_reaches_another_call(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("homing.client_rpc.GRACE_MIN_S", 0.05)
    answers: list[str] = []

    def script(visit: Visit) -> None:
        while (request := visit.request()) is not None:
            if len(answers) == 0:
                answers.append(request.id)
                continue
            visit.send(result(request, "second"))

    with joined(kind, script) as (client, gateway):
        assert client.error("m", timeout=0.05).reason == "deadline_exceeded"
        assert client.call("m") == "second"
        assert gateway.visits == 2


# TLS


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[trustme.CA, str]:
    authority = trustme.CA()
    path = tmp_path_factory.mktemp("tls") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return authority, str(path)


def server_side(authority: trustme.CA, name: str = "127.0.0.1") -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(name).configure_cert(context)
    return context


def test_tls_is_verified_with_the_authority_that_is_given(kind: str, authority) -> None:
    issuer, ca = authority
    text = "x" * 300_000
    with joined(kind, each(lambda request: result(request, text)), server_side(issuer), ca=ca) as (client, gateway):
        assert client.call("m", {"text": text}) == text
        assert client.call("m") == text
        assert gateway.visits == 1


@pytest.mark.parametrize("case", ["unknown authority", "another name"])
def test_a_certificate_that_is_not_trusted_is_not_executed(kind: str, authority, case: str) -> None:
    issuer, ca = authority
    context = server_side(trustme.CA()) if case == "unknown authority" else server_side(issuer, "other.example")
    with joined(kind, each(result), context, ca=ca) as (client, gateway):
        caught = client.error("m")
        assert gateway.visits == 1
    assert type(caught) is NotExecuted
    assert (caught.reason, caught.retry) == ("provider_unreachable", "pointless")
    assert "certificate is not trusted" in caught.message


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
def test_a_handshake_that_fails_is_not_executed(kind: str, authority, answer: bytes) -> None:
    def script(visit: Visit) -> None:
        visit.sock.recv(10)
        visit.send(answer)

    with (
        ScriptedGateway(script) as gateway,
        Either(kind, gateway.url.replace("http", "https"), ca=authority[1], retries=0) as client,
    ):
        caught = client.error("m")
    assert (type(caught), caught.reason, caught.retry) == (NotExecuted, "provider_unreachable", "safe")


def test_a_handshake_that_stalls_is_not_executed(kind: str, authority) -> None:
    with (
        ScriptedGateway(Visit.gone) as gateway,
        Either(kind, gateway.url.replace("http", "https"), ca=authority[1], retries=0, connect_timeout=0.1) as client,
    ):
        caught = client.error("m")
    assert (type(caught), caught.reason) == (NotExecuted, "provider_unreachable")


@pytest.mark.parametrize("reset", [False, True])
def test_a_tls_response_cut_anywhere_never_lies(kind: str, authority, reset: bool) -> None:
    issuer, ca = authority
    cut, length = 0, 1

    def script(visit: Visit) -> None:
        nonlocal length
        request = visit.request()
        assert request is not None
        answer = result(request)
        length = len(answer)
        visit.send(answer[:cut])
        end(visit, reset=reset)

    with joined(kind, script, server_side(issuer), ca=ca) as (client, gateway):
        while cut < length:
            assert type(outcome(client)) is OutcomeUnknown
            cut += 16
        assert len(gateway.requests) == -(-length // 16)


def open_files() -> int:
    gc.collect()
    return len(list(Path("/proc/self/fd").iterdir()))


def test_nothing_stays_open(kind: str) -> None:
    scripts = [each(result), lambda visit: visit.reset(), lambda visit: visit.send(b"junk"), Visit.request]
    with Either(kind, "http://127.0.0.1:1") as client:
        client.error("m", retries=0)
        before = open_files()
    for script in scripts * 3:
        with joined(kind, script, retries=0) as (client, _):
            outcome(client)
            outcome(client)
    with Either(kind, "http://127.0.0.1:1") as client:
        client.error("m", retries=0)
        assert open_files() == before


def test_executed_needs_proof_of_its_own(kind: str) -> None:
    """The head promised a result, and the connection ended within it: it was carried out, and there is no result to give."""

    def script(visit: Visit) -> None:
        request = visit.request()
        assert request is not None
        visit.send(result(request, "done", HEADERS)[:-5])

    with joined(kind, script) as (client, _):
        caught = client.error("m")
    assert type(caught) is Executed
    assert (caught.reason, caught.call_id) == ("connection_lost", "c" * 32)
