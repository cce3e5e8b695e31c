"""The engine of many processes: machines of this one joined in memory, and to those of others by ZeroMQ sockets.

Messages may be lost whenever a connection is: ZeroMQ does not tell which. The machines count what they sent, and say it again.
What this engine adds: all that is said to one peer in one turn of the loop leaves as one ZeroMQ message; nothing ever waits for a
peer; and each peer is told to the machine when its connection is there, and when it is gone.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from homing.core.machine import Action, Event, Expel, Machine, Peer, Tell
from homing.engines.memory import Act, Memory
from homing.engines.zmq_curve import CurveClient, CurveServer, Zap, check
from homing.engines.zmq_dealer import Dealer
from homing.engines.zmq_desk import RETRY_S, Desk
from homing.engines.zmq_router import Foreign, Router
from homing.engines.zmq_tally import Tally

__all__ = ["FRAME_BYTES_MAX", "CurveClient", "CurveServer", "Foreign", "Zmq"]

FRAME_BYTES_MAX = 16 * 1024 * 1024


def _nothing(*_: str) -> None:
    """Nobody wants to know."""


class Zmq(Memory):
    """Joins any number of machines by address, and peers in other processes: what is said to those leaves when the turn is over.

    `count(kind)` hears of each thing that went wrong, `counts` sums them up; `warn(kind, sentence)` is called at most once a minute
    for each kind. Kinds: those of `codec.WireError`, `foreign` (frames of no known protocol), `unreachable` (said to a peer that is
    not there), `full` (said to a peer that does not read), `size` (too large to send), `late` (from a broker that is gone), `denied`
    (a key on no list), `handshake`, `expelled`.

    `opened` are descriptors of sockets that listen already, by the endpoint that `bind` will be asked for.
    """

    __slots__ = ("_closed", "_desk", "_here", "_lines", "_opened", "_zap")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        frame_bytes_max: int = FRAME_BYTES_MAX,
        sealed: bool = False,
        count: Callable[[str], None] = _nothing,
        warn: Callable[[str, str], None] = _nothing,
        opened: Mapping[str, int] | None = None,
    ) -> None:
        self._opened = dict(opened or {})
        self._here: set[Peer] = set()
        self._desk = Desk(
            loop,
            Tally(loop, count, warn),
            frame_bytes_max=frame_bytes_max,
            sealed=sealed,
            has_machine=self._here.__contains__,
            tell=self._feed_now,
        )
        super().__init__(self._desk.say)
        self._lines: list[Router | Dealer] = []
        self._zap: Zap | None = None
        self._closed = False

    @property
    def tell(self) -> Tell:
        """How what sockets bring reaches the machines. Whoever has a timer to arm sets it, to `Driver.feed`."""
        return self._desk.tell

    @tell.setter
    def tell(self, tell: Tell) -> None:
        self._desk.tell = tell

    @property
    def counts(self) -> Counter[str]:
        """What went wrong, by kind, since the start."""
        return self._desk.tally.counts

    @property
    def held_bytes(self) -> int:
        """What waits for peers that do not read."""
        return self._desk.held_bytes()

    def attach(self, address: Peer, machine: Machine, act: Act, *, timed: bool = True) -> None:
        """From now on what is said to `address` goes to `machine`, and `act` does what it wants done beside messages.

        One that is not `timed` has no deadline, ever, and is not asked: there may be very many.
        """
        self._here.add(address)
        super().attach(address, machine, partial(self._act, address, act), timed=timed)

    def bind(self, address: Peer, endpoint: str, *, curve: CurveServer | None = None, foreign: Foreign | None = None) -> str:
        """Let others dial the machine at `address`; returns the endpoint, with the port that a wildcard became.

        A machine may have several. Where no machine is attached at `address`, only `foreign` is spoken. Raises OSError if nobody can
        listen there, and ValueError for a key that is none, both with a sentence for people.
        """
        domain = b"%d" % len(self._lines)
        if curve is not None:
            check(curve)
            if self._zap is None:
                self._zap = Zap(self._desk.loop, self._desk.context, self._desk.tally)
            self._zap.admit(domain, curve.users)
        router = Router(self._desk, address, curve, domain, foreign)
        try:
            bound = router.bind(endpoint, self._opened.pop(endpoint, None))
        except OSError:
            router.discard()
            raise
        self._lines.append(router)
        return bound

    def dial(self, address: Peer, endpoint: str, *, curve: CurveClient | None = None) -> Peer:
        """Dial a broker for the machine at `address`, for ever; returns the broker's address.

        The machine is told when the broker is there, and when it is gone. Raises OSError if `endpoint` is none, and ValueError for a
        key that is none or an endpoint that is dialled already. A name's IPv4 address is dialled; `tcp://[name]:port` is for IPv6.
        """
        if any(isinstance(line, Dealer) and (line.address, line.peer) == (address, endpoint.encode()) for line in self._lines):
            raise ValueError(f"{endpoint} is dialled already; say each broker once")
        if curve is not None:
            check(curve)
        dealer = Dealer(self._desk, address, endpoint, curve)
        try:
            dealer.dial()
        except OSError:
            dealer.discard()
            raise
        self._lines.append(dealer)
        return dealer.peer

    def send_frames(self, address: Peer, peer: Peer, frames: Sequence[bytes]) -> bool:
        """Say something to a foreign peer of the machine at `address`, or of the endpoint that was bound there.

        False: it is gone, or does not read, and nothing of this will ever leave.
        """
        return self._desk.say_frames(address, peer, list(frames))

    def close(self, linger_s: float = 1.0) -> None:
        """Send what was said, within `linger_s`, and leave. Machines of this process can still be fed."""
        if self._closed:
            return
        self._closed = True
        end = time.monotonic() + linger_s
        self._desk.close()
        self._desk.flush()
        while self._desk.waits() and time.monotonic() < end:
            time.sleep(RETRY_S)
            self._desk.flush_blocked()
        for line in self._lines:
            line.close()
        if self._zap is not None:
            self._zap.close()
        self._desk.tally.close()
        self._desk.destroy(end)

    def _feed_now(self, address: Peer, /, *events: Event) -> None:
        for event in events:
            self.feed(address, event, time.monotonic())

    def _act(self, address: Peer, act: Callable[[Action], None], action: Action) -> None:
        if type(action) is Expel:
            self._desk.tally.add("expelled", f"A peer broke the protocol and is heard no more: {action.why}.")
            for line in self._lines:
                if line.address == address and line.expel(action.peer):
                    return
        else:
            act(action)
