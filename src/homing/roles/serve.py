"""One process that is gateway, broker and worker: puts the rooms together, runs until it is told to stop, and leaves in order."""

import asyncio
import os
import random
import signal
import time
from collections.abc import Mapping
from functools import partial

import msgspec
import uvloop

from homing.config import Config
from homing.core.broker import Broker, BrokerLimits
from homing.core.calls import Calls
from homing.core.holding import MethodPolicy, ProviderPolicy
from homing.core.limits import BreakerPolicy, Rate
from homing.core.machine import Draining, DrainTimedOut
from homing.core.messages import LIFE_BYTES, Claim, Settled
from homing.core.methods import Method
from homing.core.worker import Worker
from homing.driver import Driver
from homing.edges import rpc
from homing.edges.auth import Principal, Principals
from homing.edges.http import Listener, ListenerLimits, tls_context
from homing.edges.resolver import Resolver
from homing.engines.memory import Memory
from homing.roles.admin import Admin
from homing.roles.gateway import Gateway, GatewayLimits
from homing.roles.remotes import remotes_of
from homing.roles.worker import Hands
from homing.settings import Principal as PrincipalTable
from homing.settings import Provider as ProviderTable
from homing.settings import Rate as RateTable
from homing.telemetry import Log, Metrics

GATEWAY, BROKER, WORKER = b"gateway", b"broker", b"worker"
FAREWELL_S = 0.1  # between the last connection taken and the first closed: what was on its way still hears its no
FLUSH_S = 0.05  # log lines leave this often; one at a time would cost more than the call


