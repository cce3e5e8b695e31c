"""What must be so when the faults have stopped and everything is at rest: nothing is left, nobody gone is remembered, all is known."""

from collections.abc import Iterator, Mapping, Sequence

from homing.core.broker import Broker
from homing.core.calls import Calls
from homing.core.losses import Losses
from homing.core.messages import GATEWAY_BYTES
from homing.core.reach import METHODS_KEPT_S
from homing.core.worker import Worker
from homing.sim.invariants import Invariants, Violation
from homing.sim.plan import METHODS, MethodPlan, Plan
from homing.sim.process import Process
from homing.sim.snapshot import Value, fields_of, snapshot

NOTICED_WITHIN_S = 15.0  # that a worker is dead


def methods_of(plan: Plan, seat: int) -> tuple[MethodPlan, ...]:
    """What the worker on this seat can do."""
    narrow = plan.narrow and seat > 0 and seat == plan.workers - 1
    return METHODS[1:] if narrow else METHODS


def own_method(index: int) -> str:
    """A method that this process offers and no other; nobody calls it."""
    return f"acme.only_{index}"


def not_empty(plan: Plan, processes: Sequence[Process]) -> str | None:
    """What is not empty, said in words."""
    for process in processes:
        machine = process.machine
        assert isinstance(machine, Calls | Broker | Worker)
        if len(machine):
            return f"{process} still has {len(machine)} calls"
        if isinstance(machine, Broker) and machine.held_bytes:
            return f"{process} still holds {machine.held_bytes} bytes"
        if isinstance(machine, Worker):
            if machine.outcomes_held_bytes:
                return f"{process} still holds {machine.outcomes_held_bytes} bytes of outcomes"
            for provider in plan.providers:
                if machine.in_flight(provider) or process.running.get(provider):
                    return f"{process} still has a slot of {provider} taken"
    return None


def check_reach(plan: Plan, rules: Invariants, processes: Sequence[Process], dead: Sequence[Process], now: float) -> None:
    """Gateways know who lives and what can be done, and a worker's credit is divided among its brokers."""
    gateways, brokers, workers = (
        [process for process in processes if process.role == role] for role in ("gateway", "broker", "worker")
    )
    lives = {worker.life for worker in workers}
    keeps_order = plan.ordered and not plan.doubling  # else an old message that came last may count for long
    for gateway in gateways:
        for broker in brokers:
            if (told := rules.told(gateway, broker)) != lives:
                raise Violation("reach", f"{broker} tells {gateway} of {len(told)} workers, and {len(lives)} live, or others")
        learnt, known = rules.methods_of(gateway), _offered_to(plan, gateway, workers)
        lately = [one for one in dead if one.role == "worker" and one.died_at > now - METHODS_KEPT_S - NOTICED_WITHIN_S]
        if missing := known - learnt:
            raise Violation("reach", f"{gateway} does not know {min(missing)}")
        beyond = learnt - known - _offered_to(plan, gateway, lately)
        if beyond and keeps_order:
            raise Violation("reach", f"{gateway} still knows {min(beyond)}, which nobody offers")
    for worker in workers if keeps_order else ():
        for service in sorted({method.service for method in METHODS}):
            offered = sum(rules.offered(broker, worker).get(service, 0) for broker in brokers)
            if offered > max(plan.credit, len(brokers)):
                raise Violation("in flight", f"{worker} has told its brokers that it takes {offered} calls of {service}")


def _offered_to(plan: Plan, gateway: Process, workers: Sequence[Process]) -> frozenset[str]:
    names = set()
    for worker in workers:
        offers = [(method.name, method.service) for method in methods_of(plan, worker.seat)] + [
            (own_method(worker.index), "acme")
        ]
        names |= {name for name, service in offers if worker.permit.serves(service) and gateway.permit.calls(service)}
    return frozenset(names)


def check_forgotten(rules: Invariants, processes: Sequence[Process], dead: Sequence[Process]) -> None:
    """No table of any machine has a call, the life of somebody who is gone, or an address at which nobody is."""
    addresses = {process.address for process in processes}
    gone = dict.fromkeys(rules.records, "a call")
    for one in dead:
        gone[one.life] = f"the life of {one}"
        gone[one.life[:GATEWAY_BYTES]] = f"the head of {one}"
        if one.address not in addresses:
            gone[one.address] = f"the address of {one}"
    heads = {process.life[:GATEWAY_BYTES] for process in processes if process.role == "gateway"}
    for process in processes:
        for table, value in fields_of(process.machine):
            if (what := _remembered(value, gone, heads)) is not None:
                raise Violation("forgotten", f"{process} remembers {what} in {table}")


def _remembered(value: object, gone: Mapping[bytes, str], heads: set[bytes]) -> str | None:
    found = [each for each in _bytes_in(snapshot(value)) if each in gone]
    if isinstance(value, Losses):  # what nobody has seen is kept for a gateway that may come back
        found = [each for each in found if gone[each] == "a call" and each[:GATEWAY_BYTES] in heads]
    return gone[found[0]] if found else None


def _bytes_in(value: Value) -> Iterator[bytes]:
    if isinstance(value, bytes):
        yield value
    elif isinstance(value, tuple):
        for member in value:
            yield from _bytes_in(member)
