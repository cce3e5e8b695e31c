"""`supervisor`: with small programs that note what they live through."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from homing.roles.asking import ask
from homing.roles.children import Child, Command, Known, Place, spawn
from homing.roles.supervisor import Patience, Supervisor
from homing.telemetry import Log
from tests.loops import on_both_loops, until

PUPPET = Path(__file__).with_name("puppet.py")
CALLS = "# HELP homing_calls_total Settled calls.\n# TYPE homing_calls_total counter\nhoming_calls_total 5.0\n"


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose path is short enough for sockets."""
    made = Path(tempfile.mkdtemp(prefix="homing-"))
    yield made
    shutil.rmtree(made)


class Heard(Log):
    """A log that is kept in memory."""

    def __init__(self) -> None:
        super().__init__(human=False)
        self.lines: list[dict[str, Any]] = []

    def event(self, event: str, message: str, *, level: str = "info", **fields: object) -> None:
        self.lines.append({"event": event, "message": message, "level": level, **fields})


class Stage:
    """A supervisor of puppets: two gateways, a broker, two workers."""

    def __init__(self, folder: Path, patience: Patience, places: int = 2) -> None:
        self.folder = folder
        self.program = sys.executable
        self.log = Heard()
        self.write({})
        named = [Place(role, index) for role in ("gateway", "worker") for index in range(places)]
        self.supervisor = Supervisor(
            [*named, Place("broker", 0)],
            self.command,
            folder=folder,
            log=self.log,
            environ={"PYTHONPATH": os.environ.get("PYTHONPATH", "")},
            patience=patience,
            farewell={"gateway": signal.SIGUSR1},
        )

    def write(self, book: dict[str, Any]) -> None:
        (self.folder / "book.json").write_text(json.dumps(book))

    def command(self, place: Place, admin: str) -> Command:
        return Command((self.program, "-S", str(PUPPET), place.role, str(place.index), admin, str(self.folder)))

    def child(self, role: str, index: int = 0) -> Child:
        (place,) = (each for each in self.supervisor.places if (each.role, each.index) == (role, index))
        assert place.child is not None
        return place.child

    def ready(self, role: str) -> Child | None:
        """Who has the first place of a role, if it is ready."""
        child = self.supervisor.places[[place.role for place in self.supervisor.places].index(role)].child
        return child if child is not None and child.ready else None

    def files(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()}

    def pids(self) -> set[int]:
        return {child.known.pid for _, child in self.supervisor.children.values()}

    def events(self, event: str = "") -> list[Any]:
        path = self.folder / "events.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        return [line for line in lines if not event or line["event"] == event]

    def logged(self, event: str) -> list[Any]:
        return [line for line in self.log.lines if line["event"] == event]


@contextlib.asynccontextmanager
async def on_stage(
    folder: Path, patience: Patience | None = None, *, book: dict[str, Any] | None = None, places: int = 2, started: bool = True
) -> AsyncIterator[Stage]:
    stage = Stage(folder, patience or Patience(), places)
    stage.write(book or {})
    try:
        if started:
            await stage.supervisor.start()
        yield stage
    finally:
        stage.supervisor.stop_soon()
        stage.supervisor.stop_soon()
        await stage.supervisor.stop()
        stage.log.close()
    assert not stage.supervisor.children


@on_both_loops
async def test_all_are_started_and_leave_in_the_order_in_which_calls_need_them(folder: Path) -> None:
    async with on_stage(folder) as stage:
        assert len(stage.supervisor.children) == 5
        assert len(stage.logged("ready")) == 1
        stage.supervisor.stop_soon()
        left: list[str] = []

        async def between(role: str) -> None:
            assert not any(place.role == role for place, _ in stage.supervisor.children.values())
            left.append(role)

        await stage.supervisor.stop(between)
        assert left == ["gateway", "worker", "broker"]
        told = [event["who"].split()[0] for event in stage.events("SIGTERM")]
        assert told == ["gateway"] * 2 + ["worker"] * 2 + ["broker"]
        noted = [(event["event"], event["who"].split()[0]) for event in stage.events()]
        assert noted.index(("SIGTERM", "worker")) > max(n for n, each in enumerate(noted) if each == ("left", "gateway"))
        assert noted.index(("SIGTERM", "broker")) > max(n for n, each in enumerate(noted) if each == ("left", "worker"))
        assert stage.files() == {"book.json", "events.jsonl"}, "no socket stays behind"


