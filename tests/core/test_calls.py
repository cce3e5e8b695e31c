"""The gateway's machine: one answer for each call, by its deadline, and true."""

from typing import Any

import pytest

from homing.core.calls import SETTLED_AFTER_S, SETTLED_LENGTH_MAX, Calls
from homing.core.machine import (
    Abandoned,
    Draining,
    DrainTimedOut,
    Event,
    Expel,
    Finished,
    Learn,
    PeerFound,
    PeerLost,
    Prepared,
    Received,
    Send,
    Settle,
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
    RejectKind,
    Release,
    Request,
    Settled,
    Workers,
)
from homing.errors import Attempt, Effect, Outcome, failure
from tests.core.people import BACKUP, BROKER, BROKER_LIFE, GATEWAY, OK, ONE, TWO, A, B, C, lost, request, submitted, unreachable
from tests.core.playbook import Playbook, Said, like


def consistent(calls: Calls) -> None:
    """What must be true of the tables between any two events."""
    assert len(calls) == len(calls._calls) == len(calls._deadlines)
    assert all(call_id in calls._deadlines for call_id in calls._calls)
    for peer, outstanding in calls._brokers.items():
        assert outstanding == sum(call.broker == peer for call in calls._calls.values())
    for call in calls._calls.values():
        assert not (call.abandoned and call.holder is None)
        assert call.holder is None or not call.endings or call.holder not in call.endings
    assert calls.granted == sum(call.holder is not None for call in calls._calls.values())


def gateway(*, brokers: tuple[bytes, ...] = (BROKER,), heartbeat_s: float = 0.0) -> Playbook[Calls]:
    play = Playbook(Calls(GATEWAY, heartbeat_s=heartbeat_s, frame_bytes_max=4096), check=consistent)
    for broker in brokers:
        play.hears(PeerFound(broker)).says(Send(broker, Hello(GATEWAY, b"", 4096 if heartbeat_s else 0)))
    return play


def holding(effect: Effect = "once", call: bytes = A, **fields) -> Playbook[Calls]:
    """A gateway that has granted one call to worker ONE under claim 1."""
    play = gateway()
    play.hears(submitted(call, effect=effect, **fields)).whatever()
    play.gets(BROKER, Claim(call, ONE, 1)).says(Send(BROKER, like(Grant, life=ONE, claim=1)))
    return play


def settles(call: bytes = A, **fields) -> object:
    return Settle(call, like(Outcome, **fields))


def answer_of(said: Said) -> Outcome:
    return said.one(Settle).outcome


# Submit


def test_a_submitted_call_is_given_to_the_broker() -> None:
    gateway().hears(submitted(A)).says(Send(BROKER, request(A)))


def test_a_call_submitted_before_any_broker_is_there_waits_for_one() -> None:
    play = gateway(brokers=())
    play.hears(submitted(A)).says_nothing()
    play.at(4.0).hears(PeerFound(BROKER)).says(Send(BROKER, Hello(GATEWAY)), Send(BROKER, request(A, remaining_ms=6000)))


def test_a_broker_without_a_worker_says_nothing_of_the_others() -> None:
    """A worker may reach one of them only."""
    play = gateway(brokers=(BROKER, BACKUP))
    play.hears(submitted(A)).says(Send(BROKER, request(A)))
    play.at(5.0).gets(BROKER, Reject(A, "refused", "no_worker")).says(Send(BACKUP, request(A, remaining_ms=5000)))
    play.gets(BROKER, Reject(A, "refused", "no_worker")).says_nothing()
    play.gets(BACKUP, Claim(A, ONE, 1), Final(A, ONE, 1, OK)).says_among_others(settles(A, reason="ok"))


def test_where_no_broker_has_a_worker_the_last_one_says_so() -> None:
    play = gateway(brokers=(BROKER, BACKUP))
    play.hears(submitted(A)).says(Send(BROKER, request(A)))
    play.gets(BROKER, Reject(A, "refused", "no_worker")).says(Send(BACKUP, request(A)))
    play.gets(BACKUP, Reject(A, "refused", "no_worker", retry_after_ms=5000)).says(
        settles(A, reason="no_worker", executed="no", retry="safe", retry_after_ms=5000)
    )


def test_where_the_other_broker_is_lost_the_first_is_asked_once_more() -> None:
    play = gateway(brokers=(BROKER, BACKUP))
    play.hears(submitted(A)).says(Send(BROKER, request(A)))
    play.gets(BROKER, Reject(A, "refused", "no_worker")).says(Send(BACKUP, request(A)))
    play.hears(PeerLost(BACKUP)).says(Send(BROKER, request(A)))
    play.gets(BROKER, Reject(A, "refused", "no_worker")).says(settles(A, reason="no_worker"))


def test_a_call_goes_to_the_broker_with_the_fewest_outstanding() -> None:
    play = gateway(brokers=(BROKER, BACKUP))
    play.hears(submitted(A)).says(Send(BROKER, request(A)))
    play.hears(submitted(B)).says(Send(BACKUP, request(B)))
    play.gets(BACKUP, Claim(B, ONE, 1), Final(B, ONE, 1, OK)).whatever()
    play.hears(submitted(C)).says(Send(BACKUP, request(C)))


def test_a_call_id_submitted_twice_is_one_call() -> None:
    play = gateway()
    play.hears(submitted(A)).whatever()
    play.hears(submitted(A)).says_nothing()
    assert len(play.machine) == 1


def test_a_call_whose_deadline_has_passed_settles_at_once() -> None:
    gateway().at(10.0).hears(submitted(A)).says(settles(reason="expired", executed="no", retry="safe"))


def test_a_draining_gateway_takes_nothing_new() -> None:
    play = gateway()
    play.hears(Draining()).says_nothing()
    play.hears(submitted(A)).says(settles(reason="draining", executed="no", retry="safe", timeout_ms=10_000))


# Claim and grant


def test_the_first_claim_is_granted_with_the_time_that_is_left() -> None:
    play = gateway()
    play.hears(submitted(A)).whatever()
    play.at(4.0).gets(BROKER, Claim(A, ONE, 1)).says(Send(BROKER, Grant(A, ONE, 1, 6000)))
    assert play.machine.granted == 1


def test_the_holders_repeat_gets_the_same_grant() -> None:
    play = gateway()
    play.hears(submitted(A)).whatever()
    play.at(4.0).gets(BROKER, Claim(A, ONE, 1)).says(Send(BROKER, Grant(A, ONE, 1, 6000)))
    play.at(4.3).gets(BROKER, Claim(A, ONE, 1)).says(Send(BROKER, Grant(A, ONE, 1, 6000)))


@pytest.mark.parametrize("effect", ["once", "keyed", "safe"])
@pytest.mark.parametrize("other", [(TWO, 1), (ONE, 2)], ids=["another life", "another claim"])
def test_any_other_claim_is_denied_while_one_holds(effect: Effect, other: tuple[bytes, int]) -> None:
    holding(effect).gets(BROKER, Claim(A, *other)).says(Send(BROKER, Deny(A, *other)))


