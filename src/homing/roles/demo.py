"""The demo: a provider that can be slow, flaky, and lose its answers, behind a gateway, all in one process.

The provider is a real HTTP server on a real socket. Its ledger is what truth is measured against: what stands there has happened.
"""

import asyncio
import os
import random
import tempfile
from importlib.resources import files
from pathlib import Path

import msgspec

from homing import config
from homing.edges import rpc
from homing.edges.http import Exchange, Listener, ListenerLimits
from homing.roles.serve import OneProcess
from homing.telemetry import Log

JSON = [(b"Content-Type", b"application/json")]
LEDGER_LENGTH_MAX = 10_000


class Charge(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of the ledger."""

    id: str
    account: str
    amount: int
    reference: str = ""


class Asked(msgspec.Struct):
    """What a request's body may hold, all of it together: this provider is not strict."""

    text: str = ""
    seconds: float = 0.0
    failure_ratio: float = 0.0
    account: str = ""
    amount: int = 0
    reference: str = ""


class DemoProvider:
    """A small remote API: echo, slow, flaky, charges, ledger. `ledger` is what it has done."""

    def __init__(self) -> None:
        self.ledger: list[Charge] = []
        self.charges = 0
        self.port = 0
        self.listener = Listener(self.answer, ListenerLimits(idle_timeout_s=300.0), refusal=rpc.refusal)
        self._random = random.Random(7)

    async def start(self) -> int:
        """Listen on a free port of this machine, and return it."""
        self.port = await self.listener.start("127.0.0.1", 0)
        return self.port

    def answer(self, exchange: Exchange) -> None:
        """One request."""
        route = (exchange.method, exchange.path)
        try:
            asked = msgspec.json.decode(exchange.body, type=Asked) if exchange.body else Asked()
        except msgspec.MsgspecError as error:
            self._say(exchange, 400, {"error": str(error)})
            return
        if route == ("POST", "/echo"):
            self._say(exchange, 200, {"text": asked.text})
        elif route == ("POST", "/slow"):
            asyncio.get_running_loop().call_later(asked.seconds, self._say, exchange, 200, {"slept_s": asked.seconds})
        elif route == ("POST", "/flaky"):
            self._flaky(exchange, asked.failure_ratio)
        elif route == ("POST", "/charges"):
            self._charge(exchange, asked)
        elif route == ("GET", "/charges"):
            self._find(exchange)
        elif route == ("GET", "/ledger"):
            self._say(exchange, 200, {"charges": self.charges, "last": self.ledger[-20:]})
        else:
            self._say(exchange, 404, {"error": "no such page"})

    def _flaky(self, exchange: Exchange, failure_ratio: float) -> None:
        if self._random.random() >= failure_ratio:
            self._say(exchange, 200, {"luck": "good"})
        elif self._random.random() < 0.5:
            self._say(exchange, 503, {"error": "come back later"})
        else:
            _drop(exchange)

    def _charge(self, exchange: Exchange, asked: Asked) -> None:
        self.charges += 1
        charge = Charge(f"ch_{self.charges}", asked.account, asked.amount, asked.reference)
        self.ledger.append(charge)
        del self.ledger[:-LEDGER_LENGTH_MAX]
        if exchange.query == "then=drop":
            _drop(exchange)
        else:
            self._say(exchange, 200, charge)

    def _find(self, exchange: Exchange) -> None:
        name, _, reference = exchange.query.partition("=")
        found = [charge for charge in self.ledger if name == "reference" and charge.reference == reference]
        self._say(exchange, 200, {"data": found})

    def _say(self, exchange: Exchange, status: int, body: object) -> None:
        if not exchange.gone:
            exchange.answer(status, [*JSON, (b"Request-Id", b"req_%d" % self.listener.requests)], msgspec.json.encode(body))


def _drop(exchange: Exchange) -> None:
    """The network, on a bad day."""
    exchange.connection.reset()


def demo_config() -> str:
    """The text of the demo's homing.toml."""
    return files("homing.roles").joinpath("demo.toml").read_text()


def read_demo(provider_port: int, *, listen: str | None = None, admin: str | None = None) -> config.Reading:
    """The demo's configuration for a provider on this port."""
    text = demo_config()
    if admin is not None:
        text = text.replace("[providers.demo]", f'[admin]\nlisten = "{admin}"\n\n[providers.demo]', 1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / config.CONFIG_NAME
        path.write_text(text)
        environ = {**os.environ, "HOMING_DEMO_PROVIDER": f"http://127.0.0.1:{provider_port}"}
        return config.read(path, listen=listen, environ=environ)


async def start_demo(log: Log, *, listen: str | None = None, admin: str | None = None) -> tuple[OneProcess, DemoProvider]:
    """Provider and gateway, running. Raises OSError if an address is taken, ConfigError if one is none."""
    provider = DemoProvider()
    port = await provider.start()
    reading = read_demo(port, listen=listen, admin=admin)
    process = OneProcess(config.usable(reading), reading.methods, log=log)
    try:
        await process.start()
    except OSError:
        await provider.listener.close(0.0)
        raise
    return process, provider
