"""homing.edges.provider: connections that are kept for the next exchange, and when they are not taken."""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable

import pytest

from homing.core.exchange import HttpRequest, HttpResponse
from tests.asking import OK, ask, calling
from tests.loops import on_both_loops, until
from tests.scripted import ScriptedProvider, Visit, replies, response


@on_both_loops
async def test_what_must_not_happen_twice_takes_no_old_connection() -> None:
    async with ScriptedProvider(replies(response())) as there, calling(there.port) as provider:
        await ask(provider)
        (connection,) = provider._resting
        connection.rest_since -= 1.0
        assert await ask(provider, fresh=True) == OK
        assert len(there.visits) == 2
        assert provider.resting == 2
        await asyncio.gather(ask(provider), ask(provider))  # others may take the old one
        assert len(there.visits) == 2


@on_both_loops
async def test_a_connection_that_rested_long_is_closed() -> None:
    async with ScriptedProvider(replies(response())) as there, calling(there.port, idle_timeout_s=0.5) as provider:
        await asyncio.gather(ask(provider), ask(provider))
        assert provider.resting == 2
        await until(lambda: provider.connections == 0)
        assert await ask(provider) == OK
        await until(lambda: provider.connections == 0)
        assert len(there.visits) == 3


@on_both_loops
@pytest.mark.parametrize(
    ("hint", "rested_s", "connections"), [("timeout=5", 3.9, 1), ("timeout=5", 4.1, 2), ("timeout=0", 0, 2), ("max=3", 50, 1)]
)
async def test_what_the_provider_says_of_its_patience_is_heard(hint: str, rested_s: float, connections: int) -> None:
    async with (
        ScriptedProvider(replies(response(b"", "200 OK", f"Keep-Alive: {hint}"))) as there,
        calling(there.port) as provider,
    ):
        await ask(provider)
        (connection,) = provider._resting
        connection.rest_since -= rested_s
        await ask(provider)
        assert len(there.visits) == connections


@on_both_loops
@pytest.mark.parametrize("version", ["HTTP/1.0", "HTTP/1.1"])
async def test_a_connection_that_the_provider_will_close_is_not_used_again(version: str) -> None:
    text = f"{version} 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok".encode()
    async with ScriptedProvider(replies(text)) as there, calling(there.port) as provider:
        for _ in range(3):
            assert isinstance(await ask(provider), HttpResponse)
        assert len(there.visits) == 3
        await until(lambda: provider.connections == 0)


@on_both_loops
async def test_a_connection_that_died_while_it_rested_is_noticed() -> None:
    async def script(visit: Visit) -> None:
        await visit.request()
        visit.send(response())
        visit.close()

    async with ScriptedProvider(script) as there, calling(there.port) as provider:
        for number in range(1, 4):
            assert await ask(provider) == OK
            await until(lambda: provider.connections == 0)
            assert len(there.visits) == number


class Blocking:
    """A provider on a thread, so that it can act while the loop under test stands still."""

    def __init__(self, after: Callable[[socket.socket], None]) -> None:
        self.after = after
        self.may_act, self.acted, self.over = threading.Event(), threading.Event(), threading.Event()
        self.connections = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self) -> None:
        with contextlib.ExitStack() as stack:
            for number in range(2):
                sock, _ = self.listener.accept()
                stack.enter_context(sock)
                self.connections += 1
                seen = b""
                while not seen.endswith(b'{"amount":12}'):
                    seen += sock.recv(65536)
                sock.sendall(response(b"%d" % number))
                if number == 0:
                    self.may_act.wait()
                    self.after(sock)
                    self.acted.set()
            self.over.wait()


@on_both_loops
@pytest.mark.parametrize("way", ["end", "reset", "response"])
async def test_what_waits_to_be_read_on_a_resting_connection_is_noticed_before_it_is_used(way: str) -> None:
    def after(sock: socket.socket) -> None:
        if way == "response":
            sock.sendall(response(b"never"))
        elif way == "end":
            sock.shutdown(socket.SHUT_WR)
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()

    there = Blocking(after)
    try:
        async with calling(there.port) as provider:
            assert await ask(provider) == HttpResponse(200, {"content-length": "1"}, b"0")
            there.may_act.set()
            there.acted.wait()  # the loop does not turn meanwhile, so it cannot know
            assert provider.resting == 1
            assert await ask(provider) == HttpResponse(200, {"content-length": "1"}, b"1")
            assert there.connections == 2
    finally:
        there.over.set()
        there.thread.join()
        there.listener.close()


@on_both_loops
@pytest.mark.parametrize("extra", [b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstale", b"x", b"\r\n"])
@pytest.mark.parametrize("later", [False, True])
async def test_no_byte_that_nobody_asked_for_answers_a_call(extra: bytes, later: bool) -> None:
    async def script(visit: Visit) -> None:
        asked = await visit.request()
        visit.send(response(asked.body))
        if later:
            await asyncio.sleep(0.005)
        visit.send(extra)
        while True:
            asked = await visit.request()
            visit.send(response(asked.body))

    async with ScriptedProvider(script) as there, calling(there.port) as provider:
        for index in range(4):
            body = str(index).encode()
            assert await ask(provider, HttpRequest("POST", "/", (), body)) == HttpResponse(200, {"content-length": "1"}, body)
            if later or extra != b"\r\n":  # a blank line in the same read is passed over, and says nothing
                await until(lambda: provider.connections == 0)
                assert len(there.visits) == index + 1
