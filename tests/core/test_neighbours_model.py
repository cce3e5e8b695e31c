"""Foreign workers that do anything, behind a real broker and a real gateway between which messages are lost, doubled and reordered.

None of them is asked without a grant, or for two calls at a time, or for one `once` call a second time; every call settles once, and
a `no` is true.
"""

from collections import Counter, deque
from itertools import count

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from homing.core import majordomo
from homing.core.broker import Broker, BrokerLimits
from homing.core.calls import Calls
from homing.core.machine import Abandoned, PeerFound, PeerLost, Received, Send, Settle, Tick
from homing.core.majordomo import Dialect
from homing.core.messages import Grant, Message
from homing.core.neighbours import Event, Heard, Leave, Neighbours, Say, Tell, Told, Unsaid
from tests.core.people import BROKER_LIFE, GATEWAY, call_id, submitted

G, BROKER = b"gateway", b"broker"
PEERS = [b"peer one", b"peer two", b"peer three"]
DIALECTS = [Dialect(b"MDPW01", empty_first=True), Dialect(b"MDPW02", empty_first=False)]
FINAL = {b"MDPW01": b"\x03", b"MDPW02": b"\x04"}

peers = st.sampled_from(PEERS)
dialects = st.sampled_from(DIALECTS)


class NeighboursModel(RuleBasedStateMachine):
    """The way between broker and neighbours is a function call; the way between broker and gateway is a bag."""

    @initialize(behaved=st.booleans())
    def begin(self, behaved: bool = True) -> None:
        self.behaved = behaved  # half of the time, or else few calls come as far as a grant
        numbers = count(1)
        self.now = 0.0
        self.calls = Calls(GATEWAY, heartbeat_s=1.0)
        self.broker = Broker(BROKER_LIFE, BrokerLimits(no_worker_after_s=2.0), heartbeat_s=1.0)
        self.neighbours = Neighbours(
            lives=lambda: b"life-number-%04d" % next(numbers), may_serve=lambda user, service: True, workers_max=2
        )
        self.bag: list[tuple[bytes, Message]] = []  # to the gateway or the broker
        self.past: list[tuple[bytes, Message]] = []  # whatever was in the bag
        self.inside: deque[tuple[bytes, Message]] = deque()  # from the broker to a life
        self.asked: dict[bytes, bytes] = {}  # peer -> the call it works on
        self.spoken: dict[bytes, Dialect] = {}  # peer -> how it was asked
        self.begun: Counter[bytes] = Counter()
        self.granted: set[tuple[bytes, bytes, int]] = set()
        self.effects: dict[bytes, str] = {}
        self.settled: dict[bytes, str] = {}
        self.reads: dict[bytes, bool] = dict.fromkeys(PEERS, True)
        self.gateway(PeerFound(BROKER))
        self.deliver_all()
        for peer, dialect in zip(PEERS, DIALECTS, strict=False):
            self.ready(peer, dialect)

    # The three machines

    def gateway(self, event: PeerFound | Received | Tick | Abandoned | object) -> None:
        for action in self.calls.handle(event, self.now):  # type: ignore[arg-type]
            if isinstance(action, Send):
                if isinstance(action.message, Grant):
                    self.granted.add((action.message.call_id, action.message.life, action.message.claim))
                self.bag.append((BROKER, action.message))
            elif isinstance(action, Settle):
                assert action.call_id not in self.settled, "settled twice"
                self.settled[action.call_id] = action.outcome.executed
                if action.outcome.executed == "no":
                    assert not self.begun[action.call_id], "a no that is not true"

    def broke(self, event: PeerLost | Received | Tick) -> None:
        for action in self.broker.handle(event, self.now):
            assert isinstance(action, Send)
            if action.peer == G:
                self.bag.append((G, action.message))
            else:
                self.inside.append((action.peer, action.message))

    def live(self, *events: Event) -> None:
        for event in events:
            self.do(event)
        while self.inside:
            life, message = self.inside.popleft()
            self.do(Told(life, message))

    def do(self, event: Event) -> None:
        for action in self.neighbours.handle(event, self.now):
            if isinstance(action, Tell):
                self.broke(Received(action.life, action.message))
            elif isinstance(action, Leave):
                self.broke(PeerLost(action.life))
            elif isinstance(action, Say):
                self.say(action)

    def say(self, action: Say) -> None:
        if not self.reads[action.peer]:
            self.do(Unsaid(action.peer, action.claim))
            return
        rest = action.frames[1:] if not action.frames[0] else action.frames
        if rest[1] in (b"\x05", b"\x06") and rest == majordomo.disconnect(Dialect(rest[0], empty_first=False)):
            self.asked.pop(action.peer, None)
        if not action.claim:
            return
        call = rest[2]
        assert action.peer not in self.asked, "two requests at a time"
        life = self.neighbours._at[action.peer].life
        assert (call, life, action.claim) in self.granted, "not granted"
        self.asked[action.peer] = call
        self.spoken[action.peer] = Dialect(rest[0], empty_first=not action.frames[0])
        self.begun[call] += 1
        assert self.begun[call] == 1 or self.effects[call] != "once", "a second time"

    # What callers do

    @rule(effect=st.sampled_from(["once", "once", "safe"]), seconds=st.sampled_from([0.5, 5.0, 60.0]), smooth=st.booleans())
    def call(self, effect: str, seconds: float, smooth: bool) -> None:
        call = call_id(len(self.effects))
        self.effects[call] = effect
        self.gateway(submitted(call, service="echo", effect=effect, deadline=self.now + seconds))
        if smooth:
            self.deliver_all()

    @precondition(lambda self: self.effects)
    @rule(data=st.data())
    def abandon(self, data: st.DataObject) -> None:
        self.gateway(Abandoned(data.draw(st.sampled_from(sorted(self.effects)))))

    # What the way between gateway and broker does

    def deliver_at(self, index: int) -> None:
        to, message = self.bag.pop(index)
        self.past.append((to, message))
        if to == G:
            self.gateway(Received(BROKER, message))
        else:
            self.broke(Received(G, message))
            self.live()

    @precondition(lambda self: self.bag)
    @rule(data=st.data())
    def deliver(self, data: st.DataObject) -> None:
        self.deliver_at(data.draw(st.integers(0, len(self.bag) - 1)))

    @rule(doubled=st.booleans())
    def deliver_all(self, doubled: bool = False) -> None:
        for _ in range(200):
            if not self.bag:
                break
            if doubled:
                self.bag.insert(0, self.bag[0])
                self.deliver_at(0)
            self.deliver_at(0)

    @precondition(lambda self: self.bag)
    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        self.bag.pop(data.draw(st.integers(0, len(self.bag) - 1)))

    @precondition(lambda self: self.past)
    @rule(data=st.data())
    def double(self, data: st.DataObject) -> None:
        self.bag.append(data.draw(st.sampled_from(self.past)))

    # What foreign workers do

    @precondition(lambda self: not self.behaved or len(self.neighbours) < 2)
    @rule(peer=peers, dialect=dialects)
    def ready(self, peer: bytes, dialect: Dialect) -> None:
        self.hear(peer, dialect, b"\x01", b"echo")

    @precondition(lambda self: self.asked)
    @rule(data=st.data(), body=st.sampled_from([b"{}", b"no json", b""]))
    def reply(self, data: st.DataObject, body: bytes) -> None:
        peer = data.draw(st.sampled_from(sorted(self.asked)))
        dialect = self.spoken[peer]
        self.hear(peer, dialect, FINAL[dialect.header], self.asked.pop(peer), b"", body)

    @precondition(lambda self: not self.behaved)
    @rule(peer=peers, dialect=dialects, data=st.data())
    def lie(self, peer: bytes, dialect: Dialect, data: st.DataObject) -> None:
        call = data.draw(st.sampled_from([*sorted(self.effects), b"nobody's"]))
        if self.asked.get(peer) != call:
            self.hear(peer, dialect, FINAL[dialect.header], call, b"", b"{}")

    @precondition(lambda self: not self.behaved)
    @rule(peer=peers, frames=st.lists(st.sampled_from([b"", b"MDPW01", b"MDPW02", b"\x02", b"\x04", b"\x05", b"x"]), max_size=4))
    def babble(self, peer: bytes, frames: list[bytes]) -> None:
        self.live(Heard(peer, frames))

    @rule(peer=peers)
    def go(self, peer: bytes) -> None:
        self.asked.pop(peer, None)
        self.live(PeerLost(peer))

    @rule(peer=peers)
    def stop_or_start_reading(self, peer: bytes) -> None:
        self.reads[peer] = not self.reads[peer]

    def hear(self, peer: bytes, dialect: Dialect, *rest: bytes) -> None:
        self.live(Heard(peer, [b"", dialect.header, *rest] if dialect.empty_first else [dialect.header, *rest]))

    # Time

    def pass_time(self, seconds: float) -> None:
        until = self.now + seconds
        for _ in range(5_000):
            instants = (self.calls.next_deadline(), self.broker.next_deadline(), self.neighbours.next_deadline())
            due = min((instant for instant in instants if instant is not None), default=until)
            if due > until:
                break
            self.now = max(self.now, due)
            self.gateway(Tick())
            self.broke(Tick())
            self.live(Tick())
            if due == until:
                break
        self.now = until

    @rule(seconds=st.sampled_from([0.01, 0.3, 1.0, 3.0, 30.0]))
    def wait(self, seconds: float) -> None:
        self.pass_time(seconds)

    @invariant()
    def bounded(self) -> None:
        if hasattr(self, "neighbours"):
            assert len(self.neighbours) <= 2
            assert self.neighbours.busy <= len(self.neighbours)

    def teardown(self) -> None:
        """Everything heals and everybody leaves: each call has settled, and no table remembers anybody."""
        if not hasattr(self, "neighbours"):
            return
        for peer in PEERS:
            self.go(peer)
        for _ in range(100):
            self.pass_time(1.0)
            while self.bag:
                self.deliver_at(0)
        assert self.settled.keys() == self.effects.keys()
        assert (len(self.neighbours), len(self.calls), len(self.broker)) == (0, 0, 0)
        assert self.neighbours.held_bytes == 0
        assert self.neighbours.next_deadline() is None


NeighboursModel.TestCase.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
TestNeighbours = NeighboursModel.TestCase


def test_the_model_would_notice_a_call_that_is_asked_without_a_grant() -> None:
    model = NeighboursModel()
    model.begin()
    assert len(model.neighbours) == 2
    with pytest.raises(AssertionError, match="not granted"):
        model.say(Say(PEERS[0], majordomo.request(DIALECTS[0], call_id(0), b"{}"), 1))
