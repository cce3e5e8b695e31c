"""An exchange, and the half of a caller's connection that answers: in the order of the requests, once each, or not at all.

A connection must cost little while it is held: it has no timer, no parser and no reader of its own, and the header fields of a call
that waits are kept as the bytes they came in. Its two deadlines are looked at by the listener's sweep.
"""

import asyncio
import math
import socket
import struct
from abc import abstractmethod
from collections.abc import Callable
from typing import Final, TypeAlias

from homing.edges.http_head import Head, ListenerLimits, Version, fields_of
from homing.edges.http_reply import (
    CONTINUE,
    HEARTBEAT,
    JOINED_BYTES_MAX,
    Fields,
    Reply,
    compose,
    compose_chunked_head,
    compose_chunks,
)

KNOWN_HEADS_MAX: Final = 1024
KNOWN_HEAD_BYTES_MAX: Final = 2048
PIPELINE_MAX: Final = 16  # requests of one connection that are open at once; more wait unread
LINGER_S: Final = 2.0

# Where a connection stands: in or before a head; in a body; after the last request it may send; all is answered and our side is
# closed, but what still arrives is read so that no reset overtakes the answer (RFC 9112 section 9.6); over.
HEAD, BODY, CHUNKS, LAST, LINGER, CLOSED = range(6)

NEVER: Final = math.inf
NO_HEAD: Final = Head("", "", "", "1.1", {}, 0, False, False)
_RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER: on, 0 s

Refuse: TypeAlias = Callable[[int, str, str | None, bytes | None], tuple[Fields, bytes]]


class Exchange:
    """One request, and the one answer to it. Header names are lower-case, repeated fields joined by ", "."""

    __slots__ = (
        "_fields", "_raw", "abandoned", "beat_at", "beat_headers", "beating", "body", "connection", "gone", "head", "held",
        "http_version", "keep", "method", "path", "query", "reply",
    )  # fmt: skip

    def __init__(self, connection: "AnsweringConnection", head: Head, raw: bytes) -> None:
        self.connection = connection
        self.head = head
        self.method = head.method
        self.path = head.path
        self.query = head.query
        self.http_version: Version = head.version
        self.keep = head.keep
        self.body = b""
        self.held = 0  # bytes that count as held: of the body, later of an answer whose turn has not come
        self.abandoned: Callable[[], None] | None = None  # called once if the caller is gone before answer()
        self.gone = False
        self.reply: Reply | None = None
        self.beat_at = NEVER
        self.beat_headers: Fields = ()
        self.beating = False  # the head has left with the first heartbeat
        self._fields: dict[bytes, bytes] | None = head.fields
        self._raw = raw

    def header(self, name: bytes) -> bytes | None:
        """The value of a header field by its lower-case name."""
        fields = self._fields
        if fields is None:
            fields = self._fields = fields_of(self._raw)
        return fields.get(name)

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        fields = self._fields if self._fields is not None else fields_of(self._raw)
        return list(fields.items())

    @property
    def peer(self) -> str:
        """Address and port of the caller; empty where there is none to be had any more."""
        return self.connection.peer

    @property
    def secure(self) -> bool:
        return self.connection.secure

    def remember(self, known: object) -> None:
        """The next request with the very same head is read with one look-up, and its `head.known` is what is given here.

        For heads that were good for something, or else strangers would choose what is remembered.
        """
        self.head.known = known
        self.connection.shared.remember(self._raw, self.head)

    def slim(self) -> None:
        """The answer will take a while: keep the header fields as the bytes they came in, and as nothing else."""
        self._fields = None
        self.head = NO_HEAD

    def answer(self, status: int, headers: Fields, body: bytes) -> None:
        """Answer, once. It leaves in its turn, or nowhere if the caller is gone. Raises RuntimeError the second time."""
        if self.reply is not None:
            raise RuntimeError("this exchange has been answered")
        self.reply = (status, headers, body)
        self.abandoned = None
        if not self.gone:
            self.connection.answered(self)

    def refuse(self, status: int, headers: Fields, body: bytes) -> None:
        """Answer what is no call: it counts with what the listener refuses by itself."""
        self.connection.shared.refused += 1
        self.answer(status, headers, body)

    def answer_ok(self, lines: bytes, body: bytes) -> None:
        """Answer with 200, as `answer` does; `lines` are the header fields as they are to be written, each with its CR LF."""
        if self.reply is not None:
            raise RuntimeError("this exchange has been answered")
        self.reply = (200, lines, body)
        self.abandoned = None
        if not self.gone:
            self.connection.answered(self)

    def start_heartbeat(self, headers: Fields) -> None:
        """From now on the connection is not silent for longer than the heartbeat's interval, if there is one.

        After the first interval the head leaves (200, chunked, with `headers`) and with it, as after every later interval, a space.
        HTTP/1.0 has no chunks and HEAD no body: they get none.
        """
        interval_s = self.connection.shared.limits.heartbeat_s
        if interval_s and self.http_version == "1.1" and self.method != "HEAD" and self.reply is None and not self.gone:
            self.beat_headers = headers
            self.beat_at = self.connection.shared.loop.time() + interval_s
            self.connection.schedule_heartbeat()


