"""Majordomo, frame by frame as RFC 7, RFC 18 and RFC 8 have it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homing.core import majordomo
from homing.core.majordomo import Beat, Dialect, Illegal, Left, Offered, Replied

ONE, TWO = b"MDPW01", b"MDPW02"
ADDRESS = b"\x00client"
FRAMINGS = [
    pytest.param(Dialect(ONE, empty_first=True), id="0.1"),
    pytest.param(Dialect(ONE, empty_first=False), id="0.1 bare"),
    pytest.param(Dialect(TWO, empty_first=False), id="0.2"),
    pytest.param(Dialect(TWO, empty_first=True), id="0.2 with an empty frame"),
]

WORKER_COMMANDS = [
    # RFC 7, MDP/Worker
    ([b"", ONE, b"\x01", b"echo"], Offered("echo")),
    ([b"", ONE, b"\x03", ADDRESS, b"", b"body"], Replied(ADDRESS, b"body", last=True)),
    ([b"", ONE, b"\x03", ADDRESS, b"", b"in", b" ", b"frames"], Replied(ADDRESS, b"in frames", last=True)),
    ([b"", ONE, b"\x03", ADDRESS, b""], Replied(ADDRESS, b"", last=True)),
    ([b"", ONE, b"\x04"], Beat()),
    ([b"", ONE, b"\x05"], Left()),
    # RFC 18, MDP/Worker
    ([TWO, b"\x01", b"echo"], Offered("echo")),
    ([TWO, b"\x03", ADDRESS, b"", b"part"], Replied(ADDRESS, b"part", last=False)),
    ([TWO, b"\x04", ADDRESS, b"", b"rest"], Replied(ADDRESS, b"rest", last=True)),
    ([TWO, b"\x05"], Beat()),
    ([TWO, b"\x06"], Left()),
]


@pytest.mark.parametrize(("frames", "command"), WORKER_COMMANDS, ids=range(len(WORKER_COMMANDS)))
def test_what_a_worker_says(frames: list[bytes], command: object) -> None:
    empty_first = not frames[0]
    assert majordomo.read_worker(frames) == (Dialect(frames[empty_first], empty_first), command)


@pytest.mark.parametrize(("frames", "command"), WORKER_COMMANDS, ids=range(len(WORKER_COMMANDS)))
def test_each_comes_in_the_other_framing_too(frames: list[bytes], command: object) -> None:
    other = frames[1:] if not frames[0] else [b"", *frames]
    assert majordomo.read_worker(other) == (Dialect(frames[not frames[0]], not other[0]), command)


@pytest.mark.parametrize(
    "rest",
    [
        pytest.param([], id="no command"),
        pytest.param([b"\x02", ADDRESS, b"", b"body"], id="REQUEST is a broker's"),
        pytest.param([b"\x07"], id="unknown"),
        pytest.param([b""], id="empty"),
        pytest.param([b"\x01\x00"], id="two bytes"),
        pytest.param([b"\x01"], id="READY without a service"),
        pytest.param([b"\x01", b""], id="READY for nothing"),
        pytest.param([b"\x01", b"echo", b"more"], id="READY for two"),
        pytest.param([b"\x01", b"\xff"], id="READY in no UTF-8"),
        pytest.param([b"\x01", b"a\x00b"], id="READY for what cannot be printed"),
        pytest.param([b"\x01", b"x" * 201], id="READY for a novel"),
        pytest.param([b"\x03"], id="an answer for nobody"),
        pytest.param([b"\x03", ADDRESS], id="an answer without its delimiter"),
        pytest.param([b"\x03", ADDRESS, b"two", b"", b"body"], id="an answer with two addresses"),
        pytest.param([b"\x03", b"", b"", b"body"], id="an answer for an empty address"),
    ],
)
@pytest.mark.parametrize("dialect", FRAMINGS)
def test_what_no_worker_may_send(dialect: Dialect, rest: list[bytes]) -> None:
    frames = [dialect.header, *rest]
    assert majordomo.read_worker([b"", *frames] if dialect.empty_first else frames) == (dialect, Illegal())


@pytest.mark.parametrize("extra", [b"", b"x"])
def test_a_heartbeat_or_farewell_has_nothing_behind_it(extra: bytes) -> None:
    for number in (b"\x05", b"\x06"):
        assert majordomo.read_worker([TWO, number, extra]) == (Dialect(TWO, empty_first=False), Illegal())


@pytest.mark.parametrize(
    "frames",
    [[], [b""], [b"", b""], [b"", b"", ONE, b"\x04"], [b"MDPW03", b"\x01", b"echo"], [b"MDPC01", b"echo"], [b"HOM1", b"", b""]],
    ids=range(7),
)
def test_what_is_no_worker(frames: list[bytes]) -> None:
    assert majordomo.read_worker(frames) is None


def test_what_a_worker_of_0_1_is_told() -> None:
    dialect = Dialect(ONE, empty_first=True)
    assert majordomo.request(dialect, ADDRESS, b"{}") == [b"", ONE, b"\x02", ADDRESS, b"", b"{}"]
    assert majordomo.heartbeat(dialect) == [b"", ONE, b"\x04"]
    assert majordomo.disconnect(dialect) == [b"", ONE, b"\x05"]


def test_what_a_worker_of_0_2_is_told() -> None:
    dialect = Dialect(TWO, empty_first=False)
    assert majordomo.request(dialect, ADDRESS, b"{}") == [TWO, b"\x02", ADDRESS, b"", b"{}"]
    assert majordomo.heartbeat(dialect) == [TWO, b"\x05"]
    assert majordomo.disconnect(dialect) == [TWO, b"\x06"]


@pytest.mark.parametrize("dialect", FRAMINGS)
def test_workers_are_mirrored(dialect: Dialect) -> None:
    for said in (majordomo.request(dialect, ADDRESS, b""), majordomo.heartbeat(dialect), majordomo.disconnect(dialect)):
        assert (said[0] == b"") is dialect.empty_first
        assert said[dialect.empty_first] == dialect.header


@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        pytest.param([b"", b"MDPC01", b"echo", b"[1]"], [b"", b"MDPC01", b"echo", b"[2]"], id="0.1"),
        pytest.param([b"MDPC01", b"echo", b"[1]"], [b"MDPC01", b"echo", b"[2]"], id="0.1 bare"),
        pytest.param([b"MDPC02", b"\x01", b"echo", b"[1]"], [b"MDPC02", b"\x03", b"echo", b"[2]"], id="0.2"),
        pytest.param([b"", b"MDPC02", b"\x01", b"echo", b"[1]"], [b"", b"MDPC02", b"\x03", b"echo", b"[2]"], id="0.2 with empty"),
        pytest.param([b"", b"MDPC02", b"\x02", b"echo", b"[1]"], [b"", b"MDPC02", b"\x04", b"echo", b"[2]"], id="majortomo"),
        pytest.param([b"", b"MDPC01", b"echo", b"[", b"1]"], [b"", b"MDPC01", b"echo", b"[2]"], id="in frames"),
    ],
)
def test_a_client_asks_and_is_answered(asked: list[bytes], answered: list[bytes]) -> None:
    ask = majordomo.read_client(asked)
    assert ask is not None
    assert (ask.service, ask.body) == ("echo", b"[1]")
    assert majordomo.answer(ask, b"[2]") == answered


def test_a_request_may_have_no_body() -> None:
    ask = majordomo.read_client([b"", b"MDPC01", b"mmi.service"])
    assert ask is not None
    assert ask.body == b""
    assert ask.service.startswith(majordomo.MANAGEMENT)


@pytest.mark.parametrize(
    "frames",
    [
        [],
        [b""],
        [b"", b"MDPC01"],
        [b"", b"MDPC01", b""],
        [b"", b"MDPC01", b"\xff", b"{}"],
        [b"MDPC02", b"\x01"],
        [b"MDPC02", b"\x03", b"echo", b"{}"],
        [b"MDPC02", b"echo", b"{}"],
        [b"", b"MDPC03", b"\x01", b"echo", b"{}"],
        [b"MDPW01", b"\x04"],
    ],
    ids=range(10),
)
def test_what_is_no_client(frames: list[bytes]) -> None:
    assert majordomo.read_client(frames) is None


words = st.sampled_from([b"", ONE, TWO, b"MDPC01", b"MDPC02", b"\x01", b"\x02", b"\x03", b"\x04", b"\x05", b"\x06", b"echo"])


@given(st.lists(words | st.binary(max_size=8), max_size=8))
def test_anything_at_all_is_read(frames: list[bytes]) -> None:
    said = majordomo.read_worker(frames)
    ask = majordomo.read_client(frames)
    assert said is None or ask is None
    if said is not None:
        dialect, _ = said
        assert dialect.header in (ONE, TWO)
        assert majordomo.read_worker(majordomo.heartbeat(dialect)) == (dialect, Beat())
    if ask is not None:
        assert majordomo.answer(ask, b"")[-2] == ask.service.encode()
