"""An imagined provider: it answers, refuses, hangs, forgets to answer, and keeps a ledger of what it did, and when."""

from collections.abc import Callable
from typing import Protocol

from homing.core.machine import Event, Finished, Prepare, Prepared, Start, Stop
from homing.errors import Effect, Outcome, Verdict, failure
from homing.sim.plan import LARGE_BYTES, Behaviour, Plan
from homing.sim.process import Process
from homing.sim.timeline import Timeline

# The provider has proven that it did and will do nothing: it was never reached, or it said so.
PROVEN_NO: frozenset[Behaviour] = frozenset({"refuse", "connect hangs", "throttle", "no", "own no", "deny"})
HAS_EFFECT: frozenset[Behaviour] = frozenset(
    {"ok", "hang after", "reset after", "late", "unavailable after", "invalid after", "proven after"}
)
ANSWERS_WELL: frozenset[Behaviour] = frozenset({"ok", "late"})
NEVER_ANSWERS: frozenset[Behaviour] = frozenset({"connect hangs", "hang", "hang after"})

WELL_S = 0.5  # a provider that is well answers within it


AT_LENGTH = b" at length"  # params that end like this ask for a long result


def result_of(key: str, body: bytes) -> bytes:
    """The result of the call with this key and these params: it says whose it is."""
    result = b'"%s"' % key.encode()
    return result.ljust(LARGE_BYTES) if body.endswith(AT_LENGTH) else result


class Witness(Protocol):
    """Whoever watches the provider: the invariants."""

    def started(self, process: Process, start: Start, *, may_have_left: bool) -> None:
        """A worker asks the provider. `may_have_left` False: it is proven that nothing will come of it."""
        ...

    def had_effect(self, call_id: bytes, key: str) -> None:
        """The ledger has grown."""
        ...


class Exchange:
    """One request under way."""

    __slots__ = ("behaviour", "over", "process", "start")

    def __init__(self, process: Process, start: Start, behaviour: Behaviour) -> None:
        self.process = process
        self.start = start
        self.behaviour: Behaviour = behaviour
        self.over = False


