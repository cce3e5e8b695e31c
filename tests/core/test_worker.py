"""The worker's machine: everything in hand, then the claim; one grant, one outcome; and it is held until it is seen."""

from typing import Any

import msgspec
import pytest

from homing.core import worker as worker_module
from homing.core.holding import MethodPolicy, ProviderPolicy
from homing.core.limits import BreakerPolicy, Rate
from homing.core.machine import (
    Abandoned,
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
    Hello,
    Lost,
    LostSeen,
    MethodOffer,
    Ready,
    Reject,
    Release,
    Settled,
)
from homing.core.worker import Worker
from homing.errors import Effect, Outcome, ParamError, failure
from tests.core.people import (
    BACKUP,
    BROKER,
    BROKER_LIFE,
    GATEWAY,
    OK,
    ONE,
    TWO,
    A,
    B,
    C,
    call_id,
    lost,
    request,
    submitted,
    unreachable,
)
from tests.core.playbook import Playbook, Said, like

ONE_AT_A_TIME: dict[str, Any] = {"in_flight_max": 1}
TRIPS_AT_ONCE = BreakerPolicy(calls_min=1)
NOT_FOUND = failure("provider_refused", "not found")
WAITING = ("slot", "rate", "token", "pausing")
D = call_id(4)


def consistent(worker: Worker) -> None:
    """What must be true of the tables between any two events."""
    for provider in worker._providers.values():
        here = [held for held in worker._held.values() if held.provider is provider]
        assert provider.in_flight == sum(held.has_slot for held in here)
        assert provider.in_flight <= provider.policy.in_flight_max
        assert list(provider.waiting) == [held.request.call_id for held in here if not held.has_slot and held.phase == "slot"]
        assert not provider.waiting or provider.in_flight == provider.policy.in_flight_max, "a free slot with calls waiting"
        in_line = provider.rate._waiting if provider.rate is not None else {}
        assert in_line == {worker._timers[held.request.call_id]: held.request.call_id for held in here if held.phase == "rate"}
    held_bytes = 0
    for call, held in worker._held.items():
        assert held.request.call_id == call
        assert (held.phase == "finished") == (held.final is not None) == (call in worker._finished)
        assert (held.phase == "claiming") == (call in worker._claiming)
        assert (held.phase in WAITING) == (call in worker._timers), held.phase
        assert held.has_slot == (held.phase not in ("slot", "finished"))
        assert held.granted_at is not None or held.phase in ("slot", "rate", "token", "claiming")
        assert bool(held.ticket) == (held.phase in ("claiming", "running"))
        held_bytes += held.final.outcome.held_bytes if held.final else 0
    assert worker.outcomes_held_bytes == held_bytes <= worker._outcomes_held_bytes_max
    assert len(worker) == len(worker._held)
    assert worker._finished.keys() | worker._claiming.keys() <= worker._held.keys()
    assert list(worker._claiming.values()) == sorted(worker._claiming.values())
    assert list(worker._finished.values()) == sorted(worker._finished.values())


def worker(
    *,
    services: dict[str, int] | None = None,
    method: dict | None = None,
    heartbeat_s: float = 0.0,
    brokers: tuple[bytes, ...] = (BROKER,),
    outcomes_held_bytes_max: int = 1000,
    offers: tuple[MethodOffer, ...] = (),
    **policy,
) -> Playbook[Worker]:
    """A worker for one provider, two methods and, if asked for, two services. Its brokers have said who they are."""
    machine = Worker(
        ONE,
        services=services or {"acme": 8},
        methods={
            "acme.charge": MethodPolicy(provider="acme", **(method or {})),
            "acme.other": MethodPolicy(provider="acme"),
            "bank.pay": MethodPolicy(provider="bank"),
        },
        providers={"acme": ProviderPolicy(**policy), "bank": ProviderPolicy()},
        random=lambda: 0.5,
        heartbeat_s=heartbeat_s,
        outcomes_held_bytes_max=outcomes_held_bytes_max,
        offers=offers,
        frame_bytes_max=100_000,
    )
    play = Playbook(machine, check=consistent)
    for broker in brokers:
        play.hears(PeerFound(broker)).says_among_others(Send(broker, like(Ready, interval_ms=int(heartbeat_s * 1000))))
        if heartbeat_s:
            play.gets(broker, beat()).says_nothing()
    return play


def beat(life: bytes = BROKER_LIFE, **fields: Any) -> Heartbeat:
    given: dict[str, Any] = {"life": life, "peer_life": ONE, "sent": 0, "received": 0}
    return Heartbeat(**(given | fields))


def claiming(call: bytes = A, *, effect: Effect = "once", asked: dict | None = None, **fields) -> Playbook[Worker]:
    """It has been given a call, and asks whether it may begin."""
    play = worker(**fields)
    play.gets(BROKER, request(call, effect=effect, **(asked or {}))).says(Send(BROKER, Claim(call, ONE, 1)))
    return play


def running(call: bytes = A, **fields) -> Playbook[Worker]:
    """And may; the exchange has begun at instant 0 and may take until 9.9."""
    play = claiming(call, **fields)
    play.gets(BROKER, grant(call)).says(like(Start, call_id=call, number=1))
    return play


def grant(call: bytes = A, claim: int = 1, remaining_ms: int = 10_000, life: bytes = ONE) -> Grant:
    return Grant(call, life, claim, remaining_ms)


def final_of(said: Said) -> Outcome:
    return said.one(Final).outcome


def throttled(retry_after_ms: int | None = None) -> Outcome:
    return failure("provider_throttled", "slowly", retry_after_ms=retry_after_ms)


# Before the claim


def test_a_worker_offers_its_services_to_every_broker_it_finds() -> None:
    worker(brokers=(BROKER, BACKUP), services={"acme": 3, "bank": 1})


def test_a_call_that_finds_everything_in_hand_is_claimed_at_once() -> None:
    claiming()


def test_claims_are_numbered_within_a_life() -> None:
    play = worker()
    play.gets(BROKER, request(A), request(B)).says(Send(BROKER, Claim(A, ONE, 1)), Send(BROKER, Claim(B, ONE, 2)))


def test_a_method_the_worker_does_not_know_is_refused() -> None:
    refused = Reject(A, "refused", "method_not_found", "No worker of service 'acme' knows method 'acme.unheard'.")
    worker().gets(BROKER, request(A, method="acme.unheard")).says(Send(BROKER, refused))


def test_a_copy_that_comes_twice_is_one_copy() -> None:
    play = claiming()
    play.gets(BROKER, request(A)).says_nothing()
    assert len(play.machine) == 1


def test_a_copy_without_time_left_is_dropped() -> None:
    worker().gets(BROKER, request(A, remaining_ms=0)).says(Send(BROKER, Reject(A, "drop")))


def test_a_call_without_a_slot_waits_for_one() -> None:
    play = running(**ONE_AT_A_TIME)
    play.gets(BROKER, request(B)).says_nothing()
    play.hears(Finished(A, 1, OK)).says(like(Send), Send(BROKER, Claim(B, ONE, 2)))


def test_slots_are_the_providers_whatever_the_service() -> None:
    play = worker(services={"acme": 1, "acme-batch": 1}, **ONE_AT_A_TIME)
    play.gets(BROKER, request(A)).says(Send(BROKER, Claim(A, ONE, 1)))
    play.gets(BROKER, request(B, service="acme-batch", method="acme.other")).says_nothing()
    assert play.machine.in_flight("acme") == 1
    play.gets(BROKER, Deny(A, ONE, 1)).says(Send(BROKER, Release(A, ONE, 1)), Send(BROKER, Claim(B, ONE, 2)))


def test_one_providers_slots_are_not_anothers() -> None:
    play = running(**ONE_AT_A_TIME)
    play.gets(BROKER, request(B, service="bank", method="bank.pay")).says(Send(BROKER, Claim(B, ONE, 2)))


