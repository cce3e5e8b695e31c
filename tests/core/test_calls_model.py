"""Calls against workers that die, brokers that lose, double and reorder, and a provider that keeps a ledger of what it did."""

from dataclasses import dataclass, field
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from homing.core.calls import Calls
from homing.core.machine import (
    Abandoned,
    Action,
    Draining,
    DrainTimedOut,
    Event,
    Learn,
    PeerFound,
    PeerLost,
    Received,
    Send,
    Settle,
    Tick,
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
    Reject,
    RejectKind,
    Release,
    Request,
    Settled,
    Workers,
)
from homing.errors import RETRY_BY_EFFECT, Effect, failure
from tests.core.people import BACKUP, BROKER, GATEWAY, OK, call_id, submitted
from tests.core.test_calls import consistent

PEERS = (BROKER, BACKUP)
any_one = st.integers(0, 999)


@dataclass
class Asked:
    """What the test knows of one call."""

    effect: Effect
    deadline: float
    holder: tuple[bytes, int] | None = None  # as far as the gateway can know
    freed: set[tuple[bytes, int]] = field(default_factory=set)  # released or declared lost: the gateway may grant anew
    released: set[tuple[bytes, int]] = field(default_factory=set)
    ever: list[tuple[bytes, int]] = field(default_factory=list)
    ledger: int = 0
    settled: str | None = None  # executed


@dataclass
class Begun:
    """A claim as its worker knows it: pending, begun, or over."""

    call: bytes
    life: bytes
    number: int
    state: str = "pending"


