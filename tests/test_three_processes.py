"""Gateway, broker and worker by themselves: any of them is killed or sent away while calls wait and run, and every call comes home."""

import asyncio
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from homing.engines.zmq_curve import new_keys
from tests.e2e.quirks import Line, QuirkyProvider, on_a_thread
from tests.trio import Callers, Trio, until

HOUSE = """
[gateway]
listen = "127.0.0.1:0"
anonymous = ["*"]
brokers = ["{broker}"]
deadline = { default = "25s" }
[admin]
listen = "127.0.0.1:0"
[broker]
listen = "{broker}"
[worker]
brokers = ["{broker}"]
[providers.acme]
base_url = "{url}"
in_flight_max = 4
[methods."quick.safe"]
provider = "acme"
effect = "safe"
request = "POST /quick"
[methods."slow.once"]
provider = "acme"
request = "POST /slow"
[methods."slow.safe"]
provider = "acme"
effect = "safe"
request = "POST /slow"
[methods."gated.once"]
provider = "acme"
request = "POST /gated"
[methods."gated.safe"]
provider = "acme"
effect = "safe"
request = "POST /gated"
"""


class Gated(QuirkyProvider):
    """A provider that holds what is asked of /gated until a test lets it go, and takes its time over /slow."""

    def __init__(self) -> None:
        super().__init__({"/quick": self._quick, "/slow": self._slow, "/gated": self._gated})
        self.gate = threading.Event()

    async def _quick(self, line: Line) -> bool:
        await line.say(line.response())
        return True

    async def _slow(self, line: Line) -> bool:
        await asyncio.sleep(0.3)
        return await self._quick(line)

    async def _gated(self, line: Line) -> bool:
        while not self.gate.is_set():  # noqa: ASYNC110 - it is opened by another thread
            await asyncio.sleep(0.01)
        return await self._quick(line)


@pytest.fixture
def provider() -> Iterator[Gated]:
    with on_a_thread(Gated()) as provider:
        yield provider


@pytest.fixture
def trio(provider: Gated, tmp_path: Path) -> Iterator[Trio]:
    with Trio(tmp_path, HOUSE.replace("{url}", f"http://127.0.0.1:{provider.port}")) as trio:
        yield trio


def asked(provider: Gated, count: int) -> None:
    until(lambda: len(provider.seen) >= count, f"the provider was asked {len(provider.seen)} of {count}")


def test_a_call_goes_there_and_comes_back(trio: Trio) -> None:
    broker, worker, gateway = trio.broker(), trio.worker(), trio.gateway()
    assert trio.call("quick.safe", {"n": 7}).result == {"n": 7}
    assert "acme (4 at once)" in worker.wait_for("offering")["message"]
    assert trio.endpoint in broker.wait_for("listening")["message"]
    assert trio.verbose()["status"] == "ready"
    for role in (gateway, worker, broker):
        role.send(signal.SIGTERM)
        assert role.wait() == 0
        assert role.said("stopped") is not None
        assert not role.faults()
        assert not [line for line in role.log if line.get("level") == "warning" and line["event"] != "broker"], role.log


def test_a_killed_broker_costs_a_pause_and_no_call(trio: Trio, provider: Gated) -> None:
    """Four calls run and eight wait in its queue as it dies; it is started again, and all twelve are answered, once each."""
    broker = trio.broker()
    trio.worker()
    trio.gateway()
    callers = Callers(trio, "gated.once", range(12))
    asked(provider, 4)
    until(lambda: trio.verbose()["open_calls"] == 12)
    broker.kill()
    trio.broker()
    provider.gate.set()
    callers.join()
    assert {number: reply.result for number, reply in callers.replies.items()} == {number: {"n": number} for number in range(12)}
    assert set(provider.seen.values()) == {1}


def test_what_ends_while_there_is_no_broker_is_told_when_there_is_one(trio: Trio, provider: Gated) -> None:
    broker = trio.broker()
    worker, gateway = trio.worker(), trio.gateway()
    callers = Callers(trio, "gated.once", range(3))
    asked(provider, 3)
    broker.kill()
    gateway.wait_for("broker", "Lost")
    worker.wait_for("broker", "Lost")
    provider.gate.set()
    late = Callers(trio, "quick.safe", range(100, 103))
    until(lambda: trio.verbose()["open_calls"] == 6)
    assert trio.verbose()["status"] == "ready", "an outage that all gateways share turns none of them away"
    trio.broker()
    callers.join()
    late.join()
    assert all(reply.result == {"n": number} for number, reply in {**callers.replies, **late.replies}.items())
    assert set(provider.seen.values()) == {1}


