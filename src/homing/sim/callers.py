"""Callers: each submits an order, some hang up, some ask again where the answer says that they may."""

from collections.abc import Callable, Sequence

from homing.core.machine import Abandoned, Event
from homing.sim.invariants import Record, Submission
from homing.sim.plan import LARGE_BYTES, METHODS, MethodPlan, Plan
from homing.sim.process import Process
from homing.sim.provider import AT_LENGTH
from homing.sim.timeline import Timeline

PRINCIPALS = ("webshop", "ledger", "")
NOBODY_THERE_S = 0.3  # how long a caller waits who was refused the connection
AGAIN_AFTER_S = 1.0
ASKED_MAX = 3
BALANCED = 0.8  # how many come through a balancer that sees which gateways are ready


class Callers:
    """They come one by one, at random. `admit` and `feed` are the world's: a call, or an event, for a gateway."""

    __slots__ = (
        "_admit",
        "_feed",
        "_gateways",
        "_orders",
        "_plan",
        "_random",
        "_timeline",
        "answers",
        "hung_up",
        "left",
        "quiet",
        "submitted",
    )

    def __init__(
        self,
        plan: Plan,
        timeline: Timeline,
        gateways: Sequence[Process],
        admit: Callable[[Process, Submission], None],
        feed: Callable[[Process, Event], None],
    ) -> None:
        self._plan = plan
        self._timeline = timeline
        self._random = timeline.random
        self._gateways = gateways
        self._admit = admit
        self._feed = feed
        self._orders = 0
        self.left = plan.calls  # orders that have not come yet
        self.submitted = 0
        self.hung_up = 0
        self.quiet = False
        self.answers: dict[tuple[str, str], int] = {}  # by reason and executed

    def come(self) -> None:
        """The next one comes, and leaves word when the one after it will."""
        random = self._random
        shortest_s, longest_s = self._plan.timeout_s
        method, principal = random.choice(METHODS), random.choice(PRINCIPALS)
        self.order(method, principal, shortest_s + (longest_s - shortest_s) * random.random(), words=self._words())
        self.left -= 1
        if self.left:
            self._timeline.after(self._plan.arrival_s * random.expovariate(1.0), self.come)

    def _words(self) -> bytes:
        """What else there is in the params: some say very much, and some ask for a long answer."""
        if self._plan.large and self._random.random() < self._plan.large:
            return self._random.choice((AT_LENGTH, bytes(LARGE_BYTES)))
        return b""

    def order(
        self, method: MethodPlan, principal: str, timeout_s: float, gateway: Process | None = None, *, words: bytes = b""
    ) -> Submission:
        """A new order, to this gateway or to any."""
        self._orders += 1
        submission = Submission(method, principal, timeout_s, f"order-{self._orders}", words=words)
        self._submit(submission, gateway)
        return submission

    def _submit(self, submission: Submission, gateway: Process | None = None) -> None:
        if gateway is None:
            there = [process for process in self._gateways if process.alive]
            if self._random.random() < BALANCED:
                there = [process for process in there if not process.draining] or there
            if not there:
                self._timeline.after(NOBODY_THERE_S, self._submit, submission)
                return
            gateway = there[0] if len(there) == 1 else self._random.choice(there)
        self.submitted += 1
        submission.number = self.submitted
        self._admit(gateway, submission)

    def accepted(self, record: Record) -> None:
        """A gateway has taken the call. Some callers do not wait for the answer."""
        plan = self._plan
        if plan.hang_up and not self.quiet and self._random.random() < plan.hang_up:
            self._timeline.after(self._random.random() * plan.timeout_s[1] * 0.5, self._hang_up, record)

    def _hang_up(self, record: Record) -> None:
        if record.outcome is None and record.gateway.alive:
            self.hung_up += 1
            record.hung_up = True
            self._feed(record.gateway, Abandoned(record.asked.call_id))

    def answered(self, record: Record) -> None:
        """The answer is there. Whoever was told that it is safe may ask again, with the same order."""
        outcome = record.outcome
        assert outcome is not None
        said = (outcome.reason, outcome.executed)
        self.answers[said] = self.answers.get(said, 0) + 1
        if outcome.reason == "ok" or record.hung_up or outcome.retry not in ("safe", "same_key"):
            return
        if self._plan.ask_again and record.submission.asked_before < ASKED_MAX and self._random.random() < self._plan.ask_again:
            first = record.submission
            again = Submission(
                first.method, first.principal, first.timeout_s, first.order, first.asked_before + 1, words=first.words
            )
            self._timeline.after(AGAIN_AFTER_S * self._random.random(), self._submit, again)
