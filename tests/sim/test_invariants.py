"""Each rule is broken once, by hand, and seen."""

from collections.abc import Callable

import msgspec
import pytest

from homing.core.broker import Broker, BrokerLimits
from homing.core.machine import Event, Learn, Received, Settle, Start
from homing.core.messages import Grant, Hello, MethodOffer, Ready, Release, Request, Workers
from homing.core.permits import Permit
from homing.errors import Outcome, failure
from homing.sim.invariants import RULES, Invariants, Record, Submission, Violation
from homing.sim.plan import METHODS, Plan
from homing.sim.process import Process
from homing.sim.provider import result_of
from homing.sim.strangers import FORGED
from tests.sim.people import PLAN, process
from tests.sim.test_provider import start

ONCE = next(method for method in METHODS if method.effect == "once")
KEYED = next(method for method in METHODS if method.effect == "keyed")
SAFE = next(method for method in METHODS if method.effect == "safe")
BY_METHOD = {method.name: method for method in METHODS}


class Scene:
    """One gateway, one broker, two workers, and one call."""

    def __init__(self, method: str = ONCE.name, plan: Plan = PLAN) -> None:
        self.gateway, self.other = process("gateway", 1), process("gateway", 9)
        self.one, self.two = process("worker", 3), process("worker", 4)
        self.rules = Invariants(plan, {one.address: one for one in (self.one, self.two)}.__getitem__)
        self.call = self.admit(method)

    def admit(self, method: str = ONCE.name, order: str = "order-1", number: int = 1) -> Record:
        submission = Submission(BY_METHOD[method], "webshop", 10.0, order)
        submission.number = number
        return self.rules.admitted(submission.asked(self.gateway, 0.0), submission, self.gateway)

    @property
    def id(self) -> bytes:
        return self.call.asked.call_id

    def grants(self, worker: Process, claim: int = 1) -> Grant:
        grant = Grant(self.id, worker.life, claim, 1000)
        self.rules.sent(self.gateway, b"broker", grant)
        return grant

    def releases(self, worker: Process, claim: int = 1) -> None:
        self.rules.sent(worker, b"broker", Release(self.id, worker.life, claim))

    def begins(
        self,
        worker: Process,
        cause: Event | None = None,
        *,
        at: float = 1.0,
        may_have_left: bool = True,
        **fields: object,
    ) -> None:
        self.rules.now, self.rules.cause = at, cause
        worker.running = {"acme": 1, str(fields.pop("running", "bureau")): 1}
        asked: dict[str, object] = {"effect": self.call.asked.effect}
        self.rules.started(worker, start(self.id, **(asked | fields)), may_have_left=may_have_left)  # type: ignore[arg-type]

    def granted_and_begun(self, worker: Process, claim: int = 1, **fields: object) -> None:
        self.begins(worker, Received(b"broker", self.grants(worker, claim)), **fields)  # type: ignore[arg-type]

    def has_effect(self) -> None:
        self.rules.had_effect(self.id, self.call.asked.key)

    def settles(self, outcome: Outcome, *, by: Process | None = None, at: float = 2.0) -> Record:
        return self.rules.settled(by or self.gateway, Settle(self.id, outcome), at)

    def ok(self) -> Outcome:
        return Outcome(reason="ok", executed="yes", result=result_of(self.call.asked.key, self.call.asked.body))


def no(reason: str = "expired") -> Outcome:
    return msgspec.structs.replace(failure(reason, "", executed="no"), retry="safe")


def breaks(rule: str, act: Callable[[], object], what: str = "") -> None:
    assert rule in RULES
    with pytest.raises(Violation) as broken:
        act()
    assert broken.value.rule == rule
    assert what in broken.value.what


# One answer, in time


def test_a_good_life_breaks_nothing() -> None:
    scene = Scene()
    scene.granted_and_begun(scene.one)
    scene.has_effect()
    assert scene.settles(scene.ok()) is scene.call
    assert scene.rules.open == scene.rules.open_at(scene.gateway) == 0
    assert scene.rules.checks == 4


