"""What befalls the processes and their cables, drawn from a seed. Each fault ends by itself; `quiet` waits for that."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable

from chaos.callers import Callers
from chaos.doors import ClientDoor, Wish
from chaos.house_faults import Drawn, HouseFaults
from chaos.links import Link
from chaos.processes import Process
from chaos.stage import Stage

EVERY_S = (0.2, 2.5)
CALM_EVERY_S = (1.0, 8.0)
RESTART_S = (0.0, 1.5)
STOP_S = (0.1, 9.0)  # over the 6.5 s after which ZMTP takes a connection for dead
STALL_S = (0.1, 9.0)
PARTITION_S = (0.1, 15.0)
HOLD_S = (1.0, 30.0)
CLOCKS_S = (-86400 * 400, -3600, -5, 0, 5, 3600, 86400 * 400)


class Faults:
    """Draws one after the other. `counts` says how many of each there were."""

    def __init__(self, stage: Stage, callers: Callers, dice: random.Random, *, clock: bool, told: Callable[[str], None]) -> None:
        self.counts: Counter[str] = Counter()
        self.wrongs: list[str] = []
        self._stage = stage
        self._callers = callers
        self._dice = dice
        self._told = told
        self._running: set[asyncio.Task[None]] = set()
        self._clients = [door for door in callers.doors if isinstance(door, ClientDoor)]
        self._calm = stage.shape.calm
        self._faults = self._of_processes()
        if not self._calm:
            self._faults += self._of_cables()
            self._faults.append((1, "hold the GIL", self._hold))
            if self._clients:
                self._faults.append((2, "close a client", self._reopen))
            if clock:
                self._faults.append((2, "wall clock", self._clock))

    def _of_processes(self) -> list[Drawn]:
        house = self._stage.house
        if house is not None:
            faults = HouseFaults(house, self._callers, self._dice, self._told)
            if self._calm:
                return faults.calm()
            return [*faults.all(), (1, "kill", self._kill), (1, "stop", self._stop), (1, "leave", self._leave)]
        return [(6, "kill", self._kill), (4, "stop", self._stop), (3, "leave", self._leave), (2, "stop and flood", self._flood)]

    def _of_cables(self) -> list[Drawn]:
        faults: list[Drawn] = []
        if self._stage.links:
            faults += [(5, "cut", self._cut), (5, "cut at a byte", self._cut_at_a_byte), (4, "stall", self._stall)]
        if self._stage.islands:
            faults.append((4, "partition", self._partition))
        return faults

    async def come(self, seconds: float) -> None:
        """For so long."""
        until = time.monotonic() + seconds
        while (now := time.monotonic()) < until:
            await asyncio.sleep(min(self._dice.uniform(*(CALM_EVERY_S if self._calm else EVERY_S)), until - now))
            _, name, fault = self._dice.choices(self._faults, [weight for weight, _, _ in self._faults])[0]
            self.counts[name] += 1
            running = asyncio.ensure_future(fault())
            self._running.add(running)
            running.add_done_callback(self._done)

    async def quiet(self) -> None:
        """Until every fault has ended; then all is mended, and everybody is there."""
        while self._running:
            await asyncio.wait(self._running)
        for link in self._stage.links:
            link.mend()
        for island in self._stage.islands:
            island.plug()
        for process in self._stage.processes:
            process.resume()
            if not process.running:
                self.wrongs.append(f"{process} has ended by itself")
                await process.start()

    def _done(self, running: "asyncio.Task[None]") -> None:
        self._running.discard(running)
        running.result()

    def _anybody(self, *, ready: bool = False) -> Process | None:
        """Who runs, and is not somebody else's victim already."""
        fit = [process for process in self._stage.processes if process.fit]
        if ready:
            fit = [process for process in fit if process.heeds_signals()]
        return self._dice.choice(fit) if fit else None

    def _any_link(self) -> Link:
        return self._dice.choice(self._stage.links)

    def _say(self, what: str) -> None:
        self._told(what)

    async def _kill(self) -> None:
        victim = self._anybody()
        if victim is None:
            return
        victim.wanted = False
        pause_s = self._dice.uniform(*RESTART_S)
        self._say(f"{victim} is killed, and starts again after {pause_s:.2f} s")
        await victim.kill()
        await asyncio.sleep(pause_s)
        await victim.start()
        victim.wanted = True

    async def _leave(self) -> None:
        victim = self._anybody(ready=True)
        if victim is None:
            return
        victim.wanted = False
        self._say(f"{victim} is told to leave, and starts again")
        code = await victim.leave()
        if code != 0:
            self.wrongs.append(f"{victim} was told to leave and exited with {code}")
        await victim.start()
        victim.wanted = True

    async def _stop(self) -> None:
        victim = self._anybody()
        if victim is None:
            return
        pause_s = self._dice.uniform(*STOP_S)
        self._say(f"{victim} stands still for {pause_s:.2f} s")
        victim.stop()
        await asyncio.sleep(pause_s)
        victim.resume()

    async def _cut(self) -> None:
        link = self._any_link()
        self._say(f"{link.name} is cut")
        link.cut()

    async def _cut_at_a_byte(self) -> None:
        link, count = self._any_link(), self._dice.randrange(2000)
        way = self._dice.choice(("up", "down"))
        self._say(f"{link.name} is cut after {count} more bytes {way}")
        link.cut_after("up" if way == "up" else "down", count)

    async def _stall(self) -> None:
        link, pause_s = self._any_link(), self._dice.uniform(*STALL_S)
        self._say(f"nothing passes from {link.name} for {pause_s:.2f} s")
        link.stall()
        await asyncio.sleep(pause_s)
        link.mend()

    async def _partition(self) -> None:
        islands = self._stage.islands
        number, pause_s = self._dice.randrange(len(islands)), self._dice.uniform(*PARTITION_S)
        self._say(f"every packet to and from worker {number} is lost for {pause_s:.2f} s")
        await asyncio.to_thread(islands[number].pull)
        await asyncio.sleep(pause_s)
        await asyncio.to_thread(islands[number].plug)

    async def _flood(self) -> None:
        brokers = [process for process in self._stage.of("broker") if process.fit]
        if not brokers:
            return
        victim, pause_s = self._dice.choice(brokers), self._dice.uniform(0.5, 3.0)
        self._say(f"{victim} stands still for {pause_s:.2f} s while 300 calls come at once")
        victim.stop()
        await self._callers.flood(300, 4.0)
        await asyncio.sleep(pause_s)
        victim.resume()

    async def _hold(self) -> None:
        seconds = round(self._dice.uniform(*HOLD_S), 2)
        self._say(f"a worker holds its GIL for {seconds} s")
        token = f"held-{self._dice.getrandbits(40):x}"
        params: dict[str, object] = {"token": token, "end": "ok", "delay_ms": 0, "seconds": seconds}
        wish = Wish(method="bank.stuck", params=params)
        call = self._callers.place(wish, "safe", seconds + 10, self._dice.choice(self._callers.doors))
        while call.answered_at == 0.0 and call.heard == "silence" and time.monotonic() < call.sent_at + seconds + 12:
            await asyncio.sleep(0.2)

    async def _reopen(self) -> None:
        door = self._dice.choice(self._clients)
        self._say(f"{door.name} is closed with all that is under way, and another one opened")
        await door.reopen()

    async def _clock(self) -> None:
        seconds = self._dice.choice(CLOCKS_S)
        self._say(f"every wall clock is {seconds} s off")
        self._stage.clock.write_text(f"{seconds:+d}")
