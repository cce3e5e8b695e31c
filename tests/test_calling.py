"""What a function may know of its call: src/homing/calling.py."""

import contextvars
import time

import pytest

import homing
from homing.calling import CurrentCall, current_call, enter_call


def call(deadline: float) -> CurrentCall:
    return CurrentCall(
        call_id="ab" * 16, method="reports.build", principal="webshop", idempotency_key="k", attempt=1, deadline=deadline
    )


def test_outside_of_a_call_there_is_none() -> None:
    with pytest.raises(LookupError, match="functions of a Worker"):
        contextvars.Context().run(current_call)  # an empty one, whatever a test before has left


def test_each_context_has_its_own_call() -> None:
    one, other = contextvars.copy_context(), contextvars.copy_context()
    first, second = call(1.0), call(2.0)
    one.run(enter_call, first)
    other.run(enter_call, second)
    assert one.run(current_call) is first
    assert other.run(current_call) is second


def test_what_remains_is_never_below_zero() -> None:
    now = time.monotonic()
    assert call(now - 1).remaining_s == 0.0
    assert 99 < call(now + 100).remaining_s <= 100


def test_it_is_a_public_name() -> None:
    assert homing.current_call is current_call
