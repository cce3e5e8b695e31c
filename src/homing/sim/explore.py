"""Every state within small bounds: the real machines, one call, two workers, a gateway, and a road that does as it likes.

The road stands for every broker and every engine: it hands a REQUEST to any worker or refuses it, delivers in any order, doubles, holds
back for ever, and declares lives lost that are not. Clocks are strangers to each other: time passes for any process at any point.
Losing needs no step of its own: a message that is never delivered is lost, and all prefixes of all histories are looked at.

Machines are pure, so each is asked only once what it does in a given state with a given event: the table of its answers is small, and a
state of the whole is a handful of numbers. The model beside the design (`grant.py`) found the rules; this finds whether the code keeps
them.
"""

from collections import deque
from collections.abc import Iterator
from copy import deepcopy
from typing import TypeAlias

import msgspec

from homing.core.calls import Calls
from homing.core.holding import MethodPolicy, ProviderPolicy
from homing.core.machine import (
    Abandoned,
    Event,
    Finished,
    Life,
    Machine,
    PeerFound,
    PeerLost,
    Received,
    Send,
    Settle,
    Start,
    Submitted,
    Tick,
)
from homing.core.messages import (
    GATEWAY_BYTES,
    Cancel,
    Claim,
    Deny,
    Final,
    Grant,
    Lost,
    Message,
    Reject,
    Release,
    Request,
    Settled,
)
from homing.core.worker import Worker
from homing.errors import Effect, Outcome, failure
from homing.sim.snapshot import Value, snapshot

TIMEOUT_S = 4.0
LONG_S = 100.0  # beyond every deadline
ROAD = b"road"
GATEWAY = 0  # the places: the gateway, and then the workers
ANY = -1  # whichever worker the road likes
LEDGER_MAX = 2  # more is no worse


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """How often each thing may happen in one history."""

    effect: Effect = "once"
    workers: int = 2
    crashes: int = 1
    gateway_crashes: int = 0
    resubmits: int = 1
    doublings: int = 1
    rejects: int = 1
    losses: int = 1
    repeats: int = 1  # timers of workers that come in time: a claim or an outcome is said again, an attempt is made again
    hang_ups: int = 0
    attempts_max: int = 2


class Left(msgspec.Struct, frozen=True):
    """What may still happen."""

    crashes: int
    gateway_crashes: int
    resubmits: int
    doublings: int
    rejects: int
    losses: int
    repeats: int
    hang_ups: int


class State(msgspec.Struct, frozen=True):
    """The whole: which state each machine is in, what is under way, and what the provider and the caller know.

    `nodes` begins with the gateway's. `lives` counts the lives so far. `running` is the number of the exchange under way, or 0.
    `road` lists (place, message); `claims` those the road has seen, for it may declare them lost. `settled` is reason and executed.
    """

    nodes: tuple[int, ...]
    lives: tuple[int, ...]
    running: tuple[int, ...]
    road: tuple[tuple[int, int], ...]
    claims: tuple[int, ...]
    settled: tuple[str, str] | None
    ledger: int
    left: Left


class Found(msgspec.Struct, frozen=True):
    """What came of it: `broken` says which rule did not hold, and `history` how it came to that."""

    states: int
    broken: str | None
    history: tuple[str, ...]


class Broken(Exception):
    """A rule did not hold."""


class _Node(msgspec.Struct):
    """One state of one machine, and what its clock says."""

    machine: Machine
    now: float


class _Answer(msgspec.Struct):
    """What a machine does with an event."""

    node: int
    sent: tuple[tuple[int, int], ...]
    settled: tuple[Outcome, ...]
    started: int  # the number of the exchange, or 0


Cause: TypeAlias = int | str  # a message that is received, or something else that happens