def test_the_answer_to_a_claim_goes_back_the_way_it_came() -> None:
    play = gateway(brokers=(BROKER, BACKUP))
    play.hears(submitted(A)).says(Send(BROKER, request(A)))
    play.gets(BACKUP, Claim(A, ONE, 1)).says(Send(BACKUP, like(Grant)))


def test_a_claim_for_a_call_nobody_knows_is_denied() -> None:
    gateway().gets(BROKER, Claim(A, ONE, 1)).says(Send(BROKER, Deny(A, ONE, 1)))


def test_a_claim_for_a_settled_call_is_denied() -> None:
    play = holding()
    play.gets(BROKER, Final(A, ONE, 1, OK)).whatever()
    play.gets(BROKER, Claim(A, ONE, 1), Claim(A, TWO, 1)).says(Send(BROKER, Deny(A, ONE, 1)), Send(BROKER, Deny(A, TWO, 1)))


def test_a_claim_at_the_deadline_is_denied_and_the_call_settles() -> None:
    play = gateway()
    play.hears(submitted(A)).whatever()
    play.at(10.0).gets(BROKER, Claim(A, ONE, 1)).says(
        Send(BROKER, Deny(A, ONE, 1)), Send(BROKER, Cancel(A)), settles(reason="expired", executed="no")
    )


def test_a_cancelled_call_is_denied() -> None:
    play = gateway()
    play.hears(submitted(A)).whatever()
    play.hears(Abandoned(A)).whatever()
    play.gets(BROKER, Claim(A, ONE, 1)).says(Send(BROKER, Deny(A, ONE, 1)))


def test_a_draining_gateway_still_grants() -> None:
    play = gateway()
    play.hears(submitted(A)).whatever()
    play.hears(Draining()).says_nothing()
    play.gets(BROKER, Claim(A, ONE, 1)).says(Send(BROKER, Grant(A, ONE, 1, 10_000)))
    play.gets(BROKER, Final(A, ONE, 1, OK)).says(like(Send), Settle(A, OK))


# Release


def test_a_released_call_is_given_to_the_broker_again() -> None:
    play = holding()
    play.at(1.0).gets(BROKER, Release(A, ONE, 1)).says(Send(BROKER, request(A, remaining_ms=9000)))
    assert play.machine.granted == 0


def test_a_released_once_call_may_be_granted_to_another_claim() -> None:
    play = holding("once")
    play.gets(BROKER, Release(A, ONE, 1)).whatever()
    play.gets(BROKER, Claim(A, TWO, 1)).says(Send(BROKER, like(Grant, life=TWO)))


@pytest.mark.parametrize("other", [(TWO, 1), (ONE, 2)], ids=["another life", "another claim"])
def test_a_release_frees_only_exactly_the_claim_that_holds(other: tuple[bytes, int]) -> None:
    play = holding()
    play.gets(BROKER, Release(A, *other)).says_nothing()
    play.gets(BROKER, Claim(A, *other)).says(Send(BROKER, Deny(A, *other)))


def test_a_release_of_a_claim_that_never_arrived_makes_the_gateway_submit_again() -> None:
    play = gateway()
    play.hears(submitted(A)).whatever()
    play.at(2.0).gets(BROKER, Release(A, ONE, 1)).says(Send(BROKER, request(A, remaining_ms=8000)))


def test_a_release_for_a_settled_call_is_nothing() -> None:
    gateway().gets(BROKER, Release(A, ONE, 1)).says_nothing()


def test_an_abandoned_call_that_is_released_is_cancelled_and_proven_no() -> None:
    play = holding()
    play.hears(Abandoned(A)).says_nothing()
    play.gets(BROKER, Release(A, ONE, 1)).says(Send(BROKER, Cancel(A)), settles(reason="cancelled", executed="no"))


# Final


def test_the_outcome_of_the_holder_settles_the_call_and_the_worker_is_told() -> None:
    play = holding()
    play.gets(BROKER, Final(A, ONE, 1, OK)).says(Send(BROKER, Settled(ONE, (A,))), Settle(A, OK))
    assert len(play.machine) == 0


@pytest.mark.parametrize("other", [(TWO, 1), (ONE, 2)], ids=["another life", "another claim"])
def test_an_outcome_of_a_claim_that_was_never_granted_is_not_believed(other: tuple[bytes, int]) -> None:
    play = holding()
    play.gets(BROKER, Final(A, *other, OK)).says(Send(BROKER, Settled(other[0], (A,))))
    assert len(play.machine) == 1


def test_an_outcome_for_an_ungranted_call_is_not_believed() -> None:
    play = gateway()
    play.hears(submitted(A)).whatever()
    play.gets(BROKER, Final(A, ONE, 1, OK)).says(Send(BROKER, Settled(ONE, (A,))))
    assert len(play.machine) == 1


def test_settled_is_said_for_unknown_calls_too() -> None:
    gateway().gets(BROKER, Final(A, ONE, 1, OK)).says(Send(BROKER, Settled(ONE, (A,))))


def test_an_outcome_that_comes_twice_settles_once() -> None:
    play = holding()
    play.gets(BROKER, Final(A, ONE, 1, OK), Final(A, ONE, 1, OK)).says(
        Send(BROKER, Settled(ONE, (A,))), Settle(A, OK), Send(BROKER, Settled(ONE, (A,)))
    )


def test_a_refused_connection_settles_with_a_proven_no() -> None:
    play = holding()
    said = play.gets(BROKER, Final(A, ONE, 1, unreachable()))
    said.says(Send(BROKER, Settled(ONE, (A,))), settles(reason="provider_unreachable", executed="no", retry="safe"))


@pytest.mark.parametrize("granted_at", [0.0, 2.5])
def test_a_worker_that_contradicts_its_own_attempts_has_proven_nothing(granted_at: float) -> None:
    play = gateway()
    play.hears(submitted(A)).whatever()
    play.at(granted_at).gets(BROKER, Claim(A, ONE, 1)).whatever()
    final = failure("provider_refused", "no such account", executed="no")
    final.attempts = (Attempt(provider="acme", started_ms=0, duration_ms=700, reason="connection_lost", executed="unknown"),)
    answer = answer_of(play.gets(BROKER, Final(A, ONE, 1, final)))
    assert (answer.executed, answer.retry) == ("unknown", "unsafe")


def test_the_times_of_attempts_count_from_admission() -> None:
    play = gateway().at(1.0)
    play.hears(submitted(A)).whatever()
    play.at(3.5).gets(BROKER, Claim(A, ONE, 1)).whatever()
    tried = Attempt(provider="acme", started_ms=10, duration_ms=700, reason="connection_lost", executed="unknown")
    final = lost()
    final.attempts = (tried,)
    answer = answer_of(play.at(4.5).gets(BROKER, Final(A, ONE, 1, final)))
    assert answer.attempts == (
        Attempt(provider="acme", started_ms=2510, duration_ms=700, reason="connection_lost", executed="unknown"),
    )


def test_times_stay_as_they_are_when_the_grant_came_at_once() -> None:
    tried = Attempt(provider="acme", started_ms=10, duration_ms=700, reason="connection_lost", executed="unknown")
    final = lost()
    final.attempts = (tried,)
    assert answer_of(holding().gets(BROKER, Final(A, ONE, 1, final))).attempts == (tried,)


