"""One caller's connection: segments in, exchanges out. This half reads; `http_exchange.py` has the half that answers."""

import asyncio
from typing import Final, cast

from homing.edges.http_chunks import ChunkedBody, Refused
from homing.edges.http_exchange import (
    BODY,
    CHUNKS,
    CLOSED,
    HEAD,
    LAST,
    LINGER,
    NEVER,
    NO_HEAD,
    PIPELINE_MAX,
    AnsweringConnection,
    Exchange,
    Shared,
)
from homing.edges.http_head import CHUNKED, REQUEST_LINE_BYTES_MAX, Head, Refusal, examine, match_head, origin_of, parse_head

READ_AHEAD_BYTES_MAX: Final = 64 << 10  # so much may wait before reading pauses, for who does not read sees no hang-up either
DISCARD_BYTES_MAX: Final = 8 << 20

_HELD_FULL: Final = Refusal(503, "Too many bytes are held for other calls at the moment.", "gateway.held_bytes_max")
_SLOW_HEAD: Final = Refusal(408, "The request head did not arrive in time.", "gateway.timeout.header")
_SLOW_BODY: Final = Refusal(408, "The request body did not arrive in time.", "gateway.timeout.body")


class Connection(AnsweringConnection):
    __slots__ = ("buffer", "buffered", "chunks", "content", "current", "discarded", "emptied", "late", "left")

    def __init__(self, shared: Shared, *, secure: bool) -> None:
        super().__init__(shared, secure=secure)
        self.buffer: bytes | bytearray = b""  # a head that has begun, or requests that must wait
        self.buffered = 0  # bytes of it that count as held
        self.late = False  # it came when the listener was about to leave, so that its first request is its last
        self.emptied = False  # the one empty line before a request was seen (RFC 9112 section 2.2)
        self.current: Exchange | None = None  # the one whose body is being read
        self.content: bytearray | None = None
        self.chunks: ChunkedBody | None = None
        self.left = 0  # bytes of the body still to come
        self.discarded = 0

    def quiet(self) -> bool:
        return self.state == HEAD and not self.pending and not self.buffer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        # With these limits a paused writer means just this: the kernel did not take all of it.
        self.transport.set_write_buffer_limits(high=1, low=0)
        shared = self.shared
        shared.accepted += 1
        self.late = shared.parting
        shared.callers.add(self)
        self.read_deadline = shared.loop.time() + shared.limits.idle_timeout_s
        if shared.closing:
            self.close()

    def data_received(self, data: bytes) -> None:
        if self.state >= LAST:
            self._discard(len(data))
            return
        buffer = self.buffer
        if not buffer and self.state == HEAD and not self.pending:
            end = data.find(b"\r\n\r\n") + 4
            head = self.shared.heads.get(data[:end])
            if head is not None and len(data) == end + head.length and self._read_known(head, data, end):
                return
        if isinstance(buffer, bytearray):
            old = 0 if self.blocked else len(buffer)
            buffer += data
            self._read(buffer, old)
        else:
            self._read(data, 0)

    def eof_received(self) -> None:
        """End of file is a hang-up, half-closed or not. The transport closes itself once what was written has left."""
        self.hang_up()
        self.unsent = self.transport.get_write_buffer_size()

    def connection_lost(self, exc: Exception | None) -> None:
        self.hang_up()
        self.shared.left(self)

    def sweep(self, now: float) -> None:
        if self.write_deadline <= now:
            self.write_deadline = NEVER
            if self.state == CLOSED or self.paused:
                self.examine_stall(now)
            elif self.pending:
                self.beat(now)
        if self.read_deadline <= now:
            self.read_deadline = NEVER
            if self.state == HEAD and self.buffer:
                self._refuse(_SLOW_HEAD, self.buffer)
            elif self.state in {BODY, CHUNKS}:
                self._refuse(_SLOW_BODY)
            elif self.state in {HEAD, LINGER}:
                self.close()

    def part(self) -> None:
        if self.state == HEAD and self.pending and not self.buffer:
            self.state = LAST

    def drain(self) -> None:
        if self.state == HEAD and self.pending:
            self.forget()
            self.state = LAST
        elif self.quiet() and not self.late:  # who has just come is about to say something, and shall be told no
            self.close()

    # Reading

    def _read(self, data: bytes | bytearray, old: int) -> None:
        """Read what has come; the first `old` bytes are known to hold no whole head."""
        limits = self.shared.limits
        out: list[bytes] = []
        self.out = out
        self.blocked = False
        if self.buffered:
            self.hold(-self.buffered)  # until it is clear what of it is kept
            self.buffered = 0
        start, size = 0, len(data)
        while start < size:
            if self.state == HEAD:
                if len(out) >= PIPELINE_MAX:
                    self.write(out)
                    out.clear()
                if self.paused or len(self.pending) >= PIPELINE_MAX:
                    self.blocked = True
                    break
                neat = match_head(data, start) if start >= old else None
                if neat is not None:
                    raw = neat[0]
                    start = self._read_head(parse_head(raw, limits, neat), raw, data, neat.end())
                    continue
                if data[start] == 13 and not self.emptied:
                    if start + 1 == size:
                        break
                    self.emptied = True
                    if data[start + 1] == 10:
                        start += 2
                        continue
                    old = start  # a CR alone has not been looked at
                end = data.find(b"\r\n\r\n", max(start, old - 3)) + 4
                if end < 4:
                    self._read_part(data, start, old)
                    break
                raw = bytes(data[start:end])
                start = self._read_head(parse_head(raw, limits), raw, data, end)
            elif self.state == BODY:
                start = self._read_content(data, start)
            elif self.state == CHUNKS:
                start = self._read_chunks(data, start)
            else:
                break
        if start < size or self.buffer:
            self._keep(data, start if self.state == HEAD else size)
        if out:
            self.write(out)
        self.out = None
        if self.state == HEAD and start >= size:
            self.rest()
        if self.pending or self.state != HEAD or self.blocked or self.shared.closing:
            self.proceed()

    def _read_known(self, head: Head, data: bytes, end: int) -> bool:
        """One segment that is one request, with a head that came before, and nobody before it in line: nearly all are.

        Does what `_read` would, without its questions. Returns False, and has done nothing, where one of them has another answer.
        """
        shared, length = self.shared, head.length
        if self.paused or self.emptied or shared.parting or shared.held_bytes + length > shared.limits.held_bytes_max:
            return False
        exchange = Exchange(self, head, data[:end])
        exchange.body = data[end:]
        exchange.held = length
        self.held += length
        shared.held_bytes += length
        shared.requests += 1
        self.pending.append(exchange)
        out: list[bytes] = []
        self.out = out
        try:
            shared.answer(exchange)
        except Exception as error:
            self._fail(error)
        if out:
            self.write(out)
        self.out = None
        if self.state == HEAD and self.pending:
            self.read_deadline = NEVER  # it is our turn
        else:
            if self.state == HEAD:
                self.rest()
            self.proceed()
        return True

    def _read_part(self, data: bytes | bytearray, start: int, old: int) -> None:
        """A head that has not come to its end: is it wrong already? Looked at when it could have become so."""
        size = len(data) - start
        limits = self.shared.limits
        if start >= old or size > min(limits.header_bytes_max, REQUEST_LINE_BYTES_MAX) or data.find(b"\n", old) >= 0:
            raw = data[start:]
            refusal = examine(raw, limits)
            if refusal is not None:
                self._refuse(refusal, raw)

    def _read_head(self, head: Head | Refusal, raw: bytes, data: bytes | bytearray, start: int) -> int:
        """A whole head, and of its body what is there already. Returns where the next message begins, or this one goes on."""
        self.emptied = False
        if isinstance(head, Refusal):
            self._refuse(head, raw)
            return len(data)
        shared = self.shared
        exchange = Exchange(self, head, raw)
        length = head.length
        if length == 0:
            self._dispatch(exchange)
            return start
        if length > 0 and shared.held_bytes + length > shared.limits.held_bytes_max:
            self._refuse(_HELD_FULL, raw)
            return len(data)
        if 0 < length <= len(data) - start:
            exchange.body = bytes(data[start : start + length])
            exchange.held = length
            self.held += length
            shared.held_bytes += length
            self._dispatch(exchange)
            return start + length
        self.continues = head.expects and start == len(data)
        self.current = exchange
        self.await_body()
        if length == CHUNKED:
            self.chunks = ChunkedBody(shared.limits)
            self.state = CHUNKS
        else:
            self.content = bytearray()
            self.left = length
            self.state = BODY
        return start

    def _read_content(self, data: bytes | bytearray, start: int) -> int:
        content, exchange, shared = self.content, self.current, self.shared
        assert content is not None
        assert exchange is not None
        if self.continues:
            self.await_body(anyway=True)
        end = min(start + self.left, len(data))
        content += data[start:end]
        self.left -= end - start
        self.hold(end - start)
        if self.left == 0:
            exchange.body = bytes(content)
            self._read_whole(exchange)
        elif shared.held_bytes > shared.limits.held_bytes_max:
            self._refuse(_HELD_FULL)
        return end

    def _read_chunks(self, data: bytes | bytearray, start: int) -> int:
        chunks, exchange, shared = self.chunks, self.current, self.shared
        assert chunks is not None
        assert exchange is not None
        if self.continues:
            self.await_body(anyway=True)
        before = len(chunks.content)
        refusal = None
        try:
            start = chunks.feed(data, start)
        except Refused as error:
            refusal = error.refusal
        self.hold(len(chunks.content) - before)
        if refusal is None and shared.held_bytes > shared.limits.held_bytes_max:
            refusal = _HELD_FULL
        if refusal is not None:
            self._refuse(refusal)
            return len(data)
        if chunks.done:
            exchange.body = bytes(chunks.content)
            self._read_whole(exchange)
        return start

    def _read_whole(self, exchange: Exchange) -> None:
        exchange.held = len(exchange.body)
        self.current = self.content = self.chunks = None
        self.state = HEAD
        self._dispatch(exchange)

    def _dispatch(self, exchange: Exchange) -> None:
        """A whole request: whoever answers has it now."""
        shared = self.shared
        if not exchange.keep or shared.parting:
            exchange.keep = False
            self.state = LAST
        self.pending.append(exchange)
        shared.requests += 1
        try:
            shared.answer(exchange)
        except Exception as error:
            self._fail(error)
        if exchange.reply is None:
            exchange.slim()

    def _fail(self, error: Exception) -> None:
        """Nobody knows how far the answer came, so that none would be true: a lost connection is what says so."""
        self.report(error)
        self.reset()

    def _refuse(self, refusal: Refusal, raw: bytes | bytearray = b"") -> None:
        """HTTP's own no. Where its request ends is not known or not waited for, so it is the connection's last.

        `raw` is its head, or what there is of it, unless its body is being read.
        """
        self.shared.refused += 1
        current = self.current
        origin = origin_of(raw) if current is None else current.header(b"origin")
        headless = raw.startswith(b"HEAD ") if current is None else current.method == "HEAD"
        self.forget()
        self.state = LAST
        self.refused = True
        self.read_deadline = NEVER
        exchange = Exchange(self, NO_HEAD, b"")
        if headless:
            exchange.method = "HEAD"
        self.pending.append(exchange)
        exchange.answer(refusal.status, *self.shared.refusal(refusal.status, refusal.message, refusal.limit, origin))

    def _keep(self, data: bytes | bytearray, start: int) -> None:
        """Keep what could not be used yet, and set the deadline for the rest of it."""
        shared = self.shared
        if start >= len(data):
            self.buffer = b""
        else:
            if self.blocked:
                self.read_deadline = NEVER
            elif start or data is not self.buffer:  # else it has begun before, and may take no longer for that
                self.read_deadline = shared.loop.time() + shared.limits.header_timeout_s
            self.buffer = data if isinstance(data, bytearray) else bytearray(data)
            del self.buffer[:start]
        if self.buffer:
            self.buffered = len(self.buffer)
            self.hold(self.buffered)
            full = shared.held_bytes > shared.limits.held_bytes_max
            if not self.blocked:
                if full:
                    self._refuse(_HELD_FULL, self.buffer)
            elif self.reading and (full or self.buffered > READ_AHEAD_BYTES_MAX):
                self.reading = False
                self.transport.pause_reading()

    def resume(self) -> None:
        if self.state != HEAD or not self.blocked or self.paused or len(self.pending) >= PIPELINE_MAX:
            return
        if not self.reading:
            self.reading = True
            self.transport.resume_reading()
        self._read(self.buffer, 0)

    def forget(self) -> None:
        content = self.chunks.content if self.chunks is not None else self.content
        self.hold(-self.buffered - (0 if content is None else len(content)))
        self.current = self.content = self.chunks = None
        self.buffer = b""
        self.buffered = 0
        self.blocked = self.continues = False

    def _discard(self, count: int) -> None:
        self.discarded += count
        if self.discarded > DISCARD_BYTES_MAX:
            if self.state == LINGER:
                self.close()
            elif self.reading:
                self.reading = False
                self.transport.pause_reading()
