"""A worker of Majordomo and the broker, with the machine between them that claims for it. Time is moved by hand."""

import tracemalloc
from collections.abc import Iterator
from typing import Any, cast

import pytest

from homing.core import majordomo
from homing.core.machine import Draining, DrainTimedOut, PeerLost
from homing.core.majordomo import Dialect
from homing.core.messages import (
    Cancel,
    Claim,
    Deny,
    Disconnect,
    Final,
    Grant,
    Heartbeat,
    Message,
    Ready,
    Reject,
    Release,
    Settled,
)
from homing.core.neighbours import Enter, Heard, Leave, Neighbours, Say, Tell, Told, Unsaid
from homing.errors import Attempt, Outcome
from tests.core.people import A, B, request
from tests.core.playbook import Playbook, Said, like

P, Q = b"peer one", b"peer two"
LIFE, NEXT = b"life-number-0001", b"life-number-0002"
ONE, TWO = Dialect(b"MDPW01", empty_first=True), Dialect(b"MDPW02", empty_first=False)
READY = [b"", b"MDPW01", b"\x01", b"echo"]
BEAT = [b"", b"MDPW01", b"\x04"]
GOODBYE = [b"", b"MDPW01", b"\x05"]
WANTED = request(service="echo", body=b'{"a":1}')
GIVE_AWAY = Say(P, GOODBYE)  # what a broker's DISCONNECT looks like: the same number


def lives() -> Iterator[bytes]:
    number = 0
    while True:
        number += 1
        yield b"life-number-%04d" % number


def machine(**options: Any) -> Neighbours:
    given = {"lives": lives().__next__, "may_serve": lambda user, service: service != "acme"}
    return Neighbours(**(given | options))


class Play:
    """A playbook with this machine's own words."""

    def __init__(self, **options: Any) -> None:
        self.machine = machine(**options)
        self.book = Playbook(cast(Any, self.machine))

    def hears(self, *frames: list[bytes], peer: bytes = P, user: str = "") -> Said:
        return self.book.hears(*(cast(Any, Heard(peer, each, user)) for each in frames))

    def is_told(self, *messages: Message, life: bytes = LIFE) -> Said:
        return self.book.hears(*(cast(Any, Told(life, message)) for message in messages))

    def event(self, event: object) -> Said:
        return self.book.hears(cast(Any, event))

    def passes(self, seconds: float) -> Said:
        return self.book.passes(seconds)


@pytest.fixture
def play() -> Play:
    return Play()


@pytest.fixture
def idle(play: Play) -> Play:
    play.hears(READY).says(Enter(LIFE, ""), Tell(LIFE, Ready(LIFE, {"echo": 1}, 0)))
    return play


@pytest.fixture
def claiming(idle: Play) -> Play:
    idle.is_told(WANTED).says(Tell(LIFE, Claim(A, LIFE, 1)))
    return idle


@pytest.fixture
def busy(claiming: Play) -> Play:
    claiming.is_told(Grant(A, LIFE, 1, 10_000)).says(Say(P, [b"", b"MDPW01", b"\x02", A, b"", b'{"a":1}'], 1))
    return claiming


def reply(body: bytes = b'{"b":2}', address: bytes = A) -> list[bytes]:
    return [b"", b"MDPW01", b"\x03", address, b"", body]


# A call, from READY to SETTLED


def test_a_call_is_claimed_for_it_and_asked_of_it_only_then(busy: Play) -> None:
    outcome = Outcome(
        reason="ok",
        executed="yes",
        result=b'{"b":2}',
        attempts=(Attempt(provider="echo", started_ms=0, duration_ms=1500, reason="ok", executed="yes"),),
    )
    busy.passes(1.5).says_nothing()
    busy.hears(reply()).says(Tell(LIFE, Final(A, LIFE, 1, outcome)))
    busy.is_told(Settled(LIFE, (A,))).says_nothing()
    assert busy.machine.held_bytes == 0
    assert (len(busy.machine), busy.machine.busy) == (1, 0)
    busy.is_told(request(B, service="echo")).says(Tell(LIFE, Claim(B, LIFE, 2)))


def test_a_worker_of_0_2_is_asked_in_its_own_way() -> None:
    play = Play()
    play.hears([b"MDPW02", b"\x01", b"echo"]).whatever()
    play.is_told(WANTED).whatever()
    play.is_told(Grant(A, LIFE, 1, 10_000)).says(Say(P, [b"MDPW02", b"\x02", A, b"", b'{"a":1}'], 1))
    play.hears([b"MDPW02", b"\x04", A, b"", b"7"]).says(like(Tell, message=like(Final, outcome=like(Outcome, result=b"7"))))


