"""What befalls a house of several processes: its children die and stand still, and it is told to replace them and itself."""

import asyncio
import random
import signal
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from chaos.callers import Callers
from chaos.house import House

Drawn: TypeAlias = tuple[int, str, Callable[[], Awaitable[None]]]
"""Weight, name, and what it does until all is as before."""

STOP_S = (0.1, 9.0)
FLOOD_S = (0.5, 3.0)


class HouseFaults:
    """`told` takes what happens, in words."""

    def __init__(self, house: House, callers: Callers, dice: random.Random, told: Callable[[str], None]) -> None:
        self._house = house
        self._callers = callers
        self._dice = dice
        self._told = told
        self._victims: set[int] = set()

    def calm(self) -> list[Drawn]:
        """What nobody may notice."""
        return [(3, "replace all", self._roll), (2, "exchange the program", self._exchange)]

    def all(self) -> list[Drawn]:
        """Everything."""
        return [
            *self.calm(),
            (8, "kill a child", self._kill),
            (5, "stop a child", self._stop),
            (2, "stop and flood", self._flood),
        ]

    def _anybody(self, role: str | None = None) -> tuple[str, int] | None:
        if not self._house.fit:
            return None
        children = [child for child in self._house.children(role) if child[1] not in self._victims]
        return self._dice.choice(children) if children else None

    def _signal(self, number: signal.Signals, what: str) -> None:
        if self._house.fit and self._house.heeds_signals():
            self._told(f"the house is told to {what}")
            self._house.signal(number)

    async def _roll(self) -> None:
        self._signal(signal.SIGHUP, "replace all")

    async def _exchange(self) -> None:
        self._signal(signal.SIGUSR2, "exchange its program")

    async def _kill(self) -> None:
        victim = self._anybody()
        if victim is not None:
            self._told(f"{victim[0]} {victim[1]} of the house is killed")
            self._house.kill_child(victim[1])

    async def _stop(self) -> None:
        victim, pause_s = self._anybody(), self._dice.uniform(*STOP_S)
        if victim is not None:
            await self._stand_still(victim, pause_s)

    async def _flood(self) -> None:
        victim, pause_s = self._anybody("broker"), self._dice.uniform(*FLOOD_S)
        if victim is not None:
            await self._callers.flood(300, 4.0)
            await self._stand_still(victim, pause_s)

    async def _stand_still(self, victim: tuple[str, int], pause_s: float) -> None:
        role, pid = victim
        self._told(f"{role} {pid} of the house stands still for {pause_s:.2f} s")
        self._victims.add(pid)
        self._house.stop_child(role, pid)
        await asyncio.sleep(pause_s)
        self._house.resume_child(pid)
        self._victims.discard(pid)
