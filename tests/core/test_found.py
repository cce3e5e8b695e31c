"""What the simulator and the exploration found in the machines, each as the shortest conversation that shows it."""

from homing.core.broker import Broker, BrokerLimits
from homing.core.calls import Calls
from homing.core.holding import MethodPolicy, ProviderPolicy
from homing.core.machine import Finished, PeerFound, PeerLost, Prepare, Prepared, Send, Settle, Start
from homing.core.messages import Claim, Disconnect, Final, Grant, Heartbeat, Hello, Ready, Reject, Release, Request, Settled
from homing.core.worker import Worker
from homing.errors import Outcome
from tests.core.people import BROKER, BROKER_LIFE, GATEWAY, ONE, TWO, W1, W2, A, B, C, G, lost, request, submitted, unreachable
from tests.core.playbook import Playbook, like


def broker(*, heartbeat_s: float = 0.0, **limits) -> Playbook[Broker]:
    play = Playbook(Broker(BROKER_LIFE, BrokerLimits(**limits), heartbeat_s=heartbeat_s))
    play.gets(G, Hello(GATEWAY)).whatever()
    return play


def worker(*, needs_token: bool = False, heartbeat_s: float = 0.0) -> Playbook[Worker]:
    machine = Worker(
        ONE,
        services={"acme": 8},
        methods={"acme.charge": MethodPolicy(provider="acme")},
        providers={"acme": ProviderPolicy(needs_token=needs_token)},
        random=lambda: 0.5,
        heartbeat_s=heartbeat_s,
    )
    play = Playbook(machine)
    play.hears(PeerFound(BROKER)).whatever()
    return play


# The worker


def test_a_retry_that_fetched_a_token_leaves_no_timer_behind() -> None:
    play = worker(needs_token=True)
    play.gets(BROKER, request(A)).says(like(Prepare))
    play.hears(Prepared(A)).whatever()
    play.gets(BROKER, Grant(A, ONE, 1, 10_000)).says(like(Start, number=1))
    play.hears(Finished(A, 1, unreachable())).says_nothing()
    play.passes(0.1).says(like(Prepare))
    play.hears(Prepared(A)).says(like(Start, number=2))
    play.passes(30.0).says_nothing()  # the exchange ends itself


def test_an_outcome_that_comes_after_a_standstill_is_told_once_all_the_same() -> None:
    play = worker()
    play.gets(BROKER, request(A)).whatever()
    play.gets(BROKER, Grant(A, ONE, 1, 10_000)).says(like(Start))
    play.at(100.0).hears(Finished(A, 1, lost())).says(
        Send(BROKER, like(Final, call_id=A))
    )  # or the broker never has its credit back
    play.gets(BROKER, Settled(ONE, (A,))).says_nothing()
    assert len(play.machine) == 0


def test_a_call_whose_last_moment_has_come_is_dropped_and_not_claimed() -> None:
    play = worker()
    play.gets(BROKER, request(A, remaining_ms=4)).says(Send(BROKER, Reject(A, "drop")))  # the margin is 5
    play.gets(BROKER, request(A, remaining_ms=6)).says(Send(BROKER, like(Claim)))


def test_a_call_whose_last_moment_has_come_is_not_submitted_again() -> None:
    """In one process, where no time passes on the way, claim, grant and release went round for ever."""
    play = Playbook(Calls(GATEWAY))
    play.hears(PeerFound(BROKER)).whatever()
    play.hears(submitted(A), submitted(B)).whatever()
    play.at(9.996).gets(BROKER, Claim(A, ONE, 1)).says(Send(BROKER, like(Grant)))
    play.gets(BROKER, Release(A, ONE, 1)).says_nothing()
    play.passes(1.0).says_among_others(like(Settle, call_id=A, outcome=like(Outcome, reason="expired", executed="no")))


# Both ends of a broker that has started anew


def test_a_broker_that_asks_for_every_message_is_told_everything_once_and_once_more_but_not_every_time() -> None:
    play = Playbook(Calls(GATEWAY, heartbeat_s=1.0))
    play.hears(PeerFound(BROKER)).whatever()
    play.gets(BROKER, Heartbeat(life=BROKER_LIFE, peer_life=GATEWAY, sent=0, received=1)).says_nothing()
    play.hears(submitted(A), submitted(B)).whatever()
    said = play.gets(BROKER, Disconnect(), Disconnect(), Disconnect())
    assert len(said.all(Hello)) == 1
    assert len(said.all(Request)) == 2
    said = play.passes(0.5)  # something of it may have overtaken the introduction, and was dropped
    assert len(said.all(Hello)) == 1
    assert len(said.all(Request)) == 2
    play.passes(0.4).says_nothing()