class Process:
    """Everything of one process, from `start` to `stop`. `port` and `admin_port` are the bound ones."""

    def __init__(self, config: Config, methods: Mapping[str, Method], *, log: Log) -> None:
        self.config = config
        self.log = log
        self.metrics = Metrics()
        self.port = 0
        self.admin_port = 0
        self._methods = methods
        self._loop = asyncio.get_running_loop()
        self._remotes = remotes_of(config, Resolver(self._loop), self._loop)
        self.calls = Calls(os.urandom(LIFE_BYTES))
        self.broker = Broker(os.urandom(LIFE_BYTES), _broker_limits(config))
        self.worker = _worker(config, methods)
        principals = Principals(_principal(name, table) for name, table in config.principals.items())
        self.gateway = Gateway(
            self.calls,
            methods,
            principals,
            _gateway_limits(config),
            log=log,
            metrics=self.metrics,
        )
        self.hands = Hands(methods, self._remotes, fault=self._fault, soon=self._loop.call_soon)
        self.listener = Listener(self.gateway.answer, _listener_limits(config), refusal=rpc.refusal)
        self.admin = Admin(lambda: "ready" if self.gateway.ready else "draining", self.metrics, self._verbose)
        self._station = Memory()
        self._driver = Driver(self._station, self._loop)
        self.stopping = asyncio.Event()
        self._hurry = asyncio.Event()
        self._flushing: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Join the machines and listen. Raises OSError if an address cannot be bound."""
        self.log.flush_with(self._flush_soon)
        now = time.monotonic()
        self._station.attach(GATEWAY, self.calls, self.gateway.act)
        self._station.attach(BROKER, self.broker, self.gateway.act)
        self._station.attach(WORKER, self.worker, self.hands.act)
        self._station.straight(Claim, WORKER, GATEWAY)
        self._station.straight(Settled, GATEWAY, WORKER)
        self._station.connect(BROKER, GATEWAY, now)
        self._station.connect(BROKER, WORKER, now)
        self.gateway.feed = partial(self._driver.feed, GATEWAY)
        self.hands.feed = partial(self._driver.feed, WORKER)
        self._measure()
        tls = self.config.gateway.tls
        context = tls_context(tls.cert, tls.key) if tls.cert else None
        listen, admin = self.config.gateway.listen, self.config.admin.listen
        self.port = await self.listener.start(listen.host, listen.port, tls=context)
        self.admin_port = await self.admin.listener.start(admin.host, admin.port)

    def heed_signals(self) -> None:
        """From now on SIGTERM or SIGINT lets `run` end; a second one hurries."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self.stop_soon)

    async def run(self) -> None:
        """Until something says `stop_soon`."""
        await self.stopping.wait()
        await self.stop()

    def stop_soon(self) -> None:
        """Begin to drain; said a second time, do not wait for calls that run."""
        if self.stopping.is_set():
            self._hurry.set()
        self.stopping.set()

    async def stop(self) -> None:
        """Drain: readiness turns red, new calls are refused, running ones end or are settled, and every answer leaves."""
        drain = self.config.gateway.drain
        self.gateway.ready = False
        open_calls = len(self.gateway)
        self.log.event("drain", "Draining.", open_calls=open_calls)
        await self._within(self._hurry.wait(), drain.delay)
        self.gateway.drain()
        self.listener.part()
        if not self._hurry.is_set():
            await self._drained(drain.timeout)
        self.gateway.give_up()
        self._driver.feed(WORKER, Draining())
        self._driver.feed(WORKER, DrainTimedOut())
        self.listener.stop_accepting()
        if self.listener.connections:
            await asyncio.sleep(FAREWELL_S)
        await self.listener.close(2.0)
        await self.admin.listener.close(0.2)
        for remote in self._remotes.values():
            await remote.close()
        self._driver.close()
        self.log.event("stopped", "Stopped.")
        if self._flushing is not None:
            self._flushing.cancel()
        self.log.flush_with(None)

    async def _drained(self, timeout_s: float) -> None:
        waiting = (asyncio.ensure_future(self.gateway.drained()), asyncio.ensure_future(self._hurry.wait()))
        await asyncio.wait(waiting, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        for each in waiting:
            each.cancel()

    async def _within(self, awaitable: object, timeout_s: float) -> None:
        waiting = asyncio.ensure_future(awaitable)  # type: ignore[call-overload]
        await asyncio.wait((waiting,), timeout=timeout_s)
        waiting.cancel()

    def _flush_soon(self) -> None:
        delay_s = 0.0 if self.log.human else FLUSH_S
        self._flushing = self._loop.call_later(delay_s, self.log.flush)

    def _fault(self, method: str, error: BaseException) -> None:
        self.log.event("fault", f"{type(error).__name__} in {method}: {error}", level="error", method=method)

    def _verbose(self) -> dict[str, object]:
        """What `?verbose` says of a process."""
        return {
            "open_calls": len(self.gateway),
            "granted": self.calls.granted,
            "broker_holds": len(self.broker),
            "connections": self.listener.connections,
            "draining": self.gateway.draining,
            "providers": {name: {"in_flight": self.worker.in_flight(name)} for name in self.config.providers},
        }

    def _measure(self) -> None:
        metrics, listener = self.metrics, self.listener
        services = sorted({method.service for method in self._methods.values()})
        metrics.gauge("homing_open_calls", "Calls admitted and not settled.", lambda: len(self.gateway))
        metrics.gauge("homing_connections", "Callers connected.", lambda: listener.connections)
        metrics.gauge("homing_held_bytes", "Bytes of requests and answers held for callers.", lambda: listener.held_bytes)
        metrics.gauge("homing_broker_held_bytes", "Bytes of params the broker holds.", lambda: self.broker.held_bytes)
        metrics.gauge("homing_outcomes_held_bytes", "Bytes of outcomes held until seen.", lambda: self.worker.outcomes_held_bytes)
        metrics.gauge(
            "homing_queue_length",
            "Calls that wait for a worker, by service.",
            lambda: {name: self.broker.queued(name) for name in services},
        )
        metrics.gauge(
            "homing_provider_in_flight",
            "Calls that hold a slot, by provider.",
            lambda: {name: self.worker.in_flight(name) for name in self.config.providers},
        )
        metrics.counter("homing_http_requests", "HTTP requests read.", lambda: listener.requests)
        metrics.counter("homing_http_refused", "HTTP requests refused by HTTP itself.", lambda: listener.refused)
        metrics.counter("homing_http_abandoned", "Requests whose caller went away.", lambda: listener.abandoned)
        metrics.counter("homing_log_lines_dropped", "Log lines dropped because nobody read them.", lambda: self.log.dropped)


def _worker(config: Config, methods: Mapping[str, Method]) -> Worker:
    services: dict[str, int] = {}
    policies: dict[str, MethodPolicy] = {}
    for name, method in methods.items():
        if method.provider is None:
            continue
        provider = config.providers[method.provider]
        services[method.service] = max(services.get(method.service, 0), provider.in_flight_max)
        policies[name] = MethodPolicy(
            provider=method.provider,
            deadline_s=method.deadline_s or config.gateway.deadline.default,
            has_lookup=method.has_lookup,
            reserve_s=method.reserve_s,
        )
    providers = {name: _provider_policy(table) for name, table in config.providers.items()}
    return Worker(os.urandom(LIFE_BYTES), services=services, methods=policies, providers=providers, random=random.random)


def _provider_policy(table: ProviderTable) -> ProviderPolicy:
    breaker = table.breaker
    return ProviderPolicy(
        in_flight_max=table.in_flight_max,
        rate=_rate(table.rate),
        attempts_max=table.retry.attempts_max,
        attempt_timeout_s=table.timeout.attempt,
        breaker=BreakerPolicy(breaker.window, breaker.calls_min, breaker.failure_ratio, breaker.open_for),
        needs_token=table.auth is not None and type(table.auth).__name__ == "OAuth2Auth",
    )


def _rate(table: RateTable | None) -> Rate | None:
    return Rate(table.limit, table.per, table.burst_or_limit) if table is not None else None


def _principal(name: str, table: PrincipalTable) -> Principal:
    return Principal(
        name=name,
        hashes=table.api_key_hash,
        methods=table.methods,
        rate=_rate(table.rate),
        in_flight_max=table.in_flight_max,
    )


def _broker_limits(config: Config) -> BrokerLimits:
    broker = config.broker
    return BrokerLimits(broker.queue_length_max, broker.held_bytes_max, broker.no_worker_after)


def _gateway_limits(config: Config) -> GatewayLimits:
    gateway = config.gateway
    return GatewayLimits(
        deadline_default_s=gateway.deadline.default,
        deadline_max_s=gateway.deadline.max,
        batch_length_max=gateway.batch_length_max,
        in_flight_max=gateway.in_flight_max,
        anonymous=gateway.anonymous,
        origins=frozenset(gateway.origins),
        health=gateway.health,
        heartbeat=gateway.heartbeat > 0,
    )


def _listener_limits(config: Config) -> ListenerLimits:
    gateway = config.gateway
    return ListenerLimits(
        body_bytes_max=gateway.body_max,
        header_bytes_max=gateway.header_bytes_max,
        header_count_max=gateway.header_count_max,
        held_bytes_max=gateway.held_bytes_max,
        header_timeout_s=gateway.timeout.header,
        body_timeout_s=gateway.timeout.body,
        idle_timeout_s=gateway.timeout.idle,
        write_timeout_s=gateway.timeout.write,
        heartbeat_s=gateway.heartbeat,
    )


def new_loop() -> asyncio.AbstractEventLoop:
    """The loop that processes run on."""
    return uvloop.new_event_loop()


async def serve(config: Config, methods: Mapping[str, Method], log: Log) -> None:
    """`homing serve`, on a loop that runs already."""
    process = Process(config, methods, log=log)
    process.heed_signals()
    await process.start()
    listen = msgspec.structs.replace(config.gateway.listen, port=process.port)  # the bound ones, for 0 is any
    admin = msgspec.structs.replace(config.admin.listen, port=process.admin_port)
    log.event("listening", f"homing listens on {listen}, admin on {admin}.", methods=len(methods))
    await process.run()
