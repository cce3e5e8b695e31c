"""Log lines and figures."""

import json
import logging
import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from homing.errors import Attempt, Outcome, failure
from homing.telemetry import BUFFER_BYTES_MAX, Log, LogHandler, Metrics, to_stderr

OK = Outcome(reason="ok", executed="yes", result=b"1")
LOST = failure("connection_lost", "x")


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)
    os.close(writer)


def lines(reader: int) -> list[Any]:
    return [json.loads(line) for line in os.read(reader, 1 << 20).splitlines()]


def test_a_call_is_one_line_of_json(pipe: tuple[int, int]) -> None:
    log = Log(pipe[1], human=False)
    outcome = failure("provider_failed", "x")
    outcome.attempts = (Attempt(provider="p", started_ms=0, duration_ms=1, reason="provider_failed", executed="unknown"),)
    outcome.status = 500
    log.call("ab", "m.x", "shop", outcome, 0.01234, abandoned=True)
    log.close()
    (line,) = lines(pipe[0])
    assert line.pop("time").endswith("Z")
    assert line == {
        "event": "call",
        "call_id": "ab",
        "method": "m.x",
        "reason": "provider_failed",
        "executed": "unknown",
        "duration_ms": 12.3,
        "principal": "shop",
        "attempts": 1,
        "status": 500,
        "abandoned": True,
    }


