"""The broker's machine: services, queues, credit, liveness. It keeps no truth, so it may forget anything but must not invent."""

from typing import Any

import pytest

from homing.core.broker import Broker, BrokerLimits
from homing.core.links import ROOM_BYTES
from homing.core.losses import LOSSES_MAX
from homing.core.machine import (
    Abandoned,
    Draining,
    DrainTimedOut,
    Event,
    Finished,
    PeerFound,
    PeerLost,
    Prepared,
    Received,
    Send,
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
    Request,
    Settled,
    Workers,
)
from homing.core.permits import Permit
from homing.core.queues import LENGTH_BESIDE, weight
from homing.core.roster import Roster, gateway_life
from homing.errors import Outcome
from tests.core.people import (
    BROKER_LIFE,
    GATEWAY,
    OK,
    ONE,
    OTHER_GATEWAY,
    TWO,
    W1,
    W2,
    A,
    B,
    C,
    G,
    call_id,
    request,
    submitted,
)
from tests.core.playbook import Playbook, Said, like

G2 = b"gateway 2"
D, E = call_id(4), call_id(5)


def consistent(broker: Broker) -> None:
    """What must be true of the tables between any two events."""
    queued = {}
    for name, service in broker._services.items():
        assert service.length == sum(map(len, service.lines.values()))
        assert service.length <= broker.limits.queue_length_max
        for line_name, line in service.lines.items():
            assert line, "an empty line is no line"
            for copy in line.values():
                assert copy.life is None
                assert (copy.request.service, copy.line) == (name, line_name)
                assert service.idle_worker(copy) is None, "a free slot always admits"
                queued[copy.request.call_id] = copy
        assert (service.nobody_since is None) == bool(service.workers) == (name not in broker._services.patience)
        assert all(name in worker.services for worker in service.workers.values())
    given = {call: copy for call, copy in broker._copies.items() if copy.life is not None}
    assert queued.keys() | given.keys() == broker._copies.keys()
    assert not queued.keys() & given.keys()
    assert len(broker._expiry) == len(queued)
    assert all(call in broker._expiry for call in queued)
    held = [(life, call) for life, worker in broker._workers.items() for calls in worker.held.values() for call in calls]
    assert sorted(held) == sorted((copy.life, call) for call, copy in given.items())
    for life, worker in broker._workers.items():
        assert worker.life == life
        assert (broker._worker_at.get(worker.peer) is worker) != worker.gone
        assert (life in broker._gone) == worker.gone
        for name, calls in worker.held.items():
            assert all(broker._copies[call].request.service == name for call in calls)
    assert set(map(id, broker._worker_at.values())) <= set(map(id, broker._workers.values()))
    assert broker.held_bytes == sum(weight(copy.request) for copy in broker._copies.values()) <= broker.limits.held_bytes_max
    assert bool(broker._losses) == (broker._losses.next_deadline() is not None)
    roster = broker._roster
    for head, known in roster.gateways.items():
        assert (roster.at.get(known.peer) == head) == (head not in broker._gone)
    assert set(roster.at.values()) <= roster.gateways.keys()
    assert not broker._news.changed or not broker._counting or broker._news.next_deadline() is not None
    assert broker._news.owed.keys() <= broker._news._paces.keys() <= broker._links.peers.keys()
    for name in broker._services:
        assert broker.queued(name) == broker._services[name].length
    for life in broker._workers:
        assert broker.held_by(life) == sum(one == life for one, _ in held)


def broker(*, heartbeat_s: float = 0.0, frame_bytes_max: int = 1_000_000, **limits) -> Playbook[Broker]:
    """A broker that knows one gateway."""
    machine = Broker(BROKER_LIFE, BrokerLimits(**limits), heartbeat_s=heartbeat_s, frame_bytes_max=frame_bytes_max)
    play = Playbook(machine, check=consistent)
    play.gets(G, Hello(GATEWAY)).says(*([Send(G, like(Heartbeat)), Send(G, Workers((), ()))] if heartbeat_s else []))
    return play


def ready(life: bytes = ONE, **services: int) -> Ready:
    return Ready(life, services or {"acme": 1}, 0)


def staffed(credit: int = 1, **fields) -> Playbook[Broker]:
    """And one worker that offers the service."""
    play = broker(**fields)
    play.gets(W1, ready(acme=credit)).says_nothing()
    return play


def working(call: bytes = A, **fields) -> Playbook[Broker]:
    """And has been given a call."""
    play = staffed(**fields)
    play.gets(G, request(call)).says(Send(W1, request(call)))
    return play


def running(call: bytes = A, **fields) -> Playbook[Broker]:
    """And was granted claim 1."""
    play = working(call, **fields)
    play.gets(W1, Claim(call, ONE, 1)).says(Send(G, Claim(call, ONE, 1)))
    play.gets(G, Grant(call, ONE, 1, 9000)).says(Send(W1, Grant(call, ONE, 1, 9000)))
    return play


def refusal(call: bytes, **fields) -> object:
    return Send(G, like(Reject, call_id=call, kind="refused", **fields))


def given(said: Said) -> list[bytes]:
    return [message.call_id for message in said.all(Request)]


# Who speaks


def test_a_gateway_that_has_not_said_hello_is_asked_who_it_is() -> None:
    broker().gets(G2, request(A)).says(Send(G2, Disconnect()))


def test_a_gateway_cannot_ask_in_anothers_name() -> None:
    play = broker()
    play.gets(G2, Hello(OTHER_GATEWAY)).says_nothing()
    play.gets(G2, request(A)).says(Send(G2, Disconnect()))


@pytest.mark.parametrize("message", [Claim(A, ONE, 1), Final(A, ONE, 1, OK), Release(A, ONE, 1), Reject(A, "again")])
def test_a_worker_that_has_not_said_ready_is_asked_who_it_is(message: Claim | Final | Release | Reject) -> None:
    broker().gets(W1, message).says(Send(W1, Disconnect()))


@pytest.mark.parametrize("message", [Claim(A, TWO, 1), Final(A, TWO, 1, OK), Release(A, TWO, 1)])
def test_a_worker_cannot_answer_for_another_life(message: Claim | Final | Release) -> None:
    running().gets(W1, message).says(Send(W1, Disconnect()))


def test_another_gateway_can_neither_grant_nor_cancel() -> None:
    play = working()
    play.gets(G2, Hello(OTHER_GATEWAY)).says_nothing()
    play.gets(G2, Grant(A, ONE, 1, 10), Deny(A, ONE, 1), Cancel(A)).says_nothing()


def test_only_a_gateway_says_settled() -> None:
    running().gets(W2, Settled(ONE, (A,))).says_nothing()


# Give and queue


def test_a_free_slot_admits_at_once() -> None:
    working()


def test_the_copy_says_how_much_time_is_left_when_it_is_given() -> None:
    play = broker()
    play.gets(G, request(A, remaining_ms=10_000)).says_nothing()
    play.at(4.0).gets(W1, ready()).says(Send(W1, request(A, remaining_ms=6000)))


def test_a_call_waits_when_no_slot_is_free_and_is_given_when_one_is() -> None:
    play = running(A)
    play.gets(G, request(B)).says_nothing()
    assert play.machine.queued("acme") == 1
    play.gets(W1, Final(A, ONE, 1, OK)).says(Send(G, Final(A, ONE, 1, OK)), Send(W1, like(Request, call_id=B)))
    assert (play.machine.queued("acme"), play.machine.held_by(ONE), len(play.machine)) == (0, 1, 1)


def test_a_call_is_given_to_the_worker_with_most_credit_left() -> None:
    play = staffed(credit=2)
    play.gets(W2, ready(TWO, acme=3)).says_nothing()
    assert given(play.gets(G, request(A)).says(Send(W2, request(A)))) == [A]
    play.gets(G, request(B)).says(Send(W1, request(B)))


def test_credit_is_per_service() -> None:
    play = broker()
    play.gets(W1, ready(acme=1, bank=1)).says_nothing()
    play.gets(G, request(A), request(B)).says(Send(W1, request(A)))
    play.gets(G, request(C, service="bank")).says(Send(W1, request(C, service="bank")))
    assert play.machine.held_by(ONE) == 2


def test_a_broker_holds_a_call_once() -> None:
    play = working(A, credit=3)
    play.gets(G, request(A)).says_nothing()
    assert len(play.machine) == 1


def test_a_call_without_time_left_is_dropped() -> None:
    staffed().gets(G, request(A, remaining_ms=0)).says_nothing()


def test_principals_take_turns_at_the_workers() -> None:
    play = working(A)
    busy = [call_id(number) for number in range(10, 14)]
    play.gets(G, *(request(call, principal="busy") for call in busy)).says_nothing()
    play.gets(G, request(B, principal="quiet")).says_nothing()
    served, last = [], A
    for _ in range(5):
        (last,) = given(play.gets(W1, Final(last, ONE, 1, OK)))
        served.append(last)
    assert served == [busy[0], B, *busy[1:]]


# Overload


def test_a_full_queue_refuses_and_names_its_limit() -> None:
    play = working(A, queue_length_max=1)
    play.gets(G, request(B)).says_nothing()
    play.gets(G, request(C)).says(refusal(C, reason="overloaded", limit="broker.queue_length_max", retry_after_ms=100))


def test_too_many_bytes_refuse_and_name_their_limit() -> None:
    play = working(A, held_bytes_max=20)
    play.gets(G, request(B)).says(refusal(B, reason="overloaded", limit="broker.held_bytes_max"))
    play.gets(G, request(C, body=b"12345678")).says_nothing()
    assert play.machine.held_bytes == 20


def test_what_is_long_beside_the_params_counts_as_much_as_they_do() -> None:
    """Else a peer that heeds nothing could have a broker hold any number of long keys."""
    play = working(A, held_bytes_max=100)
    long = request(B, key="k" * LENGTH_BESIDE, trace="t" * 89)
    play.gets(G, long).says(refusal(B, reason="overloaded", limit="broker.held_bytes_max"))
    play.gets(G, request(C, body=b"", key="k" * LENGTH_BESIDE, trace="t" * 88)).says_nothing()
    assert play.machine.held_bytes == 100


def test_what_ends_gives_its_bytes_back() -> None:
    play = running(A)
    play.gets(W1, Final(A, ONE, 1, OK)).whatever()
    assert play.machine.held_bytes == 0


