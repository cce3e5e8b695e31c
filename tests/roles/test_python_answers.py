"""What a function did, as an outcome: src/homing/roles/python_answers.py."""

import asyncio
import os
import subprocess
import sys
from typing import Any

import pytest

from homing.errors import CallError, Executed, NotExecuted, OutcomeUnknown, ParamError
from homing.functions import WrongParams
from homing.roles.python_answers import leave_if_forked, raised, returned

OTHERS = {"reason": "overloaded", "executed": "no", "retry": "safe", "call_id": "ab" * 16}


def test_a_result_is_ok() -> None:
    answered = returned("m", {"a": None})
    assert (answered.outcome.reason, answered.outcome.executed, answered.outcome.result) == ("ok", "yes", b'{"a":null}')
    assert answered.fault == ""


@pytest.mark.parametrize("result", [object(), float("nan"), "\ud800"], ids=["object", "nan", "surrogate"])
def test_a_result_without_a_form_in_json_proves_nothing(result: object) -> None:
    answered = returned("m", result)
    assert (answered.outcome.reason, answered.outcome.executed, answered.outcome.again) == ("internal_error", "unknown", False)
    assert "Traceback" in answered.fault


@pytest.mark.parametrize(
    ("error", "reason", "code", "executed", "detail"),
    [
        (NotExecuted("Closed."), "provider_unreachable", None, "no", None),
        (NotExecuted(17, "Closed.", {"until": 9}), "application", 17, "no", b'{"until":9}'),
        (NotExecuted(17, "Closed.", executed="unknown"), "application", 17, "unknown", None),
        (Executed(18, "Closed."), "application", 18, "yes", None),
        (OutcomeUnknown(19, "Closed."), "application", 19, "unknown", None),
        (CallError(20, "Closed."), "application", 20, "unknown", None),
        (CallError(20, "Closed.", executed="no"), "application", 20, "no", None),
        (CallError(20, "Closed.", {"executed": "no"}), "application", 20, "no", b'{"executed":"no"}'),
        (CallError(4220, "Closed.", executed="no"), "provider_refused", None, "no", None),
        (CallError(20, "Closed.", [1, "a"]), "application", 20, "unknown", b'[1,"a"]'),
        (NotExecuted(5030, "Closed.", OTHERS), "overloaded", None, "unknown", None),
        (Executed(5022, "Closed.", OTHERS | {"executed": "yes"}), "response_invalid", None, "unknown", None),
    ],
    ids=lambda value: str(value) if isinstance(value, CallError) else "",
)
def test_what_is_raised_for_the_caller_is_told_and_proves_what_it_says(
    error: CallError, reason: str, code: int | None, executed: str, detail: bytes | None
) -> None:
    answered = raised("m", error)
    outcome = answered.outcome
    assert (outcome.reason, outcome.code, outcome.executed, outcome.message) == (reason, code, executed, "Closed.")
    if detail is not None:
        assert outcome.detail == detail
    assert answered.fault == ""


def test_a_proof_without_words_says_nothing_of_networks() -> None:
    assert raised("m", NotExecuted()).outcome.message == "m was not carried out."


def test_a_verdict_that_is_none_counts_as_unknown_and_is_logged() -> None:
    verdicts: list[Any] = ["maybe", False, ["no"]]
    for verdict in verdicts:
        answered = raised("m", CallError(17, "Closed.", executed=verdict))
        assert (answered.outcome.code, answered.outcome.executed, answered.outcome.message) == (17, "unknown", "Closed.")
        assert f"executed is {verdict!r}" in answered.fault


def test_data_without_a_form_in_json_are_left_out_and_logged() -> None:
    answered = raised("m", NotExecuted(17, "Closed.", {"data": object()}))
    assert (answered.outcome.code, answered.outcome.executed, answered.outcome.detail) == (17, "no", None)
    assert "left out" in answered.fault


def strange(code: Any) -> CallError:
    return CallError(code, "Closed.", executed="no")


