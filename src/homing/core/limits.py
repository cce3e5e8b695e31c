"""What bounds how often and how much: rates, retry budgets, circuit breakers, back-off. Pure: the time comes in as an argument."""

from collections import deque
from typing import Final

import msgspec

BUDGET_MAX: Final = 10.0
BUDGET_PER_S: Final = 1.0
BUDGET_PER_FIRST_ATTEMPT: Final = 0.1
BACKOFF_BASE_S: Final = 0.05
BACKOFF_THROTTLED_BASE_S: Final = 1.0
BACKOFF_MAX_S: Final = 20.0
BUCKETS: Final = 10  # of a breaker's window
SLACK_S: Final = 1e-6  # what adding up instants may cost in floats; far less than it takes to ask anybody anything


class Rate(msgspec.Struct, frozen=True):
    """`limit` in every `per_s`, evenly; `burst` at once after a quiet time."""

    limit: int
    per_s: float
    burst: int


class Gcra:
    """The generic cell rate algorithm (ITU-T I.371): one instant remembers everything, the theoretical arrival of the next token."""

    __slots__ = ("_arrival", "_interval_s", "_tolerance_s")

    def __init__(self, rate: Rate) -> None:
        self._interval_s = rate.per_s / rate.limit
        self._tolerance_s = self._interval_s * (rate.burst - 1)
        self._arrival = float("-inf")

    def wait(self, now: float) -> float:
        """Seconds until a token would be there; 0.0 if there is one."""
        wait_s = self._arrival - self._tolerance_s - now
        return wait_s if wait_s > SLACK_S else 0.0

    def take(self, now: float) -> float:
        """0.0 and the token is taken, or the seconds until one would be there."""
        arrival = self._arrival
        wait_s = arrival - self._tolerance_s - now
        if wait_s > SLACK_S:
            return wait_s
        self._arrival = (arrival if arrival > now else now) + self._interval_s  # noqa: FURB136 - a call of max() costs more than all the rest
        return 0.0

    def reserve(self, now: float, latest: float) -> float | None:
        """The instant from which a token is there for the caller alone; None, and nothing taken, if that is after `latest`."""
        at = now + self.wait(now)
        if at > latest:
            return None
        self._arrival = max(now, self._arrival) + self._interval_s
        return at


class RateLine(Gcra):
    """A rate that is waited for. Who leaves before its instant gives its token back, or else those who hang up would use up the rate.

    The instant goes to who stands last: then no instant is empty, and none has two.
    """

    __slots__ = ("_waiting",)

    def __init__(self, rate: Rate) -> None:
        super().__init__(rate)
        self._waiting: dict[float, bytes] = {}  # who stands in line, by the instant of its token, the earliest first

    def stand(self, who: bytes, now: float, latest: float) -> float | None:
        """Take a token as `reserve` does. If there is none yet, `who` stands in line for it."""
        at = self.reserve(now, latest)
        if at is not None and at > now:
            self._waiting[at] = who
        return at

    def leave(self, who: bytes, at: float, now: float) -> bytes | None:
        """Give the token of instant `at` back. Returns who has that instant from now on instead of its own, if anybody."""
        if at <= now or self._waiting.get(at) != who:
            return None  # it has come, and is lost; or there was none
        self._arrival -= self._interval_s
        last_at, last = self._waiting.popitem()
        if last_at == at:
            return None
        self._waiting[at] = last
        return last

    def pass_on(self, now: float) -> None:
        """Those whose instant has come stand in line no more."""
        while self._waiting and (at := next(iter(self._waiting))) <= now:
            del self._waiting[at]


