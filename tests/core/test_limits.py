"""Rates, budgets, breakers and back-off, each beside a model that is slow and plain."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from homing.core.limits import BUCKETS, Breaker, BreakerPolicy, Gcra, Rate, RateLine, RetryBudget, backoff_s

# Pauses in 1/1024 s: floats add them up exactly, so that a model in fractions must agree to the bit.
pauses = st.integers(0, 4096).map(lambda ticks: ticks / 1024) | st.just(0.0)
starts = st.sampled_from([0.0, 12.5, 1e6])


# Rates


def test_a_burst_and_then_one_by_one() -> None:
    rate = Gcra(Rate(limit=10, per_s=1.0, burst=3))
    assert [rate.take(100.0) for _ in range(3)] == [0.0, 0.0, 0.0]
    assert rate.take(100.0) == pytest.approx(0.1)
    assert rate.take(100.05) == pytest.approx(0.05)
    assert rate.take(100.1) == 0.0
    assert rate.wait(100.1) == pytest.approx(0.1)


def test_a_quiet_time_brings_no_more_than_the_burst() -> None:
    rate = Gcra(Rate(limit=1, per_s=60.0, burst=2))
    for _ in range(2):
        assert rate.take(0.0) == 0.0
    assert rate.wait(0.0) == 60.0
    assert [rate.take(1e6) > 0 for _ in range(3)] == [False, False, True]


def test_reservations_stand_in_line() -> None:
    rate = Gcra(Rate(limit=4, per_s=1.0, burst=1))
    assert rate.reserve(8.0, 8.0) == 8.0
    assert rate.reserve(8.0, 8.1) is None
    assert rate.reserve(8.0, 8.25) == 8.25
    assert rate.reserve(8.0, 9.0) == 8.5
    assert rate.take(8.5) == 0.25
    assert rate.reserve(8.75, 8.75) == 8.75


def test_who_leaves_the_line_gives_its_instant_to_the_last() -> None:
    line = RateLine(Rate(limit=4, per_s=1.0, burst=1))
    assert [line.stand(who, 8.0, 9.0) for who in (b"a", b"b", b"c", b"d", b"e")] == [8.0, 8.25, 8.5, 8.75, 9.0]
    assert line.stand(b"f", 8.0, 9.0) is None
    assert line.leave(b"b", 8.25, 8.0) == b"e"
    assert line.leave(b"d", 8.75, 8.0) is None  # nobody stands behind it
    assert line.stand(b"f", 8.0, 9.0) == 8.75
    line.pass_on(8.3)
    assert line.leave(b"e", 8.25, 8.3) is None  # too late: the token is lost
    assert line.leave(b"a", 8.5, 8.3) is None  # it is not its own
    assert line.stand(b"g", 8.3, 9.0) == 9.0


@given(
    st.sampled_from([1, 2, 4, 64]),
    st.integers(1, 5),
    st.lists(st.tuples(st.sampled_from([0.0, 0.125, 0.25, 1.0, 3.0]), st.integers(-1, 20)), max_size=40),
)
def test_leaving_the_line_lets_nobody_through_too_early(limit: int, burst: int, steps: list[tuple[float, int]]) -> None:
    line, now = RateLine(Rate(limit, 1.0, burst)), 100.0
    waiting: dict[bytes, float] = {}
    passed: list[float] = []
    for number, (pause_s, leaver) in enumerate(steps):
        now += pause_s
        passed += [at for at in waiting.values() if at <= now]
        waiting = {who: at for who, at in waiting.items() if at > now}
        if leaver < 0 or not waiting:
            at = line.stand(b"%d" % number, now, now + 10.0)
            assert at is not None
            waiting[b"%d" % number] = at
        else:
            who = list(waiting)[leaver % len(waiting)]
            at = waiting.pop(who)
            last = max(waiting, key=lambda who: waiting[who], default=None)
            moved = line.leave(who, at, now)
            assert moved == (last if last is not None and waiting[last] > at else None)
            if moved is not None:
                waiting[moved] = at
        line.pass_on(now)
        assert set(line._waiting.values()) == {who for who, at in waiting.items() if at > now}
        instants = sorted([*passed, *waiting.values()])
        for first, since in enumerate(instants):
            for count, until in enumerate(instants[first:], 1):
                assert count <= burst + (until - since) * limit + 1e-6


@pytest.mark.parametrize(("limit", "per_s"), [(10, 1.0), (3, 0.7), (600, 60.0)])
def test_who_keeps_the_rate_is_never_sent_away(limit: int, per_s: float) -> None:
    """Sums of floats drift; nobody is sent away for a billionth of a second."""
    rate = Gcra(Rate(limit, per_s, burst=1))
    assert [rate.take(1e5 + index * per_s / limit) for index in range(2000)] == [0.0] * 2000


@given(starts, st.integers(1, 1000), st.floats(0.001, 3600), st.integers(1, 50), st.lists(pauses, max_size=30))
def test_after_the_wait_there_is_a_token(start: float, limit: int, per_s: float, burst: int, steps: list[float]) -> None:
    rate, now = Gcra(Rate(limit, per_s, burst)), start
    for step in steps:
        now += step
        wait_s = rate.take(now)
        if wait_s:
            now += wait_s
            assert rate.wait(now) == 0.0
            assert rate.take(now) == 0.0


@given(starts, st.sampled_from([1, 2, 4, 64]), st.integers(1, 5), st.lists(st.tuples(pauses, st.booleans()), max_size=40))
def test_it_is_a_bucket_of_tokens(start: float, limit: int, burst: int, steps: list[tuple[float, bool]]) -> None:
    rate, now = Gcra(Rate(limit, 1.0, burst)), start
    tokens, at = Fraction(burst), Fraction(start)
    taken: list[float] = []
    for step, may_wait in steps:
        now += step
        tokens = min(Fraction(burst), tokens + (Fraction(now) - at) * limit)
        at = Fraction(now)
        wait_s = max(Fraction(0), (1 - tokens) / limit)
        assert rate.wait(now) == wait_s
        if may_wait:
            assert rate.reserve(now, now + 1.0) == (now + wait_s if wait_s <= 1 else None)
        else:
            assert rate.take(now) == wait_s
        if wait_s == 0 or (may_wait and wait_s <= 1):
            tokens -= 1
            taken.append(float(now + wait_s))
    # and so, in any stretch of time, no more than the burst and what the rate brings meanwhile
    for first in range(len(taken)):
        for last in range(first, len(taken)):
            assert last - first + 1 <= burst + (taken[last] - taken[first]) * limit


# The budget for retries


def test_a_budget_is_full_at_first_and_never_more_than_full() -> None:
    budget = RetryBudget()
    for _ in range(100):
        budget.first_attempt(5.0)
    assert [budget.take(5.0) for _ in range(11)] == [True] * 10 + [False]
    assert budget.take(5.9) is False
    assert budget.take(6.0) is True
    assert budget.take(6.0) is False
    assert [budget.take(1e6) for _ in range(11)] == [True] * 10 + [False]


def test_ten_first_attempts_earn_a_retry() -> None:
    budget = RetryBudget()
    while budget.take(0.0):
        pass
    for _ in range(9):
        budget.first_attempt(0.0)
    assert budget.take(0.0) is False
    budget.first_attempt(0.0)
    assert budget.take(0.0) is True


def test_a_clock_that_steps_back_brings_nothing() -> None:
    budget = RetryBudget()
    while budget.take(100.0):
        pass
    assert budget.take(50.0) is False
    assert budget.take(100.5) is False
    assert budget.take(101.0) is True


@given(starts, st.lists(st.tuples(pauses, st.sampled_from(["first", "retry", "retry"])), max_size=60))
def test_a_budget_is_a_bucket(start: float, steps: list[tuple[float, str]]) -> None:
    budget, now = RetryBudget(), start
    tokens, at = Fraction(10), Fraction(start)
    for step, what in steps:
        now += step
        tokens = min(Fraction(10), tokens + Fraction(now) - at)
        at = Fraction(now)
        if what == "first":
            budget.first_attempt(now)
            tokens = min(Fraction(10), tokens + Fraction(1, 10))
        else:
            assert budget.take(now) == (tokens >= 1)
            tokens -= tokens >= 1


# Back-off


@pytest.mark.parametrize(
    ("index", "throttled", "most_s"),
    [(0, False, 0.05), (1, False, 0.1), (2, False, 0.2), (8, False, 12.8), (9, False, 20.0), (10_000, False, 20.0),
     (0, True, 1.0), (1, True, 2.0), (4, True, 16.0), (5, True, 20.0), (10_000, True, 20.0)],
)  # fmt: skip
def test_back_off_doubles_up_to_twenty_seconds(index: int, throttled: bool, most_s: float) -> None:
    assert backoff_s(index, 0.0, throttled, 0.0) == 0.0
    assert backoff_s(index, 0.5, throttled, 0.0) == pytest.approx(most_s / 2)
    assert backoff_s(index, 1.0, throttled, 0.0) == pytest.approx(most_s)


def test_what_the_provider_asks_for_is_the_least() -> None:
    assert backoff_s(0, 0.99, False, 7.0) == 7.0
    assert backoff_s(3, 1.0, True, 7.0) == 8.0
    assert backoff_s(0, 0.0, True, 3600.0) == 3600.0


# Breakers

POLICY = BreakerPolicy(window_s=10.0, calls_min=4, failure_ratio=0.5, open_for_s=5.0)


def opened(at: float = 0.0) -> Breaker:
    breaker = Breaker(POLICY)
    for _ in range(4):
        breaker.record(at, failure=True, ticket=breaker.allow(at))
    return breaker


def test_it_opens_at_the_ratio_and_not_below_the_least_number_of_calls() -> None:
    breaker = Breaker(POLICY)
    for failure in (True, True, True):
        breaker.record(1.0, failure=failure)
        assert breaker.allow(1.0)
    breaker.record(1.0, failure=True)
    assert not breaker.allow(1.0)
    assert breaker.retry_after(1.0) == 5.0
    assert breaker.retry_after(4.0) == 2.0


def test_it_stays_closed_below_the_ratio() -> None:
    breaker = Breaker(POLICY)
    for _ in range(50):
        for failure in (False, False, True):
            breaker.record(1.0, failure=failure, ticket=breaker.allow(1.0))
    assert breaker.allow(1.0)
    assert breaker.retry_after(1.0) == 0.0


def test_only_a_fault_opens_it() -> None:
    breaker = Breaker(POLICY)
    for failure in (True, True, False, False):
        breaker.record(1.0, failure=failure)
    assert breaker.allow(1.0)
    breaker.record(1.0, failure=True)
    assert not breaker.allow(1.0)


def test_what_is_older_than_the_window_does_not_count() -> None:
    breaker = Breaker(POLICY)
    for at in (0.0, 0.5, 4.0):
        breaker.record(at, failure=True)
    breaker.record(10.0, failure=True)
    assert breaker.allow(10.0)
    breaker.record(10.0, failure=True)
    breaker.record(10.5, failure=True)
    assert not breaker.allow(10.5)


def test_half_open_one_probe_decides() -> None:
    breaker = opened()
    assert not breaker.allow(4.999)
    probe = breaker.allow(5.0)
    assert probe
    assert not breaker.allow(5.0)
    assert breaker.retry_after(5.0) == 0.5
    breaker.record(6.0, failure=True, ticket=probe)
    assert breaker.retry_after(6.0) == 5.0
    assert not breaker.allow(10.9)
    probe = breaker.allow(11.0)
    breaker.record(12.0, failure=False, ticket=probe)
    assert breaker.allow(12.0)
    assert breaker.allow(12.0)
    assert breaker.retry_after(12.0) == 0.0


def test_a_probe_that_did_not_happen_frees_its_place() -> None:
    breaker = opened()
    probe = breaker.allow(5.0)
    breaker.forget(5.5, probe)
    assert breaker.retry_after(5.5) == 0.0
    assert breaker.allow(5.5)
    assert not breaker.allow(5.5)
    breaker.forget(5.6)
    assert breaker.allow(5.6)


def test_after_it_closed_old_faults_are_forgotten() -> None:
    breaker = opened()
    breaker.record(5.0, failure=False, ticket=breaker.allow(5.0))
    for _ in range(3):
        breaker.record(5.0, failure=True)
        assert breaker.allow(5.0)


@pytest.mark.parametrize("failure", [True, False])
def test_what_began_before_it_opened_decides_nothing(failure: bool) -> None:
    breaker = Breaker(POLICY)
    early = breaker.allow(0.0)
    for _ in range(4):
        breaker.record(0.0, failure=True, ticket=breaker.allow(0.0))
    breaker.record(1.0, failure=failure, ticket=early)
    assert breaker.retry_after(1.0) == 4.0
    probe = breaker.allow(5.0)
    breaker.record(6.0, failure=failure, ticket=early)  # took its time
    breaker.forget(6.0, early)
    assert not breaker.allow(6.0)
    breaker.record(7.0, failure=False, ticket=probe)
    for _ in range(10):
        breaker.record(8.0, failure=True, ticket=early)
    assert breaker.allow(8.0)


@pytest.mark.parametrize("failure", [True, False])
def test_without_a_ticket_it_is_taken_for_one_of_now(failure: bool) -> None:
    breaker = opened()
    breaker.record(1.0, failure=failure)
    breaker.forget(1.0)
    assert breaker.retry_after(1.0) == 4.0
    assert breaker.allow(5.0)
    breaker.record(6.0, failure=failure)
    assert bool(breaker.allow(6.0)) is not failure


class BreakerModel(RuleBasedStateMachine):
    """Beside a breaker that keeps every result, and every call by when it began."""

    @initialize(ratio=st.sampled_from([0.25, 0.5, 1.0]), calls_min=st.integers(1, 6), start=starts)
    def begin(self, ratio: float, calls_min: int, start: float) -> None:
        self.policy = BreakerPolicy(window_s=10.0, calls_min=calls_min, failure_ratio=ratio, open_for_s=5.0)
        self.breaker = Breaker(self.policy)
        self.now = start
        self.turns = 0  # how often it opened or closed
        self.open_until: float | None = None
        self.results: list[tuple[float, float, bool]] = []  # start of its bucket, when, failure
        self.running: list[tuple[int, int]] = []  # ticket, turns when it began

    @rule(pause=pauses)
    def wait(self, pause: float) -> None:
        self.now += pause

    @rule()
    def wait_for_half_open(self) -> None:
        self.now += self.breaker.retry_after(self.now)

    def probing(self) -> bool:
        return self.open_until is not None and any(turns == self.turns for _, turns in self.running)

    @rule()
    def ask(self) -> None:
        ticket = self.breaker.allow(self.now)
        expected = self.open_until is None or (self.now >= self.open_until and not self.probing())
        assert bool(ticket) == expected
        if ticket:
            self.running.append((ticket, self.turns))

    @precondition(lambda self: self.running)
    @rule(data=st.data(), result=st.sampled_from(["well", "fault", "fault", "fault", "forgotten"]))
    def end(self, data: st.DataObject, result: str) -> None:
        ticket, turns = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
        if result == "forgotten":
            self.breaker.forget(self.now, ticket)
            return
        self.breaker.record(self.now, failure=result == "fault", ticket=ticket)
        if turns != self.turns:
            return
        if self.open_until is not None:
            self.turn(self.now + self.policy.open_for_s if result == "fault" else None)
            return
        since = self.results[-1][0] if self.results else self.now
        since = since if self.now - since < self.policy.window_s / BUCKETS else self.now
        self.results.append((since, self.now, result == "fault"))
        counted = [failure for since, _, failure in self.results if self.now - since < self.policy.window_s]
        if (
            result == "fault"
            and len(counted) >= self.policy.calls_min
            and sum(counted) >= self.policy.failure_ratio * len(counted)
        ):
            self.turn(self.now + self.policy.open_for_s)

    def turn(self, open_until: float | None) -> None:
        self.open_until = open_until
        self.turns += 1
        self.results.clear()

    @invariant()
    def tells_when_to_come_back(self) -> None:
        if not hasattr(self, "breaker"):
            return
        wait_s = self.breaker.retry_after(self.now)
        if self.open_until is None:
            assert wait_s == 0.0
        elif self.now < self.open_until:
            assert wait_s == self.open_until - self.now
        else:
            assert (wait_s > 0) == self.probing()

    @invariant()
    def keeps_no_more_than_its_buckets(self) -> None:
        if hasattr(self, "breaker"):
            assert len(self.breaker._buckets) <= BUCKETS + 1


TestBreakerModel = BreakerModel.TestCase
