"""So many calls in flight, for so long: each that comes back is followed by the next. Prints a line of JSON with what came of it."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable

BODY = "x" * 200
WARM_S = 1.0


async def fly(call: Callable[[], Awaitable[object]], in_flight: int, seconds: float) -> None:
    """Calls whose answers are awaited, `in_flight` at a time; what the first second brings is not counted."""
    took: list[float] = []
    begins = time.perf_counter() + WARM_S
    ends = begins + seconds

    async def one_after_the_other() -> None:
        now = time.perf_counter()
        while now < ends:
            await call()
            after = time.perf_counter()
            if now >= begins:
                took.append(after - now)
            now = after

    await asyncio.gather(*(one_after_the_other() for _ in range(in_flight)))
    report(took, seconds)


def report(took: list[float], seconds: float) -> None:
    """What came of it, for whoever started this program."""
    took.sort()
    p50, p99 = (took[min(len(took) - 1, int(len(took) * share))] * 1000 for share in (0.5, 0.99))
    print(json.dumps({"calls": len(took), "calls_per_s": len(took) / seconds, "p50_ms": p50, "p99_ms": p99}), flush=True)
