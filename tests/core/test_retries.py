"""Whether a provider is asked again, and when: for each effect and each end of an attempt."""

import pytest

from homing.core.holding import Asked, Held, MethodPolicy, ProviderPolicy
from homing.core.limits import BreakerPolicy, Rate
from homing.core.retries import MENDABLE, circuit_open, in_doubt, pause_s, rate_limited, record
from homing.errors import ROWS, Attempt, Effect, Outcome, Verdict, failure, join
from tests.core.people import BROKER, OK, request

HALF = 0.5
AN_ATTEMPT = Attempt(provider="acme", started_ms=0, duration_ms=1, reason="connection_lost", executed="unknown")


def held(effect: Effect = "safe", *, attempts: int = 0, executed: Verdict = "no", deadline: float = 100.0, **policy) -> Held:
    """A copy whose `attempts` earlier ones were made by another worker; it is about to have made its own first."""
    asked = request(effect=effect, attempts=attempts, executed=executed)
    copy = Held(asked, BROKER, MethodPolicy(provider="acme"), Asked(ProviderPolicy(**policy)), deadline, deadline)
    copy.granted_at = 0.0
    return copy


def after(copy: Held, *outcomes: Outcome, mean_s: float = 0.0, now: float = 0.0) -> float | None:
    """What is said after the last of these attempts."""
    said = None
    for outcome in outcomes:
        copy.attempts += (AN_ATTEMPT,)
        copy.joined = join(copy.joined, outcome, copy.request.effect)
        said = pause_s(copy, outcome, mean_s, lambda: HALF, now)
    return said


def ended(reason: str, **fields) -> Outcome:
    return Outcome(**({"reason": reason, "executed": ROWS[reason].executed} | fields))


PROVEN_NO = [reason for reason in sorted(MENDABLE) if ROWS[reason].executed == "no"]
UNKNOWN = [reason for reason in sorted(MENDABLE) if ROWS[reason].executed == "unknown"]
HOPELESS = sorted(set(ROWS) - MENDABLE)


def test_what_time_may_mend_is_unreachable_throttled_lost_failed_and_timed_out() -> None:
    expected = {"provider_unreachable", "provider_throttled", "connection_lost", "provider_failed", "provider_timeout"}
    assert expected == MENDABLE


@pytest.mark.parametrize("effect", ["once", "keyed", "safe"])
@pytest.mark.parametrize("reason", PROVEN_NO)
def test_after_a_proven_no_every_effect_is_asked_again(effect: Effect, reason: str) -> None:
    assert after(held(effect), ended(reason)) is not None


@pytest.mark.parametrize("reason", UNKNOWN)
def test_after_an_unknown_once_is_never_asked_again(reason: str) -> None:
    assert after(held("once"), ended(reason)) is None


@pytest.mark.parametrize("effect", ["keyed", "safe"])
@pytest.mark.parametrize("reason", UNKNOWN)
def test_after_an_unknown_keyed_and_safe_are_asked_again(effect: Effect, reason: str) -> None:
    assert after(held(effect), ended(reason)) is not None


@pytest.mark.parametrize("effect", ["once", "keyed", "safe"])
@pytest.mark.parametrize("reason", HOPELESS)
def test_what_time_cannot_mend_is_not_asked_again(effect: Effect, reason: str) -> None:
    assert after(held(effect), ended(reason, again=False)) is None
    if reason != "provider_denied":  # with a fresh token: see below
        assert after(held(effect), ended(reason)) is None


def test_a_keyed_call_is_not_asked_again_once_the_provider_may_have_forgotten_the_key() -> None:
    """It would be done twice. The next pause is 25 ms long."""
    lost, refused = ended("connection_lost"), ended("provider_unreachable")
    copy = held("keyed")
    copy.method = MethodPolicy(provider="acme", key_lifetime_s=2.0)
    assert after(copy, lost, now=1.97) == pytest.approx(0.025)
    assert pause_s(copy, lost, 0.0, lambda: HALF, 1.99) is None
    fresh = held("keyed")
    fresh.method = copy.method
    assert after(fresh, refused, now=5.0) is not None, "no byte of it has left: it has not seen the key"
    safe = held("safe")
    safe.method = copy.method
    assert after(safe, lost, now=5.0) is not None


def test_a_proven_no_marked_once_unknown_by_a_row_stops_a_once_call() -> None:
    assert after(held("once"), ended("provider_throttled", executed="unknown")) is None


@pytest.mark.parametrize("effect", ["once", "keyed", "safe"])
def test_after_a_proven_yes_nothing_is_asked_again(effect: Effect) -> None:
    assert after(held(effect), ended("provider_failed", executed="yes")) is None


def test_a_row_that_says_retry_false_is_obeyed() -> None:
    assert after(held("safe"), ended("provider_failed", again=False)) is None


def test_a_keyed_409_waits_and_is_asked_again() -> None:
    assert after(held("keyed"), ended("provider_failed", status=409)) == HALF * 0.05