def test_a_call_that_gets_no_slot_in_time_is_dropped() -> None:
    play = running(**ONE_AT_A_TIME)
    play.gets(BROKER, request(B, remaining_ms=3000)).says_nothing()
    play.passes(3.0).says(Send(BROKER, Reject(B, "drop")))


def test_those_who_wait_for_a_slot_too_long_do_not_keep_it_from_others() -> None:
    play = running(**ONE_AT_A_TIME)
    play.gets(BROKER, request(B, remaining_ms=3000), request(C)).says_nothing()
    play.at(5.0).hears(Finished(A, 1, OK)).says(like(Send), Send(BROKER, Reject(B, "drop")), Send(BROKER, Claim(C, ONE, 2)))


def test_a_long_line_may_be_refused_in_one_go() -> None:
    play = running(breaker=TRIPS_AT_ONCE, **ONE_AT_A_TIME)
    many = [call_id(number) for number in range(10, 1510)]
    play._check = None  # quadratic, and looked at below
    play.gets(BROKER, *(request(call) for call in many)).says_nothing()
    said = play.hears(Finished(A, 1, lost()))
    assert [reject.call_id for reject in said.all(Reject)] == many
    assert all(reject.reason == "circuit_open" for reject in said.all(Reject))
    consistent(play.machine)
    assert play.machine.in_flight("acme") == 0


# Rate


def rated(burst: int = 1, **fields) -> Playbook[Worker]:
    """One token every 2 s."""
    return worker(rate=Rate(limit=1, per_s=2.0, burst=burst), **fields)


def test_a_call_waits_for_its_rate_token_before_it_is_claimed() -> None:
    play = rated()
    play.gets(BROKER, request(A), request(B)).says(Send(BROKER, Claim(A, ONE, 1)))
    play.passes(0.29).says_nothing()
    play.gets(BROKER, Deny(A, ONE, 1)).whatever()
    play.at(1.9).hears(Tick()).says_nothing()
    play.passes(0.1).says(Send(BROKER, Claim(B, ONE, 2)))


def test_a_token_that_comes_too_late_refuses_at_once() -> None:
    play = rated()
    play.gets(BROKER, request(A)).whatever()
    refused = Reject(B, "refused", "rate_limited", like(str), 2000, "providers.acme.rate")
    play.gets(BROKER, request(B, remaining_ms=2010)).says(Send(BROKER, refused))
    play.gets(BROKER, request(C, remaining_ms=2030)).says_nothing()


def test_a_token_must_come_a_margin_before_the_deadline() -> None:
    play = rated().at(5.0)
    play.gets(BROKER, request(A)).whatever()
    play.gets(BROKER, request(B, remaining_ms=2022)).says_nothing()  # the margin is 20 ms
    play.gets(BROKER, request(C, remaining_ms=4035)).says(Send(BROKER, like(Reject, call_id=C, reason="rate_limited")))


def test_a_call_that_is_dropped_while_it_waits_for_its_token_frees_its_slot() -> None:
    play = rated(in_flight_max=2)
    play.gets(BROKER, request(A), request(B)).whatever()
    play.gets(BROKER, Cancel(B)).says(Send(BROKER, Reject(B, "drop")))
    assert play.machine.in_flight("acme") == 1


def test_a_rate_token_of_a_call_that_is_dropped_is_for_another() -> None:
    play = rated()
    play.gets(BROKER, request(A), request(B), request(C)).says(Send(BROKER, Claim(A, ONE, 1)))
    play.gets(BROKER, Deny(A, ONE, 1)).whatever()
    play.at(1.0).gets(BROKER, Cancel(B)).says(Send(BROKER, Reject(B, "drop")))
    play.gets(BROKER, request(D, remaining_ms=3500)).says_nothing()  # the token that was to be C's
    play.at(1.9).hears(Tick()).says_nothing()
    play.at(2.0).hears(Tick()).says(Send(BROKER, Claim(C, ONE, 2)))
    play.at(4.0).hears(Tick()).says_among_others(Send(BROKER, Claim(D, ONE, 3)))


def test_callers_who_hang_up_early_do_not_use_up_a_rate() -> None:
    play = rated(in_flight_max=64)
    for second in range(40):
        here = [call_id(4 * second + index) for index in range(4)]
        play.gets(BROKER, *(request(call, remaining_ms=100_000) for call in here)).whatever()
        play.passes(1.0).whatever()
        play.gets(BROKER, *(Cancel(call) for call in here)).whatever()
    assert play.machine._claims == 21  # at 0, 2, … 40


def test_a_stalled_worker_does_not_begin_what_expired_meanwhile() -> None:
    play = rated()
    play.gets(BROKER, request(A), request(B)).whatever()
    play.gets(BROKER, Deny(A, ONE, 1)).whatever()
    play.at(11.0).hears(Tick()).says(Send(BROKER, Reject(B, "drop")))


# Access token


def tokened(**fields) -> Playbook[Worker]:
    return worker(needs_token=True, **fields)


def test_an_access_token_is_in_hand_before_the_claim() -> None:
    play = tokened()
    play.gets(BROKER, request(A)).says(Prepare(A, "acme", 10.0))
    play.hears(Prepared(A)).says(Send(BROKER, Claim(A, ONE, 1)))


def test_without_an_access_token_the_copy_is_refused() -> None:
    play = tokened()
    play.gets(BROKER, request(A)).whatever()
    play.hears(Prepared(A, "the token endpoint says 500")).says(
        Send(BROKER, Reject(A, "refused", "provider_unreachable", "the token endpoint says 500"))
    )


def test_an_access_token_that_comes_too_late_drops_the_copy() -> None:
    play = tokened()
    play.gets(BROKER, request(A)).whatever()
    play.passes(10.0).says(Send(BROKER, Reject(A, "drop")))
    play.hears(Prepared(A)).says_nothing()


def test_an_access_token_nobody_waits_for_is_nothing() -> None:
    running().hears(Prepared(A), Prepared(B)).says_nothing()


# Breaker


def tripped(**fields) -> Playbook[Worker]:
    """One lost call has opened the breaker, at instant 0, for 15 s."""
    play = running(breaker=TRIPS_AT_ONCE, **fields)
    play.hears(Finished(A, 1, lost())).says(like(Send))
    play.gets(BROKER, Settled(ONE, (A,))).says_nothing()
    return play


def test_an_open_breaker_refuses_with_the_time_to_come_again() -> None:
    play = tripped().at(5.0)
    play.gets(BROKER, request(B)).says(
        Send(BROKER, Reject(B, "refused", "circuit_open", like(str), 10_000, "providers.acme.breaker"))
    )


def test_an_open_breaker_costs_neither_rate_nor_access_token() -> None:
    play = rated(burst=2, breaker=TRIPS_AT_ONCE, needs_token=True)
    play.gets(BROKER, request(A)).says(like(Prepare))
    play.hears(Prepared(A)).whatever()
    play.gets(BROKER, grant()).whatever()
    play.hears(Finished(A, 1, lost())).whatever()
    play.gets(BROKER, request(B)).says(Send(BROKER, like(Reject, call_id=B, reason="circuit_open")))
    gcra = play.machine._providers["acme"].rate
    assert gcra is not None
    assert gcra.wait(0.0) == 0.0


def test_half_open_lets_one_probe_through() -> None:
    play = tripped().at(15.0)
    play.gets(BROKER, request(B)).says(Send(BROKER, Claim(B, ONE, 2)))
    play.gets(BROKER, request(C)).says(Send(BROKER, like(Reject, call_id=C, reason="circuit_open")))


