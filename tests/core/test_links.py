"""Counting on links that lose without telling: what one side sent, and what the other got."""

from typing import Any

import pytest

from homing.core import codec
from homing.core.links import FRAME_BYTES_MAX, INTRODUCE_EVERY_S, ROOM_BYTES, UNLIMITED, Heard, Links, frame_bytes
from homing.core.machine import Action, Send, Settle
from homing.core.messages import Cancel, Heartbeat, Hello, Message, Ready
from homing.errors import Outcome
from tests.core.people import request

HERE, THERE, REBORN = b"life-of-this-one", b"life-of-that-one", b"life-after-death"
PEER, ANOTHER = b"peer", b"another"
A_MESSAGE = Hello(THERE)


def beat(**fields: Any) -> Heartbeat:
    given: dict[str, Any] = {"life": THERE, "peer_life": HERE, "sent": 0, "received": 0}
    return Heartbeat(**(given | fields))


def acquainted() -> Links:
    """Both have heard of each other, nothing was sent yet."""
    links = Links(HERE, 1.0)
    links.open(PEER, 0.0)
    assert links.heard(PEER, beat()) == Heard(stranger=False, gap=False)
    return links


def opened() -> Links:
    """Two peers of an engine that never loses."""
    links = Links(HERE, 0.0)
    links.open(PEER, 0.0)
    links.open(ANOTHER, 0.0)
    return links


def said(links: Links, in_flight: tuple[bytes, ...] | None = None) -> Any:
    """The heartbeat this side would send."""
    return links.beat(PEER, in_flight).message


def says(links: Links, *messages: Message) -> list[Action]:
    actions: list[Action] = [Send(PEER, message) for message in messages]
    links.count_sent(actions)
    return actions


def test_the_first_heartbeat_of_one_who_does_not_know_us_introduces_a_stranger() -> None:
    links = Links(HERE, 1.0)
    links.open(PEER, 0.0)
    assert links.heard(PEER, beat(peer_life=b"")) == Heard(stranger=True, gap=False)
    assert links.heard(PEER, beat(peer_life=b"")) == Heard(stranger=False, gap=False)


def test_a_new_life_is_a_stranger_who_has_received_nothing() -> None:
    links = acquainted()
    says(links, A_MESSAGE)
    assert links.heard(PEER, beat(life=REBORN, peer_life=b"")).stranger
    assert said(links).sent == 0


def test_who_takes_us_for_somebody_else_is_a_stranger() -> None:
    links = acquainted()
    assert links.heard(PEER, beat(peer_life=REBORN)).stranger
    assert not links.heard(PEER, beat()).stranger


def test_who_knows_us_is_no_stranger_though_it_is_heard_for_the_first_time() -> None:
    links = Links(HERE, 1.0)
    links.open(PEER, 0.0)
    assert links.heard(PEER, beat()) == Heard(stranger=False, gap=False)
    assert links.life_of(PEER) == THERE


def test_of_a_peer_that_is_not_there_nothing_is_known_or_counted() -> None:
    links = Links(HERE, 1.0)
    links.count_received(PEER, A_MESSAGE)
    links.greeted(PEER, A_MESSAGE)
    assert links.heard(PEER, beat(sent=7, gap=True)) == Heard(stranger=False, gap=False)
    assert links.life_of(PEER) == b""
    assert not links.introduces(PEER, 0.0)
    assert not links.peers


# Greetings


@pytest.mark.parametrize("greeting", [Hello(THERE, HERE, 4096), Ready(THERE, {}, 0, (), HERE, 4096)], ids=["hello", "ready"])
def test_a_greeting_says_who_it_is_and_how_large_a_frame_it_reads(greeting: Hello | Ready) -> None:
    links = Links(HERE, 1.0)
    link = links.open(PEER, 0.0)
    links.greeted(PEER, greeting)
    assert (links.life_of(PEER), link.frame_bytes_max) == (THERE, 4096)
    assert not links.heard(PEER, beat()).stranger


def test_a_greeting_of_a_new_life_begins_anew() -> None:
    links = acquainted()
    says(links, A_MESSAGE, A_MESSAGE)
    links.count_received(PEER, A_MESSAGE)
    links.count_received(PEER, Hello(REBORN))
    links.greeted(PEER, Hello(REBORN))
    assert said(links).sent == 0
    assert links.heard(PEER, beat(life=REBORN, sent=1)) == Heard(stranger=False, gap=False)


def test_a_greeting_said_again_changes_no_count() -> None:
    links = acquainted()
    says(links, A_MESSAGE)
    links.count_received(PEER, A_MESSAGE)
    links.greeted(PEER, A_MESSAGE)
    assert (said(links).sent, said(links).received) == (1, 1)


