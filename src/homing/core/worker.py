"""The worker's machine: has everything in hand, claims, asks the provider, retries, looks up, and holds the outcome until it is seen.

Slot, rate token, breaker and access token come before the claim, so that a grant is followed by the request at once. Until the grant
nothing of a call has happened; from the grant on it ends in exactly one FINAL.
"""

from collections import Counter
from collections.abc import Callable, Mapping

import msgspec

from homing.core.holding import Asked, Held, MethodPolicy, ProviderPolicy, due, frame_bytes, next_broker, too_large
from homing.core.links import FRAME_BYTES_MAX, Links
from homing.core.machine import (
    Action,
    Deadlines,
    Draining,
    DrainTimedOut,
    Event,
    Finished,
    Life,
    Peer,
    PeerFound,
    PeerLost,
    Prepare,
    Prepared,
    Received,
    Send,
    Stop,
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
    Message,
    MethodOffer,
    Ready,
    Reject,
    Release,
    Request,
    Settled,
)
from homing.core.retries import circuit_open, in_doubt, pause_s, rate_limited, record
from homing.errors import Outcome, failure, join

CLAIM_EVERY_S = 0.3
GIVE_UP_AFTER_S = 2.0
FINAL_EVERY_S = 1.0
GIVEN_UP_MAX = 10_000
MEAN_WEIGHT = 0.1  # of the newest duration in a method's running mean