class RetryBudget:
    """A bucket of retries: full at 10, one more a second and a tenth more with each first attempt (the idea is Finagle's)."""

    __slots__ = ("_at", "_tokens")

    def __init__(self) -> None:
        self._tokens = BUDGET_MAX
        self._at: float | None = None

    def first_attempt(self, now: float) -> None:
        """A call is tried for the first time."""
        if self._tokens == BUDGET_MAX:
            self._at = now
            return
        self._refill(now)
        self._tokens = min(BUDGET_MAX, self._tokens + BUDGET_PER_FIRST_ATTEMPT)

    def take(self, now: float) -> bool:
        """Whether one more retry may be made; it is counted."""
        self._refill(now)
        if self._tokens < 1.0 - SLACK_S:  # ten tenths are a little less than one
            return False
        self._tokens -= 1.0
        return True

    def _refill(self, now: float) -> None:
        if self._at is not None and now > self._at:
            self._tokens = min(BUDGET_MAX, self._tokens + (now - self._at) * BUDGET_PER_S)
        self._at = now if self._at is None else max(now, self._at)


class BreakerPolicy(msgspec.Struct, frozen=True):
    """Opens when, within `window_s`, at least `calls_min` came back and `failure_ratio` of them were faults; for `open_for_s`."""

    window_s: float = 30.0
    calls_min: int = 20
    failure_ratio: float = 0.5
    open_for_s: float = 15.0


class Breaker:
    """Closed, open, or half-open with one probe at a time. Every `allow` that said yes is followed by `record` or `forget`.

    `allow` gives a ticket, good until the breaker next opens or closes: what was begun before that says nothing about now, and must
    neither decide the probe's question nor free its place.
    """

    __slots__ = ("_buckets", "_open_until", "_policy", "_probing", "_ticket")

    def __init__(self, policy: BreakerPolicy) -> None:
        self._policy = policy
        self._buckets: deque[list[float]] = deque()  # [since, faults, calls], oldest first
        self._open_until: float | None = None
        self._probing = False
        self._ticket = 1

    def retry_after(self, now: float) -> float:
        """Seconds until it is worth asking `allow` again; 0.0 if it is now."""
        if self._open_until is None:
            return 0.0
        if now < self._open_until:
            return self._open_until - now
        return self._policy.open_for_s / BUCKETS if self._probing else 0.0

    def allow(self, now: float) -> int:
        """A ticket if the provider may be asked now, else 0. Half-open, this takes the one probe's place."""
        if self._open_until is not None:
            if now < self._open_until or self._probing:
                return 0
            self._probing = True
        return self._ticket

    def record(self, now: float, *, failure: bool, ticket: int | None = None) -> None:
        """The provider did its part, or did not. Without a `ticket` it is taken for one of now."""
        if self._is_stale(now, ticket):
            return
        if self._open_until is not None:
            if failure:
                self._open(now)
            else:
                self._close()
            return
        buckets = self._buckets
        if not buckets or now - buckets[-1][0] >= self._policy.window_s / BUCKETS:
            buckets.append([now, 0.0, 0.0])
        while now - buckets[0][0] >= self._policy.window_s:
            buckets.popleft()
        buckets[-1][1] += failure
        buckets[-1][2] += 1
        if failure:  # a call that went well is no reason to open, whatever has left the window since the last fault
            calls = sum(bucket[2] for bucket in buckets)
            faults = sum(bucket[1] for bucket in buckets)
            if calls >= self._policy.calls_min and faults >= calls * self._policy.failure_ratio:
                self._open(now)

    def forget(self, now: float, ticket: int | None = None) -> None:
        """What was allowed did not happen, or says nothing about the provider: a probe gives its place back."""
        if not self._is_stale(now, ticket):
            self._probing = False

    def _is_stale(self, now: float, ticket: int | None) -> bool:
        if ticket is not None:
            return ticket != self._ticket
        return self._open_until is not None and now < self._open_until

    def _open(self, now: float) -> None:
        self._open_until = now + self._policy.open_for_s
        self._turn()

    def _close(self) -> None:
        self._open_until = None
        self._turn()

    def _turn(self) -> None:
        self._ticket += 1
        self._probing = False
        self._buckets.clear()


def backoff_s(index: int, random: float, throttled: bool, retry_after_s: float) -> float:
    """Full jitter: `random` times the doubled base, but no less than what the provider asked for. `index` 0 is the first retry."""
    base_s = BACKOFF_THROTTLED_BASE_S if throttled else BACKOFF_BASE_S
    return max(retry_after_s, random * min(BACKOFF_MAX_S, base_s * 2.0 ** min(index, 16)))
