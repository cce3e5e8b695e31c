"""How long somebody stood still is reckoned from what was seen."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from chaos import processes
from chaos.processes import Process, Waits, overlap_s
from tests.loops import until


def test_spans_count_as_far_as_they_lie_within() -> None:
    spans = [(1.0, 3.0), (5.0, 6.0)]
    assert overlap_s(spans, 0.0, 10.0) == 3.0
    assert overlap_s(spans, 2.0, 5.5) == 1.5
    assert overlap_s(spans, 3.5, 4.5) == 0.0


def test_a_process_that_was_never_seen_has_waited_for_nothing() -> None:
    waits = Waits()
    assert waits.waited_s(0.0, 100.0) == 0.0
    waits.look(os.getpid())
    assert waits.waited_s(0.0, 1e12) >= 0.0


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_a_seat_is_stopped_goes_on_dies_and_is_taken_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "COMMAND", [sys.executable, "-c", "import time; time.sleep(60)"])

    async def main() -> None:
        seat = Process("worker", 3, [], folder=tmp_path, environ={}, before=[])
        await seat.start()
        first = seat.pid
        assert seat.fit
        seat.stop()
        assert not seat.fit
        await until(lambda: state(first) == "T")
        seat.resume()
        assert len(seat.pauses) == 1
        await seat.kill()
        assert not seat.running
        await seat.start()
        assert seat.pid != first
        assert await seat.leave() == -signal.SIGTERM
        assert str(seat) == "worker 3"

    asyncio.run(main())
