"""One process over several: starts them, fills the place of one that ends, replaces them one after the other, and sees them off in order.

It knows nothing of calls. What it runs it is given as commands, so that it can be tried with small programs.
"""

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

import msgspec

from homing.roles.asking import ask
from homing.roles.children import EXIT_CONFIGURATION, Child, Command, Known, Place, ended_by, spawn
from homing.roles.totals import Totals
from homing.telemetry import Log

STARTED = ("broker", "worker", "gateway")  # who is asked is there before who asks
LEAVING = ("gateway", "worker", "broker")  # and the other way round: a call that is open needs all that come after it
LOOK_EVERY_S = 0.05  # whether one that starts is ready
FIGURES_EVERY_S = 0.5  # what one that leaves has counted is asked this often, so that little of it is lost
AGAIN_EVERY_S = 0.5  # a signal that came before the last one was seen is lost, so a hurry is repeated


class Patience(msgspec.Struct, frozen=True):
    """How long a supervisor waits: for one to be ready, for one to drain, and for one that was told to hurry. Seconds."""

    ready_s: float = 30.0
    drain_s: float = 130.0
    hurry_s: float = 5.0


class Supervisor:
    """Keeps every one of `places` filled, from `start` to `stop`.

    `command(place, admin)` is what fills it; whoever that is answers /readyz and /metrics on the path `admin`, which is in `folder`.
    `farewell` is the signal that tells the old one to leave when the new one of a role is there, where that is not SIGTERM.
    """

    def __init__(
        self,
        places: Iterable[Place],
        command: Callable[[Place, str], Command],
        *,
        folder: Path,
        log: Log,
        environ: Mapping[str, str],
        patience: Patience | None = None,
        farewell: Mapping[str, signal.Signals] | None = None,
    ) -> None:
        self.places: Sequence[Place] = sorted(places, key=lambda place: (STARTED.index(place.role), place.index))
        self.children: dict[int, tuple[Place, Child]] = {}  # all that run, by their serial number
        self.totals = Totals()
        self.stopping = asyncio.Event()
        self.exit_code = 0
        self._command = command
        self._folder = folder
        self._environ = environ
        self._log = log
        self._patience = patience or Patience()
        self._farewell = farewell or {}
        self._loop = asyncio.get_running_loop()
        self._serial = 0
        self._going: set[asyncio.Future[object]] = set()
        self._silent: dict[str, float] = dict.fromkeys(LEAVING, 0.0)
        self._restarts: dict[Place, asyncio.TimerHandle] = {}
        self._hurry = asyncio.Event()
        self._rolling: asyncio.Task[None] | None = None
        self._roll_again = False
        self._begun = False

    # start

    async def start(self, adopted: Iterable[tuple[Known, bool]] = ()) -> None:
        """Fill every place, and wait until all are ready, or `stopping` is set. `adopted` run already: (what is known, is it leaving?)."""
        for known, leaving in adopted:
            self._adopt(known, leaving=leaving)
        for place in self.places:
            self._fill(place)
        await asyncio.gather(*(self._await_ready(place) for place in self.places))
        self._begun = True
        if not self.stopping.is_set():
            self._log.event("ready", "Every process is ready.", processes=len(self.places))

    async def _await_ready(self, place: Place) -> None:
        while not self.stopping.is_set():
            child = place.child
            if child is not None and await self._is_ready(child):
                return
            await asyncio.sleep(LOOK_EVERY_S)

    def _adopt(self, known: Known, *, leaving: bool) -> None:
        """Take over a child of this very process, from before its program was exchanged. `leaving`: it was told to leave."""
        place = next((each for each in self.places if (each.role, each.index) == (known.role, known.index)), None)
        child = Child(known, self._ended)
        child.leaving = leaving
        superfluous = place is None or place.child is not None
        if place is None or superfluous:
            place = Place(known.role, known.index)
        self._serial = max(self._serial, known.serial)
        self.children[known.serial] = (place, child)
        if leaving or superfluous:
            self._aside(self._see_off(child, signal.SIGTERM))
        else:
            place.child = child

    def _fill(self, place: Place) -> None:
        """Start somebody for a place that is empty. If that is not possible, try again later."""
        self._restarts.pop(place, None)
        if place.child is None and not place.closed:
            place.child = self._spawn(place)
            if place.child is not None and self._begun:
                self._aside(self._comes_up(place.child))  # from then on it is silent if it does not answer, and not starting

    def _aside(self, awaitable: Coroutine[object, object, object]) -> None:
        going = asyncio.ensure_future(awaitable)
        self._going.add(going)
        going.add_done_callback(self._going.discard)

    def _spawn(self, place: Place) -> Child | None:
        serial = self._serial = self._serial + 1
        admin = str(self._folder / f"{place.role}-{serial}")
        try:
            pid = spawn(self._command(place, admin), self._environ)
        except OSError as error:
            self._log.event("not_started", f"{place.name} cannot be started: {error}", level="error", role=place.role)
            if place.child is None:
                self._fill_later(place, 0.0)
            return None
        child = Child(Known(place.role, place.index, serial, pid, admin, time.monotonic()), self._ended)
        self.children[serial] = (place, child)
        self._log.event("started", f"{place.name} started.", role=place.role, index=place.index, child=pid)
        return child

    def _fill_later(self, place: Place, lived_s: float) -> float:
        wait_s = place.wait_s(lived_s)
        if place not in self._restarts:
            self._restarts[place] = self._loop.call_later(wait_s, self._fill, place)
        return wait_s

    # the end of one

    def _ended(self, child: Child) -> None:
        place, _ = self.children.pop(child.known.serial)
        self.totals.left(child.known.serial)
        Path(child.known.admin).unlink(missing_ok=True)
        assert child.code is not None
        how = ended_by(child.code)
        tell = partial(self._log.event, role=place.role, index=place.index, child=child.known.pid)
        if place.child is not child or place.closed:
            tell("left", f"{place.name} has left ({how}).")
            if place.child is child:
                place.child = None
            return
        place.child = None
        place.restarts += 1
        if child.code == EXIT_CONFIGURATION and not self._begun:
            tell("not_started", f"{place.name} does not start with this configuration; see above.", level="error")
            self.exit_code = EXIT_CONFIGURATION
            self.stop_soon()
            return
        wait_s = self._fill_later(place, child.age_s)
        message = f"{place.name} ended ({how}) after {child.age_s:.1f} s. Another one is started in {wait_s:g} s."
        tell("died", message, level="warning", restarts=place.restarts)

    async def _is_ready(self, child: Child) -> bool:
        said = await ask(child.known.admin, "/readyz") if child.alive else None
        child.ready = child.ready or (said is not None and said.status == 200)
        return said is not None and said.status == 200

    # replace

    def roll_soon(self) -> None:
        """Replace every process, one after the other. Said again meanwhile, once more after that."""
        if self.stopping.is_set():
            return
        if self._rolling is not None and not self._rolling.done():
            self._roll_again = True
            return
        self._rolling = asyncio.ensure_future(self._roll())

    @property
    def rolling(self) -> bool:
        """Whether processes are being replaced."""
        return self._rolling is not None and not self._rolling.done()

    async def _roll(self) -> None:
        again = True
        while again:
            self._roll_again = False
            self._log.event("rolling", "Replacing every process, one after the other.")
            for place in self.places:
                if not await self._replace(place):
                    self._log.event("not_rolled", f"{place.name} stays, and so does who comes after it.", level="error")
                    break
            else:
                self._log.event("rolled", "Every process has been replaced.", processes=len(self.places))
            again = self._roll_again

    async def _replace(self, place: Place) -> bool:
        """Whether there is somebody new, and ready. If not, whoever was there has not been touched."""
        successor = self._spawn(place)
        if successor is None:
            return False
        try:
            ready = await self._comes_up(successor)
        except asyncio.CancelledError:
            successor.leaving = True
            successor.send(signal.SIGTERM)
            raise
        if not ready:
            how = ended_by(successor.code) if successor.code is not None else f"not ready after {self._patience.ready_s:g} s"
            self._log.event("not_ready", f"The new {place.name} does not come up: {how}.", level="error", role=place.role)
            successor.send(signal.SIGKILL)
            await successor.exited.wait()
            return False
        waiting = self._restarts.pop(place, None)
        if waiting is not None:
            waiting.cancel()
        old, place.child = place.child, successor
        if old is not None:
            await self._see_off(old, self._farewell.get(place.role, signal.SIGTERM))
        return True

    async def _comes_up(self, child: Child) -> bool:
        deadline = time.monotonic() + self._patience.ready_s
        while time.monotonic() < deadline and child.alive:
            if await self._is_ready(child):
                return child.alive
            await child.gone(LOOK_EVERY_S)
        return False

    # leave

    def stop_soon(self) -> None:
        """Begin to leave; said a second time, hurry."""
        if self.stopping.is_set():
            self._hurry.set()
        self.stopping.set()

    async def stop(self, between: Callable[[str], Awaitable[None]] | None = None) -> None:
        """See everybody off, role by role. A role that has not left yet is still kept filled. `between` is told which role has left."""
        self._log.event("drain", "Draining.", children=len(self.children))
        await self.pause()
        for role in LEAVING:
            for place in self.places:
                if place.role == role:
                    place.closed = True
                    if (waiting := self._restarts.pop(place, None)) is not None:
                        waiting.cancel()
            going = [child for place, child in self.children.values() if place.role == role]
            await asyncio.gather(*(self._see_off(child, signal.SIGTERM) for child in going))
            if between is not None:
                await between(role)

    async def pause(self) -> None:
        """Stop replacing. A new one that is not ready yet is sent away again."""
        if self._rolling is not None:
            self._rolling.cancel()
            await asyncio.wait((self._rolling,))
            self._rolling = None

    async def _see_off(self, child: Child, number: signal.Signals) -> None:
        """Wait for its end. Who was told to leave already is not told again: a second signal says hurry, and gives up open calls."""
        if not child.leaving:
            await self._figures_of(child)  # one that has nothing to finish is gone before it can be asked
        if not child.leaving:
            child.leaving = True
            child.send(number)
        deadline = time.monotonic() + self._patience.drain_s
        while child.alive and not self._hurry.is_set() and time.monotonic() < deadline:
            await self._figures_of(child)
            await self._either(child.exited, self._hurry, min(FIGURES_EVERY_S, deadline - time.monotonic()))
        deadline = time.monotonic() + self._patience.hurry_s
        while child.alive and time.monotonic() < deadline:
            child.send(signal.SIGTERM)
            await child.gone(AGAIN_EVERY_S)
        if child.alive:
            place, _ = self.children[child.known.serial]
            self._log.event(
                "killed", f"{place.name} did not leave in time, and is killed.", level="warning", child=child.known.pid
            )
            child.send(signal.SIGKILL)
            await child.exited.wait()

    async def _either(self, one: asyncio.Event, other: asyncio.Event, within_s: float) -> None:
        waiting = [asyncio.ensure_future(event.wait()) for event in (one, other)]
        await asyncio.wait(waiting, timeout=max(0.0, within_s), return_when=asyncio.FIRST_COMPLETED)
        for each in waiting:
            each.cancel()

    # figures

    async def figures(self) -> str:
        """What all of them counted and measured, added up."""
        await asyncio.gather(*(self._figures_of(child) for _, child in self.children.values()))
        running: dict[str, float] = dict.fromkeys(LEAVING, 0.0)
        restarts: dict[str, float] = dict.fromkeys(LEAVING, 0.0)
        for place, _ in self.children.values():
            running[place.role] += 1
        for place in self.places:
            restarts[place.role] += place.restarts
        return self.totals.exposition(
            homing_processes=("Processes that run.", "gauge", running),
            homing_process_restarts_total=("Processes that ended and were started again.", "counter", restarts),
            homing_processes_silent_total=("Times a process did not say its figures when asked.", "counter", self._silent),
        )

    async def _figures_of(self, child: Child) -> None:
        said = await ask(child.known.admin, "/metrics") if child.alive else None
        if not child.alive:
            return
        try:
            if said is not None:
                self.totals.heard(child.known.serial, said.body.decode())
                return
        except ValueError as error:
            self._log.event("not_read", f"The figures of {child.known.role} cannot be read: {error}", level="warning")
        if child.ready:
            self._silent[child.known.role] += not child.leaving  # one that leaves stops listening a moment before it is gone
            self.totals.silent(child.known.serial)
