"""A worker whose methods are functions of a Python program: what it offers, how much at once, and how it leaves."""

import asyncio
import logging
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from homing.config import Config
from homing.core import codec
from homing.core.holding import MethodPolicy, ProviderPolicy
from homing.core.limits import BreakerPolicy
from homing.core.links import FRAME_BYTES_MAX
from homing.core.machine import Action, Draining, DrainTimedOut, Event
from homing.core.messages import LIFE_BYTES, Ready
from homing.core.methods import Method, compile_method
from homing.core.reach import METHODS_MAX
from homing.core.specs import MethodSpec
from homing.core.worker import Worker
from homing.engines.zmq import CurveClient
from homing.functions import Function
from homing.roles.plans import announce
from homing.roles.process import Plan, Process, Unbound, run_to_its_end
from homing.roles.python_answers import free_forks
from homing.roles.python_hands import Hands
from homing.roles.python_log import log_calls
from homing.roles.python_pool import Command, Pool
from homing.settings import Worker as WorkerTable
from homing.settings import WorkerDrain
from homing.telemetry import Log, LogHandler, Metrics, to_stderr

CREDIT: Final = 100
HELD_BYTES_MAX: Final = 256 * 1024 * 1024
SEEN_S: Final = 5.0  # what it waits for its last outcomes to be seen; they are said again every second
LEFT_S: Final = 1.0  # what is left of its functions at the end may take so long to end too
LOOK_EVERY_S: Final = 0.01  # while draining
_NEVER_OPENS: Final = BreakerPolicy(failure_ratio=2.0)
"""What a function raises is its answer, and no reason to keep callers from other functions."""


class Offering(msgspec.Struct, frozen=True, kw_only=True):
    """What a Python worker is. `command` starts a process of its pool; there are `processes` if there is a `def` among its functions.

    `credit` is how many calls it takes at once; None: 100, or one for each process where there is nothing but `def`s.
    """

    name: str
    functions: Mapping[str, Function]
    command: Command
    processes: int = 0  # 0: one for each processor
    credit: int | None = None

    @property
    def pool_size(self) -> int:
        """How many processes there are."""
        if all(function.is_async for function in self.functions.values()):
            return 0
        return self.processes or os.cpu_count() or 1

    @property
    def credit_max(self) -> int:
        """How many calls it takes at once."""
        if self.credit is not None:
            return self.credit
        return CREDIT if any(function.is_async for function in self.functions.values()) else self.pool_size


def machine_of(
    offering: Offering,
    *,
    heartbeat_s: float,
    outcomes_held_bytes_max: int = HELD_BYTES_MAX,
    frame_bytes_max: int = FRAME_BYTES_MAX,
) -> Worker:
    """The worker's machine. What waits for a free process waits for it before the claim, when nothing of it has begun."""
    name, in_pool = offering.name, f"{offering.name}:processes"
    policies = {
        each.name: MethodPolicy(provider=name if each.is_async else in_pool, told=name, deadline_s=each.timeout_s or 100.0)
        for each in offering.functions.values()
    }
    providers = {
        name: _policy(offering.credit_max),
        in_pool: _policy(max(1, min(offering.pool_size, offering.credit_max))),
    }
    return Worker(
        os.urandom(LIFE_BYTES),
        services={name: offering.credit_max},
        methods=policies,
        providers=providers,
        random=random.random,
        heartbeat_s=heartbeat_s,
        outcomes_held_bytes_max=outcomes_held_bytes_max,
        offers=tuple(each.offer for each in offering.functions.values()),
        frame_bytes_max=frame_bytes_max,
    )


def unheard(offering: Offering, frame_bytes_max: int) -> str:
    """Why no broker would hear of an offering, and what to do; "" if brokers will."""
    offers = tuple(each.offer for each in offering.functions.values())
    if len(offers) > METHODS_MAX:
        return f"it has {len(offers)} methods, and brokers hear of at most {METHODS_MAX}: spread them over several workers"
    life = bytes(LIFE_BYTES)
    size = codec.frame_bytes(Ready(life, {offering.name: offering.credit_max}, 0, offers, life, frame_bytes_max))
    if size <= frame_bytes_max:
        return ""
    return (
        f"what it says of its {len(offers)} methods has {size} bytes, and a message between processes at most {frame_bytes_max}: "
        "spread them over several workers, or raise broker.frame_bytes_max, here and at brokers and gateways"
    )


