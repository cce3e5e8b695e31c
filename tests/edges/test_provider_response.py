"""homing.edges.provider_response: what is a response, what is none, and that it does not matter in which pieces it comes."""

import gzip
import tracemalloc
import zlib
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homing.core.exchange import HttpResponse
from homing.edges.provider_response import KNOWN_HEAD_BYTES_MAX, KNOWN_HEADS_MAX, Broken, KnownHeads, Reader

BODY = b'{"ok":true}'
HEAD_MAX = 2000
BODY_MAX = 5000


def reader(*, bodyless: bool = False) -> Reader:
    one = Reader(body_bytes_max=BODY_MAX, head_bytes_max=HEAD_MAX)
    one.begin(bodyless=bodyless)
    return one


def read(pieces: Iterable[bytes], *, bodyless: bool = False, ends: bool = False) -> tuple[HttpResponse | None, bool]:
    """Feed the pieces until the response is complete; None if it never is. Also whether the connection may be used again."""
    one = reader(bodyless=bodyless)
    for piece in pieces:
        if piece and one.feed(piece):
            return one.response(), one.reusable
    if ends and one.end():
        return one.response(), one.reusable
    return None, False


def split(data: bytes, at: int) -> tuple[bytes, bytes]:
    return data[:at], data[at:]


def chunked(*chunks: bytes, trailer: bytes = b"") -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n" + trailer + b"\r\n"


OK = b"HTTP/1.1 200 OK\r\n"
PACKED = gzip.compress(BODY * 20)

