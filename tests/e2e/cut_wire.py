"""Gateway, broker and worker with sockets of their own on one loop, and cables between them that end at a byte of one's choice."""

import asyncio
import contextlib
import os
import time
from collections import Counter
from collections.abc import Callable

import msgspec

from chaos.links import How, Link, Way
from homing.core.broker import Broker, BrokerLimits
from homing.core.calls import Calls
from homing.core.machine import Action, Finished, Machine, Peer, Settle, Start, Submitted
from homing.driver import Driver
from homing.engines.zmq import Zmq
from homing.errors import Effect, Outcome
from tests.brokers import ok, worker_of
from tests.loops import until

GATEWAY, BROKER, WORKER = b"gateway", b"broker", b"worker"
EFFECTS: tuple[Effect, ...] = ("once", "keyed", "safe")
ANSWERED_AFTER_S = 0.03  # by the provider
HEARTBEAT_S = 0.25
LOOK_EVERY_S = 0.01
PATIENCE_S = 25.0


class Cut(msgspec.Struct, frozen=True):
    """So many bytes pass on that cable in that direction, from the first connection on, and then this happens to it."""

    cable: str  # "gateway" or "worker"
    way: Way
    at: int
    how: How


class Role:
    """One machine with an engine of its own, as if it were a process."""

    def __init__(self, address: Peer, machine: Machine, act: Callable[[Action], None]) -> None:
        loop = asyncio.get_running_loop()
        self.engine = Zmq(loop, sealed=address == BROKER)
        self.driver = Driver(self.engine, loop)
        self.engine.tell = self.driver.feed
        self.engine.attach(address, machine, act)

    def close(self) -> None:
        self.driver.close()
        self.engine.close(0.0)


class Trio:
    """The three of them, a provider that keeps a ledger, and the two cables. `settled` are the answers of each call."""

    def __init__(self) -> None:
        self.ledger: Counter[bytes] = Counter()
        self.settled: dict[bytes, list[tuple[Outcome, float]]] = {}
        self.deadlines: dict[bytes, float] = {}
        self.late_s = 0.0  # how late this loop has been at most: nobody can be told earlier
        self.calls = Calls(os.urandom(16), heartbeat_s=HEARTBEAT_S)
        self.broker = Broker(os.urandom(16), BrokerLimits(no_worker_after_s=60.0), heartbeat_s=HEARTBEAT_S)
        self.worker = worker_of([f"acme.{effect}" for effect in EFFECTS], heartbeat_s=HEARTBEAT_S, credit=10)
        self.roles: dict[Peer, Role] = {}
        self.cables: dict[str, Link] = {}

    async def start(self) -> None:
        """Nobody has dialled yet."""
        self.roles[BROKER] = Role(BROKER, self.broker, lambda action: None)
        self.roles[GATEWAY] = Role(GATEWAY, self.calls, self._settle)
        self.roles[WORKER] = Role(WORKER, self.worker, self._ask)
        port = int(self.roles[BROKER].engine.bind(BROKER, "tcp://127.0.0.1:*").rpartition(":")[2])
        for name in ("gateway", "worker"):
            self.cables[name] = Link(name, port)
            await self.cables[name].start()

    def dial(self) -> None:
        """Gateway and worker reach for the broker, over their cables."""
        for address in (GATEWAY, WORKER):
            self.roles[address].engine.dial(address, f"tcp://127.0.0.1:{self.cables[address.decode()].port}")

    async def close(self) -> None:
        for link in self.cables.values():
            await link.close()
        for role in self.roles.values():
            role.close()

    def submit(self, effect: Effect, timeout_s: float) -> bytes:
        """A call; returns its id."""
        call_id = self.calls.life[:8] + os.urandom(8)
        deadline = self.deadlines[call_id] = time.monotonic() + timeout_s
        self.settled[call_id] = []
        asked = Submitted(
            call_id=call_id,
            service="acme",
            method=f"acme.{effect}",
            deadline=deadline,
            timeout_ms=round(timeout_s * 1000),
            effect=effect,
            principal="somebody",
            key=call_id.hex(),
            caller_key=call_id.hex(),
            body=b'{"account":"a1"}',
        )
        self.roles[GATEWAY].driver.feed(GATEWAY, asked)
        return call_id

    async def answered(self, *call_ids: bytes) -> None:
        """Until each of them has an answer. Meanwhile it is seen how late this loop is."""
        while not all(self.settled[call_id] for call_id in call_ids):
            began = time.monotonic()
            await asyncio.sleep(LOOK_EVERY_S)
            self.late_s = max(self.late_s, time.monotonic() - began - LOOK_EVERY_S)

    def held(self) -> dict[str, int]:
        """What the tables hold."""
        return {
            "open calls": len(self.calls),
            "copies": len(self.broker),
            "bytes of copies": self.broker.held_bytes,
            "copies of the worker": self.broker.held_by(self.worker.life),
            "calls in hand": len(self.worker),
            "slots": self.worker.in_flight("acme"),
            "bytes of outcomes": self.worker.outcomes_held_bytes,
        }

    def _settle(self, action: Action) -> None:
        if isinstance(action, Settle):
            self.settled[action.call_id].append((action.outcome, time.monotonic()))

    def _ask(self, action: Action) -> None:
        if isinstance(action, Start):
            self.ledger[action.call_id] += 1
            finished = Finished(action.call_id, action.number, ok())
            asyncio.get_running_loop().call_later(ANSWERED_AFTER_S, self.roles[WORKER].driver.feed, WORKER, finished)