def test_the_times_of_an_earlier_claim_count_from_its_own_grant() -> None:
    play = gateway()
    play.hears(submitted(A, effect="keyed")).whatever()
    play.at(1.0).gets(BROKER, Claim(A, ONE, 1)).whatever()
    play.at(2.0).gets(BROKER, Lost(A, ONE, 1)).whatever()
    play.at(5.0).gets(BROKER, Claim(A, TWO, 1)).whatever()
    late = lost()
    late.attempts = (Attempt(provider="acme", started_ms=0, duration_ms=900, reason="connection_lost", executed="unknown"),)
    play.gets(BROKER, Final(A, ONE, 1, late)).whatever()
    answer = answer_of(play.at(6.0).gets(BROKER, Final(A, TWO, 1, lost())))
    assert [attempt.started_ms for attempt in answer.attempts] == [1000]


# Reject


def test_a_reject_settles_an_unclaimed_call_with_a_proven_no() -> None:
    play = gateway()
    play.hears(submitted(A)).whatever()
    reject = Reject(A, "refused", "overloaded", "The queue is full.", 1200, "broker.queue_length_max")
    play.gets(BROKER, reject).says(
        settles(
            reason="overloaded",
            executed="no",
            retry="safe",
            message="The queue is full.",
            retry_after_ms=1200,
            limit="broker.queue_length_max",
        )
    )


def test_after_a_reject_every_claim_is_denied() -> None:
    play = gateway()
    play.hears(submitted(A)).whatever()
    play.gets(BROKER, Reject(A, "refused", "no_worker")).whatever()
    play.gets(BROKER, Claim(A, ONE, 1)).says(Send(BROKER, Deny(A, ONE, 1)))


def test_a_reject_is_ignored_once_the_call_is_claimed() -> None:
    play = holding()
    play.gets(BROKER, Reject(A, "refused", "overloaded")).says_nothing()
    play.gets(BROKER, Final(A, ONE, 1, OK)).says(like(Send), Settle(A, OK))


def test_a_reject_for_a_settled_call_is_nothing() -> None:
    gateway().gets(BROKER, Reject(A, "refused", "overloaded")).says_nothing()


def test_a_reject_of_a_broker_that_no_longer_has_the_call_is_ignored() -> None:
    play = gateway(brokers=(BROKER, BACKUP))
    play.hears(submitted(A)).says(Send(BROKER, request(A)))
    play.hears(PeerLost(BROKER)).says(Send(BACKUP, request(A)))
    play.gets(BROKER, Reject(A, "refused", "overloaded")).says_nothing()
    assert len(play.machine) == 1


@pytest.mark.parametrize("kind", ["again", "drop"])
def test_a_reject_that_is_the_brokers_business_settles_nothing(kind: RejectKind) -> None:
    play = gateway()
    play.hears(submitted(A)).whatever()
    play.gets(BROKER, Reject(A, kind)).says_nothing()
    assert len(play.machine) == 1


def test_a_reject_after_an_unknown_attempt_does_not_make_it_a_no() -> None:
    play = holding("keyed")
    play.gets(BROKER, Lost(A, ONE, 1)).whatever()
    answer = answer_of(play.gets(BROKER, Reject(A, "refused", "overloaded")))
    assert (answer.reason, answer.executed, answer.retry) == ("worker_lost", "unknown", "same_key")


# Lost workers


def test_a_once_call_whose_worker_is_lost_settles_as_unknown() -> None:
    play = holding("once")
    play.gets(BROKER, Lost(A, ONE, 1)).says_among_others(
        Send(BROKER, LostSeen(A, ONE, 1)), settles(reason="worker_lost", executed="unknown", retry="unsafe")
    )


@pytest.mark.parametrize("effect", ["keyed", "safe"])
def test_a_call_that_may_be_repeated_is_dispatched_again_and_carries_what_was_done(effect: Effect) -> None:
    play = holding(effect)
    again = request(A, effect=effect, attempts=1, executed="unknown", remaining_ms=8000)
    play.at(2.0).gets(BROKER, Lost(A, ONE, 1)).says(Send(BROKER, LostSeen(A, ONE, 1)), Send(BROKER, again))
    play.gets(BROKER, Claim(A, TWO, 1)).says(Send(BROKER, Grant(A, TWO, 1, 8000)))


def test_lost_counts_only_for_the_present_holder() -> None:
    play = holding("once")
    play.gets(BROKER, Lost(A, TWO, 1), Lost(A, ONE, 2)).says(Send(BROKER, LostSeen(A, TWO, 1)), Send(BROKER, LostSeen(A, ONE, 2)))
    assert play.machine.granted == 1


def test_every_lost_is_seen_that_of_a_settled_call_too() -> None:
    gateway().gets(BROKER, Lost(A, ONE, 1)).says(Send(BROKER, LostSeen(A, ONE, 1)))


def test_a_lost_that_comes_twice_is_one_loss() -> None:
    play = holding("keyed")
    play.gets(BROKER, Lost(A, ONE, 1)).whatever()
    play.gets(BROKER, Lost(A, ONE, 1)).says(Send(BROKER, LostSeen(A, ONE, 1)))


def test_the_third_lost_worker_is_the_last_attempt() -> None:
    play = gateway()
    play.hears(submitted(A, effect="safe")).whatever()
    for life in (ONE, TWO):
        play.gets(BROKER, Claim(A, life, 1)).whatever()
        play.gets(BROKER, Lost(A, life, 1)).says(like(Send), Send(BROKER, like(Request)))
    play.gets(BROKER, Claim(A, ONE, 2)).whatever()
    play.gets(BROKER, Lost(A, ONE, 2)).says_among_others(settles(reason="worker_lost", executed="unknown", retry="safe"))


def test_attempts_max_bounds_the_dispatches() -> None:
    play = holding("safe", attempts_max=1)
    play.gets(BROKER, Lost(A, ONE, 1)).says_among_others(settles(reason="worker_lost"))


def test_a_lost_claim_does_not_begin_afresh() -> None:
    play = holding("keyed")
    play.gets(BROKER, Lost(A, ONE, 1)).whatever()
    play.gets(BROKER, Claim(A, ONE, 1)).says(Send(BROKER, Deny(A, ONE, 1)))


def test_a_lost_claim_that_is_released_after_all_was_never_an_attempt() -> None:
    play = holding("keyed")
    play.gets(BROKER, Lost(A, ONE, 1)).whatever()
    play.gets(BROKER, Release(A, ONE, 1)).says(Send(BROKER, request(A, effect="keyed", attempts=0, executed="no")))
    answer = answer_of(play.passes(10.0))
    assert (answer.reason, answer.executed) == ("expired", "no")


def test_a_release_of_a_lost_claim_leaves_the_present_holder_alone() -> None:
    play = holding("keyed")
    play.gets(BROKER, Lost(A, ONE, 1), Claim(A, TWO, 1)).whatever()
    play.gets(BROKER, Release(A, ONE, 1)).says_nothing()
    assert play.machine.granted == 1
    answer = answer_of(play.gets(BROKER, Final(A, TWO, 1, unreachable())))
    assert (answer.reason, answer.executed) == ("provider_unreachable", "no")


