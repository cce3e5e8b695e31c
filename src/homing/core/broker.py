"""The broker's machine: services, queues, credit. It keeps no truth: whatever it forgets costs a pause, and no call.

Per service it is bounded, fair between principals, and gives a call only to a worker that has credit. Credit is a set, not a
counter: `call_id -> worker's life`, so a message that comes twice or late changes nothing.
"""

from collections import Counter
from collections.abc import Callable, Mapping

import msgspec

from homing.core.links import FRAME_BYTES_MAX, UNLIMITED, Links
from homing.core.losses import LOSSES_MAX, STRAY_LOST_S, Losses
from homing.core.machine import Action, Deadlines, Event, Life, Peer, PeerFound, PeerLost, Received, Send, Tick, soonest
from homing.core.messages import (
    GATEWAY_BYTES,
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
    Ready,
    Reject,
    Release,
    Request,
    Settled,
)
from homing.core.permits import Permit
from homing.core.queues import Copy, Offering, Service, service_of, weight
from homing.core.reach import News, workers_of
from homing.core.refusals import BrokerLimits, brief, fitted, forbidden, no_worker, parts, queue_full, refusal, unreadable
from homing.core.roster import Roster
from homing.core.services import Services

GONE_AFTER_S = 0.5  # a connection that blinked comes back within this
OVERDUE_AFTER_S = 2.0  # beyond its deadline: whoever still has a call says nothing that anybody waits for

__all__ = ["Broker", "BrokerLimits"]


