"""The processes in which a Python worker's plain functions run, one call each at a time.

A thread would not do: a function that holds the GIL would stop everything, and nothing can end it. A process can be killed alone,
and another one takes its place.
"""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

import msgspec

from homing.errors import failure
from homing.roles.python_answers import Answered
from homing.roles.python_child import LENGTH_BYTES, Asked, Begun, frame

AGAIN_AFTER_S: Final = 1.0  # a child that could not even begin is not replaced at once
_READ_BYTES: Final = 1 << 18

Command: TypeAlias = Callable[[int], Sequence[str]]
"""The command line of a child that finds its socket at this file descriptor."""

_read_begun = msgspec.msgpack.Decoder(Begun).decode
_read_answered = msgspec.msgpack.Decoder(Answered).decode


class Errand:
    """One call for the pool. `done` is called once, unless it was stopped; `child` is who has it."""

    __slots__ = ("asked", "child", "done")

    def __init__(self, asked: Asked, done: Callable[[Answered], None]) -> None:
        self.asked = asked
        self.done = done
        self.child: _Child | None = None


class Pool:
    """So many children, and the calls that wait for one. `log` takes what operators should know of them, and a traceback or ""."""

    def __init__(
        self,
        command: Command,
        size: int,
        *,
        methods: frozenset[str],
        loop: asyncio.AbstractEventLoop,
        log: Callable[[str, str], None],
    ) -> None:
        self._command = command
        self._size = size
        self._methods = methods
        self._loop = loop
        self._log = log
        self._children: set[_Child] = set()
        self._idle: list[_Child] = []
        self._waiting: deque[Errand] = deque()
        self._again: set[asyncio.TimerHandle] = set()
        self._begun: asyncio.Future[str] = loop.create_future()
        self._closing = False
        self._empty: asyncio.Event | None = None

    async def start(self) -> str:
        """Start all children, and wait for the first: "" if it is there, else why it cannot be."""
        for _ in range(self._size):
            self._spawn()
        return await self._begun

    def run(self, errand: Errand) -> None:
        """Have a call answered, as soon as a child is free."""
        if self._idle:
            self._give(self._idle.pop(), errand)
        else:
            self._waiting.append(errand)

    def stop(self, errand: Errand) -> bool:
        """End a call now. Whether a child had it already: then it is killed with all that it started, and nothing is known."""
        child = errand.child
        if child is None:
            if errand in self._waiting:
                self._waiting.remove(errand)
            return False
        child.errand = None
        child.kill()
        return True

    @property
    def pids(self) -> list[int]:
        """The children's."""
        return sorted(child.pid for child in self._children)

    async def close(self) -> None:
        """Kill every child and wait for its end. Their calls are lost."""
        self._closing = True
        for timer in self._again:
            timer.cancel()
        for child in self._children:
            child.kill()
        if self._children:
            self._empty = asyncio.Event()
            await self._empty.wait()

    def _spawn(self) -> None:
        if self._closing:
            return
        try:
            self._children.add(_Child(self, self._command, self._loop))
        except OSError as error:  # no descriptor, memory or process is to be had now
            self._tell_begun(f"it cannot be started ({error})")
            self._log(f"A process of the pool cannot be started: {error}", "")
            self._spawn_later()

    def _spawn_later(self) -> None:
        timer = self._loop.call_later(AGAIN_AFTER_S, self._spawn)
        self._again = {each for each in self._again if each.when() > self._loop.time()} | {timer}

    def _give(self, child: "_Child", errand: Errand) -> None:
        errand.child = child
        child.errand = errand
        child.send(frame(errand.asked))

    # what children tell

    def began(self, child: "_Child", begun: Begun) -> None:
        """A child is there, or says why it cannot be."""
        lacking = sorted(self._methods.difference(begun.methods))
        problem = begun.problem
        if not problem and lacking:
            problem = (
                f"there the module has no {', '.join(lacking)}: what is a method must be one whenever the module is imported"
            )
        if problem:
            self._tell_begun(problem)
            self._log(f"A process of the pool cannot begin: {problem}", begun.fault)
            child.kill()
            return
        child.ready = True
        self._tell_begun("")
        self.freed(child)

    def freed(self, child: "_Child") -> None:
        """A child has nothing to do."""
        if self._waiting:
            self._give(child, self._waiting.popleft())
        else:
            self._idle.append(child)

    def gone(self, child: "_Child", code: int) -> None:
        """A child has ended. What it had is lost; another one takes its place."""
        self._children.discard(child)
        if child in self._idle:
            self._idle.remove(child)
        errand, child.errand = child.errand, None
        if errand is not None and not self._closing:
            method = errand.asked.call.method
            message = f"The process that ran {method} ended before it answered ({_ending(code)}); what it did is not known."
            errand.done(Answered(failure("internal_error", message, again=False), message))
        if child.ready:
            self._spawn()
        else:
            self._tell_begun(f"it ended before it had begun ({_ending(code)})")
            self._spawn_later()
        if child.ready and errand is None and not child.killed:
            self._log(f"A process of the pool ended while it had nothing to do ({_ending(code)}).", "")
        if self._empty is not None and not self._children:
            self._empty.set()

    def _tell_begun(self, problem: str) -> None:
        if not self._begun.done():
            self._begun.set_result(problem)


