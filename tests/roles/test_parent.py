"""`parent`: whoever was started by a supervisor notices that it is gone."""

import asyncio
import os
import subprocess
import sys

import pytest

from homing.roles.parent import ParentWatch
from tests.loops import on_both_loops


def holding(fd: int) -> "subprocess.Popen[bytes]":
    """A process that does nothing but hold it."""
    program = "import time; print('up', flush=True); time.sleep(60)"
    return subprocess.Popen([sys.executable, "-c", program], pass_fds=(fd,), stdout=subprocess.PIPE)


@on_both_loops
async def test_the_end_of_the_pipe_is_the_end_of_the_parent() -> None:
    mine, theirs = os.pipe()
    gone = asyncio.Event()
    ParentWatch(mine, gone.set)
    os.write(theirs, b"nothing of meaning")
    await asyncio.sleep(0.01)
    assert not gone.is_set()
    os.close(theirs)
    await gone.wait()
    with pytest.raises(OSError, match="descriptor"):
        os.fstat(mine)


@on_both_loops
async def test_several_may_hold_the_same_end() -> None:
    mine, theirs = os.pipe()
    gone = [asyncio.Event(), asyncio.Event()]
    for each in gone:
        ParentWatch(os.dup(mine), each.set)
    os.close(mine)
    os.write(theirs, b"x")  # both wake, one reads it
    os.close(theirs)
    for each in gone:
        await each.wait()


@on_both_loops
async def test_a_killed_parent_is_noticed() -> None:
    mine, theirs = os.pipe()
    parent = holding(theirs)
    os.close(theirs)
    gone = asyncio.Event()
    ParentWatch(mine, gone.set)
    assert parent.stdout is not None
    with parent.stdout:
        assert parent.stdout.readline() == b"up\n"
        assert not gone.is_set()
        parent.kill()
        await gone.wait()
    parent.wait()


@on_both_loops
async def test_who_stops_watching_hears_nothing() -> None:
    mine, theirs = os.pipe()
    heard: list[str] = []
    watch = ParentWatch(mine, lambda: heard.append("gone"))
    watch.close()
    watch.close()
    os.close(theirs)
    await asyncio.sleep(0.01)
    assert not heard
