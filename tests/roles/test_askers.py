"""The body of a batch: its answers in order, all at once, or none if nobody waits."""

from typing import Any, cast

from homing.errors import Outcome
from homing.roles.askers import Answer, Batch

OK = Outcome(reason="ok", executed="yes", result=b"1")


class Caller:
    """An exchange, as far as a batch looks at one."""

    gone = False


def batch_of(length: int) -> tuple[Batch, Caller, list[list[Answer]], list[bytes]]:
    caller = Caller()
    closed: list[list[Answer]] = []
    abandoned: list[bytes] = []
    batch = Batch(cast(Any, caller), length, close=lambda exchange, answers: closed.append(answers), abandon=abandoned.append)
    return batch, caller, closed, abandoned


def test_a_batch_is_answered_in_its_order_when_all_is_there() -> None:
    batch, _, closed, _ = batch_of(2)
    batch.sealed = True
    batch.answered(1, b"2", OK, "b")
    assert not closed
    batch.answered(0, b"1", OK, "a")
    assert closed == [[(b"1", OK, "a"), (b"2", OK, "b")]]


def test_not_before_every_item_has_been_looked_at() -> None:
    batch, _, closed, _ = batch_of(1)
    batch.answered(0, b"1", OK, "a")
    assert not closed
    batch.sealed = True
    batch.close_if_done()
    assert len(closed) == 1


def test_who_has_hung_up_gets_nothing_and_what_is_open_is_abandoned() -> None:
    batch, caller, closed, abandoned = batch_of(2)
    batch.sealed = True
    batch.admitted(b"call one")
    caller.gone = True
    batch.hung_up()
    batch.answered(0, b"1", OK, "a")
    batch.answered(1, None, OK, "b")
    assert batch.gone
    assert (closed, abandoned) == ([], [b"call one"])