@on_both_loops
async def test_the_place_of_one_that_dies_is_filled_and_the_others_stay(folder: Path) -> None:
    async with on_stage(folder) as stage:
        others = stage.pids()
        victim = stage.child("gateway", 1)
        others.remove(victim.known.pid)
        victim.send(signal.SIGKILL)
        await victim.exited.wait()
        await until(lambda: len(stage.events("started")) == 6)
        assert others < stage.pids()
        (died,) = stage.logged("died")
        assert (died["role"], died["index"], died["restarts"], died["level"]) == ("gateway", 1, 1, "warning")
        assert "SIGKILL" in died["message"]
        assert 'homing_process_restarts_total{role="gateway"} 1.0' in await stage.supervisor.figures()


@on_both_loops
async def test_who_does_not_live_is_started_later_and_later_until_it_does(folder: Path) -> None:
    async with on_stage(folder) as stage:
        stage.write({"worker 0": {"exit": 3}})
        stage.child("worker").send(signal.SIGKILL)
        await until(lambda: len(stage.events("exit")) == 3)
        stage.write({})
        await until(lambda: len(stage.events("started")) == 6)
        waits = [line["message"].rpartition(" in ")[2] for line in stage.logged("died")]
        assert waits == ["0.1 s.", "0.2 s.", "0.4 s.", "0.8 s."]


@on_both_loops
async def test_a_program_that_cannot_be_started_is_tried_again(folder: Path) -> None:
    async with on_stage(folder) as stage:
        stage.program = str(folder / "nothing")
        stage.child("broker").send(signal.SIGKILL)
        await until(lambda: len(stage.logged("not_started")) == 2)
        stage.program = sys.executable
        await until(lambda: len(stage.events("started")) == 6)


@on_both_loops
async def test_a_configuration_that_nobody_can_start_with_ends_it_at_the_start(folder: Path) -> None:
    async with on_stage(folder, book={"gateway 1": {"exit": 2}}) as stage:
        assert stage.supervisor.stopping.is_set()
        assert stage.supervisor.exit_code == 2
        assert not stage.logged("ready")


@on_both_loops
async def test_all_are_replaced_one_after_the_other_by_who_is_ready(folder: Path) -> None:
    async with on_stage(folder) as stage:
        before = stage.pids()
        stage.supervisor.roll_soon()
        stage.supervisor.roll_soon()  # it has not begun: this is the same one
        await until(lambda: stage.logged("rolling"))
        stage.supervisor.roll_soon()  # one more after this
        await until(lambda: len(stage.logged("rolled")) == 2)
        assert not stage.supervisor.rolling
        assert not before & stage.pids()
        assert len(stage.pids()) == 5
        first = stage.events()[5:20]
        for new, told, left in zip(first[::3], first[1::3], first[2::3], strict=True):
            assert [new["event"], left["event"]] == ["started", "left"]
            assert told["event"] == ("SIGUSR1" if told["who"].startswith("gateway") else "SIGTERM")
            assert new["who"] == told["who"] == left["who"]
            assert (new["pid"] in before, told["pid"] in before) == (False, True)
        assert [event["who"] for event in first[::3]] == ["broker 0", "worker 0", "worker 1", "gateway 0", "gateway 1"]
        assert not stage.logged("died")
        assert sum(place.restarts for place in stage.supervisor.places) == 0


@pytest.mark.parametrize("page", [{"exit": 2}, {"unready": True}], ids=["ends", "never-ready"])
@on_both_loops
async def test_who_has_no_good_successor_stays(page: dict[str, Any], folder: Path) -> None:
    async with on_stage(folder, Patience(ready_s=3.0)) as stage:
        stage.write({"worker": page})
        worker, gateway, broker = stage.child("worker"), stage.child("gateway"), stage.child("broker")
        stage.supervisor.roll_soon()
        await until(lambda: stage.logged("not_rolled"))
        await until(lambda: not stage.supervisor.rolling)
        assert stage.child("worker") is worker
        assert stage.child("gateway") is gateway
        assert stage.child("broker") is not broker
        assert len(stage.pids()) == 5
        assert len(stage.logged("not_ready")) == 1


