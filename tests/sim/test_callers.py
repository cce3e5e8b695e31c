"""Callers come, some hang up, and who may ask again asks again."""

import msgspec

from homing.core.machine import Abandoned
from homing.errors import Outcome, Retry, Verdict
from homing.sim.callers import ASKED_MAX, Callers
from homing.sim.invariants import Record, Submission
from homing.sim.plan import METHODS
from homing.sim.process import Process
from tests.sim.people import PLAN, Ears, process, timeline

PAY = next(method for method in METHODS if method.effect == "keyed")
CHARGE = next(method for method in METHODS if method.effect == "once")


class Street:
    """Callers, and gateways that take down who calls."""

    def __init__(self, *gateways: Process, **changed: object) -> None:
        self.timeline = timeline()
        self.ears = Ears()
        self.came: list[Submission] = []
        self.callers = Callers(msgspec.structs.replace(PLAN, **changed), self.timeline, gateways, self.admit, self.ears)

    def admit(self, gateway: Process, submission: Submission) -> None:
        self.came.append(submission)
        asked = submission.asked(gateway, self.timeline.now)
        submission.record = Record(asked, submission, gateway)
        self.callers.accepted(submission.record)


def answer(reason: str, executed: Verdict, retry: Retry | None) -> Outcome:
    return Outcome(reason=reason, executed=executed, retry=retry)


def test_they_come_one_by_one_until_all_have_come() -> None:
    street = Street(process("gateway"), calls=20, arrival_s=0.01)
    street.timeline.at(0.0, street.callers.come)
    street.timeline.run(10.0)
    assert street.callers.left == 0
    assert [one.number for one in street.came] == list(range(1, 21))
    assert len({one.order for one in street.came}) == 20


def test_who_finds_no_gateway_tries_later() -> None:
    one = process("gateway")
    one.alive = False
    street = Street(one)
    street.callers.order(CHARGE, "webshop", 5.0)
    street.timeline.run(1.0)
    assert street.came == []
    one.alive = True
    street.timeline.run(2.0)
    assert len(street.came) == 1


def test_with_several_gateways_each_gets_some() -> None:
    one, other = process("gateway", 1), process("gateway", 2)
    street = Street(one, other)
    for _ in range(30):
        street.callers.order(CHARGE, "webshop", 5.0)
    there = [submission.record.gateway for submission in street.came if submission.record]
    assert {one, other} == set(there)


def test_most_avoid_a_gateway_that_leaves() -> None:
    leaves, stays = process("gateway", 1), process("gateway", 2)
    leaves.draining = True
    street = Street(leaves, stays)
    for _ in range(100):
        street.callers.order(CHARGE, "webshop", 5.0)
    there = [submission.record.gateway for submission in street.came if submission.record]
    assert 0 < there.count(leaves) < 30
    alone = Street(leaves)
    alone.callers.order(CHARGE, "webshop", 5.0)
    assert len(alone.came) == 1


def test_some_hang_up_if_they_still_wait() -> None:
    one, dead = process("gateway", 1), process("gateway", 2)
    street = Street(one, hang_up=1.0)
    waiting = street.callers.order(CHARGE, "webshop", 5.0)
    answered = street.callers.order(CHARGE, "webshop", 5.0)
    orphaned = street.callers.order(CHARGE, "webshop", 5.0, dead)
    assert answered.record is not None
    assert waiting.record is not None
    assert orphaned.record is not None
    answered.record.outcome = answer("ok", "yes", None)
    dead.alive = False
    street.timeline.run(100.0)
    assert street.ears.heard == [(one, Abandoned(waiting.record.asked.call_id))]
    assert waiting.record.hung_up
    assert street.callers.hung_up == 1
    street.callers.quiet = True
    street.callers.order(CHARGE, "webshop", 5.0)
    street.timeline.run(200.0)
    assert street.callers.hung_up == 1


def settle(street: Street, submission: Submission, outcome: Outcome) -> int:
    """How many come when it is answered so."""
    before = len(street.came)
    assert submission.record is not None
    submission.record.outcome = outcome
    street.callers.answered(submission.record)
    street.timeline.run(street.timeline.now + 10.0)
    return len(street.came) - before


def test_only_who_may_asks_again_and_with_the_same_order() -> None:
    street = Street(process("gateway"), ask_again=1.0)
    first = street.callers.order(PAY, "webshop", 5.0)
    assert settle(street, first, answer("ok", "yes", None)) == 0
    assert settle(street, first, answer("provider_refused", "no", "pointless")) == 0
    assert settle(street, first, answer("connection_lost", "unknown", "unsafe")) == 0
    assert settle(street, first, answer("connection_lost", "unknown", "same_key")) == 1
    again = street.came[-1]
    assert again.order == first.order
    assert again.record is not None
    assert first.record is not None
    assert again.record.asked.key == first.record.asked.key
    assert again.record.asked.call_id != first.record.asked.call_id
    assert street.callers.answers == {
        ("ok", "yes"): 1,
        ("provider_refused", "no"): 1,
        ("connection_lost", "unknown"): 2,
    }


def test_nobody_asks_for_ever_nor_after_hanging_up() -> None:
    street = Street(process("gateway"), ask_again=1.0)
    street.callers.order(CHARGE, "webshop", 5.0)
    for _ in range(ASKED_MAX):
        assert settle(street, street.came[-1], answer("overloaded", "no", "safe")) == 1
    assert settle(street, street.came[-1], answer("overloaded", "no", "safe")) == 0
    other = street.callers.order(CHARGE, "webshop", 5.0)
    assert other.record is not None
    other.record.hung_up = True
    assert settle(street, other, answer("overloaded", "no", "safe")) == 0
    patient = Street(process("gateway"), ask_again=0.0)
    one = patient.callers.order(CHARGE, "webshop", 5.0)
    assert settle(patient, one, answer("overloaded", "no", "safe")) == 0
