"""homing.edges.provider_connection: what TLS adds, what a stalled writer is, and when the first byte was written."""

import asyncio
import socket
import ssl
from pathlib import Path

import pytest
import trustme

from homing.core.exchange import ExchangeFailed, ExchangeResult, HttpRequest, HttpResponse
from homing.edges.connect import TlsSettings, Wire
from homing.edges.provider import Provider, ProviderSettings
from homing.edges.provider_connection import Connection
from homing.edges.provider_response import Reader
from tests.asking import OK, ask
from tests.loops import on_both_loops, until
from tests.scripted import ScriptedProvider, Visit, replies, response


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def trusted(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("tls") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


def serving(authority: trustme.CA, maximum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = maximum
    authority.issue_cert("localhost").configure_cert(context)
    return context


def secure(there: ScriptedProvider, trusted: str, **more: object) -> Provider:
    base_url = f"https://localhost:{there.port}"
    settings = ProviderSettings(name="acme", base_url=base_url, tls=TlsSettings(ca=trusted), **more)  # type: ignore[arg-type]
    return Provider(settings, asyncio.get_running_loop())


VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@on_both_loops
@pytest.mark.parametrize("version", VERSIONS)
async def test_tls_connections_are_used_again(version: ssl.TLSVersion, authority: trustme.CA, trusted: str) -> None:
    async with ScriptedProvider(replies(response()), tls=serving(authority, version)) as there:
        provider = secure(there, trusted)
        for _ in range(4):
            assert await ask(provider) == OK
        await provider.close()
        assert len(there.visits) == 1
        assert provider.connections == 0


@on_both_loops
async def test_a_large_body_over_tls_both_ways(authority: trustme.CA, trusted: str) -> None:
    async def script(visit: Visit) -> None:
        asked = await visit.request()
        visit.send(response(asked.body))

    async with ScriptedProvider(script, tls=serving(authority)) as there:
        provider = secure(there, trusted)
        result = await ask(provider, HttpRequest("POST", "/", (), b"0123456789" * 300_000))
        assert isinstance(result, HttpResponse)
        assert result.body == b"0123456789" * 300_000
        await provider.close()


@on_both_loops
@pytest.mark.parametrize("version", VERSIONS)
async def test_over_tls_only_close_notify_ends_a_body(version: ssl.TLSVersion, authority: trustme.CA, trusted: str) -> None:
    """An attacker can end a TCP connection; RFC 9112 section 9.8."""

    async def script(visit: Visit) -> None:
        await visit.request()
        visit.send(b"HTTP/1.1 200 OK\r\n\r\n" + b"half" * 10)
        await asyncio.sleep(0.005)
        if visit.number == 0:
            visit.close()
        else:
            visit.writer.transport.abort()

    async with ScriptedProvider(script, tls=serving(authority, version)) as there:
        provider = secure(there, trusted)
        assert await ask(provider) == HttpResponse(200, {}, b"half" * 10)
        result = await ask(provider)
        assert isinstance(result, ExchangeFailed)
        assert (result.reason, result.executed, result.status) == ("connection_lost", "unknown", 200)
        await provider.close()


@on_both_loops
async def test_a_tls_connection_that_died_while_it_rested_is_noticed(authority: trustme.CA, trusted: str) -> None:
    async def script(visit: Visit) -> None:
        await visit.request()
        visit.send(response())
        if visit.number % 2:
            visit.close()
        else:
            await asyncio.sleep(0.002)
            visit.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstale")

    async with ScriptedProvider(script, tls=serving(authority)) as there:
        provider = secure(there, trusted)
        for number in range(1, 5):
            assert await ask(provider) == OK
            await until(lambda: provider.connections == 0)
            assert len(there.visits) == number
        await provider.close()


@on_both_loops
@pytest.mark.parametrize("version", VERSIONS)
async def test_a_client_certificate_that_is_missing_is_found_out_late_by_tls_1_3(
    version: ssl.TLSVersion, authority: trustme.CA, trusted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = 0
    begin = Connection.begin

    def counting(self: Connection, *args: object, **more: object) -> None:
        nonlocal begun
        begun += 1
        begin(self, *args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Connection, "begin", counting)
    context = serving(authority, version)
    context.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(context)
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: None)  # the server's side of it
    async with ScriptedProvider(replies(response()), tls=context) as there:
        for _ in range(10):
            provider = secure(there, trusted)
            begun = 0
            result = await ask(provider)
            assert isinstance(result, ExchangeFailed)
            if begun:
                assert version == ssl.TLSVersion.TLSv1_3
                assert (result.reason, result.executed) == ("connection_lost", "unknown")
            else:
                assert (result.reason, result.executed) == ("provider_unreachable", "no")
            await provider.close()
        assert there.log == []


@on_both_loops
async def test_a_resting_tls_connection_is_closed_in_order(authority: trustme.CA, trusted: str) -> None:
    ended: list[bool] = []

    async def script(visit: Visit) -> None:
        await visit.request()
        visit.send(response())
        while await visit.more():
            pass
        ended.append(visit.reader.at_eof())

    async with ScriptedProvider(script, tls=serving(authority)) as there:
        provider = secure(there, trusted, idle_timeout_s=0.01)
        assert await ask(provider) == OK
        await until(lambda: provider.connections == 0)
        await until(lambda: ended)
        assert ended == [True]
        await provider.close()


@on_both_loops
async def test_a_tls_provider_that_stops_reading(authority: trustme.CA, trusted: str) -> None:
    async def script(visit: Visit) -> None:
        visit.reader._transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.sleep(60)

    async with ScriptedProvider(script, tls=serving(authority)) as there:
        provider = secure(there, trusted, write_timeout_s=0.1)
        result = await ask(provider, HttpRequest("POST", "/", (), bytes(20_000_000)))
        assert isinstance(result, ExchangeFailed)
        assert (result.reason, result.executed) == ("connection_lost", "unknown")
        assert "took nothing of the request" in result.message
        await provider.close()


# without a socket


class Pipe(asyncio.Transport):
    """A transport of which the test decides how much it holds."""

    def __init__(self) -> None:
        super().__init__()
        self.held = 0
        self.written = b""
        self.ended = ""

    def write(self, data: object) -> None:
        assert isinstance(data, bytes)
        self.written += data

    def get_write_buffer_size(self) -> int:
        return self.held

    def is_closing(self) -> bool:
        return bool(self.ended)

    def abort(self) -> None:
        self.ended = self.ended or "abort"

    def close(self) -> None:
        self.ended = self.ended or "close"


class Keeper:
    """Keeps connections, and an account of it."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def rest(self, connection: Connection) -> None:
        self.said.append("rest")

    def forget(self, connection: Connection) -> None:
        self.said.append("forget")

    def lost(self, connection: Connection) -> None:
        self.said.append("lost")


class One:
    """Asks once."""

    def __init__(self) -> None:
        self.results: list[ExchangeResult] = []

    def settle(self, result: ExchangeResult) -> None:
        self.results.append(result)


def made(write_timeout_s: float = 10.0) -> tuple[Connection, Pipe, Keeper]:
    keeper, wire = Keeper(), Pipe()
    reader = Reader(body_bytes_max=1000, head_bytes_max=1000)
    connection = Connection(asyncio.get_running_loop(), keeper, reader, "a.example", write_timeout_s=write_timeout_s)
    connection.connection_made(wire)
    sock = socket.socket()
    sock.close()
    connection.join(Wire(wire, wire, sock))
    return connection, wire, keeper


@on_both_loops
async def test_writing_that_goes_on_is_waited_for_and_writing_that_does_not_is_given_up() -> None:
    connection, wire, keeper = made(write_timeout_s=0.01)
    one = One()
    wire.held = 1000
    connection.begin(one, b"request", bodyless=False)
    assert wire.written == b"request"
    for held in (900, 500, 499):
        wire.held = held
        before = connection._stall
        await until(lambda: connection._stall is not before)  # noqa: B023 — awaited before the next turn
        assert one.results == []
    await until(lambda: one.results)
    assert one.results == [ExchangeFailed("connection_lost", "unknown", "a.example: took nothing of the request for 0.01 s")]
    assert wire.ended == "abort"
    assert keeper.said == ["forget"]


@on_both_loops
async def test_writing_that_came_to_its_end_is_watched_no_more() -> None:
    connection, wire, keeper = made(write_timeout_s=0.005)
    one = One()
    wire.held = 1000
    connection.begin(one, b"request", bodyless=False)
    wire.held = 0
    await until(lambda: connection._stall is None)
    assert one.results == []
    connection.data_received(response())
    assert one.results == [OK]
    assert keeper.said == ["rest"]
    wire.held = 1000
    connection.begin(one, b"request", bodyless=False)
    wire.held = 0
    connection.data_received(response())
    assert connection._stall is None
    assert keeper.said == ["rest", "rest"]
    wire.held = 1000
    connection.begin(one, b"request", bodyless=False)
    connection.abort()
    await until(lambda: connection._stall is None)
    assert len(one.results) == 2
    assert one.results[1] == OK


@on_both_loops
async def test_a_response_before_all_was_written_is_one_and_ends_the_connection() -> None:
    connection, wire, keeper = made()
    one = One()
    wire.held = 5
    connection.begin(one, b"request", bodyless=False)
    connection.data_received(response())
    assert one.results == [OK]
    assert wire.ended == "abort"
    assert keeper.said == ["forget"]
    connection.connection_lost(None)
    assert keeper.said == ["forget", "forget", "lost"]
    assert one.results == [OK]


@on_both_loops
async def test_lost_for_a_reason() -> None:
    for error, words in (
        (None, "a.example: the connection was lost before it answered"),
        (ConnectionResetError(104, "x"), "a.example: the connection was lost before it answered (Connection reset by peer)"),
        (OSError("odd"), "a.example: the connection was lost before it answered (odd)"),
        (ValueError(), "a.example: the connection was lost before it answered (ValueError)"),
        (ssl.SSLError(1, "[SSL: X] x"), "a.example: the connection was lost before it answered (TLS error)"),
    ):
        connection, _, _ = made()
        one = One()
        connection.begin(one, b"request", bodyless=False)
        connection.connection_lost(error)
        assert one.results == [ExchangeFailed("connection_lost", "unknown", words)]
        assert connection.closed


@on_both_loops
async def test_a_write_that_raises_may_have_written() -> None:
    def broken(data: object) -> None:
        raise RuntimeError("the handle is closed")

    connection, wire, _ = made()
    wire.write = broken  # type: ignore[method-assign]
    one = One()
    connection.begin(one, b"request", bodyless=False)
    assert one.results == [ExchangeFailed("connection_lost", "unknown", "a.example: the handle is closed")]
    assert wire.ended == "abort"


@on_both_loops
async def test_nothing_is_read_for_nobody() -> None:
    connection, wire, _ = made()
    connection.eof_received()
    assert wire.ended == ""  # the loop closes it
    assert connection.closed
    connection, wire, _ = made()
    connection.data_received(b"x")
    assert wire.ended == "abort"
    assert connection.closed
    assert not connection.usable()
    assert not connection.fit_to_begin()


@on_both_loops
async def test_before_it_is_joined_a_connection_is_good_for_nothing() -> None:
    reader = Reader(body_bytes_max=1000, head_bytes_max=1000)
    connection = Connection(asyncio.get_running_loop(), Keeper(), reader, "a.example", write_timeout_s=1.0)
    assert not connection.usable()
    assert not connection.fit_to_begin()
    connection.close()
    connection.abort()
    assert connection.closed


@on_both_loops
async def test_a_content_coding_cut_short_by_the_end_of_the_stream() -> None:
    import gzip

    connection, wire, _ = made()
    one = One()
    connection.begin(one, b"request", bodyless=False)
    connection.data_received(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + gzip.compress(b"abc" * 50)[:-3])
    connection.eof_received()
    (result,) = one.results
    assert isinstance(result, ExchangeFailed)
    assert (result.reason, result.status) == ("response_invalid", 200)
    assert wire.ended == "abort"


def test_no_file_of_a_certificate_is_needed_for_plain_http(tmp_path: Path) -> None:
    async def main() -> None:
        settings = ProviderSettings(name="acme", base_url="http://a.example", tls=TlsSettings(ca=str(tmp_path / "nosuch")))
        await Provider(settings, asyncio.get_running_loop()).close()

    asyncio.run(main())