def test_an_abandoned_call_whose_worker_is_lost_is_not_dispatched_again() -> None:
    play = holding("safe")
    play.hears(Abandoned(A)).says_nothing()
    play.gets(BROKER, Lost(A, ONE, 1)).never_says(Request).says_among_others(settles(reason="worker_lost", executed="unknown"))


# A worker that was declared lost too early


def lost_too_early(effect: Effect = "keyed") -> Playbook[Calls]:
    """Claim 1 of worker ONE was declared lost, and a copy lies with the broker again."""
    play = holding(effect)
    play.gets(BROKER, Lost(A, ONE, 1)).whatever()
    return play


def test_an_ok_of_a_lost_worker_settles_the_call_and_takes_back_the_copy() -> None:
    lost_too_early().gets(BROKER, Final(A, ONE, 1, OK)).says(
        Send(BROKER, Settled(ONE, (A,))), Send(BROKER, Cancel(A)), Settle(A, like(Outcome, reason="ok", executed="yes"))
    )


def test_an_ok_of_a_lost_worker_settles_though_another_holds_the_call() -> None:
    play = lost_too_early()
    play.gets(BROKER, Claim(A, TWO, 1)).whatever()
    play.gets(BROKER, Final(A, ONE, 1, OK)).says(like(Send), Settle(A, like(Outcome, reason="ok")))
    play.gets(BROKER, Final(A, TWO, 1, unreachable())).says(Send(BROKER, Settled(TWO, (A,))))


def test_an_error_of_a_lost_worker_settles_nothing_while_another_runs() -> None:
    play = lost_too_early()
    play.gets(BROKER, Claim(A, TWO, 1)).whatever()
    play.gets(BROKER, Final(A, ONE, 1, lost())).says(Send(BROKER, Settled(ONE, (A,))))
    answer = answer_of(play.gets(BROKER, Final(A, TWO, 1, unreachable())))
    assert (answer.reason, answer.executed) == ("connection_lost", "unknown")


def test_a_proven_no_of_a_lost_worker_lifts_the_doubt() -> None:
    play = lost_too_early()
    play.gets(BROKER, Claim(A, TWO, 1)).whatever()
    play.gets(BROKER, Final(A, ONE, 1, unreachable())).whatever()
    answer = answer_of(play.gets(BROKER, Final(A, TWO, 1, failure("circuit_open", "open"))))
    assert (answer.reason, answer.executed, answer.retry) == ("circuit_open", "no", "safe")


def test_an_error_of_a_lost_worker_settles_when_nobody_else_has_begun() -> None:
    """The broker takes its copy back with that worker's FINAL, so to wait for it would be to wait for the deadline."""
    play = lost_too_early()
    play.gets(BROKER, Final(A, ONE, 1, lost())).says(
        Send(BROKER, Settled(ONE, (A,))), Send(BROKER, Cancel(A)), settles(reason="connection_lost", executed="unknown")
    )
    play.gets(BROKER, Claim(A, TWO, 1)).says(Send(BROKER, Deny(A, TWO, 1)))


# The join over dispatches


def test_executed_is_the_strongest_over_all_dispatches() -> None:
    play = lost_too_early()
    play.gets(BROKER, Claim(A, TWO, 1)).whatever()
    answer = answer_of(play.gets(BROKER, Final(A, TWO, 1, failure("provider_refused", "no"))))
    assert (answer.reason, answer.executed, answer.retry) == ("worker_lost", "unknown", "same_key")


def test_a_refusal_by_a_row_of_ones_own_settles_the_earlier_attempt_of_a_keyed_call() -> None:
    play = lost_too_early("keyed")
    play.gets(BROKER, Claim(A, TWO, 1)).whatever()
    refused = Outcome(reason="provider_refused", executed="no", settles_earlier=True)
    answer = answer_of(play.gets(BROKER, Final(A, TWO, 1, refused)))
    assert (answer.reason, answer.executed, answer.retry) == ("provider_refused", "no", "pointless")


def test_a_refusal_settles_nothing_earlier_where_there_is_no_key() -> None:
    play = lost_too_early("safe")
    play.gets(BROKER, Claim(A, TWO, 1)).whatever()
    refused = Outcome(reason="provider_refused", executed="no", settles_earlier=True)
    answer = answer_of(play.gets(BROKER, Final(A, TWO, 1, refused)))
    assert (answer.reason, answer.executed, answer.retry) == ("worker_lost", "unknown", "safe")


def test_an_answer_lists_the_attempts_of_all_dispatches() -> None:
    play = lost_too_early()
    play.gets(BROKER, Claim(A, TWO, 1)).whatever()
    tries = [Attempt(provider="acme", started_ms=n, duration_ms=1, reason="connection_lost", executed="unknown") for n in (0, 1)]
    first, second = lost(), lost()
    first.attempts, second.attempts = (tries[0],), (tries[1],)
    play.gets(BROKER, Final(A, ONE, 1, first)).whatever()
    assert answer_of(play.gets(BROKER, Final(A, TWO, 1, second))).attempts == tuple(tries)


def test_attempts_within_a_dispatch_count_towards_the_three() -> None:
    play = holding("safe")
    play.gets(BROKER, Lost(A, ONE, 1), Claim(A, TWO, 1)).whatever()
    first = lost()
    first.attempts = tuple(
        Attempt(provider="acme", started_ms=n, duration_ms=1, reason="connection_lost", executed="unknown") for n in (0, 1)
    )
    play.gets(BROKER, Final(A, ONE, 1, first)).whatever()
    play.gets(BROKER, Lost(A, TWO, 1)).never_says(Request).says_among_others(settles(reason="worker_lost"))


# The caller hangs up


def test_a_queued_call_whose_caller_hangs_up_is_cancelled() -> None:
    play = gateway()
    play.hears(submitted(A)).whatever()
    play.hears(Abandoned(A)).says(Send(BROKER, Cancel(A)), settles(reason="cancelled", executed="no", retry="safe"))


def test_a_begun_call_runs_to_its_end_though_its_caller_hung_up() -> None:
    play = holding()
    play.hears(Abandoned(A)).says_nothing()
    play.hears(Abandoned(A)).says_nothing()
    play.gets(BROKER, Final(A, ONE, 1, OK)).says(like(Send), Settle(A, OK))


def test_hanging_up_on_a_settled_call_is_nothing() -> None:
    gateway().hears(Abandoned(A)).says_nothing()


def test_a_call_in_doubt_stays_in_doubt_when_its_caller_hangs_up() -> None:
    answer = answer_of(lost_too_early().hears(Abandoned(A)))
    assert (answer.reason, answer.executed) == ("worker_lost", "unknown")


# Time


def test_an_ungranted_call_expires_at_its_deadline_as_a_proven_no() -> None:
    play = gateway()
    play.hears(submitted(A)).whatever()
    play.passes(9.999).says_nothing()
    play.passes(0.001).says(Send(BROKER, Cancel(A)), settles(reason="expired", executed="no", retry="safe"))


