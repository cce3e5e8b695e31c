"""The processes of one run: a provider, brokers, workers and gateways, each as an operator starts it, each with its cables."""

import asyncio
import bisect
import contextlib
import math
import os
import random
import signal
import socket
import sys
import time
import urllib.request
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from chaos.island import Island
from chaos.links import Link

Role: TypeAlias = Literal["gateway", "broker", "worker"]

COMMAND = [sys.executable, "-c", "from homing.cli import main; main()"]
PATIENCE_S = 60.0
LOOK_EVERY_S = 0.1

CONFIGURATION = """
[gateway]
listen = "127.0.0.1:0"
anonymous = ["*"]
deadline = { default = "10s", max = "60s" }
drain = { delay = "0s", timeout = "20s" }

[admin]
listen = "127.0.0.1:0"

[broker]
no_worker_after = "8s"

[worker]
insecure = true
drain = { delay = "0s", timeout = "20s" }

[providers.bank]
base_url = "env:BANK_URL"
in_flight_max = 256
timeout = { connect = "3s" }
retry = { attempts_max = 3 }
breaker = { window = "30s", calls_min = 1000000, failure_ratio = 1.0, open_for = "1s" }

[methods."bank.once"]
provider = "bank"
effect = "once"
request = "POST /once/{token}{?end,delay_ms}"
result = "body.token"

[methods."bank.keyed"]
provider = "bank"
effect = "keyed"
idempotency_key = { header = "Idempotency-Key" }
request = "POST /keyed/{token}{?end,delay_ms}"
result = "body.token"

[methods."bank.safe"]
provider = "bank"
effect = "safe"
request = "POST /safe/{token}{?end,delay_ms}"
result = "body.token"

[methods."bank.stuck"]
provider = "bank"
effect = "safe"
request = "POST /safe/{token}{?end,delay_ms}"
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
    islands: int = 0  # so many of the workers are in a network namespace of their own


class Process:
    """One role on its seat. Whoever sits there may die and be followed by another."""

    def __init__(
        self, stage: "Stage", role: Role, seat: int, arguments: list[str], environ: dict[str, str], before: list[str]
    ) -> None:
        self.role: Role = role
        self.seat = seat
        self.wanted = True  # a fault has taken it away, and will bring it back
        self.stopped_at: float | None = None
        self.pauses: list[tuple[float, float]] = []
        self._waits: list[tuple[float, float]] = [(0.0, 0.0)]  # when looked at, how long it had waited for a processor by then
        self._waited_before_s = 0.0  # by whoever sat here before
        self._log_path = stage.folder / f"{role}{seat}.log"
        self._log_begins_at = 0  # what this life has written
        self._stage = stage
        self._arguments = arguments
        self._environ = environ
        self.far = bool(before)  # where it cannot be asked how it is
        self._before = before  # what starts it there
        self._child: asyncio.subprocess.Process | None = None

    def __str__(self) -> str:
        return f"{self.role} {self.seat}"

    @property
    def running(self) -> bool:
        """Whether there is a process."""
        return self._child is not None and self._child.returncode is None

    def heeds_signals(self) -> bool:
        """Whether it has come so far. Who is told to leave while it is being loaded dies of it, and has nothing to lose."""
        with self._log_path.open("rb") as log:
            log.seek(self._log_begins_at)
            written = log.read()
        return self.running and any(word in written for word in (b'"event":"listening"', b'"event":"offering"'))

    @property
    def pid(self) -> int:
        """Of the one there is, or was."""
        assert self._child is not None
        return self._child.pid

    async def start(self) -> None:
        """A new life. Its log goes on in the same file."""
        log_path = self._log_path
        self._log_begins_at = log_path.stat().st_size if log_path.exists() else 0
        with log_path.open("ab") as log:
            self._child = await asyncio.create_subprocess_exec(
                *self._before,
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

    def look(self) -> None:
        """Note how long it has waited for a processor: on a busy machine it is the others who make it late."""
        if not self.running:
            return
        with contextlib.suppress(OSError, ProcessLookupError):
            waited_ns = int(Path(f"/proc/{self.pid}/schedstat").read_text().split()[1])
            waited_s = self._waited_before_s + waited_ns / 1e9
            if waited_s < self._waits[-1][1]:  # a new life counts from nothing
                self._waited_before_s = self._waits[-1][1]
                waited_s = self._waited_before_s + waited_ns / 1e9
            self._waits.append((time.monotonic(), waited_s))

    def paused_s(self, since: float, until: float) -> float:
        """How long it stood still in that time, stopped or for want of a processor."""
        pauses = [*self.pauses, (self.stopped_at, until)] if self.stopped_at is not None else self.pauses
        stopped_s = sum(max(0.0, min(end, until) - max(begin, since)) for begin, end in pauses)
        before = max(0, bisect.bisect_right(self._waits, (since, math.inf)) - 1)
        after = min(len(self._waits) - 1, bisect.bisect_left(self._waits, (until, 0.0)))
        return stopped_s + self._waits[after][1] - self._waits[before][1]


class Stage:
    """Everything of one run, in a folder of its own."""

    def __init__(self, folder: Path, shape: Shape, dice: random.Random, *, preload: str = "") -> None:
        self.folder = folder
        self.shape = shape
        self.ledger = folder / "ledger.jsonl"
        self.clock = folder / "clock"  # how far the wall clock of each role is off, where libfaketime is there
        self.links: list[Link] = []
        self.processes: list[Process] = []
        self.islands: list[Island] = []
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
        (self.folder / "homing.toml").write_text(CONFIGURATION)
        (self.folder / "stuck.py").write_text(STUCK)
        self.clock.write_text("+0")
        self._provider = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "chaos.provider", str(self._provider_port), str(self.ledger), cwd=Path(__file__).parent.parent
        )
        broker_ports = [free_port() for _ in range(self.shape.brokers)]
        for seat, port in enumerate(broker_ports):
            self._seat("broker", seat, ["--listen", f"tcp://127.0.0.1:{port}"])
        for number in range(self.shape.islands):
            self.islands.append(Island(number + 1))
            self.islands[-1].make()
        for role, count in (("worker", self.shape.workers), ("gateway", self.shape.gateways)):
            for seat in range(count):
                island = self.islands[seat] if role == "worker" and seat < len(self.islands) else None
                host = "127.0.0.1" if island is None else island.here
                arguments = ["--listen", f"127.0.0.1:{self.gateway_ports[seat]}"] if role == "gateway" else []
                for number, port in enumerate(broker_ports):
                    link = Link(f"{role} {seat} to broker {number}", port, host)
                    await link.start()
                    self.links.append(link)
                    arguments += ["--broker", f"tcp://{host}:{link.port}"]
                self._seat("gateway" if role == "gateway" else "worker", seat, arguments, island)
        for process in self.processes:
            await process.start()
        for port in [self._provider_port, *self.gateway_ports]:
            await reachable(port)

    def _seat(self, role: Role, seat: int, arguments: list[str], island: Island | None = None) -> None:
        admin = self.admin_ports[f"{role} {seat}"] = free_port()
        host = "127.0.0.1" if island is None else island.here
        path = os.pathsep.join([str(self.folder), *filter(None, [os.environ.get("PYTHONPATH")])])
        environ = {"HOMING_CONFIG": str(self.folder / "homing.toml"), "PYTHONPATH": path}
        environ["BANK_URL"] = f"http://{host}:{self._provider_port}"
        if self._preload:
            environ |= {"LD_PRELOAD": self._preload, "FAKETIME_TIMESTAMP_FILE": str(self.clock)}
            environ |= {"FAKETIME_DONT_FAKE_MONOTONIC": "1", "FAKETIME_CACHE_DURATION": "1"}
        before = island.command if island is not None else []
        if island is None:  # on an island nobody could ask
            arguments = [*arguments, "--admin", f"127.0.0.1:{admin}"]
        self.processes.append(Process(self, role, seat, arguments, environ, before))

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

    async def watch(self) -> None:
        """For as long as it is let: how the gateways fare on this machine."""
        while True:
            for gateway in self.of("gateway"):
                gateway.look()
            await asyncio.sleep(LOOK_EVERY_S)

    async def left(self) -> list[str]:
        """What the tables of those who can be asked still hold, in words."""
        left: list[str] = []
        for process in self.processes:
            if not process.far:
                try:
                    state = await asyncio.to_thread(_verbose, self.admin_ports[str(process)])
                except OSError as error:  # it has just been started again
                    left.append(f"{process} cannot be asked how it is: {error}")
                    continue
                left += [f"{process} holds {held} {name}" for name, held in _held(state) if held]
        return left

    async def kill(self) -> None:
        """Everything, now."""
        for process in self.processes:
            await process.kill()
        if self._provider is not None and self._provider.returncode is None:
            self._provider.kill()
            await self._provider.wait()
        for island in self.islands:
            island.remove()


def _verbose(port: int) -> dict[str, object]:
    """What a process says of itself."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz?verbose", timeout=10) as answer:
        state: dict[str, object] = msgspec.json.decode(answer.read())
    return state


def _held(state: dict[str, object]) -> list[tuple[str, object]]:
    """The figures that are nothing when nobody calls."""
    providers = state.get("providers")
    in_flight = sum(each["in_flight"] for each in providers.values()) if isinstance(providers, dict) else 0
    return [("open calls", state.get("open_calls")), ("copies", state.get("broker_holds")), ("requests", in_flight)]


def free_port() -> int:
    """A port that was free a moment ago, and that no connection is given by chance: for that it is too low."""
    while True:
        port = random.SystemRandom().randrange(15_000, 32_000)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
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