def test_a_denied_probe_gives_its_place_back() -> None:
    play = tripped().at(15.0)
    play.gets(BROKER, request(B)).whatever()
    play.gets(BROKER, Deny(B, ONE, 2)).whatever()
    play.gets(BROKER, request(C)).says(Send(BROKER, Claim(C, ONE, 3)))


def test_a_breaker_that_opened_while_a_token_was_fetched_refuses() -> None:
    play = tokened(breaker=TRIPS_AT_ONCE)
    play.gets(BROKER, request(A), request(B)).whatever()
    play.hears(Prepared(A)).whatever()
    play.gets(BROKER, grant(A)).whatever()
    play.hears(Finished(A, 1, lost())).whatever()
    play.hears(Prepared(B)).says(Send(BROKER, like(Reject, call_id=B, kind="refused", reason="circuit_open")))


def test_a_probe_that_succeeds_closes_the_breaker() -> None:
    play = tripped().at(15.0)
    play.gets(BROKER, request(B)).whatever()
    play.gets(BROKER, grant(B, 2)).whatever()
    play.hears(Finished(B, 1, OK)).whatever()
    play.gets(BROKER, request(C)).says(Send(BROKER, Claim(C, ONE, 3)))


# Claim and grant


def test_a_claim_is_repeated_every_300_ms_until_it_is_answered() -> None:
    play = claiming()
    play.passes(0.29).says_nothing()
    play.passes(0.31).says(Send(BROKER, Claim(A, ONE, 1)), Send(BROKER, Claim(A, ONE, 1)))
    play.gets(BROKER, grant()).whatever()
    play.passes(5.0).says_nothing()


def test_a_claim_without_an_answer_is_given_up_after_2_s() -> None:
    play = claiming()
    said = play.passes(2.2)
    assert said.actions[-1] == Send(BROKER, Release(A, ONE, 1))
    assert len(said.all(Claim)) == 6
    assert len(play.machine) == 0


@pytest.mark.parametrize("remaining_ms", [500, 600])
def test_a_claim_is_given_up_at_the_deadline(remaining_ms: int) -> None:
    play = claiming(asked={"remaining_ms": remaining_ms})
    play.passes(0.7).says(Send(BROKER, Claim(A, ONE, 1)), Send(BROKER, Release(A, ONE, 1)))


def test_a_denied_claim_is_released() -> None:
    play = claiming()
    play.gets(BROKER, Deny(A, ONE, 1)).says(Send(BROKER, Release(A, ONE, 1)))
    assert (len(play.machine), play.machine.in_flight("acme")) == (0, 0)


@pytest.mark.parametrize("other", [Deny(A, ONE, 2), Deny(A, TWO, 1), Deny(B, ONE, 1)])
def test_a_denial_of_another_claim_is_ignored(other: Deny) -> None:
    play = claiming()
    play.gets(BROKER, other).says_nothing()
    assert len(play.machine) == 1


@pytest.mark.parametrize("other", [grant(claim=2), grant(life=TWO), grant(B)])
def test_a_grant_of_another_claim_or_life_is_ignored(other: Grant) -> None:
    play = claiming()
    play.gets(BROKER, other).says_nothing()
    assert len(play.machine) == 1


def test_a_begun_claim_is_no_longer_pending() -> None:
    running().gets(BROKER, grant(), Deny(A, ONE, 1)).says_nothing()


def test_a_grant_for_a_given_up_claim_is_answered_with_release_again() -> None:
    play = claiming()
    play.passes(2.2).whatever()
    play.gets(BROKER, grant()).says(Send(BROKER, Release(A, ONE, 1)))
    play.gets(BACKUP, grant()).says(Send(BACKUP, Release(A, ONE, 1)))


def test_a_late_grant_for_an_earlier_claim_does_not_begin_the_present_one() -> None:
    play = claiming()
    play.gets(BROKER, Deny(A, ONE, 1)).whatever()
    play.gets(BROKER, request(A)).says(Send(BROKER, Claim(A, ONE, 2)))
    play.gets(BROKER, grant(A, 1)).says(Send(BROKER, Release(A, ONE, 1)))
    play.gets(BROKER, grant(A, 2)).says(like(Start, call_id=A))


def test_given_up_claims_may_be_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "GIVEN_UP_MAX", 1)
    play = worker()
    play.gets(BROKER, request(A), request(B)).whatever()
    play.gets(BROKER, Deny(A, ONE, 1), Deny(B, ONE, 2)).whatever()
    play.gets(BROKER, grant(A, 1)).says_nothing()
    play.gets(BROKER, grant(B, 2)).says(Send(BROKER, Release(B, ONE, 2)))


@pytest.mark.parametrize("heartbeat_s", [0.0, 1.0])
def test_given_up_claims_are_forgotten_after_their_deadline(heartbeat_s: float) -> None:
    play = claiming(heartbeat_s=heartbeat_s)
    play.gets(BROKER, Deny(A, ONE, 1)).whatever()
    play.at(10.1).hears(Tick()).whatever()
    assert not play.machine._given_up


# The deadline under the grant


def test_the_deadline_is_the_first_claim_plus_what_the_grant_says_remains_less_a_margin() -> None:
    play = worker().at(3.0)
    play.gets(BROKER, request(A)).whatever()
    play.passes(0.4).says(Send(BROKER, Claim(A, ONE, 1)))  # again
    start = play.at(3.5).gets(BROKER, grant(remaining_ms=8000)).one(Start)
    assert start.deadline == pytest.approx(11.0 - 0.075)  # 1 % of the 7.5 s that remain


def test_a_grant_that_comes_too_late_is_released_when_it_is_handled() -> None:
    play = claiming().at(1.5)
    play.gets(BROKER, grant(remaining_ms=1400)).says(Send(BROKER, Release(A, ONE, 1)))
    play.gets(BROKER, grant(remaining_ms=1400)).says(Send(BROKER, Release(A, ONE, 1)))


def test_a_grant_within_the_margin_is_too_late() -> None:
    claiming().at(1.0).gets(BROKER, grant(remaining_ms=1005)).says(Send(BROKER, Release(A, ONE, 1)))


def test_an_attempt_without_a_bound_of_its_own_ends_with_the_deadline() -> None:
    assert claiming().gets(BROKER, grant()).one(Start) == Start(
        call_id=A,
        number=1,
        attempt=1,
        method="acme.charge",
        provider="acme",
        effect="once",
        principal="webshop",
        key="provider-key",
        body=b'{"amount":1}',
        deadline=9.9,
        late="deadline_exceeded",
    )


def test_an_attempt_with_a_bound_of_its_own_times_out_on_the_provider() -> None:
    start = claiming(attempt_timeout_s=4.0).gets(BROKER, grant()).one(Start)
    assert (start.deadline, start.late) == (4.0, "provider_timeout")


def test_a_bound_beyond_the_deadline_is_none() -> None:
    start = claiming(attempt_timeout_s=60.0).gets(BROKER, grant()).one(Start)
    assert (start.deadline, start.late) == (9.9, "deadline_exceeded")


def test_earlier_dispatches_are_counted_in_the_number_of_the_attempt() -> None:
    play = claiming(effect="safe", asked={"attempts": 1, "executed": "unknown"})
    assert play.gets(BROKER, grant()).one(Start).attempt == 2
    play.hears(Finished(A, 1, lost())).says_nothing()
    assert play.passes(1.0).one(Start).attempt == 3


# The outcome


def test_the_outcome_goes_to_the_gateway_and_is_forgotten_once_it_is_seen() -> None:
    play = running().at(2.0)
    play.hears(Finished(A, 1, OK, "req-7")).says(Send(BROKER, like(Final, call_id=A, life=ONE, claim=1)))
    assert (len(play.machine), play.machine.in_flight("acme")) == (1, 0)
    assert play.machine.outcomes_held_bytes == len(OK.result)
    play.gets(BROKER, Settled(ONE, (A, B))).says_nothing()
    assert (len(play.machine), play.machine.outcomes_held_bytes) == (0, 0)


