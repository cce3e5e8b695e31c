"""The machines with one rule broken each, to see that the checks can fail."""

from typing import Any

import msgspec

from homing.core.broker import Broker, BrokerLimits
from homing.core.calls import Calls
from homing.core.holding import Held
from homing.core.links import UNLIMITED
from homing.core.losses import Losses
from homing.core.machine import Action, Finished, Peer, Send, Settle, Start, Tick
from homing.core.messages import Claim, Deny, Final, Grant, Lost, Message, Ready, Reject, Release, Request, Settled, Workers
from homing.core.queues import Copy, Offering
from homing.core.roster import Roster
from homing.core.worker import Worker
from homing.errors import Outcome

# Gateways


class GrantsToAll(Calls):
    """Every claim is granted."""

    def _claimed(self, peer: Peer, claim: Claim, now: float) -> list[Action]:
        call = self._calls.get(claim.call_id)
        if call is not None:
            call.holder = None
        return super()._claimed(peer, claim, now)


class AnyReleaseFrees(Calls):
    """A release frees a call whoever holds it."""

    def _released(self, peer: Peer, release: Release, now: float) -> list[Action]:
        call = self._calls.get(release.call_id)
        if call is not None:
            call.holder = None
        return super()._released(peer, release, now)


class RejectSettlesTheClaimed(Calls):
    """A reject settles a call though a worker may have begun it, whichever broker says so."""

    def _rejected(self, peer: Peer, reject: Reject, now: float) -> list[Action]:
        call = self._calls.get(reject.call_id)
        if call is not None:
            call.holder, call.broker = None, peer
        return super()._rejected(peer, reject, now)


class LossFrees(Calls):
    """A lost worker's call is taken for one that was never begun."""

    def _lost(self, peer: Peer, lost: Lost, now: float) -> list[Action]:
        return self._released(peer, Release(lost.call_id, lost.life, lost.claim), now)


class LossOfAllFrees(Calls):
    """A worker that is lost with all its claims is taken for one that never begun any."""

    def _lost(self, peer: Peer, lost: Lost, now: float) -> list[Action]:
        call = self._calls.get(lost.call_id)
        if lost.claim == 0 and call is not None and call.holder is not None and call.holder[0] == lost.life:
            return self._released(peer, Release(lost.call_id, *call.holder), now)
        return super()._lost(peer, lost, now)


class DeadlineProvesNo(Calls):
    """What ends at its deadline is said to have never begun."""

    def _tick(self, event: Tick, now: float) -> list[Action]:
        for call in self._calls.values():
            call.holder = None
        return super()._tick(event, now)


class SettlesTwice(Calls):
    """An answer is given twice."""

    def _finished(self, peer: Peer, final: Final, now: float) -> list[Action]:
        actions = super()._finished(peer, final, now)
        return actions + [action for action in actions if isinstance(action, Settle)]


class ForgetsTheTime(Calls):
    """Deadlines are never looked at."""

    def next_deadline(self) -> float | None:
        return self._links.next_deadline()


class AnswersTheWrongCaller(Calls):
    """A result goes to another call that waits for one."""

    def _finished(self, peer: Peer, final: Final, now: float) -> list[Action]:
        for call_id, call in self._calls.items():
            if call.holder is not None and call_id != final.call_id:
                return super()._finished(peer, Final(call_id, *call.holder, final.outcome), now)
        return super()._finished(peer, final, now)


class NeverForgets(Calls):
    """The table keeps what has settled."""

    def __len__(self) -> int:
        return 1


class NeverLearns(Calls):
    """What brokers say of their workers is not heard."""

    def _told(self, peer: Peer, workers: Workers, now: float) -> list[Action]:
        return []


# Brokers


class IgnoresCredit(Broker):
    """Whoever offers a service gets all there is."""

    def _ready(self, peer: Peer, ready: Ready, now: float) -> list[Action]:
        services = dict.fromkeys(ready.services, 10_000)
        return super()._ready(peer, msgspec.structs.replace(ready, services=services), now)


class QueuesWithoutEnd(Broker):
    """Nothing is refused."""

    def _requested(self, peer: Peer, request: Request, now: float) -> list[Action]:
        limits, self.limits = self.limits, BrokerLimits(queue_length_max=1_000_000)
        actions = super()._requested(peer, request, now)
        self.limits = limits
        return actions


class NeverForgives(Broker):
    """A worker that was lost once is not heard again, though it lives."""

    def _lose_worker(self, worker: Offering, now: float) -> list[Action]:
        self.lost = {*getattr(self, "lost", ()), worker.life}
        return super()._lose_worker(worker, now)

    def _ready(self, peer: Peer, ready: Ready, now: float) -> list[Action]:
        return [] if ready.life in getattr(self, "lost", ()) else super()._ready(peer, ready, now)


class AsksForNoKey(Broker):
    """Permits are not looked at."""

    def __init__(self, *arguments: object, **named: object) -> None:
        super().__init__(*arguments, **(named | {"permits": None}))  # type: ignore[arg-type]


class BelievesWhoeverSpeaks(Broker):
    """Whose life it is that is spoken of does not matter."""

    def _speaks(self, peer: Peer, life: bytes) -> bool:
        return life in self._workers


class _Trusting(Roster):
    """Whoever has taken the place of a gateway may know of its calls."""

    __slots__ = ()

    def owns(self, call_id: bytes, copy: Copy | None) -> bool:
        return True


