"""The admin listener of a house of several processes: health and figures of all of them, as if they were one."""

import asyncio
from collections.abc import Callable, Coroutine

import msgspec

from homing.edges import rpc
from homing.edges.http import Exchange, Listener, ListenerLimits
from homing.roles.asking import ask
from homing.roles.children import Child, Place
from homing.roles.supervisor import LEAVING, Supervisor
from homing.telemetry import METRICS_CONTENT_TYPE

_TEXT = [(b"Content-Type", b"text/plain; charset=utf-8")]


class Seen(msgspec.Struct, frozen=True, omit_defaults=True):
    """One process, as `?verbose` shows it. `says` is what it shows of itself."""

    role: str
    index: int
    pid: int
    state: str
    restarts: int
    age_s: float
    says: msgspec.Raw | None = None


class House(msgspec.Struct, frozen=True):
    """All of them."""

    status: str
    processes: list[Seen]


class Oversight:
    """`/livez`: this loop turns. `/readyz`: there are a gateway, a broker and a worker that are ready. `?verbose`, `/metrics`."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._answering: set[asyncio.Future[None]] = set()
        self.listener = Listener(self.answer, ListenerLimits(body_bytes_max=4096), refusal=rpc.refusal)

    def answer(self, exchange: Exchange) -> None:
        """One HTTP request."""
        pages: dict[str, Callable[[Exchange], Coroutine[object, object, None]]] = {
            "/livez": self._livez,
            "/readyz": self._readyz,
            "/metrics": self._figures,
            "/": self._index,
        }
        page = pages.get(exchange.path)
        if page is None:
            exchange.answer(404, _TEXT, b"No such page. There are /livez, /readyz, /readyz?verbose and /metrics.\n")
        elif exchange.method not in ("GET", "HEAD"):
            exchange.answer(405, [*_TEXT, (b"Allow", b"GET, HEAD")], b"Only GET and HEAD.\n")
        else:
            answering = asyncio.ensure_future(page(exchange))
            self._answering.add(answering)
            answering.add_done_callback(self._answering.discard)

    async def _livez(self, exchange: Exchange) -> None:
        await self._say(exchange, 200, "alive")

    async def _readyz(self, exchange: Exchange) -> None:
        await self._say(exchange, None, "")

    async def _say(self, exchange: Exchange, status: int | None, word: str) -> None:
        """Answer with this status, or, for None, with how the house is."""
        verbose = "verbose" in exchange.query.split("&")
        seen = await self._look() if verbose or status is None else []
        if status is None:
            word = self._state(seen)
            status = 200 if word == "ready" else 503
        if verbose:
            body = msgspec.json.format(msgspec.json.encode(House(word, seen))) + b"\n"
            _answer(exchange, status, [(b"Content-Type", b"application/json")], body)
        else:
            _answer(exchange, status, _TEXT, word.encode() + b"\n")

    def _state(self, seen: list[Seen]) -> str:
        if self._supervisor.stopping.is_set():
            return "draining"
        needed = {place.role for place in self._supervisor.places}
        ready = {each.role for each in seen if each.state == "ready"}
        missing = [role for role in LEAVING if role in needed - ready]
        return f"no {missing[0]} is ready" if missing else "ready"

    async def _look(self) -> list[Seen]:
        return await asyncio.gather(*(_seen(place, child) for place, child in self._supervisor.children.values()))

    async def _figures(self, exchange: Exchange) -> None:
        body = (await self._supervisor.figures()).encode()
        _answer(exchange, 200, [(b"Content-Type", METRICS_CONTENT_TYPE.encode())], body)

    async def _index(self, exchange: Exchange) -> None:
        exchange.answer(200, _TEXT, b"homing\n\n/livez\n/readyz\n/readyz?verbose\n/metrics\n")


def _answer(exchange: Exchange, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    if not exchange.gone:
        exchange.answer(status, headers, body)


async def _seen(place: Place, child: Child) -> Seen:
    said = await ask(child.known.admin, "/readyz?verbose")
    if child.leaving:
        state = "draining"
    elif said is None:
        state = "silent" if child.ready else "starting"
    else:
        state = "ready" if said.status == 200 else "not ready"
    says = msgspec.Raw(said.body.strip()) if said is not None else None
    return Seen(place.role, place.index, child.known.pid, state, place.restarts, round(child.age_s, 1), says)
