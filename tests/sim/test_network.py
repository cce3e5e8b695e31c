"""The road: what it loses, doubles, delays and cuts, and what it never does."""

import msgspec

from homing.core.machine import PeerFound, PeerLost, Received
from homing.core.messages import Cancel, Claim, Hello, LostSeen, Settled
from homing.sim.network import Network
from homing.sim.plan import Plan
from homing.sim.process import Process
from tests.sim.people import PLAN, Ears, process, timeline

BROKEN_ROAD = msgspec.structs.replace(PLAN, engine="network", delay_s=0.01)
A_MESSAGE = Hello(b"life")


class Road:
    """A network with a gateway and a broker, connected."""

    def __init__(self, **changed: object) -> None:
        self.plan: Plan = msgspec.structs.replace(BROKEN_ROAD, **changed)
        self.timeline = timeline()
        self.ears = Ears()
        self.network = Network(self.plan, self.timeline, self.ears)
        self.gateway, self.broker = process("gateway", 1), process("broker", 2)
        self.enter(self.gateway, self.broker)
        self.network.connect(self.gateway, self.broker)

    def enter(self, *processes: Process) -> None:
        for one in processes:
            self.network.enter(one)

    def passes(self, seconds: float) -> list[object]:
        self.timeline.run(self.timeline.now + seconds)
        return list(self.ears.events())


def test_both_ends_are_told_of_each_other() -> None:
    road = Road()
    assert road.ears.heard == [(road.gateway, PeerFound(b"broker 2")), (road.broker, PeerFound(b"gateway 1"))]
    assert road.network.at(b"broker 2") is road.broker


def test_a_message_arrives_a_little_later() -> None:
    road = Road()
    road.ears.events()
    road.network.send(road.gateway, b"broker 2", A_MESSAGE)
    assert road.passes(0.001) == []
    assert road.passes(0.02) == [Received(b"gateway 1", A_MESSAGE)]
    road.network.send(road.broker, b"gateway 1", A_MESSAGE)
    assert road.passes(0.02) == [Received(b"broker 2", A_MESSAGE)]


def sent_in_order(road: Road) -> list[int]:
    road.ears.events()
    for number in range(50):
        road.network.send(road.gateway, b"broker 2", LostSeen(b"", b"", number))
        road.network.send(road.broker, b"gateway 1", LostSeen(b"", b"", number + 1000))
    came = [event.message.claim for event in road.passes(10.0) if isinstance(event, Received)]  # type: ignore[union-attr]
    assert sorted(came) == [*range(50), *range(1000, 1050)]
    return [number for number in came if number < 1000] + [number for number in came if number >= 1000]


def test_an_ordered_road_keeps_the_order_and_another_does_not() -> None:
    assert sent_in_order(Road(ordered=True)) == [*range(50), *range(1000, 1050)]
    assert sent_in_order(Road(ordered=False)) != [*range(50), *range(1000, 1050)]


def test_a_road_may_lose_double_and_be_late_until_it_is_quiet() -> None:
    road = Road(loss=0.3, doubling=0.3, late=0.3, ordered=False)
    for _ in range(100):
        road.network.send(road.gateway, b"broker 2", A_MESSAGE)
    assert 0 < road.network.lost < 100
    assert road.network.doubled
    assert road.network.late
    road.passes(10.0)
    road.network.quiet = True
    for _ in range(100):
        road.network.send(road.gateway, b"broker 2", A_MESSAGE)
    assert road.passes(0.02) == [Received(b"gateway 1", A_MESSAGE)] * 100


def test_what_is_sent_to_nobody_is_nothing() -> None:
    road = Road()
    road.ears.events()
    road.network.send(road.gateway, b"nobody", A_MESSAGE)
    assert road.passes(1.0) == []


def test_who_is_cut_off_and_told_finds_the_other_again() -> None:
    road = Road()
    road.ears.events()
    (wire,) = road.network.wires
    road.network.send(road.gateway, b"broker 2", A_MESSAGE)  # on its way: lost
    road.network.cut(wire, 2.0, client_told=True, broker_told=True)
    road.network.send(road.gateway, b"broker 2", A_MESSAGE)
    assert sorted(map(str, road.passes(1.9))) == sorted(map(str, [PeerLost(b"broker 2"), PeerLost(b"gateway 1")]))
    assert road.passes(0.2) == [PeerFound(b"broker 2"), PeerFound(b"gateway 1")]
    assert road.network.lost == 2
    road.network.send(road.gateway, b"broker 2", A_MESSAGE)
    assert road.passes(0.1) == [Received(b"gateway 1", A_MESSAGE)]


def test_a_silent_cut_is_noticed_only_if_it_lasts() -> None:
    road = Road()
    road.ears.events()
    (wire,) = road.network.wires
    road.network.cut(wire, 2.0, client_told=False, broker_told=False)
    assert road.passes(3.0) == []
    assert wire.up
    road.network.cut(wire, 7.0, client_told=False, broker_told=False)
    assert road.passes(10.0) == [PeerLost(b"gateway 1"), PeerLost(b"broker 2"), PeerFound(b"broker 2"), PeerFound(b"gateway 1")]


def crash(road: Road, one: Process, noticed_after_s: float = 1.0) -> None:
    one.alive = False
    road.network.crashed(one, noticed_after_s)


def test_what_a_crashed_process_had_sent_may_arrive_until_the_other_side_notices() -> None:
    road = Road()
    road.ears.events()
    road.network.send(road.gateway, b"broker 2", A_MESSAGE)
    road.network.send(road.broker, b"gateway 1", A_MESSAGE)  # to the dead: lost
    crash(road, road.gateway)
    assert road.passes(0.5) == [Received(b"gateway 1", A_MESSAGE)]
    assert road.passes(1.0) == [PeerLost(b"gateway 1")]
    assert road.network.wires == []


def test_a_cut_wire_whose_end_died_is_not_mended() -> None:
    road = Road()
    road.ears.events()
    (wire,) = road.network.wires
    road.network.cut(wire, 2.0, client_told=False, broker_told=False)
    crash(road, road.broker, 0.1)
    assert road.passes(5.0) == [PeerLost(b"broker 2")]
    assert not wire.up


def restarted(road: Road, *, told: bool) -> list[object]:
    road.ears.events()
    road.network.send(road.broker, b"gateway 1", A_MESSAGE)  # of the old life: too late
    crash(road, road.broker, 5.0)
    broker = Process("broker", 0, 3, b"another life", b"broker 2", road.broker.machine)
    road.network.enter(broker)
    road.network.connect(road.gateway, broker, told=told)
    return road.passes(10.0)


def test_a_broker_that_is_back_at_once_may_be_taken_for_the_old_one() -> None:
    assert restarted(Road(), told=False) == [PeerFound(b"gateway 1")]
    assert restarted(Road(), told=True) == [PeerLost(b"broker 2"), PeerFound(b"broker 2"), PeerFound(b"gateway 1")]


def test_in_one_process_messages_wait_in_a_queue_and_some_go_straight() -> None:
    road = Road(engine="memory")
    gateway = Process("gateway", 0, 7, b"life", b"gateway 0", road.gateway.machine)
    worker = process("worker", 3)
    road.enter(gateway, worker)
    road.network.send(worker, b"broker 2", Claim(b"", b"", 1))
    road.network.send(gateway, b"broker 2", Settled(worker.life, ()))
    road.network.send(gateway, b"broker 2", Cancel(b""))
    assert [receiver for receiver, _ in road.network.queue] == [gateway, worker, road.broker]
