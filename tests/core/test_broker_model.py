"""The broker against anybody who says anything: its tables agree, its limits hold, nothing is given twice, nothing stays behind."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from homing.core.broker import Broker, BrokerLimits
from homing.core.machine import Event, PeerFound, PeerLost, Received, Send, Tick
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
    RejectKind,
    Release,
    Request,
    Settled,
    Workers,
)
from homing.core.permits import Permit
from homing.core.reach import LIFE_PACKED_BYTES
from tests.core.people import BROKER_LIFE, GATEWAY, OK, ONE, OTHER_GATEWAY, TWO, W1, W2, G, call_id, request
from tests.core.test_broker import G2, consistent

THREE = b"worker-life-3rd!"
CALLS = [call_id(number, life) for life in (GATEWAY, OTHER_GATEWAY) for number in range(4)]
GATEWAYS = {G: GATEWAY, G2: OTHER_GATEWAY}
PERMITS = {
    "caller": Permit(call=("acme",), principal="a"),
    "worker": Permit(serve=("acme", "ban*")),
    "thief": Permit(call=("*",), serve=("bank",)),
}

calls = st.sampled_from(CALLS)
lives = st.sampled_from([ONE, TWO, THREE])
worker_peers = st.sampled_from([W1, W2])
claims = st.integers(1, 3)
services = st.sampled_from(["acme", "bank"])
counts = st.integers(0, 6)


class BrokerModel(RuleBasedStateMachine):
    """Two connections of gateways and two of workers, on which three lives come and go."""

    @initialize(
        heartbeat_s=st.sampled_from([0.0, 1.0]),
        queue_length_max=st.sampled_from([1, 3, 100]),
        bytes_max=st.sampled_from([40, 10_000]),
        permits=st.sampled_from([None, PERMITS]),
    )
    def begin(self, heartbeat_s: float, queue_length_max: int, bytes_max: int, permits: dict[str, Permit] | None) -> None:
        limits = BrokerLimits(queue_length_max=queue_length_max, held_bytes_max=bytes_max, no_worker_after_s=2.0)
        self.broker = Broker(BROKER_LIFE, limits, heartbeat_s=heartbeat_s, permits=permits)
        self.now = 0.0
        for peer, life in GATEWAYS.items():
            self.feed(PeerFound(peer, "caller"))
            self.hear(peer, Hello(life))
        for peer in (W1, W2):
            self.feed(PeerFound(peer, "worker"))

    def feed(self, event: Event) -> None:
        actions = self.broker.handle(event, self.now)
        consistent(self.broker)
        given: set[bytes] = set()
        for action in actions:
            assert isinstance(action, Send)
            self.sent(action.peer, action.message, given)
        due = self.broker.next_deadline()
        assert due is None or not isinstance(event, Tick) or due > self.now

    def sent(self, peer: bytes, message: Message, given: set[bytes]) -> None:
        if isinstance(message, Request):
            copy = self.broker._copies[message.call_id]
            assert copy.life is not None
            worker = self.broker._workers[copy.life]
            assert (worker.peer, worker.gone) == (peer, False)
            assert message.call_id not in given, "given twice in one turn"
            given.add(message.call_id)
            held = len(worker.held[message.service])
            assert held + len(worker.strays) <= worker.services[message.service], "credit is exceeded"
            assert copy.life not in copy.refused_by
            assert len(message.body) <= worker.frame_bytes_max
            assert self.broker._roster.permit(peer).serves(message.service), "given to whoever may not serve it"
            assert message.remaining_ms >= 0
        elif isinstance(message, Reject):
            assert message.kind == "refused"
            assert message.reason == "forbidden" or message.call_id not in self.broker._copies
        elif isinstance(message, Lost):
            assert peer == self.broker._roster.gateway_of(message.call_id)
        elif isinstance(message, Workers):
            assert peer in self.broker._roster.at
            calls = self.broker._roster.permit(peer).calls
            concerned = [worker.life for worker in self.broker._workers.values() if worker.concerns(calls)]
            assert message.lives == tuple(concerned[: self.broker._links.reads(peer) // (2 * LIFE_PACKED_BYTES)])
        else:
            assert isinstance(
                message, Claim | Final | Release | Grant | Deny | Settled | Cancel | Heartbeat | Disconnect | Workers
            )

    def hear(self, peer: bytes, message: Message) -> None:
        self.feed(Received(peer, message))

    # Gateways

    @rule(
        call=calls,
        service=services,
        principal=st.sampled_from(["a", "b"]),
        remaining_ms=st.sampled_from([0, 300, 3000]),
        size=counts,
    )
    def ask(self, call: bytes, service: str, principal: str, remaining_ms: int, size: int) -> None:
        peer = G if call in CALLS[:4] else G2
        before = call in self.broker._copies
        self.hear(peer, request(call, service=service, principal=principal, remaining_ms=remaining_ms, body=b"x" * (size * 4)))
        if not before and call in self.broker._copies:
            permit = self.broker._roster.permit(peer)
            assert permit.calls(service)
            assert permit.principal in ("", self.broker._copies[call].request.principal)

    @rule(call=calls)
    def cancel(self, call: bytes) -> None:
        self.hear(G, Cancel(call))

    @rule(call=calls, life=lives, claim=claims, grant=st.booleans())
    def answer(self, call: bytes, life: bytes, claim: int, grant: bool) -> None:
        self.hear(G, Grant(call, life, claim, 100) if grant else Deny(call, life, claim))

    @rule(call=calls, life=lives)
    def settled(self, call: bytes, life: bytes) -> None:
        self.hear(G, Settled(life, (call,)))

    @rule(call=calls, life=lives, claim=claims)
    def lost_seen(self, call: bytes, life: bytes, claim: int) -> None:
        self.hear(G, LostSeen(call, life, claim))

    @rule(peer=st.sampled_from([G, G2, W1]), life=st.sampled_from([GATEWAY, OTHER_GATEWAY, GATEWAY[:8] + b"made up!"]))
    def hello(self, peer: bytes, life: bytes) -> None:
        before = dict(self.broker._roster.gateways)
        self.hear(peer, Hello(life))
        for head, known in self.broker._roster.gateways.items():
            assert head not in before or (known.life, known.user) == (before[head].life, before[head].user), "a life is taken"

    # Workers

    @rule(
        peer=st.sampled_from([W1, W2, W1, W2, G]),
        life=lives,
        acme=st.integers(0, 2),
        bank=st.integers(0, 1),
        offers=st.integers(0, 3),
        frame_bytes_max=st.sampled_from([0, 0, 10]),
    )
    def ready(self, peer: bytes, life: bytes, acme: int, bank: int, offers: int, frame_bytes_max: int) -> None:
        offered = {name: credit for name, credit, bit in (("acme", acme, 1), ("bank", bank, 2)) if offers & bit}
        methods = tuple(MethodOffer(f"{name}.do", name) for name in offered)
        users = {life: worker.user for life, worker in self.broker._workers.items()}
        self.hear(peer, Ready(life, offered, 1000, methods, b"", frame_bytes_max))
        for one, worker in self.broker._workers.items():
            assert worker.user == users.get(one, worker.user), "a life is taken"
            assert all(self.broker._roster.permit(worker.peer).serves(name) for name in worker.services if not worker.gone)

    @precondition(lambda self: self.broker._worker_at)
    @rule(which=st.integers(0, 9), kind=st.sampled_from([Claim, Release, Final]), claim=claims, data=st.data())
    def of_present_worker(self, which: int, kind: type, claim: int, data: st.DataObject) -> None:
        """What a worker may well say: about a call it was given, if any."""
        peer, worker = sorted(self.broker._worker_at.items())[which % len(self.broker._worker_at)]
        mine = sorted(call for held in worker.held.values() for call in held) or CALLS
        call = data.draw(st.sampled_from(mine))
        self.hear(peer, Final(call, worker.life, claim, OK) if kind is Final else kind(call, worker.life, claim))

    @rule(peer=worker_peers, call=calls, kind=st.sampled_from(["again", "drop", "refused"]))
    def reject(self, peer: bytes, call: bytes, kind: RejectKind) -> None:
        self.hear(peer, Reject(call, kind, "circuit_open"))

    @rule(peer=worker_peers, call=calls, life=lives, claim=claims, kind=st.sampled_from([Claim, Release]))
    def of_anybody(self, peer: bytes, call: bytes, life: bytes, claim: int, kind: type) -> None:
        self.hear(peer, kind(call, life, claim))

    @rule(peer=st.sampled_from([W1, W2, G]))
    def disconnect(self, peer: bytes) -> None:
        self.hear(peer, Disconnect())

    @rule(
        peer=st.sampled_from([W1, W2, G]),
        life=st.sampled_from([ONE, TWO, GATEWAY]),
        sent=counts,
        received=counts,
        gap=st.booleans(),
        listed=st.none() | st.lists(calls, max_size=3, unique=True),
    )
    def heartbeat(self, peer: bytes, life: bytes, sent: int, received: int, gap: bool, listed: list[bytes] | None) -> None:
        in_flight = None if listed is None else tuple(listed)
        beat = Heartbeat(life=life, peer_life=BROKER_LIFE, sent=sent, received=received, gap=gap, in_flight=in_flight)
        self.hear(peer, beat)

    # Time and loss

    @rule(peer=st.sampled_from([W1, W2, G, G2]), user=st.sampled_from(["caller", "worker", "thief", ""]))
    def connect_anew(self, peer: bytes, user: str) -> None:
        self.feed(PeerLost(peer))
        self.feed(PeerFound(peer, user))

    @rule(peer=st.sampled_from([W1, W2, G, G2]))
    def peer_lost(self, peer: bytes) -> None:
        self.feed(PeerLost(peer))

    @rule(seconds=st.sampled_from([0.01, 0.3, 1.0, 4.0]))
    def time_passes(self, seconds: float) -> None:
        until = self.now + seconds
        while (due := self.broker.next_deadline()) is not None and due <= until:
            self.now = max(self.now, due)
            self.feed(Tick())
        self.now = until

    def teardown(self) -> None:
        if hasattr(self, "broker"):
            for peer in (W1, W2, G, G2):
                self.feed(PeerLost(peer))
            self.time_passes(400.0)
            broker = self.broker
            assert (len(broker), broker.held_bytes) == (0, 0)
            assert not any((broker._workers, broker._worker_at, broker._roster.gateways, broker._roster.at, broker._services))
            assert not broker._links.peers
            assert broker.next_deadline() is None


BrokerModel.TestCase.settings = settings(max_examples=40, stateful_step_count=40)
TestBrokerModel = BrokerModel.TestCase
