"""`homing demo` as somebody new meets it: run it, paste its lines, press Ctrl-C."""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest
from click.testing import CliRunner

from homing.cli import main
from homing.roles.demo import demo_config

RUN = [sys.executable, "-c", "from homing.cli import main; main()", "demo"]


@pytest.fixture
def demo() -> Iterator[tuple[subprocess.Popen[str], str]]:
    command = [*RUN, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    said = ""
    while "Ctrl-C" not in said:  # it is flushed, though this is no terminal
        line = process.stdout.readline()
        assert line, said
        said += line
    yield process, said
    process.kill()
    process.wait()
    process.stdout.close()


@pytest.mark.needs("curl")
def test_its_lines_do_what_they_promise(demo: tuple[subprocess.Popen[str], str]) -> None:
    process, said = demo
    lines = [line.strip() for line in said.splitlines() if line.strip().startswith("curl ")]
    assert len(lines) == 4
    echo, lost, found, ledger = (
        json.loads(subprocess.run(shlex.split(line), capture_output=True, check=True, timeout=30).stdout) for line in lines
    )
    assert echo["result"] == {"text": "hello"}
    assert lost["error"]["data"]["executed"] == "unknown"
    assert found["result"]["account"] == "a1"
    assert ledger["result"]["charges"] == 2
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 0


def test_it_says_what_runs_where(demo: tuple[subprocess.Popen[str], str]) -> None:
    _, said = demo
    ports = re.findall(r"http://127\.0\.0\.1:(\d+)", said)
    assert len(set(ports)) == 3
    assert "0" not in ports


def test_an_address_that_is_taken_or_none_at_all(demo: tuple[subprocess.Popen[str], str]) -> None:
    taken = re.search(r"127\.0\.0\.1:\d+", demo[1])
    assert taken is not None
    second = subprocess.run([*RUN, "--listen", taken[0], "--admin", "127.0.0.1:0"], capture_output=True, text=True, check=False)
    assert second.returncode == 2
    assert "--listen" in second.stderr
    nowhere = subprocess.run(
        [*RUN, "--listen", "nowhere"], capture_output=True, text=True, check=False, env={**os.environ, "NO_COLOR": "1"}
    )
    assert nowhere.returncode == 2
    assert "nowhere" in nowhere.stderr
    assert "Traceback" not in second.stderr + nowhere.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--admin", "nowhere"], "Invalid value for --admin: 'nowhere': the port is missing"),
        (["--listen", "127.0.0.1:1", "--admin", "127.0.0.1:1"], "Error: admin.listen: found 127.0.0.1:1, where gateway.listen"),
    ],
)
def test_what_is_wrong_is_told_of_what_was_said(arguments: list[str], says: str) -> None:
    told = subprocess.run([*RUN, *arguments], capture_output=True, text=True, check=False)
    assert says in told.stderr
    assert told.returncode == 2


def test_an_environment_that_says_nowhere_is_told_as_that() -> None:
    told = subprocess.run(RUN, capture_output=True, text=True, check=False, env={**os.environ, "HOMING_LISTEN": "nowhere"})
    assert 'Error: HOMING_LISTEN: found "nowhere"' in told.stderr
    assert told.returncode == 2


def test_an_address_with_colons_can_be_pasted() -> None:
    here = "[::1]:0" if has_loopback_6() else "127.0.0.1:0"
    with subprocess.Popen(
        [*RUN, "--listen", here, "--admin", here], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        said = b"".join(iter(process.stdout.readline, b"  A call that comes home:\n")).decode()
        process.kill()
    where = re.escape(here[:-1])
    assert re.search(rf"gateway    http://{where}[1-9]\d*\n  admin      http://{where}[1-9]\d*/readyz", said)


def has_loopback_6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


def test_its_configuration_can_be_had() -> None:
    shown = CliRunner().invoke(main, ["demo", "--print-config"])
    assert (shown.exit_code, shown.output) == (0, demo_config())