def test_settled_for_another_life_is_ignored() -> None:
    play = running()
    play.hears(Finished(A, 1, OK)).whatever()
    play.gets(BROKER, Settled(TWO, (A,))).says_nothing()
    assert len(play.machine) == 1


def test_settled_does_not_end_what_still_runs() -> None:
    play = running()
    play.gets(BROKER, Settled(ONE, (A,))).says_nothing()
    play.hears(Finished(A, 1, OK)).says(like(Send))


def test_an_attempt_is_told_with_its_times_and_the_providers_request_id() -> None:
    play = claiming().at(0.25)
    play.gets(BROKER, grant()).whatever()
    play.at(1.0).hears(Finished(A, 1, failure("provider_refused", "no"), "req-7")).whatever()
    (attempt,) = play.gets(BROKER, request(A)).one(Final).outcome.attempts
    assert msgspec.structs.asdict(attempt) == {
        "provider": "acme",
        "started_ms": 0,
        "duration_ms": 750,
        "reason": "provider_refused",
        "executed": "no",
        "status": None,
        "provider_request_id": "req-7",
    }


def test_the_outcome_a_shell_hands_in_is_not_changed() -> None:
    outcome = Outcome(reason="ok", executed="yes", result=b"1")
    running().hears(Finished(A, 1, outcome)).whatever()
    assert outcome.attempts == ()


def test_an_outcome_is_said_again_every_second_until_it_is_seen() -> None:
    play = running()
    play.hears(Finished(A, 1, OK)).whatever()
    play.passes(2.5).says(like(Send), like(Send))
    play.gets(BROKER, Settled(ONE, (A,))).says_nothing()
    play.passes(5.0).says_nothing()


def test_an_outcome_is_forgotten_when_its_gateway_has_settled_long_since() -> None:
    play = running()
    play.hears(Finished(A, 1, OK)).whatever()
    play.passes(13.0).whatever()
    assert len(play.machine) == 0
    assert play.machine.next_deadline() is None


def test_a_request_for_a_finished_call_is_answered_with_its_outcome() -> None:
    play = running()
    play.hears(Finished(A, 1, OK)).whatever()
    play.gets(BROKER, request(A)).says(Send(BROKER, like(Final, call_id=A)))


def test_an_outcome_that_comes_twice_is_one() -> None:
    play = running()
    play.hears(Finished(A, 1, OK)).whatever()
    play.hears(Finished(A, 1, lost()), Finished(B, 1, OK), Finished(A, 2, OK)).says_nothing()


def test_held_outcomes_are_bounded_and_the_oldest_goes_first() -> None:
    play = worker(outcomes_held_bytes_max=10)
    play.gets(BROKER, request(A), request(B)).whatever()
    play.gets(BROKER, grant(A, 1), grant(B, 2)).whatever()
    play.hears(Finished(A, 1, Outcome(reason="ok", executed="yes", result=b"123456"))).says(like(Send))
    play.hears(Finished(B, 1, Outcome(reason="ok", executed="yes", result=b"123456"))).says(like(Send))
    assert (len(play.machine), play.machine.outcomes_held_bytes) == (1, 6)
    play.gets(BROKER, request(A)).says(Send(BROKER, like(Claim, call_id=A)))


def test_an_outcome_larger_than_the_bound_is_said_once() -> None:
    play = running(outcomes_held_bytes_max=5)
    play.hears(Finished(A, 1, Outcome(reason="ok", executed="yes", result=b"123456"))).says(like(Send))
    assert len(play.machine) == 0


# Retries under the grant


def test_a_refused_connection_is_tried_again_under_the_same_grant() -> None:
    play = running()
    play.hears(Finished(A, 1, unreachable())).says_nothing()
    start = play.passes(0.025).one(Start)  # half of 50 ms
    assert (start.number, start.attempt) == (2, 2)
    play.hears(Finished(A, 2, unreachable())).says_nothing()
    assert play.passes(0.05).one(Start).attempt == 3
    outcome = final_of(play.hears(Finished(A, 3, unreachable())))
    assert (outcome.reason, outcome.executed, len(outcome.attempts)) == ("provider_unreachable", "no", 3)


def test_a_once_call_that_may_have_happened_is_never_sent_again() -> None:
    outcome = final_of(running().hears(Finished(A, 1, lost())))
    assert (outcome.reason, outcome.executed) == ("connection_lost", "unknown")


def test_a_once_call_is_tried_again_only_after_a_proven_no() -> None:
    play = running()
    play.hears(Finished(A, 1, unreachable())).says_nothing()
    play.passes(0.1).whatever()
    outcome = final_of(play.hears(Finished(A, 2, lost())))
    assert (outcome.reason, outcome.executed, len(outcome.attempts)) == ("connection_lost", "unknown", 2)


def test_executed_is_the_strongest_over_all_attempts() -> None:
    play = running(effect="safe")
    play.hears(Finished(A, 1, lost())).says_nothing()
    play.passes(1.0).whatever()
    outcome = final_of(play.hears(Finished(A, 2, failure("provider_refused", "no"))))
    assert (outcome.reason, outcome.executed) == ("connection_lost", "unknown")


def test_a_keyed_409_waits_and_a_422_stops() -> None:
    play = running(effect="keyed")
    play.hears(Finished(A, 1, Outcome(reason="provider_failed", executed="unknown", status=409))).says_nothing()
    play.passes(1.0).one(Start)
    outcome = final_of(play.hears(Finished(A, 2, Outcome(reason="provider_refused", executed="no", status=422))))
    assert (outcome.reason, outcome.executed, outcome.status) == ("provider_failed", "unknown", 409)


def test_an_ok_under_the_same_key_settles_the_earlier_attempt() -> None:
    play = running(effect="keyed")
    play.hears(Finished(A, 1, lost())).says_nothing()
    again = play.passes(1.0).one(Start)
    assert (again.key, again.body) == ("provider-key", b'{"amount":1}')
    outcome = final_of(play.hears(Finished(A, 2, OK)))
    assert (outcome.reason, outcome.executed, len(outcome.attempts)) == ("ok", "yes", 2)


def test_a_refusal_by_a_row_of_ones_own_settles_the_earlier_attempt_of_a_keyed_call() -> None:
    play = running(effect="keyed")
    play.hears(Finished(A, 1, lost())).says_nothing()
    play.passes(1.0).whatever()
    outcome = final_of(play.hears(Finished(A, 2, Outcome(reason="provider_refused", executed="no", settles_earlier=True))))
    assert (outcome.reason, outcome.executed) == ("provider_refused", "no")


def test_first_attempts_earn_retries() -> None:
    """The budget is 10, and a tenth of a retry more with each first attempt."""
    play = worker(attempts_max=2)
    calls = [call_id(number) for number in range(10, 31)]
    for claim, call in enumerate(calls, 1):
        play.gets(BROKER, request(call)).whatever()
        play.gets(BROKER, grant(call, claim)).whatever()
        fails = claim <= 10 or claim == len(calls)
        said = play.hears(Finished(call, 1, unreachable() if fails else OK)).whatever()
        assert bool(said.actions) != fails, "a retry is begun in silence"


def test_a_retry_after_that_does_not_fit_is_answered_now_with_the_time_to_come_again() -> None:
    outcome = final_of(running().hears(Finished(A, 1, throttled(60_000))))
    assert (outcome.reason, outcome.executed, outcome.retry_after_ms) == ("provider_throttled", "no", 60_000)


def test_when_to_come_again_is_told_whichever_attempt_the_answer_is_of() -> None:
    play = running(effect="keyed")
    play.hears(Finished(A, 1, lost())).says_nothing()
    play.passes(1.0).one(Start)
    outcome = final_of(play.hears(Finished(A, 2, throttled(60_000))))
    assert (outcome.reason, outcome.executed, outcome.retry_after_ms) == ("connection_lost", "unknown", 60_000)


