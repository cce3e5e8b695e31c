"""`http`: the listener on real sockets, on both loops, with callers nobody here wrote."""

import asyncio
import contextlib
import errno
import http.client
import json
import socket
import ssl
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Self

import aiohttp
import pytest
import trustme
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from homing.edges import rpc
from homing.edges.http import Exchange, Listener, ListenerLimits, tls_context
from tests.edges.corpus import BAD, GOOD, Case
from tests.edges.lines import TEXT, Answer, post, read_answers
from tests.loops import until

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
LARGE = b"x" * (8 << 20)
PATIENCE_S = 20.0  # nothing here takes so long; who waits longer fails


class Served:
    """A listener with a loop in a thread of its own. /echo answers at once; /hold waits for `release`; /large is more than fits."""

    def __init__(
        self,
        limits: ListenerLimits | None = None,
        loop: str = "uvloop",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.limits = limits or ListenerLimits()
        self.tls = tls
        self.held: list[Exchange] = []
        self.arrived = threading.Semaphore(0)  # exchanges that are held
        self.abandoned = threading.Semaphore(0)
        self.reports: list[dict[str, Any]] = []
        self._make = LOOPS[loop]

    def __enter__(self) -> Self:
        ready: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, args=(ready,), daemon=True)
        self._thread.start()
        ready.result(PATIENCE_S)
        return self

    def __exit__(self, *_: object) -> None:
        self.run(self.listener.close(0.05))
        assert self.listener.held_bytes == 0
        assert self.listener.connections == 0
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()
        assert self.reports == []

    def _run(self, ready: "Future[None]") -> None:
        async def serve() -> None:
            self._loop = asyncio.get_running_loop()
            self._loop.set_exception_handler(lambda _, context: self.reports.append(context))
            self._stop = asyncio.Event()
            self.listener = Listener(self._answer, self.limits, refusal=rpc.refusal)
            self.port = await self.listener.start("127.0.0.1", 0, tls=self.tls)
            ready.set_result(None)
            await self._stop.wait()

        with asyncio.Runner(loop_factory=self._make) as runner:
            runner.run(serve())

    def _answer(self, exchange: Exchange) -> None:
        if exchange.path == "/hold":
            exchange.abandoned = self.abandoned.release
            self.held.append(exchange)
            exchange.start_heartbeat([(b"Content-Type", b"application/json"), (b"Homing-Call-Id", b"c1")])
            self.arrived.release()
        elif exchange.path == "/large":
            exchange.answer(200, TEXT, LARGE)
        else:
            exchange.answer(200, [(b"Content-Type", b"application/json")], exchange.body)

    def run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE_S)

    def do(self, function: Callable[..., Any], *args: object) -> Any:
        """Run it inside the loop."""

        async def inside() -> Any:
            return function(*args)

        return self.run(inside())

    def release(self, number: int, body: bytes = b"released") -> None:
        self.do(self.held[number].answer, 200, TEXT, body)

    def wait_held(self, count: int = 1) -> None:
        for _ in range(count):
            assert self.arrived.acquire(timeout=PATIENCE_S)

    def wait_abandoned(self) -> None:
        assert self.abandoned.acquire(timeout=PATIENCE_S)

    def connect(self) -> socket.socket:
        sock = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    @property
    def url(self) -> str:
        return f"http{'s' if self.tls else ''}://127.0.0.1:{self.port}"


def read_all(sock: socket.socket) -> bytes:
    """Everything until the other side closes."""
    data = b""
    while part := sock.recv(1 << 16):
        data += part
    return data


def read_answer(sock: socket.socket, until: bytes = b"\r\n\r\n") -> bytes:
    """Read until the bytes `until` have come."""
    data = b""
    while until not in data:
        part = sock.recv(1 << 16)
        assert part, data
        data += part
    return data


def ask(served: Served, data: bytes) -> list[Answer]:
    """Send it, and read until the other side closes."""
    with served.connect() as sock:
        sock.sendall(data)
        return read_answers(read_all(sock))