def test_partial_answers_are_the_beginning_of_the_final_one() -> None:
    play = Play()
    play.hears([b"MDPW02", b"\x01", b"echo"]).whatever()
    play.is_told(WANTED, Grant(A, LIFE, 1, 10_000)).whatever()
    play.hears([b"MDPW02", b"\x03", A, b"", b"[1,"]).says_nothing()
    play.hears([b"MDPW02", b"\x03", A, b"", b"2", b","]).says_nothing()
    final = play.hears([b"MDPW02", b"\x04", A, b"", b"3]"]).one(Tell).message
    assert (final.outcome.reason, final.outcome.result) == ("ok", b"[1,2,3]")


def test_params_left_out_are_an_object_without_members(idle: Play) -> None:
    idle.is_told(request(service="echo", body=b"")).whatever()
    assert idle.is_told(Grant(A, LIFE, 1, 10_000)).one(Say).frames[-1] == b"{}"


@pytest.mark.parametrize("body", [b'{"big":123456789012345678901234567890}', b' [1.50, "\xc3\xa9"]\n', b"null"], ids=range(3))
def test_the_bytes_of_a_body_are_left_alone(busy: Play, body: bytes) -> None:
    assert busy.hears(reply(body)).one(Tell).message.outcome.result == body


def test_an_empty_answer_is_null(busy: Play) -> None:
    assert busy.hears(reply(b"")).one(Tell).message.outcome.result == b"null"


@pytest.mark.parametrize("body", [b"hello", b"{} {}", b"\xff", b"[" * 600 + b"]" * 600, b"NaN"], ids=range(5))
def test_an_answer_that_is_no_json_is_not_what_was_promised(busy: Play, body: bytes) -> None:
    outcome = busy.hears(reply(body)).one(Tell).message.outcome
    assert (outcome.reason, outcome.executed) == ("response_invalid", "unknown")
    assert [attempt.reason for attempt in outcome.attempts] == ["response_invalid"]


def test_an_answer_has_a_largest_size_and_its_parts_together() -> None:
    play = Play(body_bytes_max=10)
    play.hears([b"MDPW02", b"\x01", b"echo"]).whatever()
    play.is_told(WANTED, Grant(A, LIFE, 1, 10_000)).whatever()
    for _ in range(5):
        play.hears([b"MDPW02", b"\x03", A, b"", b'"....']).says_nothing()
    outcome = play.hears([b"MDPW02", b"\x04", A, b"", b'"']).one(Tell).message.outcome
    assert (outcome.reason, outcome.executed) == ("response_too_large", "unknown")
    play.is_told(request(B, service="echo")).says(Tell(LIFE, Claim(B, LIFE, 2)))


def test_an_outcome_is_said_again_until_it_is_seen(busy: Play) -> None:
    final = busy.hears(reply()).one(Tell)
    assert busy.passes(3.0).all(Tell) == [final] * 3
    busy.is_told(Settled(LIFE, (B, A))).says_nothing()
    assert not busy.passes(2.0).all(Tell)


def test_and_no_longer_than_somebody_may_wait_for_it(busy: Play) -> None:
    busy.hears(reply()).whatever()
    for _ in range(20):
        busy.hears(BEAT).says_nothing()
        busy.passes(1.0).whatever()
    assert busy.machine.held_bytes == 0


def test_outcomes_held_have_a_limit() -> None:
    play = Play(held_bytes_max=20)
    play.hears(READY).whatever()
    for call_id, claim in ((A, 1), (B, 2)):
        play.is_told(request(call_id, service="echo"), Grant(call_id, LIFE, claim, 10_000)).whatever()
        play.hears(reply(b'"0123456789"', call_id)).whatever()
    assert play.machine.held_bytes == 12
    assert [tell.message.call_id for tell in play.passes(1.0).all(Tell)] == [B]


def test_a_call_that_is_answered_again_before_it_is_seen_is_held_once() -> None:
    """A gateway that says nothing of outcomes, and asks for the same call again and again."""
    play = Play(held_bytes_max=20)
    play.hears(READY).whatever()
    for claim in range(1, 6):
        play.is_told(WANTED, Grant(A, LIFE, claim, 10_000)).whatever()
        play.hears(reply(b'"0123456789"')).whatever()
        assert play.machine.held_bytes == 12
    assert [tell.message.claim for tell in play.passes(1.0).all(Tell)] == [5]
    play.is_told(Settled(LIFE, (A,))).says_nothing()
    assert play.machine.held_bytes == 0


