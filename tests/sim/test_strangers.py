"""A stranger introduces itself, answers, and plays its trick: what it says is what others would have to say."""

from random import Random

import pytest

from homing.core.machine import Action, PeerFound, PeerLost, Received, Send, Tick
from homing.core.messages import Cancel, Claim, Deny, Final, Grant, Hello, Message, Ready, Reject, Request, Settled
from homing.sim.plan import ATTIC, TRICKS, Trick
from homing.sim.strangers import FORGED, Rumour, Stranger

BROKER = b"broker 0"
LIFE = b"stranger's life!"
VICTIM = b"a worker's life!"
CALL = b"gateway-and call"
HEAD = CALL[:8]


def stranger(trick: Trick = "forgeries", *, rumours: bool = True) -> Stranger:
    heard = [Rumour(CALL, VICTIM, 3)] if rumours else []
    one = Stranger(LIFE, trick, Random(1), lambda: heard, lambda: [VICTIM])
    assert one.next_deadline() is None
    said = messages(one.handle(PeerFound(BROKER), 0.0))
    assert [type(message) for message in said] == [Hello, Ready]
    return one


def messages(actions: list[Action]) -> list[Message]:
    assert all(isinstance(action, Send) and action.peer == BROKER for action in actions)
    return [action.message for action in actions if isinstance(action, Send)]


def acts(one: Stranger, times: int = 50) -> list[Message]:
    said: list[Message] = []
    for _ in range(times):
        due = one.next_deadline()
        assert due is not None
        said += messages(one.handle(Tick(), due))
    return said


def test_without_rumours_or_brokers_it_says_nothing() -> None:
    assert acts(stranger(rumours=False)) == []
    one = stranger()
    assert one.handle(PeerLost(BROKER), 1.0) == []
    assert acts(one) == []


def test_it_forges_what_only_others_may_say() -> None:
    said = acts(stranger())
    assert Grant(CALL, VICTIM, 3, 5000) in said
    assert Cancel(CALL) in said
    assert Final(CALL, VICTIM, 3, FORGED) in said
    assert any(isinstance(message, Request) and message.service == ATTIC for message in said)
    assert said.count(Hello(LIFE)) > 3


def test_it_says_that_it_is_another_gateway() -> None:
    lives = {message.life for message in acts(stranger("another's head")) if isinstance(message, Hello)}
    assert lives == {LIFE, HEAD + LIFE[8:]}


def test_it_says_that_it_is_another_worker_and_does_not_know_its_calls() -> None:
    said = acts(stranger("another's life"))
    assert {message.life for message in said if isinstance(message, Ready)} == {LIFE, VICTIM}
    ids = {message.call_id for message in said if isinstance(message, Final)}
    assert ids
    assert all(call_id.startswith(HEAD) and call_id != CALL for call_id in ids)


@pytest.mark.parametrize("trick", TRICKS)
def test_it_answers_what_it_is_asked(trick: Trick) -> None:
    one = stranger(trick)

    def answers(message: Message) -> set[type]:
        return {type(said) for _ in range(30) for said in messages(one.handle(Received(BROKER, message), 1.0))}

    assert answers(Claim(CALL, VICTIM, 1)) == {Grant, Deny}
    assert answers(Request(CALL, ATTIC, "x", 1, "once", "", "", 0, "no", "", b"")) == {Claim, Reject, Final}
    assert answers(Grant(CALL, LIFE, 1, 1000)) == {Final}
    assert answers(Final(CALL, LIFE, 1, FORGED)) == {Settled}
    assert answers(Cancel(CALL)) == set()
