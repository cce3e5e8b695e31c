"""Workers that speak Majordomo: to the broker each is a worker with a life of its own; to them we are the broker they know.

They cannot claim, so the call is claimed for them before they are sent anything, and the grant is followed by the REQUEST at once.
The client's address that they see is the call_id. They take one request at a time, and do not heartbeat while they work: a busy one
is lost only with its connection, an idle one when it has been silent for too long.
"""

from collections import Counter
from collections.abc import Callable
from typing import TypeAlias

import msgspec

from homing.core import majordomo
from homing.core.jsonrpc import NULL, check_json
from homing.core.machine import Deadlines, Draining, DrainTimedOut, Life, Peer, PeerLost, Tick, margin_s
from homing.core.majordomo import Beat, Dialect, Illegal, Left, Offered, Replied
from homing.core.messages import Cancel, Claim, Deny, Disconnect, Final, Grant, Message, Ready, Reject, Release, Request, Settled
from homing.core.worker import CLAIM_EVERY_S, FINAL_EVERY_S, GIVE_UP_AFTER_S
from homing.errors import Attempt, Outcome, failure

HEARTBEAT_S = 2.5  # what their implementations agree upon
SILENCE_MAX_S = 3 * HEARTBEAT_S
DEPTH_MAX = 512  # of a body, as for providers
GIVEN_UP_MAX = 1000


class Heard(msgspec.Struct, frozen=True):
    """Frames came from a foreign peer. `user` is whom its key belongs to, "" where none was asked for."""

    peer: Peer
    frames: list[bytes]
    user: str = ""


class Told(msgspec.Struct, frozen=True):
    """The broker has something for the worker of this life."""

    life: Life
    message: Message


class Unsaid(msgspec.Struct, frozen=True):
    """What a `Say` asked for could not be done, and not a byte of it has left: the peer is gone, or reads nothing."""

    peer: Peer
    claim: int


Event: TypeAlias = Heard | Told | Unsaid | PeerLost | Tick | Draining | DrainTimedOut


class Say(msgspec.Struct, frozen=True):
    """Give these frames to a foreign peer. `claim` is the granted one if this is its request, else 0."""

    peer: Peer
    frames: list[bytes]
    claim: int = 0


class Enter(msgspec.Struct, frozen=True):
    """A worker of this life is there from now on, and belongs to this user."""

    life: Life
    user: str


class Tell(msgspec.Struct, frozen=True):
    """Give the message to the broker, as the worker of this life."""

    life: Life
    message: Message


class Leave(msgspec.Struct, frozen=True):
    """The worker of this life is gone, and has said all it had to say."""

    life: Life


Action: TypeAlias = Say | Enter | Tell | Leave


class _Held(msgspec.Struct):
    """The one call that a worker has. `granted_at` None: it is claimed, and the worker knows nothing of it yet."""

    call_id: bytes
    body: bytes
    claim: int
    claimed_at: float
    claim_again_at: float
    deadline: float
    granted_at: float | None = None
    pieces: bytearray = msgspec.field(default_factory=bytearray)  # of PARTIALs, one behind the other: there may be very many
    length: int = 0  # of all that came, in bytes


class _Neighbour:
    """One foreign worker."""

    __slots__ = ("claims", "dialect", "given_up", "heard_at", "held", "life", "peer", "said_at", "service")

    def __init__(self, peer: Peer, life: Life, dialect: Dialect, service: str, now: float) -> None:
        self.peer = peer
        self.life = life
        self.dialect = dialect
        self.service = service
        self.heard_at = now
        self.said_at = now
        self.claims = 0
        self.held: _Held | None = None
        self.given_up: dict[int, tuple[bytes, float]] = {}  # claim -> call_id, and until when it is worth remembering

    @property
    def busy(self) -> bool:
        """Whether it works, for whomever, and may be silent."""
        return self.held is not None and self.held.granted_at is not None

    def due_at(self) -> float:
        """When something is to be done for it if nothing happens before."""
        instant = self.said_at + HEARTBEAT_S
        if not self.busy:
            instant = min(instant, self.heard_at + SILENCE_MAX_S)
            if self.held is not None:
                instant = min(instant, self.held.claim_again_at)
        return instant


class _Unseen(msgspec.Struct):
    """An outcome that its gateway has not said it has."""

    life: Life
    final: Final
    again_at: float
    until: float


