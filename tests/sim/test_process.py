"""A process has a clock of its own, and a wire two ends."""

import pytest

from homing.sim.process import Process, Wire
from tests.sim.people import process


def test_a_clock_begins_anywhere_and_runs_a_little_wrong() -> None:
    one = process()
    one.clock(1000.0, 1.01)
    assert one.local(10.0) == pytest.approx(1010.1)
    assert one.true(1010.1) == pytest.approx(10.0)


def test_a_clock_never_goes_back() -> None:
    one = process()
    instant = one.local(5.0)
    one.last = instant + 1e-9  # rounded up
    assert one.local(5.0) == instant + 1e-9


def test_a_wire_has_two_ends() -> None:
    worker, broker = process("worker"), process("broker")
    wire = Wire(worker, broker)
    assert wire.other(worker) is broker
    assert wire.other(broker) is worker
    assert isinstance(worker, Process)
    assert str(worker) == "worker 0.1"
