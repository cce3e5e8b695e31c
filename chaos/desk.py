"""A worker in Python, which is the provider too: its functions keep the ledger themselves, and end as they are told.

homing worker chaos.desk:worker --broker …     with the ledger's path in CHAOS_LEDGER

What a function does first is to write the ledger: whoever says `executed: no` after that has lied.
"""

import asyncio
import ctypes
import os
import select
import signal
import time

from chaos.history import Entry
from chaos.provider import HANG_S, Ledger
from homing import CallError, NotExecuted, Worker
from homing.calling import current_call

ENDS = ("ok", "refuse", "error", "done", "break", "hang", "die", "hold")
LEDGER = "CHAOS_LEDGER"
HOLD_RATIO = 4  # the GIL is held so many times as long as the delay

worker = Worker("desk")
_ledgers: list[Ledger] = []


def begin(method: str, token: str, end: str, *, keyed: bool = False) -> None:
    """From here on it has happened. Raises NotExecuted where it shall not."""
    if end == "refuse":
        raise NotExecuted("The desk is closed.")
    if not _ledgers:
        _ledgers.append(Ledger(os.environ[LEDGER]))
    _ledgers[0].write(Entry(time.monotonic(), token, method, current_call().idempotency_key if keyed else ""))


def end_as(end: str, delay_ms: int) -> None:
    """What is the same for all of them. Raises what it is told to."""
    if end == "hold":
        ctypes.PyDLL(None).usleep(delay_ms * 1000 * HOLD_RATIO)
    if end == "error":
        raise CallError(7, "The desk has its doubts.")
    if end == "done":
        raise CallError(8, "It is done, and there is nothing to show.", executed="yes")
    if end == "break":
        raise ValueError("of the desk's own")


def nap(seconds: float) -> None:
    """`time.sleep` raises where libfaketime is loaded, which does not understand an absolute instant of a clock that it leaves alone."""
    select.select([], [], [], seconds)


async def attend(method: str, token: str, end: str, delay_ms: int, *, keyed: bool = False) -> str:
    """On the worker's loop. To die here is to try to end the loop with it, which must not succeed."""
    begin(method, token, end, keyed=keyed)
    await asyncio.sleep(delay_ms / 1000)
    if end == "hang":
        await asyncio.sleep(HANG_S)
    if end == "die":
        raise SystemExit(3)
    end_as(end, delay_ms)
    return token


def attend_apart(method: str, token: str, end: str, delay_ms: int, *, keyed: bool = False) -> str:
    """In a process of its pool, which really dies."""
    begin(method, token, end, keyed=keyed)
    nap(delay_ms / 1000)
    if end == "hang":
        nap(HANG_S)
    if end == "die" and delay_ms % 2:
        os._exit(3)
    if end == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    end_as(end, delay_ms)
    return token


@worker.method(effect="once")
async def once(token: str, end: str, delay_ms: int) -> str:
    """Never twice."""
    return await attend("once", token, end, delay_ms)


@worker.method(effect="keyed")
async def keyed(token: str, end: str, delay_ms: int) -> str:
    """Again under the same key only."""
    return await attend("keyed", token, end, delay_ms, keyed=True)


@worker.method(effect="safe")
async def safe(token: str, end: str, delay_ms: int) -> str:
    """At will."""
    return await attend("safe", token, end, delay_ms)


@worker.method(effect="once")
def once_apart(token: str, end: str, delay_ms: int) -> str:
    """Never twice."""
    return attend_apart("once", token, end, delay_ms)


@worker.method(effect="keyed")
def keyed_apart(token: str, end: str, delay_ms: int) -> str:
    """Again under the same key only."""
    return attend_apart("keyed", token, end, delay_ms, keyed=True)


@worker.method(effect="safe")
def safe_apart(token: str, end: str, delay_ms: int) -> str:
    """At will."""
    return attend_apart("safe", token, end, delay_ms)