@on_both_loops
async def test_a_successor_that_cannot_be_started_leaves_all_as_it_was(folder: Path) -> None:
    async with on_stage(folder) as stage:
        before, stage.program = stage.pids(), str(folder / "nothing")
        stage.supervisor.roll_soon()
        await until(lambda: stage.logged("not_rolled"))
        assert stage.pids() == before


@on_both_loops
async def test_a_place_that_waits_to_be_filled_is_filled_by_the_roll(folder: Path) -> None:
    async with on_stage(folder) as stage:
        place = stage.supervisor.places[0]
        for _ in range(6):
            place.wait_s(0.0)  # it waits long after the next end
        stage.child("broker").send(signal.SIGKILL)
        await until(lambda: place.child is None)
        stage.supervisor.roll_soon()
        await until(lambda: stage.logged("rolled"))
        assert len(stage.pids()) == 5


@on_both_loops
async def test_stopping_ends_a_roll(folder: Path) -> None:
    async with on_stage(folder) as stage:
        stage.write({"broker": {"unready": True}})
        stage.supervisor.roll_soon()
        await until(lambda: len(stage.events("started")) == 6)
        stage.supervisor.stop_soon()
        stage.supervisor.roll_soon()  # too late
        await stage.supervisor.stop()
        assert not stage.supervisor.children
        assert not stage.logged("rolled")


@on_both_loops
async def test_who_is_needed_while_others_leave_is_still_replaced(folder: Path) -> None:
    async with on_stage(folder, book={"gateway 0": {"slow": True}}) as stage:
        stage.supervisor.stop_soon()
        stopping = asyncio.ensure_future(stage.supervisor.stop())
        await until(lambda: len(stage.events("SIGTERM")) == 2)
        stage.child("broker").send(signal.SIGKILL)
        await until(lambda: len(stage.events("started")) == 6)
        assert not stopping.done()
        stage.supervisor.stop_soon()
        await stopping
        assert [event["who"] for event in stage.events("left")][-1] == "broker 0"


@on_both_loops
async def test_who_does_not_leave_is_told_again_and_then_killed(folder: Path) -> None:
    book = {"worker 0": {"slow": True}, "gateway 1": {"stubborn": True}}
    async with on_stage(folder, Patience(drain_s=0.2, hurry_s=1.0), book=book) as stage:
        stage.supervisor.stop_soon()
        await stage.supervisor.stop()
        assert [line["message"].split(" did")[0] for line in stage.logged("killed")] == ["gateway 1"]
        assert {event["who"] for event in stage.events("left")} == {"gateway 0", "worker 0", "worker 1", "broker 0"}


@on_both_loops
async def test_what_one_had_counted_stays_counted_after_it(folder: Path) -> None:
    async with on_stage(folder, book={"gateway": {"figures": CALLS}, "worker 0": {"figures": "nonsense"}}) as stage:
        assert "homing_calls_total 10.0" in await stage.supervisor.figures()
        stage.write({})
        stage.supervisor.roll_soon()
        await until(lambda: stage.logged("rolled"))
        figures = await stage.supervisor.figures()
        assert "homing_calls_total 10.0" in figures
        assert 'homing_processes{role="gateway"} 2.0' in figures
        assert 'homing_processes{role="broker"} 1.0' in figures
        assert stage.logged("not_read")