@pytest.fixture(params=LOOPS)
def loop(request: pytest.FixtureRequest) -> str:
    return str(request.param)


LAST = post(b"last", b"/echo", b"Connection: close")


# Requests


@pytest.mark.parametrize("case", GOOD + BAD, ids=lambda case: case.name)
def test_each_request_gets_what_it_should(case: Case, byte_wise: Served) -> None:
    """Byte by byte over a socket; then a request to see whether the connection is still good."""
    with byte_wise.connect() as sock:
        try:
            for byte in case.data[:600]:
                sock.send(bytes([byte]))
            sock.sendall(case.data[600:] + LAST)
        except (BrokenPipeError, ConnectionResetError):
            assert not case.stays
        statuses = [answer.status for answer in read_answers(read_all(sock)) if answer.status != 100]
    assert statuses == case.statuses + [200] * case.stays


@pytest.fixture(scope="module")
def byte_wise() -> Iterator[Served]:
    with Served() as served:
        yield served


def test_a_connection_is_used_again(loop: str) -> None:
    with Served(loop=loop) as served, contextlib.closing(http.client.HTTPConnection("127.0.0.1", served.port)) as caller:
        for number in range(100):
            caller.request("POST", "/echo", b"%d" % number)
            assert caller.getresponse().read() == b"%d" % number
        assert served.listener.accepted == 1
        assert served.listener.requests == 100


def test_answers_come_in_order_whoever_is_answered_first(loop: str) -> None:
    with Served(loop=loop) as served, served.connect() as sock:
        sock.sendall(post(b"", b"/hold") * 3 + LAST)
        served.wait_held(3)
        for number in (2, 0, 1):
            served.release(number, b"%d" % number)
        assert [answer.body for answer in read_answers(read_all(sock))] == [b"0", b"1", b"2", b"last"]


def test_more_requests_than_may_be_open_are_answered_all_the_same(loop: str) -> None:
    with Served(loop=loop) as served, served.connect() as sock:
        count = 5000
        received: list[bytes] = []
        reader = threading.Thread(target=lambda: received.append(read_all(sock)))
        reader.start()
        sock.sendall(post(b"", b"/hold"))
        served.wait_held()
        for number in range(count):
            sock.sendall(post(b"%d" % number, b"/echo"))
        sock.sendall(LAST)
        served.release(0)
        reader.join(PATIENCE_S)
        bodies = [answer.body for answer in read_answers(received[0])]
        assert bodies == [b"released", *[b"%d" % number for number in range(count)], b"last"]


def test_a_large_body_comes_and_goes(loop: str) -> None:
    with Served(ListenerLimits(body_bytes_max=16 << 20), loop) as served:
        body = bytes(range(256)) * (12 << 12)
        with served.connect() as sock:
            sender = threading.Thread(target=sock.sendall, args=(post(body, b"/echo", b"Connection: close"),))
            sender.start()
            (answer,) = read_answers(read_all(sock))
            sender.join(PATIENCE_S)
        assert answer.body == body


# Refusals arrive


@pytest.mark.parametrize(
    "head",
    [
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6000000\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5b8d80\r\n",
    ],
    ids=["announced", "chunked"],
)
def test_a_refusal_of_a_body_arrives_while_it_is_still_being_sent(head: bytes, loop: str) -> None:
    with Served(loop=loop) as served, served.connect() as sock:
        sock.sendall(head + b"x" * 6_000_000)  # before a byte of the answer is read
        (answer,) = read_answers(read_all(sock))
        assert answer.status == 413
        assert answer.headers["connection"] == "close"
        error = json.loads(answer.body)["error"]["data"]
        assert (error["reason"], error["executed"], error["limit"]) == ("too_large", "no", "gateway.body_max")
        assert answer.headers["homing-executed"] == "no"