def test_a_granted_call_is_unknown_at_its_deadline() -> None:
    play = holding()
    play.passes(9.999).says_nothing()
    play.passes(0.001).says(settles(reason="deadline_exceeded", executed="unknown", retry="unsafe"))
    play.gets(BROKER, Final(A, ONE, 1, OK)).says(Send(BROKER, Settled(ONE, (A,))))


def test_a_call_in_doubt_stays_in_doubt_at_its_deadline() -> None:
    answer = answer_of(lost_too_early().passes(10.0))
    assert (answer.reason, answer.executed) == ("worker_lost", "unknown")


def test_without_a_broker_until_the_deadline_an_ungranted_call_is_a_proven_no() -> None:
    play = gateway(brokers=())
    play.hears(submitted(A)).says_nothing()
    play.passes(10.0).says(settles(reason="broker_lost", executed="no", retry="safe"))


def test_without_a_broker_until_the_deadline_a_granted_call_is_unknown() -> None:
    play = holding("once")
    play.hears(PeerLost(BROKER)).says_nothing()
    play.passes(10.0).says(settles(reason="broker_lost", executed="unknown", retry="unsafe"))


def test_each_call_settles_at_its_own_deadline() -> None:
    play = gateway()
    play.hears(submitted(A, deadline=3.0), submitted(B, deadline=2.0)).whatever()
    play.passes(2.0).says(like(Send), settles(B, reason="expired"))
    play.passes(1.0).says(like(Send), settles(A, reason="expired"))
    assert play.machine.next_deadline() is None


# What an error says


def test_an_error_names_the_timeout_as_granted() -> None:
    play = gateway()
    play.hears(submitted(A, timeout_ms=10_000)).whatever()
    assert answer_of(play.passes(10.0)).timeout_ms == 10_000


def test_an_error_of_a_keyed_call_names_the_callers_key_and_how_long_it_is_good() -> None:
    play = holding("keyed", key_lifetime_s=86_400.0, attempts_max=1)
    answer = answer_of(play.at(4.0).gets(BROKER, Lost(A, ONE, 1)))
    assert (answer.retry, answer.idempotency_key, answer.key_expires_ms) == ("same_key", "order-17", 86_396_000)


def test_the_life_of_a_key_counts_from_admission() -> None:
    play = gateway().at(3.0)
    play.hears(submitted(A, effect="keyed", key_lifetime_s=100.0, deadline=8.0)).whatever()
    assert answer_of(play.passes(5.0)).key_expires_ms == 95_000


def test_a_key_that_has_expired_says_so() -> None:
    play = holding("keyed", key_lifetime_s=1.0)
    answer = answer_of(play.passes(10.0))
    assert (answer.key_expires_ms, answer.executed, answer.retry) == (0, "unknown", "unsafe")


def test_a_key_that_has_expired_does_no_harm_where_nothing_was_done() -> None:
    play = gateway()
    play.hears(submitted(A, effect="keyed", key_lifetime_s=1.0)).whatever()
    answer = answer_of(play.passes(10.0))
    assert (answer.executed, answer.retry) == ("no", "safe")


def test_a_keyed_call_is_not_dispatched_again_once_its_provider_may_have_forgotten_the_key() -> None:
    play = holding("keyed", key_lifetime_s=2.0)
    said = play.at(2.0).gets(BROKER, Lost(A, ONE, 1))
    said.says_among_others(settles(reason="worker_lost", executed="unknown", retry="unsafe"))


def test_nor_does_another_worker_begin_it() -> None:
    play = holding("keyed", key_lifetime_s=2.0)
    play.at(1.5).gets(BROKER, Lost(A, ONE, 1)).says(like(Send), Send(BROKER, like(Request)))
    said = play.at(2.0).gets(BROKER, Claim(A, TWO, 1))
    said.says(Send(BROKER, Deny(A, TWO, 1)), Send(BROKER, Cancel(A)), settles(reason="worker_lost", retry="unsafe"))


@pytest.mark.parametrize("effect", ["once", "safe"])
def test_an_error_of_a_call_without_a_key_names_none(effect: Effect) -> None:
    answer = answer_of(holding(effect, key_lifetime_s=86_400.0).passes(10.0))
    assert (answer.idempotency_key, answer.key_expires_ms) == (None, None)


def test_a_result_is_passed_on_untouched() -> None:
    play = holding("keyed", key_lifetime_s=86_400.0)
    assert play.gets(BROKER, Final(A, ONE, 1, OK)).one(Settle).outcome is OK


# Drain


def test_draining_lets_queued_and_running_calls_end() -> None:
    play = holding(call=A)
    play.hears(submitted(B)).whatever()
    play.hears(Draining()).says_nothing()
    assert len(play.machine) == 2


def test_what_is_left_when_draining_ends_settles_truthfully() -> None:
    play = holding(call=A)
    play.hears(submitted(B)).whatever()
    play.hears(Draining(), DrainTimedOut()).says(
        settles(A, reason="cancelled", executed="unknown", retry="unsafe"),
        Send(BROKER, Cancel(B)),
        settles(B, reason="draining", executed="no", retry="safe"),
    )
    assert len(play.machine) == 0
    play.hears(submitted(C)).says(settles(C, reason="draining"))


def test_a_call_in_doubt_stays_in_doubt_when_draining_ends() -> None:
    answer = answer_of(lost_too_early().hears(DrainTimedOut()))
    assert (answer.reason, answer.executed) == ("worker_lost", "unknown")


# Brokers come and go


def test_a_lost_broker_costs_a_pause_and_no_call() -> None:
    play = gateway()
    play.hears(submitted(A)).whatever()
    play.hears(PeerLost(BROKER)).says_nothing()
    play.at(1.0).hears(PeerFound(BROKER)).says(Send(BROKER, Hello(GATEWAY)), Send(BROKER, request(A, remaining_ms=9000)))


def test_calls_of_a_lost_broker_go_to_another() -> None:
    play = gateway(brokers=(BROKER, BACKUP))
    play.hears(submitted(A)).says(Send(BROKER, request(A)))
    play.hears(PeerLost(BROKER)).says(Send(BACKUP, request(A)))
    play.hears(PeerFound(BROKER)).says(Send(BROKER, Hello(GATEWAY)))


def test_a_granted_call_is_not_submitted_again_when_its_broker_is_lost() -> None:
    play = holding()
    play.hears(PeerLost(BROKER)).says_nothing()
    play.hears(PeerFound(BROKER)).says(Send(BROKER, Hello(GATEWAY)))
    play.gets(BROKER, Final(A, ONE, 1, OK)).says(like(Send), Settle(A, OK))


def test_a_granted_call_whose_broker_was_lost_is_given_to_another_once_it_is_released() -> None:
    play = holding()
    play.hears(PeerLost(BROKER)).says_nothing()
    play.hears(PeerFound(BACKUP)).whatever()
    play.gets(BACKUP, Release(A, ONE, 1)).says(Send(BACKUP, request(A)))


def test_losing_a_broker_nobody_uses_is_nothing() -> None:
    gateway().hears(PeerLost(BACKUP)).says_nothing()


