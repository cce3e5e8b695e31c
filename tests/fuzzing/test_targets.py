"""The targets of `make fuzz`, without its fuzzer: they hold for their seeds and what lies near them, and each can fail."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz import targets
from fuzz.seeds import SEEDS
from fuzz.targets import TARGETS
from homing import NotExecuted, config
from homing.core import codec, jsonrpc, majordomo, uri
from homing.core.messages import Cancel
from homing.edges.http_chunks import ChunkedBody
from homing.edges.http_head import Head
from homing.edges.provider_content import Decoder
from homing.edges.provider_response import Reader

CUT, FLIP, DOUBLE, INSERT = range(4)


@st.composite
def near(draw: st.DrawFn, seeds: tuple[bytes, ...]) -> bytes:
    """A seed to which a few things have happened."""
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        what = draw(st.integers(CUT, INSERT))
        if what == CUT:
            del data[at : at + draw(st.integers(1, 8))]
        elif what == FLIP and at < len(data):
            data[at] ^= draw(st.integers(1, 255))
        elif what == DOUBLE:
            data[at:at] = data[at : at + draw(st.integers(1, 40))]
        else:
            data[at:at] = draw(st.binary(min_size=1, max_size=6))
    return bytes(data)


def test_every_target_has_seeds() -> None:
    assert SEEDS.keys() == TARGETS.keys()


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_hold(name: str) -> None:
    for data in (b"", b"\0", *SEEDS[name]):
        TARGETS[name](data)


@pytest.mark.parametrize("name", TARGETS)
@given(data=st.data())
def test_what_is_near_them_holds(name: str, data: st.DataObject) -> None:
    TARGETS[name](data.draw(near(SEEDS[name]) | st.binary(max_size=300)))


# Each of them with something broken


def takes_anything(body: bytes, *, batch_length_max: int) -> jsonrpc.Call:
    return jsonrpc.Call(b"1", "m", None, b"", None, None)


def says_nothing_is_wrong(text: bytes, depth_max: int) -> None:
    return None


def frames_all_alike(raw: bytes, *_: object) -> Head:
    return Head("POST", "/", "", "1.1", {}, 3, keep=True, expects=False)


class ForgetsPieces(ChunkedBody):
    def feed(self, data: bytes | bytearray, start: int) -> int:
        self.rest = b""
        return super().feed(data, start)


class LosesPieces(Reader):
    def feed(self, data: bytes) -> bool:
        return super().feed(data) if len(data) > 1 else False


class AddsToIt(Decoder):
    def feed(self, data: bytes) -> bytes:
        return super().feed(data) + b"!"


def hears_something_else(frames: list[bytes], *, sealed: bool = False) -> list[object]:
    return [Cancel(bytes(16))]


def answers_somebody_else(ask: object, body: bytes) -> list[bytes]:
    return [body, b""]


def leaves_it_as_it_is(self: uri.Template, root: dict[str, object]) -> str:
    return "/a/ b"


def reads_the_file(*_: object, **__: object) -> list[object]:
    raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")


def concludes_no(*_: object, **__: object) -> list[NotExecuted]:
    return [NotExecuted(5040, "expired")]


BROKEN: dict[str, tuple[object, str, object]] = {
    "request_body": (jsonrpc, "parse", takes_anything),
    "json_text": (jsonrpc, "check_json", says_nothing_is_wrong),
    "request_head": (targets, "parse_head", frames_all_alike),
    "chunked_body": (targets, "ChunkedBody", ForgetsPieces),
    "provider_response": (targets, "Reader", LosesPieces),
    "content_coding": (targets, "Decoder", AddsToIt),
    "wire": (codec, "decode", hears_something_else),
    "majordomo_frames": (majordomo, "answer", answers_somebody_else),
    "uri_template": (uri.Template, "expand", leaves_it_as_it_is),
    "configuration": (config, "check", reads_the_file),
    "client_answer": (targets, "read", concludes_no),
}


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_broken_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    place, what, broken = BROKEN[name]
    monkeypatch.setattr(place, what, broken)
    target: Callable[[bytes], None] = TARGETS[name]
    found = 0
    for data in (b"\0", *SEEDS[name]):
        try:
            target(data)
        except Exception:  # whatever it is: Atheris stops at it
            found += 1
    assert found
