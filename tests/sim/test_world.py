"""The whole: the rules hold, the same seed is the same run, it comes to rest, and each broken machine is found."""

import os
import subprocess
import sys
from functools import partial

import msgspec
import pytest

from homing.core.broker import Broker, BrokerLimits
from homing.core.calls import Calls
from homing.core.machine import Action, Peer, Send, Tick
from homing.core.messages import GATEWAY_BYTES, Disconnect
from homing.core.worker import Worker
from homing.sim.invariants import RULES, Violation
from homing.sim.plan import METHODS, SMALL_FRAME_BYTES, TRICKS, Plan, calm, draw
from homing.sim.story import Story
from homing.sim.world import Machines, World
from tests.sim import broken

SEEDS_MAX = 40  # within so many a broken rule must show

BROKEN: dict[type[Calls | Broker | Worker], set[str]] = {
    broken.GrantsToAll: {"one claim"},
    broken.AnyReleaseFrees: {"one claim", "no is no"},
    broken.RejectSettlesTheClaimed: {"no is no", "one claim"},
    broken.LossFrees: {"no is no", "one claim"},
    broken.DeadlineProvesNo: {"no is no", "one claim"},
    broken.SettlesTwice: {"one answer"},
    broken.ForgetsTheTime: {"on time"},
    broken.AnswersTheWrongCaller: {"own result"},
    broken.NeverForgets: {"empty"},
    broken.IgnoresCredit: {"in flight", "sound"},
    broken.QueuesWithoutEnd: {"bounded"},
    broken.NeverForgives: {"heals", "forgotten"},
    broken.NeverLearns: {"reach"},
    broken.AsksForNoKey: {"permitted"},
    broken.BelievesWhoeverSpeaks: {"permitted", "one claim", "no is no"},
    broken.ObeysAnybody: {"granted first", "one claim"},
    broken.PassesEveryClaimOn: {"permitted"},
    broken.TellsNobodyWhoIsThere: {"reach", "losses are told"},
    broken.KeepsLossesToItself: {"losses are told"},
    broken.ForgetsStrays: {"losses are told"},
    broken.RemembersWhoLeft: {"forgotten"},
    broken.TakesCreditTwice: {"in flight"},
    broken.SendsFramesOfAnyLength: {"fits"},
    broken.ReleasesWhatItForgot: {"begun is not released"},
    broken.BeginsAgain: {"never twice", "in flight"},
    broken.TakesLostForNo: {"never twice", "no is no"},
    broken.ClaimsAfterTheFact: {"granted first"},
    broken.SaysDoneUnasked: {"yes is yes"},
    broken.HoldsTooMuch: {"in flight", "empty"},
    broken.KeepsOutcomes: {"empty"},
    broken.Raises: {"sound"},
    broken.WantsNoTime: {"time passes"},
}


def machines(machine: type[Calls | Broker | Worker]) -> Machines:
    if issubclass(machine, Calls):
        return Machines(gateway=machine)
    return Machines(broker=machine) if issubclass(machine, Broker) else Machines(worker=machine)


def storm(seed: int) -> Plan:
    """One worker that keeps crashing on a bad road, and a queue that is soon full."""
    return msgspec.structs.replace(
        draw(seed, 60),
        engine="network",
        heartbeat_s=1.0,
        gateways=1,
        brokers=1,
        workers=1,
        loss=0.3,
        ordered=False,
        provider_s=3.0,
        timeout_s=(5.0, 20.0),
        disturbances=(("crash worker", 1.0), ("cut told", 1.0)),
        broker_limits=BrokerLimits(queue_length_max=5, no_worker_after_s=0.5),
    )


def fort(seed: int) -> Plan:
    """Two brokers on a good road who ask for keys and read small frames, and a stranger who finds empty places."""
    plan = draw(seed, 60)
    return msgspec.structs.replace(
        plan,
        disturbances=(("crash broker", 0.7), ("crash gateway", 1.0)) if seed % 2 else plan.disturbances,
        engine="network",
        heartbeat_s=1.0,
        gateways=2,
        brokers=2,
        workers=2,
        loss=0.0,
        damage=0.0,
        doubling=0.0,
        ordered=True,
        large=0.5,
        broker_frame_bytes_max=SMALL_FRAME_BYTES,
        guarded=True,
        stranger=TRICKS[seed % len(TRICKS)],
        stranger_user="stranger",
    )


def violation_of(world: World) -> Violation | None:
    try:
        world.run()
    except Violation as violation:
        return violation
    return None


@pytest.mark.parametrize("machine", BROKEN, ids=lambda machine: machine.__name__)
def test_a_broken_rule_shows_within_a_few_seeds(machine: type[Calls | Broker | Worker]) -> None:
    plans = (plan for seed in range(SEEDS_MAX) for plan in (draw(seed, 60), storm(seed), fort(seed)))
    worlds = (World(plan, machines=machines(machine)) for plan in plans)
    found = next(filter(None, map(violation_of, worlds)), None)
    assert found is not None
    assert found.rule in BROKEN[machine], found


