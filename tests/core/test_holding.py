"""What a worker holds: a copy, and a provider's limits as they stand."""

from typing import Any

import pytest

from homing.core.holding import Asked, Held, MethodPolicy, ProviderPolicy, due, next_broker
from homing.core.limits import Rate
from homing.core.machine import Finished
from homing.core.messages import Final
from homing.errors import Outcome
from tests.core.people import BACKUP, BROKER, ONE, A, lost, request, unreachable


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


def test_an_exchange_counts_the_attempts_of_earlier_dispatches_too() -> None:
    held = Held(request(attempts=1), BROKER, MethodPolicy(provider="acme"), Asked(ProviderPolicy()), 10.0, 10.0, number=3)
    held.granted_at, held.started_at = 1.0, 1.5
    held.attempted(Finished(A, 3, unreachable(), "its id"), 2.0)
    (attempt,) = held.attempts
    assert (attempt.started_ms, attempt.duration_ms, attempt.reason) == (500, 500, "provider_unreachable")
    assert (attempt.provider, attempt.provider_request_id) == ("acme", "its id")
    assert held.joined == unreachable()
    held.attempted(Finished(A, 3, lost()), 2.5)
    assert held.joined == lost()
    start = held.start(9.0, "deadline_exceeded", lookup=True)
    assert (start.number, start.attempt, start.deadline, start.late, start.lookup) == (3, 4, 9.0, "deadline_exceeded", True)


def test_callers_are_told_another_name_than_the_provider_has_inside_where_there_is_one() -> None:
    policy = MethodPolicy(provider="reports:processes", told="reports")
    held = Held(request(), BROKER, policy, Asked(ProviderPolicy()), 10.0, 10.0, granted_at=1.0)
    held.attempted(Finished(A, 0, unreachable()), 2.0)
    assert [attempt.provider for attempt in held.attempts] == ["reports"]


def test_what_is_due_is_taken_out_the_earliest_first() -> None:
    instants = {b"one": 1.0, b"two": 2.0, b"three": 3.0}
    assert due(instants, 0.5) == []
    assert due(instants, 2.0) == [b"one", b"two"]
    assert instants == {b"three": 3.0}
    assert due(instants, 9.0) == [b"three"]


def finished(broker: bytes = BROKER) -> Held:
    policy = MethodPolicy(provider="acme")
    held = Held(request(A), broker, policy, Asked(ProviderPolicy()), 9.0, 9.0)
    held.final = Final(A, ONE, 1, Outcome(reason="ok", executed="yes", result=b"1" * 1000))
    return held


@pytest.mark.parametrize(
    ("brokers", "told"),
    [((BROKER, BACKUP), BACKUP), ((BACKUP, BROKER), BACKUP), ((BROKER,), BROKER), ((), BROKER), ((BACKUP,), BROKER)],
    ids=["the next", "the first after the last", "itself alone", "nobody", "one that is gone is left to who sends"],
)
def test_an_outcome_goes_to_each_broker_in_turn(brokers: tuple[bytes, ...], told: bytes) -> None:
    assert next_broker(finished(), brokers, lambda broker: 10_000) == told


def test_an_outcome_passes_by_a_broker_that_reads_only_smaller_frames() -> None:
    reads = {BROKER: 10, BACKUP: 999, b"third": 10_000}
    assert next_broker(finished(), reads, reads.__getitem__) == b"third"
    assert next_broker(finished(b"third"), reads, reads.__getitem__) == b"third"
