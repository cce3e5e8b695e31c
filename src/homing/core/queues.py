"""What a broker's tables hold: one copy of a call, one worker's offer, one service's queue with its lines."""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import TypeAlias

import msgspec

from homing.core.links import UNLIMITED, frame_bytes
from homing.core.machine import Life, Peer
from homing.core.messages import MethodOffer, Request

Line: TypeAlias = tuple[str, frozenset[Life]]
"""A principal, and who has refused the calls in this line: all in one line wait for the same workers, so its head speaks for all."""

NOBODY: frozenset[Life] = frozenset()
NO_SERVICES: frozenset[str] = frozenset()
MEAN_WEIGHT = 0.1  # of the newest duration in a service's running mean
LENGTH_BESIDE = 512  # of key and trace: as much as every call may have beside its params


def weight(request: Request) -> int:
    """What of a call is held for it: its params, and what is long beside them."""
    return len(request.body) + max(0, len(request.key) + len(request.trace) - LENGTH_BESIDE)


class Copy(msgspec.Struct, gc=False):
    """One call in this broker: queued if `life` is None, else given to that worker."""

    request: Request
    deadline: float
    life: Life | None = None
    given_at: float = 0.0
    order: int = 0  # the worker's link had sent so many messages when this one left
    claim: int | None = None
    granted: bool = False
    refused_by: frozenset[Life] = NOBODY
    submitter: Life = b""  # whose call it is: of that life the call id says one half only

    @property
    def line(self) -> Line:
        """The line it waits in."""
        return (self.request.principal, self.refused_by)


def service_of(copy: Copy | None) -> str:
    """Whose permit is asked for. Of a call that is not known here only those may speak whose permit is for everything."""
    return copy.request.service if copy is not None else ""


class Offering:
    """One life of a worker: where it is, whose it is, what it offers, what it has been given by service."""

    __slots__ = ("frame_bytes_max", "gone", "held", "life", "methods", "offered", "peer", "services", "strays", "user")

    def __init__(self, life: Life, peer: Peer, user: str = "") -> None:
        self.life = life
        self.peer = peer
        self.user = user
        self.frame_bytes_max = UNLIMITED  # the largest frame it reads
        self.services: dict[str, int] = {}
        self.offered: frozenset[str] = NO_SERVICES  # these, or if it has none any more the last it had
        self.methods: tuple[MethodOffer, ...] = ()
        self.held: dict[str, set[bytes]] = {}
        self.strays: set[bytes] = set()  # what it says it holds and this broker never gave it: an earlier life of the broker did
        self.gone = False

    def concerns(self, calls: Callable[[str], bool]) -> bool:
        """Whether somebody who may call so much needs to know that it can be reached. Who need not know a life cannot take it."""
        return not self.offered or any(map(calls, self.offered)) or any(map(calls, self.held))

    def given(self) -> list[bytes]:
        """What it has been given, in the same order in every run."""
        return [call_id for held in self.held.values() for call_id in sorted(held)]

    def credit(self, service: str) -> int:
        """How many more calls of this service it takes now."""
        if self.gone:
            return 0
        held = self.held.get(service)
        return self.services.get(service, 0) - (len(held) if held else 0) - len(self.strays)


class Service:
    """The queue of one service, a line for each principal (and for what has been refused), and who offers it."""

    __slots__ = ("length", "lines", "mean_s", "name", "nobody_since", "workers")

    def __init__(self, name: str, now: float) -> None:
        self.name = name
        self.lines: dict[Line, OrderedDict[bytes, Copy]] = {}  # by call id: whoever hangs up leaves from anywhere
        self.length = 0
        self.workers: dict[Life, Offering] = {}
        self.mean_s = 0.0  # 0: nothing measured yet
        self.nobody_since: float | None = now

    def measured(self, taken_s: float) -> None:
        """One of its calls took so long, from being given to a worker to its end."""
        self.mean_s += (taken_s - self.mean_s) * (MEAN_WEIGHT if self.mean_s else 1.0)

    def push(self, copy: Copy, *, first: bool = False) -> None:
        """To the end of its line, or to the head if it has waited before."""
        name = copy.line
        line = self.lines.get(name)
        if line is None:
            line = self.lines[name] = OrderedDict()
        line[copy.request.call_id] = copy
        if first:
            line.move_to_end(copy.request.call_id, last=False)
        self.length += 1

    def remove(self, copy: Copy) -> None:
        """Out of its line, wherever it stands."""
        name = copy.line
        line = self.lines[name]
        del line[copy.request.call_id]
        self.length -= 1
        if not line:
            del self.lines[name]

    def turns(self) -> Iterator[Copy]:
        """The head of each line. Whoever is served goes to the back of the round."""
        for line in self.lines.values():
            yield next(iter(line.values()))

    def next_turn(self) -> tuple[Copy, Offering | None] | None:
        """Take out the call whose turn it is, and the worker for it. No worker: none of them reads so large a frame."""
        while self.has_credit():
            for copy in self.turns():
                worker = self.idle_worker(copy)
                blind = self.blind_to(copy) if worker is None else NOBODY
                if worker is None and blind <= copy.refused_by and len(blind) < len(self.workers):
                    continue  # it waits for one that reads it
                self.pop(copy)
                if worker is not None or len(blind) == len(self.workers):
                    return copy, worker
                copy.refused_by |= blind  # it is not in the way of those that fit
                self.push(copy)
                break
            else:
                return None
        return None

    def blind_to(self, copy: Copy) -> frozenset[Life]:
        """Those of its workers that do not read so large a frame."""
        size = frame_bytes(copy.request)
        return frozenset(life for life, worker in self.workers.items() if worker.frame_bytes_max < size)

    def pop(self, copy: Copy) -> None:
        """Serve the head of a line."""
        name = copy.line
        line = self.lines.pop(name)
        line.popitem(last=False)
        self.length -= 1
        if line:
            self.lines[name] = line

    def slots(self) -> int:
        """How many calls of this service all its workers take at once."""
        return sum(worker.services.get(self.name, 0) for worker in self.workers.values())

    def idle_worker(self, copy: Copy) -> Offering | None:
        """The worker with the most credit left that has not refused this call, and reads so large a frame."""
        best: Offering | None = None
        most, size = 0, frame_bytes(copy.request)
        for worker in self.workers.values():
            credit = worker.credit(self.name)
            if credit > most and size <= worker.frame_bytes_max and worker.life not in copy.refused_by:
                best, most = worker, credit
        return best

    def has_credit(self) -> bool:
        """Whether any of its workers takes one more."""
        return any(worker.credit(self.name) > 0 for worker in self.workers.values())
