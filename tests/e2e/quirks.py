"""A provider that answers with whatever bytes a test likes, on a thread of its own, and what goes on beside it undisturbed."""

import asyncio
import http.client
import json
import re
import socket
import ssl
import struct
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Self


@dataclass
class Line:
    """One connection of the provider's, with one whole request just read from it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    request: bytes = b""
    number: int = -1

    async def say(self, data: bytes, then_s: float = 0.0) -> None:
        """Write, and wait."""
        if self.writer.transport.is_closing():
            raise ConnectionResetError
        self.writer.write(data)
        await self.writer.drain()
        if then_s:
            await asyncio.sleep(then_s)

    def response(self, body: bytes | None = None, status: str = "200 OK", *fields: str) -> bytes:
        """A sound response; without a body it names the request's number."""
        if body is None:
            body = b'{"n":%d}' % self.number
        lines = [f"HTTP/1.1 {status}", *fields, f"Content-Length: {len(body)}", "", ""]
        return "\r\n".join(lines).encode() + body

    def reset(self) -> None:
        sock: socket.socket = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Quirk = Callable[[Line], Awaitable[bool | None]]
"""What the provider does with a request; True: the connection goes on."""


@dataclass
class QuirkyProvider:
    """`quirks` by path. `seen` counts whole requests by their number, `heads` those whose head was whole."""

    quirks: dict[str, Quirk] = field(default_factory=dict)
    tls: ssl.SSLContext | None = None
    greeting: bytes = b""
    port: int = 0
    connections: int = 0
    seen: Counter[int] = field(default_factory=Counter)
    requests: list[bytes] = field(default_factory=list)

    async def start(self) -> None:
        self.server = await asyncio.start_server(self._accepted, "127.0.0.1", 0, ssl=self.tls, backlog=1024, limit=4 << 20)
        self.port = self.server.sockets[0].getsockname()[1]
        self.tasks: set[asyncio.Task[None]] = set()

    async def stop(self) -> None:
        self.server.close()
        for task in list(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        try:
            if self.greeting:
                writer.write(self.greeting)
            while await self._one(Line(reader, writer)):
                pass
        except (OSError, EOFError, asyncio.CancelledError):
            pass
        finally:
            self.tasks.discard(task)
            writer.close()

    async def _one(self, line: Line) -> bool:
        head = await line.reader.readuntil(b"\r\n\r\n")
        path = head.split(b" ", 2)[1].partition(b"?")[0].decode()
        line.request = head
        quirk = self.quirks.get(path, _well)
        if path.startswith("/early"):
            return await quirk(line) is True
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        line.request += await line.reader.readexactly(int(length[1])) if length else b""
        number = re.search(rb'"n": ?(\d+)|[?&]n=(\d+)', line.request)
        line.number = int(number[1] or number[2]) if number else -1
        self.seen[line.number] += 1
        self.requests.append(line.request)
        return await quirk(line) is True


async def _well(line: Line) -> bool:
    await line.say(line.response())
    return True


@contextmanager
def on_a_thread(provider: Any) -> Iterator[Any]:
    """Run anything that has `start` and `stop`."""
    up, loops, over = threading.Event(), [], asyncio.Event()

    async def main() -> None:
        loops.append(asyncio.get_running_loop())
        await provider.start()
        up.set()
        await over.wait()
        await provider.stop()

    thread = threading.Thread(target=asyncio.run, args=(main(),), daemon=True)
    thread.start()
    assert up.wait(10)
    try:
        yield provider
    finally:
        loops[0].call_soon_threadsafe(over.set)
        thread.join(10)
        assert not thread.is_alive()


class Neighbour:
    """Somebody who calls every few milliseconds, all the while, and minds his own answers."""

    def __init__(self, port: int, method: str) -> None:
        self.calls = 0
        self.wrong: list[Any] = []
        self._port, self._method = port, method
        self._over, self._begun = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=20)
        number = 500_000_000
        while not self._over.wait(0.005):
            number += 1
            body = json.dumps({"jsonrpc": "2.0", "id": number, "method": self._method, "params": {"n": number}})
            try:
                connection.request("POST", "/rpc", body, {"Content-Type": "application/json", "Homing-Timeout": "15"})
                answer = json.loads(connection.getresponse().read())
            except (OSError, http.client.HTTPException) as error:
                self.wrong.append(repr(error))
                break
            finally:
                self._begun.set()
            self.calls += 1
            if answer != {"jsonrpc": "2.0", "id": number, "result": {"n": number}}:
                self.wrong.append(answer)
        connection.close()

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._begun.wait(20)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(30)
        assert not self._thread.is_alive()

    def check(self) -> None:
        """Nobody disturbed him: he was answered, rightly, and within the time he asked for, or it would be an error."""
        assert not self.wrong, self.wrong[:3]
        assert self.calls > 0
