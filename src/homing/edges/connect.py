"""A connection to a provider, up to where a request may be written.

Names are looked up and addresses raced (happy eyeballs, RFC 8305) here, for uvloop does neither in a way that can be stopped; then the
proxy's tunnel, if there is one, then TLS. Nothing of a request is written before all of that stands, so whatever goes wrong here is
proof that the provider has not seen it. Each of the three steps has the same bound of its own.
"""

import asyncio
import base64
import errno
import os
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, Literal, NamedTuple
from urllib.parse import unquote, urlsplit

import msgspec

from homing.edges.resolver import Address, ResolveFailed, Resolver

ATTEMPT_DELAY_S: Final = 0.25  # RFC 8305 section 5
ADDRESSES_MAX: Final = 16  # tried for one connection
TUNNEL_HEAD_BYTES_MAX: Final = 16384
SHUTDOWN_S: Final = 1.0  # for the peer's close_notify, once nothing is asked of the connection any more
KEEPALIVE_S: Final = 30  # a provider may be silent for 90 s; firewalls between forget a flow that is

TlsVersion = Literal["1.2", "1.3"]


class ConnectFailed(Exception):
    """No connection, and no byte of a request written. The message is for people and holds no secret."""


class TlsSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How a provider's certificate is verified and which one it is shown. Paths of PEM files; "" for none."""

    ca: str = ""  # instead of the system's
    client_cert: str = ""
    client_key: str = ""  # "": it stands in client_cert
    min_version: TlsVersion = "1.2"


class Origin(msgspec.Struct, frozen=True):
    """Where a base URL leads."""

    host: str  # ASCII; IPv6 without brackets
    port: int
    secure: bool
    authority: str  # as the Host header has it: without the scheme's own port


class Proxy(msgspec.Struct, frozen=True):
    """An HTTP proxy that is asked to CONNECT."""

    host: str
    port: int
    authorization: str  # "" or the whole header value

    def __repr__(self) -> str:
        return f"Proxy({self.host}:{self.port})"


