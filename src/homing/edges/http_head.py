"""The head of one HTTP/1 request: bytes in, a `Head` or the `Refusal` it gets out. No sockets, no clock.

llhttp splits the head, and what it lets pass is guarded on the raw bytes: line ends, control bytes, versions, sizes and counts, Host,
transfer codings. Only what both accept is a request, so that whatever stands before the listener and reads the same bytes in
another way finds nobody here who agrees with it (RFC 9112 section 11.2).

Which refusal a head gets is a matter of its bytes alone, never of how they were cut into segments: the first wrong byte decides.
"""

import re
from collections.abc import Callable, Container
from typing import Final, Literal, TypeAlias

import msgspec
from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

REQUEST_LINE_BYTES_MAX: Final = 8192  # RFC 9112 section 3 asks for 8000 at least
CHUNKED: Final = -1  # the length of a body that does not announce one

Version: TypeAlias = Literal["1.0", "1.1"]


class ListenerLimits(msgspec.Struct, frozen=True):
    """What one caller may cost. Times are seconds; `heartbeat_s` 0 means none."""

    body_bytes_max: int = 1 << 20
    header_bytes_max: int = 32 << 10  # request line, header fields and the empty line together
    header_count_max: int = 100
    held_bytes_max: int = 512 << 20  # in this process: bodies held, and what callers have not read
    header_timeout_s: float = 10.0
    body_timeout_s: float = 30.0
    idle_timeout_s: float = 75.0
    write_timeout_s: float = 10.0
    heartbeat_s: float = 0.0


class Refusal(msgspec.Struct, frozen=True):
    """Why HTTP itself says no. `limit` is the configuration path of the limit that was hit."""

    status: int
    message: str
    limit: str | None = None


class Head(msgspec.Struct, gc=False):
    """A request head that is well-formed, framed beyond doubt and within the limits.

    Names in `fields` are lower-case; repeated fields are joined by ", " (RFC 9110 section 5.3), so that a repetition of one that may
    stand only once is malformed to whoever reads it, and never a choice between two. `length` is the body's in bytes, or `CHUNKED`.
    """

    method: str
    path: str
    query: str
    version: Version
    fields: dict[bytes, bytes]
    length: int
    keep: bool  # the connection may be used again after this request
    expects: bool  # the caller waits for 100 before it sends the body
    known: object = None  # what whoever answers has found out from it, and need not find out again


METHODS: Final = {
    name.encode(): name for name in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE")
}  # CONNECT is not: it wants a tunnel, and its target is no path
VERSIONS: Final[dict[bytes, Version]] = {b"1.1": "1.1", b"1.0": "1.0"}

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"  # RFC 9110 section 5.6.2
_LINE = rb"(" + _TOKEN + rb") ([!-~]++) HTTP/([0-9]\.[0-9])\r\n"
_FIELD = _TOKEN + rb":[\t -~\x80-\xff]*+\r\n"
_NEAT = _TOKEN + rb":[\t -~\x80-\xff]*+(?<![\t ])\r\n"  # no white space after the value, which llhttp would keep
_request_line = re.compile(_LINE)
_field_line = re.compile(_FIELD)
_whole_head = re.compile(_LINE + rb"(?:" + _FIELD + rb")*+\r\n")
_neat_head = re.compile(_LINE + rb"(?:" + _NEAT + rb")*+\r\n")
match_head: Final = _neat_head.match  # (data, start): the whole head there, if it is as plain as most are
_first_byte = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]")
# RFC 3986 section 3.2.2, without userinfo, which RFC 9110 section 4.2.4 forbids here.
_host = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9\-._~%!$&'()*+,;=]*)(?::[0-9]*)?")
_absolute = re.compile(r"https?://([^/?#]+)(/[^?#]*)?(?:\?([^#]*))?", re.IGNORECASE)
_origin = re.compile(rb"\r\norigin:[\t ]*+([!-~]*+)[\t ]*+(?=\r\n)", re.IGNORECASE)
_huge_length = re.compile(rb"\r\ncontent-length:[\t ]*[0-9]{19,}[\t ]*\r\n", re.IGNORECASE)

_RPC: Final = ("/rpc", "")

