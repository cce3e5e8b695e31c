"""A TCP proxy that is told by the request itself where to cut it, so that a thousand cuts can be made side by side.

`cut=request:17:reset` anywhere in a request passes on its first 17 bytes and then resets both ends; `cut=response:0:stop` passes the
whole request on and nothing of what comes back. What passed of every request is kept: the strictest witness there is, for what a
provider does with half a request is its own affair. `cut2=…` counts for the second request of its number only, and for a request of
`/lookup` it is `look=…` that counts.
"""

import asyncio
import re
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

HOWS = ("reset", "close", "stop", "split")
SPLIT_S = 0.002


@dataclass
class Passage:
    """One request: how much of it and of what came back passed. `size` is the whole request's."""

    number: int  # `"n": 17` of its params, -1 without
    path: str
    size: int
    request_bytes: int = 0
    response_bytes: int = 0
    cut: bool = False

    @property
    def whole(self) -> bool:
        return self.request_bytes == self.size


class Surgeon:
    """Passes requests on to 127.0.0.1:`to`. `word` is what stands before a cut."""

    def __init__(self, to: int = 0, word: str = "cut") -> None:
        self.port = 0
        self.passages: list[Passage] = []
        self.connections = 0
        self.to = to
        self._cuts = {
            each: re.compile(each.encode() + rb"(\d?)(?:=|%3D)(request|response)(?::|%3A)(\d+)(?::|%3A)(\w+)")
            for each in (word, "look")
        }
        self._word = word
        self._open: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", 0, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        self._server.close()
        for each in list(self._open):
            each.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        me = asyncio.current_task()
        assert me is not None
        self._open.add(me)
        far: asyncio.StreamWriter | None = None
        try:
            far_reader, far = await asyncio.open_connection("127.0.0.1", self.to)
            while await self._one(reader, writer, far_reader, far):
                pass
        except (OSError, EOFError):
            _reset(writer)
        except asyncio.CancelledError:
            pass
        finally:
            self._open.discard(me)
            writer.close()
            if far is not None:
                far.close()

    async def _one(
        self, near: asyncio.StreamReader, to_near: asyncio.StreamWriter, far: asyncio.StreamReader, to_far: asyncio.StreamWriter
    ) -> bool:
        """One exchange. False: it was the last of its connection."""
        request = await self._whole(near, far)
        if not request:
            return False
        number = re.search(rb'"n": ?(\d+)|[?&]n=(\d+)', request)
        passage = Passage(
            int(number[1] or number[2]) if number else -1,
            request.split(b" ", 2)[1].decode("latin-1").partition("?")[0],
            len(request),
        )
        self.passages.append(passage)
        way, at, how = self._find(request, passage)
        if way == b"request" and (at < len(request) or how != "split"):
            passage.request_bytes = min(at, len(request))
            to_far.write(request[:at])
            if not await self._act(how, passage, near, to_near, to_far):
                return False
            await asyncio.sleep(SPLIT_S)
            request = request[at:]
        passage.request_bytes += len(request)
        to_far.write(request)
        seen = bytearray()
        if await self._back(passage, far, to_near, seen, at if way == b"response" else -1):
            if not await self._act(how, passage, near, to_near, to_far):
                return False
            await asyncio.sleep(SPLIT_S)
            to_near.write(seen[at:])
            passage.response_bytes = len(seen)
            await self._back(passage, far, to_near, seen, -1)
        return True

    def _find(self, request: bytes, passage: Passage) -> tuple[bytes, int, str]:
        """The cut of this request."""
        cuts = list(self._cuts["look" if passage.path == "/lookup" else self._word].finditer(request))
        if not cuts:
            return b"", 0, ""
        turn = sum(each.number == passage.number and each.path == passage.path for each in self.passages)
        for which, way, at, how in (each.groups() for each in cuts):
            if which in (b"", b"%d" % turn):
                return way, int(at), how.decode()
        return b"", 0, ""

    async def _whole(self, near: asyncio.StreamReader, far: asyncio.StreamReader) -> bytes:
        """A whole request; b"" if either end is gone before one begins."""
        first, ended = asyncio.ensure_future(near.readuntil(b"\r\n\r\n")), asyncio.ensure_future(far.read(1))
        try:
            await asyncio.wait((first, ended), return_when=asyncio.FIRST_COMPLETED)
            if not first.done():
                return b""
            head = first.result()
        except asyncio.IncompleteReadError:
            return b""
        finally:
            for each in (first, ended):
                each.cancel()
            await asyncio.gather(first, ended, return_exceptions=True)
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        return head + (await near.readexactly(int(length[1])) if length else b"")

    async def _back(
        self, passage: Passage, far: asyncio.StreamReader, to_near: asyncio.StreamWriter, seen: bytearray, at: int
    ) -> bool:
        """Pass one response on, `seen` being what has come of it. True: the cut is due, before the response was whole."""
        while not _complete(seen):
            if at == 0:
                return True
            data = await far.read(65536)
            if not data:
                raise EOFError
            before = len(seen)
            seen += data
            if at >= 0 and len(seen) >= at:
                to_near.write(data[: at - before])
                passage.response_bytes = at
                return True
            passage.response_bytes = len(seen)
            to_near.write(data)
        return False

    async def _act(
        self, how: str, passage: Passage, near: asyncio.StreamReader, to_near: asyncio.StreamWriter, to_far: asyncio.StreamWriter
    ) -> bool:
        """Cut. True: what is left may follow after a moment."""
        passage.cut = True
        if how == "split":
            return True
        if how == "stop":
            while await near.read(65536):  # until the other side gives up
                pass
        elif how == "reset":
            _reset(to_near)
            _reset(to_far)
        return False


def _complete(response: bytearray) -> bool:
    head, empty, body = bytes(response).partition(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    if length is not None:
        return len(body) >= int(length[1])
    return bool(empty) and (b"chunked" not in head.lower() or body.endswith(b"\r\n0\r\n\r\n"))


def _reset(writer: asyncio.StreamWriter) -> None:
    sock: socket.socket | None = writer.get_extra_info("socket")
    if sock is not None and sock.fileno() >= 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@contextmanager
def surgery(to: int = 0, word: str = "cut") -> Iterator[Surgeon]:
    """A surgeon at work on a thread of its own."""
    surgeon = Surgeon(to, word)
    up, loops, over = threading.Event(), [], asyncio.Event()

    async def main() -> None:
        loops.append(asyncio.get_running_loop())
        await surgeon.start()
        up.set()
        await over.wait()
        await surgeon.stop()

    thread = threading.Thread(target=asyncio.run, args=(main(),), daemon=True)
    thread.start()
    assert up.wait(10)
    try:
        yield surgeon
    finally:
        loops[0].call_soon_threadsafe(over.set)
        thread.join(10)
        assert not thread.is_alive()
