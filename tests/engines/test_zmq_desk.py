"""`zmq_desk`: when what was said leaves, as how many messages, and what becomes of it when nobody reads."""

import asyncio
import resource

import zmq

from homing.core import codec
from homing.core.messages import Cancel, Claim, Disconnect
from homing.engines.zmq_desk import Outlet
from homing.engines.zmq_outbox import HELD_BYTES_MAX
from homing.engines.zmq_socket import Reader
from tests.core.people import ONE, A, request
from tests.engines.zmq_people import ANYWHERE, HERE, couple, hear_raw, met, party, raw, say_raw
from tests.loops import on_both_loops, run, until


@on_both_loops
async def test_all_that_is_said_in_one_turn_leaves_as_one_message() -> None:
    async with party() as broker:
        with raw(broker.bind()) as peer:
            say_raw(peer, Disconnect())
            await until(lambda: broker.found)
            (here,) = broker.found
            said = [Claim(A, ONE, number) for number in range(100)]
            for message in said:
                broker.say(here, message)
            await until(lambda: peer.poll(0))
            assert hear_raw(peer) == codec.encode(said)
            await asyncio.sleep(0.01)
            assert hear_raw(peer) is None


def test_more_than_one_message_holds_arrives_in_order() -> None:
    async def main() -> None:
        async with couple() as (broker, worker, there, here):
            said = [Claim(A, ONE, number) for number in range(5000)]
            broker.say(here, *said)
            worker.say(there, *said)
            await until(lambda: len(worker.heard) >= 5000 and len(broker.heard) >= 5000)
            assert worker.heard == said
            assert [message for message in broker.heard if isinstance(message, Claim)] == said

    run(main())


def test_both_talk_at_once_and_nothing_is_overlooked() -> None:
    """A send swallows the news that something has come: a ping-pong on two busy sockets would stand still."""

    async def main() -> None:
        async with couple() as (broker, worker, there, here):
            for number in range(300):
                broker.say(here, Claim(A, ONE, number))
                worker.say(there, Claim(A, ONE, number))
                if not number % 7:
                    await asyncio.sleep(0)
            await until(lambda: len(worker.heard) == 300 and len(broker.heard) == 301)

    run(main())


def test_a_fault_on_hearing_that_a_peer_is_gone_keeps_nothing_from_the_others() -> None:
    """That a peer is gone is found when something is sent to it, in the middle of what is for others."""

    async def main() -> None:
        async with party() as broker:
            with raw(broker.bind()) as peer:
                faults: list[object] = []
                asyncio.get_running_loop().set_exception_handler(lambda loop, context: faults.append(context["exception"]))
                say_raw(peer, Disconnect())
                await until(lambda: broker.found)
                (here,) = broker.found
                desk = broker.engine._desk
                gone = Outlet(Raising(desk.outlets[HERE][here].line.reader), b"gone")
                desk.outlets[HERE][b"gone"] = gone
                for _ in range(2):
                    broker.say(b"gone", Disconnect())
                    broker.say(here, Disconnect())
                    await until(lambda: peer.poll(0))
                    assert hear_raw(peer) == codec.encode([Disconnect()])
                await until(lambda: len(faults) == 2)

    run(main())


