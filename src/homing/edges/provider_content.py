"""Content codings of a response (RFC 9110 section 8.4), undone piece by piece under a bound on what comes out."""

import zlib
from typing import Final

ACCEPT_ENCODING: Final = "gzip, deflate"
MEMBERS_MAX: Final = 1000  # of one gzip body (RFC 1952 section 2.2); each costs a new window, and an empty one is 20 bytes

GZIP: Final = 31  # zlib's wbits: a gzip wrapper and the largest window
ZLIB: Final = 15
RAW: Final = -15


class ContentTooLarge(Exception):
    """The decoded content is over its bound."""


class Decoder:
    """Undoes gzip or deflate. Raises ContentTooLarge past `bytes_max` decoded bytes and ValueError where the stream is broken."""

    __slots__ = ("_deflate", "_held", "_inflate", "_left", "_members")

    def __init__(self, *, deflate: bool, bytes_max: int) -> None:
        self._deflate = deflate
        self._left = bytes_max
        self._members = 0
        self._held = b""  # of a deflate stream, until it shows whether it has a zlib wrapper
        self._inflate: zlib._Decompress | None = None  # None: between two gzip members, or nothing has come yet

    def feed(self, data: bytes) -> bytes:
        """Return what `data` stands for, at most the bytes that are still allowed."""
        if self._deflate and self._members == 0:
            data = self._held + data
            if len(data) < 2:
                self._held = data
                return b""
            self._held = b""
        pieces: list[bytes] = []
        while data:
            if self._inflate is None:
                data = self._begin(data)
                if not data:
                    break
            assert self._inflate is not None
            try:
                piece = self._inflate.decompress(data, self._left + 1)
            except zlib.error as error:
                raise ValueError(f"the content coding is broken: {error}") from None
            if len(piece) > self._left:
                raise ContentTooLarge
            self._left -= len(piece)
            pieces.append(piece)
            # Not at its end and less than allowed came out: all of `data` went in.
            data = self._inflate.unused_data if self._inflate.eof else b""
            if self._inflate.eof:
                self._inflate = None
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def finish(self) -> None:
        """Nothing more will come. A body of no bytes at all is taken for an empty one, whatever it says it is."""
        if self._inflate is not None or self._held:
            raise ValueError("the content coding ends too early")

    def _begin(self, data: bytes) -> bytes:
        if self._deflate:
            if self._members:
                raise ValueError("bytes follow the deflate stream")
            self._inflate = zlib.decompressobj(ZLIB if _is_zlib(data) else RAW)
        else:
            if self._members:
                data = data.lstrip(b"\0")  # padding, which gzip(1) passes over too
            if self._members == MEMBERS_MAX:
                raise ValueError(f"more than {MEMBERS_MAX} gzip members")
            if data:
                self._inflate = zlib.decompressobj(GZIP)
        self._members += 1
        return data


def decoder(content_encoding: str, bytes_max: int) -> Decoder | None:
    """Return what undoes `Content-Encoding`, None if there is nothing to undo. Raises ValueError for a coding nobody asked for."""
    codings = [name for part in content_encoding.split(",") if (name := part.strip().lower()) not in {"", "identity"}]
    if not codings:
        return None
    if len(codings) > 1 or codings[0] not in {"gzip", "x-gzip", "deflate"}:
        raise ValueError("a content coding that was not asked for")
    return Decoder(deflate=codings[0] == "deflate", bytes_max=bytes_max)


def _is_zlib(data: bytes) -> bool:
    """Whether a deflate stream has its wrapper (RFC 1950 section 2.2). RFC 9110 demands one; some servers send none."""
    return data[0] & 0x0F == 8 and data[0] >> 4 <= 7 and (data[0] << 8 | data[1]) % 31 == 0
