import asyncio
import socket
from collections.abc import Iterator

import pytest
import zmq

from homing.engines.zmq_monitor import Monitor
from tests.engines.zmq_people import ANYWHERE, raw
from tests.loops import on_both_loops, run, until

EVENTS = zmq.Event.ACCEPTED | zmq.Event.DISCONNECTED


@pytest.fixture
def router() -> Iterator[zmq.Socket[bytes]]:
    with zmq.Context() as context, context.socket(zmq.ROUTER) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        yield socket


@on_both_loops
async def test_connections_that_come_and_go_are_told_by_their_descriptor(router: zmq.Socket[bytes]) -> None:
    heard: list[tuple[int, int]] = []
    monitor = Monitor(asyncio.get_running_loop(), router.context, router, EVENTS, lambda *event: heard.append(event))
    router.bind(ANYWHERE)
    endpoint = router.getsockopt_string(zmq.LAST_ENDPOINT)
    with raw(endpoint):
        await until(lambda: heard)
    await until(lambda: len(heard) == 2)
    (came, source), (went, same) = heard
    assert (came, went) == (zmq.Event.ACCEPTED, zmq.Event.DISCONNECTED)
    assert source == same
    monitor.close()


def test_a_loop_that_stands_still_holds_up_nobody(router: zmq.Socket[bytes]) -> None:
    """More events than any high-water mark, unread: libzmq's thread goes on, and all of them are told at once later."""

    async def main() -> None:
        heard: list[int] = []
        monitor = Monitor(asyncio.get_running_loop(), router.context, router, EVENTS, lambda event, value: heard.append(event))
        router.bind(ANYWHERE)
        port = int(router.getsockopt_string(zmq.LAST_ENDPOINT).rpartition(":")[2])
        count = 2500
        for _ in range(count):
            socket.create_connection(("127.0.0.1", port)).close()
        with raw(f"tcp://127.0.0.1:{port}") as peer:
            peer.send(b"still there", zmq.SNDMORE)
            peer.send(b"")
            assert router.poll(10_000), "the thread of libzmq waits for the monitor"
        monitor.drain()
        await until(lambda: heard.count(zmq.Event.ACCEPTED) == count + 1)
        monitor.close()

    run(main())


def test_closed_it_tells_nothing(router: zmq.Socket[bytes]) -> None:
    async def main() -> None:
        monitor = Monitor(asyncio.get_running_loop(), router.context, router, EVENTS, lambda event, value: pytest.fail("told"))
        router.bind(ANYWHERE)
        monitor.close()
        with raw(router.getsockopt_string(zmq.LAST_ENDPOINT)) as peer:
            peer.send(b"x")
            assert router.poll(10_000)
        await asyncio.sleep(0.01)

    run(main())
