"""`http_head`: what a head says, what it is refused for, and that llhttp never reads it in another way."""

from typing import Any

import pytest
from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from hypothesis import given
from hypothesis import strategies as st

from homing.edges import http_head
from homing.edges.http_head import (
    CHUNKED,
    REQUEST_LINE_BYTES_MAX,
    Head,
    ListenerLimits,
    Refusal,
    examine,
    fields_of,
    parse_head,
)
from tests.edges.corpus import BAD, GOOD

LIMITS = ListenerLimits()


def head(*lines: bytes) -> bytes:
    return b"\r\n".join([*lines, b"", b""])


def parsed(*lines: bytes, limits: ListenerLimits = LIMITS) -> Head:
    result = parse_head(head(*lines), limits)
    assert isinstance(result, Head), result
    return result


def refused(*lines: bytes, limits: ListenerLimits = LIMITS) -> Refusal:
    result = parse_head(head(*lines), limits)
    assert isinstance(result, Refusal), result
    return result


def test_a_head_says_all_that_is_asked_of_it() -> None:
    assert parsed(b"POST /rpc HTTP/1.1", b"HOST: a", b"Content-Length: 5") == Head(
        "POST", "/rpc", "", "1.1", {b"host": b"a", b"content-length": b"5"}, 5, True, False
    )


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"/", "/", ""),
        (b"/rpc", "/rpc", ""),
        (b"/rpc?", "/rpc", ""),
        (b"/a/b?c=d?e", "/a/b", "c=d?e"),
        (b"//x", "//x", ""),
        (b"/%72pc", "/%72pc", ""),  # only what is spelt so is /rpc
        (b"/a|b", "/a|b", ""),
        (b"HTTP://gateway:8370/rpc?x", "/rpc", "x"),
        (b"https://gateway", "/", ""),
        (b"http://gateway?x", "/", "x"),
    ],
)
def test_a_target_has_a_path_and_a_query(target: bytes, path: str, query: str) -> None:
    found = parsed(b"GET " + target + b" HTTP/1.1", b"Host: a")
    assert (found.path, found.query) == (path, query)


def test_the_asterisk_is_for_options() -> None:
    assert parsed(b"OPTIONS * HTTP/1.1", b"Host: a").path == "*"


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"])
def test_methods_without_a_body_need_no_length(method: str) -> None:
    found = parsed(method.encode() + b" / HTTP/1.1", b"Host: a")
    assert (found.method, found.length) == (method, 0)


def test_repeated_fields_are_joined_in_their_order() -> None:
    fields = parsed(b"GET / HTTP/1.1", b"X-A: 1", b"Host: a", b"x-a: 2 ", b"Y:", b"X-a: 3").fields
    assert fields == {b"x-a": b"1, 2, 3", b"host": b"a", b"y": b""}
    assert fields_of(head(b"GET / HTTP/1.1", b"X-A: 1", b"Host: a", b"x-a: 2 ", b"Y:", b"X-a: 3")) == fields


@pytest.mark.parametrize(
    ("version", "connection", "keep"),
    [
        (b"1.1", None, True),
        (b"1.1", b"keep-alive", True),
        (b"1.1", b"keep-alive, Close", False),
        (b"1.1", b"x-close", True),
        (b"1.0", None, False),
        (b"1.0", b"Keep-Alive", True),
        (b"1.0", b"keep-alive,close", False),
    ],
)
def test_a_connection_is_kept(version: bytes, connection: bytes | None, keep: bool) -> None:
    lines = [b"GET / HTTP/" + version, b"Host: a"] + ([b"Connection: " + connection] if connection else [])
    assert parsed(*lines).keep is keep


def test_an_expectation_counts_where_a_body_is_to_come() -> None:
    expect = b"Expect: 100-Continue"
    assert parsed(b"POST / HTTP/1.1", b"Host: a", b"Content-Length: 1", expect).expects
    assert parsed(b"POST / HTTP/1.1", b"Host: a", b"Transfer-Encoding: chunked", expect).expects
    assert not parsed(b"POST / HTTP/1.1", b"Host: a", b"Content-Length: 0", expect).expects
    assert not parsed(b"POST / HTTP/1.0", b"Content-Length: 1", expect).expects


def test_a_chunked_body_announces_no_length() -> None:
    assert parsed(b"POST / HTTP/1.1", b"Host: a", b"Transfer-Encoding: CHUNKED").length == CHUNKED


@pytest.mark.parametrize(
    ("limits", "lines", "status", "limit"),
    [
        (ListenerLimits(body_bytes_max=4), [b"Content-Length: 5"], 413, "gateway.body_max"),
        (ListenerLimits(), [b"Content-Length: " + b"9" * 30], 413, "gateway.body_max"),
        (ListenerLimits(header_count_max=2), [b"A: b", b"C: d"], 431, "gateway.header_count_max"),
        (ListenerLimits(header_bytes_max=60), [b"A: " + b"b" * 40], 431, "gateway.header_bytes_max"),
        (ListenerLimits(header_bytes_max=10), [], 414, "gateway.header_bytes_max"),
    ],
)
def test_a_limit_that_is_hit_is_named(limits: ListenerLimits, lines: list[bytes], status: int, limit: str) -> None:
    refusal = refused(b"POST /rpc HTTP/1.1", b"Host: a", *lines, limits=limits)
    assert (refusal.status, refusal.limit) == (status, limit)


