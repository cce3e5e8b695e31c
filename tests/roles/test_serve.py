"""A process from start to stop, as an operator sees it."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.running import Running
from tests.serving import Answer, Asked, Serving

HOUSE = """
[gateway]
anonymous = ["*"]
drain = { timeout = "200ms" }
[providers.acme]
base_url = "{provider}"
[methods."acme.safe"]
provider = "acme"
effect = "safe"
request = "POST /"
[methods."acme.once"]
provider = "acme"
request = "POST /"
"""


def test_what_runs_beyond_the_drain_timeout_settles_as_unknown(tmp_path: Path) -> None:
    started = threading.Event()

    def provide(asked: Asked) -> Answer:
        started.set()
        return Answer(never=True)

    answers: list[Any] = []
    with Serving(HOUSE, tmp_path, provide) as homing:
        caller = threading.Thread(target=lambda: answers.append(homing.call("acme.once")))
        caller.start()
        assert started.wait(5)
        homing.stop_soon()
        caller.join(10)
        homing.join()
    assert (answers[0].data["reason"], answers[0].data["executed"]) == ("cancelled", "unknown")


def test_after_stop_every_table_is_empty(tmp_path: Path) -> None:
    with Serving(HOUSE, tmp_path, lambda asked: Answer(body=1)) as homing:
        for _ in range(20):
            homing.call("acme.safe")
        process = homing.process
        homing.stop_soon()
        homing.join()
    assert (len(process.gateway), len(process.calls), len(process.broker), len(process.worker)) == (0, 0, 0, 0)
    assert (process.broker.held_bytes, process.worker.outcomes_held_bytes, process.listener.held_bytes) == (0, 0, 0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_listens_answers_and_leaves_with_0(number: signal.Signals, tmp_path: Path) -> None:
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        ports = one.getsockname()[1], other.getsockname()[1]
    text = f'[gateway]\nanonymous = ["*"]\nlisten = "127.0.0.1:{ports[0]}"\n[admin]\nlisten = "127.0.0.1:{ports[1]}"\n'
    (tmp_path / "homing.toml").write_text(text)
    run = [sys.executable, "-c", "from homing.cli import main; main()", "serve"]
    process = subprocess.Popen(run, cwd=tmp_path, stderr=subprocess.PIPE, env={**os.environ, "PYTHONUNBUFFERED": "1"})
    assert process.stderr is not None
    line = json.loads(process.stderr.readline())
    assert line["event"] == "listening"
    body = b'{"jsonrpc":"2.0","id":1,"method":"no.such"}'
    request = urllib.request.Request(f"http://127.0.0.1:{ports[0]}/rpc", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as response:
        assert json.load(response)["error"]["code"] == -32601
    second = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=30)
    assert second.returncode == 2
    assert "--listen" in second.stderr
    process.send_signal(number)
    assert process.wait(10) == 0
    process.stderr.close()


def test_the_first_line_says_which_ports_the_system_chose(tmp_path: Path) -> None:
    (tmp_path / "homing.toml").write_text('[gateway]\nlisten = "127.0.0.1:0"\n[admin]\nlisten = "127.0.0.1:0"\n')
    with Running(tmp_path) as homing:
        assert homing.request("GET", "/livez").status == 200
        assert homing.request("GET", "/readyz", port=homing.admin_port).status == 200
        homing.terminate()
        assert homing.wait() == 0
