"""The engine of many processes, over real sockets, on both loops."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from homing.core.machine import Event, Peer, PeerFound, Received, Send, Settle, Tick
from homing.core.messages import Cancel, Claim, Disconnect
from homing.driver import Driver
from homing.engines.zmq import Zmq
from tests.core.people import OK, ONE, A
from tests.engines.conformance import Conformance, Ears
from tests.engines.test_memory import Answering
from tests.engines.zmq_people import HERE, couple, party
from tests.engines.zmq_road import ZmqRoad
from tests.loops import LOOPS, on_both_loops, run, until


@pytest.fixture
def curve() -> bool:
    return False


@pytest.fixture(params=list(LOOPS))
def road(request: pytest.FixtureRequest, endpoint: str, curve: bool) -> Iterator[ZmqRoad]:
    loop = LOOPS[request.param]()
    road = ZmqRoad(loop, endpoint, curve=curve)
    yield road
    road.close()
    loop.close()


class OnSockets(Conformance):
    @pytest.fixture
    def road(self, road: ZmqRoad) -> ZmqRoad:
        return road

    def soon(self) -> float:
        return time.monotonic() + 30.0


class TestOverTcp(OnSockets):
    @pytest.fixture
    def endpoint(self) -> str:
        return "tcp://127.0.0.1:*"


class TestOverIpc(OnSockets):
    @pytest.fixture
    def endpoint(self, tmp_path: Path) -> str:
        return f"ipc://{tmp_path}/broker"


class TestUnderCurve(TestOverTcp):
    @pytest.fixture
    def curve(self) -> bool:
        return True


def test_machines_of_one_process_are_joined_in_memory() -> None:
    """As a broker's with a gateway beside it: no socket, one instant, and straight ways."""

    async def main() -> None:
        async with party() as here:
            engine, acted = here.engine, here.acted
            asks = Answering(
                {
                    Tick(): [
                        Send(b"there", Cancel(A)),
                        Send(b"there", Claim(A, ONE, 1)),
                        Settle(A, OK),
                        Send(b"nobody", Cancel(A)),
                    ]
                },
                deadline=5.0,
            )
            there, third = Answering(), Answering()
            for address, machine in ((b"asks", asks), (b"there", there), (b"third", third)):
                engine.attach(address, machine, acted.append)
            engine.straight(Claim, b"asks", b"third")
            engine.connect(b"asks", b"there", 1.0)
            assert engine.next_deadline() == 5.0
            engine.tick(5.0)
            assert there.heard == [(1.0, PeerFound(b"asks")), (5.0, Received(b"asks", Cancel(A)))]
            assert third.heard == [(5.0, Received(b"asks", Claim(A, ONE, 1)))]
            assert acted == [Settle(A, OK)]
            assert engine.counts == {"unreachable": 1}

    run(main())


@on_both_loops
async def test_what_sockets_bring_arms_the_timer() -> None:
    """A machine that is due because of what a peer said is told in time, with nobody else to wake the loop."""

    class Waits(Ears):
        due: float | None = None

        def handle(self, event: Event, now: float) -> list[object]:  # type: ignore[override]
            super().handle(event, now)
            self.due = now + 0.01 if isinstance(event, Received) else None
            return []

        def next_deadline(self) -> float | None:
            return self.due

    loop = asyncio.get_running_loop()
    station, machine = Zmq(loop), Waits()
    driver = Driver(station, loop)
    station.tell = driver.feed
    assert station.tell == driver.feed
    station.attach(HERE, machine, lambda action: None)  # type: ignore[arg-type]
    async with party() as worker:
        there = worker.dial(station.bind(HERE, "tcp://127.0.0.1:*"))
        await until(lambda: worker.found)
        worker.say(there, Disconnect())
        await until(lambda: Tick() in machine.heard)
    driver.close()
    station.close(0.0)


def test_a_broker_is_dialled_once() -> None:
    async def main() -> None:
        async with couple() as (_, worker, there, _), party() as other:
            with pytest.raises(ValueError, match="is dialled already; say each broker once"):
                worker.dial(there.decode())
            assert other.dial(there.decode()) == there

    run(main())


@on_both_loops
async def test_a_name_is_dialled_too() -> None:
    async with party() as broker, party() as worker:
        port = broker.bind().rpartition(":")[2]
        there: Peer = worker.dial(f"tcp://localhost:{port}")
        await until(lambda: worker.found == [there])
        worker.say(there, Cancel(A))
        await until(lambda: broker.heard == [Cancel(A)])
        broker.engine.close(0.0)
        await until(lambda: worker.lost == [there])


def test_after_it_is_closed_nothing_is_kept() -> None:
    async def main() -> None:
        async with couple() as (broker, _, _, here):
            broker.engine.close(0.0)
            broker.say(here, Cancel(A))
            assert broker.engine.counts == {"unreachable": 1}
            assert broker.engine.held_bytes == 0
            broker.engine.feed(HERE, Tick(), 1.0)
            assert broker.ears.heard[-1] == Tick()

    run(main())
