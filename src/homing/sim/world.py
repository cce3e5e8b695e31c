"""The whole system from one seed, in virtual time: faults first, then healing, and then it must come to rest and work."""

from collections.abc import Callable
from functools import partial
from itertools import islice
from random import Random
from zlib import crc32

import msgspec

from homing.core.broker import Broker
from homing.core.calls import Calls
from homing.core.machine import (
    Action,
    Draining,
    DrainTimedOut,
    Event,
    Learn,
    Life,
    Machine,
    Prepare,
    Received,
    Send,
    Settle,
    Start,
    Stop,
    Tick,
)
from homing.core.messages import GATEWAY_BYTES, LIFE_BYTES, MethodOffer
from homing.core.permits import NOTHING
from homing.core.roster import gateway_life
from homing.core.worker import Worker
from homing.sim.callers import Callers
from homing.sim.faults import CUT_S, NOTICED_S, Faults
from homing.sim.invariants import EPSILON_S, GROWING, Invariants, Record, Submission, Violation, may_call
from homing.sim.network import Network
from homing.sim.plan import GATEWAY_USERS, METHODS, PERMITS, WORKER_USERS, Plan
from homing.sim.process import Process, Role
from homing.sim.provider import Provider
from homing.sim.rest import check_forgotten, check_reach, methods_of, not_empty, own_method
from homing.sim.story import Story
from homing.sim.strangers import Rumour, Stranger
from homing.sim.timeline import Timeline

SLICE_S = 0.5
MENDED_AFTER_S = max(CUT_S, NOTICED_S) + 4.0  # whatever was broken when the faults stopped is mended by then
REST_S = 30.0  # beyond the longest deadline: outcomes nobody asked for are forgotten
LATE_EFFECTS_S = 25.0
PROBE_EVERY_S = 1.5
PROBE_TIMEOUT_S = 5.0
GREETED_S = 4.0  # whoever has just started is known to everybody by then
BEREAVED_TIMEOUT_S = 20.0
LOSS_TOLD_S = 1.5  # after a broker has noticed that a worker is gone
RUMOURS = 32  # so many of the latest calls are talked of
TICKS_MAX = 1000  # at one instant
TURNS_MAX = 20_000  # messages that one event brings about in one process

ROUNDING_S = 1e-6


class _Tags(dict[type, int]):
    """A number for each type, the same in every run."""

    def __missing__(self, kind: type) -> int:
        tag = self[kind] = crc32(kind.__name__.encode())
        return tag


_TAGS = _Tags()


