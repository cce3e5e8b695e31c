"""Every state within small bounds: the real machines, one call, two workers, a gateway, and a road that does as it likes.

The road stands for every broker and every engine: it hands a REQUEST to any worker or refuses it, delivers in any order, doubles, holds
back for ever, and declares lives lost that are not, with one claim or with all they may have. A second one may say whom it reaches.
Clocks are strangers to each other: time passes for any process at any point.
Losing needs no step of its own: a message that is never delivered is lost, and all prefixes of all histories are looked at.

Machines are pure, so each is asked only once what it does in a given state with a given event: the table of its answers is small, and a
state of the whole is a handful of numbers. The rules are those of `docs/reference/protocol.md`; this finds whether the code keeps them.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import NamedTuple, TypeAlias

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
    Workers,
)
from homing.core.worker import Worker
from homing.errors import Outcome, failure
from homing.sim.scopes import Bounds
from homing.sim.snapshot import Value, snapshot

TIMEOUT_S = 4.0
LONG_S = 100.0  # beyond every deadline
ROAD = b"road"
OTHER_ROAD = b"other road"
GATEWAY = 0  # the places: the gateway, and then the workers
ANY = -1  # whichever worker the road likes
LEDGER_MAX = 2  # more is no worse


class Left(NamedTuple):
    """What may still happen."""

    claims: int
    crashes: int
    gateway_crashes: int
    resubmits: int
    doublings: int
    rejects: int
    losses: int
    strays: int
    tellings: int
    repeats: int
    hang_ups: int


class State(NamedTuple):
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
    """One state of one machine, what its clock says, and in how long its timer comes."""

    machine: Machine
    now: float
    due_s: float | None


class _Answer(msgspec.Struct):
    """What a machine does with an event."""

    node: int
    sent: tuple[tuple[int, int], ...]
    settled: tuple[Outcome, ...]
    started: int  # the number of the exchange, or 0

    @property
    def idle(self) -> bool:
        """It wants nothing done."""
        return not (self.sent or self.settled or self.started)


Numbers: TypeAlias = tuple[int, ...]
Road: TypeAlias = tuple[tuple[int, int], ...]
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
        self._beginnings: dict[tuple[int, int], int] = {}
        self._place_of: dict[Life, int] = {}
        self._call_id = self._life(GATEWAY, 0)[:GATEWAY_BYTES] + b"the call"

    def explore(self, states_max: int = 10_000_000) -> Found:
        """Look at every state; stop at the first that breaks a rule."""
        start = self._start()
        parents: dict[State, State | None] = {start: None}
        queue = deque([start])
        while queue and len(parents) <= states_max:
            state = queue.popleft()
            try:
                for _, following in self._steps(state):
                    if following not in parents:
                        parents[following] = state
                        queue.append(following)
            except Broken as broken:
                return Found(len(parents), str(broken), (*self._history(parents, state), str(broken)))
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
        known = self._beginnings.get((place, number))
        if known is not None:
            return known
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
        if place == GATEWAY and self._bounds.tellings:
            machine.handle(PeerFound(OTHER_ROAD), 0.0)
        self._beginnings[place, number] = self._node(machine, 0.0)
        return self._beginnings[place, number]

    def _node(self, machine: Machine, now: float) -> int:
        key = (snapshot(machine), now)
        number = self._node_of.get(key)
        if number is None:
            number = self._node_of[key] = len(self._nodes)
            instant = machine.next_deadline()
            self._nodes.append(_Node(machine, now, None if instant is None else max(0.0, instant - now)))
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
                bounds.claims,
                bounds.crashes,
                bounds.gateway_crashes,
                bounds.resubmits,
                bounds.doublings,
                bounds.rejects,
                bounds.losses,
                bounds.strays,
                bounds.tellings,
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
        return self._after(empty, GATEWAY, self._answer(empty.nodes[GATEWAY], "submitted", submitted), empty.left)

    def _after(
        self,
        state: State,
        place: int,
        answer: _Answer,
        left: Left,
        *,
        road: Road | None = None,
        claims: Numbers | None = None,
        running: Numbers | None = None,
        ledger: int = 0,
    ) -> State:
        """The whole after one machine has answered. Raises `Broken`."""
        settled = state.settled
        for outcome in answer.settled:
            if settled is not None:
                raise Broken(f"one answer: settled {settled}, and then {outcome.reason}")
            settled = (outcome.reason, outcome.executed)
        road = state.road if road is None else road
        running = state.running if running is None else running
        if answer.started and running[place]:
            raise Broken("never twice: an exchange begins while another of the same call runs")
        return self._checked(
            State(
                _swap(state.nodes, place, answer.node),
                state.lives,
                _swap(running, place, answer.started) if answer.started else running,
                tuple(sorted(road + answer.sent)) if answer.sent else road,
                state.claims if claims is None else claims,
                settled,
                min(LEDGER_MAX, state.ledger + ledger),
                left,
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
        """Every next state, but those that differ only by a message less: what can happen then can happen now."""
        yield from self._deliveries(state)
        yield from self._gateway_steps(state)
        for place in range(1, len(state.nodes)):
            yield from self._worker_steps(state, place)
        if state.claims:
            yield from self._losses(state)

    def _losses(self, state: State) -> Iterator[tuple[str, State]]:
        """What the roads say of lives that have claimed."""
        claims = [message for message in map(self._messages.__getitem__, state.claims) if isinstance(message, Claim)]
        lives = list(dict.fromkeys(claim.life for claim in claims))
        left = state.left
        if left.losses:
            fewer = left._replace(losses=left.losses - 1)
            for claim in claims:
                lost = (GATEWAY, self._message(Lost(claim.call_id, claim.life, claim.claim)))
                label = f"the road says that claim {claim.claim} of {_name(claim.life)} is lost"
                yield label, state._replace(road=tuple(sorted((*state.road, lost))), left=fewer)
        if left.strays:
            fewer = left._replace(strays=left.strays - 1)
            for life in lives:
                lost = (GATEWAY, self._message(Lost(self._call_id, life, 0)))
                label = f"the road says that {_name(life)} is lost"
                yield label, state._replace(road=tuple(sorted((*state.road, lost))), left=fewer)
        if left.tellings:
            fewer = left._replace(tellings=left.tellings - 1)
            number = state.nodes[GATEWAY]
            for reached in ((), *((life,) for life in lives)):
                label = f"the other road says that it reaches {', '.join(map(_name, reached)) or 'nobody'}"
                answer = self._answer(number, label, Received(OTHER_ROAD, Workers(reached)))
                yield label, self._after(state, GATEWAY, answer, fewer)

    def _deliveries(self, state: State) -> Iterator[tuple[str, State]]:
        before = None
        for index, there in enumerate(state.road):
            if there == before:
                continue
            before = there
            place, number = there
            message = self._messages[number]
            name = type(message).__name__.upper()
            rest = state.road[:index] + state.road[index + 1 :]
            left, claims = state.left, state.claims
            if isinstance(message, Request):
                if left.rejects:
                    refusal = (GATEWAY, self._message(Reject(message.call_id, "refused", "overloaded", "The queue is full.")))
                    fewer = left._replace(rejects=left.rejects - 1)
                    yield f"the road refuses {name}", state._replace(road=tuple(sorted((*rest, refusal))), left=fewer)
                if not left.claims:
                    continue
                left = left._replace(claims=left.claims - 1)
            elif isinstance(message, Claim) and number not in claims:
                claims = tuple(sorted((*claims, number)))
            for reached in self._receivers(state, place):
                answer = self._answer(state.nodes[reached], number, Received(ROAD, message))
                if answer.idle and answer.node == state.nodes[reached]:
                    continue
                yield f"{name} reaches {reached}", self._after(state, reached, answer, left, road=rest, claims=claims)
                if left.doublings:
                    fewer = left._replace(doublings=left.doublings - 1)
                    yield f"{name} reaches {reached}, doubled", self._after(state, reached, answer, fewer, claims=claims)

    def _receivers(self, state: State, place: int) -> Sequence[int]:
        if place != ANY:
            return (place,)
        fresh = all(node == self._beginnings.get((worker, 0)) for worker, node in enumerate(state.nodes) if worker)
        return (1,) if fresh else range(1, len(state.nodes))  # as long as nobody has done anything, all workers are alike

    def _gateway_steps(self, state: State) -> Iterator[tuple[str, State]]:
        left, number = state.left, state.nodes[GATEWAY]
        node = self._nodes[number]
        if node.due_s is not None:
            after = self._after(state, GATEWAY, self._answer(number, "tick", Tick(), later=node.due_s), left)
            if after.settled is None:
                raise Broken("on time: the deadline has passed, and the call has not settled")
            yield "the deadline passes", after
        if left.resubmits:
            answer = self._answer(number, "resubmit", PeerLost(ROAD), PeerFound(ROAD))
            if not answer.idle:
                fewer = left._replace(resubmits=left.resubmits - 1)
                yield "the road is lost and found", self._after(state, GATEWAY, answer, fewer)
        if left.hang_ups:
            answer = self._answer(number, "abandoned", Abandoned(self._call_id))
            yield "the caller hangs up", self._after(state, GATEWAY, answer, left._replace(hang_ups=left.hang_ups - 1))
        if left.gateway_crashes:
            life = state.lives[GATEWAY] + 1
            yield (
                "the gateway crashes",
                state._replace(
                    nodes=_swap(state.nodes, GATEWAY, self._fresh(GATEWAY, life)),
                    lives=_swap(state.lives, GATEWAY, life),
                    left=left._replace(gateway_crashes=left.gateway_crashes - 1),
                ),
            )

    def _worker_steps(self, state: State, place: int) -> Iterator[tuple[str, State]]:
        left, number, exchange = state.left, state.nodes[place], state.running[place]
        if exchange:
            over = _swap(state.running, place, 0)
            for name, (outcome, effects) in _ENDINGS.items():
                answer = self._answer(number, f"{name} {exchange}", Finished(self._call_id, exchange, outcome))
                yield f"{place}'s exchange ends: {name}", self._after(state, place, answer, left, running=over, ledger=effects)
        due_s = self._nodes[number].due_s
        if due_s is not None:
            if left.repeats:
                answer = self._answer(number, "tick", Tick(), later=due_s)
                yield f"{place}'s timer comes", self._after(state, place, answer, left._replace(repeats=left.repeats - 1))
            answer = self._answer(number, "late", Tick(), later=LONG_S)
            yield f"{place}'s timer comes very late", self._after(state, place, answer, left)
        if left.crashes:
            life = state.lives[place] + 1
            yield (
                f"{place} crashes",
                self._checked(
                    state._replace(
                        nodes=_swap(state.nodes, place, self._fresh(place, life)),
                        lives=_swap(state.lives, place, life),
                        running=_swap(state.running, place, 0),
                        ledger=min(LEDGER_MAX, state.ledger + bool(exchange)),  # what it had sent takes its effect
                        left=left._replace(crashes=left.crashes - 1),
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
