"""Processes of an imagined world, without a world."""

from random import Random

from homing.core.machine import Action, Event
from homing.sim.plan import Plan, calm
from homing.sim.process import Process, Role
from homing.sim.timeline import Timeline


class Silent:
    """A machine that says nothing."""

    def handle(self, event: Event, now: float) -> list[Action]:
        return []

    def next_deadline(self) -> float | None:
        return None


class Ears:
    """Hears what the world would give to its processes."""

    def __init__(self) -> None:
        self.heard: list[tuple[Process, Event]] = []

    def __call__(self, process: Process, *events: Event) -> None:
        self.heard += [(process, event) for event in events]

    def events(self) -> list[Event]:
        heard, self.heard = self.heard, []
        return [event for _, event in heard]


def process(role: Role = "worker", index: int = 1) -> Process:
    return Process(role, 0, index, f"{role} life {index}".ljust(16).encode(), f"{role} {index}".encode(), Silent())


def timeline(seed: int = 1) -> Timeline:
    return Timeline(Random(seed))


PLAN: Plan = calm(1, 10)