def measured(mean_s: float, credit: int = 1) -> Playbook[Broker]:
    """A broker whose calls take so long, all slots taken by calls that are not in anybody's way."""
    play = running(A, credit=credit)
    play.at(mean_s).gets(W1, Final(A, ONE, 1, OK)).whatever()
    for number in range(100, 100 + credit):
        play.gets(G, request(call_id(number))).says(Send(W1, like(Request)))
    return play


def test_a_call_that_would_wait_beyond_its_deadline_is_refused_at_once() -> None:
    """Mean · queued ahead / slots < remaining − margin, or overloaded."""
    play = measured(4.0)
    play.gets(G, request(B), request(C)).says_nothing()  # 0 s and 4 s of waiting
    play.gets(G, request(D, remaining_ms=8_050)).says(refusal(D, reason="overloaded", retry_after_ms=8000))  # the margin is 80 ms
    play.gets(G, request(E, remaining_ms=8_100)).says_nothing()


def test_a_call_that_would_just_not_make_its_deadline_is_refused() -> None:
    play = measured(25.0)
    play.gets(G, request(B)).says_nothing()
    play.gets(G, request(C, remaining_ms=25_250)).says(refusal(C, reason="overloaded"))
    play.gets(G, request(D, remaining_ms=25_251)).says_nothing()


def test_more_slots_make_for_shorter_waits() -> None:
    play = measured(4.0, credit=2)
    play.gets(G, request(B), request(C), request(D, remaining_ms=4_030), request(E, remaining_ms=4_100)).says(
        refusal(D, reason="overloaded")
    )


def test_a_call_that_finds_the_queue_empty_waits_for_the_next_slot() -> None:
    measured(4.0).gets(G, request(B, remaining_ms=1000)).says_nothing()


def test_before_anything_was_measured_a_call_may_wait() -> None:
    play = working(A)
    play.gets(G, *(request(call_id(number), remaining_ms=100) for number in range(10, 20))).says_nothing()


def test_the_mean_moves_slowly() -> None:
    play = measured(4.0)
    play.at(4.0).gets(W1, Final(call_id(100), ONE, 2, OK)).whatever()  # took no time
    assert play.machine._services["acme"].mean_s == pytest.approx(3.6)


def test_the_time_a_broker_stood_still_is_not_its_workers() -> None:
    """Else the first calls after it would be refused, as if each took as long."""
    play = broker(heartbeat_s=1.0)
    play.gets(W1, ready(acme=1)).whatever()
    play.gets(G, request(A)).says(Send(W1, request(A)))
    play.at(10.0).gets(W1, Final(A, ONE, 1, OK)).says_among_others(Send(G, Final(A, ONE, 1, OK)))
    assert play.machine.services["acme"].mean_s == 0.0
    play.gets(G, request(B)).says_among_others(Send(W1, like(Request, call_id=B)))
    play.passes(0.5).whatever()
    play.gets(W1, Final(B, ONE, 2, OK)).whatever()
    assert play.machine.services["acme"].mean_s == pytest.approx(0.5)


def test_a_free_slot_admits_whatever_the_mean_says() -> None:
    play = measured(4.0)
    play.gets(W1, Final(call_id(100), ONE, 2, OK)).whatever()
    play.gets(G, request(B, remaining_ms=1)).says(Send(W1, like(Request, call_id=B)))


# Nobody offers the service


def test_a_service_nobody_has_offered_since_the_broker_began_is_refused_at_once() -> None:
    broker(no_worker_after_s=5.0).at(5.0).gets(G, request(A)).says(
        refusal(A, reason="no_worker", limit="broker.no_worker_after", retry_after_ms=5000)
    )


def test_after_its_start_a_broker_waits_for_workers_to_come_back() -> None:
    play = broker(no_worker_after_s=5.0).at(3.0)
    play.gets(G, request(A)).says_nothing()
    play.passes(1.999).says_nothing()
    play.passes(0.001).says(refusal(A, reason="no_worker"))


def test_a_worker_that_comes_in_time_is_given_what_waits() -> None:
    play = broker()
    play.gets(G, request(A)).says_nothing()
    play.passes(4.0).says_nothing()
    play.gets(W1, ready()).says(Send(W1, like(Request, call_id=A)))
    play.gets(G, request(B)).says_nothing()
    play.passes(5.9).says_nothing()  # it is offered, so there is no hurry


def test_patience_counts_from_when_the_last_worker_left() -> None:
    play = staffed()
    play.at(100.0).gets(W1, Disconnect()).says_nothing()
    play.at(104.0).gets(G, request(A)).says_nothing()
    play.passes(1.0).says(refusal(A, reason="no_worker"))
    play.gets(G, request(B)).says(refusal(B, reason="no_worker"))


def test_all_who_wait_are_told_that_nobody_offers_the_service() -> None:
    play = broker()
    play.gets(G, request(A), request(B, principal="other"), request(C)).says_nothing()
    assert {message.call_id for message in play.passes(5.0).all(Reject)} == {A, B, C}
    assert len(play.machine) == 0


def test_other_services_wait_on() -> None:
    play = staffed()
    play.gets(G, request(A), request(B), request(C, service="bank")).says(Send(W1, request(A)))
    play.passes(5.0).says(refusal(C, reason="no_worker"))
    assert play.machine.queued("acme") == 1


def test_a_service_withdrawn_is_offered_by_nobody() -> None:
    play = working(A)
    play.gets(G, request(B)).says_nothing()
    play.gets(W1, Ready(ONE, {}, 0)).says_nothing()
    play.passes(5.0).says(refusal(B, reason="no_worker"))
    assert play.machine.held_by(ONE) == 1


def test_a_service_withdrawn_by_one_is_still_offered_by_the_other() -> None:
    play = working(A)
    play.gets(W2, ready(TWO)).says_nothing()
    play.gets(W2, Ready(TWO, {}, 0)).says_nothing()
    play.gets(G, request(B)).says_nothing()
    play.passes(9.9).says_nothing()


def test_no_patience_at_all_is_told_in_whole_seconds() -> None:
    broker(no_worker_after_s=0.0).gets(G, request(A)).says(refusal(A, reason="no_worker", retry_after_ms=1000))


# Time


def test_what_waits_is_forgotten_at_its_deadline_without_a_word() -> None:
    play = working(A)
    play.gets(G, request(B, remaining_ms=2000)).says_nothing()
    play.passes(2.0).says_nothing()
    assert (play.machine.queued("acme"), len(play.machine)) == (0, 1)


def test_what_expired_is_not_given_though_no_tick_came_yet() -> None:
    play = running(A)
    play.gets(G, request(B, remaining_ms=2000), request(C)).says_nothing()
    play.at(2.0).gets(W1, Final(A, ONE, 1, OK)).says(like(Send), Send(W1, like(Request, call_id=C)))


# The way between worker and gateway


def test_claim_grant_final_and_settled_find_their_way() -> None:
    play = running(A)
    play.gets(W1, Final(A, ONE, 1, OK)).says(Send(G, Final(A, ONE, 1, OK)))
    play.gets(G, Settled(ONE, (A,))).says(Send(W1, Settled(ONE, (A,))))


def test_a_claim_finds_its_gateway_though_the_broker_forgot_the_call() -> None:
    play = staffed()
    play.gets(W1, Claim(A, ONE, 1)).says(Send(G, Claim(A, ONE, 1)))
    play.gets(G, Deny(A, ONE, 1)).says(Send(W1, Deny(A, ONE, 1)))
    play.gets(W1, Final(A, ONE, 1, OK)).says(Send(G, Final(A, ONE, 1, OK)))


def test_what_is_for_a_gateway_nobody_knows_is_dropped() -> None:
    staffed().gets(W1, Claim(call_id(1, OTHER_GATEWAY), ONE, 1)).says_nothing()


def test_what_is_for_a_worker_nobody_knows_is_dropped() -> None:
    broker().gets(G, Grant(A, ONE, 1, 10), Deny(A, ONE, 1), Settled(ONE, (A,))).says_nothing()


def test_a_cancel_removes_what_waits() -> None:
    play = working(A)
    play.gets(G, request(B)).says_nothing()
    play.gets(G, Cancel(B)).says_nothing()
    assert play.machine.queued("acme") == 0


def test_a_cancel_follows_a_copy_to_its_worker() -> None:
    working(A).gets(G, Cancel(A)).says(Send(W1, Cancel(A)))


def test_a_cancel_of_what_nobody_knows_is_nothing() -> None:
    broker().gets(G, Cancel(A)).says_nothing()


# Released and rejected


def test_a_release_frees_the_credit_and_the_gateway_decides() -> None:
    play = running(A)
    play.gets(G, request(B)).says_nothing()
    play.gets(W1, Release(A, ONE, 1)).says(Send(G, Release(A, ONE, 1)), Send(W1, like(Request, call_id=B)))
    assert len(play.machine) == 1


def test_a_release_that_comes_again_frees_no_later_claim() -> None:
    play = running(A)
    play.gets(W1, Release(A, ONE, 1)).whatever()
    play.gets(G, request(A)).says(Send(W1, request(A)))
    play.gets(W1, Claim(A, ONE, 2)).whatever()
    play.gets(W1, Release(A, ONE, 1)).says(Send(G, Release(A, ONE, 1)))
    assert play.machine.held_by(ONE) == 1


def test_a_claim_that_comes_late_does_not_hide_the_newer_one() -> None:
    play = working(A)
    play.gets(W1, Claim(A, ONE, 2), Claim(A, ONE, 1)).whatever()
    play.gets(W1, Disconnect()).says_among_others(Send(G, Lost(A, ONE, 2)))


def test_an_outcome_that_comes_again_frees_no_later_claim() -> None:
    play = running(A)
    play.gets(W1, Final(A, ONE, 1, OK)).whatever()
    play.gets(G, request(A)).says(Send(W1, request(A)))
    play.gets(W1, Claim(A, ONE, 2), Final(A, ONE, 1, OK)).whatever()
    assert play.machine.held_by(ONE) == 1


def test_a_release_frees_though_the_claim_never_came() -> None:
    play = working(A)
    play.gets(W1, Release(A, ONE, 1)).says(Send(G, Release(A, ONE, 1)))
    assert play.machine.held_by(ONE) == 0


def test_what_a_worker_did_not_start_goes_to_another() -> None:
    play = working(A)
    play.gets(W2, ready(TWO)).says_nothing()
    play.gets(W1, Reject(A, "again")).says(Send(W2, request(A)))