def _policy(in_flight_max: int) -> ProviderPolicy:
    """Nobody asks again but who knows what the function did."""
    return ProviderPolicy(in_flight_max=in_flight_max, attempts_max=1, breaker=_NEVER_OPENS)


class Unable(Exception):
    """A Python worker cannot begin; the message says why, for people."""


def methods_of(functions: Mapping[str, Function]) -> dict[str, Method]:
    """The functions' schemas, compiled. Raises Unable for one that cannot be, such as a pattern that only Python knows."""
    methods: dict[str, Method] = {}
    for name, function in functions.items():
        spec = MethodSpec(
            name=name, service=function.service, effect=function.effect, positional=function.positional, params=function.schema
        )
        method, problems = compile_method(spec)
        if method is None:
            why = "; ".join(f"{problem.path}: {problem.message}" for problem in problems if not problem.warning)
            raise Unable(f"The params of {name} have no schema that callers could be held to: {why}")
        methods[name] = method
    return methods


class PythonPart:
    """The part of a process that calls functions. It is as a `WorkerPart` to whoever runs the process."""

    address = b"worker"

    def __init__(
        self,
        offering: Offering,
        *,
        heartbeat_s: float,
        log: Log,
        metrics: Metrics,
        outcomes_held_bytes_max: int = HELD_BYTES_MAX,
        frame_bytes_max: int = FRAME_BYTES_MAX,
    ) -> None:
        loop = asyncio.get_running_loop()
        self._log = log
        functions, size = offering.functions, offering.pool_size
        self.worker = machine_of(
            offering,
            heartbeat_s=heartbeat_s,
            outcomes_held_bytes_max=outcomes_held_bytes_max,
            frame_bytes_max=frame_bytes_max,
        )
        self.pool: Pool | None = None
        if size:
            names = frozenset(name for name, each in functions.items() if not each.is_async)
            self.pool = Pool(offering.command, size, methods=names, loop=loop, log=self._say)
        self.hands = Hands(functions, methods_of(functions), self.pool, loop=loop, log=log, outcome_bytes_max=frame_bytes_max)
        metrics.gauge("homing_outcomes_held_bytes", "Bytes of outcomes held until seen.", lambda: self.worker.outcomes_held_bytes)
        metrics.gauge("homing_functions_running", "Functions of a Python worker under way, by method.", self._running)

    async def start(self) -> str:
        """Have everything in hand before the first call: "" if all is well, else why no `def` can be called."""
        return await self.pool.start() if self.pool is not None else ""

    def act(self, action: Action) -> None:
        """What the machine wants done."""
        self.hands.act(action)

    def feed_with(self, feed: Callable[[Event], None]) -> None:
        """Give the machine its events with this."""
        self.hands.feed = feed

    @property
    def counts(self) -> Counter[str]:
        """How often what was refused by the machine."""
        return self.worker.counts

    @property
    def running(self) -> int:
        """How many functions are under way."""
        return len(self.hands.running)

    async def drain(self, feed: Callable[[Event], None], within_s: float, hurry: asyncio.Event) -> None:
        """Take nothing new; what runs may end, until that much time has passed or there is a hurry. Then it is given up.

        The last outcomes are waited for until their gateways have seen them, but not for gateways that are gone.
        """
        feed(Draining())
        if not await _until(lambda: not self.running, within_s, hurry):
            feed(DrainTimedOut())
            await _until(lambda: not self.running, SEEN_S, None)
        await _until(lambda: not len(self.worker), SEEN_S, hurry)

    async def close(self) -> None:
        """End the pool."""
        if self.pool is not None:
            await self.pool.close()

    def verbose(self) -> dict[str, object]:
        """What `?verbose` says of it."""
        return {"functions": self._running(), "outcomes_held_bytes": self.worker.outcomes_held_bytes}

    def _say(self, message: str, fault: str) -> None:
        fields = {"traceback": fault} if fault else {}
        self._log.event("pool", message, level="error", **fields)

    def _running(self) -> dict[str, float]:
        counts = dict.fromkeys(self.hands.functions, 0.0)
        for calling in self.hands.running.values():
            counts[calling.method] += 1
        return counts


