"""What a worker holds: a copy, and a provider's limits as they stand."""

from typing import Any

import pytest

from homing.core.holding import Asked, Held, MethodPolicy, ProviderPolicy
from homing.core.limits import Rate
from tests.core.people import BROKER, request


def test_a_provider_without_a_rate_has_none() -> None:
    assert Asked(ProviderPolicy()).rate is None


def test_a_provider_with_a_rate_counts_it() -> None:
    asked = Asked(ProviderPolicy(rate=Rate(limit=1, per_s=2.0, burst=1)))
    assert asked.rate is not None
    assert asked.rate.reserve(0.0, 9.0) == 0.0
    assert asked.rate.reserve(0.0, 9.0) == 2.0


def test_a_provider_begins_with_nothing_in_flight_and_a_full_budget() -> None:
    asked = Asked(ProviderPolicy())
    assert (asked.in_flight, len(asked.waiting)) == (0, 0)
    assert [asked.budget.take(0.0) for _ in range(11)] == [True] * 10 + [False]
    assert asked.breaker.allow(0.0)


def test_two_providers_share_nothing() -> None:
    one, other = Asked(ProviderPolicy()), Asked(ProviderPolicy())
    one.waiting.append(b"call")
    assert not other.waiting


@pytest.mark.parametrize("policy", [MethodPolicy(provider="acme"), ProviderPolicy()])
def test_a_policy_cannot_be_changed(policy: Any) -> None:
    with pytest.raises(AttributeError):
        policy.attempts_max = 9


def test_a_copy_in_hand_has_nothing_yet_but_its_deadline() -> None:
    held = Held(request(), BROKER, MethodPolicy(provider="acme"), Asked(ProviderPolicy()), 10.0, 10.0)
    assert held.phase == "slot"
    assert not held.has_slot
    assert held.granted_at is None
    assert held.attempts == ()
    assert held.final is None