def test_what_a_worker_did_not_start_waits_for_another() -> None:
    play = working(A)
    play.gets(W1, Reject(A, "again")).says_nothing()
    play.gets(W2, ready(TWO)).says(Send(W2, request(A)))


def test_what_a_worker_did_not_start_makes_room_for_what_waits_in_a_full_queue() -> None:
    play = working(A, queue_length_max=1)
    play.gets(G, request(B)).says_nothing()
    play.gets(W1, Reject(A, "again")).says(Send(W1, request(B)))
    play.gets(W2, ready(TWO)).says(Send(W2, request(A)))


def test_a_copy_nobody_starts_is_in_nobodys_way() -> None:
    play = working(A)
    play.gets(W1, Reject(A, "again")).says_nothing()
    play.gets(G, request(B)).says(Send(W1, request(B)))
    play.gets(G, request(C), request(D, principal="other")).says_nothing()
    assert given(play.gets(W1, Final(B, ONE, 1, OK))) == [C]
    assert given(play.gets(W1, Final(C, ONE, 1, OK))) == [D]


def test_what_a_worker_refused_goes_to_another_with_credit() -> None:
    play = working(A)
    play.gets(W2, ready(TWO)).says_nothing()
    play.gets(W1, Reject(A, "refused", "circuit_open")).says(Send(W2, request(A)))


def test_what_every_worker_with_credit_refused_goes_to_the_gateway() -> None:
    play = working(A)
    play.gets(W2, ready(TWO)).says_nothing()
    play.gets(W1, Reject(A, "refused", "circuit_open")).whatever()
    why = Reject(A, "refused", "rate_limited", "later", 700, "providers.acme.rate")
    play.gets(W2, why).says(Send(G, why))
    assert len(play.machine) == 0


def test_a_refusal_frees_a_slot_for_the_next() -> None:
    play = working(A)
    play.gets(G, request(B)).says_nothing()
    play.gets(W1, Reject(A, "refused", "circuit_open")).says(refusal(A, reason="circuit_open"), Send(W1, request(B)))


def test_what_nobody_wants_any_more_is_dropped() -> None:
    play = working(A)
    play.gets(G, request(B)).says_nothing()
    play.gets(W1, Reject(A, "drop")).says(Send(W1, request(B)))
    assert len(play.machine) == 1


def test_a_reject_of_a_copy_the_worker_does_not_have_is_nothing() -> None:
    play = working(A)
    play.gets(W2, ready(TWO)).says_nothing()
    play.gets(W2, Reject(A, "refused", "circuit_open")).says_nothing()
    play.gets(W1, Reject(B, "again")).says_nothing()
    assert play.machine.held_by(ONE) == 1


def test_a_reject_that_comes_late_does_not_take_back_what_is_claimed() -> None:
    play = running(A)
    play.gets(W2, ready(TWO)).says_nothing()
    play.gets(W1, Reject(A, "refused", "circuit_open")).says_nothing()
    assert play.machine.held_by(ONE) == 1


def test_what_waited_before_is_first_in_its_line() -> None:
    play = working(A)
    play.gets(G, request(B)).says_nothing()
    play.gets(W1, Disconnect()).says_nothing()
    assert given(play.gets(W2, ready(TWO, acme=2))) == [A, B]


# Lost workers


def test_a_worker_that_leaves_is_lost_with_its_claims_and_its_calls_go_to_others() -> None:
    play = running(A)
    play.gets(W2, ready(TWO)).says_nothing()
    play.gets(W1, Disconnect()).says(Send(G, Lost(A, ONE, 1)), Send(W2, request(A, attempts=1, executed="unknown")))


def test_an_unclaimed_call_of_a_lost_worker_was_never_an_attempt() -> None:
    play = working(A)
    play.gets(W2, ready(TWO)).says_nothing()
    play.gets(W1, Disconnect()).says(Send(W2, request(A)))


def test_a_claimed_but_ungranted_call_of_a_lost_worker_was_never_an_attempt() -> None:
    play = working(A)
    play.gets(W1, Claim(A, ONE, 1)).whatever()
    play.gets(W2, ready(TWO)).says_nothing()
    play.gets(W1, Disconnect()).says(Send(G, Lost(A, ONE, 1)), Send(W2, request(A)))


def test_once_is_dispatched_again_too_for_the_claim_decides() -> None:
    play = running(A)
    play.gets(W1, Disconnect()).whatever()
    play.gets(W2, ready(TWO)).says(Send(W2, like(Request, call_id=A, effect="once", executed="unknown")))


def test_a_connection_that_blinks_keeps_its_calls() -> None:
    play = running(A)
    play.hears(PeerLost(W1)).says_nothing()
    play.passes(0.4).says_nothing()
    play.gets(W1, ready()).says_nothing()
    play.passes(5.0).says_nothing()
    assert play.machine.held_by(ONE) == 1


def test_a_life_may_come_back_on_another_connection() -> None:
    play = running(A)
    play.hears(PeerLost(W1)).says_nothing()
    play.gets(W2, ready(ONE)).says_nothing()
    play.passes(5.0).says_nothing()
    play.gets(W2, Final(A, ONE, 1, OK)).says(Send(G, Final(A, ONE, 1, OK)))


def test_a_life_may_move_before_its_old_connection_is_missed() -> None:
    play = running(A)
    play.gets(W2, ready(ONE)).says_nothing()
    play.hears(PeerLost(W1)).says_nothing()
    play.passes(5.0).says_nothing()
    play.gets(G, Settled(ONE, ())).says(Send(W2, Settled(ONE, ())))


def test_a_worker_that_does_not_come_back_is_lost_after_half_a_second() -> None:
    play = running(A)
    play.hears(PeerLost(W1)).says_nothing()
    play.passes(0.499).says_nothing()
    play.passes(0.001).says(Send(G, Lost(A, ONE, 1)))
    assert play.machine.held_by(ONE) == 0


def test_a_worker_whose_connection_is_gone_is_given_nothing() -> None:
    play = staffed()
    play.hears(PeerLost(W1)).says_nothing()
    play.gets(G, request(A)).says_nothing()
    play.gets(W1, ready()).says(Send(W1, request(A)))


def test_a_new_life_on_the_same_connection_loses_the_old_one() -> None:
    play = running(A)
    play.gets(W1, ready(TWO)).says(Send(G, Lost(A, ONE, 1)), Send(W1, request(A, attempts=1, executed="unknown")))
    assert play.machine.held_by(ONE) == 0


def test_the_loss_of_an_old_life_does_not_touch_the_new_one_on_its_connection() -> None:
    play = running(A)
    play.hears(PeerLost(W1)).says_nothing()
    play.gets(W1, ready(TWO, acme=2)).says_nothing()
    play.passes(0.5).says(Send(G, Lost(A, ONE, 1)), Send(W1, like(Request, call_id=A)))
    play.gets(W1, Claim(A, TWO, 1)).says(Send(G, Claim(A, TWO, 1)))


def test_an_old_life_that_comes_back_elsewhere_leaves_the_new_one_on_its_connection_alone() -> None:
    play = running(A)
    play.hears(PeerLost(W1)).says_nothing()
    play.gets(W1, ready(TWO)).says_nothing()
    play.gets(W2, ready(ONE)).says_nothing()
    play.gets(G, request(B)).says(Send(W1, request(B)))
    play.gets(W1, Claim(B, TWO, 1)).says(Send(G, Claim(B, TWO, 1)))


def test_lost_is_repeated_until_it_is_seen() -> None:
    play = running(A)
    play.gets(W1, Disconnect()).says(Send(G, Lost(A, ONE, 1)))
    play.passes(1.1).says(Send(G, Lost(A, ONE, 1)), Send(G, Lost(A, ONE, 1)))
    play.gets(G, LostSeen(A, ONE, 1)).says_nothing()
    play.passes(3.0).says_nothing()


def test_each_loss_is_seen_by_itself() -> None:
    play = running(A, credit=2)
    play.gets(G, request(B)).whatever()
    play.gets(W1, Claim(B, ONE, 2)).whatever()
    play.gets(W1, Disconnect()).says(Send(G, Lost(A, ONE, 1)), Send(G, Lost(B, ONE, 2)))
    play.gets(G, LostSeen(A, ONE, 1)).says_nothing()
    play.passes(0.5).says(Send(G, Lost(B, ONE, 2)))


def test_lost_is_not_repeated_beyond_the_calls_deadline() -> None:
    play = running(A)
    play.gets(W1, Disconnect()).whatever()
    play.passes(11.0).whatever()
    play.passes(100.0).says_nothing()
    assert play.machine.next_deadline() is None


def test_what_expired_in_a_lost_workers_hands_is_forgotten() -> None:
    play = running(A)
    play.at(10.0).gets(W1, Disconnect()).says(Send(G, Lost(A, ONE, 1)))
    assert len(play.machine) == 0


def test_a_full_queue_takes_no_lost_calls_either() -> None:
    play = working(A, queue_length_max=1)
    play.gets(G, request(B)).says_nothing()
    play.gets(W1, Disconnect()).says(refusal(A, reason="overloaded", limit="broker.queue_length_max"))
    assert play.machine.queued("acme") == 1


def test_a_gateway_that_asks_who_we_are_is_no_worker_that_leaves() -> None:
    broker().gets(G, Disconnect()).says_nothing()


# Lost gateways


def test_what_waits_for_a_lost_gateway_is_dropped_and_what_runs_runs_on() -> None:
    play = running(A)
    play.gets(G, request(B)).says_nothing()
    play.hears(PeerLost(G)).says_nothing()
    play.passes(0.5).says_nothing()
    assert (play.machine.queued("acme"), play.machine.held_by(ONE)) == (0, 1)
    play.gets(W1, Final(A, ONE, 1, OK)).says_nothing()
    assert len(play.machine) == 0


def test_a_gateway_that_blinks_keeps_its_calls() -> None:
    play = working(A)
    play.gets(G, request(B)).says_nothing()
    play.hears(PeerLost(G)).says_nothing()
    play.passes(0.4).says_nothing()
    play.gets(G, Hello(GATEWAY)).says_nothing()
    play.passes(1.0).says_nothing()
    assert play.machine.queued("acme") == 1


def test_a_gateway_may_come_back_on_another_connection() -> None:
    play = running(A)
    play.gets(G2, Hello(GATEWAY)).says_nothing()
    play.hears(PeerLost(G)).says_nothing()
    play.passes(1.0).says_nothing()
    play.gets(W1, Final(A, ONE, 1, OK)).says(Send(G2, Final(A, ONE, 1, OK)))


