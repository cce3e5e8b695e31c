"""What any engine must do, whatever it is made of: carry what was said, unchanged, to whom it was said, and invent nothing.

    class TestMemory(Conformance):
        @pytest.fixture
        def road(self):
            return MemoryRoad()

An engine may lose, delay, reorder and double. So these tests say a thing again until it has arrived, and count no copies; whatever
does arrive must have been said. `Road` is what the tests need of an engine; time is the road's own, virtual or real.
"""

from collections import Counter
from collections.abc import Callable
from typing import Protocol

import pytest

from homing.core.broker import Broker, BrokerLimits
from homing.core.calls import Calls
from homing.core.holding import MethodPolicy, ProviderPolicy
from homing.core.machine import (
    Abandoned,
    Action,
    Event,
    Finished,
    Machine,
    Peer,
    PeerFound,
    PeerLost,
    Received,
    Send,
    Settle,
    Start,
)
from homing.core.messages import (
    Cancel,
    Claim,
    Deny,
    Disconnect,
    Final,
    Grant,
    Heartbeat,
    Hello,
    Lost,
    LostSeen,
    Message,
    MethodOffer,
    Ready,
    Reject,
    Release,
    Settled,
    Workers,
)
from homing.core.worker import Worker
from homing.errors import Attempt, Outcome, ParamError
from tests.core.people import BROKER_LIFE, GATEWAY, OK, ONE, TWO, A, call_id, request, submitted

BROKER, LEFT, RIGHT, NOBODY = b"broker", b"left", b"right", b"nobody"
PATIENCE_S = 10.0

EVERY_FIELD = Outcome(
    reason="provider_failed",
    executed="unknown",
    result=b'{"a":[1.0,"\\u00e9"]}',
    message="It said no, twice.",
    code=17,
    retry_after_ms=1500,
    limit="providers.acme.rate",
    errors=(ParamError("/amount", "is no integer"),),
    status=503,
    body=b'"\xc3\xa9"',
    body_truncated=True,
    attempts=(Attempt(provider="acme", started_ms=1, duration_ms=2, reason="connection_lost", executed="unknown", status=500),),
    again=False,
    settles_earlier=True,
    detail=b'{"x":1}',
)
OFFERS = (
    MethodOffer("reports.build", "reports", "safe", 60_000, "Build a report", b'{"type":"object"}', ("year", "format")),
    MethodOffer("reports.send", "reports"),
)
TO_BROKER: list[Message] = [
    Hello(GATEWAY),
    Hello(GATEWAY, BROKER_LIFE, 16_777_216),
    request(A, attempts=2, executed="unknown", trace="00-1-2-01"),
    request(call_id(2), body=b""),
    Cancel(A),
    LostSeen(A, ONE, 3),
    Ready(ONE, {"acme": 3, "bank": 1}, 1000),
    Ready(ONE, {"reports": 100}, 1000, OFFERS, BROKER_LIFE, 16_777_216),
    Reject(A, "refused", "rate_limited", "Later.", 1500, "providers.acme.rate"),
    Heartbeat(life=ONE, peer_life=BROKER_LIFE, sent=4, received=5, gap=True, in_flight=(A, call_id(2)), lag_ms=7),
    Disconnect(),
    Claim(A, ONE, 3),
    Final(A, ONE, 3, EVERY_FIELD),
    Final(A, ONE, 3, OK),
    Release(A, ONE, 3),
]
FROM_BROKER: list[Message] = [
    request(A),
    Cancel(A),
    Reject(A, "refused", "overloaded", "Full.", 100, "broker.queue_length_max"),
    Lost(A, ONE, 3),
    Workers((ONE, TWO), OFFERS),
    Workers(()),
    Heartbeat(life=BROKER_LIFE, peer_life=GATEWAY, sent=0, received=0),
    Heartbeat(life=BROKER_LIFE, peer_life=GATEWAY, sent=2, received=1, in_flight=(), frame_bytes_max=16_777_216),
    Disconnect(),
    Grant(A, ONE, 3, 9000),
    Deny(A, ONE, 3),
    Settled(ONE, (A, call_id(2))),
    Claim(A, ONE, 3),
    Final(A, ONE, 3, EVERY_FIELD),
    Release(A, ONE, 3),
]


