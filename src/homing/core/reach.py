"""Whom a gateway's brokers reach, and what those can do, as the brokers last said."""

from collections import Counter
from collections.abc import Callable, Iterable
from itertools import islice
from operator import attrgetter

import msgspec

from homing.core.limits import Gcra, Rate
from homing.core.machine import Deadlines, Life, Peer, soonest
from homing.core.messages import LIFE_BYTES, MethodOffer, Workers
from homing.errors import STRICTNESS

METHODS_KEPT_S = 60.0  # after the last worker that offered one: it may start anew, and until then no method of its is unknown
LIVES_MAX, METHODS_MAX = 10_000, 10_000  # that WORKERS may name
LIFE_PACKED_BYTES = LIFE_BYTES + 2

# A worker that offers other methods with every message must cost gateways no more than they can bear.
TELLING = Rate(limit=2, per_s=1.0, burst=10)
LEARNING = Rate(limit=1, per_s=1.0, burst=5)


class Pace:
    """What may be done at once a few times, and then so often only: `due` says when, and `at` when to ask again."""

    __slots__ = ("_rate", "at")

    def __init__(self, rate: Rate) -> None:
        self._rate = Gcra(rate)
        self.at: float | None = None

    def due(self, now: float) -> bool:
        """Whether it may be done now. Then it counts as done."""
        if self.at is not None and now < self.at:
            return False
        wait_s = self._rate.take(now)
        self.at = now + wait_s if wait_s else None
        return not wait_s


class News:
    """Which gateways a broker has to tell whom it reaches: all of them once that has changed, and one that introduces itself.

    Neither is done more often than its pace: what is told is long, and asked for with a few bytes.
    """

    __slots__ = ("_changes", "_paces", "changed", "owed")

    def __init__(self) -> None:
        self.changed = False
        self._changes = Pace(TELLING)
        self._paces: dict[Peer, Pace] = {}  # of those who asked
        self.owed: Deadlines[Peer] = Deadlines()

    def asked(self, peer: Peer, now: float) -> bool:
        """Whether to tell this one at once. If not, it is owed."""
        pace = self._paces.setdefault(peer, Pace(TELLING))
        if pace.due(now):
            return True
        assert pace.at is not None, "it was not due"
        self.owed.set(peer, pace.at)
        return False

    def due(self, present: Callable[[], Iterable[Peer]], now: float) -> list[Peer]:
        """Whom to tell now, of those that are there."""
        if self.changed and self._changes.due(now):
            self.changed = False
            self.owed.clear()
            return list(present())
        return [peer for peer in self.owed.pop_due(now) if self._paces[peer].due(now)]

    def left(self, peer: Peer) -> None:
        """Its connection is gone."""
        self._paces.pop(peer, None)
        self.owed.pop(peer, None)

    def next_deadline(self) -> float | None:
        """When somebody may be told again."""
        return soonest(self._changes.at, self.owed.earliest()) if self.owed else self._changes.at


class Reach:
    """The newest WORKERS of each broker. A method is known until nobody has offered it for `METHODS_KEPT_S`, or there are too many."""

    __slots__ = ("_leaving", "_lives", "_methods", "_offers")

    def __init__(self) -> None:
        self._lives: dict[Peer, frozenset[Life]] = {}
        self._offers: dict[Peer, dict[str, MethodOffer]] = {}
        self._methods: dict[str, MethodOffer] = {}
        self._leaving: Deadlines[str] = Deadlines()

    @property
    def methods(self) -> tuple[MethodOffer, ...]:
        """All that are known, by name."""
        return tuple(self._methods[name] for name in sorted(self._methods))

    def told(self, broker: Peer, workers: Workers, now: float) -> bool:
        """What a broker says counts until it says something else. Whether the methods have changed."""
        self._lives[broker] = frozenset(workers.lives)
        self._offers[broker] = first_of_each(workers.methods)
        return self._learn(now)

    def lost(self, broker: Peer, now: float) -> bool:
        """What it said no longer counts. Whether the methods have changed."""
        self._lives.pop(broker, None)
        return self._offers.pop(broker, None) is not None and self._learn(now)

    def reaches(self, life: Life, *, but: Peer | None = None) -> bool:
        """Whether a broker, another one than `but`, says that it reaches this life."""
        return any(life in lives for broker, lives in self._lives.items() if broker != but)

    def forget_due(self, now: float) -> bool:
        """Forget what nobody has offered for long enough. Whether the methods have changed."""
        due = self._leaving.pop_due(now)
        for name in due:
            del self._methods[name]
        return bool(due)

    def next_deadline(self) -> float | None:
        """When the next method is to be forgotten."""
        return self._leaving.earliest()

    def _learn(self, now: float) -> bool:
        offered = first_of_each(offer for offers in self._offers.values() for offer in offers.values())
        for name in self._methods:
            if name in offered:
                self._leaving.pop(name, None)
            elif name not in self._leaving:
                self._leaving.set(name, now + METHODS_KEPT_S)
        before = self._methods
        self._methods = {**before, **offered}
        while len(self._methods) > METHODS_MAX and (longest_gone := self._leaving.earliest()) is not None:
            for name in self._leaving.pop_due(longest_gone):
                del self._methods[name]
        return self._methods != before


def workers_of(lives: Iterable[Life], offers: Iterable[MethodOffer], bytes_max: int, counts: Counter[str]) -> Workers:
    """What a gateway is told of them: as much as a message holds. Whoever came first stays in: what is new must not hide what was.

    What it is not told of is counted as `method_untold`: it does not exist for that gateway.
    """
    reached = tuple(islice(lives, min(LIVES_MAX, bytes_max // (2 * LIFE_PACKED_BYTES))))
    left_bytes = bytes_max - LIFE_PACKED_BYTES * len(reached)
    told: list[MethodOffer] = []
    for offer in first_of_each(offers).values():
        size = _bytes_of(offer)
        if size < left_bytes and len(told) < METHODS_MAX:
            left_bytes -= size
            told.append(offer)
        else:
            counts["method_untold"] += 1
    return Workers(reached, tuple(sorted(told, key=attrgetter("name"))))


def _bytes_of(offer: MethodOffer) -> int:
    """What it takes of a frame, at most."""
    texts = (offer.name, offer.service, offer.summary, *offer.positional)
    return len(offer.params) + sum(4 * len(text) + 5 for text in texts) + 32


def first_of_each(offers: Iterable[MethodOffer]) -> dict[str, MethodOffer]:
    """By name. Of two with one name the first is taken, or the one whose service the name begins with.

    Else whoever may serve anything at all could have the calls that are meant for the functions of another.
    Of one service any of its workers may be given the call, so the strictest of their effects counts.
    """
    named: dict[str, MethodOffer] = {}
    for offer in offers:
        known = named.setdefault(offer.name, offer)
        if known is offer:
            continue
        if _is_at_home(offer) and not _is_at_home(known):
            named[offer.name] = offer
        elif offer.service == known.service and STRICTNESS[offer.effect] > STRICTNESS[known.effect]:
            named[offer.name] = msgspec.structs.replace(known, effect=offer.effect)
    return named


def _is_at_home(offer: MethodOffer) -> bool:
    return offer.name.startswith(f"{offer.service}.")
