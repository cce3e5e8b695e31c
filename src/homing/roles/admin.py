"""The admin listener: health for balancers, figures for people and Prometheus. It has no authentication."""

from collections.abc import Callable

import msgspec

from homing.edges import rpc
from homing.edges.http import Exchange, Listener, ListenerLimits
from homing.telemetry import METRICS_CONTENT_TYPE, Metrics

READY = "ready"


class Admin:
    """`/livez`: the loop turns. `/readyz`: whether to send anybody here. `?verbose` says more. `/metrics`.

    `state` is "ready", or in a few words why not. A provider's outage is no reason, nor a broker's: all would turn at once.
    """

    def __init__(self, state: Callable[[], str], metrics: Metrics, verbose: Callable[[], dict[str, object]]) -> None:
        self._state = state
        self._metrics = metrics
        self._verbose = verbose
        self.listener = Listener(self.answer, ListenerLimits(body_bytes_max=4096), refusal=rpc.refusal)

    def answer(self, exchange: Exchange) -> None:
        """One HTTP request."""
        page = {"/livez": self._livez, "/readyz": self._readyz, "/metrics": self._figures, "/": self._index}.get(exchange.path)
        if page is None:
            exchange.answer(404, _TEXT, b"No such page. There are /livez, /readyz, /readyz?verbose and /metrics.\n")
        elif exchange.method not in ("GET", "HEAD"):
            exchange.answer(405, [*_TEXT, (b"Allow", b"GET, HEAD")], b"Only GET and HEAD.\n")
        else:
            page(exchange)

    def _livez(self, exchange: Exchange) -> None:
        self._say(exchange, 200, "alive")

    def _readyz(self, exchange: Exchange) -> None:
        state = self._state()
        self._say(exchange, 200 if state == READY else 503, state)

    def _say(self, exchange: Exchange, status: int, word: str) -> None:
        if "verbose" in exchange.query.split("&"):
            body = msgspec.json.format(msgspec.json.encode({"status": word, **self._verbose()})) + b"\n"
            exchange.answer(status, [(b"Content-Type", b"application/json")], body)
        else:
            exchange.answer(status, _TEXT, word.encode() + b"\n")

    def _figures(self, exchange: Exchange) -> None:
        exchange.answer(200, [(b"Content-Type", METRICS_CONTENT_TYPE.encode())], self._metrics.exposition())

    def _index(self, exchange: Exchange) -> None:
        exchange.answer(200, _TEXT, b"homing\n\n/livez\n/readyz\n/readyz?verbose\n/metrics\n")


_TEXT = [(b"Content-Type", b"text/plain; charset=utf-8")]
