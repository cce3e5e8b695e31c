"""The way to the gateway for `Client`: sockets, a pool of connections that threads may share, and a clock over every step.

No socket blocks by itself: every wait is a poll that ends with the call's own time, so that neither a dripping response nor a
stalled handshake gets past it.
"""

import errno
import os
import queue
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import Final

from homing.client_http import READ_BYTES, Endpoint, Fault, ResponseReader, is_address, late, lost, out_of_time, unreachable
from homing.client_rpc import Ending, Errand

IDLE_MAX_S: Final = 1.0
"""A connection idle for longer may be dying as it is used again; and any call may be one that must not happen twice."""
KEEPALIVE: Final = (("TCP_KEEPIDLE", 20), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 4))
"""A machine that is gone without a word is noticed after 20 + 4 · 10 s, should the deadline be further away."""
_WRITE_BYTES: Final = 262_144
_POLL_MAX_MS: Final = 3_600_000

Address = tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]
Found = tuple[socket.AddressFamily, Address]


class Connection:
    """One connection, open and ready for a request. Its socket does not block."""

    __slots__ = ("_wants", "secure", "sock")

    def __init__(self, sock: socket.socket, *, secure: bool) -> None:
        self.sock = sock
        self.secure = secure
        self._wants = 0  # what TLS waits for, besides what we do

    def send(self, data: memoryview) -> int:
        """Hand bytes to the kernel; return how many it took. Raises OSError."""
        try:
            return self.sock.send(data)
        except (BlockingIOError, ssl.SSLWantReadError):
            return 0
        except ssl.SSLWantWriteError:
            self._wants = select.POLLOUT
            return 0

    def receive(self) -> bytes | None:
        """Return what is there, b"" at the end of the stream, None if there is nothing yet. Raises OSError."""
        try:
            return self.sock.recv(READ_BYTES)
        except (BlockingIOError, ssl.SSLWantReadError):
            return None
        except ssl.SSLWantWriteError:
            self._wants = select.POLLOUT
            return None

    def wait(self, events: int, until: float) -> None:
        """Wait for one of `events`, or until the time is up."""
        poll(self.sock, events | self._wants, until)
        self._wants = 0

    def spent(self) -> bool:
        """Whether an idle connection has something to say: an end, or bytes that belong to no call."""
        return poll(self.sock, select.POLLIN, 0.0)

    def close(self) -> None:
        self.sock.close()


def poll(sock: socket.socket | int, events: int, until: float) -> bool:
    """Wait until a socket is ready or the monotonic clock shows `until`; look once even if it is past."""
    poller = select.poll()
    poller.register(sock, events)
    while True:
        left_ms = min((until - time.monotonic()) * 1000, _POLL_MAX_MS)  # of what may be infinite by now
        if poller.poll(int(left_ms) + 1 if left_ms > 0 else 0):
            return True
        if left_ms <= 0:
            return False


