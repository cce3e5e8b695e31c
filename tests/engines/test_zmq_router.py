"""Peers of every kind behind one ROUTER: good ones, silent ones, deaf ones, and those that send junk."""

import asyncio
import os
import socket
from pathlib import Path

import pytest
import zmq

from homing.core import codec
from homing.core.machine import Expel, Peer
from homing.core.messages import Cancel, Claim, Disconnect, Hello
from homing.engines import zmq_socket
from homing.engines.zmq_router import FRAMES_MAX
from homing.engines.zmq_socket import SLACK_BYTES
from tests.core.people import GATEWAY, ONE, A, request
from tests.engines.zmq_people import HERE, Keys, couple, hear_raw, met, party, raw, say_raw
from tests.loops import on_both_loops, run, until


@on_both_loops
async def test_a_peer_is_found_before_its_first_message_and_lost_after_its_last() -> None:
    async with party() as broker:
        endpoint = broker.bind()
        with raw(endpoint, LINGER=1000) as peer:
            say_raw(peer, Hello(GATEWAY), Cancel(A))
        await until(lambda: broker.lost)
        assert [type(event).__name__ for event in broker.ears.heard] == ["PeerFound", "Received", "Received", "PeerLost"]
        assert broker.found == broker.lost


def test_last_words_of_many_that_leave_at_once_are_heard_and_each_is_lost_once() -> None:
    """The end of a connection is told on another way than what came by it: whichever is first, nothing is lost and nobody stays."""

    async def main() -> None:
        async with party() as broker:
            endpoint = broker.bind()
            count = 100
            for number in range(count):
                with raw(endpoint, LINGER=1000) as peer:
                    say_raw(peer, Claim(A, ONE, number))
            await until(lambda: len(broker.lost) == count)
            assert {message.claim for message in broker.heard if isinstance(message, Claim)} == set(range(count))
            assert broker.found == list(dict.fromkeys(broker.found))
            assert set(broker.lost) == set(broker.found)
            assert not broker.engine._desk.outlets[HERE]

    run(main())


@pytest.mark.parametrize("kind", ["tcp", "ipc"])
def test_who_comes_after_goes_on_with_the_socket_that_was_opened_for_both(kind: str, tmp_path: Path) -> None:
    async def main() -> None:
        opened = socket.create_server(("127.0.0.1", 0)) if kind == "tcp" else socket.socket(socket.AF_UNIX)
        if kind == "ipc":
            opened.bind(str(tmp_path / "b"))
            opened.listen()
        endpoint = f"tcp://127.0.0.1:{opened.getsockname()[1]}" if kind == "tcp" else f"ipc://{tmp_path / 'b'}"
        async with party() as worker:
            there = worker.dial(endpoint)
            async with party(opened={endpoint: os.dup(opened.fileno())}) as first:
                assert first.bind(endpoint) == endpoint
                await until(lambda: worker.found)  # it had dialled before anybody accepted
                await met(first, worker, there)
            await until(lambda: worker.lost)
            async with party(opened={endpoint: os.dup(opened.fileno())}) as second:
                second.bind(endpoint)
                await until(lambda: len(worker.found) >= 2)
                await met(second, worker, there)
                async with party(opened={endpoint: os.dup(opened.fileno())}) as third:
                    third.bind(endpoint)  # while the second is still there
                    second.engine.close(0.0)
                    await until(lambda: len(worker.found) >= 3)
                    await met(third, worker, there)
        opened.close()

    run(main())


def test_a_message_without_pairs_says_nothing_but_that_its_sender_is_there() -> None:
    async def main() -> None:
        async with party() as broker:
            with raw(broker.bind()) as peer:
                peer.send(codec.TAG)
                await until(lambda: broker.found)
                assert not broker.heard
                assert not broker.engine.counts

    run(main())


@on_both_loops
async def test_a_thousand_that_say_nothing_are_not_felt() -> None:
    async with couple() as (broker, worker, there, here):
        port = int(there.decode().rpartition(":")[2])
        silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(1000)]
        worker.say(there, Cancel(A))
        broker.say(here, Cancel(A))
        await until(lambda: Cancel(A) in broker.heard and Cancel(A) in worker.heard)
        assert broker.found == [here]
        for each in silent:
            each.close()
        worker.say(there, Claim(A, ONE, 1))
        await until(lambda: Claim(A, ONE, 1) in broker.heard)
        assert not broker.lost