def test_a_time_to_come_again_that_was_waited_for_is_told_to_nobody() -> None:
    play = running(effect="keyed", attempts_max=2)
    play.hears(Finished(A, 1, failure("provider_failed", "503", retry_after_ms=1000))).says_nothing()
    play.passes(1.0).one(Start)
    outcome = final_of(play.hears(Finished(A, 2, unreachable())))
    assert (outcome.reason, outcome.executed, outcome.retry_after_ms) == ("provider_failed", "unknown", None)


def test_a_retry_after_that_fits_is_waited_for() -> None:
    play = running()
    play.hears(Finished(A, 1, throttled(7000))).says_nothing()
    play.passes(6.99).says_nothing()
    play.passes(0.01).says(like(Start, number=2))


def test_a_retry_waits_for_a_rate_token_of_its_own() -> None:
    play = rated()
    play.gets(BROKER, request(A)).whatever()
    play.gets(BROKER, grant()).whatever()
    play.hears(Finished(A, 1, unreachable())).says_nothing()
    play.passes(1.99).says_nothing()
    play.passes(0.01).says(like(Start, number=2))


def test_a_retry_whose_rate_token_comes_too_late_ends_the_call_as_it_was() -> None:
    play = rated()
    play.gets(BROKER, request(A, remaining_ms=1500)).whatever()
    play.gets(BROKER, grant(remaining_ms=1500)).whatever()
    play.hears(Finished(A, 1, unreachable())).says_nothing()
    outcome = final_of(play.passes(0.1))
    assert (outcome.reason, outcome.executed) == ("provider_unreachable", "no")


def test_a_retry_meets_the_breaker_too() -> None:
    play = running(breaker=TRIPS_AT_ONCE)
    play.hears(Finished(A, 1, unreachable())).says_nothing()
    outcome = final_of(play.passes(0.1))
    assert (outcome.reason, len(outcome.attempts)) == ("provider_unreachable", 1)


def test_no_attempt_begins_once_its_token_left_less_time_than_the_method_takes() -> None:
    play = tokened()
    play.gets(BROKER, request(A), request(B)).whatever()
    play.hears(Prepared(A), Prepared(B)).whatever()
    play.gets(BROKER, grant(A, 1), grant(B, 2)).whatever()
    play.at(4.0).hears(Finished(A, 1, OK)).whatever()  # it takes 4 s
    play.hears(Finished(B, 1, unreachable())).says_nothing()
    play.passes(0.1).says(like(Prepare, call_id=B))
    outcome = final_of(play.at(6.0).hears(Prepared(B)))
    assert (outcome.reason, outcome.executed, len(outcome.attempts)) == ("provider_unreachable", "no", 1)


def test_a_retry_whose_token_never_comes_ends_at_the_deadline() -> None:
    play = tokened()
    play.gets(BROKER, request(A)).whatever()
    play.hears(Prepared(A)).whatever()
    play.gets(BROKER, grant()).whatever()
    play.hears(Finished(A, 1, unreachable())).says_nothing()
    play.passes(0.1).says(like(Prepare))
    outcome = final_of(play.passes(9.8))
    assert (outcome.reason, outcome.executed) == ("provider_unreachable", "no")


def test_a_denied_call_is_asked_again_once_with_a_fresh_token() -> None:
    play = tokened()
    play.gets(BROKER, request(A)).whatever()
    play.hears(Prepared(A)).whatever()
    play.gets(BROKER, grant()).whatever()
    play.hears(Finished(A, 1, failure("provider_denied", "401", again=True))).says_nothing()
    play.passes(0.0).says(like(Prepare))
    play.hears(Prepared(A)).says(like(Start, number=2))
    outcome = final_of(play.hears(Finished(A, 2, failure("provider_denied", "401", again=True))))
    assert (outcome.reason, outcome.executed) == ("provider_denied", "no")


def test_the_mean_of_a_method_moves_slowly() -> None:
    play = running()
    play.at(4.0).hears(Finished(A, 1, OK)).whatever()
    play.gets(BROKER, request(B)).whatever()
    play.gets(BROKER, grant(B, 2)).whatever()
    play.at(5.0).hears(Finished(B, 1, OK)).whatever()
    assert play.machine._means_s == {"acme.charge": pytest.approx(3.7)}


# Lookup


def looking(effect: Effect = "once", *, reserve_s: float = 3.0, **fields) -> Playbook[Worker]:
    """An attempt was lost, and the provider is asked whether it happened."""
    play = running(effect=effect, method={"has_lookup": True, "reserve_s": reserve_s}, attempts_max=1, **fields)
    play.at(2.0).hears(Finished(A, 1, lost())).says(like(Start, number=2, lookup=True))
    return play


def test_the_exchange_leaves_a_reserve_for_the_lookup() -> None:
    start = claiming(method={"has_lookup": True, "reserve_s": 3.0}).gets(BROKER, grant()).one(Start)
    assert (start.deadline, start.late, start.lookup) == (pytest.approx(6.9), "deadline_exceeded", False)


def test_the_reserve_is_at_most_half_of_what_remains_at_the_grant() -> None:
    start = claiming(method={"has_lookup": True, "reserve_s": 30.0}).at(1.0).gets(BROKER, grant()).one(Start)
    deadline = 10.0 - 0.09
    assert start.deadline == pytest.approx(1.0 + (deadline - 1.0) / 2)


def test_after_an_unknown_the_provider_is_asked_whether_it_happened() -> None:
    play = running(method={"has_lookup": True})
    start = play.hears(Finished(A, 1, lost())).one(Start)
    assert (start.lookup, start.number, start.deadline, start.late) == (True, 2, 9.9, "deadline_exceeded")


def test_a_lookup_takes_no_longer_than_an_attempt_may() -> None:
    play = running(method={"has_lookup": True}, attempt_timeout_s=2.0)
    start = play.hears(Finished(A, 1, lost())).one(Start)
    assert (start.lookup, start.deadline) == (True, 2.0)
    late = running(method={"has_lookup": True, "reserve_s": 1.0}, attempt_timeout_s=2.0).at(9.0)
    assert late.hears(Finished(A, 1, lost())).one(Start).deadline == 9.9  # nor than the call


def test_found_is_the_result() -> None:
    outcome = final_of(looking().hears(Finished(A, 2, OK)))
    assert (outcome.reason, outcome.executed, outcome.result) == ("ok", "yes", OK.result)
    assert [attempt.reason for attempt in outcome.attempts] == ["connection_lost"]


@pytest.mark.parametrize("answer", [NOT_FOUND, lost(), unreachable(), failure("deadline_exceeded", "late")])
def test_not_found_stays_unknown(answer: Outcome) -> None:
    outcome = final_of(looking().hears(Finished(A, 2, answer)))
    assert (outcome.reason, outcome.executed) == ("connection_lost", "unknown")


@pytest.mark.parametrize("answer", [OK, unreachable(), failure("provider_refused", "no")])
def test_what_is_known_is_not_looked_up(answer: Outcome) -> None:
    play = running(method={"has_lookup": True}, attempts_max=1)
    play.hears(Finished(A, 1, answer)).never_says(Start)


def test_a_proven_yes_without_a_result_is_not_looked_up() -> None:
    play = running(method={"has_lookup": True})
    play.hears(Finished(A, 1, failure("response_invalid", "odd", executed="yes"))).never_says(Start).one(Final)


def test_a_keyed_call_is_looked_up_only_when_no_attempt_will_follow() -> None:
    play = running(effect="keyed", method={"has_lookup": True}, attempts_max=2)
    play.hears(Finished(A, 1, lost())).says_nothing()
    play.passes(1.0).says(like(Start, number=2, lookup=False))
    play.hears(Finished(A, 2, lost())).says(like(Start, number=3, lookup=True))