def test_a_new_life_on_the_same_connection_is_another_gateway() -> None:
    play = working(A)
    play.gets(G, request(B)).says_nothing()
    play.gets(G, Hello(OTHER_GATEWAY)).says_nothing()
    assert play.machine.queued("acme") == 0
    play.gets(W1, Claim(A, ONE, 1)).says_nothing()
    mine = call_id(1, OTHER_GATEWAY)
    play.gets(G, request(mine)).says_nothing()
    assert play.machine.queued("acme") == 1


def test_hello_said_again_changes_nothing() -> None:
    play = working(A)
    play.gets(G, Hello(GATEWAY)).says_nothing()
    play.gets(W1, Claim(A, ONE, 1)).says(Send(G, Claim(A, ONE, 1)))


def test_a_lost_gateway_is_told_when_it_is_back_and_until_it_has_seen_it() -> None:
    play = running(A)
    play.gets(W1, Disconnect()).says(Send(G, Lost(A, ONE, 1)))
    play.hears(PeerLost(G)).says_nothing()
    play.passes(0.4).whatever()
    play.passes(2.6).says_nothing()
    play.gets(G2, Hello(GATEWAY)).says(Send(G2, Lost(A, ONE, 1)))
    play.passes(1.0).says(Send(G2, Lost(A, ONE, 1)), Send(G2, Lost(A, ONE, 1)))
    play.gets(G2, LostSeen(A, ONE, 1)).says_nothing()
    play.passes(1.0).says_nothing()


def test_a_gateway_that_does_not_come_back_is_waited_for_until_its_calls_would_have_ended() -> None:
    play = running(A)
    play.gets(W1, Disconnect()).whatever()
    play.hears(PeerLost(G)).says_nothing()
    play.passes(11.0).whatever()
    assert not play.machine._losses


def test_only_the_gateway_that_owns_the_call_has_seen_its_loss() -> None:
    play = running(A)
    play.gets(G2, Hello(OTHER_GATEWAY)).says_nothing()
    play.gets(W1, Disconnect()).whatever()
    play.gets(G2, LostSeen(A, ONE, 1)).says_nothing()
    play.passes(0.5).says(Send(G, Lost(A, ONE, 1)))
    assert play.machine.counts["not_owner"] == 1


def test_one_gateways_losses_are_not_anothers() -> None:
    play = running(A)
    play.gets(G2, Hello(OTHER_GATEWAY)).says_nothing()
    play.gets(W1, Disconnect()).says(Send(G, Lost(A, ONE, 1)))
    play.hears(PeerLost(G2)).says_nothing()
    play.passes(0.6).says(Send(G, Lost(A, ONE, 1)))


# Heartbeats


def beat(life: bytes = ONE, **fields: Any) -> Heartbeat:
    given: dict[str, Any] = {"life": life, "peer_life": BROKER_LIFE, "sent": 0, "received": 0}
    return Heartbeat(**(given | fields))


def beating(credit: int = 1, **fields: Any) -> Playbook[Broker]:
    """Gateway, worker and broker know each other's lives, and have counted one message from each of the two."""
    play = broker(heartbeat_s=1.0, **fields)
    play.gets(W1, ready(acme=credit)).says(Send(W1, like(Heartbeat)), Send(G, Workers((ONE,), ())))
    return play


def test_whoever_introduces_itself_is_told_at_once_who_is_here() -> None:
    play = broker(heartbeat_s=1.0, frame_bytes_max=4096)
    expected = Heartbeat(life=BROKER_LIFE, peer_life=OTHER_GATEWAY, sent=0, received=1, frame_bytes_max=4096)
    play.gets(G2, Hello(OTHER_GATEWAY)).says(Send(G2, expected), Send(G2, Workers((), ())))
    expected = Heartbeat(life=BROKER_LIFE, peer_life=TWO, sent=0, received=1, frame_bytes_max=4096)
    play.gets(W2, Ready(TWO, {}, 0)).says_among_others(Send(W2, expected))


def test_who_takes_the_broker_for_an_earlier_life_is_told_better() -> None:
    play = beating()
    play.gets(G, Hello(GATEWAY, b"broker-before!!!")).says(
        Send(G, like(Heartbeat, life=BROKER_LIFE, peer_life=GATEWAY)), Send(G, like(Workers))
    )
    play.gets(W1, Ready(ONE, {"acme": 1}, 0, (), b"broker-before!!!")).says(Send(W1, like(Heartbeat, life=BROKER_LIFE)))


def test_a_heartbeat_of_nobody_known_is_asked_who_it_is() -> None:
    broker(heartbeat_s=1.0).gets(W1, beat()).says(Send(W1, Disconnect()))


def test_a_heartbeat_of_another_life_is_asked_who_it_is() -> None:
    beating().gets(W1, beat(TWO)).says(Send(W1, Disconnect()))


def test_every_peer_is_sent_heartbeats() -> None:
    said = beating().passes(1.0)
    said.says(
        Send(G, like(Heartbeat, life=BROKER_LIFE, peer_life=GATEWAY, sent=2, received=1)),
        Send(W1, like(Heartbeat, life=BROKER_LIFE, peer_life=ONE, sent=0, received=1)),
    )


def test_a_quiet_heartbeat_changes_nothing() -> None:
    beating().gets(W1, beat(sent=1, in_flight=())).says_nothing()


def test_a_gap_is_told_at_once_so_that_the_peer_says_it_again() -> None:
    """And is told again whom the broker reaches: that is what it may have missed."""
    beating().gets(G, beat(GATEWAY, sent=5)).says(Send(G, like(Heartbeat, gap=True)), Send(G, Workers((ONE,), ())))
    beating().gets(W1, beat(sent=5)).says(Send(W1, like(Heartbeat, gap=True)))


def test_a_heartbeat_frees_what_the_worker_no_longer_lists() -> None:
    play = beating()
    play.gets(G, request(A)).says(Send(W1, request(A)))
    play.gets(W1, beat(sent=1, received=1, in_flight=())).says(Send(W1, request(A)))


def test_a_copy_on_its_way_is_not_freed() -> None:
    play = beating()
    play.gets(G, request(A)).whatever()
    play.gets(W1, beat(sent=1, received=0, in_flight=())).says_nothing()
    assert play.machine.held_by(ONE) == 1


def test_each_copy_on_its_way_is_known_by_its_own_place() -> None:
    """Two copies left in one turn; the worker had got the first, and finished it, when it spoke."""
    play = beating(credit=2)
    play.gets(W1, Ready(ONE, {}, 0)).whatever()
    play.gets(G, request(A), request(B)).says_nothing()
    play.gets(W1, ready(acme=2)).says(Send(W1, like(Heartbeat)), Send(W1, request(A)), Send(W1, request(B)))
    play.gets(W1, beat(sent=3, received=1, in_flight=(A,))).says_nothing()
    assert play.machine.held_by(ONE) == 2
    play.gets(W1, beat(sent=3, received=2, in_flight=(A,))).says(Send(W1, request(B)))


def test_what_is_listed_stays() -> None:
    play = beating()
    play.gets(G, request(A)).whatever()
    play.gets(W1, beat(sent=1, received=1, in_flight=(A,))).says_nothing()
    assert play.machine.held_by(ONE) == 1


def test_after_a_blink_the_link_counts_anew() -> None:
    play = beating(credit=2)
    play.gets(G, request(A)).whatever()
    play.gets(G, request(B)).whatever()
    play.hears(PeerLost(W1)).says_nothing()
    play.gets(W1, ready(acme=2)).says(Send(W1, like(Heartbeat, sent=0)))
    play.gets(W1, beat(peer_life=b"", sent=1, received=0, in_flight=(A,))).says(Send(W1, request(B)))


def test_a_life_that_moved_counts_anew() -> None:
    play = beating()
    play.gets(G, request(A)).whatever()
    play.gets(W2, ready()).says(Send(W2, like(Heartbeat, sent=0)))  # whom it reaches has not changed
    play.gets(W2, beat(peer_life=b"", sent=1, received=0, in_flight=())).says(Send(W2, request(A)))


def test_strays_count_against_credit() -> None:
    play = beating(credit=2)
    play.gets(W1, beat(sent=1, in_flight=(D, E))).says_nothing()
    play.gets(G, request(A)).says_nothing()
    play.gets(W1, beat(sent=1, in_flight=(D,))).says(Send(W1, request(A)))


@pytest.mark.parametrize("end", [Final(D, ONE, 1, OK), Release(D, ONE, 1), Reject(D, "drop")], ids=lambda end: type(end).__name__)
def test_a_stray_that_ends_frees_its_credit_at_once(end: Final | Release | Reject) -> None:
    play = beating()
    play.gets(W1, beat(sent=1, in_flight=(D,))).says_nothing()
    play.gets(G, request(A)).says_nothing()
    assert given(play.gets(W1, end)) == [A]


def test_a_worker_that_says_nothing_costs_its_own_credit_and_no_memory() -> None:
    """Nobody waits for that call any more. Whether the worker still works on it, only the worker can say."""
    play = beating()
    play.gets(G, request(A, remaining_ms=3000)).whatever()
    play.passes(4.5).whatever()
    assert (len(play.machine), play.machine.held_by(ONE)) == (1, 1)
    play.passes(1.0).whatever()
    assert (len(play.machine), play.machine.held_by(ONE), play.machine.held_bytes) == (0, 0, 0)
    play.gets(G, request(B)).says_nothing()
    assert given(play.gets(W1, Final(A, ONE, 1, OK))) == [B]


def test_what_is_overdue_and_not_listed_frees_its_credit() -> None:
    play = beating()
    play.gets(G, request(A, remaining_ms=3000)).whatever()
    play.passes(6.0).whatever()
    play.gets(G, request(B)).says_nothing()
    assert given(play.gets(W1, beat(sent=1, received=1, in_flight=()))) == [B]


def test_a_gateways_heartbeat_frees_nothing() -> None:
    play = beating()
    play.gets(G, request(A)).whatever()
    play.gets(G, beat(GATEWAY, sent=2, in_flight=())).says_nothing()
    assert play.machine.held_by(ONE) == 1