def test_a_call_settles_once_at_its_own_gateway() -> None:
    scene = Scene()
    breaks("one answer", lambda: scene.settles(no(), by=scene.other), "of gateway")
    scene.settles(no())
    breaks("one answer", lambda: scene.settles(no()), "again")
    breaks("one answer", lambda: scene.rules.settled(scene.gateway, Settle(b"nobody's", no()), 1.0), "nobody")


def test_no_call_settles_late_but_for_a_loop_that_stood_still() -> None:
    scene = Scene()
    scene.rules.now = 10.5
    breaks("on time", lambda: scene.settles(no(), at=10.5))
    scene.gateway.resumed_at = 10.5
    scene.settles(no(), at=10.5)


def test_a_call_that_never_settles_is_overdue_unless_its_gateway_died() -> None:
    scene = Scene()
    breaks("on time", lambda: scene.rules.overdue(scene.call))
    scene.gateway.alive = False
    scene.rules.overdue(scene.call)
    scene.rules.orphaned(scene.gateway)
    scene.rules.orphaned(scene.other)
    assert scene.rules.open == 0


def test_what_has_settled_is_not_overdue() -> None:
    scene = Scene()
    scene.settles(no())
    scene.rules.overdue(scene.call)


# True


def test_a_result_is_the_calls_own() -> None:
    scene = Scene()
    scene.has_effect()
    breaks("own result", lambda: scene.settles(Outcome(reason="ok", executed="yes", result=b'"another"')))


def test_an_ok_is_a_yes() -> None:
    scene = Scene()
    breaks("yes is yes", lambda: scene.settles(Outcome(reason="ok", executed="no", result=scene.ok().result)))


def test_a_yes_is_in_the_ledger() -> None:
    scene = Scene()
    breaks("yes is yes", lambda: scene.settles(scene.ok()))


def test_the_advice_follows_from_the_effect() -> None:
    scene = Scene()
    breaks("no is no", lambda: scene.settles(failure("connection_lost", "")), "retry")


def test_a_no_is_not_in_the_ledger_and_never_will_be() -> None:
    scene = Scene()
    scene.has_effect()
    breaks("no is no", lambda: scene.settles(no()), "is in the ledger")
    scene = Scene()
    scene.granted_and_begun(scene.one)
    breaks("no is no", lambda: scene.settles(no()), "may have left")
    scene = Scene()
    scene.settles(no())
    breaks("no is no", scene.has_effect, "now")


def test_a_no_after_proof_may_stand() -> None:
    scene = Scene()
    scene.granted_and_begun(scene.one, may_have_left=False)
    scene.settles(no("provider_unreachable"))
    scene = Scene(KEYED.name)
    scene.granted_and_begun(scene.one)
    speaks = msgspec.structs.replace(no("provider_refused"), settles_earlier=True, retry="pointless")
    scene.settles(speaks)


def test_a_key_that_was_refused_for_good_may_be_tried_by_who_was_taken_for_lost() -> None:
    scene = Scene(KEYED.name)
    scene.granted_and_begun(scene.one, may_have_left=False)
    scene.settles(msgspec.structs.replace(no("provider_refused"), settles_earlier=True, retry="pointless"))
    scene.begins(scene.one)


def test_nothing_begins_after_a_no() -> None:
    scene = Scene(SAFE.name)
    grant = scene.grants(scene.one)
    scene.settles(no())
    breaks("no is no", lambda: scene.begins(scene.one, Received(b"broker", grant)), "after the call was answered")


# Never twice


def test_once_is_in_the_ledger_once() -> None:
    scene = Scene()
    scene.has_effect()
    breaks("never twice", scene.has_effect)
    scene = Scene(SAFE.name)
    scene.has_effect()
    scene.has_effect()


def test_an_order_is_done_once_however_often_it_is_asked_for() -> None:
    scene = Scene()
    scene.has_effect()
    scene.call = scene.admit(number=2)
    breaks("whose order", scene.has_effect, "order-1")


def test_what_may_have_left_is_not_sent_again() -> None:
    scene = Scene()
    scene.granted_and_begun(scene.one)
    breaks("never twice", lambda: scene.begins(scene.one), "sent again")
    scene = Scene()
    scene.granted_and_begun(scene.one, may_have_left=False)
    scene.begins(scene.one)


