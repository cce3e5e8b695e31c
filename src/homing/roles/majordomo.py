"""Majordomo at a process's sockets: foreign workers at the broker's, foreign clients at one of the gateway's own.

Both take what does not begin with our tag. Whatever comes, nothing here raises; what cannot be said to a peer is dropped and counted
by the engine, and nobody waits for it.
"""

import time
from collections.abc import Callable
from typing import Protocol, TypeAlias

from homing.core import jsonrpc, majordomo
from homing.core.machine import (
    Action,
    Draining,
    DrainTimedOut,
    Event,
    Life,
    Machine,
    Peer,
    PeerFound,
    PeerLost,
    Received,
    Tick,
)
from homing.core.majordomo import Ask
from homing.core.messages import Message
from homing.core.neighbours import Action as NeighboursAction
from homing.core.neighbours import Enter, Heard, Neighbours, Say, Tell, Told, Unsaid
from homing.edges.auth import Principal
from homing.errors import Outcome, failure
from homing.roles.gateway import Gateway

SaySo: TypeAlias = Callable[[Peer, list[bytes]], bool]
"""Give frames to a foreign peer. False: they are dropped, and not a byte of them has left."""

UNANSWERED_MAX = 100  # of one client; RFC 7 has one, and those that pipeline need not have more


class Attach(Protocol):
    """An engine's way to take a machine in."""

    def __call__(self, address: Peer, machine: Machine, act: Callable[[Action], None], *, timed: bool = True) -> None: ...


class _Door:
    """Where a foreign worker stands in the engine. Doors are kept and used again: an address lasts as long as its engine."""

    __slots__ = ("_told", "address", "life")

    def __init__(self, address: Peer, told: Callable[[Life, Message, float], None]) -> None:
        self.address = address
        self.life: Life | None = None
        self._told = told

    def handle(self, event: Event, now: float) -> list[Action]:
        if type(event) is Received and self.life is not None:
            self._told(self.life, event.message, now)
        return []

    def next_deadline(self) -> float | None:
        return None


class ForeignWorkers:
    """Workers of Majordomo at a broker: the machine that plays them, joined to the engine.

    It is a machine of the engine's too, at `ADDRESS`, for the sake of the time and of `Draining` and `DrainTimedOut`.
    """

    ADDRESS = b"majordomo"

    def __init__(
        self,
        machine: Neighbours,
        broker: Peer,
        *,
        say: SaySo,
        feed: Callable[[Peer, Event], None],
        attach: Attach,
    ) -> None:
        self.machine = machine
        self._broker = broker
        self._say = say
        self._feed = feed
        self._attach = attach
        self._doors: dict[Life, _Door] = {}
        self._vacant: list[_Door] = []
        self._built = 0
        attach(self.ADDRESS, self, _nothing)

    def handle(self, event: Event, now: float) -> list[Action]:
        """Its own time, and the end of it."""
        if isinstance(event, Tick | Draining | DrainTimedOut):
            self._do(self.machine.handle(event, now), now)
        return []

    def next_deadline(self) -> float | None:
        """When it is due."""
        return self.machine.next_deadline()

    def received(self, peer: Peer, frames: list[bytes], user: str) -> bool:
        """Frames from a peer of the broker's; False if they are no worker's of Majordomo."""
        if majordomo.read_worker(frames) is None:
            return False
        now = time.monotonic()
        self._do(self.machine.handle(Heard(peer, frames, user), now), now)
        return True

    def lost(self, peer: Peer) -> None:
        """Its connection is gone."""
        now = time.monotonic()
        self._do(self.machine.handle(PeerLost(peer), now), now)

    def _told(self, life: Life, message: Message, now: float) -> None:
        self._do(self.machine.handle(Told(life, message), now), now)

    def _do(self, actions: list[NeighboursAction], now: float) -> None:
        for action in actions:
            if isinstance(action, Say):
                if not self._say(action.peer, action.frames):
                    self._do(self.machine.handle(Unsaid(action.peer, action.claim), now), now)
            elif isinstance(action, Tell):
                if (at := self._doors.get(action.life)) is not None:  # else it has left while the rest of this was being done
                    self._feed(self._broker, Received(at.address, action.message))
            elif isinstance(action, Enter):
                door = self._doors[action.life] = self._vacant.pop() if self._vacant else self._new_door()
                door.life = action.life
                self._feed(self._broker, PeerFound(door.address, action.user))
            else:
                door = self._doors.pop(action.life)
                door.life = None
                self._vacant.append(door)
                self._feed(self._broker, PeerLost(door.address))

    def _new_door(self) -> _Door:
        self._built += 1
        door = _Door(b"majordomo-%d" % self._built, self._told)
        self._attach(door.address, door, _nothing, timed=False)
        return door


