"""Requests as they come, good and bad, each with the statuses it must get however it is cut, and whether the connection stays."""

from typing import NamedTuple

from tests.edges.lines import post


class Case(NamedTuple):
    name: str
    data: bytes
    statuses: list[int]
    bodies: list[bytes]  # of the requests that came through
    stays: bool  # open for the next request


def _get(*lines: bytes) -> bytes:
    return b"\r\n".join([*lines, b"", b""])


def _chunked(body: bytes, *fields: bytes, version: bytes = b"1.1") -> bytes:
    return _get(b"POST /rpc HTTP/" + version, b"Host: a", b"Transfer-Encoding: chunked", *fields) + body


GOOD = [
    Case("plain", post(b'{"a":1}'), [200], [b'{"a":1}'], True),
    Case("no body", _get(b"GET / HTTP/1.1", b"Host: a"), [200], [b""], True),
    Case("empty body", post(b""), [200], [b""], True),
    Case(
        "three in a row", post(b"1") + post(b"22") + _get(b"GET /x?y=1 HTTP/1.1", b"Host: a"), [200] * 3, [b"1", b"22", b""], True
    ),
    Case("an empty line before", b"\r\n" + post(b"1") + b"\r\n" + post(b"2"), [200, 200], [b"1", b"2"], True),
    Case("empty host", _get(b"GET / HTTP/1.1", b"Host:"), [200], [b""], True),
    Case("host and port", _get(b"GET / HTTP/1.1", b"Host: [::1]:8370"), [200], [b""], True),
    Case("absolute", _get(b"GET http://a.example/rpc?x HTTP/1.1", b"Host: b"), [200], [b""], True),
    Case("asterisk", _get(b"OPTIONS * HTTP/1.1", b"Host: a"), [200], [b""], True),
    Case("white space round a value", _get(b"GET / HTTP/1.1", b"Host:  a \t ", b"X:\t", b"Y: "), [200], [b""], True),
    Case("no white space", _get(b"GET / HTTP/1.1", b"Host:a"), [200], [b""], True),
    Case("repeated fields", _get(b"GET / HTTP/1.1", b"Host: a", b"X: 1", b"x: 2", b"Y: 3"), [200], [b""], True),
    Case("bytes above ASCII", _get(b"GET / HTTP/1.1", b"Host: a", b"X: \xc3\xa9\xff"), [200], [b""], True),
    Case("leading zeros", _get(b"POST / HTTP/1.1", b"Host: a", b"Content-Length: 0003") + b"abc", [200], [b"abc"], True),
    Case("trailing white space", _get(b"POST / HTTP/1.1", b"Host: a", b"Content-Length: 3 \t") + b"abc", [200], [b"abc"], True),
    Case("close", post(b"1", b"/rpc", b"Connection: close"), [200], [b"1"], False),
    Case("close among others", post(b"1", b"/rpc", b"Connection: x, Close ,y"), [200], [b"1"], False),
    Case("nothing after close", post(b"1", b"/rpc", b"Connection: close") + post(b"2"), [200], [b"1"], False),
    Case("1.0", _get(b"GET / HTTP/1.0"), [200], [b""], False),
    Case("1.0 with a body", _get(b"POST / HTTP/1.0", b"Content-Length: 2") + b"ab", [200], [b"ab"], False),
    Case("1.0 that stays", _get(b"GET / HTTP/1.0", b"Connection: Keep-Alive"), [200], [b""], True),
    Case(
        "1.0 waits for nothing",
        _get(b"POST / HTTP/1.0", b"Expect: 100-continue", b"Content-Length: 1") + b"a",
        [200],
        [b"a"],
        False,
    ),
    Case("upgrade", _get(b"GET / HTTP/1.1", b"Host: a", b"Connection: Upgrade", b"Upgrade: websocket"), [200], [b""], True),
    Case(
        "upgrade with a body",
        post(b"abc", b"/rpc", b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: A") + post(b"2"),
        [200, 200],
        [b"abc", b"2"],
        True,
    ),
    Case("expect", post(b"abc", b"/rpc", b"Expect: 100-Continue"), [200], [b"abc"], True),
    Case("chunks", _chunked(b"3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n") + post(b"2"), [200, 200], [b"abcd", b"2"], True),
    Case("no chunks", _chunked(b"0\r\n\r\n"), [200], [b""], True),
    Case("chunk sizes in hex", _chunked(b"00A\r\n0123456789\r\n000\r\n\r\n"), [200], [b"0123456789"], True),
    Case(
        "extensions", _chunked(b'1;a;b=c ; d="e;\\"f" \t;g = h\r\nx\r\n0;z\r\n\r\n'.replace(b" \t;", b";")), [200], [b"x"], True
    ),
    Case("trailers", _chunked(b"1\r\nx\r\n0\r\nX: y\r\nContent-Length: 7\r\n\r\n") + post(b"2"), [200, 200], [b"x", b"2"], True),
    Case("lines in a body", post(b"\r\n\r\nGET / HTTP/1.1\r\n\r\n"), [200], [b"\r\n\r\nGET / HTTP/1.1\r\n\r\n"], True),
    Case("a chunk that looks like an end", _chunked(b"5\r\n0\r\n\r\n\r\n0\r\n\r\n"), [200], [b"0\r\n\r\n"], True),
]

_HOST = b"Host: a"
BAD = [
    Case(name, data + post(b"smuggled"), [status], [], False)
    for name, status, data in [
        ("no host", 400, _get(b"GET / HTTP/1.1")),
        ("no host, other fields", 400, _get(b"GET / HTTP/1.1", b"X: y")),
        ("two hosts", 400, _get(b"GET / HTTP/1.1", _HOST, b"Host: b")),
        ("the same host twice", 400, _get(b"GET / HTTP/1.1", _HOST, b"hOST: a")),
        ("host with a space", 400, _get(b"GET / HTTP/1.1", b"Host: a b")),
        ("host with a user", 400, _get(b"GET / HTTP/1.1", b"Host: u@a")),
        ("host with a path", 400, _get(b"GET / HTTP/1.1", b"Host: a/b")),
        ("two hosts in 1.0", 400, _get(b"GET / HTTP/1.0", _HOST, b"Host: b")),
        ("HTTP/2.0", 505, _get(b"GET / HTTP/2.0", _HOST)),
        ("the preface of HTTP/2", 505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        ("HTTP/1.2", 505, _get(b"GET / HTTP/1.2", _HOST)),
        ("HTTP/0.9", 505, _get(b"GET / HTTP/0.9", _HOST)),
        ("a simple request", 400, b"GET /\r\n"),
        ("no version digits", 400, _get(b"GET / HTTP/1.", _HOST)),
        ("lower-case HTTP", 400, _get(b"GET / http/1.1", _HOST)),
        ("two spaces", 400, _get(b"GET  / HTTP/1.1", _HOST)),
        ("a tab", 400, _get(b"GET\t/ HTTP/1.1", _HOST)),
        ("a space at the end", 400, _get(b"GET / HTTP/1.1 ", _HOST)),
        ("a space before", 400, _get(b" GET / HTTP/1.1", _HOST)),
        ("two empty lines before", 400, b"\r\n\r\n" + _get(b"GET / HTTP/1.1", _HOST)),
        ("CR before", 400, b"\r" + _get(b"GET / HTTP/1.1", _HOST)),
        ("CR and no more", 400, b"\r\x00"),
        ("LF before", 400, b"\n" + _get(b"GET / HTTP/1.1", _HOST)),
        ("TLS where there is none", 400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(64))),
        ("a relative path", 400, _get(b"GET rpc HTTP/1.1", _HOST)),
        ("a fragment", 400, _get(b"GET /rpc#x HTTP/1.1", _HOST)),
        ("another scheme", 400, _get(b"GET ftp://a/ HTTP/1.1", _HOST)),
        ("a user in the target", 400, _get(b"GET http://u@a/ HTTP/1.1", _HOST)),
        ("asterisk for GET", 400, _get(b"GET * HTTP/1.1", _HOST)),
        ("bytes above ASCII in the target", 400, _get(b"GET /\xc3\xa9 HTTP/1.1", _HOST)),
        ("a control byte in the target", 400, _get(b"GET /\x01 HTTP/1.1", _HOST)),
        ("an unknown method", 501, _get(b"BREW / HTTP/1.1", _HOST)),
        ("a lower-case method", 501, _get(b"post / HTTP/1.1", _HOST, b"Content-Length: 0")),
        ("connect", 501, _get(b"CONNECT a:80 HTTP/1.1", _HOST)),
        ("white space before the colon", 400, _get(b"GET / HTTP/1.1", b"Host : a")),
        ("a field without a colon", 400, _get(b"GET / HTTP/1.1", _HOST, b"nonsense")),
        ("a field without a name", 400, _get(b"GET / HTTP/1.1", _HOST, b": x")),
        ("a name with a space", 400, _get(b"GET / HTTP/1.1", _HOST, b"X Y: z")),
        ("obs-fold", 400, _get(b"GET / HTTP/1.1", _HOST, b"X: y", b" z")),
        ("obs-fold with a tab", 400, _get(b"GET / HTTP/1.1", _HOST, b"X: y", b"\tz")),
        ("white space before the first field", 400, _get(b"GET / HTTP/1.1", b" Host: a")),
        ("NUL in a value", 400, _get(b"GET / HTTP/1.1", _HOST, b"X: a\x00b")),
        ("a control byte in a value", 400, _get(b"GET / HTTP/1.1", _HOST, b"X: a\x0bb")),
        ("DEL in a value", 400, _get(b"GET / HTTP/1.1", _HOST, b"X: a\x7fb")),
        ("CR in a value", 400, _get(b"GET / HTTP/1.1", _HOST, b"X: a\rb")),
        ("CR CR LF", 400, _get(b"GET / HTTP/1.1", _HOST, b"X: a\r")),
        ("bare LF", 400, b"GET / HTTP/1.1\nHost: a\n\n"),
        ("bare LF after the request line", 400, b"GET / HTTP/1.1\nHost: a\r\n\r\n"),
        ("bare LF after a field", 400, b"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n"),
        ("bare LF at the end", 400, b"GET / HTTP/1.1\r\nHost: a\r\n\n"),
        ("length and coding", 400, _chunked(b"0\r\n\r\n", b"Content-Length: 5")),
        (
            "coding and length",
            400,
            _get(b"POST / HTTP/1.1", _HOST, b"Content-Length: 5", b"Transfer-Encoding: chunked") + b"0\r\n\r\n",
        ),
        ("two lengths", 400, _get(b"POST / HTTP/1.1", _HOST, b"Content-Length: 1", b"Content-Length: 2") + b"ab"),
        ("the same length twice", 400, _get(b"POST / HTTP/1.1", _HOST, b"Content-Length: 1", b"content-length: 1") + b"a"),
        ("lengths with a comma", 400, _get(b"POST / HTTP/1.1", _HOST, b"Content-Length: 1, 1") + b"a"),
        ("length +1", 400, _get(b"POST / HTTP/1.1", _HOST, b"Content-Length: +1") + b"a"),
        ("length -1", 400, _get(b"POST / HTTP/1.1", _HOST, b"Content-Length: -1") + b"a"),
        ("length 0x1", 400, _get(b"POST / HTTP/1.1", _HOST, b"Content-Length: 0x1") + b"a"),
        ("length 1_0", 400, _get(b"POST / HTTP/1.1", _HOST, b"Content-Length: 1_0") + b"a"),
        ("length 1 0", 400, _get(b"POST / HTTP/1.1", _HOST, b"Content-Length: 1 0") + b"a"),
        ("empty length", 400, _get(b"POST / HTTP/1.1", _HOST, b"Content-Length:") + b"a"),
        ("no length", 411, _get(b"POST / HTTP/1.1", _HOST)),
        ("length over the limit", 413, _get(b"POST / HTTP/1.1", _HOST, b"Content-Length: 1048577")),
        ("length beyond 64 bits", 413, _get(b"POST / HTTP/1.1", _HOST, b"Content-Length: 99999999999999999999999", b"X: y")),
        ("gzip, chunked", 501, _get(b"POST / HTTP/1.1", _HOST, b"Transfer-Encoding: gzip, chunked") + b"0\r\n\r\n"),
        (
            "gzip and then chunked",
            501,
            _get(b"POST / HTTP/1.1", _HOST, b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked"),
        ),
        ("gzip", 400, _get(b"POST / HTTP/1.1", _HOST, b"Transfer-Encoding: gzip")),
        ("identity", 400, _get(b"POST / HTTP/1.1", _HOST, b"Transfer-Encoding: identity", b"Content-Length: 0")),
        ("chunked, gzip", 400, _get(b"POST / HTTP/1.1", _HOST, b"Transfer-Encoding: chunked, gzip")),
        ("chunked twice", 400, _chunked(b"0\r\n\r\n", b"Transfer-Encoding: chunked")),
        ("chunked, chunked", 400, _get(b"POST / HTTP/1.1", _HOST, b"Transfer-Encoding: chunked, chunked") + b"0\r\n\r\n"),
        ("xchunked", 400, _get(b"POST / HTTP/1.1", _HOST, b"Transfer-Encoding: xchunked") + b"0\r\n\r\n"),
        ("quoted chunked", 400, _get(b"POST / HTTP/1.1", _HOST, b'Transfer-Encoding: "chunked"') + b"0\r\n\r\n"),
        ("chunked with a vertical tab", 400, _get(b"POST / HTTP/1.1", _HOST, b"Transfer-Encoding: \x0bchunked") + b"0\r\n\r\n"),
        ("white space before the coding's colon", 400, _get(b"POST / HTTP/1.1", _HOST, b"Transfer-Encoding : chunked")),
        ("empty coding", 400, _get(b"POST / HTTP/1.1", _HOST, b"Transfer-Encoding:") + b"0\r\n\r\n"),
        ("coding in 1.0", 400, _chunked(b"0\r\n\r\n", version=b"1.0")),
        ("another expectation", 417, post(b"", b"/rpc", b"Expect: 200-ok")),
        ("two expectations", 417, post(b"", b"/rpc", b"Expect: 100-continue", b"Expect: 100-continue")),
        ("a long target", 414, _get(b"GET /" + b"x" * 8200 + b" HTTP/1.1", _HOST)),
        ("a long method", 414, b"X" * 9000),
        ("a large head", 431, _get(b"GET / HTTP/1.1", _HOST, *[b"X%d: " % i + b"x" * 4000 for i in range(9)])),
        ("a large field", 431, _get(b"GET / HTTP/1.1", _HOST, b"X: " + b"x" * 33000)),
        ("many fields", 431, _get(b"GET / HTTP/1.1", _HOST, *[b"X: y"] * 100)),
        ("no chunk size", 400, _chunked(b"\r\nabc\r\n0\r\n\r\n")),
        ("a chunk size that is none", 400, _chunked(b"zz\r\nabc\r\n0\r\n\r\n")),
        ("a chunk size with 0x", 400, _chunked(b"0x3\r\nabc\r\n0\r\n\r\n")),
        ("a negative chunk size", 400, _chunked(b"-1\r\nabc\r\n0\r\n\r\n")),
        ("a chunk size with a space before", 400, _chunked(b" 3\r\nabc\r\n0\r\n\r\n")),
        ("a chunk size with a space after", 400, _chunked(b"3 \r\nabc\r\n0\r\n\r\n")),
        ("a chunk size of 17 digits", 400, _chunked(b"0" * 16 + b"3\r\nabc\r\n0\r\n\r\n")),
        ("a chunk size beyond the limit", 413, _chunked(b"ffffffffffffffff\r\n")),
        ("chunks beyond the limit", 413, _chunked(b"10\r\n0123456789abcdef\r\n100000\r\n")),
        ("bare LF after a chunk size", 400, _chunked(b"3\nabc\r\n0\r\n\r\n")),
        ("bare LF after a chunk", 400, _chunked(b"3\r\nabc\n0\r\n\r\n")),
        ("a chunk longer than its size", 400, _chunked(b"3\r\nabcd\r\n0\r\n\r\n")),
        ("a chunk shorter than its size", 400, _chunked(b"5\r\nabc\r\n0\r\n\r\n")),
        ("CR in an extension", 400, _chunked(b"3;a\rb\r\nabc\r\n0\r\n\r\n")),
        ("LF in a quoted extension", 400, _chunked(b'3;a="\n"\r\nabc\r\n0\r\n\r\n')),
        ("an extension that is none", 400, _chunked(b"3;\r\nabc\r\n0\r\n\r\n")),
        ("a long extension", 400, _chunked(b"3;a=" + b"b" * 1100 + b"\r\nabc\r\n0\r\n\r\n")),
        ("a malformed trailer", 400, _chunked(b"0\r\nX : y\r\n\r\n")),
        ("a folded trailer", 400, _chunked(b"0\r\nX: y\r\n z\r\n\r\n")),
        ("a bare LF in the trailers", 400, _chunked(b"0\r\nX: y\n\r\n")),
        ("many trailers", 431, _chunked(b"0\r\n" + b"X: y\r\n" * 101 + b"\r\n")),
        ("large trailers", 431, _chunked(b"0\r\nX: " + b"x" * 33000 + b"\r\n\r\n")),
    ]
]
