"""Who calls: at random distances, through every door, and with every end that the provider or a desk knows."""

import asyncio
import random
import time
from functools import partial

from chaos import desk, provider
from chaos.doors import ClientDoor, Door, GatewayDoor, Wish
from chaos.history import Call
from chaos.keys import BROKER
from chaos.stage import Stage
from homing import AsyncClient
from homing.errors import Effect

EFFECTS: tuple[Effect, ...] = ("once", "once", "keyed", "safe")
ENDS = {"bank": provider.ENDS, "desk": desk.ENDS}
ENDS_WEIGHTS = {"bank": (70, 4, 2, 3, 5, 5, 5, 6), "desk": (70, 6, 5, 4, 4, 3, 5, 3)}
TIMEOUTS_S: tuple[float, ...] = (0.5, 1.0, 2.0, 5.0, 10.0)
STRANGER = "stranger"
APART = 4
FLOOD_AT_ONCE = 10
STRANGE = 0.05  # of all calls
CALM_S = 15.0  # enough for whoever is not lost


def doors(stage: Stage) -> list[Door]:
    """All ways in that the stage has."""
    found: list[Door] = []
    for gateway, port in zip(stage.gateways, stage.gateway_ports, strict=True):
        found.append(GatewayDoor(gateway, port))
    for number, urls in enumerate(stage.client_urls):
        name = "client" if number < stage.shape.clients else STRANGER
        found.append(ClientDoor(f"{name} {number}", partial(_to_brokers, stage, urls, name)))
    for number in range(stage.shape.web_clients):
        gateway, port = stage.gateways[number], stage.gateway_ports[number]
        found.append(ClientDoor(f"web client {number}", partial(AsyncClient, f"http://127.0.0.1:{port}"), gateway))
    return found


def _to_brokers(stage: Stage, urls: list[str], name: str) -> AsyncClient:
    keys = stage.keys
    if keys is None:
        return AsyncClient(urls)
    return AsyncClient(urls, curve=keys.path(name), broker_key=keys.public[BROKER])


class Callers:
    """Sends calls, keeps what came of each. `calls` grows."""

    def __init__(self, stage: Stage, dice: random.Random, *, per_s: float, prefix: str) -> None:
        self.calls: list[Call] = []
        there = doors(stage)
        self.doors = [door for door in there if not door.name.startswith(STRANGER)]
        self.strangers = [door for door in there if door.name.startswith(STRANGER)]
        self.services = ("bank", "desk") if stage.shape.desks else ("bank",)
        self._stage = stage
        self._dice = dice
        self._per_s = per_s
        self._prefix = prefix
        self._timeouts_s = TIMEOUTS_S
        self._running: set[asyncio.Task[None]] = set()

    async def come(self, seconds: float) -> None:
        """One after the other, at random distances, for so long. In a short round nobody waits long."""
        self._timeouts_s = tuple(each for each in TIMEOUTS_S if each <= max(2.0, seconds))
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            await asyncio.sleep(self._dice.expovariate(self._per_s))
            self.order()

    def order(self, *, end: str | None = None, timeout_s: float | None = None) -> None:
        """One call, as the dice fall."""
        dice = self._dice
        service, effect = dice.choice(self.services), dice.choice(EFFECTS)
        if self._stage.shape.calm:
            end, timeout_s = "ok", CALM_S
        end = end or dice.choices(ENDS[service], ENDS_WEIGHTS[service])[0]
        delay_ms = int(dice.choice((0, 10, 50, 250, 1000)) * (0.5 + dice.random()))
        timeout_s = timeout_s or dice.choice(self._timeouts_s) * (0.8 + 0.4 * dice.random())
        apart = service == "desk" and dice.random() < 0.5
        if apart:
            delay_ms //= APART  # or its few processes have no time for all that come
        method = f"{service}.{effect}" + ("_apart" if apart else "")
        params: dict[str, object] = {"token": f"{self._prefix}-{len(self.calls)}", "end": end, "delay_ms": delay_ms}
        wish = Wish(method=method, params=params, told=dice.random() < 0.5, retries=dice.choice((0, 2)))
        through = self.strangers if self.strangers and dice.random() < STRANGE else self.doors
        self.place(wish, effect, round(timeout_s, 3), dice.choice(through))

    async def flood(self, count: int, timeout_s: float) -> None:
        """So many as fast as they can be made, while others are heard too."""
        for number in range(count):
            self.order(end="ok", timeout_s=timeout_s)
            if number % FLOOD_AT_ONCE == 0:
                await asyncio.sleep(0)

    def probe(self, method: str, door: Door, timeout_s: float) -> Call:
        """A call that must succeed where nothing is broken."""
        effect: Effect = "keyed" if ".keyed" in method else "safe" if ".safe" in method else "once"
        params: dict[str, object] = {"token": f"probe-{time.monotonic_ns()}", "end": "ok", "delay_ms": 0}
        timeout_s = CALM_S if self._stage.shape.calm else timeout_s
        return self.place(Wish(method=method, params=params), effect, timeout_s, door)

    def place(self, wish: Wish, effect: Effect, timeout_s: float, door: Door) -> Call:
        """One call, as it is said."""
        token, end = str(wish.params["token"]), str(wish.params["end"])
        call = Call(token=token, effect=effect, via=door.name, sent_at=time.monotonic(), timeout_s=timeout_s, end=end)
        call.forbidden = door in self.strangers
        self.calls.append(call)
        running = asyncio.ensure_future(door.ask(call, wish))
        self._running.add(running)
        running.add_done_callback(self._done)
        return call

    async def settled(self) -> None:
        """Until every call has ended, one way or the other."""
        while self._running:
            await asyncio.wait(self._running)

    def excuse(self) -> None:
        """Note with each call how long it was kept waiting by whoever stood still. At the end: of a pause one hears when it is over."""
        doors = {door.name: door for door in (*self.doors, *self.strangers)}
        for call in self.calls:
            span = call.sent_at, call.answered_at
            if call.answered_at:
                call.paused_s = doors[call.via].paused_s(*span) + self._stage.lag_s(*span)

    async def close(self) -> None:
        """Nobody calls any more."""
        for door in (*self.doors, *self.strangers):
            if isinstance(door, ClientDoor):
                await door.close()

    def _done(self, running: "asyncio.Task[None]") -> None:
        self._running.discard(running)
        running.result()