class BlockingLink:
    """Takes errands to one gateway, one connection each. Threads may share it; a forked child begins with no connections."""

    def __init__(self, place: Endpoint, head: bytes, *, tls: ssl.SSLContext | None, connect_timeout: float) -> None:
        self._place = place
        self._head = head
        self._tls = tls
        self._connect_timeout = connect_timeout
        self._lock = threading.Lock()
        self._idle: list[tuple[float, Connection]] = []  # (since, connection), the longest idle first
        self._process = os.getpid()
        self._closed = False

    def close(self) -> None:
        """Close what is idle; a connection in use is closed when its exchange ends."""
        self._look_for_a_fork()
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for _, connection in idle:
            connection.close()

    def ask(self, errand: Errand) -> float | None:
        """Ask once, and note the answers; return after how many seconds to ask again."""
        if self._closed and errand.asked:
            return None  # closed between two attempts: the last answers stand
        return errand.take(self.exchange(errand), time.monotonic())

    def exchange(self, errand: Errand) -> Ending:
        """Ask once. What the network does is in the ending; an exception (Ctrl-C) closes the connection on its way out."""
        body = errand.body()
        try:
            while (connection := self._take()) is not None:
                if (ending := self._converse(connection, errand, body)) is not None:
                    return ending
            ending = self._converse(self._connect(errand.until), errand, body)
        except Fault as fault:
            return Ending(fault=fault)
        return ending or Ending(fault=unreachable(self._place, ConnectionResetError("the connection ended at once")))

    def _converse(self, connection: Connection, errand: Errand, body: bytes) -> Ending | None:
        """Send and read. None: the connection was dead, and the kernel took not one byte of the request."""
        reader = ResponseReader()
        reusable = sent = False
        try:
            sent_at = time.monotonic()
            head = b"%s%sContent-Length: %d\r\n\r\n" % (self._head, errand.fields(sent_at), len(body))
            unsent = memoryview(head + body)
            broken: OSError | None = None
            while not reader.complete:
                if time.monotonic() >= (until := errand.give_up_at(reader, sent_at)):
                    raise late(sent=sent)
                if unsent and broken is None:
                    sent = sent or connection.secure  # what TLS has taken when it fails, nobody knows
                    try:
                        taken = connection.send(unsent[:_WRITE_BYTES])
                    except OSError as error:
                        if not sent:
                            return None
                        broken = error  # the gateway may have answered before it closed: read on
                    else:
                        sent = sent or taken > 0
                        unsent = unsent[taken:]
                # TLS may hold back what it has already taken from the socket: wait only after a read that found nothing.
                if not _read(connection, reader, broken):
                    connection.wait(select.POLLIN | (select.POLLOUT if unsent and broken is None else 0), until)
            reusable = reader.reusable and not unsent
            return Ending(reader=reader)
        except Fault as fault:
            return Ending(reader=reader, fault=fault)
        finally:
            self._give_back(connection, reusable=reusable)

    def _look_for_a_fork(self) -> None:
        if self._process == os.getpid():
            return
        self._process = os.getpid()
        self._lock = threading.Lock()  # some thread of the parent's may hold the other one, and it is not here to let go
        for _, connection in self._idle:  # the parent goes on with these; two must never write on one connection
            connection.close()
        self._idle = []

    def _take(self) -> Connection | None:
        self._look_for_a_fork()
        with self._lock:
            if self._closed:
                raise RuntimeError("this client is closed")
            while self._idle:
                since, connection = self._idle.pop()
                if time.monotonic() - since < IDLE_MAX_S and not connection.spent():
                    return connection
                connection.close()
        return None

    def _give_back(self, connection: Connection, *, reusable: bool) -> None:
        now = time.monotonic()
        with self._lock:
            while self._idle and now - self._idle[0][0] >= IDLE_MAX_S:
                self._idle.pop(0)[1].close()
            if reusable and not self._closed:
                self._idle.append((now, connection))
                return
        connection.close()

    def _connect(self, until: float) -> Connection:
        """Open a connection to the first address that takes one. Raises Fault."""
        why: OSError | None = None
        try:
            for family, address in self._resolve(until):
                try:
                    return self._open(family, address, until)
                except OSError as error:
                    why = error
                    if time.monotonic() >= until:
                        break
        except OSError as error:
            why = error
        if time.monotonic() >= until:
            raise out_of_time()
        raise unreachable(self._place, why or OSError("its name has no address"))

    def _resolve(self, until: float) -> list[Found]:
        """Look the host up. Raises OSError."""
        place = self._place
        if is_address(place.host):
            return look_up(place.host, place.port, socket.AI_NUMERICHOST)
        answers: queue.SimpleQueue[list[Found] | OSError] = queue.SimpleQueue()
        look_up_aside(place.host, place.port, answers.put)
        try:
            answer = answers.get(timeout=max(self._step(until) - time.monotonic(), 0.0))
        except queue.Empty:
            raise TimeoutError(f"looking up {place.host} took too long") from None
        if isinstance(answer, OSError):
            raise answer
        return answer

    def _step(self, until: float) -> float:
        return min(until, time.monotonic() + self._connect_timeout)

    def _open(self, family: socket.AddressFamily, address: Address, until: float) -> Connection:
        """Connect, and shake hands where it is TLS. Raises OSError."""
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            code = sock.connect_ex(address)
            if code not in {0, errno.EINPROGRESS, errno.EINTR}:
                raise OSError(code, os.strerror(code))
            if not poll(sock, select.POLLOUT, self._step(until)):
                raise TimeoutError("connecting took too long")
            if code := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                raise OSError(code, os.strerror(code))
            prepare(sock)
            if self._tls is None:
                return Connection(sock, secure=False)
            step = self._step(until)
            sock = self._tls.wrap_socket(sock, server_hostname=self._place.host, do_handshake_on_connect=False)
            while True:
                try:
                    sock.do_handshake()
                except ssl.SSLWantReadError:
                    events = select.POLLIN
                except ssl.SSLWantWriteError:
                    events = select.POLLOUT
                else:
                    return Connection(sock, secure=True)
                if not poll(sock, events, step):
                    raise TimeoutError("the TLS handshake took too long")
        except BaseException:
            sock.close()
            raise


def _read(connection: Connection, reader: ResponseReader, broken: OSError | None) -> bool:
    """Read once; return whether there was something. Raises Fault when the connection ended before the response did."""
    try:
        data = connection.receive()
    except OSError as error:
        raise lost(broken or error) from None
    if data:
        reader.feed(data)
    elif data is not None and not reader.end():
        raise lost(broken)
    return data is not None


def prepare(sock: socket.socket) -> None:
    """Set what every connection wants. Raises OSError for one that TCP made with itself, as it may on this machine's own ports."""
    if sock.getsockname() == sock.getpeername():
        raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in KEEPALIVE:
        if hasattr(socket, option):  # macOS calls the first one otherwise
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


def look_up(host: str, port: int, flags: int) -> list[Found]:
    """Ask the system for the addresses of a host, in its order. Raises OSError, and UnicodeError for what is no host name."""
    return [
        (family, address) for family, _, _, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    ]


def look_up_aside(host: str, port: int, done: Callable[[list[Found] | OSError], None]) -> None:
    """Look a host up on a thread that nobody waits for, as the system's look-up cannot be told when to stop; `done` is called there."""

    def ask() -> None:
        try:
            done(look_up(host, port, 0))
        except OSError as error:
            done(error)
        except UnicodeError as error:  # a label is empty or too long
            done(OSError(str(error)))

    threading.Thread(target=ask, name=f"look up {host}", daemon=True).start()
