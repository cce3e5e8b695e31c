"""One exchange with a provider: a request in; a response, or why there is none and whether the provider may have seen the request.

Each provider has its connections, its deadlines and its bounds. An exchange ends by its deadline, which is over everything: looking the
name up, connecting, writing, waiting, every byte of the body. Nothing is ever written twice: whoever wants to ask again asks again.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Final

import msgspec

from homing.core.exchange import ExchangeFailed, ExchangeResult, FailureReason, HttpRequest
from homing.edges.connect import ConnectFailed, Connector, TlsSettings, parse_origin, parse_proxy, tls_context
from homing.edges.deadlines import Deadlines
from homing.edges.provider_connection import Connection
from homing.edges.provider_request import encode
from homing.edges.provider_response import KnownHeads, Reader
from homing.edges.resolver import Resolver

FRESH_S: Final = 1.0  # a connection that rested for less is as good as a new one


class ProviderSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the edge knows of a provider. Seconds and bytes."""

    name: str
    base_url: str  # scheme, host and port count; the path is the request target's business
    connect_timeout_s: float = 3.0  # each for DNS with TCP, for a proxy's tunnel, for TLS
    write_timeout_s: float = 10.0  # without the provider taking a byte
    response_bytes_max: int = 8 * 1024 * 1024  # of a body, as it comes and decoded
    head_bytes_max: int = 64 * 1024
    idle_timeout_s: float = 60.0
    idle_connections_max: int = 256
    proxy: str = ""  # http://[user:password@]host:port
    tls: TlsSettings = TlsSettings()

    def __repr__(self) -> str:  # the proxy's URL may hold a password
        return f"ProviderSettings({self.name!r}, {self.base_url!r})"


class Running:
    """An exchange under way. `settled` is true once its end is decided; `done` has then been called, or will be on the next turn."""

    __slots__ = ("_connection", "_dial", "_done", "_provider", "settled")

    def __init__(self, provider: "Provider", done: Callable[[ExchangeResult], None]) -> None:
        self._provider = provider
        self._done: Callable[[ExchangeResult], None] | None = done
        self._connection: Connection | None = None  # set: the first byte of the request may be out
        self._dial: asyncio.Task[None] | None = None
        self.settled = False

    def cancel(self) -> None:
        """Give the exchange up and close its connection. `done` hears of it on the loop's next turn; when settled, nothing happens."""
        if not self.settled:
            self.settle_soon(self._withdraw("cancelled", "the exchange was cancelled"))

    def expire(self) -> None:
        """The deadline has passed."""
        self.settle(self._withdraw("timed_out", "the deadline passed"))

    def settle(self, result: ExchangeResult) -> None:
        """End here and now, once."""
        self.settled = True
        self._connection = self._dial = None
        self._provider.deadlines.drop()
        done, self._done = self._done, None
        assert done is not None
        try:
            done(result)
        except Exception as error:
            context = {"message": "the receiver of a provider's response raised", "exception": error}
            self._provider.loop.call_exception_handler(context)

    def settle_soon(self, result: ExchangeResult) -> None:
        """End now, and tell on the loop's next turn."""
        self.settled = True
        self._connection = self._dial = None
        self._provider.loop.call_soon(self.settle, result)

    def dial(self, connecting: Coroutine[object, object, None]) -> asyncio.Task[None]:
        """Wait for a connection."""
        self._dial = self._provider.loop.create_task(connecting)
        return self._dial

    def begin(self, connection: Connection, data: bytes, *, bodyless: bool) -> None:
        """Write the request."""
        self._dial = None
        self._connection = connection
        connection.begin(self, data, bodyless=bodyless)

    def _withdraw(self, reason: FailureReason, message: str) -> ExchangeFailed:
        name = self._provider.authority
        connection = self._connection
        if connection is None:
            if self._dial is not None:
                self._dial.cancel()
            return ExchangeFailed(reason, "no", f"{name}: {message} before the request was written")
        status = connection.status
        connection.abort()
        where = "before a response came" if status is None else "within the response"
        return ExchangeFailed(reason, "unknown", f"{name}: {message} {where}", status)


