"""A process and its foreign peers: who may serve what, and how they are seen off."""

import asyncio
import os
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import zmq

from homing import config
from homing.core.broker import Broker, BrokerLimits
from homing.core.machine import Event, Peer
from homing.core.permits import Permit
from homing.driver import Driver
from homing.engines.zmq import Foreign, Zmq
from homing.roles.neighbourhood import Neighbourhood
from homing.roles.process import new_loop
from homing.telemetry import Metrics
from tests.core.people import request
from tests.loops import until

BROKER, GATEWAY = b"broker", b"gateway"
HOUSE = """
[providers.acme]
base_url = "http://127.0.0.1:9"

[methods."acme.charge"]
provider = "acme"
request = "POST /charge"
params = {}
"""


class Street:
    """A broker on an engine, its neighbourhood, and one foreign worker's socket."""

    def __init__(self, folder: Path, permits: dict[str, Permit] | None) -> None:
        (folder / "homing.toml").write_text(HOUSE)
        settings = config.load(folder / "homing.toml")
        loop = asyncio.get_running_loop()
        self.station = Zmq(loop)
        self.driver = Driver(self.station, loop)
        self.station.tell = self.driver.feed
        self.broker = Broker(os.urandom(16), BrokerLimits())
        self.station.attach(BROKER, self.broker, lambda action: None)
        self.metrics = Metrics()
        self.neighbourhood = Neighbourhood(self.station, self.driver.feed)
        self.foreign: Foreign = self.neighbourhood.take_workers(
            settings, config.compile_methods(settings), BROKER, permits, self.metrics
        )
        self.told: list[tuple[Peer, Event]] = []

    def offers(self, service: bytes, user: str = "") -> bool:
        """Whether a worker may serve this."""
        assert self.neighbourhood.workers is not None
        machine = self.neighbourhood.workers.machine
        before = len(machine)
        assert self.foreign.received(os.urandom(4), [b"", b"MDPW01", b"\x01", service], user)
        return len(machine) == before + 1

    def close(self) -> None:
        self.driver.close()
        self.station.close(0.0)


def on_a_street(
    folder: Path, play: Callable[[Street], Coroutine[Any, Any, None]], permits: dict[str, Permit] | None = None
) -> None:
    async def main() -> None:
        street = Street(folder, permits)
        try:
            await play(street)
        finally:
            street.close()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())


def test_without_keys_anybody_may_serve_what_has_no_provider(tmp_path: Path) -> None:
    async def play(street: Street) -> None:
        assert street.offers(b"echo")
        assert not street.offers(b"acme")
        assert not street.offers(b"mmi.echo")
        assert street.neighbourhood.counts == {"majordomo forbidden": 2}
        assert street.neighbourhood.verbose() == {"foreign_workers": 1}
        assert b"homing_foreign_workers 1.0" in street.metrics.exposition()

    on_a_street(tmp_path, play)


def test_with_keys_each_may_serve_what_is_written(tmp_path: Path) -> None:
    async def play(street: Street) -> None:
        assert street.offers(b"echo.one", "mill")
        assert not street.offers(b"other", "mill")
        assert not street.offers(b"echo.one", "nobody")

    on_a_street(tmp_path, play, {"mill": Permit(serve=("echo.*",))})


@pytest.mark.parametrize("hurried", [True, False])
def test_who_works_may_end_unless_there_is_a_hurry(tmp_path: Path, hurried: bool) -> None:
    async def play(street: Street) -> None:
        assert street.neighbourhood.workers is not None
        machine = street.neighbourhood.workers.machine
        assert street.offers(b"echo")
        (neighbour,) = machine._of.values()
        neighbour.held = held = _held()
        assert machine.busy == 1
        hurry = asyncio.Event()
        draining = asyncio.ensure_future(street.neighbourhood.drain(60.0, hurry))
        await asyncio.sleep(0)
        await asyncio.sleep(0.05)
        assert not draining.done()
        if hurried:
            hurry.set()
        else:
            street.foreign.received(neighbour.peer, [b"", b"MDPW01", b"\x03", held.call_id, b"", b"1"], "")
        await asyncio.wait_for(draining, 10)
        assert len(machine) == 0

    on_a_street(tmp_path, play)


def _held() -> Any:
    from homing.core.neighbours import _Held

    now = time.monotonic()
    asked = request(service="echo")
    return _Held(asked.call_id, b"", 1, now, now + 1, now + 10, granted_at=now)


def test_a_process_without_a_broker_has_nobody_to_see_off(tmp_path: Path) -> None:
    async def play(street: Street) -> None:
        alone = Neighbourhood(street.station, street.driver.feed)
        await alone.drain(0.0, asyncio.Event())
        assert not alone.counts
        assert alone.verbose() == {}

    on_a_street(tmp_path, play)


def test_the_end_of_time_is_the_end_of_patience(tmp_path: Path) -> None:
    async def play(street: Street) -> None:
        assert street.neighbourhood.workers is not None
        street.offers(b"echo")
        (neighbour,) = street.neighbourhood.workers.machine._of.values()
        neighbour.held = _held()
        await asyncio.wait_for(street.neighbourhood.drain(0.02, asyncio.Event()), 10)
        assert len(street.neighbourhood.workers.machine) == 0

    on_a_street(tmp_path, play)


def test_a_worker_on_a_socket_is_sent_away_at_the_end(tmp_path: Path) -> None:
    async def play(street: Street) -> None:
        endpoint = street.station.bind(BROKER, "tcp://127.0.0.1:*", foreign=street.foreign)
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        with context, context.socket(zmq.DEALER) as worker:
            worker.setsockopt(zmq.LINGER, 0)
            worker.setsockopt(zmq.RCVTIMEO, 10_000)
            worker.connect(endpoint)
            worker.send_multipart([b"MDPW02", b"\x01", b"echo"])
            workers = street.neighbourhood.workers
            assert workers is not None
            await until(lambda: len(workers.machine))
            await street.neighbourhood.drain(1.0, asyncio.Event())
            street.close()
            assert worker.recv_multipart() == [b"MDPW02", b"\x06"]

    on_a_street(tmp_path, play)
