"""The processes of one run: a provider, brokers, workers and gateways, each as an operator starts it, each with its cables."""

import asyncio
import contextlib
import os
import random
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from chaos.links import Link

Role: TypeAlias = Literal["gateway", "broker", "worker"]

COMMAND = [sys.executable, "-c", "from homing.cli import main; main()"]
PATIENCE_S = 60.0

CONFIGURATION = """
[gateway]
listen = "127.0.0.1:0"
anonymous = ["*"]
deadline = {{ default = "10s", max = "60s" }}
drain = {{ delay = "0s", timeout = "20s" }}

[admin]
listen = "127.0.0.1:0"

[broker]
no_worker_after = "8s"

[worker]
drain = {{ delay = "0s", timeout = "20s" }}

[providers.bank]
base_url = "http://127.0.0.1:{provider}"
in_flight_max = 256
timeout = {{ connect = "3s" }}
retry = {{ attempts_max = 3 }}
breaker = {{ window = "30s", calls_min = 1000000, failure_ratio = 1.0, open_for = "1s" }}

[methods."bank.once"]
provider = "bank"
effect = "once"
request = "POST /once/{{token}}{{?end,delay_ms}}"
result = "body.token"

[methods."bank.keyed"]
provider = "bank"
effect = "keyed"
idempotency_key = {{ header = "Idempotency-Key" }}
request = "POST /keyed/{{token}}{{?end,delay_ms}}"
result = "body.token"

[methods."bank.safe"]
provider = "bank"
effect = "safe"
request = "POST /safe/{{token}}{{?end,delay_ms}}"
result = "body.token"

[methods."bank.stuck"]
provider = "bank"
effect = "safe"
request = "POST /safe/{{token}}{{?end,delay_ms}}"
encode = "python:stuck:hold"
result = "body.token"
"""

STUCK = '''"""A codec that holds the GIL: no thread of the process runs until it is done, and no heartbeat of its own leaves."""

import ctypes
import json


def hold(value):
    ctypes.PyDLL(None).usleep(int(value["seconds"] * 1_000_000))
    return json.dumps(value).encode(), "application/json"
'''


class Shape(msgspec.Struct, frozen=True):
    """How many there are of each."""

    gateways: int = 2
    brokers: int = 1
    workers: int = 2