def test_a_keyed_422_stops() -> None:
    assert after(held("keyed"), ended("connection_lost"), ended("provider_refused", status=422)) is None


@pytest.mark.parametrize("status", [300, 307, 399])
@pytest.mark.parametrize("effect", ["keyed", "safe"])
def test_a_redirect_stays_one(effect: Effect, status: int) -> None:
    assert after(held(effect), ended("provider_failed", status=status)) is None


@pytest.mark.parametrize("effect", ["once", "keyed", "safe"])
def test_a_redirect_that_a_row_of_ones_own_calls_throttled_is_throttled(effect: Effect) -> None:
    assert after(held(effect), ended("provider_throttled", status=307)) == HALF * 1.0


@pytest.mark.parametrize("reason", ["connection_lost", "provider_timeout"])
def test_a_redirect_that_broke_off_is_none_yet(reason: str) -> None:
    assert after(held("safe"), ended(reason, status=302)) is not None


@pytest.mark.parametrize("status", [299, 400, 503])
def test_other_failures_are_no_redirects(status: int) -> None:
    assert after(held("safe"), ended("provider_failed", status=status)) is not None


# How often


def test_three_attempts_at_most() -> None:
    assert after(held(), ended("connection_lost"), ended("connection_lost")) is not None
    assert after(held(), ended("connection_lost"), ended("connection_lost"), ended("connection_lost")) is None


@pytest.mark.parametrize(("earlier", "again"), [(0, True), (1, True), (2, False), (3, False)])
def test_earlier_dispatches_count(earlier: int, again: bool) -> None:
    assert (after(held(attempts=earlier), ended("connection_lost")) is not None) is again


def test_a_provider_may_allow_one_attempt_only() -> None:
    assert after(held(attempts_max=1), ended("connection_lost")) is None


def test_retries_have_a_budget() -> None:
    asked = Asked(ProviderPolicy())
    made = 0
    for _ in range(20):
        copy = held()
        copy.provider = asked
        made += after(copy, ended("connection_lost")) is not None
    assert made == 10


# When


def test_back_off_doubles_with_full_jitter() -> None:
    copy = held(attempts_max=9)
    waits = [after(copy, ended("connection_lost")) for _ in range(4)]
    assert waits == [HALF * 0.05, HALF * 0.1, HALF * 0.2, HALF * 0.4]


def test_a_throttled_call_waits_longer() -> None:
    assert after(held(), ended("provider_throttled")) == HALF * 1.0


def test_retry_after_is_a_lower_bound() -> None:
    assert after(held(), ended("provider_throttled", retry_after_ms=7000)) == 7.0
    assert after(held(), ended("provider_throttled", retry_after_ms=1)) == HALF * 1.0


def test_a_retry_after_that_does_not_fit_the_deadline_ends_the_call_now() -> None:
    assert after(held(deadline=7.0), ended("provider_throttled", retry_after_ms=7001)) is None
    assert after(held(deadline=7.0), ended("provider_throttled", retry_after_ms=7000)) == 7.0


def test_no_attempt_begins_when_less_remains_than_back_off_and_the_methods_mean() -> None:
    assert after(held(deadline=1.0), ended("connection_lost"), mean_s=0.976) is None
    assert after(held(deadline=1.0), ended("connection_lost"), mean_s=0.975) == HALF * 0.05


def test_what_remains_counts_from_now() -> None:
    assert after(held(deadline=9.0), ended("connection_lost"), mean_s=0.97, now=8.0) == HALF * 0.05
    assert after(held(deadline=9.0), ended("connection_lost"), mean_s=0.98, now=8.0) is None


def test_what_does_not_fit_costs_no_budget() -> None:
    copy = held(deadline=1.0)
    for _ in range(20):
        assert after(held(deadline=0.0), ended("connection_lost")) is None
    assert after(copy, ended("connection_lost")) is not None


# Our credentials


def test_a_denied_call_is_asked_again_at_once_with_a_fresh_token_and_only_once() -> None:
    copy = held("once")
    assert after(copy, ended("provider_denied")) == 0.0
    assert after(copy, ended("provider_denied")) is None


def test_a_denied_call_whose_token_cannot_be_renewed_is_not_asked_again() -> None:
    assert after(held(), ended("provider_denied", again=False)) is None


def test_a_fresh_token_is_no_fourth_attempt() -> None:
    assert after(held(), ended("provider_unreachable"), ended("provider_unreachable"), ended("provider_denied")) is None


def test_a_fresh_token_is_no_attempt_without_time() -> None:
    assert after(held(deadline=1.0), ended("provider_denied"), mean_s=1.1) is None


def test_a_fresh_token_costs_no_budget() -> None:
    """A token that is revoked meets every call in flight at once."""
    asked = Asked(ProviderPolicy())
    for _ in range(64):
        copy = held()
        copy.provider = asked
        assert after(copy, ended("provider_denied")) == 0.0


