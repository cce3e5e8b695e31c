"""`http_reply`: the bytes of answers."""

import pytest

from homing.edges.http_reply import (
    HEARTBEAT,
    JOINED_BYTES_MAX,
    compose,
    compose_chunked_head,
    compose_chunks,
    date_line,
)

DATE = date_line(784111777)


def composed(
    status: int = 200,
    body: bytes = b"{}",
    *,
    keep: bool = True,
    version: str = "1.1",
    headless: bool = False,
    fields: bool = True,
) -> list[bytes]:
    out: list[bytes] = []
    compose(out, (status, [(b"A", b"b"), (b"C", b"d")] if fields else [], body), DATE, keep, version, headless)
    return out


def test_the_date_is_that_of_the_specification() -> None:
    assert DATE == b"Date: Sun, 06 Nov 1994 08:49:37 GMT"  # RFC 9110 section 5.6.7


def test_an_answer_is_one_piece() -> None:
    assert composed() == [
        b"HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nA: b\r\nC: d\r\nContent-Length: 2\r\n\r\n{}"
    ]
    assert composed(fields=False) == [b"HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 2\r\n\r\n{}"]


@pytest.mark.parametrize("body", [b"", b"{}", b"x" * (JOINED_BYTES_MAX + 1)])
@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("headless", [True, False])
@pytest.mark.parametrize("status", [200, 503])
def test_lines_in_one_piece_are_as_good_as_pairs(status: int, headless: bool, version: str, keep: bool, body: bytes) -> None:
    pairs: list[bytes] = []
    lines: list[bytes] = []
    compose(pairs, (status, [(b"A", b"b"), (b"C", b"d")], body), DATE, keep, version, headless)
    compose(lines, (status, b"A: b\r\nC: d\r\n", body), DATE, keep, version, headless)
    assert lines == pairs


def test_a_large_body_is_not_copied() -> None:
    body = b"x" * (JOINED_BYTES_MAX + 1)
    head, same = composed(body=body)
    assert same is body
    assert head.endswith(b"\r\nContent-Length: 65537\r\n\r\n")


def test_204_has_neither_body_nor_length() -> None:
    assert composed(204, b"")[0].endswith(b"C: d\r\n\r\n")
    assert b"Content-Length" not in composed(204, b"")[0]


def test_an_answer_to_head_has_the_length_only() -> None:
    assert composed(headless=True)[0].endswith(b"\r\nContent-Length: 2\r\n\r\n")
    assert len(composed(body=b"x" * 100_000, headless=True)) == 1


def test_it_says_what_becomes_of_the_connection_where_that_is_not_clear() -> None:
    assert b"Connection" not in composed()[0]
    assert b"\r\nConnection: close\r\n" in composed(keep=False)[0]
    assert b"\r\nConnection: keep-alive\r\n" in composed(version="1.0")[0]
    assert b"\r\nConnection: close\r\n" in composed(version="1.0", keep=False)[0]


def test_statuses_have_the_names_of_the_specification() -> None:
    for status, name in [(413, b"Content Too Large"), (414, b"URI Too Long"), (431, b"Request Header Fields Too Large")]:
        assert composed(status)[0].startswith(b"HTTP/1.1 %d %b\r\n" % (status, name))


def test_an_answer_in_chunks() -> None:
    assert compose_chunked_head([(b"A", b"b")], DATE, True) == (
        b"HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nA: b\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    assert b"\r\nConnection: close\r\n" in compose_chunked_head([], DATE, False)
    assert HEARTBEAT == b"1\r\n \r\n"
    out: list[bytes] = []
    compose_chunks(out, b"x" * 26)
    compose_chunks(out, b"")
    assert b"".join(out) == b"1a\r\n" + b"x" * 26 + b"\r\n0\r\n\r\n0\r\n\r\n"


def test_a_status_without_a_name_has_none() -> None:
    assert composed(529)[0].startswith(b"HTTP/1.1 529 \r\n")
