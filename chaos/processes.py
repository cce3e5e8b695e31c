"""A process of a round: whoever sits there may be stopped, or die and be followed by another."""

import asyncio
import bisect
import contextlib
import math
import os
import signal
import sys
import time
from pathlib import Path
from typing import Literal, TypeAlias

from chaos.ports import PortTaken

Role: TypeAlias = Literal["gateway", "broker", "worker", "desk", "house"]

COMMAND = [sys.executable, "-c", "from homing.cli import main; main()"]
PATIENCE_S = 60.0
HEEDS = (b'"event":"listening"', b'"event":"offering"')
TAKEN = b"in use"


class Waits:
    """How long a process, or one after the other on a seat, has waited for a processor: on a busy machine it is others who make it late."""

    def __init__(self) -> None:
        self._seen: list[tuple[float, float]] = [(0.0, 0.0)]  # when looked at, how long it had waited by then
        self._before_s = 0.0  # by whoever sat here before

    def look(self, pid: int) -> None:
        """Note it."""
        with contextlib.suppress(OSError, ProcessLookupError):
            waited_ns = int(Path(f"/proc/{pid}/schedstat").read_text().split()[1])
            waited_s = self._before_s + waited_ns / 1e9
            if waited_s < self._seen[-1][1]:  # a new life counts from nothing
                self._before_s = self._seen[-1][1]
                waited_s = self._before_s + waited_ns / 1e9
            self._seen.append((time.monotonic(), waited_s))

    def waited_s(self, since: float, until: float) -> float:
        """In that time."""
        before = max(0, bisect.bisect_right(self._seen, (since, math.inf)) - 1)
        after = min(len(self._seen) - 1, bisect.bisect_left(self._seen, (until, 0.0)))
        return self._seen[after][1] - self._seen[before][1]


def overlap_s(spans: list[tuple[float, float]], since: float, until: float) -> float:
    """How much of these lies in that time."""
    return sum(max(0.0, min(end, until) - max(begin, since)) for begin, end in spans)


class Process:
    """One role on its seat. `arguments` begin with its command; `before` is what starts it where it cannot be asked how it is."""

    def __init__(
        self, role: Role, seat: int, arguments: list[str], *, folder: Path, environ: dict[str, str], before: list[str]
    ) -> None:
        self.role: Role = role
        self.seat = seat
        self.wanted = True  # a fault has taken it away, and will bring it back
        self.stopped_at: float | None = None
        self.pauses: list[tuple[float, float]] = []
        self.far = bool(before)
        self._waits = Waits()
        self._folder = folder
        self._log_path = folder / f"{role}{seat}.log"
        self._log_begins_at = 0  # what this life has written
        self._arguments = arguments
        self._environ = environ
        self._before = before
        self._child: asyncio.subprocess.Process | None = None

    def __str__(self) -> str:
        return f"{self.role} {self.seat}"

    @property
    def running(self) -> bool:
        """Whether there is a process."""
        return self._child is not None and self._child.returncode is None

    @property
    def fit(self) -> bool:
        """Whether it runs, and is not somebody's victim already."""
        return self.running and self.wanted and self.stopped_at is None

    def heeds_signals(self) -> bool:
        """Whether it has come so far. Who is told to leave while it is being loaded dies of it, and has nothing to lose."""
        written = self._written()
        return self.running and any(word in written for word in HEEDS)

    async def started(self) -> None:
        """Until it has come so far. Raises PortTaken, RuntimeError or TimeoutError."""
        async with asyncio.timeout(PATIENCE_S):
            while not self.heeds_signals():
                if not self.running:
                    if TAKEN in self._written():
                        raise PortTaken(f"somebody else listens where {self} should")
                    raise RuntimeError(f"{self} ended as soon as it was started")
                await asyncio.sleep(0.02)

    def _written(self) -> bytes:
        with self._log_path.open("rb") as log:
            log.seek(self._log_begins_at)
            return log.read()

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
                *self._arguments,
                cwd=self._folder,
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

    async def raze(self) -> None:
        """With all that it may have under it."""
        await self.kill()

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
        """Note how it fares on this machine."""
        if self.running:
            self._waits.look(self.pid)

    def paused_s(self, since: float, until: float) -> float:
        """How long it stood still in that time, stopped or for want of a processor."""
        pauses = [*self.pauses, (self.stopped_at, until)] if self.stopped_at is not None else self.pauses
        return overlap_s(pauses, since, until) + self._waits.waited_s(since, until)
