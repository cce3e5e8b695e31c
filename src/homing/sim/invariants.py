"""What must hold after every step, kept incrementally: each rule looks only at what the step has changed.

The rules are about what can be seen from outside the machines: what they send, settle and start, and what the provider's ledger says.
"""

from collections.abc import Callable

from homing.core.broker import Broker
from homing.core.machine import Event, Learn, Life, Peer, PeerLost, Received, Settle, Start, Submitted, Tick
from homing.core.messages import (
    GATEWAY_BYTES,
    Disconnect,
    Grant,
    Heartbeat,
    Message,
    Ready,
    Reject,
    Release,
    Request,
    Workers,
)
from homing.core.permits import Permit
from homing.errors import Outcome, retry_of
from homing.sim.plan import ATTIC, METHODS, MethodPlan, Plan
from homing.sim.process import Process
from homing.sim.provider import result_of
from homing.sim.strangers import FORGED

RULES = {
    "one answer": "each admitted call settles exactly once, and to its own gateway",
    "on time": "no call settles later than its deadline, but for a loop that stood still",
    "one claim": "a `once` call is held by one claim, ever, unless that one is released",
    "begun is not released": "no worker releases a claim under which it began",
    "granted first": "no exchange begins without a grant to that life, nor after the deadline or the answer",
    "no is no": "`executed: no`, and neither the ledger has it nor may it ever",
    "yes is yes": "`executed: yes`, and the ledger has it",
    "never twice": "a `once` call is in the ledger at most once, and not sent again when a byte of it may have left",
    "whose order": "who asks again only after a proven `no` never finds the order in the ledger twice",
    "own result": "a reply reaches only its caller, and is that call's own",
    "in flight": "no worker asks a provider more at once than it may, nor is given more than its credit",
    "bounded": "every queue and every held byte is within its limit",
    "fits": "no frame is larger than its receiver reads",
    "permitted": "nobody asks for or begins what its key may not, and the word of a stranger counts for nothing",
    "empty": "after draining every table is empty",
    "forgotten": "after draining nobody is remembered who is gone, nor any call",
    "reach": "once the faults stop, gateways know which workers live and what they can do, and credit is divided, not doubled",
    "losses are told": "once the faults stop, a gateway learns within seconds that the worker of a call is dead",
    "sound": "no machine raises",
    "time passes": "a timer that has fired moves on",
    "heals": "once the faults stop, new calls succeed",
}
GROWING = frozenset({Request, Reject, Heartbeat, Disconnect, Ready, Tick, PeerLost})  # after these a broker's queue may be longer
EPSILON_S = 1e-6  # clocks are floats
BROKEN_CLOCK = 0.02  # of the time a call had: how late a worker may begin by its own clock


class Violation(Exception):
    """A rule did not hold. `call_id` is None where no single call is to blame."""

    def __init__(self, rule: str, what: str, call_id: bytes | None = None) -> None:
        super().__init__(f"{rule}: {what}")
        self.rule = rule
        self.what = what
        self.call_id = call_id


def may_call(permit: Permit, service: str, principal: str) -> bool:
    """Whether whoever has this permit may ask for this service in that name. Who says no name calls in its key's."""
    return permit.calls(service) and (not permit.principal or principal in ("", permit.principal))


class Submission:
    """A call before a gateway has admitted it. Its deadline begins to run then.

    `order` is what the caller wants done: whoever asks again makes a new call, with the same order.
    """

    __slots__ = ("asked_before", "method", "number", "order", "principal", "record", "timeout_s", "words")

    def __init__(
        self, method: MethodPlan, principal: str, timeout_s: float, order: str, asked_before: int = 0, words: bytes = b""
    ) -> None:
        self.asked_before = asked_before
        self.method = method
        self.principal = principal
        self.timeout_s = timeout_s
        self.order = order
        self.words = words  # what else there is in the params
        self.number = 0
        self.record: Record | None = None

    def asked(self, gateway: Process, local: float) -> Submitted:
        """What the gateway's machine is told. The order is the idempotency key where the method has one."""
        call_id = gateway.life[:GATEWAY_BYTES] + self.number.to_bytes(8, "big")
        method = self.method
        keyed = method.effect == "keyed"
        return Submitted(
            call_id=call_id,
            service=method.service,
            method=method.name,
            deadline=local + self.timeout_s,
            timeout_ms=round(self.timeout_s * 1000),
            effect=method.effect,
            principal=self.principal,
            key=self.order if keyed else call_id.hex(),
            caller_key=self.order,
            body=self.order.encode() + self.words,
            key_lifetime_s=86400.0 if keyed else None,
        )


