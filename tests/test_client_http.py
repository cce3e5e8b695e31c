"""client_http: URLs taken apart, and responses read whatever pieces they come in."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homing.client_http import HEAD_BYTES_MAX, Fault, ResponseReader, endpoint, head_of, is_address, late, lost, unreachable


@pytest.mark.parametrize(
    ("url", "secure", "host", "port", "authority", "target"),
    [
        ("http://127.0.0.1:8370", False, "127.0.0.1", 8370, "127.0.0.1:8370", "/rpc"),
        ("http://127.0.0.1:8370/", False, "127.0.0.1", 8370, "127.0.0.1:8370", "/"),
        ("HTTP://Gateway.Example", False, "gateway.example", 80, "gateway.example", "/rpc"),
        ("https://gateway.example", True, "gateway.example", 443, "gateway.example", "/rpc"),
        ("https://gateway.example:443/homing/rpc", True, "gateway.example", 443, "gateway.example", "/homing/rpc"),
        ("https://gateway.example:80?tenant=a", True, "gateway.example", 80, "gateway.example:80", "/rpc?tenant=a"),
        ("http://[::1]:8370", False, "::1", 8370, "[::1]:8370", "/rpc"),
    ],
)
def test_a_url_is_taken_apart(url: str, secure: bool, host: str, port: int, authority: str, target: str) -> None:
    place = endpoint(url)
    assert (place.secure, place.host, place.port, place.authority, place.target) == (secure, host, port, authority, target)
    assert endpoint(str(place)) == place


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("", "no URL"),
        ("gateway.example", "does not begin with http"),
        ("ws://gateway.example", "does not begin with http"),
        ("http:///rpc", "names no host"),
        ("http://a b", "no URL"),
        ("http://gateway.example:0x50", "[Pp]ort"),
        ("http://gateway.example:70000", "[Pp]ort"),
        ("http://gateway.example:0", "port 0"),
        ("http://user@gateway.example", "credentials"),
        ("http://gateway.example/#x", "fragment"),
        ("http://[::1", "IPv6"),
    ],
)
def test_what_is_no_url_is_said(url: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        endpoint(url)


@pytest.mark.parametrize(
    ("host", "is_one"), [("127.0.0.1", True), ("::1", True), ("fe80::1%eth0", True), ("localhost", False), ("1.example", False)]
)
def test_an_address_is_told_from_a_name(host: str, is_one: bool) -> None:
    assert is_address(host) is is_one


@pytest.mark.parametrize("api_key", ["", "a b", "a\r\nX: y", "ü"])
def test_an_api_key_that_no_header_can_carry_is_refused(api_key: str) -> None:
    with pytest.raises(ValueError, match="visible ASCII"):
        head_of(endpoint("http://127.0.0.1"), api_key)


HEAD = b"HTTP/1.1 200 OK\r\nHoming-Executed: no\r\nHoming-Reason: forbidden\r\nHoming-Retry: pointless\r\nRetry-After: 2\r\n"
WHOLE = {
    "with a length": HEAD + b"Content-Length: 5\r\n\r\nhello",
    "chunked": HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nHoming-Executed: yes\r\n\r\n",
    "after interim responses": b"HTTP/1.1 100 Continue\r\nHoming-Executed: yes\r\n\r\nHTTP/1.1 103 Hints\r\n\r\n"
    + HEAD
    + b"Content-Length: 5\r\n\r\nhello",
}


@given(st.sampled_from(sorted(WHOLE)), st.lists(st.integers(0, 300)))
def test_a_response_may_come_in_any_pieces(shape: str, cuts: list[int]) -> None:
    reader = ResponseReader()
    edges = [0, *sorted(cuts), len(WHOLE[shape])]
    for start, stop in pairwise(edges):
        if piece := WHOLE[shape][start:stop]:
            reader.feed(piece)
    assert reader.complete
    assert reader.reusable
    assert (reader.status, bytes(reader.body)) == (200, b"hello")
    assert (reader.executed, reader.reason, reader.retry, reader.retry_after_ms) == ("no", "forbidden", "pointless", 2000)


@given(st.binary(max_size=200), st.sampled_from(sorted(WHOLE)), st.integers(0, 300))
def test_junk_anywhere_is_a_fault_or_a_response(junk: bytes, shape: str, place: int) -> None:
    reader = ResponseReader()
    caught: list[Fault] = []
    try:
        reader.feed(WHOLE[shape][:place] + junk + WHOLE[shape][place:])
        reader.end()
    except Fault as fault:
        caught.append(fault)
    assert all(fault.sent and fault.reason == "response_invalid" for fault in caught)


def test_a_body_without_a_length_ends_with_the_connection() -> None:
    reader = ResponseReader()
    assert reader.end() is False
    reader.feed(b"HTTP/1.1 200 OK\r\n\r\nhel")
    reader.feed(b"lo")
    assert not reader.complete
    assert reader.end()
    assert bytes(reader.body) == b"hello"
    assert not reader.reusable


@pytest.mark.parametrize("cut", range(1, len(WHOLE["with a length"])))
def test_a_body_with_a_length_does_not(cut: int) -> None:
    reader = ResponseReader()
    reader.feed(WHOLE["with a length"][:cut])
    assert reader.end() is False


@pytest.mark.parametrize(
    "end", [b"Connection: close\r\nContent-Length: 0\r\n\r\n", b"Content-Length: 0\r\n\r\nX", b"Content-Length: 0\r\n\r\n" * 2]
)
def test_a_connection_is_not_reused_after(end: bytes) -> None:
    reader = ResponseReader()
    reader.feed(HEAD + end)
    assert reader.complete
    assert not reader.reusable


def test_what_follows_a_response_changes_nothing_about_it() -> None:
    reader = ResponseReader()
    reader.feed(WHOLE["with a length"] + b"HTTP/1.1 500 No\r\nHoming-Executed: yes\r\nContent-Length: 3\r\n\r\nabc")
    assert (reader.status, bytes(reader.body), reader.executed) == (200, b"hello", "no")
    reader.feed(b"HTTP/1.1 500 No\r\n\r\n")
    assert (reader.status, bytes(reader.body), reader.executed) == (200, b"hello", "no")


@pytest.mark.parametrize(
    "lines",
    [
        b"Homing-Executed: no\r\nHoming-Executed: unknown\r\n",
        b"Homing-Executed: no, unknown\r\n",
        b"Homing-Executed: NO\r\n",
        b"Homing-Executed:\r\n",
        b"",
    ],
)
def test_a_head_that_is_not_clear_proves_nothing(lines: bytes) -> None:
    reader = ResponseReader()
    reader.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n" + lines + b"\r\n")
    assert reader.executed is None


@pytest.mark.parametrize("value", [b"Wed, 21 Oct 2015 07:28:00 GMT", b"-1", b"1.5", b"9" * 40])
def test_what_is_no_number_of_seconds_is_ignored(value: bytes) -> None:
    reader = ResponseReader()
    reader.feed(
        b"HTTP/1.1 503 No\r\nContent-Length: 0\r\nHoming-Reason: ok\r\nHoming-Retry: perhaps\r\nHoming-Deadline-Ms: soon\r\nRetry-After: "
        + value
        + b"\r\n\r\n"
    )
    assert (reader.retry_after_ms, reader.reason, reader.retry, reader.deadline_ms) == (None, None, None, None)


def test_a_head_has_a_limit_and_a_body_too() -> None:
    reader = ResponseReader()
    reader.feed(HEAD)
    line = b"X: y\r\n"
    for _ in range((HEAD_BYTES_MAX - len(HEAD)) // len(line)):
        reader.feed(line)
    with pytest.raises(Fault, match="the head of the response is longer"):
        reader.feed(line)
    reader = ResponseReader(4)
    with pytest.raises(Fault, match="longer than 4 bytes") as caught:
        reader.feed(WHOLE["with a length"])
    assert caught.value.reason == "response_too_large"


def test_faults_say_what_may_have_left() -> None:
    place = endpoint("http://127.0.0.1")
    assert not unreachable(place, TimeoutError()).sent
    assert (
        unreachable(place, TimeoutError()).message == "The gateway at http://127.0.0.1/rpc cannot be reached: it took too long."
    )
    assert unreachable(place, ConnectionResetError()).message.endswith(": ConnectionResetError.")
    assert (late(sent=False).reason, late(sent=False).sent) == ("expired", False)
    assert (late(sent=True).reason, late(sent=True).sent) == ("deadline_exceeded", True)
    assert lost(None).message == "The connection to the gateway ended before its answer came."
    assert lost(OSError(104, "x")).message.endswith("came: Connection reset by peer.")