def test_a_heartbeat_that_lists_nothing_known_is_no_list() -> None:
    play = beating()
    play.gets(G, request(A)).whatever()
    play.gets(W1, beat(sent=1, received=1, in_flight=None)).says_nothing()
    assert play.machine.held_by(ONE) == 1


# What a broker that has started anew never gave


def test_no_more_is_said_to_be_lost_than_is_remembered() -> None:
    """A worker may list a hundred thousand that nobody gave it, and leave."""
    play = beating()
    play.gets(W1, beat(sent=1, in_flight=tuple(call_id(number) for number in range(100, 100 + LOSSES_MAX + 5)))).says_nothing()
    said = play.gets(W1, Disconnect())
    said.whatever()
    assert sum(isinstance(action, Send) and isinstance(action.message, Lost) for action in said.actions) == LOSSES_MAX


def test_what_a_lost_life_held_of_an_earlier_broker_is_lost_under_all_its_claims() -> None:
    play = beating(credit=2)
    play.gets(W1, beat(sent=1, in_flight=(D, call_id(5, OTHER_GATEWAY)))).says_nothing()
    play.gets(W1, Disconnect()).says(Send(G, Lost(D, ONE, 0)), Send(G, Workers((), ())))
    play.gets(G2, Hello(OTHER_GATEWAY)).says_among_others(Send(G2, Lost(call_id(5, OTHER_GATEWAY), ONE, 0)))
    play.gets(G, LostSeen(D, ONE, 0)).says_nothing()
    play.gets(G2, LostSeen(call_id(5, OTHER_GATEWAY), ONE, 0)).says_nothing()
    assert not play.machine._losses


def test_what_has_ended_since_is_not_lost() -> None:
    play = beating(credit=2)
    play.gets(W1, beat(sent=1, in_flight=(D, E))).says_nothing()
    play.gets(W1, Final(D, ONE, 7, OK), beat(sent=2, in_flight=(E,))).whatever()
    assert play.gets(W1, Disconnect()).all(Lost) == [Lost(E, ONE, 0)]


def test_a_life_that_comes_back_after_all_takes_back_what_was_said_of_all_its_claims() -> None:
    """Else it would be said of those that it makes from now on."""
    play = beating(credit=2)
    play.gets(G, request(A)).whatever()
    play.gets(W1, Claim(A, ONE, 1)).whatever()
    play.gets(W1, beat(sent=2, received=1, in_flight=(A, D))).says_nothing()
    play.hears(PeerLost(W1)).says_nothing()
    play.passes(0.5).says_among_others(Send(G, Lost(D, ONE, 0)), Send(G, Lost(A, ONE, 1)))
    play.gets(W1, ready()).whatever()
    assert play.passes(0.5).all(Lost) == [Lost(A, ONE, 1)]


# Whom the broker reaches

CHARGE, REFUND = MethodOffer("reports.charge", "acme"), MethodOffer("reports.refund", "acme")


def offering(life: bytes, *offers: MethodOffer) -> Ready:
    return Ready(life, {"acme": 1}, 1000, offers)


def test_gateways_learn_whom_the_broker_reaches_and_what_they_offer() -> None:
    play = broker(heartbeat_s=1.0)
    play.gets(W1, offering(ONE, REFUND)).says(Send(W1, like(Heartbeat)), Send(G, Workers((ONE,), (REFUND,))))
    play.gets(W2, offering(TWO, CHARGE, REFUND)).says(Send(W2, like(Heartbeat)), Send(G, Workers((ONE, TWO), (CHARGE, REFUND))))
    play.gets(G2, Hello(OTHER_GATEWAY)).says(Send(G2, like(Heartbeat)), Send(G2, Workers((ONE, TWO), (CHARGE, REFUND))))
    said = play.gets(W2, Disconnect())
    said.says(Send(G, Workers((ONE,), (REFUND,))), Send(G2, Workers((ONE,), (REFUND,))))


def test_a_worker_that_offers_more_than_a_message_holds_hides_nobody() -> None:
    play = broker(heartbeat_s=1.0)
    play.gets(W1, offering(ONE, CHARGE)).whatever()
    flood = (MethodOffer(f"acme.{number}", "acme", params=bytes(1_000_000)) for number in range(40))
    told = play.gets(W2, offering(TWO, *flood)).one(Workers)
    assert told.lives == (ONE, TWO)
    assert CHARGE in told.methods
    assert 0 < len(told.methods) < 40


def test_what_has_not_changed_is_not_told_again() -> None:
    play = broker(heartbeat_s=1.0)
    play.gets(W1, offering(ONE, CHARGE)).whatever()
    play.gets(W1, offering(ONE, CHARGE)).says(Send(W1, like(Heartbeat)))
    play.gets(W1, offering(ONE, REFUND)).says(Send(W1, like(Heartbeat)), Send(G, Workers((ONE,), (REFUND,))))


def test_a_life_whose_connection_blinks_is_still_reached() -> None:
    play = broker(heartbeat_s=1.0)
    play.gets(W1, offering(ONE, CHARGE)).whatever()
    play.hears(PeerLost(W1)).says_nothing()
    play.passes(0.5).says(Send(G, Workers((), ())))


def test_a_gateway_whose_connection_blinks_is_told_when_it_is_back() -> None:
    play = broker(heartbeat_s=1.0)
    play.hears(PeerLost(G)).says_nothing()
    play.gets(W1, offering(ONE, CHARGE)).says(Send(W1, like(Heartbeat)))
    play.gets(G, Hello(GATEWAY)).says(Send(G, like(Heartbeat)), Send(G, Workers((ONE,), (CHARGE,))))


def test_methods_of_a_service_that_is_not_offered_are_left_out() -> None:
    play = broker(heartbeat_s=1.0)
    play.gets(W1, offering(ONE, MethodOffer("reports.other", "bank"))).says_among_others(Send(G, Workers((ONE,), ())))


def test_of_two_offers_of_one_name_the_first_counts() -> None:
    play = broker(heartbeat_s=1.0)
    newer = MethodOffer("reports.charge", "acme", "safe")
    play.gets(W1, offering(ONE, CHARGE)).whatever()
    play.gets(W2, offering(TWO, newer)).says_among_others(Send(G, Workers((ONE, TWO), (CHARGE,))))
    play.gets(W1, Disconnect()).says(Send(G, Workers((TWO,), (newer,))))


def test_a_worker_that_offers_ever_other_methods_is_told_of_twice_a_second() -> None:
    play = broker(heartbeat_s=30.0)
    told = []
    for number in range(50):
        told += play.gets(W1, offering(ONE, MethodOffer(f"acme.{number}", "acme"))).all(Workers)
    assert len(told) == 10
    for _ in range(4):
        told += play.passes(0.5).all(Workers)
    assert len(told) == 11, "there was nothing more to tell"
    assert told[-1].methods == (MethodOffer("acme.49", "acme"),)
    play.gets(W1, offering(ONE, CHARGE)).says_among_others(Send(G, Workers((ONE,), (CHARGE,))))


def test_a_flood_of_hello_is_answered_with_whom_it_reaches_twice_a_second() -> None:
    """Each is a few bytes, and what is told of ten thousand methods is megabytes."""
    play = broker(heartbeat_s=30.0)
    play.gets(W1, offering(ONE, CHARGE)).whatever()
    said = play.gets(G, *[Hello(GATEWAY)] * 1000)
    assert len(said.all(Workers)) == 9, "and one when it came"
    assert len(said.all(Heartbeat)) == 1000
    play.passes(0.4).says_nothing()
    play.passes(0.2).says(Send(G, Workers((ONE,), (CHARGE,))))
    play.passes(20.0).says_nothing()
    play.gets(G, Hello(GATEWAY)).says(Send(G, like(Heartbeat)), Send(G, Workers((ONE,), (CHARGE,))))


def test_a_flood_of_lives_on_one_connection_is_asked_who_it_is() -> None:
    """To forget one takes as long as there are calls: others would have to wait."""
    play = broker(heartbeat_s=30.0)
    said = play.gets(G2, *[Hello(bytes([number]) * 16) for number in range(100)])
    assert [len(said.all(kind)) for kind in (Heartbeat, Workers, Disconnect)] == [10, 10, 90]
    assert len(play.passes(0.6).all(Workers)) == 1, "the last life that was let in is told"
    play.passes(10.0).says_nothing()
    play.gets(G2, Hello(OTHER_GATEWAY)).says(Send(G2, like(Heartbeat)), Send(G2, Workers((), ())))


def test_a_flood_of_gaps_is_answered_with_whom_it_reaches_twice_a_second() -> None:
    play = broker(heartbeat_s=30.0)
    beat = Heartbeat(life=GATEWAY, peer_life=BROKER_LIFE, sent=7, received=0, gap=True)
    assert len(play.gets(G, *[beat] * 1000).all(Workers)) == 9
    assert len(play.passes(1.0).all(Workers)) == 1


def test_a_gateway_that_is_back_need_not_wait_because_it_asked_often() -> None:
    play = broker(heartbeat_s=30.0)
    play.gets(G, *[Hello(GATEWAY)] * 20).whatever()
    play.gets(G2, Hello(OTHER_GATEWAY)).says(Send(G2, like(Heartbeat)), Send(G2, Workers((), ())))
    play.hears(PeerLost(G)).says_nothing()
    play.gets(G, Hello(GATEWAY)).says(Send(G, like(Heartbeat)), Send(G, Workers((), ())))


def test_what_changes_is_told_those_who_asked_too_often_as_well() -> None:
    play = broker(heartbeat_s=30.0)
    play.gets(G, *[Hello(GATEWAY)] * 20).whatever()
    play.gets(W1, offering(ONE, CHARGE)).says(Send(W1, like(Heartbeat)), Send(G, Workers((ONE,), (CHARGE,))))
    play.passes(20.0).says_nothing()


def test_where_nothing_is_lost_nobody_is_told() -> None:
    broker().gets(W1, offering(ONE, CHARGE)).says_nothing()


# Whose connection it is

BOTH = {"webshop": Permit(call=("acme", "bank*")), "acme-workers": Permit(serve=("acme", "bank*"))}


def guarded(permits: dict[str, Permit] | None = None, **fields: Any) -> Playbook[Broker]:
    """The gateway has come with the key of `webshop`, worker 1 with that of `acme-workers`."""
    machine = Broker(BROKER_LIFE, BrokerLimits(), permits=BOTH if permits is None else permits, **fields)
    play = Playbook(machine, check=consistent)
    play.hears(PeerFound(G, "webshop"), PeerFound(W1, "acme-workers")).says_nothing()
    return play