class Hollow(NotExecuted):
    def __init__(self) -> None:  # without its base's
        pass


@pytest.mark.parametrize(
    "error",
    [
        ValueError("a secret"),
        SystemExit(3),
        KeyboardInterrupt(),
        GeneratorExit(),
        asyncio.CancelledError(),
        strange("E17"),
        strange(True),
        strange(2**63),
        strange(None),
        Hollow(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_all_else_is_a_fault_that_proves_nothing_and_tells_the_caller_nothing(error: BaseException) -> None:
    answered = raised("m", error)
    assert (answered.outcome.reason, answered.outcome.executed, answered.outcome.again) == ("internal_error", "unknown", False)
    assert "secret" not in answered.outcome.message
    assert type(error).__name__ in answered.fault


def test_a_fault_is_told_within_bounds() -> None:
    try:
        raise ValueError("begins" + "x" * 1_000_000 + "ends")
    except ValueError as error:
        fault = raised("m", error).fault
    assert len(fault) < 101_000
    assert fault.startswith("Traceback")
    assert fault.endswith("ends")
    assert "characters are left out" in fault


def test_wrong_params_are_a_proven_no() -> None:
    errors = (ParamError("/year", "is no year"), ParamError("", "lacks"))
    answered = raised("m", WrongParams(errors))
    assert (answered.outcome.reason, answered.outcome.executed, answered.outcome.errors) == ("invalid_params", "no", errors)
    assert answered.fault == ""


class Mute:
    def __str__(self) -> str:
        raise ValueError("mute")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (NotExecuted(17, "no file caf\udce9"), "no file caf?"),
        (NotExecuted(17, Mute()), "(Mute)"),  # type: ignore[arg-type]  # whatever a function says
    ],
    ids=["a name that is no UTF-8", "what cannot be told"],
)
def test_a_message_that_cannot_be_told_does_not_take_the_proof_with_it(error: NotExecuted, message: str) -> None:
    outcome = raised("m", error).outcome
    assert (outcome.code, outcome.executed, outcome.message) == (17, "no", message)


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (None, 0, ""),
        (SystemExit(), 0, ""),
        (SystemExit(7), 7, ""),
        (SystemExit("why"), 1, "why\n"),
        (ValueError("a secret"), 1, "ValueError: a secret\n"),
    ],
    ids=repr,
)
def test_a_fork_ends_as_a_program_would(error: BaseException | None, code: int, said: str, capfd: Any) -> None:
    process = os.getpid()
    leave_if_forked(process, error)  # this one goes on
    fork = os.fork()
    if fork == 0:
        leave_if_forked(process, error)
        os._exit(99)
    assert os.waitstatus_to_exitcode(os.waitpid(fork, 0)[1]) == code
    assert capfd.readouterr().err == said


def test_a_traceback_is_text_that_can_be_told() -> None:
    fault = raised("m", ValueError("no file caf\udce9")).fault
    assert fault.encode().endswith(b"ValueError: no file caf?")


def test_a_fork_gives_back_only_the_signals_that_are_not_its_own() -> None:
    code = """
import asyncio, os, signal, uvloop
from homing.roles.python_answers import free_forks, unheeded
free_forks()
free_forks()
own = lambda number, stack: None
signal.signal(signal.SIGTERM, own)
signal.signal(signal.SIGHUP, unheeded)

async def main():
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, print, "heard")
    if os.fork() == 0:
        print(signal.getsignal(signal.SIGTERM) is own, signal.getsignal(signal.SIGHUP) is signal.SIG_DFL)
        print(signal.getsignal(signal.SIGINT) is signal.default_int_handler, signal.pthread_sigmask(signal.SIG_BLOCK, ()), flush=True)
        os._exit(0)
    os.wait()
    os.kill(os.getpid(), signal.SIGINT)
    await asyncio.sleep(0.1)
    print(signal.pthread_sigmask(signal.SIG_BLOCK, ()))

uvloop.run(main())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.split() == ["True", "True", "True", "set()", "heard", "set()"]
