"""A gateway's machine, a broker's and a Python worker, joined in memory on one loop: calls go in, outcomes come out."""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from homing.core.broker import Broker, BrokerLimits
from homing.core.calls import Calls
from homing.core.machine import Action, Event, Finished, Settle, Start, Submitted
from homing.driver import Driver
from homing.engines.memory import Memory
from homing.errors import Outcome
from homing.functions import Function
from homing.roles.python_pool import child_command
from homing.roles.python_worker import Offering, PythonPart
from homing.telemetry import Log, Metrics
from tests.roles import offered

CALLS, BROKER, WORKER = b"calls", b"broker", b"worker"
TARGET = "tests.roles.offered:worker"


def only(*names: str) -> dict[str, Function]:
    """These of the functions in `offered`."""
    return {f"offered.{name}": offered.worker.functions[f"offered.{name}"] for name in names}


def gone(pid: int) -> bool:
    """Whether a process has ended, reaped or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].startswith("Z")
    except FileNotFoundError:
        return True


class House:
    """Calls, broker and worker."""

    def __init__(self, part: PythonPart, log_path: Path) -> None:
        self.part = part
        self.log_path = log_path
        self.loop = asyncio.get_running_loop()
        self.calls = Calls(os.urandom(16))
        self.station = Memory()
        self.driver = Driver(self.station, self.loop)
        self.settled: dict[bytes, asyncio.Future[Outcome]] = {}
        self.station.attach(CALLS, self.calls, self._act)
        self.station.attach(BROKER, Broker(os.urandom(16), BrokerLimits(100, 2**30, 1.0)), self._act)
        self.station.attach(WORKER, part.worker, part.act)
        part.hands.feed = partial(self.driver.feed, WORKER)
        self.station.connect(BROKER, CALLS, time.monotonic())
        self.station.connect(BROKER, WORKER, time.monotonic())

    def _act(self, action: Action) -> None:
        if type(action) is Settle:
            self.settled.pop(action.call_id).set_result(action.outcome)

    def begin(self, method: str, params: object = None, *, timeout: float = 30, **fields: Any) -> "asyncio.Future[Outcome]":
        """Submit a call; its outcome is to come."""
        call_id = self.calls.life[:8] + os.urandom(8)
        self.settled[call_id] = self.loop.create_future()
        settled = self.settled[call_id]
        given: dict[str, Any] = {
            "call_id": call_id,
            "service": "offered",
            "method": f"offered.{method}",
            "deadline": time.monotonic() + timeout,
            "timeout_ms": round(timeout * 1000),
            "effect": "once",
            "principal": "webshop",
            "key": call_id.hex(),
            "caller_key": call_id.hex(),
            "body": params if isinstance(params, bytes) else b"" if params is None else json.dumps(params).encode(),
        }
        self.driver.feed(CALLS, Submitted(**(given | fields)))
        return settled

    async def call(self, method: str, params: object = None, *, timeout: float = 30, **fields: Any) -> Outcome:
        return await self.begin(method, params, timeout=timeout, **fields)

    async def start(self, method: str, params: object = None, *, timeout: float) -> Outcome:
        """What the hands alone say of a call: with a gateway it would be a race whose deadline comes first."""
        finished: asyncio.Future[Outcome] = self.loop.create_future()

        def feed(event: Event) -> None:
            assert isinstance(event, Finished)
            finished.set_result(event.outcome)

        usual, self.part.hands.feed = self.part.hands.feed, feed
        self.part.act(
            Start(
                call_id=os.urandom(16),
                number=1,
                attempt=1,
                method=f"offered.{method}",
                provider="offered",
                effect="once",
                principal="",
                key="",
                body=b"" if params is None else json.dumps(params).encode(),
                deadline=time.monotonic() + timeout,
                late="deadline_exceeded",
            )
        )
        try:
            return await finished
        finally:
            self.part.hands.feed = usual

    async def result(self, method: str, params: object = None) -> Any:
        outcome = await self.call(method, params)
        assert outcome.reason == "ok", outcome
        return msgspec.json.decode(outcome.result)

    def log_lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log_path.read_text().splitlines()]

    def events(self, event: str) -> list[dict[str, Any]]:
        """What was logged of a kind. Only once the house is closed is all of it written."""
        return [line for line in self.log_lines() if line.get("event") == event]


@asynccontextmanager
async def house(folder: Path, functions: dict[str, Function] | None = None, **options: Any) -> AsyncIterator[House]:
    """A worker of all that `offered` has, or of some of it, with two processes."""
    path = folder / "log.jsonl"
    descriptor = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    log = Log(descriptor, human=False)
    given: dict[str, Any] = {
        "name": "offered",
        "functions": offered.worker.functions if functions is None else functions,
        "command": child_command(TARGET),
        "processes": 2,
    }
    part = PythonPart(Offering(**(given | options)), heartbeat_s=0.0, log=log, metrics=Metrics())
    try:
        assert await part.start() == ""
        here = House(part, path)
        yield here
        here.driver.close()
    finally:
        await part.close()
        log.close()
        os.close(descriptor)
