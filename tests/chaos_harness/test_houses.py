"""A house is looked into from outside: who is in it, who stood still, and what it says of itself."""

import asyncio
import http.server
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos.house import House
from tests.loops import until

CHILD = [sys.executable, "-c", "import time; time.sleep(60)", "-m", "homing", "gateway"]


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House([], 1, folder=tmp_path, environ={})


@pytest.fixture
def child() -> Iterator[int]:
    with subprocess.Popen(CHILD) as started:
        yield started.pid
        started.kill()


def test_a_gateway_that_stood_still_excuses_an_answer(house: House, child: int) -> None:
    began = time.monotonic()
    house.stop_child("gateway", child)
    assert house.paused_s(began, began + 2.0) == pytest.approx(2.0, abs=0.5)
    house.resume_child(child)
    assert len(house.pauses) == 1
    house.stop_child("worker", child)
    house.resume_child(child)
    assert len(house.pauses) == 1, "only who answers callers can make an answer late"


class Page(http.server.BaseHTTPRequestHandler):
    """What the process over the others says of itself; 503 as long as no gateway is ready."""

    state = "starting"
    asked = 0

    def do_GET(self) -> None:
        Page.asked += 1
        self.send_response(200 if Page.state == "ready" else 503)
        self.end_headers()
        self.wfile.write(json.dumps({"processes": [{"role": "gateway", "index": 0, "state": Page.state}]}).encode())

    def log_message(self, *_: object) -> None:
        pass


def test_that_there_was_no_gateway_excuses_an_answer_though_the_house_was_not_ready(tmp_path: Path) -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        house = House([], server.server_port, folder=tmp_path, environ={})

        async def main() -> None:
            asking = asyncio.ensure_future(house.ask())
            async with asyncio.timeout(20):
                await until(lambda: Page.asked >= 2)
                Page.state = "ready"
                await until(lambda: Page.asked >= 4)
            asking.cancel()

        began = time.monotonic()
        asyncio.run(main())
        server.shutdown()
    assert house.pauses
    assert house.pauses[0][0] == pytest.approx(began, abs=1.0)
    assert house.pauses[-1][1] < time.monotonic()


def test_it_says_who_is_missing_and_what_is_held(house: House) -> None:
    gateway = {"role": "gateway", "index": 0, "state": "ready", "says": {"open_calls": 2, "broker_holds": 0}}
    worker = {"role": "worker", "index": 0, "state": "draining"}
    left = house.left({"processes": [gateway, worker]}, {"gateway": 1, "worker": 1})
    assert left == ["there are ['draining'] for 1 of role worker", "gateway 0 of the house holds 2 open calls"]


def test_its_children_are_known_by_what_they_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "over.py").write_text(
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-P', '-m', 'homing', 'broker', '--listen', 'nowhere'])\n"
        "child.send_signal(19)\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    monkeypatch.setattr("chaos.processes.COMMAND", [sys.executable, str(tmp_path / "over.py")])

    async def main() -> None:
        house = House([], 1, folder=tmp_path, environ={"PYTHONPATH": os.pathsep.join(sys.path)})
        await house.start()
        async with asyncio.timeout(20):
            await until(lambda: len(house.children("broker")) == 1)
            await until((tmp_path / "house0.log").read_text)
        pid = int((tmp_path / "house0.log").read_text())
        assert house.children("broker") == [("broker", pid)]
        assert house.children("gateway") == []
        await house.raze()

    asyncio.run(main())