def parse_origin(url: str) -> Origin:
    """Read scheme, host and port of a base URL. Raises ValueError; its message never holds the URL."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"}:
        raise ValueError("the base URL does not begin with http:// or https://")
    if parts.username is not None or parts.password is not None:
        raise ValueError("the base URL holds a user name; that is what `auth` is for")
    secure = parts.scheme == "https"
    host = _ascii_host(parts.hostname)
    port = parts.port or (443 if secure else 80)
    shown = f"[{host}]" if ":" in host else host
    return Origin(host, port, secure, shown if port == (443 if secure else 80) else f"{shown}:{port}")


def parse_proxy(url: str) -> Proxy | None:
    """Read `http://[user:password@]host:port`. Raises ValueError; its message never holds the URL."""
    if not url:
        return None
    parts = urlsplit(url)
    if parts.scheme != "http" or parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise ValueError("the proxy is not of the form http://host:port")
    authorization = ""
    if parts.username is not None:
        words = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = "Basic " + base64.b64encode(words.encode()).decode()
    return Proxy(_ascii_host(parts.hostname), parts.port or 3128, authorization)


def tls_context(settings: TlsSettings) -> ssl.SSLContext:
    """Build what verifies a provider. Raises ValueError, naming the file that is wrong."""
    try:
        context = ssl.create_default_context(cafile=settings.ca or None)
    except OSError as error:
        raise ValueError(f"tls.ca: {Path(settings.ca).name}: {words_of(error)}") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_3 if settings.min_version == "1.3" else ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if settings.client_cert:
        try:
            # Without a password OpenSSL would ask at the terminal, and nobody is there.
            context.load_cert_chain(settings.client_cert, settings.client_key or None, password="")
        except OSError as error:
            raise ValueError(f"tls.client_cert: {Path(settings.client_cert).name}: {words_of(error)}") from None
    elif settings.client_key:
        raise ValueError("tls.client_key is given without tls.client_cert")
    return context


class Wire(NamedTuple):
    """A connection that stands. Without TLS both transports are the same."""

    transport: asyncio.Transport
    raw: asyncio.Transport  # below TLS: knows what was not yet handed to the kernel
    sock: socket.socket  # to look at only: reading and closing it is the transports' business


class _Holder(asyncio.Protocol):
    """Keeps a connection until TLS begins. In TLS the client speaks first: who does not wait for it speaks something else."""

    spoken_to = False

    def data_received(self, data: bytes) -> None:
        self.spoken_to = True


class Connector:
    """Makes connections to one provider."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        resolver: Resolver,
        origin: Origin,
        *,
        tls: ssl.SSLContext | None,
        proxy: Proxy | None,
        step_timeout_s: float,
    ) -> None:
        self._loop, self._resolver = loop, resolver
        self._origin, self._proxy = origin, proxy
        self._tls = tls
        self._step_timeout_s = step_timeout_s

    async def connect(self, protocol: asyncio.Protocol) -> Wire:
        """Join `protocol` to the provider. Raises ConnectFailed; whatever is raised, nothing stays open."""
        through = self._proxy or self._origin
        sock = await self._reach(through.host, through.port)
        handed_over = False
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_S)
            if self._proxy is not None:
                await self._tunnel(sock, self._proxy)
            handed_over = True  # from here on the loop closes it, and a second close might hit another connection's descriptor
            if self._tls is None:
                raw, _ = await self._loop.create_connection(lambda: protocol, sock=sock)
                return Wire(raw, raw, sock)
            raw, holder = await self._loop.create_connection(_Holder, sock=sock)
        finally:
            if not handed_over:
                sock.close()
        try:
            if holder.spoken_to:
                raise ConnectFailed(f"{self._origin.authority} does not speak TLS")
            if raw.is_closing():  # uvloop would begin all the same, trip over it, and let the handshake time out
                raise ConnectFailed(f"no TLS with {self._origin.authority}: the connection was lost")
            transport = await self._secure(raw, protocol, self._tls)
        except BaseException:
            raw.abort()
            raise
        protocol.connection_made(transport)
        return Wire(transport, raw, sock)

    async def _reach(self, host: str, port: int) -> socket.socket:
        """Look the host up and connect, both within one bound."""
        async with self._step(f"no connection to {host}:{port}"):
            try:
                addresses = await self._resolver.resolve(host)
            except ResolveFailed as error:
                raise ConnectFailed(f"unknown host {host}: {error}") from None
            return await race(self._loop, interleave(addresses)[:ADDRESSES_MAX], host, port)

    async def _tunnel(self, sock: socket.socket, proxy: Proxy) -> None:
        """Ask the proxy to connect (RFC 9110 section 9.3.6). It answers before the provider could speak, so all it sends is its own."""
        host = f"[{self._origin.host}]" if ":" in self._origin.host else self._origin.host
        target = f"{host}:{self._origin.port}"
        lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
        if proxy.authorization:
            lines.append(f"Proxy-Authorization: {proxy.authorization}")
        whole = f"proxy {proxy.host}:{proxy.port}"
        async with self._step(f"{whole} opened no tunnel"):
            try:
                await self._loop.sock_sendall(sock, ("\r\n".join(lines) + "\r\n\r\n").encode("ascii"))
                head = b""
                while b"\r\n\r\n" not in head:
                    data = await self._loop.sock_recv(sock, 4096)
                    if not data:
                        raise ConnectFailed(f"{whole} closed the connection")
                    head += data
                    if len(head) > TUNNEL_HEAD_BYTES_MAX:
                        raise ConnectFailed(f"{whole} answered with no end")
            except OSError as error:
                raise ConnectFailed(f"{whole}: {words_of(error)}") from None
        words = head.split(b"\r\n", 1)[0].split(b" ", 2)
        if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or len(words[1]) != 3 or not words[1].isdigit():
            raise ConnectFailed(f"{whole} does not speak HTTP")
        if not words[1].startswith(b"2"):
            raise ConnectFailed(f"{whole} refused the tunnel with status {words[1].decode('ascii')}")
        if not head.endswith(b"\r\n\r\n") or head.count(b"\r\n\r\n") > 1:
            raise ConnectFailed(f"{whole} sent something of its own into the tunnel")

    async def _secure(self, raw: asyncio.Transport, protocol: asyncio.Protocol, tls: ssl.SSLContext) -> asyncio.Transport:
        where = self._origin.authority
        async with self._step(f"no TLS with {where}"):
            try:
                transport = await self._loop.start_tls(
                    raw,
                    protocol,
                    tls,
                    server_hostname=self._origin.host,
                    ssl_handshake_timeout=self._step_timeout_s + 1.0,  # the loop's own would be 60 s; ours comes first
                    ssl_shutdown_timeout=SHUTDOWN_S,
                )
            except ssl.SSLCertVerificationError as error:
                raise ConnectFailed(f"the certificate of {where} is not to be trusted: {error.verify_message}") from None
            except (OSError, ValueError, RuntimeError) as error:
                raise ConnectFailed(f"no TLS with {where}: {words_of(error)}") from None
        if transport is None or transport.is_closing():  # lost in the middle of it, which not every loop calls an error
            raise ConnectFailed(f"no TLS with {where}: the connection was lost")
        return transport

    @asynccontextmanager
    async def _step(self, what: str) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._step_timeout_s):
                yield
        except TimeoutError:
            raise ConnectFailed(f"{what} within {self._step_timeout_s:g} s") from None


