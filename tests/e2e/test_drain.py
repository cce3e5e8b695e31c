"""SIGTERM and SIGKILL under load, of a process as operators run it: what callers were told is held against the ledger."""

import asyncio
import json
import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from homing import AsyncClient, CallError, Client, NotExecuted, OutcomeUnknown
from tests.e2e.quirks import Line, QuirkyProvider, on_a_thread
from tests.running import Running

HOUSE = """
[gateway]
listen = "127.0.0.1:0"
anonymous = ["*"]
deadline = { default = "8s", max = "20s" }
drain = { delay = "{delay}", timeout = "{timeout}" }
[admin]
listen = "127.0.0.1:0"
[providers.acme]
base_url = "{url}"
in_flight_max = 30
[methods."once.it"]
provider = "acme"
request = "POST /once"
[methods."slow.it"]
provider = "acme"
request = "POST /slow"
[methods."never.it"]
provider = "acme"
request = "POST /never"
"""


async def once(line: Line) -> bool:
    await asyncio.sleep(0.03)
    await line.say(line.response())
    return True


async def slow(line: Line) -> bool:
    await asyncio.sleep(0.8)
    await line.say(line.response())
    return True


async def never(line: Line) -> None:
    await asyncio.sleep(60)


@pytest.fixture
def provider() -> Iterator[QuirkyProvider]:
    with on_a_thread(QuirkyProvider({"/once": once, "/slow": slow, "/never": never})) as provider:
        yield provider


def house(provider: QuirkyProvider, *, delay: str = "0s", timeout: str = "10s") -> str:
    text = HOUSE.replace("{delay}", delay).replace("{timeout}", timeout)
    return text.replace("{url}", f"http://127.0.0.1:{provider.port}")


def until(happened: Callable[[], object]) -> None:
    """Look again and again, for ten seconds."""
    latest = time.monotonic() + 10
    while not happened():
        assert time.monotonic() < latest
        time.sleep(0.005)


class Load:
    """Callers who go on until they are told that nobody is there."""

    def __init__(self, port: int, method: str = "once.it") -> None:
        self.ends: dict[int, Any] = {}
        self._port, self._method = port, method
        self._numbers = iter(range(10**9))

    async def run(self, at_once: int, begun: threading.Event) -> None:
        async with AsyncClient(f"http://127.0.0.1:{self._port}", timeout=8, retries=0) as client:

            async def one() -> None:
                for number in self._numbers:
                    try:
                        self.ends[number] = await client.call(self._method, {"n": number})
                    except CallError as error:
                        self.ends[number] = error
                        if error.reason in ("provider_unreachable", "connection_lost"):
                            return
                        await asyncio.sleep(0.01)
                    if len(self.ends) > 50:
                        begun.set()

            await asyncio.gather(*(one() for _ in range(at_once)))

    def judge(self, provider: QuirkyProvider) -> Counter[str]:
        said: Counter[str] = Counter()
        for number, end in self.ends.items():
            assert provider.seen[number] <= 1
            if isinstance(end, NotExecuted):
                assert not provider.seen[number], end
            elif isinstance(end, OutcomeUnknown):
                pass
            else:
                assert end == {"n": number}
            said[end.reason if isinstance(end, CallError) else "ok"] += 1
        return said


@pytest.mark.parametrize("delay", ["0s", "300ms"])
def test_no_call_is_lost_when_a_process_drains(delay: str, provider: QuirkyProvider, tmp_path: Path) -> None:
    with Running(tmp_path, house(provider, delay=delay)) as homing:
        load, begun = Load(homing.port), threading.Event()
        calling = threading.Thread(target=lambda: asyncio.run(load.run(40, begun)))
        calling.start()
        assert begun.wait(20)
        homing.terminate()
        until(lambda: homing.request("GET", "/readyz", port=homing.admin_port).status == 503)
        calling.join(30)
        assert not calling.is_alive()
        assert homing.wait() == 0
        assert not homing.faults()
    said = load.judge(provider)
    assert said["ok"] > 50
    assert said["draining"] > 0
    assert (
        sum(said[reason] for reason in said if reason not in ("ok", "draining", "provider_unreachable", "connection_lost")) == 0
    ), said
    # What was on its way as the last connection closed is unknown to its caller; but nothing that had begun.
    lost = [number for number, end in load.ends.items() if isinstance(end, OutcomeUnknown)]
    assert not [number for number in lost if provider.seen[number]], "a call that had begun was not answered"