class Raising:
    """A line that finds a peer gone, and raises what its machine raises on hearing that."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader

    def push(self, outlet: Outlet) -> bool:
        raise RuntimeError("a fault of the machine")


def test_a_peer_that_never_reads_costs_a_bounded_memory_and_nobody_else_feels_it() -> None:
    async def main() -> None:
        told: list[str] = []
        async with party(warn=lambda kind, sentence: told.append(sentence)) as broker, party() as worker:
            endpoint = broker.bind()
            there = worker.dial(endpoint)
            await until(lambda: worker.found)
            here = await met(broker, worker, there)
            with raw(endpoint, RCVHWM=1, RCVBUF=4096) as deaf:
                say_raw(deaf, Disconnect())
                await until(lambda: len(broker.found) >= 2)
                before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
                body = b"x" * 50_000
                count = 0
                while not broker.engine.counts["full"]:
                    broker.say(broker.found[1], request(A, body=body))
                    count += 1
                    await asyncio.sleep(0)
                assert count * len(body) > HELD_BYTES_MAX
                for _ in range(1000):
                    broker.say(broker.found[1], request(A, body=body))
                grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib
                assert grown_kib < 256 * 1024
                assert broker.engine.held_bytes <= HELD_BYTES_MAX
                assert len(told) == 1
                assert told[0].startswith("A peer does not read")
                broker.say(here, Cancel(A))
                await until(lambda: worker.heard == [Cancel(A)])
                assert not broker.lost
            await until(lambda: broker.lost == broker.found[1:])
            assert broker.engine.held_bytes == 0

    run(main())


def test_frames_of_another_protocol_are_bounded_too() -> None:
    async def main() -> None:
        async with party() as broker:
            with raw(broker.bind(), RCVHWM=1, RCVBUF=4096) as deaf:
                say_raw(deaf, Disconnect())
                await until(lambda: broker.found)
                frames = [b"", b"MDPC01", b"echo", b"x" * 50_000]
                await until(lambda: not broker.engine.send_frames(HERE, broker.found[0], frames))
                assert broker.engine.counts == {"full": 1}
                assert broker.engine.held_bytes <= HELD_BYTES_MAX
            await until(lambda: broker.lost)
            assert not broker.engine.send_frames(HERE, broker.found[0], frames)
            assert broker.engine.counts == {"full": 1, "unreachable": 1}

    run(main())


def test_a_broker_that_reads_again_gets_what_waited() -> None:
    async def main() -> None:
        async with party() as worker:
            with zmq.Context() as context, context.socket(zmq.ROUTER) as slow:
                for option, value in ((zmq.LINGER, 0), (zmq.RCVHWM, 1), (zmq.RCVBUF, 4096)):
                    slow.setsockopt(option, value)
                slow.bind(ANYWHERE)
                there = worker.dial(slow.getsockopt_string(zmq.LAST_ENDPOINT))
                await until(lambda: worker.found)
                body = b"x" * 50_000
                count = 0
                while not worker.engine._desk._blocked:
                    worker.say(there, request(A, body=body))
                    count += 1
                    await asyncio.sleep(0)
                heard = 0
                while heard < count:
                    await until(lambda: slow.poll(0))
                    heard += len(codec.decode(slow.recv_multipart()[1:]))
                assert not worker.engine.counts

    run(main())


def test_a_peer_that_reads_again_gets_what_waited() -> None:
    async def main() -> None:
        async with party() as broker:
            with raw(broker.bind(), RCVHWM=1, RCVBUF=4096) as slow:
                say_raw(slow, Disconnect())
                await until(lambda: broker.found)
                body = b"x" * 50_000
                count = 0
                while not broker.engine._desk._blocked:
                    broker.say(broker.found[0], request(A, body=body))
                    count += 1
                    await asyncio.sleep(0)
                heard = 0
                while heard < count:
                    await until(lambda: slow.poll(0))
                    heard += len(codec.decode(slow.recv_multipart()))
                await until(lambda: not broker.engine._desk.waits())
                assert broker.engine.held_bytes == 0
                assert not broker.engine.counts

    run(main())


def test_what_would_end_the_connection_is_not_sent() -> None:
    async def main() -> None:
        async with couple(frame_bytes_max=1000) as (broker, worker, _, here):
            broker.say(here, request(A, body=b"x" * 1001), Cancel(A))
            await until(lambda: worker.heard == [Cancel(A)])
            assert broker.engine.counts == {"size": 1}

    run(main())


def test_what_was_said_leaves_before_the_engine_closes() -> None:
    async def main() -> None:
        async with party() as broker:
            endpoint = broker.bind()
            async with party() as worker:
                there = worker.dial(endpoint)
                await until(lambda: worker.found)
                said = [Claim(A, ONE, number) for number in range(1000)]
                worker.say(there, *said)
                worker.engine.close(5.0)
                worker.engine.close(5.0)
            await until(lambda: broker.lost)
            assert broker.heard == said

    run(main())


def test_closing_waits_no_longer_than_it_was_told_for_one_that_does_not_read() -> None:
    async def main() -> None:
        async with party() as broker:
            with raw(broker.bind(), RCVHWM=1, RCVBUF=4096) as deaf:
                say_raw(deaf, Disconnect())
                await until(lambda: broker.found)
                while not broker.engine.counts["full"]:
                    broker.say(broker.found[0], request(A, body=b"x" * 50_000))
                    await asyncio.sleep(0)
                broker.engine.close(0.05)  # would not come back
                broker.say(broker.found[0], Cancel(A))  # and nobody is surprised by a late word

    run(main())