def test_every_rule_has_been_broken_by_somebody() -> None:
    assert set(RULES) - set().union(*BROKEN.values()) == {"whose order"}  # which "no is no" and "never twice" forestall


@pytest.mark.parametrize("seed", range(100, 130))
def test_the_rules_hold(seed: int) -> None:
    assert violation_of(World(storm(seed))) is None
    assert violation_of(World(fort(seed))) is None
    report = World(draw(seed, 60)).run()
    assert sum(report.answers.values()) <= report.calls
    assert report.checks


def test_where_nothing_is_broken_every_call_succeeds() -> None:
    told: list[int] = []
    report = World(calm(1, 200), progress=told.append).run()
    assert report.answers == {("ok", "yes"): 205}
    assert report.faults == {}
    assert told[-1] == 200
    assert told == sorted(told)


@pytest.mark.parametrize(
    "seed",
    [
        pytest.param(3_000_203, id="a stranger was first to say a worker's life at a new broker"),
        pytest.param(3_000_479, id="the last call to hang opened a breaker"),
    ],
)
def test_what_once_broke_a_rule_breaks_none_any_more(seed: int) -> None:
    assert violation_of(World(draw(seed, 100))) is None


def test_the_same_seed_is_the_same_run() -> None:
    reports = [World(draw(3, 100)).run() for _ in range(2)]
    assert reports[0] == reports[1]
    assert World(draw(4, 100)).run().trace != reports[0].trace


TRACES = """
from homing.sim.plan import draw
from homing.sim.world import World
print([World(draw(seed, 60)).run().trace for seed in range(12)])
"""