def test_pieces_without_end_take_no_more_than_a_body_may() -> None:
    play = Play(body_bytes_max=1000)
    play.hears([b"MDPW02", b"\x01", b"echo"]).whatever()
    play.is_told(WANTED, Grant(A, LIFE, 1, 10_000)).whatever()
    tracemalloc.start()
    try:
        for _ in range(3):
            for _ in range(20_000):
                play.machine.handle(Heard(P, [b"MDPW02", b"\x03", A, b"", b""]), 1000.0)
        grown, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert grown < 100_000
    assert play.hears([b"MDPW02", b"\x04", A, b"", b"7"]).one(Tell).message.outcome.result == b"7"


# Before the grant


def test_a_claim_is_repeated_and_given_up(claiming: Play) -> None:
    said = claiming.passes(2.2).all(object)
    assert said == [Tell(LIFE, Claim(A, LIFE, 1))] * 6 + [Tell(LIFE, Release(A, LIFE, 1))]
    claiming.is_told(Grant(A, LIFE, 1, 10_000)).says(Tell(LIFE, Release(A, LIFE, 1)))
    claiming.is_told(WANTED).says(Tell(LIFE, Claim(A, LIFE, 2)))


def test_a_claim_is_given_up_at_the_deadline(idle: Play) -> None:
    idle.is_told(request(service="echo", remaining_ms=400)).whatever()
    assert idle.passes(0.7).all(object) == [Tell(LIFE, Claim(A, LIFE, 1)), Tell(LIFE, Release(A, LIFE, 1))]


def test_a_denied_call_is_never_asked(claiming: Play) -> None:
    claiming.is_told(Deny(A, LIFE, 9)).says_nothing()
    claiming.is_told(Deny(A, LIFE, 1)).says(Tell(LIFE, Release(A, LIFE, 1)))
    claiming.is_told(Deny(A, LIFE, 1)).says_nothing()


def test_a_cancelled_claim_is_released(claiming: Play) -> None:
    claiming.is_told(Cancel(B)).says_nothing()
    claiming.is_told(Cancel(A)).says(Tell(LIFE, Release(A, LIFE, 1)))


def test_a_grant_that_comes_too_late_is_released(claiming: Play) -> None:
    claiming.passes(0.2).says_nothing()
    claiming.is_told(Grant(A, LIFE, 1, 201)).says(Tell(LIFE, Release(A, LIFE, 1)))


@pytest.mark.parametrize("grant", [Grant(B, LIFE, 1, 10_000), Grant(A, LIFE, 2, 10_000)], ids=["another call", "another claim"])
def test_a_grant_for_what_it_did_not_claim_is_nothing(claiming: Play, grant: Grant) -> None:
    claiming.is_told(grant).says_nothing()


def test_given_up_claims_are_not_remembered_for_ever(idle: Play) -> None:
    for claim in range(1, 1003):
        idle.is_told(request(service="echo", remaining_ms=10**9), Deny(A, LIFE, claim)).whatever()
    idle.is_told(Grant(A, LIFE, 1, 10_000)).says_nothing()
    idle.is_told(Grant(A, LIFE, 1002, 10_000)).says(Tell(LIFE, Release(A, LIFE, 1002)))


def test_nor_longer_than_anybody_may_ask(idle: Play) -> None:
    idle.is_told(request(service="echo", remaining_ms=1000), Deny(A, LIFE, 1)).whatever()
    idle.passes(1.5).whatever()
    idle.is_told(request(B, service="echo"), Deny(B, LIFE, 2)).whatever()
    idle.is_told(Grant(A, LIFE, 1, 10_000)).says_nothing()


# One at a time


def test_it_takes_one_request_at_a_time(busy: Play) -> None:
    busy.is_told(request(B, service="echo")).says(Tell(LIFE, Reject(B, "again")))
    busy.is_told(WANTED).says_nothing()
    busy.is_told(Grant(A, LIFE, 1, 10_000)).says_nothing()  # asked already
    busy.is_told(Deny(A, LIFE, 1), Cancel(A)).says_nothing()


def test_it_is_busy_until_it_answers_however_late(busy: Play) -> None:
    for said in busy.passes(60.0).all(Say):
        assert said.frames == BEAT
    busy.is_told(request(B, service="echo")).says(Tell(LIFE, Reject(B, "again")))
    busy.hears(reply()).says(like(Tell, message=like(Final, call_id=A)))  # so that the broker has its credit back
    assert not busy.passes(1.0).all(Tell)  # and nobody waits for it
    busy.is_told(request(B, service="echo")).says(Tell(LIFE, Claim(B, LIFE, 2)))


