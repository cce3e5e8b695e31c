"""Bytes from a provider to a response.

llhttp (through httptools) takes the bytes apart. What it leaves to us is done here: how much there may be of everything, which of its
leniencies are refused, responses to HEAD, the end of the stream as the end of a body, and what comes after a response.
"""

from typing import Final

from httptools import HttpParserCallbackError, HttpParserError, HttpResponseParser

from homing.core.exchange import FailureReason, HttpResponse
from homing.edges.provider_content import ContentTooLarge, Decoder, decoder

FIELD_OVERHEAD_BYTES: Final = 32  # what a header counts beside its own bytes, as in RFC 9113 section 6.5.2
VERSION: Final = b"HTTP/1."
_NONE: Final[dict[str, str]] = {}  # never written to
_NAMES_MAX: Final = 1024
BODILESS: Final = frozenset({204, 304})  # RFC 9112 section 6.3
KNOWN_HEADS_MAX: Final = 256
KNOWN_HEAD_BYTES_MAX: Final = 2048
_NAMES: Final[dict[bytes, str]] = {}  # header names as they come, to how they are shown


class Broken(Exception):
    """There will be no response: what came is not one, or too large. The connection cannot be used any more."""

    def __init__(self, reason: FailureReason, message: str) -> None:
        super().__init__(message)
        self.reason: FailureReason = reason
        self.message = message


class KnownHeads:
    """Heads of responses that came before, byte for byte, and what they were found to say: status, header fields, body's length.

    A provider says the same again and again, but for `Date`, which changes once a second. Only such are kept as were read whole
    from one segment, frame their body by Content-Length and leave the connection usable: equal bytes say that again.
    """

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[bytes, tuple[int, dict[str, str], int]] = {}

    def __len__(self) -> int:
        return len(self._known)

    def find(self, data: bytes) -> HttpResponse | None:
        """Return the response that `data` is, if it is one with a known head and nothing else."""
        end = data.find(b"\r\n\r\n") + 4
        known = self._known.get(data[:end])
        if known is None or len(data) != end + known[2]:
            return None
        return HttpResponse(known[0], known[1], data[end:])

    def learn(self, data: bytes, response: HttpResponse) -> None:
        """Keep the head of `data`, which was `response` and nothing else."""
        end = len(data) - len(response.body)
        if end <= KNOWN_HEAD_BYTES_MAX and data.find(b"\r\n\r\n") + 4 == end:
            if len(self._known) >= KNOWN_HEADS_MAX:
                del self._known[next(iter(self._known))]
            self._known[data[:end]] = (response.status, response.headers, len(response.body))


