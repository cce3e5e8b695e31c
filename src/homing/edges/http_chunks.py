"""A chunked request body (RFC 9112 section 7.1): segments in, the content out, within bounds.

Our own, because llhttp through httptools can neither stop at the end of a message, nor bound chunk extensions and trailers. It is
stricter than it must be where others have been fooled: a size is 1 to 16 hex digits, every line ends with CR LF, extensions must be
well-formed and are few. Extensions and trailers are read past and forgotten.
"""

import re
from typing import Final

from homing.edges.http_head import ListenerLimits, Refusal

LINE_BYTES_MAX: Final = 1024  # one size line with its extensions
FRAMING_BYTES_MAX: Final = 64 << 10  # size lines may take so much more than the content they frame

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_QUOTED = rb'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*+"'
_size_line = re.compile(
    rb"([0-9A-Fa-f]{1,16}+)(?:[\t ]*+;[\t ]*+" + _TOKEN + rb"(?:[\t ]*+=[\t ]*+(?:" + _TOKEN + rb"|" + _QUOTED + rb"))?+)*+\r\n"
)
_field_line = re.compile(_TOKEN + rb":[\t -~\x80-\xff]*+\r\n")

_SIZE, _DATA, _END, _TRAILER = range(4)


class Refused(Exception):
    """The body cannot be read to its end."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


class ChunkedBody:
    """Reads one body. `content` grows; `done` is True once the last trailer's line is read."""

    __slots__ = ("content", "done", "framing", "left", "limits", "rest", "state", "trailers")

    def __init__(self, limits: ListenerLimits) -> None:
        self.limits = limits
        self.content = bytearray()
        self.done = False
        self.state = _SIZE
        self.left = 0  # bytes of this chunk that are still to come
        self.rest = b""  # a line that has begun
        self.framing = 0  # bytes of size lines
        self.trailers = 0

    def feed(self, data: bytes | bytearray, start: int) -> int:
        """Read `data` from `start`; return where the next message begins if `done`, else len(data). Raises Refused."""
        before = len(self.rest)
        if before:
            data = self.rest + data[start:]
            self.rest = b""
            back, start = start - before, 0
        else:
            back = 0
        size = len(data)
        while start < size and not self.done:
            if self.state == _DATA:
                end = min(start + self.left, size)
                self.content += data[start:end]
                self.left -= end - start
                start = end
                if self.left == 0:
                    self.state = _END
                continue
            feed = data.find(b"\n", start)
            reach = size if feed < 0 else feed + 1
            self._bound(data, start, reach)
            if feed < 0:
                self.rest = bytes(data[start:])
                return size + back
            self._read_line(data, start, reach)
            start = reach
        return start + back

    def _bound(self, data: bytes | bytearray, start: int, reach: int) -> None:
        """Refuse a line that is too long as soon as it is, whether or not its end has come."""
        if self.state == _TRAILER:
            if self.framing + reach - start > self.limits.header_bytes_max:
                raise Refused(Refusal(431, "The trailers are too large.", "gateway.header_bytes_max"))
        elif self.state == _SIZE:
            if reach - start > LINE_BYTES_MAX:
                raise Refused(Refusal(400, "A chunk size line is too long."))
        elif data[start] != 13 or reach - start > 2:
            raise Refused(Refusal(400, "A chunk does not end where its size says."))

    def _read_line(self, data: bytes | bytearray, start: int, reach: int) -> None:
        if self.state == _SIZE:
            line = _size_line.fullmatch(data, start, reach)
            if line is None:
                raise Refused(Refusal(400, "A chunk size line is malformed."))
            self.left = int(line[1], 16)
            self.framing += reach - start
            if len(self.content) + self.left > self.limits.body_bytes_max:
                raise Refused(Refusal(413, f"The body is larger than {self.limits.body_bytes_max} bytes.", "gateway.body_max"))
            if self.framing > len(self.content) + FRAMING_BYTES_MAX:
                raise Refused(Refusal(400, "The chunks are too small, or their extensions too long."))
            self.state = _DATA
            if self.left == 0:
                self.state = _TRAILER
                self.framing = 0
        elif self.state == _END:
            self.state = _SIZE  # two bytes, the first CR, the last LF
        elif reach - start == 2 and data[start] == 13:
            self.done = True
        else:
            self.trailers += 1
            self.framing += reach - start
            if self.trailers > self.limits.header_count_max:
                raise Refused(Refusal(431, "There are too many trailers.", "gateway.header_count_max"))
            if _field_line.fullmatch(data, start, reach) is None:
                raise Refused(Refusal(400, "A trailer is malformed."))
