"""Whom a gateway's brokers reach, and what those can do."""

from homing.core.messages import MethodOffer, Workers
from homing.core.reach import METHODS_KEPT_S, Reach, first_of_each
from tests.core.people import BACKUP, BROKER, ONE, TWO

CHARGE, REFUND, NEWER = MethodOffer("a.charge", "a"), MethodOffer("a.refund", "a"), MethodOffer("a.charge", "a", "safe")


def test_the_newest_of_each_broker_counts() -> None:
    reach = Reach()
    assert not reach.reaches(ONE)
    assert not reach.told(BROKER, Workers((ONE,), ()), 0.0)
    assert not reach.told(BACKUP, Workers((ONE, TWO), ()), 0.0)
    assert reach.reaches(ONE, but=BROKER)
    assert not reach.told(BACKUP, Workers((TWO,), ()), 0.0)
    assert reach.reaches(ONE)
    assert not reach.reaches(ONE, but=BROKER)
    assert not reach.lost(BROKER, 0.0)
    assert not reach.reaches(ONE)
    assert reach.reaches(TWO)


def test_a_broker_that_never_said_anything_is_lost_without_a_word() -> None:
    assert not Reach().lost(BROKER, 0.0)


def test_methods_are_those_of_all_brokers_by_name() -> None:
    reach = Reach()
    assert reach.told(BROKER, Workers((ONE,), (REFUND,)), 0.0)
    assert list(reach.methods) == [REFUND]
    assert reach.told(BACKUP, Workers((ONE,), (CHARGE, REFUND)), 0.0)
    assert list(reach.methods) == [CHARGE, REFUND]
    assert not reach.told(BROKER, Workers((ONE, TWO), (REFUND,)), 0.0)


def test_of_two_offers_of_one_name_the_first_brokers_counts() -> None:
    reach = Reach()
    reach.told(BROKER, Workers((ONE,), (CHARGE,)), 0.0)
    assert not reach.told(BACKUP, Workers((ONE,), (NEWER,)), 0.0)
    assert reach.told(BROKER, Workers((ONE,), ()), 0.0)
    assert reach.methods == (NEWER,)
    assert first_of_each((NEWER, CHARGE, REFUND)) == {"a.charge": NEWER, "a.refund": REFUND}


def test_a_method_that_nobody_offers_is_known_for_a_while() -> None:
    """Its worker may be starting anew: it would be wrong to say that there is no such method."""
    reach = Reach()
    reach.told(BROKER, Workers((ONE,), (CHARGE, REFUND)), 0.0)
    assert not reach.told(BROKER, Workers((TWO,), (CHARGE,)), 1.0)
    assert not reach.lost(BROKER, 2.0)
    assert reach.next_deadline() == 1.0 + METHODS_KEPT_S
    assert not reach.forget_due(METHODS_KEPT_S)
    assert reach.forget_due(1.0 + METHODS_KEPT_S)
    assert list(reach.methods) == [CHARGE]
    assert reach.forget_due(2.0 + METHODS_KEPT_S)
    assert list(reach.methods) == []
    assert reach.next_deadline() is None


def test_a_method_that_is_offered_again_stays() -> None:
    reach = Reach()
    reach.told(BROKER, Workers((ONE,), (CHARGE,)), 0.0)
    reach.told(BROKER, Workers((), ()), 1.0)
    assert not reach.told(BROKER, Workers((TWO,), (CHARGE,)), 2.0)
    assert reach.next_deadline() is None
