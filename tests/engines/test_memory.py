"""The engine of one process: one queue, one instant, and no machine entered twice at a time."""

from collections.abc import Callable

import pytest

from homing.core.machine import Action, Event, Machine, Peer, PeerFound, PeerLost, Received, Send, Settle, Tick
from homing.core.messages import Cancel, Claim, Disconnect
from homing.engines.memory import Memory
from tests.core.people import OK, ONE, A, B
from tests.engines.conformance import Conformance

HERE, THERE, THIRD = b"here", b"there", b"third"


class MemoryRoad:
    """The engine under a clock that only the tests move."""

    def __init__(self) -> None:
        self.engine = Memory()
        self.now = 0.0

    def attach(self, address: Peer, machine: Machine, act: Callable[[Action], None]) -> None:
        self.engine.attach(address, machine, act)

    def connect(self, address: Peer, broker: Peer) -> None:
        self.engine.connect(broker, address, self.now)

    def detach(self, address: Peer) -> None:
        self.engine.detach(address, self.now)

    def feed(self, address: Peer, event: Event) -> None:
        self.engine.feed(address, event, self.now)

    def wait(self, until: Callable[[], bool], patience_s: float) -> bool:
        end = self.now + patience_s
        while not until():
            due = self.engine.next_deadline()
            if due is None or due > end:
                self.now = end
                return until()
            self.now = max(self.now, due)
            self.engine.tick(self.now)
        return True


class TestConformance(Conformance):
    @pytest.fixture
    def road(self) -> MemoryRoad:
        return MemoryRoad()

    def soon(self) -> float:
        return 60.0


class Answering:
    """A machine that answers events as it was told, and keeps what it heard and when."""

    def __init__(self, answers: dict[object, list[Action]] | None = None, deadline: float | None = None) -> None:
        self.answers = answers or {}
        self.deadline = deadline
        self.heard: list[tuple[float, Event]] = []
        self.inside = False

    def handle(self, event: Event, now: float) -> list[Action]:
        assert not self.inside
        self.inside = True
        self.heard.append((now, event))
        self.inside = False
        return self.answers.get(event, [])

    def next_deadline(self) -> float | None:
        return self.deadline


def joined(**machines: Answering) -> tuple[Memory, list[Action]]:
    engine = Memory()
    acted: list[Action] = []
    for name, machine in machines.items():
        engine.attach(name.encode(), machine, acted.append)
    return engine, acted


def test_both_ends_are_told_of_a_connection() -> None:
    here, there = Answering(), Answering()
    engine, _ = joined(here=here, there=there)
    engine.connect(HERE, THERE, 1.0)
    assert here.heard == [(1.0, PeerFound(THERE))]
    assert there.heard == [(1.0, PeerFound(HERE))]


def test_all_that_one_event_brings_about_happens_at_one_instant() -> None:
    here = Answering({Tick(): [Send(THERE, Cancel(A))], Received(THERE, Disconnect()): [Settle(A, OK)]})
    there = Answering({Received(HERE, Cancel(A)): [Send(HERE, Disconnect())]})
    engine, acted = joined(here=here, there=there)
    engine.feed(HERE, Tick(), 7.0)
    assert here.heard == [(7.0, Tick()), (7.0, Received(THERE, Disconnect()))]
    assert there.heard == [(7.0, Received(HERE, Cancel(A)))]
    assert acted == [Settle(A, OK)]


def test_actions_are_done_in_their_order_and_messages_after_them() -> None:
    order: list[str] = []
    here = Answering({Tick(): [Send(THERE, Cancel(A)), Settle(A, OK)]})

    class There(Answering):
        def handle(self, event: Event, now: float) -> list[Action]:
            order.append("delivered")
            return super().handle(event, now)

    engine = Memory()
    engine.attach(HERE, here, lambda action: order.append("acted"))
    engine.attach(THERE, There(), lambda action: None)
    engine.feed(HERE, Tick(), 0.0)
    assert order == ["acted", "delivered"]


def test_what_a_shell_says_while_it_acts_waits_its_turn() -> None:
    here = Answering({Tick(): [Settle(A, OK), Settle(A, OK)]})
    engine = Memory()

    def act(action: Action) -> None:
        before = len(here.heard)
        engine.feed(HERE, PeerFound(THIRD), 99.0)
        assert len(here.heard) == before

    engine.attach(HERE, here, act)
    engine.feed(HERE, Tick(), 1.0)
    assert here.heard == [(1.0, Tick()), (1.0, PeerFound(THIRD)), (1.0, PeerFound(THIRD))]


def test_a_message_for_nobody_is_lost() -> None:
    here = Answering({Tick(): [Send(THIRD, Cancel(A))]})
    engine, acted = joined(here=here)
    engine.feed(HERE, Tick(), 0.0)
    engine.feed(THIRD, Tick(), 0.0)
    assert not acted


def test_a_message_for_elsewhere_is_handed_on() -> None:
    handed: list[tuple[object, ...]] = []
    engine = Memory(lambda *message: handed.append(message))
    engine.attach(HERE, Answering({Tick(): [Send(THIRD, Cancel(A))]}), lambda action: None)
    engine.feed(HERE, Tick(), 0.0)
    assert handed == [(HERE, THIRD, Cancel(A))]