def test_what_an_earlier_dispatch_left_in_doubt_is_looked_up_too() -> None:
    play = running(effect="keyed", method={"has_lookup": True}, asked={"attempts": 2, "executed": "unknown"})
    play.hears(Finished(A, 1, unreachable())).says(like(Start, number=2, lookup=True))
    outcome = final_of(play.hears(Finished(A, 2, NOT_FOUND)))
    assert (outcome.reason, outcome.executed) == ("provider_unreachable", "no")  # the gateway joins the earlier one


def test_there_is_no_lookup_without_time() -> None:
    play = running(method={"has_lookup": True}).at(9.9)
    play.hears(Finished(A, 1, failure("deadline_exceeded", "late"))).never_says(Start).one(Final)


def test_a_lookup_under_way_is_not_disturbed_by_the_token_that_came_before_it() -> None:
    play = tokened(method={"has_lookup": True, "reserve_s": 3.0}, breaker=TRIPS_AT_ONCE)
    play.gets(BROKER, request(A, effect="keyed"), request(B)).whatever()
    play.hears(Prepared(A), Prepared(B)).whatever()
    play.gets(BROKER, grant(A, 1)).whatever()
    play.hears(Finished(A, 1, failure("provider_throttled", "429", executed="unknown"))).says_nothing()
    play.passes(0.6).says_among_others(like(Prepare, call_id=A))
    play.hears(Prepared(A, "no token to be had")).says(like(Start, number=2, lookup=True))
    play.passes(9.0).never_says(Start)
    assert final_of(play.hears(Finished(A, 2, OK))).reason == "ok"


def test_a_lookup_does_not_tell_the_breaker_anything() -> None:
    play = looking(breaker=BreakerPolicy(calls_min=2))
    play.hears(Finished(A, 2, lost())).whatever()
    assert play.machine._providers["acme"].breaker.retry_after(2.0) == 0.0


# Cancel


def test_a_cancelled_claim_is_given_up() -> None:
    claiming().gets(BROKER, Cancel(A)).says(Send(BROKER, Release(A, ONE, 1)))


def test_a_cancelled_copy_that_waits_is_dropped() -> None:
    play = running(**ONE_AT_A_TIME)
    play.gets(BROKER, request(B)).says_nothing()
    play.gets(BROKER, Cancel(B)).says(Send(BROKER, Reject(B, "drop")))


def test_a_begun_call_runs_to_its_end() -> None:
    play = running()
    play.gets(BROKER, Cancel(A), Cancel(B)).says_nothing()
    play.hears(Finished(A, 1, OK)).says(like(Send))


# Drain


def test_a_draining_worker_withdraws_its_offer_and_gives_up_what_is_pending() -> None:
    play = running(call=A, in_flight_max=2)
    play.gets(BROKER, request(B), request(C)).says(Send(BROKER, Claim(B, ONE, 2)))
    play.hears(Draining()).says(
        Send(BROKER, Ready(ONE, {}, 0)), Send(BROKER, Reject(C, "again")), Send(BROKER, Release(B, ONE, 2))
    )
    play.gets(BROKER, grant(B, 2)).says(Send(BROKER, Release(B, ONE, 2)))


def test_a_draining_worker_begins_no_call_that_waited() -> None:
    play = claiming(**ONE_AT_A_TIME)
    play.gets(BROKER, request(B)).says_nothing()
    play.hears(Draining()).never_says(Claim)


def test_a_draining_worker_takes_nothing_new_and_ends_what_runs() -> None:
    play = running()
    play.hears(Draining()).whatever()
    play.gets(BROKER, request(B)).says(Send(BROKER, Reject(B, "again")))
    play.hears(Finished(A, 1, unreachable())).says_nothing()
    play.passes(1.0).says(like(Start, number=2))
    play.hears(Finished(A, 2, OK)).says(like(Send))


def test_a_draining_worker_offers_nothing_to_a_broker_it_finds() -> None:
    play = worker()
    play.hears(Draining()).whatever()
    play.hears(PeerFound(BACKUP)).says(Send(BACKUP, Ready(ONE, {}, 0)))


def test_when_draining_ends_what_runs_is_stopped_and_told_truthfully() -> None:
    play = running()
    play.hears(Draining()).whatever()
    play.hears(DrainTimedOut()).says(Stop(A, 1))
    outcome = final_of(play.hears(Finished(A, 1, failure("cancelled", "stopped"))))
    assert (outcome.reason, outcome.executed) == ("cancelled", "unknown")


def test_when_draining_ends_what_pauses_is_told_as_it_was() -> None:
    play = running()
    play.hears(Finished(A, 1, unreachable())).says_nothing()
    play.hears(Draining()).whatever()
    outcome = final_of(play.hears(DrainTimedOut()))
    assert (outcome.reason, outcome.executed) == ("provider_unreachable", "no")


def test_when_draining_ends_a_lookup_is_stopped() -> None:
    play = looking()
    play.hears(Draining()).whatever()
    play.hears(DrainTimedOut()).says(Stop(A, 2))
    assert final_of(play.hears(Finished(A, 2, failure("cancelled", "stopped")))).reason == "connection_lost"


def test_after_draining_has_ended_nothing_begins() -> None:
    play = running(effect="safe", method={"has_lookup": True})
    play.hears(Draining(), DrainTimedOut()).says_among_others(Stop(A, 1))
    play.hears(Finished(A, 1, lost())).never_says(Start).one(Final)
    play.passes(9.0).never_says(Start)


def test_a_worker_told_to_end_at_once_drains_first() -> None:
    play = running(call=A, in_flight_max=2)
    play.gets(BROKER, request(B), request(C)).whatever()
    play.hears(DrainTimedOut()).says(
        Send(BROKER, Ready(ONE, {}, 0)), Send(BROKER, Reject(C, "again")), Send(BROKER, Release(B, ONE, 2)), Stop(A, 1)
    )


def test_what_has_finished_is_not_stopped() -> None:
    play = running()
    play.hears(Finished(A, 1, OK)).whatever()
    play.hears(Draining()).whatever()
    play.hears(DrainTimedOut()).says_nothing()


# Outcomes that are too large for a frame


def small_frames(bytes_max: int = 5000, **fields) -> Playbook[Worker]:
    """A worker that runs a call, and whose broker reads no larger frames."""
    play = running(heartbeat_s=1.0, outcomes_held_bytes_max=100_000, **fields)
    play.gets(BROKER, beat(sent=2, frame_bytes_max=bytes_max)).whatever()
    return play


@pytest.mark.parametrize(("length", "fits"), [(1, True), (5000, True), (5001, False)])
def test_an_outcome_is_told_if_it_fits_into_a_frame(length: int, fits: bool) -> None:
    play = small_frames()
    outcome = final_of(play.hears(Finished(A, 1, Outcome(reason="ok", executed="yes", result=b"1" * length))))
    assert (outcome.reason == "ok") == fits
    assert play.machine.outcomes_held_bytes == (length if fits else 0)


def test_an_outcome_that_is_too_large_is_told_as_such_and_proves_what_it_proved() -> None:
    play = small_frames()
    outcome = final_of(play.hears(Finished(A, 1, Outcome(reason="ok", executed="yes", result=b"1" * 5001, status=200))))
    assert (outcome.reason, outcome.executed, outcome.result) == ("response_too_large", "yes", b"")
    assert (outcome.limit, outcome.status, len(outcome.attempts)) == ("broker.frame_bytes_max", 200, 1)
    assert play.machine.counts == {"outcome_too_large": 1}
    assert final_of(play.passes(1.0)) == outcome
    assert play.machine.counts == {"outcome_too_large": 1}


