"""An imagined provider does what its behaviour says, and its ledger never lies."""

import msgspec
import pytest

from homing.core.machine import Finished, Prepare, Prepared, Start, Stop
from homing.errors import Effect, Outcome
from homing.sim.plan import FAULTY_BEHAVIOURS, Behaviour
from homing.sim.process import Process
from homing.sim.provider import HAS_EFFECT, PROVEN_NO, Provider, result_of
from tests.sim.people import PLAN, Ears, process, timeline


def start(call: bytes = b"call", effect: Effect = "once", **fields: object) -> Start:
    given: dict[str, object] = {
        "call_id": call,
        "number": 1,
        "attempt": 1,
        "method": "acme.charge",
        "provider": "acme",
        "effect": effect,
        "principal": "",
        "key": call.decode(),
        "body": b"",
        "deadline": 1000.0,
        "late": "deadline_exceeded",
    }
    return Start(**(given | fields))  # type: ignore[arg-type]


class Shop:
    """A provider that always does the same."""

    def __init__(self, *behaviours: Behaviour, **changed: object) -> None:
        faulty = 1.0 if behaviours else 0.0
        self.plan = msgspec.structs.replace(PLAN, behaviours=behaviours, faulty=faulty, **changed)
        self.timeline = timeline()
        self.ears = Ears()
        self.provider = Provider(self.plan, self.timeline, self.ears, self)
        self.worker = process("worker")
        self.effects: list[bytes] = []
        self.may_have_left: list[bool] = []

    def started(self, process: Process, start: Start, *, may_have_left: bool) -> None:
        self.may_have_left.append(may_have_left)

    def had_effect(self, call_id: bytes, key: str) -> None:
        self.effects.append(call_id)

    def asks(self, one: Start) -> Outcome:
        """What the worker hears of it in the end."""
        self.provider.start(self.worker, msgspec.structs.replace(one, deadline=self.timeline.now + 1000.0))
        assert self.worker.running["acme"] == 1
        self.timeline.run(self.timeline.now + 2000.0)
        (event,) = self.ears.events()
        assert isinstance(event, Finished)
        assert self.worker.running["acme"] == 0
        return event.outcome


@pytest.mark.parametrize("behaviour", FAULTY_BEHAVIOURS)
@pytest.mark.parametrize("effect", ["once", "keyed", "safe"])
def test_what_is_said_is_never_more_than_what_is_true(behaviour: Behaviour, effect: Effect) -> None:
    shop = Shop(behaviour)
    outcome = shop.asks(start(effect=effect))
    done = bool(shop.effects)
    assert done is (behaviour in HAS_EFFECT or behaviour == "reset, done later")
    assert shop.may_have_left == [behaviour not in PROVEN_NO]
    if outcome.executed == "no":
        assert behaviour in PROVEN_NO
        assert not done
    if outcome.executed == "yes":
        assert done
    assert shop.provider.faults == {behaviour: 1}


def test_a_good_provider_says_whose_result_it_is() -> None:
    shop = Shop()
    assert shop.asks(start()).result == result_of("call", b"") == b'"call"'
    assert shop.effects == [b"call"]


def test_time_ends_an_exchange_and_not_its_effect() -> None:
    shop = Shop("hang after")
    shop.provider.start(shop.worker, start(deadline=0.001))
    shop.timeline.run(0.002)
    (event,) = shop.ears.events()
    assert isinstance(event, Finished)
    assert (event.outcome.reason, event.outcome.executed) == ("deadline_exceeded", "unknown")
    shop.timeline.run(100.0)
    assert shop.effects == [b"call"]


def test_who_never_connected_can_prove_it_even_when_the_time_is_up() -> None:
    outcome = Shop("connect hangs").asks(start(late="provider_timeout"))
    assert (outcome.reason, outcome.executed) == ("provider_timeout", "no")


def test_a_stopped_exchange_ends_at_once() -> None:
    for behaviour, executed in (("hang", "unknown"), ("connect hangs", "no")):
        shop = Shop(behaviour)  # type: ignore[arg-type]
        shop.provider.start(shop.worker, start())
        shop.provider.stop(shop.worker, Stop(b"call", 1))
        shop.provider.stop(shop.worker, Stop(b"call", 1))
        (event,) = shop.ears.events()
        assert isinstance(event, Finished)
        assert (event.outcome.reason, event.outcome.executed) == ("cancelled", executed)
        shop.timeline.run(2000.0)
        assert shop.ears.events() == []


def test_a_crashed_worker_hears_nothing_and_the_effect_comes_all_the_same() -> None:
    shop, other = Shop(), process("worker", 2)
    shop.provider.start(shop.worker, start())
    shop.provider.start(other, start(b"other"))
    shop.worker.alive = False
    shop.provider.crashed(shop.worker)
    shop.timeline.run(100.0)
    assert sorted(shop.effects) == [b"call", b"other"]
    assert [receiver for receiver, _ in shop.ears.heard] == [other]


def test_a_key_is_known_again() -> None:
    shop = Shop()
    shop.asks(start(b"one", "keyed", key="order"))
    assert shop.asks(start(b"two", "keyed", key="order")).result == result_of("order", b"")
    assert shop.effects == [b"one"]


def test_a_key_that_was_refused_stays_refused() -> None:
    shop = Shop("own no")
    assert shop.asks(start(b"one", "keyed", key="order")).reason == "provider_refused"
    shop.provider.quiet = True
    again = shop.asks(start(b"two", "keyed", key="order"))
    assert (again.reason, again.executed, again.settles_earlier) == ("provider_refused", "no", True)
    assert shop.effects == []


def test_who_has_done_it_does_not_refuse_it_under_the_same_key() -> None:
    shop = Shop("own no")
    shop.provider.quiet = True
    shop.asks(start(b"one", "keyed", key="order"))
    shop.provider.quiet = False
    assert shop.asks(start(b"two", "keyed", key="order")).reason == "ok"


def test_a_refused_key_proves_nothing_later() -> None:
    shop = Shop("own no", "proven after")
    for number in range(20):
        outcome = shop.asks(start(b"%d" % number, "keyed", key="order"))
        if not shop.effects:
            assert outcome.executed != "yes"


def test_a_lookup_finds_what_is_in_the_ledger() -> None:
    shop = Shop()
    assert shop.asks(start(lookup=True)).reason != "ok"
    shop.asks(start())
    found = shop.asks(start(lookup=True))
    assert (found.reason, found.executed, found.result) == ("ok", "yes", result_of("call", b""))
    assert shop.effects == [b"call"]


def test_tokens_come_or_do_not() -> None:
    shop = Shop(token_problem=0.5)
    for _ in range(50):
        shop.provider.prepare(shop.worker, Prepare(b"call", "bureau", 10.0))
    shop.timeline.run(1.0)
    events = [event for event in shop.ears.events() if isinstance(event, Prepared)]
    assert len(events) == 50
    assert 0 < sum(event.problem is None for event in events) < 50
    shop.provider.prepare(shop.worker, Prepare(b"call", "bureau", 10.0))
    shop.worker.alive = False
    shop.timeline.run(2.0)
    assert shop.ears.events() == []
