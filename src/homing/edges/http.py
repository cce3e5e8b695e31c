"""The listener: HTTP/1.1 for many thousand callers who wait. It knows HTTP and nothing of what is called."""

import asyncio
import contextlib
import errno
import socket
import ssl
import time
from collections.abc import Callable

from homing.edges.http_connection import Connection
from homing.edges.http_exchange import AnsweringConnection, Exchange, Refuse, Shared
from homing.edges.http_head import ListenerLimits
from homing.edges.http_reply import Fields, date_line

__all__ = ["Exchange", "Fields", "Listener", "ListenerLimits", "tls_context"]

ACCEPTED_PER_TURN = 8  # from a socket that others accept from too: whoever wakes first must not take all of a burst
OUT_OF_DESCRIPTORS_S = 0.1  # until one tries again
BACKLOG = 2048  # connections the kernel keeps until they are accepted; it has a bound of its own
ABORT_S = 1.0  # a transport that was aborted says so within a turn of the loop
SWEEP_S_MAX = 0.5
SWEEP_S_MIN = 0.005


def tls_context(cert: str, key: str) -> ssl.SSLContext:
    """TLS 1.2 and newer for a listener, from a chain and its key in PEM files. Raises OSError, ssl.SSLError among them."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(cert, key)
    context.set_alpn_protocols(["http/1.1"])
    return context


class Listener(Shared):
    """Gives every request to `answer`, as an `Exchange` that wants to be answered once.

    `refusal(status, message, limit, origin)` makes header fields and body of what HTTP itself refuses; `origin` is the Origin that
    its head has, as far as there is one.

    `held_bytes`, `accepted`, `requests`, `refused`, `abandoned` and `resets` count; `connections` is how many there are.
    """

    def __init__(
        self,
        answer: Callable[[Exchange], None],
        limits: ListenerLimits,
        *,
        refusal: Refuse,
    ) -> None:
        super().__init__(answer, limits, refusal)
        self._servers: list[asyncio.Server] = []
        self._shared: list[socket.socket] = []
        self._taking: dict[asyncio.Task[None], socket.socket] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._empty: asyncio.Event | None = None
        shortest = min(limits.header_timeout_s, limits.body_timeout_s, limits.idle_timeout_s, limits.write_timeout_s)
        if limits.heartbeat_s:
            shortest = min(shortest, limits.heartbeat_s)
        self._sweep_s = max(SWEEP_S_MIN, min(SWEEP_S_MAX, shortest / 4))

    @property
    def connections(self) -> int:
        return len(self.callers) + len(self._taking)

    async def start(self, host: str, port: int, *, tls: ssl.SSLContext | None = None) -> int:
        """Listen, and return the port. Raises OSError if it cannot be bound."""
        self.loop = asyncio.get_running_loop()
        server = await self.loop.create_server(
            lambda: Connection(self, secure=tls is not None),
            host,
            port,
            backlog=BACKLOG,
            ssl=tls,
            ssl_handshake_timeout=self.limits.header_timeout_s if tls else None,
            ssl_shutdown_timeout=self.limits.write_timeout_s if tls else None,
        )
        return self._started(server)

    async def start_on(self, sock: socket.socket, *, tls: ssl.SSLContext | None = None) -> int:
        """Listen on a TCP socket that is bound already, and return its port. The socket is closed with the listener.

        Other processes may accept from the same socket. A connection that nobody has accepted is theirs when this one stops.
        """
        self.loop = asyncio.get_running_loop()
        sock.setblocking(False)
        sock.listen(BACKLOG)
        self._shared.append(sock)
        self._watch(sock, tls)
        self._sweep_if_first()
        return int(sock.getsockname()[1])

    async def start_unix(self, path: str) -> None:
        """Listen on a socket in the file system. Who may connect, the folder it is in says. Raises OSError if it cannot be bound."""
        loop = self.loop = asyncio.get_running_loop()
        self._started(await loop.create_unix_server(lambda: Connection(self, secure=False), path, backlog=BACKLOG))

    def stop_accepting(self) -> None:
        """Close the listening sockets; connections that are open stay."""
        for server in self._servers:
            server.close()
        self._servers.clear()
        for sock in self._shared:
            self.loop.remove_reader(sock)
            sock.close()
        self._shared.clear()

    def part(self) -> None:
        """From now on every answer is its connection's last and says so, that nobody meets one that is just closing."""
        self.parting = True
        for connection in self.callers:
            connection.part()

    async def close(self, timeout_s: float) -> None:
        """Close in an orderly way: idle connections now, busy ones after their last answer, which says so; the rest is reset.

        Who has connected since `part`, or just now, is about to say something, and is answered if it does so in time.
        """
        self.stop_accepting()
        self.parting = True
        latest = time.monotonic() + timeout_s
        if self._taking:
            await asyncio.wait(self._taking, timeout=timeout_s)
        self.closing = True
        for taken in self._taking.values():  # a handshake that is under way ends, and says so to nobody
            with contextlib.suppress(OSError):
                taken.shutdown(socket.SHUT_RDWR)
        if self._taking:
            await asyncio.wait(self._taking, timeout=ABORT_S)
            await asyncio.sleep(0)  # what was closed is gone a turn later
        for connection in list(self.callers):
            connection.drain()
        if self.callers:
            self._empty = asyncio.Event()
            try:
                await asyncio.wait_for(self._empty.wait(), max(0.0, latest - time.monotonic()))
            except TimeoutError:
                for connection in list(self.callers):
                    connection.reset()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._empty.wait(), ABORT_S)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def left(self, connection: AnsweringConnection) -> None:
        super().left(connection)
        if self._empty is not None and not self.callers:
            self._empty.set()

    def _watch(self, sock: socket.socket, tls: ssl.SSLContext | None) -> None:
        if sock in self._shared:
            self.loop.add_reader(sock, self._accept, sock, tls)

    def _accept(self, sock: socket.socket, tls: ssl.SSLContext | None) -> None:
        for _ in range(ACCEPTED_PER_TURN):
            try:
                taken, _ = sock.accept()
            except (BlockingIOError, ConnectionAbortedError):  # somebody else was quicker, or it is gone
                return
            except OSError as error:
                if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    raise
                self.loop.remove_reader(sock)  # it stays readable; others may have room
                self.loop.call_later(OUT_OF_DESCRIPTORS_S, self._watch, sock, tls)
                return
            taking = self.loop.create_task(self._take(taken, tls))
            self._taking[taking] = taken
            taking.add_done_callback(self._taken)

    async def _take(self, taken: socket.socket, tls: ssl.SSLContext | None) -> None:
        taken.setblocking(False)
        taken.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await self.loop.connect_accepted_socket(
            lambda: Connection(self, secure=tls is not None),
            taken,
            ssl=tls,
            ssl_handshake_timeout=self.limits.header_timeout_s if tls else None,
            ssl_shutdown_timeout=self.limits.write_timeout_s if tls else None,
        )

    def _taken(self, taking: "asyncio.Task[None]") -> None:
        taken = self._taking.pop(taking)
        error = None if taking.cancelled() else taking.exception()
        if taking.cancelled() or error is not None:
            taken.close()
        if error is not None and not isinstance(error, OSError):  # OSError: gone already, no TLS, or too slow with it
            raise error

    def _started(self, server: asyncio.Server) -> int:
        """One more server; its port, 0 for one that has a path."""
        self._servers.append(server)
        self._sweep_if_first()
        address = server.sockets[0].getsockname()
        return int(address[1]) if isinstance(address, tuple) else 0

    def _sweep_if_first(self) -> None:
        if self._timer is None:
            self._sweep()

    def _sweep(self) -> None:
        """The one timer. A deadline is noticed up to one interval late, and never early."""
        now = self.loop.time()
        date = date_line(time.time())
        if date != self.date:
            self.date = date
        due = [caller for caller in self.callers if caller.read_deadline <= now or caller.write_deadline <= now]
        for caller in due:
            caller.sweep(now)
        self._timer = self.loop.call_later(self._sweep_s, self._sweep)
