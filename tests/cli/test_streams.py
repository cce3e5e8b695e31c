"""Commands whose stdin, stdout or stderr lead nowhere."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from homing.cli.init import STARTER
from tests.cli.test_call import echo
from tests.scripted_gateway import ScriptedGateway, each, result

HOMING = f"{sys.executable} -m homing"


def run(command: str, folder: Path, *fds: int) -> "subprocess.CompletedProcess[str]":
    (folder / "homing.toml").write_text(STARTER)
    words = ["bash", "-c", command.replace("homing ", f"{HOMING} ", 1)]
    return subprocess.run(words, capture_output=True, text=True, check=False, cwd=folder, timeout=50, pass_fds=fds)


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("homing check >&-", 0),
        ("homing methods >&- 2>&-", 0),
        ("homing check --config nope.toml <&- >&- 2>&-", 2),
        ("homing call shop.find - <&-", 2),
        ('homing try shop.find \'{"customer": "c1"}\' --response - <&-', 0),
    ],
)
def test_a_command_needs_none_of_them(command: str, code: int, tmp_path: Path) -> None:
    ran = run(command, tmp_path)
    assert ran.returncode == code, ran.stderr
    assert "Traceback" not in ran.stderr


def test_no_socket_takes_the_number_of_one_that_is_closed(tmp_path: Path) -> None:
    program = "import os, sys; from homing.cli.streams import open_streams; open_streams(); print(os.dup(2), file=sys.stderr)"
    ran = subprocess.run(
        ["bash", "-c", f'{sys.executable} -c "$0" <&- >&-', program], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert int(ran.stderr) > 2


@pytest.mark.parametrize(("encoding", "shown"), [("ascii", "ä€"), ("utf-8", "ä€"), ("latin-1", "ä\\u20ac")])
def test_what_a_terminal_has_no_character_for_is_written_in_others(encoding: str, shown: str, tmp_path: Path) -> None:
    (tmp_path / "odd.toml").write_text('[gateway]\n"ä€" = 1\n')
    environ = {**os.environ, "PYTHONIOENCODING": encoding}
    words = [sys.executable, "-m", "homing", "check", "--config", "odd.toml"]
    ran = subprocess.run(words, capture_output=True, check=False, cwd=tmp_path, env=environ)
    assert ran.returncode == 2, ran.stderr
    told = ran.stdout.decode("latin-1" if encoding == "latin-1" else "utf-8")
    assert told.startswith(f'odd.toml: gateway."{shown}": this key is unknown')


@pytest.mark.parametrize("command", ["methods", "check", "check --json", "keys new shop", "--help", "methods --help"])
def test_a_full_disk_is_told_in_a_line(command: str, tmp_path: Path) -> None:
    ran = run(f"homing {command} > /dev/full", tmp_path)
    assert (ran.returncode, ran.stderr) == (1, "Not all could be written: no space left on device.\n")


def test_a_result_that_cannot_be_written_is_no_call_that_failed(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with ScriptedGateway(each(result)) as gateway:
        call = f"homing call m '[1]' --url {gateway.url}"
        full, gone = run(f"{call} > /dev/full", tmp_path), run(f"{call} >&{writer}", tmp_path, writer)
    os.close(writer)
    carried_out = "The call was carried out, and its result cannot be written"
    assert (full.returncode, full.stderr) == (1, f"{carried_out}: no space left on device.\n")
    assert (gone.returncode, gone.stderr) == (1, f"{carried_out}: broken pipe.\n")


def test_on_a_full_disk_no_further_call_is_made(tmp_path: Path) -> None:
    (tmp_path / "calls.jsonl").write_text("[1]\n" * 50)
    with ScriptedGateway(each(echo)) as gateway:
        ran = run(f"homing call m --batch calls.jsonl --parallel 1 --url {gateway.url} > /dev/full", tmp_path)
        assert len(gateway.requests) == 1
    assert ran.returncode == 1
    assert ran.stderr.startswith("The answers cannot be written: no space left on device.\n1 of 50 calls")
    assert "not sent: 49" in ran.stderr
