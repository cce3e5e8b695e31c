"""LOST that gateways have not seen yet."""

import pytest

from homing.core import losses as losses_module
from homing.core.losses import LOST_EVERY_S, Losses
from homing.core.messages import Lost, LostSeen
from tests.core.people import ONE, OTHER_GATEWAY, TWO, A, B, call_id


def test_a_loss_is_told_again_until_it_is_seen() -> None:
    losses = Losses()
    assert losses.next_deadline() is None
    assert losses.add(A, ONE, 1, 10.0, 0.0) == Lost(A, ONE, 1)
    assert losses.due(LOST_EVERY_S - 0.1) == []
    assert losses.due(LOST_EVERY_S) == [Lost(A, ONE, 1)]
    assert losses.next_deadline() == 2 * LOST_EVERY_S
    losses.seen(LostSeen(A, ONE, 2))
    assert len(losses) == 1
    losses.seen(LostSeen(A, ONE, 1))
    assert (len(losses), losses.next_deadline()) == (0, None)
    assert losses.due(9.0) == []


def test_a_loss_is_not_told_beyond_the_end_of_its_call() -> None:
    losses = Losses()
    losses.add(A, ONE, 1, 1.0, 0.0)
    losses.add(B, ONE, 2, 5.0, 0.0)
    assert losses.due(1.0) == [Lost(B, ONE, 2)]
    assert losses.due(5.0) == []
    assert losses.next_deadline() is None


def test_all_are_told_in_one_round() -> None:
    losses = Losses()
    losses.add(A, ONE, 1, 9.0, 0.0)
    losses.add(B, ONE, 2, 9.0, 0.4)
    assert losses.due(LOST_EVERY_S) == [Lost(A, ONE, 1), Lost(B, ONE, 2)]


def test_each_gateway_has_its_own() -> None:
    losses, other = Losses(), call_id(1, OTHER_GATEWAY)
    losses.add(A, ONE, 1, 9.0, 0.0)
    losses.add(other, ONE, 2, 9.0, 0.0)
    assert losses.of(OTHER_GATEWAY[:8]) == [Lost(other, ONE, 2)]


def test_what_was_said_of_all_claims_of_a_life_is_forgotten_when_it_is_back() -> None:
    losses = Losses()
    losses.add(A, ONE, 0, 9.0, 0.0)
    losses.add(A, TWO, 0, 9.0, 0.0)
    losses.add(B, ONE, 1, 9.0, 0.0)
    losses.back(ONE)
    assert losses.of(A[:8]) == [Lost(A, TWO, 0), Lost(B, ONE, 1)]
    losses.seen(LostSeen(B, ONE, 1))
    losses.back(TWO)
    assert losses.next_deadline() is None


def test_the_oldest_of_too_many_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses_module, "LOSSES_MAX", 2)
    losses = Losses()
    for claim in (1, 2, 3):
        losses.add(A, ONE, claim, 9.0, 0.0)
    assert losses.of(A[:8]) == [Lost(A, ONE, 2), Lost(A, ONE, 3)]
