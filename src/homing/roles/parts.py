"""What a process can be, one of three or all: gateway, broker, worker. A part is a machine, its hands, its figures and its words."""

import asyncio
import socket
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Protocol

from homing.config import Config
from homing.core.machine import Action, Draining, DrainTimedOut, Event
from homing.core.messages import GATEWAY_BYTES
from homing.core.methods import Method
from homing.core.permits import Permit
from homing.core.worker import Worker
from homing.edges import rpc
from homing.edges.http import Listener, tls_context
from homing.edges.resolver import Resolver
from homing.roles import machines
from homing.roles.gateway import Gateway
from homing.roles.remotes import remotes_of
from homing.roles.worker import Hands
from homing.telemetry import Log, Metrics

FAREWELL_S = 0.1  # between the last connection taken and the first closed: what was on its way still hears its no
PARTING_S = 5.0  # whoever says nothing on its connection for so long is not missed
SEEN_S = 5.0  # what a worker waits for its last outcomes to be seen; they are said again every second
LOOK_EVERY_S = 0.01  # while draining


class GatewayPart:
    """Where callers come in: the listener, the life of a call, and the table of calls."""

    address = b"gateway"

    def __init__(self, config: Config, methods: Mapping[str, Method], *, heartbeat_s: float, log: Log, metrics: Metrics) -> None:
        self._config = config
        self.calls = machines.calls_of(config, heartbeat_s=heartbeat_s)
        principals = machines.principals_of(config)
        limits = machines.gateway_limits(config)
        self.gateway = Gateway(self.calls, methods, principals, limits, log=log, metrics=metrics)
        refusal = partial(rpc.refusal, origins=limits.origins)
        self.listener = Listener(self.gateway.answer, machines.listener_limits(config), refusal=refusal)
        self.port = 0
        self._head = self.calls.life[:GATEWAY_BYTES]
        self._measure(metrics)

    @property
    def counts(self) -> Counter[str]:
        """How often what was refused by the machine."""
        return self.calls.counts

    def owns(self, call_id: bytes) -> bool:
        """Whether a call came in here."""
        return call_id.startswith(self._head)

    async def listen(self, sockets: Sequence[socket.socket] = ()) -> None:
        """Take callers, on sockets that somebody else has opened or else on the configured address. Raises OSError."""
        gateway = self._config.gateway
        tls = tls_context(gateway.tls.cert, gateway.tls.key) if gateway.tls.cert else None
        for sock in sockets:
            self.port = await self.listener.start_on(sock, tls=tls)
        if not sockets:
            self.port = await self.listener.start(gateway.listen.host, gateway.listen.port, tls=tls)

    async def part(self, hurry: asyncio.Event) -> None:
        """Accept nobody more, for others do. Whoever is connected is served on, and told with its next answer to connect anew."""
        self.listener.stop_accepting()
        self.listener.part()
        latest = time.monotonic() + PARTING_S
        while self.listener.connections:
            if time.monotonic() >= latest or hurry.is_set():
                return
            await asyncio.sleep(LOOK_EVERY_S)

    async def drain(self, within_s: float, hurry: asyncio.Event) -> None:
        """Refuse new calls; running ones may end, until that much time has passed or there is a hurry. Then the rest settles."""
        self.gateway.drain()
        self.listener.part()
        if not hurry.is_set():
            waiting = (asyncio.ensure_future(self.gateway.drained()), asyncio.ensure_future(hurry.wait()))
            await asyncio.wait(waiting, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
            for each in waiting:
                each.cancel()
        self.gateway.give_up()

    async def close(self) -> None:
        """Let the last answers leave."""
        self.listener.stop_accepting()
        if self.listener.connections:
            await asyncio.sleep(FAREWELL_S)
        await self.listener.close(2.0)

    def verbose(self) -> dict[str, object]:
        """What `?verbose` says of it."""
        return {
            "open_calls": len(self.gateway),
            "granted": self.calls.granted,
            "connections": self.listener.connections,
            "learnt_methods": self.gateway.learnt,
        }

    def _measure(self, metrics: Metrics) -> None:
        listener = self.listener
        metrics.gauge("homing_open_calls", "Calls admitted and not settled.", lambda: len(self.gateway))
        metrics.gauge("homing_connections", "Callers connected.", lambda: listener.connections)
        metrics.gauge("homing_held_bytes", "Bytes of requests and answers held for callers.", lambda: listener.held_bytes)
        metrics.counter("homing_http_requests", "HTTP requests read.", lambda: listener.requests)
        metrics.counter("homing_http_refused", "HTTP requests refused by HTTP itself.", lambda: listener.refused)
        metrics.counter("homing_http_abandoned", "Requests whose caller went away.", lambda: listener.abandoned)


class BrokerPart:
    """The queues. It keeps no truth, so there is nothing to drain."""

    address = b"broker"

    def __init__(
        self,
        config: Config,
        methods: Mapping[str, Method],
        *,
        heartbeat_s: float,
        metrics: Metrics,
        permits: Mapping[str, Permit] | None = None,
    ) -> None:
        self.broker = machines.broker_of(config, heartbeat_s=heartbeat_s, permits=permits)
        self._services = {method.service for method in methods.values()}
        metrics.gauge("homing_broker_held_bytes", "Bytes of params the broker holds.", lambda: self.broker.held_bytes)
        metrics.gauge(
            "homing_queue_length",
            "Calls that wait for a worker, by service.",
            lambda: {name: self.broker.queued(name) for name in sorted({*self._services, *self.broker.services})},
        )

    @property
    def counts(self) -> Counter[str]:
        """How often what was refused by the machine."""
        return self.broker.counts

    def act(self, action: Action) -> None:
        """A broker wants nothing done but messages, and peers expelled, which is for the engine."""

    def verbose(self) -> dict[str, object]:
        """What `?verbose` says of it."""
        return {"broker_holds": len(self.broker)}


class Back(Protocol):
    """The part of a process that does the work, however it does it."""

    @property
    def worker(self) -> Worker:
        """The worker's machine."""
        ...

    @property
    def counts(self) -> Counter[str]:
        """How often what was refused by the machine."""
        ...

    @property
    def running(self) -> int:
        """How many calls are under way."""
        ...

    def feed_with(self, feed: Callable[[Event], None]) -> None:
        """Give the machine its events with this."""
        ...

    def act(self, action: Action) -> None:
        """What the machine wants done."""
        ...

    async def drain(self, feed: Callable[[Event], None], within_s: float, hurry: asyncio.Event) -> None:
        """Take nothing new; what runs may end, until that much time has passed or there is a hurry."""
        ...

    async def close(self) -> None:
        """Close what is open."""
        ...

    def verbose(self) -> dict[str, object]:
        """What `?verbose` says of it."""
        ...


class WorkerPart:
    """Who asks the providers: their connections, the requests under way, and the outcomes nobody has seen yet.

    `looked_at` is as in `Hands`.
    """

    address = b"worker"

    def __init__(
        self,
        config: Config,
        methods: Mapping[str, Method],
        *,
        heartbeat_s: float,
        log: Log,
        metrics: Metrics,
        credit_max: int | None = None,
        looked_at: Callable[[bytes], bool] | None = None,
    ) -> None:
        loop = asyncio.get_running_loop()
        self._log = log
        self._providers = tuple(config.providers)
        self._remotes = remotes_of(config, Resolver(loop), loop)
        self.worker = machines.worker_of(config, methods, heartbeat_s=heartbeat_s, credit_max=credit_max)
        self.hands = Hands(methods, self._remotes, fault=self._fault, soon=loop.call_soon, looked_at=looked_at)
        metrics.gauge("homing_outcomes_held_bytes", "Bytes of outcomes held until seen.", lambda: self.worker.outcomes_held_bytes)
        metrics.gauge("homing_provider_in_flight", "Calls that hold a slot, by provider.", self._in_flight)

    def feed_with(self, feed: Callable[[Event], None]) -> None:
        """Give the machine its events with this."""
        self.hands.feed = feed

    def act(self, action: Action) -> None:
        """What the machine wants done."""
        self.hands.act(action)

    async def drain(self, feed: Callable[[Event], None], within_s: float, hurry: asyncio.Event) -> None:
        """Take nothing new; what runs may end, until that much time has passed or there is a hurry. Then it is given up.

        The last outcomes are waited for until their gateways have seen them, but not for gateways that are gone.
        """
        feed(Draining())
        if not await self._until(lambda: not self.running, within_s, hurry):
            feed(DrainTimedOut())
            await self._until(lambda: not self.running, SEEN_S, None)
        await self._until(lambda: not len(self.worker), SEEN_S, hurry)

    @property
    def counts(self) -> Counter[str]:
        """How often what was refused by the machine."""
        return self.worker.counts

    @property
    def running(self) -> int:
        """How many calls hold a slot."""
        return sum(self.worker.in_flight(name) for name in self._providers)

    async def close(self) -> None:
        """Close what is open towards the providers."""
        for remote in self._remotes.values():
            await remote.close()

    def verbose(self) -> dict[str, object]:
        """What `?verbose` says of it."""
        return {
            "providers": {name: {"in_flight": count} for name, count in self._in_flight().items()},
            "outcomes_held_bytes": self.worker.outcomes_held_bytes,
        }

    def _in_flight(self) -> dict[str, float]:
        return {name: self.worker.in_flight(name) for name in self._providers}

    async def _until(self, happened: Callable[[], bool], within_s: float, hurry: asyncio.Event | None) -> bool:
        """Whether it happened in time. A machine tells nobody when it is empty, and at this hour nobody minds being looked at."""
        latest = time.monotonic() + within_s
        while not happened():
            if time.monotonic() >= latest or (hurry is not None and hurry.is_set()):
                return False
            await asyncio.sleep(LOOK_EVERY_S)
        return True

    def _fault(self, method: str, error: BaseException) -> None:
        self._log.event("fault", f"{type(error).__name__} in {method}: {error}", level="error", method=method)
