"""The bytes of an HTTP/1.1 answer, in one piece where that is cheaper."""

from collections.abc import Sequence
from email.utils import formatdate
from http import HTTPStatus
from typing import Final, TypeAlias

Fields: TypeAlias = Sequence[tuple[bytes, bytes]]
Reply: TypeAlias = tuple[int, Fields | bytes, bytes]  # status, header fields or the lines they are to be, body

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
HEARTBEAT: Final = b"1\r\n \r\n"  # one chunk of one space, which JSON does not mind
JOINED_BYTES_MAX: Final = 64 << 10  # a larger body is not copied behind its head

_STATUS: Final = (
    {
        status: b"HTTP/1.1 %d " % status
        for status in range(200, 600)  # the phrase is for people, and may be empty
    }
    | {status.value: b"HTTP/1.1 %d %b" % (status.value, status.phrase.encode()) for status in HTTPStatus if status.value >= 200}
    | {
        413: b"HTTP/1.1 413 Content Too Large",  # as RFC 9110 calls them, and older Pythons do not
        414: b"HTTP/1.1 414 URI Too Long",
    }
)
_field = b": ".join


def date_line(wall_now: float) -> bytes:
    """The Date field for a time in seconds since 1970 (RFC 9110 section 6.6.1)."""
    return b"Date: %b" % formatdate(wall_now, usegmt=True).encode()


def compose(out: list[bytes], reply: Reply, date: bytes, keep: bool, version: str, headless: bool) -> None:
    """Append a whole answer to `out`. `headless`: the request was a HEAD, and the body stays here (RFC 9110 section 9.3.2)."""
    status, fields, body = reply
    if isinstance(fields, bytes):
        if keep and status == 200 and version == "1.1" and len(body) <= JOINED_BYTES_MAX and not headless:
            # What nearly every answer is: written with one look at each part.
            out.append(b"HTTP/1.1 200 OK\r\n%b\r\n%bContent-Length: %d\r\n\r\n%b" % (date, fields, len(body), body))
            return
        lines = [_STATUS[status], date, *fields.split(b"\r\n")[:-1]]
    else:
        lines = [_STATUS[status], date, *map(_field, fields)]
    if not keep:
        lines.append(b"Connection: close")
    elif version == "1.0":
        lines.append(b"Connection: keep-alive")
    if status == 204:  # has no length either (RFC 9110 section 8.6)
        lines.append(b"\r\n")
        out.append(b"\r\n".join(lines))
    elif headless or len(body) > JOINED_BYTES_MAX:
        out.append(b"%b\r\nContent-Length: %d\r\n\r\n" % (b"\r\n".join(lines), len(body)))
        if not headless:
            out.append(body)
    else:
        out.append(b"%b\r\nContent-Length: %d\r\n\r\n%b" % (b"\r\n".join(lines), len(body), body))


def compose_chunked_head(fields: Fields, date: bytes, keep: bool) -> bytes:
    """The head of a 200 whose body is not known yet."""
    lines = [_STATUS[200], date, *map(_field, fields), b"Transfer-Encoding: chunked"]
    if not keep:
        lines.append(b"Connection: close")
    return b"\r\n".join(lines) + b"\r\n\r\n"


def compose_chunks(out: list[bytes], body: bytes) -> None:
    """Append a body whose head left with the heartbeat, and the end of it."""
    if body:  # a chunk of no bytes would be the end
        out.append(b"%x\r\n" % len(body))
        out.append(body)
        out.append(b"\r\n")
    out.append(b"0\r\n\r\n")
