"""What functions log and print: src/homing/roles/python_log.py."""

import contextvars
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from homing.calling import CurrentCall, enter_call
from homing.roles.python_log import ChildHandler, log_calls, log_in_child, of_call

CALL = CurrentCall(
    call_id="ab" * 16, method="reports.build", principal="", idempotency_key="", attempt=1, deadline=time.monotonic() + 60
)


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch) -> Iterator[logging.Logger]:
    """The logger of all, as a program finds it that has set up nothing."""
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    before = root.level
    root.setLevel(logging.WARNING)
    yield root
    root.setLevel(before)


def in_call(*lines: tuple[int, str]) -> None:
    def say() -> None:
        enter_call(CALL)
        for level, text in lines:
            logging.getLogger("reports.sales").log(level, text)

    contextvars.Context().run(say)


def told(capfd: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capfd.readouterr().err.splitlines()]


@pytest.mark.usefixtures("root")
def test_what_a_function_logs_is_a_line_that_knows_the_call(capfd: pytest.CaptureFixture[str]) -> None:
    log_in_child(own_log=False)
    in_call((logging.WARNING, "Nothing sold."), (logging.INFO, "As every day."), (logging.ERROR, "x" * 10_000))
    first, last = told(capfd)
    del first["time"]
    assert first == {
        "level": "warning",
        "event": "log",
        "message": "Nothing sold.",
        "logger": "reports.sales",
        "call_id": "ab" * 16,
        "method": "reports.build",
    }
    assert (last["level"], len(last["message"])) == ("error", 10_000)


def test_which_levels_are_told_the_program_says(root: logging.Logger, capfd: pytest.CaptureFixture[str]) -> None:
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, force=True)
    log_in_child(own_log=False)
    in_call((logging.INFO, "As every day."), (logging.DEBUG, "Even now."))
    assert [line["message"] for line in told(capfd)] == ["As every day."]
    assert [type(handler) for handler in root.handlers] == [ChildHandler]


def test_what_a_program_sends_elsewhere_goes_on_to_be(root: logging.Logger, tmp_path: Path) -> None:
    logging.basicConfig(handlers=[logging.FileHandler(tmp_path / "log"), logging.StreamHandler()], force=True)
    log_in_child(own_log=False)
    in_call((logging.WARNING, "Nothing sold."))
    assert [type(handler) for handler in root.handlers] == [logging.FileHandler, ChildHandler]
    assert (tmp_path / "log").read_text() == "WARNING:reports.sales:Nothing sold.\n"
    root.handlers[0].close()


def test_a_program_that_logs_as_it_likes_is_left_alone(root: logging.Logger, capfd: pytest.CaptureFixture[str]) -> None:
    logging.basicConfig(format="%(call_id)s: %(message)s", stream=sys.stderr, force=True)
    log_in_child(own_log=True)
    in_call((logging.WARNING, "Nothing sold."))
    assert capfd.readouterr().err == f"{'ab' * 16}: Nothing sold.\n"


def test_outside_of_a_call_a_record_knows_none(root: logging.Logger) -> None:
    root.addHandler(logging.NullHandler())
    log_calls()
    log_calls()
    assert root.handlers[0].filters == [of_call]
    record = logging.makeLogRecord({"msg": "x"})
    assert contextvars.Context().run(of_call, record)
    assert not hasattr(record, "call_id")


def test_lines_leave_whole_and_at_once_even_unbuffered() -> None:
    code = """
import os, sys
from homing.roles.python_log import print_lines
print_lines()
sys.stdout.write("half ")
print("a line", 7)
print("half")
sys.stdout.write("lost")
os._exit(0)
"""
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as out:
        subprocess.run([sys.executable, "-c", code], stdout=writer, env={**os.environ, "PYTHONUNBUFFERED": "1"}, check=True)
        os.close(writer)
        assert out.read() == b"half a line 7\nhalf\n"