def test_an_answer_for_somebody_else_is_dropped_and_counted(busy: Play) -> None:
    busy.hears(reply(address=B), reply(address=b"x")).says_nothing()
    assert busy.machine.counts["stray"] == 2
    busy.hears(reply()).says(like(Tell, message=like(Final)))
    busy.hears(reply()).says_nothing()  # a second time
    assert busy.machine.counts["stray"] == 3


def test_an_answer_to_what_it_was_not_asked_yet_is_dropped(claiming: Play) -> None:
    claiming.hears(reply()).says_nothing()
    claiming.is_told(Grant(A, LIFE, 1, 10_000)).one(Say)


# Who is there


def test_heartbeats_go_to_whoever_is_there(idle: Play) -> None:
    idle.passes(2.4).says_nothing()
    idle.hears(BEAT).says_nothing()
    idle.passes(2.7).says(Say(P, BEAT), Say(P, BEAT))


def test_an_idle_one_that_is_silent_is_forgotten_and_told_so(idle: Play) -> None:
    said = idle.passes(10.0).all(object)
    assert said == [Say(P, BEAT), Say(P, BEAT), Say(P, GOODBYE), Tell(LIFE, Disconnect()), Leave(LIFE)]
    assert idle.machine.counts["silent"] == 1
    assert idle.machine.next_deadline() is None


def test_the_silent_are_forgotten_wherever_they_stand_among_the_others(play: Play) -> None:
    peers = [b"peer %d" % number for number in range(4)]
    for peer in peers:
        play.hears(READY, peer=peer).whatever()
    for _ in range(4):
        play.passes(2.0).whatever()
        for peer in (peers[0], peers[2]):
            play.hears(BEAT, peer=peer).says_nothing()
    assert list(play.machine._at) == [peers[0], peers[2]]


def test_one_that_dies_before_the_grant_releases(play: Play) -> None:
    play.hears(READY).whatever()
    play.passes(7.0).whatever()
    play.is_told(WANTED).whatever()
    said = play.passes(1.0).all(object)
    assert said[-4:] == [Say(P, GOODBYE), Tell(LIFE, Release(A, LIFE, 1)), Tell(LIFE, Disconnect()), Leave(LIFE)]


def test_a_busy_one_may_be_silent(busy: Play) -> None:
    assert all(said == Say(P, BEAT) for said in busy.passes(600.0).all(object))
    assert busy.machine.busy == 1


@pytest.mark.parametrize("how", ["its connection", "its own word"])
def test_a_busy_one_that_leaves_loses_its_call(busy: Play, how: str) -> None:
    said = busy.event(PeerLost(P)) if how == "its connection" else busy.hears(GOODBYE)
    said.says(Tell(LIFE, Disconnect()), Leave(LIFE))
    assert len(busy.machine) == 0
    busy.is_told(request(B, service="echo")).says_nothing()
    busy.passes(100.0).says_nothing()


def test_what_was_answered_is_said_once_more_before_it_leaves(busy: Play) -> None:
    final = busy.hears(reply()).one(Tell)
    busy.hears(GOODBYE).says(final, Tell(LIFE, Disconnect()), Leave(LIFE))
    assert busy.machine.held_bytes == 0
    assert busy.machine.next_deadline() is None


def test_who_comes_back_has_a_new_life(busy: Play) -> None:
    busy.event(PeerLost(P)).whatever()
    busy.hears(READY).says(Enter(NEXT, ""), Tell(NEXT, Ready(NEXT, {"echo": 1}, 0)))
    busy.hears(reply()).says_nothing()


def test_a_farewell_or_loss_of_nobody_is_nothing(play: Play) -> None:
    play.hears(GOODBYE).says_nothing()
    play.event(PeerLost(P)).says_nothing()
    play.event(Unsaid(P, 0)).says_nothing()


def test_whom_the_broker_sends_away_is_sent_away(idle: Play) -> None:
    idle.is_told(Disconnect()).says(Say(P, GOODBYE), Tell(LIFE, Disconnect()), Leave(LIFE))


def test_what_a_worker_has_no_use_for_is_nothing(idle: Play) -> None:
    idle.is_told(Heartbeat(life=b"broker-life-one!", peer_life=b"", sent=1, received=1)).says_nothing()


# What could not be said


def test_a_request_that_could_not_leave_was_never_begun(busy: Play) -> None:
    busy.event(Unsaid(P, 1)).says(Tell(LIFE, Release(A, LIFE, 1)), Tell(LIFE, Disconnect()), Leave(LIFE))


