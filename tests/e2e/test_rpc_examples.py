"""The examples of the JSON-RPC 2.0 specification (section 7), word for word, and over a connection of raw bytes."""

import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.serving import Answer, Asked, Serving

HOUSE = """
[gateway]
anonymous = ["*"]
deadline = { default = "5s", max = "8s" }
[providers.calculator]
base_url = "{provider}"
[providers.calculator.defaults]
effect = "safe"
[methods.subtract]
provider = "calculator"
request = "POST /subtract"
positional = ["minuend", "subtrahend"]
[methods.sum]
provider = "calculator"
request = "POST /sum"
positional = ["a", "b", "c"]
[methods.update]
provider = "calculator"
request = "POST /none"
positional = ["a", "b", "c", "d", "e"]
[methods.foobar]
provider = "calculator"
request = "POST /none"
notifications = true
[methods.notify_sum]
provider = "calculator"
request = "POST /sum"
positional = ["a", "b", "c"]
[methods.notify_hello]
provider = "calculator"
request = "POST /none"
positional = ["number"]
[methods.get_data]
provider = "calculator"
request = "POST /data"
"""


def calculate(asked: Asked) -> Answer:
    if asked.path == "/subtract":
        return Answer(body=asked.json["minuend"] - asked.json["subtrahend"])
    if asked.path == "/sum":
        return Answer(body=sum(asked.json.values()))
    if asked.path == "/data":
        return Answer(body=["hello", 5])
    return Answer(status=204)


@pytest.fixture(scope="module")
def homing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with Serving(HOUSE, tmp_path_factory.mktemp("examples"), calculate) as homing:
        yield homing


def cut_down(answer: Any) -> Any:
    """Code and id are the specification's; the rest of an error is ours."""
    if isinstance(answer, list):
        return [cut_down(each) for each in answer]
    assert answer["jsonrpc"] == "2.0"
    assert set(answer) in ({"jsonrpc", "id", "result"}, {"jsonrpc", "id", "error"})
    if "error" in answer:
        assert answer["error"]["data"]["executed"] == "no"
        return {"code": answer["error"]["code"], "id": answer["id"]}
    return {"result": answer["result"], "id": answer["id"]}


EXAMPLES = [
    ('{"jsonrpc": "2.0", "method": "subtract", "params": [42, 23], "id": 1}', {"result": 19, "id": 1}),
    ('{"jsonrpc": "2.0", "method": "subtract", "params": [23, 42], "id": 2}', {"result": -19, "id": 2}),
    ('{"jsonrpc": "2.0", "method": "subtract", "params": {"subtrahend": 23, "minuend": 42}, "id": 3}', {"result": 19, "id": 3}),
    ('{"jsonrpc": "2.0", "method": "subtract", "params": {"minuend": 42, "subtrahend": 23}, "id": 4}', {"result": 19, "id": 4}),
    ('{"jsonrpc": "2.0", "method": "update", "params": [1,2,3,4,5]}', None),
    ('{"jsonrpc": "2.0", "method": "foobar"}', None),
    ('{"jsonrpc": "2.0", "method": "foobaz", "id": "1"}', {"code": -32601, "id": "1"}),
    ('{"jsonrpc": "2.0", "method": "foobar, "params": "bar", "baz]', {"code": -32700, "id": None}),
    ('{"jsonrpc": "2.0", "method": 1, "params": "bar"}', {"code": -32600, "id": None}),
    (
        '[{"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"}, {"jsonrpc": "2.0", "method"]',
        {"code": -32700, "id": None},
    ),
    ("[]", {"code": -32600, "id": None}),
    ("[1]", [{"code": -32600, "id": None}]),
    ("[1,2,3]", [{"code": -32600, "id": None}] * 3),
    (
        """[
        {"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"},
        {"jsonrpc": "2.0", "method": "notify_hello", "params": [7]},
        {"jsonrpc": "2.0", "method": "subtract", "params": [42,23], "id": "2"},
        {"foo": "boo"},
        {"jsonrpc": "2.0", "method": "foo.get", "params": {"name": "myself"}, "id": "5"},
        {"jsonrpc": "2.0", "method": "get_data", "id": "9"}
    ]""",
        [
            {"result": 7, "id": "1"},
            {"result": 19, "id": "2"},
            {"code": -32600, "id": None},
            {"code": -32601, "id": "5"},
            {"result": ["hello", 5], "id": "9"},
        ],
    ),
    (
        """[
        {"jsonrpc": "2.0", "method": "notify_sum", "params": [1,2,4]},
        {"jsonrpc": "2.0", "method": "notify_hello", "params": [7]}
    ]""",
        None,
    ),
]


@pytest.mark.parametrize("path", ["/rpc", "/"])
@pytest.mark.parametrize(("sent", "back"), EXAMPLES)
def test_an_example_of_the_specification(sent: str, back: Any, path: str, homing: Serving) -> None:
    reply = homing.post(sent.encode(), path)
    if back is None:
        assert (reply.status, reply.body) == (204, b"")
    else:
        assert reply.status == 200
        assert cut_down(reply.json) == back


def test_all_examples_pipelined_in_one_write_are_answered_in_order(homing: Serving) -> None:
    bodies = [sent.encode() for sent, _ in EXAMPLES]
    with socket.create_connection(("127.0.0.1", homing.port), 10) as caller, caller.makefile("rb") as answers:
        requests = [b"POST /rpc HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body) for body in bodies]
        caller.sendall(b"".join(requests))
        for _, back in EXAMPLES:
            status, body = read_one(answers)
            assert (status, body and cut_down(json.loads(body))) == ((200, back) if back is not None else (204, b""))


def test_one_byte_a_segment(homing: Serving) -> None:
    sent, back = EXAMPLES[0]
    body = sent.encode()
    with socket.create_connection(("127.0.0.1", homing.port), 10) as caller, caller.makefile("rb") as answers:
        caller.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in b"POST /rpc HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body):
            caller.sendall(bytes([byte]))
        assert cut_down(json.loads(read_one(answers)[1])) == back


def test_old_http_with_and_without_keep_alive(homing: Serving) -> None:
    body = EXAMPLES[0][0].encode()
    for field, stays in ((b"Connection: keep-alive\r\n", True), (b"", False)):
        with socket.create_connection(("127.0.0.1", homing.port), 10) as caller, caller.makefile("rb") as answers:
            for _ in range(2 if stays else 1):
                caller.sendall(b"POST / HTTP/1.0\r\n%bContent-Length: %d\r\n\r\n%b" % (field, len(body), body))
                assert read_one(answers)[0] == 200
            if not stays:
                assert answers.read() == b""


def test_hundreds_of_callers_at_once(homing: Serving) -> None:
    wrong: list[Any] = []

    def call(number: int) -> None:
        reply = homing.call("subtract", [number, 1], id=number)
        if reply.json != {"jsonrpc": "2.0", "id": number, "result": number - 1}:
            wrong.append(reply)

    callers = [threading.Thread(target=call, args=(number,)) for number in range(200)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong


def read_one(answers: Any) -> tuple[int, bytes]:
    status = int(answers.readline().split()[1])
    length = 0
    while (line := answers.readline().strip()) != b"":
        name, _, value = line.lower().partition(b": ")
        length = int(value) if name == b"content-length" else length
    return status, answers.read(length)