def test_what_has_begun_ends_and_what_waits_is_answered(provider: QuirkyProvider, tmp_path: Path) -> None:
    """Thirty run and thirty wait in the queue as the signal comes: all come home."""
    with Running(tmp_path, house(provider)) as homing:
        load = Load(homing.port, "slow.it")

        async def all_at_once() -> None:
            async with AsyncClient(f"http://127.0.0.1:{homing.port}", timeout=8, retries=0) as client:

                async def one(number: int) -> None:
                    load.ends[number] = await client.call("slow.it", {"n": number})

                waiting = asyncio.gather(*(one(number) for number in range(60)))
                await asyncio.to_thread(until, lambda: sum(provider.seen.values()) >= 30)
                homing.terminate()
                await waiting

        asyncio.run(all_at_once())
        assert homing.wait() == 0
    assert load.judge(provider) == {"ok": 60}


@pytest.mark.parametrize("how", ["timeout", "second signal"])
def test_what_does_not_end_settles_as_what_it_is(how: str, provider: QuirkyProvider, tmp_path: Path) -> None:
    """At the end of the patience: begun is unknown, waiting is a no, and both are told before the process leaves."""
    with Running(tmp_path, house(provider, timeout="500ms" if how == "timeout" else "60s")) as homing:
        ends: dict[int, Any] = {}

        def one(number: int) -> None:
            with Client(f"http://127.0.0.1:{homing.port}", timeout=15, retries=0) as client:
                try:
                    ends[number] = client.call("never.it", {"n": number})
                except CallError as error:
                    ends[number] = error

        callers = [threading.Thread(target=one, args=(number,)) for number in range(45)]
        for caller in callers:
            caller.start()
        until(lambda: homing.verbose()["open_calls"] == 45 and sum(provider.seen.values()) == 30)
        began = time.monotonic()
        homing.terminate()
        if how == "second signal":
            until(lambda: homing.request("GET", "/readyz", port=homing.admin_port).status == 503)
            homing.terminate()
        for caller in callers:
            caller.join(20)
        assert homing.wait() == 0
        assert time.monotonic() - began < 15
    said = Counter((error.reason, error.executed, provider.seen[number]) for number, error in ends.items())
    assert said == {("cancelled", "unknown", 1): 30, ("draining", "no", 0): 15}


def test_kill_makes_no_false_no(provider: QuirkyProvider, tmp_path: Path) -> None:
    for turn in range(3):
        folder = tmp_path / str(turn)
        folder.mkdir()
        with Running(folder, house(provider)) as homing:
            load, begun = Load(homing.port), threading.Event()
            calling = threading.Thread(target=lambda load=load, begun=begun: asyncio.run(load.run(40, begun)))
            calling.start()
            assert begun.wait(20)
            os.kill(homing.pid, signal.SIGKILL)
            calling.join(30)
            assert not calling.is_alive()
        said = load.judge(provider)
        assert said["ok"] > 50
        assert said["connection_lost"] > 0
        provider.seen.clear()


def test_a_stopped_process_is_waited_for_no_longer_than_the_deadline(provider: QuirkyProvider, tmp_path: Path) -> None:
    with Running(tmp_path, house(provider)) as homing, Client(f"http://127.0.0.1:{homing.port}", timeout=0.5) as client:
        assert client.call("once.it", {"n": 1}) == {"n": 1}
        os.kill(homing.pid, signal.SIGSTOP)
        try:
            began = time.monotonic()
            with pytest.raises(OutcomeUnknown):
                client.call("once.it", {"n": 2})
            assert time.monotonic() - began < 10
        finally:
            os.kill(homing.pid, signal.SIGCONT)
        assert client.call("once.it", {"n": 3}, timeout=5) == {"n": 3}
        homing.terminate()
        assert homing.wait() == 0
    assert provider.seen[2] <= 1


def test_requests_that_come_while_it_drains(provider: QuirkyProvider, tmp_path: Path) -> None:
    """On old connections and on new ones they hear `draining`, a proven no, and whether to go elsewhere."""
    with Running(tmp_path, house(provider)) as homing:
        kept, idle = (socket.create_connection(("127.0.0.1", homing.port), 10) for _ in range(2))
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "once.it", "params": {"n": 7}}).encode()
        request = b"POST /rpc HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        running = threading.Thread(target=lambda: homing.call("slow.it", {"n": 8}))
        running.start()
        until(lambda: provider.seen[8])
        homing.terminate()
        until(lambda: homing.request("GET", "/readyz").status == 503)
        kept.sendall(request)
        new = socket.create_connection(("127.0.0.1", homing.port), 10)
        new.sendall(request)
        for each in (kept, new):
            answer = each.recv(65536)
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert b"Homing-Executed: no" in answer
            assert b"Connection: close" in answer, "the next one would meet a closing connection"
            assert each.recv(65536) == b""
            each.close()
        running.join(10)
        assert idle.recv(65536) == b""
        idle.close()
        assert homing.wait() == 0
    assert not provider.seen[7]
