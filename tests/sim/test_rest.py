"""What must be so at rest: each of it is broken once, by hand, and seen."""

import msgspec
import pytest

from homing.core.calls import Calls
from homing.core.losses import Losses
from homing.core.machine import Learn
from homing.core.messages import GATEWAY_BYTES, MethodOffer, Ready, Workers
from homing.core.permits import Permit
from homing.core.reach import METHODS_KEPT_S
from homing.sim.invariants import Invariants, Submission, Violation
from homing.sim.plan import METHODS, Plan
from homing.sim.process import Process
from homing.sim.rest import NOTICED_WITHIN_S, check_forgotten, check_reach, methods_of, not_empty, own_method
from tests.sim.people import PLAN, process

SEVERAL: Plan = msgspec.structs.replace(PLAN, engine="network", credit=4)
NOW = 1000.0


class Scene:
    """A gateway, a broker and a worker that know all of each other."""

    def __init__(self) -> None:
        self.gateway, self.broker = process("gateway", 1), process("broker", 2)
        self.worker, self.dead = process("worker", 3), process("worker", 4)
        self.dead.died_at = NOW - METHODS_KEPT_S - NOTICED_WITHIN_S - 1.0
        self.living = [self.gateway, self.broker, self.worker]
        self.rules = Invariants(SEVERAL, {one.address: one for one in (*self.living, self.dead)}.__getitem__)
        self.tells(self.worker)
        self.learns(self.worker)
        self.offers(4)

    def tells(self, *workers: Process) -> None:
        lives = tuple(worker.life for worker in workers)
        self.rules.heard[Workers](self.gateway, self.broker.address, Workers(lives))

    def learns(self, *workers: Process) -> None:
        names = {method.name for method in METHODS} | {own_method(worker.index) for worker in workers}
        self.rules.learnt(self.gateway, Learn(tuple(MethodOffer(name, "acme") for name in sorted(names))))

    def offers(self, credit: int) -> None:
        ready = Ready(self.worker.life, {"acme": credit}, 0)
        self.rules.heard[Ready](self.broker, self.worker.address, ready)

    def checks(self, plan: Plan = SEVERAL) -> None:
        check_reach(plan, self.rules, self.living, [self.dead, self.broker], NOW)


def breaks(scene: Scene, rule: str, what: str, plan: Plan = SEVERAL) -> None:
    with pytest.raises(Violation, match=what) as broken:
        scene.checks(plan)
    assert broken.value.rule == rule


def test_who_knows_all_breaks_nothing() -> None:
    Scene().checks()


def test_gateways_know_who_lives() -> None:
    scene = Scene()
    scene.tells()
    breaks(scene, "reach", "tells gateway")
    scene.tells(scene.worker, scene.dead)
    breaks(scene, "reach", "tells gateway")


def test_gateways_know_what_can_be_done() -> None:
    scene = Scene()
    scene.learns()
    breaks(scene, "reach", "does not know acme.only_3")
    scene.learns(scene.worker, scene.dead)
    breaks(scene, "reach", "still knows acme.only_4")
    scene.checks(msgspec.structs.replace(SEVERAL, doubling=0.1))
    scene.dead.died_at += 2.0  # a little later: it is remembered for a while
    scene.checks()


def test_gateways_know_only_what_their_keys_may_call_of_those_whose_keys_may_serve() -> None:
    scene = Scene()
    scene.gateway.permit = Permit(call=("bureau",))
    breaks(scene, "reach", "still knows acme.charge")
    scene = Scene()
    scene.worker.permit = Permit(serve=("bureau",))
    breaks(scene, "reach", "still knows acme.charge")


def test_credit_is_divided_where_the_road_keeps_the_order() -> None:
    scene = Scene()
    scene.offers(5)
    breaks(scene, "in flight", "takes 5 calls of acme")
    scene.checks(msgspec.structs.replace(SEVERAL, ordered=False))


# Nobody is remembered


class Table:
    """A machine that remembers something."""

    def __init__(self, remembered: object) -> None:
        self.table = remembered


def remembers(scene: Scene, value: object) -> str | None:
    scene.broker.machine = Table(value)  # type: ignore[assignment]
    try:
        check_forgotten(scene.rules, scene.living, [scene.dead])
    except Violation as violation:
        return str(violation)
    return None


def test_nobody_who_is_gone_is_in_any_table() -> None:
    scene = Scene()
    assert remembers(scene, {scene.worker.life: [scene.gateway.address]}) is None
    for value, what in (
        ({scene.dead.life: 1}, "the life of worker 0.4 in table"),
        ([(1, scene.dead.life[:GATEWAY_BYTES])], "the head of worker"),
        ({scene.dead.address}, "the address of worker"),
    ):
        said = remembers(scene, value)
        assert said is not None
        assert said.startswith("forgotten: ")
        assert what in said


def test_an_address_at_which_somebody_new_is_may_be_remembered() -> None:
    scene = Scene()
    scene.dead.address = scene.worker.address
    assert remembers(scene, {scene.dead.address}) is None


def test_no_call_is_in_any_table_but_losses_that_a_gateway_may_come_back_for() -> None:
    scene = Scene()
    calls = []
    for number, gateway in enumerate((scene.gateway, process("gateway", 9))):
        submission = Submission(METHODS[0], "webshop", 10.0, "order")
        submission.number = number
        calls.append(scene.rules.admitted(submission.asked(gateway, 0.0), submission, gateway).asked.call_id)
    ours, theirs = calls
    # The imagined lives of people begin alike, so that a head must be told apart here.
    theirs = b"another " + theirs[GATEWAY_BYTES:]
    scene.rules.records[theirs] = scene.rules.records[calls[1]]
    assert remembers(scene, {ours: 1}) is not None
    assert remembers(scene, {theirs: 1}) is not None
    losses = Losses()
    losses.add(theirs, scene.dead.life, 1, 2000.0, NOW)
    assert remembers(scene, losses) is None
    losses.add(ours, scene.dead.life, 1, 2000.0, NOW)
    assert remembers(scene, losses) is not None


# Nothing is left


def test_what_is_empty_is_not_told() -> None:
    gateway = process("gateway")
    gateway.machine = Calls(gateway.life)
    assert not_empty(PLAN, [gateway]) is None


def test_a_narrow_worker_can_do_less() -> None:
    narrow = msgspec.structs.replace(PLAN, narrow=True, workers=2)
    assert methods_of(narrow, 0) == METHODS
    assert methods_of(narrow, 1) == METHODS[1:]
    assert methods_of(msgspec.structs.replace(PLAN, narrow=True), 0) == METHODS