class Broker:
    """Events: Received, PeerFound, PeerLost, Tick. Actions: Send. Everything else a broker knows, its peers tell it.

    `permits` says what each user may do, whoever is not in it may do nothing, and who has no key is user "". None: anybody anything.
    `counts` says how often what was refused.
    """

    def __init__(
        self,
        life: Life,
        limits: BrokerLimits,
        *,
        heartbeat_s: float = 0.0,
        frame_bytes_max: int = FRAME_BYTES_MAX,
        permits: Mapping[str, Permit] | None = None,
    ) -> None:
        self.life = life
        self.counts: Counter[str] = Counter()
        self._guarded = permits is not None
        self._roster = Roster(permits)
        self.limits = limits
        self.held_bytes = 0
        self._services = Services(limits.no_worker_after_s, heartbeat_s)
        self.services: Mapping[str, Service] = self._services  # that somebody offers or waits for
        self._copies: dict[bytes, Copy] = {}
        self._workers: dict[Life, Offering] = {}
        self._worker_at: dict[Peer, Offering] = {}
        self._losses = Losses()
        self._news = News()  # of whom this broker reaches, and what those offer
        self._expiry: Deadlines[bytes] = Deadlines()  # of what is queued
        self._gone: Deadlines[bytes] = Deadlines()  # lives of workers and heads of gateways whose connection is gone
        self._links = Links(life, heartbeat_s, frame_bytes_max, insists=True)
        self._counting = heartbeat_s > 0
        self._giving = False  # there is a REQUEST among the actions of this event
        self._on_message: dict[type, Callable[..., list[Action]]] = {
            Request: self._requested,
            Claim: self._claimed,
            Grant: self._answered,
            Deny: self._answered,
            Final: self._finished,
            Release: self._released,
            Reject: self._rejected,
            Settled: self._settled,
            Cancel: self._cancelled,
            Ready: self._ready,
            Hello: self._hello,
            Heartbeat: self._heartbeat,
            LostSeen: self._lost_seen,
            Disconnect: self._disconnected,
        }

    def handle(self, event: Event, now: float) -> list[Action]:
        """One event in, actions out. Events that are not a broker's are answered with nothing."""
        self._services.turn(now)
        actions: list[Action] = []
        if type(event) is Received:
            message = event.message
            if self._counting:
                if event.peer not in self._links.peers:
                    self._links.open(event.peer, now)
                self._links.count_received(event.peer, message)
            act = self._on_message.get(type(message))
            if act is not None:
                actions = act(event.peer, message, now)
        elif type(event) is Tick:
            actions = self._tick(now)
        elif type(event) is PeerLost:
            actions = self._peer_lost(event.peer, now)
        elif type(event) is PeerFound:
            self._roster.found(event.peer, event.user)
        if self._counting:
            if self._news.changed or self._news.owed:
                actions += self._tell_lives(now)
            self._links.count_sent(actions)
            if self._giving:
                self._giving = False
                for action in actions:
                    if type(action) is Send and type(action.message) is Request:
                        self._copies[action.message.call_id].order = self._links.peers[action.peer].sent
        return actions

    def next_deadline(self) -> float | None:
        """The next expiry, loss, heartbeat or end of patience."""
        tables = (self._expiry.earliest(), self._services.patience.earliest(), self._gone.earliest())
        return soonest(self._links.next_deadline(), self._losses.next_deadline(), self._news.next_deadline(), *tables)

    def __len__(self) -> int:
        """How many calls this broker knows of, queued or given to a worker."""
        return len(self._copies)

    def queued(self, service: str) -> int:
        """How many calls wait for a worker."""
        known = self._services.get(service)
        return known.length if known else 0

    def held_by(self, life: Life) -> int:
        """How many calls a worker has been given."""
        worker = self._workers.get(life)
        return sum(len(held) for held in worker.held.values()) if worker else 0

    # Gateways

    def _hello(self, peer: Peer, hello: Hello, now: float) -> list[Action]:
        if not self._roster.permit(peer).call:
            self.counts["hello_forbidden"] += 1
            return self._greet(peer, hello)  # what it asks for is refused one by one
        if not self._roster.may_enter(peer, hello.life):
            self.counts["life_taken"] += 1
            return [Send(peer, Disconnect())]
        head = hello.life[:GATEWAY_BYTES]
        too_often = self._counting and not self._news.asked(peer, now)
        if too_often and self._roster.at.get(peer, head) != head:
            return [Send(peer, Disconnect())]  # for each new life all calls are searched for those of the last one
        if (left := self._roster.enter(peer, hello.life)) is not None:
            self._forget_gateway(left)
        self._gone.pop(head, None)
        actions = self._greet(peer, hello)
        if too_often:
            return actions  # losses are said again anyway
        if self._counting:
            actions.append(self._lives_for(peer))
        return actions + [action for lost in self._losses.of(head) for action in self._to_gateway(lost)]

    def _tell_lives(self, now: float) -> list[Action]:
        """Gateways that are here learn whom this broker reaches now."""
        return [self._lives_for(peer) for peer in self._news.due(self._roster.present, now)]

    def _lives_for(self, gateway: Peer) -> Send:
        calls = self._roster.permit(gateway).calls
        workers = [worker for worker in self._workers.values() if worker.concerns(calls)]
        offers = (offer for worker in workers for offer in worker.methods if calls(offer.service))
        bytes_max = min(self._links.reads(gateway), self._links.frame_bytes_max)
        return Send(gateway, workers_of((worker.life for worker in workers), offers, bytes_max, self.counts))

    def _greet(self, peer: Peer, greeting: Hello | Ready) -> list[Action]:
        """Both sides know at once who the other is, and how large a frame it reads."""
        if not self._counting:
            return []
        self._links.greeted(peer, greeting)
        return [self._links.beat(peer)]

    def _requested(self, peer: Peer, request: Request, now: float) -> list[Action]:
        if self._guarded:
            permit = self._roster.permit(peer)
            if permit.principal and not request.principal:
                request = msgspec.structs.replace(request, principal=permit.principal)
            if (why := forbidden(request, permit)) is not None:
                self.counts["call_forbidden"] += 1
                return [Send(peer, why)]
        if self._roster.at.get(peer) != request.call_id[:GATEWAY_BYTES]:
            return [Send(peer, Disconnect())]
        if request.call_id in self._copies or request.remaining_ms <= 0:
            return []
        service = self._services[request.service]
        copy = Copy(request, now + request.remaining_ms / 1000, submitter=self._roster.life_of(request.call_id))
        worker = service.idle_worker(copy)  # if there is one, whoever waits has been refused by it
        if worker is None or self.held_bytes + weight(request) > self.limits.held_bytes_max:
            why = refusal(service, copy, self.limits, self.held_bytes, now)
            if why is not None:
                return [Send(peer, why)]
        self._copies[request.call_id] = copy
        self.held_bytes += weight(request)
        if worker is not None:
            return [self._give(copy, worker, now)]
        self._queue(service, copy, now)
        return []

    def _cancelled(self, peer: Peer, cancel: Cancel, now: float) -> list[Action]:
        copy = self._copies.get(cancel.call_id)
        if copy is None or not self._owns(peer, cancel.call_id):
            return []
        if copy.life is None:
            self._forget(copy)
            return []
        return [Send(self._workers[copy.life].peer, cancel)]

    def _answered(self, peer: Peer, answer: Grant | Deny, now: float) -> list[Action]:
        worker = self._workers.get(answer.life)
        if worker is None or not self._owns(peer, answer.call_id):
            return []
        copy = self._copies.get(answer.call_id)
        if type(answer) is Grant and self._guarded and not self._roster.permit(peer).calls(service_of(copy)):
            self.counts["grant_forbidden"] += 1  # it may have taken the place of a gateway that is gone
            return []
        if self._guarded and not self._roster.permit(worker.peer).serves(service_of(copy)):
            self.counts["answer_withheld"] += 1  # it may have taken the life of a worker that is gone, and could end the call
            return []
        if type(answer) is Grant and copy is not None and copy.life == answer.life and copy.claim in (None, answer.claim):
            copy.granted = True
        return [Send(worker.peer, answer)]

    def _settled(self, peer: Peer, settled: Settled, now: float) -> list[Action]:
        worker = self._workers.get(settled.life)
        if worker is None or not all(self._owns(peer, call_id) for call_id in settled.call_ids):
            return []
        return [Send(worker.peer, part) for part in parts(settled)]

    def _lost_seen(self, peer: Peer, seen: LostSeen, now: float) -> list[Action]:
        if self._owns(peer, seen.call_id):
            self._losses.seen(seen)
        return []

    def _owns(self, peer: Peer, call_id: bytes) -> bool:
        """Whether this peer is the gateway whose call it is: nobody decides for another."""
        if self._roster.at.get(peer) == call_id[:GATEWAY_BYTES] and self._roster.owns(call_id, self._copies.get(call_id)):
            return True
        self.counts["not_owner"] += 1
        return False

    # Workers

    def _ready(self, peer: Peer, ready: Ready, now: float) -> list[Action]:
        permit, user = self._roster.permit(peer), self._roster.user(peer)
        if not permit.serve:
            self.counts["ready_forbidden"] += 1
            return self._greet(peer, ready)
        services = {name: credit for name, credit in ready.services.items() if permit.serves(name)}
        if len(services) < len(ready.services):
            self.counts["serve_forbidden"] += len(ready.services) - len(services)
        worker = self._workers.get(ready.life)
        if worker is not None and worker.user != user:
            self.counts["life_taken"] += 1
            return [Send(peer, Disconnect())]
        actions: list[Action] = []
        before = self._worker_at.get(peer)
        if before is not None and before.life != ready.life:
            actions += self._lose_worker(before, now)
        if worker is None:
            worker = self._workers[ready.life] = Offering(ready.life, peer, user)
            self._losses.back(ready.life)
            self._news.changed = True
        elif worker.peer != peer:
            self._leave_peer(worker)
            worker.peer = peer
            self._count_anew(worker)
        self._worker_at[peer] = worker
        worker.gone = False
        worker.frame_bytes_max = ready.frame_bytes_max or UNLIMITED
        self._gone.pop(ready.life, None)
        self._services.offer(worker, services, now)
        offers = tuple(offer for offer in ready.methods if offer.service in services)
        offered = frozenset(services) or worker.offered
        if (offers, offered) != (worker.methods, worker.offered):
            worker.methods, worker.offered = offers, offered
            self._news.changed = True
        return actions + self._greet(peer, ready) + self._dispatch_to(worker.life, now)

    def _claimed(self, peer: Peer, claim: Claim, now: float) -> list[Action]:
        if not self._speaks(peer, claim.life):
            return [Send(peer, Disconnect())]
        copy = self._copies.get(claim.call_id)
        if self._guarded and not self._roster.may_claim(peer, claim.call_id, copy):
            self.counts["claim_forbidden"] += 1
            return []
        if copy is not None and copy.life == claim.life and (copy.claim is None or claim.claim > copy.claim):
            copy.claim = claim.claim
        return self._to_gateway(claim)

    def _finished(self, peer: Peer, final: Final, now: float) -> list[Action]:
        if not self._speaks(peer, final.life):
            return [Send(peer, Disconnect())]
        actions = self._to_gateway(final)
        copy = self._take_back(final.call_id, final.life, final.claim)
        if copy is None:
            return actions + self._dispatch_to(final.life, now)
        service = self._services[copy.request.service]
        if copy.given_at >= self._services.awake_since:  # else the time was this broker's own
            service.measured(now - copy.given_at)
        self._forget(copy)
        if service.length:
            actions += self._dispatch(service, now)
        return actions

    def _released(self, peer: Peer, release: Release, now: float) -> list[Action]:
        if not self._speaks(peer, release.life):
            return [Send(peer, Disconnect())]
        actions = self._to_gateway(release)
        copy = self._take_back(release.call_id, release.life, release.claim)
        if copy is None:
            return actions + self._dispatch_to(release.life, now)
        self._forget(copy)
        return actions + self._dispatch(self._services[copy.request.service], now)

    def _rejected(self, peer: Peer, reject: Reject, now: float) -> list[Action]:
        worker = self._worker_at.get(peer)
        if worker is None:
            return [Send(peer, Disconnect())]
        copy = self._take_back(reject.call_id, worker.life, None)
        if copy is None:
            return self._dispatch_to(worker.life, now)
        service = self._services[copy.request.service]
        if reject.kind == "drop":
            self._forget(copy)
            return self._dispatch(service, now)
        copy.refused_by |= {worker.life}
        others = reject.reason == "method_not_found" and service.workers.keys() - copy.refused_by  # they may know it
        if reject.kind == "refused" and not others and service.idle_worker(copy) is None:
            self._forget(copy)
            return [*self._to_gateway(brief(reject)), *self._dispatch(service, now)]
        return self._requeue(copy, now)

    def _heartbeat(self, peer: Peer, beat: Heartbeat, now: float) -> list[Action]:
        heard = self._links.heard(peer, beat)
        worker = self._worker_at.get(peer)
        if (worker is None and peer not in self._roster.at) or (worker is not None and worker.life != beat.life):
            return [Send(peer, Disconnect())]
        actions: list[Action] = []
        if worker is not None and beat.in_flight is not None:
            listed, given = set(beat.in_flight), worker.given()
            worker.strays = listed.difference(given)
            for call_id in given:
                copy = self._copies[call_id]
                if call_id not in listed and copy.order <= beat.received:
                    self._free(copy, worker)
                    actions += self._requeue(copy, now)
            actions += self._dispatch_to(worker.life, now)
        if heard.gap or heard.stranger:
            actions.append(self._links.beat(peer))
            if peer in self._roster.at and self._counting and self._news.asked(peer, now):
                actions.append(self._lives_for(peer))
        return actions

    def _disconnected(self, peer: Peer, message: Disconnect, now: float) -> list[Action]:
        worker = self._worker_at.get(peer)
        return self._lose_worker(worker, now) if worker is not None else []

    def _speaks(self, peer: Peer, life: Life) -> bool:
        """Whether this peer is the worker of that life: nobody answers for another."""
        worker = self._worker_at.get(peer)
        return worker is not None and worker.life == life

    def _to_gateway(self, message: Claim | Final | Release | Reject | Lost) -> list[Action]:
        gateway = self._roster.gateway_of(message.call_id)
        if gateway is None:
            return []
        if type(message) is not Reject and not self._roster.owns(message.call_id, self._copies.get(message.call_id)):
            self.counts["not_owner"] += 1
            return []
        return [Send(gateway, fitted(message, self._links.reads(gateway)) if type(message) is Final else message)]

    # Queues and credit

    def _give(self, copy: Copy, worker: Offering, now: float) -> Send:
        self._giving = True
        request = copy.request
        remaining_ms = round((copy.deadline - now) * 1000)
        if remaining_ms != request.remaining_ms:
            request = copy.request = msgspec.structs.replace(request, remaining_ms=remaining_ms)
        copy.life, copy.given_at, copy.claim, copy.granted = worker.life, now, None, False
        worker.held.setdefault(request.service, set()).add(request.call_id)
        return Send(worker.peer, request)

    def _take_back(self, call_id: bytes, life: Life, claim: int | None) -> Copy | None:
        """Free the credit this call takes of this life, if it does. What is said of another claim than its present one comes late."""
        copy = self._copies.get(call_id)
        worker = self._workers[life]
        if copy is None or copy.life != life:
            worker.strays.discard(call_id)
            return None
        if copy.claim is not None and copy.claim != claim:
            return None
        self._free(copy, worker)
        return copy

    def _free(self, copy: Copy, worker: Offering) -> None:
        worker.held[copy.request.service].discard(copy.request.call_id)
        copy.life = None

    def _queue(self, service: Service, copy: Copy, now: float, *, first: bool = False) -> None:
        service.push(copy, first=first)
        self._expiry.set(copy.request.call_id, copy.deadline)

    def _requeue(self, copy: Copy, now: float) -> list[Action]:
        service = self._services[copy.request.service]
        if self._roster.gateway_of(copy.request.call_id) is None:
            self._forget(copy)
            return self._dispatch(service, now)
        actions: list[Action] = []
        if service.length >= self.limits.queue_length_max and service.idle_worker(copy) is None:
            actions = self._dispatch(service, now)  # whoever had it may take another, and then there is room
            if service.length >= self.limits.queue_length_max:
                self._forget(copy)
                return actions + self._to_gateway(queue_full(copy.request.call_id, service))
        self._queue(service, copy, now, first=True)
        return actions + self._dispatch(service, now)

    def _dispatch(self, service: Service, now: float) -> list[Action]:
        """Give out what can be given, a call of each principal in turn."""
        actions: list[Action] = []
        while service.length and (turn := service.next_turn()) is not None:
            copy, worker = turn
            self._expiry.pop(copy.request.call_id, None)
            if worker is not None and copy.deadline > now:
                actions.append(self._give(copy, worker, now))
                continue
            self._forget(copy)
            if worker is None:
                actions += self._to_gateway(unreadable(copy.request.call_id, service))
        return actions

    def _dispatch_to(self, life: Life, now: float) -> list[Action]:
        """Give out what this worker may now take."""
        actions: list[Action] = []
        for name in self._workers[life].services if self._expiry else ():
            service = self._services[name]
            if service.length:
                actions += self._dispatch(service, now)
        return actions

    def _forget(self, copy: Copy) -> None:
        """This broker no longer knows the call."""
        request = copy.request
        if request.call_id in self._expiry:
            self._expiry.pop(request.call_id, None)
            self._services[request.service].remove(copy)
        del self._copies[request.call_id]
        self.held_bytes -= weight(request)

    # Time and loss

    def _tick(self, now: float) -> list[Action]:
        actions: list[Action] = []
        for call_id in self._expiry.pop_due(now):  # the gateway that owns it settles it by itself
            copy = self._copies[call_id]
            self._services[copy.request.service].remove(copy)
            self._forget(copy)
        for service in self._services.due(now):
            for copy in [copy for line in service.lines.values() for copy in line.values()]:
                self._expiry.pop(copy.request.call_id)
                self._forget(copy)
                actions += self._to_gateway(no_worker(copy.request.call_id, service, self.limits))
        for life in self._gone.pop_due(now):
            worker = self._workers.get(life)
            if worker is not None:
                actions += self._lose_worker(worker, now)
            else:
                self._forget_gateway(life)
        for lost in self._losses.due(now):
            actions += self._to_gateway(lost)
        beats = self._links.beats_due(now)
        if beats:
            self._forget_overdue(now)
        return actions + [self._links.beat(peer) for peer in beats]

    def _forget_overdue(self, now: float) -> None:
        """What a worker was given and has said nothing of is not held for ever. Its credit stays taken until the worker speaks."""
        for worker in self._workers.values():
            for call_id in worker.given():
                copy = self._copies[call_id]
                if copy.deadline + OVERDUE_AFTER_S <= now:
                    self._free(copy, worker)
                    self._forget(copy)
                    worker.strays.add(call_id)

    def _peer_lost(self, peer: Peer, now: float) -> list[Action]:
        self._links.close(peer)
        self._news.left(peer)
        worker = self._worker_at.pop(peer, None)
        if worker is not None:
            worker.gone = True
            self._gone.set(worker.life, now + GONE_AFTER_S)
            self._count_anew(worker)
        if (head := self._roster.lost(peer)) is not None:
            self._gone.set(head, now + GONE_AFTER_S)
        return []

    def _leave_peer(self, worker: Offering) -> None:
        """Another life may be there already."""
        if self._worker_at.get(worker.peer) is worker:
            del self._worker_at[worker.peer]

    def _count_anew(self, worker: Offering) -> None:
        """Its new link begins at nothing: what it does not list when it is back, it has not got."""
        for call_id in worker.given():
            self._copies[call_id].order = 0

    def _lose_worker(self, worker: Offering, now: float) -> list[Action]:
        """This life will not come back: what it had begun is said to be lost, and all it held is given out again."""
        actions: list[Action] = []
        self._leave_peer(worker)
        self._gone.pop(worker.life, None)
        self._services.offer(worker, {}, now)
        del self._workers[worker.life]
        self._news.changed = True
        for call_id in sorted(worker.strays)[:LOSSES_MAX]:  # under which claims, only earlier lives of this broker knew
            actions += self._to_gateway(self._losses.add(call_id, worker.life, 0, now + STRAY_LOST_S, now))
        for call_id in worker.given():
            copy = self._copies[call_id]
            if copy.claim is not None:
                actions += self._to_gateway(self._losses.add(call_id, worker.life, copy.claim, copy.deadline, now))
            if copy.granted:
                copy.request = msgspec.structs.replace(copy.request, attempts=copy.request.attempts + 1, executed="unknown")
            copy.life = None
            if copy.deadline > now:
                actions += self._requeue(copy, now)
            else:
                self._forget(copy)
        return actions

    def _forget_gateway(self, head: bytes) -> None:
        """Its callers are gone with it: what is queued for them is dropped, what runs runs to its end."""
        self._roster.forget(head)
        for call_id, copy in list(self._copies.items()):
            if call_id[:GATEWAY_BYTES] == head and copy.life is None:
                self._forget(copy)