class Provider:
    """The connections to one provider. Belongs to one loop; `close` it on that loop."""

    def __init__(self, settings: ProviderSettings, loop: asyncio.AbstractEventLoop, *, resolver: Resolver | None = None) -> None:
        """Raise ValueError for settings that cannot be: a URL of another kind, a file that is no certificate."""
        origin = parse_origin(settings.base_url)
        self._settings = settings
        self.loop = loop
        self.name = settings.name
        self.authority = origin.authority
        self.deadlines = Deadlines(loop)
        self._connector = Connector(
            loop,
            resolver or Resolver(loop),
            origin,
            tls=tls_context(settings.tls) if origin.secure else None,
            proxy=parse_proxy(settings.proxy),
            step_timeout_s=settings.connect_timeout_s,
        )
        self._heads = KnownHeads()
        self._open: set[Connection] = set()
        self._resting: dict[Connection, None] = {}  # the longest rested first
        self._dials: dict[asyncio.Task[None], Running] = {}
        self._outbox: list[tuple[Running, bytes, bool, bool, float]] = []  # asked for in this turn of the loop
        self._sweep: asyncio.TimerHandle | None = None
        self._emptied = asyncio.Event()
        self._closed = False
        self.connects_total = 0  # connections that came about
        self.reuses_total = 0  # exchanges that found one

    def __repr__(self) -> str:
        return f"<Provider {self.name} at {self.authority}: {self.connections} connections, {self.resting} resting>"

    @property
    def connections(self) -> int:
        """Connections that are open or being opened."""
        return len(self._open)

    @property
    def resting(self) -> int:
        """Connections that wait for an exchange."""
        return len(self._resting)

    def exchange(self, request: HttpRequest, deadline: float, fresh: bool, done: Callable[[ExchangeResult], None]) -> Running:
        """Write a request and read its response by `deadline`, an instant of the loop's clock.

        `done` is called exactly once, later than this returns, and may begin the next exchange. `fresh`: what must not happen twice uses
        a connection that rested for less than a second, or a new one, for an older one may be dying just now.
        Raises ValueError, and writes nothing, for a request that would mean something else on the wire.
        """
        data = encode(request, self.authority)
        running = Running(self, done)
        self.deadlines.add(deadline, running)
        if not self._outbox:
            self.loop.call_soon(self._flush)
        self._outbox.append((running, data, request.method == "HEAD", fresh, deadline))
        return running

    async def close(self) -> None:
        """End everything: exchanges under way are cancelled. Returns once every socket is closed."""
        self._closed = True
        if self._sweep is not None:
            self._sweep.cancel()
        for running in [entry[0] for entry in self._outbox] + list(self._dials.values()):
            running.cancel()
        for connection in list(self._open):
            if isinstance(connection.asker, Running):
                connection.asker.cancel()
            else:
                connection.abort()
        if self._dials:
            await asyncio.wait(list(self._dials))
        while self._open:
            await self._emptied.wait()
        await asyncio.sleep(0)  # for what was cancelled a moment ago and had nothing open
        self.deadlines.close()

    def _flush(self) -> None:
        """Begin what was asked for in this turn of the loop.

        All of a turn at once: a provider that is woken for each request by itself costs both sides a quarter more.
        """
        outbox, self._outbox = self._outbox, []
        now = self.loop.time()
        for running, data, bodyless, fresh, deadline in outbox:
            if running.settled:
                continue
            if self._closed:
                running.settle(ExchangeFailed("cancelled", "no", f"{self.authority}: no exchange begins any more"))
            elif deadline <= now:
                running.expire()
            elif (connection := self._take(now, fresh)) is not None:
                self.reuses_total += 1
                running.begin(connection, data, bodyless=bodyless)
            else:
                dial = running.dial(self._connect(running, data, bodyless))
                self._dials[dial] = running
                dial.add_done_callback(self._dials.pop)

    def _take(self, now: float, fresh: bool) -> Connection | None:
        """Return the connection that rested least, if it may be used. What is found dead or too old on the way is closed."""
        resting = self._resting
        while resting:
            connection, _ = resting.popitem()
            rested_s = now - connection.rest_since
            if fresh and rested_s >= FRESH_S:
                resting[connection] = None  # good enough for others
                return None
            if rested_s < connection.rest_max_s and connection.usable():
                return connection
            connection.abort()
        return None

    async def _connect(self, running: Running, data: bytes, bodyless: bool) -> None:
        settings = self._settings
        reader = Reader(body_bytes_max=settings.response_bytes_max, head_bytes_max=settings.head_bytes_max, known=self._heads)
        connection = Connection(self.loop, self, reader, self.authority, write_timeout_s=settings.write_timeout_s)
        self._open.add(connection)
        try:
            connection.join(await self._connector.connect(connection))
        except BaseException as error:
            self.lost(connection)  # uvloop does not tell, when it is interrupted halfway
            if not isinstance(error, Exception):
                if not running.settled:  # the whole loop is being ended
                    running.settle(ExchangeFailed("cancelled", "no", f"{self.authority}: the loop ended"))
                raise
            if isinstance(error, ConnectFailed):
                message = str(error)
            else:
                message = f"no connection to {self.authority}: {type(error).__name__}"
                self.loop.call_exception_handler({"message": "connecting to a provider broke", "exception": error})
            if not running.settled:
                running.settle(ExchangeFailed("provider_unreachable", "no", message))
            return
        self.connects_total += 1
        if running.settled:
            connection.abort()
        elif connection.fit_to_begin():
            running.begin(connection, data, bodyless=bodyless)
        else:
            connection.abort()
            message = f"{self.authority}: the connection was lost before the request was written"
            running.settle(ExchangeFailed("provider_unreachable", "no", message))

    # what connections tell

    def rest(self, connection: Connection) -> None:
        connection.rest_since = now = self.loop.time()
        self._resting[connection] = None
        if len(self._resting) > self._settings.idle_connections_max:
            next(iter(self._resting)).close()
        if self._sweep is None:
            self._sweep = self.loop.call_at(now + self._settings.idle_timeout_s, self._sweep_resting)

    def forget(self, connection: Connection) -> None:
        self._resting.pop(connection, None)

    def lost(self, connection: Connection) -> None:
        self._open.discard(connection)
        if self._closed and not self._open:
            self._emptied.set()

    def _sweep_resting(self) -> None:
        self._sweep = None
        long_ago = self.loop.time() - self._settings.idle_timeout_s
        while self._resting:
            connection = next(iter(self._resting))
            if connection.rest_since > long_ago:
                self._sweep = self.loop.call_at(connection.rest_since + self._settings.idle_timeout_s, self._sweep_resting)
                return
            connection.close()
