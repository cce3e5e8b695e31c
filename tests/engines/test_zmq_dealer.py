"""`zmq_dealer`: one that dials; brokers that come, go, come back, and are not there at all."""

import asyncio
import socket
from pathlib import Path

import pytest
import zmq

from homing.core import codec
from homing.core.machine import Event, Expel, Peer
from homing.core.messages import Cancel, Claim, Disconnect, Grant
from homing.engines.zmq import Zmq
from tests.core.people import ONE, A
from tests.engines.zmq_people import ANYWHERE, HERE, Party, couple, met, party
from tests.loops import on_both_loops, run, until


@on_both_loops
async def test_a_broker_that_is_restarted_is_lost_and_found_again() -> None:
    async with party() as worker:
        first = Party(Zmq(asyncio.get_running_loop()))
        endpoint = first.bind()
        there = worker.dial(endpoint)
        await until(lambda: worker.found == [there])
        await met(first, worker, there)
        first.engine.close(0.0)
        await until(lambda: worker.lost == [there])
        worker.say(there, Cancel(A))  # to nobody: nothing keeps it for a broker that does not know what it is about
        assert worker.engine.counts["unreachable"] == 1
        async with party() as second:
            second.bind(endpoint)
            await until(lambda: worker.found == [there, there])
            await met(second, worker, there)
            second.say(second.found[0], Cancel(A))
            await until(lambda: worker.heard == [Cancel(A)])
            assert second.heard == [Disconnect()]


@on_both_loops
async def test_a_broker_may_come_later() -> None:
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        endpoint = f"tcp://127.0.0.1:{reserved.getsockname()[1]}"
    async with party() as worker, party() as broker:
        there = worker.dial(endpoint)
        worker.say(there, Cancel(A))
        assert worker.engine.counts["unreachable"] == 1
        broker.bind(endpoint)
        await until(lambda: worker.found == [there])
        await met(broker, worker, there)
        assert Cancel(A) not in broker.heard


@on_both_loops
async def test_several_brokers_are_told_apart_and_one_may_go() -> None:
    async with party() as worker, party() as stays:
        goes = Party(Zmq(asyncio.get_running_loop()))
        one, other = worker.dial(goes.bind()), worker.dial(stays.bind())
        await until(lambda: set(worker.found) == {one, other})
        worker.say(one, Claim(A, ONE, 1))
        worker.say(other, Claim(A, ONE, 2))
        await until(lambda: goes.heard and stays.heard)
        assert (goes.heard, stays.heard) == ([Claim(A, ONE, 1)], [Claim(A, ONE, 2)])
        goes.engine.close(0.0)
        await until(lambda: worker.lost == [one])
        stays.say(stays.found[0], Grant(A, ONE, 2, 1000))
        await until(lambda: worker.heard == [Grant(A, ONE, 2, 1000)])
        assert worker.lost == [one]


def test_last_words_of_a_broker_are_heard_before_it_is_lost() -> None:
    async def main() -> None:
        async with party() as worker:
            broker = Party(Zmq(asyncio.get_running_loop()))
            there = worker.dial(broker.bind())
            await until(lambda: worker.found)
            here = await met(broker, worker, there)
            said = [Claim(A, ONE, number) for number in range(1000)]
            broker.say(here, *said)
            broker.engine.close(5.0)
            await until(lambda: worker.lost)
            assert worker.heard == said

    run(main())


def test_one_who_sent_junk_through_a_broker_costs_the_others_nothing() -> None:
    async def main() -> None:
        async with party() as worker:
            with zmq.Context() as context, context.socket(zmq.ROUTER) as broker:
                broker.setsockopt(zmq.LINGER, 0)
                broker.bind("tcp://127.0.0.1:*")
                there = worker.dial(broker.getsockopt_string(zmq.LAST_ENDPOINT))
                await until(lambda: worker.found)
                worker.say(there, Disconnect())
                await until(lambda: broker.poll(0))
                here = broker.recv_multipart()[0]
                told: list[int] = []
                tell = worker.engine.tell

                def counting(address: Peer, /, *events: Event) -> None:
                    told.append(len(events))
                    tell(address, *events)

                worker.engine.tell = counting
                broker.send_multipart([here, *codec.encode([Cancel(A)]), b"\xc1", b"", *codec.encode([Grant(A, ONE, 1, 9)])[1:]])
                broker.send_multipart([here, b"noise"])
                broker.send_multipart([here, codec.TAG, b"\xc1", b""])
                broker.send_multipart([here, codec.TAG])  # says nothing, and may
                await until(lambda: len(worker.heard) == 2 and worker.engine.counts.total() == 3)
                assert worker.heard == [Cancel(A), Grant(A, ONE, 1, 9)]
                assert worker.engine.counts == {"header": 2, "version": 1}
                await asyncio.sleep(0.01)
                assert told == [2], "of what says nothing the machine hears nothing"

    run(main())