class Process:
    """One role on its seat. Whoever sits there may die and be followed by another."""

    def __init__(self, stage: "Stage", role: Role, seat: int, arguments: list[str], environ: dict[str, str]) -> None:
        self.role: Role = role
        self.seat = seat
        self.wanted = True  # a fault has taken it away, and will bring it back
        self.stopped_at: float | None = None
        self.pauses: list[tuple[float, float]] = []
        self.started_at = 0.0
        self._stage = stage
        self._arguments = arguments
        self._environ = environ
        self._child: asyncio.subprocess.Process | None = None

    def __str__(self) -> str:
        return f"{self.role} {self.seat}"

    @property
    def running(self) -> bool:
        """Whether there is a process."""
        return self._child is not None and self._child.returncode is None

    @property
    def pid(self) -> int:
        """Of the one there is, or was."""
        assert self._child is not None
        return self._child.pid

    async def start(self) -> None:
        """A new life. Its log goes on in the same file."""
        self.started_at = time.monotonic()
        with (self._stage.folder / f"{self.role}{self.seat}.log").open("ab") as log:
            self._child = await asyncio.create_subprocess_exec(
                *COMMAND,
                self.role,
                *self._arguments,
                cwd=self._stage.folder,
                env={**os.environ, **self._environ},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def signal(self, number: signal.Signals) -> None:
        """To the process, if there is one."""
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def stop(self) -> None:
        """It stands still, sockets open."""
        if self.running and self.stopped_at is None:
            self.stopped_at = time.monotonic()
            self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """It goes on."""
        if self.stopped_at is not None:
            self.signal(signal.SIGCONT)
            self.pauses.append((self.stopped_at, time.monotonic()))
            self.stopped_at = None

    async def kill(self) -> None:
        """From one instant to the next."""
        if self._child is not None and self.running:
            self.signal(signal.SIGKILL)
            await self._child.wait()
        self.resume()

    async def leave(self, patience_s: float = PATIENCE_S) -> int:
        """Told to drain; its exit code, or -9 if it had to be killed."""
        self.signal(signal.SIGTERM)
        assert self._child is not None
        try:
            return await asyncio.wait_for(self._child.wait(), patience_s)
        except TimeoutError:
            await self.kill()
            return -9

    def paused_s(self, since: float, until: float) -> float:
        """How long it stood still in that time."""
        pauses = [*self.pauses, (self.stopped_at, until)] if self.stopped_at is not None else self.pauses
        return sum(max(0.0, min(end, until) - max(begin, since)) for begin, end in pauses)


class Stage:
    """Everything of one run, in a folder of its own."""

    def __init__(self, folder: Path, shape: Shape, dice: random.Random, *, preload: str = "") -> None:
        self.folder = folder
        self.shape = shape
        self.ledger = folder / "ledger.jsonl"
        self.clock = folder / "clock"  # how far the wall clock of each role is off, where libfaketime is there
        self.links: list[Link] = []
        self.processes: list[Process] = []
        self.gateway_ports = [free_port() for _ in range(shape.gateways)]
        self.admin_ports: dict[str, int] = {}
        self._provider_port = free_port()
        self._provider: asyncio.subprocess.Process | None = None
        self._dice = dice
        self._preload = preload

    def of(self, role: Role) -> list[Process]:
        """All seats of a role."""
        return [process for process in self.processes if process.role == role]

    async def start(self) -> None:
        """Provider, brokers, workers, gateways; returns when every gateway answers."""
        (self.folder / "homing.toml").write_text(CONFIGURATION.format(provider=self._provider_port))
        (self.folder / "stuck.py").write_text(STUCK)
        self.clock.write_text("+0")
        self._provider = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "chaos.provider", str(self._provider_port), str(self.ledger), cwd=Path(__file__).parent.parent
        )
        broker_ports = [free_port() for _ in range(self.shape.brokers)]
        for seat, port in enumerate(broker_ports):
            self._seat("broker", seat, ["--listen", f"tcp://127.0.0.1:{port}"])
        for role, count in (("worker", self.shape.workers), ("gateway", self.shape.gateways)):
            for seat in range(count):
                arguments = ["--listen", f"127.0.0.1:{self.gateway_ports[seat]}"] if role == "gateway" else []
                for number, port in enumerate(broker_ports):
                    link = Link(f"{role} {seat} to broker {number}", port)
                    await link.start()
                    self.links.append(link)
                    arguments += ["--broker", f"tcp://127.0.0.1:{link.port}"]
                self._seat("gateway" if role == "gateway" else "worker", seat, arguments)
        for process in self.processes:
            await process.start()
        for port in [self._provider_port, *self.gateway_ports]:
            await reachable(port)

    def _seat(self, role: Role, seat: int, arguments: list[str]) -> None:
        admin = self.admin_ports[f"{role} {seat}"] = free_port()
        environ = {"HOMING_CONFIG": str(self.folder / "homing.toml"), "PYTHONPATH": str(self.folder)}
        if self._preload:
            environ |= {"LD_PRELOAD": self._preload, "FAKETIME_TIMESTAMP_FILE": str(self.clock)}
            environ |= {"FAKETIME_DONT_FAKE_MONOTONIC": "1", "FAKETIME_NO_CACHE": "1"}
        self.processes.append(Process(self, role, seat, [*arguments, "--admin", f"127.0.0.1:{admin}"], environ))

    async def close(self) -> list[str]:
        """All told to leave, gateways first; what did not leave in order is said."""
        wrongs: list[str] = []
        for role in ("gateway", "worker", "broker"):
            for process in [each for each in self.processes if each.role == role]:
                process.resume()
                if process.running and (code := await process.leave()) != 0:
                    wrongs.append(f"{process} was told to leave and exited with {code}")
        for link in self.links:
            await link.close()
        if self._provider is not None:
            self._provider.kill()
            await self._provider.wait()
        return wrongs

    async def kill(self) -> None:
        """Everything, now."""
        for process in self.processes:
            await process.kill()
        if self._provider is not None and self._provider.returncode is None:
            self._provider.kill()
            await self._provider.wait()


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def reachable(port: int) -> None:
    """Until somebody takes connections there. Raises TimeoutError."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                return