def test_a_body_without_end_is_cut(loop: str) -> None:
    with Served(loop=loop) as served, served.connect() as sock:
        sock.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 999999999\r\n\r\n")
        assert read_answers(read_all(sock))[0].status == 413
        with pytest.raises(ConnectionError):
            sock.sendall(b"x" * 100_000_000)


# Time

SHORT = ListenerLimits(header_timeout_s=0.1, body_timeout_s=0.1, idle_timeout_s=0.1, write_timeout_s=0.1)


def test_an_idle_connection_is_closed_without_a_word(loop: str) -> None:
    with Served(SHORT, loop) as served, served.connect() as sock:
        assert read_all(sock) == b""
    with Served(SHORT, loop) as served, served.connect() as sock:
        sock.sendall(post(b"1", b"/echo"))
        assert len(read_answers(read_all(sock))) == 1


@pytest.mark.parametrize(
    ("beginning", "limit"),
    [
        (b"POST / HTT", "gateway.timeout.header"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nabc", "gateway.timeout.body"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc", "gateway.timeout.body"),
    ],
)
def test_who_takes_too_long_is_told_so(beginning: bytes, limit: str, loop: str) -> None:
    with Served(SHORT, loop) as served:
        (answer,) = ask(served, beginning)
        assert answer.status == 408
        assert json.loads(answer.body)["error"]["data"]["limit"] == limit


def test_an_answer_that_is_never_read_resets_the_connection_and_abandons_what_is_open(loop: str) -> None:
    with Served(ListenerLimits(write_timeout_s=0.1), loop) as served, served.connect() as sock:
        sock.sendall(post(b"", b"/hold") + post(b"", b"/hold"))
        served.wait_held(2)
        served.release(0, LARGE)
        served.wait_abandoned()
        assert served.held[1].gone
        with pytest.raises(ConnectionResetError):
            read_all(sock)
        assert served.listener.resets == 1


def test_an_answer_that_is_read_slowly_arrives(loop: str) -> None:
    with Served(ListenerLimits(write_timeout_s=5), loop) as served, served.connect() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        sock.sendall(post(b"", b"/large", b"Connection: close"))
        data = b""
        while part := sock.recv(10_000):
            data += part
        assert read_answers(data)[0].body == LARGE


# Hang-ups


@pytest.mark.parametrize("how", ["half-closed", "closed", "reset"])
def test_a_hang_up_abandons_what_is_open(how: str, loop: str) -> None:
    with Served(loop=loop) as served:
        sock = served.connect()
        sock.sendall(post(b"", b"/hold"))
        served.wait_held()
        if how == "half-closed":
            sock.shutdown(socket.SHUT_WR)
            assert read_all(sock) == b""
        elif how == "reset":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        sock.close()
        served.wait_abandoned()
        assert served.held[0].gone
        served.release(0)  # goes nowhere


def test_what_was_answered_before_a_half_close_arrives(loop: str) -> None:
    with Served(loop=loop) as served, served.connect() as sock:
        sock.sendall(post(b"1", b"/echo") + post(b"", b"/hold"))
        served.wait_held()
        sock.shutdown(socket.SHUT_WR)
        assert [answer.body for answer in read_answers(read_all(sock))] == [b"1"]
        served.wait_abandoned()


# Heartbeat


def test_a_call_that_takes_long_keeps_its_connection_warm(loop: str) -> None:
    with Served(ListenerLimits(heartbeat_s=0.05), loop) as served, served.connect() as sock:
        sock.sendall(post(b"", b"/hold"))
        data = read_answer(sock, b"1\r\n \r\n1\r\n \r\n1\r\n \r\n")
        assert b"Homing-Call-Id: c1\r\n" in data
        served.release(0, b'{"late":true}')
        sock.sendall(LAST)
        slow, last = read_answers(data + read_all(sock))
        assert json.loads(slow.body) == {"late": True}
        assert slow.body.startswith(b"   ")
        assert last.body == b"last"


