"""Whatever a caller sends, it gets a clear error that is true, costs bounded memory, and no other call notices."""

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.quirks import Line, Neighbour, QuirkyProvider, on_a_thread
from tests.running import Running

HOUSE = """
[gateway]
anonymous = ["*"]
listen = "127.0.0.1:0"
deadline = { default = "5s", max = "20s" }
timeout = { header = "1s", body = "1s", idle = "4s", write = "1s" }
held_bytes_max = "32MiB"
origins = ["https://shop.example"]
[admin]
listen = "127.0.0.1:0"
[providers.acme]
base_url = "{url}/base"
headers = { Accept = "application/json" }
in_flight_max = 200
[methods."acme.echo"]
provider = "acme"
request = "POST /echo"
[methods."acme.path"]
provider = "acme"
request = "POST /at/{a}/{b}{?q}"
[methods."acme.header"]
provider = "acme"
request = "POST /header"
headers = { X-Of = "=params.x" }
[methods."acme.slow"]
provider = "acme"
request = "POST /slow"
[methods."acme.large"]
provider = "acme"
effect = "safe"
request = "POST /large"
[methods."acme.typed"]
provider = "acme"
request = "POST /echo"
[methods."acme.typed".params]
properties.n = { type = "integer", minimum = 0 }
properties.s = { type = "string", maxLength = 10, pattern = "^(a+)+$" }
additionalProperties = false
"""
MIB = 1 << 20
ECHO = b'{"jsonrpc":"2.0","id":1,"method":"acme.echo","params":{"n":1}}'
SMUGGLED = b"POST /rpc HTTP/1.1\r\nHost: x\r\nContent-Length: 70\r\n\r\n" + ECHO.replace(b'"n":1', b'"n":666666').ljust(70)


async def slow(line: Line) -> bool:
    import asyncio

    await asyncio.sleep(0.5)
    await line.say(line.response())
    return True


async def large(line: Line) -> bool:
    await line.say(line.response(b'"' + b"x" * 1_000_000 + b'"'))
    return True


@pytest.fixture(scope="module")
def provider() -> Iterator[QuirkyProvider]:
    with on_a_thread(QuirkyProvider({"/base/slow": slow, "/base/large": large})) as provider:
        yield provider


