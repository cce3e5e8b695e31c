"""`children`: processes that are started, watched, and waited for."""

import asyncio
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from homing.roles.children import Child, Command, Known, Place, ended_by, spawn
from tests.loops import on_both_loops, until

REPORT = """
import json, os, signal, sys
fds = sorted(int(name) for name in os.listdir("/proc/self/fd"))
ignored = [number for number in (1, 2, 13, 15) if signal.getsignal(number) == signal.SIG_IGN]
report = {"argv": sys.argv[1:], "fds": fds, "group": os.getpgid(0) == os.getpid(), "blocked": len(signal.pthread_sigmask(0, ()))}
os.write(int(sys.argv[1]), json.dumps(report).encode())
"""


def start(program: str, *arguments: str, descriptors: tuple[int, ...] = ()) -> int:
    return spawn(Command((sys.executable, "-c", program, *arguments), descriptors), {"HOME": "/nowhere"})


def watch(pid: int, ended: list[Child]) -> Child:
    return Child(Known("worker", 0, 1, pid, "", time.monotonic()), ended.append)


@on_both_loops
async def test_a_child_has_what_it_was_given_and_nothing_else() -> None:
    mine, theirs = os.pipe()
    kept, secret = os.pipe()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
    try:
        ended: list[Child] = []
        child = watch(start(REPORT, str(theirs), "-x", descriptors=(theirs, kept)), ended)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR2})
    await child.exited.wait()
    report = json.loads(os.read(mine, 10_000))
    assert (report["argv"], report["group"], report["blocked"]) == ([str(theirs), "-x"], True, 0)
    assert {0, 1, 2, theirs, kept} <= set(report["fds"])
    assert not {mine, secret} & set(report["fds"])
    assert (child.code, child.alive, ended) == (0, False, [child])
    assert not os.get_inheritable(theirs)
    for fd in (mine, theirs, kept, secret):
        os.close(fd)


@on_both_loops
async def test_who_waits_for_a_child_takes_no_signal_that_the_main_thread_holds_back() -> None:
    child = watch(start("import time; time.sleep(60)"), [])
    (waits,) = (thread for thread in threading.enumerate() if thread.name == f"child {child.known.pid}")
    await until(lambda: waits.native_id and int(blocked_by(waits.native_id), 16) >> (signal.SIGTERM - 1) & 1)
    child.send(signal.SIGKILL)
    await child.exited.wait()


def blocked_by(thread_id: int) -> str:
    lines = Path(f"/proc/self/task/{thread_id}/status").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith("SigBlk:"))


@on_both_loops
async def test_a_child_is_signalled_until_it_is_gone() -> None:
    ended: list[Child] = []
    child = watch(start("import time; time.sleep(60)"), ended)
    assert child.age_s < 60
    assert not await child.gone(0.01)
    child.send(signal.SIGTERM)
    assert await child.gone(20)
    assert (child.code, ended) == (-signal.SIGTERM, [child])
    child.send(signal.SIGKILL)  # its pid may be somebody else's by now


@on_both_loops
async def test_a_program_that_is_not_there_is_told() -> None:
    with pytest.raises(FileNotFoundError):
        spawn(Command(("/nowhere/program",)), {})


def test_a_child_may_end_after_the_loop() -> None:
    async def leave() -> Child:
        return watch(start("import sys; sys.stdin.read()"), [])

    child = asyncio.run(leave())
    for thread in threading.enumerate():
        if thread.name == f"child {child.known.pid}":
            thread.join()
    os.waitpid(child.known.pid, 0)
    assert child.alive, "nobody was there to see it end"


def test_who_ends_soon_is_started_later_each_time() -> None:
    place = Place("worker", 1)
    assert place.name == "worker 1"
    assert [place.wait_s(1.0) for _ in range(8)] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert [place.wait_s(10.0), place.wait_s(9.9), place.wait_s(3600.0)] == [0.1, 0.2, 0.1]


@pytest.mark.parametrize(
    ("code", "words"), [(0, "exit code 0"), (2, "exit code 2"), (-9, "SIGKILL"), (-15, "SIGTERM"), (-63, "signal 63")]
)
def test_an_end_is_told_in_words(code: int, words: str) -> None:
    assert ended_by(code) == words