# name: (bytes, headers, body, status, reusable, the end of the stream is its end, answers a HEAD)
GOOD: dict[str, tuple[bytes, dict[str, str], bytes, int, bool, bool, bool]] = {
    "length": (
        OK + b"Content-Type: application/json\r\nContent-Length: 11\r\n\r\n" + BODY,
        {"content-type": "application/json", "content-length": "11"},
        BODY, 200, True, False, False,
    ),
    "no reason, odd spaces": (
        b"HTTP/1.1 200\r\ncontent-length:   11  \r\nEmpty:\r\n\r\n" + BODY,
        {"content-length": "11  ", "empty": ""}, BODY, 200, True, False, False,
    ),
    "repeated headers": (
        OK + b"Via: a\r\nvia: b\r\nContent-Length: 0\r\nVIA: c\xe9\r\n\r\n",
        {"via": "a, b, c\xe9", "content-length": "0"}, b"", 200, True, False, False,
    ),
    "chunked": (
        OK + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(BODY[:1], BODY[1:5], BODY[5:]),
        {"transfer-encoding": "chunked"}, BODY, 200, True, False, False,
    ),
    "chunked with extensions and trailers": (
        OK + b"Transfer-Encoding: Chunked\r\nX: 1\r\n\r\nb;a=1;b=\"2\"\r\n" + BODY + b"\r\n0;c\r\nX: 2\r\nSum: abc\r\n\r\n",
        {"transfer-encoding": "Chunked", "x": "1"}, BODY, 200, True, False, False,
    ),
    "until close": (OK + b"X: 1\r\n\r\n" + BODY, {"x": "1"}, BODY, 200, False, True, False),
    "nothing until close": (OK + b"\r\n", {}, b"", 200, False, True, False),
    "connection: close": (
        OK + b"Connection: close\r\nContent-Length: 11\r\n\r\n" + BODY,
        {"connection": "close", "content-length": "11"}, BODY, 200, False, False, False,
    ),
    "HTTP/1.0": (
        b"HTTP/1.0 200 OK\r\nContent-Length: 11\r\n\r\n" + BODY, {"content-length": "11"}, BODY, 200, False, False, False,
    ),
    "HTTP/1.0 keep-alive": (
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 11\r\n\r\n" + BODY,
        {"connection": "keep-alive", "content-length": "11"}, BODY, 200, True, False, False,
    ),
    "HTTP/1.0 until close": (b"HTTP/1.0 200 OK\r\n\r\n" + BODY, {}, BODY, 200, False, True, False),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", {}, b"", 204, True, False, False),
    "204 with a length": (
        b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", {"content-length": "5"}, b"", 204, False, False, False,
    ),
    "204 with a length of nothing": (
        b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", {"content-length": "0"}, b"", 204, True, False, False,
    ),
    "204 in chunks": (
        b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", {"transfer-encoding": "chunked"}, b"", 204, False, False, False,
    ),
    "304 with a length": (
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", {"content-length": "5"}, b"", 304, False, False, False,
    ),
    "304": (b"HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n", {"etag": '"x"'}, b"", 304, True, False, False),
    "HEAD": (OK + b"Content-Length: 9999\r\n\r\n", {"content-length": "9999"}, b"", 200, True, False, True),
    "HEAD of nothing": (OK + b"Content-Length: 0\r\n\r\n", {"content-length": "0"}, b"", 200, True, False, True),
    "HEAD chunked": (
        OK + b"Transfer-Encoding: chunked\r\n\r\n", {"transfer-encoding": "chunked"}, b"", 200, True, False, True,
    ),
    "HEAD packed": (
        OK + b"Content-Encoding: gzip\r\nContent-Length: 20\r\n\r\n",
        {"content-encoding": "gzip", "content-length": "20"}, b"", 200, True, False, True,
    ),
    "interim responses": (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 150 Odd\r\nContent-Length: 0\r\n\r\n"
        + OK + b"Content-Length: 11\r\n\r\n" + BODY,
        {"content-length": "11"}, BODY, 200, True, False, False,
    ),
    "redirect": (
        b"HTTP/1.1 302 Found\r\nLocation: http://elsewhere/\r\nContent-Length: 0\r\n\r\n",
        {"location": "http://elsewhere/", "content-length": "0"}, b"", 302, True, False, False,
    ),
    "upgrade offered": (
        OK + b"Upgrade: h2,h2c\r\nConnection: Upgrade, Keep-Alive\r\nContent-Length: 11\r\n\r\n" + BODY,
        {"upgrade": "h2,h2c", "connection": "Upgrade, Keep-Alive", "content-length": "11"}, BODY, 200, True, False, False,
    ),
    "an error": (
        b"HTTP/1.1 503 Busy\r\nRetry-After: 3\r\nContent-Length: 11\r\n\r\n" + BODY,
        {"retry-after": "3", "content-length": "11"}, BODY, 503, True, False, False,
    ),
    "gzip": (
        OK + b"Content-Encoding: gzip\r\nX: 1\r\nContent-Length: %d\r\n\r\n" % len(PACKED) + PACKED,
        {"x": "1"}, BODY * 20, 200, True, False, False,
    ),
    "gzip chunked": (
        OK + b"Content-Encoding: GZIP\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(PACKED[:7], PACKED[7:]),
        {"transfer-encoding": "chunked"}, BODY * 20, 200, True, False, False,
    ),
    "deflate until close": (
        OK + b"Content-Encoding: deflate\r\n\r\n" + zlib.compress(BODY), {}, BODY, 200, False, True, False,
    ),
    "gzip of no bytes": (
        OK + b"Content-Encoding: gzip\r\nContent-Length: 0\r\n\r\n", {}, b"", 200, True, False, False,
    ),
    "identity": (
        OK + b"Content-Encoding: identity\r\nContent-Length: 11\r\n\r\n" + BODY,
        {"content-encoding": "identity", "content-length": "11"}, BODY, 200, True, False, False,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_whole(name: str) -> None:
    data, headers, body, status, reusable, ends, bodyless = GOOD[name]
    response, again = read([data], bodyless=bodyless, ends=ends)
    assert response == HttpResponse(status, headers, body)
    assert again is reusable


@pytest.mark.parametrize("name", GOOD)
def test_split_at_every_byte(name: str) -> None:
    data, headers, body, status, reusable, ends, bodyless = GOOD[name]
    expected = (HttpResponse(status, headers, body), reusable)
    for at in range(len(data) + 1):
        assert read(split(data, at), bodyless=bodyless, ends=ends) == expected, at
    assert read([bytes([byte]) for byte in data], bodyless=bodyless, ends=ends) == expected


@pytest.mark.parametrize("name", GOOD)
def test_cut_short_at_every_byte_it_is_never_complete(name: str) -> None:
    data, _, _, _, _, ends, bodyless = GOOD[name]
    shortest = data.index(b"\r\n\r\n") + 4 if ends else len(data)
    for at in range(shortest):
        assert read([data[:at]], bodyless=bodyless, ends=True) == (None, False), at


@pytest.mark.parametrize("name", [name for name in GOOD if not GOOD[name][5]])
@pytest.mark.parametrize("more", [b"H", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno", b"x" * 5000, b"\0"])
def test_what_rides_along_changes_nothing_and_ends_the_connection(name: str, more: bytes) -> None:
    data, headers, body, status, _, _, bodyless = GOOD[name]
    assert read([data + more], bodyless=bodyless) == (HttpResponse(status, headers, body), False)


def test_one_connection_reads_many() -> None:
    one = reader()
    for name, (data, headers, body, status, reusable, _, bodyless) in GOOD.items():
        if not reusable:
            continue
        one.begin(bodyless=bodyless)
        assert not one.started
        assert one.feed(data), name
        assert one.response() == HttpResponse(status, headers, body), name
        assert one.reusable, name


BAD = {
    "not HTTP": b"SSH-2.0-OpenSSH_9.2\r\n",
    "another protocol": b"RTSP/1.0 200 OK\r\n\r\n",
    "HTTP/2.0": b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    "HTTP/2 preface": b"\0\0\x12\x04\0\0\0\0\0",
    "HTTP/2.0 after an interim response": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    "TLS alert": b"\x15\x03\x01\x00\x02\x02\x46",
    "blank lines first": b"\r\n\r\n" + OK + b"Content-Length: 0\r\n\r\n",
    "bare LF": b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
    "obs-fold": OK + b"X: a\r\n b\r\nContent-Length: 0\r\n\r\n",
    "space before the colon": OK + b"X : a\r\nContent-Length: 0\r\n\r\n",
    "NUL in a header": OK + b"X: a\0b\r\nContent-Length: 0\r\n\r\n",
    "two lengths": OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
    "a list of lengths": OK + b"Content-Length: 5, 6\r\n\r\nabcdef",
    "length and chunked": OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"abcde"),
    "chunked and length": OK + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n" + chunked(b"abcde"),
    "negative length": OK + b"Content-Length: -1\r\n\r\n",
    "length that is no number": OK + b"Content-Length: 0x5\r\n\r\nabcde",
    "endless length": OK + b"Content-Length: 99999999999999999999999\r\n\r\n",
    "transfer coding gzip": OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + chunked(b"abc"),
    "transfer coding gzip last": OK + b"Transfer-Encoding: chunked, gzip\r\n\r\n" + chunked(b"abc"),
    "transfer coding identity": OK + b"Transfer-Encoding: identity\r\n\r\nabc",
    "HTTP/1.0 chunked": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"abc"),
    "chunk size that is no number": OK + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
    "chunk longer than it says": OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n",
    "101": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\nabc",
    "101 without more": b"HTTP/1.1 101 Switching Protocols\r\n\r\nabc",
    "status 0": b"HTTP/1.1 000 None\r\n\r\n",
    "status 99": b"HTTP/1.1 099 None\r\nContent-Length: 0\r\n\r\n",
    "an interim response with a body": b"HTTP/1.1 150 Odd\r\nContent-Length: 3\r\n\r\nabc" + OK + b"Content-Length: 0\r\n\r\n",
    "an interim response in chunks": b"HTTP/1.1 103 Odd\r\nTransfer-Encoding: chunked\r\n\r\n",
    "unknown content coding": OK + b"Content-Encoding: br\r\nContent-Length: 3\r\n\r\nabc",
    "not gzip": OK + b"Content-Encoding: gzip\r\nContent-Length: 11\r\n\r\n" + BODY,
    "gzip cut short": OK + b"Content-Encoding: gzip\r\nContent-Length: 30\r\n\r\n" + PACKED[:30],
    "long header": OK + b"X: " + b"x" * HEAD_MAX + b"\r\n\r\n",
    "long header without end": OK + b"X: " + b"x" * (2 * HEAD_MAX),
    "many headers": OK + b"A:\r\n" * (HEAD_MAX // 30) + b"Content-Length: 0\r\n\r\n",
    "long reason": b"HTTP/1.1 200 " + b"x" * (2 * HEAD_MAX),
    "interim responses without end": b"HTTP/1.1 100 Continue\r\n\r\n" * 100,
    "interim responses with many headers": (b"HTTP/1.1 103 Hints\r\n" + b"A: b\r\n" * 20 + b"\r\n") * 4,
    "chunk extension without end": OK + b"Transfer-Encoding: chunked\r\n\r\n1;" + b"x" * (2 * HEAD_MAX),
    "trailers without end": OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"A: b\r\n" * HEAD_MAX,
    "one long trailer": OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\nA: " + b"x" * (2 * HEAD_MAX),
}


@pytest.mark.parametrize("name", BAD)
def test_no_response(name: str) -> None:
    data = BAD[name]
    with pytest.raises(Broken) as caught:
        read([data])
    assert caught.value.reason == "response_invalid"


@pytest.mark.parametrize("name", BAD)
def test_no_response_in_small_pieces(name: str) -> None:
    for size in (1, 7, 100):
        with pytest.raises(Broken) as caught:
            read(BAD[name][at : at + size] for at in range(0, len(BAD[name]), size))
        assert caught.value.reason == "response_invalid"


TOO_LARGE = {
    "announced": OK + b"Content-Length: %d\r\n\r\n" % (BODY_MAX + 1),
    "in chunks": OK + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(bytes(BODY_MAX), b"x"),
    "until close": OK + b"\r\n" + bytes(BODY_MAX + 1),
    "decoded": OK + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(bytes(BODY_MAX + 1)),
    "a bomb": OK
    + b"Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"
    + chunked(gzip.compress(bytes(10_000_000))[:4000]),
    "packed so that nothing comes out": OK + b"Content-Encoding: deflate\r\n\r\nx\x01" + b"\x00\x00\x00\xff\xff" * BODY_MAX,
}


@pytest.mark.parametrize("name", TOO_LARGE)
def test_too_large(name: str) -> None:
    for size in (len(TOO_LARGE[name]), 100):
        with pytest.raises(Broken) as caught:
            read(TOO_LARGE[name][at : at + size] for at in range(0, len(TOO_LARGE[name]), size))
        assert caught.value.reason == "response_too_large"


def test_the_largest_that_may_be() -> None:
    for data in (
        OK + b"Content-Length: %d\r\n\r\n" % BODY_MAX + bytes(BODY_MAX),
        OK + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(*[b"x"] * BODY_MAX),
        OK + b"Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(gzip.compress(bytes(BODY_MAX))),
    ):
        response, reusable = read([data])
        assert response is not None
        assert len(response.body) == BODY_MAX
        assert reusable


def test_chunks_of_one_byte_cost_little_memory() -> None:
    one = Reader(body_bytes_max=1 << 20, head_bytes_max=HEAD_MAX)
    one.feed(OK + b"Transfer-Encoding: chunked\r\n\r\n")
    piece = b"2\r\nab\r\n" * 1000
    tracemalloc.start()
    for _ in range(100):
        one.feed(piece)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 1_500_000  # for 200 kB of body


def test_what_is_known_of_a_response_under_way() -> None:
    one = reader()
    assert not one.started
    assert one.status is None
    one.feed(b"HTTP")
    assert one.started
    one.feed(b"/1.1 404 Not Found\r\nContent-Length: 5\r\n")
    assert one.status is None
    one.feed(b"\r\nab")
    assert one.status == 404
    assert not one.end()
    one.drop()


def test_a_fault_of_the_parser_s_listener_is_not_taken_for_the_providers(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Reader, data: bytes) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Reader, "on_body", broken)
    with pytest.raises(RuntimeError, match="callback"):
        reader().feed(OK + b"Content-Length: 1\r\n\r\na")


PIECE = st.binary(max_size=40) | st.sampled_from(
    [
        OK, b"\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 204 \r\n", b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n",
        b"Content-Encoding: gzip\r\n", b"Content-Encoding: deflate\r\n", b"3\r\nabc\r\n", b"0\r\n\r\n", b"abc",
        PACKED, b"Connection: close\r\n",
    ]
)  # fmt: skip


@given(st.lists(PIECE, max_size=12), st.booleans())
def test_any_bytes_give_a_response_or_a_reason_or_neither_yet(pieces: list[bytes], bodyless: bool) -> None:
    try:
        response, _ = read(pieces, bodyless=bodyless, ends=True)
    except Broken:
        return
    if response is not None:
        assert 200 <= response.status <= 999
        assert len(response.body) <= BODY_MAX


@given(st.lists(PIECE, max_size=12), st.lists(st.integers(0, 200), max_size=6))
def test_the_same_bytes_mean_the_same_in_any_pieces(pieces: list[bytes], cuts: list[int]) -> None:
    data = b"".join(pieces)
    bounds = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]

    def outcome(parts: Iterable[bytes]) -> object:
        try:
            return read(parts, ends=True)[0]
        except Broken as broken:
            return broken.reason

    assert outcome([data]) == outcome(data[start:end] for start, end in pairwise(bounds))


# Heads that came before


def known_heads() -> KnownHeads:
    """What is learnt from all good responses."""
    known = KnownHeads()
    for data, *_, bodyless in GOOD.values():
        one = Reader(body_bytes_max=BODY_MAX, head_bytes_max=HEAD_MAX, known=known)
        one.begin(bodyless=bodyless)
        if one.feed(data):
            one.response()
    return known


def read_by(one: Reader, data: bytes, *, short: bool) -> tuple[HttpResponse | None, bool | str]:
    response = one.read_known(data) if short else None
    if response is not None:
        return response, one.reusable
    try:
        return (one.response(), one.reusable) if one.feed(data) else (None, False)
    except Broken as broken:
        return None, broken.message


@given(st.data())
def test_a_head_that_came_before_changes_nothing(data: st.DataObject) -> None:
    """One connection that knows all heads and one that learns none, through the same responses."""
    heads = known_heads()
    assert len(heads) > 1
    short, long = (Reader(body_bytes_max=BODY_MAX, head_bytes_max=HEAD_MAX, known=heads) for _ in range(2))
    for _ in range(3):
        text, *_, bodyless = GOOD[data.draw(st.sampled_from(sorted(GOOD)))]
        segment = text[: data.draw(st.just(len(text)) | st.integers(1, len(text)))] + data.draw(
            st.just(b"") | st.binary(max_size=3)
        )
        bodyless = data.draw(st.just(bodyless) | st.booleans())
        short.begin(bodyless=bodyless)
        long.begin(bodyless=bodyless)
        found = read_by(short, segment, short=True)
        assert found == read_by(long, segment, short=False)
        if found[1] is not True:
            break


def test_only_what_was_all_of_one_segment_is_learnt() -> None:
    text = GOOD["length"][0]
    known = KnownHeads()
    for segments in (
        [text[:5], text[5:]],
        [text[:-1], text[-1:]],
        [text + b"H"],
        [text.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)],
    ):
        one = Reader(body_bytes_max=BODY_MAX, head_bytes_max=HEAD_MAX, known=known)
        for segment in segments:
            assert one.read_known(segment) is None
            done = one.feed(segment)
        assert done
        assert not known
    one = Reader(body_bytes_max=BODY_MAX, head_bytes_max=KNOWN_HEAD_BYTES_MAX * 2, known=known)
    assert one.feed(text.replace(b"\r\n", b"\r\nX: " + b"x" * KNOWN_HEAD_BYTES_MAX + b"\r\n", 1))
    assert not known


def test_what_is_learnt_is_bounded() -> None:
    known = KnownHeads()
    one = Reader(body_bytes_max=BODY_MAX, head_bytes_max=HEAD_MAX, known=known)
    for number in range(KNOWN_HEADS_MAX + 2):
        one.begin(bodyless=False)
        assert one.feed(OK + b"X: %d\r\nContent-Length: 1\r\n\r\n1" % number)
        one.response()
    assert len(known) == KNOWN_HEADS_MAX
    assert known.find(OK + b"X: 1\r\nContent-Length: 1\r\n\r\n1") is None
    found = known.find(OK + b"X: 2\r\nContent-Length: 1\r\n\r\n2")
    assert found == HttpResponse(200, {"x": "2", "content-length": "1"}, b"2")
