"""The ZeroMQ engine as `conformance.Road`: every process has an engine of its own, all on one real loop, and real sockets between."""

import asyncio
import contextlib
from collections.abc import Callable

import msgspec

from homing.core.machine import Action, Event, Machine, Peer, PeerFound, PeerLost, Received, Send
from homing.driver import Driver
from homing.engines.zmq import Zmq
from tests import loops
from tests.engines.zmq_people import Keys

_BROKER, _OTHERS = Keys(), Keys()
SERVER, CLIENT = _BROKER.letting_in(others=_OTHERS), _OTHERS.to(_BROKER.public)


class Renamed:
    """A machine that knows a peer by another name: conformance has one name for the broker, this engine calls it by its endpoint."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.inside: dict[Peer, Peer] = {}
        self.outside: dict[Peer, Peer] = {}

    def rename(self, outside: Peer, inside: Peer) -> None:
        self.inside[outside], self.outside[inside] = inside, outside

    def handle(self, event: Event, now: float) -> list[Action]:
        if isinstance(event, PeerFound | PeerLost | Received):
            event = msgspec.structs.replace(event, peer=self.inside.get(event.peer, event.peer))
        return [
            Send(self.outside.get(action.peer, action.peer), action.message) if isinstance(action, Send) else action
            for action in self.machine.handle(event, now)
        ]

    def next_deadline(self) -> float | None:
        return self.machine.next_deadline()


class Process:
    """One machine, its engine and its driver."""

    def __init__(self, loop: asyncio.AbstractEventLoop, address: Peer, machine: Machine, act: Callable[[Action], None]) -> None:
        self.machine = Renamed(machine)
        self.engine = Zmq(loop)
        self.driver = Driver(self.engine, loop)
        self.engine.tell = self.driver.feed
        self.engine.attach(address, self.machine, act)

    def end(self) -> None:
        self.driver.close()
        self.engine.close(0.0)


class ZmqRoad:
    """`endpoint` is where brokers listen, with a wildcard; `curve`: under CURVE."""

    def __init__(self, loop: asyncio.AbstractEventLoop, endpoint: str, *, curve: bool = False) -> None:
        self.loop = loop
        self.curve = curve
        self.endpoint = endpoint
        self.processes: dict[Peer, Process] = {}
        self.bound: dict[Peer, str] = {}

    def attach(self, address: Peer, machine: Machine, act: Callable[[Action], None]) -> None:
        self.processes[address] = Process(self.loop, address, machine, act)

    def connect(self, address: Peer, broker: Peer) -> None:
        if broker not in self.bound:
            self.bound[broker] = self.processes[broker].engine.bind(broker, self.endpoint, curve=SERVER if self.curve else None)
        process = self.processes[address]
        process.machine.rename(self.bound[broker].encode(), broker)
        process.engine.dial(address, self.bound[broker], curve=CLIENT if self.curve else None)

    def detach(self, address: Peer) -> None:
        self.processes.pop(address).end()

    def feed(self, address: Peer, event: Event) -> None:
        if address in self.processes:
            self.processes[address].driver.feed(address, event)

    def wait(self, until: Callable[[], bool], patience_s: float) -> bool:
        async def waiting() -> None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patience_s):
                    await loops.until(until)

        self.loop.run_until_complete(waiting())
        return until()

    def close(self) -> None:
        for address in list(self.processes):
            self.detach(address)