async def traffic() -> dict[tuple[str, Way], int]:
    """How many bytes go each way on each cable while three calls come and go, and their end is told."""
    trio = Trio()
    await trio.start()
    most = 1 << 40
    ways: tuple[Way, ...] = ("up", "down")
    for link in trio.cables.values():
        link.left = dict.fromkeys(ways, most)
    ids = [trio.submit(effect, PATIENCE_S) for effect in EFFECTS]
    trio.dial()
    await trio.answered(*ids)
    await until(lambda: not any(trio.held().values()))
    passed = {(name, way): most - link.left[way] for name, link in trio.cables.items() for way in ways}
    await trio.close()
    return passed


async def suffer(cut: Cut, timeout_s: float) -> tuple[dict[Effect, Outcome], list[str]]:
    """Three calls while that happens; how they ended, and in words what must not have been."""
    trio = Trio()
    await trio.start()
    try:
        trio.cables[cut.cable].end_after(cut.how, cut.way, cut.at)
        ids = {effect: trio.submit(effect, timeout_s) for effect in EFFECTS}
        trio.dial()
        await trio.answered(*ids.values())
        for link in trio.cables.values():
            link.mend()
        probe = trio.submit("once", PATIENCE_S)
        await trio.answered(probe)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                await until(lambda: not any(trio.held().values()))
        outcomes = {effect: trio.settled[call_id][0][0] for effect, call_id in ids.items()}
        return outcomes, [*_wrongs(trio, ids), *_probed(trio, probe)]
    finally:
        await trio.close()


def _wrongs(trio: Trio, ids: dict[Effect, bytes]) -> list[str]:
    wrongs: list[str] = []
    for effect, call_id in ids.items():
        outcome, at = trio.settled[call_id][0]
        done = trio.ledger[call_id]
        if len(trio.settled[call_id]) != 1:
            wrongs.append(f"{effect} had {len(trio.settled[call_id])} answers")
        if at > trio.deadlines[call_id] + trio.late_s + 0.1:
            wrongs.append(f"{effect} was answered {at - trio.deadlines[call_id]:.3f} s after its deadline")
        if outcome.executed == "no" and done:
            wrongs.append(f"{effect} is said not to have run, and did: {outcome}")
        if outcome.reason == "ok" and not done:
            wrongs.append(f"{effect} is said to have run, and did not")
        if effect == "once" and done > 1:
            wrongs.append(f"once ran {done} times")
    return wrongs


def _probed(trio: Trio, probe: bytes) -> list[str]:
    ((outcome, _),) = trio.settled[probe]
    wrongs = [f"{count} {name} are left" for name, count in trio.held().items() if count]
    if outcome.reason != "ok" or trio.ledger[probe] != 1:
        wrongs.append(f"the probe afterwards ran {trio.ledger[probe]} times and ended as {outcome}")
    return wrongs
