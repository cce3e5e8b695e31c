"""homing.edges.connect: who is reached, by which address, through which proxy, with which certificate; and that nothing stays open."""

import asyncio
import contextlib
import os
import socket
import ssl
import threading
from pathlib import Path

import pytest
import trustme

from homing.edges.connect import (
    ConnectFailed,
    Connector,
    Origin,
    Proxy,
    TlsSettings,
    interleave,
    parse_origin,
    parse_proxy,
    race,
    tls_context,
)
from homing.edges.resolver import Address, Resolver
from tests.loops import on_both_loops, until
from tests.scripted import ScriptedProvider, Visit, closed_port, deaf

V4 = [Address(socket.AF_INET, f"192.0.2.{index}") for index in range(3)]
V6 = [Address(socket.AF_INET6, f"2001:db8::{index}") for index in range(3)]


class Client(asyncio.Protocol):
    """What a connection is handed over to."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.received = bytearray()
        self.lost = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self.received += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set()

    async def close(self) -> None:
        assert self.transport is not None
        self.transport.abort()
        await self.lost.wait()


async def silent(visit: Visit) -> None:
    await visit.end()


def connector(
    origin: Origin | int,
    *,
    tls: ssl.SSLContext | None = None,
    proxy: Proxy | None = None,
    resolver: Resolver | None = None,
    step_timeout_s: float = 5.0,
) -> Connector:
    loop = asyncio.get_running_loop()
    if isinstance(origin, int):
        origin = Origin("127.0.0.1", origin, tls is not None, f"127.0.0.1:{origin}")
    return Connector(loop, resolver or Resolver(loop), origin, tls=tls, proxy=proxy, step_timeout_s=step_timeout_s)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 — a count of names, no paths


# what is read from a URL


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("http://a.example", Origin("a.example", 80, False, "a.example")),
        ("https://a.example/v2/", Origin("a.example", 443, True, "a.example")),
        ("https://A.Example:8443/v2", Origin("a.example", 8443, True, "a.example:8443")),
        ("http://[::1]:8080", Origin("::1", 8080, False, "[::1]:8080")),
        ("https://[2001:db8::1]", Origin("2001:db8::1", 443, True, "[2001:db8::1]")),
        ("https://bücher.example", Origin("xn--bcher-kva.example", 443, True, "xn--bcher-kva.example")),
        ("http://127.0.0.1:80", Origin("127.0.0.1", 80, False, "127.0.0.1")),
    ],
)
def test_origin(url: str, origin: Origin) -> None:
    assert parse_origin(url) == origin


@pytest.mark.parametrize(
    "url",
    [
        "",
        "a.example",
        "ftp://a.example",
        "http://",
        "http://user:hunter2@a.example",
        "http://a.example:99999",
        "http://" + "ä" * 80,
    ],
)
def test_no_origin(url: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_origin(url)
    assert "hunter2" not in str(caught.value)


def test_proxy() -> None:
    assert parse_proxy("") is None
    assert parse_proxy("http://proxy.example") == Proxy("proxy.example", 3128, "")
    proxy = parse_proxy("http://me:hunter%3A2@proxy.example:8080/")
    assert proxy == Proxy("proxy.example", 8080, "Basic bWU6aHVudGVyOjI=")
    assert "bWU6" not in repr(proxy)


@pytest.mark.parametrize(
    "url", ["proxy:3128", "https://proxy", "socks5://proxy", "http://proxy/path", "http://:3128", "http://p?x"]
)
def test_no_proxy(url: str) -> None:
    with pytest.raises(ValueError):
        parse_proxy(url)


# addresses


def test_families_take_turns() -> None:
    assert interleave([]) == []
    assert interleave(V4) == V4
    assert interleave([*V6, *V4[:1]]) == [V6[0], V4[0], V6[1], V6[2]]
    assert interleave([*V4, *V6]) == [V4[0], V6[0], V4[1], V6[1], V4[2], V6[2]]


@on_both_loops
async def test_the_first_that_answers_wins_and_the_deaf_one_is_let_go() -> None:
    loop = asyncio.get_running_loop()
    async with ScriptedProvider(silent) as provider, deaf("127.0.0.2", provider.port):
        before = descriptors()
        addresses = [Address(socket.AF_INET, "127.0.0.2"), Address(socket.AF_INET, "127.0.0.1")]
        sock = await race(loop, addresses, "a.example", provider.port)
        assert sock.getpeername() == ("127.0.0.1", provider.port)
        sock.close()
        await asyncio.sleep(0.01)
        assert descriptors() <= before + 1  # the provider's side


@on_both_loops
async def test_a_refusal_makes_room_for_the_next_at_once() -> None:
    loop = asyncio.get_running_loop()
    async with ScriptedProvider(silent) as provider:
        addresses = [Address(socket.AF_INET, f"127.0.0.{host}") for host in (9, 8, 7, 1)]
        started = loop.time()
        sock = await race(loop, addresses, "a.example", provider.port)
        assert sock.getpeername()[0] == "127.0.0.1"
        assert loop.time() - started < 5  # not four head starts; on a busy machine not much less can be said
        sock.close()


@on_both_loops
async def test_all_refuse() -> None:
    port = closed_port()
    addresses = [Address(socket.AF_INET, "127.0.0.1"), Address(socket.AF_INET6, "::1"), Address(socket.AF_INET, "127.0.0.2")]
    with pytest.raises(ConnectFailed, match=rf"no connection to a\.example:{port}: 127.0.0.1: Connection refused"):
        await race(asyncio.get_running_loop(), addresses, "a.example", port)


@on_both_loops
async def test_of_two_that_answer_at_once_one_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("homing.edges.connect.ATTEMPT_DELAY_S", 0)
    with socket.create_server(("0.0.0.0", 0)) as listener:
        before = descriptors()
        for _ in range(20):
            addresses = [Address(socket.AF_INET, f"127.0.0.{host}") for host in (1, 2, 3)]
            sock = await race(asyncio.get_running_loop(), addresses, "a.example", listener.getsockname()[1])
            sock.close()
        await asyncio.sleep(0.01)
        assert descriptors() == before


@on_both_loops
async def test_a_family_that_this_machine_has_not() -> None:
    with pytest.raises(ConnectFailed, match=r"192\.0\.2\.1: .* not supported"):
        await race(asyncio.get_running_loop(), [Address(44, "192.0.2.1")], "a.example", 80)


# the steps


@on_both_loops
async def test_joined() -> None:
    async with ScriptedProvider(silent) as provider:
        client = Client()
        sock = (await connector(provider.port).connect(client)).sock
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert client.transport is not None
        await client.close()


@on_both_loops
async def test_refused() -> None:
    port = closed_port()
    with pytest.raises(ConnectFailed, match="Connection refused"):
        await connector(port).connect(Client())


@on_both_loops
async def test_unknown_host() -> None:
    with pytest.raises(ConnectFailed, match=r"unknown host name\.invalid: "):
        await connector(Origin("name.invalid", 80, False, "name.invalid")).connect(Client())


@on_both_loops
async def test_neither_a_slow_name_nor_a_deaf_port_takes_longer_than_its_step() -> None:
    def stuck(host: str) -> list[Address]:
        threading_event.wait()
        return []

    threading_event = threading.Event()
    resolver = Resolver(asyncio.get_running_loop(), stuck)
    slow = connector(Origin("a.example", 80, False, "a.example"), resolver=resolver, step_timeout_s=0.05)
    with pytest.raises(ConnectFailed, match=r"no connection to a\.example:80 within 0\.05 s"):
        await slow.connect(Client())
    threading_event.set()
    async with deaf() as port:
        with pytest.raises(ConnectFailed, match=r"within 0\.05 s"):
            await connector(port, step_timeout_s=0.05).connect(Client())


# TLS


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def trusted(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("tls") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


def serving(authority: trustme.CA, *names: str, minimum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    context.minimum_version = minimum
    return context


@on_both_loops
async def test_tls_says_the_name_and_the_protocol(authority: trustme.CA, trusted: str) -> None:
    context = serving(authority, "localhost")
    context.set_alpn_protocols(["h2", "http/1.1"])
    names: list[str | None] = []
    context.sni_callback = lambda obj, name, ctx: names.append(name)
    async with ScriptedProvider(silent, tls=context) as provider:
        client = Client()
        origin = Origin("localhost", provider.port, True, "localhost")
        await connector(origin, tls=tls_context(TlsSettings(ca=trusted))).connect(client)
        assert names == ["localhost"]
        assert client.transport is not None
        tls: ssl.SSLObject = client.transport.get_extra_info("ssl_object")
        assert tls.selected_alpn_protocol() == "http/1.1"
        await client.close()


@on_both_loops
async def test_tls_to_an_address(authority: trustme.CA, trusted: str) -> None:
    async with ScriptedProvider(silent, tls=serving(authority, "127.0.0.1")) as provider:
        client = Client()
        await connector(provider.port, tls=tls_context(TlsSettings(ca=trusted))).connect(client)
        await client.close()


@on_both_loops
@pytest.mark.parametrize("wrong", ["name", "authority", "expired"])
async def test_certificates_that_are_not_to_be_trusted(wrong: str, authority: trustme.CA, trusted: str) -> None:
    if wrong == "name":
        context = serving(authority, "other.example")
    elif wrong == "authority":
        context = serving(trustme.CA(), "localhost")
    else:
        from datetime import UTC, datetime

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost", not_after=datetime(2020, 1, 1, tzinfo=UTC)).configure_cert(context)
    async with ScriptedProvider(silent, tls=context) as provider:
        origin = Origin("localhost", provider.port, True, f"localhost:{provider.port}")
        with pytest.raises(ConnectFailed, match=rf"the certificate of localhost:{provider.port} is not to be trusted: "):
            await connector(origin, tls=tls_context(TlsSettings(ca=trusted))).connect(Client())
        assert provider.log in ([], [b""])


@on_both_loops
async def test_tls_versions_that_do_not_meet(authority: trustme.CA, trusted: str) -> None:
    context = serving(authority, "localhost")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    async with ScriptedProvider(silent, tls=context) as provider:
        origin = Origin("localhost", provider.port, True, "localhost")
        with pytest.raises(ConnectFailed, match="no TLS with localhost"):
            await connector(origin, tls=tls_context(TlsSettings(ca=trusted, min_version="1.3"))).connect(Client())
        client = Client()
        await connector(origin, tls=tls_context(TlsSettings(ca=trusted))).connect(client)
        await client.close()


@on_both_loops
async def test_a_port_that_speaks_no_tls(trusted: str) -> None:
    async def greets(visit: Visit) -> None:
        visit.send(b"220 mail.example ESMTP\r\n")
        await visit.end()

    async with ScriptedProvider(greets) as provider:
        for _ in range(5):
            with pytest.raises(ConnectFailed, match=r"no TLS with .*: wrong version number|does not speak TLS"):
                await connector(provider.port, tls=tls_context(TlsSettings(ca=trusted))).connect(Client())


@on_both_loops
async def test_a_handshake_that_never_ends_and_one_that_is_cut(trusted: str) -> None:
    async def closes(visit: Visit) -> None:
        await visit.more()
        visit.close()

    async with ScriptedProvider(silent) as provider:
        with pytest.raises(ConnectFailed, match=r"no TLS with .* within 0\.05 s"):
            await connector(provider.port, tls=tls_context(TlsSettings(ca=trusted)), step_timeout_s=0.05).connect(Client())
    async with ScriptedProvider(closes) as provider:
        with pytest.raises(ConnectFailed, match="no TLS with"):
            await connector(provider.port, tls=tls_context(TlsSettings(ca=trusted))).connect(Client())


@on_both_loops
async def test_a_client_certificate_is_shown(authority: trustme.CA, trusted: str, tmp_path: Path) -> None:
    own = authority.issue_cert("client.example")
    own.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    own.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    own.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "both.pem"))
    context = serving(authority, "localhost")
    context.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(context)
    shown: list[object] = []

    async def looks(visit: Visit) -> None:
        shown.append(visit.writer.get_extra_info("peercert"))
        await visit.end()

    async with ScriptedProvider(looks, tls=context) as provider:
        origin = Origin("localhost", provider.port, True, "localhost")
        for settings in (
            TlsSettings(ca=trusted, client_cert=str(tmp_path / "cert.pem"), client_key=str(tmp_path / "key.pem")),
            TlsSettings(ca=trusted, client_cert=str(tmp_path / "both.pem")),
        ):
            client = Client()
            await connector(origin, tls=tls_context(settings)).connect(client)
            await until(lambda: shown)
            assert "client.example" in str(shown.pop())
            await client.close()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (TlsSettings(ca="nosuch.pem"), r"tls\.ca: nosuch\.pem: No such file"),
        (TlsSettings(ca=__file__), r"tls\.ca: test_connect\.py: "),
        (TlsSettings(client_cert="nosuch.pem"), r"tls\.client_cert: nosuch\.pem: No such file"),
        (TlsSettings(client_cert=__file__), r"tls\.client_cert: test_connect\.py: "),
        (TlsSettings(client_key="key.pem"), "without tls.client_cert"),
    ],
)
def test_files_that_are_wrong_are_named(settings: TlsSettings, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        tls_context(settings)


def test_a_key_with_a_password_is_refused_and_asks_nobody(authority: trustme.CA, tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization

    own = authority.issue_cert("client.example")
    key = serialization.load_pem_private_key(own.private_key_pem.bytes(), None)
    locked = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"secret")
    )
    path = tmp_path / "locked.pem"
    path.write_bytes(locked + own.cert_chain_pems[0].bytes())
    with pytest.raises(ValueError, match=r"tls\.client_cert: locked\.pem: "):
        tls_context(TlsSettings(client_cert=str(path)))


# proxies


async def tunnels(visit: Visit) -> None:
    """A proxy as it should be."""
    asked = await visit.request()
    host, _, port = asked.line.split(" ")[1].rpartition(":")
    reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    visit.send(b"HTTP/1.1 200 Connection established\r\nVia: 1.1 proxy\r\n\r\n")

    async def back() -> None:
        while data := await reader.read(65536):
            visit.send(data)
        visit.close()

    backwards = asyncio.ensure_future(back())
    try:
        while data := await visit.reader.read(65536):
            writer.write(data)
    finally:
        backwards.cancel()
        writer.transport.abort()


@on_both_loops
@pytest.mark.parametrize("secure", [False, True])
async def test_through_a_proxy(secure: bool, authority: trustme.CA, trusted: str) -> None:
    async def greets(visit: Visit) -> None:
        await visit.more()
        visit.send(b"hello")
        await visit.end()

    context = serving(authority, "localhost") if secure else None
    async with ScriptedProvider(greets, tls=context) as provider, ScriptedProvider(tunnels) as proxy:
        origin = Origin("localhost", provider.port, secure, "localhost")
        through = parse_proxy(f"http://me:secret@127.0.0.1:{proxy.port}")
        client = Client()
        tls = tls_context(TlsSettings(ca=trusted)) if secure else None
        await connector(origin, tls=tls, proxy=through).connect(client)
        assert client.transport is not None
        client.transport.write(b"hi")
        await until(lambda: client.received == b"hello")
        await client.close()
        head = f"CONNECT localhost:{provider.port} HTTP/1.1\r\nHost: localhost:{provider.port}\r\n"
        assert proxy.log[0].decode("latin-1") == f"{head}Proxy-Authorization: Basic bWU6c2VjcmV0\r\n\r\n"


@on_both_loops
async def test_a_proxy_is_told_an_ipv6_address_in_brackets() -> None:
    async def refuses(visit: Visit) -> None:
        await visit.request()
        visit.send(b"HTTP/1.1 403 No\r\n\r\n")

    async with ScriptedProvider(refuses) as proxy:
        through = Proxy("127.0.0.1", proxy.port, "")
        with pytest.raises(ConnectFailed, match="status 403"):
            await connector(Origin("::1", 8443, False, "[::1]:8443"), proxy=through).connect(Client())
        assert proxy.log[0].startswith(b"CONNECT [::1]:8443 HTTP/1.1\r\n")


@on_both_loops
@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n",
            "refused the tunnel with status 407",
        ),
        (b"HTTP/1.0 502 Bad Gateway\r\nContent-Length: 3\r\n\r\nbad", "refused the tunnel with status 502"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", "refused the tunnel with status 100"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "does not speak HTTP"),
        (b"HTTP/1.1 2x0 OK\r\n\r\n", "does not speak HTTP"),
        (b"HTTP/1.1\r\n\r\n", "does not speak HTTP"),
        (b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "something of its own"),
        (b"HTTP/1.1 200 OK\r\n\r\n\r\n\r\n", "something of its own"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 5000, "answered with no end"),
        (b"HTTP/1.1 200 OK\r\n", "closed the connection"),
        (None, "reset"),
    ],
)
async def test_proxies_that_open_no_tunnel(answer: bytes | None, words: str) -> None:
    async def script(visit: Visit) -> None:
        await visit.request()
        if answer is None:
            visit.reset()
            return
        visit.send(answer)
        if words == "closed the connection":
            visit.close()

    async with ScriptedProvider(script) as proxy:
        with pytest.raises(ConnectFailed, match=words) as caught:
            await connector(9, proxy=Proxy("127.0.0.1", proxy.port, "Basic c2VjcmV0")).connect(Client())
        assert "c2VjcmV0" not in str(caught.value)


@on_both_loops
async def test_a_proxy_that_is_not_there_and_one_that_never_answers() -> None:
    port = closed_port()
    with pytest.raises(ConnectFailed, match=f"127.0.0.1:{port}"):
        await connector(9, proxy=Proxy("127.0.0.1", port, "")).connect(Client())
    async with ScriptedProvider(silent) as proxy:
        with pytest.raises(ConnectFailed, match=r"opened no tunnel within 0\.05 s"):
            await connector(9, proxy=Proxy("127.0.0.1", proxy.port, ""), step_timeout_s=0.05).connect(Client())


# giving up


@on_both_loops
@pytest.mark.parametrize("way", ["plain", "tls", "proxy", "deaf"])
async def test_given_up_at_any_moment_nothing_stays_open(way: str, authority: trustme.CA, trusted: str) -> None:
    context = serving(authority, "127.0.0.1")
    async with (
        ScriptedProvider(silent) as plain,
        ScriptedProvider(silent, tls=context) as secure,
        ScriptedProvider(tunnels) as proxy,
        deaf() as deaf_port,
    ):
        tls = tls_context(TlsSettings(ca=trusted))
        through = Proxy("127.0.0.1", proxy.port, "")
        connectors = {
            "plain": connector(plain.port),
            "tls": connector(secure.port, tls=tls),
            "proxy": connector(secure.port, tls=tls, proxy=through),
            "deaf": connector(deaf_port),
        }
        before = descriptors()
        for turns in [*range(40), *range(40)]:  # of the loop: each is another moment
            client = Client()
            attempt = asyncio.ensure_future(connectors[way].connect(client))
            for _ in range(turns):
                await asyncio.sleep(0)
            attempt.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await attempt
                await client.close()
        for _ in range(2000):  # the other side's ends close when they see it
            if descriptors() <= before:
                break
            await asyncio.sleep(0.001)
        assert descriptors() <= before
