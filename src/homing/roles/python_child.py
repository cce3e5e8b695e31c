"""A process of a Python worker's pool: takes one call at a time from a socket, and answers it.

It is started by `python_pool` and belongs to it. Both speak in frames: four bytes of length, then msgpack.
"""

import contextlib
import ctypes
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Mapping
from contextvars import copy_context
from typing import Final

import msgspec

from homing.calling import CurrentCall, enter_call
from homing.core.holding import frame_bytes, too_large
from homing.core.links import FRAME_BYTES_MAX
from homing.functions import Function
from homing.roles.python_answers import Answered, flush, free_forks, leave_if_forked, raised, returned, unheeded
from homing.roles.python_log import log_in_child, print_lines

LENGTH_BYTES: Final = 4
_PR_SET_PDEATHSIG: Final = 1  # prctl(2)


class Begun(msgspec.Struct, frozen=True):
    """The child is there and has these methods, or cannot be and says why."""

    methods: tuple[str, ...] = ()
    problem: str = ""
    fault: str = ""  # a traceback for the log


class Asked(msgspec.Struct, frozen=True):
    """A call for the child. `params` is the JSON text of an object. An outcome above `outcome_bytes_max` nobody could carry on."""

    call: CurrentCall
    params: bytes
    outcome_bytes_max: int = FRAME_BYTES_MAX


_encode = msgspec.msgpack.Encoder().encode
_read_asked = msgspec.msgpack.Decoder(Asked).decode


def frame(message: Begun | Asked | Answered) -> bytes:
    """A message as it goes over the socket."""
    body = _encode(message)
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


def answer(function: Function, asked: Asked) -> Answered:
    """Call the function, in a context of its own. Whatever it raises is an answer, SystemExit and KeyboardInterrupt too."""
    name, process = function.name, os.getpid()

    def call() -> Answered:
        enter_call(asked.call)
        result = function.call(**function.arguments(asked.params))
        leave_if_forked(process)
        return returned(name, result)

    try:
        return copy_context().run(call)
    except BaseException as error:
        leave_if_forked(process, error)
        return raised(name, error)


def serve(channel: socket.socket, load: Callable[[], Mapping[str, Function]], parent: int, *, own_log: bool = False) -> None:
    """Answer calls until the pool hangs up. `parent` is its process: without it, nobody wants the answers.

    With `own_log` it is left alone how the program logs, if it has said so.
    """
    _heed_only(parent)
    print_lines()
    try:
        functions = load()
    except BaseException as error:
        problem = "".join(traceback.format_exception_only(error)).strip()
        channel.sendall(frame(Begun(problem=problem, fault="".join(traceback.format_exception(error)).rstrip())))
        return
    log_in_child(own_log=own_log)
    channel.sendall(frame(Begun(methods=tuple(functions))))
    with contextlib.suppress(ConnectionError):  # the pool may leave at any time
        while (body := _receive(channel)) is not None:
            asked = _read_asked(body)
            answered = answer(functions[asked.call.method], asked)
            flush()  # what was printed belongs to this call, and a child may be killed before the next
            channel.sendall(_frame_of(asked, answered))


def _frame_of(asked: Asked, answered: Answered) -> bytes:
    """The answer; or that it is too large, for a worker that took in a gigabyte would lose all its calls; or that it cannot be told."""
    bytes_max = asked.outcome_bytes_max
    try:
        if frame_bytes(answered.outcome) > bytes_max:
            answered = Answered(too_large(answered.outcome, bytes_max), answered.fault)
        return frame(answered)
    except Exception as error:
        return frame(raised(asked.call.method, error))


def _heed_only(parent: int) -> None:
    """Die with the pool, and of nothing else that is meant for it: whoever tells a whole group to stop means the pool, which drains.

    Functions and not SIG_IGN, which a program that is started from here would inherit.
    """
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, unheeded)
    free_forks()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before that
        os._exit(1)


def _receive(channel: socket.socket) -> bytes | None:
    """The next frame; None if there will be none."""
    head = _receive_exactly(channel, LENGTH_BYTES)
    return None if head is None else _receive_exactly(channel, int.from_bytes(head, "big"))


def _receive_exactly(channel: socket.socket, length: int) -> bytes | None:
    buffer = bytearray(length)
    view = memoryview(buffer)
    while view:
        count = channel.recv_into(view)
        if not count:
            return None
        view = view[count:]
    return bytes(buffer)