class Worker:
    """Events: Received, Prepared, Finished, PeerFound, PeerLost, Tick, Draining, DrainTimedOut. Actions: Send, Prepare, Start, Stop.

    `random` gives numbers in [0, 1) for the back-off's jitter. `services` says how many calls of each service it takes at once, from
    all its brokers together; `offers` are the methods that gateways learn of it. `counts` says how often what was refused.
    """

    def __init__(
        self,
        life: Life,
        *,
        services: Mapping[str, int],
        methods: Mapping[str, MethodPolicy],
        providers: Mapping[str, ProviderPolicy],
        random: Callable[[], float],
        heartbeat_s: float = 0.0,
        outcomes_held_bytes_max: int = 256 * 1024 * 1024,
        offers: tuple[MethodOffer, ...] = (),
        frame_bytes_max: int = FRAME_BYTES_MAX,
    ) -> None:
        self.life = life
        self.counts: Counter[str] = Counter()
        self._offers = offers
        self.outcomes_held_bytes = 0
        self._outcomes_held_bytes_max = outcomes_held_bytes_max
        self._services = dict(services)
        self._methods = methods
        self._providers = {name: Asked(policy) for name, policy in providers.items()}
        self._random = random
        self._held: dict[bytes, Held] = {}
        self._finished: dict[bytes, float] = {}  # when to say the outcome again, the earliest first
        self._given_up: dict[int, tuple[bytes, float]] = {}  # claim -> call_id, and until when it is worth remembering
        self._claims = 0
        self._means_s: dict[str, float] = {}
        self._timers: Deadlines[bytes] = Deadlines()  # of what waits, pauses or runs
        self._claiming: dict[bytes, float] = {}  # when to claim again, the earliest first
        self._links = Links(life, heartbeat_s, frame_bytes_max)
        self._counting = heartbeat_s > 0
        self._brokers: dict[Peer, None] = {}
        self._draining = False
        self._ending = False  # nothing begins any more, under a grant or not
        self._on_message: dict[type, Callable[..., list[Action]]] = {
            Request: self._requested,
            Grant: self._granted,
            Deny: self._denied,
            Settled: self._settled,
            Cancel: self._cancelled,
            Heartbeat: self._heartbeat,
            Disconnect: self._asked_who,
        }
        self._on_event: dict[type, Callable[..., list[Action]]] = {
            Prepared: self._prepared,
            Finished: self._exchanged,
            Tick: self._tick,
            PeerFound: self._peer_found,
            PeerLost: self._peer_lost,
            Draining: self._drain,
            DrainTimedOut: self._drain_timed_out,
        }
        self._on_timer: dict[str, Callable[[Held, float], list[Action]]] = {
            "slot": self._too_late,
            "token": self._too_late,
            "rate": self._paid,
            "pausing": self._gather,
        }

    def handle(self, event: Event, now: float) -> list[Action]:
        """One event in, actions out. Events that are not a worker's are answered with nothing."""
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
        """The next pause, repeat, deadline or heartbeat."""
        return soonest(
            self._timers.earliest(),
            self._links.next_deadline(),
            next(iter(self._claiming.values()), None),
            next(iter(self._finished.values()), None),
        )

    def __len__(self) -> int:
        """How many copies are in hand, outcomes not yet seen by their gateways included."""
        return len(self._held)

    def in_flight(self, provider: str) -> int:
        """How many calls hold a slot of this provider."""
        return self._providers[provider].in_flight

    # Before the claim: slot, rate token, access token, breaker

    def _requested(self, peer: Peer, request: Request, now: float) -> list[Action]:
        self._meet(peer)
        held = self._held.get(request.call_id)
        if held is not None:
            held.broker = peer
            return self._say_again(held, now) if held.phase == "finished" else []
        if self._draining:
            return [Send(peer, Reject(request.call_id, "again"))]
        method = self._methods.get(request.method)
        if method is None:
            message = f"No worker of service {request.service!r} knows method {request.method!r}."
            return [Send(peer, Reject(request.call_id, "refused", "method_not_found", message))]
        deadline = now + request.remaining_ms / 1000
        provider = self._providers[method.provider]
        held = self._held[request.call_id] = Held(request, peer, method, provider, deadline, deadline)
        if provider.in_flight >= provider.policy.in_flight_max:
            self._timers.set(request.call_id, deadline)
            provider.waiting.append(request.call_id)
            return []
        return self._take_slot(held, now)

    def _take_slot(self, held: Held, now: float) -> list[Action]:
        held.provider.in_flight += 1
        held.has_slot = True
        return self._gather(held, now)

    def _gather(self, held: Held, now: float) -> list[Action]:
        """What an attempt needs beside its slot; then the claim, or, under the grant already, the attempt."""
        provider = held.provider
        if provider.rate is None and not provider.policy.needs_token:
            return self._ready_to_begin(held, now)
        wait_s = provider.breaker.retry_after(now)
        if wait_s > 0:  # nothing is spent on a call that cannot begin
            return self._refuse(held, circuit_open(held, wait_s), now)
        if provider.rate is not None and not held.paid:
            latest = held.exchange_deadline - margin_s(held.exchange_deadline - now)
            token_at = provider.rate.stand(held.request.call_id, now, latest)
            if token_at is None:
                return self._refuse(held, rate_limited(held, provider.rate.wait(now)), now)
            held.paid = True
            if token_at > now:
                held.phase = "rate"
                self._timers.set(held.request.call_id, token_at)
                return []
        return self._paid(held, now)

    def _paid(self, held: Held, now: float) -> list[Action]:
        if held.provider.rate is not None:
            held.provider.rate.pass_on(now)
        if now >= held.exchange_deadline:
            return self._too_late(held, now)
        if held.provider.policy.needs_token:
            held.phase = "token"
            self._timers.set(held.request.call_id, held.exchange_deadline)
            return [Prepare(held.request.call_id, held.method.provider, held.exchange_deadline)]
        return self._ready_to_begin(held, now)

    def _prepared(self, event: Prepared, now: float) -> list[Action]:
        held = self._held.get(event.call_id)
        if held is None or held.phase != "token":
            return []
        if event.problem is not None:
            return self._refuse(held, failure("provider_unreachable", event.problem), now)
        return self._ready_to_begin(held, now)

    def _ready_to_begin(self, held: Held, now: float) -> list[Action]:
        call_id = held.request.call_id
        if held.granted_at is not None and held.exchange_deadline - now < self._means_s.get(held.request.method, 0.0):
            return self._conclude(held, now)  # what it waited for has cost it the time
        remaining_s = held.exchange_deadline - now
        if remaining_s <= (0.0 if held.granted_at is not None else margin_s(remaining_s)):
            return self._too_late(held, now)  # a grant would find nothing left once its margin is kept back
        held.ticket = held.provider.breaker.allow(now)
        if not held.ticket:
            return self._refuse(held, circuit_open(held, held.provider.breaker.retry_after(now)), now)
        self._timers.pop(call_id, None)
        if held.granted_at is not None:
            return self._start(held, now)
        self._claims += 1
        held.phase = "claiming"
        held.claim = self._claims
        held.claimed_at = now
        self._claiming[call_id] = now + CLAIM_EVERY_S
        return self._send(held, Claim(call_id, self.life, held.claim))

    def _refuse(self, held: Held, why: Outcome, now: float) -> list[Action]:
        """Not now: before the grant another worker may do better; under it the call ends as its attempts did."""
        if held.granted_at is not None:
            return self._conclude(held, now)
        reject = Reject(held.request.call_id, "refused", why.reason, why.message, why.retry_after_ms, why.limit)
        return [*self._send(held, reject), *self._let_go(held, now)]

    def _too_late(self, held: Held, now: float) -> list[Action]:
        if held.granted_at is not None:
            return self._conclude(held, now)
        return [*self._send(held, Reject(held.request.call_id, "drop")), *self._let_go(held, now)]

    # Claim and grant

    def _claim_again(self, held: Held, now: float) -> list[Action]:
        if now >= held.claimed_at + GIVE_UP_AFTER_S or now >= held.deadline:
            return self._give_up(held, now)
        self._claiming[held.request.call_id] = now + CLAIM_EVERY_S
        return self._send(held, Claim(held.request.call_id, self.life, held.claim))

    def _give_up(self, held: Held, now: float) -> list[Action]:
        self._given_up[held.claim] = (held.request.call_id, held.deadline)
        if len(self._given_up) > GIVEN_UP_MAX:
            del self._given_up[next(iter(self._given_up))]
        return [*self._send(held, Release(held.request.call_id, self.life, held.claim)), *self._let_go(held, now)]

    def _granted(self, peer: Peer, grant: Grant, now: float) -> list[Action]:
        if grant.life != self.life:
            return []
        held = self._held.get(grant.call_id)
        if held is None or held.phase != "claiming" or held.claim != grant.claim:
            return [Send(peer, Release(grant.call_id, self.life, grant.claim))] if grant.claim in self._given_up else []
        deadline = held.claimed_at + grant.remaining_ms / 1000
        held.exchange_deadline = held.deadline = deadline = deadline - margin_s(deadline - now)
        if now >= deadline:
            return self._give_up(held, now)
        del self._claiming[grant.call_id]
        held.granted_at = now
        if held.method.has_lookup:
            held.exchange_deadline -= min(held.method.reserve_s, (deadline - now) / 2)
        held.provider.budget.first_attempt(now)
        return self._start(held, now)

    def _denied(self, peer: Peer, deny: Deny, now: float) -> list[Action]:
        held = self._held.get(deny.call_id)
        if held is None or deny.life != self.life or held.phase != "claiming" or held.claim != deny.claim:
            return []
        return self._give_up(held, now)

    # Under the grant: attempts, pauses, lookup

    def _start(self, held: Held, now: float) -> list[Action]:
        held.phase, held.started_at = "running", now
        return self._ask(held, held.exchange_deadline, now)

    def _ask(self, held: Held, deadline: float, now: float, *, lookup: bool = False) -> list[Action]:
        held.number += 1
        bound_s, late = held.provider.policy.attempt_timeout_s, "deadline_exceeded"
        if bound_s is not None and now + bound_s < deadline:
            deadline, late = now + bound_s, "provider_timeout"
        return [held.start(deadline, late, lookup=lookup)]

    def _exchanged(self, event: Finished, now: float) -> list[Action]:
        held = self._held.get(event.call_id)
        if held is None or held.number != event.number:
            return []
        outcome = event.outcome
        if held.phase == "looking":
            if outcome.reason == "ok":
                held.joined = join(held.joined, outcome, held.request.effect)
            return self._finish(held, now)
        if held.phase != "running":
            return []
        record(held, outcome, now)
        method = held.request.method
        if outcome.reason == "ok":
            taken_s = now - held.started_at
            mean_s = self._means_s.get(method)
            self._means_s[method] = taken_s if mean_s is None else mean_s + (taken_s - mean_s) * MEAN_WEIGHT
        held.attempted(event, now)
        if outcome.reason == "ok" or self._ending:
            return self._finish(held, now)
        wait_s = pause_s(held, outcome, self._means_s.get(method, 0.0), self._random, now)
        if wait_s is None:
            return self._conclude(held, now)
        held.phase = "pausing"
        held.paid = False
        self._timers.set(held.request.call_id, now + wait_s)
        return []

    def _conclude(self, held: Held, now: float) -> list[Action]:
        """No attempt will follow: look whether it happened, if that is not known and there is a way and time to."""
        if held.method.has_lookup and now < held.deadline and in_doubt(held):
            self._timers.pop(held.request.call_id, None)
            held.phase = "looking"
            return self._ask(held, held.deadline, now, lookup=True)
        return self._finish(held, now)

    # The outcome, held until it is seen

    def _finish(self, held: Held, now: float) -> list[Action]:
        call_id = held.request.call_id
        assert held.joined is not None, "after an attempt"
        outcome = msgspec.structs.replace(held.joined, attempts=held.attempts)
        held.final = Final(call_id, self.life, held.claim, outcome)
        held.phase = "finished"
        self.outcomes_held_bytes += outcome.held_bytes
        self._finished[call_id] = now + FINAL_EVERY_S
        actions = self._send(held, held.final)  # once at least, however late: the broker counts the credit until it hears
        actions += self._free(held, now)
        while self.outcomes_held_bytes > self._outcomes_held_bytes_max:
            self._forget(self._held[next(iter(self._finished))])
        return actions

    def _say_again(self, held: Held, now: float) -> list[Action]:
        assert held.final is not None, "it has finished"
        self._finished.pop(held.request.call_id, None)
        if now >= held.deadline + GIVE_UP_AFTER_S:
            self._forget(held)  # its gateway has settled it long since
            return []
        self._finished[held.request.call_id] = now + FINAL_EVERY_S
        return self._send(held, held.final)

    def _settled(self, peer: Peer, settled: Settled, now: float) -> list[Action]:
        if settled.life == self.life:
            for call_id in settled.call_ids:
                held = self._held.get(call_id)
                if held is not None and held.phase == "finished":
                    self._forget(held)
        return []

    def _let_go(self, held: Held, now: float) -> list[Action]:
        """This copy is no longer in hand, and was never begun."""
        actions = self._free(held, now)
        self._forget(held)
        return actions

    def _forget(self, held: Held) -> None:
        call_id = held.request.call_id
        del self._held[call_id]
        self._claiming.pop(call_id, None)
        if held.final is not None:
            self._finished.pop(call_id, None)
            self.outcomes_held_bytes -= held.final.outcome.held_bytes

    def _free(self, held: Held, now: float) -> list[Action]:
        """Give slot and rate token to whoever waits for them, and the breaker's leave back if it was not used."""
        call_id, rate = held.request.call_id, held.provider.rate
        at = self._timers.pop(call_id, now)
        if rate is not None and (other := rate.leave(call_id, at, now)) is not None:
            self._timers.set(other, at)
        if held.ticket:
            held.provider.breaker.forget(now, held.ticket)
            held.ticket = 0
        if not held.has_slot:
            held.provider.waiting.remove(call_id)
            return []
        held.has_slot = False
        held.provider.in_flight -= 1
        return self._admit(held.provider, now) if held.provider.waiting else []

    def _admit(self, provider: Asked, now: float) -> list[Action]:
        """Free slots to those who wait. Whoever gives one back at once is followed from here, not from within: the line may be long."""
        actions: list[Action] = []
        if not provider.admitting:
            provider.admitting = True
            while provider.waiting and provider.in_flight < provider.policy.in_flight_max:
                actions += self._take_slot(self._held[provider.waiting.popleft()], now)
            provider.admitting = False
        return actions

    def _cancelled(self, peer: Peer, cancel: Cancel, now: float) -> list[Action]:
        held = self._held.get(cancel.call_id)
        if held is None or held.granted_at is not None:
            return []  # begun: it runs to its end
        if held.phase == "claiming":
            return self._give_up(held, now)
        return self._too_late(held, now)

    # The rest of the world

    def _send(self, held: Held, message: Message) -> list[Action]:
        """To the broker the copy came from, or to any that is there."""
        if held.broker not in self._brokers:
            if not self._brokers:
                return []
            held.broker = next(iter(self._brokers))
        bytes_max = self._links.reads(held.broker)
        if type(message) is Final and frame_bytes(message.outcome) > bytes_max:
            self.counts["outcome_too_large"] += 1
            self.outcomes_held_bytes -= message.outcome.held_bytes
            message = held.final = Final(message.call_id, self.life, held.claim, too_large(message.outcome, bytes_max))
        return [Send(held.broker, message)]

    def _tick(self, event: Tick, now: float) -> list[Action]:
        actions: list[Action] = []
        for call_id in self._timers.pop_due(now):
            held = self._held.get(call_id)  # an earlier one of this round may have ended it
            if held is not None:
                actions += self._on_timer[held.phase](held, now)
        for call_id in due(self._claiming, now):
            actions += self._claim_again(self._held[call_id], now)
        for held in [self._held[call_id] for call_id in due(self._finished, now)]:
            held.broker = next_broker(held, self._brokers, self._links.reads)
            actions += self._say_again(held, now)
        while self._given_up and next(iter(self._given_up.values()))[1] <= now:
            del self._given_up[next(iter(self._given_up))]
        for peer in self._links.introductions_due(now):
            actions += self._introduce(peer, now)
        return actions + [self._links.beat(peer, self._in_flight(peer)) for peer in self._links.beats_due(now)]

    def _in_flight(self, broker: Peer) -> tuple[bytes, ...]:
        """What counts against the credit this broker was given: what came from it, or, for the first, from one that is gone."""
        first = next(iter(self._links.peers)) == broker
        return tuple(
            call_id
            for call_id, held in self._held.items()
            if held.phase != "finished" and (held.broker == broker or (first and held.broker not in self._links.peers))
        )

    def _ready(self, peer: Peer) -> Send:
        services, offers = ({}, ()) if self._draining else (self._share(peer), self._offers)
        interval_ms = int(self._links.interval_s * 1000)
        return Send(peer, Ready(self.life, services, interval_ms, offers, self._links.life_of(peer), self._links.frame_bytes_max))

    def _share(self, broker: Peer) -> dict[str, int]:
        """This broker's part of the credit: no more comes from all of them together than the worker takes."""
        count, place = len(self._links.peers), list(self._links.peers).index(broker)
        return {name: max(1, credit // count + (place < credit % count)) for name, credit in self._services.items()}

    def _peer_found(self, event: PeerFound, now: float) -> list[Action]:
        """Where messages are counted, a broker is told more than READY once it has said who it is and how large a frame it reads."""
        known = event.peer in self._links.peers
        self._links.open(event.peer, now)
        if not self._counting:
            self._brokers[event.peer] = None
        return [*self._introduce(event.peer, now), *([] if known else self._shares_changed(event.peer))]

    def _peer_lost(self, event: PeerLost, now: float) -> list[Action]:
        known = event.peer in self._links.peers
        self._brokers.pop(event.peer, None)
        self._links.close(event.peer)
        return self._shares_changed(event.peer) if known else []

    def _shares_changed(self, but: Peer) -> list[Action]:
        return [] if self._draining else [self._ready(peer) for peer in self._links.peers if peer != but]

    def _heartbeat(self, peer: Peer, beat: Heartbeat, now: float) -> list[Action]:
        heard = self._links.heard(peer, beat)
        found = self._meet(peer)
        actions: list[Action] = [self._ready(peer)] if heard.stranger or heard.asks else []
        if found or heard.stranger or heard.gap:
            actions += self._repeat(peer, now)
        return actions

    def _meet(self, peer: Peer) -> bool:
        """A broker that is connected and speaks is one to send to from now on. Whether it is new."""
        if peer in self._brokers or peer not in self._links.peers:
            return False
        self._brokers[peer] = None
        return True

    def _asked_who(self, peer: Peer, message: Disconnect, now: float) -> list[Action]:
        return self._introduce(peer, now) if self._links.introduces(peer, now) else []

    def _introduce(self, peer: Peer, now: float) -> list[Action]:
        """READY, with what is in flight: of calls that the broker never gave, or forgot, it must know if this life is lost."""
        actions: list[Action] = [self._ready(peer)]
        if self._counting:
            actions.append(self._links.beat(peer, self._in_flight(peer)))
        return actions + self._repeat(peer, now) if peer in self._brokers else actions

    def _repeat(self, peer: Peer, now: float) -> list[Action]:
        """Claims, releases and outcomes again: whatever was lost on the way, these are what others wait for."""
        actions: list[Action] = []
        for held in self._held.values():
            if held.broker == peer or held.broker not in self._brokers:
                if held.phase == "claiming":
                    actions += self._send(held, Claim(held.request.call_id, self.life, held.claim))
                elif held.final is not None:
                    actions += self._send(held, held.final)
        for claim, (call_id, until) in self._given_up.items():
            if until > now:
                actions.append(Send(peer, Release(call_id, self.life, claim)))
        return actions

    def _drain(self, event: Draining, now: float) -> list[Action]:
        self._draining = True
        actions: list[Action] = [self._ready(peer) for peer in self._links.peers]
        for held in sorted(self._held.values(), key=lambda held: held.has_slot):  # so that a slot given back is for nobody
            if held.phase == "claiming":
                actions += self._give_up(held, now)
            elif held.granted_at is None:
                actions += [*self._send(held, Reject(held.request.call_id, "again")), *self._let_go(held, now)]
        return actions

    def _drain_timed_out(self, event: DrainTimedOut, now: float) -> list[Action]:
        self._ending = True
        actions = [] if self._draining else self._drain(Draining(), now)
        for held in list(self._held.values()):
            if held.phase in ("running", "looking"):
                actions.append(Stop(held.request.call_id, held.number))
            elif held.phase != "finished":
                actions += self._finish(held, now)
        return actions