class CallsModel(RuleBasedStateMachine):
    """Messages to the gateway stay in a bag: they may arrive in any order, again and again, or never."""

    @initialize(heartbeat_s=st.sampled_from([0.0, 1.0]))
    def begin(self, heartbeat_s: float) -> None:
        self.calls = Calls(GATEWAY, heartbeat_s=heartbeat_s)
        self.learnt: tuple[MethodOffer, ...] = ()
        self.now = 0.0
        self.asked: dict[bytes, Asked] = {}
        self.to_gateway: list[tuple[bytes, Any]] = []
        self.to_workers: list[Any] = []
        self.claims: list[Begun] = []
        self.seen_lost: list[Message] = []
        self.quick = True
        self.feed(PeerFound(BROKER))
        self.beat(BROKER, b"broker-life-one!", 0, False)

    # The gateway

    def feed(self, event: Event) -> None:
        for action in self.calls.handle(event, self.now):
            self.done(action)

    def done(self, action: Action) -> None:
        if isinstance(action, Settle):
            self.settled(action)
            return
        if isinstance(action, Learn):
            assert action.methods != self.learnt, "nothing new is no lesson"
            self.learnt = action.methods
            return
        assert isinstance(action, Send)
        message = action.message
        if isinstance(message, Grant):
            self.granted(message)
        if isinstance(message, Grant | Deny):
            self.to_workers.append(message)
            if self.quick:
                self.answer_arrives(len(self.to_workers) - 1)
        elif isinstance(message, Request):
            asked = self.asked[message.call_id]
            assert asked.settled is None
            assert asked.holder is None, "a granted call is never submitted again"
            assert message.effect == asked.effect
        else:
            assert isinstance(message, Hello | Cancel | Settled | LostSeen | Heartbeat)

    def granted(self, grant: Grant) -> None:
        asked, who = self.asked[grant.call_id], (grant.life, grant.claim)
        assert asked.settled is None
        assert self.now < asked.deadline
        if asked.holder is not None and asked.holder != who:
            assert asked.holder in asked.freed, "two claims hold a call"
        if asked.effect == "once":
            assert all(other == who or other in asked.released for other in asked.ever), "once is granted to one claim, ever"
        asked.holder = who
        asked.ever.append(who)

    def settled(self, settle: Settle) -> None:
        asked, outcome = self.asked[settle.call_id], settle.outcome
        assert asked.settled is None, "a call settles exactly once"
        assert self.now <= asked.deadline, "by its deadline"
        asked.settled = outcome.executed
        if outcome.reason == "ok":
            assert asked.ledger
            assert outcome.retry is None
        elif outcome.executed != "no":
            assert outcome.retry == RETRY_BY_EFFECT[asked.effect]
        if outcome.executed == "no":
            assert not asked.ledger, "no is proven"

    def execute(self, call: bytes) -> None:
        asked = self.asked[call]
        asked.ledger += 1
        assert asked.settled != "no", "no stays true"
        assert asked.effect != "once" or asked.ledger == 1, "never twice"

    # The world

    @rule(quick=st.booleans())
    def weather(self, quick: bool) -> None:
        """Whether messages arrive at once, and perhaps again later, or only some time."""
        self.quick = quick

    def say(self, message: Message) -> None:
        self.to_gateway.append((BROKER, message))
        if self.quick:
            self.arrive(len(self.to_gateway) - 1)

    def recent(self, which: int) -> bytes:
        """One of the newest calls: what happens twice should happen to one of them."""
        return list(self.asked)[-2:][which % min(2, len(self.asked))]

    @precondition(lambda self: sum(asked.settled is None for asked in self.asked.values()) < 2)
    @rule(effect=st.sampled_from(["once", "keyed", "safe"]), timeout_s=st.sampled_from([0.1, 1.0, 5.0]))
    def submit(self, effect: Effect, timeout_s: float) -> None:
        call = call_id(len(self.asked))
        self.asked[call] = Asked(effect, self.now + timeout_s)
        self.feed(submitted(call, effect=effect, deadline=self.now + timeout_s))
        if self.asked[call].settled is None:
            self.feed(submitted(call, effect=effect))  # again: nothing

    @precondition(lambda self: self.asked)
    @rule(which=any_one, life=st.sampled_from([b"one", b"two"]))
    def claim(self, which: int, life: bytes) -> None:
        call = self.recent(which)
        claim = Begun(call, life, len(self.claims) + 1)
        self.claims.append(claim)
        self.say(Claim(call, life, claim.number))

    @precondition(lambda self: self.to_gateway)
    @rule(which=any_one)
    def arrive(self, which: int) -> None:
        peer, message = self.to_gateway[which % len(self.to_gateway)]
        asked = self.asked[message.call_id]
        if isinstance(message, Release | Lost):
            claims = {(message.life, message.claim)}
            if message.claim == 0:
                claims = {who for who in asked.ever if who[0] == message.life}
            asked.freed |= claims
            if isinstance(message, Release):
                asked.released |= claims
            if asked.holder in claims:
                asked.holder = None
        self.feed(Received(peer, message))

    @precondition(lambda self: self.to_workers)
    @rule(which=any_one)
    def answer_arrives(self, which: int) -> None:
        answer = self.to_workers[which % len(self.to_workers)]
        claim = self.claims[answer.claim - 1]
        if claim.state == "pending":
            if isinstance(answer, Grant):
                claim.state = "begun"
            else:
                self.give_up_of(claim)
        elif claim.state == "given up" and isinstance(answer, Grant):
            self.give_up_of(claim)

    def of_state(self, *states: str) -> list[Begun]:
        return [claim for claim in self.claims if claim.state in states]

    def give_up_of(self, claim: Begun) -> None:
        claim.state = "given up"
        self.say(Release(claim.call, claim.life, claim.number))

    @precondition(lambda self: self.of_state("pending"))
    @rule(which=any_one)
    def give_up(self, which: int) -> None:
        pending = self.of_state("pending")
        self.give_up_of(pending[which % len(pending)])

    @precondition(lambda self: self.of_state("begun"))
    @rule(which=any_one, how=st.sampled_from(["ok", "no", "unknown", "unknown, and done"]))
    def finish(self, which: int, how: str) -> None:
        begun = self.of_state("begun")
        claim = begun[which % len(begun)]
        claim.state = "over"
        if how in ("ok", "unknown, and done"):
            self.execute(claim.call)
        outcome = OK if how == "ok" else failure("provider_unreachable" if how == "no" else "connection_lost", how)
        self.say(Final(claim.call, claim.life, claim.number, outcome))

    @precondition(lambda self: self.of_state("pending", "begun"))
    @rule(which=any_one, done=st.booleans(), truly=st.booleans(), knows=st.booleans())
    def lose(self, which: int, done: bool, truly: bool, knows: bool) -> None:
        """A worker dies, or is declared dead and is not. The broker may not know what it had claimed."""
        there = self.of_state("pending", "begun")
        claim = there[which % len(there)]
        if truly:
            if done and claim.state == "begun":
                self.execute(claim.call)
            claim.state = "over"
        self.say(Lost(claim.call, claim.life, claim.number if knows else 0))

    @precondition(lambda self: self.asked)
    @rule(which=any_one, kind=st.sampled_from(["refused", "again"]))
    def reject(self, which: int, kind: RejectKind) -> None:
        call = self.recent(which)
        self.say(Reject(call, kind, "overloaded"))

    @precondition(lambda self: self.asked)
    @rule(which=any_one)
    def hang_up(self, which: int) -> None:
        self.feed(Abandoned(self.recent(which)))

    @rule(peer=st.sampled_from(PEERS), found=st.booleans())
    def brokers_come_and_go(self, peer: bytes, found: bool) -> None:
        self.feed(PeerFound(peer) if found else PeerLost(peer))

    @rule(
        peer=st.sampled_from(PEERS),
        life=st.sampled_from([b"broker-life-one!", b"broker-life-two!"]),
        sent=st.integers(0, 5),
        gap=st.booleans(),
    )
    def beat(self, peer: bytes, life: bytes, sent: int, gap: bool) -> None:
        self.feed(Received(peer, Heartbeat(life=life, peer_life=GATEWAY, sent=sent, received=0, gap=gap)))

    @rule(
        peer=st.sampled_from(PEERS),
        lives=st.sets(st.sampled_from([b"one", b"two"])),
        methods=st.lists(st.sampled_from([MethodOffer("a.one", "a"), MethodOffer("a.two", "a")])),
    )
    def say_whom_it_reaches(self, peer: bytes, lives: set[bytes], methods: list[MethodOffer]) -> None:
        self.feed(Received(peer, Workers(tuple(sorted(lives)), tuple(methods))))

    @rule(peer=st.sampled_from(PEERS))
    def ask_who_we_are(self, peer: bytes) -> None:
        self.feed(Received(peer, Disconnect()))

    @rule(seconds=st.sampled_from([0.01, 0.3, 2.0]))
    def time_passes(self, seconds: float) -> None:
        until = self.now + seconds
        while (due := self.calls.next_deadline()) is not None and due <= until:
            self.now = max(self.now, due)
            self.feed(Tick())
        self.now = until

    @precondition(lambda self: len(self.asked) > 3)
    @rule(now=st.booleans())
    def drain(self, now: bool) -> None:
        self.feed(Draining())
        if now:
            self.feed(DrainTimedOut())

    @invariant()
    def tables_agree(self) -> None:
        if hasattr(self, "calls"):
            consistent(self.calls)
            assert set(self.calls._calls) == {call for call, asked in self.asked.items() if asked.settled is None}

    def teardown(self) -> None:
        if hasattr(self, "calls"):
            self.time_passes(6.0)
            for peer in PEERS:
                self.feed(PeerLost(peer))
            self.time_passes(70.0)
            assert self.learnt == ()
            assert not self.calls._missing
            assert all(asked.settled is not None for asked in self.asked.values())
            assert len(self.calls) == 0
            assert self.calls.next_deadline() is None


CallsModel.TestCase.settings = settings(max_examples=40, stateful_step_count=50)
TestCallsModel = CallsModel.TestCase
