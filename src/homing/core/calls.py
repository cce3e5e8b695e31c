"""The gateway's machine: every admitted call settles exactly once, by its deadline; claims are decided here.

A call is ungranted, held by one claim, or free again after an attempt that is unknown (`keyed` and `safe` only). What is not in the
table has settled, and every claim for it is denied; that is why a settled `no` stays true whatever copies lie in some queue.
"""

from collections import Counter
from collections.abc import Callable
from functools import reduce
from typing import TypeAlias

import msgspec

from homing.core.links import FRAME_BYTES_MAX, UNLIMITED, Links
from homing.core.machine import (
    Abandoned,
    Action,
    Deadlines,
    Draining,
    DrainTimedOut,
    Event,
    Learn,
    Life,
    Peer,
    PeerFound,
    PeerLost,
    Received,
    Send,
    Settle,
    Submitted,
    Tick,
    margin_s,
    soonest,
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
    Reject,
    Release,
    Request,
    Settled,
    Workers,
)
from homing.core.reach import LEARNING, Pace, Reach
from homing.errors import STRENGTH, Effect, Outcome, Verdict, executed_of, failure, join, retry_of

SETTLED_AFTER_S = 0.005  # outcomes that came within it are said to be settled together
SETTLED_LENGTH_MAX = 1000  # in one message

ClaimId: TypeAlias = tuple[Life, int]


class _Ending(msgspec.Struct, gc=False):
    """How a claim ended that no longer holds the call, as far as is known, and when it was granted."""

    outcome: Outcome
    granted_at: float


class _Call(msgspec.Struct, gc=False):
    """What the gateway knows of one admitted call. `endings` are those of claims that no longer hold it, oldest first."""

    asked: Submitted
    admitted_at: float
    granted_at: float
    broker: Peer | None = None
    holder: ClaimId | None = None
    endings: dict[ClaimId, _Ending] | None = None
    abandoned: bool = False
    lost: bool = False  # a broker has lost the holder, and another one still reaches it
    without: tuple[Peer, ...] = ()  # brokers that have no worker for it

    def joined(self, latest: Outcome | None = None) -> Outcome:
        """The endings and the latest outcome, said together. One of them there must be."""
        if latest is not None and not self.endings:
            return latest
        outcomes = [ending.outcome for ending in (self.endings or {}).values()]
        if latest is not None:
            outcomes.append(latest)
        return reduce(lambda earlier, later: join(earlier, later, self.asked.effect), outcomes)

    def grant(self) -> Grant:
        """The holder's, the same each time it is said."""
        assert self.holder is not None
        life, claim = self.holder
        return Grant(self.asked.call_id, life, claim, round((self.asked.deadline - self.granted_at) * 1000))

    def tried(self) -> int:
        """How many attempts the endings make; one where the worker is gone and could not say."""
        return sum(max(1, len(ending.outcome.attempts)) for ending in (self.endings or {}).values())


