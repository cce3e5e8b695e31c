"""homing.edges.provider_content: gzip and deflate, in pieces, bounded."""

import gzip
import io
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homing.edges.provider_content import MEMBERS_MAX, ContentTooLarge, Decoder, decoder

TEXT = b'{"message": "' + b"over and over " * 40 + b'"}'


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


PACKED = {
    "gzip": gzip.compress(TEXT, mtime=0),
    "x-gzip": gzip.compress(TEXT, mtime=0),
    "deflate": zlib.compress(TEXT),
    "deflate without its wrapper": raw_deflate(TEXT),
    "gzip in three members": gzip.compress(TEXT[:10], mtime=0) + gzip.compress(b"", mtime=0) + gzip.compress(TEXT[10:], mtime=0),
    "gzip with padding": gzip.compress(TEXT, mtime=0) + b"\0" * 100,
}


def make(kind: str, bytes_max: int = 10_000) -> Decoder:
    made = decoder(kind.split(" ", 1)[0], bytes_max)
    assert made is not None
    return made


@pytest.mark.parametrize("kind", PACKED)
def test_whole(kind: str) -> None:
    one = make(kind)
    assert one.feed(PACKED[kind]) == TEXT
    one.finish()


@pytest.mark.parametrize("kind", PACKED)
def test_split_at_every_byte(kind: str) -> None:
    for at in range(len(PACKED[kind]) + 1):
        one = make(kind)
        assert one.feed(PACKED[kind][:at]) + one.feed(PACKED[kind][at:]) == TEXT
        one.finish()


@pytest.mark.parametrize("kind", PACKED)
def test_byte_by_byte(kind: str) -> None:
    one = make(kind)
    assert b"".join(one.feed(bytes([byte])) for byte in PACKED[kind]) == TEXT
    one.finish()


@pytest.mark.parametrize("kind", ["gzip", "deflate", "deflate without its wrapper"])
def test_cut_short_at_every_byte(kind: str) -> None:
    for at in range(1, len(PACKED[kind])):
        one = make(kind)
        one.feed(PACKED[kind][:at])
        with pytest.raises(ValueError, match="too early"):
            one.finish()


@pytest.mark.parametrize("kind", ["gzip", "deflate"])
def test_no_bytes_at_all_are_an_empty_body(kind: str) -> None:
    make(kind).finish()


@pytest.mark.parametrize("kind", ["gzip", "deflate", "deflate without its wrapper"])
def test_the_bound_is_exact(kind: str) -> None:
    one = make(kind, len(TEXT))
    assert one.feed(PACKED[kind]) == TEXT
    one.finish()
    with pytest.raises(ContentTooLarge):
        make(kind, len(TEXT) - 1).feed(PACKED[kind])


def test_the_bound_is_over_all_members() -> None:
    packed = gzip.compress(b"x" * 100, mtime=0)
    one = make("gzip", 250)
    one.feed(packed)
    one.feed(packed)
    with pytest.raises(ContentTooLarge):
        one.feed(packed)


def test_a_bomb_is_stopped_before_it_unfolds() -> None:
    bomb = io.BytesIO()
    with gzip.GzipFile(fileobj=bomb, mode="wb") as file:
        for _ in range(64):
            file.write(bytes(1 << 20))
    with pytest.raises(ContentTooLarge):
        make("gzip", 1000).feed(bomb.getvalue())


def test_many_empty_members_are_refused() -> None:
    one = make("gzip")
    one.feed(gzip.compress(b"", mtime=0) * MEMBERS_MAX)
    with pytest.raises(ValueError, match="members"):
        one.feed(gzip.compress(b"", mtime=0))


def test_empty_deflate_blocks_without_end_hold_nothing() -> None:
    one = make("deflate")
    blocks = b"\x00\x00\x00\xff\xff" * 1000  # stored, empty, not the last
    one.feed(b"\x78\x01")
    for _ in range(50):
        assert one.feed(blocks) == b""


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("gzip", b"not gzip at all"),
        ("gzip", gzip.compress(TEXT, mtime=0) + b"junk"),
        ("gzip", gzip.compress(TEXT, mtime=0)[:-8] + bytes(8)),  # a check sum that is not its own
        ("deflate", b"\xff\xff\xff\xff"),
        ("deflate", zlib.compress(TEXT) + b"more"),
    ],
)
def test_broken_streams(kind: str, data: bytes) -> None:
    one = make(kind)
    with pytest.raises(ValueError, match=r"broken|follow"):
        one.feed(data)


@pytest.mark.parametrize("name", ["", "identity", " identity , ", "IDENTITY"])
def test_nothing_to_undo(name: str) -> None:
    assert decoder(name, 1) is None


@pytest.mark.parametrize("name", ["br", "zstd", "gzip, gzip", "compress", "gzip, br"])
def test_codings_nobody_asked_for(name: str) -> None:
    with pytest.raises(ValueError, match="not asked for"):
        decoder(name, 1)


@given(st.binary(), st.sampled_from(["gzip", "deflate"]), st.lists(st.integers(0, 200)))
def test_any_bytes_in_any_pieces(data: bytes, kind: str, cuts: list[int]) -> None:
    one = make(kind, 500)
    came = 0
    try:
        at = 0
        for cut in [*sorted(cuts), len(data)]:
            came += len(one.feed(data[at:cut]))
            at = max(at, cut)
        one.finish()
    except (ValueError, ContentTooLarge):
        pass
    assert came <= 500


@given(st.binary(max_size=2000), st.integers(1, 50), st.sampled_from(["gzip", "deflate", "raw"]))
def test_what_was_packed_comes_back(data: bytes, size: int, kind: str) -> None:
    packed = gzip.compress(data, mtime=0) if kind == "gzip" else zlib.compress(data) if kind == "deflate" else raw_deflate(data)
    one = make("gzip" if kind == "gzip" else "deflate")
    assert b"".join(one.feed(packed[at : at + size]) for at in range(0, len(packed), size)) == data
    one.finish()
