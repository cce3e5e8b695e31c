"""A process: its parts joined by an engine, from start to stop. Which parts it has, and whom it reaches, its `Plan` says."""

import asyncio
import signal
import socket
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from functools import partial
from typing import TypeVar

import msgspec
import uvloop

from homing.config import Config
from homing.core.machine import Event, Peer, PeerFound, PeerLost, Received
from homing.core.messages import Claim, Settled, Workers
from homing.core.methods import Method
from homing.driver import Driver
from homing.engines.memory import Memory
from homing.engines.zmq import CurveClient, CurveServer, Foreign, Zmq
from homing.forms import Address, is_guarded
from homing.roles.admin import READY, Admin
from homing.roles.machines import HEARTBEAT_S, asked_methods, permits_of
from homing.roles.neighbourhood import Neighbourhood
from homing.roles.parent import ParentWatch
from homing.roles.parts import Back, BrokerPart, GatewayPart, WorkerPart
from homing.roles.sockets import cannot_listen
from homing.telemetry import Log, Metrics

FLUSH_S = 0.05  # log lines leave this often; one at a time would cost more than the call
COUNTS_EVERY_S = 60.0
UNREACHED_S = 5.0  # until it is told that nobody is there; then once a minute
MUTE_MAX = 3  # times in a row that a broker hangs up before it says a word; then it is told once a minute
TOLD_WITHIN_S = 1.0  # before a gateway takes its first call: what workers offer would be no method, for a moment
Started = TypeVar("Started")

