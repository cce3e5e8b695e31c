"""What every machine is: events and the time go in, actions come out, and nothing else happens.

A machine knows no clock, socket, random source or log. The same machine runs on asyncio in production and on a heap with a virtual
clock in the simulator (the idea is sans-io's, after h11 and aioquic). Events are in the past tense, actions in the imperative.
"""

from heapq import heapify, heappop, heappush
from typing import Protocol, TypeAlias, TypeVar

import msgspec

from homing.core.messages import Message, MethodOffer
from homing.errors import Effect, Outcome

Peer: TypeAlias = bytes
"""An address that the engine understands. It says nothing about who is there: lives do."""

Life: TypeAlias = bytes
"""128 random bits, new at each start of a process."""


class Submitted(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The gateway admitted a call. `deadline` is an instant; `key` is what the provider gets, `caller_key` what the caller knows."""

    call_id: bytes
    service: str
    method: str
    deadline: float
    timeout_ms: int
    effect: Effect
    principal: str
    key: str
    caller_key: str
    body: bytes
    attempts_max: int = 3
    key_lifetime_s: float | None = None
    trace: str = ""


class Received(msgspec.Struct, frozen=True, gc=False):
    """A message came from a peer."""

    peer: Peer
    message: Message


class PeerFound(msgspec.Struct, frozen=True):
    """A connection to a peer is there, for the first time or again. `user` is whom its key belongs to, "" where none was asked for."""

    peer: Peer
    user: str = ""


class PeerLost(msgspec.Struct, frozen=True):
    """The connection to a peer is gone. Whether its life is gone too, time will tell."""

    peer: Peer


class Abandoned(msgspec.Struct, frozen=True):
    """The caller hung up."""

    call_id: bytes


class Prepared(msgspec.Struct, frozen=True):
    """The access token that `Prepare` asked for is there, or `problem` says why not."""

    call_id: bytes
    problem: str | None = None


class Finished(msgspec.Struct, frozen=True):
    """The exchange that `Start` asked for has ended. `number` is that of the `Start`."""

    call_id: bytes
    number: int
    outcome: Outcome
    provider_request_id: str | None = None


class Tick(msgspec.Struct, frozen=True):
    """`next_deadline` has passed."""


class Draining(msgspec.Struct, frozen=True):
    """Take nothing new; what runs may end."""


class DrainTimedOut(msgspec.Struct, frozen=True):
    """What still runs is given up."""


Event: TypeAlias = Submitted | Received | PeerFound | PeerLost | Abandoned | Prepared | Finished | Tick | Draining | DrainTimedOut


class Send(msgspec.Struct, frozen=True, gc=False):
    """Give the message to a peer. It may be lost on the way; it is never invented."""

    peer: Peer
    message: Message


class Settle(msgspec.Struct, frozen=True):
    """The one answer of a call."""

    call_id: bytes
    outcome: Outcome


class Prepare(msgspec.Struct, frozen=True):
    """Have the provider's access token ready by `deadline`; say so with `Prepared`."""

    call_id: bytes
    provider: str
    deadline: float


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """Ask the provider, from now to `deadline`. The shell answers with exactly one `Finished` of the same `number`.

    `late` is the reason to give when `deadline` ends it. `lookup` asks whether the call happened instead of making it.
    """

    call_id: bytes
    number: int
    attempt: int
    method: str
    provider: str
    effect: Effect
    principal: str
    key: str
    body: bytes
    deadline: float
    late: str
    lookup: bool = False


class Stop(msgspec.Struct, frozen=True):
    """End a started exchange now; its `Finished` still comes."""

    call_id: bytes
    number: int


class Learn(msgspec.Struct, frozen=True):
    """These are all the methods that workers offer now, whichever broker reaches them. What was learnt before is forgotten."""

    methods: tuple[MethodOffer, ...]


class Expel(msgspec.Struct, frozen=True):
    """Drop the connection of a peer that breaks the protocol."""

    peer: Peer
    why: str


class Tell(Protocol):
    """How an engine tells a machine what sockets have brought: all of it that came at once in one go, in its order.

    Never nothing: of what was junk throughout, or said nothing, the machine does not hear.
    """

    def __call__(self, address: Peer, /, *events: Event) -> None: ...


Action: TypeAlias = Send | Settle | Prepare | Start | Stop | Learn | Expel


class Machine(Protocol):
    """Thinking apart from doing."""

    def handle(self, event: Event, now: float) -> list[Action]:
        """Take one event at the instant `now` (seconds, monotonic) and say what is to be done, in order."""
        ...

    def next_deadline(self) -> float | None:
        """The instant at which the shell must feed `Tick`, or None. It may be early, never late."""
        ...


Key = TypeVar("Key", bytes, str, int)

HEAP_LENGTH_MIN = 64  # below that, stale entries are not worth sweeping


class Deadlines(dict[Key, float]):
    """Instants by key, the earliest first; `set` moves a key, `pop` takes it out.

    A binary heap whose stale entries are swept once they outnumber the live ones: most calls settle long before their deadline,
    and a heap that kept them all would grow by every call of the last hundred seconds.
    """

    __slots__ = ("_heap",)

    def __init__(self) -> None:
        super().__init__()
        self._heap: list[tuple[float, Key]] = []

    def set(self, key: Key, when: float) -> None:
        """Due at `when`, whatever was set before."""
        self[key] = when
        heap = self._heap
        heappush(heap, (when, key))
        if len(heap) > HEAP_LENGTH_MIN and len(heap) > 3 * len(self):
            self._heap = [(instant, name) for name, instant in self.items()]
            heapify(self._heap)

    def earliest(self) -> float | None:
        """The next instant, or None."""
        heap = self._heap
        while heap:
            instant, key = heap[0]
            if self.get(key) == instant:
                return instant
            heappop(heap)
        return None

    def pop_due(self, now: float) -> list[Key]:
        """Take out every key whose instant has come, in order."""
        due: list[Key] = []
        while (instant := self.earliest()) is not None and instant <= now:
            key = heappop(self._heap)[1]
            del self[key]
            due.append(key)
        return due


def soonest(*instants: float | None) -> float | None:
    """The earliest of these, or None if there is none."""
    earliest: float | None = None
    for instant in instants:
        if instant is not None and (earliest is None or instant < earliest):
            earliest = instant
    return earliest


def margin_s(remaining_s: float) -> float:
    """What one hop keeps back so that its answer arrives before the deadline: 1 %, between 5 ms and 250 ms."""
    return min(0.25, max(0.005, remaining_s * 0.01))