# Claims


def test_one_claim_holds_a_once_call_until_it_is_released() -> None:
    scene = Scene()
    scene.grants(scene.one)
    scene.grants(scene.one)
    breaks("one claim", lambda: scene.grants(scene.two))
    scene.releases(scene.one)
    scene.grants(scene.two)
    breaks("one claim", lambda: scene.begins(scene.one, Received(b"broker", Grant(scene.id, scene.one.life, 7, 1))))


def test_another_claim_may_hold_a_safe_call() -> None:
    scene = Scene(SAFE.name)
    scene.grants(scene.one)
    scene.grants(scene.two)


def test_only_its_gateway_grants_a_call_and_only_while_it_has_it() -> None:
    scene = Scene()
    breaks("granted first", lambda: scene.rules.sent(scene.gateway, b"", Grant(b"nobody's", b"", 1, 1)))
    breaks("granted first", lambda: scene.rules.sent(scene.other, b"", Grant(scene.id, b"", 1, 1)))
    scene.settles(no())
    breaks("granted first", lambda: scene.grants(scene.one))


def test_brokers_only_pass_on() -> None:
    scene, broker = Scene(), process("broker", 2)
    scene.rules.sent(broker, b"", Grant(b"nobody's", b"", 1, 1))
    scene.rules.sent(broker, b"", Release(b"nobody's", b"", 1))
    scene.rules.sent(scene.gateway, b"", Request(b"", "", "", 1, "once", "", "", 0, "no", "", b""))


def test_what_has_begun_is_not_released_nor_begins_what_is_released() -> None:
    scene = Scene()
    scene.granted_and_begun(scene.one)
    breaks("begun is not released", lambda: scene.releases(scene.one))
    scene.releases(scene.one, claim=2)
    scene = Scene()
    grant = scene.grants(scene.one)
    scene.releases(scene.one)
    breaks("begun is not released", lambda: scene.begins(scene.one, Received(b"broker", grant)), "begins")
    scene.rules.sent(scene.one, b"", Release(b"nobody's", scene.one.life, 1))


def test_nothing_begins_without_a_grant_to_that_life() -> None:
    scene = Scene()
    breaks("granted first", lambda: scene.begins(scene.one), "without")
    scene.granted_and_begun(scene.one, may_have_left=False)
    breaks("granted first", lambda: scene.begins(scene.two), "without")
    breaks("granted first", lambda: scene.begins(scene.two, Received(b"broker", scene.grants(scene.one))), "not its own")
    scene.rules.records.clear()
    breaks("granted first", lambda: scene.begins(scene.one), "nobody")


def test_one_life_may_begin_under_one_claim_after_another() -> None:
    scene = Scene()
    scene.granted_and_begun(scene.one, may_have_left=False)
    scene.call.released = {(scene.one.life, 1)}
    scene.granted_and_begun(scene.one, 2)


def test_nothing_begins_after_the_deadline() -> None:
    scene = Scene()
    grant = scene.grants(scene.one)
    breaks("granted first", lambda: scene.begins(scene.one, Received(b"broker", grant), at=10.5), "after the deadline")


# Limits


def test_no_provider_is_asked_more_at_once_than_it_may() -> None:
    scene = Scene()
    scene.grants(scene.one)
    scene.one.running = {"acme": 257}
    breaks("in flight", lambda: scene.rules.started(scene.one, start(scene.id), may_have_left=False))


def test_a_lookup_is_no_attempt() -> None:
    scene = Scene()
    scene.granted_and_begun(scene.one)
    scene.begins(scene.one, lookup=True)
    assert isinstance(start(lookup=True), Start)


def a_broker(calls: int, limits: BrokerLimits | None = None) -> Process:
    """A broker that has given a worker so many calls, if it took them."""
    broker = Broker(b"broker life", limits or BrokerLimits())
    one = process("worker", 3)
    broker.handle(Received(b"gateway", Hello(b"gateway life 1  ")), 0.0)
    broker.handle(Received(one.address, Ready(one.life, {"acme": 5}, 0)), 0.0)
    for number in range(calls):
        call_id = b"gateway life 1  "[:8] + number.to_bytes(8, "big")
        request = Request(call_id, "acme", "acme.charge", 10_000, "once", "", "", 0, "no", "", b"four")
        broker.handle(Received(b"gateway", request), 0.0)
    return Process("broker", 0, 2, b"broker life", b"broker 2", broker)


