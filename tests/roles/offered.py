"""The functions of a Python worker, for tests: good ones, slow ones and bad ones. Those without `async` run in processes."""

import asyncio
import ctypes
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from homing import CallError, Executed, NotExecuted, OutcomeUnknown, Worker, current_call

worker = Worker("offered")


class Report(msgspec.Struct):
    year: int
    format: str


@worker.method(effect="safe", timeout=60)
async def build(year: int, format: Literal["pdf", "csv"] = "pdf", *, pages: Annotated[int, msgspec.Meta(ge=1)] = 1) -> Report:
    """Build the report of a year."""
    return Report(year, format * pages)


@worker.method(effect="safe")
def add(one: int, other: int) -> int:
    return one + other


@worker.method(effect="safe")
def pid() -> int:
    return os.getpid()


@worker.method(effect="keyed")
async def who() -> dict[str, object]:
    await asyncio.sleep(0)
    call = current_call()
    return {**msgspec.structs.asdict(call), "remaining_s": call.remaining_s}


@worker.method(effect="keyed")
def who_else() -> dict[str, object]:
    call = current_call()
    return {**msgspec.structs.asdict(call), "remaining_s": call.remaining_s}


@worker.method()
async def sleep(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "slept"


@worker.method()
def block(seconds: float, mark: str = "") -> str:
    """Hold the GIL so long, as an extension may: nothing else runs in this process."""
    if mark:
        Path(mark).write_text(str(os.getpid()))
    ctypes.PyDLL(None).usleep(int(seconds * 1_000_000))
    return "blocked"


@worker.method()
def start_and_block(mark: str) -> None:
    """Start another program, and wait for it."""
    child = subprocess.Popen(["sleep", "50"])
    Path(mark).write_text(str(child.pid))
    child.wait()


went_on: list[str] = []


@worker.method()
async def stubborn(mark: str) -> str:
    """Go on although it is cancelled."""
    try:
        await asyncio.sleep(50)
    except asyncio.CancelledError:
        await asyncio.sleep(0.2)
    went_on.append(mark)
    return "late"


@worker.method()
async def careful() -> None:
    try:
        await asyncio.sleep(50)
    except asyncio.CancelledError:
        raise NotExecuted("It was never sent.") from None


@worker.method()
def large(count: int) -> str:
    return "x" * count


@worker.method()
async def length(text: str) -> int:
    return len(text)


@worker.method()
def length_in_pool(text: str) -> int:
    return len(text)


class Hollow(NotExecuted):
    def __init__(self) -> None:  # without its base's
        pass


def misbehave(how: str) -> object:  # noqa: C901  # as many ways as there are
    match how:
        case "value":
            raise ValueError("a secret")
        case "surrogate":
            raise ValueError("no file caf\udce9")
        case "not executed":
            raise NotExecuted("The bank is closed.")
        case "not executed, own code":
            raise NotExecuted(17, "Out of paper.", {"tray": 2})
        case "executed":
            raise Executed(18, "Printed, but the receipt is lost.")
        case "unknown":
            raise OutcomeUnknown(19, "Who knows.")
        case "call error":
            raise CallError(20, "No such customer.", {"customer": 7})
        case "call error, refused":
            raise CallError(21, "No such customer.", executed="no")
        case "of another call":
            raise NotExecuted(5030, "Full.", {"reason": "overloaded", "executed": "no", "retry": "safe", "call_id": "ab" * 16})
        case "no verdict":
            verdict: Any = "maybe"
            raise CallError(23, "Who knows.", executed=verdict)
        case "no code":
            raise CallError(True, "Yes.")
        case "not whole":
            raise Hollow
        case "unencodable data":
            raise CallError(22, "No.", {"data": object()})
        case "exit":
            sys.exit(3)
        case "interrupt":
            raise KeyboardInterrupt
        case "cancelled":
            raise asyncio.CancelledError
        case "generator exit":
            raise GeneratorExit
        case "timeout":
            raise TimeoutError("its own")
        case "recursion":
            return misbehave(how)
        case "unencodable":
            return object()
        case "nan":
            return float("nan")
        case "print":
            print("out of order")
            return None
    raise AssertionError(how)


@worker.method(name="misbehave")
async def misbehave_here(how: str) -> object:
    return misbehave(how)


@worker.method(name="misbehave_in_pool")
def misbehave_there(how: str) -> object:
    return misbehave(how)


@worker.method()
def leave_a_thread(*, closing: bool) -> str:
    """Leave a thread behind that Python waits for, and perhaps close files that others have opened."""
    threading.Thread(target=time.sleep, args=(50,)).start()
    if closing:
        os.closerange(3, 1000)
    return "left"


def fork(how: str) -> str:
    """Make a copy of this process, which comes back from the function as its parent does."""
    if os.fork() == 0:
        match how:
            case "exit":
                sys.exit(0)
            case "raise":
                raise ValueError("in the fork")
        return "the fork's"
    os.wait()
    return "the parent's"


worker.method(name="fork_in_pool")(fork)


@worker.method(name="fork")
async def fork_here(how: str) -> str:
    return fork(how)


def end_a_fork() -> int | None:
    """Fork a process and end it as `multiprocessing` does."""
    process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(50,))
    process.start()
    process.terminate()
    process.join(20)
    return process.exitcode


worker.method(name="end_a_fork_in_pool")(end_a_fork)


@worker.method(name="end_a_fork")
async def end_a_fork_here() -> int | None:
    return await asyncio.to_thread(end_a_fork)


@worker.method()
def die(how: str) -> None:
    """End the process that runs this."""
    if how == "exit":
        os._exit(7)
    if how == "segfault":
        ctypes.string_at(0)
    os.kill(os.getpid(), getattr(signal, how))
    time.sleep(0.2)
