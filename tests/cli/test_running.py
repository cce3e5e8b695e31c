"""What the commands share that run a process."""

import errno
import resource
from pathlib import Path

import click
import pytest

from homing.cli import running
from homing.config import Config
from homing.forms import ENDPOINT, Address
from homing.roles.process import Plan, Unbound
from homing.settings import DialCurve
from homing.telemetry import Log

NEAR, FAR = "tcp://127.0.0.1:8372", "tcp://broker.internal:8372"


def test_an_address_that_cannot_be_had_is_2(capfd: pytest.CaptureFixture[str]) -> None:
    async def taken(log: Log) -> None:
        raise Unbound(errno.EADDRINUSE, "cannot listen on 127.0.0.1:1: address already in use; --listen takes another")

    with pytest.raises(SystemExit) as left:
        running.run(taken)
    assert left.value.code == 2
    assert capfd.readouterr().err == "Cannot listen on 127.0.0.1:1: address already in use; --listen takes another.\n"


def test_any_other_fault_is_no_question_of_addresses() -> None:
    async def broken(log: Log) -> None:
        raise OSError(errno.EIO, "disk")

    with pytest.raises(OSError, match="disk"):
        running.run(broken)


def test_a_key_file_that_is_none_is_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def plan() -> Plan:
        raise ValueError("the key file is none")

    with pytest.raises(SystemExit) as left:
        running.run_role(Config(), {}, plan)
    assert left.value.code == 2
    assert capsys.readouterr().err == "The key file is none.\n"


def test_the_admin_listener_can_be_moved() -> None:
    assert running.admin_of(None) is None
    assert running.admin_of("127.0.0.1:9") == Address("127.0.0.1", 9)
    assert running.admin_of("unix:a/b") == "a/b"
    with pytest.raises(click.BadParameter, match="nowhere"):
        running.admin_of("nowhere")


def test_an_endpoint_on_the_command_line_is_one() -> None:
    assert running.endpoint_of(NEAR, ENDPOINT, "--broker") == NEAR
    with pytest.raises(click.BadParameter, match="did you mean"):
        running.endpoint_of("127.0.0.1:8372", ENDPOINT, "--broker")
    with pytest.raises(click.BadParameter, match="expected an address such as"):
        running.endpoint_of("nowhere", ENDPOINT, "--broker")


def dials(*given: str, configured: tuple[str, ...] = (), insecure: bool = False, key: str = "") -> tuple[str, ...]:
    keys = DialCurve(key=key)
    return running.dials_of(given, configured, keys, insecure=insecure, section="worker")


def test_the_command_line_says_which_brokers_or_else_the_configuration() -> None:
    assert dials(NEAR) == (NEAR,)
    assert dials(configured=(NEAR, "ipc://@x")) == (NEAR, "ipc://@x")
    assert dials("ipc://@y", configured=(NEAR,)) == ("ipc://@y",)
    assert dials(NEAR, "ipc://@y", NEAR) == dials(configured=(NEAR, "ipc://@y", NEAR)) == (NEAR, "ipc://@y")  # each once


def test_without_a_broker_there_is_nothing_to_run(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        dials()
    assert left.value.code == 2
    said = capsys.readouterr().err
    assert "--broker tcp://HOST:PORT" in said
    assert "[worker]" in said


def test_a_broker_on_another_machine_is_dialled_with_keys_or_on_purpose(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        dials(FAR)
    said = capsys.readouterr().err
    assert said.startswith(f"{FAR} is on another machine")
    assert "insecure = true" in said
    assert dials(FAR, insecure=True) == (FAR,)
    assert dials(FAR, key="/keys/worker") == (FAR,)


def test_sockets_are_handed_down_by_endpoint() -> None:
    assert running.opened_of(("tcp://127.0.0.1:1=7", "ipc:///a=b/c=8")) == (("tcp://127.0.0.1:1", 7), ("ipc:///a=b/c", 8))
    for text in ("7", "=7", "tcp://x=y"):
        with pytest.raises(click.BadParameter, match="ENDPOINT=FD"):
            running.opened_of((text,))


def test_as_many_files_as_the_machine_allows() -> None:
    _, files_max = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files_max - 1, files_max))
    seen: list[tuple[int, int]] = []

    async def look(log: Log) -> None:
        seen.append(resource.getrlimit(resource.RLIMIT_NOFILE))

    running.run(look)
    assert seen == [(files_max, files_max)]
