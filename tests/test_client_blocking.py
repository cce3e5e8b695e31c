"""client_blocking: threads, forks and signals; what both clients share is in test_client_wire."""

import os
import select
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from homing import Client, NotExecuted, OutcomeUnknown
from homing.client_blocking import BlockingLink, Connection, poll, prepare
from tests.scripted_gateway import ScriptedGateway, Visit, each, joined, response, result


def link_of(client: Client) -> BlockingLink:
    assert isinstance(client._link, BlockingLink)
    return client._link


def test_threads_share_a_client_and_each_gets_its_own_answer() -> None:
    def echo(request):
        return result(request, request.json["params"])

    with ScriptedGateway(each(echo)) as gateway, Client(gateway.url) as client, ThreadPoolExecutor(16) as pool:
        asked = [{"n": n} for n in range(400)]
        assert list(pool.map(lambda params: client.call("echo", params), asked)) == asked
        assert gateway.visits <= 16
    assert len({request.id for request in gateway.requests}) == 400


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_leaves_its_parents_connections_alone() -> None:
    with ScriptedGateway(each(result)) as gateway, Client(gateway.url) as client:
        assert client.call("m") == "done"
        child = os.fork()
        if child == 0:  # nothing of the test's may run here
            try:
                os._exit(0 if client.call("m") == "done" else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert client.call("m") == "done"
        assert gateway.visits == 2


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_closes_its_client_whatever_its_parent_was_doing() -> None:
    with ScriptedGateway(each(result)) as gateway, Client(gateway.url) as client:
        client.call("m")
        with link_of(client)._lock:  # as a thread of the parent's may hold it
            child = os.fork()
            if child == 0:
                signal.alarm(20)
                client.close()
                os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert client.call("m") == "done"
        assert gateway.visits == 1


def test_ctrl_c_closes_the_connection() -> None:
    gone = threading.Event()

    def script(visit: Visit) -> None:
        visit.request()
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        visit.gone()
        gone.set()

    with joined("blocking", script) as (client, gateway):
        with pytest.raises(KeyboardInterrupt):
            client.call("m", timeout=30)
        assert gone.wait(10)
        assert len(gateway.requests) == 1


def test_closing_lets_calls_end_and_keeps_nothing() -> None:
    entered, release, gone = threading.Event(), threading.Event(), threading.Event()

    def script(visit: Visit) -> None:
        request = visit.request()
        assert request is not None
        entered.set()
        release.wait()
        visit.send(result(request))
        visit.gone()
        gone.set()

    with ScriptedGateway(script) as gateway, ThreadPoolExecutor(1) as pool:
        client = Client(gateway.url)
        calling = pool.submit(client.call, "m")
        assert entered.wait(10)
        client.close()
        release.set()
        assert calling.result(10) == "done"
        assert gone.wait(10)


def test_the_longest_idle_are_closed_as_others_come_back() -> None:
    with ScriptedGateway(each(result)) as gateway, Client(gateway.url) as client, ThreadPoolExecutor(4) as pool:
        ready = threading.Barrier(4)

        def call() -> object:
            ready.wait()
            return client.call("m")

        for calling in [pool.submit(call) for _ in range(4)]:
            calling.result(10)
        idle = link_of(client)._idle
        kept = [connection for _, connection in idle]
        link_of(client)._idle = [(since - 5, connection) for since, connection in idle]
        assert client.call("m") == "done"
        assert all(connection.sock.fileno() == -1 for connection in kept)
        assert len(link_of(client)._idle) == 1


class Broken:
    """A socket whose first write fails: the kernel takes not one byte."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    def __getattr__(self, name: str) -> object:
        return getattr(self.sock, name)

    def send(self, data: object) -> int:
        raise BrokenPipeError(32, "Broken pipe")


def test_a_connection_that_takes_no_byte_is_replaced() -> None:
    with joined("blocking", each(result), retries=0) as (client, gateway):
        assert client.call("m") == "done"
        connection = client.client._link._idle[0][1]
        connection.sock = Broken(connection.sock)
        assert client.call("m") == "done"
        assert gateway.visits == 2
        assert len(gateway.requests) == 2


def test_a_new_connection_that_takes_no_byte_is_not_executed(monkeypatch: pytest.MonkeyPatch) -> None:
    def send(connection: Connection, data: object) -> int:
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(Connection, "send", send)
    with joined("blocking", each(result), retries=0) as (client, gateway):
        caught = client.error("m")
    assert (type(caught), caught.reason) == (NotExecuted, "provider_unreachable")
    assert gateway.requests == []


@pytest.mark.parametrize("answered", [False, True])
def test_a_write_that_fails_half_way_does_not_hide_an_answer(monkeypatch: pytest.MonkeyPatch, answered: bool) -> None:
    body = b'{"jsonrpc":"2.0","id":null,"error":{"code":4130,"message":"m","data":{"reason":"too_large","executed":"no"}}}'
    sent: list[int] = []

    def send(connection: Connection, data: memoryview) -> int:
        if sent:
            raise BrokenPipeError(32, "Broken pipe")
        sent.append(connection.sock.send(data[:10]))
        return 10

    def script(visit: Visit) -> None:
        visit.read(10)
        if answered:
            visit.send(response(body, 413, [("Homing-Executed", "no")]))
        visit.sock.shutdown(socket.SHUT_WR)
        visit.gone()

    monkeypatch.setattr(Connection, "send", send)
    with joined("blocking", script, retries=0) as (client, gateway):
        caught = client.error("m")
        assert gateway.visits == 1
    assert (type(caught), caught.reason) == ((NotExecuted, "too_large") if answered else (OutcomeUnknown, "connection_lost"))


def test_a_connection_with_itself_is_none() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.connect(sock.getsockname())
        with pytest.raises(ConnectionRefusedError):
            prepare(sock)


def test_polling_looks_once_even_if_it_is_too_late() -> None:
    one, other = socket.socketpair()
    with one, other:
        assert not poll(one, select.POLLIN, 0.0)
        assert not poll(one, select.POLLIN, time.monotonic() + 0.002)
        other.send(b"x")
        assert poll(one, select.POLLIN, 0.0)
        assert poll(one, select.POLLIN, 1e308)  # in milliseconds that is more than a float holds