class Calls:
    """Events: Submitted, Abandoned, Received, PeerFound, PeerLost, Tick, Draining, DrainTimedOut. Actions: Send, Settle.

    `life` is this gateway's; the first 8 bytes of each call_id are its head. `heartbeat_s` 0 is for an engine that never loses.
    `counts` says how often what was refused.
    """

    def __init__(self, life: Life, *, heartbeat_s: float = 0.0, frame_bytes_max: int = FRAME_BYTES_MAX) -> None:
        self.life = life
        self.counts: Counter[str] = Counter()
        self._calls: dict[bytes, _Call] = {}
        self._deadlines: Deadlines[bytes] = Deadlines()
        self._links = Links(life, heartbeat_s, frame_bytes_max)
        self._counting = heartbeat_s > 0
        self._brokers: dict[Peer, int] = {}  # those to be had, and how many unsettled calls each was given last
        self._frame_bytes_max = UNLIMITED  # of the broker that reads the smallest
        self._reach = Reach()
        self._untaught = False  # what workers offer is not what the shell has learnt
        self._pace = Pace(LEARNING)
        self._seen: dict[tuple[Peer, Life], list[bytes]] = {}  # outcomes that workers need hold no longer
        self._seen_at: float | None = None  # when they are told
        self._missing: dict[Life, None] = {}  # lives that a broker has lost, and another one still reaches
        self._draining = False
        self._on_event: dict[type, Callable[..., list[Action]]] = {
            Submitted: self._submitted,
            Abandoned: self._abandoned,
            Tick: self._tick,
            PeerFound: self._peer_found,
            PeerLost: self._peer_lost,
            Draining: self._drain,
            DrainTimedOut: self._drain_timed_out,
        }
        self._on_message: dict[type, Callable[..., list[Action]]] = {
            Claim: self._claimed,
            Final: self._finished,
            Release: self._released,
            Reject: self._rejected,
            Lost: self._lost,
            Heartbeat: self._heartbeat,
            Disconnect: self._asked_who,
            Workers: self._told,
        }

    def handle(self, event: Event, now: float) -> list[Action]:
        """One event in, actions out. Events that are not a gateway's are answered with nothing."""
        if type(event) is Received:
            message = event.message
            if self._counting:
                self._links.count_received(event.peer, message)
            act = self._on_message.get(type(message))
            actions = act(event.peer, message, now) if act is not None else []
        else:
            act = self._on_event.get(type(event))
            actions = act(event, now) if act is not None else []
        if self._counting:
            self._links.count_sent(actions)
        return actions

    def next_deadline(self) -> float | None:
        """The earliest deadline of a call, or the next heartbeat."""
        reach_at = soonest(self._reach.next_deadline(), self._pace.at)
        return soonest(self._deadlines.earliest(), self._links.next_deadline(), reach_at, self._seen_at)

    def __len__(self) -> int:
        """How many calls have not settled."""
        return len(self._calls)

    @property
    def granted(self) -> int:
        """How many calls are held by a claim."""
        return sum(call.holder is not None for call in self._calls.values())

    # A call's life

    def _submitted(self, event: Submitted, now: float) -> list[Action]:
        if event.call_id in self._calls:  # the id is ours and random: a second one is a fault of the shell, not a second call
            return []
        call = _Call(event, now, now)
        self._calls[event.call_id] = call
        if self._draining:
            return self._settle(call, failure("draining", "This gateway is going away; another one will take the call."), now)
        if event.deadline <= now:
            return self._settle(call, self._too_late(call), now)
        self._deadlines.set(event.call_id, event.deadline)
        return self._resubmit(call, now)

    def _resubmit(self, call: _Call, now: float) -> list[Action]:
        """Give a broker a copy. Harmless at any time: a broker holds a call_id once, and the claim decides.

        With no more than the margin left a worker would release it at once, and in one process there is no end to that.
        """
        remaining_ms = round((call.asked.deadline - now) * 1000)
        if remaining_ms / 1000 <= margin_s(remaining_ms / 1000):
            return []
        asked, brokers = call.asked, self._brokers
        if call.without:
            brokers = {peer: given for peer, given in brokers.items() if peer not in call.without} or brokers
        if len(asked.body) > self._frame_bytes_max:
            brokers = {peer: given for peer, given in brokers.items() if self._links.reads(peer) >= len(asked.body)}
            if not brokers:
                return self._settle(call, call.joined(self._too_large(len(asked.body))), now)
        broker = call.broker
        if broker is None or broker not in brokers:
            self._leave_broker(call)
            if not brokers:
                call.broker = None
                return []
            broker = call.broker = min(brokers, key=brokers.__getitem__)
            self._brokers[broker] += 1
        attempts = 0
        executed: Verdict = "no"
        if call.endings:
            attempts = call.tried()
            executed = max((ending.outcome.executed for ending in call.endings.values()), key=STRENGTH.__getitem__)
        request = Request(
            asked.call_id,
            asked.service,
            asked.method,
            remaining_ms,
            asked.effect,
            asked.principal,
            asked.key,
            attempts,
            executed,
            asked.trace,
            asked.body,
        )
        return [Send(broker, request)]

    def _too_large(self, length: int) -> Outcome:
        self.counts["request_too_large"] += 1
        message = f"The params have {length} bytes, and no broker reads more than {max(map(self._links.reads, self._brokers))}."
        return failure("too_large", message, limit="broker.frame_bytes_max")

    def _claimed(self, peer: Peer, claim: Claim, now: float) -> list[Action]:
        call_id, who = claim.call_id, (claim.life, claim.claim)
        call = self._calls.get(call_id)
        if call is not None and call.asked.deadline > now:
            if call.endings and call.holder is None and _key_expires_ms(call.asked, call.admitted_at, now) == 0:
                return [Send(peer, Deny(call_id, *who)), *self._settle(call, call.joined(), now)]  # it would be done twice
            if call.holder is None and not (call.endings and who in call.endings):
                call.holder = who  # one whose ending is on record may have done something: it must not begin afresh
                call.granted_at = now
                call.lost = False
            if call.holder == who:
                return [Send(peer, call.grant())]
        denied: list[Action] = [Send(peer, Deny(call_id, claim.life, claim.claim))]
        if call is not None and call.asked.deadline <= now:
            denied += self._settle(call, self._too_late(call), now)
        return denied

    def _finished(self, peer: Peer, final: Final, now: float) -> list[Action]:
        actions = self._see(peer, final, now)
        call = self._calls.get(final.call_id)
        if call is None:
            return actions
        who = (final.life, final.claim)
        if call.holder == who:
            outcome = _heard(final.outcome, call.asked.effect, call.granted_at - call.admitted_at)
            return actions + self._settle(call, call.joined(outcome), now)
        early = call.endings.get(who) if call.endings else None
        if early is None:
            return actions  # never granted: nothing it says can be believed
        early.outcome = _heard(final.outcome, call.asked.effect, early.granted_at - call.admitted_at)
        if call.holder is not None and early.outcome.reason != "ok":
            return actions  # declared lost too early, and another runs: an error settles nothing yet
        return actions + self._settle(call, call.joined(), now)  # the copy that lies in a queue will be denied

    def _see(self, peer: Peer, final: Final, now: float) -> list[Action]:
        """Its worker need hold this outcome no longer. Between processes that is told of several at once: nobody waits for it."""
        if not self._counting or self._draining:
            return [Send(peer, Settled(final.life, (final.call_id,)))]
        if self._seen_at is None:
            self._seen_at = now + SETTLED_AFTER_S
        seen = self._seen.setdefault((peer, final.life), [])
        seen.append(final.call_id)
        return self._tell_seen() if len(seen) == SETTLED_LENGTH_MAX else []

    def _tell_seen(self) -> list[Action]:
        actions: list[Action] = [Send(peer, Settled(life, tuple(seen))) for (peer, life), seen in self._seen.items()]
        self._seen.clear()
        self._seen_at = None
        return actions

    def _released(self, peer: Peer, release: Release, now: float) -> list[Action]:
        call = self._calls.get(release.call_id)
        if call is None:
            return []
        who = (release.life, release.claim)
        if call.holder == who:
            call.holder = None
        if call.endings:
            call.endings.pop(who, None)  # never began: that claim is proven no after all
        if call.holder is not None:
            return []
        if call.abandoned:
            return self._settle(call, call.joined(failure("cancelled", "The caller hung up.", executed="no")), now)
        return self._resubmit(call, now)

    def _rejected(self, peer: Peer, reject: Reject, now: float) -> list[Action]:
        call = self._calls.get(reject.call_id)
        if call is None or call.holder is not None or call.broker != peer or reject.kind != "refused":
            return []
        if reject.reason == "no_worker":
            call.without += (peer,)
            if not self._brokers.keys() <= set(call.without):
                return self._resubmit(call, now)  # there may be one at another
        said = failure(
            reject.reason,
            reject.message,
            executed="no",
            retry_after_ms=reject.retry_after_ms,
            limit=reject.limit,
        )
        return self._settle(call, call.joined(said), now, rejected=True)

    def _lost(self, peer: Peer, lost: Lost, now: float) -> list[Action]:
        seen: Action = Send(peer, LostSeen(lost.call_id, lost.life, lost.claim))
        call = self._calls.get(lost.call_id)
        if call is None or call.holder is None or call.holder[0] != lost.life or lost.claim not in (call.holder[1], 0):
            return [seen]  # 0 is every claim of that life: a broker that has started anew does not know which
        if self._reach.reaches(lost.life, but=peer):
            call.lost = True  # it counts once nobody reaches that life any more
            self._missing[lost.life] = None
            return [seen]
        return [seen, *self._lose(call, call.holder, now)]

    def _lose(self, call: _Call, holder: ClaimId, now: float) -> list[Action]:
        """The life that holds the call is gone."""
        call.holder = None
        outcome = failure("worker_lost", "The worker died while it held the call.")
        asked = call.asked
        last = call.abandoned or call.tried() + 1 >= asked.attempts_max or _key_expires_ms(asked, call.admitted_at, now) == 0
        if asked.effect == "once" or last:
            return self._settle(call, call.joined(outcome), now)
        if call.endings is None:
            call.endings = {}
        call.endings[holder] = _Ending(outcome, call.granted_at)
        return self._resubmit(call, now)

    def _reach_changed(self, learnt: bool, now: float) -> list[Action]:
        """Whom brokers reach is not what it was: losses that were told before may count now."""
        self._untaught = self._untaught or learnt
        actions = self._teach(now)
        gone = {life for life in self._missing if not self._reach.reaches(life)}
        if gone:
            for life in gone:
                del self._missing[life]
            for call in list(self._calls.values()):
                if call.lost and call.holder is not None and call.holder[0] in gone:
                    actions += self._lose(call, call.holder, now)
        return actions

    def _teach(self, now: float) -> list[Action]:
        """The shell learns what has changed: at once, but if that were too often, a little later."""
        if not self._untaught or not self._pace.due(now):
            return []
        self._untaught = False
        return [Learn(self._reach.methods)]

    def _abandoned(self, event: Abandoned, now: float) -> list[Action]:
        call = self._calls.get(event.call_id)
        if call is None or call.abandoned:
            return []
        call.abandoned = True
        if call.holder is not None:
            return []  # begun: it runs to its end
        return self._settle(call, call.joined(failure("cancelled", "The caller hung up.", executed="no")), now)

    def _too_late(self, call: _Call) -> Outcome:
        if not self._brokers:
            executed: Verdict = "no" if call.holder is None else "unknown"
            return call.joined(failure("broker_lost", "No broker was to be had until the deadline.", executed=executed))
        if call.holder is None:
            return call.joined(failure("expired", "The deadline passed before a worker could begin."))
        return call.joined(failure("deadline_exceeded", "The deadline passed while the provider was being asked."))

    def _settle(self, call: _Call, outcome: Outcome, now: float, *, rejected: bool = False) -> list[Action]:
        """The one way out of the table."""
        asked = call.asked
        del self._calls[asked.call_id]
        self._deadlines.pop(asked.call_id, None)
        actions: list[Action] = []
        if call.holder is None and call.broker is not None and not rejected:
            actions.append(Send(call.broker, Cancel(asked.call_id)))
        if outcome.reason != "ok":
            expires_ms = _key_expires_ms(asked, call.admitted_at, now)
            outcome = msgspec.structs.replace(
                outcome,
                retry=retry_of(outcome.reason, outcome.executed, "once" if expires_ms == 0 else asked.effect),
                timeout_ms=asked.timeout_ms,
                idempotency_key=asked.caller_key if asked.effect == "keyed" else None,
                key_expires_ms=expires_ms,
            )
        self._leave_broker(call)
        actions.append(Settle(asked.call_id, outcome))
        return actions

    # The rest of the world

    def _tick(self, event: Tick, now: float) -> list[Action]:
        actions: list[Action] = []
        for call_id in self._deadlines.pop_due(now):
            call = self._calls[call_id]
            actions += self._settle(call, self._too_late(call), now)
        if self._seen_at is not None and self._seen_at <= now:
            actions += self._tell_seen()
        self._untaught = self._reach.forget_due(now) or self._untaught
        actions += self._teach(now)
        for peer in self._links.introductions_due(now):
            actions += self._introduce(peer, now)
        actions += [self._links.beat(peer) for peer in self._links.beats_due(now)]
        return actions

    def _peer_found(self, event: PeerFound, now: float) -> list[Action]:
        """Where messages are counted, a broker is to be had once it has said who it is and how large a frame it reads."""
        self._links.open(event.peer, now)
        if not self._counting:
            self._brokers.setdefault(event.peer, 0)
        return self._introduce(event.peer, now)

    def _peer_lost(self, event: PeerLost, now: float) -> list[Action]:
        self._brokers.pop(event.peer, None)
        self._links.close(event.peer)
        self._seen = {by: seen for by, seen in self._seen.items() if by[0] != event.peer}  # who does not know says it again
        self._frame_bytes_max = min(map(self._links.reads, self._brokers), default=UNLIMITED)
        for call in self._calls.values():
            if call.broker == event.peer:
                call.broker = None  # it may come back, and has been given nothing then
        return self._resubmit_all(event.peer, now) + self._reach_changed(self._reach.lost(event.peer, now), now)

    def _told(self, peer: Peer, workers: Workers, now: float) -> list[Action]:
        if peer not in self._links.peers:
            return []  # nobody would forget it
        return self._reach_changed(self._reach.told(peer, workers, now), now)

    def _heartbeat(self, peer: Peer, beat: Heartbeat, now: float) -> list[Action]:
        heard = self._links.heard(peer, beat)
        found = peer in self._links.peers and peer not in self._brokers
        if found:
            self._brokers[peer] = 0
        self._frame_bytes_max = min(map(self._links.reads, self._brokers), default=UNLIMITED)
        actions: list[Action] = [self._hello(peer)] if heard.stranger or heard.asks else []
        if found or heard.stranger or heard.gap:
            actions += self._resubmit_all(peer, now)
        if found:
            actions += self._grant_again(peer)
        return actions

    def _hello(self, peer: Peer) -> Send:
        return Send(peer, Hello(self.life, self._links.life_of(peer), self._links.frame_bytes_max))

    def _asked_who(self, peer: Peer, message: Disconnect, now: float) -> list[Action]:
        return self._introduce(peer, now) if self._links.introduces(peer, now) else []

    def _introduce(self, peer: Peer, now: float) -> list[Action]:
        return [self._hello(peer), *self._resubmit_all(peer, now)]

    def _resubmit_all(self, peer: Peer, now: float) -> list[Action]:
        """Everything ungranted that this broker had, or that no broker has."""
        actions: list[Action] = []
        for call in list(self._calls.values()):
            if call.holder is None and call.broker in (peer, None):
                actions += self._resubmit(call, now)
        return actions

    def _grant_again(self, peer: Peer) -> list[Action]:
        """Grants that may have gone with a connection: to one whose worker has given up meanwhile, it says the release again."""
        return [Send(peer, call.grant()) for call in self._calls.values() if call.holder is not None and call.broker is None]

    def _leave_broker(self, call: _Call) -> None:
        if call.broker is not None and call.broker in self._brokers:
            self._brokers[call.broker] -= 1

    def _drain(self, event: Draining, now: float) -> list[Action]:
        self._draining = True
        return self._tell_seen()

    def _drain_timed_out(self, event: DrainTimedOut, now: float) -> list[Action]:
        actions: list[Action] = []
        for call in list(self._calls.values()):
            if call.holder is None:
                said = failure("draining", "The gateway stopped before a worker could begin.")
            else:
                said = failure("cancelled", "The gateway stopped while the provider was being asked.")
            actions += self._settle(call, call.joined(said), now)
        return actions


def _heard(outcome: Outcome, effect: Effect, granted_s: float) -> Outcome:
    """A worker's outcome, held against its own attempts, which count from admission now and not from its grant `granted_s` later.

    Anybody may write a worker. One that says `no` of a call and `unknown` of an attempt at it has proven nothing.
    """
    if not outcome.attempts:
        return outcome
    executed = executed_of(outcome, effect)
    offset_ms = round(granted_s * 1000)
    if not offset_ms and executed == outcome.executed:
        return outcome
    shifted = tuple(msgspec.structs.replace(attempt, started_ms=attempt.started_ms + offset_ms) for attempt in outcome.attempts)
    return msgspec.structs.replace(outcome, attempts=shifted, executed=executed)


def _key_expires_ms(asked: Submitted, admitted_at: float, now: float) -> int | None:
    """How long the provider still knows a keyed call again, at the least; then one more request would be one more charge."""
    if asked.effect != "keyed" or asked.key_lifetime_s is None:
        return None
    return max(0, int((asked.key_lifetime_s - (now - admitted_at)) * 1000))