def test_a_broker_that_asks_who_we_are_is_told_and_given_everything_ungranted() -> None:
    play = holding(call=A)
    play.hears(submitted(B)).whatever()
    play.gets(BROKER, Disconnect()).says(Send(BROKER, Hello(GATEWAY)), Send(BROKER, request(B)))


def beat(life: bytes = BROKER_LIFE, **fields: Any) -> Heartbeat:
    given: dict[str, Any] = {"life": life, "peer_life": GATEWAY, "sent": 0, "received": 0}
    return Heartbeat(**(given | fields))


def beating() -> Playbook[Calls]:
    """Gateway and broker know each other's lives; one call is queued."""
    play = gateway(heartbeat_s=1.0)
    play.gets(BROKER, beat()).says_nothing()
    play.hears(submitted(A)).says(Send(BROKER, request(A)))
    return play


def test_a_grant_that_may_have_gone_with_its_connection_is_said_again_the_same() -> None:
    """Its worker may have given up, and the release been lost too: to a grant it says it again, and the call is free."""
    play = beating()
    play.hears(submitted(A)).whatever()
    play.gets(BROKER, Claim(A, ONE, 1)).says(Send(BROKER, Grant(A, ONE, 1, 10_000)))
    play.hears(PeerLost(BROKER)).says_nothing()
    play.hears(PeerFound(BROKER)).says(Send(BROKER, like(Hello)))
    play.gets(BROKER, beat()).says(Send(BROKER, Grant(A, ONE, 1, 10_000)))
    play.gets(BROKER, Release(A, ONE, 1)).says(Send(BROKER, request(A)))


def test_a_broker_is_to_be_had_once_it_has_said_who_it_is() -> None:
    play = gateway(heartbeat_s=1.0)
    play.hears(submitted(A)).says_nothing()
    play.gets(BROKER, beat()).says(Send(BROKER, request(A)))


def test_a_broker_that_does_not_know_the_gateway_is_told_who_it_is() -> None:
    play = gateway(heartbeat_s=1.0)
    play.hears(submitted(A)).says_nothing()
    play.gets(BROKER, beat(peer_life=b"")).says(Send(BROKER, Hello(GATEWAY, BROKER_LIFE, 4096)), Send(BROKER, request(A)))


def test_a_broker_that_is_gone_is_not_to_be_had_whatever_still_comes_of_it() -> None:
    play = gateway(heartbeat_s=1.0)
    play.hears(PeerLost(BROKER)).says_nothing()
    play.gets(BROKER, beat()).says_nothing()
    play.gets(BROKER, Disconnect()).says_nothing()
    play.hears(submitted(A)).says_nothing()


def test_a_broker_found_again_is_given_what_it_had() -> None:
    play = beating()
    play.hears(PeerLost(BROKER)).says_nothing()
    play.hears(PeerFound(BROKER)).says(Send(BROKER, like(Hello, peer_life=b"")))
    play.gets(BROKER, beat()).says(Send(BROKER, request(A)))


def test_a_quiet_heartbeat_changes_nothing() -> None:
    beating().gets(BROKER, beat()).says_nothing()


def test_a_gap_makes_the_gateway_submit_again_what_it_has_not_granted() -> None:
    beating().gets(BROKER, beat(sent=3)).says(Send(BROKER, request(A)))
    hello = Send(BROKER, like(Hello))  # the broker says it again and again until this comes
    beating().gets(BROKER, beat(gap=True)).says(hello, Send(BROKER, request(A)))


def test_a_broker_with_a_new_life_is_told_everything_again() -> None:
    beating().gets(BROKER, beat(b"broker-reborn!!!", peer_life=b"")).says(
        Send(BROKER, Hello(GATEWAY, b"broker-reborn!!!", 4096)), Send(BROKER, request(A))
    )


def test_the_gateway_sends_heartbeats_with_what_it_has_sent_and_received() -> None:
    play = beating()
    play.gets(BROKER, Claim(A, ONE, 1)).whatever()
    said = play.passes(1.0).one(Heartbeat)
    assert said == Heartbeat(life=GATEWAY, peer_life=BROKER_LIFE, sent=3, received=1, frame_bytes_max=4096)


def test_deadlines_and_heartbeats_share_one_clock() -> None:
    play = beating()
    assert play.machine.next_deadline() == 1.0
    play.hears(submitted(B, deadline=0.5)).whatever()
    assert play.machine.next_deadline() == 0.5
    play.hears(PeerLost(BROKER)).whatever()
    assert play.machine.next_deadline() == 0.5


# Params that are too large for a frame


def reading(**bytes_max: int) -> Playbook[Calls]:
    """A gateway whose brokers read so large frames; 0 announces nothing."""
    brokers = tuple(name.encode() for name in bytes_max)
    play = gateway(heartbeat_s=1.0, brokers=brokers)
    for broker in brokers:
        play.gets(broker, beat(frame_bytes_max=bytes_max[broker.decode()])).says_nothing()
    return play


@pytest.mark.parametrize(("length", "fits"), [(100, True), (101, False)])
def test_params_that_no_broker_reads_settle_the_call_with_a_proven_no(length: int, fits: bool) -> None:
    play = reading(broker=100)
    said = play.hears(submitted(A, body=b"1" * length))
    if fits:
        said.says(Send(BROKER, like(Request)))
    else:
        expected = {"reason": "too_large", "executed": "no", "retry": "pointless", "limit": "broker.frame_bytes_max"}
        said.says(settles(A, message="The params have 101 bytes, and no broker reads more than 100.", **expected))
        assert play.machine.counts == {"request_too_large": 1}


def test_params_go_to_a_broker_that_reads_them() -> None:
    play = reading(broker=100, backup=200)
    for call in (A, B, C):
        play.hears(submitted(call, body=b"1" * 150)).says(Send(BACKUP, like(Request)))
    play.hears(PeerLost(BACKUP)).says(*(settles(call, reason="too_large", executed="no") for call in (A, B, C)))
    play.hears(submitted(A, body=b"1" * 100)).says(Send(BROKER, like(Request)))


def test_a_broker_that_comes_back_with_smaller_frames_is_not_given_what_it_had() -> None:
    play = reading(broker=200, backup=200)
    play.hears(submitted(A, body=b"1" * 150)).says(Send(BROKER, like(Request)))
    play.gets(BROKER, beat(b"broker-reborn!!!", frame_bytes_max=100)).says(Send(BROKER, like(Hello)), Send(BACKUP, like(Request)))


def test_a_broker_that_announces_nothing_reads_anything() -> None:
    reading(broker=0).hears(submitted(A, body=b"1" * 4096)).says(Send(BROKER, like(Request)))


def test_without_a_broker_nobody_knows_what_is_too_large() -> None:
    play = reading(broker=100)
    play.hears(PeerLost(BROKER)).says_nothing()
    play.hears(submitted(A, body=b"1" * 101)).says_nothing()
    play.hears(PeerFound(BROKER)).says(Send(BROKER, like(Hello)))
    play.gets(BROKER, beat(frame_bytes_max=100)).says(settles(A, reason="too_large"))


