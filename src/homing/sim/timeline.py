"""The true time, which nobody in the imagined world can see, and what is to come."""

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from random import Random
from typing import TypeAlias

# (true instant, how manyth, what to do, with what): the number keeps ties in order and the rest from being compared.
Entry: TypeAlias = tuple[float, int, Callable[..., None], tuple[object, ...]]


class Timeline:
    """A heap of what is to come. `random` is the one source of chance; `now` is in seconds from the beginning of the run."""

    __slots__ = ("_heap", "_numbers", "now", "random")

    def __init__(self, random: Random) -> None:
        self.now = 0.0
        self.random = random
        self._heap: list[Entry] = []
        self._numbers = count()

    def __len__(self) -> int:
        return len(self._heap)

    def at(self, when: float, act: Callable[..., None], *args: object) -> None:
        """Do it at the true instant `when`."""
        heappush(self._heap, (when, next(self._numbers), act, args))

    def after(self, delay_s: float, act: Callable[..., None], *args: object) -> None:
        """Do it so long from now."""
        heappush(self._heap, (self.now + delay_s, next(self._numbers), act, args))

    def run(self, until: float) -> None:
        """Let time pass up to `until`, and let everything happen on the way."""
        heap = self._heap
        while heap and heap[0][0] <= until:
            self.now, _, act, args = heappop(heap)
            act(*args)
        self.now = until