class Record:
    """What is known of one call from outside."""

    __slots__ = (
        "asked",
        "begun",
        "deadline",
        "effects",
        "gateway",
        "holder",
        "hung_up",
        "may_have_left",
        "outcome",
        "released",
        "submission",
    )

    def __init__(self, asked: Submitted, submission: Submission, gateway: Process) -> None:
        self.asked = asked
        self.submission = submission
        self.gateway = gateway
        self.deadline = gateway.true(asked.deadline)
        self.hung_up = False
        self.outcome: Outcome | None = None
        self.holder: tuple[Life, int] | None = None
        self.released: set[tuple[Life, int]] | None = None
        self.begun: dict[Life, int] | None = None
        self.may_have_left = False
        self.effects = 0

    def is_settled(self) -> bool:
        """Whether the gateway has answered."""
        return self.outcome is not None


class Invariants:
    """Told of every step; raises `Violation`. `checks` counts what was looked at, `at` says who has an address."""

    def __init__(self, plan: Plan, at: Callable[[Peer], Process]) -> None:
        self._plan = plan
        self._at = at
        self.now = 0.0  # the true instant of the step under way
        self.cause: Event | None = None  # what is being handled
        self.records: dict[bytes, Record] = {}
        self.open = 0
        self.checks = 0
        self.ledger: set[str] = set()
        self._open_at: dict[int, int] = {}  # by the gateway's index
        self._orders: dict[str, int] = {}  # how often each order of a `once` method is in the ledger
        self._services = sorted({method.service for method in METHODS})
        self._offered: dict[tuple[int, Life], Ready] = {}  # what a broker's process has last heard of a worker
        self._told: dict[tuple[int, Peer], Workers] = {}  # what a gateway's process has last heard of a broker
        self._learnt: dict[int, frozenset[str]] = {}  # the names of the methods that a gateway's process knows
        self.watched: dict[type, Callable[..., None]] = {Grant: self._granted, Release: self._released, Request: self._given}
        self.heard: dict[type, Callable[..., None]] = {Ready: self._offers, Workers: self._tells}

    # Callers and gateways

    def admitted(self, asked: Submitted, submission: Submission, gateway: Process) -> Record:
        """A call was given to its gateway."""
        record = self.records[asked.call_id] = submission.record = Record(asked, submission, gateway)
        self.open += 1
        self._open_at[gateway.index] = self._open_at.get(gateway.index, 0) + 1
        return record

    def settled(self, process: Process, settle: Settle, local: float) -> Record:
        """A gateway answers."""
        self.checks += 1
        record = self.records.get(settle.call_id)
        if record is None:
            raise Violation("one answer", f"{process} settles a call that nobody made", settle.call_id)
        asked, outcome = record.asked, settle.outcome
        if record.gateway is not process:
            raise Violation("one answer", f"{process} settles a call of {record.gateway}", asked.call_id)
        if record.outcome is not None:
            raise Violation("one answer", f"settled again: {outcome}", asked.call_id)
        late_s = local - asked.deadline
        if late_s > EPSILON_S and process.resumed_at != self.now:
            raise Violation("on time", f"settled {late_s:.6f} s late", asked.call_id)
        record.outcome = outcome
        if outcome.reason == "forbidden" and may_call(process.permit, asked.service, asked.principal):
            raise Violation("permitted", f"{process} is refused what its key may call", asked.call_id)
        self.open -= 1
        self._open_at[process.index] -= 1
        if outcome.reason == "ok":
            if outcome.result == FORGED.result:
                raise Violation("permitted", "a stranger has answered", asked.call_id)
            if outcome.result != result_of(asked.key, asked.body):
                raise Violation("own result", f"{outcome.result[:64]!r} is not of {asked.key}", asked.call_id)
            if outcome.executed != "yes":
                raise Violation("yes is yes", "an ok that says executed: no", asked.call_id)
        elif outcome.retry != retry_of(outcome.reason, outcome.executed, asked.effect):
            raise Violation("no is no", f"retry is {outcome.retry} after {outcome.reason}", asked.call_id)
        if outcome.executed == "yes" and asked.key not in self.ledger:
            raise Violation("yes is yes", f"{outcome.reason}, and it is not in the ledger", asked.call_id)
        if outcome.executed == "no":
            if record.effects:
                raise Violation("no is no", f"{outcome.reason}, and it is in the ledger", asked.call_id)
            if record.may_have_left and not (asked.effect == "keyed" and outcome.settles_earlier):
                raise Violation("no is no", f"{outcome.reason}, and a byte of it may have left", asked.call_id)
        return record

    def overdue(self, record: Record) -> None:
        """Its deadline is past, and its gateway's loop turns."""
        if record.outcome is None and record.gateway.alive:
            raise Violation("on time", "not settled at its deadline", record.asked.call_id)

    def open_at(self, process: Process) -> int:
        """How many calls of this gateway have not settled."""
        return self._open_at.get(process.index, 0)

    def orphaned(self, process: Process) -> None:
        """A gateway crashed: its calls will never be answered."""
        self.open -= self._open_at.pop(process.index, 0)

    # Claims

    def sent(self, process: Process, peer: Peer, message: Message) -> None:
        """A message of those in `watched` leaves."""
        self.watched[type(message)](process, peer, message)

    def _granted(self, process: Process, peer: Peer, grant: Grant) -> None:
        if process.role != "gateway":
            return
        self.checks += 1
        record = self.records.get(grant.call_id)
        if record is None or record.gateway is not process or record.outcome is not None:
            raise Violation("granted first", f"{process} grants a call it does not have", grant.call_id)
        who = (grant.life, grant.claim)
        if record.holder != who:
            if record.asked.effect == "once" and record.holder is not None and record.holder not in (record.released or ()):
                raise Violation("one claim", f"granted to {grant.claim}, held by {record.holder[1]}", grant.call_id)
            record.holder = who

    def _released(self, process: Process, peer: Peer, release: Release) -> None:
        if process.role != "worker":
            return
        self.checks += 1
        record = self.records.get(release.call_id)
        if record is None:
            return
        if record.begun is not None and record.begun.get(release.life) == release.claim:
            raise Violation("begun is not released", f"{process} releases claim {release.claim}", release.call_id)
        if record.released is None:
            record.released = set()
        record.released.add((release.life, release.claim))

    # Workers and the provider

    def started(self, process: Process, start: Start, *, may_have_left: bool) -> None:
        """A worker asks the provider."""
        self.checks += 1
        record = self.records.get(start.call_id)
        if record is None:
            raise Violation("granted first", f"{process} asks for a call that nobody made", start.call_id)
        caller, service = record.gateway.permit, record.asked.service
        if not process.permit.serves(service) or not may_call(caller, service, start.principal):
            raise Violation("permitted", f"{process} begins what {record.gateway} asked for", start.call_id)
        in_flight_max = self._plan.providers[start.provider].in_flight_max
        if process.running[start.provider] > in_flight_max:
            raise Violation("in flight", f"{process} asks {start.provider} more than {in_flight_max} at once", start.call_id)
        if start.lookup:
            return
        asked, cause = record.asked, self.cause
        if type(cause) is Received and type(cause.message) is Grant:
            grant = cause.message
            if grant.life != process.life or grant.call_id != start.call_id:
                raise Violation("granted first", f"{process} begins by a grant that is not its own", start.call_id)
            if record.begun is None:
                record.begun = {}
            record.begun[process.life] = grant.claim
            if record.released is not None and (process.life, grant.claim) in record.released:
                raise Violation(
                    "begun is not released", f"{process} begins under the released claim {grant.claim}", start.call_id
                )
        elif record.begun is None or process.life not in record.begun:
            raise Violation("granted first", f"{process} begins without a grant", start.call_id)
        allowance_s = asked.timeout_ms / 1000 * BROKEN_CLOCK + EPSILON_S
        if self.now > record.deadline + allowance_s:
            raise Violation(
                "granted first", f"{process} begins {self.now - record.deadline:.3f} s after the deadline", start.call_id
            )
        if asked.effect == "once":
            if record.may_have_left:
                raise Violation("never twice", "sent again, and a byte of it may have left before", start.call_id)
            if record.holder != (process.life, (record.begun or {}).get(process.life)):
                raise Violation("one claim", f"{process} begins, and another claim holds the call", start.call_id)
        outcome = record.outcome
        if outcome is not None and outcome.executed == "no" and not (asked.effect == "keyed" and outcome.settles_earlier):
            raise Violation("no is no", f"{process} begins after the call was answered {outcome.reason}", start.call_id)
        record.may_have_left = record.may_have_left or may_have_left

    def had_effect(self, call_id: bytes, key: str) -> None:
        """The ledger has grown."""
        self.checks += 1
        self.ledger.add(key)
        record = self.records[call_id]
        record.effects += 1
        asked = record.asked
        if record.outcome is not None and record.outcome.executed == "no":
            raise Violation("no is no", f"answered {record.outcome.reason}, and now it is in the ledger", call_id)
        if asked.effect == "safe":
            return
        if record.effects > 1:
            raise Violation("never twice", f"{record.effects} times in the ledger", call_id)
        order = record.submission.order
        count = self._orders[order] = self._orders.get(order, 0) + 1
        if count > 1:
            raise Violation("whose order", f"{order} is {count} times in the ledger", call_id)

    # Brokers

    def _given(self, process: Process, peer: Peer, request: Request) -> None:
        """A broker has given a worker a call."""
        if process.role != "broker":
            return
        broker = process.machine
        assert isinstance(broker, Broker)
        self.checks += 1
        service, receiver = request.service, self._at(peer)
        if not receiver.permit.serves(service):
            raise Violation("permitted", f"{process} gives {receiver} a call of {service}", request.call_id)
        if service == ATTIC:
            return  # strangers among themselves
        given = broker.services[service].workers[receiver.life]
        credit = self._offered[process.index, receiver.life].services[service]
        # what a tick gives up on for another service counts for this one too, from later in that same tick on
        strays = 0 if type(self.cause) is Tick else len(given.strays)
        held = len(given.held[service]) + strays
        if held > credit:
            raise Violation("in flight", f"{process} has given {receiver} {held} calls, credit is {credit}", request.call_id)

    def _offers(self, process: Process, peer: Peer, ready: Ready) -> None:
        """Somebody says what it does. Only of itself is it believed."""
        if self._at(peer).life == ready.life:
            self._offered[process.index, ready.life] = ready

    def offered(self, broker: Process, worker: Process) -> dict[str, int]:
        """How many calls of each service a broker may give a worker, as far as it has heard."""
        ready = self._offered.get((broker.index, worker.life))
        return ready.services if ready is not None else {}

    # What gateways know

    def _tells(self, process: Process, peer: Peer, workers: Workers) -> None:
        self._told[process.index, peer] = workers

    def learnt(self, process: Process, learn: Learn) -> None:
        """A gateway knows these methods from now on."""
        self._learnt[process.index] = frozenset(offer.name for offer in learn.methods)

    def methods_of(self, gateway: Process) -> frozenset[str]:
        """The names of the methods that a gateway knows."""
        return self._learnt.get(gateway.index, frozenset())

    def told(self, gateway: Process, broker: Process) -> frozenset[Life]:
        """Which lives of workers a broker has last told a gateway."""
        workers = self._told.get((gateway.index, broker.address))
        return frozenset(workers.lives) if workers is not None else frozenset()

    def bounded(self, process: Process) -> None:
        """A broker has handled something after which its queues may be longer."""
        broker = process.machine
        assert isinstance(broker, Broker)
        self.checks += 1
        for service in self._services:
            if broker.queued(service) > broker.limits.queue_length_max:
                raise Violation("bounded", f"{process} has {broker.queued(service)} calls queued for {service}")
        if broker.held_bytes > broker.limits.held_bytes_max:
            raise Violation("bounded", f"{process} holds {broker.held_bytes} bytes")
