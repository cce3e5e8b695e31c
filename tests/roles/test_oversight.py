"""`oversight`: health and figures of a house of several processes."""

import asyncio
import contextlib
import http.client
import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from homing.roles.oversight import Oversight
from tests.loops import on_both_loops, until
from tests.roles.test_supervisor import CALLS, Stage, folder, on_stage

__all__ = ["folder"]


class Admin:
    """The pages of a stage."""

    def __init__(self, stage: Stage, port: int) -> None:
        self.stage = stage
        self.port = port

    async def ask(self, path: str, method: str = "GET") -> tuple[int, str]:
        def asking() -> tuple[int, str]:
            with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)) as connection:
                connection.request(method, path)
                response = connection.getresponse()
                return response.status, response.read().decode()

        return await asyncio.to_thread(asking)

    async def states(self) -> dict[str, str]:
        _, body = await self.ask("/readyz?verbose")
        return {f"{each['role']} {each['index']}": each["state"] for each in json.loads(body)["processes"]}


@contextlib.asynccontextmanager
async def overseen(folder: Path, **more: Any) -> AsyncIterator[Admin]:
    async with on_stage(folder, **more) as stage:
        oversight = Oversight(stage.supervisor)
        port = await oversight.listener.start("127.0.0.1", 0)
        try:
            yield Admin(stage, port)
        finally:
            await oversight.listener.close(0.2)


@on_both_loops
async def test_a_house_is_ready_when_somebody_is_for_each_role(folder: Path) -> None:
    async with overseen(folder) as admin:
        assert await admin.ask("/livez") == (200, "alive\n")
        assert await admin.ask("/readyz") == (200, "ready\n")
        status, body = await admin.ask("/readyz?verbose")
        said = json.loads(body)
        assert (status, said["status"], len(said["processes"])) == (200, "ready", 5)
        first = said["processes"][0]
        child = admin.stage.child("broker")
        assert (first["role"], first["index"], first["pid"], first["state"]) == ("broker", 0, child.known.pid, "ready")
        assert (first["restarts"], first["says"]) == (0, {"told": 0})
        assert first["age_s"] > 0


@on_both_loops
async def test_it_is_not_while_a_role_is_missing(folder: Path) -> None:
    async with overseen(folder, book={"worker 1": {"slow": True}}, places=2) as admin:
        stopped = admin.stage.child("worker", 0)
        stopped.send(signal.SIGSTOP)
        assert (await admin.states())["worker 0"] == "silent"
        assert (await admin.ask("/readyz"))[0] == 200, "there is another one"
        admin.stage.child("worker", 1).send(signal.SIGTERM)
        await until(lambda: admin.stage.events("SIGTERM"))
        assert await admin.ask("/readyz") == (503, "no worker is ready\n")
        assert (await admin.states())["worker 1"] == "not ready"
        stopped.send(signal.SIGCONT)
        assert (await admin.ask("/readyz"))[0] == 200


@on_both_loops
async def test_it_is_not_while_it_leaves(folder: Path) -> None:
    async with overseen(folder, book={"gateway": {"slow": True}}) as admin:
        admin.stage.supervisor.stop_soon()
        stopping = asyncio.ensure_future(admin.stage.supervisor.stop())
        await until(lambda: len(admin.stage.events("SIGTERM")) == 2)
        assert await admin.ask("/readyz") == (503, "draining\n")
        assert (await admin.states())["gateway 1"] == "draining"
        assert (await admin.ask("/livez"))[0] == 200
        admin.stage.supervisor.stop_soon()
        await stopping


@on_both_loops
async def test_it_is_not_before_all_have_started(folder: Path) -> None:
    async with overseen(folder, book={"broker": {"unready": True}}, started=False) as admin:
        starting = asyncio.ensure_future(admin.stage.supervisor.start())
        await until(lambda: len(admin.stage.events("started")) == 5)
        assert await admin.ask("/readyz") == (503, "no broker is ready\n")
        assert (await admin.states())["broker 0"] == "not ready"
        admin.stage.write({"broker": {"exit": 3}})
        admin.stage.child("broker").send(signal.SIGKILL)
        await until(lambda: admin.stage.events("exit"))
        admin.stage.write({})
        await starting
        assert (await admin.ask("/readyz"))[0] == 200


@on_both_loops
async def test_figures_are_those_of_all(folder: Path) -> None:
    async with overseen(folder, book={"gateway": {"figures": CALLS}}) as admin:
        status, body = await admin.ask("/metrics")
        assert status == 200
        assert "homing_calls_total 10.0" in body.splitlines()
        assert 'homing_processes{role="worker"} 2.0' in body.splitlines()


@on_both_loops
async def test_other_pages_and_methods(folder: Path) -> None:
    async with overseen(folder, places=1) as admin:
        assert (await admin.ask("/nothing"))[0] == 404
        assert (await admin.ask("/livez", "POST"))[0] == 405
        assert "/metrics" in (await admin.ask("/"))[1]
        assert await admin.ask("/readyz", "HEAD") == (200, "")