@on_both_loops
async def test_what_nobody_had_asked_for_is_asked_before_it_leaves(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("homing.roles.supervisor.ask", partial(ask, within_s=20.0))  # however slow this machine is
    async with on_stage(folder, book={"gateway": {"figures": CALLS}}) as stage:
        stage.write({})
        stage.supervisor.roll_soon()
        await until(lambda: stage.logged("rolled"))
        figures = await stage.supervisor.figures()
        assert "homing_calls_total 10.0" in figures
        assert 'homing_processes_silent_total{role="gateway"} 0.0' in figures


@on_both_loops
async def test_who_does_not_say_its_figures_is_counted(folder: Path) -> None:
    async with on_stage(folder, book={"gateway": {"figures": CALLS}}) as stage:
        await stage.supervisor.figures()
        stopped = stage.child("gateway")
        stopped.send(signal.SIGSTOP)
        figures = await stage.supervisor.figures()
        stopped.send(signal.SIGCONT)
        assert "homing_calls_total 10.0" in figures
        assert 'homing_processes_silent_total{role="gateway"} 1.0' in figures


@on_both_loops
async def test_children_from_before_are_taken_over(folder: Path) -> None:
    async with on_stage(folder, places=1, started=False) as stage:
        known = []
        for serial, (role, index) in enumerate([("gateway", 0), ("worker", 0), ("worker", 0), ("worker", 7), ("gateway", 0)]):
            admin = str(folder / f"{role}-{serial}")
            pid = spawn(stage.command(Place(role, index), admin), {})
            known.append(Known(role, index, serial, pid, admin, 0.0))
        await until(lambda: len(stage.events("started")) == 5)
        leaving = [False, False, True, False, False]
        os.kill(known[2].pid, signal.SIGTERM)
        await until(lambda: stage.events("SIGTERM"))
        await stage.supervisor.start(zip(known, leaving, strict=True))
        assert stage.child("gateway").known.pid == known[0].pid
        assert stage.child("worker").known.pid == known[1].pid
        await until(lambda: len(stage.events("left")) == 3)  # one that was leaving, and two whose places there are not
        assert len(stage.pids()) == 3
        assert stage.child("broker").known.serial == 5


@on_both_loops
async def test_one_that_was_told_to_leave_before_the_program_was_exchanged_is_not_told_again(folder: Path) -> None:
    """A second signal says hurry: what it still has would be given up."""
    async with on_stage(folder, book={"worker 0": {"slow": True}}, places=1, started=False) as stage:
        pid = spawn(stage.command(Place("worker", 0), str(folder / "worker-3")), {})
        await until(lambda: stage.events("started"))
        os.kill(pid, signal.SIGTERM)
        await until(lambda: stage.events("SIGTERM"))
        stage.write({})
        await stage.supervisor.start([(Known("worker", 0, 3, pid, str(folder / "worker-3"), 0.0), True)])
        assert stage.child("worker").known.pid != pid
        assert pid in stage.pids()
        stage.supervisor.stop_soon()
        stopping = asyncio.ensure_future(stage.supervisor.stop())
        await until(lambda: len(stage.events("SIGTERM")) == 3)  # the gateway, and the worker of now
        assert [event for event in stage.events("SIGTERM") if event["pid"] == pid] == stage.events("SIGTERM")[:1]
        assert pid in stage.pids()
        stage.supervisor.stop_soon()
        await stopping


@on_both_loops
async def test_one_that_has_been_replaced_and_still_serves_is_not_hurried_by_the_end(folder: Path) -> None:
    async with on_stage(folder, book={"gateway": {"slow": True}}, places=1) as stage:
        old = stage.child("gateway")
        stage.write({})
        stage.supervisor.roll_soon()
        await until(lambda: stage.events("SIGUSR1"))
        stage.supervisor.stop_soon()
        stopping = asyncio.ensure_future(stage.supervisor.stop())
        await until(lambda: any(event["who"] == "gateway 0" for event in stage.events("SIGTERM")))
        await until(lambda: any(event["who"] == "gateway 0" for event in stage.events("left")))
        assert old.alive
        assert [event["event"] for event in stage.events() if event["pid"] == old.known.pid] == ["started", "SIGUSR1"]
        stage.supervisor.stop_soon()
        await stopping
        assert not old.alive


@on_both_loops
async def test_one_that_took_a_place_later_is_counted_too(folder: Path) -> None:
    async with on_stage(folder, book={"gateway": {"figures": CALLS}}) as stage:
        first = stage.child("gateway")
        first.send(signal.SIGKILL)
        await until(lambda: stage.ready("gateway") not in (None, first))
        stopped = stage.child("gateway")
        stopped.send(signal.SIGSTOP)
        figures = await stage.supervisor.figures()
        stopped.send(signal.SIGCONT)
        assert 'homing_processes_silent_total{role="gateway"} 1.0' in figures
