"""Whether a provider is asked again, and when: one layer, inside the one deadline, on a budget."""

from collections.abc import Callable

from homing.core.holding import Held
from homing.core.limits import backoff_s
from homing.core.scalars import path_under
from homing.errors import Outcome, failure

# What time may mend. 409 is among the failed: under a key it means that the first request is still at work.
MENDABLE = frozenset({"provider_unreachable", "provider_throttled", "connection_lost", "provider_failed", "provider_timeout"})
PROVIDER_FAULTS = frozenset(
    {"provider_unreachable", "connection_lost", "provider_failed", "provider_timeout", "response_invalid", "response_too_large"}
)


def record(held: Held, outcome: Outcome, now: float) -> None:
    """Tell the breaker what the provider did; what callers sent wrong or cut short is not its doing."""
    breaker, ticket, reason = held.provider.breaker, held.ticket, outcome.reason
    held.ticket = 0
    if reason == "ok":
        breaker.record(now, failure=False, ticket=ticket)
        return
    slow = reason == "deadline_exceeded" and now - held.started_at >= held.method.deadline_s / 2
    if slow or reason in PROVIDER_FAULTS:
        breaker.record(now, failure=True, ticket=ticket)
    elif reason == "provider_refused":
        breaker.record(now, failure=False, ticket=ticket)
    else:
        breaker.forget(now, ticket)


def pause_s(held: Held, outcome: Outcome, mean_s: float, random: Callable[[], float], now: float) -> float | None:
    """How long to wait before the next attempt; None if there is to be none."""
    joined = held.joined or outcome
    if joined.executed == "yes" or (joined.executed == "unknown" and held.request.effect == "once"):
        return None
    if held.request.attempts + len(held.attempts) >= held.provider.policy.attempts_max or not outcome.again:
        return None
    left_s = held.exchange_deadline - now - mean_s
    if outcome.reason == "provider_denied":  # with a fresh access token: at once, and once
        if held.refreshed or left_s < 0:
            return None
        held.refreshed = True
        return 0.0
    if outcome.reason not in MENDABLE:
        return None
    if outcome.reason == "provider_failed" and outcome.status is not None and 300 <= outcome.status < 400:
        return None  # a redirect stays one
    retry_after_s = outcome.retry_after_ms / 1000 if outcome.retry_after_ms is not None else 0.0
    wait_s = backoff_s(len(held.attempts) - 1, random(), outcome.reason == "provider_throttled", retry_after_s)
    if (
        joined.executed == "unknown"
        and held.request.effect == "keyed"
        and _key_age_s(held, now) + wait_s >= held.method.key_lifetime_s
    ):
        return None  # the provider may have forgotten the key, and would do it again
    return wait_s if left_s >= wait_s and held.provider.budget.take(now) else None


def _key_age_s(held: Held, now: float) -> float:
    """Since when the provider may have seen the key, at the most, as far as this worker knows."""
    return now - held.granted_at if held.granted_at is not None else 0.0


def in_doubt(held: Held) -> bool:
    """Whether it is unknown if the provider carried the call out, in this dispatch or an earlier one."""
    joined = held.joined
    if joined is not None and (joined.executed != "no" or (held.request.effect == "keyed" and joined.settles_earlier)):
        return joined.executed == "unknown"
    return held.request.executed == "unknown"


def circuit_open(held: Held, wait_s: float) -> Outcome:
    """The breaker is open for so long."""
    name = held.method.provider
    return failure(
        "circuit_open",
        f"Provider {name!r} failed too often of late; it is asked again in {wait_s:.1f} s.",
        retry_after_ms=max(1, int(wait_s * 1000)),
        limit=f"{path_under('providers', name)}.breaker",
    )


def rate_limited(held: Held, wait_s: float) -> Outcome:
    """The next rate token comes too late."""
    name = held.method.provider
    return failure(
        "rate_limited",
        f"Our rate towards provider {name!r} is used up beyond this call's deadline.",
        retry_after_ms=max(1, int(wait_s * 1000)),
        limit=f"{path_under('providers', name)}.rate",
    )
