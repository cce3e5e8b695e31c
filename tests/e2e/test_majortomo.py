"""A worker and a client of Majordomo that nobody here wrote: those of majortomo, which speak MDP 0.2 with an empty frame first."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import zmq
from majortomo import error
from majortomo.client import Client
from majortomo.worker import Worker

from tests.e2e.test_majordomo import HOUSE, foreign_workers
from tests.serving import Serving
from tests.trio import until


@pytest.fixture
def homing(tmp_path: Path) -> Iterator[Serving]:
    with Serving(HOUSE, tmp_path) as serving:
        yield serving


@pytest.fixture
def context() -> Iterator["zmq.Context[zmq.Socket[bytes]]"]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    yield context
    context.destroy(linger=0)


class Echo:
    """A worker on a thread of its own, until the broker sends it away."""

    def __init__(self, homing: Serving, context: "zmq.Context[zmq.Socket[bytes]]", *, in_parts: bool = False) -> None:
        self.addresses: list[bytes] = []
        self._worker = Worker(homing.process.endpoints[0], "echo", heartbeat_interval=0.1, zmq_context=context, zmq_linger=0)
        self._in_parts = in_parts
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        until(lambda: foreign_workers(homing) == 1)

    def join(self) -> None:
        self._thread.join(20)
        assert not self._thread.is_alive()

    def _serve(self) -> None:
        self._worker.connect()
        while True:
            try:
                address, (body,) = self._worker.wait_for_request()
            except error.Disconnected:
                return
            self.addresses.append(address)
            if self._in_parts:
                self._worker.send_reply_from_iterable(address, iter([[b'{"echo":'], [body]]), final=[b"}"])
            else:
                self._worker.send_reply_final(address, [body])


def test_its_worker_answers_callers_over_http(homing: Serving, context: "zmq.Context[zmq.Socket[bytes]]") -> None:
    echo = Echo(homing, context)
    with ThreadPoolExecutor(4) as pool:
        replies = list(pool.map(lambda number: homing.call("echo.say", {"text": str(number)}), range(20)))
    assert [json.loads(reply.body)["result"] for reply in replies] == [{"text": str(number)} for number in range(20)]
    assert {reply.headers["homing-call-id"] for reply in replies} == {address.hex() for address in echo.addresses}
    homing.stop_soon()
    echo.join()
    homing.join()


def test_its_worker_answers_in_parts(homing: Serving, context: "zmq.Context[zmq.Socket[bytes]]") -> None:
    echo = Echo(homing, context, in_parts=True)
    assert json.loads(homing.call("echo.say", {"text": "hello"}).body)["result"] == {"echo": {"text": "hello"}}
    homing.stop_soon()
    echo.join()
    homing.join()


def test_its_client_is_answered(homing: Serving, context: "zmq.Context[zmq.Socket[bytes]]") -> None:
    """It takes the service's name, which RFC 18 puts before the body, for a part of it."""
    with Client(homing.process.majordomo, zmq_context=context, zmq_linger=0) as client:
        client.send("acme.charge", b'{"amount":1}')
        assert client.recv_all_as_list(timeout=20) == [b"acme.charge", b"{}"]
        client.send("mmi.service", b"echo.say")
        assert client.recv_all_as_list(timeout=20) == [b"mmi.service", b"200"]
        client.send("echo.say", b'{"text":1}')
        _, body = client.recv_all_as_list(timeout=20)
        assert json.loads(body)["data"]["reason"] == "invalid_params"