def interleave(addresses: list[Address]) -> list[Address]:
    """Take the families in turn, the first one's first (RFC 8305 section 4)."""
    if not addresses:
        return []
    first = [address for address in addresses if address.family == addresses[0].family]
    second = [address for address in addresses if address.family != addresses[0].family]
    mixed: list[Address] = []
    for index in range(max(len(first), len(second))):
        mixed += first[index : index + 1] + second[index : index + 1]
    return mixed


async def race(loop: asyncio.AbstractEventLoop, addresses: list[Address], host: str, port: int) -> socket.socket:
    """Connect to whichever address answers first; each gets a head start before the next. Raises ConnectFailed."""
    problems: list[str] = []
    running: set[asyncio.Task[socket.socket]] = set()
    left: Iterator[Address] = iter(addresses)
    following = next(left, None)
    try:
        while running or following is not None:
            if following is not None:
                running.add(loop.create_task(_connect_one(loop, following, port)))
                following = next(left, None)
            delay = None if following is None else ATTEMPT_DELAY_S
            ended, running = await asyncio.wait(running, timeout=delay, return_when=asyncio.FIRST_COMPLETED)
            winners = [attempt for attempt in ended if attempt.exception() is None]
            problems += [str(error) for attempt in ended if (error := attempt.exception()) is not None]
            if winners:
                for loser in winners[1:]:
                    loser.result().close()
                return winners[0].result()
    finally:
        for attempt in running:
            attempt.cancel()
            attempt.add_done_callback(_discard)
    raise ConnectFailed(f"no connection to {host}:{port}: {'; '.join(problems[:4])}")


def _discard(attempt: asyncio.Task[socket.socket]) -> None:
    """Nobody waits for this attempt any more, but it may have won all the same."""
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().close()


async def _connect_one(loop: asyncio.AbstractEventLoop, address: Address, port: int) -> socket.socket:
    try:
        sock = socket.socket(address.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    except OSError as error:  # no such family here, or no descriptor left
        raise ConnectFailed(f"{address.host}: {words_of(error)}") from None
    try:
        code = sock.connect_ex(address.with_port(port))
        if code in {errno.EINPROGRESS, errno.EINTR}:
            connected = loop.create_future()
            loop.add_writer(sock, _wake, connected)
            try:
                await connected
            finally:
                loop.remove_writer(sock)
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise ConnectFailed(f"{address.host}: {os.strerror(code)}")
    except BaseException:
        sock.close()
        raise
    return sock


def _wake(connected: asyncio.Future[None]) -> None:
    if not connected.done():
        connected.set_result(None)


def _ascii_host(host: str | None) -> str:
    if not host:
        raise ValueError("the URL has no host")
    try:
        return host.encode("ascii" if host.isascii() else "idna").decode("ascii")
    except UnicodeError:
        raise ValueError("the URL's host is no host name") from None


def words_of(error: Exception) -> str:
    """What went wrong, without the numbers and source lines that OpenSSL adds."""
    if isinstance(error, ssl.SSLError):
        reason: str | None = getattr(error, "reason", None)  # those made in Python have none
        return reason.replace("_", " ").lower() if reason else "TLS error"
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return str(error) or type(error).__name__