def test_the_same_seed_is_the_same_run_however_python_hashes() -> None:
    """A set that is gone through in its order would differ."""
    traces = set()
    for hashes in ("0", "1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hashes}
        run = subprocess.run([sys.executable, "-c", TRACES], env=environment, capture_output=True, text=True, check=True)
        traces.add(run.stdout)
    assert len(traces) == 1


def test_a_story_does_not_change_what_happens() -> None:
    disturbances = (("crash worker", 0.3), ("stall", 0.3), ("drain", 1.0), ("cut told", 1.0))
    plan = msgspec.structs.replace(draw(3, 50), disturbances=disturbances)
    story = Story(None, lines_max=1_000_000)
    assert World(plan, story=story).run() == World(plan).run()
    told = "\n".join(story.lines())
    for what in ("crashes", "starts", "stands still", "goes on", "is told to leave", "cut for"):
        assert f"* {what}" in told


@pytest.mark.parametrize("seed", range(200, 210))
def test_clocks_that_are_far_wrong_cost_time_and_never_the_truth(seed: int) -> None:
    plan = msgspec.structs.replace(draw(seed, 60), engine="network", heartbeat_s=1.0, clock_error=0.2)
    violation = violation_of(World(plan))
    if violation is not None:
        assert "after the deadline" in violation.what  # a slow clock's worker begins what its gateway has given up


@pytest.mark.parametrize("seed", range(300, 310))
def test_nothing_is_left_in_any_table_and_nobody_is_remembered_who_is_gone(seed: int) -> None:
    world = World(draw(seed, 60))
    world.run()
    living = {process.address for process in world.processes}
    gateways = {process.life[:GATEWAY_BYTES] for process in world.processes if process.role == "gateway"}
    workers = {process.life for process in world.processes if process.role == "worker"}
    for machine in (process.machine for process in world.processes):
        if isinstance(machine, Broker):
            assert machine._links.peers.keys() <= living
            assert machine._workers.keys() == workers
            assert machine._roster.gateways.keys() == gateways
            assert not any((machine._copies, machine._expiry, machine._services.patience, machine._gone))
            assert not any(machine._losses.of(head) for head in gateways)
            for service in machine._services.values():
                assert service.workers.keys() == workers
                assert not service.lines
            assert not any(worker.strays or any(worker.held.values()) for worker in machine._workers.values())
        elif isinstance(machine, Worker):
            assert not any((machine._held, machine._claiming, machine._finished, machine._timers))
            assert not any(provider.waiting for provider in machine._providers.values())
        else:
            assert isinstance(machine, Calls)
            assert not any((machine._calls, machine._deadlines, *machine._brokers.values()))


# What must be empty in the end, and what a world says when it is not


class Sticky(Broker):
    """Forgets its calls but not their bytes."""

    def __len__(self) -> int:
        return 0

    def _forget(self, copy: object) -> None:
        held = self.held_bytes
        super()._forget(copy)  # type: ignore[arg-type]
        self.held_bytes = held


class Greedy(Worker):
    """Forgets its outcomes but not their bytes."""

    def _settled(self, *message: object) -> list:
        held = self.outcomes_held_bytes
        actions = super()._settled(*message)  # type: ignore[arg-type]
        self.outcomes_held_bytes = held
        return actions


class Occupied(Worker):
    """Keeps a slot taken."""

    def in_flight(self, provider: str) -> int:
        return 1


class Deaf(Calls):
    """Hears nobody, and its deadlines pass without it."""

    def _submitted(self, *_: object) -> list:
        return []


@pytest.mark.parametrize(
    ("machine", "what"),
    [(Sticky, "bytes"), (Greedy, "bytes of outcomes"), (Occupied, "a slot of acme taken")],
)
def test_a_table_that_is_not_empty_is_told(machine: type[Broker | Worker], what: str) -> None:
    with pytest.raises(Violation, match=what) as found:
        World(calm(1, 20), machines=machines(machine)).run()
    assert found.value.rule == "empty"


def test_calls_that_are_never_answered_are_overdue() -> None:
    with pytest.raises(Violation, match="not settled at its deadline"):
        World(calm(1, 20), machines=Machines(gateway=Deaf)).run()


def test_a_gateway_that_leaves_has_settled_everything() -> None:
    class Leaves(Calls):
        """Goes without a word."""

        def _drain_timed_out(self, *_: object) -> list:
            return []

    plan = msgspec.structs.replace(
        calm(1, 200), engine="network", heartbeat_s=1.0, provider_s=5.0, disturbances=(("drain", 0.2),)
    )
    with pytest.raises(Violation, match="calls have not settled") as found:
        World(plan, machines=Machines(gateway=Leaves)).run()
    assert found.value.rule == "one answer"


def test_messages_that_go_round_and_round_are_seen() -> None:
    class Asks(Broker):
        """Asks who it is, whatever it is told."""

        def _requested(self, peer: Peer, *_: object) -> list[Action]:
            return [Send(peer, Disconnect())]

    class Answers(Calls):
        """Says everything again, however often it is asked."""

        def _asked_who(self, peer: Peer, message: Disconnect, now: float) -> list[Action]:
            return self._introduce(peer, now)

    with pytest.raises(Violation, match="round and round") as found:
        World(calm(1, 20), machines=Machines(gateway=Answers, broker=Asks)).run()
    assert found.value.rule == "time passes"


# Steps that are rare


def a_world() -> World:
    world = World(msgspec.structs.replace(calm(1, 1), engine="network", heartbeat_s=1.0))
    world.run()
    return world


def test_who_is_gone_is_not_struck_again() -> None:
    world = a_world()
    worker = next(process for process in world.processes if process.role == "worker")
    world.drain(worker)
    world.crash(worker, 0.0)
    steps = world.steps
    world.crash(worker, 0.0)
    world.leave(worker)
    world._left(worker)
    world.stall([worker])
    world.resume([worker])
    assert worker not in world.processes
    assert world.steps == steps


def test_who_stands_still_leaves_later() -> None:
    world = a_world()
    worker = next(process for process in world.processes if process.role == "worker")
    world.stall([worker])
    world.leave(worker)
    assert worker.alive
    world.resume([worker])
    world.timeline.run(world.timeline.now + 5.0)
    assert not worker.alive


def test_a_timer_that_moved_is_set_anew() -> None:
    world = a_world()
    broker = next(process for process in world.processes if process.role == "broker")
    steps = world.steps
    world._tick(broker)  # too early
    assert world.steps == steps
    broker.offset_s -= 1e-7  # the instant of its deadline, rounded: early by less than anybody can tell
    due = broker.machine.next_deadline()
    assert due is not None
    world.timeline.now = broker.true(due) - 1e-7
    broker.last = 0.0
    world._tick(broker)
    assert world.steps == steps + 1
    assert broker.last >= due
    steps = world.steps
    broker.timer_at = None
    world._fire(broker, world.timeline.now)  # another has been set since
    assert world.steps == steps


def test_a_call_that_no_worker_takes_up_is_no_bereavement() -> None:
    world = a_world()
    world.crash(next(process for process in world.processes if process.role == "worker"), 0.0)
    with pytest.raises(Violation, match=r"bureau\.ask ends with") as found:
        world._bereave()
    assert found.value.rule == "heals"


def test_a_machine_without_deadlines_is_not_told_the_time() -> None:
    world = World(calm(1, 1))
    world._boot()
    gateway = next(process for process in world.processes if process.role == "gateway")
    steps = world.steps
    world._tick(gateway)
    assert world.steps == steps
    assert isinstance(Tick(), Tick)


def test_a_call_may_settle_while_it_is_looked_after() -> None:
    world = World(calm(1, 1))
    world._boot()
    gateway = next(process for process in world.processes if process.role == "gateway")
    submission = world.callers.order(METHODS[0], "webshop", 5.0, gateway)
    assert submission.record is not None
    look = partial(world._overdue, submission.record)
    world.stall([gateway])
    look()  # later, for its gateway stands still
    world.resume([gateway])
    world.timeline.run(30.0)
    look()
    assert submission.record.outcome is not None
