"""What every machine shares: instants by key, the margin of a hop, and events and actions that are values."""

import typing

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from homing.core import machine
from homing.core.machine import Action, Deadlines, Event, margin_s, soonest


def test_the_earliest_instant_comes_first() -> None:
    deadlines: Deadlines[str] = Deadlines()
    deadlines.set("late", 9.0)
    deadlines.set("early", 1.0)
    assert deadlines.earliest() == 1.0
    assert len(deadlines) == 2
    assert "late" in deadlines
    assert "never" not in deadlines


def test_nothing_is_due_where_nothing_was_set() -> None:
    deadlines: Deadlines[str] = Deadlines()
    assert deadlines.earliest() is None
    assert deadlines.pop_due(1e9) == []


def test_setting_a_key_again_moves_its_instant() -> None:
    deadlines: Deadlines[str] = Deadlines()
    deadlines.set("call", 1.0)
    deadlines.set("call", 5.0)
    assert deadlines.earliest() == 5.0
    assert deadlines.pop_due(4.9) == []
    assert deadlines.pop_due(5.0) == ["call"]
    assert len(deadlines) == 0


def test_what_is_due_is_taken_out_in_order_and_once() -> None:
    deadlines: Deadlines[int] = Deadlines()
    for key, when in ((3, 3.0), (1, 1.0), (4, 4.0), (2, 2.0)):
        deadlines.set(key, when)
    assert deadlines.pop_due(3.0) == [1, 2, 3]
    assert deadlines.pop_due(3.0) == []
    assert deadlines.earliest() == 4.0


def test_the_same_instant_set_twice_is_due_once() -> None:
    deadlines: Deadlines[int] = Deadlines()
    deadlines.set(1, 1.0)
    deadlines.set(1, 1.0)
    assert deadlines.pop_due(1.0) == [1]
    assert deadlines.pop_due(1.0) == []


def test_what_was_discarded_is_never_due() -> None:
    deadlines: Deadlines[int] = Deadlines()
    deadlines.set(1, 1.0)
    deadlines.pop(1, None)
    deadlines.pop(2, None)
    assert deadlines.earliest() is None
    assert deadlines.pop_due(9.0) == []


def test_calls_that_settled_long_before_their_deadline_leave_nothing_behind() -> None:
    deadlines: Deadlines[int] = Deadlines()
    deadlines.set(-1, 50.0)
    for key in range(10_000):
        deadlines.set(key, 100.0 + key)
        deadlines.pop(key, None)
    assert len(deadlines._heap) <= 65
    assert deadlines.earliest() == 50.0


def test_order_is_kept_when_what_is_stale_is_swept_out() -> None:
    deadlines: Deadlines[int] = Deadlines()
    for key in range(200):
        deadlines.set(key, 1000.0 - key)
    for _ in range(4):  # each round leaves 200 stale entries
        for key in range(200):
            deadlines.set(key, float((key * 37) % 200))
    assert len(deadlines._heap) <= 3 * 200
    assert deadlines.pop_due(1000.0) == sorted(range(200), key=lambda key: (key * 37) % 200)


def test_a_few_stale_entries_are_left_alone() -> None:
    deadlines: Deadlines[int] = Deadlines()
    for when in range(60):
        deadlines.set(1, float(when))
    assert len(deadlines._heap) == 60


@given(st.lists(st.tuples(st.sampled_from(["set", "discard", "pop"]), st.integers(0, 5), st.integers(0, 9)), max_size=200))
def test_deadlines_are_a_dictionary_of_instants(steps: list[tuple[str, int, int]]) -> None:
    deadlines: Deadlines[int] = Deadlines()
    model: dict[int, float] = {}
    for step, key, when in steps:
        if step == "set":
            deadlines.set(key, float(when))
            model[key] = float(when)
        elif step == "discard":
            deadlines.pop(key, None)
            model.pop(key, None)
        else:
            due = sorted((instant, name) for name, instant in model.items() if instant <= when)
            assert deadlines.pop_due(float(when)) == [name for _, name in due]
            for _, name in due:
                del model[name]
        assert deadlines.earliest() == min(model.values(), default=None)
        assert len(deadlines) == len(model)
        assert all((key in deadlines) == (key in model) for key in range(6))


@pytest.mark.parametrize(
    ("remaining_s", "kept_s"), [(0.1, 0.005), (0.5, 0.005), (10.0, 0.1), (25.0, 0.25), (300.0, 0.25), (-1.0, 0.005)]
)
def test_a_hop_keeps_one_percent_between_5_and_250_ms(remaining_s: float, kept_s: float) -> None:
    assert margin_s(remaining_s) == pytest.approx(kept_s)


@pytest.mark.parametrize("kind", [*typing.get_args(Event), *typing.get_args(Action)], ids=lambda kind: kind.__name__)
def test_an_event_or_action_cannot_be_changed_by_whoever_gets_it(kind: type) -> None:
    assert issubclass(kind, msgspec.Struct)
    assert kind.__struct_config__.frozen
    assert kind.__doc__


def test_every_struct_of_the_module_is_an_event_or_an_action() -> None:
    kinds = {
        kind
        for kind in vars(machine).values()
        if isinstance(kind, type) and kind.__module__ == machine.__name__ and hasattr(kind, "__struct_fields__")
    }
    assert kinds == {*typing.get_args(Event), *typing.get_args(Action)}


@pytest.mark.parametrize(
    ("instants", "expected"), [((), None), ((None,), None), ((None, 2.0, None), 2.0), ((3.0, 1.0, 2.0), 1.0), ((0.0, None), 0.0)]
)
def test_the_soonest_of_several_instants(instants: tuple[float | None, ...], expected: float | None) -> None:
    assert soonest(*instants) == expected
