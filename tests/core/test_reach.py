"""Whom a gateway's brokers reach, and what those can do."""

from collections import Counter

import pytest

from homing.core import codec
from homing.core.limits import Rate
from homing.core.messages import LIFE_BYTES, MethodOffer, Workers
from homing.core.reach import METHODS_KEPT_S, News, Pace, Reach, first_of_each, workers_of
from tests.core.people import BACKUP, BROKER, ONE, TWO

CHARGE, REFUND, NEWER = MethodOffer("a.charge", "a"), MethodOffer("a.refund", "a"), MethodOffer("a.charge", "a", timeout_ms=5000)


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


def test_of_two_effects_of_one_method_the_stricter_counts_whoever_came_first() -> None:
    """While a worker whose function has become `once` stands beside the old one, a call may be given to either."""
    safe, keyed = (MethodOffer("a.charge", "a", effect, 1000) for effect in ("safe", "keyed"))
    assert first_of_each((safe, CHARGE))["a.charge"] == MethodOffer("a.charge", "a", "once", 1000)
    assert first_of_each((CHARGE, safe))["a.charge"] == CHARGE
    assert first_of_each((safe, keyed, safe))["a.charge"] == keyed
    assert first_of_each((safe, MethodOffer("a.charge", "mean")))["a.charge"] == safe
    reach = Reach()
    reach.told(BROKER, Workers((ONE,), (safe,)), 0.0)
    assert reach.told(BACKUP, Workers((TWO,), (CHARGE,)), 0.0)
    assert [offer.effect for offer in reach.methods] == ["once"]
    assert reach.lost(BACKUP, 0.0)
    assert reach.methods == (safe,)


def test_a_name_that_begins_with_its_service_is_that_ones() -> None:
    """A worker that may serve another service only does not get its calls by being first."""
    elsewhere, anywhere = MethodOffer("a.charge", "mean"), MethodOffer("charge", "mean")
    assert first_of_each((elsewhere, CHARGE, NEWER, anywhere)) == {"a.charge": CHARGE, "charge": anywhere}
    assert first_of_each((CHARGE, elsewhere)) == {"a.charge": CHARGE}
    assert workers_of([ONE, TWO], [elsewhere, CHARGE], 1000, Counter()).methods == (CHARGE,)
    reach = Reach()
    reach.told(BROKER, Workers((ONE,), (elsewhere,)), 0.0)
    assert reach.told(BACKUP, Workers((TWO,), (CHARGE,)), 0.0)
    assert reach.methods == (CHARGE,)


def test_a_worker_that_offers_ever_new_methods_does_not_fill_the_memory() -> None:
    """Those that nobody offers any more are forgotten early, the longest gone first."""
    reach = Reach()
    reach.told(BACKUP, Workers((TWO,), (CHARGE,)), 0.0)
    for turn in range(5):
        offers = tuple(MethodOffer(f"b.{turn}.{number}", "b") for number in range(4000))
        assert reach.told(BROKER, Workers((ONE,), offers), turn)
    assert len(reach.methods) == 8001
    assert reach.methods[0] == CHARGE
    assert {offer.name.split(".")[1] for offer in reach.methods[1:]} == {"3", "4"}
    assert not reach.forget_due(3 + METHODS_KEPT_S)
    assert reach.forget_due(4 + METHODS_KEPT_S)
    assert len(reach.methods) == 4001


def test_what_is_offered_is_known_however_much_it_is() -> None:
    reach = Reach()
    for broker, letter in ((BROKER, "a"), (BACKUP, "b")):
        reach.told(broker, Workers((ONE,), tuple(MethodOffer(f"{letter}.{number}", letter) for number in range(6000))), 0.0)
    assert len(reach.methods) == 12_000


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


def large(name: str, length: int, text: str = "") -> MethodOffer:
    return MethodOffer(name, "a", "once", 2**31, text, bytes(length), (text,))


@pytest.mark.parametrize("bytes_max", [64 * 1024, 16 * 1024 * 1024])
@pytest.mark.parametrize(
    "offers",
    [
        [MethodOffer(f"a.{number}", "a") for number in range(20_000)],
        [large(f"a.{number}", 1_000_000) for number in range(40)],
        [large(f"a.{number}", 0, "\N{GRINNING FACE}" * 250) for number in range(20_000)],
    ],
    ids=["many", "large", "of long words"],
)
def test_what_a_gateway_is_told_can_be_sent_and_read_however_much_there_is(offers: list[MethodOffer], bytes_max: int) -> None:
    """Else one worker that offers too much would hide all others from every gateway."""
    lives = [number.to_bytes(LIFE_BYTES, "big") for number in range(12_000)]
    told = workers_of(lives, [CHARGE, *offers, REFUND], bytes_max, Counter())
    assert codec.decode(codec.encode([told])) == [told]
    assert codec.frame_bytes(told) <= bytes_max
    assert CHARGE in told.methods
    assert told.lives == tuple(lives[: len(told.lives)])
    assert len(told.lives) >= 1000


def test_all_is_told_where_it_fits_by_name() -> None:
    counts = Counter[str]()
    assert workers_of([ONE, TWO], [REFUND, CHARGE, NEWER], 1000, counts) == Workers((ONE, TWO), (CHARGE, REFUND))
    assert not counts


def test_what_is_too_large_hides_nothing_that_comes_after_it() -> None:
    counts = Counter[str]()
    assert workers_of([ONE], [large("a.large", 1000), CHARGE], 1000, counts).methods == (CHARGE,)
    assert counts == {"method_untold": 1}


def test_a_pace_is_quick_at_first_and_then_says_when_to_ask_again() -> None:
    pace = Pace(Rate(limit=2, per_s=1.0, burst=3))
    assert [pace.due(0.0) for _ in range(5)] == [True, True, True, False, False]
    assert pace.at == 0.5
    assert not pace.due(0.4)
    assert pace.due(0.5)
    assert pace.at is None
    assert not pace.due(0.5)
    assert pace.at == 1.0


def test_who_asks_too_often_is_told_later_and_once() -> None:
    news = News()
    assert [news.asked(BROKER, 1.0) for _ in range(12)] == [True] * 10 + [False] * 2
    assert news.next_deadline() == 1.5
    assert news.due(list, 1.4) == []
    assert news.due(list, 1.5) == [BROKER]
    assert news.next_deadline() is None
    assert not news.asked(BROKER, 1.6)
    assert news.asked(BACKUP, 1.6), "each for itself"
    news.left(BROKER)
    assert news.next_deadline() is None


def test_who_is_told_of_a_change_is_owed_nothing() -> None:
    news = News()
    while news.asked(BROKER, 1.0):
        pass
    news.changed = True
    assert news.due(lambda: [BACKUP, BROKER], 1.0) == [BACKUP, BROKER]
    assert (news.changed, news.next_deadline()) == (False, None)