def test_for_people_it_is_a_sentence(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    log = Log(pipe[1], human=True)
    log.call("ab", "m.x", "", OK, 1.5)
    log.call("cd", "m.y", "shop", LOST, 0.002, abandoned=True)
    log.event("drain", "Draining.", open_calls=3)
    log.close()
    first, second, third = os.read(pipe[0], 4096).decode().splitlines()
    assert first[12:] == " m.x ok 1500 ms ab"
    assert second[12:] == " m.y connection_lost executed: unknown 2 ms shop (caller gone) cd"
    assert third[8:] == " Draining. open_calls=3"


def test_who_writes_on_a_descriptor_of_several_says_so(pipe: tuple[int, int]) -> None:
    log = Log(pipe[1], human=False)
    log.who = {"role": "gateway", "pid": 7}
    log.event("drain", "Draining.", open_calls=3, pid=8)
    log.call("ab", "m.x", "", OK, 1.5)
    log.close()
    event, call = lines(pipe[0])
    assert (event["role"], event["pid"], event["open_calls"]) == ("gateway", 8, 3)
    assert "role" not in call


def test_colours_are_for_terminals(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    log = Log(pipe[1], human=True)
    log.call("ab", "m", "", OK, 0)
    log.call("ab", "m", "", LOST, 0)
    log.call("ab", "m", "", failure("expired", "x"), 0)
    log.event("x", "Careful.", level="warning")
    log.close()
    text = os.read(pipe[0], 4096).decode()
    assert "\x1b[32mok\x1b[0m" in text
    assert "\x1b[31mconnection_lost" in text
    assert "\x1b[33mexpired" in text
    assert "\x1b[33mCareful." in text


def test_what_somebody_else_made_up_does_nothing_to_a_terminal(pipe: tuple[int, int]) -> None:
    log = Log(pipe[1], human=True)
    log.event("offer", "Left out.", method="a.b\n\x1b[2Jé", count=5)
    log.close()
    (line,) = os.read(pipe[0], 1000).decode().splitlines()
    assert line.endswith(r"Left out. method='a.b\n\x1b[2Jé' count=5")


def test_lines_leave_together_when_the_loop_says_so(pipe: tuple[int, int]) -> None:
    log = Log(pipe[1], human=False)
    woken: list[int] = []
    log.flush_with(lambda: woken.append(1))
    log.call("a", "m", "", OK, 0)
    log.call("b", "m", "", OK, 0)
    assert len(woken) == 1
    log.flush()
    log.flush()
    log.close()
    assert [line["call_id"] for line in lines(pipe[0])] == ["a", "b"]


def test_a_reader_that_stops_reading_stops_nobody(pipe: tuple[int, int]) -> None:
    log = Log(pipe[1], human=False)
    log.flush_with(lambda: None)
    for _ in range(3):
        log.event("x", "y" * (BUFFER_BYTES_MAX // 2 - 1000))
        log.flush()
    assert log.dropped == 1
    left = BUFFER_BYTES_MAX // 2 * 2 - 4000

    def read() -> None:
        nonlocal left
        while left > 0:
            left -= len(os.read(pipe[0], 1 << 20))

    reader = threading.Thread(target=read)
    reader.start()
    log.close()
    reader.join(20)
    assert left <= 0


def test_a_reader_that_is_gone_is_counted() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    log = Log(writer, human=False)
    log.event("x", "y")
    log.close()
    os.close(writer)
    assert log.dropped == 1


def test_what_libraries_log_comes_out_too(pipe: tuple[int, int]) -> None:
    log = Log(pipe[1], human=False)
    logger = logging.getLogger("test_telemetry")
    handler = LogHandler(log)
    logger.addHandler(handler)
    logger.propagate = False
    try:
        raise ValueError("inner")
    except ValueError:
        logger.exception("outer %s", 1)
    logger.removeHandler(handler)
    log.close()
    (line,) = lines(pipe[0])
    assert (line["level"], line["logger"]) == ("error", "test_telemetry")
    assert line["message"].startswith("outer 1\nTraceback")


def test_a_line_that_cannot_be_put_together_costs_only_itself(pipe: tuple[int, int]) -> None:
    log = Log(pipe[1], human=False)
    LogHandler(log).handle(logging.makeLogRecord({"msg": "of %d", "args": ("x",), "pathname": "reports.py", "lineno": 7}))
    log.close()
    (line,) = lines(pipe[0])
    assert line["message"].startswith("A line that reports.py:7 logs cannot be put together: TypeError(")


def test_what_another_thread_tells_is_written_without_the_loop(pipe: tuple[int, int]) -> None:
    log = Log(pipe[1], human=False)
    woken: list[str] = []
    log.flush_with(lambda: woken.append(threading.current_thread().name))
    log.event("a", "here")
    thread = threading.Thread(target=log.event, args=("b", "there"), name="other")
    thread.start()
    thread.join()
    log.close()
    assert woken == [threading.current_thread().name]
    assert sorted(line["event"] for line in lines(pipe[0])) == ["a", "b"]


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_writes_its_lines_itself(pipe: tuple[int, int]) -> None:
    log = Log(pipe[1], human=False)
    log.flush_with(lambda: None)
    log.event("a", "not yet flushed")
    if os.fork() == 0:
        try:
            log.event("b", "in the fork")
        finally:
            os._exit(0)
    os.wait()
    assert [line["event"] for line in lines(pipe[0])] == ["b"]
    log.close()
    assert [line["event"] for line in lines(pipe[0])] == ["a"]


def test_at_once_is_without_a_thread(pipe: tuple[int, int]) -> None:
    before = threading.active_count()
    log = Log(pipe[1], human=False, at_once=True)
    log.event("a", "here")
    assert [line["event"] for line in lines(pipe[0])] == ["a"]
    assert threading.active_count() == before
    log.close()


@pytest.mark.parametrize("human", [False, True])
def test_text_that_is_no_text_is_told_as_well_as_it_can_be(pipe: tuple[int, int], human: bool) -> None:
    log = Log(pipe[1], human=human)
    log.event("fault", "It broke off: caf\udce9", level="error", count=3, nothing=None, error=ValueError("\udce9"))
    log.close()
    written = os.read(pipe[0], 4096).decode()
    assert "caf?" in written
    if not human:
        line = json.loads(written)
        assert (line["count"], line["nothing"], line["error"]) == (3, None, "?")


def test_standard_error_is_the_default() -> None:
    log = to_stderr(human=False)
    assert not log.human
    log.close()


def test_figures() -> None:
    metrics = Metrics()
    metrics.count("m", OK, 0.003)
    metrics.count("m", OK, 1000.0)
    metrics.gauge("homing_open_calls", "Open.", lambda: 3)
    metrics.gauge("homing_queue_length", "Queued.", lambda: {"acme": 2.0})
    metrics.counter("homing_http_requests", "Requests.", lambda: 9)
    metrics.counter("homing_messages_dropped", "Dropped.", lambda: {"version": 4})
    page = metrics.exposition().decode()
    assert 'homing_messages_dropped_total{name="version"} 4.0' in page
    assert 'homing_calls_total{executed="yes",method="m",reason="ok"} 2.0' in page
    assert 'homing_call_duration_seconds_bucket{le="0.005",method="m"} 1.0' in page
    assert 'homing_call_duration_seconds_bucket{le="+Inf",method="m"} 2.0' in page
    assert "homing_open_calls 3.0" in page
    assert 'homing_queue_length{name="acme"} 2.0' in page
    assert "homing_http_requests_total 9.0" in page