def test_a_length_may_have_any_number_of_leading_zeros() -> None:
    assert parsed(b"POST / HTTP/1.1", b"Host: a", b"Content-Length: " + b"0" * 6000 + b"5").length == 5
    assert parsed(b"POST / HTTP/1.1", b"Host: a", b"Content-Length: " + b"0" * 6000).length == 0
    assert refused(b"POST / HTTP/1.1", b"Host: a", b"Content-Length: " + b"0" * 6000 + b"9" * 19).status == 413


class Lenient(HttpRequestParser):
    """llhttp with every strictness it can be talked out of."""

    def __init__(self, protocol: Any) -> None:
        super().__init__(protocol)
        self.set_dangerous_leniencies(*[True] * 10)


@pytest.mark.parametrize("case", [case for case in BAD if b"\r\n\r\n" in case.data], ids=lambda case: case.name)
def test_the_guards_do_not_lean_on_llhttp(case: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = case.data[: case.data.index(b"\r\n\r\n") + 4]
    strict = parse_head(raw, LIMITS)
    monkeypatch.setattr(http_head, "HttpRequestParser", Lenient)
    lenient = parse_head(raw, LIMITS)
    assert isinstance(lenient, Refusal) is isinstance(strict, Refusal)
    if isinstance(lenient, Refusal):
        assert lenient.status == case.statuses[0]


def test_what_is_just_within_the_limits_passes() -> None:
    line = b"GET /" + b"x" * (REQUEST_LINE_BYTES_MAX - len(b"GET / HTTP/1.1\r\n")) + b" HTTP/1.1"
    assert parsed(line, b"Host: a").method == "GET"
    assert refused(line.replace(b"x ", b"xx "), b"Host: a").status == 414
    exact = ListenerLimits(header_bytes_max=len(head(b"GET / HTTP/1.1", b"Host: a")), header_count_max=1)
    assert parsed(b"GET / HTTP/1.1", b"Host: a", limits=exact).method == "GET"


@pytest.mark.parametrize("case", [case for case in BAD if b"\r\n\r\n" in case.data], ids=lambda case: case.name)
def test_every_refusal_says_why(case: Any) -> None:
    raw = case.data[: case.data.index(b"\r\n\r\n") + 4]
    result = parse_head(raw, LIMITS)
    if isinstance(result, Refusal):
        assert result.status == case.statuses[0]
        assert result.message.endswith(".")
        assert result.message != "The request head is malformed."  # there is always more to say


@given(st.sampled_from(GOOD + BAD), st.data())
def test_a_prefix_is_never_refused_for_what_the_whole_is_not(case: Any, data: st.DataObject) -> None:
    raw = case.data[: case.data.find(b"\r\n\r\n") + 4]
    early = examine(raw[: data.draw(st.integers(0, len(raw)))], LIMITS)
    assert early is None or early == (parse_head(raw, LIMITS) if raw[:1] not in b"\r\n" else early)


# llhttp stops at an upgrade and after a close; it knows no white space within extensions, and takes trailers for fields.
LEFT_OUT = {"upgrade", "upgrade with a body", "nothing after close", "extensions", "trailers"}


class Witness:
    """llhttp left to itself: where it sees messages end, and how long their bodies are."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.body = b""

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.bodies.append(self.body)
        self.body = b""


@pytest.mark.parametrize("case", [case for case in GOOD if case.name not in LEFT_OUT], ids=lambda case: case.name)
def test_llhttp_sees_the_same_messages(case: Any) -> None:
    witness = Witness()
    HttpRequestParser(witness).feed_data(case.data)
    assert witness.bodies == case.bodies


_word = st.sampled_from(
    [
        b"Host: a",
        b"Content-Length: 0",
        b"Content-Length: 3",
        b"Transfer-Encoding: chunked",
        b"Transfer-Encoding: gzip, chunked",
        b"X: y",
        b"Connection: close",
        b"Connection: keep-alive",
        b" folded",
        b"X : y",
        b"Expect: 100-continue",
        b"X: \x00",
        b"X:y\r",
    ]
)


@given(st.sampled_from([b"GET / HTTP/1.1", b"POST / HTTP/1.1", b"POST /rpc HTTP/1.0"]), st.lists(_word, max_size=5))
def test_what_is_framed_here_is_framed_alike_there(line: bytes, fields: list[bytes]) -> None:
    raw = head(line, *fields)
    result = parse_head(raw, LIMITS)
    if isinstance(result, Refusal):
        return
    witness = Witness()
    body = b"0\r\n\r\n" if result.length == CHUNKED else b"x" * result.length
    try:
        HttpRequestParser(witness).feed_data(raw + body)
    except HttpParserUpgrade:
        return
    assert witness.bodies == [body if result.length > 0 else b""]


@given(st.binary(max_size=200))
def test_no_bytes_raise(data: bytes) -> None:
    examine(data, LIMITS)
    parse_head(data + b"\r\n\r\n", LIMITS)


def test_fields_that_were_never_accepted_raise() -> None:
    with pytest.raises(HttpParserError):
        fields_of(b"GET / HTTP/1.1\r\nnonsense\r\n\r\n")