class ObeysAnybody(Broker):
    """Who grants a call need not be its gateway."""

    def __init__(self, *arguments: Any, **fields: Any) -> None:
        super().__init__(*arguments, **fields)
        self._roster = _Trusting(fields.get("permits"))

    def _answered(self, peer: Peer, answer: Grant | Deny, now: float) -> list[Action]:
        worker = self._workers.get(answer.life)
        return [Send(worker.peer, answer)] if worker is not None else []


class PassesEveryClaimOn(Broker):
    """Who claims a call need not be allowed to serve it, as long as this broker does not know it."""

    def _claimed(self, peer: Peer, claim: Claim, now: float) -> list[Action]:
        return self._to_gateway(claim) if claim.call_id not in self._copies else super()._claimed(peer, claim, now)


class TellsNobodyWhoIsThere(Broker):
    """Gateways hear at the beginning whom it reaches, and never again."""

    def _tell_lives(self, now: float) -> list[Action]:
        self._news.changed = False
        return []


class KeepsLossesToItself(Broker):
    """Nobody is told that a worker is lost."""

    def _lose_worker(self, worker: Offering, now: float) -> list[Action]:
        actions = super()._lose_worker(worker, now)
        self._losses = Losses()
        return [action for action in actions if not (isinstance(action, Send) and isinstance(action.message, Lost))]


class ForgetsStrays(Broker):
    """What a worker held that another life of this broker gave it is not told to be lost."""

    def _lose_worker(self, worker: Offering, now: float) -> list[Action]:
        worker.strays.clear()
        return super()._lose_worker(worker, now)


class RemembersWhoLeft(Broker):
    """A table grows with everybody who ever came."""

    def _peer_lost(self, peer: Peer, now: float) -> list[Action]:
        self.left = [*getattr(self, "left", ()), peer]
        return super()._peer_lost(peer, now)


# Workers


class TakesCreditTwice(Worker):
    """Every broker is told all of the credit."""

    def _share(self, broker: Peer) -> dict[str, int]:
        return self._services


class SendsFramesOfAnyLength(Worker):
    """What the broker reads does not matter."""

    def _send(self, held: Held, message: Message) -> list[Action]:
        reads, link = self._links.frame_bytes_max, self._links.peers.get(held.broker)
        self._links.frame_bytes_max = 0
        if link is not None:
            link.frame_bytes_max = UNLIMITED
        actions = super()._send(held, message)
        self._links.frame_bytes_max = reads
        return actions


class TakesAnyLifesGrant(Worker):
    """A grant to an earlier life on the same seat is taken for one's own."""

    def _granted(self, peer: Peer, grant: Grant, now: float) -> list[Action]:
        return super()._granted(peer, msgspec.structs.replace(grant, life=self.life), now)


class ReleasesWhatItForgot(Worker):
    """Given-up claims are not remembered: any grant that is not expected is released."""

    def _granted(self, peer: Peer, grant: Grant, now: float) -> list[Action]:
        actions = super()._granted(peer, grant, now)
        return actions or [Send(peer, Release(grant.call_id, self.life, grant.claim))]


class BeginsAgain(Worker):
    """A claim that has begun is still pending: the grant said again begins it again."""

    def _granted(self, peer: Peer, grant: Grant, now: float) -> list[Action]:
        held = self._held.get(grant.call_id)
        if held is not None and held.phase == "running" and held.claim == grant.claim:
            return self._start(held, now)
        return super()._granted(peer, grant, now)


class TakesLostForNo(Worker):
    """A connection that broke is said to prove that nothing was done."""

    def _exchanged(self, event: Finished, now: float) -> list[Action]:
        outcome = event.outcome
        if outcome.reason == "connection_lost":
            event = msgspec.structs.replace(event, outcome=msgspec.structs.replace(outcome, executed="no"))
        return super()._exchanged(event, now)


class ClaimsAfterTheFact(Worker):
    """The exchange begins with the claim, not with the grant."""

    def _ready_to_begin(self, held: object, now: float) -> list[Action]:
        actions = super()._ready_to_begin(held, now)  # type: ignore[arg-type]
        return actions + [
            Start(
                call_id=action.message.call_id,
                number=9,
                attempt=1,
                method="acme.charge",
                provider="acme",
                effect="once",
                principal="",
                key="",
                body=b"",
                deadline=now + 1.0,
                late="deadline_exceeded",
            )
            for action in actions
            if isinstance(action, Send) and isinstance(action.message, Claim)
        ]


class SaysDoneUnasked(Worker):
    """What was refused is said to be done."""

    def _exchanged(self, event: Finished, now: float) -> list[Action]:
        if event.outcome.reason == "provider_unreachable":
            event = msgspec.structs.replace(event, outcome=Outcome(reason="response_invalid", executed="yes"))
        return super()._exchanged(event, now)


class HoldsTooMuch(Worker):
    """More is asked of a provider than it takes at once."""

    def _requested(self, peer: Peer, request: Request, now: float) -> list[Action]:
        for provider in self._providers.values():
            provider.in_flight = 0
        return super()._requested(peer, request, now)


class KeepsOutcomes(Worker):
    """An outcome is held for ever, and the broker never hears of it."""

    def _settled(self, peer: Peer, settled: Settled, now: float) -> list[Action]:
        return []

    def _say_again(self, held: object, now: float) -> list[Action]:
        self._finished[held.request.call_id] = now + 1.0  # type: ignore[attr-defined]
        return []


class Raises(Worker):
    """A machine that cannot take an event."""

    def _prepared(self, event: object, now: float) -> list[Action]:
        raise KeyError("token")


class WantsNoTime(Worker):
    """Its timer has always passed."""

    def next_deadline(self) -> float | None:
        return 0.0 if self._held else super().next_deadline()