CARRIED = {
    "body": b"1" * 5001,
    "detail": b"1" * 5001,
    "message": "\U0001f514" * 1300,
    "errors": (ParamError("/a" * 1000, "é" * 1000),),
}


@pytest.mark.parametrize("field", CARRIED)
def test_what_an_error_carries_counts_too(field: str) -> None:
    """Else it would be said again and again, and never come."""
    play = small_frames()
    large = msgspec.structs.replace(failure("provider_refused", "No.", again=False), **{field: CARRIED[field]})
    outcome = final_of(play.hears(Finished(A, 1, large)))
    assert (outcome.reason, outcome.executed, outcome.body, outcome.detail) == ("response_too_large", "no", None, None)
    assert outcome.errors == ()
    assert outcome.message.startswith("The outcome does not fit")
    assert outcome.body_truncated == (field == "body")


@pytest.mark.parametrize("bytes_max", [1024, 4096])
def test_the_smallest_frames_that_may_be_asked_for_carry_something(bytes_max: int) -> None:
    play = small_frames(bytes_max)
    assert final_of(play.hears(Finished(A, 1, OK))).reason == "ok"


def test_an_outcome_that_fitted_may_be_too_large_for_another_broker() -> None:
    play = small_frames(bytes_max=50_000)
    play.hears(Finished(A, 1, Outcome(reason="ok", executed="yes", result=b"1" * 5001))).whatever()
    play.hears(PeerLost(BROKER), PeerFound(BACKUP)).whatever()
    assert final_of(play.gets(BACKUP, beat(frame_bytes_max=5000))).reason == "response_too_large"
    assert play.machine.outcomes_held_bytes == 0


def test_a_broker_that_announces_nothing_reads_anything() -> None:
    play = running(outcomes_held_bytes_max=100_000)
    assert final_of(play.hears(Finished(A, 1, Outcome(reason="ok", executed="yes", result=b"1" * 50_000)))).reason == "ok"


# Brokers come and go


def test_without_a_broker_a_claim_waits_and_is_said_to_the_next_one() -> None:
    play = claiming()
    play.hears(PeerLost(BROKER)).says_nothing()
    play.passes(0.5).says_nothing()
    play.hears(PeerFound(BACKUP)).says(Send(BACKUP, like(Ready)), Send(BACKUP, Claim(A, ONE, 1)))


def test_a_claim_goes_on_through_another_broker() -> None:
    play = worker(brokers=(BROKER, BACKUP))
    play.gets(BROKER, request(A)).says(Send(BROKER, Claim(A, ONE, 1)))
    play.hears(PeerLost(BROKER)).says(Send(BACKUP, like(Ready)))
    play.passes(0.3).says(Send(BACKUP, Claim(A, ONE, 1)))


def test_an_outcome_finds_whatever_broker_is_there() -> None:
    play = running()
    play.hears(PeerLost(BROKER)).says_nothing()
    play.hears(Finished(A, 1, OK)).says_nothing()
    play.hears(PeerFound(BACKUP)).says(Send(BACKUP, like(Ready)), Send(BACKUP, like(Final, call_id=A)))


def test_an_outcome_that_nobody_sees_goes_by_each_broker_in_turn() -> None:
    """The one that was there when the other had gone may not reach the gateway at all."""
    play = running(brokers=(BROKER, BACKUP))
    play.hears(PeerLost(BROKER)).says(Send(BACKUP, like(Ready)))
    play.hears(Finished(A, 1, OK)).says(Send(BACKUP, like(Final, call_id=A)))
    play.hears(PeerFound(BROKER)).whatever()
    play.passes(1.0).says(Send(BROKER, like(Final, call_id=A)))
    play.passes(1.0).says(Send(BACKUP, like(Final, call_id=A)))


def test_an_outcome_goes_by_no_broker_that_would_have_it_cut_short() -> None:
    play = running(heartbeat_s=30.0, brokers=(BROKER, BACKUP))
    play.gets(BACKUP, beat(frame_bytes_max=949)).whatever()
    large = Outcome(reason="ok", executed="yes", result=b"1" * 950)
    play.hears(Finished(A, 1, large)).says(Send(BROKER, like(Final, outcome=like(Outcome, reason="ok"))))
    play.passes(1.0).says(Send(BROKER, like(Final, outcome=like(Outcome, reason="ok"))))


def test_a_broker_that_asks_who_we_are_is_told_everything_again() -> None:
    play = running(call=A)
    play.hears(Finished(A, 1, OK)).whatever()
    play.gets(BROKER, request(B), request(C)).whatever()
    play.gets(BROKER, Deny(C, ONE, 3)).whatever()
    play.gets(BROKER, Disconnect()).says(
        Send(BROKER, like(Ready)),
        Send(BROKER, like(Final, call_id=A)),
        Send(BROKER, Claim(B, ONE, 2)),
        Send(BROKER, Release(C, ONE, 3)),
    )


def test_one_broker_is_not_told_what_another_knows() -> None:
    play = claiming(brokers=(BROKER, BACKUP))
    play.gets(BACKUP, Disconnect()).says(Send(BACKUP, like(Ready)))


def test_a_release_is_not_repeated_beyond_its_deadline() -> None:
    play = claiming()
    play.gets(BROKER, Deny(A, ONE, 1)).whatever()
    play.at(10.0).gets(BROKER, Disconnect()).says(Send(BROKER, like(Ready)))


def test_a_copy_answers_to_the_broker_it_came_from_last() -> None:
    play = claiming(brokers=(BROKER, BACKUP))
    play.gets(BACKUP, request(A)).says_nothing()
    play.passes(0.3).says(Send(BACKUP, Claim(A, ONE, 1)))


# Heartbeats


def test_a_heartbeat_lists_what_is_in_flight_and_not_what_is_finished() -> None:
    play = running(call=A, heartbeat_s=1.0, in_flight_max=2)
    play.gets(BROKER, request(B), request(C)).whatever()
    play.hears(Finished(A, 1, OK)).whatever()
    said = play.passes(1.0)
    expected = {"life": ONE, "peer_life": BROKER_LIFE, "sent": len(said.actions) - 1 + 5, "received": 4, "in_flight": (B, C)}
    assert said.one(Heartbeat) == like(Heartbeat, **expected)


def listed(play: Playbook[Worker]) -> dict[bytes, tuple[bytes, ...] | None]:
    """What the next heartbeats list, by broker."""
    said: list[Any] = play.passes(1.0).all(Send)
    return {action.peer: action.message.in_flight for action in said if isinstance(action.message, Heartbeat)}


def test_a_heartbeat_lists_to_each_broker_what_came_from_it() -> None:
    play = claiming(call=A, heartbeat_s=1.0, brokers=(BROKER, BACKUP))
    play.gets(BACKUP, request(B)).whatever()
    assert listed(play) == {BROKER: (A,), BACKUP: (B,)}


def test_what_came_from_a_broker_that_is_gone_is_listed_to_the_first_that_is_there() -> None:
    """So that somebody can say that it is lost, if this life is."""
    play = running(call=A, heartbeat_s=1.0, brokers=(b"third", BROKER, BACKUP))
    play.hears(PeerLost(b"third")).whatever()
    play.hears(PeerLost(BROKER)).whatever()
    assert listed(play) == {BACKUP: (A,)}
    play.hears(PeerFound(BROKER)).says_among_others(Send(BROKER, like(Heartbeat, in_flight=(A,))))
    play.gets(BROKER, beat()).whatever()
    assert listed(play) == {BROKER: (A,), BACKUP: ()}


def test_a_heartbeat_says_how_late_it_is() -> None:
    play = claiming(heartbeat_s=1.0)
    assert play.at(1.25).hears(Tick()).one(Heartbeat).lag_ms == 250


def test_a_quiet_heartbeat_changes_nothing() -> None:
    play = claiming(heartbeat_s=1.0)
    play.gets(BROKER, beat(sent=1)).says_nothing()


