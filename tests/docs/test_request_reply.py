"""docs/explanation/request-reply.md: what it says goes wrong does go wrong, and what it says of homing's client holds.

The page's own blocks are run, against a small server with real sockets that keeps a ledger of what it did.
"""

import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Self, TypeAlias

import pytest
import zmq

from homing import Client, NotExecuted, OutcomeUnknown
from homing.core.broker import BrokerLimits
from tests.broker_host import Host
from tests.brokers import ok
from tests.docs.pages import DOCS, blocks_of
from tests.scripted_gateway import free_port

Load: TypeAlias = Callable[[str], ModuleType]
Keep: TypeAlias = Callable[[zmq.Socket[bytes]], zmq.Socket[bytes]]

PAGE = DOCS / "explanation" / "request-reply.md"


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Load]:
    """A module of the page, by the name of its file."""
    files = {block.words["file"]: block.text for block in blocks_of(PAGE) if "file" in block.words}
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)

    def load(name: str) -> ModuleType:
        return __import__(name)

    yield load
    if "naive" in sys.modules:
        sys.modules["naive"].context.destroy(linger=0)
    for name in files:
        sys.modules.pop(name.removesuffix(".py"), None)


@pytest.fixture
def keep() -> Iterator[Keep]:
    """Keeps a socket for the length of a test."""
    kept: list[zmq.Socket[bytes]] = []

    def keep(socket: zmq.Socket[bytes]) -> zmq.Socket[bytes]:
        kept.append(socket)
        return socket

    yield keep
    for socket in kept:
        socket.close(linger=0)


class Server:
    """Does what it is asked, one after the other, and answers each; that is all. `ledger` is what it has done."""

    def __init__(self, work: Callable[[bytes], bytes | None], port: int = 0) -> None:
        self.ledger: list[bytes] = []
        self._work = work
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.REP)
        self._socket.setsockopt(zmq.RCVTIMEO, 10)
        self._socket.bind(f"tcp://127.0.0.1:{port or '*'}")
        self.endpoint = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def did(self, count: int) -> None:
        """Return when it has done so many."""
        pause = threading.Event()
        while len(self.ledger) < count:
            pause.wait(0.005)

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                request = self._socket.recv()
            except zmq.Again:
                continue
            self.ledger.append(request)
            answer = self._work(request)
            if answer is None:
                break  # it dies with the answer on its lips
            self._socket.send(answer)
        self._context.destroy(linger=0)


# The loop that everybody writes


def test_the_loop_works_while_answers_are_quick(load: Load, keep: Keep) -> None:
    naive = load("naive")
    with Server(lambda request: b"done " + request) as server:
        socket = keep(naive.connect(server.endpoint))
        assert [naive.ask(socket, b"%d" % n) for n in range(3)] == [b"done 0", b"done 1", b"done 2"]


def test_after_one_timeout_it_is_stuck(load: Load, keep: Keep) -> None:
    naive = load("naive")
    release = threading.Event()

    def slow(request: bytes) -> bytes:
        release.wait()
        return b"late"

    with Server(slow) as server:
        socket = keep(naive.connect(server.endpoint))
        for _ in range(2):
            with pytest.raises(zmq.ZMQError, match="Operation cannot be accomplished in current state") as caught:
                naive.ask(socket, b"charge")
            assert caught.value.errno == zmq.EFSM
        release.set()
        assert "Operation cannot be accomplished in current state" in PAGE.read_text(encoding="utf-8")


def test_a_late_answer_is_taken_for_the_next_requests(load: Load, keep: Keep) -> None:
    naive, relaxed = load("naive"), load("relaxed")
    with zmq.Context() as context, context.socket(zmq.ROUTER) as server, ThreadPoolExecutor(1) as pool:
        server.bind("tcp://127.0.0.1:*")
        socket = keep(relaxed.connect(server.getsockopt_string(zmq.LAST_ENDPOINT)))
        with pytest.raises(TimeoutError):
            naive.ask(socket, b"first", tries=1)
        asking = pool.submit(naive.ask, socket, b"second", 1)
        first, second = server.recv_multipart(), server.recv_multipart()
        assert (first[-1], second[-1]) == (b"first", b"second")
        server.send_multipart([*first[:-1], b"the answer to first"])
        assert asking.result(10) == b"the answer to first"