def permitted() -> Playbook[Broker]:
    play = guarded()
    play.gets(G, Hello(GATEWAY)).says_nothing()
    play.gets(W1, ready(acme=2)).says_nothing()
    return play


def test_what_a_permit_allows_goes_its_way() -> None:
    play = permitted()
    play.gets(G, request(A)).says(Send(W1, request(A)))
    play.gets(W1, Claim(A, ONE, 1)).says(Send(G, Claim(A, ONE, 1)))
    play.gets(G, Grant(A, ONE, 1, 9)).says(Send(W1, Grant(A, ONE, 1, 9)))
    play.gets(W1, Final(A, ONE, 1, OK)).says(Send(G, Final(A, ONE, 1, OK)))
    assert not play.machine.counts


def test_a_service_that_a_key_may_not_serve_is_left_out_of_its_offer() -> None:
    play = guarded(heartbeat_s=1.0)
    play.gets(G, Hello(GATEWAY)).whatever()
    offers = (CHARGE, MethodOffer("mail.send", "mail"))
    said = play.gets(W1, Ready(ONE, {"acme": 1, "mail": 1, "banking": 1}, 0, offers))
    said.says(Send(W1, like(Heartbeat)), Send(G, Workers((ONE,), (CHARGE,))))
    assert play.machine._workers[ONE].services == {"acme": 1, "banking": 1}
    assert play.machine.counts == {"serve_forbidden": 1}


def test_a_gateway_learns_only_methods_that_its_key_may_call() -> None:
    play = guarded({"webshop": Permit(call=("acme",)), "acme-workers": Permit(serve=("*",))}, heartbeat_s=1.0)
    offers = (CHARGE, MethodOffer("mail.send", "mail"))
    play.gets(W1, Ready(ONE, {"acme": 1, "mail": 1}, 0, offers)).whatever()
    play.gets(G, Hello(GATEWAY)).says(Send(G, like(Heartbeat)), Send(G, Workers((ONE,), (CHARGE,))))


def test_a_key_that_may_serve_nothing_is_no_worker() -> None:
    play = permitted()
    play.hears(PeerFound(W2, "webshop")).says_nothing()
    play.gets(W2, ready(TWO)).says_nothing()
    assert TWO not in play.machine._workers
    for message in (Claim(A, TWO, 1), Final(A, TWO, 1, OK), Release(A, TWO, 1), Reject(A, "again")):
        play.gets(W2, message).says(Send(W2, Disconnect()))
    assert play.machine.counts == {"ready_forbidden": 1}


def test_a_key_that_may_call_nothing_is_no_gateway_and_is_told_so() -> None:
    play = permitted()
    mine = call_id(1, OTHER_GATEWAY)
    play.gets(W1, Hello(OTHER_GATEWAY)).says_nothing()
    play.gets(W1, request(mine)).says(Send(W1, like(Reject, call_id=mine, kind="refused", reason="forbidden")))
    play.gets(W1, Grant(A, ONE, 1, 9), Deny(A, ONE, 1), Cancel(A), Settled(ONE, (A,)), LostSeen(A, ONE, 1)).says_nothing()
    assert play.machine.counts == {"hello_forbidden": 1, "call_forbidden": 1, "not_owner": 4}


def test_a_key_that_nobody_knows_may_do_nothing() -> None:
    play = permitted()
    for user in ("", "stranger"):
        play.hears(PeerFound(G2, user)).says_nothing()
        play.gets(G2, Hello(OTHER_GATEWAY), ready(TWO)).says_nothing()
    assert play.machine.counts == {"hello_forbidden": 2, "ready_forbidden": 2}


def test_whoever_is_refused_learns_who_is_here_all_the_same() -> None:
    play = guarded(heartbeat_s=1.0)
    play.gets(W1, Hello(OTHER_GATEWAY)).says(Send(W1, like(Heartbeat)))
    play.gets(G, ready(TWO)).says(Send(G, like(Heartbeat)))


def test_a_service_that_a_key_may_not_call_is_forbidden() -> None:
    play = permitted()
    play.gets(G, request(A, service="mail")).says(
        Send(G, Reject(A, "refused", "forbidden", "This key may not call service 'mail'."))
    )
    play.gets(G, request(B, service="banking")).says_nothing()
    assert len(play.machine) == 1


def test_a_key_with_a_principal_calls_in_its_name_only() -> None:
    play = guarded({"webshop": Permit(call=("*",), principal="webshop"), "acme-workers": Permit(serve=("*",))})
    play.gets(G, Hello(GATEWAY)).says_nothing()
    play.gets(W1, ready(acme=3)).says_nothing()
    message = "This key may call in the name of 'webshop' only, not of 'bank'."
    play.gets(G, request(A, principal="bank")).says(Send(G, Reject(A, "refused", "forbidden", message)))
    play.gets(G, request(B, principal="webshop")).says(Send(W1, request(B, principal="webshop")))
    play.gets(G, request(C, principal="")).says(Send(W1, request(C, principal="webshop")))


def test_a_worker_claims_no_call_of_a_service_that_its_key_may_not_serve() -> None:
    play = permitted()
    play.hears(PeerFound(W2, "mail-workers")).says_nothing()
    play.machine._roster = Roster({**BOTH, "mail-workers": Permit(serve=("mail",))})
    for peer, user in ((G, "webshop"), (W1, "acme-workers"), (W2, "mail-workers")):
        play.machine.handle(PeerFound(peer, user), play.now)
    play.gets(G, Hello(GATEWAY)).says_nothing()
    play.gets(W2, Ready(TWO, {"mail": 1}, 0)).says_nothing()
    play.gets(G, request(A)).says(Send(W1, request(A)))
    play.gets(W2, Claim(A, TWO, 1)).says_nothing()
    assert play.machine.counts == {"claim_forbidden": 1}


def test_what_this_broker_does_not_know_is_claimed_by_those_only_who_may_serve_anything() -> None:
    """The call may be another broker's, of a service that the worker's key may not serve: the gateway could not tell."""
    play = guarded(
        {"webshop": Permit(call=("*",)), "acme-workers": Permit(serve=("*",)), "mail-workers": Permit(serve=("mail",))}
    )
    play.hears(PeerFound(W2, "mail-workers")).says_nothing()
    play.gets(G, Hello(GATEWAY)).says_nothing()
    play.gets(W1, ready(acme=1)).says_nothing()
    play.gets(W2, Ready(TWO, {"mail": 1}, 0)).says_nothing()
    play.gets(W2, Claim(A, TWO, 1)).says_nothing()
    play.gets(W1, Claim(A, ONE, 1)).says(Send(G, Claim(A, ONE, 1)))
    assert play.machine.counts == {"claim_forbidden": 1}


PROVEN = gateway_life(b"a secret")
P, Q = call_id(1, PROVEN), call_id(2, PROVEN)
THIEVES = {
    "webshop": Permit(call=("acme",)),
    "acme-workers": Permit(serve=("acme", "mail")),
    "thief": Permit(call=("acme", "mail"), serve=("mail",)),
}


def robbed(**fields: Any) -> Playbook[Broker]:
    """A call runs, its gateway is gone for longer than a blink, and who has seen the head of its life in call ids takes its place."""
    play = guarded(THIEVES, **fields)
    play.hears(PeerFound(G2, "thief")).says_nothing()
    play.gets(G, Hello(PROVEN)).whatever()
    play.gets(W1, Ready(ONE, {"acme": 2}, 0)).whatever()
    play.gets(G, request(P)).says(Send(W1, request(P)))
    play.gets(W1, Claim(P, ONE, 1)).says(Send(G, Claim(P, ONE, 1)))
    play.hears(PeerLost(G)).says_nothing()
    play.passes(0.6).whatever()
    play.gets(G2, Hello(PROVEN[:8] + b"made up!")).whatever()
    return play


def test_who_has_taken_the_place_of_a_gateway_that_is_gone_has_no_say_in_its_calls() -> None:
    play = robbed()
    play.gets(G2, Grant(P, ONE, 1, 5000), Deny(P, ONE, 1), Cancel(P), Settled(ONE, (P,))).says_nothing()
    play.gets(G2, Grant(Q, ONE, 2, 5000), Deny(Q, ONE, 2), Cancel(Q), Settled(ONE, (Q,))).says_nothing()
    assert play.machine.counts == {"not_owner": 7}, "what is not known here cannot be cancelled"
    play.gets(G2, request(Q, service="mail")).says_nothing()  # what it asks for itself it may
    play.gets(W1, Ready(ONE, {"acme": 1, "mail": 1}, 0)).says(Send(W1, like(Request, call_id=Q)))
    play.gets(W1, Claim(Q, ONE, 2)).says(Send(G2, Claim(Q, ONE, 2)))
    play.gets(G2, Grant(Q, ONE, 2, 5000)).says(Send(W1, Grant(Q, ONE, 2, 5000)))


def test_who_has_taken_the_place_of_a_gateway_that_is_gone_reads_none_of_its_calls() -> None:
    play = robbed()
    play.gets(W1, Claim(P, ONE, 1), Final(P, ONE, 1, OK)).says_nothing()
    play.gets(W1, Final(P, ONE, 1, OK)).says_nothing()  # nor when this broker knows it no more
    assert play.machine.counts == {"claim_forbidden": 1, "not_owner": 2}


def test_who_has_taken_the_place_of_a_gateway_that_is_gone_hears_of_no_claim() -> None:
    """With call, life and claim it could go to another broker, be that worker, and say how the call ended."""
    play = robbed()
    play.gets(W1, Release(P, ONE, 1)).says_nothing()
    play = robbed()
    play.gets(W1, Disconnect()).says_nothing()
    play.gets(G2, Hello(PROVEN[:8] + b"made up!"), LostSeen(P, ONE, 1)).says_nothing()
    play.hears(PeerFound(G, "webshop")).says_nothing()
    play.gets(G, Hello(PROVEN)).says(Send(G, Lost(P, ONE, 1)))


