"""`http_chunks`: the content of a chunked body, however it is cut, and what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homing.edges.http_chunks import FRAMING_BYTES_MAX, LINE_BYTES_MAX, ChunkedBody, Refused
from homing.edges.http_head import ListenerLimits

LIMITS = ListenerLimits(body_bytes_max=1 << 17)


def read(*segments: bytes, limits: ListenerLimits = LIMITS) -> tuple[bytes, bytes]:
    """The content, and what comes after the body."""
    body = ChunkedBody(limits)
    rest = b""
    for segment in segments:
        was_done = body.done
        if was_done:
            rest += segment
        else:
            start = body.feed(b"##" + segment, 2)
            rest = (b"##" + segment)[start:]
            assert body.done or rest == b""
    assert body.done
    return bytes(body.content), rest


def refusal(data: bytes, limits: ListenerLimits = LIMITS) -> tuple[int, str | None]:
    with pytest.raises(Refused) as caught:
        ChunkedBody(limits).feed(data, 0)
    return caught.value.refusal.status, caught.value.refusal.limit


@given(st.lists(st.binary(min_size=1, max_size=30), max_size=5), st.data())
def test_any_content_in_any_chunks_in_any_segments(chunks: list[bytes], data: st.DataObject) -> None:
    wire = b"".join(b"%x;a=b\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\nX: y\r\n\r\nnext"
    segments = []
    while wire:
        size = data.draw(st.integers(1, len(wire)))
        segments.append(wire[:size])
        wire = wire[size:]
    assert read(*segments) == (b"".join(chunks), b"next")


def test_content_may_be_as_large_as_allowed_and_no_larger() -> None:
    limits = ListenerLimits(body_bytes_max=5)
    assert read(b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", limits=limits)[0] == b"abcde"
    assert refusal(b"3\r\nabc\r\n3\r\n", limits) == (413, "gateway.body_max")
    assert refusal(b"fffffffffffffff0\r\n", limits) == (413, "gateway.body_max")


def test_a_line_is_refused_as_soon_as_it_is_too_long() -> None:
    assert refusal(b"1;a=" + b"b" * LINE_BYTES_MAX) == (400, None)
    assert read(b"1;a=" + b"b" * (LINE_BYTES_MAX - 6) + b"\r\nx\r\n0\r\n\r\n") == (b"x", b"")


def test_many_long_extensions_are_refused() -> None:
    assert refusal((b"1;a=" + b"b" * 1000 + b"\r\nx\r\n") * (FRAMING_BYTES_MAX // 1000 + 1)) == (400, None)


def test_a_body_may_be_sent_in_small_chunks_but_not_all_of_it_byte_by_byte() -> None:
    assert len(read(b"1\r\nx\r\n" * 20_000 + b"0\r\n\r\n")[0]) == 20_000
    assert refusal(b"1\r\nx\r\n" * 40_000) == (400, None)
    assert len(read(b"8\r\nxxxxxxxx\r\n" * 16_384 + b"0\r\n\r\n")[0]) == 131_072


def test_trailers_are_bounded_in_number_and_size() -> None:
    limits = ListenerLimits(header_count_max=2, header_bytes_max=40)
    assert read(b"0\r\nA: b\r\nC: d\r\n\r\n", limits=limits) == (b"", b"")
    assert refusal(b"0\r\nA: b\r\nC: d\r\nE: f\r\n", limits) == (431, "gateway.header_count_max")
    assert refusal(b"0\r\nA: " + b"b" * 40, limits) == (431, "gateway.header_bytes_max")


@pytest.mark.parametrize(
    "extension",
    [b";a", b";a=b", b' ;\ta = "b c"', b';a="\\""', b";a;b;c=d"],
)
def test_extensions_are_read_past(extension: bytes) -> None:
    assert read(b"1%b\r\nx\r\n0%b\r\n\r\n" % (extension, extension)) == (b"x", b"")


@pytest.mark.parametrize(
    "line", [b"1;", b"1 ", b"1;=b", b'1;a="', b"1;a=", b"1;a b", b"1\r;a", b"g", b"", b"0x1", b"+1", b" 1", b"1,1"]
)
def test_any_other_size_line_is_refused(line: bytes) -> None:
    assert refusal(line + b"\r\n") == (400, None)


@pytest.mark.parametrize("end", [b"\n", b"x\r\n", b"\rx", b"\r\r\n", b"0"])
def test_a_chunk_ends_where_its_size_says(end: bytes) -> None:
    assert refusal(b"1\r\nx" + end + b"0\r\n\r\n") == (400, None)