def test_a_dealer_does_the_same() -> None:
    with zmq.Context() as context, context.socket(zmq.ROUTER) as server, context.socket(zmq.DEALER) as socket:
        server.bind("tcp://127.0.0.1:*")
        socket.connect(server.getsockopt_string(zmq.LAST_ENDPOINT))
        socket.send(b"first")  # its caller gives up
        socket.send(b"second")
        first = server.recv_multipart()
        server.send_multipart([first[0], b"the answer to first"])
        assert socket.recv() == b"the answer to first"
        socket.setsockopt(zmq.LINGER, 0)


def test_the_retry_does_it_three_times(load: Load, keep: Keep) -> None:
    naive, correlated = load("naive"), load("correlated")
    release = threading.Event()

    def slow(request: bytes) -> bytes:
        release.wait()
        return b"done"

    with Server(slow) as server:
        socket = keep(correlated.connect(server.endpoint))
        with pytest.raises(TimeoutError):
            naive.ask(socket, b"charge")
        release.set()
        server.did(3)
        assert server.ledger == [b"charge"] * 3


def test_it_says_the_same_whatever_became_of_the_request(load: Load, keep: Keep) -> None:
    naive, correlated = load("naive"), load("correlated")
    port = free_port()
    socket = keep(correlated.connect(f"tcp://127.0.0.1:{port}"))
    with pytest.raises(TimeoutError) as nobody:
        naive.ask(socket, b"charge", tries=1)
    with Server(lambda request: b"done", port) as server:
        server.did(1)  # long after its caller was told that nothing came
        assert server.ledger == [b"charge"]
    with Server(lambda request: None) as server:
        socket = keep(correlated.connect(server.endpoint))
        with pytest.raises(TimeoutError) as done:
            naive.ask(socket, b"charge", tries=1)
        assert server.ledger == [b"charge"]
    assert str(nobody.value) == str(done.value)


# The same with homing

PATIENT = BrokerLimits(no_worker_after_s=30)


def test_a_call_that_timed_out_is_in_nobodys_way(load: Load) -> None:
    charge = load("client").charge
    with Host() as host, Client(host.url) as client, ThreadPoolExecutor(1) as pool:
        with pytest.raises(OutcomeUnknown) as caught:
            client.call("acme.charge", {"amount": 1}, timeout=0.7)
        assert caught.value.reason == "deadline_exceeded"
        calling = pool.submit(charge, client, 2)
        host.begun(2)
        host.answer(ok(b'"the answer to the first"'), 0)
        host.answer(ok(b'"the answer to the second"'), 1)
        assert calling.result(20) == "the answer to the second"
        assert len(host.provider.started) == 2  # nobody has tried again


def test_what_nobody_began_will_not_begin_any_more(load: Load) -> None:
    charge = load("client").charge
    with Host({"acme.charge": ok()}, served=False, limits=PATIENT) as host, Client(host.url) as client:
        with pytest.raises(NotExecuted) as caught:
            client.call("acme.charge", {"amount": 1}, timeout=0.7)
        assert caught.value.reason in {"expired", "overloaded"}
        host.start_worker()
        assert charge(client, 2) == "done"
        assert [start.body for start in host.provider.started] == [b'{"amount":2}']


def test_nobody_there_and_nobody_to_do_it(load: Load) -> None:
    with Host(served=False) as host:
        with Client(host.url, retries=0) as client:
            assert load("client").charge(client, 1) == "not done: no_worker"
        host.kill_broker()
        with Client(host.url, timeout=0.3) as client, pytest.raises(NotExecuted) as caught:
            client.call("acme.charge")
        assert caught.value.reason == "broker_lost"


def test_done_or_not_nobody_knows(load: Load) -> None:
    with Host() as host, Client(host.url) as client, ThreadPoolExecutor(1) as pool:
        calling = pool.submit(load("client").charge, client, 1)
        host.begun()
        host.kill_worker()
        assert calling.result(20) == f"look at {host.provider.started[0].call_id.hex()}: worker_lost"


def test_the_broker_dies_while_it_is_being_done(load: Load) -> None:
    with Host() as host, Client(host.url) as client, ThreadPoolExecutor(1) as pool:
        calling = pool.submit(load("client").charge, client, 1)
        host.begun()
        host.kill_broker()
        host.answer(ok())
        host.start_broker()
        assert calling.result(30) == "done"
        assert len(host.provider.started) == 1
