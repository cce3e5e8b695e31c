"""The road: what it loses, doubles, delays and cuts, and what it never does."""

from random import Random

import msgspec
import pytest

from homing.core.codec import WireError, decode, encode, salvage
from homing.core.machine import PeerFound, PeerLost, Received
from homing.core.messages import Cancel, Claim, Final, Hello, LostSeen, Message, Request, Settled
from homing.errors import Outcome
from homing.sim.invariants import Violation
from homing.sim.network import CUT_FRAMES, Network, damage
from homing.sim.plan import Plan
from homing.sim.process import Process
from tests.sim.people import PLAN, Ears, process, timeline

BROKEN_ROAD = msgspec.structs.replace(PLAN, engine="network", delay_s=0.01)
A_MESSAGE = Hello(b"the life of some")


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

    def says(self, sender: Process, peer: bytes, *messages: Message) -> None:
        """In one step."""
        for message in messages:
            self.network.send(sender, peer, message)
        self.network.flush()

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
    road.says(road.gateway, b"broker 2", A_MESSAGE)
    assert road.passes(0.001) == []
    assert road.passes(0.02) == [Received(b"gateway 1", A_MESSAGE)]
    road.says(road.broker, b"gateway 1", A_MESSAGE)
    assert road.passes(0.02) == [Received(b"broker 2", A_MESSAGE)]


def sent_in_order(road: Road) -> list[int]:
    road.ears.events()
    for number in range(50):
        road.says(road.gateway, b"broker 2", LostSeen(bytes(16), bytes(16), number))
        road.says(road.broker, b"gateway 1", LostSeen(bytes(16), bytes(16), number + 1000))
    came = [event.message.claim for event in road.passes(10.0) if isinstance(event, Received)]  # type: ignore[union-attr]
    assert sorted(came) == [*range(50), *range(1000, 1050)]
    return [number for number in came if number < 1000] + [number for number in came if number >= 1000]


def test_an_ordered_road_keeps_the_order_and_another_does_not() -> None:
    assert sent_in_order(Road(ordered=True)) == [*range(50), *range(1000, 1050)]
    assert sent_in_order(Road(ordered=False)) != [*range(50), *range(1000, 1050)]


def test_a_road_may_lose_double_and_be_late_until_it_is_quiet() -> None:
    road = Road(loss=0.3, doubling=0.3, late=0.3, ordered=False)
    for _ in range(100):
        road.says(road.gateway, b"broker 2", A_MESSAGE)
    assert 0 < road.network.lost < 100
    assert road.network.doubled
    assert road.network.late
    road.passes(10.0)
    road.network.quiet = True
    for _ in range(100):
        road.says(road.gateway, b"broker 2", A_MESSAGE)
    assert road.passes(0.02) == [Received(b"gateway 1", A_MESSAGE)] * 100


def test_what_is_sent_to_nobody_is_nothing() -> None:
    road = Road()
    road.ears.events()
    road.says(road.gateway, b"nobody", A_MESSAGE)
    assert road.passes(1.0) == []


def test_who_is_cut_off_and_told_finds_the_other_again() -> None:
    road = Road()
    road.ears.events()
    (wire,) = road.network.wires
    road.says(road.gateway, b"broker 2", A_MESSAGE)  # on its way: lost
    road.network.cut(wire, 2.0, client_told=True, broker_told=True)
    road.says(road.gateway, b"broker 2", A_MESSAGE)
    assert sorted(map(str, road.passes(1.9))) == sorted(map(str, [PeerLost(b"broker 2"), PeerLost(b"gateway 1")]))
    assert road.passes(0.2) == [PeerFound(b"broker 2"), PeerFound(b"gateway 1")]
    assert road.network.lost == 2
    road.says(road.gateway, b"broker 2", A_MESSAGE)
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
    road.says(road.gateway, b"broker 2", A_MESSAGE)
    road.says(road.broker, b"gateway 1", A_MESSAGE)  # to the dead: lost
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
    road.says(road.broker, b"gateway 1", A_MESSAGE)  # of the old life: too late
    crash(road, road.broker, 5.0)
    broker = Process("broker", 0, 3, b"another life", b"broker 2", road.broker.machine)
    road.network.enter(broker)
    road.network.connect(road.gateway, broker, told=told)
    return road.passes(10.0)


def test_a_broker_that_is_back_at_once_may_be_taken_for_the_old_one() -> None:
    assert restarted(Road(), told=False) == [PeerFound(b"gateway 1")]
    assert restarted(Road(), told=True) == [PeerLost(b"broker 2"), PeerFound(b"broker 2"), PeerFound(b"gateway 1")]


# What travels is bytes


def request(length: int) -> Request:
    return Request(bytes(16), "acme", "acme.charge", 1000, "once", "", "key", 0, "no", "", b"1" * length)


