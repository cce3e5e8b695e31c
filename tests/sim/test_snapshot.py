"""A snapshot tells apart what will behave differently, and nothing else."""

from collections import deque
from copy import deepcopy

from homing.core.calls import Calls
from homing.core.machine import Deadlines, PeerFound, Received
from homing.core.messages import Claim
from homing.core.worker import Worker
from homing.sim.snapshot import snapshot
from tests.core.people import BROKER, GATEWAY, ONE, A, submitted


class Slotted:
    __slots__ = ("one", "unset")

    def __init__(self, one: int) -> None:
        self.one = one


class Dressed(Slotted):
    def __init__(self, one: int, two: int) -> None:
        super().__init__(one)
        self.two = two


def test_a_copy_is_the_same_and_an_event_makes_a_difference() -> None:
    calls = Calls(GATEWAY)
    calls.handle(PeerFound(BROKER), 0.0)
    calls.handle(submitted(A), 0.0)
    other = deepcopy(calls)
    assert snapshot(calls) == snapshot(other)
    other.handle(Received(BROKER, Claim(A, ONE, 1)), 0.0)
    assert snapshot(calls) != snapshot(other)
    calls.handle(Received(BROKER, Claim(A, ONE, 1)), 0.0)
    assert snapshot(calls) == snapshot(other)


def test_a_worker_has_a_snapshot() -> None:
    worker = Worker(ONE, services={}, methods={}, providers={}, random=lambda: 0.5)
    assert snapshot(worker) == snapshot(deepcopy(worker))
    hash(snapshot(worker))


def test_stale_entries_of_deadlines_make_no_difference() -> None:
    one: Deadlines[str] = Deadlines()
    other: Deadlines[str] = Deadlines()
    one.set("a", 1.0)
    one.set("a", 2.0)
    other.set("a", 2.0)
    assert snapshot(one) == snapshot(other) == (("a", 2.0),)


def test_the_order_of_a_dict_matters_and_that_of_a_set_does_not() -> None:
    assert snapshot({"a": 1, "b": 2}) != snapshot({"b": 2, "a": 1})
    assert snapshot({b"x", b"y"}) == snapshot({b"y", b"x"}) == (b"x", b"y")
    assert snapshot(deque([1, None])) == (1, None)


def test_what_is_called_is_no_state() -> None:
    assert snapshot({"act": print}) == ()
    assert snapshot(print) is None


def test_fields_are_found_wherever_they_are() -> None:
    assert snapshot(Slotted(1)) == ("Slotted", ("one", 1), ("unset", None))
    assert snapshot(Dressed(1, 2)) == ("Dressed", ("one", 1), ("two", 2), ("unset", None))