def given(service: str = "acme") -> Request:
    return Request(b"call", service, "acme.charge", 1, "once", "", "", 0, "no", "", b"")


def test_no_worker_is_given_more_than_it_has_said_that_it_takes() -> None:
    scene, broker = Scene(), a_broker(4)
    offers = scene.rules.heard[Ready]
    offers(broker, scene.one.address, Ready(scene.one.life, {"acme": 4}, 0))
    scene.rules.sent(broker, b"worker 3", given())
    offers(broker, scene.two.address, Ready(scene.one.life, {"acme": 9}, 0))  # of others it is not believed
    offers(broker, scene.one.address, Ready(scene.one.life, {"acme": 3}, 0))
    assert scene.rules.offered(broker, scene.one) == {"acme": 3}
    assert scene.rules.offered(broker, scene.two) == {}
    breaks("in flight", lambda: scene.rules.sent(broker, b"worker 3", given()), "credit is 3")


# Keys


def test_nobody_is_given_what_its_key_may_not_serve() -> None:
    scene = Scene()
    scene.one.permit = Permit(serve=("attic",))
    breaks("permitted", lambda: scene.rules.sent(a_broker(1), b"worker 3", given()), "gives worker")
    scene.rules.sent(a_broker(1), b"worker 3", given("attic"))  # among themselves


def test_nobody_begins_what_its_own_key_or_the_callers_may_not() -> None:
    scene = Scene()
    scene.one.permit = Permit(serve=("bureau",))
    breaks("permitted", lambda: scene.granted_and_begun(scene.one), "begins what")
    scene = Scene()
    scene.gateway.permit = Permit(call=("bureau",))
    breaks("permitted", lambda: scene.granted_and_begun(scene.one), "begins what")
    scene = Scene()
    scene.gateway.permit = Permit(call=("*",), principal="ledger")
    breaks("permitted", lambda: scene.granted_and_begun(scene.one, principal="webshop"), "begins what")
    scene.granted_and_begun(scene.one, principal="ledger")


def test_nobody_is_refused_what_its_key_may_call() -> None:
    scene = Scene()
    forbidden = msgspec.structs.replace(failure("forbidden", ""), retry="pointless")
    breaks("permitted", lambda: scene.settles(forbidden), "is refused")
    scene = Scene()
    scene.gateway.permit = Permit(call=("*",), principal="ledger")
    scene.settles(forbidden)


def test_no_stranger_answers() -> None:
    scene = Scene()
    scene.has_effect()
    breaks("permitted", lambda: scene.settles(FORGED), "stranger")


def test_what_gateways_are_told_and_learn_is_remembered() -> None:
    scene, broker = Scene(), process("broker", 2)
    assert not scene.rules.told(scene.gateway, broker)
    assert not scene.rules.methods_of(scene.gateway)
    scene.rules.heard[Workers](scene.gateway, broker.address, Workers((scene.one.life,)))
    scene.rules.learnt(scene.gateway, Learn((MethodOffer("acme.charge", "acme"),)))
    assert scene.rules.told(scene.gateway, broker) == {scene.one.life}
    assert scene.rules.methods_of(scene.gateway) == {"acme.charge"}


def test_queues_and_bytes_are_bounded() -> None:
    scene = Scene()
    scene.rules.bounded(a_broker(9))
    broker = a_broker(9)
    assert isinstance(broker.machine, Broker)
    broker.machine.limits = BrokerLimits(queue_length_max=3)
    breaks("bounded", lambda: scene.rules.bounded(broker), "4 calls queued")
    broker.machine.limits = BrokerLimits(held_bytes_max=20)
    breaks("bounded", lambda: scene.rules.bounded(broker), "36 bytes")


def test_a_violation_says_what_is_broken() -> None:
    assert str(Violation("no is no", "it is in the ledger")) == "no is no: it is in the ledger"