def test_a_gap_makes_the_worker_repeat_what_it_offers_and_its_claims() -> None:
    """A broker that has missed a smaller share of the credit would give too much for ever."""
    play = claiming(heartbeat_s=1.0)
    play.gets(BROKER, beat(sent=4)).says(Send(BROKER, Claim(A, ONE, 1)))
    play.gets(BROKER, beat(sent=4, gap=True)).says(
        Send(BROKER, like(Ready, services={"acme": 8})), Send(BROKER, Claim(A, ONE, 1))
    )


def test_a_broker_with_a_new_life_is_told_everything_again() -> None:
    play = claiming(heartbeat_s=1.0)
    play.gets(BROKER, beat(b"broker-reborn!!!")).says(
        Send(BROKER, like(Ready, peer_life=b"broker-reborn!!!")), Send(BROKER, Claim(A, ONE, 1))
    )


def test_a_broker_that_does_not_know_the_worker_is_told_everything_again() -> None:
    play = claiming(heartbeat_s=1.0)
    play.hears(PeerLost(BROKER)).says_nothing()
    play.hears(PeerFound(BROKER)).says(Send(BROKER, like(Ready)), Send(BROKER, like(Heartbeat, in_flight=(A,))))
    play.gets(BROKER, beat(peer_life=b"")).says(Send(BROKER, like(Ready)), Send(BROKER, Claim(A, ONE, 1)))


def test_a_broker_is_told_claims_and_outcomes_once_it_has_said_who_it_is() -> None:
    play = running(call=A, heartbeat_s=1.0)
    play.hears(PeerLost(BROKER)).says_nothing()
    play.hears(Finished(A, 1, OK)).says_nothing()
    play.hears(PeerFound(BACKUP)).says(Send(BACKUP, like(Ready)), Send(BACKUP, like(Heartbeat, in_flight=())))
    play.gets(BACKUP, beat()).says(Send(BACKUP, like(Final, call_id=A)))


def test_a_broker_that_gives_a_call_has_spoken_too() -> None:
    play = worker(brokers=(), heartbeat_s=1.0)
    play.hears(PeerFound(BROKER)).whatever()
    play.gets(BROKER, request(A)).says(Send(BROKER, Claim(A, ONE, 1)))


def test_what_comes_from_a_broker_that_is_gone_does_not_bring_it_back() -> None:
    play = worker(heartbeat_s=1.0)
    play.hears(PeerLost(BROKER)).says_nothing()
    play.gets(BROKER, beat(), Disconnect(), request(A)).says_nothing()


# Every state answers every event

PHASES = (
    "nothing",
    "brokerless",
    "slot",
    "rate",
    "token",
    "claiming",
    "given up",
    "running",
    "pausing",
    "rate, granted",
    "token, granted",
    "looking",
    "finished",
    "draining",
    "drained",
)
CLAIMS = [(ONE, 1), (ONE, 2), (TWO, 1)]
EVERY_EVENT: list[Event] = [
    submitted(A),
    Abandoned(A),
    *(kind(peer) for kind in (PeerFound, PeerLost) for peer in (BROKER, BACKUP)),
    *(Prepared(A, problem) for problem in (None, "no")),
    *(
        Finished(A, number, outcome)
        for number in (1, 2, 3)
        for outcome in (OK, unreachable(), lost(), throttled(), failure("provider_denied", "401"))
    ),
    Tick(),
    Draining(),
    DrainTimedOut(),
    *(
        Received(peer, message)
        for peer in (BROKER, BACKUP)
        for message in (
            Hello(GATEWAY),
            request(A),
            request(C),
            request(C, method="acme.unheard"),
            request(C, remaining_ms=0),
            Cancel(A),
            Settled(ONE, (A,)),
            Settled(TWO, (A,)),
            Ready(ONE, {"acme": 1}, 0),
            Disconnect(),
            beat(),
            beat(gap=True),
            Reject(A, "again"),
            *(kind(A, life, claim) for kind in (Claim, Release, Deny, Lost, LostSeen) for life, claim in CLAIMS),
            *(Grant(A, life, claim, remaining) for life, claim in CLAIMS for remaining in (0, 10_000)),
            Final(A, ONE, 1, OK),
        )
    ),
]


def in_phase(phase: str, heartbeat_s: float) -> Playbook[Worker]:
    needs_token, needs_rate = phase.startswith("token"), phase.startswith("rate")
    rate = Rate(limit=1, per_s=2.0, burst=1) if needs_rate else None
    lookup = {"has_lookup": True} if phase == "looking" else {}
    play = worker(needs_token=needs_token, rate=rate, heartbeat_s=heartbeat_s, method=lookup, in_flight_max=1)
    granted = phase in ("running", "pausing", "looking", "finished", "drained") or phase.endswith(", granted")
    if phase == "slot":
        play.gets(BROKER, request(B)).whatever()
    if phase == "rate":
        gcra = play.machine._providers["acme"].rate
        assert gcra is not None
        gcra.take(0.0)
    if phase not in ("nothing", "brokerless"):
        play.gets(BROKER, request(A, effect="safe")).whatever()
    if phase == "token, granted":
        play.hears(Prepared(A)).whatever()
    if granted:
        play.gets(BROKER, grant()).one(Start)
    if phase == "given up":
        play.gets(BROKER, Deny(A, ONE, 1)).whatever()
    if phase == "pausing" or phase.endswith(", granted"):
        play.hears(Finished(A, 1, unreachable())).whatever()
    if phase.endswith(", granted"):
        play.passes(0.1).whatever()
    if phase == "looking":
        play.hears(Finished(A, 1, failure("response_invalid", "odd"))).whatever()
    if phase == "finished":
        play.hears(Finished(A, 1, OK)).whatever()
    if phase == "brokerless":
        play.hears(PeerLost(BROKER)).whatever()
    if phase in ("draining", "drained"):
        play.hears(Draining()).whatever()
    if phase == "drained":
        play.hears(DrainTimedOut()).whatever()
    held = play.machine._held.get(A)
    shown = phase.partition(",")[0]
    assert (held.phase if held else None) == {
        "nothing": None,
        "brokerless": None,
        "given up": None,
        "draining": None,
        "drained": "running",
    }.get(shown, shown)
    return play


@pytest.mark.parametrize("heartbeat_s", [0.0, 1.0])
@pytest.mark.parametrize("phase", PHASES)
def test_every_state_answers_every_event(phase: str, heartbeat_s: float) -> None:
    for event in EVERY_EVENT:
        play = in_phase(phase, heartbeat_s)
        before = play.machine._held.get(A)
        granted = before is not None and before.granted_at is not None
        said = play.hears(event)
        claimed_now = isinstance(event, Received) and event.message == grant()
        assert granted or claimed_now or not said.all(Start), "nothing begins without a grant"
        for start in said.all(Start):  # a shell ends what it was asked to begin
            play.hears(Finished(start.call_id, start.number, failure("deadline_exceeded", "late"))).whatever()
        for held in list(play.machine._held.values()):
            if held.phase in ("running", "looking"):
                play.hears(Finished(held.request.call_id, held.number, failure("deadline_exceeded", "late"))).whatever()
        for _ in range(3):
            for start in play.passes(10.0).all(Start):
                play.hears(Finished(start.call_id, start.number, failure("deadline_exceeded", "late"))).whatever()
        assert len(play.machine) == 0
        assert play.machine.outcomes_held_bytes == 0
        assert (play.machine.in_flight("acme"), play.machine.in_flight("bank")) == (0, 0)
        assert not any((play.machine._finished, play.machine._claiming, len(play.machine._timers)))
        for peer in (BROKER, BACKUP):
            play.hears(PeerLost(peer)).whatever()
        assert play.machine.next_deadline() is None
