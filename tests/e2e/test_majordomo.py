"""Peers of Majordomo on real sockets: what RFC 7, 18 and 8 have them say, byte for byte, and peers that nobody here wrote."""

import json
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import pytest
import zmq

from tests.serving import Serving
from tests.trio import Trio, until

HOUSE = """
[gateway]
anonymous = ["*"]
majordomo = "tcp://127.0.0.1:0"

[broker]
listen = "tcp://127.0.0.1:0"

[providers.acme]
base_url = "{provider}"

[methods."acme.charge"]
provider = "acme"
request = "POST /charge"
params = {}

[methods."echo.say"]
service = "echo"
[methods."echo.say".params]
properties.text.type = "string"

[methods."echo.safely"]
service = "echo"
effect = "safe"
params = {}
"""
PATIENCE_MS = 20_000


@pytest.fixture
def homing(tmp_path: Path) -> Iterator[Serving]:
    with Serving(HOUSE, tmp_path) as serving:
        yield serving


@pytest.fixture
def context() -> Iterator["zmq.Context[zmq.Socket[bytes]]"]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    yield context
    context.destroy(linger=0)


class Strangers:
    """Sockets of peers that know nothing of homing. `keys` are a public one, a secret one and the broker's public one."""

    def __init__(
        self, homing: Serving, context: "zmq.Context[zmq.Socket[bytes]]", keys: tuple[bytes, bytes, bytes] | None = None
    ) -> None:
        self.homing = homing
        self._context = context
        self._keys = keys
        self._sockets: list[zmq.Socket[bytes]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for socket in self._sockets:
            socket.close()

    def worker(self, header: bytes = b"MDPW01", *, empty: bool = True, service: bytes = b"echo") -> "Worker":
        return Worker(self._open(zmq.DEALER, self.homing.process.endpoints[0]), header, empty, service)

    def client(self, kind: int = zmq.REQ) -> "zmq.Socket[bytes]":
        return self._open(kind, self.homing.process.majordomo)

    def _open(self, kind: int, endpoint: str) -> "zmq.Socket[bytes]":
        socket = self._context.socket(kind)
        self._sockets.append(socket)
        if self._keys is not None:
            socket.curve_publickey, socket.curve_secretkey, socket.curve_serverkey = self._keys
        socket.connect(endpoint)
        socket.setsockopt(zmq.RCVTIMEO, PATIENCE_MS)
        socket.setsockopt(zmq.LINGER, 0)
        return socket


class Worker:
    """One that has said READY."""

    def __init__(self, socket: "zmq.Socket[bytes]", header: bytes, empty: bool, service: bytes) -> None:
        self.socket = socket
        self._head = [b"", header] if empty else [header]
        self._final = b"\x03" if header == b"MDPW01" else b"\x04"
        self.say(b"\x01", service)

    def say(self, *rest: bytes) -> None:
        self.socket.send_multipart([*self._head, *rest])

    def hears(self) -> list[bytes]:
        """What it is told next, without its head; heartbeats are nothing new."""
        beat = b"\x04" if self._final == b"\x03" else b"\x05"
        while True:
            frames = self.socket.recv_multipart()
            assert frames[: len(self._head)] == self._head
            rest = frames[len(self._head) :]
            if rest != [beat]:
                return rest

    def is_asked(self) -> tuple[bytes, Any]:
        command, address, empty, body = self.hears()
        assert (command, empty, len(address)) == (b"\x02", b"", 16)
        return address, json.loads(body)

    def replies(self, address: bytes, body: bytes) -> None:
        self.say(self._final, address, b"", body)


@pytest.fixture
def strangers(homing: Serving, context: "zmq.Context[zmq.Socket[bytes]]") -> Iterator[Strangers]:
    with Strangers(homing, context) as strangers:
        yield strangers


def foreign_workers(homing: Serving) -> int:
    said: Any = homing.process.neighbourhood
    return len(said.workers.machine)


@pytest.mark.parametrize("header", [b"MDPW01", b"MDPW02"])
@pytest.mark.parametrize("empty", [True, False], ids=["empty frame", "bare"])
def test_a_caller_over_http_and_a_foreign_worker(strangers: Strangers, header: bytes, empty: bool) -> None:
    worker = strangers.worker(header, empty=empty)
    with ThreadPoolExecutor(1) as pool:
        reply = pool.submit(strangers.homing.call, "echo.say", {"text": "hello"})
        address, params = worker.is_asked()
        assert params == {"text": "hello"}
        worker.replies(address, b'{"text" : "olleh"}')
        answer = reply.result(20)
    assert answer.body == b'{"jsonrpc":"2.0","id":1,"result":{"text" : "olleh"}}'
    assert answer.headers["homing-call-id"] == address.hex()


def test_a_req_client_of_0_1_and_a_worker(strangers: Strangers) -> None:
    worker, client = strangers.worker(), strangers.client()
    for number in range(3):
        client.send_multipart([b"MDPC01", b"echo.say", b'{"text":"%d"}' % number])
        address, params = worker.is_asked()
        worker.replies(address, json.dumps(params["text"]).encode())
        assert client.recv_multipart() == [b"MDPC01", b"echo.say", b'"%d"' % number]


def test_a_dealer_client_of_0_2_and_a_worker_that_answers_in_parts(strangers: Strangers) -> None:
    worker, client = strangers.worker(b"MDPW02", empty=False), strangers.client(zmq.DEALER)
    client.send_multipart([b"MDPC02", b"\x01", b"echo.say", b"{}"])
    address, _ = worker.is_asked()
    worker.say(b"\x03", address, b"", b"[1,")
    worker.replies(address, b"2]")
    assert client.recv_multipart() == [b"MDPC02", b"\x03", b"echo.say", b"[1,2]"]


def test_a_client_of_0_1_and_a_provider_over_http(strangers: Strangers) -> None:
    client = strangers.client()
    client.send_multipart([b"MDPC01", b"acme.charge", b'{"amount":1}'])
    assert client.recv_multipart() == [b"MDPC01", b"acme.charge", b"{}"]


def test_an_error_is_the_error_object(strangers: Strangers) -> None:
    client = strangers.client()
    client.send_multipart([b"MDPC01", b"echo.say", b'{"text":1}'])
    error = json.loads(client.recv_multipart()[2])
    assert (error["code"], error["data"]["reason"], error["data"]["executed"]) == (-32602, "invalid_params", "no")


def test_mmi(strangers: Strangers) -> None:
    client = strangers.client()
    for service, body, answer in (
        (b"mmi.service", b"echo.say", b"200"),
        (b"mmi.service", b"echo.none", b"404"),
        (b"mmi.nothing", b"", b"501"),
    ):
        client.send_multipart([b"MDPC01", service, body])
        assert client.recv_multipart() == [b"MDPC01", service, answer]


def test_a_worker_is_found_dead_at_work_by_its_connection(strangers: Strangers) -> None:
    worker, client = strangers.worker(), strangers.client()
    client.send_multipart([b"MDPC01", b"echo.say", b"{}"])
    worker.is_asked()
    worker.socket.close()
    error = json.loads(client.recv_multipart()[2])
    assert (error["data"]["reason"], error["data"]["executed"]) == ("worker_lost", "unknown")
    assert foreign_workers(strangers.homing) == 0


def test_a_safe_call_goes_on_to_the_next_worker(strangers: Strangers) -> None:
    worker, client = strangers.worker(), strangers.client()
    client.send_multipart([b"MDPC01", b"echo.safely", b"{}"])
    before, _ = worker.is_asked()
    other = strangers.worker(b"MDPW02", empty=False)
    worker.say(b"\x05")
    address, _ = other.is_asked()
    assert address == before
    other.replies(address, b"7")
    assert client.recv_multipart()[2] == b"7"


def test_what_is_illegal_is_answered_with_disconnect(strangers: Strangers) -> None:
    worker = strangers.worker()
    worker.say(b"\x01", b"echo")
    assert worker.hears() == [b"\x05"]
    worker.say(b"\x04")  # whoever goes on is told again
    assert worker.hears() == [b"\x05"]
    for service in (b"mmi.service", b"acme"):
        assert strangers.worker(service=service).hears() == [b"\x05"]


def test_junk_at_both_doors_is_dropped_counted_and_not_felt(strangers: Strangers) -> None:
    homing = strangers.homing
    noise = [
        [b""],
        [b"", b""],
        [b"HOM1", b"x", b"y"],
        [b"MDPC03", b"x"],
        [b"\xff" * 1000] * 20,
        [b"", b"MDPX01", b"\x01", b"echo"],
    ]
    for endpoint in (homing.process.endpoints[0], homing.process.majordomo):
        socket = strangers._open(zmq.DEALER, endpoint)
        for frames in noise * 20:
            socket.send_multipart(frames)
    worker, client = strangers.worker(), strangers.client()
    client.send_multipart([b"MDPC01", b"echo.say", b"{}"])
    address, _ = worker.is_asked()
    worker.replies(address, b"1")
    assert client.recv_multipart()[2] == b"1"
    until(lambda: homing.process._counts()["foreign"] >= 180)


def test_clients_that_ask_and_never_read_cost_nobody_else_anything(strangers: Strangers) -> None:
    deaf = strangers._open(zmq.DEALER, strangers.homing.process.majordomo)
    deaf.setsockopt(zmq.RCVHWM, 1)
    for _ in range(5000):
        deaf.send_multipart([b"", b"MDPC01", b"mmi.service", b"x" * 200])
    client = strangers.client()
    client.send_multipart([b"MDPC01", b"mmi.service", b"echo.say"])
    assert client.recv_multipart()[2] == b"200"


def test_a_client_that_hangs_up_has_nothing_waiting_for_it(strangers: Strangers) -> None:
    client = strangers.client()
    client.send_multipart([b"MDPC01", b"echo.say", b"{}"])
    until(lambda: len(strangers.homing.process.front.gateway) == 1)
    client.close()
    until(lambda: len(strangers.homing.process.front.gateway) == 0)
    until(lambda: any(line.get("method") == "echo.say" for line in strangers.homing.log_lines()))
    (line,) = [line for line in strangers.homing.log_lines() if line.get("method") == "echo.say"]
    assert (line["reason"], line["executed"], line["abandoned"]) == ("cancelled", "no", True)


def test_a_worker_with_a_key_serves_what_is_written_for_it(tmp_path: Path, context: "zmq.Context[zmq.Socket[bytes]]") -> None:
    (public, secret), mill = zmq.curve_keypair(), zmq.curve_keypair()
    key = tmp_path / "broker.key"
    key.touch(mode=0o600)
    key.write_text(f'public_key = "{public.decode()}"\nsecret_key = "{secret.decode()}"\n')
    guarded = HOUSE.replace("[broker]", '[broker]\ncurve = { key = "broker.key" }')
    guarded += f'\n[peers.mill]\npublic_key = "{mill[0].decode()}"\nserve = ["echo"]\n'
    with (
        Serving(guarded, tmp_path) as homing,
        Strangers(homing, context, (*mill, public)) as strangers,
        ThreadPoolExecutor(1) as pool,
    ):
        worker = strangers.worker()
        reply = pool.submit(homing.call, "echo.say", {"text": "hello"})
        address, _ = worker.is_asked()
        worker.replies(address, b'"olleh"')
        assert json.loads(reply.result(20).body)["result"] == "olleh"
        assert strangers.worker(service=b"other").hears() == [b"\x05"]


def test_workers_are_told_when_the_process_goes(strangers: Strangers) -> None:
    worker = strangers.worker()
    until(lambda: foreign_workers(strangers.homing) == 1)
    strangers.homing.stop_soon()
    assert worker.hears() == [b"\x05"]
    strangers.homing.join()


THREE = """
[gateway]
anonymous = ["*"]
listen = "127.0.0.1:0"
brokers = ["{broker}"]
majordomo = "tcp://127.0.0.1:0"

[admin]
listen = "127.0.0.1:0"

[broker]
listen = "{broker}"

[methods."echo.say"]
service = "echo"
params = {}
"""


def test_between_a_gateway_and_a_broker_of_their_own(tmp_path: Path, context: "zmq.Context[zmq.Socket[bytes]]") -> None:
    with Trio(tmp_path, THREE) as trio, context.socket(zmq.DEALER) as socket:
        broker, gateway = trio.broker(), trio.gateway()
        where = gateway.wait_for("majordomo")["message"].rpartition(" ")[2].rstrip(".")
        client = context.socket(zmq.REQ)
        for each, endpoint in ((socket, trio.endpoint), (client, where)):
            each.connect(endpoint)
            each.setsockopt(zmq.RCVTIMEO, PATIENCE_MS)
            each.setsockopt(zmq.LINGER, 0)
        worker = Worker(socket, b"MDPW02", False, b"echo")
        client.send_multipart([b"MDPC01", b"echo.say", b'{"n":1}'])
        address, params = worker.is_asked()
        assert params == {"n": 1}
        worker.replies(address, b'{"n" : 2}')
        assert client.recv_multipart()[2] == b'{"n" : 2}'

        # A broker that goes in order lets a worker end what it works on, and its client have it.
        client.send_multipart([b"MDPC01", b"echo.say", b'{"n":3}'])
        address, _ = worker.is_asked()
        broker.send(signal.SIGTERM)
        broker.wait_for("drain")
        worker.replies(address, b"4")
        assert client.recv_multipart()[2] == b"4"
        assert worker.hears() == [b"\x06"]
        assert broker.wait() == 0
        client.close()
        assert not gateway.faults() + broker.faults()