def test_a_heartbeat_that_could_not_leave_says_nothing_of_one_that_works(busy: Play) -> None:
    busy.event(Unsaid(P, 0)).says_nothing()


def test_but_one_that_is_idle_and_does_not_read_is_gone(idle: Play) -> None:
    idle.event(Unsaid(P, 0)).says(Tell(LIFE, Disconnect()), Leave(LIFE))


# What is not allowed


@pytest.mark.parametrize("dialect", [ONE, TWO], ids=["0.1", "0.2"])
def test_ready_twice_is_the_end(dialect: Dialect) -> None:
    play = Play()
    ready = [b"", b"MDPW01", b"\x01", b"echo"] if dialect is ONE else [b"MDPW02", b"\x01", b"echo"]
    play.hears(ready).whatever()
    play.hears(ready).says(Say(P, majordomo.disconnect(dialect)), Tell(LIFE, Disconnect()), Leave(LIFE))
    assert play.machine.counts["illegal"] == 1


@pytest.mark.parametrize(
    "frames",
    [
        pytest.param([b"", b"MDPW01", b"\x02", A, b"", b"{}"], id="REQUEST"),
        pytest.param([b"", b"MDPW01", b"\x09"], id="unknown"),
        pytest.param([b"MDPW01", b"\x04"], id="another framing"),
        pytest.param([b"", b"MDPW02", b"\x05"], id="another version"),
    ],
)
def test_an_illegal_command_is_the_end_and_its_call_is_lost(busy: Play, frames: list[bytes]) -> None:
    busy.hears(frames).says(Say(P, GOODBYE), Tell(LIFE, Disconnect()), Leave(LIFE))


@pytest.mark.parametrize("frames", [reply(), BEAT, [b"", b"MDPW01", b"\x09"]], ids=["REPLY", "HEARTBEAT", "unknown"])
def test_whoever_says_anything_before_ready_begins_anew(play: Play, frames: list[bytes]) -> None:
    play.hears(frames).says(Say(P, GOODBYE))
    assert play.machine.counts["not ready"] == 1
    assert len(play.machine) == 0


@pytest.mark.parametrize("service", [b"acme", b"mmi.service"])
def test_what_it_may_not_serve_it_does_not(play: Play, service: bytes) -> None:
    play.hears([b"", b"MDPW01", b"\x01", service]).says(Say(P, GOODBYE))
    assert play.machine.counts["forbidden"] == 1


def test_who_it_is_decides_what_it_may_serve() -> None:
    play = Play(may_serve=lambda user, service: (user, service) == ("shop", "echo"))
    play.hears(READY, user="mill").says(Say(P, GOODBYE))
    play.hears(READY, user="shop").says(Enter(LIFE, "shop"), like(Tell))


def test_there_may_be_so_many_and_no_more() -> None:
    play = Play(workers_max=1)
    play.hears(READY).whatever()
    play.hears(READY, peer=Q).says(Say(Q, GOODBYE))
    assert play.machine.counts["full"] == 1
    play.hears(GOODBYE).whatever()
    play.hears(READY, peer=Q).one(Enter)


@pytest.mark.parametrize("frames", [[], [b"x"], [b"", b"MDPC01", b"echo", b"{}"]], ids=["nothing", "noise", "a client"])
def test_what_is_no_majordomo_is_dropped_and_counted(idle: Play, frames: list[bytes]) -> None:
    idle.hears(frames).says_nothing()
    assert idle.machine.counts["junk"] == 1


# Going away


def test_a_draining_broker_offers_nothing_and_lets_them_end(busy: Play) -> None:
    busy.event(Draining()).says(Tell(LIFE, Ready(LIFE, {}, 0)))
    busy.hears(READY, peer=Q).says(Enter(NEXT, ""), Tell(NEXT, Ready(NEXT, {}, 0)))  # or it would come again and again
    busy.hears(reply()).says(like(Tell, message=like(Final)))
    busy.is_told(Settled(LIFE, (A,))).says_nothing()
    busy.event(DrainTimedOut()).says(
        Say(P, GOODBYE), Tell(LIFE, Disconnect()), Leave(LIFE), Say(Q, GOODBYE), Tell(NEXT, Disconnect()), Leave(NEXT)
    )
    busy.hears(READY).says(Say(P, GOODBYE))


def test_a_draining_broker_gives_up_what_it_claims(claiming: Play) -> None:
    claiming.event(Draining()).says(Tell(LIFE, Ready(LIFE, {}, 0)), Tell(LIFE, Release(A, LIFE, 1)))