JUNK: dict[str, tuple[list[bytes], str]] = {
    "a tag and a header": ([codec.TAG, b"\x92"], "frames"),
    "no msgpack": ([codec.TAG, b"\xc1", b""], "header"),
    "an unknown type": ([codec.TAG, b"\x91\x63", b""], "type"),
    "a later protocol": ([b"HOM2", b"\x91\x01", b""], "foreign"),
    "nothing": ([b""], "foreign"),
    "noise": ([b"\x00\xff" * 100, b"x"], "foreign"),
    "a call_id that is none": ([codec.TAG, b"\x92\x03\xc4\x01x", b""], "field"),
    "a body where none belongs": ([codec.TAG, *codec.pair(Cancel(A))[:1], b"x"], "body"),
    "more frames than anybody sends": ([codec.TAG, *[b""] * FRAMES_MAX], "frames"),
    "very many frames": ([codec.TAG, *[b""] * (5 * FRAMES_MAX)], "frames"),
}


@pytest.mark.parametrize("name", list(JUNK))
def test_junk_is_counted_and_told_once_and_nobody_else_feels_it(name: str) -> None:
    frames, kind = JUNK[name]

    async def main() -> None:
        told: list[tuple[str, str]] = []
        async with party(warn=lambda kind, sentence: told.append((kind, sentence))) as broker, party() as worker:
            endpoint = broker.bind()
            there = worker.dial(endpoint)
            await until(lambda: worker.found)
            here = await met(broker, worker, there)
            with raw(endpoint) as peer:
                for _ in range(3):
                    peer.send_multipart(frames)
                await until(lambda: broker.engine.counts[kind] == 3)
                say_raw(peer, Hello(GATEWAY))  # the connection stands, and the next message is read
                await until(lambda: Hello(GATEWAY) in broker.heard)
            assert broker.engine.counts.total() == 3
            assert len(told) <= 1
            worker.say(there, Cancel(A))
            await until(lambda: Cancel(A) in broker.heard)
            assert here not in broker.lost

    run(main())


def test_a_message_with_junk_in_it_is_dropped_as_a_whole() -> None:
    async def main() -> None:
        async with party() as broker:
            with raw(broker.bind()) as peer:
                peer.send_multipart([*codec.encode([Cancel(A)]), b"\xc1", b""])
                say_raw(peer, Disconnect())
                await until(lambda: broker.heard)
                assert broker.heard == [Disconnect()]

    run(main())


def test_a_frame_too_large_ends_its_connection_and_no_other() -> None:
    async def main() -> None:
        async with couple(frame_bytes_max=100_000) as (broker, worker, there, here):
            with raw(there.decode(), IMMEDIATE=1) as peer:
                say_raw_until_sent(peer)
                await until(lambda: len(broker.found) >= 2)
                peer.send_multipart([codec.TAG, b"h", b"x" * (100_000 + SLACK_BYTES + 1)])
                await until(lambda: broker.lost == broker.found[1:2])
            worker.say(there, request(A, body=b"x" * 100_000))
            await until(lambda: request(A, body=b"x" * 100_000) in broker.heard)
            assert here not in broker.lost

    def say_raw_until_sent(peer: zmq.Socket[bytes]) -> None:
        assert peer.poll(5000, zmq.POLLOUT)
        say_raw(peer, Disconnect())

    run(main())


def test_a_routing_id_that_a_peer_chose_is_no_address_of_ours() -> None:
    """Somebody who calls itself as a machine of this process is called is not taken for it."""

    async def main() -> None:
        async with party() as broker:
            with raw(broker.bind(), ROUTING_ID=HERE) as peer:
                say_raw(peer, Cancel(A))
                await until(lambda: broker.found)
                assert broker.found != [HERE]
                broker.say(broker.found[0], Cancel(A))
                await until(lambda: hear_raw(peer) == codec.encode([Cancel(A)]))

    run(main())


def test_two_with_one_routing_id_are_not_mixed_up() -> None:
    async def main() -> None:
        async with party() as broker:
            endpoint = broker.bind()
            with raw(endpoint, ROUTING_ID=b"twin") as first:
                say_raw(first, Claim(A, ONE, 1))
                await until(lambda: broker.found)
                with raw(endpoint, ROUTING_ID=b"twin") as second:
                    say_raw(second, Claim(A, ONE, 2))
                    broker.say(broker.found[0], Cancel(A))
                    heard = None
                    while heard is None:
                        await until(lambda: first.poll(0))
                        heard = hear_raw(first)
                    assert heard == codec.encode([Cancel(A)])
                    assert hear_raw(second) is None
            await until(lambda: broker.lost)
            assert broker.lost == broker.found[:1]

    run(main())


