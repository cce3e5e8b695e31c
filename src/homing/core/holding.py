"""What a worker holds in its hands: one copy of a call each, and each provider's limits as they stand."""

from collections import deque
from typing import Literal, TypeAlias

import msgspec

from homing.core.limits import Breaker, BreakerPolicy, Gcra, Rate, RetryBudget
from homing.core.machine import Peer
from homing.core.messages import Final, Request
from homing.errors import Attempt, Outcome

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
    """What the worker must know of a method. `deadline_s` is its usual one; `reserve_s` is kept back for the lookup."""

    provider: str
    deadline_s: float = 100.0
    has_lookup: bool = False
    reserve_s: float = 5.0


class Asked:
    """One provider's limits as they stand."""

    __slots__ = ("breaker", "budget", "in_flight", "policy", "rate", "waiting")

    def __init__(self, policy: ProviderPolicy) -> None:
        self.policy = policy
        self.rate = Gcra(policy.rate) if policy.rate is not None else None
        self.breaker = Breaker(policy.breaker)
        self.budget = RetryBudget()
        self.in_flight = 0
        self.waiting: deque[bytes] = deque()


class Held:
    """One copy of a call in this worker's hands."""

    __slots__ = (
        "attempts",
        "broker",
        "claim",
        "claimed_at",
        "deadline",
        "exchange_deadline",
        "final",
        "granted_at",
        "has_slot",
        "joined",
        "method",
        "number",
        "paid",
        "phase",
        "probing",
        "provider",
        "refreshed",
        "request",
        "started_at",
    )

    def __init__(self, request: Request, broker: Peer, method: MethodPolicy, provider: Asked, deadline: float) -> None:
        self.request = request
        self.broker = broker
        self.method = method
        self.provider = provider
        self.deadline = deadline
        self.exchange_deadline = deadline
        self.phase: Phase = "slot"
        self.has_slot = False
        self.paid = False  # the rate token is taken
        self.probing = False  # the breaker let it through, and wants to hear how it went
        self.refreshed = False  # the access token has been renewed once for this call
        self.claim = 0
        self.claimed_at = 0.0
        self.granted_at: float | None = None
        self.number = 0
        self.started_at = 0.0
        self.attempts: tuple[Attempt, ...] = ()
        self.joined: Outcome | None = None
        self.final: Final | None = None
