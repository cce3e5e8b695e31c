"""What a worker holds in its hands: one copy of a call each, and each provider's limits as they stand."""

from collections import deque
from collections.abc import Callable, Iterable
from math import inf
from typing import Literal, TypeAlias

import msgspec

from homing.core.limits import Breaker, BreakerPolicy, Rate, RateLine, RetryBudget
from homing.core.machine import Finished, Peer, Start
from homing.core.messages import Final, Request
from homing.errors import Attempt, Outcome, join

UTF8_BYTES_MAX = 4  # of a character

Phase: TypeAlias = Literal["slot", "rate", "token", "claiming", "running", "pausing", "looking", "finished"]


class ProviderPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How one provider may be asked. `attempt_timeout_s` None: the deadline is the only bound."""

    in_flight_max: int = 64
    rate: Rate | None = None
    attempts_max: int = 3
    attempt_timeout_s: float | None = None
    breaker: BreakerPolicy = BreakerPolicy()
    needs_token: bool = False


class MethodPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """What the worker must know of a method. `deadline_s` is its usual one; `reserve_s` is kept back for the lookup.

    `told` is what callers hear of who was asked; "": the provider's name.
    """

    provider: str
    told: str = ""
    deadline_s: float = 100.0
    has_lookup: bool = False
    reserve_s: float = 5.0
    key_lifetime_s: float = inf  # how long the provider knows a keyed call again


class Asked:
    """One provider's limits as they stand."""

    __slots__ = ("admitting", "breaker", "budget", "in_flight", "policy", "rate", "waiting")

    def __init__(self, policy: ProviderPolicy) -> None:
        self.policy = policy
        self.rate = RateLine(policy.rate) if policy.rate is not None else None
        self.breaker = Breaker(policy.breaker)
        self.budget = RetryBudget()
        self.in_flight = 0
        self.waiting: deque[bytes] = deque()
        self.admitting = False  # free slots are being given to those who wait


class Held(msgspec.Struct, gc=False):
    """One copy of a call in this worker's hands."""

    request: Request
    broker: Peer
    method: MethodPolicy
    provider: Asked
    deadline: float
    exchange_deadline: float
    phase: Phase = "slot"
    has_slot: bool = False
    paid: bool = False  # the rate token is taken
    ticket: int = 0  # the breaker let it through, and wants to hear how it went
    refreshed: bool = False  # the access token has been renewed once for this call
    claim: int = 0
    claimed_at: float = 0.0
    granted_at: float | None = None
    number: int = 0
    started_at: float = 0.0
    attempts: tuple[Attempt, ...] = ()
    joined: Outcome | None = None
    final: Final | None = None

    def start(self, deadline: float, late: str, *, lookup: bool = False) -> Start:
        """The exchange of the present number."""
        request = self.request
        return Start(
            call_id=request.call_id,
            number=self.number,
            attempt=request.attempts + len(self.attempts) + 1,
            method=request.method,
            provider=self.method.provider,
            effect=request.effect,
            principal=request.principal,
            key=request.key,
            body=request.body,
            deadline=deadline,
            late=late,
            lookup=lookup,
        )

    def attempted(self, event: Finished, now: float) -> None:
        """An exchange has ended: one more attempt to tell of."""
        assert self.granted_at is not None, "it ran"
        outcome = event.outcome
        self.attempts += (
            Attempt(
                provider=self.method.told or self.method.provider,
                started_ms=round((self.started_at - self.granted_at) * 1000),
                duration_ms=round((now - self.started_at) * 1000),
                reason=outcome.reason,
                executed=outcome.executed,
                status=outcome.status,
                provider_request_id=event.provider_request_id,
            ),
        )
        joined = outcome if self.joined is None else join(self.joined, outcome, self.request.effect)
        if joined.retry_after_ms != outcome.retry_after_ms:  # when to come again is the last one's to say
            joined = msgspec.structs.replace(joined, retry_after_ms=outcome.retry_after_ms)
        self.joined = joined


def frame_bytes(outcome: Outcome) -> int:
    """How large the larger of its two frames is, at most. What every header has is left out: engines have room for that."""
    header = len(outcome.body or b"") + len(outcome.detail or b"") + UTF8_BYTES_MAX * len(outcome.message)
    for error in outcome.errors:
        header += UTF8_BYTES_MAX * (len(error.path) + len(error.message))
    return max(len(outcome.result), header)


def too_large(outcome: Outcome, bytes_max: int) -> Outcome:
    """What is told instead of an outcome that cannot be carried. What it proves, it proves all the same."""
    return msgspec.structs.replace(
        outcome,
        reason="response_too_large",
        message=f"The outcome does not fit into the {bytes_max} bytes that a frame may have on its way.",
        limit="broker.frame_bytes_max",
        result=b"",
        body=None,
        body_truncated=outcome.body is not None,
        detail=None,
        code=None,
        errors=(),
    )


def next_broker(held: Held, brokers: Iterable[Peer], reads: Callable[[Peer], int]) -> Peer:
    """To whom an outcome goes next that is not seen: to each in turn, for not every one need reach its gateway.

    Only to those that read so large a frame: what the one carries must not be cut short for the other.
    """
    assert held.final is not None, "it has finished"
    size = frame_bytes(held.final.outcome)
    others = [broker for broker in brokers if broker == held.broker or size <= reads(broker)]
    return others[(others.index(held.broker) + 1) % len(others)] if held.broker in others else held.broker


def due(instants: dict[bytes, float], now: float) -> list[bytes]:
    """Take out what is due. The earliest stand first, for each was put there a fixed time before."""
    calls: list[bytes] = []
    for call_id, instant in instants.items():
        if instant > now:
            break
        calls.append(call_id)
    for call_id in calls:
        del instants[call_id]
    return calls
