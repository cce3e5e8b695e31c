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

    __slots__ = ("admitting", "breaker", "budget", "in_flight", "policy", "rate", "waiting")

    def __init__(self, policy: ProviderPolicy) -> None:
        self.policy = policy
        self.rate = Gcra(policy.rate) if policy.rate is not None else None
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
