"""What a function of a Python worker did, as an outcome: its result, what it raised, and what that proves.

Both sides of the pool use it, so it imports nothing that takes long.
"""

import asyncio
import traceback
from typing import Final

import msgspec

from homing.errors import TABLE, CallError, Outcome, Verdict, failure
from homing.functions import WrongParams, result_text

_REASONS: Final = {row.code: row.reason for row in TABLE}
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
    if isinstance(error, CallError) and isinstance(error.code, int):
        return _said(method, error)
    if isinstance(error, asyncio.CancelledError):
        return Answered(failure("internal_error", f"{method} was cancelled from within.", again=False), _told(error))
    return Answered(failure("internal_error", f"{method} broke off; the worker's log says why.", again=False), _told(error))


def _said(method: str, error: CallError) -> Answered:
    """An error that is meant for the caller. A code of the table has the table's reason; all others are the application's."""
    reason = _REASONS.get(error.code)
    executed: Verdict = error.executed
    if isinstance(error.data, dict) and error.data.keys() >= _OF_AN_ANSWER:
        # The answer of another call, which the function made and let through. What that proves, it proves of the other call.
        executed = "unknown"
    outcome = Outcome(
        reason=reason or "application",
        executed=executed,
        code=None if reason else error.code,
        message=_text(error.message),
        again=False,
    )
    if error.data is None:
        return Answered(outcome)
    try:
        outcome.detail = result_text(error.data)
    except BaseException as wrong:
        return Answered(outcome, f"{method}: the data of its {type(error).__name__} were left out\n{_told(wrong)}")
    return Answered(outcome)


def _told(error: BaseException) -> str:
    return _text("".join(traceback.format_exception(error)).rstrip())


def _text(value: object) -> str:
    """Text that can be told: a file's name may have got into it that is no UTF-8."""
    try:
        return str(value).encode(errors="replace").decode()
    except Exception:  # its own __str__ is at fault
        return f"({type(value).__name__})"