def test_a_gateway_that_proves_its_life_has_its_place_back() -> None:
    play = robbed(heartbeat_s=30.0)
    play.hears(PeerFound(G, "webshop")).says_nothing()
    play.gets(G, Hello(PROVEN)).says(Send(G, like(Heartbeat)), Send(G, Workers((ONE,), ())))
    play.gets(W1, Final(P, ONE, 1, OK)).says(Send(G, Final(P, ONE, 1, OK)))
    play.gets(G, Settled(ONE, (P,))).says(Send(W1, Settled(ONE, (P,))))
    play.gets(G2, Settled(ONE, (P,))).says_nothing()
    play.gets(G2, Hello(PROVEN[:8] + b"made up!"), request(Q, service="mail")).says(*[Send(G2, Disconnect())] * 2)
    play.hears(PeerLost(G2)).says_nothing()
    play.gets(G, request(Q)).says(Send(W1, like(Request, call_id=Q)))


def test_a_copy_that_another_made_under_a_call_id_is_not_claimed_of_its_gateway() -> None:
    """Else it would grant its own call, and the worker would do what the other said."""
    play = guarded(THIEVES)
    play.hears(PeerFound(G2, "thief")).says_nothing()
    play.gets(G2, Hello(PROVEN[:8] + b"made up!"), request(P, service="mail", body=b"[666]")).says_nothing()
    play.gets(G, Hello(PROVEN)).says_nothing()
    play.gets(G, request(P)).says_nothing()
    play.gets(W1, Ready(ONE, {"mail": 1}, 0)).says(Send(W1, like(Request, body=b"[666]")))
    play.gets(W1, Claim(P, ONE, 1)).says_nothing()
    play.gets(W1, Release(P, ONE, 1)).says(Send(G, Release(P, ONE, 1)))  # upon which it says its own once more
    play.gets(W1, Ready(ONE, {"acme": 1}, 0)).says_nothing()
    play.gets(G, request(P)).says(Send(W1, request(P)))


def test_where_a_life_proves_nothing_what_is_not_known_here_is_for_those_who_may_call_anything() -> None:
    play = guarded({"webshop": Permit(call=("acme",)), "acme-workers": Permit(serve=("*",)), "any": Permit(call=("*",))})
    play.hears(PeerFound(G2, "any")).says_nothing()
    play.gets(G, Hello(GATEWAY)).says_nothing()
    play.gets(G2, Hello(OTHER_GATEWAY)).says_nothing()
    play.gets(W1, ready()).says_nothing()
    other = call_id(1, OTHER_GATEWAY)
    play.gets(W1, Final(A, ONE, 1, OK), Final(other, ONE, 2, OK)).says(Send(G2, Final(other, ONE, 2, OK)))
    play.gets(G, request(A)).says(Send(W1, request(A)))
    play.gets(W1, Final(A, ONE, 3, OK)).says(Send(G, Final(A, ONE, 3, OK)))


def test_what_a_broker_does_not_know_is_granted_by_those_only_who_may_call_anything() -> None:
    play = guarded({"webshop": Permit(call=("mail",)), "acme-workers": Permit(serve=("*",))})
    play.gets(G, Hello(PROVEN)).says_nothing()
    play.gets(W1, Ready(ONE, {"acme": 1, "mail": 1}, 0)).says_nothing()
    play.gets(W1, Claim(P, ONE, 1)).says(Send(G, Claim(P, ONE, 1)))
    play.gets(G, Grant(P, ONE, 1, 5000)).says_nothing()
    assert play.machine.counts == {"grant_forbidden": 1}
    play.gets(G, Deny(P, ONE, 1)).says(Send(W1, Deny(P, ONE, 1)))


def test_an_answer_goes_to_no_worker_whose_key_may_not_serve_what_was_asked() -> None:
    """Whoever was first to say a life at a broker that has just begun has that life. With call, life and claim it could end the call."""
    permits = {"webshop": Permit(call=("*",)), "acme-workers": Permit(serve=("*",)), "mail-workers": Permit(serve=("mail",))}
    play = guarded(permits)
    play.hears(PeerFound(W2, "mail-workers")).says_nothing()
    play.gets(G, Hello(GATEWAY)).says_nothing()
    play.gets(W2, Ready(ONE, {"mail": 1}, 0)).says_nothing()
    play.gets(W1, ready(ONE)).says(Send(W1, Disconnect()))
    play.gets(G, Grant(A, ONE, 1, 5000), Deny(A, ONE, 1)).says_nothing()
    play.gets(W1, ready(TWO)).says_nothing()
    play.gets(G, request(B)).says(Send(W1, request(B)))
    play.gets(G, Grant(B, ONE, 1, 5000)).says_nothing()
    assert play.machine.counts == {"life_taken": 1, "answer_withheld": 3}
    play.gets(G, Grant(A, TWO, 1, 5000)).says(Send(W1, Grant(A, TWO, 1, 5000)))  # may serve whatever A is


def test_the_life_of_a_worker_is_told_to_those_only_who_may_call_it() -> None:
    """Nobody else could say it at another broker before the worker does."""
    permits = {"webshop": Permit(call=("acme",)), "acme-workers": Permit(serve=("*",))}
    play = guarded(permits, heartbeat_s=1.0)
    play.hears(PeerFound(W2, "acme-workers")).says_nothing()
    play.gets(W1, Ready(ONE, {"mail": 1}, 0, (MethodOffer("mail.send", "mail"),))).whatever()
    play.gets(W2, Ready(TWO, {"acme": 1}, 0)).whatever()
    play.gets(G, Hello(GATEWAY)).says(Send(G, like(Heartbeat)), Send(G, Workers((TWO,), ())))
    play.gets(W1, Ready(ONE, {"mail": 1, "acme": 1}, 0)).says(Send(W1, like(Heartbeat)), Send(G, Workers((ONE, TWO), ())))
    play.gets(W2, Ready(TWO, {}, 0)).says(Send(W2, like(Heartbeat)))  # it has not gone: it offers nothing new


# Whose life it is


def test_half_a_life_is_not_enough_to_be_taken_for_a_gateway() -> None:
    """Workers see call ids, which begin with it."""
    play = running(A)
    forged = GATEWAY[:8] + b"made up!"
    play.gets(W2, Hello(forged)).says(Send(W2, Disconnect()))
    play.gets(W1, Hello(forged)).says(Send(W1, Disconnect()))
    play.hears(PeerLost(G)).says_nothing()
    play.passes(0.4).says_nothing()
    play.gets(W2, Hello(forged)).says(Send(W2, Disconnect()))
    assert play.machine.counts == {"life_taken": 3}
    play.passes(0.1).says_nothing()
    play.gets(W2, Hello(forged)).says_nothing()  # nobody has it any more


def test_a_life_of_a_gateway_stays_with_its_user() -> None:
    play = guarded({"webshop": Permit(call=("*",)), "thief": Permit(call=("*",), serve=("*",))})
    play.gets(G, Hello(GATEWAY)).says_nothing()
    play.hears(PeerFound(G2, "thief")).says_nothing()
    play.gets(G2, Hello(GATEWAY)).says(Send(G2, Disconnect()))
    play.hears(PeerFound(b"again", "webshop")).says_nothing()
    play.gets(b"again", Hello(GATEWAY)).says_nothing()
    assert play.machine.counts == {"life_taken": 1}


def test_a_life_of_a_worker_stays_with_its_user() -> None:
    play = guarded({"acme-workers": Permit(serve=("*",)), "thief": Permit(serve=("*",))})
    play.gets(W1, ready(ONE)).says_nothing()
    play.hears(PeerFound(W2, "thief")).says_nothing()
    play.gets(W2, ready(TWO)).says_nothing()
    play.gets(W2, ready(ONE)).says(Send(W2, Disconnect()))
    assert play.machine._worker_at[W1].life == ONE
    assert play.machine._worker_at[W2].life == TWO  # a refused one changes nothing


def test_two_workers_of_one_life_are_one_and_the_last_connection_counts() -> None:
    play = running(A)
    play.gets(W2, ready(ONE)).says_nothing()
    play.gets(W1, Claim(B, ONE, 2)).says(Send(W1, Disconnect()))
    play.gets(W2, Claim(B, ONE, 2)).says(Send(G, Claim(B, ONE, 2)))
    assert play.machine.held_by(ONE) == 1


def test_a_gateway_with_two_connections_is_answered_on_the_last_and_then_on_the_other() -> None:
    play = staffed(credit=3)
    play.gets(G2, Hello(GATEWAY)).says_nothing()
    play.gets(G, request(A)).says(Send(W1, request(A)))
    play.gets(G2, request(B)).says(Send(W1, request(B)))
    play.gets(W1, Claim(A, ONE, 1)).says(Send(G2, Claim(A, ONE, 1)))
    play.hears(PeerLost(G2)).says_nothing()
    play.passes(1.0).says_nothing()
    play.gets(W1, Claim(B, ONE, 2)).says(Send(G, Claim(B, ONE, 2)))
    play.gets(G2, Hello(GATEWAY)).says_nothing()
    play.hears(PeerLost(G)).says_nothing()
    play.gets(W1, Claim(B, ONE, 2)).says(Send(G2, Claim(B, ONE, 2)))


def test_a_connection_may_be_a_gateways_and_a_workers() -> None:
    play = broker()
    play.gets(G, Ready(ONE, {"acme": 1}, 0)).says_nothing()
    play.gets(G, request(A)).says(Send(G, request(A)))
    play.gets(G, Claim(A, ONE, 1)).says(Send(G, Claim(A, ONE, 1)))
    play.hears(PeerLost(G)).says_nothing()
    play.passes(1.0).whatever()
    assert len(play.machine) == 0


def test_settled_counts_only_from_the_gateway_of_all_its_calls() -> None:
    play = running(A)
    play.gets(G2, Hello(OTHER_GATEWAY)).says_nothing()
    play.gets(G2, Settled(ONE, (A,))).says_nothing()
    play.gets(G, Settled(ONE, (A, call_id(1, OTHER_GATEWAY)))).says_nothing()
    assert play.machine.counts == {"not_owner": 2}


def test_a_grant_of_an_earlier_claim_says_nothing_of_the_present_one() -> None:
    play = working(A)
    play.gets(W1, Claim(A, ONE, 2)).whatever()
    play.gets(G, Grant(A, ONE, 1, 9)).says(Send(W1, Grant(A, ONE, 1, 9)))
    play.gets(W1, Disconnect()).says(Send(G, Lost(A, ONE, 2)))
    play.gets(W2, ready(TWO)).says(Send(W2, like(Request, attempts=0, executed="no")))


# Whatever comes, tables stay small