_MALFORMED = Refusal(400, "The request head is malformed.")
_BARE_LF = Refusal(400, "A line of the request head ends with LF alone; CR LF is required.")
_NO_HTTP = Refusal(400, "This is no HTTP request.")
_VERSION = Refusal(505, "Only HTTP/1.1 and HTTP/1.0 are spoken here.")
_TARGET = Refusal(400, "The request target is neither a path nor an absolute http URL.")
_LONG_LINE = Refusal(414, f"The request line is longer than {REQUEST_LINE_BYTES_MAX} bytes.", "gateway.header_bytes_max")
_HOST_MISSING = Refusal(400, "The Host header is missing.")
_HOST_TWICE = Refusal(400, "There is more than one Host header.")
_HOST_INVALID = Refusal(400, "The Host header is invalid.")
_FRAMED_TWICE = Refusal(400, "Content-Length and Transfer-Encoding exclude each other.")
_LENGTH_TWICE = Refusal(400, "There is more than one Content-Length header.")
_LENGTH_INVALID = Refusal(400, "Content-Length must be a decimal number.")
_LENGTH_MISSING = Refusal(411, "A POST needs Content-Length or Transfer-Encoding: chunked.")
_CODED_OLD = Refusal(400, "HTTP/1.0 knows no Transfer-Encoding.")
_CODED_OPEN = Refusal(400, "Transfer-Encoding must end with one chunked.")
_CODED = Refusal(501, "chunked is the only transfer coding known here.")
_EXPECTATION = Refusal(417, "100-continue is the only expectation that can be met.")


def fields_of(raw: bytes) -> dict[bytes, bytes]:
    """The header fields of a head that was accepted before, once more."""
    return _split_any(raw)[0]


def origin_of(raw: bytes | bytearray) -> bytes | None:
    """The Origin of a head that was refused, or of as much of it as has come; None if there is none, or more than one."""
    end = raw.find(b"\r\n\r\n")
    found: list[bytes] = _origin.findall(raw, 0, len(raw) if end < 0 else end + 2)
    return bytes(found[0]) if len(found) == 1 else None


def parse_head(raw: bytes, limits: ListenerLimits, neat: "re.Match[bytes] | None" = None) -> Head | Refusal:
    """Read one whole head, from the request line to the empty line. `neat` is what `match_head` found, if it was asked."""
    neat = neat or _neat_head.fullmatch(raw)
    match = neat or _whole_head.fullmatch(raw)
    count = raw.count(b"\n") - 2
    if (
        match is None
        or count > limits.header_count_max
        or len(raw) > limits.header_bytes_max
        or match.end(3) - match.start() + 2 > REQUEST_LINE_BYTES_MAX
    ):
        return examine(raw, limits) or _MALFORMED
    method, target, number = match.groups()
    version = VERSIONS.get(number)
    name = METHODS.get(method)
    if version is None or name is None:
        return _examine_line(method, number) or _MALFORMED
    repeated: Container[bytes] = ()
    try:
        fields = _split(raw)
        # The last field is only told of at the end of the head: with all of them here, llhttp has seen the same end.
        if neat is None or len(fields) != count:
            fields, repeated = _split_any(raw)
    except HttpParserError as error:
        if _huge_length.search(raw):
            return _too_large(limits)
        return Refusal(400, f"The request head is malformed: {error}.")
    place = _RPC if target == b"/rpc" else _locate(target, method)
    if place is None:
        return _TARGET
    return _frame(name, place, version, fields, repeated, limits)


def examine(data: bytes | bytearray, limits: ListenerLimits) -> Refusal | None:
    """What is wrong with a head, or with as much of it as has come: the first wrong byte decides. None if nothing yet."""
    size = len(data)
    if size and _first_byte.match(data) is None:
        return _NO_HTTP
    start = lines = 0
    while True:
        feed = data.find(b"\n", start)
        reach = size if feed < 0 else feed + 1
        if lines == 0 and reach > min(REQUEST_LINE_BYTES_MAX, limits.header_bytes_max):
            return _LONG_LINE
        if reach > limits.header_bytes_max:
            return Refusal(431, f"The request head is larger than {limits.header_bytes_max} bytes.", "gateway.header_bytes_max")
        if feed < 0:
            return None
        if feed == start or data[feed - 1] != 13:
            return _BARE_LF
        if lines == 0:
            line = _request_line.fullmatch(data, 0, reach)
            refusal = _examine_line(line[1], line[3]) if line else Refusal(400, "The request line is malformed.")
            if refusal is not None:
                return refusal
        elif feed == start + 1:
            return None
        elif lines > limits.header_count_max:
            return Refusal(431, f"There are more than {limits.header_count_max} header fields.", "gateway.header_count_max")
        elif _field_line.fullmatch(data, start, reach) is None:
            return Refusal(400, f"Line {lines + 1} of the request head is no header field.")
        start = reach
        lines += 1


class _Collect:
    """Where llhttp puts the fields."""

    __slots__ = ("on_header",)

    on_header: Callable[[bytes, bytes], None]


