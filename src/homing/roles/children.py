"""Processes that a supervisor has started: how they are started, how it hears of their end, and how long it waits before the next."""

import asyncio
import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping

import msgspec

BACK_OFF_FIRST_S = 0.1
BACK_OFF_MAX_S = 5.0
LIVED_S = 10.0  # who lived this long did not end because of how it was started
EXIT_CONFIGURATION = 2

_DEFAULTS = (signal.SIGPIPE, signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


class Command(msgspec.Struct, frozen=True):
    """What to run: arguments, the first being the program, and the descriptors that are handed down under their own numbers."""

    arguments: tuple[str, ...]
    descriptors: tuple[int, ...] = ()


class Known(msgspec.Struct, frozen=True):
    """What one has to know of a process to be its supervisor. `started_s` is monotonic, which all processes of a machine share."""

    role: str
    index: int
    serial: int
    pid: int
    admin: str
    started_s: float


class Child:
    """A process that runs, or has run. `exited` is set once it is gone, and `code` is its exit code, or minus the signal."""

    def __init__(self, known: Known, ended: "Callable[[Child], None]") -> None:
        self.known = known
        self.exited = asyncio.Event()
        self.code: int | None = None
        self.ready = False  # it has been, once
        self.leaving = False  # somebody has told it to
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        # A thread that waits works for children of the same pid's earlier life too, on every kernel, and takes no SIGCHLD from anybody.
        threading.Thread(target=self._wait, name=f"child {known.pid}", daemon=True).start()

    @property
    def age_s(self) -> float:
        """How long ago it was started."""
        return time.monotonic() - self.known.started_s

    @property
    def alive(self) -> bool:
        """Whether it has not been seen to end."""
        return self.code is None

    def send(self, number: signal.Signals) -> None:
        """Send a signal; nothing if it is gone. Until it was seen to end its pid is nobody else's: it is not reaped before."""
        if self.alive:
            os.kill(self.known.pid, number)

    async def gone(self, within_s: float) -> bool:
        """Wait for its end, at most this long."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.exited.wait(), within_s)
        return not self.alive

    def _wait(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # they are the main thread's, which may hold them back
        os.waitid(os.P_PID, self.known.pid, os.WEXITED | os.WNOWAIT)
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to tell
            self._loop.call_soon_threadsafe(self._reap)

    def _reap(self) -> None:
        _, status = os.waitpid(self.known.pid, 0)
        self.code = os.waitstatus_to_exitcode(status)
        self.exited.set()
        self._ended(self)


def spawn(command: Command, environ: Mapping[str, str]) -> int:
    """Start a process and return its pid. Raises OSError.

    It is in a group of its own, for what a terminal sends to all at once the supervisor passes on in its order. It gets no other
    descriptor than standard output, standard error and those of the command.
    """
    actions: list[tuple[int, int, int] | tuple[int, int, str, int, int]] = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)]
    actions += [(os.POSIX_SPAWN_DUP2, fd, fd) for fd in command.descriptors]  # onto itself: it only stays open
    return os.posix_spawn(
        command.arguments[0], command.arguments, environ, file_actions=actions, setpgroup=0, setsigmask=(), setsigdef=_DEFAULTS
    )


class Place:
    """One of the processes there should be: "gateway" 0, say. `child` is who has it, `restarts` how often it had to be filled again."""

    def __init__(self, role: str, index: int) -> None:
        self.role = role
        self.index = index
        self.child: Child | None = None
        self.restarts = 0
        self.closed = False  # nobody is to come after who has it
        self._back_off_s = 0.0

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.role} {self.index}"

    def wait_s(self, lived_s: float) -> float:
        """How long it stays empty after somebody who lived this long."""
        if lived_s >= LIVED_S or not self._back_off_s:
            self._back_off_s = BACK_OFF_FIRST_S
        else:
            self._back_off_s = min(BACK_OFF_MAX_S, self._back_off_s * 2)
        return self._back_off_s


def ended_by(code: int) -> str:
    """What an exit code means, in words: "exit code 2", "SIGKILL"."""
    if code >= 0:
        return f"exit code {code}"
    with contextlib.suppress(ValueError):
        return signal.Signals(-code).name
    return f"signal {-code}"