def test_http_1_0_gets_none(loop: str) -> None:
    with Served(ListenerLimits(heartbeat_s=0.01), loop) as served, served.connect() as sock:
        sock.sendall(b"POST /hold HTTP/1.0\r\nContent-Length: 0\r\n\r\n")
        with served.connect() as other:
            other.sendall(post(b"", b"/hold"))
            read_answer(other, b"1\r\n \r\n1\r\n \r\n")  # so much time has passed
        served.release(0)
        (answer,) = read_answers(read_all(sock))
        assert answer.body == b"released"
        assert answer.headers["content-length"] == "8"


# The end


def test_closing_lets_what_is_open_be_answered(loop: str) -> None:
    with Served(loop=loop) as served, served.connect() as idle, served.connect() as busy:
        idle.sendall(post(b"1", b"/echo"))
        read_answer(idle, b"\r\n\r\n1")
        busy.sendall(post(b"", b"/hold"))
        served.wait_held()
        closed = asyncio.run_coroutine_threadsafe(served.listener.close(PATIENCE_S), served._loop)
        assert read_all(idle) == b""
        with pytest.raises(ConnectionRefusedError):
            served.connect()
        assert not closed.done()
        served.release(0)
        (answer,) = read_answers(read_all(busy))
        assert answer.headers["connection"] == "close"
        busy.close()
        closed.result(PATIENCE_S)


def test_closing_does_not_wait_for_ever(loop: str) -> None:
    with Served(loop=loop) as served, served.connect() as sock:
        sock.sendall(post(b"", b"/hold"))
        served.wait_held()
        served.run(served.listener.close(0.01))
        served.wait_abandoned()
        with pytest.raises(ConnectionResetError):
            read_all(sock)


def test_accepting_can_stop_while_connections_go_on(loop: str) -> None:
    with Served(loop=loop) as served, served.connect() as sock:
        sock.sendall(post(b"1", b"/echo"))
        read_answer(sock, b"\r\n\r\n1")
        served.do(served.listener.stop_accepting)
        with pytest.raises(ConnectionRefusedError):
            served.connect()
        sock.sendall(LAST)
        assert read_answers(read_all(sock))[0].body == b"last"


def test_a_port_that_is_taken_is_told(loop: str) -> None:
    with Served(loop=loop) as served:
        other = Listener(served._answer, ListenerLimits(), refusal=rpc.refusal)
        with pytest.raises(OSError, match="in use"):
            served.run(other.start("127.0.0.1", served.port))


def test_one_listener_may_listen_twice(loop: str) -> None:
    with Served(loop=loop) as served:
        first, served.port = served.port, served.run(served.listener.start("127.0.0.1", 0))
        assert first != served.port
        assert ask(served, LAST)[0].status == 200


def test_a_socket_that_is_bound_already_is_shared_and_outlives_who_stops(loop: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as shared, Served(loop=loop) as one, Served(loop=loop) as other:
        for served in (one, other):
            served.port = served.run(served.listener.start_on(shared.dup()))
            assert served.port == shared.getsockname()[1]
        one.do(one.listener.stop_accepting)
        for _ in range(20):  # the other takes them all, and none is refused
            assert ask(one, LAST)[0].body == b"last"
        other.do(other.listener.stop_accepting)
        with socket.create_connection(("127.0.0.1", one.port)) as waiting:  # whoever listens next will find it
            one.run(one.listener.start_on(shared.dup()))
            waiting.sendall(LAST)
            assert read_answers(read_all(waiting))[0].body == b"last"


def test_a_burst_is_shared_by_all_who_accept(loop: str) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=100) as shared, contextlib.ExitStack() as stack:
        for _ in range(64):
            stack.enter_context(socket.create_connection(shared.getsockname()))
        served = stack.enter_context(Served(loop=loop))
        other = Listener(served._answer, ListenerLimits(), refusal=rpc.refusal)

        async def both() -> tuple[int, int]:
            for listener in (served.listener, other):
                await listener.start_on(shared.dup())
            await until(lambda: served.listener.connections + other.connections == 64)
            return served.listener.connections, other.connections

        assert served.run(both()) == (32, 32)
        served.run(other.close(0.05))