def test_a_heartbeat_says_how_large_a_frame_is_read_here() -> None:
    links = Links(HERE, 1.0, 1000)
    links.open(PEER, 0.0)
    assert said(links).frame_bytes_max == 1000
    links.heard(PEER, beat(frame_bytes_max=500))
    assert links.reads(PEER) == 500
    assert links.reads(ANOTHER) == UNLIMITED


def test_no_frame_is_sent_that_would_not_be_read_here() -> None:
    """The engine drops it, and its outcome would be said again and again, and never arrive."""
    links = Links(HERE, 1.0, 1000)
    links.open(PEER, 0.0)
    links.heard(PEER, beat(frame_bytes_max=0))
    assert links.reads(PEER) == 1000
    links.heard(PEER, beat(frame_bytes_max=2000))
    assert links.reads(PEER) == 1000
    unlimited = Links(HERE, 0.0)
    unlimited.open(PEER, 0.0)
    assert unlimited.reads(PEER) == UNLIMITED


def test_an_engine_that_never_loses_announces_no_limit() -> None:
    assert Links(HERE, 0.0, 1000).frame_bytes_max == 0


# Counting


def test_a_message_that_did_not_arrive_is_a_gap_told_once() -> None:
    links = acquainted()
    links.count_received(PEER, A_MESSAGE)
    assert links.heard(PEER, beat(sent=2)).gap
    assert not links.heard(PEER, beat(sent=2)).gap


def test_what_arrived_is_no_gap() -> None:
    links = acquainted()
    links.count_received(PEER, A_MESSAGE)
    links.count_received(PEER, A_MESSAGE)
    assert not links.heard(PEER, beat(sent=2)).gap


def test_heartbeats_are_not_counted() -> None:
    links = acquainted()
    links.count_received(PEER, beat())
    says(links, beat())
    assert not links.heard(PEER, beat()).gap
    assert said(links).sent == 0


def test_a_gap_here_is_said_there_with_the_next_heartbeat_only() -> None:
    links = acquainted()
    links.heard(PEER, beat(sent=1))
    assert said(links).gap
    assert not said(links).gap


@pytest.mark.parametrize("greeting", [Hello(THERE, HERE), Ready(THERE, {}, 0, (), HERE)], ids=["hello", "ready"])
def test_who_insists_says_a_gap_until_the_peer_has_introduced_itself_anew(greeting: Hello | Ready) -> None:
    """The heartbeat that told of the gap may be lost as well, and then a READY with less credit would be for ever."""
    links = Links(HERE, 1.0, insists=True)
    links.open(PEER, 0.0)
    links.heard(PEER, beat(sent=1))
    assert said(links).gap
    assert said(links).gap
    links.greeted(PEER, greeting)
    assert not said(links).gap


def test_a_gap_there_is_heard_here() -> None:
    assert acquainted().heard(PEER, beat(gap=True)).gap


def test_a_heartbeat_says_both_lives_and_both_counts() -> None:
    links = acquainted()
    links.count_received(PEER, A_MESSAGE)
    says(links, A_MESSAGE, A_MESSAGE)
    expected = beat(life=HERE, peer_life=THERE, sent=2, received=1, in_flight=(b"call",), frame_bytes_max=FRAME_BYTES_MAX)
    assert said(links, (b"call",)) == expected


def test_a_heartbeat_counts_what_leaves_before_it_in_the_same_turn() -> None:
    links = acquainted()
    actions: list[Any] = [Send(PEER, A_MESSAGE), links.beat(PEER), Send(PEER, A_MESSAGE)]
    links.count_sent(actions)
    assert [action.message.sent for action in actions if isinstance(action.message, Heartbeat)] == [1]
    assert said(links).sent == 2


def test_what_is_no_message_is_not_counted() -> None:
    links = acquainted()
    settle = Settle(b"call", Outcome(reason="ok", executed="yes"))
    actions: list[Action] = [settle, Send(ANOTHER, Cancel(b"call"))]
    links.count_sent(actions)
    assert actions == [settle, Send(ANOTHER, Cancel(b"call"))]
    assert said(links).sent == 0


def test_every_peer_gets_a_heartbeat_an_interval() -> None:
    links = Links(HERE, 1.0)
    assert links.next_deadline() is None
    links.open(PEER, 5.0)
    links.open(ANOTHER, 5.5)
    links.open(PEER, 5.6)
    assert links.next_deadline() == 6.0
    assert links.beats_due(5.9) == []
    assert links.beats_due(6.0) == [PEER, ANOTHER]
    assert links.next_deadline() == 7.0