async def run_offering(offering: Offering, config: Config, plan: Plan, log: Log) -> None:
    """Offer functions to the brokers of a plan until the process is told to leave. Raises Unable, and Unbound for `plan.admin`."""

    def make_back(heartbeat_s: float, metrics: Metrics) -> PythonPart:
        held_max, frame_max = config.worker.outcomes_held_bytes_max, config.broker.frame_bytes_max
        return PythonPart(
            offering,
            heartbeat_s=heartbeat_s,
            log=log,
            metrics=metrics,
            outcomes_held_bytes_max=held_max,
            frame_bytes_max=frame_max,
        )

    if why := unheard(offering, config.broker.frame_bytes_max):
        raise Unable(f"No broker would hear of {offering.name}: {why}")
    log_calls()
    free_forks()
    process = Process(config, {}, plan, log=log, make_back=make_back)
    part = process.back
    assert isinstance(part, PythonPart), "made above"
    process.heed_signals()
    starting, stopping = asyncio.ensure_future(part.start()), asyncio.ensure_future(process.stopping.wait())
    await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not starting.done():  # a process of the pool waits for something, and nobody for it any more
        starting.cancel()
        await part.close()
        return
    if starting.result():
        await part.close()
        raise Unable(f"The processes of {offering.name} cannot begin: {starting.result()}")
    await process.start()
    announce(process, {offering.name: offering.credit_max}, len(offering.functions))
    await process.run()
    await _leave_behind(log)


async def _leave_behind(log: Log) -> None:
    """End what functions have left on this loop. What does not end is taken off its list: whoever closes a loop waits for all of it."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    stubborn = (await asyncio.wait(left, timeout=LEFT_S))[1] if left else ()
    for task in stubborn:
        asyncio.tasks._unregister_task(task)  # noqa: SLF001 - documented, for who extends asyncio
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # noqa: SLF001 - said here, and in our words
        log.event("left_behind", f"{task.get_name()} goes on although it was cancelled, and is left.", level="warning")


def run_alone(offering: Offering, dials: tuple[str, ...], curve: CurveClient | None, *, drain_timeout_s: float) -> None:
    """As `run_offering`, for a program that has no loop yet; how it logs otherwise is its own affair. Raises RuntimeError if it cannot."""
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("a worker heeds signals, which only the main thread can: run it there")
    if asyncio._get_running_loop() is not None:  # noqa: SLF001 - documented, and raises nothing
        raise RuntimeError("a worker has an event loop of its own: run it where none is running, in a program of its own")
    config = Config(worker=WorkerTable(drain=WorkerDrain(timeout=drain_timeout_s)))
    plan = Plan(name=f"homing worker {offering.name}", dials=dials, dial_curve=curve)
    log = to_stderr()
    handler = LogHandler(log)
    logging.basicConfig(handlers=[handler])
    heeded = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)}
    try:
        run_to_its_end(run_offering(offering, config, plan, log))
    except (Unable, Unbound) as error:
        raise RuntimeError(str(error)) from None
    finally:
        logging.getLogger().removeHandler(handler)  # what the program logs from now on would go nowhere
        log.close()
        for number, heed in heeded.items():
            if heed is not None:  # None: somebody who is not written in Python
                signal.signal(number, heed)  # a loop that is closed goes on to take them, and does nothing


async def _until(happened: Callable[[], bool], within_s: float, hurry: asyncio.Event | None) -> bool:
    """Whether it happened in time. A machine tells nobody when it is empty, and at this hour nobody minds being looked at."""
    latest = time.monotonic() + within_s
    while not happened():
        if time.monotonic() >= latest or (hurry is not None and hurry.is_set()):
            return False
        await asyncio.sleep(LOOK_EVERY_S)
    return True