class Machines(msgspec.Struct, frozen=True):
    """What the processes are made of. Tests break one rule and put the broken machine here."""

    gateway: type[Calls] = Calls
    broker: type[Broker] = Broker
    worker: type[Worker] = Worker


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What happened. `answers` is by reason and executed; `trace` is the same for the same seed."""

    seed: int
    calls: int
    answers: dict[tuple[str, str], int]
    faults: dict[str, int]
    steps: int
    checks: int
    simulated_s: float
    trace: int


class World:
    """One run. `progress` is told how many orders have come, `story` every step."""

    def __init__(
        self,
        plan: Plan,
        *,
        machines: Machines | None = None,
        progress: Callable[[int], None] | None = None,
        story: Story | None = None,
    ) -> None:
        self.plan = plan
        self.timeline = Timeline(Random(plan.seed))
        self.network = Network(plan, self.timeline, self.feed)
        self.invariants = Invariants(plan, self.network.at)
        self.provider = Provider(plan, self.timeline, self.feed, self.invariants)
        self.processes: list[Process] = []
        self._dead: list[Process] = []
        self._gateways: list[Process] = []
        self.callers = Callers(plan, self.timeline, self._gateways, self.admit, self.feed)
        self.faults = Faults(plan, self.timeline, self.network, self)
        self.steps = 0
        self.trace = 0
        self._machines = machines or Machines()
        self._progress = progress
        self._story = story
        self._processes_made = 0
        self._touched: list[Process] = []
        self._ticks = 0
        self._ticked_at = -1.0

    # The run

    def run(self) -> Report:
        """Let it all happen. Raises `Violation`."""
        plan, timeline = self.plan, self.timeline
        self._boot()
        self.faults.begin()
        timeline.at(0.0, self.callers.come)
        while self.callers.left:
            timeline.run(timeline.now + SLICE_S)
            if self._progress is not None:
                self._progress(plan.calls - self.callers.left)
        timeline.run(timeline.now + plan.timeout_s[1] * timeline.random.random())
        self.faults.quiet = self.network.quiet = self.provider.quiet = self.callers.quiet = True
        for process in [process for process in self.processes if process.role == "stranger"]:
            self.crash(process, 0.0)
        timeline.run(timeline.now + MENDED_AFTER_S)
        self._come_to_rest()
        self._probe()
        if plan.engine == "network":
            self._bereave()
        self._come_to_rest()
        timeline.run(timeline.now + LATE_EFFECTS_S)
        if plan.engine == "network":
            check_reach(plan, self.invariants, self.processes, self._dead, timeline.now)
            check_forgotten(self.invariants, self.processes, self._dead)
        self.trace = crc32(repr(timeline.random.random()).encode(), self.trace)
        network = self.network
        by_chance = {
            "message lost": network.lost,
            "message doubled": network.doubled,
            "message late": network.late,
            "message damaged": network.damaged,
            "message too large to send": network.too_large,
        }
        counts = {**self.faults.counts, **by_chance, **self.provider.faults, "caller hung up": self.callers.hung_up}
        return Report(
            seed=plan.seed,
            calls=self.callers.submitted,
            answers=dict(sorted(self.callers.answers.items())),
            faults={kind: count for kind, count in sorted(counts.items()) if count},
            steps=self.steps,
            checks=self.invariants.checks,
            simulated_s=timeline.now,
            trace=self.trace,
        )

    def _come_to_rest(self) -> None:
        timeline = self.timeline
        limit = timeline.now + self.plan.timeout_s[1] * 1.01 + REST_S
        while (left := self._not_empty()) is not None:
            if timeline.now >= limit:
                raise Violation("empty", left)
            timeline.run(timeline.now + SLICE_S)

    def _not_empty(self) -> str | None:
        """What is not empty, said in words."""
        if self.invariants.open:
            return f"{self.invariants.open} calls have not settled"
        return not_empty(self.plan, self.processes)

    def _probe(self) -> None:
        """Nothing is broken any more, once a breaker that the last hung call opened lets a probe through: every method, through every
        gateway, must succeed, or be forbidden.
        """
        timeline = self.timeline
        timeline.run(timeline.now + max(policy.breaker.open_for_s for policy in self.plan.providers.values()))
        probes: list[Submission] = []
        for gateway in list(self._gateways):
            for method in METHODS:
                timeline.run(timeline.now + PROBE_EVERY_S)
                principal = gateway.permit.principal or "prober"
                probes.append(self.callers.order(method, principal, PROBE_TIMEOUT_S, gateway))
        timeline.run(timeline.now + PROBE_TIMEOUT_S * 2)
        for probe in probes:
            assert probe.record is not None
            outcome, gateway = probe.record.outcome, probe.record.gateway
            wanted = "ok" if may_call(gateway.permit, probe.method.service, probe.principal) else "forbidden"
            if outcome is None or outcome.reason != wanted:
                raise Violation("heals", f"{probe.method.name} ends with {outcome}", probe.record.asked.call_id)

    def _bereave(self) -> None:
        """A worker dies under a call, and perhaps the broker that gave it the call has died before: its gateway must be told."""
        timeline, random = self.timeline, self.timeline.random
        method = METHODS[-1]
        gateway = random.choice([one for one in self._gateways if one.permit.calls(method.service)])
        self.provider.hangs = True
        principal = gateway.permit.principal or "bereaved"
        record = self.callers.order(method, principal, BEREAVED_TIMEOUT_S, gateway).record
        timeline.run(timeline.now + PROBE_EVERY_S)
        assert record is not None
        if record.is_settled() or record.holder is None:
            raise Violation("heals", f"{method.name} ends with {record.outcome}", record.asked.call_id)
        if random.random() < 0.5:
            broker = random.choice([process for process in self.processes if process.role == "broker"])
            self.crash(broker, 0.0)
            self.restart(broker, random.random() < 0.5)
            timeline.run(timeline.now + GREETED_S)
        worker = next(process for process in self.processes if record.holder[0] == process.life)
        noticed_after_s = NOTICED_S * random.random()
        self.crash(worker, noticed_after_s)
        timeline.run(timeline.now + noticed_after_s + LOSS_TOLD_S)
        if not record.is_settled():
            raise Violation("losses are told", f"{gateway} does not know that {worker} is dead", record.asked.call_id)
        self.provider.hangs = False
        self.restart(worker, True)
        timeline.run(timeline.now + GREETED_S)

    # Processes

    def _boot(self) -> None:
        plan = self.plan
        for seat in range(plan.brokers):
            self._start("broker", seat)
        for seat in range(plan.workers):
            self._start("worker", seat)
        for seat in range(plan.gateways):
            self._start("gateway", seat)
        if plan.stranger is not None:
            self._start("stranger", 0)

    def _start(self, role: Role, seat: int, *, told: bool = True) -> None:
        plan, random = self.plan, self.timeline.random
        life = random.randbytes(LIFE_BYTES)
        if role == "gateway":
            life = gateway_life(life[GATEWAY_BYTES:])
        self._processes_made += 1
        index = self._processes_made
        lasting = role == "broker" or plan.engine == "memory"
        address = f"{role} {seat}".encode() if lasting else f"{role} {seat}.{index}".encode()
        process = Process(role, seat, index, life, address, self._machine(role, seat, life, index))
        if plan.guarded and role != "broker":
            users = {"gateway": GATEWAY_USERS, "worker": WORKER_USERS}.get(role, (plan.stranger_user,))
            process.user = users[seat]
            process.permit = PERMITS.get(process.user, NOTHING)
        if role != "gateway":
            process.frame_bytes_max = plan.broker_frame_bytes_max if role == "broker" else plan.worker_frame_bytes_max
        if plan.engine == "network":
            error = plan.clock_error
            process.clock(random.uniform(0.0, 1e5), 1.0 + random.uniform(-error, error))
        self.processes.append(process)
        if role == "gateway":
            self._gateways.append(process)
            self._gateways.sort(key=lambda gateway: gateway.seat)
        self.network.enter(process)
        for other in list(self.processes):
            if role == "broker" and other.role != "broker":
                self.network.connect(other, process, told=told)
            elif role != "broker" and other.role == "broker":
                self.network.connect(process, other)

    def _machine(self, role: Role, seat: int, life: Life, index: int) -> Machine:
        plan, machines = self.plan, self._machines
        if role == "gateway":
            return machines.gateway(life, heartbeat_s=plan.heartbeat_s)
        if role == "broker":
            return machines.broker(
                life,
                plan.broker_limits,
                heartbeat_s=plan.heartbeat_s,
                frame_bytes_max=plan.broker_frame_bytes_max,
                permits=PERMITS if plan.guarded else None,
            )
        if role == "stranger":
            assert plan.stranger is not None
            return Stranger(life, plan.stranger, self.timeline.random, self._rumours, self._workers_lives)
        methods = methods_of(plan, seat)
        offers = [MethodOffer(method.name, method.service, method.effect) for method in methods]
        return machines.worker(
            life,
            services={method.service: plan.credit for method in METHODS},
            methods={method.name: method.policy for method in methods},
            providers=plan.providers,
            random=self.timeline.random.random,
            heartbeat_s=plan.heartbeat_s,
            outcomes_held_bytes_max=plan.outcomes_held_bytes_max,
            offers=(*offers, MethodOffer(own_method(index), "acme")),
            frame_bytes_max=plan.worker_frame_bytes_max,
        )

    def _rumours(self) -> list[Rumour]:
        nobody = (bytes(LIFE_BYTES), 0)
        latest = islice(reversed(self.invariants.records.values()), RUMOURS)
        return [Rumour(record.asked.call_id, *(record.holder or nobody)) for record in latest]

    def _workers_lives(self) -> list[Life]:
        return [process.life for process in self.processes if process.role == "worker"]

    def crash(self, process: Process, noticed_after_s: float) -> None:
        """It is gone from one instant to the next."""
        if not process.alive:
            return
        self.tell("crashes", process)
        process.alive = False
        process.died_at = self.timeline.now
        self.processes.remove(process)
        self._dead.append(process)
        if process.role == "gateway":
            self._gateways.remove(process)
            self.invariants.orphaned(process)
        self.network.crashed(process, noticed_after_s)
        self.provider.crashed(process)

    def restart(self, process: Process, told: bool) -> None:
        """A new life on the same seat. `told` False: whoever was connected takes it for the old one."""
        self._start(process.role, process.seat, told=told)
        self.tell("starts", self.processes[-1])

    def stall(self, processes: list[Process]) -> None:
        """Their loops stand still."""
        for process in processes:
            self.tell("stands still", process)
            process.stalled = True

    def resume(self, processes: list[Process]) -> None:
        """All that has come meanwhile comes at once; whether the timer is first is a matter of chance."""
        for process in processes:
            process.stalled = False
            process.resumed_at = self.timeline.now
        for process in processes:
            backlog, process.backlog = process.backlog, []
            if not process.alive:
                continue
            self.tell("goes on", process)
            timer_first = self.timeline.random.random() < 0.5
            if timer_first:
                self._tick(process)
            for come in backlog:
                come()
            if not timer_first:
                self._tick(process)

    def tell(self, what: str, *befallen: Process) -> None:
        """Something befalls processes, or the wire between them: for the story."""
        if self._story is not None:
            self._story.fault(self.timeline.now, befallen, what)

    def drain(self, process: Process) -> None:
        """Tell it to leave."""
        self.tell("is told to leave", process)
        process.draining = True
        self.feed(process, Draining())

    def leave(self, process: Process) -> None:
        """It has drained, or its time is up."""
        if not process.alive:
            return
        if process.stalled:
            self.timeline.after(SLICE_S, self.leave, process)
            return
        self.feed(process, DrainTimedOut())
        self.timeline.after(0.05, self._left, process)

    def _left(self, process: Process) -> None:
        if not process.alive:
            return
        if process.role == "gateway" and (left := self.invariants.open_at(process)):
            raise Violation("one answer", f"{process} leaves, and {left} calls have not settled")
        self.crash(process, 0.0)
        self.timeline.after(self.timeline.random.random(), self.restart, process, True)

    # Steps

    def admit(self, gateway: Process, submission: Submission) -> None:
        """Give a call to a gateway, now or when its loop turns again."""
        if gateway.stalled:
            gateway.backlog.append(partial(self.admit, gateway, submission))
            return
        asked = submission.asked(gateway, gateway.local(self.timeline.now))
        record = self.invariants.admitted(asked, submission, gateway)
        self.timeline.at(record.deadline + EPSILON_S, self._overdue, record)
        self.feed(gateway, asked)
        self.callers.accepted(record)

    def _overdue(self, record: Record) -> None:
        if record.outcome is None:
            if record.gateway.stalled:
                self.timeline.after(SLICE_S, self._overdue, record)
            else:
                self.invariants.overdue(record)

    def feed(self, process: Process, *events: Event) -> None:
        """Give events to a process, now or when its loop turns again. What it says to all of them leaves together."""
        if process.stalled:
            process.backlog.append(partial(self.feed, process, *events))
            return
        for event in events:
            self._handle(process, event)
        queue, turns = self.network.queue, 0
        while queue:
            turns += 1
            if turns > TURNS_MAX:
                raise Violation(
                    "time passes", f"messages go round and round after {events[-1]}", getattr(events[-1], "call_id", None)
                )
            self._handle(*queue.popleft())
        self.network.flush()
        touched = self._touched
        while touched:
            self._arm(touched.pop())

    def _handle(self, process: Process, event: Event) -> None:
        now = self.timeline.now
        local = process.local(now)
        invariants, story = self.invariants, self._story
        invariants.now = now
        invariants.cause = event
        self.steps += 1
        kind: type = type(event)
        call = 0
        if isinstance(event, Received):
            kind = type(event.message)
            call = crc32(getattr(event.message, "call_id", b""))
            if kind in invariants.heard:
                invariants.heard[kind](process, event.peer, event.message)
        self.trace = hash((self.trace, now, process.index, _TAGS[kind], call))  # of numbers only: the same in every run
        if story is not None:
            story.event(now, process, event)
        try:
            actions = process.machine.handle(event, local)
        except Exception as error:
            raise Violation("sound", f"{process}: {type(error).__name__}: {error}", getattr(event, "call_id", None)) from error
        watched = invariants.watched
        for action in actions:
            if story is not None:
                story.action(now, process, action)
            if type(action) is Send:
                if type(action.message) in watched:
                    invariants.sent(process, action.peer, action.message)
                self.network.send(process, action.peer, action.message)
            else:
                self._do(process, action, local)
        if kind in GROWING and process.role == "broker":
            invariants.bounded(process)
        if not process.touched:
            process.touched = True
            self._touched.append(process)

    def _do(self, process: Process, action: Action, local: float) -> None:
        if isinstance(action, Settle):
            self.callers.answered(self.invariants.settled(process, action, local))
        elif isinstance(action, Start):
            self.provider.start(process, action)
        elif isinstance(action, Prepare):
            self.provider.prepare(process, action)
        elif isinstance(action, Learn):
            self.invariants.learnt(process, action)
        else:
            assert isinstance(action, Stop)
            self.provider.stop(process, action)

    # Timers

    def _arm(self, process: Process) -> None:
        """See to it that the machine hears when its next deadline has passed."""
        process.touched = False
        instant = process.machine.next_deadline()
        if instant is None:
            return
        when = max(process.true(instant), self.timeline.now)
        if process.timer_at is None or when < process.timer_at:
            process.timer_at = when
            self.timeline.at(when, self._fire, process, when)

    def _fire(self, process: Process, when: float) -> None:
        if process.alive and process.timer_at == when:
            process.timer_at = None
            if not process.stalled:
                self._tick(process)

    def _tick(self, process: Process) -> None:
        """Tell the machine, if its deadline has passed; it may have moved since the timer was set."""
        now = self.timeline.now
        instant = process.machine.next_deadline()
        if instant is None:
            return
        ahead_s = instant - process.local(now)
        if ahead_s > ROUNDING_S:
            self._arm(process)
            return
        if ahead_s > 0:
            process.last = instant  # the true instant of a local one is a rounded number
        self._ticks = self._ticks + 1 if self._ticked_at == now else 1
        self._ticked_at = now
        if self._ticks > TICKS_MAX:
            raise Violation("time passes", f"{process} wants to be told again and again at {instant:.6f}")
        self.feed(process, Tick())