def test_what_answers_but_is_no_broker_is_told() -> None:
    async def main() -> None:
        async with party() as worker:

            def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
                writer.close()

            server = await asyncio.start_server(answer, "127.0.0.1", 0)
            worker.dial(f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}")
            await until(lambda: worker.engine.counts["handshake"])
            assert not worker.found
            server.close()

    run(main())


def test_a_broker_that_is_expelled_is_heard_no_more() -> None:
    async def main() -> None:
        async with couple() as (broker, worker, there, here):
            worker.do(Expel(there, "it says what no broker says"))
            broker.say(here, Cancel(A))
            await until(lambda: worker.engine.counts["expelled"] == 2)
            worker.say(there, Cancel(A))
            assert worker.engine.counts["unreachable"] == 1
            assert not worker.heard

    run(main())


def test_what_is_no_endpoint_is_told() -> None:
    async def main() -> None:
        async with party() as worker:
            with pytest.raises(OSError, match="cannot dial broker:8372: expected tcp://HOST:PORT"):
                worker.dial("broker:8372")
            assert not worker.engine._desk.outlets.get(HERE)

    run(main())


class Cable:
    """Between one that dials and a broker. Cut, it carries nothing any more, and tells nobody."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.cut = False

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection("127.0.0.1", self.port)
        await asyncio.gather(self.pipe(reader, there[1]), self.pipe(there[0], writer))

    async def pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if not self.cut:
                writer.write(data)
        writer.close()


def test_a_cable_that_is_cut_is_noticed_on_both_sides_within_eight_seconds() -> None:
    async def main() -> None:
        async with party() as broker, party() as worker:
            cable = Cable(int(broker.bind().rpartition(":")[2]))
            async with await asyncio.start_server(cable.carry, "127.0.0.1", 0) as server:
                there = worker.dial(f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}")
                await until(lambda: worker.found)
                here = await met(broker, worker, there)
                cable.cut = True
                server.close()
                async with asyncio.timeout(8.0):
                    await until(lambda: broker.lost == [here] and worker.lost == [there])

    run(main())


@on_both_loops
async def test_a_broker_on_a_path_is_restarted_too(tmp_path: Path) -> None:
    endpoint = f"ipc://{tmp_path}/broker"
    first = Party(Zmq(asyncio.get_running_loop()))
    first.bind(endpoint)
    async with party() as worker, party() as second:
        there = worker.dial(endpoint)
        await until(lambda: worker.found == [there])
        with pytest.raises(OSError, match="it is in use already"):
            second.bind(endpoint)
        first.engine.close(0.0)
        await until(lambda: worker.lost == [there])
        second.bind(endpoint)
        await until(lambda: worker.found == [there, there])
        await met(second, worker, there)


def listening(context: zmq.Context[zmq.Socket[bytes]], endpoint: str) -> zmq.Socket[bytes]:
    """A broker of somebody else's, bound as soon as the address is free, with nobody's loop turning meanwhile."""
    broker = context.socket(zmq.ROUTER)
    broker.setsockopt(zmq.LINGER, 0)
    while True:
        try:
            broker.bind(endpoint)
        except zmq.ZMQError:
            continue
        return broker


def test_a_broker_that_is_back_before_it_was_missed_is_lost_and_found() -> None:
    """The loop stood still while it restarted: both ends of the story are told at once, in their order."""

    async def main() -> None:
        async with party() as worker:
            with zmq.Context() as context:
                first = listening(context, ANYWHERE)
                endpoint = first.getsockopt_string(zmq.LAST_ENDPOINT)
                there = worker.dial(endpoint)
                await until(lambda: worker.found)
                first.close()
                with listening(context, endpoint) as second:
                    monitor = second.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED)
                    assert monitor.poll(10_000), "libzmq's own thread dials again"
                    await until(lambda: len(worker.found) >= 2)
                    assert [type(event).__name__ for event in worker.ears.heard] == ["PeerFound", "PeerLost", "PeerFound"]
                    worker.say(there, Cancel(A))
                    await until(lambda: second.poll(0))
                    assert second.recv_multipart()[1:] == codec.encode([Cancel(A)])
                    second.disable_monitor()
                    monitor.close()
                    assert worker.lost == [there]

    run(main())