@pytest.fixture(scope="module")
def homing(provider: QuirkyProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("callers")
    with Running(folder, HOUSE.replace("{url}", f"http://127.0.0.1:{provider.port}")) as homing:
        yield homing
        settled(homing)
        assert 666666 not in provider.seen
        homing.terminate()
        assert homing.wait() == 0
        assert not homing.faults()


@pytest.fixture(autouse=True)
def beside(homing: Running) -> Iterator[None]:
    """All the while somebody else calls, memory stays where it was, and what was opened is closed."""
    assert homing.call("acme.echo", {"n": 1}).result == {"n": 1}
    before = homing.rss_bytes()
    with Neighbour(homing.port, "acme.echo") as neighbour:
        yield
    neighbour.check()
    grown = homing.rss_bytes() - before
    assert grown < 64 * MIB, f"{grown / MIB:.0f} MiB"


def settled(homing: Running) -> None:
    """No call is open and nothing is held, within a moment."""
    until = time.monotonic() + 10
    while True:
        verbose = homing.verbose()
        if (verbose["open_calls"], verbose["granted"], verbose["broker_holds"]) == (0, 0, 0):
            return
        assert time.monotonic() < until, verbose
        time.sleep(0.02)


def connect(homing: Running) -> socket.socket:
    return socket.create_connection(("127.0.0.1", homing.port), 15)


def exchange(homing: Running, data: bytes, *, end: bool = False) -> tuple[int, dict[str, str], bytes]:
    """Send bytes, read one response; status 0 if the connection ends without one."""
    with connect(homing) as caller:
        with contextlib.suppress(OSError):
            caller.sendall(data)
            if end:
                caller.shutdown(socket.SHUT_WR)
        return read(caller)


def read(caller: socket.socket) -> tuple[int, dict[str, str], bytes]:
    got = b""
    while b"\r\n\r\n" not in got:
        try:
            data = caller.recv(65536)
        except ConnectionResetError:
            data = b""
        if not data:
            assert got == b""
            return 0, {}, b""
        got += data
    head, _, body = got.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
    while len(body) < int(fields.get("content-length", 0)):
        data = caller.recv(65536)
        assert data
        body += data
    return int(lines[0].split(" ")[1]), fields, body


def post(body: bytes, *fields: str, path: str = "/rpc") -> bytes:
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: x", *fields, f"Content-Length: {len(body)}", "", ""]).encode() + body


def refused(answer: tuple[int, dict[str, str], bytes], status: int, code: int | None = None, limit: str | None = None) -> Any:
    """A refusal, in HTTP and in JSON-RPC, with its proof that nothing was done."""
    assert answer[0] == status, answer
    body = json.loads(answer[2])
    for error in body if isinstance(body, list) else [body]:
        assert error["error"]["data"]["executed"] == "no"
        assert error["error"]["message"]
        if code is not None:
            assert error["error"]["code"] == code, error
        if limit is not None:
            assert error["error"]["data"]["limit"] == limit
    if not isinstance(body, list):
        assert answer[1]["homing-executed"] == "no"
    return body


# Too much


@pytest.mark.parametrize("length", [MIB + 1, 10 * MIB, 10**18, 10**40])
def test_a_body_that_announces_to_be_over_the_limit(length: int, homing: Running) -> None:
    head = f"POST /rpc HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n".encode()
    refused(exchange(homing, head), 413, 4130, "gateway.body_max")
    refused(exchange(homing, head.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n")), 413, 4130, "gateway.body_max")
    refused(exchange(homing, head + b"x" * min(length, 3 * MIB)), 413, 4130, "gateway.body_max")


def test_a_body_that_does_not_say_how_long_it_is(homing: Running) -> None:
    head = b"POST /rpc HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
    refused(exchange(homing, head + chunk * 17), 413, 4130, "gateway.body_max")
    refused(exchange(homing, head + b"fffffffffffffff\r\n"), 413, 4130, "gateway.body_max")
    with connect(homing) as caller:
        caller.sendall(head)
        sent = 0
        with contextlib.suppress(OSError):
            while sent < 200 * MIB:
                caller.sendall(chunk)
                sent += len(chunk)
        assert sent < 64 * MIB, "it went on and on"


def test_bytes_of_chunks_that_are_all_framing(homing: Running) -> None:
    head = b"POST /rpc HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert exchange(homing, head + b"1;" + b"x" * 5000 + b"\r\n")[0] == 400
    assert exchange(homing, head + b"1;a=b\r\n \r\n" * 50_000)[0] in (400, 413)
    assert exchange(homing, head + b"0\r\n" + b"X: y\r\n" * 200_000)[0] == 431
    body = b"".join(b'1;a="b\\"c";d\r\n%b\r\n' % ECHO[at : at + 1] for at in range(len(ECHO)))
    assert exchange(homing, head + body + b"0\r\nTrailer: x\r\n\r\n")[0] == 200


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
@pytest.mark.parametrize("depth", [65, 10_000, 100_000])
@pytest.mark.parametrize("closed", [True, False])
def test_nesting(opening: bytes, depth: int, closed: bool, homing: Running) -> None:
    closing = {b"[": b"]", b'{"a":': b"}"}[opening]
    nested = opening * depth + (b"1" + closing * depth if closed else b"")
    for body in (nested, b'{"jsonrpc":"2.0","id":1,"method":"acme.echo","params":' + nested + b"}"):
        status, _, said = exchange(homing, post(body))
        error = json.loads(said)["error"] if not said.startswith(b"[") else json.loads(said)[0]["error"]
        assert error["code"] in (4130, -32700)
        assert error["data"]["executed"] == "no"
        assert status in (200, 413)


def test_nesting_up_to_the_limit_is_fine(homing: Running) -> None:
    depth = 62  # and the envelope, and params
    body = b'{"jsonrpc":"2.0","id":1,"method":"acme.echo","params":{"n":5,"x":' + b"[" * depth + b"]" * depth + b"}}"
    assert json.loads(exchange(homing, post(body))[2])["result"] == {"n": 5}


@pytest.mark.parametrize("item", [b"1", b"{}", b"[]", b'""', b"null"])
def test_a_batch_of_100000(item: bytes, homing: Running) -> None:
    body = refused(exchange(homing, post(b"[" + b",".join([item] * 100_000) + b"]")), 413, 4130, "gateway.batch_length_max")
    assert isinstance(body, list)
    assert len(body) == 1


def test_a_batch_as_large_as_may_be_of_junk(homing: Running) -> None:
    answers = json.loads(exchange(homing, post(b"[" + b",".join([b"1"] * 1000) + b"]"))[2])
    assert [answer["error"]["code"] for answer in answers] == [-32600] * 1000


def test_header_fields_beyond_number_and_size(homing: Running) -> None:
    for fields, status in [
        (["X: y"] * 101, 431),
        (["X: " + "y" * 40_000], 431),
        (["X" * 40_000 + ": y"], 431),
        ([f"X-{n}: " + "y" * 1000 for n in range(90)], 431),
    ]:
        refused(exchange(homing, post(ECHO, *fields)), status)
    refused(exchange(homing, post(ECHO, path="/rpc?" + "x" * 9000)), 414)
    with connect(homing) as caller:  # a head that never ends
        caller.sendall(b"POST /rpc HTTP/1.1\r\nHost: x\r\n")
        with contextlib.suppress(OSError):
            for _ in range(200):
                caller.sendall(b"X-A: " + b"b" * 65_536 + b"\r\n")
        assert read(caller)[0] in (0, 431)


# Not JSON-RPC


@pytest.mark.parametrize(
    "body",
    [
        b'{"jsonrpc":"2.0","id":1,"id":2,"method":"acme.echo"}',
        b'{"jsonrpc":"2.0","id":1,"method":"acme.echo","method":"acme.slow"}',
        b'{"jsonrpc":"2.0","id":1,"m\\u0065thod":"acme.echo","method":"acme.slow"}',
        b'{"jsonrpc":"2.0","jsonrpc":"2.0","id":1,"method":"acme.echo"}',
        b'{"jsonrpc":"2.0","id":1,"method":"acme.echo","params":{"n":1},"params":{"n":2}}',
        b'{"jsonrpc":"2.0","id":1,"method":"acme.echo","p\\u0061rams":{"n":1},"params":{"n":2}}',
        b'{"jsonrpc":"2.0","id":1,"method":"acme.echo","params":null}',
        b'{"jsonrpc":"2.0","id":1,"method":"acme.echo","params":1}',
        b'{"jsonrpc":"2.0","id":[1],"method":"acme.echo"}',
        b'{"jsonrpc":"2.0","id":{},"method":"acme.echo"}',
        b'{"jsonrpc":"2.0","id":true,"method":"acme.echo"}',
        b'{"jsonrpc":"1.0","id":1,"method":"acme.echo"}',
        b'{"id":1,"method":"acme.echo"}',
        b'{"jsonrpc":2.0,"id":1,"method":"acme.echo"}',
        b'{"jsonrpc":"2.0","id":1}',
        b'{"jsonrpc":"2.0","id":1,"method":null}',
        b'"acme.echo"',
        b"1",
        b"null",
        b"{}",
    ],
)
def test_what_is_json_and_no_request(body: bytes, homing: Running) -> None:
    refused(exchange(homing, post(body)), 200, -32600)


@pytest.mark.parametrize(
    "value",
    [
        b"NaN",
        b"Infinity",
        b"-Infinity",
        b'"\xff"',
        b'"\xc0\xaf"',
        b'"\xed\xa0\x80"',
        b'"\xf4\x90\x80\x80"',
        b'"\xc3"',
        b'"\\ud800"',
        b'"\\udc00\\ud800"',
        b'"\\u12"',
        b'"\\x41"',
        b'"\n"',
        b'"\0"',
        b"01",
        b"1.",
        b".5",
        b"+1",
        b"0x10",
        b"1e",
        b"[1,]",
        b'{"a":1,}',
        b"{a:1}",
        b"'a'",
        b"tru",
        b"1 /* two */",
        b"",
    ],
)
def test_what_is_no_json(value: bytes, homing: Running) -> None:
    refused(exchange(homing, post(b'{"jsonrpc":"2.0","id":1,"method":"acme.echo","params":{"n":%b}}' % value)), 200, -32700)
    refused(exchange(homing, post(b'{"jsonrpc":"2.0","id":1,"method":"acme.echo","params":{"n":1},"x":%b}' % value)), 200)


@pytest.mark.parametrize(
    "body",
    [b"", b" ", b"\xef\xbb\xbf" + ECHO, ECHO.decode().encode("utf-16"), ECHO + b"x", ECHO + ECHO, ECHO[:-1], b"\xff" * 1000],
)
def test_bodies_that_are_no_json(body: bytes, homing: Running) -> None:
    refused(exchange(homing, post(body)), 200, -32700)


@pytest.mark.parametrize(
    "value", [b"7" * 900_000, b"0." + b"3" * 900_000, b"1e999999999", b"-1e-999999999", b"1e" + b"9" * 100_000]
)
def test_huge_numbers(value: bytes, homing: Running) -> None:
    for method in (b"acme.echo", b"acme.typed", b"acme.path", b"acme.header"):
        params = b'{"n":%b,"a":1,"b":1,"x":1}' % value
        began = time.monotonic()
        refused(exchange(homing, post(b'{"jsonrpc":"2.0","id":1,"method":"%b","params":%b}' % (method, params))), 200)
        answer = exchange(homing, post(b'{"jsonrpc":"2.0","id":%b,"method":"%b"}' % (value, method)))
        assert b'"id":%b,' % value in answer[2], "an id comes back byte for byte"
        assert time.monotonic() - began < 5


def test_big_numbers_that_are_not_huge_survive(homing: Running, provider: QuirkyProvider) -> None:
    for value in (b"123456789012345678901234567890", b"-0", b"-0.0", b"1.10", b"1e400", b"0.1e-7", b"9007199254740993"):
        body = b'{"jsonrpc":"2.0","id":%b,"method":"acme.echo","params":{"n":7,"x":%b}}' % (value, value)
        answer = exchange(homing, post(body))[2]
        assert answer == b'{"jsonrpc":"2.0","id":%b,"result":{"n":7}}' % value
        assert provider.requests[-1].endswith(b'{"n":7,"x":%b}' % value) or b'"x":%b}' % value in b"".join(
            provider.requests[-20:]
        )


def test_a_pattern_that_backtracks(homing: Running) -> None:
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "acme.typed", "params": {"s": "a" * 500_000 + "!"}}).encode()
    refused(exchange(homing, post(body)), 200, -32602)


# Slow, silent, gone


def test_slow_heads(homing: Running) -> None:
    """A hundred of them, a byte every now and then."""
    callers = [connect(homing) for _ in range(100)]
    began = time.monotonic()
    for byte in b"POST /rpc HTTP/1.1\r\n":
        for caller in callers:
            with contextlib.suppress(OSError):
                caller.sendall(bytes([byte]))
        time.sleep(0.08)
    for caller in callers:
        refused(read(caller), 408)
        caller.close()
    assert time.monotonic() - began < 12


def test_slow_bodies(homing: Running) -> None:
    callers = [connect(homing) for _ in range(50)]
    for caller in callers[::2]:
        caller.sendall(post(ECHO)[:-10])
    for caller in callers[1::2]:
        caller.sendall(b"POST /rpc HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab")
    for caller in callers:
        refused(read(caller), 408)
        caller.close()


def test_connections_that_say_nothing(homing: Running) -> None:
    callers = [connect(homing) for _ in range(50)]
    for caller in callers:
        assert read(caller)[0] == 0
        caller.close()


def test_answers_that_are_never_read(homing: Running) -> None:
    """Who asks for megabytes and reads none of them is cut after the write time-out, and the bytes are given back."""
    one = post(b'{"jsonrpc":"2.0","id":1,"method":"acme.large","params":{"n":2}}')
    callers = []
    for _ in range(2):
        caller = socket.socket()
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        caller.connect(("127.0.0.1", homing.port))
        caller.sendall(one * 12)
        callers.append(caller)
    until = time.monotonic() + 20
    most = 0.0
    while True:
        figures = homing.request("GET", "/metrics", port=homing.admin_port).body.decode()
        held = next(float(line.split()[1]) for line in figures.splitlines() if line.startswith("homing_held_bytes"))
        most = max(most, held)
        if most > 10 * MIB and held < 100_000:
            break
        assert time.monotonic() < until, f"{held} bytes are held"
        time.sleep(0.05)
    settled(homing)
    for caller in callers:
        caller.close()


def test_pipelines_without_end(homing: Running) -> None:
    """Requests are read no faster than they are answered."""
    with connect(homing) as caller:
        caller.settimeout(2)
        sent = 0
        with contextlib.suppress(OSError):
            for _ in range(400):
                caller.sendall(post(ECHO.replace(b"echo", b"slow")) * 50)
                sent += 50
        assert homing.verbose()["open_calls"] < 40


def test_half_closed_is_hung_up(homing: Running, provider: QuirkyProvider) -> None:
    before = provider.seen[31]
    answer = exchange(homing, post(ECHO.replace(b"echo", b"slow").replace(b'"n":1', b'"n":31')), end=True)
    assert answer[0] == 0
    settled(homing)
    assert provider.seen[31] - before <= 1


def test_hang_ups_at_every_byte(homing: Running, provider: QuirkyProvider) -> None:
    before = provider.seen[32]
    request = post(ECHO.replace(b"echo", b"slow").replace(b'"n":1', b'"n":32'))
    for at in range(len(request) + 1):
        with connect(homing) as caller:
            caller.sendall(request[:at])
    settled(homing)
    assert provider.seen[32] - before <= 1


# Smuggling

CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
SHAPES = {
    "length and coding": (post(ECHO, "Transfer-Encoding: chunked"), 400),
    "coding and length": (
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + SMUGGLED,
        400,
    ),
    "two lengths": (post(ECHO, "Content-Length: 5"), 400),
    "two equal lengths": (post(ECHO, f"Content-Length: {len(ECHO)}"), 400),
    "a list of lengths": (post(ECHO).replace(b"Content-Length: ", b"Content-Length: 3, "), 400),
    "a signed length": (post(ECHO).replace(b"Content-Length: ", b"Content-Length: +"), 400),
    "a negative length": (post(ECHO).replace(b"Content-Length: ", b"Content-Length: -"), 400),
    "a length in hex": (post(ECHO).replace(b"Content-Length: ", b"Content-Length: 0x"), 400),
    "a length in full-width digits": (post(ECHO).replace(b"Content-Length: ", b"Content-Length: \xef\xbc\x91"), 400),
    "a length with an underscore": (post(ECHO).replace(b"Content-Length: 6", b"Content-Length: 6_"), 400),
    "a length of nothing": (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: \r\n\r\n" + SMUGGLED, 400),
    "no length": (b"POST / HTTP/1.1\r\nHost: x\r\n\r\n" + SMUGGLED, 411),
    "space before a colon": (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length : 5\r\n\r\n" + SMUGGLED, 400),
    "space before a coding's colon": (
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
        400,
    ),
    "bare LF": (b"POST / HTTP/1.1\nHost: x\nContent-Length: 5\n\n" + SMUGGLED, 400),
    "bare LF in one line": (b"POST / HTTP/1.1\r\nHost: x\nContent-Length: 5\r\n\r\n" + SMUGGLED, 400),
    "bare CR": (b"POST / HTTP/1.1\r\nHost: x\rContent-Length: 5\r\n\r\n" + SMUGGLED, 400),
    "a folded line": (post(ECHO, "X: y\r\n z"), 400),
    "a folded coding": (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n" + SMUGGLED, 400),
    "a nul": (post(ECHO, "X: a\0b"), 400),
    "an unknown coding": (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + SMUGGLED, 400),
    "gzip, chunked": (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" + SMUGGLED, 501),
    "chunked, identity": (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + SMUGGLED, 400),
    "chunked twice": (
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
        400,
    ),
    "chunks in HTTP/1.0": (b"POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED, 400),
    "no Host": (b"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n" + SMUGGLED, 400),
    "two Hosts": (post(ECHO, "Host: y"), 400),
    "a Host with a path": (b"POST / HTTP/1.1\r\nHost: x/y\r\nContent-Length: 0\r\n\r\n" + SMUGGLED, 400),
    "a user in the target": (b"POST http://u@x/rpc HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n" + SMUGGLED, 400),
    "CONNECT": (b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n" + SMUGGLED, 501),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SMUGGLED, 505),
    "HTTP/1.2": (b"POST / HTTP/1.2\r\nHost: x\r\nContent-Length: 0\r\n\r\n" + SMUGGLED, 505),
    "HTTP/0.9": (b"GET /\r\n" + SMUGGLED, 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + SMUGGLED, 400),
    "two spaces": (b"POST  / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n" + SMUGGLED, 400),
    "a space in the target": (b"POST /a b HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n" + SMUGGLED, 400),
    "a chunk size with a sign": (CHUNKED + b"+0\r\n\r\n" + SMUGGLED, 400),
    "a chunk size in 0x": (CHUNKED + b"0x0\r\n\r\n" + SMUGGLED, 400),
    "a chunk size that overflows": (
        CHUNKED + b"10000000000000000\r\n\r\n" + SMUGGLED,
        400,
    ),
    "a chunk that ends in LF": (CHUNKED + b"1\n \n0\n\n" + SMUGGLED, 400),
    "a chunk that goes on": (
        CHUNKED + b"1\r\n  \r\n0\r\n\r\n" + SMUGGLED,
        400,
    ),
    "a bare LF in an extension": (
        CHUNKED + b"1;a\nx\r\n \r\n0\r\n\r\n" + SMUGGLED,
        400,
    ),
    "an expectation": (post(ECHO, "Expect: the-spanish-inquisition"), 417),
    "a coded body": (post(ECHO, "Content-Encoding: gzip"), 415),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_shape_that_two_readers_could_take_for_two_things(shape: str, homing: Running) -> None:
    """It is refused, and its connection is used no more: what would follow for somebody else's eyes is not looked at."""
    data, status = SHAPES[shape]
    with connect(homing) as caller:
        caller.sendall(data)
        refused(read(caller), status)
        if shape != "a coded body":
            caller.settimeout(10)
            with contextlib.suppress(ConnectionResetError):
                assert caller.recv(65536) == b""


def test_what_follows_a_request_is_a_request_of_its_own(homing: Running) -> None:
    """The end of a body is where it was said to be, and nowhere else."""
    with connect(homing) as caller, caller.makefile("rb") as answers:
        caller.sendall(
            post(ECHO) + post(ECHO.replace(b'"id":1', b'"id":2')) + post(b"{}") + post(ECHO.replace(b'"id":1', b'"id":3'))
        )
        ids = []
        for _ in range(4):
            length = 0
            while (line := answers.readline().strip()) != b"":
                if line.lower().startswith(b"content-length"):
                    length = int(line.split(b":")[1])
            ids.append(json.loads(answers.read(length))["id"])
    assert ids == [1, 2, None, 3]


# Values that would lead elsewhere


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\nb", "a\rb", "a\0b", "\x7f", "a\r\n\r\nGET / HTTP/1.1"])
def test_a_line_end_in_a_templated_value(value: str, homing: Running, provider: QuirkyProvider) -> None:
    before = len(provider.requests)
    reply = homing.call("acme.header", {"n": 8, "x": value})
    assert (reply.error["code"], reply.data["executed"]) == (-32602, "no")
    sent = homing.call("acme.path", {"n": 9, "a": value, "b": "x", "q": value})
    assert sent.result == {"n": 9}
    mine = [request for request in provider.requests[before:] if b"/at/" in request]
    assert not [request for request in provider.requests[before:] if b"/header" in request]
    assert mine[0].split(b"\r\n")[0].count(b" ") == 2
    assert b"X-Evil: 1" not in mine[0]


@pytest.mark.parametrize("value", ["..", ".", "../x", "x/..", "x/./y", "x\\..\\y", ""])
def test_a_path_value_that_climbs(value: str, homing: Running, provider: QuirkyProvider) -> None:
    before = len(provider.requests)
    reply = homing.call("acme.path", {"n": 10, "a": value, "b": "x"})
    assert (reply.error["code"], reply.data["executed"]) == (-32602, "no")
    assert not [request for request in provider.requests[before:] if b"/at/" in request]


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("%2f", b"%252f"),
        ("%2e%2e", b"%252e%252e"),
        ("a/b", b"a%2Fb"),
        ("a?b#c", b"a%3Fb%23c"),
        ("a\\b", b"a%5Cb"),
        ("...", b"..."),
        ("\u2025", b"%E2%80%A5"),
        ("//evil.example", b"%2F%2Fevil.example"),
        ("@evil.example:80", b"%40evil.example%3A80"),
    ],
)
def test_a_path_value_is_one_segment(value: str, written: bytes, homing: Running, provider: QuirkyProvider) -> None:
    assert homing.call("acme.path", {"n": 11, "a": value, "b": "x"}).result == {"n": 11}
    target = next(request for request in reversed(provider.requests) if b"/at/" in request).split(b" ")[1]
    assert target.partition(b"?")[0] == b"/base/at/" + written + b"/x"


# Strangers


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "https://shop.example.evil.example", "http://shop.example", ""]
)
def test_a_foreign_origin(origin: str, homing: Running) -> None:
    answer = exchange(homing, post(ECHO, f"Origin: {origin}", "Content-Type: application/json"))
    refused(answer, 403)
    assert "access-control-allow-origin" not in answer[1]


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /rpc HTTP/1.1\r\nHost: x\r\n\r\n", 405),
        (b"DELETE / HTTP/1.1\r\nHost: x\r\n\r\n", 405),
        (b"BREW /rpc HTTP/1.1\r\nHost: x\r\n\r\n", 501),
        (post(ECHO, path="/rpc/"), 404),
        (post(ECHO, path="/metrics"), 404),
        (post(ECHO, path="/%72pc"), 404),
        (post(ECHO, "Content-Type: text/plain"), 415),
        (post(ECHO, "Content-Type: application/x-www-form-urlencoded"), 415),
    ],
)
def test_what_is_not_asked_of_us(data: bytes, status: int, homing: Running) -> None:
    refused(exchange(homing, data), status)
