"""What befalls processes and wires: crashes, cuts, loops that stand still, orderly leaving."""

from collections.abc import Callable
from functools import partial
from random import Random
from typing import Protocol

from homing.sim.network import Network
from homing.sim.plan import Disturbance, Plan
from homing.sim.process import Process, Role
from homing.sim.timeline import Timeline

DOWN_S = 3.0  # at most, between a crash and the restart
CUT_S = 8.0
STALL_S = 4.0
DRAIN_S = 2.0  # an orderly leaving takes no longer
NOTICED_S = 6.5


class Processes(Protocol):
    """The world, as far as faults see it."""

    @property
    def processes(self) -> list[Process]:
        """Everybody who lives."""
        ...

    def crash(self, process: Process, noticed_after_s: float) -> None:
        """It is gone from one instant to the next."""
        ...

    def restart(self, process: Process, told: bool) -> None:
        """A new life on the same seat."""
        ...

    def stall(self, processes: list[Process]) -> None:
        """Their loops stand still."""
        ...

    def resume(self, processes: list[Process]) -> None:
        """All that has come meanwhile comes at once."""
        ...

    def tell(self, what: str, *befallen: Process) -> None:
        """For the story."""
        ...

    def drain(self, process: Process) -> None:
        """Tell it to leave."""
        ...

    def leave(self, process: Process) -> None:
        """It has drained, or its time is up."""
        ...


class Faults:
    """Each kind that the plan switches on comes at random until `quiet`; what was broken is mended all the same."""

    __slots__ = ("_network", "_plan", "_random", "_strikes", "_timeline", "_world", "counts", "quiet")

    def __init__(self, plan: Plan, timeline: Timeline, network: Network, world: Processes) -> None:
        self._plan = plan
        self._timeline = timeline
        self._random: Random = timeline.random
        self._network = network
        self._world = world
        self.quiet = False
        self.counts: dict[str, int] = {}
        self._strikes: dict[Disturbance, Callable[[], bool]] = {  # each says whether there was anybody to strike
            "crash gateway": partial(self._crash, "gateway"),
            "crash broker": partial(self._crash, "broker"),
            "crash worker": partial(self._crash, "worker"),
            "cut told": partial(self._cut, told=True),
            "cut silent": partial(self._cut, told=False),
            "stall": self._stall,
            "drain": self._drain,
        }

    def begin(self) -> None:
        """From now on they come."""
        for kind, every_s in self._plan.disturbances:
            self._timeline.after(every_s * self._random.expovariate(1.0), self._come, kind, every_s)

    def _come(self, kind: Disturbance, every_s: float) -> None:
        if self.quiet:
            return
        self._timeline.after(every_s * self._random.expovariate(1.0), self._come, kind, every_s)
        if self._strikes[kind]():
            self.counts[kind] = self.counts.get(kind, 0) + 1

    def _any(self, suits: Callable[[Process], bool]) -> Process | None:
        suitable = [process for process in self._world.processes if suits(process)]
        return self._random.choice(suitable) if suitable else None

    def _crash(self, role: Role) -> bool:
        process = self._any(lambda process: process.role == role)
        if process is None:
            return False
        random = self._random
        noticed_after_s = random.choice((0.0, NOTICED_S * random.random()))
        down_s = random.choice((0.01, DOWN_S)) * random.random()
        self._world.crash(process, noticed_after_s)
        self._timeline.after(down_s, self._world.restart, process, random.random() < 0.5)
        return True

    def _cut(self, *, told: bool) -> bool:
        random = self._random
        wires = [wire for wire in self._network.wires if wire.up]
        if not wires:
            return False
        # A whole process is cut off, or one wire.
        wire = random.choice(wires)
        lonely = random.choice((None, wire.client, wire.broker))
        duration_s = random.choice((0.3, 2.0, CUT_S)) * random.random()
        client_told = told and random.random() < 0.8
        broker_told = told and (random.random() < 0.8 or not client_told)
        for other in wires:
            if other is wire or lonely in (other.client, other.broker):
                self._world.tell(f"cut for {duration_s:.2f} s", other.client, other.broker)
                self._network.cut(other, duration_s, client_told=client_told, broker_told=broker_told)
        return True

    def _stall(self) -> bool:
        if self._plan.engine == "memory":  # one process, one loop
            stalled = [process for process in self._world.processes if not process.stalled]
        else:
            one = self._any(lambda process: not process.stalled)
            stalled = [one] if one is not None else []
        if not stalled:
            return False
        self._world.stall(stalled)
        self._timeline.after(self._random.choice((0.2, STALL_S)) * self._random.random(), self._world.resume, stalled)
        return True

    def _drain(self) -> bool:
        process = self._any(lambda process: process.role in ("gateway", "worker") and not process.draining)
        if process is None:
            return False
        self._world.drain(process)
        self._timeline.after(DRAIN_S * self._random.random(), self._world.leave, process)
        return True