def test_what_a_broker_would_only_pass_on_goes_straight() -> None:
    claim, here, there, third = Claim(A, ONE, 1), Answering(), Answering(), Answering()
    here.answers = {Tick(): [Send(THERE, claim), Send(THERE, Cancel(A))]}
    engine, _ = joined(here=here, there=there, third=third)
    engine.straight(Claim, HERE, THIRD)
    engine.feed(HERE, Tick(), 0.0)
    assert third.heard == [(0.0, Received(HERE, claim))]
    assert there.heard == [(0.0, Received(HERE, Cancel(A)))]


def test_those_who_stay_are_told_who_is_gone() -> None:
    here, there, third = Answering(), Answering(), Answering()
    engine, _ = joined(here=here, there=there, third=third)
    engine.detach(THERE, 3.0)
    assert here.heard == third.heard == [(3.0, PeerLost(THERE))]
    assert not there.heard


def test_what_was_on_its_way_to_somebody_gone_does_not_reach_whoever_comes_after() -> None:
    here, there, reborn = Answering({Tick(): [Send(THERE, Cancel(A)), Settle(A, OK)]}), Answering(), Answering()
    engine = Memory()

    def act(action: Action) -> None:
        engine.detach(THERE, 0.0)
        engine.attach(THERE, reborn, act)

    engine.attach(HERE, here, act)
    engine.attach(THERE, there, act)
    engine.feed(HERE, Tick(), 0.0)
    assert not there.heard
    assert not reborn.heard
    assert here.heard[1:] == [(0.0, PeerLost(THERE))]


def test_what_is_on_its_way_to_others_arrives_though_somebody_is_gone() -> None:
    here, there = Answering({Tick(): [Send(THERE, Cancel(A)), Settle(A, OK)]}), Answering()
    engine = Memory()
    engine.attach(HERE, here, lambda action: engine.detach(THIRD, 0.0))
    engine.attach(THERE, there, lambda action: None)
    engine.attach(THIRD, Answering(), lambda action: None)
    engine.feed(HERE, Tick(), 0.0)
    assert there.heard == [(0.0, Received(HERE, Cancel(A))), (0.0, PeerLost(THIRD))]


def test_a_shell_that_raises_stops_nobody_for_good() -> None:
    here, there = Answering({Tick(): [Send(THERE, Cancel(A)), Settle(A, OK)]}), Answering()
    engine = Memory()

    def act(action: Action) -> None:
        raise RuntimeError("a fault of the shell")

    engine.attach(HERE, here, act)
    engine.attach(THERE, there, act)
    with pytest.raises(RuntimeError, match="of the shell"):
        engine.feed(HERE, Tick(), 1.0)
    engine.feed(THERE, PeerFound(HERE), 2.0)
    assert there.heard == [(1.0, Received(HERE, Cancel(A))), (2.0, PeerFound(HERE))]


def test_what_one_call_cannot_have_others_can() -> None:
    """A fault in answering one call must not cost the others their answers, nor other machines the time."""
    here, there = Answering({Tick(): [Settle(A, OK), Settle(B, OK)]}, deadline=1.0), Answering(deadline=1.0)
    engine, acted = Memory(), list[Action]()

    def act(action: Action) -> None:
        if action == Settle(A, OK):
            raise RuntimeError("a fault of the shell")
        acted.append(action)

    engine.attach(HERE, here, act)
    engine.attach(THERE, there, act)
    with pytest.raises(RuntimeError, match="of the shell"):
        engine.tick(1.0)
    assert acted == [Settle(B, OK)]
    assert there.heard == [(1.0, Tick())]


def test_a_fault_of_a_machine_costs_only_the_event_that_it_could_not_take() -> None:
    class Faulty(Answering):
        def handle(self, event: Event, now: float) -> list[Action]:
            if event == Received(HERE, Cancel(A)):
                raise ValueError("a fault of the machine")
            return super().handle(event, now)

    engine, there = Memory(), Faulty()
    engine.attach(HERE, Answering({Tick(): [Send(THERE, Cancel(A)), Send(THERE, Cancel(B))]}), lambda action: None)
    engine.attach(THERE, there, lambda action: None)
    with pytest.raises(ValueError, match="of the machine"):
        engine.feed(HERE, Tick(), 1.0)
    assert there.heard == [(1.0, Received(HERE, Cancel(B)))]


def test_only_those_whose_deadline_has_passed_are_ticked() -> None:
    here, there, third = Answering(deadline=1.0), Answering(deadline=2.0), Answering()
    engine, _ = joined(here=here, there=there, third=third)
    assert engine.next_deadline() == 1.0
    engine.tick(1.0)
    assert here.heard == [(1.0, Tick())]
    assert not there.heard
    assert not third.heard


def test_without_a_deadline_there_is_none() -> None:
    engine, _ = joined(here=Answering())
    assert engine.next_deadline() is None
    engine.tick(9.0)


def test_who_has_no_deadlines_is_not_asked_for_one_and_hears_all_the_same() -> None:
    engine = Memory()
    untimed = Answering(deadline=1.0)
    engine.attach(HERE, untimed, lambda action: None, timed=False)
    assert engine.next_deadline() is None
    engine.feed(HERE, PeerFound(THERE), 0.0)
    assert untimed.heard == [(0.0, PeerFound(THERE))]
    engine.detach(HERE, 1.0)
    engine.feed(HERE, PeerFound(THERE), 1.0)
    assert len(untimed.heard) == 1