def test_what_is_said_in_one_step_arrives_in_one_step() -> None:
    road = Road(loss=0.5, ordered=False)
    for _ in range(50):
        road.says(road.gateway, b"broker 2", request(1), request(2), request(3))
    lengths = [len(event.message.body) for event in road.passes(1.0) if isinstance(event, Received)]  # type: ignore[union-attr]
    assert lengths == [1, 2, 3] * (len(lengths) // 3)
    assert road.network.lost == 150 - len(lengths)


def test_a_long_step_leaves_in_several_messages() -> None:
    road = Road()
    road.ears.events()
    many = [LostSeen(bytes(16), bytes(16), number) for number in range(CUT_FRAMES)]
    road.says(road.gateway, b"broker 2", *many)
    assert road.passes(1.0) == [Received(b"gateway 1", message) for message in many]


def test_a_broker_does_not_read_outcomes() -> None:
    road = Road()
    road.ears.events()
    final = Final(bytes(16), bytes(16), 1, Outcome(reason="ok", executed="yes", result=b"1"))
    road.says(road.gateway, b"broker 2", final)
    (event,) = road.passes(1.0)
    assert isinstance(event, Received)
    assert isinstance(event.message, Final)
    assert event.message.outcome.reason == "sealed"
    road.says(road.broker, b"gateway 1", event.message)
    assert road.passes(1.0) == [Received(b"broker 2", final)]


def test_what_cannot_be_read_though_nothing_has_damaged_it_is_a_fault() -> None:
    road = Road()
    road.says(road.gateway, b"broker 2", Hello(b"too short"))
    with pytest.raises(Violation, match="cannot read what nothing has damaged") as found:
        road.passes(1.0)
    assert found.value.rule == "sound"


def test_nobody_is_sent_what_it_does_not_read() -> None:
    road = Road()
    road.broker.frame_bytes_max = 10
    road.says(road.gateway, b"broker 2", request(10))
    with pytest.raises(Violation, match="a frame of 11 bytes") as found:
        road.says(road.gateway, b"broker 2", request(11))
    assert found.value.rule == "fits"
    road.gateway.frame_bytes_max = 5
    with pytest.raises(Violation):
        road.says(road.broker, b"gateway 1", request(6))


def test_who_has_missed_what_the_other_reads_is_not_to_blame() -> None:
    road = Road(loss=0.1)
    road.broker.frame_bytes_max = 10
    road.ears.events()
    road.says(road.gateway, b"broker 2", request(11))
    assert road.passes(1.0) == []
    assert road.network.too_large == 1


@pytest.mark.parametrize("seed", range(50))
def test_what_is_damaged_is_junk_and_never_something_else(seed: int) -> None:
    messages: list[Message] = [request(1), request(2), A_MESSAGE]
    damaged = damage(encode(messages), Random(seed).random)
    with pytest.raises(WireError):
        decode(damaged)
    left, errors = salvage(damaged)
    assert errors
    assert all(message in messages for message in left)


def test_a_broker_drops_all_that_came_with_junk_and_others_what_cannot_be_read() -> None:
    road = Road(damage=1.0)
    road.ears.events()
    for _ in range(40):
        road.says(road.gateway, b"broker 2", request(1), request(2))
    assert road.passes(1.0) == []
    assert road.network.damaged > 60
    for _ in range(40):
        road.says(road.broker, b"gateway 1", request(1), request(2))
    assert 0 < len(road.passes(1.0)) < 80


def test_the_double_of_what_is_damaged_may_be_whole() -> None:
    road = Road(damage=1.0, doubling=1.0)
    road.ears.events()
    road.says(road.gateway, b"broker 2", A_MESSAGE)
    assert road.passes(10.0) == [Received(b"gateway 1", A_MESSAGE)]


def test_keys_are_told_to_brokers() -> None:
    road = Road()
    road.gateway.user = "front"
    (wire,) = road.network.wires
    road.ears.events()
    road.network.cut(wire, 7.0, client_told=True, broker_told=True)
    found = [event for event in road.passes(20.0) if isinstance(event, PeerFound)]
    assert found == [PeerFound(b"broker 2"), PeerFound(b"gateway 1", "front")]


def test_in_one_process_messages_wait_in_a_queue_and_some_go_straight() -> None:
    road = Road(engine="memory")
    gateway = Process("gateway", 0, 7, b"life", b"gateway 0", road.gateway.machine)
    worker = process("worker", 3)
    road.enter(gateway, worker)
    road.network.send(worker, b"broker 2", Claim(b"", b"", 1))
    road.network.send(gateway, b"broker 2", Settled(worker.life, ()))
    road.network.send(gateway, b"broker 2", Cancel(b""))
    assert [receiver for receiver, _ in road.network.queue] == [gateway, worker, road.broker]