class Explorer:
    """Breadth first, so that the first history that breaks a rule is a shortest one."""

    def __init__(self, bounds: Bounds, *, gateway: type[Calls] = Calls, worker: type[Worker] = Worker) -> None:
        self._bounds = bounds
        self._gateway = gateway
        self._worker = worker
        self._nodes: list[_Node] = []
        self._node_of: dict[tuple[Value, float], int] = {}
        self._messages: list[Message] = []
        self._message_of: dict[Value, int] = {}
        self._answers: dict[tuple[int, Cause], _Answer] = {}
        self._place_of: dict[Life, int] = {}
        self._call_id = self._life(GATEWAY, 0)[:GATEWAY_BYTES] + b"the call"

    def explore(self, states_max: int = 10_000_000) -> Found:
        """Look at every state; stop at the first that breaks a rule."""
        start = self._start()
        parents: dict[State, State | None] = {start: None}
        queue = deque([start])
        while queue and len(parents) <= states_max:
            state = queue.popleft()
            steps = self._steps(state)
            while True:
                try:
                    _, following = next(steps, (None, None))
                except Broken as broken:
                    return Found(len(parents), str(broken), (*self._history(parents, state), str(broken)))
                if following is None:
                    break
                if following not in parents:
                    parents[following] = state
                    queue.append(following)
        return Found(len(parents), None, ())

    def _history(self, parents: dict[State, State | None], state: State) -> list[str]:
        history: list[str] = []
        while (before := parents[state]) is not None:
            history.append(next(label for label, following in self._steps(before) if following == state))
            state = before
        return history[::-1]

    # Machines

    def _life(self, place: int, number: int) -> Life:
        life = f"place {place} life {number}".ljust(16).encode()
        self._place_of[life] = place
        return life

    def _fresh(self, place: int, number: int) -> int:
        """A machine that has just started, and found the road."""
        life = self._life(place, number)
        machine: Machine
        if place == GATEWAY:
            machine = self._gateway(life)
        else:
            machine = self._worker(
                life,
                services={"acme": 2},
                methods={"acme.charge": MethodPolicy(provider="acme")},
                providers={"acme": ProviderPolicy(attempts_max=self._bounds.attempts_max)},
                random=_middle,
            )
        machine.handle(PeerFound(ROAD), 0.0)
        return self._node(machine, 0.0)

    def _node(self, machine: Machine, now: float) -> int:
        key = (snapshot(machine), now)
        number = self._node_of.get(key)
        if number is None:
            number = self._node_of[key] = len(self._nodes)
            self._nodes.append(_Node(machine, now))
        return number

    def _message(self, message: Message) -> int:
        key = snapshot(message)
        number = self._message_of.get(key)
        if number is None:
            number = self._message_of[key] = len(self._messages)
            self._messages.append(message)
        return number

    def _answer(self, node: int, cause: Cause, *events: Event, later: float = 0.0) -> _Answer:
        """What the machine does; asked once, remembered for ever. `later` is by how much its clock has moved."""
        answer = self._answers.get((node, cause))
        if answer is None:
            before = self._nodes[node]
            machine, now = deepcopy(before.machine), before.now + later
            try:
                actions = [action for event in events for action in machine.handle(event, now)]
            except Exception as error:
                raise Broken(f"sound: {type(error).__name__}: {error}") from error
            answer = self._answers[node, cause] = _Answer(
                self._node(machine, now),
                tuple(sent for action in actions if isinstance(action, Send) for sent in self._sent(action.message)),
                tuple(action.outcome for action in actions if isinstance(action, Settle)),
                next((action.number for action in actions if isinstance(action, Start)), 0),
            )
        return answer

    def _sent(self, message: Message) -> list[tuple[int, int]]:
        """Where the road takes a message. What only brokers understand it keeps."""
        match message:
            case Request() | Cancel():
                return [(ANY, self._message(message))]
            case Claim() | Final() | Release() | Reject():
                return [(GATEWAY, self._message(message))]
            case Grant() | Deny() | Settled():
                return [(self._place_of[message.life], self._message(message))]
            case _:
                return []

    # The whole

    def _start(self) -> State:
        bounds = self._bounds
        workers = range(1, bounds.workers + 1)
        empty = State(
            (self._fresh(GATEWAY, 0), *(self._fresh(place, 0) for place in workers)),
            (0,) * (bounds.workers + 1),
            (0,) * (bounds.workers + 1),
            (),
            (),
            None,
            0,
            Left(
                bounds.crashes,
                bounds.gateway_crashes,
                bounds.resubmits,
                bounds.doublings,
                bounds.rejects,
                bounds.losses,
                bounds.repeats,
                bounds.hang_ups,
            ),
        )
        submitted = Submitted(
            call_id=self._call_id,
            service="acme",
            method="acme.charge",
            deadline=TIMEOUT_S,
            timeout_ms=int(TIMEOUT_S * 1000),
            effect=bounds.effect,
            principal="",
            key="key",
            caller_key="key",
            body=b"",
            attempts_max=bounds.attempts_max,
        )
        return self._after(empty, GATEWAY, self._answer(empty.nodes[GATEWAY], "submitted", submitted))

    def _after(self, state: State, place: int, answer: _Answer, *, ledger: int = 0, **changed: object) -> State:
        """The whole after one machine has answered. Raises `Broken`."""
        settled = state.settled
        for outcome in answer.settled:
            if settled is not None:
                raise Broken(f"one answer: settled {settled}, and then {outcome.reason}")
            settled = (outcome.reason, outcome.executed)
        running = state.running
        if answer.started:
            running = _swap(running, place, answer.started)
        road = changed.pop("road", state.road)
        assert isinstance(road, tuple)
        return self._checked(
            msgspec.structs.replace(
                state,
                nodes=_swap(state.nodes, place, answer.node),
                road=tuple(sorted((*road, *answer.sent))) if answer.sent else road,
                running=running,
                settled=settled,
                ledger=min(LEDGER_MAX, state.ledger + ledger),
                **changed,
            )
        )

    def _checked(self, state: State) -> State:
        if state.ledger > 1 and self._bounds.effect == "once":
            raise Broken("never twice: a `once` call is in the ledger twice")
        if state.settled is not None:
            reason, executed = state.settled
            if executed == "no" and state.ledger:
                raise Broken(f"no is no: {reason}, and it is in the ledger")
            if executed == "yes" and not state.ledger:
                raise Broken(f"yes is yes: {reason}, and it is not in the ledger")
        return state

    def _steps(self, state: State) -> Iterator[tuple[str, State]]:
        left = state.left
        yield from self._deliveries(state)
        yield from self._gateway_steps(state)
        for place in range(1, len(state.nodes)):
            yield from self._worker_steps(state, place)
        if left.losses:
            fewer = msgspec.structs.replace(left, losses=left.losses - 1)
            for number in state.claims:
                claim = self._messages[number]
                assert isinstance(claim, Claim)
                lost = (GATEWAY, self._message(Lost(claim.call_id, claim.life, claim.claim)))
                yield (
                    f"the road says that {claim.claim} of {_name(claim.life)} is lost",
                    msgspec.structs.replace(state, road=tuple(sorted((*state.road, lost))), left=fewer),
                )

    def _deliveries(self, state: State) -> Iterator[tuple[str, State]]:
        left = state.left
        for index, (place, number) in enumerate(state.road):
            if index and state.road[index - 1] == (place, number):
                continue  # the same as the one before it
            message = self._messages[number]
            name = type(message).__name__.upper()
            rest = state.road[:index] + state.road[index + 1 :]
            claims = state.claims
            if isinstance(message, Claim) and number not in claims:
                claims = tuple(sorted((*claims, number)))
            for there in range(1, len(state.nodes)) if place == ANY else (place,):
                answer = self._answer(state.nodes[there], number, Received(ROAD, message))
                yield f"{name} reaches {there}", self._after(state, there, answer, road=rest, claims=claims)
                if left.doublings:
                    fewer = msgspec.structs.replace(left, doublings=left.doublings - 1)
                    yield f"{name} reaches {there}, doubled", self._after(state, there, answer, claims=claims, left=fewer)
            if isinstance(message, Request) and left.rejects:
                fewer = msgspec.structs.replace(left, rejects=left.rejects - 1)
                refusal = (GATEWAY, self._message(Reject(message.call_id, "refused", "overloaded", "The queue is full.")))
                yield (
                    "the road refuses REQUEST",
                    msgspec.structs.replace(state, road=tuple(sorted((*rest, refusal))), left=fewer),
                )

    def _gateway_steps(self, state: State) -> Iterator[tuple[str, State]]:
        left, node = state.left, state.nodes[GATEWAY]
        instant = self._nodes[node].machine.next_deadline()
        if instant is not None:
            answer = self._answer(node, "tick", Tick(), later=max(0.0, instant - self._nodes[node].now))
            after = self._after(state, GATEWAY, answer)
            if after.settled is None:
                raise Broken("on time: the deadline has passed, and the call has not settled")
            yield "the deadline passes", after
        if left.resubmits:
            fewer = msgspec.structs.replace(left, resubmits=left.resubmits - 1)
            answer = self._answer(node, "resubmit", PeerLost(ROAD), PeerFound(ROAD))
            yield "the road is lost and found", self._after(state, GATEWAY, answer, left=fewer)
        if left.hang_ups:
            fewer = msgspec.structs.replace(left, hang_ups=left.hang_ups - 1)
            answer = self._answer(node, "abandoned", Abandoned(self._call_id))
            yield "the caller hangs up", self._after(state, GATEWAY, answer, left=fewer)
        if left.gateway_crashes:
            fewer = msgspec.structs.replace(left, gateway_crashes=left.gateway_crashes - 1)
            life = state.lives[GATEWAY] + 1
            yield (
                "the gateway crashes",
                msgspec.structs.replace(
                    state,
                    nodes=_swap(state.nodes, GATEWAY, self._fresh(GATEWAY, life)),
                    lives=_swap(state.lives, GATEWAY, life),
                    left=fewer,
                ),
            )

    def _worker_steps(self, state: State, place: int) -> Iterator[tuple[str, State]]:
        left, node, number = state.left, state.nodes[place], state.running[place]
        if number:
            over = _swap(state.running, place, 0)
            for name, (outcome, effects) in _ENDINGS.items():
                answer = self._answer(node, f"{name} {number}", Finished(self._call_id, number, outcome))
                yield (
                    f"{place}'s exchange ends: {name}",
                    self._after(msgspec.structs.replace(state, running=over), place, answer, ledger=effects),
                )
        instant = self._nodes[node].machine.next_deadline()
        if instant is not None:
            if left.repeats:
                fewer = msgspec.structs.replace(left, repeats=left.repeats - 1)
                answer = self._answer(node, "tick", Tick(), later=max(0.0, instant - self._nodes[node].now))
                yield f"{place}'s timer comes", self._after(state, place, answer, left=fewer)
            answer = self._answer(node, "late", Tick(), later=LONG_S)
            yield f"{place}'s timer comes very late", self._after(state, place, answer)
        if left.crashes:
            life = state.lives[place] + 1
            yield (
                f"{place} crashes",
                self._checked(
                    msgspec.structs.replace(
                        state,
                        nodes=_swap(state.nodes, place, self._fresh(place, life)),
                        lives=_swap(state.lives, place, life),
                        running=_swap(state.running, place, 0),
                        ledger=min(LEDGER_MAX, state.ledger + bool(number)),  # what it had sent takes its effect
                        left=msgspec.structs.replace(left, crashes=left.crashes - 1),
                    )
                ),
            )


# How an exchange may end, and how often it is then in the ledger. That a lost one had no effect is no new danger.
_ENDINGS: dict[str, tuple[Outcome, int]] = {
    "ok": (Outcome(reason="ok", executed="yes", result=b"1"), 1),
    "connection lost": (failure("connection_lost", "Lost."), 1),
    "refused": (failure("provider_unreachable", "Refused."), 0),
}


def _swap(values: tuple[int, ...], place: int, value: int) -> tuple[int, ...]:
    return (*values[:place], value, *values[place + 1 :])


def _name(life: Life) -> str:
    return life.decode().strip()


def _middle() -> float:
    return 0.5
