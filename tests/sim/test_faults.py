"""Faults: who is struck, how it ends, and that nobody is struck who cannot be."""

import msgspec
import pytest

from homing.sim.faults import Faults
from homing.sim.network import Network
from homing.sim.plan import Disturbance, Plan
from homing.sim.process import Process
from tests.sim.people import PLAN, Ears, process, timeline


class World:
    """Takes down what faults do."""

    def __init__(self, kind: Disturbance, *processes: Process, **changed: object) -> None:
        self.plan: Plan = msgspec.structs.replace(PLAN, **{"engine": "network", "disturbances": ((kind, 1.0),), **changed})
        self.processes = list(processes)
        self.timeline = timeline()
        self.network = Network(self.plan, self.timeline, Ears())
        self.faults = Faults(self.plan, self.timeline, self.network, self)
        self.did: list[tuple[str, object]] = []
        self.told: list[str] = []
        for one in processes:
            self.network.enter(one)
        for client in processes:
            for broker in processes:
                if client.role != "broker" and broker.role == "broker":
                    self.network.connect(client, broker)

    def crash(self, process: Process, noticed_after_s: float) -> None:
        self.did.append(("crash", process))

    def restart(self, process: Process, told: bool) -> None:
        self.did.append(("restart", process))

    def stall(self, processes: list[Process]) -> None:
        for one in processes:
            one.stalled = True
        self.did.append(("stall", list(processes)))

    def resume(self, processes: list[Process]) -> None:
        for one in processes:
            one.stalled = False
        self.did.append(("resume", list(processes)))

    def drain(self, process: Process) -> None:
        process.draining = True
        self.did.append(("drain", process))

    def leave(self, process: Process) -> None:
        self.did.append(("leave", process))

    def tell(self, what: str, *befallen: Process) -> None:
        self.told.append(what)

    def suffers(self, seconds: float) -> list[tuple[str, object]]:
        self.faults.begin()
        self.timeline.run(seconds)
        self.faults.quiet = True
        self.timeline.run(seconds + 20.0)
        return self.did


def everybody() -> tuple[Process, Process, Process]:
    return process("gateway", 1), process("broker", 2), process("worker", 3)


@pytest.mark.parametrize("role", ["gateway", "broker", "worker"])
def test_who_crashes_starts_again(role: str) -> None:
    world = World(f"crash {role}", *everybody())  # type: ignore[arg-type]
    did = world.suffers(20.0)
    assert {name for name, _ in did} == {"crash", "restart"}
    assert {str(one).split()[0] for _, one in did} == {role}
    assert sum(name == "crash" for name, _ in did) == sum(name == "restart" for name, _ in did)
    assert world.faults.counts == {f"crash {role}": sum(name == "crash" for name, _ in did)}


def test_nobody_is_struck_where_nobody_is() -> None:
    gateway, _, _ = everybody()
    for kind in ("crash broker", "cut told"):
        world = World(kind, gateway)
        assert world.suffers(20.0) == []
        assert world.faults.counts == {}
    world = World("drain", process("broker"))
    assert world.suffers(20.0) == []


@pytest.mark.parametrize("kind", ["cut told", "cut silent"])
def test_what_is_cut_is_mended(kind: Disturbance) -> None:
    world = World(kind, *everybody(), process("broker", 4))
    assert world.suffers(20.0) == []
    assert world.faults.counts[kind] > 0
    assert all(wire.up for wire in world.network.wires)
    assert any(wire.epoch for wire in world.network.wires)
    assert all(what.startswith("cut for") for what in world.told)


def test_one_loop_stands_still_at_a_time_or_in_one_process_all() -> None:
    did = World("stall", *everybody()).suffers(20.0)
    assert {len(stalled) for name, stalled in did if name == "stall"} == {1}  # type: ignore[arg-type]
    assert did[-1][0] == "resume"
    did = World("stall", *everybody(), engine="memory").suffers(20.0)
    assert {len(stalled) for name, stalled in did if name == "stall"} == {3}  # type: ignore[arg-type]


def test_who_stands_still_already_is_left_alone() -> None:
    one = process("broker")
    one.stalled = True
    assert World("stall", one).suffers(20.0) == []


def test_brokers_do_not_drain_and_nobody_drains_twice() -> None:
    gateway, broker, worker = everybody()
    did = World("drain", gateway, broker, worker).suffers(30.0)
    assert sorted(name for name, _ in did) == ["drain", "drain", "leave", "leave"]
    assert {one for _, one in did} == {gateway, worker}
