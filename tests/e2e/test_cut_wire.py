"""The cables of gateway and worker to their broker end at any byte, greeting and handshake included, while calls run.

A run of the tests tries some of the bytes, others each day. HOMING_EVERY_BYTE=1 tries them all, which takes minutes.
"""

import asyncio
import os
import time
from collections import Counter

import pytest

from chaos.links import How
from tests.e2e.cut_wire import Cut, suffer, traffic

EVERY = os.environ.get("HOMING_EVERY_BYTE") == "1"
SEED = int(os.environ.get("HOMING_CUT_SEED", time.time() // 86_400))
AT_ONCE = 24
BEYOND = 40  # bytes after the last of three calls: what is cut there is a heartbeat

# The stride of a short run, and how long the calls may take. Only who waits long enough hears that a connection is dead.
TRIED: dict[How, tuple[int, float]] = {"cut": (29, 6.0), "stall": (29, 1.5), "deaden": (61, 14.0)}


@pytest.mark.parametrize("how", TRIED)
@pytest.mark.timeout(60 if not EVERY else 3600)
def test_a_cable_that_ends_at_any_byte_costs_no_call_its_one_true_answer(how: How) -> None:
    stride, timeout_s = TRIED[how]

    async def main() -> tuple[Counter[str], list[str]]:
        ends: Counter[str] = Counter()
        wrongs: list[str] = []
        cuts = [
            Cut(cable, way, at, how)
            for (cable, way), length in (await traffic()).items()
            for at in range(0 if EVERY else SEED % stride, length + BEYOND, 1 if EVERY else stride)
        ]
        rest = iter(cuts)

        async def some() -> None:
            for cut in rest:
                outcomes, found = await suffer(cut, timeout_s)
                ends.update(f"{outcome.reason} {outcome.executed}" for outcome in outcomes.values())
                wrongs.extend(f"{cut}: {wrong}" for wrong in found)

        await asyncio.gather(*(some() for _ in range(AT_ONCE if how != "deaden" else 4 * AT_ONCE)))
        print(f"{how}: {len(cuts)} bytes, {dict(ends)}")
        assert ends.total() == 3 * len(cuts)
        return ends, wrongs

    ends, wrongs = asyncio.run(main())
    assert not wrongs, f"with HOMING_CUT_SEED={SEED}: {wrongs}"
    answered = {"cut": 0.9, "stall": 0.05, "deaden": 0.8}[how]
    assert ends["ok yes"] >= answered * ends.total(), ends
