"""HTTP/1.1 as the clients speak it: where to, the bytes of a request, and what a response's bytes say. No sockets here."""

import ipaddress
import os
import re
import ssl
from typing import Final, get_args
from urllib.parse import urlsplit

import httptools
import msgspec

from homing.errors import ROWS, STRENGTH, Retry, Verdict

HEAD_BYTES_MAX: Final = 65_536
RESPONSE_BYTES_MAX: Final = 268_435_456  # a batch of many calls may well be long
RETRY_WORDS: Final[frozenset[Retry]] = frozenset(get_args(Retry))
READ_BYTES: Final = 262_144

# A response's Retry-After as seconds; a date would need this machine's wall clock to be right.
_SECONDS = re.compile(r"\d{1,9}")
_VISIBLE = re.compile(r"[\x21-\x7e]+")


class Fault(Exception):
    """What kept an exchange with the gateway from ending well; inside the clients only, callers get a CallError.

    `sent` says whether a byte of the request may have left: only where it is False is it proven that nothing was executed.
    """

    def __init__(self, reason: str, message: str, *, sent: bool, retry: Retry | None = None) -> None:
        super().__init__(message)
        self.reason = reason  # of errors.TABLE
        self.message = message
        self.sent = sent
        self.retry = retry  # None: as the table says


def unreachable(place: "Endpoint", why: OSError) -> Fault:
    """No connection could be made, or not one byte went into it."""
    retry: Retry | None = "pointless" if isinstance(why, ssl.SSLCertVerificationError) else None
    return Fault("provider_unreachable", f"The gateway at {place} cannot be reached: {_said(why)}.", sent=False, retry=retry)


def out_of_time() -> Fault:
    """The time ran out before anything was sent."""
    return Fault("expired", "The time ran out before the request was sent to the gateway.", sent=False)


def late(*, sent: bool) -> Fault:
    """The time ran out, and the grace too."""
    if not sent:
        return out_of_time()
    return Fault("deadline_exceeded", "The time ran out before the gateway's answer came.", sent=True)


def lost(why: BaseException | None) -> Fault:
    """The connection ended before the response did, with an error or (None) with an orderly end."""
    said = f": {_said(why)}" if why is not None else ""
    return Fault("connection_lost", f"The connection to the gateway ended before its answer came{said}.", sent=True)