class Shared:
    """What the connections of one listener share: limits, callbacks and counters."""

    def __init__(
        self,
        answer: Callable[[Exchange], None],
        limits: ListenerLimits,
        refusal: Refuse,
    ) -> None:
        self.answer = answer
        self.limits = limits
        self.refusal = refusal
        self.loop: asyncio.AbstractEventLoop  # set by start()
        self.date = b""
        self.closing = False
        self.parting = False  # every answer is its connection's last; new connections are still taken, unless `closing` too
        self.heads: dict[bytes, Head] = {}
        self.callers: set[AnsweringConnection] = set()
        self.held_bytes = 0
        self.accepted = 0  # connections
        self.requests = 0
        self.refused = 0  # by HTTP itself, here or by whoever answers
        self.abandoned = 0  # exchanges whose caller went away
        self.resets = 0  # connections cut because nothing could be written, or for a fault of our own

    def remember(self, raw: bytes, head: Head) -> None:
        """Callers say the same again and again: a head that came before needs no second parsing, for equal bytes are equal heads.

        Only such are kept as leave nothing to decide: a body of known length, and the connection stays. They hold API keys,
        as do the requests themselves; like those they are never shown.
        """
        if head.length > 0 and head.keep and not head.expects and len(raw) <= KNOWN_HEAD_BYTES_MAX:
            if len(self.heads) >= KNOWN_HEADS_MAX:
                del self.heads[next(iter(self.heads))]
            self.heads[raw] = head

    def left(self, connection: "AnsweringConnection") -> None:
        self.callers.discard(connection)