def test_params_that_no_broker_reads_any_more_leave_a_call_in_doubt_in_doubt() -> None:
    play = reading(broker=200)
    play.hears(submitted(A, effect="safe", body=b"1" * 150)).whatever()
    play.gets(BROKER, Claim(A, ONE, 1)).whatever()
    play.gets(BROKER, beat(sent=1, frame_bytes_max=100)).says_nothing()
    play.gets(BROKER, Lost(A, ONE, 1)).says(Send(BROKER, LostSeen(A, ONE, 1)), like(Send), settles(A, executed="unknown"))


# Several brokers, and whom they reach


def reaching(effect: Effect = "once", **lives: tuple[bytes, ...]) -> Playbook[Calls]:
    """A gateway whose brokers have said which lives they reach; worker ONE holds the call through the first."""
    brokers = tuple(name.encode() for name in lives)
    play = gateway(heartbeat_s=1.0, brokers=brokers)
    for broker in brokers:
        play.gets(broker, beat(), Workers(lives[broker.decode()])).says_nothing()
    play.hears(submitted(A, effect=effect)).whatever()
    play.gets(brokers[0], Claim(A, ONE, 1)).whatever()
    return play


UNKNOWN = (Send(BROKER, Cancel(A)), like(Settle, call_id=A, outcome=like(Outcome, reason="worker_lost", executed="unknown")))


def test_a_life_that_another_broker_reaches_is_not_lost_until_nobody_reaches_it() -> None:
    play = reaching(broker=(ONE, TWO), backup=(ONE, TWO))
    play.gets(BROKER, Workers((TWO,))).says_nothing()
    play.gets(BROKER, Lost(A, ONE, 1)).says(Send(BROKER, LostSeen(A, ONE, 1)))
    play.gets(BACKUP, Workers((ONE,))).says_nothing()
    play.gets(BACKUP, Workers((TWO,))).says(*UNKNOWN)


def test_a_life_that_another_broker_does_not_reach_is_lost_at_once() -> None:
    play = reaching(broker=(ONE,), backup=(TWO,))
    play.gets(BROKER, Lost(A, ONE, 1)).says(Send(BROKER, LostSeen(A, ONE, 1)), *UNKNOWN)


def test_what_the_broker_that_lost_it_said_before_does_not_count() -> None:
    """Its WORKERS may come after its LOST."""
    play = reaching(broker=(ONE,), backup=())
    play.gets(BROKER, Lost(A, ONE, 1)).says(Send(BROKER, LostSeen(A, ONE, 1)), *UNKNOWN)


def test_a_broker_that_is_gone_reaches_nobody() -> None:
    play = reaching(broker=(ONE,), backup=(ONE,))
    play.gets(BROKER, Lost(A, ONE, 1), Workers(())).says(Send(BROKER, LostSeen(A, ONE, 1)))
    play.hears(PeerLost(BACKUP)).says(*UNKNOWN)


def test_a_worker_that_lives_on_behind_another_broker_answers_through_it() -> None:
    play = reaching(broker=(ONE,), backup=(ONE,))
    play.gets(BROKER, Lost(A, ONE, 1), Workers(())).whatever()
    play.gets(BACKUP, Final(A, ONE, 1, OK)).says(settles(A, reason="ok"))
    play.passes(SETTLED_AFTER_S).says(Send(BACKUP, Settled(ONE, (A,))))
    play.gets(BACKUP, Workers(())).says_nothing()
    assert not play.machine._missing


def test_between_processes_several_outcomes_are_said_to_be_settled_together() -> None:
    play = gateway(heartbeat_s=1.0)
    play.gets(BROKER, Final(A, ONE, 1, OK), Final(B, TWO, 1, OK), Final(C, ONE, 2, OK)).says_nothing()
    together = (Send(BROKER, Settled(ONE, (A, C))), Send(BROKER, Settled(TWO, (B,))))
    play.passes(SETTLED_AFTER_S).says(*together)
    play.passes(0.5).never_says(Settled)


def test_no_more_are_said_to_be_settled_together_than_fit_one_message() -> None:
    play = gateway(heartbeat_s=1.0)
    for _ in range(SETTLED_LENGTH_MAX - 1):
        play.gets(BROKER, Final(A, ONE, 1, OK)).says_nothing()
    play.gets(BROKER, Final(B, ONE, 1, OK)).says(Send(BROKER, Settled(ONE, (A,) * (SETTLED_LENGTH_MAX - 1) + (B,))))
    play.passes(0.5).never_says(Settled)


def test_a_broker_that_is_gone_is_told_of_nothing_settled() -> None:
    play = gateway(heartbeat_s=1.0, brokers=(BROKER, BACKUP))
    play.gets(BROKER, Final(A, ONE, 1, OK)).says_nothing()
    play.gets(BACKUP, Final(B, ONE, 1, OK)).says_nothing()
    play.hears(PeerLost(BROKER)).whatever()
    play.passes(SETTLED_AFTER_S).says(Send(BACKUP, Settled(ONE, (B,))))


def test_who_leaves_says_at_once_what_is_settled() -> None:
    play = gateway(heartbeat_s=1.0)
    play.gets(BROKER, Final(A, ONE, 1, OK)).says_nothing()
    play.hears(Draining()).says(Send(BROKER, Settled(ONE, (A,))))
    play.gets(BROKER, Final(B, ONE, 1, OK)).says(Send(BROKER, Settled(ONE, (B,))))


def test_a_loss_that_does_not_count_ends_at_the_deadline_at_the_latest() -> None:
    play = reaching(broker=(ONE,), backup=(ONE,))
    play.gets(BROKER, Lost(A, ONE, 1), Workers(())).whatever()
    play.passes(10.0).says_among_others(settles(A, reason="deadline_exceeded", executed="unknown"))


def test_a_loss_of_an_earlier_claim_is_not_one_of_the_present_holder() -> None:
    play = reaching("keyed", broker=(ONE, TWO), backup=(ONE, TWO))
    play.gets(BROKER, Lost(A, ONE, 1)).whatever()
    play.gets(BROKER, Release(A, ONE, 1)).whatever()  # it never began after all
    play.gets(BROKER, Claim(A, TWO, 1)).says(Send(BROKER, like(Grant, life=TWO)))
    play.gets(BROKER, Workers((TWO,))).says_nothing()
    play.gets(BACKUP, Workers((TWO,))).says_nothing()
    play.gets(BROKER, Claim(A, TWO, 1)).says(Send(BROKER, like(Grant, life=TWO)))


def test_what_may_be_repeated_is_dispatched_again_once_the_loss_counts() -> None:
    play = reaching("safe", broker=(ONE,), backup=(ONE,))
    play.gets(BROKER, Lost(A, ONE, 1), Workers(())).whatever()
    play.gets(BACKUP, Workers(())).says(Send(BROKER, like(Request, attempts=1, executed="unknown")))