# Doubt


def test_a_call_is_in_doubt_after_an_unknown_attempt() -> None:
    for executed, doubt in (("no", False), ("unknown", True), ("yes", False)):
        copy = held("once")
        copy.joined = ended("provider_failed", executed=executed)
        assert in_doubt(copy) is doubt


def test_an_earlier_dispatch_leaves_a_call_in_doubt() -> None:
    copy = held("keyed", attempts=1, executed="unknown")
    copy.joined = ended("provider_unreachable")
    assert in_doubt(copy)


def test_a_refusal_by_a_row_of_ones_own_lifts_the_doubt_of_a_keyed_call_only() -> None:
    cases: list[tuple[Effect, bool]] = [("keyed", False), ("safe", True)]
    for effect, doubt in cases:
        copy = held(effect, attempts=1, executed="unknown")
        copy.joined = ended("provider_refused", settles_earlier=True)
        assert in_doubt(copy) is doubt


# The breaker


def tripping(**policy) -> Held:
    """One fault opens this breaker, for 15 s."""
    copy = held(breaker=BreakerPolicy(calls_min=1, failure_ratio=0.5), **policy)
    copy.ticket = copy.provider.breaker.allow(0.0)
    return copy


FAULTS = [
    "provider_unreachable",
    "connection_lost",
    "provider_failed",
    "provider_timeout",
    "response_invalid",
    "response_too_large",
]


@pytest.mark.parametrize("reason", FAULTS)
def test_the_breaker_counts_what_the_provider_did(reason: str) -> None:
    copy = tripping()
    record(copy, ended(reason), 0.0)
    assert copy.provider.breaker.retry_after(0.0) == 15.0
    assert copy.ticket == 0


@pytest.mark.parametrize("reason", sorted(set(ROWS) - set(FAULTS)))
def test_the_breaker_does_not_count_what_callers_sent_or_cut_short(reason: str) -> None:
    copy = tripping()
    record(copy, ended(reason), 0.0)
    assert copy.provider.breaker.retry_after(0.0) == 0.0
    assert copy.ticket == 0


@pytest.mark.parametrize("outcome", [OK, ended("provider_refused")], ids=["ok", "refused"])
def test_the_breaker_counts_what_went_well(outcome: Outcome) -> None:
    copy = held(breaker=BreakerPolicy(calls_min=2, failure_ratio=0.5))
    for end in (outcome, ended("connection_lost")):
        copy.ticket = copy.provider.breaker.allow(0.0)
        record(copy, end, 0.0)
    assert copy.provider.breaker.retry_after(0.0) == 15.0


@pytest.mark.parametrize(("took_s", "fault"), [(49.9, False), (50.0, True)])
def test_a_deadline_ended_by_a_slow_provider_is_its_fault(took_s: float, fault: bool) -> None:
    """Half the method's usual deadline is slow; less may be the caller's hurry."""
    copy = tripping()
    copy.started_at = 10.0
    record(copy, ended("deadline_exceeded"), 10.0 + took_s)
    assert (copy.provider.breaker.retry_after(10.0 + took_s) > 0) is fault


@pytest.mark.parametrize(
    ("outcome", "open_again"), [(OK, False), (ended("provider_refused"), False), (ended("connection_lost"), True)]
)
def test_a_probe_decides_whether_the_breaker_closes(outcome: Outcome, open_again: bool) -> None:
    copy = tripping()
    record(copy, ended("connection_lost"), 0.0)
    copy.ticket = copy.provider.breaker.allow(15.0)
    record(copy, outcome, 15.0)
    assert (copy.provider.breaker.retry_after(15.0) > 0) is open_again


def test_a_probe_that_says_nothing_gives_its_place_back() -> None:
    copy = tripping()
    record(copy, ended("connection_lost"), 0.0)
    copy.ticket = copy.provider.breaker.allow(15.0)
    assert not copy.provider.breaker.allow(15.0)
    record(copy, ended("provider_throttled"), 15.0)
    assert copy.provider.breaker.allow(15.0)


# What is said


def test_an_open_circuit_says_when_to_come_again_and_names_itself() -> None:
    assert circuit_open(held(), 1.5) == failure(
        "circuit_open",
        "Provider 'acme' failed too often of late; it is asked again in 1.5 s.",
        retry_after_ms=1500,
        limit="providers.acme.breaker",
    )
    assert circuit_open(held(), 0.0).retry_after_ms == 1


def test_a_rate_that_is_used_up_says_when_to_come_again_and_names_itself() -> None:
    said = rate_limited(held(rate=Rate(limit=1, per_s=1.0, burst=1)), 2.0)
    assert (said.reason, said.executed, said.retry_after_ms, said.limit) == ("rate_limited", "no", 2000, "providers.acme.rate")
    assert rate_limited(held(), 0.0).retry_after_ms == 1
