"""The parts of a process, each by itself."""

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from homing import config
from homing.config import Config, Reading
from homing.core.machine import Draining, DrainTimedOut, Event, PeerFound, Received
from homing.core.messages import Ready
from homing.core.permits import ANYTHING, Permit
from homing.roles import machines, parts
from homing.roles.parts import BrokerPart, GatewayPart, WorkerPart
from homing.telemetry import Log, Metrics
from tests.loops import run

HOUSE = """
[gateway]
listen = "127.0.0.1:0"
[peers.shop]
public_key = "%s"
call = ["acme"]
principal = "webshop"
[providers.acme]
base_url = "http://127.0.0.1:9"
[methods."acme.safe"]
provider = "acme"
effect = "safe"
request = "POST /"
"""


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    with (tmp_path / "log.jsonl").open("wb", buffering=0) as file:
        log = Log(file.fileno(), human=False)
        yield log
        log.close()


def house(folder: Path) -> tuple[Config, Reading]:
    (folder / "homing.toml").write_text(HOUSE.replace("%s", "0" * 40))
    reading = config.read(folder / "homing.toml")
    return config.usable(reading), reading


def test_a_gateway_listens_where_it_is_configured_or_on_what_it_is_given(tmp_path: Path, log: Log) -> None:
    async def main() -> None:
        read, reading = house(tmp_path)
        for given in ([], [socket.create_server(("127.0.0.1", 0))]):
            port = given[0].getsockname()[1] if given else 0
            front = GatewayPart(read, reading.methods, heartbeat_s=0.0, log=log, metrics=Metrics())
            await front.listen(given)
            assert front.port == (port or front.port) > 0
            reader, writer = await asyncio.open_connection("127.0.0.1", front.port)
            writer.close()
            assert await reader.read() == b""
            await front.close()
            assert front.verbose() == {"open_calls": 0, "granted": 0, "connections": 0, "learnt_methods": []}

    run(main())


def test_a_broker_holds_every_key_to_its_permit(tmp_path: Path) -> None:
    read, reading = house(tmp_path)
    permits = machines.permits_of(read)
    assert permits == {"": ANYTHING, "shop": Permit(call=("acme",), principal="webshop")}
    metrics = Metrics()
    middle = BrokerPart(read, reading.methods, heartbeat_s=1.0, metrics=metrics, permits=permits)
    assert middle.verbose() == {"broker_holds": 0}
    assert 'homing_queue_length{name="acme"} 0.0' in metrics.exposition().decode()
    assert not middle.counts


def test_services_that_nobody_configured_are_measured_too(tmp_path: Path) -> None:
    read, reading = house(tmp_path)
    metrics = Metrics()
    middle = BrokerPart(read, reading.methods, heartbeat_s=1.0, metrics=metrics)
    middle.broker.handle(PeerFound(b"w"), 1.0)
    middle.broker.handle(Received(b"w", Ready(b"l" * 16, {"reports": 1}, 1000)), 1.0)
    page = metrics.exposition().decode()
    assert 'homing_queue_length{name="acme"} 0.0' in page
    assert 'homing_queue_length{name="reports"} 0.0' in page


def test_a_worker_with_nothing_in_hand_leaves_at_once(tmp_path: Path, log: Log) -> None:
    fed: list[Event] = []

    async def main() -> None:
        read, reading = house(tmp_path)
        back = WorkerPart(read, machines.asked_methods(reading.methods), heartbeat_s=1.0, log=log, metrics=Metrics())
        await back.drain(fed.append, 60.0, asyncio.Event())
        assert back.verbose() == {"providers": {"acme": {"in_flight": 0}}, "outcomes_held_bytes": 0}
        await back.close()

    run(main())
    assert fed == [Draining()]


@pytest.mark.parametrize("hurried", [False, True], ids=["time", "hurry"])
def test_what_runs_too_long_is_given_up(hurried: bool, tmp_path: Path, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    fed: list[Event] = []
    running = [1]

    def feed(event: Event) -> None:
        fed.append(event)
        if isinstance(event, DrainTimedOut):
            running.clear()

    async def main() -> None:
        read, reading = house(tmp_path)
        back = WorkerPart(read, machines.asked_methods(reading.methods), heartbeat_s=1.0, log=log, metrics=Metrics())
        monkeypatch.setattr(parts.WorkerPart, "running", property(lambda self: len(running)))
        hurry = asyncio.Event()
        if hurried:
            hurry.set()
        await back.drain(feed, 60.0 if hurried else 0.02, hurry)
        await back.close()

    run(main())
    assert fed == [Draining(), DrainTimedOut()]