def test_a_round_of_heartbeats_says_how_late_it_is() -> None:
    links = Links(HERE, 1.0)
    links.open(PEER, 0.0)
    assert links.beats_due(1.0) == [PEER]
    assert said(links).lag_ms == 0
    assert links.beats_due(2.25) == [PEER]
    assert said(links).lag_ms == 250
    assert links.beats_due(3.25) == [PEER]
    assert said(links).lag_ms == 0


def test_who_has_no_peer_has_no_heartbeat() -> None:
    links = Links(HERE, 1.0)
    links.open(PEER, 0.0)
    links.open(ANOTHER, 0.0)
    links.close(PEER)
    assert links.beats_due(1.0) == [ANOTHER]
    links.close(ANOTHER)
    links.close(ANOTHER)
    assert links.next_deadline() is None
    assert links.beats_due(9.0) == []


def test_an_engine_that_never_loses_wants_no_heartbeats() -> None:
    links = Links(HERE, 0.0)
    links.open(PEER, 0.0)
    assert links.next_deadline() is None
    assert links.beats_due(9.0) == []


def test_who_is_asked_once_introduces_itself_at_once() -> None:
    links = opened()
    assert links.introduces(PEER, 0.0)
    assert links.next_deadline() is None
    assert links.introduces(PEER, INTRODUCE_EVERY_S)
    assert links.introductions_due(9.0) == []


def test_who_is_asked_again_soon_owes_one_introduction_however_often_it_was_asked() -> None:
    links = opened()
    assert links.introduces(PEER, 0.0)
    assert not any(links.introduces(PEER, 0.1) for _ in range(100))
    assert links.next_deadline() == INTRODUCE_EVERY_S
    assert links.introductions_due(0.19) == []
    assert links.introductions_due(INTRODUCE_EVERY_S) == [PEER]
    assert links.next_deadline() is None
    assert not links.introduces(PEER, INTRODUCE_EVERY_S + 0.1)


def test_each_peer_is_owed_its_own() -> None:
    links = opened()
    assert links.introduces(PEER, 0.0)
    assert links.introduces(ANOTHER, 0.1)
    assert not links.introduces(ANOTHER, 0.15)
    assert not links.introduces(PEER, 0.15)
    assert links.introductions_due(INTRODUCE_EVERY_S) == [PEER]
    assert links.next_deadline() == 0.1 + INTRODUCE_EVERY_S


def test_heartbeats_and_introductions_share_one_clock() -> None:
    for interval_s, due in ((0.1, 0.1), (1.0, INTRODUCE_EVERY_S)):
        links = Links(HERE, interval_s)
        links.open(PEER, 0.0)
        links.introduces(PEER, 0.0)
        links.introduces(PEER, 0.0)
        assert links.next_deadline() == due


def test_a_peer_that_is_gone_is_owed_nothing() -> None:
    links = opened()
    links.introduces(PEER, 0.0)
    links.introduces(PEER, 0.0)
    links.close(PEER)
    assert links.next_deadline() is None
    links.open(PEER, 0.1)
    assert links.introduces(PEER, 0.1)


def test_two_sides_that_lose_nothing_never_hear_of_a_gap() -> None:
    here, there = Links(HERE, 1.0), Links(THERE, 1.0)
    here.open(PEER, 0.0)
    there.open(PEER, 0.0)
    for turn in range(20):
        actions: list[Any] = [
            *([Send(PEER, A_MESSAGE)] * (turn % 3)),
            here.beat(PEER),
            *([Send(PEER, A_MESSAGE)] * (turn % 2)),
        ]
        here.count_sent(actions)
        for action in actions:
            there.count_received(PEER, action.message)
            if isinstance(action.message, Heartbeat):
                heard = there.heard(PEER, action.message)
                assert not heard.gap
                assert heard.stranger is (turn < 1)
        here, there = there, here


def test_a_request_is_as_large_as_its_params_or_what_its_header_has_beyond_the_room_for_it() -> None:
    assert frame_bytes(request(body=b"12345", key="k" * ROOM_BYTES)) == 5
    assert frame_bytes(request(body=b"", key="k" * ROOM_BYTES, trace="t" * 7)) == 7
    assert frame_bytes(request(body=b"12345678", key="k" * ROOM_BYTES, trace="t" * 7)) == 8
    assert frame_bytes(request(body=b"", key="\U0001f514" * (ROOM_BYTES // 4), trace="\U0001f514")) == 4


def test_whatever_else_a_header_says_fits_in_with_the_room() -> None:
    long = "\U0001f514" * 256
    said = request(service=long, method=long, principal=long, key="k" * ROOM_BYTES, body=b"", attempts=2**62)
    assert len(codec.pair(said)[0]) < 64 * 1024