def test_a_killed_workers_callers_are_told_at_once_and_what_is_safe_runs_again(trio: Trio, provider: Gated) -> None:
    trio.broker()
    first = trio.worker()
    trio.gateway()
    once, safe = Callers(trio, "gated.once", range(2)), Callers(trio, "gated.safe", range(10, 12))
    asked(provider, 4)
    trio.worker()
    first.kill()
    began = time.monotonic()
    once.join()
    told_s = time.monotonic() - began
    for reply in once.replies.values():
        assert (reply.data["reason"], reply.data["executed"], reply.data["retry"]) == ("worker_lost", "unknown", "unsafe")
    assert told_s < 10, "not at the deadline"
    provider.gate.set()
    safe.join()
    assert {number: reply.result for number, reply in safe.replies.items()} == {10: {"n": 10}, 11: {"n": 11}}
    assert [provider.seen[number] for number in (0, 1, 10, 11)] == [1, 1, 2, 2]


class Load:
    """Callers who go on and on, until they are told to leave or that nobody is there."""

    def __init__(self, trio: Trio, method: str, at_once: int) -> None:
        self.over = threading.Event()
        self.ends: dict[int, object] = {}
        self._trio, self._method = trio, method
        self._numbers = iter(range(1000, 10**9))
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(at_once)]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        while not self.over.is_set():
            number = next(self._numbers)
            try:
                reply = self._trio.call(self._method, {"n": number})
            except OSError:
                self.ends[number] = "refused"
                return
            self.ends[number] = reply.json["result"] if "result" in reply.json else reply.data["reason"]

    def join(self) -> None:
        self.over.set()
        for thread in self._threads:
            thread.join(40)
            assert not thread.is_alive()

    def wrong(self) -> dict[int, object]:
        return {number: end for number, end in self.ends.items() if end != {"n": number}}


def test_a_worker_that_is_sent_away_under_load_loses_nothing(trio: Trio, provider: Gated) -> None:
    trio.broker()
    first = trio.worker()
    trio.gateway()
    load = Load(trio, "slow.once", 8)
    until(lambda: len(load.ends) > 4)
    trio.worker()
    first.send(signal.SIGTERM)
    assert first.wait() == 0
    ended = len(load.ends)
    until(lambda: len(load.ends) > ended + 8, "nobody goes on without it")
    load.join()
    assert load.wrong() == {}
    assert set(provider.seen.values()) == {1}
    assert not first.faults()


def test_the_only_worker_that_is_sent_away_lets_what_it_runs_come_home(trio: Trio, provider: Gated) -> None:
    """And what waits behind it stays in the queue, for the next one."""
    trio.broker()
    first = trio.worker()
    trio.gateway()
    callers = Callers(trio, "gated.once", range(9))
    asked(provider, 4)
    first.send(signal.SIGTERM)
    first.wait_for("drain")
    provider.gate.set()
    assert first.wait() == 0
    assert len(provider.seen) == 4, "it began something after it was told to leave"
    trio.worker()
    callers.join()
    assert all(reply.result == {"n": number} for number, reply in callers.replies.items())
    assert set(provider.seen.values()) == {1}


def test_a_second_signal_does_not_wait_for_what_runs(trio: Trio, provider: Gated) -> None:
    trio.broker()
    worker = trio.worker()
    trio.gateway()
    callers = Callers(trio, "gated.once", range(2))
    asked(provider, 2)
    worker.send(signal.SIGTERM)
    worker.wait_for("drain")
    worker.send(signal.SIGTERM)
    callers.join()
    for reply in callers.replies.values():
        assert reply.data["executed"] == "unknown"
        assert reply.data["reason"] != "deadline_exceeded"
    assert worker.wait() == 0
    assert set(provider.seen.values()) == {1}


def test_a_gateway_that_is_sent_away_under_load_answers_what_it_took(trio: Trio, provider: Gated) -> None:
    trio.broker()
    trio.worker()
    gateway = trio.gateway()
    load = Load(trio, "slow.once", 12)
    until(lambda: len(load.ends) > 12)
    gateway.send(signal.SIGTERM)
    assert gateway.wait() == 0
    load.join()
    wrong = load.wrong()
    assert set(wrong.values()) <= {"draining", "refused"}, wrong
    assert not [number for number in wrong if provider.seen[number]], "what had begun was not answered"
    assert max(provider.seen.values()) == 1
    assert not gateway.faults()


def test_a_gateway_is_ready_once_it_has_reached_a_broker(trio: Trio) -> None:
    gateway = trio.start("gateway")
    trio.port, trio.admin_port = gateway.ports()
    refused = trio.request("GET", "/readyz", port=trio.admin_port)
    assert (refused.status, refused.body) == (503, b"no broker has been reached yet\n")
    assert trio.request("GET", "/readyz").status == 503
    assert trio.request("GET", "/livez", port=trio.admin_port).status == 200
    trio.broker()
    gateway.wait_for("broker", "Reached")
    assert trio.request("GET", "/readyz", port=trio.admin_port).status == 200
    assert trio.request("GET", "/readyz").status == 200