class Reader:
    """Reads the responses of one connection, one after the other: `begin`, `feed` until it says True, `response`.

    Its memory is bounded by `body_bytes_max` (which holds for the body as it comes and for the decoded one), `head_bytes_max` (heads,
    interim responses, trailers and chunk extensions) and one read from the socket.
    """

    __slots__ = (
        "_body",
        "_body_bytes_max",
        "_bodyless",
        "_broken",
        "_complete",
        "_decoder",
        "_fields",
        "_head_bytes",
        "_head_bytes_max",
        "_head_complete",
        "_headers",
        "_interim",
        "_interims",
        "_known",
        "_parser",
        "_quiet_bytes",
        "_start",
        "_status",
        "_taken_bytes",
        "_until_close",
        "reusable",
    )

    def __init__(self, *, body_bytes_max: int, head_bytes_max: int, known: KnownHeads | None = None) -> None:
        """`known` may be shared by readers with the same bounds."""
        self._known = known if known is not None else KnownHeads()
        self._body_bytes_max = body_bytes_max
        self._head_bytes_max = head_bytes_max
        self._parser: HttpResponseParser | None = HttpResponseParser(self)
        self._fields: list[tuple[bytes, bytes]] = []  # as they come, until there is an end to them
        self._headers = _NONE
        self._body: bytes | bytearray | None = None
        self._decoder: Decoder | None = None
        self._broken: Broken | None = None
        self._status = 0
        self.reusable = False  # once a response is complete: whether the connection may carry another exchange
        self.begin(bodyless=False)

    def begin(self, *, bodyless: bool) -> None:
        """A request goes out. `bodyless`: it is a HEAD, whose response has no body whatever its head says (RFC 9112 section 6.3)."""
        self._bodyless = bodyless
        self._start: bytes | None = b""  # the first bytes of the response, until they are known to be HTTP/1
        self._head_bytes = 0
        self._quiet_bytes = 0  # since a body grew
        self._taken_bytes = 0  # of the body, as it came
        self._head_complete = self._interim = self._interims = self._complete = self._until_close = False

    def read_known(self, data: bytes) -> HttpResponse | None:
        """Return the response if `data` is all of one whose head came before; None, with nothing done: `feed` it.

        The parser does not hear of it: it stands between two messages before and after.
        """
        if self._start != b"" or self._bodyless:
            return None
        response = self._known.find(data)
        if response is not None:
            self.reusable = True
        return response

    def feed(self, data: bytes) -> bool:
        """Take bytes as they come. True: the response is complete. Raises Broken; then feed it no more."""
        start = self._start
        whole = start == b""
        if start is not None:
            start += data[: len(VERSION) - len(start)]
            if not VERSION.startswith(start):
                raise Broken("response_invalid", "the provider does not speak HTTP/1")
            self._start = None if len(start) == len(VERSION) else start
        self._quiet_bytes += len(data)
        parser = self._parser
        assert parser is not None
        try:
            parser.feed_data(data)
        except HttpParserError as error:
            if not self._complete:
                raise self._reason(error) from None
            self.reusable = False  # what broke came after the response
        if self._complete:
            if self._bodyless:
                self._parser = HttpResponseParser(self)  # the old one waits for the body that never comes
            elif whole and self._is_plain():
                self._known.learn(data, HttpResponse(self._status, self._headers, bytes(self._body or b"")))
            return True
        if self._head_complete:
            self._fields.clear()  # trailers
        if self._quiet_bytes > self._head_bytes_max:
            raise self._too_much()
        return False

    def _is_plain(self) -> bool:
        """Whether a response is framed by its Content-Length alone, and the next may follow."""
        headers = self._headers
        return (
            self.reusable
            and not self._interims
            and self._decoder is None
            and "transfer-encoding" not in headers
            and headers.get("content-length") == str(self._taken_bytes)
        )

    def end(self) -> bool:
        """The stream ended in order. True: that was the end of the body, and the response is complete."""
        if self._until_close and not self._complete:
            self._complete = True
            self.reusable = False
        return self._complete

    def response(self) -> HttpResponse:
        """Return what `feed` or `end` said is complete. Raises Broken if its content coding ends too early."""
        body, headers = self._body, self._headers
        self._body = None  # a resting connection holds nothing
        self._headers = _NONE
        if self._fields:
            self._fields.clear()  # trailers: they may be dropped (RFC 9110 section 6.5.1)
        if self._decoder is not None:
            try:
                self._decoder.finish()
            except ValueError as error:
                raise Broken("response_invalid", str(error)) from None
            self._decoder = None
            headers.pop("content-encoding", None)
            headers.pop("content-length", None)
        return HttpResponse(self._status, headers, b"" if body is None else bytes(body))

    def drop(self) -> None:
        """Nothing will be read any more. The parser and its reader hold each other."""
        self._parser = None
        self._body = self._decoder = None

    @property
    def started(self) -> bool:
        """Whether a byte of the response has come."""
        return self._start != b""

    @property
    def status(self) -> int | None:
        """The response's status, once its head is complete."""
        return self._status if self._head_complete else None

    # what the parser calls

    def on_message_begin(self) -> None:
        if self._complete:
            raise Broken("response_invalid", "another response")  # stops the parser; nobody hears it

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields.append((name, value))  # their number and size are looked at when they are all there, or after each read

    def on_headers_complete(self) -> None:
        parser = self._parser
        assert parser is not None
        self._status = status = parser.get_status_code()
        headers = self._headers = self._collect()
        if self._interims and not parser.get_http_version().startswith("1."):
            raise self._refuse(Broken("response_invalid", "the provider does not speak HTTP/1"))
        length = headers.get("content-length")
        coding = headers.get("transfer-encoding")
        if status < 200:
            if status in {0, 101} or status < 100 or coding is not None or length not in {None, "0"}:
                raise self._refuse(Broken("response_invalid", f"an interim response that cannot be: status {status}"))
            self._interim = self._interims = True
            self._headers = _NONE
            return
        self._head_complete = True
        if self._bodyless or status in BODILESS:
            if self._bodyless:
                self._finish(parser)
            return
        if coding is not None:
            # RFC 9112 section 6.1: HTTP/1.0 knows none, and none but chunked was asked for.
            if coding.strip().lower() != "chunked" or parser.get_http_version() != "1.1":
                raise self._refuse(Broken("response_invalid", "a transfer coding that was not asked for"))
        elif length is None:
            self._until_close = True
        elif int(length) > self._body_bytes_max:
            raise self._refuse(self._too_large())
        if (content_encoding := headers.get("content-encoding")) is not None:
            try:
                self._decoder = decoder(content_encoding, self._body_bytes_max)
            except ValueError as error:
                raise self._refuse(Broken("response_invalid", str(error))) from None

    def _collect(self) -> dict[str, str]:
        """Return the header fields that came."""
        headers: dict[str, str] = {}
        head_bytes = self._head_bytes
        for name, value in self._fields:
            head_bytes += len(name) + len(value) + FIELD_OVERHEAD_BYTES
            shown = _NAMES.get(name)
            if shown is None:
                shown = name.lower().decode("latin-1")
                if len(_NAMES) < _NAMES_MAX and len(name) < 64:
                    _NAMES[name] = shown
            if shown in headers:
                if head_bytes > self._head_bytes_max:
                    break  # or joining them would take time that grows with their square
                headers[shown] = f"{headers[shown]}, {value.decode('latin-1')}"
            else:
                headers[shown] = value.decode("latin-1")
        if head_bytes > self._head_bytes_max:
            raise self._refuse(self._too_much())
        self._head_bytes = head_bytes  # of the interim responses before too
        self._fields.clear()
        return headers

    def on_body(self, data: bytes) -> None:
        if self._complete:
            raise Broken("response_invalid", "a body for a HEAD")  # the same
        self._quiet_bytes = 0
        self._taken_bytes += len(data)
        if self._taken_bytes > self._body_bytes_max:
            raise self._refuse(self._too_large())
        if self._decoder is not None:
            try:
                data = self._decoder.feed(data)
            except ContentTooLarge:
                raise self._refuse(self._too_large(" once its content coding is undone")) from None
            except ValueError as error:
                raise self._refuse(Broken("response_invalid", str(error))) from None
        body = self._body
        if body is None:
            self._body = data
        elif isinstance(body, bytearray):
            body += data
        else:
            self._body = bytearray(body) + data  # not a list of pieces: a chunk of one byte would cost fifty

    def on_message_complete(self) -> None:
        if self._interim:
            self._interim = False
        elif not self._complete:
            parser = self._parser
            assert parser is not None
            self._finish(parser)

    def _finish(self, parser: HttpResponseParser) -> None:
        self._complete = True
        self.reusable = parser.should_keep_alive() and not (self._status in BODILESS and self._announces_body())

    def _announces_body(self) -> bool:
        """Whether the head speaks of a body. Where there is none some send it all the same, later, and it must answer nobody."""
        headers = self._headers
        return headers.get("content-length", "0") != "0" or "transfer-encoding" in headers

    # why not

    def _refuse(self, broken: Broken) -> Broken:
        """Remember the reason: the parser only says that a callback raised."""
        self._broken = broken
        return broken

    def _reason(self, error: HttpParserError) -> Broken:
        if self._broken is not None:
            return self._broken
        if isinstance(error, HttpParserCallbackError):
            cause = error.__context__
            raise RuntimeError("a callback of the response parser broke") from cause
        return Broken("response_invalid", f"the response is malformed: {error}")

    def _too_much(self) -> Broken:
        return Broken("response_invalid", f"more than {self._head_bytes_max} bytes of headers or framing")

    def _too_large(self, when: str = "") -> Broken:
        return Broken("response_too_large", f"the response is larger than {self._body_bytes_max} bytes{when}")