def _feed(raw: bytes, on_header: Callable[[bytes, bytes], None]) -> None:
    collect = _Collect()
    collect.on_header = on_header
    try:
        HttpRequestParser(collect).feed_data(raw)
    except HttpParserUpgrade:
        return  # an upgrade is an offer, and not taking it is the answer to it (RFC 9110 section 7.8)


def _split(raw: bytes) -> dict[bytes, bytes]:
    """The fields by lower-case names, straight into a dict: of repeated ones only one is left. Raises HttpParserError."""
    found: dict[bytes, bytes] = {}
    _feed(raw, found.__setitem__)
    return {name.lower(): value for name, value in found.items()}


def _split_any(raw: bytes) -> tuple[dict[bytes, bytes], Container[bytes]]:
    """The fields by lower-case names, repeated ones joined, and which those are. Raises HttpParserError."""
    pairs: list[tuple[bytes, bytes]] = []
    _feed(raw, lambda name, value: pairs.append((name.lower(), value.rstrip(b" \t"))))
    if len(pairs) != raw.count(b"\n") - 2:
        raise HttpParserError("its fields cannot be told apart")
    fields: dict[bytes, bytes] = {}
    repeated = set()
    for name, value in pairs:
        if name in fields:
            repeated.add(name)
            value = fields[name] + b", " + value
        fields[name] = value
    return fields, repeated


def _examine_line(method: bytes, number: bytes) -> Refusal | None:
    if number not in VERSIONS:
        return _VERSION
    if method not in METHODS:
        return Refusal(501, f"The method {method[:20].decode('ascii')} is not known here.")
    return None


def _locate(target: bytes, method: bytes) -> tuple[str, str] | None:
    """Path and query of a request target (RFC 9112 section 3.2)."""
    text = target.decode("ascii")
    if "#" in text:
        return None
    if text[0] == "/":
        path, _, query = text.partition("?")
        return path, query
    if text == "*" and method == b"OPTIONS":
        return "*", ""
    absolute = _absolute.fullmatch(text)
    if absolute is None or _host.fullmatch(absolute[1].encode()) is None:
        return None
    return absolute[2] or "/", absolute[3] or ""


def _frame(
    method: str,
    place: tuple[str, str],
    version: Version,
    fields: dict[bytes, bytes],
    repeated: Container[bytes],
    limits: ListenerLimits,
) -> Head | Refusal:
    """Where the body ends, beyond doubt (RFC 9112 section 6.3), and what else the fields say about the message."""
    host = fields.get(b"host")
    if host is None:
        if version == "1.1":
            return _HOST_MISSING
    elif b"host" in repeated:
        return _HOST_TWICE
    elif _host.fullmatch(host) is None:
        return _HOST_INVALID
    length = 0
    coding = fields.get(b"transfer-encoding")
    announced = fields.get(b"content-length")
    if coding is not None:
        refusal = _examine_coding(coding, version) if announced is None else _FRAMED_TWICE
        if refusal is not None:
            return refusal
        length = CHUNKED
    elif announced is not None:
        if b"content-length" in repeated:
            return _LENGTH_TWICE
        if not announced.isdigit():
            return _LENGTH_INVALID
        significant = announced.lstrip(b"0")
        if len(significant) > 18:  # and Python converts no number of thousands of digits
            return _too_large(limits)
        length = int(significant or b"0")
    elif method == "POST":
        return _LENGTH_MISSING
    expectation = fields.get(b"expect")
    expects = False
    if expectation is not None:
        if expectation.lower() != b"100-continue":
            return _EXPECTATION
        expects = length != 0 and version == "1.1"  # RFC 9110 section 10.1.1: HTTP/1.0 cannot mean it
    if length > limits.body_bytes_max:
        return _too_large(limits)
    keep = version == "1.1"
    connection = fields.get(b"connection")
    if connection is not None:
        options = [option.strip(b" \t") for option in connection.lower().split(b",")]
        keep = b"close" not in options and (keep or b"keep-alive" in options)
    return Head(method, place[0], place[1], version, fields, length, keep, expects)


def _examine_coding(coding: bytes, version: Version) -> Refusal | None:
    if version == "1.0":
        return _CODED_OLD
    codings = [name.strip(b" \t") for name in coding.lower().split(b",")]
    if codings[-1] != b"chunked" or codings.count(b"chunked") > 1:
        return _CODED_OPEN  # the end of the body is anybody's guess (RFC 9112 section 6.3)
    return _CODED if len(codings) > 1 else None


def _too_large(limits: ListenerLimits) -> Refusal:
    return Refusal(413, f"The body is larger than {limits.body_bytes_max} bytes.", "gateway.body_max")