class Scarce(socket.socket):
    """A listening socket in a process that has too many descriptors open, for a while."""

    left = 2

    def accept(self) -> tuple[socket.socket, Any]:
        if self.left:
            self.left -= 1
            raise OSError(errno.EMFILE, "Too many open files")
        return super().accept()


def test_who_has_no_descriptor_left_tries_again(loop: str) -> None:
    with Served(loop=loop) as served:
        with socket.create_server(("127.0.0.1", 0)) as opened:
            scarce = Scarce(fileno=opened.detach())
        served.port = served.run(served.listener.start_on(scarce))
        assert ask(served, LAST)[0].body == b"last"
        assert scarce.left == 0


def test_any_other_fault_of_a_socket_is_reported(loop: str) -> None:
    with Served(loop=loop) as served, socket.socket() as deaf, pytest.raises(OSError, match="Invalid argument"):
        served.do(served.listener._accept, deaf, None)


def test_who_comes_while_it_leaves_is_answered_and_who_was_idle_is_not_waited_for(loop: str) -> None:
    with Served(loop=loop) as served, served.connect() as idle:
        idle.sendall(post(b"1", b"/echo"))
        read_answer(idle, b"\r\n\r\n1")
        served.do(served.listener.part)
        with served.connect() as late:
            while served.do(lambda: served.listener.connections) < 2:
                threading.Event().wait(0.001)
            closing = asyncio.run_coroutine_threadsafe(served.listener.close(PATIENCE_S), served._loop)
            assert read_all(idle) == b""
            late.sendall(post(b"2", b"/echo"))
            answer = read_answers(read_all(late))[0]
            assert (answer.body, answer.headers["connection"]) == (b"2", "close")
            closing.result(PATIENCE_S)


def test_who_was_accepted_just_when_it_closes_is_answered(loop: str) -> None:
    with Served(loop=loop) as served, socket.create_server(("127.0.0.1", 0)) as shared:

        async def accept_and_close() -> None:
            await served.listener.start_on(shared.dup())
            served.listener._accept(served.listener._shared[0], None)
            assert served.listener.connections == 1
            await served.listener.close(PATIENCE_S)

        with socket.create_connection(shared.getsockname(), timeout=PATIENCE_S) as sock:
            sock.sendall(post(b"1", b"/echo"))
            served.run(accept_and_close())
            answer = read_answers(read_all(sock))[0]
            assert (answer.body, answer.headers["connection"]) == (b"1", "close")


def test_who_leaves_before_it_is_taken_harms_nobody(loop: str) -> None:
    with Served(loop=loop) as served, socket.create_server(("127.0.0.1", 0)) as shared:
        for _ in range(20):
            with socket.create_connection(shared.getsockname()) as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        served.port = served.run(served.listener.start_on(shared.dup()))
        assert ask(served, LAST)[0].body == b"last"


