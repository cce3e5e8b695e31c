"""A peer that has a key, and means ill: what it says must change nothing for anybody else.

It knows more than it could: every life, and, but for the one that says it is another worker, every call and its claim. What it cannot
know is the whole life of a gateway, which only brokers are told.
"""

from collections.abc import Callable
from random import Random

import msgspec

from homing.core.machine import Action, Event, Life, Peer, PeerFound, PeerLost, Received, Send, Tick
from homing.core.messages import (
    GATEWAY_BYTES,
    LIFE_BYTES,
    Cancel,
    Claim,
    Deny,
    Disconnect,
    Final,
    Grant,
    Heartbeat,
    Hello,
    LostSeen,
    Message,
    MethodOffer,
    Ready,
    Reject,
    Release,
    Request,
    Settled,
)
from homing.errors import Outcome
from homing.sim.plan import ATTIC, METHODS, Trick

ACTS_EVERY_S = 0.15
FORGED = Outcome(reason="ok", executed="yes", result=b'"forged"')
SERVICES = {ATTIC: 3} | {method.service: 3 for method in METHODS}
OFFERS = tuple(MethodOffer(method.name, method.service, method.effect, 1) for method in METHODS)


class Rumour(msgspec.Struct, frozen=True):
    """A call of somebody else's, and the claim that holds it, as far as there is one."""

    call_id: bytes
    life: Life
    claim: int


class Stranger:
    """Takes calls of the attic and calls there, if its key may. Beyond that it plays one trick, with what `rumours` and `workers` tell."""

    def __init__(
        self, life: Life, trick: Trick, random: Random, rumours: Callable[[], list[Rumour]], workers: Callable[[], list[Life]]
    ) -> None:
        self.life = life
        self._trick = trick
        self._random = random
        self._rumours = rumours
        self._workers = workers
        self._brokers: dict[Peer, None] = {}
        self._acts_at: float | None = None

    def handle(self, event: Event, now: float) -> list[Action]:
        """It answers what it is asked, and acts of its own accord."""
        if isinstance(event, PeerFound):
            self._brokers[event.peer] = None
            self._acts_at = now + ACTS_EVERY_S
            return self._introduces(event.peer)
        if isinstance(event, PeerLost):
            del self._brokers[event.peer]
            return []
        if isinstance(event, Tick):
            self._acts_at = now + ACTS_EVERY_S * (0.5 + self._random.random())
            return [action for broker in self._brokers for action in self._acts(broker)]
        assert isinstance(event, Received)
        return self._answers(event.peer, event.message)

    def next_deadline(self) -> float | None:
        """When it acts next."""
        return self._acts_at

    def _introduces(self, broker: Peer) -> list[Action]:
        return [Send(broker, Hello(self.life)), Send(broker, Ready(self.life, SERVICES, 500, OFFERS))]

    def _answers(self, broker: Peer, message: Message) -> list[Action]:
        match message:
            case Claim(call_id, life, claim):
                return [Send(broker, self._random.choice((Grant(call_id, life, claim, 5000), Deny(call_id, life, claim))))]
            case Request(call_id):
                said = (Claim(call_id, self.life, 1), Reject(call_id, "again"), Final(call_id, self.life, 1, FORGED))
                return [Send(broker, self._random.choice(said))]
            case Grant(call_id, life, claim):
                return [Send(broker, Final(call_id, life, claim, FORGED))]
            case Final(call_id, life):
                return [Send(broker, Settled(life, (call_id,)))]
        return []

    def _acts(self, broker: Peer) -> list[Action]:
        rumours = self._rumours()
        if not rumours:
            return []
        rumour = self._random.choice(rumours)
        said: list[Message]
        if self._trick == "forgeries":
            said = self._forges(rumour)
        elif self._trick == "another's head":
            life = rumour.call_id[:GATEWAY_BYTES] + self.life[GATEWAY_BYTES:]
            said = [Hello(life), self._calls(life, "acme"), self._calls(life, ATTIC)]
        else:
            said = self._poses(self._random.choice([*self._workers(), self.life]), rumour)
        if self._random.random() < 0.2:
            said += [Disconnect(), Hello(self.life), Ready(self.life, SERVICES, 500)]
        return [Send(broker, message) for message in said]

    def _calls(self, life: Life, service: str) -> Request:
        call_id = life[:GATEWAY_BYTES] + self._random.randbytes(8)
        return Request(call_id, service, "acme.charge", 2000, "once", "webshop", "key", 0, "no", "", b"stolen")

    def _forges(self, rumour: Rumour) -> list[Message]:
        """What only its gateway or its worker may say of a call."""
        call_id, life, claim = rumour.call_id, rumour.life, rumour.claim
        said: list[Message] = [
            Cancel(call_id),
            Grant(call_id, life, claim, 5000),
            Grant(call_id, life, claim + 1, 5000),
            Deny(call_id, life, claim),
            Settled(life, (call_id,)),
            LostSeen(call_id, life, claim),
            Claim(call_id, life, claim + 1),
            Claim(call_id, self.life, 7),
            Final(call_id, life, claim, FORGED),
            Final(call_id, self.life, 7, FORGED),
            Release(call_id, life, claim),
            Reject(call_id, "refused", "overloaded"),
            Reject(call_id, "drop"),
            self._calls(self.life, ATTIC),
            msgspec.structs.replace(self._calls(self.life, "acme"), call_id=call_id),
            Heartbeat(life=self.life, peer_life=b"", sent=1, received=1 << 40, in_flight=(call_id,)),
            Heartbeat(life=life, peer_life=b"", sent=1, received=1 << 40, in_flight=()),
        ]
        self._random.shuffle(said)
        return said[:5]

    def _poses(self, life: Life, rumour: Rumour) -> list[Message]:
        """As another worker. It does not know its calls, only how their ids begin."""
        call_id = rumour.call_id[:GATEWAY_BYTES] + self._random.randbytes(LIFE_BYTES - GATEWAY_BYTES)
        return [
            Ready(life, SERVICES, 500, OFFERS),
            Claim(call_id, life, 1),
            Final(call_id, life, 1, FORGED),
            Release(call_id, life, 1),
            Heartbeat(life=life, peer_life=b"", sent=0, received=1 << 40, in_flight=(call_id,)),
        ]
