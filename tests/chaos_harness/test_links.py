"""A cable passes bytes on, and can be cut at each of them."""

import asyncio

import pytest

from chaos.links import Link
from tests.loops import run, until


class Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data.upper())


async def linked() -> tuple[Link, asyncio.Server, asyncio.StreamReader, asyncio.StreamWriter]:
    server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", 0)
    link = Link("one", server.sockets[0].getsockname()[1])
    await link.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", link.port)
    writer.write(b"hello")
    assert await reader.readexactly(5) == b"HELLO"
    return link, server, reader, writer


async def ended(reader: asyncio.StreamReader) -> bytes:
    """All that still comes before the connection is reset."""
    got = b""
    try:
        while chunk := await reader.read(100):
            got += chunk
    except ConnectionResetError:
        return got
    return got


def test_a_cut_resets_and_a_new_connection_is_taken() -> None:
    async def main() -> None:
        link, server, reader, writer = await linked()
        link.cut()
        assert await ended(reader) == b""
        writer.transport.abort()
        reader, writer = await asyncio.open_connection("127.0.0.1", link.port)
        writer.write(b"again")
        assert await reader.readexactly(5) == b"AGAIN"
        await link.close()
        server.close()
        await asyncio.sleep(0.01)  # what was aborted is closed by then

    run(main())


@pytest.mark.parametrize("count", [0, 1, 4, 9])
def test_a_cut_at_a_byte_lets_just_so_many_through(count: int) -> None:
    async def main() -> None:
        link, server, reader, writer = await linked()
        link.cut_after("down", count)
        writer.write(b"0123456789")
        assert await ended(reader) == b"0123456789"[:count]
        writer.transport.abort()
        await link.close()
        server.close()
        await asyncio.sleep(0.01)  # what was aborted is closed by then

    run(main())


def test_a_stalled_cable_says_nothing_and_loses_nothing() -> None:
    async def main() -> None:
        link, server, reader, writer = await linked()
        link.stall()
        writer.write(b"later")
        waiting = asyncio.ensure_future(reader.readexactly(5))
        done, _ = await asyncio.wait([waiting], timeout=0.2)
        assert not done
        link.mend()
        assert await waiting == b"LATER"
        writer.transport.abort()
        await link.close()
        server.close()
        await asyncio.sleep(0.01)  # what was aborted is closed by then

    run(main())


@pytest.mark.parametrize("count", [0, 1, 4, 9])
def test_a_stall_at_a_byte_lets_just_so_many_through_and_the_rest_later(count: int) -> None:
    async def main() -> None:
        link, server, reader, writer = await linked()
        link.end_after("stall", "down", count)
        writer.write(b"0123456789")
        assert await reader.readexactly(count) == b"0123456789"[:count]
        waiting = asyncio.ensure_future(reader.readexactly(10 - count))
        done, _ = await asyncio.wait([waiting], timeout=0.1)
        assert not done
        link.mend()
        assert await waiting == b"0123456789"[count:]
        writer.transport.abort()
        await link.close()
        server.close()
        await asyncio.sleep(0.01)  # what was aborted is closed by then

    run(main())


def test_a_dead_connection_stays_dead_and_a_new_one_is_taken() -> None:
    async def main() -> None:
        link, server, reader, writer = await linked()
        link.end_after("deaden", "down", 2)
        writer.write(b"0123456789")
        assert await reader.readexactly(2) == b"01"
        other_reader, other = await asyncio.open_connection("127.0.0.1", link.port)
        other.write(b"again")
        assert await other_reader.readexactly(5) == b"AGAIN"
        link.mend()
        waiting = asyncio.ensure_future(reader.read(100))
        done, _ = await asyncio.wait([waiting], timeout=0.1)
        assert not done
        other.transport.abort()
        await until(lambda: len(link.joins) == 1)
        writer.transport.abort()
        await asyncio.sleep(0.05)
        assert len(link.joins) == 1, "the far end has heard of it"
        await link.close()
        assert not await waiting
        server.close()
        await asyncio.sleep(0.01)  # what was aborted is closed by then

    run(main())
