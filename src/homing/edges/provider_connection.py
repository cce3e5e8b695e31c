"""One connection to a provider, one exchange at a time.

It knows what the proof of `executed: no` hangs on: `begin` hands the first byte of a request to the kernel, nothing before it does.
And no byte that nobody asked for ever answers a call: it closes the connection.
"""

import asyncio
import math
import re
import select
import ssl
from typing import Final, Protocol, cast

from homing.core.exchange import ExchangeFailed, ExchangeResult, FailureReason, HttpResponse
from homing.edges.connect import Wire, words_of
from homing.edges.provider_response import Broken, Reader

_KEEP_ALIVE: Final = re.compile(r"\btimeout\s*=\s*\"?(\d{1,6})")


class Asker(Protocol):
    """Who waits for a response. `settle` does not raise."""

    def settle(self, result: ExchangeResult) -> None: ...


class Owner(Protocol):
    """Where connections are kept while nobody uses them."""

    def rest(self, connection: "Connection") -> None:
        """The connection may take another exchange."""

    def forget(self, connection: "Connection") -> None:
        """The connection takes no exchange any more."""

    def lost(self, connection: "Connection") -> None:
        """The connection is closed."""


class Connection(asyncio.Protocol):
    """The protocol that `Connector.connect` joins to a provider. `asker` None: it rests, or was not used yet.

    `closed` is true from the moment it can take no exchange any more. `rest_since` and `rest_max_s` are for its owner: an instant, and
    the seconds that the provider lets it rest, less a margin.
    """

    __slots__ = (
        "_loop",
        "_name",
        "_owner",
        "_poll",
        "_reader",
        "_stall",
        "_transport",
        "_unwritten_bytes",
        "_wire",
        "_write_timeout_s",
        "asker",
        "closed",
        "rest_max_s",
        "rest_since",
    )

    def __init__(
        self, loop: asyncio.AbstractEventLoop, owner: Owner, reader: Reader, name: str, *, write_timeout_s: float
    ) -> None:
        self._loop, self._owner, self._reader, self._name = loop, owner, reader, name
        self._write_timeout_s = write_timeout_s
        self._transport: asyncio.Transport | None = None
        self._wire: Wire | None = None
        self._poll: select.poll | None = None
        self._stall: asyncio.TimerHandle | None = None
        self._unwritten_bytes = 0
        self.asker: Asker | None = None
        self.closed = False
        self.rest_since = 0.0
        self.rest_max_s = math.inf

    def join(self, wire: Wire) -> None:
        """The connection stands."""
        self._wire = wire

    def begin(self, asker: Asker, data: bytes, *, bodyless: bool) -> None:
        """Write a request. The first write of a request is its first byte, whatever happens to the rest and to the connection."""
        assert self._transport is not None
        self.asker = asker
        self._reader.begin(bodyless=bodyless)
        try:
            self._transport.write(data)
        except Exception as error:  # no loop should, but others wait for their turn to be written
            self._fail("connection_lost", words_of(error))
            return
        unwritten_bytes = self._look_at_buffers()
        if unwritten_bytes:
            self._watch_writing(unwritten_bytes)

    def usable(self) -> bool:
        """Whether the connection can take a request: open, and nothing waits to be read from it, not even its end."""
        if self.closed or self._wire is None or self._wire.raw.is_closing():
            return False
        if self._poll is None:
            self._poll = select.poll()  # half the price of a recv that finds nothing
            self._poll.register(self._wire.sock, select.POLLIN)
        return not self._poll.poll(0)

    def fit_to_begin(self) -> bool:
        """Whether a new connection can take its first request. With TLS something may wait to be read already: session tickets."""
        if self._wire is not None and self._wire.transport is not self._wire.raw:
            return not self.closed and not self._wire.transport.is_closing()
        return self.usable()

    @property
    def status(self) -> int | None:
        """The status of the response under way, once its head is complete."""
        return self._reader.status

    def close(self) -> None:
        """Close a connection that nobody uses, in order: with TLS the provider is told."""
        self.closed = True
        self._owner.forget(self)
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close at once and settle nothing."""
        self.asker = None
        self.closed = True
        self._owner.forget(self)
        if self._transport is not None:
            self._transport.abort()

    # what the loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one by its manners only

    def data_received(self, data: bytes) -> None:
        if self.asker is None:
            self.abort()  # nobody asked
            return
        response = self._reader.read_known(data)
        if response is not None:
            self._complete(response)
            return
        try:
            if self._reader.feed(data):
                self._complete(self._reader.response())
        except Broken as broken:
            self._fail(broken.reason, broken.message)

    def eof_received(self) -> None:
        if self.asker is None:
            self.closed = True  # the loop closes it; until then nobody may take it
            self._owner.forget(self)
            return
        if not self._ended_in_order():
            return
        try:
            if self._reader.end():
                self._complete(self._reader.response())
        except Broken as broken:
            self._fail(broken.reason, broken.message)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self._transport = self._wire = self._poll = None
        self._watch_no_more()
        self._owner.forget(self)
        self._owner.lost(self)
        asker, self.asker = self.asker, None
        if asker is not None:
            where = "within its response" if self._reader.started else "before it answered"
            why = "" if exc is None else f" ({words_of(exc)})"
            message = f"{self._name}: the connection was lost {where}{why}"
            asker.settle(ExchangeFailed("connection_lost", "unknown", message, self._reader.status))
        self._reader.drop()

    # writing

    def _look_at_buffers(self) -> int:
        """Return the bytes that were not yet handed to the kernel. TLS passes on all it is given: what waits, waits below it."""
        wire = self._wire
        if wire is None:
            return 0
        unwritten_bytes = wire.raw.get_write_buffer_size()
        if wire.transport is not wire.raw:
            unwritten_bytes += wire.transport.get_write_buffer_size()
        return unwritten_bytes

    def _watch_writing(self, unwritten_bytes: int) -> None:
        self._unwritten_bytes = unwritten_bytes
        self._stall = self._loop.call_later(self._write_timeout_s, self._look_at_writing)

    def _look_at_writing(self) -> None:
        """Time has passed: less must be left than before."""
        self._stall = None
        if self.asker is None:
            return
        unwritten_bytes = self._look_at_buffers()
        if unwritten_bytes >= self._unwritten_bytes:
            self._fail("connection_lost", f"took nothing of the request for {self._write_timeout_s:g} s")
        elif unwritten_bytes:
            self._watch_writing(unwritten_bytes)

    def _watch_no_more(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    # how an exchange ends

    def _complete(self, response: HttpResponse) -> None:
        asker, reader, transport = self.asker, self._reader, self._transport
        assert asker is not None
        assert transport is not None
        self.asker = None
        early = False
        if self._stall is not None:
            self._watch_no_more()
            early = self._look_at_buffers() > 0
        if early:
            self.abort()  # it answered before it had read: the rest of the request must not be taken for another
        elif reader.reusable and not transport.is_closing():
            hint = response.headers.get("keep-alive")
            self.rest_max_s = math.inf if hint is None else _promised_s(hint)
            self._owner.rest(self)
        else:
            self.close()
        asker.settle(response)

    def _fail(self, reason: FailureReason, message: str) -> None:
        asker = self.asker
        assert asker is not None
        result = ExchangeFailed(reason, "unknown", f"{self._name}: {message}", self._reader.status)
        self.abort()
        asker.settle(result)

    def _ended_in_order(self) -> bool:
        """With TLS only close_notify ends a body; a bare end of file may be an attacker's (RFC 9112 section 9.8).

        asyncio calls `eof_received` for both, uvloop for close_notify only.
        """
        assert self._transport is not None
        tls: ssl.SSLObject | None = self._transport.get_extra_info("ssl_object")
        if tls is None:
            return True
        try:
            return tls.read(1) == b""
        except ssl.SSLError:  # it would wait for more
            return False


def _promised_s(keep_alive: str) -> float:
    """What `Keep-Alive: timeout=5` promises is trusted but for its last second: the provider's clock began earlier than ours."""
    found = _KEEP_ALIVE.search(keep_alive.lower())
    return math.inf if found is None else max(int(found[1]) - 1.0, int(found[1]) / 2)