GATEWAY, BROKER, WORKER = GatewayPart.address, BrokerPart.address, WorkerPart.address


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a process is. Without `listens` and `dials` it is joined to nobody, and nothing between its parts can be lost.

    `name` is what the log calls it. `admin` is where its health and figures are: an address, the path of a socket, or nowhere.
    """

    name: str
    gateway: bool = False
    broker: bool = False
    worker: bool = False
    listens: tuple[str, ...] = ()  # where the broker takes other processes
    dials: tuple[str, ...] = ()  # the brokers of a gateway or worker
    listen_curve: CurveServer | None = None
    dial_curve: CurveClient | None = None
    majordomo: str = ""  # where foreign clients come in
    credit_max: int | None = None  # of a worker, per service
    admin: Address | str | None = None
    listen_fds: tuple[int, ...] = ()  # the gateway's sockets, opened by somebody else
    opened: tuple[tuple[str, int], ...] = ()  # likewise, by endpoint, the sockets of its broker and for foreign clients
    parent_fd: int | None = None  # a pipe whose end says that this process shall leave

    @property
    def alone(self) -> bool:
        """Whether no other process takes part."""
        return not self.listens and not self.dials and not self.majordomo


class Unbound(OSError):
    """An address cannot be had; the message says which and why, for people. Nothing is left open."""


class Process:
    """Everything of one process, from `start` to `stop`. `endpoints` are what its broker is bound to.

    `make_back(heartbeat_s, metrics)` makes a worker's part of another kind than one that asks providers.
    """

    def __init__(
        self,
        config: Config,
        methods: Mapping[str, Method],
        plan: Plan,
        *,
        log: Log,
        make_back: Callable[[float, Metrics], Back] | None = None,
    ) -> None:
        self.config = config
        self.methods = methods
        self.plan = plan
        self.log = log
        self.metrics = Metrics()
        self.admin_port = 0
        self.endpoints: tuple[str, ...] = ()
        self.majordomo = ""
        self.draining = False
        self.stopping = asyncio.Event()
        self._hurry = asyncio.Event()
        self._replaced = False
        self._loop = asyncio.get_running_loop()
        self._has_reached = not plan.dials
        self._is_told = asyncio.Event()  # a broker has said what workers offer
        self._flushing: asyncio.TimerHandle | None = None
        self._counting: asyncio.TimerHandle | None = None
        self._missing: asyncio.TimerHandle | None = None
        self._counted: Counter[str] = Counter()
        self._mute: Counter[Peer] = Counter()  # how often in a row a broker hung up before it had said a word
        self._parent: ParentWatch | None = None
        heartbeat_s = 0.0 if plan.alone else HEARTBEAT_S
        self.front: GatewayPart | None = None
        self.middle: BrokerPart | None = None
        self.back: Back | None = None
        if plan.gateway:
            self.front = GatewayPart(config, methods, heartbeat_s=heartbeat_s, log=log, metrics=self.metrics)
            self.front.gateway.ready = self._has_reached
        if plan.broker:
            permits = permits_of(config) if plan.listen_curve is not None else None
            self.middle = BrokerPart(config, methods, heartbeat_s=heartbeat_s, metrics=self.metrics, permits=permits)
        if make_back is not None:
            self.back = make_back(heartbeat_s, self.metrics)
        elif plan.worker:
            asked = asked_methods(methods, config.worker.services if plan.dials else ())
            looked_at = None if plan.alone else self.front.owns if self.front is not None else _never
            self.back = WorkerPart(
                config,
                asked,
                heartbeat_s=heartbeat_s,
                log=log,
                metrics=self.metrics,
                credit_max=plan.credit_max,
                looked_at=looked_at,
            )
        self.neighbourhood: Neighbourhood | None = None
        self.admin = Admin(self._state, self.metrics, self._verbose)
        self._station: Memory | Zmq = Memory() if plan.alone else self._sockets()
        self._driver = Driver(self._station, self._loop)
        self.metrics.counter("homing_log_lines_dropped", "Log lines dropped because nobody read them.", lambda: log.dropped)

    async def start(self) -> None:
        """Join the machines, reach and be reached. Raises Unbound."""
        self.log.flush_with(self._flush_soon)
        self._join()
        try:
            if isinstance(self._station, Zmq):
                self._reach(self._station)
            if self.front is not None:
                if self.plan.dials:
                    await self._within(self._is_told.wait(), TOLD_WITHIN_S)
                front, fds = self.front, self.plan.listen_fds
                await self._listen(lambda: front.listen([socket.socket(fileno=fd) for fd in fds]), self.config.gateway.listen)
            await self._open_admin()
        except OSError as error:
            if self.front is not None:
                await self.front.close()
            await self._close()
            raise error if isinstance(error, Unbound) else Unbound(error.errno, error.strerror) from None
        if self.plan.parent_fd is not None:
            self._parent = ParentWatch(self.plan.parent_fd, self.hand_over)

    async def _open_admin(self) -> None:
        admin, listener = self.plan.admin, self.admin.listener
        if isinstance(admin, Address):
            self.admin_port = await self._listen(lambda: listener.start(admin.host, admin.port), admin)
        elif admin is not None:
            await self._listen(lambda: listener.start_unix(admin), admin)

    async def _listen(self, start: Callable[[], Awaitable[Started]], where: object) -> Started:
        try:
            return await start()
        except OSError as error:
            raise Unbound(error.errno, cannot_listen(where, error)) from None

    def heed_signals(self) -> None:
        """From now on SIGTERM or SIGINT lets `run` end, and a second one hurries; SIGUSR1 lets it end as `hand_over` says."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self.stop_soon)
        self._loop.add_signal_handler(signal.SIGUSR1, self.hand_over)

    async def run(self) -> None:
        """Until something says `stop_soon`."""
        await self.stopping.wait()
        await self.stop()

    def stop_soon(self) -> None:
        """Begin to drain; said a second time, do not wait for calls that run."""
        if self.stopping.is_set():
            self._hurry.set()
        self.stopping.set()

    def hand_over(self) -> None:
        """Begin to drain in favour of others who accept from the same sockets, or will: nobody more is accepted, and nobody refused."""
        if not self.stopping.is_set():
            self._replaced = True
            self.stopping.set()

    async def stop(self) -> None:
        """Drain: readiness turns red, nothing new is taken, what runs ends or is settled, and every answer leaves."""
        self.draining = True
        open_calls = len(self.front.gateway) if self.front is not None else self.back.running if self.back is not None else 0
        self.log.event("drain", "Draining.", open_calls=open_calls)
        if self.front is not None:
            if self._replaced:
                await self.front.part(self._hurry)
            self.front.gateway.ready = False
        drain = self.config.gateway.drain if self.front is not None else self.config.worker.drain
        holds = self.front is not None or self.back is not None  # a broker keeps no truth, and has nothing to wait for
        if holds and not self._replaced:
            await self._within(self._hurry.wait(), drain.delay)
        latest = time.monotonic() + drain.timeout
        if self.front is not None:
            await self.front.drain(drain.timeout, self._hurry)
        if self.back is not None:
            await self.back.drain(partial(self._driver.feed, WORKER), max(0.0, latest - time.monotonic()), self._hurry)
        if self.neighbourhood is not None:
            await self.neighbourhood.drain(max(0.0, latest - time.monotonic()), self._hurry)
        if self.front is not None:
            await self.front.close()
        self.log.event("stopped", "Stopped.")
        await self._close()

    async def _close(self) -> None:
        """What was said leaves, and everything is closed."""
        await self.admin.listener.close(0.2)
        if self.back is not None:
            await self.back.close()
        self._driver.close()
        if isinstance(self._station, Zmq):
            self._station.close()
            self._log_counts()
        for timer in (self._counting, self._flushing, self._missing):
            if timer is not None:
                timer.cancel()
        if self._parent is not None:
            self._parent.close()
        self.log.flush_with(None)

    async def _within(self, awaitable: object, timeout_s: float) -> None:
        waiting = asyncio.ensure_future(awaitable)  # type: ignore[call-overload]
        await asyncio.wait((waiting,), timeout=timeout_s)
        waiting.cancel()

    # Joined

    def _join(self) -> None:
        """Put the machines into the station, and tell those of this process of each other."""
        station, feed = self._station, self._driver.feed
        front, middle, back = self.front, self.middle, self.back
        if front is not None:
            station.attach(GATEWAY, front.calls, front.gateway.act)
            front.gateway.feed = partial(feed, GATEWAY)
        if middle is not None:
            station.attach(BROKER, middle.broker, middle.act)
        if back is not None:
            station.attach(WORKER, back.worker, back.act)
            back.feed_with(partial(feed, WORKER))
        if front is not None and back is not None and self.plan.alone:
            station.straight(Claim, WORKER, GATEWAY)
            station.straight(Settled, GATEWAY, WORKER)
        now = time.monotonic()
        if middle is not None and front is not None:
            station.connect(BROKER, GATEWAY, now)
        if middle is not None and back is not None:
            station.connect(BROKER, WORKER, now)

    def _sockets(self) -> Zmq:
        """The engine for more than one process. A broker that no gateway shares never looks into an outcome."""
        sealed = self.plan.broker and not self.plan.gateway
        self.metrics.gauge("homing_peers_held_bytes", "Bytes for other processes that do not read them.", self._held_bytes)
        self.metrics.counter("homing_messages_dropped", "What was dropped or refused between processes, by why.", self._counts)
        frame_bytes_max, opened = self.config.broker.frame_bytes_max, dict(self.plan.opened)
        return Zmq(self._loop, frame_bytes_max=frame_bytes_max, sealed=sealed, warn=self._warn, opened=opened)

    def _reach(self, station: Zmq) -> None:
        """Bind, and dial."""
        station.tell = self._tell
        plan = self.plan
        foreign = self._meet(station)
        self.endpoints = tuple(
            _bound(
                endpoint,
                station.bind(BROKER, endpoint, curve=None if is_guarded(endpoint) else plan.listen_curve, foreign=foreign),
            )
            for endpoint in plan.listens
        )
        for endpoint in plan.dials:
            keys = None if is_guarded(endpoint) else plan.dial_curve
            station.dial(GATEWAY if plan.gateway else WORKER, endpoint, curve=keys)
        self._counting = self._loop.call_later(COUNTS_EVERY_S, self._count)
        if plan.dials:
            self._missing = self._loop.call_later(UNREACHED_S, self._miss)

    def _miss(self) -> None:
        """Whoever has mistyped an address should not have to guess."""
        if not self._has_reached:
            where = ", ".join(self.plan.dials)
            self.log.event("broker", f"No broker has been reached yet, at {where}. It is dialled on.", level="warning")
            self._missing = self._loop.call_later(COUNTS_EVERY_S, self._miss)

    def _meet(self, station: Zmq) -> Foreign | None:
        """Whoever speaks Majordomo: workers at the broker, if others can reach it, and clients."""
        neighbours = self.neighbourhood = Neighbourhood(station, self._driver.feed)
        if self.front is not None and self.plan.majordomo:
            bound = neighbours.take_clients(self.config, self.front.gateway, self.plan.majordomo, self.metrics)
            self.majordomo = _bound(self.plan.majordomo, bound)
        if self.middle is None or not self.plan.listens:
            return None
        permits = permits_of(self.config) if self.plan.listen_curve is not None else None
        return neighbours.take_workers(self.config, self.methods, BROKER, permits, self.metrics)

    def _tell(self, address: Peer, /, *events: Event) -> None:
        """What the sockets bring. That a broker is reached, or lost, is worth a line."""
        event = events[0]  # whatever is no message comes alone
        if address == BROKER:
            pass
        elif type(event) is Received:
            if self._mute:
                self._mute.pop(event.peer, None)
        elif type(event) is PeerFound:
            self._has_reached = True
            if self.front is not None:
                self.front.gateway.ready = not self.draining
            if self._mute[event.peer] < MUTE_MAX:
                self._log_broker("Reached", event.peer)
        elif type(event) is PeerLost:
            self._mute[event.peer] += 1
            if self._mute[event.peer] <= MUTE_MAX:
                self._log_broker("Lost", event.peer, level="warning")
            if self._mute[event.peer] == MUTE_MAX:  # once a minute: it may come and go many times a second
                where = event.peer.decode(errors="replace")
                why = "what is said to it first may be larger than its broker.frame_bytes_max"
                self.log.event(
                    "broker", f"The broker at {where} hangs up before it says a word, again and again: {why}.", level="error"
                )
        self._driver.feed(address, *events)
        if not self._is_told.is_set() and any(type(each) is Received and type(each.message) is Workers for each in events):
            self._is_told.set()

    def _log_broker(self, what: str, peer: Peer, *, level: str = "info") -> None:
        self.log.event("broker", f"{what} the broker at {peer.decode(errors='replace')}.", level=level)

    def _warn(self, kind: str, sentence: str) -> None:
        """The engine says a thing of one kind at most once a minute."""
        self.log.event("dropped", sentence, level="warning", kind=kind)

    # Told

    def _count(self) -> None:
        self._log_counts()
        self._mute.clear()
        self._counting = self._loop.call_later(COUNTS_EVERY_S, self._count)

    def _held_bytes(self) -> int:
        return self._station.held_bytes if isinstance(self._station, Zmq) else 0

    def _counts(self) -> Counter[str]:
        """What was dropped or refused since the start, by why: by the engine, and by the machines."""
        counts: Counter[str] = Counter()
        if isinstance(self._station, Zmq):
            counts.update(self._station.counts)
        for part in (self.front, self.middle, self.back, self.neighbourhood):
            if part is not None:
                counts.update(part.counts)
        return counts

    def _log_counts(self) -> None:
        """One line for all that was dropped since the last one, if anything was: a line each would drown the log."""
        counts = self._counts()
        grown = counts - self._counted
        self._counted = counts
        if grown:
            message = f"{grown.total()} things between processes were dropped or refused."
            self.log.event("counted", message, level="warning", **dict(grown))

    def _flush_soon(self) -> None:
        delay_s = 0.0 if self.log.human else FLUSH_S
        self._flushing = self._loop.call_later(delay_s, self.log.flush)

    def _state(self) -> str:
        if self.draining:
            return "draining"
        return READY if self._has_reached else "no broker has been reached yet"

    def _verbose(self) -> dict[str, object]:
        said: dict[str, object] = {"draining": self.draining}
        for part in (self.front, self.middle, self.back, self.neighbourhood):
            if part is not None:
                said |= part.verbose()
        return said


def _never(call_id: bytes) -> bool:
    return False


def _bound(endpoint: str, bound: str) -> str:
    """The endpoint as it was asked for, with the port that a 0 became. What libzmq says may be the same address in another family."""
    return f"{endpoint.rpartition(':')[0]}:{bound.rpartition(':')[2]}" if endpoint.startswith("tcp://") else bound


def new_loop() -> asyncio.AbstractEventLoop:
    """The loop that processes run on."""
    return uvloop.new_event_loop()


def run_to_its_end(main: Coroutine[object, object, None]) -> None:
    """Run a process on a loop of its own.

    A task that raises SystemExit or KeyboardInterrupt stops the loop it is on, and with it every call. If it is another one than
    `main`, a function of somebody's has started it, and whoever awaits it is told: the others go on.
    """
    with asyncio.Runner(loop_factory=new_loop) as runner:
        running = runner.get_loop().create_task(main)
        while not running.done():
            try:
                runner.get_loop().run_until_complete(running)
            except (SystemExit, KeyboardInterrupt) as error:
                is_signal = isinstance(error, KeyboardInterrupt) and signal.getsignal(signal.SIGINT) is signal.default_int_handler
                if running.done() or is_signal:  # its own, or Ctrl-C before anybody heeds it
                    raise