def test_a_listener_may_have_a_path(tmp_path: Path, loop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path has at most some hundred bytes
    with Served(loop=loop) as served, socket.socket(socket.AF_UNIX) as sock:
        served.run(served.listener.start_unix("admin.sock"))
        sock.settimeout(PATIENCE_S)
        sock.connect("admin.sock")
        sock.sendall(LAST)
        assert read_answers(read_all(sock))[0].body == b"last"
        other = Listener(served._answer, ListenerLimits(), refusal=rpc.refusal)
        with pytest.raises(FileNotFoundError):
            served.run(other.start_unix("nowhere/admin.sock"))


# Many, and hostile


def test_many_connections_are_held_and_each_gets_its_own_answer(loop: str) -> None:
    count = 300
    with Served(loop=loop) as served, contextlib.ExitStack() as stack:
        socks = [stack.enter_context(served.connect()) for _ in range(count)]
        for number, sock in enumerate(socks):
            sock.sendall(post(b"%d" % number, b"/hold", b"Connection: close"))
        served.wait_held(count)
        assert served.listener.connections == count
        assert served.do(lambda: served.listener.held_bytes) == sum(len(b"%d" % number) for number in range(count))
        for number in range(count):
            served.release(number, served.held[number].body)
        for number, sock in enumerate(socks):
            assert read_answers(read_all(sock))[0].body == b"%d" % number


def test_bodies_that_cannot_be_held_are_refused_and_others_are_not_disturbed(loop: str) -> None:
    with Served(ListenerLimits(held_bytes_max=1000), loop) as served, served.connect() as sock:
        sock.sendall(post(b"x" * 990, b"/hold", b"Connection: close"))
        served.wait_held()
        (answer,) = ask(served, post(b"y" * 11, b"/echo"))
        assert answer.status == 503
        assert answer.headers["retry-after"] == "1"
        error = json.loads(answer.body)["error"]["data"]
        assert (error["reason"], error["limit"], error["retry"]) == ("overloaded", "gateway.held_bytes_max", "safe")
        assert ask(served, post(b"y" * 9, b"/echo", b"Connection: close"))[0].status == 200
        served.release(0)
        assert read_answers(read_all(sock))[0].body == b"released"
        assert ask(served, post(b"y" * 900, b"/echo", b"Connection: close"))[0].status == 200


_stream = st.lists(
    st.binary(max_size=30) | st.sampled_from([case.data for case in GOOD + BAD if len(case.data) < 1000]), min_size=1, max_size=4
)


@pytest.fixture(scope="module")
def attacked() -> Iterator[tuple[Served, socket.socket]]:
    with Served(ListenerLimits(header_timeout_s=5, body_timeout_s=5)) as served, served.connect() as neighbour:
        yield served, neighbour


@settings(max_examples=60)
@given(parts=_stream)
def test_arbitrary_bytes_are_answered_or_closed_and_disturb_nobody(
    attacked: tuple[Served, socket.socket], parts: list[bytes]
) -> None:
    served, neighbour = attacked
    neighbour.sendall(post(b"before", b"/echo")[:30])
    with served.connect() as sock, contextlib.suppress(BrokenPipeError, ConnectionResetError):
        for part in parts:
            sock.sendall(part)
        sock.shutdown(socket.SHUT_WR)
        read_answers(read_all(sock))
    neighbour.sendall(post(b"before", b"/echo")[30:])
    assert read_answer(neighbour, b"before").startswith(b"HTTP/1.1 200 OK\r\n")


# Callers nobody here wrote


def curl(needs: Callable[[str], str], *args: str, stdin: bytes = b"") -> tuple[bytes, bytes]:
    done = subprocess.run(
        [needs("curl"), "-sS", "--max-time", "20", "-D", "/dev/stderr", *args], input=stdin, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stderr, done.stdout


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--http1.0"],
        ["--http2"],  # an upgrade that is not taken
        ["-H", "Transfer-Encoding: chunked"],
        ["-H", "Expect: 100-continue"],
        ["-H", "Expect: 100-continue", "-H", "Transfer-Encoding: chunked"],
        ["-H", "Connection: close"],
        ["-H", "Host:", "--http1.0"],
    ],
    ids=lambda options: " ".join(options) or "plain",
)
def test_curl(options: list[str], needs: Callable[[str], str], loop: str) -> None:
    body = b'{"jsonrpc":"2.0","id":1,"method":"x"}' * 5000
    with Served(loop=loop) as served:
        head, text = curl(needs, *options, "--data-binary", "@-", f"{served.url}/echo", stdin=body)
        assert b" 200 OK" in head
        assert text == body
        assert (b"100 Continue" in head) is ("Expect: 100-continue" in options)


