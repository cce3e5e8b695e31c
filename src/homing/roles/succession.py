"""What a supervisor leaves to itself when its program is exchanged: one environment variable, and descriptors that stay open.

The process keeps its pid, so its children stay its own, and its sockets go on listening meanwhile.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Iterable, MutableMapping
from typing import NoReturn

import msgspec

from homing.roles.children import Known

VARIABLE = "HOMING_SUCCESSION"
HEEDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2)
HEEDED_TURNS = 3  # of the loop: one reads that a signal came, the next calls who heeds it


class Estate(msgspec.Struct, frozen=True):
    """`sockets` are descriptors by what they are for, `endpoints` what ZeroMQ calls some of them, in the same order; `pipes` are by role,
    the end for children first; `children` say if they leave.
    """

    pid: int
    folder: str
    sockets: dict[str, list[int]]
    endpoints: dict[str, list[str]]
    pipes: dict[str, tuple[int, int]]
    children: list[tuple[Known, bool]]

    @property
    def descriptors(self) -> Iterable[int]:
        """Everything that has to stay open."""
        return [fd for fds in (*self.sockets.values(), *self.pipes.values()) for fd in fds]


def inherited(environ: MutableMapping[str, str], pid: int) -> Estate | None:
    """What this process left to itself, and nobody else is told. None if it has just been started."""
    text = environ.pop(VARIABLE, "")
    if not text:
        return None
    estate = msgspec.json.decode(text, type=Estate)
    if estate.pid != pid:  # somebody was started with our environment
        return None
    for fd in estate.descriptors:
        os.set_inheritable(fd, False)
    return estate


async def hold_signals() -> None:
    """From now on signals wait for the new program. When this returns, what had come before has been heeded by the loop.

    Python notes a signal at once and heeds it a turn later: what is noted and not heeded is lost with the program.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, HEEDED)
    for _ in range(HEEDED_TURNS):
        await asyncio.sleep(0)


def release_signals() -> None:
    """This program stays, or is the new one, and heeds them."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HEEDED)


def bequeath(estate: Estate) -> NoReturn:
    """Exchange the program for the one that is on disk now, with the same arguments. Raises OSError if it cannot be run.

    Signals must wait until the new program heeds them: until then they would end it.
    """
    try:
        for fd in estate.descriptors:
            os.set_inheritable(fd, True)
        environ = {**os.environ, VARIABLE: msgspec.json.encode(estate).decode()}
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environ)  # noqa: S606  # a shell has no part in it
    finally:
        for fd in estate.descriptors:
            os.set_inheritable(fd, False)