def test_so_it_is_with_workers() -> None:
    play = worker(heartbeat_s=1.0)
    play.gets(BROKER, request(A), request(B)).whatever()
    said = play.gets(BROKER, Disconnect(), Disconnect(), Disconnect())
    assert len(said.all(Ready)) == 1
    assert len(said.all(Claim)) == 2
    said = play.passes(0.25)
    assert len(said.all(Ready)) == 1
    assert len(said.all(Claim)) == 2


def test_whoever_is_lost_is_owed_nothing() -> None:
    play = Playbook(Calls(GATEWAY))
    play.hears(PeerFound(BROKER)).whatever()
    play.gets(BROKER, Disconnect(), Disconnect()).whatever()
    play.hears(PeerLost(BROKER)).says_nothing()
    play.passes(1.0).says_nothing()


# The broker


def test_held_bytes_are_bounded_even_if_a_slot_is_free() -> None:
    play = broker(held_bytes_max=20)
    play.gets(W1, Ready(ONE, {"acme": 8}, 0)).whatever()
    play.gets(G, request(A)).says(Send(W1, request(A)))
    play.gets(G, request(B)).says(Send(G, like(Reject, call_id=B, reason="overloaded", limit="broker.held_bytes_max")))
    assert play.machine.held_bytes <= 20


def test_what_a_lost_worker_held_does_not_make_a_queue_longer_than_it_may_be() -> None:
    play = broker(queue_length_max=1)
    play.gets(W1, Ready(ONE, {"acme": 2}, 0)).whatever()
    play.gets(G, request(A), request(B), request(C)).whatever()
    assert play.machine.queued("acme") == 1
    play.hears(PeerLost(W1)).says_nothing()
    full = like(Reject, reason="overloaded", limit="broker.queue_length_max")
    play.passes(1.0).says(Send(G, full), Send(G, full))
    assert play.machine.queued("acme") == 1
    assert len(play.machine) == 1


def test_a_free_slot_is_not_left_idle_behind_a_call_that_waits_for_another_worker() -> None:
    play = broker()
    play.gets(W1, Ready(ONE, {"acme": 1}, 0)).whatever()
    play.gets(G, request(A)).whatever()
    play.gets(W1, Reject(A, "again")).says_nothing()
    play.gets(G, request(B, principal="other")).says(Send(W1, request(B, principal="other")))


def test_a_call_that_a_worker_cannot_take_does_not_keep_its_principals_next_ones_waiting() -> None:
    play = broker()
    play.gets(W1, Ready(ONE, {"acme": 1}, 0)).whatever()
    play.gets(G, request(A)).whatever()
    play.gets(W1, Reject(A, "again")).says_nothing()
    play.gets(G, request(B)).says(Send(W1, request(B)))
    play.gets(W2, Ready(TWO, {"acme": 1}, 0)).says(Send(W2, request(A)))


def test_what_was_on_its_way_when_a_connection_broke_is_dispatched_again() -> None:
    play = broker(heartbeat_s=1.0)
    play.gets(W1, Ready(ONE, {"acme": 1}, 1000)).whatever()
    play.gets(G, request(A)).says(Send(W1, request(A)))
    play.hears(PeerLost(W1)).says_nothing()
    play.gets(W1, Ready(ONE, {"acme": 1}, 1000)).says(
        Send(W1, like(Heartbeat))
    )  # the same life is back, and both links count anew
    beat = Heartbeat(life=ONE, peer_life=BROKER_LIFE, sent=1, received=0, in_flight=())
    play.gets(W1, beat).says_among_others(Send(W1, like(Request, call_id=A)))


def test_calls_that_a_heartbeat_does_not_list_are_dispatched_again_in_the_same_order_in_every_run() -> None:
    calls = [GATEWAY[:8] + bytes([n]) * 8 for n in range(1, 9)]
    play = broker(heartbeat_s=1.0)
    play.gets(W1, Ready(ONE, {"acme": 8}, 1000)).whatever()
    play.gets(G, *(request(call) for call in calls)).whatever()
    beat = Heartbeat(life=ONE, peer_life=BROKER_LIFE, sent=1, received=8, in_flight=())
    again = play.gets(W1, beat).all(Request)
    assert [message.call_id for message in again] == sorted(calls)  # a set's order is not the same in every run
