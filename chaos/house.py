"""`homing serve --processes`: one process over several, whom we know by what the kernel and its admin page say."""

import asyncio
import contextlib
import os
import signal
import time
from pathlib import Path
from typing import cast

from chaos.ports import held, said_of_itself, verbose
from chaos.processes import Process, Waits, overlap_s

ASK_EVERY_S = 0.25
GONE_S = 90.0  # for so long its children may drain when it has died
ROLES = ("gateway", "broker", "worker")


class House(Process):
    """The process over the others. A gateway of it that stood still, and that there was none, excuse a late answer."""

    def __init__(self, arguments: list[str], admin_port: int, *, folder: Path, environ: dict[str, str]) -> None:
        super().__init__("house", 0, ["serve", *arguments], folder=folder, environ=environ, before=[])
        self.orphans: list[str] = []
        self._admin_port = admin_port
        self._stopped: dict[int, float] = {}  # since when
        self._fares: dict[int, Waits] = {}

    def children(self, role: str | None = None) -> list[tuple[str, int]]:
        """Role and pid of each process under it."""
        found: list[tuple[str, int]] = []
        with contextlib.suppress(OSError):
            for children in Path(f"/proc/{self.pid}/task").glob("*/children"):
                for pid in map(int, children.read_text().split()):
                    arguments = _arguments(pid)
                    if arguments[2:4] == ["-m", "homing"] and arguments[4] in ROLES and role in (None, arguments[4]):
                        found.append((arguments[4], pid))
        return found

    def kill_child(self, pid: int) -> None:
        """At once; another one takes its place."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    def stop_child(self, role: str, pid: int) -> None:
        """It stands still."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
            if role == "gateway":
                self._stopped[pid] = time.monotonic()

    def resume_child(self, pid: int) -> None:
        """It goes on."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
        if (since := self._stopped.pop(pid, None)) is not None:
            self.pauses.append((since, time.monotonic()))

    def resume(self) -> None:
        """All of them go on."""
        super().resume()
        children = [pid for _, pid in self.children()] if self.running else []
        for pid in {*self._stopped, *children}:
            self.resume_child(pid)

    async def kill(self) -> None:
        """It alone: the others see it, finish what they have, and leave."""
        children = self.children() if self.running else []
        await super().kill()
        until = time.monotonic() + GONE_S
        while any(_arguments(pid) for _, pid in children) and time.monotonic() < until:
            await asyncio.sleep(0.1)

    async def raze(self) -> None:
        """All of them, now."""
        children = self.children() if self.running else []
        await super().kill()
        for _, pid in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    async def leave(self, patience_s: float = GONE_S) -> int:
        """All of them drain; nobody may be left."""
        children = self.children()
        code = await super().leave(patience_s)
        self.orphans += [f"{role} {pid} is left when the house has left" for role, pid in children if _arguments(pid)]
        return code

    async def ready(self) -> None:
        """Until all of it is there. Raises TimeoutError."""
        async with asyncio.timeout(GONE_S):
            while True:
                with contextlib.suppress(OSError):  # 503 is one
                    await asyncio.to_thread(verbose, self._admin_port)
                    return
                await asyncio.sleep(ASK_EVERY_S)

    def look(self) -> None:
        """How its gateways fare."""
        for _, pid in self.children("gateway") if self.running else []:
            self._fares.setdefault(pid, Waits()).look(pid)

    async def ask(self) -> None:
        """For as long as it is let: whether there is a gateway. Callers wait in the socket's queue while there is none."""
        there = time.monotonic()
        while True:
            await asyncio.sleep(ASK_EVERY_S)
            try:
                state = await asyncio.to_thread(said_of_itself, self._admin_port)
            except OSError:
                continue
            now = time.monotonic()
            if not any(each["role"] == "gateway" and each["state"] == "ready" for each in _processes(state)):
                self.pauses.append((there, now))
            there = now

    def paused_s(self, since: float, until: float) -> float:
        """How long any gateway stood still, there was none, or one waited for a processor."""
        pauses = [*self.pauses, *((began, until) for began in self._stopped.values())]
        return overlap_s(pauses, since, until) + max(
            (waits.waited_s(since, until) for waits in self._fares.values()), default=0.0
        )

    def left(self, state: dict[str, object], numbers: dict[str, int]) -> list[str]:
        """Of what it says: which tables hold something, and who is one too many or too few."""
        processes = _processes(state)
        left: list[str] = []
        for role, number in numbers.items():
            states = [str(each["state"]) for each in processes if each["role"] == role]
            if states != ["ready"] * number:
                left.append(f"there are {states} for {number} of role {role}")
        for each in processes:
            says = each.get("says")
            if isinstance(says, dict):
                left += [
                    f"{each['role']} {each['index']} of the house holds {count} {name}" for name, count in held(says) if count
                ]
        return left


def _arguments(pid: int) -> list[str]:
    """How it was started; nothing if it is gone."""
    try:
        return [each.decode() for each in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:-1]]
    except OSError:
        return []


def _processes(state: dict[str, object]) -> list[dict[str, object]]:
    return cast(list[dict[str, object]], state.get("processes", []))