class Neighbours:
    """All foreign workers of one broker.

    `lives` gives a new life at each call. `may_serve` says whether a user may serve a service. `body_bytes_max` bounds an answer;
    `workers_max` how many there may be; `held_bytes_max` the outcomes held until they are seen. `counts` is what was dropped, and why.
    """

    def __init__(
        self,
        *,
        lives: Callable[[], Life],
        may_serve: Callable[[str, str], bool],
        body_bytes_max: int = 8 * 1024 * 1024,
        workers_max: int = 1000,
        held_bytes_max: int = 64 * 1024 * 1024,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.held_bytes = 0
        self._lives = lives
        self._may_serve = may_serve
        self._body_bytes_max = body_bytes_max
        self._workers_max = workers_max
        self._held_bytes_max = held_bytes_max
        self._at: dict[Peer, _Neighbour] = {}
        self._of: dict[Life, _Neighbour] = {}
        self._due: Deadlines[Life] = Deadlines()
        self._unseen: dict[tuple[Life, bytes], _Unseen] = {}  # by life and call_id; the first to be said again stands first
        self._draining = False
        self._ending = False
        self._on_event: dict[type, Callable[..., list[Action]]] = {
            Heard: self._heard,
            Told: self._told,
            Unsaid: self._unsaid,
            PeerLost: self._lost,
            Tick: self._tick,
            Draining: self._drain,
            DrainTimedOut: self._drain_timed_out,
        }
        self._on_command: dict[type, Callable[..., list[Action]]] = {
            Replied: self._replied,
            Beat: self._beat,
            Offered: self._illegal,  # a second one
            Illegal: self._illegal,
        }
        self._on_message: dict[type, Callable[..., list[Action]]] = {
            Request: self._requested,
            Grant: self._granted,
            Deny: self._denied,
            Cancel: self._cancelled,
            Settled: self._settled,
            Disconnect: self._sent_away,
        }

    def handle(self, event: Event, now: float) -> list[Action]:
        """One event in, actions out."""
        return self._on_event[type(event)](event, now)

    def next_deadline(self) -> float | None:
        """The next heartbeat, claim, repeat or end of patience."""
        due = self._due.earliest()
        for unseen in self._unseen.values():
            return unseen.again_at if due is None else min(due, unseen.again_at)
        return due

    def __len__(self) -> int:
        """How many foreign workers there are."""
        return len(self._of)

    @property
    def busy(self) -> int:
        """How many of them work."""
        return sum(neighbour.busy for neighbour in self._of.values())

    # What the worker says

    def _heard(self, event: Heard, now: float) -> list[Action]:
        said = majordomo.read_worker(event.frames)
        if said is None:
            self.counts["junk"] += 1
            return []
        dialect, command = said
        neighbour = self._at.get(event.peer)
        if type(command) is Left:
            return self._leave(neighbour, now) if neighbour is not None else []
        if neighbour is None:
            return self._stranger(event, dialect, command, now)
        if neighbour.dialect != dialect:
            return self._illegal(neighbour, command, now)
        neighbour.heard_at = now
        return self._on_command[type(command)](neighbour, command, now)

    def _stranger(self, event: Heard, dialect: Dialect, command: majordomo.Command, now: float) -> list[Action]:
        """Whoever says anything but READY first is told to begin anew: it may know an earlier life of this broker."""
        why = ""
        if type(command) is not Offered:
            why = "not ready"
        elif command.service.startswith(majordomo.MANAGEMENT) or not self._may_serve(event.user, command.service):
            why = "forbidden"
        elif self._ending or len(self._of) >= self._workers_max:
            why = "full"
        if why or type(command) is not Offered:
            self.counts[why] += 1
            return [Say(event.peer, majordomo.disconnect(dialect))]
        neighbour = _Neighbour(event.peer, self._lives(), dialect, command.service, now)
        self._at[event.peer] = self._of[neighbour.life] = neighbour
        self._due.set(neighbour.life, neighbour.due_at())
        # Those that are sent away come back at once, with a new socket: while this broker drains they are better off waiting here.
        services = {} if self._draining else {command.service: 1}
        return [Enter(neighbour.life, event.user), Tell(neighbour.life, Ready(neighbour.life, services, 0))]

    def _replied(self, neighbour: _Neighbour, reply: Replied, now: float) -> list[Action]:
        held = neighbour.held
        if held is None or held.granted_at is None or reply.address != held.call_id:
            self.counts["stray"] += 1  # it answers somebody for whom it was not asked
            return self._plan(neighbour)
        held.length += len(reply.body)
        if held.length <= self._body_bytes_max:
            held.pieces += reply.body
        else:
            held.pieces.clear()
        return self._finish(neighbour, held, held.granted_at, now) if reply.last else self._plan(neighbour)

    def _finish(self, neighbour: _Neighbour, held: _Held, granted_at: float, now: float) -> list[Action]:
        """A call has one result: the bodies of PARTIALs and FINAL, one behind the other, are one JSON value."""
        outcome = self._outcome(held)
        attempt = Attempt(
            provider=neighbour.service,
            started_ms=0,
            duration_ms=round((now - granted_at) * 1000),
            reason=outcome.reason,
            executed=outcome.executed,
        )
        outcome = msgspec.structs.replace(outcome, attempts=(attempt,))
        final = Final(held.call_id, neighbour.life, held.claim, outcome)
        self._hold(_Unseen(neighbour.life, final, now + FINAL_EVERY_S, held.deadline + GIVE_UP_AFTER_S))
        neighbour.held = None
        return [
            Tell(neighbour.life, final),
            *self._plan(neighbour),
        ]  # once at least, however late: it has its credit back by that

    def _outcome(self, held: _Held) -> Outcome:
        if held.length > self._body_bytes_max:
            message = f"The worker's answer has {held.length} bytes, and may have {self._body_bytes_max}."
            return failure("response_too_large", message)
        body = bytes(held.pieces) or NULL
        try:
            check_json(body, DEPTH_MAX)
        except ValueError as error:
            return failure("response_invalid", f"The worker's answer is no JSON value: {error}.")
        return Outcome(reason="ok", executed="yes", result=body)

    def _beat(self, neighbour: _Neighbour, command: Beat, now: float) -> list[Action]:
        return self._plan(neighbour)

    def _illegal(self, neighbour: _Neighbour, command: majordomo.Command, now: float) -> list[Action]:
        self.counts["illegal"] += 1
        return self._dismiss(neighbour, now)

    # What the broker says

    def _told(self, event: Told, now: float) -> list[Action]:
        neighbour = self._of.get(event.life)
        act = self._on_message.get(type(event.message))
        return act(neighbour, event.message, now) if neighbour is not None and act is not None else []

    def _requested(self, neighbour: _Neighbour, request: Request, now: float) -> list[Action]:
        if neighbour.held is not None:
            if neighbour.held.call_id == request.call_id:
                return []
            return [Tell(neighbour.life, Reject(request.call_id, "again"))]
        neighbour.claims += 1
        deadline = now + request.remaining_ms / 1000
        again_at = now + CLAIM_EVERY_S
        neighbour.held = _Held(request.call_id, request.body, neighbour.claims, now, again_at, deadline)
        return [Tell(neighbour.life, Claim(request.call_id, neighbour.life, neighbour.claims)), *self._plan(neighbour)]

    def _granted(self, neighbour: _Neighbour, grant: Grant, now: float) -> list[Action]:
        held = neighbour.held
        if held is None or held.granted_at is not None or (held.call_id, held.claim) != (grant.call_id, grant.claim):
            if grant.claim in neighbour.given_up:
                return [Tell(neighbour.life, Release(grant.call_id, neighbour.life, grant.claim))]
            return []
        deadline = held.claimed_at + grant.remaining_ms / 1000
        held.deadline = deadline = deadline - margin_s(deadline - now)
        if now >= deadline:
            return self._give_up(neighbour, held, now)
        held.granted_at = now
        body, held.body = held.body or b"{}", b""
        neighbour.said_at = now
        return [Say(neighbour.peer, majordomo.request(neighbour.dialect, held.call_id, body), held.claim), *self._plan(neighbour)]

    def _denied(self, neighbour: _Neighbour, deny: Deny, now: float) -> list[Action]:
        held = neighbour.held
        if held is None or held.granted_at is not None or (held.call_id, held.claim) != (deny.call_id, deny.claim):
            return []
        return self._give_up(neighbour, held, now)

    def _cancelled(self, neighbour: _Neighbour, cancel: Cancel, now: float) -> list[Action]:
        held = neighbour.held
        if held is None or held.granted_at is not None or held.call_id != cancel.call_id:
            return []  # begun: it runs to its end
        return self._give_up(neighbour, held, now)

    def _give_up(self, neighbour: _Neighbour, held: _Held, now: float) -> list[Action]:
        """The worker was never sent this, and never will be under this claim."""
        neighbour.held = None
        given_up = neighbour.given_up
        while given_up and (len(given_up) >= GIVEN_UP_MAX or next(iter(given_up.values()))[1] <= now):
            del given_up[next(iter(given_up))]
        given_up[held.claim] = (held.call_id, held.deadline)
        return [Tell(neighbour.life, Release(held.call_id, neighbour.life, held.claim)), *self._plan(neighbour)]

    def _sent_away(self, neighbour: _Neighbour, message: Disconnect, now: float) -> list[Action]:
        """The broker does not know it, or will not have it."""
        return self._dismiss(neighbour, now)

    # Outcomes, held until they are seen

    def _hold(self, unseen: _Unseen) -> None:
        key = (unseen.life, unseen.final.call_id)
        self._forget(key)  # what it said under an earlier claim is of no use any more
        self._unseen[key] = unseen
        self.held_bytes += unseen.final.outcome.held_bytes
        while self.held_bytes > self._held_bytes_max:
            self._forget(next(iter(self._unseen)))

    def _forget(self, key: tuple[Life, bytes]) -> None:
        unseen = self._unseen.pop(key, None)
        if unseen is not None:
            self.held_bytes -= unseen.final.outcome.held_bytes

    def _settled(self, neighbour: _Neighbour, settled: Settled, now: float) -> list[Action]:
        for call_id in settled.call_ids:
            self._forget((neighbour.life, call_id))
        return []

    # Time and loss

    def _tick(self, event: Tick, now: float) -> list[Action]:
        actions: list[Action] = []
        for life in self._due.pop_due(now):
            actions += self._see_to(self._of[life], now)
        while self._unseen:
            key, unseen = next(iter(self._unseen.items()))
            if unseen.again_at > now:
                break
            if now >= unseen.until:
                self._forget(key)  # its gateway has settled it long since
            else:
                del self._unseen[key]
                unseen.again_at = now + FINAL_EVERY_S
                self._unseen[key] = unseen
                actions.append(Tell(unseen.life, unseen.final))
        return actions

    def _see_to(self, neighbour: _Neighbour, now: float) -> list[Action]:
        held = neighbour.held
        if not neighbour.busy and now >= neighbour.heard_at + SILENCE_MAX_S:
            self.counts["silent"] += 1
            return self._dismiss(neighbour, now)
        actions: list[Action] = []
        if held is not None and held.granted_at is None and now >= held.claim_again_at:
            if now >= held.claimed_at + GIVE_UP_AFTER_S or now >= held.deadline:
                actions += self._give_up(neighbour, held, now)
            else:
                held.claim_again_at = now + CLAIM_EVERY_S
                actions.append(Tell(neighbour.life, Claim(held.call_id, neighbour.life, held.claim)))
        if now >= neighbour.said_at + HEARTBEAT_S:
            neighbour.said_at = now
            actions.append(Say(neighbour.peer, majordomo.heartbeat(neighbour.dialect)))
        return actions + self._plan(neighbour)

    def _plan(self, neighbour: _Neighbour) -> list[Action]:
        """Nothing more to do now; when there will be."""
        self._due.set(neighbour.life, neighbour.due_at())
        return []

    def _unsaid(self, event: Unsaid, now: float) -> list[Action]:
        neighbour = self._at.get(event.peer)
        if neighbour is None:
            return []
        held = neighbour.held
        if held is not None and held.granted_at is not None:
            if held.claim != event.claim:
                return []  # a heartbeat it has no time to read
            self.counts["unsaid"] += 1
            return [*self._give_up(neighbour, held, now), *self._leave(neighbour, now)]
        return self._leave(neighbour, now)

    def _lost(self, event: PeerLost, now: float) -> list[Action]:
        neighbour = self._at.get(event.peer)
        return self._leave(neighbour, now) if neighbour is not None else []

    def _dismiss(self, neighbour: _Neighbour, now: float) -> list[Action]:
        return [Say(neighbour.peer, majordomo.disconnect(neighbour.dialect)), *self._leave(neighbour, now)]

    def _leave(self, neighbour: _Neighbour, now: float) -> list[Action]:
        """This life is over. What it had begun is lost, and the broker says so; what it has answered is said once more."""
        life, held = neighbour.life, neighbour.held
        actions = self._give_up(neighbour, held, now) if held is not None and held.granted_at is None else []
        del self._at[neighbour.peer], self._of[life]
        self._due.pop(life, None)
        for key in [key for key in self._unseen if key[0] == life]:
            actions.append(Tell(life, self._unseen[key].final))
            self._forget(key)
        return [*actions, Tell(life, Disconnect()), Leave(life)]

    def _drain(self, event: Draining, now: float) -> list[Action]:
        self._draining = True
        actions: list[Action] = []
        for neighbour in self._of.values():
            actions.append(Tell(neighbour.life, Ready(neighbour.life, {}, 0)))
            if neighbour.held is not None and neighbour.held.granted_at is None:
                actions += self._give_up(neighbour, neighbour.held, now)
        return actions

    def _drain_timed_out(self, event: DrainTimedOut, now: float) -> list[Action]:
        self._draining = self._ending = True
        actions: list[Action] = []
        for neighbour in list(self._of.values()):
            actions += self._dismiss(neighbour, now)
        return actions
