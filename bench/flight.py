"""So many calls in flight, for so long: each that comes back is followed by the next.

Prints a line when the warming up is over, and then a line of JSON with what came of it.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable

BODY = "x" * 200
WARM_S = 1.0
BEGINS = "begins"


async def fly(call: Callable[[], Awaitable[object]], in_flight: int, seconds: float) -> None:
    """Calls whose answers are awaited, `in_flight` at a time; what the first second brings is not counted."""
    await call()  # connections, and whatever else there is to be found out
    flight = Flight(seconds)

    async def one_after_the_other() -> None:
        began = time.perf_counter()
        while not flight.ended:
            await call()
            began = flight.came(began)

    await asyncio.gather(*(one_after_the_other() for _ in range(in_flight)))
    flight.report()


class Flight:
    """The watch and the book of one flight, whatever drives it."""

    def __init__(self, seconds: float) -> None:
        self.ended = False
        self._seconds = seconds
        self._begins = time.perf_counter() + WARM_S
        self._begun = False
        self._took: list[float] = []

    def came(self, began: float) -> float:
        """A call that began then has come back now. Returns now."""
        now = time.perf_counter()
        if now < self._begins:
            return now
        if not self._begun:
            self._begun = True
            print(BEGINS, flush=True)
        self._took.append(now - began)
        self.ended = now >= self._begins + self._seconds
        return now

    def report(self) -> None:
        """What came of it, for whoever started this program. Calls that were still out at the end are not counted."""
        took = sorted(self._took)
        p50, p99 = (took[min(len(took) - 1, int(len(took) * share))] * 1000 for share in (0.5, 0.99))
        figures = {"calls": len(took), "calls_per_s": len(took) / self._seconds, "p50_ms": p50, "p99_ms": p99}
        print(json.dumps(figures), flush=True)
