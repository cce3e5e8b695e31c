"""A provider that does what its script says, byte by byte, and keeps the only log that counts: what it received.

async def script(visit: Visit) -> None:
    await visit.request()
    visit.send(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok")

async with ScriptedProvider(script) as provider:
    ...  # provider.port, provider.log
"""

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Self, TypeAlias


@dataclass
class Received:
    """One request as it came."""

    line: str
    headers: dict[str, str]
    body: bytes
    raw: bytes


@dataclass
class Visit:
    """One connection to the scripted provider. `raw` is every byte it received."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    number: int
    raw: bytearray = field(default_factory=bytearray)
    _unread: bytearray = field(default_factory=bytearray)

    async def more(self) -> bool:
        """Receive what there is; False at the end."""
        data = await self.reader.read(65536)
        self.raw += data
        self._unread += data
        return bool(data)

    async def request(self) -> Received:
        """Receive one whole request. Raises EOFError when the connection ends before."""
        while (end := self._unread.find(b"\r\n\r\n")) < 0:
            if not await self.more():
                raise EOFError
        lines = bytes(self._unread[:end]).decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
        length = end + 4 + int(headers.get("content-length", "0"))
        while len(self._unread) < length:
            if not await self.more():
                raise EOFError
        raw = bytes(self._unread[:length])
        del self._unread[:length]
        return Received(lines[0], headers, raw[end + 4 :], raw)

    def send(self, data: bytes) -> None:
        """Raises ConnectionResetError, which ends a script in order, when the other side has gone."""
        if self.writer.transport.is_closing():
            raise ConnectionResetError
        self.writer.write(data)

    async def send_slowly(self, data: bytes, size: int = 1) -> None:
        """Send it in pieces that arrive apart."""
        for at in range(0, len(data), size):
            self.send(data[at : at + size])
            await self.writer.drain()
            for _ in range(3):
                await asyncio.sleep(0)

    async def end(self) -> None:
        """Wait until the other side has closed, logging what it still sends."""
        while await self.more():
            pass

    def close(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        if self.writer.transport.is_closing():
            raise ConnectionResetError
        sock: socket.socket = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport: asyncio.WriteTransport = self.writer.transport
        transport.abort()


Script: TypeAlias = Callable[[Visit], Awaitable[None]]


class ScriptedProvider:
    """Runs `script` for each connection. When a script returns, its connection stays open until the other side closes."""

    def __init__(self, script: Script, *, tls: ssl.SSLContext | None = None) -> None:
        self.script = script
        self.visits: list[Visit] = []
        self.broken: list[BaseException] = []
        self.port = 0
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()

    @property
    def log(self) -> list[bytes]:
        """What was received, by connection."""
        return [bytes(visit.raw) for visit in self.visits]

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._visit, "127.0.0.1", 0, ssl=self._tls, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._server is not None
        self._server.close()
        for one in list(self._open):
            one.cancel()
        if self._open:
            await asyncio.wait(self._open)
        await self._server.wait_closed()
        if self.broken:
            raise self.broken[0]

    async def _visit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        me = asyncio.current_task()
        assert me is not None
        self._open.add(me)
        visit = Visit(reader, writer, len(self.visits))
        self.visits.append(visit)
        try:
            await self.script(visit)
            await visit.end()
        except (OSError, EOFError, asyncio.CancelledError):
            pass  # the other side went away, or the test is over
        except BaseException as error:
            self.broken.append(error)
        finally:
            self._open.discard(me)
            writer.transport.abort()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()


def replies(*responses: bytes) -> Script:
    """A script: one response per request, the last one again and again."""

    async def script(visit: Visit) -> None:
        for index in range(1_000_000):
            await visit.request()
            visit.send(responses[min(index, len(responses) - 1)])

    return script


def response(body: bytes = b'{"ok":true}', status: str = "200 OK", *headers: str) -> bytes:
    """A whole response with Content-Length."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body


def closed_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@asynccontextmanager
async def deaf(host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[int]:
    """A port that answers no connection attempt: its queue is full, so the kernel drops what comes."""
    listener = socket.socket()
    fillers = []
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(0)
        for _ in range(3):
            filler = socket.socket()
            fillers.append(filler)
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]
    finally:
        for sock in (listener, *fillers):
            sock.close()
