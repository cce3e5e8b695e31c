"""Two hundred seeds of a thousand calls each: every rule after every step, then healing, then rest.

A seed that fails is replayed, with the story of the call, by `homing simulate --seed N --calls 1000`.
"""

import sys

import coverage
import pytest

from homing.sim.plan import draw
from homing.sim.world import World

SEEDS = 200
CHUNK = 5  # seeds of one test: small enough to share out between two cores
CALLS = 1000


@pytest.mark.skipif(
    coverage.Coverage.current() is not None or sys.gettrace() is not None,
    reason="a trace makes it four times slower; the other tests of the simulator cover it",
)
@pytest.mark.timeout(300)
@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_the_rules_hold_whatever_breaks(first: int) -> None:
    for seed in range(first, first + CHUNK):
        report = World(draw(seed, CALLS)).run()
        assert report.calls >= CALLS