class Provider:
    """All providers of the imagined world. Exchanges end when the shell would end them; effects come when they come."""

    __slots__ = (
        "_feed",
        "_plan",
        "_random",
        "_refused",
        "_running",
        "_timeline",
        "_witness",
        "faults",
        "hangs",
        "ledger",
        "quiet",
    )

    def __init__(self, plan: Plan, timeline: Timeline, feed: Callable[[Process, Event], None], witness: Witness) -> None:
        self._plan = plan
        self._timeline = timeline
        self._random = timeline.random
        self._feed = feed
        self._witness = witness
        self._running: dict[tuple[int, bytes, int], Exchange] = {}
        self._refused: set[str] = set()  # keys that were refused for good
        self.ledger: dict[str, float] = {}  # by key: when it had its (first) effect
        self.faults: dict[str, int] = {}
        self.quiet = False
        self.hangs = False  # takes requests, and never answers

    def prepare(self, process: Process, prepare: Prepare) -> None:
        """Fetch an access token."""
        problem = None
        if self._plan.token_problem and not self.quiet and self._random.random() < self._plan.token_problem:
            problem = "The token endpoint says no."
            self.faults["token"] = self.faults.get("token", 0) + 1
        delay_s = self._plan.token_s * self._random.random()
        self._timeline.after(delay_s, self._prepared, process, Prepared(prepare.call_id, problem))

    def _prepared(self, process: Process, event: Prepared) -> None:
        if process.alive:
            self._feed(process, event)

    def start(self, process: Process, start: Start) -> None:
        """Take a request. What will become of it is decided now."""
        behaviour = self._behaviour()
        exchange = Exchange(process, start, behaviour)
        running = process.running
        running[start.provider] = running.get(start.provider, 0) + 1
        self._running[(process.index, start.call_id, start.number)] = exchange
        timeline, now = self._timeline, self._timeline.now
        taken_s = self._plan.provider_s * self._random.expovariate(1.0)
        if self.quiet:
            taken_s = min(taken_s, WELL_S)
        deadline = max(now, process.true(start.deadline))
        self._witness.started(process, start, may_have_left=behaviour not in PROVEN_NO)
        if not start.lookup:
            if behaviour in HAS_EFFECT:
                if behaviour == "late":
                    taken_s += self._random.random() * (deadline - now + 3.0)
                timeline.at(now + taken_s * 0.7, self._take_effect, start.effect, start.call_id, start.key)
            elif behaviour == "reset, done later":
                timeline.at(
                    now + taken_s + 20.0 * self._random.random(), self._take_effect, start.effect, start.call_id, start.key
                )
        if behaviour in NEVER_ANSWERS or now + taken_s >= deadline:
            timeline.at(deadline, self._end, exchange, self._too_late(start, behaviour))
        else:
            timeline.at(now + taken_s, self._end, exchange, None)

    def stop(self, process: Process, stop: Stop) -> None:
        """The worker ends an exchange; what has left has left."""
        exchange = self._running.get((process.index, stop.call_id, stop.number))
        if exchange is not None:
            executed: Verdict = "no" if exchange.behaviour in ("refuse", "connect hangs") else "unknown"
            self._end(exchange, failure("cancelled", "The worker stopped it.", executed=executed))

    def crashed(self, process: Process) -> None:
        """Nobody waits for the answers any more. The effects come all the same."""
        for key, exchange in list(self._running.items()):
            if exchange.process is process:
                exchange.over = True
                del self._running[key]

    def _behaviour(self) -> Behaviour:
        plan = self._plan
        if self.hangs:
            return "hang"
        if self.quiet or not plan.faulty or self._random.random() >= plan.faulty:
            return "ok"
        behaviour = self._random.choice(plan.behaviours)
        self.faults[behaviour] = self.faults.get(behaviour, 0) + 1
        return behaviour

    def _take_effect(self, effect: Effect, call_id: bytes, key: str) -> None:
        if effect == "keyed" and (key in self.ledger or key in self._refused):
            return  # it knows the key
        self.ledger.setdefault(key, self._timeline.now)
        self._witness.had_effect(call_id, key)

    def _end(self, exchange: Exchange, outcome: Outcome | None) -> None:
        if exchange.over:
            return
        exchange.over = True
        start, process = exchange.start, exchange.process
        del self._running[(process.index, start.call_id, start.number)]
        process.running[start.provider] -= 1
        if outcome is None:
            outcome = self._looked_up(start, exchange.behaviour) if start.lookup else self._answer(start, exchange.behaviour)
        self._feed(process, Finished(start.call_id, start.number, outcome))

    def _too_late(self, start: Start, behaviour: Behaviour) -> Outcome:
        if behaviour in ("refuse", "connect hangs"):
            return failure(start.late, "No connection, and the time is up.", executed="no")
        return failure(start.late, "The time is up.", executed="unknown")

    def _looked_up(self, start: Start, behaviour: Behaviour) -> Outcome:
        if start.key in self.ledger and behaviour in ANSWERS_WELL:
            return Outcome(reason="ok", executed="yes", result=result_of(start.key, start.body))
        return failure("provider_failed", "Not found.")

    def _answer(self, start: Start, behaviour: Behaviour) -> Outcome:
        known = start.effect == "keyed" and start.key in self.ledger
        refused = start.effect == "keyed" and start.key in self._refused
        match behaviour:
            case "ok" | "late" if not refused:
                return Outcome(reason="ok", executed="yes", result=result_of(start.key, start.body))
            case "own no" if known:
                return Outcome(reason="ok", executed="yes", result=result_of(start.key, start.body))
            case "ok" | "late" | "own no":
                self._refused.add(start.key)
                return Outcome(reason="provider_refused", executed="no", again=False, settles_earlier=True)
            case "no":
                return failure("provider_refused", "No.")
            case "deny":
                return failure("provider_denied", "Who are you?")
            case "refuse":
                return failure("provider_unreachable", "Connection refused.")
            case "throttle":
                return failure("provider_throttled", "Not so fast.", retry_after_ms=self._random.choice((None, 200, 5000)))
            case "unavailable before" | "unavailable after":
                return failure("provider_failed", "503", retry_after_ms=self._random.choice((None, 200, 5000)))
            case "in progress":
                return failure("provider_failed", "409")
            case "invalid after":
                return failure("response_invalid", "What is this?")
            case "proven after" if not refused:
                return failure("response_invalid", "Done, and then nonsense.", executed="yes")
            case _:
                return failure("connection_lost", "The connection broke.")
