"""The worker against gateways that grant, deny or fall silent, a shell that ends what it began, and a provider that may do anything."""

from dataclasses import dataclass, field
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from homing.core.holding import MethodPolicy, ProviderPolicy
from homing.core.limits import BreakerPolicy, Rate
from homing.core.machine import (
    Action,
    Draining,
    DrainTimedOut,
    Event,
    Finished,
    PeerFound,
    PeerLost,
    Prepare,
    Prepared,
    Received,
    Send,
    Start,
    Stop,
    Tick,
)
from homing.core.messages import (
    Cancel,
    Claim,
    Deny,
    Disconnect,
    Final,
    Grant,
    Heartbeat,
    Message,
    Ready,
    Reject,
    Release,
    Settled,
)
from homing.core.worker import Worker
from homing.errors import Effect, Outcome, failure
from tests.core.people import BACKUP, BROKER, BROKER_LIFE, OK, ONE, TWO, call_id, request
from tests.core.test_worker import consistent

CALLS = [call_id(number) for number in range(6)]
ATTEMPTS_MAX = 3
ENDS = {
    "ok": OK,
    "unreachable": failure("provider_unreachable", "refused"),
    "lost": failure("connection_lost", "reset"),
    "throttled": failure("provider_throttled", "429", retry_after_ms=500),
    "busy": Outcome(reason="provider_failed", executed="unknown", status=409),
    "redirected": Outcome(reason="provider_failed", executed="unknown", status=302),
    "refused": failure("provider_refused", "no"),
    "refused by a row": Outcome(reason="provider_refused", executed="no", settles_earlier=True, again=False),
    "denied": failure("provider_denied", "401"),
    "odd": failure("response_invalid", "odd", executed="yes"),
}
any_one = st.integers(0, 999)


@dataclass
class Copy:
    """One claim of one call, as gateway, shell and provider know it."""

    effect: Effect
    earlier: int
    claimed_at: float
    state: str = "pending"  # granted, released, done
    deadline: float = 0.0
    ends: list[Outcome] = field(default_factory=list)
    found: bool = False
    running: Any = None  # the Start it was told last
    attempts: int = 0
    final: Outcome | None = None


