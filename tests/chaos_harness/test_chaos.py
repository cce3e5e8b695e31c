"""A short round with real processes. `make chaos` plays many, for an hour."""

import asyncio
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from chaos import island
from chaos.rounds import play
from chaos.shapes import Shape, draw

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.mark.timeout(240)
def test_a_short_round_breaks_no_promise(tmp_path: Path) -> None:
    one = asyncio.run(play(4, draw(random.Random(4), kind="roles", islands=island.possible()), 8.0, 25.0, tmp_path, late_s=10.0))
    assert one.findings.broken == []
    assert one.findings.calls > 50
    assert one.findings.answers["ok yes"] > 10
    assert sum(one.faults.values()) >= 3


@pytest.mark.timeout(240)
def test_a_short_round_with_every_way_in_and_out_breaks_no_promise(tmp_path: Path) -> None:
    shape = Shape(kind="all", gateways=1, brokers=2, workers=1, desks=1, clients=1, web_clients=1, curve=True)
    one = asyncio.run(play(10, shape, 2.5, 25.0, tmp_path, late_s=10.0))
    assert one.findings.broken == []
    assert one.findings.calls > 20
    assert one.findings.answers["ok yes"] > 10


@pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")
def test_a_pulled_cable_loses_packets_and_tells_nobody() -> None:
    if not island.possible():
        pytest.skip("this machine lets nobody make a network namespace")
    one = island.Island(77)
    one.make()
    try:
        ping = [*one.command, sys.executable, "-c", _ASK.format(here=one.here)]
        with subprocess.Popen([sys.executable, "-c", _ANSWER.format(here=one.here)], stdout=subprocess.PIPE) as answering:
            assert answering.stdout is not None
            answering.stdout.readline()
            assert subprocess.run(ping, capture_output=True, text=True, check=False).stdout == "answered\n"
            one.pull()
            assert subprocess.run(ping, capture_output=True, text=True, check=False).stdout == "silence\n"
            one.plug()
            answering.kill()
    finally:
        one.remove()


_ANSWER = """
import socket
with socket.create_server(("{here}", 47110)) as server:
    print("there", flush=True)
    while True:
        server.accept()[0].sendall(b"x")
"""
_ASK = """
import socket
try:
    with socket.create_connection(("{here}", 47110), timeout=2) as asked:
        print("answered" if asked.recv(1) else "ended")
except OSError:
    print("silence")
"""


def test_the_command_says_what_it_did(tmp_path: Path) -> None:
    summary = tmp_path / "summary.json"
    command = [
        sys.executable,
        "-m",
        "chaos",
        "--seconds",
        "0",
        "--round",
        "0.5",
        "--seed",
        "3",
        "--shape",
        "roles",
        "--json",
        str(summary),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=55)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "every promise was kept" in done.stdout
    assert json.loads(summary.read_text())["rounds"] == 1