def test_broker_and_worker_have_an_admin_listener_if_they_are_told_to(trio: Trio) -> None:
    broker = trio.start("broker", "--admin", "127.0.0.1:0")
    *_, admin = broker.ports()
    path = trio.folder / "worker.sock"
    worker = trio.start("worker", "--admin", f"unix:{path}")
    worker.wait_for("broker", "Reached")
    said = trio.request("GET", "/readyz?verbose", port=admin).json
    assert (said["status"], said["broker_holds"]) == ("ready", 0)
    assert b"homing_queue_length" in trio.request("GET", "/metrics", port=admin).body
    with socket.socket(socket.AF_UNIX) as asking:
        asking.settimeout(10)
        asking.connect(str(path))
        asking.sendall(b"GET /readyz?verbose HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = b""
        while chunk := asking.recv(65536):
            answer += chunk
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b'"acme": {' in answer


def test_a_gateway_accepts_from_a_socket_that_somebody_else_opened(trio: Trio) -> None:
    trio.broker()
    trio.worker()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        reader, writer = os.pipe()
        fd = listening.fileno()
        arguments = ("gateway", "--listen-fd", str(fd), "--parent-fd", str(reader), "--share", "2")
        gateway = trio.start(*arguments, pass_fds=(fd, reader))
        os.close(reader)
        gateway.wait_for("broker", "Reached")
        trio.port = port
        assert trio.call("quick.safe", {"n": 1}).result == {"n": 1}
        os.close(writer)  # as whoever started it ends
        assert gateway.wait() == 0


def test_serve_opens_its_broker_to_others(trio: Trio, provider: Gated) -> None:
    """A worker of another process gets calls of the gateway inside, and a gateway of another process those inside to work for it."""
    serve = trio.start("serve")
    trio.port, trio.admin_port = serve.ports()
    serve.wait_for("open", trio.endpoint)
    inside = trio.port
    worker = trio.worker()
    callers = Callers(trio, "gated.once", range(8))
    asked(provider, 8)  # four at once are its own
    trio.gateway()
    provider.gate.set()
    callers.join()
    assert all(reply.result == {"n": number} for number, reply in callers.replies.items())
    assert trio.call("quick.safe", {"n": 20}).result == {"n": 20}
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0
    assert trio.call("quick.safe", {"n": 21}).result == {"n": 21}
    trio.port = inside
    assert trio.call("quick.safe", {"n": 22}).result == {"n": 22}
    serve.send(signal.SIGTERM)
    assert serve.wait() == 0
    assert not serve.faults()


CURVE = """
[peers.front]
public_key = "{front}"
call = ["*"]
[peers.back]
public_key = "{back}"
serve = ["acme"]
"""


def test_under_curve_who_is_on_the_list_comes_in_and_nobody_else(provider: Gated, tmp_path: Path) -> None:
    keys = {name: new_keys() for name in ("broker", "front", "back", "stranger")}
    for name, (public, secret) in keys.items():
        path = tmp_path / name
        path.write_text(f'public_key = "{public}"\nsecret_key = "{secret}"\n')
        path.chmod(0o600)
    text = HOUSE.replace("{url}", f"http://127.0.0.1:{provider.port}") + CURVE
    text = text.replace("{front}", keys["front"][0]).replace("{back}", keys["back"][0])
    dial = f'curve = {{ key = "%s", broker = "{keys["broker"][0]}" }}\n'
    text = text.replace("[gateway]\n", "[gateway]\n" + dial.replace("%s", "front"))
    text = text.replace("[worker]\n", "[worker]\n" + dial.replace("%s", "back"))
    text = text.replace("[broker]\n", '[broker]\ncurve = { key = "broker" }\n')
    with Trio(tmp_path, text) as trio:
        broker = trio.broker()
        trio.worker()
        trio.gateway()
        assert trio.call("quick.safe", {"n": 1}).result == {"n": 1}
        for key in ("stranger", None):
            folder = tmp_path / f"as {key}"
            folder.mkdir()
            line = dial.replace("%s", f"../{key}") if key else ""
            (folder / "homing.toml").write_text(
                f'[gateway]\nlisten = "127.0.0.1:0"\nbrokers = ["{trio.endpoint}"]\n{line}[admin]\nlisten = "127.0.0.1:0"\n'
            )
            stranger = trio.start("gateway", "--config", str(folder / "homing.toml"))
            port = stranger.ports()[0]
            if key:
                broker.wait_for("dropped", "is on no list")
            else:
                stranger.wait_for("dropped", "only one of them speaks CURVE")
            assert trio.request("GET", "/readyz", port=port).status == 503
            assert stranger.said("broker", "Reached") is None
        assert trio.call("quick.safe", {"n": 2}).result == {"n": 2}
