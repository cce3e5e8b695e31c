"""A connection without a network: segments exactly as a test cuts them, a clock that stands until it is set, and what came back."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from homing.edges.http_connection import Connection
from homing.edges.http_exchange import Exchange, Shared
from homing.edges.http_head import ListenerLimits
from homing.edges.http_reply import Fields

TEXT = [(b"Content-Type", b"text/plain")]


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


def read_answers(data: bytes, methods: Sequence[str] = ()) -> list[Answer]:
    """Read answers as strictly as they should be written. `methods` are those of the requests, where one was a HEAD."""
    answers: list[Answer] = []
    finals = 0
    while data:
        head, found, data = data.partition(b"\r\n\r\n")
        assert found, head
        line, *fields = head.split(b"\r\n")
        version, _, rest = line.partition(b" ")
        assert version == b"HTTP/1.1"
        status = int(rest[:3])
        headers: dict[str, str] = {}
        for text in fields:
            name, colon, value = text.decode("latin-1").partition(": ")
            assert colon
            assert name.lower() not in headers, name
            headers[name.lower()] = value
        method = methods[finals] if finals < len(methods) else "POST"
        finals += status >= 200
        body = b""
        if "transfer-encoding" in headers:
            assert headers["transfer-encoding"] == "chunked"
            while size := int(data.split(b"\r\n", 1)[0], 16):
                data = data.split(b"\r\n", 1)[1]
                body, data = body + data[:size], data[size:]
                assert data[:2] == b"\r\n"
                data = data[2:]
            assert data[:5] == b"0\r\n\r\n"
            data = data[5:]
        elif status >= 200 and status != 204 and method != "HEAD":
            length = int(headers["content-length"])
            assert len(data) >= length
            body, data = data[:length], data[length:]
        answers.append(Answer(status, headers, body))
    return answers


class Loop:
    """As much of a loop as a connection asks for. Time passes when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.soon: list[Callable[[], None]] = []
        self.reports: list[dict[str, Any]] = []

    def time(self) -> float:
        return self.now

    def call_soon(self, callback: Callable[[], None]) -> None:
        self.soon.append(callback)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.reports.append(context)

    def turn(self) -> None:
        soon, self.soon = self.soon, []
        for callback in soon:
            callback()


class Transport:
    """Takes what is written, or with `stuck` as much as a kernel buffer holds."""

    def __init__(self, *, half_closes: bool = True) -> None:
        self.half_closes = half_closes
        self.sent = bytearray()
        self.kept = bytearray()  # written, not taken
        self.writes = 0
        self.room: int | None = None  # bytes that are still taken; None: all
        self.eof = self.closing = self.aborted = False
        self.reading = True
        self.protocol: Connection | None = None
        self.limits: dict[str, int] = {}

    def set_write_buffer_limits(self, **limits: int) -> None:
        self.limits = limits

    def get_write_buffer_size(self) -> int:
        return len(self.kept)

    def get_extra_info(self, name: str) -> object:
        return ("192.0.2.7", 4711) if name == "peername" else None

    def is_closing(self) -> bool:
        return self.closing

    def can_write_eof(self) -> bool:
        return self.half_closes

    def write(self, data: bytes) -> None:
        assert isinstance(data, bytes)
        assert not self.eof
        assert not self.closing
        self.writes += 1
        before = len(self.kept)
        self.kept += data
        self._take()
        if self.kept and not before:
            assert self.protocol is not None
            self.protocol.pause_writing()

    def writelines(self, parts: Iterable[bytes]) -> None:
        self.write(b"".join(parts))

    def read_by_caller(self, count: int | None = None) -> None:
        """The caller reads: there is room for so many bytes more."""
        self.room = None if count is None else (self.room or 0) + count
        before = len(self.kept)
        self._take()
        if before and not self.kept:
            assert self.protocol is not None
            self.protocol.resume_writing()

    def _take(self) -> None:
        count = len(self.kept) if self.room is None else min(self.room, len(self.kept))
        self.sent += self.kept[:count]
        del self.kept[:count]
        if self.room is not None:
            self.room -= count

    def write_eof(self) -> None:
        self.eof = True

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = self.aborted = True
        self.kept.clear()

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


@dataclass
class Line:
    """One connection of a listener that has no sockets. Exchanges are answered by `reply`, or wait in `exchanges`."""

    limits: ListenerLimits = field(default_factory=ListenerLimits)
    reply: Callable[[Exchange], None] | None = None
    half_closes: bool = True
    shared: Shared | None = None

    def __post_init__(self) -> None:
        self.exchanges: list[Exchange] = []
        self.seen: list[tuple[str, str, str, str, tuple[tuple[bytes, bytes], ...], bytes]] = []
        self.refusals: list[tuple[int, str, str | None]] = []
        self.origins: list[bytes | None] = []  # of those requests
        if self.shared is None:
            self.shared = Shared(self._answer, self.limits, self._refusal)
            self.shared.loop = cast(asyncio.AbstractEventLoop, Loop())
            self.shared.date = b"Date: Thu, 01 Jan 1970 00:00:00 GMT"
        self.transport = Transport(half_closes=self.half_closes)
        self.connection = Connection(self.shared, secure=False)
        self.transport.protocol = self.connection
        self.connection.connection_made(cast(asyncio.Transport, self.transport))

    def _answer(self, exchange: Exchange) -> None:
        self.exchanges.append(exchange)
        self.seen.append(
            (
                exchange.method,
                exchange.path,
                exchange.query,
                exchange.http_version,
                tuple(exchange.headers),
                exchange.body,
            )
        )
        if self.reply is not None:
            self.reply(exchange)

    def _refusal(self, status: int, message: str, limit: str | None, origin: bytes | None) -> tuple[Fields, bytes]:
        self.refusals.append((status, message, limit))
        self.origins.append(origin)
        return TEXT, f"{status} {limit}".encode()

    @property
    def loop(self) -> Loop:
        return cast(Loop, self.connection.shared.loop)

    @property
    def held(self) -> int:
        return self.connection.shared.held_bytes

    @property
    def over(self) -> bool:
        """Nothing more can come back."""
        return self.transport.eof or self.transport.closing

    @property
    def answers(self) -> list[Answer]:
        return read_answers(bytes(self.transport.sent), [exchange.method for exchange in self.exchanges])

    @property
    def statuses(self) -> list[int]:
        return [answer.status for answer in self.answers if answer.status >= 200]

    def feed(self, *segments: bytes) -> "Line":
        for segment in segments:
            if self.transport.closing:
                break
            self.connection.data_received(segment)
            self.loop.turn()
        return self

    def pass_time(self, seconds: float) -> None:
        """Let time pass, and the listener's sweep come round."""
        self.loop.now += seconds
        if self.connection.read_deadline <= self.loop.now or self.connection.write_deadline <= self.loop.now:
            self.connection.sweep(self.loop.now)
        self.loop.turn()

    def lose(self) -> None:
        self.connection.connection_lost(None)


def echo(exchange: Exchange) -> None:
    exchange.answer(200, TEXT, exchange.body)


def post(body: bytes = b"{}", path: bytes = b"/rpc", *fields: bytes) -> bytes:
    lines = [b"POST %b HTTP/1.1" % path, b"Host: gateway", b"Content-Length: %d" % len(body), *fields]
    return b"\r\n".join([*lines, b"", b""]) + body