def _said(why: BaseException) -> str:
    if isinstance(why, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({why.verify_message})"
    if isinstance(why, ssl.SSLError) and why.reason:  # without OpenSSL's source lines
        advice = "; perhaps it is http://, without TLS" if why.reason == "WRONG_VERSION_NUMBER" else ""
        return f"{why.reason.replace('_', ' ').lower()}{advice}"
    if isinstance(why, TimeoutError) and not why.args:
        return "it took too long"
    if isinstance(why, OSError) and not isinstance(why, ssl.SSLError) and why.errno is not None and why.errno > 0:
        return os.strerror(why.errno)  # asyncio's words name addresses only
    return getattr(why, "strerror", None) or str(why) or type(why).__name__


class Endpoint(msgspec.Struct, frozen=True):
    """Where the gateway listens."""

    secure: bool
    host: str  # a name or an address, without brackets
    port: int
    authority: str  # as the Host header has it
    target: str  # path and query

    def __str__(self) -> str:
        return f"{'https' if self.secure else 'http'}://{self.authority}{self.target}"


def endpoint(url: str) -> Endpoint:
    """Take a gateway's URL apart; without a path it is `/rpc`. Raises ValueError."""
    if not _VISIBLE.fullmatch(url):
        raise ValueError(f"{url!r} is no URL: it may hold visible ASCII characters only")
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"}:
        raise ValueError(f"{url!r} does not begin with http:// or https://")
    if not parts.hostname:
        raise ValueError(f"{url!r} names no host")
    if parts.username is not None or parts.password is not None:
        raise ValueError("credentials do not belong into the URL; give the API key as api_key")
    if parts.fragment:
        raise ValueError(f"{url!r} has a fragment, which no server ever sees")
    if parts.port == 0:
        raise ValueError(f"{url!r} names port 0, where nobody can listen")
    secure = parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    bracketed = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    authority = bracketed if port == (443 if secure else 80) else f"{bracketed}:{port}"
    target = parts.path or "/rpc"
    if parts.query:
        target = f"{target}?{parts.query}"
    return Endpoint(secure=secure, host=parts.hostname, port=port, authority=authority, target=target)


def is_address(host: str) -> bool:
    """Whether a host is an IP address, so that nobody need be asked for it."""
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def head_of(place: Endpoint, api_key: str | None) -> bytes:
    """Return the lines that every request of a client begins with. Raises ValueError for an API key no header can carry."""
    lines = [
        f"POST {place.target} HTTP/1.1",
        f"Host: {place.authority}",
        "Content-Type: application/json",
        "Accept: application/json",
        "Accept-Encoding: identity",
        "User-Agent: homing-python",
    ]
    if api_key is not None:
        if not _VISIBLE.fullmatch(api_key):
            raise ValueError("an API key is visible ASCII characters, without spaces or line ends")
        lines.append(f"Authorization: Bearer {api_key}")
    return ("\r\n".join(lines) + "\r\n").encode("ascii")


class ResponseReader:
    """One response, fed as its bytes come. Interim responses (1xx) are passed over.

    `status` is 0 until the head is complete. Names of headers are lower-case. A header that a trailer brings is not looked at:
    what proves that nothing was executed stands in the head.
    """

    __slots__ = (
        "_bytes_max",
        "_close_delimited",
        "_fed",
        "_keep_alive",
        "_parser",
        "_surplus",
        "body",
        "complete",
        "headers",
        "status",
    )

    def __init__(self, bytes_max: int = RESPONSE_BYTES_MAX) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._bytes_max = bytes_max
        self._fed = 0
        self._keep_alive = False
        self._surplus = False
        self._close_delimited = False
        self.status = 0
        self.headers: dict[str, list[str]] = {}
        self.body = bytearray()
        self.complete = False

    @property
    def reusable(self) -> bool:
        """Whether the connection may carry another request: the response is whole, and nothing came after it."""
        return self.complete and self._keep_alive and not self._surplus

    def feed(self, data: bytes) -> None:
        """Read on. Raises Fault when this is no response, or one that is too large."""
        self._fed += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            if self.complete:
                self._surplus = True
                return
            cause = error.__context__ if isinstance(error, httptools.HttpParserCallbackError) else error
            raise cause if isinstance(cause, Fault) else _invalid(f"what came back is no HTTP response: {cause}") from None
        if not self.status and self._fed > HEAD_BYTES_MAX:
            raise _invalid(f"the head of the response is longer than {HEAD_BYTES_MAX} bytes")

    def end(self) -> bool:
        """Take note of the end of the stream; True where that is how this response ends (RFC 9112, 6.3, rule 8)."""
        if self.status and self._close_delimited:
            self.complete = True
        return self.complete

    def header(self, name: str) -> str | None:
        """Return a header's one value; None if there is none, or if several disagree."""
        values = set(self.headers.get(name, ()))
        return values.pop() if len(values) == 1 else None

    @property
    def executed(self) -> Verdict | None:
        """What `Homing-Executed` says."""
        said = self.header("homing-executed")
        return said if said in STRENGTH else None

    @property
    def reason(self) -> str | None:
        """`Homing-Reason`, if it is one of the table."""
        said = self.header("homing-reason")
        return said if said in ROWS else None

    @property
    def retry(self) -> Retry | None:
        """What `Homing-Retry` says."""
        said = self.header("homing-retry")
        return said if said in RETRY_WORDS else None

    @property
    def retry_after_ms(self) -> int | None:
        """`Retry-After` in seconds, as milliseconds."""
        said = self.header("retry-after")
        return int(said) * 1000 if said is not None and _SECONDS.fullmatch(said) else None

    @property
    def deadline_ms(self) -> int | None:
        """`Homing-Deadline-Ms`: the timeout that the gateway granted."""
        said = self.header("homing-deadline-ms")
        return int(said) if said is not None and _SECONDS.fullmatch(said) else None

    # What the parser calls. Whatever comes after the response is complete is somebody else's, and spoils the connection.

    def on_message_begin(self) -> None:
        if self.complete:
            self._surplus = True

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.status and not self.complete:
            self.headers.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1").strip())

    def on_headers_complete(self) -> None:
        if self.complete:
            return
        status = self._parser.get_status_code()
        if not self._parser.get_http_version().startswith("1."):
            raise _invalid(f"the response speaks HTTP/{self._parser.get_http_version()}")
        if status == 101:
            raise _invalid("the response changes the protocol, which nobody asked for")
        if status < 200:
            self.headers.clear()
            return
        self.status = status
        self._keep_alive = self._parser.should_keep_alive()
        self._close_delimited = "content-length" not in self.headers and "chunked" not in " ".join(
            self.headers.get("transfer-encoding", ())
        )

    def on_body(self, data: bytes) -> None:
        if self.complete:
            return
        if len(self.body) + len(data) > self._bytes_max:
            raise Fault("response_too_large", f"the response is longer than {self._bytes_max} bytes", sent=True)
        self.body += data

    def on_message_complete(self) -> None:
        if self.status:
            self.complete = True


def _invalid(message: str) -> Fault:
    return Fault("response_invalid", message, sent=True)