def test_ten_thousand_peers_that_say_nothing_are_nothing_but_connections() -> None:
    play = guarded(heartbeat_s=1.0)
    peers = [b"silent %d" % number for number in range(10_000)]
    for peer in peers:
        play.machine.handle(PeerFound(peer, "webshop"), 0.0)
    assert len(play.machine._roster._users) == 10_002
    assert not play.machine._links.peers
    assert play.machine.next_deadline() is None
    for peer in peers:
        play.machine.handle(PeerLost(peer), 0.0)
    assert len(play.machine._roster._users) == 2


def test_services_that_nobody_offers_are_not_remembered_for_long() -> None:
    play = broker(no_worker_after_s=5.0)
    for number in range(100):
        play.gets(G, request(call_id(number), service=f"made up {number}")).says_nothing()
    assert len(play.passes(5.0).all(Reject)) == 100
    assert not play.machine._services
    play.gets(G, request(A, service="made up")).says(refusal(A, reason="no_worker"))
    play.passes(0.0).says_nothing()
    assert not play.machine._services


def test_a_call_of_a_service_that_was_forgotten_ends_all_the_same() -> None:
    play = running(A, no_worker_after_s=1.0)
    play.gets(W1, Ready(ONE, {}, 0)).says_nothing()
    play.passes(2.0).says_nothing()
    assert not play.machine._services
    play.gets(W1, Final(A, ONE, 1, OK)).says(Send(G, Final(A, ONE, 1, OK)))
    play.passes(0.0).says_nothing()
    assert not play.machine._services


def test_a_call_of_a_service_that_was_forgotten_is_refused_when_its_worker_will_not_have_it() -> None:
    play = working(A, no_worker_after_s=1.0)
    play.gets(W1, Ready(ONE, {}, 0)).says_nothing()
    play.passes(2.0).says_nothing()
    play.gets(W1, Reject(A, "again")).says_nothing()
    play.passes(0.0).says(refusal(A, reason="no_worker"))


# Workers that read small frames only


def small(life: bytes, bytes_max: int) -> Ready:
    return Ready(life, {"acme": 1}, 0, (), b"", bytes_max)


def test_a_call_goes_to_a_worker_that_reads_its_params() -> None:
    play = broker()
    play.gets(W1, small(ONE, 11)).says_nothing()
    play.gets(W2, small(TWO, 12)).says_nothing()
    play.gets(G, request(A)).says(Send(W2, request(A)))
    play.gets(G, request(B)).says_nothing()
    play.gets(W2, Final(A, TWO, 1, OK)).says(Send(G, Final(A, TWO, 1, OK)), Send(W2, request(B)))


def test_params_that_no_worker_reads_are_refused() -> None:
    play = broker()
    play.gets(W1, small(ONE, 11)).says_nothing()
    play.gets(G, request(A)).says(refusal(A, reason="too_large", limit="broker.frame_bytes_max"))


def test_a_key_that_no_worker_reads_is_refused() -> None:
    """Its connection would be cut, and each next one, for what somebody else said."""
    long = {"key": "\U0001f514" * 20_000, "trace": "t" * 10_000}  # 90,000 bytes
    play = broker()
    play.gets(W1, small(ONE, 90_000 - ROOM_BYTES - 1)).says_nothing()
    play.gets(G, request(A, **long)).says(refusal(A, reason="too_large", limit="broker.frame_bytes_max"))
    play.gets(W2, small(TWO, 90_000 - ROOM_BYTES)).says_nothing()
    play.gets(G, request(B, **long)).says(Send(W2, request(B, **long)))


def test_what_others_say_is_short_enough_for_whoever_is_told() -> None:
    play = working(A)
    long = Reject(A, "refused", "circuit_open", "m" * 65_536)
    play.gets(W1, long).says(refusal(A, reason="circuit_open", message="m" * 1000))
    many = tuple(map(call_id, range(1500)))
    play.gets(G, Settled(ONE, many)).says(Send(W1, Settled(ONE, many[:1000])), Send(W1, Settled(ONE, many[1000:])))


def test_what_waited_for_a_worker_that_cannot_read_it_is_refused_when_it_comes() -> None:
    play = broker()
    play.gets(G, request(A), request(B, body=b"{}")).says_nothing()
    play.gets(W1, small(ONE, 11)).says(
        refusal(A, reason="too_large", limit="broker.frame_bytes_max"), Send(W1, request(B, body=b"{}"))
    )


def test_what_waits_for_a_worker_that_reads_it_is_in_nobodys_way() -> None:
    play = broker()
    play.gets(W2, small(TWO, 12)).says_nothing()
    play.gets(G, request(A)).says(Send(W2, request(A)))
    play.gets(G, request(B), request(C, body=b"{}"), request(D)).says_nothing()
    play.gets(W1, small(ONE, 11)).says(Send(W1, request(C, body=b"{}")))
    play.gets(W1, Final(C, ONE, 1, OK)).says(Send(G, Final(C, ONE, 1, OK)))
    play.gets(W2, Final(A, TWO, 1, OK)).says(Send(G, Final(A, TWO, 1, OK)), Send(W2, request(B)))
    play.gets(W2, Final(B, TWO, 1, OK)).says(Send(G, Final(B, TWO, 1, OK)), Send(W2, request(D)))


def test_an_outcome_larger_than_its_gateway_reads_is_told_as_such() -> None:
    play = broker(heartbeat_s=30.0)
    play.gets(G, Hello(GATEWAY, frame_bytes_max=100)).whatever()
    play.gets(W1, ready()).whatever()
    play.gets(G, request(A)).whatever()
    said = play.gets(W1, Final(A, ONE, 1, Outcome(reason="ok", executed="yes", result=b"1" * 101))).one(Final)
    assert (said.call_id, said.life, said.claim) == (A, ONE, 1)
    assert (said.outcome.reason, said.outcome.executed) == ("response_too_large", "yes")
    assert said.outcome.limit == "broker.frame_bytes_max"


# A worker of a service that does not know a method of it


def test_a_method_that_one_worker_does_not_know_waits_for_another_that_is_busy() -> None:
    play = working(A)
    play.gets(W2, ready(TWO)).says_nothing()
    play.gets(G, request(B)).says(Send(W2, request(B)))
    play.gets(W2, Reject(B, "refused", "method_not_found")).says_nothing()
    play.gets(W1, Reject(A, "drop")).says(Send(W1, request(B)))


def test_a_method_that_no_worker_knows_is_not_found() -> None:
    play = working(A)
    play.gets(W1, Reject(A, "refused", "method_not_found")).says(refusal(A, reason="method_not_found"))


# Every state answers every event

PHASES = ("nobody", "a gateway", "a worker", "queued", "given", "claimed", "granted", "refused", "gone", "lost", "orphaned")
CLAIMS = [(ONE, 1), (ONE, 2), (TWO, 1)]
EVERY_EVENT: list[Event] = [
    submitted(A),
    Abandoned(A),
    *(PeerFound(peer, user) for peer in (W1, W2) for user in ("", "somebody")),
    *(PeerLost(peer) for peer in (G, G2, W1, W2)),
    Prepared(A),
    Finished(A, 1, OK),
    Tick(),
    Draining(),
    DrainTimedOut(),
    *(
        Received(peer, message)
        for peer in (G, G2, W1, W2)
        for message in (
            Hello(GATEWAY),
            Hello(OTHER_GATEWAY),
            request(A),
            request(B),
            request(C, service="bank"),
            Cancel(A),
            Settled(ONE, (A,)),
            ready(ONE),
            ready(TWO, acme=2, bank=1),
            Ready(ONE, {}, 0),
            Disconnect(),
            offering(TWO, MethodOffer("acme.new", "acme")),
            Workers((ONE,), ()),
            *(
                beat(life, **fields)
                for life in (ONE, TWO, GATEWAY)
                for fields in ({"in_flight": ()}, {"in_flight": (A, D)}, {"gap": True})
            ),
            *(Reject(A, kind, "overloaded") for kind in ("again", "drop", "refused")),
            *(kind(A, life, claim) for kind in (Claim, Release, Deny, Lost, LostSeen) for life, claim in CLAIMS),
            *(Grant(A, life, claim, 10) for life, claim in CLAIMS),
            *(Final(A, life, claim, OK) for life, claim in CLAIMS),
        )
    ),
]


def in_phase(phase: str, heartbeat_s: float) -> Playbook[Broker]:
    play = Playbook(Broker(BROKER_LIFE, BrokerLimits(), heartbeat_s=heartbeat_s), check=consistent)
    if phase == "nobody":
        return play
    play.gets(G, Hello(GATEWAY)).whatever()
    if phase not in ("a gateway", "queued"):
        play.gets(W1, ready(ONE)).whatever()
    if phase not in ("a gateway", "a worker"):
        play.gets(G, request(A)).whatever()
    if phase in ("claimed", "granted", "gone", "lost", "orphaned"):
        play.gets(W1, Claim(A, ONE, 1)).whatever()
    if phase in ("granted", "gone", "lost", "orphaned"):
        play.gets(G, Grant(A, ONE, 1, 9000)).whatever()
    if phase == "refused":
        play.gets(W1, Reject(A, "again")).whatever()
    if phase == "gone":
        play.hears(PeerLost(W1)).whatever()
    if phase == "lost":
        play.gets(W1, Disconnect()).whatever()
    if phase == "orphaned":
        play.hears(PeerLost(G)).whatever()
        play.passes(1.0).whatever()
    return play


@pytest.mark.parametrize("heartbeat_s", [0.0, 1.0])
@pytest.mark.parametrize("phase", PHASES)
def test_every_state_answers_every_event(phase: str, heartbeat_s: float) -> None:
    for event in EVERY_EVENT:
        play = in_phase(phase, heartbeat_s)
        said = play.hears(event)
        assert all(isinstance(action, Send) for action in said.whatever().actions)
        play.passes(20.0).whatever()
        for peer in (G, G2, W1, W2):
            play.hears(PeerLost(peer)).whatever()
        play.passes(400.0).whatever()
        broker = play.machine
        assert (len(broker), broker.held_bytes) == (0, 0)
        assert not any(
            (
                broker._workers,
                broker._worker_at,
                broker._roster.gateways,
                broker._roster.at,
                broker._links.peers,
                broker._services,
            )
        )
        assert broker.next_deadline() is None


def test_the_services_it_knows_are_there_for_whoever_measures() -> None:
    play = broker()
    assert not play.machine.services
    play.hears(Received(W1, ready(x=1))).whatever()
    assert list(play.machine.services) == ["x"]