class _Child:
    """One process and the socket to it.

    That it has ended a thread says, which waits for it. The socket's end would say nothing: what the function started may hold the
    other side open. What the child wrote before it ended is read to the last byte.
    """

    __slots__ = ("_buffer", "_ended", "_loop", "_out", "_pool", "_process", "_socket", "errand", "killed", "pid", "ready")

    def __init__(self, pool: Pool, command: Command, loop: asyncio.AbstractEventLoop) -> None:
        self._pool = pool
        self._loop = loop
        self._buffer = bytearray()
        self._out = bytearray()
        self._ended = False
        self.errand: Errand | None = None
        self.ready = False
        self.killed = False
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        try:
            with theirs:
                # A group of its own: Ctrl-C is for the worker, and a kill for all that the function has started.
                self._process = subprocess.Popen(  # noqa: S603
                    command(theirs.fileno()), pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, process_group=0
                )
        except BaseException:
            ours.close()
            raise
        self.pid = self._process.pid
        self._socket = ours
        loop.add_reader(ours.fileno(), self._readable)
        threading.Thread(target=self._wait, name=f"homing-child-{self.pid}", daemon=True).start()

    def send(self, data: bytes) -> None:
        """Write, now or when the child reads."""
        self._out += data
        self._writable()

    def kill(self) -> None:
        """End it at once, and whatever it has started."""
        if not self._ended:
            self.killed = True
            with contextlib.suppress(ProcessLookupError):  # somebody else has waited for it
                os.killpg(self.pid, signal.SIGKILL)

    def _wait(self) -> None:
        with contextlib.suppress(ChildProcessError):  # nobody waits where SIGCHLD is ignored; or a function did, for any process
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)  # its number stays its own until `_exited`
        self._loop.call_soon_threadsafe(self._exited)

    def _exited(self) -> None:
        self._ended = True
        self._readable()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)  # what it had started and left behind
        code = self._process.wait()
        self._loop.remove_reader(self._socket.fileno())
        self._loop.remove_writer(self._socket.fileno())
        self._socket.close()
        self._pool.gone(self, code)

    def _readable(self) -> None:
        try:
            while data := self._socket.recv(_READ_BYTES):
                self._buffer += data
                self._take()
        except BlockingIOError:
            return
        except ConnectionError:
            pass
        self._loop.remove_reader(self._socket.fileno())  # the end; that of the process follows

    def _take(self) -> None:
        while len(self._buffer) >= LENGTH_BYTES:
            end = LENGTH_BYTES + int.from_bytes(self._buffer[:LENGTH_BYTES], "big")
            if len(self._buffer) < end:
                return
            body = bytes(self._buffer[LENGTH_BYTES:end])
            del self._buffer[:end]
            self._heard(body)

    def _heard(self, body: bytes) -> None:
        if not self.ready:
            self._pool.began(self, _read_begun(body))
            return
        if self.errand is None:  # it was stopped as it answered; the kill is on its way
            return
        try:
            answered = _read_answered(body)
        except (msgspec.DecodeError, UnicodeDecodeError):  # somebody else wrote into its socket
            self.kill()  # `gone` answers the call
            return
        errand, self.errand = self.errand, None
        errand.done(answered)
        if not self._ended:
            self._pool.freed(self)

    def _writable(self) -> None:
        try:
            while self._out:
                del self._out[: self._socket.send(self._out)]
        except BlockingIOError:
            self._loop.add_writer(self._socket.fileno(), self._writable)
            return
        except ConnectionError:
            self._out.clear()  # it has ended, as will be told
        self._loop.remove_writer(self._socket.fileno())


def _ending(code: int) -> str:
    """A process's exit code in words."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def child_command(target: str, path: str | None = None, *, own_log: bool = False) -> Command:
    """The command line of children that serve the worker `target`, of the file `path` if it is no module's."""

    def command(descriptor: int) -> list[str]:
        arguments = f"{descriptor}, {os.getpid()}, {target!r}, {path!r}, own_log={own_log}"
        code = f"import sys; sys.path[:] = {sys.path!r}; from homing.workers import serve_child; serve_child({arguments})"
        return [sys.executable, *_interpreter_options(), "-c", code]

    return command


def _interpreter_options() -> list[str]:
    """What this Python was started with, as far as a child should be too."""
    options = [f"-W{each}" for each in sys.warnoptions]
    options += [f"-X{name}" if value is True else f"-X{name}={value}" for name, value in sys._xoptions.items()]  # noqa: SLF001
    return options + ["-O"] * sys.flags.optimize