class Road(Protocol):
    """An engine with its processes and its clock, as these tests see it."""

    def attach(self, address: Peer, machine: Machine, act: Callable[[Action], None]) -> None:
        """A process with this machine is there."""
        ...

    def connect(self, address: Peer, broker: Peer) -> None:
        """The process at `address` dials the broker."""
        ...

    def detach(self, address: Peer) -> None:
        """The process is gone."""
        ...

    def feed(self, address: Peer, event: Event) -> None:
        """The shell tells the machine something."""
        ...

    def wait(self, until: Callable[[], bool], patience_s: float) -> bool:
        """Let time pass until it is so, or patience ends."""
        ...


class Ears:
    """A machine that keeps what it hears, and says what the test tells it to say."""

    def __init__(self) -> None:
        self.heard: list[Event] = []
        self.to_say: list[Action] = []
        self.entered = False

    def handle(self, event: Event, now: float) -> list[Action]:
        assert not self.entered, "a machine is entered once at a time"
        self.entered = True
        if isinstance(event, Abandoned):  # the test's word for: say it now
            said, self.to_say = self.to_say, []
        else:
            self.heard.append(event)
            said = []
        self.entered = False
        return said

    def next_deadline(self) -> float | None:
        return None

    def messages(self) -> list[Message]:
        return [event.message for event in self.heard if isinstance(event, Received)]

    def senders(self) -> set[Peer]:
        return {event.peer for event in self.heard if isinstance(event, Received)}


