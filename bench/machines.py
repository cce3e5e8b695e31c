"""Microseconds a `handle` of each machine, on one call's way through all three."""

import collections
import os
import statistics
import time

from homing.core.broker import Broker, BrokerLimits
from homing.core.calls import Calls
from homing.core.holding import MethodPolicy, ProviderPolicy
from homing.core.machine import Action, Event, Finished, Machine, Received, Start, Submitted
from homing.core.messages import LIFE_BYTES, Claim, Settled
from homing.core.worker import Worker
from homing.engines.memory import Memory
from homing.errors import Outcome


class Timed:
    """A machine, and how long each of its events took."""

    def __init__(self, name: str, machine: Machine, taken: dict[str, list[float]]) -> None:
        self._name = name
        self._machine = machine
        self._taken = taken

    def handle(self, event: Event, now: float) -> list[Action]:
        began = time.perf_counter_ns()
        actions = self._machine.handle(event, now)
        taken = time.perf_counter_ns() - began
        what = type(event.message if isinstance(event, Received) else event).__name__
        self._taken[f"{self._name} {what}"].append(taken / 1000)
        return actions

    def next_deadline(self) -> float | None:
        return self._machine.next_deadline()


def handles(calls: int = 20_000) -> dict[str, float]:
    """The median of each machine and event, in microseconds; `all` is their sum, what one call costs in the machines."""
    taken: dict[str, list[float]] = collections.defaultdict(list)
    station, starts = Memory(), collections.deque[Start]()
    life = os.urandom(LIFE_BYTES)
    policies = {"m": MethodPolicy(provider="p")}
    providers = {"p": ProviderPolicy(in_flight_max=1000)}
    worker = Worker(os.urandom(LIFE_BYTES), services={"p": 1000}, methods=policies, providers=providers, random=lambda: 0.5)

    def begin(action: Action) -> None:
        if isinstance(action, Start):
            starts.append(action)

    station.attach(b"gateway", Timed("calls", Calls(life), taken), begin)
    station.attach(b"broker", Timed("broker", Broker(os.urandom(LIFE_BYTES), BrokerLimits()), taken), begin)
    station.attach(b"worker", Timed("worker", worker, taken), begin)
    station.straight(Claim, b"worker", b"gateway")
    station.straight(Settled, b"gateway", b"worker")
    station.connect(b"broker", b"gateway", 0.0)
    station.connect(b"broker", b"worker", 0.0)
    for number in range(calls):
        now = time.monotonic()
        asked = Submitted(
            call_id=life[:8] + number.to_bytes(8, "big"),
            service="p",
            method="m",
            deadline=now + 100,
            timeout_ms=100_000,
            effect="once",
            principal="bench",
            key="k",
            caller_key="k",
            body=b"{}",
        )
        station.feed(b"gateway", asked, now)
        start = starts.popleft()
        outcome = Outcome(reason="ok", executed="yes", result=b"{}")
        station.feed(b"worker", Finished(start.call_id, start.number, outcome), time.monotonic())
    medians = {name: round(statistics.median(each), 2) for name, each in taken.items() if len(each) >= calls}
    return {**medians, "all": round(sum(medians.values()), 2)}
