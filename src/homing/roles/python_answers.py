"""What a function of a Python worker did, as an outcome: its result, what it raised, and what that proves.

Both sides of the pool use it, so it imports nothing that takes long.
"""

import asyncio
import contextlib
import os
import signal
import sys
import threading
import traceback
from functools import cache
from typing import Final

import msgspec

from homing.errors import STRENGTH, TABLE, CallError, Outcome, failure
from homing.functions import WrongParams, result_text

FAULT_LENGTH_MAX: Final = 100_000
_REASONS: Final = {row.code: row.reason for row in TABLE}
_CODE_MAX: Final = 2**63 - 1  # that fits a message
_HEEDED: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
_OF_AN_ANSWER: Final = frozenset({"reason", "executed", "retry"})  # what `data` always has, in answers of homing's


class Answered(msgspec.Struct, frozen=True):
    """How it ended. `fault` is for the log and never for the caller: a traceback, or "" where nothing is out of order."""

    outcome: Outcome
    fault: str = ""


def returned(method: str, result: object) -> Answered:
    """The function came to its end. That its result cannot be told proves nothing about what it did."""
    try:
        return Answered(Outcome(reason="ok", executed="yes", result=result_text(result)))
    except BaseException as error:
        message = f"{method} ended, but what it returned has no form in JSON; the worker's log says more."
        return Answered(failure("internal_error", message, again=False), _told(error))


def raised(method: str, error: BaseException) -> Answered:
    """The function did not come to its end. Only what it says itself is a proof: `NotExecuted`, and a `CallError`'s `executed`."""
    if isinstance(error, WrongParams):
        return Answered(failure("invalid_params", str(error), executed="no", errors=error.errors, again=False))
    if isinstance(error, CallError) and _has_code(error):
        return _said(method, error)
    if isinstance(error, asyncio.CancelledError):
        return Answered(failure("internal_error", f"{method} was cancelled from within.", again=False), _told(error))
    return Answered(failure("internal_error", f"{method} broke off; the worker's log says why.", again=False), _told(error))


def _said(method: str, error: CallError) -> Answered:
    """An error that is meant for the caller. A code of the table has the table's reason; all others are the application's."""
    reason = _REASONS.get(error.code)
    executed = error.executed
    faults: list[str] = []
    if executed not in tuple(STRENGTH):  # whatever stood behind `executed=`
        faults.append(f'{method}: executed is {executed!r:.40}, expected "no", "unknown" or "yes"; it counts as unknown')
        executed = "unknown"
    if isinstance(error.data, dict) and error.data.keys() >= _OF_AN_ANSWER:
        # The answer of another call, which the function made and let through. What that proves, it proves of the other call.
        executed = "unknown"
    outcome = Outcome(
        reason=reason or "application",
        executed=executed,
        code=None if reason else error.code,
        message=_text(error.message) or (f"{method} was not carried out." if executed == "no" else ""),
        again=False,
    )
    try:
        outcome.detail = None if error.data is None else result_text(error.data)
    except BaseException as wrong:
        faults.append(f"{method}: the data of its {type(error).__name__} were left out\n{_told(wrong)}")
    return Answered(outcome, "\n".join(faults))


def _has_code(error: CallError) -> bool:
    """Whether it is whole, which a subclass may not be, and its code one that can be told."""
    whole = all(hasattr(error, name) for name in ("code", "message", "data", "executed"))
    code: object = error.code if whole else None
    return isinstance(code, int) and not isinstance(code, bool) and abs(code) <= _CODE_MAX


def leave_if_forked(process: int, error: BaseException | None = None) -> None:
    """End this process, as a program would, if it is not the one that was asked but a fork that its function made.

    A function that forks comes back twice. The answer is the first one's to give; a second would be taken for the next call's.
    """
    if os.getpid() == process:
        return
    code = 0
    if isinstance(error, SystemExit) and (error.code is None or isinstance(error.code, int)):
        code = error.code or 0
    elif error is not None:
        code = 1
        sys.stderr.write(f"{_text(error.code) if isinstance(error, SystemExit) else _told(error)}\n")
    flush()
    os._exit(code & 0xFF)


def unheeded(number: int, stack: object) -> None:
    """A handler for signals that are meant for others."""


@cache
def free_forks() -> None:
    """From now on what a function forks is a process like any other: a signal ends it, and is not heard here instead.

    One that comes before the fork has given its handlers back waits for that.
    """
    before = threading.local()

    def hold() -> None:
        before.mask = signal.pthread_sigmask(signal.SIG_BLOCK, _HEEDED)

    def let_go() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, before.mask)

    def give_back() -> None:
        _give_signals_back()
        let_go()

    os.register_at_fork(before=hold, after_in_parent=let_go, after_in_child=give_back)


def _give_signals_back() -> None:
    """What is heeded for the worker means nothing to a fork; and a loop hears of it through a socket that both have."""
    for number in _HEEDED:
        handler = signal.getsignal(number)
        of_loop = isinstance(getattr(handler, "__self__", None), asyncio.AbstractEventLoop)
        if of_loop:
            signal.set_wakeup_fd(-1)
        if of_loop or handler is unheeded:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def flush() -> None:
    """Let go what was printed."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError, ValueError):
            stream.flush()


def _told(error: BaseException) -> str:
    text = _text("".join(traceback.format_exception(error)).rstrip())
    if len(text) <= FAULT_LENGTH_MAX:
        return text
    half = FAULT_LENGTH_MAX // 2  # where it was raised, and what it says last
    return f"{text[:half]}\n… {len(text) - 2 * half} characters are left out …\n{text[-half:]}"


def _text(value: object) -> str:
    """Text that can be told: a file's name may have got into it that is no UTF-8."""
    try:
        return str(value).encode(errors="replace").decode()
    except Exception:  # its own __str__ is at fault
        return f"({type(value).__name__})"
