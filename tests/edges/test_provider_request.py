"""homing.edges.provider_request: exact bytes, and nothing that could become something else on the wire."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homing.core.exchange import HttpRequest
from homing.edges.provider_request import _HEADS, _HEADS_MAX, FRAMING, encode, header_problem, target_problem

HOST = "api.example:8443"


def ask(
    method: str = "POST", target: str = "/v2/x?a=b", headers: tuple[tuple[str, str], ...] = (), body: bytes | None = b"{}"
) -> bytes:
    return encode(HttpRequest(method, target, headers, body), HOST)


def test_exact_bytes() -> None:
    assert ask(headers=(("X-One", "1"), ("Content-Type", "application/json"))) == (
        b"POST /v2/x?a=b HTTP/1.1\r\nHost: api.example:8443\r\nX-One: 1\r\nContent-Type: application/json\r\n"
        b"Accept-Encoding: gzip, deflate\r\nContent-Length: 2\r\n\r\n{}"
    )


def test_the_same_again_is_the_same_but_for_its_body() -> None:
    """Whatever was sent to the target before."""
    headers = (("X-One", "1"),)
    for body in (b"{}", b"", b"x" * 1000, None, b"[]"):
        assert ask(headers=headers, body=body) == ask(headers=(*headers, ("x", "y")), body=body).replace(b"x: y\r\n", b"")
        assert ask("PUT", headers=headers, body=body) == b"PUT" + ask(headers=headers, body=body)[4:]
        request = HttpRequest("POST", "/v2/x?a=b", headers, body)
        assert encode(request, "other") == encode(request, HOST).replace(HOST.encode(), b"other")
    with pytest.raises(ValueError, match="control"):
        ask(headers=(("X-One", "1\r\nX-Two: 2"),))


def test_what_is_kept_of_requests_is_bounded() -> None:
    for number in range(_HEADS_MAX + 5):
        ask(target=f"/{number}")
    assert len(_HEADS) <= _HEADS_MAX
    long = (("X", "y" * 5000),)
    assert ask(target="/long", headers=long) == ask(target="/long", headers=long)
    assert "/long" not in _HEADS


def test_no_body_has_no_length_and_an_empty_one_has() -> None:
    assert ask("GET", body=None).endswith(b"Accept-Encoding: gzip, deflate\r\n\r\n")
    assert ask(body=b"").endswith(b"Content-Length: 0\r\n\r\n")


def test_a_request_may_bring_its_own_host_and_codings() -> None:
    data = ask(headers=(("host", "other.example"), ("ACCEPT-ENCODING", "identity")), body=None)
    assert data == b"POST /v2/x?a=b HTTP/1.1\r\nhost: other.example\r\nACCEPT-ENCODING: identity\r\n\r\n"


@pytest.mark.parametrize("value", ["", "a\tb", "caf\xe9", "\xa0", "\x85", 'a: b, c; d="e"'])
def test_values_that_are_sent_as_they_are(value: str) -> None:
    assert b"X: " + value.encode("latin-1") + b"\r\n" in ask(headers=(("X", value),))
    assert header_problem("X", value) is None


BAD_VALUES = ["a\r\nEvil: 1", "a\n", "\r", "a\rb", "\r\n", "a\0", "\x7f", "\x0b", "snow ☃", "\u2028", "\ud800"]


@pytest.mark.parametrize("value", BAD_VALUES)
@pytest.mark.parametrize("others", [(), (("A", "1"), ("B", "2"))])
def test_values_that_are_never_sent(value: str, others: tuple[tuple[str, str], ...]) -> None:
    with pytest.raises(ValueError, match="header X") as caught:
        ask(headers=(*others, ("X", "hunter2" + value), *others))
    assert "hunter2" not in str(caught.value)  # it may be a secret
    assert header_problem("X", value) is not None


@pytest.mark.parametrize("name", ["", "A B", "A:", "A\r\nB", "Ä", "A\n", "(x)"])
def test_names_that_are_no_token(name: str) -> None:
    with pytest.raises(ValueError, match="no token"):
        ask(headers=((name, "1"),))
    assert header_problem(name, "1") is not None


@pytest.mark.parametrize("name", sorted(FRAMING))
def test_headers_that_are_the_edges_own(name: str) -> None:
    for written in (name, name.title(), name.upper()):
        with pytest.raises(ValueError, match="not for the caller"):
            ask(headers=((written, "1"),))


@pytest.mark.parametrize("name", ["Host", "Accept-Encoding"])
def test_only_one_of_each_that_the_edge_knows(name: str) -> None:
    with pytest.raises(ValueError, match="two"):
        ask(headers=((name, "a"), (name.lower(), "b")))


BAD_TARGETS = ["", "x", "//a b", "/a b", "/a\r\nEvil: 1", "/a\0", "/ä", "/a#b", "/\x7f", "http://x/", "*", "/a\tb"]


@pytest.mark.parametrize("target", BAD_TARGETS)
def test_targets_that_are_never_sent(target: str) -> None:
    with pytest.raises(ValueError, match="target"):
        ask(target=target)
    assert target_problem(target) is not None


@pytest.mark.parametrize("method", ["", "GE T", "GET\r\n", "G\0"])
def test_methods_that_are_no_token(method: str) -> None:
    with pytest.raises(ValueError, match="method"):
        ask(method)


def test_a_method_of_ones_own() -> None:
    assert ask("PURGE").startswith(b"PURGE /v2/x?a=b HTTP/1.1\r\n")


TEXT = st.text(max_size=20) | st.text(alphabet="a\r\n\t :é☃\0\x7f", max_size=8)


@given(TEXT, TEXT, st.lists(st.tuples(TEXT, TEXT), max_size=5), st.none() | st.binary(max_size=50))
def test_whatever_is_let_through_is_one_request_with_these_headers(
    method: str, target: str, headers: list[tuple[str, str]], body: bytes | None
) -> None:
    try:
        data = encode(HttpRequest(method, target, tuple(headers), body), HOST)
    except ValueError:
        return
    head, _, rest = data.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    assert rest == (body or b"")
    assert lines[0] == f"{method} {target} HTTP/1.1"
    assert [line for line in lines[1:] if line in {f"{name}: {value}" for name, value in headers}] == [
        f"{name}: {value}" for name, value in headers
    ]
    own = {"host", "accept-encoding", "content-length"}
    assert len(lines) - 1 - len(headers) <= len(own)
    assert not any(ord(character) < 32 and character != "\t" for line in lines for character in line)
