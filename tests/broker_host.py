"""Brokers and a worker in a thread of their own, over real sockets, for clients that block or have a loop of their own.

with Host({"acme.charge": ok()}) as host, Client(host.url) as client: ...
"""

import asyncio
import os
import threading
from collections.abc import Callable, Mapping
from typing import Self, TypeVar

from homing.core.broker import Broker, BrokerLimits
from homing.core.messages import MethodOffer
from homing.core.permits import Permit
from homing.core.worker import Worker
from homing.driver import Driver
from homing.engines.zmq import CurveClient, CurveServer, Zmq
from homing.errors import Outcome
from tests.brokers import BROKER, WORKER, Answers, Provider, worker_of

HEARTBEAT_S = 0.2
LIMITS = BrokerLimits(no_worker_after_s=0.3)

T = TypeVar("T")


class _Process:
    """One machine with an engine of its own, as if it were a process."""

    def __init__(self, station: Zmq, loop: asyncio.AbstractEventLoop) -> None:
        self.station = station
        self.driver = Driver(station, loop)
        station.tell = self.driver.feed

    def kill(self) -> None:
        self.driver.close()
        self.station.close(0.0)


class Host:
    """`brokers` and a worker that serves `acme` by `answers`, as `brokers.Provider` does. Everything may be killed and started again."""

    def __init__(
        self,
        answers: Answers | None = None,
        *,
        brokers: int = 1,
        served: bool = True,
        limits: BrokerLimits = LIMITS,
        curve: CurveServer | None = None,
        permits: Mapping[str, Permit] | None = None,
        worker_curve: CurveClient | None = None,
        credit: int = 100,
        offers: tuple[MethodOffer, ...] | None = None,
    ) -> None:
        self.provider = Provider(answers or {})
        self.brokers: list[Broker] = []
        self.worker: Worker | None = None
        self.endpoints = [""] * brokers
        self._limits = limits
        self._curve = curve
        self._permits = permits
        self._worker_curve = worker_curve
        self._credit = credit
        # Without a word of the test's on it, the worker says that each method it has an answer for happens once.
        self._offers = tuple(MethodOffer(name, "acme") for name in self.provider.answers) if offers is None else offers
        self._served = served
        self._processes: dict[str, _Process] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="host")

    @property
    def url(self) -> str:
        return ",".join(self.endpoints)

    def __enter__(self) -> Self:
        self._thread.start()
        self.brokers = [self.start_broker(number) for number in range(len(self.endpoints))]
        if self._served:
            self.start_worker()
        return self

    def __exit__(self, *_: object) -> None:
        self.do(self._kill_all)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _kill_all(self) -> None:
        while self._processes:
            self._processes.popitem()[1].kill()

    def do(self, act: Callable[[], T]) -> T:
        """Have it done on the host's thread."""

        async def there() -> T:
            return act()

        return asyncio.run_coroutine_threadsafe(there(), self._loop).result(20)

    def start_broker(self, number: int = 0) -> Broker:
        """A broker with a new life, where the one before it was."""

        def start() -> Broker:
            process = self._processes[f"broker {number}"] = _Process(Zmq(self._loop), self._loop)
            broker = Broker(os.urandom(16), self._limits, heartbeat_s=HEARTBEAT_S, permits=self._permits)
            process.station.attach(BROKER, broker, lambda action: None)
            endpoint = self.endpoints[number] or "tcp://127.0.0.1:*"
            bound = process.station.bind(BROKER, endpoint, curve=self._curve)
            self.endpoints[number] = bound.replace("[::ffff:127.0.0.1]", "127.0.0.1")  # as libzmq writes it
            return broker

        broker = self.do(start)
        self.brokers[number:] = [broker, *self.brokers[number + 1 :]]
        return broker

    def kill_broker(self, number: int = 0) -> None:
        """As a SIGKILL would: nothing more is said."""
        self.do(lambda: self._processes.pop(f"broker {number}").kill())

    def start_worker(self) -> None:
        def start() -> None:
            process = self._processes["worker"] = _Process(Zmq(self._loop), self._loop)
            methods = list(self.provider.answers) or ["acme.charge"]
            self.worker = worker_of(methods, heartbeat_s=HEARTBEAT_S, credit=self._credit, offers=self._offers)
            process.station.attach(WORKER, self.worker, self.provider.act)
            self.provider.feed = lambda event: process.driver.feed(WORKER, event)
            for endpoint in self.endpoints:
                process.station.dial(WORKER, endpoint, curve=self._worker_curve)

        self.do(start)

    def kill_worker(self) -> None:
        self.do(lambda: self._processes.pop("worker").kill())

    def answer(self, outcome: Outcome, number: int = -1) -> None:
        """End an exchange that was begun."""
        self.do(lambda: self.provider.answer(self.provider.started[number], outcome))

    def wait(self, condition: Callable[[], object]) -> None:
        """Return when it holds on the host's thread; a test's own limit bounds how long."""
        pause = threading.Event()
        while not self.do(lambda: bool(condition())):
            pause.wait(0.005)

    def begun(self, count: int = 1) -> None:
        """Return when so many exchanges were begun."""
        self.wait(lambda: len(self.provider.started) >= count)