class _Letter:
    """What one request of a client is owed."""

    __slots__ = ("_answer", "_ask", "call_id", "gone", "size")

    def __init__(self, ask: Ask, answer: Callable[["_Letter", list[bytes]], None]) -> None:
        self._ask = ask
        self._answer = answer
        self.call_id = b""
        self.gone = False
        self.size = len(ask.body)

    def admitted(self, call_id: bytes) -> None:
        """It is open from now on."""
        self.call_id = call_id

    def answered(self, index: int, id: bytes | None, outcome: Outcome, call_id: str) -> None:
        """The one answer: the result, or the error object."""
        if outcome.reason == "ok":
            body = outcome.result or jsonrpc.NULL
        else:
            body = jsonrpc.encode_error(outcome, call_id)
        self._answer(self, majordomo.answer(self._ask, body))


class ForeignClients:
    """Clients of Majordomo at a gateway: they name a method where a client names a service. Several requests may be open at once.

    `principal_of` says in whose name a user may call; None is in nobody's in particular. `body_bytes_max` bounds the params of one
    call, `held_bytes_max` those of all that are open.
    """

    def __init__(
        self,
        gateway: Gateway,
        *,
        say: SaySo,
        principal_of: Callable[[str], Principal | None],
        body_bytes_max: int,
        held_bytes_max: int,
    ) -> None:
        self.requests = 0
        self.held_bytes = 0
        self._gateway = gateway
        self._say = say
        self._principal_of = principal_of
        self._body_bytes_max = body_bytes_max
        self._held_bytes_max = held_bytes_max
        self._letters: dict[Peer, dict[_Letter, None]] = {}  # open ones; who has none is not in it

    def __len__(self) -> int:
        """How many clients wait for an answer."""
        return len(self._letters)

    def received(self, peer: Peer, frames: list[bytes], user: str) -> bool:
        """Frames from a peer; False if they are no client's of Majordomo."""
        ask = majordomo.read_client(frames)
        if ask is None:
            return False
        self.requests += 1
        principal = self._principal_of(user)
        if ask.service.startswith(majordomo.MANAGEMENT):
            self._say(peer, majordomo.answer(ask, self._manage(ask, principal)))
            return True
        letters = self._letters.setdefault(peer, {})
        letter = _Letter(ask, lambda letter, answer: self._answered(peer, letter, answer))
        refusal = self._refusal(ask, len(letters))
        letters[letter] = None
        self.held_bytes += letter.size
        self._gateway.ask(letter, refusal or jsonrpc.read_call(ask.service, ask.body), principal)
        return True

    def lost(self, peer: Peer) -> None:
        """A client is gone: what is queued for it is cancelled, what has begun runs to its end."""
        letters = self._letters.pop(peer, {})
        for letter in letters:
            letter.gone = True  # all of them first: to take one back may settle another
        for letter in letters:
            self._gateway.abandon(letter.call_id)

    def _manage(self, ask: Ask, principal: Principal | None) -> bytes:
        """The Majordomo Management Interface (RFC 8). A method that the client may not call is not there for it."""
        if ask.service != majordomo.MANAGEMENT + "service":
            return majordomo.NOT_IMPLEMENTED
        known = self._gateway.lets_call(principal, ask.body.decode(errors="replace"))
        return majordomo.FOUND if known else majordomo.NOT_FOUND

    def _refusal(self, ask: Ask, unanswered: int) -> jsonrpc.Refused | None:
        if len(ask.body) > self._body_bytes_max:
            message = f"The body has {len(ask.body)} bytes, and may have {self._body_bytes_max}."
            refusal = failure("too_large", message, limit="gateway.body_max")
        elif unanswered >= UNANSWERED_MAX:
            message = f"This client waits for {unanswered} answers already."
            refusal = failure("overloaded", message, retry_after_ms=1000)
        elif self.held_bytes + len(ask.body) > self._held_bytes_max:
            message = "This gateway holds as many bytes of requests as it may."
            refusal = failure("overloaded", message, retry_after_ms=1000, limit="gateway.held_bytes_max")
        else:
            return None
        return jsonrpc.Refused(jsonrpc.NULL, refusal)

    def _answered(self, peer: Peer, letter: _Letter, answer: list[bytes]) -> None:
        self.held_bytes -= letter.size
        if letter.gone:
            return
        letters = self._letters[peer]
        del letters[letter]
        if not letters:
            del self._letters[peer]
        self._say(peer, answer)


def _nothing(action: Action) -> None:
    """All there is to do is done by then."""
