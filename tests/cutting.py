"""A TCP proxy that lets so many bytes of one direction pass and then cuts: for tests of what is said when a connection dies there.

async with CuttingProxy(provider.port, Cut("response", 17, "reset")) as proxy:
    ...  # connect to 127.0.0.1:proxy.port

with cutting(port, Cut("request", 0, "stop")) as proxy:  # on a thread of its own, for tests without a loop
    ...
"""

import asyncio
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal, Self, cast

from tests.loops import until

Way = Literal["request", "response"]
How = Literal["stop", "reset", "close"]


@dataclass(frozen=True)
class Cut:
    """As soon as `at` bytes have passed on `way`: stop (nothing more passes, both ends stay open), reset both ends, or close them.

    0 is at once when the connection is accepted.
    """

    way: Way
    at: int
    how: How


@dataclass
class Passage:
    """What passed on one connection."""

    request: bytearray = field(default_factory=bytearray)
    response: bytearray = field(default_factory=bytearray)
    cut: bool = False


class CuttingProxy:
    """Passes connections on to `host:port`. `cut` counts for connections accepted from then on; None passes everything."""

    def __init__(self, port: int, cut: Cut | None = None, *, host: str = "127.0.0.1") -> None:
        self.cut = cut
        self.passages: list[Passage] = []
        self.port = 0
        self._to = (host, port)
        self._server: asyncio.Server | None = None
        self._pairs: set[_Pair] = set()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _End(_Pair(self)), "127.0.0.1", 0, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._server is not None
        self._server.close()
        for pair in list(self._pairs):
            pair.end("reset")
        await until(lambda: not self._pairs)  # every socket is closed
        await self._server.wait_closed()


class _Pair:
    """The two ends of one connection through the proxy."""

    def __init__(self, proxy: CuttingProxy) -> None:
        self.proxy = proxy
        self.cut = proxy.cut
        self.passage = Passage()
        proxy.passages.append(self.passage)
        self.near: _End | None = None
        self.far: _End | None = None
        self.stopped = False
        self.ended = False
        self.connecting: asyncio.Task[None] | None = None

    def accepted(self, near: "_End") -> None:
        self.proxy._pairs.add(self)
        self.near = near
        near.transport.pause_reading()
        self.connecting = asyncio.get_running_loop().create_task(self.connect())

    async def connect(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            _, far = await loop.create_connection(lambda: _End(self), *self.proxy._to)
        except OSError:
            self.end("reset")
            return
        self.far = far
        self.connecting = None
        if self.ended:
            far.transport.abort()
            return
        if self.cut is not None and self.cut.at == 0:
            self.do_cut()
        if self.near is not None and not self.near.transport.is_closing():
            self.near.transport.resume_reading()

    def pass_on(self, came_from: "_End", data: bytes) -> None:
        if self.ended or self.near is None or self.far is None:
            return
        way: Way = "request" if came_from is self.near else "response"
        to = self.far if way == "request" else self.near
        passed = self.passage.request if way == "request" else self.passage.response
        if self.stopped:
            return  # both ways
        if self.cut is not None and self.cut.way == way:
            data = data[: self.cut.at - len(passed)]
        if data:
            passed += data
            to.transport.write(data)
        if self.cut is not None and self.cut.way == way and len(passed) >= self.cut.at:
            self.do_cut()

    def do_cut(self) -> None:
        assert self.cut is not None
        self.passage.cut = True
        if self.cut.how == "stop":
            self.stopped = True
        else:
            self.end(self.cut.how)

    def end(self, how: How) -> None:
        self.ended = True
        if self.connecting is not None:
            self.connecting.cancel()
        for end in (self.near, self.far):
            if end is not None:
                end.shut(reset=how == "reset")
        if self.near is None and self.far is None:
            self.proxy._pairs.discard(self)

    def lost(self, end: "_End") -> None:
        if end is self.near:
            self.near = None
        else:
            self.far = None
        if not self.ended:
            self.end("close")
        elif self.near is None and self.far is None:
            self.proxy._pairs.discard(self)


class _End(asyncio.Protocol):
    """One side of a pair."""

    def __init__(self, pair: _Pair) -> None:
        self.pair = pair

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.sock: socket.socket = transport.get_extra_info("socket")
        if self.pair.near is None and not self.pair.ended and self.pair.connecting is None:
            self.pair.accepted(self)

    def data_received(self, data: bytes) -> None:
        self.pair.pass_on(self, data)

    def eof_received(self) -> bool:
        return self.pair.stopped  # a stopped connection does not even end; whoever waits, waits

    def connection_lost(self, exc: Exception | None) -> None:
        self.pair.lost(self)

    def shut(self, *, reset: bool) -> None:
        if reset:
            # With a linger of 0 s closing sends RST and forgets what was not sent.
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.transport.abort()
        else:
            self.transport.close()


@contextmanager
def cutting(port: int, cut: Cut | None = None) -> Iterator[CuttingProxy]:
    """A cutting proxy on a thread of its own."""
    proxy = CuttingProxy(port, cut)
    up, over = threading.Event(), asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def main() -> None:
        async with proxy:
            loops.append(asyncio.get_running_loop())
            up.set()
            await over.wait()

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    try:
        up.wait()
        yield proxy
    finally:
        loops[0].call_soon_threadsafe(over.set)
        thread.join()