def test_curl_uses_a_connection_again_and_is_told_of_refusals(needs: Callable[[str], str], loop: str) -> None:
    with Served(loop=loop) as served:
        head, text = curl(needs, "-d", "1", f"{served.url}/echo", "--next", "-sS", "-d", "2", f"{served.url}/echo")
        assert text == b"12"
        assert served.listener.accepted == 1
        head, text = curl(needs, "--data-binary", "@-", f"{served.url}/echo", stdin=b"x" * 3_000_000)
        assert head.startswith(b"HTTP/1.1 413 Content Too Large")
        assert json.loads(text)["error"]["data"]["executed"] == "no"
        head, _ = curl(needs, "-I", f"{served.url}/echo")
        assert head.startswith(b"HTTP/1.1 200 OK")


def test_http_client(loop: str) -> None:
    with Served(loop=loop) as served, contextlib.closing(http.client.HTTPConnection("127.0.0.1", served.port)) as caller:
        caller.request("POST", "/echo", iter([b"one", b"two"]), encode_chunked=True, headers={"Transfer-Encoding": "chunked"})
        assert caller.getresponse().read() == b"onetwo"
        caller.request("GET", "/echo")
        assert caller.getresponse().read() == b""
        caller.request("POST", "/echo", b"x" * 2_000_000)
        answer = caller.getresponse()
        assert answer.status == 413
        answer.read()
        caller.request("POST", "/echo", b"again")  # it noticed the close, and connects anew
        assert caller.getresponse().read() == b"again"


def test_aiohttp(loop: str) -> None:
    async def call(url: str) -> None:
        async with aiohttp.ClientSession() as session:
            answers = await asyncio.gather(*[session.post(f"{url}/echo", json={"n": n}) for n in range(200)])
            assert [await answer.json() for answer in answers] == [{"n": n} for n in range(200)]

            async def parts() -> Any:
                yield b"one"
                yield b"two"

            async with session.post(f"{url}/echo", data=parts(), expect100=True) as answer:
                assert await answer.read() == b"onetwo"

    with Served(loop=loop) as served:
        asyncio.run(call(served.url))


NODE = """
const url = process.argv[1];
(async () => {
  const calls = [];
  for (let n = 0; n < 50; n++) calls.push(fetch(url + "/echo", { method: "POST", body: JSON.stringify({ n }) }));
  const answers = await Promise.all((await Promise.all(calls)).map((answer) => answer.json()));
  answers.forEach((answer, n) => { if (answer.n !== n) throw new Error("mixed up"); });
  const late = await fetch(url + "/hold", { method: "POST", body: "" });
  console.log(JSON.stringify([answers.length, late.headers.get("homing-call-id"), await late.json()]));
})();
"""