class Conformance:
    """Subclass it, and give it a `road`."""

    @pytest.fixture
    def road(self) -> Road:
        raise NotImplementedError

    @pytest.fixture
    def three(self, road: Road) -> dict[Peer, Ears]:
        """A broker, and two that have dialled it."""
        ears = {address: Ears() for address in (BROKER, LEFT, RIGHT)}
        for address, machine in ears.items():
            road.attach(address, machine, lambda action: None)
        for address in (LEFT, RIGHT):
            road.connect(address, BROKER)
        assert road.wait(lambda: all(PeerFound(BROKER) in ears[address].heard for address in (LEFT, RIGHT)), PATIENCE_S)
        return ears

    def say(self, road: Road, ears: dict[Peer, Ears], sender: Peer, peer: Peer, *messages: Message) -> None:
        ears[sender].to_say += [Send(peer, message) for message in messages]
        road.feed(sender, Abandoned(b""))

    def say_until(
        self, road: Road, ears: dict[Peer, Ears], sender: Peer, peer: Peer, message: Message, arrived: Callable[[], bool]
    ) -> None:
        for _ in range(50):
            self.say(road, ears, sender, peer, message)
            if road.wait(arrived, PATIENCE_S / 50):
                return
        raise AssertionError(f"{message} never arrived")

    def known_to_broker(self, road: Road, ears: dict[Peer, Ears], address: Peer) -> Peer:
        """How the broker addresses one that has dialled it: as it came."""
        mark = Hello(address.ljust(16, b"."))
        self.say_until(road, ears, address, BROKER, mark, lambda: mark in ears[BROKER].messages())
        (peer,) = {event.peer for event in ears[BROKER].heard if isinstance(event, Received) and event.message == mark}
        return peer

    def test_who_dials_is_told_that_the_broker_is_there(self, three: dict[Peer, Ears]) -> None:
        assert PeerFound(BROKER) in three[LEFT].heard

    @pytest.mark.parametrize("message", TO_BROKER, ids=lambda message: type(message).__name__)
    def test_what_is_said_to_the_broker_arrives_unchanged(self, road: Road, three: dict[Peer, Ears], message: Message) -> None:
        self.say_until(road, three, LEFT, BROKER, message, lambda: message in three[BROKER].messages())

    @pytest.mark.parametrize("message", FROM_BROKER, ids=lambda message: type(message).__name__)
    def test_what_the_broker_says_arrives_unchanged_and_only_there(
        self, road: Road, three: dict[Peer, Ears], message: Message
    ) -> None:
        left = self.known_to_broker(road, three, LEFT)
        self.say_until(road, three, BROKER, left, message, lambda: message in three[LEFT].messages())
        assert three[LEFT].senders() == {BROKER}
        assert not three[RIGHT].messages()

    def test_every_type_of_message_is_tried(self) -> None:
        assert {type(message) for message in TO_BROKER + FROM_BROKER} == set(Message.__args__)

    def test_a_body_of_a_megabyte_is_not_touched(self, road: Road, three: dict[Peer, Ears]) -> None:
        body = bytes(range(256)) * 4096
        self.say_until(
            road, three, LEFT, BROKER, request(A, body=body), lambda: request(A, body=body) in three[BROKER].messages()
        )

    def test_two_that_dial_are_told_apart(self, road: Road, three: dict[Peer, Ears]) -> None:
        assert self.known_to_broker(road, three, LEFT) != self.known_to_broker(road, three, RIGHT)

    def test_nothing_is_invented(self, road: Road, three: dict[Peer, Ears]) -> None:
        said = [Claim(A, ONE, number) for number in range(200)]
        self.say(road, three, LEFT, BROKER, *said)
        road.wait(lambda: len(three[BROKER].messages()) >= len(said), 1.0)
        assert set(three[BROKER].messages()) <= set(said)
        assert not three[LEFT].messages()
        assert not three[RIGHT].messages()

    def test_a_message_for_nobody_is_lost_without_harm(self, road: Road, three: dict[Peer, Ears]) -> None:
        self.say(road, three, BROKER, NOBODY, Disconnect())
        left = self.known_to_broker(road, three, LEFT)
        self.say_until(road, three, BROKER, left, Cancel(A), lambda: Cancel(A) in three[LEFT].messages())

    def test_when_one_is_gone_the_broker_is_told_and_the_other_goes_on(self, road: Road, three: dict[Peer, Ears]) -> None:
        left, right = (self.known_to_broker(road, three, address) for address in (LEFT, RIGHT))
        road.detach(LEFT)
        assert road.wait(lambda: PeerLost(left) in three[BROKER].heard, PATIENCE_S)
        count = len(three[LEFT].heard)
        self.say(road, three, BROKER, left, Cancel(A))
        self.say_until(road, three, BROKER, right, Cancel(A), lambda: Cancel(A) in three[RIGHT].messages())
        assert len(three[LEFT].heard) == count

    def test_when_the_broker_is_gone_those_who_dialled_it_are_told(self, road: Road, three: dict[Peer, Ears]) -> None:
        road.detach(BROKER)
        assert road.wait(lambda: all(PeerLost(BROKER) in three[address].heard for address in (LEFT, RIGHT)), PATIENCE_S)

    @pytest.mark.parametrize("count", [1, 200])
    def test_calls_come_home(self, road: Road, count: int) -> None:
        """The machines themselves, on this engine: each call settles once, and is carried out once."""
        answers: dict[bytes, list[Outcome]] = {}
        carried_out: Counter[bytes] = Counter()

        def of_gateway(action: Action) -> None:
            assert isinstance(action, Settle)
            answers.setdefault(action.call_id, []).append(action.outcome)

        def of_worker(action: Action) -> None:
            assert isinstance(action, Start)
            carried_out[action.call_id] += 1
            road.feed(RIGHT, Finished(action.call_id, action.number, Outcome(reason="ok", executed="yes", result=action.body)))

        worker = Worker(
            ONE,
            services={"acme": 8},
            methods={"acme.charge": MethodPolicy(provider="acme")},
            providers={"acme": ProviderPolicy()},
            random=lambda: 0.5,
            heartbeat_s=0.5,
        )
        road.attach(BROKER, Broker(BROKER_LIFE, BrokerLimits(), heartbeat_s=0.5), lambda action: None)
        road.attach(LEFT, Calls(GATEWAY, heartbeat_s=0.5), of_gateway)
        road.attach(RIGHT, worker, of_worker)
        road.connect(LEFT, BROKER)
        road.connect(RIGHT, BROKER)
        asked = {call_id(number): str(number).encode() for number in range(count)}
        for call, body in asked.items():
            road.feed(LEFT, submitted(call, deadline=self.soon(), body=body))
        assert road.wait(lambda: answers.keys() == asked.keys(), PATIENCE_S)
        assert {call: [outcome.result for outcome in outcomes] for call, outcomes in answers.items()} == {
            call: [body] for call, body in asked.items()
        }
        assert carried_out == dict.fromkeys(asked, 1)
        assert road.wait(lambda: len(worker) == 0, PATIENCE_S)

    def soon(self) -> float:
        """A deadline on the road's clock, far enough away."""
        raise NotImplementedError
