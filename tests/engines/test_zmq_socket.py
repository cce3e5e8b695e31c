import asyncio
import itertools
import time
from collections.abc import Iterator

import pytest
import zmq

from homing.engines.zmq_socket import FRAMES_PER_TURN, TURN_S, Reader, new_socket
from tests.loops import on_both_loops, run, until

BOUNDS = ("HEARTBEAT_IVL", "HEARTBEAT_TIMEOUT", "HEARTBEAT_TTL", "LINGER", "MAXMSGSIZE", "RCVHWM", "SNDHWM")
Pair = tuple[zmq.Socket[bytes], zmq.Socket[bytes]]


@pytest.fixture
def pair() -> Iterator[Pair]:
    with zmq.Context() as context, context.socket(zmq.PAIR) as one, context.socket(zmq.PAIR) as other:
        for each in (one, other):
            each.setsockopt(zmq.LINGER, 0)
            each.set_hwm(0)
        one.bind("inproc://pair")
        other.connect("inproc://pair")
        yield one, other


class Reading:
    """Keeps what it reads, one frame a message."""

    def __init__(self, socket: zmq.Socket[bytes]) -> None:
        self.read: list[bytes] = []
        self.reader = Reader(asyncio.get_running_loop(), socket, self.receive)

    def receive(self) -> int:
        self.read.append(self.reader.recv())
        return 1


@on_both_loops
async def test_what_came_before_there_was_a_reader_is_read(pair: Pair) -> None:
    one, other = pair
    other.send(b"early")
    reading = Reading(one)
    await until(lambda: reading.read == [b"early"])
    reading.reader.close()


@on_both_loops
async def test_everything_is_read_though_the_descriptor_tells_only_once(pair: Pair) -> None:
    one, other = pair
    reading = Reading(one)
    for batch in range(5):
        for number in range(100):
            other.send(b"%d" % number)
        expected = 100 * (batch + 1)
        await until(lambda expected=expected: len(reading.read) == expected)  # type: ignore[misc]
    reading.reader.close()


@on_both_loops
async def test_after_sends_one_looks_again(pair: Pair) -> None:
    """A send swallows the news that something has come: without `look` this would hang."""
    one, other = pair
    reading = Reading(one)
    await asyncio.sleep(0)
    other.send(b"news")
    assert int(one.get(zmq.EVENTS)) & zmq.POLLIN  # as a send would, this takes the news from the descriptor
    reading.reader.look()
    await until(lambda: reading.read == [b"news"])
    reading.reader.close()


def test_a_flood_does_not_starve_the_loop(pair: Pair) -> None:
    one, other = pair

    async def main() -> None:
        reading = Reading(one)
        count = 3 * FRAMES_PER_TURN + 1
        for _ in range(count):
            other.send(b"x")
        between: list[int] = []

        def turn() -> None:
            between.append(len(reading.read))
            if len(reading.read) < count:
                asyncio.get_running_loop().call_soon(turn)

        turn()
        await until(lambda: len(reading.read) == count)
        assert max(later - earlier for earlier, later in itertools.pairwise(between)) <= FRAMES_PER_TURN
        reading.reader.close()

    run(main())


def test_frames_that_make_much_work_do_not_either(pair: Pair) -> None:
    one, other = pair

    async def main() -> None:
        read: list[bytes] = []

        def receive() -> int:
            read.append(reader.recv())
            time.sleep(TURN_S / 5)
            return 1

        reader = Reader(asyncio.get_running_loop(), one, receive)
        for _ in range(40):
            other.send(b"x")
        between: list[int] = []

        def turn() -> None:
            between.append(len(read))
            if len(read) < 40:
                asyncio.get_running_loop().call_soon(turn)

        turn()
        await until(lambda: len(read) == 40)
        assert max(later - earlier for earlier, later in itertools.pairwise(between)) <= 5
        for _ in range(20):
            other.send(b"x")
        reader.drain()  # who asks for all of it now gets it
        assert len(read) == 60
        reader.close()

    run(main())


def test_a_listener_that_raises_stops_nothing(pair: Pair) -> None:
    one, other = pair

    async def main() -> None:
        reported: list[object] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: reported.append(context["exception"]))
        read: list[bytes] = []

        def receive() -> int:
            read.append(reader.recv())
            if read[-1] == b"bad":
                raise RuntimeError("a fault of the machine")
            return 1

        reader = Reader(loop, one, receive)
        other.send(b"bad")
        other.send(b"good")
        await until(lambda: read == [b"bad", b"good"])
        assert [str(error) for error in reported] == ["a fault of the machine"]
        reader.close()

    run(main())


def test_closed_it_reads_no_more(pair: Pair) -> None:
    one, other = pair

    async def main() -> None:
        reading = Reading(one)
        other.send(b"x")
        reading.reader.close()
        reading.reader.close()
        reading.reader.drain()
        reading.reader.look()
        await asyncio.sleep(0.05)
        assert not reading.read

    run(main())


@pytest.mark.parametrize("kind", [zmq.ROUTER, zmq.DEALER], ids=["router", "dealer"])
def test_every_bound_is_set(kind: int) -> None:
    with zmq.Context() as context, new_socket(context, kind, frame_bytes_max=1000) as socket:
        options = {name: int(socket.get(getattr(zmq, name))) for name in BOUNDS}
    assert 1000 < options["MAXMSGSIZE"] < 100_000
    assert options["SNDHWM"] > 0
    assert options["RCVHWM"] > 0
    assert options["LINGER"] == 0
    assert (options["HEARTBEAT_IVL"], options["HEARTBEAT_TIMEOUT"], options["HEARTBEAT_TTL"]) == (1500, 5000, 6500)
