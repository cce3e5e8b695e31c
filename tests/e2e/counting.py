"""A provider that counts the bytes it got of every request, and a proxy that cuts each connection at a place of its own."""

import asyncio
import re
import ssl
from collections import Counter
from collections.abc import Iterator

from tests.cutting import Cut, CuttingProxy


class CountingProvider:
    """Keeps, for every number of six digits, how many bytes of plaintext came, and how often all of the request did."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.bytes = 0
        self.got: Counter[int] = Counter()
        self.done: Counter[int] = Counter()
        self._context = context

    async def start(self) -> int:
        self.server = await asyncio.start_server(self._accepted, "127.0.0.1", 0, ssl=self._context, backlog=1024)
        return int(self.server.sockets[0].getsockname()[1])

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._one(reader, writer):
                pass
        except (OSError, EOFError, asyncio.CancelledError):
            writer.transport.abort()
        else:
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        request = b""
        number = -1
        while b"\r\n\r\n" not in request or len(request) < request.index(b"\r\n\r\n") + 4 + _length(request):
            data = await reader.read(65536)
            if not data:
                return False
            request += data
            self.bytes += len(data)
            if found := re.match(rb"POST /once/(\d{6})", request):
                number = int(found[1])
                self.got[number] = len(request)
        self.done[number] += 1
        body = b'{"n":%d}' % number
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        return True


def _length(request: bytes) -> int:
    found = re.search(rb"(?i)content-length: (\d+)", request)
    return int(found[1]) if found else 0


class Cutter(CuttingProxy):
    """The next connection gets the next cut."""

    def __init__(self, port: int, cuts: Iterator[Cut]) -> None:
        self.cuts = cuts
        super().__init__(port)

    @property
    def cut(self) -> Cut | None:
        return next(self.cuts, None)

    @cut.setter
    def cut(self, cut: Cut | None) -> None:
        pass