class WorkerModel(RuleBasedStateMachine):
    @initialize(
        heartbeat_s=st.sampled_from([0.0, 1.0]),
        in_flight_max=st.sampled_from([1, 2, 64]),
        needs_token=st.booleans(),
        rated=st.booleans(),
        has_lookup=st.booleans(),
        attempt_s=st.sampled_from([None, 1.0]),
        held_max=st.sampled_from([10, 10_000]),
        calls_min=st.sampled_from([2, 100]),
        jitter=st.floats(0, 0.999),
    )
    def begin(self, heartbeat_s, in_flight_max, needs_token, rated, has_lookup, attempt_s, held_max, calls_min, jitter) -> None:
        policy = ProviderPolicy(
            in_flight_max=in_flight_max,
            rate=Rate(limit=1, per_s=0.5, burst=2) if rated else None,
            attempts_max=ATTEMPTS_MAX,
            attempt_timeout_s=attempt_s,
            breaker=BreakerPolicy(calls_min=calls_min, open_for_s=1.0),
            needs_token=needs_token,
        )
        self.worker = Worker(
            ONE,
            services={"acme": 8},
            methods={"acme.charge": MethodPolicy(provider="acme", has_lookup=has_lookup, reserve_s=1.0)},
            providers={"acme": policy},
            random=lambda: jitter,
            heartbeat_s=heartbeat_s,
            outcomes_held_bytes_max=held_max,
        )
        self.now = 0.0
        self.asked: dict[bytes, tuple[Effect, int]] = {}  # as the last request said
        self.copies: dict[int, Copy] = {}  # by claim
        self.call_of: dict[int, bytes] = {}
        self.preparing: list[bytes] = []
        self.draining = self.ended = False
        self.quick = True
        self.feed(PeerFound(BROKER))

    # What the worker says

    def feed(self, event: Event) -> None:
        actions = self.worker.handle(event, self.now)
        consistent(self.worker)
        for action in actions:
            self.done(action)
        due = self.worker.next_deadline()
        assert due is None or not isinstance(event, Tick) or due > self.now
        if self.quick:
            self.answer_at_once(actions)

    def answer_at_once(self, actions: list[Action]) -> None:
        """A gateway that grants and a token endpoint that answers, as they mostly do."""
        for action in actions:
            if isinstance(action, Prepare) and action.call_id in self.preparing:
                self.preparing.remove(action.call_id)
                self.feed(Prepared(action.call_id))
            elif isinstance(action, Send) and isinstance(action.message, Claim):
                self.grant_of(action.message.claim, 6000)

    def done(self, action: Action) -> None:
        if isinstance(action, Prepare):
            assert action.deadline > self.now
            self.preparing.append(action.call_id)
        elif isinstance(action, Start):
            self.started(action)
        elif isinstance(action, Stop):
            assert self.ended
            (copy,) = [copy for copy in self.copies.values() if copy.running and copy.running.call_id == action.call_id]
            assert copy.running.number == action.number
        else:
            assert isinstance(action, Send)
            self.said(action.message)

    def present(self, call: bytes) -> Copy:
        """The newest claim of a call."""
        return self.copies[max(claim for claim, of in self.call_of.items() if of == call)]

    def started(self, start: Start) -> None:
        copy = self.present(start.call_id)
        assert not self.ended, "nothing begins any more"
        assert copy.state == "granted", "nothing begins without a grant"
        assert copy.running is None, "one exchange at a time"
        assert self.now < start.deadline <= copy.deadline - 0.005, "in time, and with a margin"
        if start.lookup:
            assert any(end.executed == "unknown" for end in copy.ends) or copy.earlier
        else:
            copy.attempts += 1
            assert start.attempt == copy.earlier + copy.attempts <= ATTEMPTS_MAX
            assert copy.effect != "once" or all(end.executed == "no" for end in copy.ends), "never twice"
        copy.running = start

    def said(self, message: Message) -> None:
        if isinstance(message, Claim):
            assert message.life == ONE
            if message.claim not in self.copies:
                assert not self.draining, "a draining worker claims nothing"
                effect, earlier = self.asked[message.call_id]
                self.copies[message.claim] = Copy(effect, earlier, self.now)
                self.call_of[message.claim] = message.call_id
            assert self.call_of[message.claim] == message.call_id
            assert self.copies[message.claim].state == "pending"
        elif isinstance(message, Release):
            copy = self.copies.get(message.claim)
            if copy is not None:  # else its claim was never said, for want of a broker
                assert copy.state in ("pending", "released"), "what has begun is never released"
                copy.state = "released"
        elif isinstance(message, Final):
            self.ended_with(self.copies[message.claim], message.outcome)
        elif isinstance(message, Reject):
            assert message.kind in ("again", "drop", "refused")
            assert message.call_id not in self.worker._held
        else:
            assert isinstance(message, Ready | Heartbeat)

    def ended_with(self, copy: Copy, outcome: Outcome) -> None:
        assert copy.state in ("granted", "done")
        assert copy.running is None, "not before the exchange has ended"
        assert copy.ends, "not before an attempt"
        assert copy.final in (None, outcome), "one outcome"
        copy.final, copy.state = outcome, "done"
        assert len(outcome.attempts) == copy.attempts
        ok = any(end.reason == "ok" for end in copy.ends) or copy.found
        assert (outcome.reason == "ok") == ok
        verdicts = [end.executed for end in copy.ends]
        if outcome.executed == "no":
            by_a_row = copy.effect == "keyed" and copy.ends[-1].settles_earlier
            assert by_a_row or all(verdict == "no" for verdict in verdicts), "no is proven"
        if outcome.executed == "yes":
            assert ok or "yes" in verdicts

    # What the worker hears

    def hear(self, message: Message, peer: bytes = BROKER) -> None:
        self.feed(Received(peer, message))

    @rule(
        which=any_one,
        effect=st.sampled_from(["once", "keyed", "safe"]),
        remaining_ms=st.sampled_from([0, 1500, 8000, 8000]),
        earlier=st.sampled_from([0, 0, 1]),
    )
    def ask(self, which: int, effect: Effect, remaining_ms: int, earlier: int) -> None:
        call = CALLS[which % len(CALLS)]
        if call not in self.worker._held:
            earlier = 0 if effect == "once" else earlier
            self.asked[call] = (effect, earlier)
        executed = "unknown" if earlier else "no"
        self.hear(request(call, effect=effect, remaining_ms=remaining_ms, attempts=earlier, executed=executed))

    def claims(self, *states: str) -> list[int]:
        return [claim for claim, copy in self.copies.items() if copy.state in states]

    @rule(quick=st.booleans())
    def weather(self, quick: bool) -> None:
        self.quick = quick

    @precondition(lambda self: self.claims("pending"))
    @rule(which=any_one, remaining_ms=st.sampled_from([0, 50, 1500, 6000]))
    def grant(self, which: int, remaining_ms: int) -> None:
        pending = self.claims("pending")
        self.grant_of(pending[which % len(pending)], remaining_ms)

    def grant_of(self, claim: int, remaining_ms: int) -> None:
        copy = self.copies[claim]
        if copy.state != "pending":
            return
        copy.state = "granted"
        copy.deadline = copy.claimed_at + remaining_ms / 1000
        if copy.deadline - 0.005 <= self.now or claim in self.worker._given_up:
            copy.state = "pending"  # too late: it must be released
        self.hear(Grant(self.call_of[claim], ONE, claim, remaining_ms))
        if copy.state == "pending":
            assert not copy.attempts

    @precondition(lambda self: self.copies)
    @rule(which=any_one)
    def grant_again(self, which: int) -> None:
        """To whoever does not wait for it."""
        others = self.claims("granted", "released", "done")
        if others:
            claim = others[which % len(others)]
            self.hear(Grant(self.call_of[claim], ONE, claim, 6000))

    @precondition(lambda self: self.copies)
    @rule(which=any_one, life=st.sampled_from([ONE, ONE, TWO]))
    def deny(self, which: int, life: bytes) -> None:
        claim = list(self.copies)[which % len(self.copies)]
        self.hear(Deny(self.call_of[claim], life, claim))

    @rule(which=any_one, settled=st.sampled_from([True, True, False]))
    def cancel_or_settle(self, which: int, settled: bool) -> None:
        call = CALLS[which % len(CALLS)]
        self.hear(Settled(ONE, (call,)) if settled else Cancel(call))

    @precondition(lambda self: self.preparing)
    @rule(which=any_one, problem=st.sampled_from([None, None, None, "no"]))
    def prepared(self, which: int, problem: str | None) -> None:
        self.feed(Prepared(self.preparing.pop(which % len(self.preparing)), problem))

    def running(self) -> list[Copy]:
        return [copy for copy in self.copies.values() if copy.running]

    def finish(self, copy: Copy, outcome: Outcome) -> None:
        start, copy.running = copy.running, None
        if not start.lookup:
            copy.ends.append(outcome)
        elif outcome.reason == "ok":
            copy.found = True
        self.feed(Finished(start.call_id, start.number, outcome))

    @precondition(lambda self: self.running())
    @rule(which=any_one, how=st.sampled_from(list(ENDS)), after_s=st.sampled_from([0.0, 0.1]))
    def finished(self, which: int, how: str, after_s: float) -> None:
        self.time_passes(after_s)
        running = self.running()
        if running:
            self.finish(running[which % len(running)], ENDS[how])

    @rule(peer=st.sampled_from([BROKER, BROKER, BACKUP]), found=st.sampled_from([True, True, False]))
    def brokers_come_and_go(self, peer: bytes, found: bool) -> None:
        self.feed(PeerFound(peer) if found else PeerLost(peer))

    @rule(peer=st.sampled_from([BROKER, BACKUP]), sent=st.integers(0, 5), gap=st.booleans(), asks=st.booleans())
    def broker_speaks(self, peer: bytes, sent: int, gap: bool, asks: bool) -> None:
        self.hear(Disconnect() if asks else Heartbeat(life=BROKER_LIFE, peer_life=ONE, sent=sent, received=0, gap=gap), peer)

    @rule(seconds=st.sampled_from([0.05, 0.5, 3.0]))
    def time_passes(self, seconds: float) -> None:
        """Exchanges end at their deadlines, whatever the provider does."""
        until = self.now + seconds
        while True:
            due = self.worker.next_deadline()
            exchange: Any = min(self.running(), key=lambda copy: copy.running.deadline, default=None)
            end = exchange.running.deadline if exchange else None
            instant = min((one for one in (due, end) if one is not None), default=None)
            if instant is None or instant > until:
                break
            self.now = max(self.now, instant)
            if instant == end:
                self.finish(exchange, failure(exchange.running.late, "late"))
            else:
                self.feed(Tick())
        self.now = until

    @precondition(lambda self: len(self.copies) > 4)
    @rule(now=st.booleans())
    def drain(self, now: bool) -> None:
        self.draining = True
        self.ended = self.ended or now
        self.feed(DrainTimedOut() if now else Draining())

    def teardown(self) -> None:
        if hasattr(self, "worker"):
            self.time_passes(300.0)
            worker = self.worker
            assert len(worker) == 0
            assert (worker.in_flight("acme"), worker.outcomes_held_bytes) == (0, 0)
            assert not any((worker._finished, worker._claiming, len(worker._timers)))
            self.feed(Tick())
            assert not worker._given_up
            assert not self.running()


WorkerModel.TestCase.settings = settings(max_examples=40, stateful_step_count=50)
TestWorkerModel = WorkerModel.TestCase
