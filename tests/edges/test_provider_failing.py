"""homing.edges.provider: everything a provider may do after a byte of the request was written."""

import asyncio
import gzip
import zlib

import pytest

from homing.core.exchange import HttpRequest, HttpResponse
from tests.asking import OK, ask, calling, failed
from tests.loops import on_both_loops, until
from tests.scripted import ScriptedProvider, Visit, response


@on_both_loops
async def test_never_answered() -> None:
    async def script(visit: Visit) -> None:
        await visit.end()

    async with ScriptedProvider(script) as there, calling(there.port) as provider:
        message = failed(await ask(provider, timeout_s=0.03), "timed_out", "unknown").message
        assert message == f"127.0.0.1:{there.port}: the deadline passed before a response came"
        await until(lambda: provider.connections == 0)


@on_both_loops
@pytest.mark.parametrize("start_with", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"])
async def test_a_drip_does_not_escape_the_deadline(start_with: bytes) -> None:
    async def script(visit: Visit) -> None:
        await visit.request()
        visit.send(start_with or b"HTTP/1.1 200 OK\r\n")
        while True:
            visit.send(b"X: y\r\n")
            await asyncio.sleep(0.001)

    async with ScriptedProvider(script) as there, calling(there.port) as provider:
        result = await ask(provider, timeout_s=0.05)
        failed(result, "timed_out", "unknown", 200 if start_with.endswith(b"\r\n\r\n") else None)


@on_both_loops
async def test_an_answer_after_the_deadline_answers_nobody() -> None:
    may_answer = asyncio.Event()

    async def script(visit: Visit) -> None:
        asked = await visit.request()
        if visit.number == 0:
            await may_answer.wait()
        visit.send(response(asked.body))

    async with ScriptedProvider(script) as there, calling(there.port) as provider:
        failed(await ask(provider, HttpRequest("POST", "/", (), b"late"), timeout_s=0.02), "timed_out", "unknown")
        may_answer.set()
        result = await ask(provider, HttpRequest("POST", "/", (), b"next"))
        assert isinstance(result, HttpResponse)
        assert result.body == b"next"
        assert len(there.visits) == 2


LOST = {
    "at once": b"",
    "within the status line": b"HTTP/1.1 20",
    "within the headers": b"HTTP/1.1 200 OK\r\nContent-Le",
    "after the headers": b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n",
    "within the body": b'HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n{"ok"',
    "within a chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
    "before the last chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n",
    "before the end of the trailers": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n",
    "after an interim response": b"HTTP/1.1 100 Continue\r\n\r\n",
}


@on_both_loops
@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("when", LOST)
async def test_the_connection_is_lost(when: str, how: str) -> None:
    async def script(visit: Visit) -> None:
        await visit.request()
        if LOST[when]:
            visit.send(LOST[when])
            await asyncio.sleep(0.002)
        visit.close() if how == "close" else visit.reset()

    async with ScriptedProvider(script) as there, calling(there.port) as provider:
        status = 200 if b"\r\n\r\n" in LOST[when] and b" 200 " in LOST[when] else None
        message = failed(await ask(provider), "connection_lost", "unknown", status).message
        assert ("before it answered" in message) is (not LOST[when])
        assert ("Connection reset" in message) is (how == "reset")


@on_both_loops
async def test_reset_within_a_body_that_would_end_with_the_connection() -> None:
    async def script(visit: Visit) -> None:
        await visit.request()
        visit.send(b"HTTP/1.1 200 OK\r\n\r\nhalf of")
        await asyncio.sleep(0.002)
        visit.reset()

    async with ScriptedProvider(script) as there, calling(there.port) as provider:
        failed(await ask(provider), "connection_lost", "unknown", 200)


INVALID = {
    "not HTTP": (b"220 mail.example ESMTP\r\n", None),
    "CL and TE": (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", None),
    "two lengths": (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", None),
    "10 MB of headers": (b"HTTP/1.1 200 OK\r\n" + b"X: " + b"x" * 1000 + b"\r\n", None),
    "a bad chunk": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 200),
    "gzip that is none": (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nabcde", 200),
    "gzip cut short": (
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 15\r\n\r\n" + gzip.compress(b"abc")[:15], 200,
    ),
}  # fmt: skip


@on_both_loops
@pytest.mark.parametrize("name", INVALID)
async def test_response_invalid(name: str) -> None:
    data, status = INVALID[name]

    async def script(visit: Visit) -> None:
        await visit.request()
        visit.send(data)
        if name.startswith("10 MB"):
            line = data[17:]
            for _ in range(10_000):
                visit.send(line)
                await visit.writer.drain()

    async with ScriptedProvider(script) as there, calling(there.port) as provider:
        failed(await ask(provider), "response_invalid", "unknown", status)
        await until(lambda: provider.connections == 0)


@on_both_loops
@pytest.mark.parametrize("name", ["announced", "chunked", "until close", "gzip bomb", "deflate bomb"])
async def test_response_too_large(name: str) -> None:
    async def script(visit: Visit) -> None:
        await visit.request()
        visit.send(b"HTTP/1.1 200 OK\r\n")
        if name == "announced":
            visit.send(b"Content-Length: 100001\r\n\r\n")
        elif name == "chunked":
            visit.send(b"Transfer-Encoding: chunked\r\n\r\n")
            while True:
                visit.send(b"3e8\r\n" + bytes(1000) + b"\r\n")
                await visit.writer.drain()
        elif name == "until close":
            visit.send(b"\r\n")
            while True:
                visit.send(bytes(10_000))
                await visit.writer.drain()
        elif name == "gzip bomb":
            bomb = gzip.compress(bytes(20_000_000))
            visit.send(b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb) + bomb)
        else:
            visit.send(b"Content-Encoding: deflate\r\n\r\n" + zlib.compress(bytes(20_000_000)))

    async with ScriptedProvider(script) as there, calling(there.port, response_bytes_max=100_000) as provider:
        message = failed(await ask(provider), "response_too_large", "unknown", 200).message
        assert "100000 bytes" in message
        await until(lambda: provider.connections == 0)


@on_both_loops
async def test_a_provider_that_stops_reading() -> None:
    async def script(visit: Visit) -> None:
        visit.reader._transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.sleep(60)

    async with ScriptedProvider(script) as there, calling(there.port, write_timeout_s=0.05) as provider:
        request = HttpRequest("POST", "/", (), bytes(20_000_000))
        message = failed(await ask(provider, request), "connection_lost", "unknown").message
        assert message == f"127.0.0.1:{there.port}: took nothing of the request for 0.05 s"


@on_both_loops
async def test_a_provider_that_reads_slowly_is_waited_for() -> None:
    async def script(visit: Visit) -> None:
        transport = visit.reader._transport  # type: ignore[attr-defined]
        while not visit.raw.endswith(b"end"):
            transport.pause_reading()
            await asyncio.sleep(0.01)
            transport.resume_reading()
            await visit.more()
        visit.send(response())

    async with ScriptedProvider(script) as there, calling(there.port, write_timeout_s=2.0) as provider:
        assert await ask(provider, HttpRequest("POST", "/", (), bytes(6_000_000) + b"end")) == OK


@on_both_loops
async def test_an_answer_before_the_request_was_read_is_one_and_ends_the_connection() -> None:
    async def script(visit: Visit) -> None:
        await visit.more()
        visit.reader._transport.pause_reading()  # type: ignore[attr-defined]
        visit.send(response(b"", "413 Too Large"))
        await asyncio.sleep(60)

    async with ScriptedProvider(script) as there, calling(there.port) as provider:
        result = await ask(provider, HttpRequest("POST", "/", (), bytes(20_000_000)))
        assert isinstance(result, HttpResponse)
        assert result.status == 413
        await until(lambda: provider.connections == 0)