class AnsweringConnection(asyncio.Protocol):
    """What a connection does with its answers. `out` collects them while a segment is read, so that they leave together."""

    __slots__ = (
        "blocked", "continues", "ended", "held", "out", "paused", "pending", "read_deadline", "reading", "refused", "secure", "shared",
        "state", "transport", "unsent", "write_deadline",
    )  # fmt: skip

    def __init__(self, shared: Shared, *, secure: bool) -> None:
        self.shared = shared
        self.secure = secure
        self.transport: asyncio.Transport
        self.state = HEAD
        self.pending: list[Exchange] = []  # requests not yet answered in their turn
        self.out: list[bytes] | None = None  # None: no segment is being read
        self.held = 0  # this connection's share of shared.held_bytes
        self.unsent = 0  # bytes the kernel has not taken, when last looked
        self.paused = False  # the caller does not read
        self.reading = True
        self.blocked = False  # there are requests that must wait
        self.continues = False  # 100 is due once earlier answers have left
        self.ended = False  # the last answer has been composed
        self.refused = False  # unread bytes may still be on their way
        self.read_deadline = NEVER
        self.write_deadline = NEVER

    @abstractmethod
    def resume(self) -> None:
        """Go on with requests that had to wait."""
        raise NotImplementedError

    @abstractmethod
    def forget(self) -> None:
        """Drop what has been read of a request that will not be answered."""
        raise NotImplementedError

    @abstractmethod
    def quiet(self) -> bool:
        """Between requests: nothing is open and nothing has begun."""
        raise NotImplementedError

    @abstractmethod
    def sweep(self, now: float) -> None:
        """A deadline has passed."""
        raise NotImplementedError

    @abstractmethod
    def part(self) -> None:
        """The listener will close: what is open is answered, and the answers say that nothing follows."""
        raise NotImplementedError

    @abstractmethod
    def drain(self) -> None:
        """The listener closes: what is open is answered, what has begun is read to its end, and that is all."""
        raise NotImplementedError

    @property
    def peer(self) -> str:
        address = self.transport.get_extra_info("peername") if self.state != CLOSED else None
        if not isinstance(address, tuple):
            return ""
        return f"[{address[0]}]:{address[1]}" if ":" in address[0] else f"{address[0]}:{address[1]}"

    # Answers

    def answered(self, exchange: Exchange) -> None:
        """It has its answer. If it is its turn, that leaves, and with it the answers that waited for it."""
        count = exchange.held
        if count:
            self.held -= count
            self.shared.held_bytes -= count
            exchange.held = 0
            exchange.body = b""
        out = self.out
        if self.pending[0] is not exchange:
            assert exchange.reply is not None
            exchange.held = len(exchange.reply[2])
            self.hold(exchange.held)
        elif out is not None:
            self.compose(out)
        else:
            out = []
            self.compose(out)
            self.write(out)
            if self.quiet():
                self.rest()
            self.proceed()

    def compose(self, out: list[bytes]) -> None:
        """Append the answers whose turn it is."""
        pending = self.pending
        while pending and not self.ended:
            exchange = pending[0]
            reply = exchange.reply
            if reply is None:
                break
            if self.state == LAST and len(pending) == 1:
                exchange.keep = False
            if not exchange.keep:
                self.ended = True
            if exchange.beating:
                compose_chunks(out, reply[2])
            else:
                compose(out, reply, self.shared.date, exchange.keep, exchange.http_version, exchange.method == "HEAD")
            if exchange.held:
                self.hold(-exchange.held)
                exchange.held = 0
            del pending[0]

    def write(self, out: list[bytes]) -> None:
        transport = self.transport
        if self.state >= LINGER or transport.is_closing():
            return
        if self.paused:
            size = sum(map(len, out))
            self.unsent += size
            self.hold(size)
        if len(out) == 1:
            transport.write(out[0])
        elif sum(map(len, out)) <= JOINED_BYTES_MAX:
            transport.write(b"".join(out))
        else:
            transport.writelines(out)

    def proceed(self) -> None:
        """What follows once answers have left."""
        if self.ended:
            if self.state < LINGER:
                self._linger()
        elif self.pending:
            self.schedule_heartbeat()
        elif self.continues:
            self.write([CONTINUE])
            self.await_body(anyway=True)
        elif self.shared.closing and self.quiet():
            self.close()
        if self.blocked and not self.paused and len(self.pending) < PIPELINE_MAX:
            self.shared.loop.call_soon(self.resume)  # not at once: whoever answers is in the middle of something

    def rest(self) -> None:
        """Between requests time runs against the caller only while it is the caller's turn."""
        if self.pending or self.paused:
            self.read_deadline = NEVER
        else:
            self.read_deadline = self.shared.loop.time() + self.shared.limits.idle_timeout_s

    def await_body(self, *, anyway: bool = False) -> None:
        """Time for the body runs once it has been asked for, if it waits for that, or comes `anyway`."""
        if anyway:
            self.continues = False
        self.read_deadline = NEVER if self.continues else self.shared.loop.time() + self.shared.limits.body_timeout_s

    def schedule_heartbeat(self) -> None:
        """Only the exchange whose turn it is may write; while the caller does not read, nobody."""
        if self.pending and not self.paused:
            self.write_deadline = self.pending[0].beat_at

    def beat(self, now: float) -> None:
        exchange, shared = self.pending[0], self.shared
        if exchange.beat_at <= now:
            exchange.beat_at = now + shared.limits.heartbeat_s
            head = b""
            if not exchange.beating:
                exchange.beating = True
                head = compose_chunked_head(exchange.beat_headers, shared.date, exchange.keep)
            self.write([head + HEARTBEAT])
        self.schedule_heartbeat()

    # A caller who does not read

    def pause_writing(self) -> None:
        self.paused = True
        self.write_deadline = self.shared.loop.time() + self.shared.limits.write_timeout_s
        if self.state != CLOSED:
            self.unsent = self.transport.get_write_buffer_size()
            self.hold(self.unsent)

    def resume_writing(self) -> None:
        self.paused = False
        if self.state == CLOSED:
            return
        self.hold(-self.unsent)
        self.unsent = 0
        self.write_deadline = NEVER
        self.schedule_heartbeat()
        if self.state == LINGER:
            self.read_deadline = self.shared.loop.time() + LINGER_S
        elif self.quiet():
            self.rest()
        elif self.blocked and self.out is None:
            self.resume()

    def examine_stall(self, now: float) -> None:
        size = self.transport.get_write_buffer_size()
        if size < self.unsent:
            if self.state != CLOSED:  # nothing counts as held after the end
                self.hold(size - self.unsent)
            self.unsent = size
            self.write_deadline = now + self.shared.limits.write_timeout_s
        else:
            self.reset()

    # The end

    def _linger(self) -> None:
        """Our side is done. Close it, and read on for a while, so that what is still on its way does not reset the answer."""
        if self.transport.is_closing():
            return
        self.state = LINGER
        if self.transport.can_write_eof():
            self.transport.write_eof()
        elif not self.refused:  # TLS cannot be half-closed, and nothing more is to come
            self.close()
            return
        self.read_deadline = NEVER if self.paused else self.shared.loop.time() + LINGER_S
        if not self.reading:
            self.reading = True
            self.transport.resume_reading()

    def close(self) -> None:
        """Close once what was written has left."""
        self.hang_up()
        self.unsent = self.transport.get_write_buffer_size()
        self.transport.close()

    def reset(self) -> None:
        """Close at once, so that the other side cannot take what it has for all of it."""
        self.hang_up()
        self.shared.resets += 1
        sock = self.transport.get_extra_info("socket")
        if sock is not None and sock.fileno() >= 0:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.transport.abort()

    def hang_up(self) -> None:
        """No more is read or answered; whoever still works on an answer is told, once."""
        if self.state == CLOSED:
            return
        self.state = CLOSED
        self.read_deadline = NEVER
        self.write_deadline = self.shared.loop.time() + self.shared.limits.write_timeout_s  # to flush
        self.forget()
        self.hold(-self.held)
        self.unsent = 0
        pending, self.pending = self.pending, []
        for exchange in pending:
            exchange.held = 0
            if exchange.reply is not None:
                continue
            exchange.gone = True
            self.shared.abandoned += 1
            abandoned, exchange.abandoned = exchange.abandoned, None
            if abandoned is not None:
                try:
                    abandoned()
                except Exception as error:
                    self.report(error)

    def hold(self, count: int) -> None:
        self.held += count
        self.shared.held_bytes += count

    def report(self, error: Exception) -> None:
        self.shared.loop.call_exception_handler(
            {"message": "a callback of the listener raised", "exception": error, "protocol": self}
        )