def test_node(needs: Callable[[str], str], loop: str) -> None:
    with Served(ListenerLimits(heartbeat_s=0.05), loop) as served:
        with subprocess.Popen([needs("node"), "-e", NODE, served.url], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as node:
            served.wait_held()
            while not served.held[0].beating:  # its head is on the way
                served.do(lambda: None)
            served.release(0, b'{"late":true}')
            out, err = node.communicate(timeout=PATIENCE_S)
        assert node.returncode == 0, err
        assert json.loads(out) == [50, "c1", {"late": True}]


# TLS


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def certificate(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """The authority's certificate, the listener's chain and its key, as files."""
    folder = tmp_path_factory.mktemp("tls")
    issued = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    issued.private_key_pem.write_to_path(folder / "key.pem")
    for blob in issued.cert_chain_pems:
        blob.write_to_path(folder / "cert.pem", append=True)
    return folder / "ca.pem", folder / "cert.pem", folder / "key.pem"


@pytest.fixture
def secure(certificate: tuple[Path, Path, Path], loop: str) -> Iterator[Served]:
    limits = ListenerLimits(write_timeout_s=0.2, heartbeat_s=0.05)
    with Served(limits, loop, tls_context(str(certificate[1]), str(certificate[2]))) as served:
        yield served


@pytest.fixture
def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def wrap(served: Served, context: ssl.SSLContext) -> ssl.SSLSocket:
    return context.wrap_socket(served.connect(), server_hostname="127.0.0.1")


def test_curl_over_tls(secure: Served, certificate: tuple[Path, Path, Path], needs: Callable[[str], str]) -> None:
    _, text = curl(needs, "--cacert", str(certificate[0]), "-d", "1", f"{secure.url}/echo", "--next", "-sS", "--cacert",
                      str(certificate[0]), "-d", "2", f"{secure.url}/echo")  # fmt: skip
    assert text == b"12"
    assert secure.listener.accepted == 1


def test_tls_carries_calls_and_a_last_one(secure: Served, trusting: ssl.SSLContext) -> None:
    trusting.set_alpn_protocols(["h2", "http/1.1"])
    with wrap(secure, trusting) as sock:
        assert sock.selected_alpn_protocol() == "http/1.1"
        sock.sendall(post(b"", b"/hold"))
        secure.wait_held()
        assert secure.held[0].secure
        data = read_answer(sock, b"1\r\n \r\n")
        secure.release(0)
        sock.sendall(LAST)
        assert [answer.body.strip() for answer in read_answers(data + read_all(sock))] == [b"released", b"last"]


def test_a_refusal_arrives_over_tls(secure: Served, trusting: ssl.SSLContext) -> None:
    with wrap(secure, trusting) as sock:
        sock.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4000000\r\n\r\n" + b"x" * 4_000_000)
        assert b'"limit":"gateway.body_max"' in read_answer(sock, b"gateway.body_max")


def test_a_hang_up_over_tls_abandons_what_is_open(secure: Served, trusting: ssl.SSLContext) -> None:
    with wrap(secure, trusting) as sock:
        sock.sendall(post(b"", b"/hold"))
        secure.wait_held()
    secure.wait_abandoned()


def test_an_answer_that_is_never_read_over_tls(secure: Served, trusting: ssl.SSLContext) -> None:
    with wrap(secure, trusting) as sock:
        sock.sendall(post(b"", b"/hold") * 2)
        secure.wait_held(2)
        secure.release(0, LARGE)
        secure.wait_abandoned()


def test_who_speaks_no_tls_gets_nowhere(secure: Served) -> None:
    with secure.connect() as sock:
        sock.sendall(post(b"1", b"/echo"))
        with contextlib.suppress(ConnectionResetError):
            assert b"HTTP" not in read_all(sock)
    assert secure.listener.requests == 0


@pytest.mark.parametrize("loop", ["uvloop"], indirect=True)  # asyncio itself may leave a transport open when a handshake is cut
def test_tls_on_a_shared_socket(secure: Served, trusting: ssl.SSLContext) -> None:
    with socket.create_server(("127.0.0.1", 0)) as shared:
        secure.port = secure.run(secure.listener.start_on(shared.dup(), tls=secure.tls))
        with secure.connect() as stranger, secure.connect() as silent:
            stranger.sendall(b"POST /echo HTTP/1.1\r\n\r\n")
            read_all(stranger)
            with wrap(secure, trusting) as sock:
                sock.sendall(LAST)
                assert read_answers(read_all(sock))[0].body == b"last"
            secure.run(secure.listener.close(0.05))
            read_all(silent)  # it had not even begun


def test_old_tls_is_refused(secure: Served, trusting: ssl.SSLContext) -> None:
    trusting.maximum_version = ssl.TLSVersion.TLSv1_2
    with wrap(secure, trusting) as sock:
        assert sock.version() == "TLSv1.2"
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname = False
    old.verify_mode = ssl.CERT_NONE
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    with secure.connect() as plain, pytest.raises((ssl.SSLError, ConnectionResetError)):
        old.wrap_socket(plain)


def test_a_certificate_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "cert.pem").write_text("no")
    with pytest.raises(OSError, match="PEM"):
        tls_context(str(tmp_path / "cert.pem"), str(tmp_path / "cert.pem"))
    with pytest.raises(FileNotFoundError):
        tls_context(str(tmp_path / "none.pem"), str(tmp_path / "none.pem"))