def test_only_lost_calls_of_lives_that_nobody_reaches_are_lost() -> None:
    play = reaching(broker=(ONE, TWO), backup=(ONE, TWO))
    for call, life in ((B, TWO), (C, ONE)):
        play.hears(submitted(call)).whatever()
        play.gets(BROKER, Claim(call, life, 2)).whatever()
    play.gets(BROKER, Lost(A, ONE, 1), Lost(B, TWO, 2)).whatever()
    play.gets(BROKER, Workers((TWO,))).says_nothing()
    play.gets(BACKUP, Workers((TWO,))).says(*UNKNOWN)
    assert len(play.machine) == 2


def test_a_broker_that_has_started_anew_says_that_a_life_is_lost_with_all_its_claims() -> None:
    play = holding()
    play.gets(BROKER, Lost(A, TWO, 0)).says(Send(BROKER, LostSeen(A, TWO, 0)))
    play.gets(BROKER, Lost(A, ONE, 0)).says(Send(BROKER, LostSeen(A, ONE, 0)), *UNKNOWN)
    play.gets(BROKER, Lost(A, ONE, 0)).says(Send(BROKER, LostSeen(A, ONE, 0)))


def test_the_claim_that_was_lost_with_all_others_may_still_answer() -> None:
    play = holding("keyed")
    play.gets(BROKER, Lost(A, ONE, 0)).whatever()
    play.gets(BROKER, Final(A, ONE, 1, OK)).says_among_others(settles(A, reason="ok"))


def test_what_a_broker_says_that_is_not_there_does_not_count() -> None:
    play = reaching(broker=(ONE,))
    play.gets(BACKUP, Workers((ONE,), (CHARGE,))).says_nothing()
    play.gets(BROKER, Lost(A, ONE, 1)).says_among_others(*UNKNOWN)


# What workers offer

CHARGE, REFUND = MethodOffer("reports.charge", "reports"), MethodOffer("reports.refund", "reports")


def test_the_shell_learns_what_workers_offer_whichever_broker_reaches_them() -> None:
    play = gateway(heartbeat_s=1.0, brokers=(BROKER, BACKUP))
    play.gets(BROKER, Workers((ONE,), (REFUND,))).says(Learn((REFUND,)))
    play.gets(BROKER, Workers((ONE, TWO), (REFUND,))).says_nothing()
    play.gets(BACKUP, Workers((ONE,), (CHARGE, REFUND))).says(Learn((CHARGE, REFUND)))


def test_the_shell_learns_no_more_often_than_it_can_bear() -> None:
    play = gateway(heartbeat_s=30.0)
    learnt = []
    for number in range(20):
        learnt += play.gets(BROKER, Workers((ONE,), (MethodOffer(f"reports.{number:02}", "reports"),))).all(Learn)
    assert len(learnt) == 5
    learnt += play.passes(1.0).all(Learn)
    assert [len(learn.methods) for learn in learnt] == [1, 2, 3, 4, 5, 20]
    assert not play.passes(3.0).all(Learn)


def test_a_method_is_forgotten_when_nobody_has_offered_it_for_a_while() -> None:
    play = gateway(heartbeat_s=1.0)
    play.gets(BROKER, Workers((ONE,), (CHARGE,))).whatever()
    play.hears(PeerLost(BROKER)).says_nothing()
    play.passes(59.9).says_nothing()
    play.passes(0.1).says(Learn(()))


# Every state answers every event

PHASES = (
    "unheard",
    "unknown",
    "draining",
    "brokerless",
    "queued",
    "granted",
    "abandoned",
    "in doubt",
    "in doubt and granted",
    "settled",
)
CLAIMS = [(ONE, 1), (ONE, 2), (TWO, 1)]
EVERY_EVENT: list[Event] = [
    submitted(A),
    Abandoned(A),
    PeerFound(BROKER),
    PeerFound(BACKUP),
    PeerLost(BROKER),
    PeerLost(BACKUP),
    Prepared(A),
    Finished(A, 1, OK),
    Tick(),
    Draining(),
    DrainTimedOut(),
    *(
        Received(peer, message)
        for peer in (BROKER, BACKUP)
        for message in (
            Hello(GATEWAY),
            request(A),
            Cancel(A),
            Settled(ONE, (A,)),
            Ready(ONE, {"acme": 1}, 0),
            Disconnect(),
            beat(),
            beat(gap=True),
            beat(frame_bytes_max=5),
            Workers((ONE,), (CHARGE,)),
            Workers((), ()),
            Reject(A, "refused", "overloaded"),
            Reject(A, "again"),
            *(kind(A, life, claim) for kind in (Claim, Release, Deny, Lost, LostSeen) for life, claim in CLAIMS),
            Lost(A, ONE, 0),
            *(Grant(A, life, claim, 10) for life, claim in CLAIMS),
            *(Final(A, life, claim, outcome) for life, claim in CLAIMS for outcome in (OK, unreachable(), lost())),
        )
    ),
]


def in_phase(phase: str, heartbeat_s: float) -> Playbook[Calls]:
    play = gateway(heartbeat_s=heartbeat_s, brokers=() if phase == "brokerless" else (BROKER,))
    if phase not in ("unheard", "brokerless"):
        play.gets(BROKER, beat()).whatever()
    if phase == "draining":
        play.hears(Draining()).whatever()
    if phase not in ("unheard", "unknown", "draining"):
        play.hears(submitted(A, effect="keyed")).whatever()
    if phase in ("granted", "abandoned", "in doubt", "in doubt and granted", "settled"):
        play.gets(BROKER, Claim(A, ONE, 1)).whatever()
    if phase == "abandoned":
        play.hears(Abandoned(A)).whatever()
    if phase.startswith("in doubt"):
        play.gets(BROKER, Lost(A, ONE, 1)).whatever()
    if phase == "in doubt and granted":
        play.gets(BROKER, Claim(A, TWO, 1)).whatever()
    if phase == "settled":
        play.gets(BROKER, Final(A, ONE, 1, OK)).whatever()
    return play


@pytest.mark.parametrize("heartbeat_s", [0.0, 1.0])
@pytest.mark.parametrize("phase", PHASES)
def test_every_state_answers_every_event(phase: str, heartbeat_s: float) -> None:
    for event in EVERY_EVENT:
        play = in_phase(phase, heartbeat_s)
        before = {call_id: call.holder for call_id, call in play.machine._calls.items()}
        said = play.hears(event).never_says(Expel)
        settled = said.all(Settle)
        assert len(settled) <= 1
        assert A in before or not settled or event == submitted(A)
        assert len(play.machine) + len(settled) == len({*before, *([A] if event == submitted(A) else [])})
        rest = play.passes(100.0).all(Settle)
        assert len(rest) == len({*before, *([A] if event == submitted(A) else [])}) - len(settled)
        assert len(play.machine) == 0


@pytest.mark.parametrize(("left_ms", "again"), [(4, False), (5, False), (6, True)])
def test_what_no_worker_can_begin_in_time_is_not_submitted_again(left_ms: int, again: bool) -> None:
    """A worker with less than the margin left releases at once: given to it again, it would do so for ever."""
    play = gateway()
    play.at(0.0).hears(submitted(A)).whatever()
    play.at(10.0 - left_ms / 1000).gets(BROKER, Claim(A, ONE, 1)).whatever()
    assert len(play.gets(BROKER, Release(A, ONE, 1)).all(Request)) == again
