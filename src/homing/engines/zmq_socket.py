"""One reader for one ZeroMQ socket on the loop.

The descriptor of a ZeroMQ socket tells only that something has changed, and tells it once: who is told must look at EVENTS, and
read until nothing is left. Sends swallow such news too, so after them one looks again. A read that is cancelled can lose a message:
this one never is. And a reader that reads all there is would let one peer that floods starve the whole loop: so it stops after some
frames, or some time where they make much work, and goes on in the next turn.
"""

import asyncio
import math
import time
from collections.abc import Callable
from functools import partial

import zmq
from zmq.backend import Socket as Backend

FRAMES_PER_TURN = 2048
TURN_S = 0.05  # a few frames can be work for seconds: what is said meanwhile must leave, and timers must be heard
SLACK_BYTES = 64 * 1024  # of a frame beyond what is announced: headers, and what CURVE adds
QUEUE_LENGTH_SENT_MAX = 1000  # ZeroMQ messages for one peer; beyond it they wait here, where their bytes are counted
QUEUE_LENGTH_RECEIVED_MAX = 10_000  # for a reader that stands still for half a minute must not look like a dead one
BACKLOG = 4096
HANDSHAKE_MS = 5000  # a connection that does not say who it is ends
CONNECT_MS = 3000
LAST_WORDS_S = 0.02  # from the end of a connection to the word that it is lost: what came by it is read first
RECONNECT_MS, RECONNECT_MAX_MS = 100, 500  # with the latter a broker that restarts is found again within a second
HEARTBEAT_MS, HEARTBEAT_TIMEOUT_MS, HEARTBEAT_TTL_MS = (
    1500,
    5000,
    6500,
)  # libzmq's own, from its own thread: a busy loop is not dead

DONTWAIT = int(zmq.DONTWAIT)
MORE = int(zmq.SNDMORE | zmq.DONTWAIT)
_EVENTS = int(zmq.EVENTS)
_IN = int(zmq.POLLIN)


def new_socket(context: zmq.Context[zmq.Socket[bytes]], kind: int, *, frame_bytes_max: int) -> zmq.Socket[bytes]:
    """A ROUTER or DEALER with every bound set."""
    socket = context.socket(kind)
    for option, value in (
        (zmq.LINGER, 0),
        (zmq.SNDHWM, QUEUE_LENGTH_SENT_MAX),
        (zmq.RCVHWM, QUEUE_LENGTH_RECEIVED_MAX),
        (zmq.MAXMSGSIZE, frame_bytes_max + SLACK_BYTES),
        (zmq.BACKLOG, BACKLOG),
        (zmq.HANDSHAKE_IVL, HANDSHAKE_MS),
        (zmq.CONNECT_TIMEOUT, CONNECT_MS),
        (zmq.RECONNECT_IVL, RECONNECT_MS),
        (zmq.RECONNECT_IVL_MAX, RECONNECT_MAX_MS),
        (zmq.HEARTBEAT_IVL, HEARTBEAT_MS),
        (zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS),
        (zmq.HEARTBEAT_TTL, HEARTBEAT_TTL_MS),
    ):
        socket.set(option, value)
    if kind == zmq.ROUTER:
        socket.set(zmq.ROUTER_MANDATORY, 1)  # else it drops without a word
    return socket


class Reader:
    """Calls `receive` while there is a message to read; it reads one, or a part of it, and says how many frames that were.

    pyzmq's own `send`, `recv` and `get` are wrappers in Python, and cost as much as what they wrap: what is called for each frame
    calls the inner ones.
    """

    __slots__ = (
        "_again",
        "_closed",
        "_fd",
        "_frames_per_turn",
        "_loop",
        "_receive",
        "get",
        "recv",
        "recv_frame",
        "send",
        "socket",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        socket: zmq.Socket[bytes],
        receive: Callable[[], int],
        frames_per_turn: int = FRAMES_PER_TURN,
    ) -> None:
        self.socket = socket
        self._frames_per_turn = frames_per_turn
        self.get: Callable[[int], int] = Backend.get.__get__(socket)
        self.send: Callable[[bytes, int], None] = Backend.send.__get__(socket)
        recv = Backend.recv.__get__(socket)
        self.recv: Callable[[], bytes] = partial(recv, DONTWAIT)
        self.recv_frame: Callable[[], zmq.Frame] = partial(recv, DONTWAIT, False)  # dearer, but knows whether more follow
        self._loop = loop
        self._receive = receive
        self._again = False
        self._closed = False
        self._fd = int(socket.get(zmq.FD))
        loop.add_reader(self._fd, self._readable)
        self.look()  # what came before there was a reader was told before

    def drain(self, within_s: float = math.inf) -> None:
        """Read until nothing is left, or until this turn had its share."""
        budget, latest = self._frames_per_turn, time.monotonic() + within_s
        try:
            while not self._closed and self.get(_EVENTS) & _IN:
                budget -= self._receive()
                if budget <= 0 or time.monotonic() >= latest:
                    self._soon()
                    return
        except BaseException:
            self._soon()  # whoever listens has a fault; what is still there will not be told again
            raise

    def look(self) -> None:
        """To be called after sends: they may have swallowed the news that there is something to read."""
        if not self._closed and self.get(_EVENTS) & _IN:
            self._soon()

    def close(self) -> None:
        """Read no more. The socket stays open."""
        if not self._closed:
            self._closed = True
            self._loop.remove_reader(self._fd)

    def _readable(self) -> None:
        if not self._again:  # else this turn has its share already
            self.drain(TURN_S)

    def _soon(self) -> None:
        if not self._again and not self._closed:
            self._again = True
            self._loop.call_soon(self._drain_again)

    def _drain_again(self) -> None:
        self._again = False
        self.drain(TURN_S)