def test_who_is_expelled_is_heard_no_more_until_it_comes_back() -> None:
    async def main() -> None:
        async with party() as broker:
            endpoint = broker.bind()
            with raw(endpoint) as peer:
                say_raw(peer, Disconnect())
                await until(lambda: broker.found)
                (bad,) = broker.found
                broker.do(Expel(bad, "it answers twice"))
                say_raw(peer, Cancel(A))
                await until(lambda: broker.engine.counts["expelled"] == 2)
                broker.say(bad, Cancel(A))
                assert broker.engine.counts["unreachable"] == 1
                assert broker.heard == [Disconnect()]
            with raw(endpoint) as peer:
                say_raw(peer, Cancel(A))
                await until(lambda: Cancel(A) in broker.heard)
            await until(lambda: broker.lost)
            assert bad not in broker.lost

    run(main())


class Neighbour:
    """Takes frames that begin with MDP, as a Majordomo neighbour would."""

    def __init__(self) -> None:
        self.heard: list[tuple[Peer, list[bytes], str]] = []
        self.gone: list[Peer] = []

    def received(self, peer: Peer, frames: list[bytes], user: str) -> bool:
        if not any(frame.startswith(b"MDP") for frame in frames):
            return False
        self.heard.append((peer, frames, user))
        return True

    def lost(self, peer: Peer) -> None:
        self.gone.append(peer)


@on_both_loops
async def test_another_protocol_is_handed_over_and_answered_on_the_same_socket() -> None:
    neighbour = Neighbour()
    async with party() as broker:
        with raw(broker.bind(foreign=neighbour)) as peer:
            frames = [b"", b"MDPW01", b"\x01", b"echo"]
            peer.send_multipart(frames)
            await until(lambda: neighbour.heard)
            ((here, heard, user),) = neighbour.heard
            assert (heard, user) == (frames, "")
            assert not broker.found
            broker.engine.send_frames(HERE, here, [b"", b"MDPW01", b"\x04"])
            await until(lambda: hear_raw(peer) == [b"", b"MDPW01", b"\x04"])
            peer.send_multipart([b"nobody's"])
            await until(lambda: broker.engine.counts["foreign"] == 1)
            say_raw(peer, Cancel(A))
            await until(lambda: broker.heard == [Cancel(A)])
        await until(lambda: neighbour.gone == [here])


def test_where_no_machine_is_attached_only_the_other_protocol_is_spoken() -> None:
    neighbour = Neighbour()

    async def main() -> None:
        async with party() as gateway:
            endpoint = gateway.engine.bind(b"majordomo", "tcp://127.0.0.1:*", foreign=neighbour)
            with raw(endpoint) as peer:
                say_raw(peer, Claim(A, ONE, 1))
                await until(lambda: gateway.engine.counts["foreign"] == 1)
                peer.send_multipart([b"MDPC01", b"echo", b"{}"])
                await until(lambda: neighbour.heard)
                gateway.engine.send_frames(b"majordomo", neighbour.heard[0][0], [b"MDPC01", b"echo", b"1"])
                await until(lambda: hear_raw(peer) == [b"MDPC01", b"echo", b"1"])
                assert not gateway.heard

    run(main())


@pytest.mark.parametrize("keys", [None, Keys()], ids=["plain", "curve"])
def test_a_connection_that_ends_within_a_handshake_is_counted(keys: Keys | None) -> None:
    async def main() -> None:
        async with party() as broker:
            endpoint = broker.bind(curve=keys.letting_in() if keys else None)
            while not broker.engine.counts["handshake"]:  # one that ends before it is accepted was never there
                socket.create_connection(("127.0.0.1", int(endpoint.rpartition(":")[2]))).close()
                await asyncio.sleep(0.05)
            assert not broker.found

    run(main())


def test_a_connection_that_never_says_who_it_is_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zmq_socket, "HANDSHAKE_MS", 200)

    async def main() -> None:
        async with party() as broker:
            port = int(broker.bind().rpartition(":")[2])
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            assert (await reader.read())[:1] == b"\xff"  # its greeting, and then the end
            writer.close()

    run(main())


@on_both_loops
async def test_a_word_to_one_who_is_gone_tells_that_it_is_gone() -> None:
    """Before the monitor does: the loop does not turn in between."""
    neighbour = Neighbour()
    async with party() as broker:
        endpoint = broker.bind(foreign=neighbour)
        with raw(endpoint) as peer:
            say_raw(peer, Disconnect())
            peer.send_multipart([b"", b"MDPW01", b"\x04"])
            await until(lambda: broker.heard and neighbour.heard)
        while not broker.lost:
            broker.say(broker.found[0], Cancel(A))
            broker.engine._desk.flush()
        assert broker.lost == broker.found == neighbour.gone
        await asyncio.sleep(2 * zmq_socket.LAST_WORDS_S)  # and when the monitor tells, nobody is told again
        assert len(broker.lost) == len(neighbour.gone) == 1
