"""Hundreds of callers at once, who hang up at random, before a provider that has bad luck: afterwards the ledger is read."""

import asyncio
import json
import random
import socket
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from homing import AsyncClient, CallError, NotExecuted
from tests.e2e.callers import Connection, Heard, judge
from tests.serving import Answer, Asked, Serving

HOUSE = """
[gateway]
anonymous = ["*"]
deadline = { default = "5s", max = "20s" }
in_flight_max = {in_flight}
heartbeat = "{heartbeat}"

[broker]
queue_length_max = 60

[providers.acme]
base_url = "{provider}"
in_flight_max = {slots}
timeout = { connect = "1s", attempt = "1200ms" }
breaker = { window = "1s", calls_min = {breaker}, failure_ratio = 0.5, open_for = "300ms" }
{more}

[methods."once.it"]
provider = "acme"
request = "POST /once"
[methods."keyed.it"]
provider = "acme"
effect = "keyed"
idempotency_key = { header = "Idempotency-Key", lifetime = "1h" }
request = "POST /keyed"
[methods."safe.it"]
provider = "acme"
effect = "safe"
request = "POST /safe"
[methods."found.it"]
provider = "acme"
request = "POST /once"
body = "=params"
lookup = { request = "GET /lookup", query = { n = "=params.n" }, found = "body.found", reserve = "300ms" }
[methods."found.it".params]
additionalProperties = true
"""
METHODS = ("once.it", "keyed.it", "safe.it", "found.it")


def house(**settings: str) -> str:
    text = HOUSE
    for name, value in {
        "in_flight": "20000",
        "heartbeat": "",
        "breaker": "1000000",
        "more": "",
        "slots": "40",
        **settings,
    }.items():
        text = text.replace(f"{{{name}}}", value)
    return text


class Unlucky:
    """Does what it is asked, or does not, and answers, or does not; the ledger has what it did."""

    def __init__(self, seed: int) -> None:
        self.done: Counter[int] = Counter()
        self.asked: Counter[int] = Counter()
        self._luck = random.Random(seed)

    def __call__(self, asked: Asked) -> Answer:
        if asked.path == "/lookup":
            number = int(asked.query.partition("n=")[2])
            return Answer(body={"found": {"n": number} if number in self.done else None}, drop=self._luck.random() < 0.1)
        number = asked.json["n"]
        self.asked[number] += 1
        luck = self._luck.random()
        delay = self._luck.random() ** 3
        if luck < 0.05:
            return Answer(status=429, headers={"Retry-After": self._luck.choice(["0", "1", "60"])}, after_s=delay)
        if luck < 0.1:
            return Answer(status=422, body={"no": 1}, after_s=delay)
        if luck < 0.15:
            return Answer(status=401, after_s=delay)
        self.done[number] += 1
        if luck < 0.25:
            return Answer(drop=True, after_s=delay)
        if luck < 0.32:
            return Answer(status=503, after_s=delay)
        if luck < 0.37:
            return Answer(status=200, body=b"<html>", after_s=delay)
        if luck < 0.42:
            return Answer(never=True)
        return Answer(body={"n": number}, after_s=delay)


async def caller(port: int, numbers: Any, seed: int, ends: dict[int, Heard | None]) -> None:
    """Calls one after the other; now and then hangs up instead of waiting."""
    luck = random.Random(seed)
    connection = Connection(port)
    for number in numbers:
        method = luck.choice(METHODS)
        timeout = luck.choice([0.1, 0.2, 0.5, 1.0, 3.0])
        call = asyncio.ensure_future(connection.call(method, {"n": number, "method": method}, timeout))
        if luck.random() < 0.2:
            await asyncio.wait((call,), timeout=luck.random() ** 2)
            if not call.done():
                call.cancel()
                await asyncio.gather(call, return_exceptions=True)
                writer, connection.writer, connection.reader = connection.writer, None, None
                if writer is not None:
                    writer.transport.abort() if luck.random() < 0.5 else writer.close()
                ends[number] = None
                continue
        ends[number] = await call
    assert await connection.surplus(0.01) == b""
    await connection.close()


def judge_all(ends: dict[int, Heard | None], provider: Unlucky) -> Counter[str]:
    said: Counter[str] = Counter()
    for number, heard in ends.items():
        if heard is None:
            said["hung up"] += 1
            continue
        judge(heard)
        said["ok" if heard.ok else f"{heard.data['reason']} {heard.data['executed']}"] += 1
        if provider.done[number]:
            assert heard.executed != "no", heard
        if heard.params["method"] in ("once.it", "found.it"):
            assert provider.done[number] <= 1
        if heard.ok:
            assert heard.body["result"] == {"n": number}
            assert provider.done[number] >= 1
        elif heard.executed == "no" and heard.status != 200:
            assert not provider.asked[number], heard
    return said


def rest(homing: Serving) -> None:
    """When all is over nothing is left: in no table, on no slot, in no socket."""
    process = homing.process
    until = time.monotonic() + 15
    while (
        len(process.calls)
        or len(process.gateway)
        or len(process.broker)
        or process.worker.in_flight("acme")
        or len(process.worker)
    ):
        assert time.monotonic() < until, (len(process.calls), len(process.gateway), len(process.broker), len(process.worker))
        time.sleep(0.02)
    while process.listener.connections or process.listener.held_bytes:
        assert time.monotonic() < until, (process.listener.connections, process.listener.held_bytes)
        time.sleep(0.02)
    assert not process.hands.running
    assert (process.broker.held_bytes, process.worker.outcomes_held_bytes) == (0, 0)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    "settings",
    [
        {"slots": "220"},
        {
            "in_flight": "120",
            "heartbeat": "150ms",
            "breaker": "20",
            "more": 'rate = { limit = 120, per = "1s", burst = 40 }',
            "slots": "40",
        },
    ],
    ids=["roomy", "tight"],
)
def test_200_callers(settings: dict[str, str], seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = house(**settings)
    if settings.get("heartbeat"):
        monkeypatch.setattr(Connection, "call", call_with_heartbeat)
    provider = Unlucky(seed)
    ends: dict[int, Heard | None] = {}

    async def all_of_them(port: int) -> None:
        await asyncio.gather(
            *(caller(port, range(each * 1000, each * 1000 + 4), seed * 1000 + each, ends) for each in range(200))
        )

    with Serving(text, tmp_path, provider) as homing:
        asyncio.run(all_of_them(homing.port))
        rest(homing)
        lines = [line for line in homing.log_lines() if line["event"] in ("call", "fault")]
        homing.stop_soon()
        homing.join()
    said = judge_all(ends, provider)
    assert len(ends) == 800
    assert said["ok"] > 10, said  # how many there is time for, the machine decides
    assert len({line["call_id"] for line in lines}) == len(lines), "a call settled twice"
    assert all(
        count <= 1 for number, count in provider.done.items() if (heard := ends.get(number)) and "once" in heard.params["method"]
    )


async def call_with_heartbeat(self: Connection, method: str, params: dict[str, Any], timeout: float) -> Heard:
    """As `Connection.call`, where the answer may come in chunks."""
    if self.writer is None:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
    assert self.reader is not None
    body = json.dumps({"jsonrpc": "2.0", "id": params["n"], "method": method, "params": params}).encode()
    heard = Heard(params, timeout)
    began = time.monotonic()
    self.writer.write(
        b"POST / HTTP/1.1\r\nHost: x\r\nHoming-Timeout: %g\r\nContent-Length: %d\r\n\r\n%b" % (timeout, len(body), body)
    )
    text = (await self.reader.readuntil(b"\r\n\r\n")).decode()
    heard.status = int(text[9:12])
    heard.headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in text.split("\r\n")[1:-2])}
    if heard.headers.get("transfer-encoding") == "chunked":
        answer = b""
        while size := int(await self.reader.readline(), 16):
            answer += await self.reader.readexactly(size)
            await self.reader.readexactly(2)
        await self.reader.readexactly(2)
    else:
        answer = await self.reader.readexactly(int(heard.headers["content-length"]))
    heard.took_s = time.monotonic() - began
    heard.body = json.loads(answer)
    assert heard.body["id"] == params["n"]
    if "homing-executed" not in heard.headers:  # the head left before anything was known
        assert heard.status == 200
        heard.headers["homing-executed"] = heard.executed
        if not heard.ok:
            heard.headers |= {f"homing-{name}": heard.data[name] for name in ("reason", "retry")}
        else:
            heard.headers["homing-reason"] = "ok"
    return heard


def test_clients_that_are_cancelled(tmp_path: Path) -> None:
    """`AsyncClient` with tasks cancelled at random, and asked to retry: a `NotExecuted` is always true."""
    provider = Unlucky(77)
    luck = random.Random(77)
    ends: dict[int, object] = {}
    text = house(in_flight="60", breaker="30")

    async def main(port: int) -> None:
        async with AsyncClient(f"http://127.0.0.1:{port}", timeout=3) as client:

            async def one(number: int) -> None:
                try:
                    ends[number] = await client.call("once.it", {"n": number}, timeout=luck.choice([0.3, 1.0, 3.0]), retries=3)
                except CallError as error:
                    ends[number] = error

            for start in range(0, 450, 150):
                tasks = [asyncio.create_task(one(number)) for number in range(start, start + 150)]
                for task in tasks:
                    if luck.random() < 0.15:
                        await asyncio.sleep(luck.random() / 100)
                        task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    with Serving(text, tmp_path, provider) as homing:
        asyncio.run(main(homing.port))
        rest(homing)
    for number, end in ends.items():
        assert provider.done[number] <= 1
        if isinstance(end, NotExecuted):
            assert not provider.done[number], end
        elif isinstance(end, dict):
            assert end == {"n": number}
    assert len(ends) > 300
    assert all(count <= 1 for count in provider.done.values())


def test_nothing_leaks(tmp_path: Path) -> None:
    """After rounds of the same misfortunes as many descriptors are open as after the first."""
    text = house()
    provider = Unlucky(5)
    counts = []

    async def some(port: int, turn: int) -> None:
        await asyncio.gather(
            *(caller(port, range(base, base + 2), base, {}) for base in range(turn * 10_000, turn * 10_000 + 400, 4))
        )

    with Serving(text, tmp_path, provider) as homing:
        for turn in range(3):
            asyncio.run(some(homing.port, turn))
            rest(homing)
            remote = next(iter(homing.process.hands.remotes.values()))
            idle = remote.edge.resting
            assert remote.edge.connections == idle
            counts.append(len(list(Path("/proc/self/fd").iterdir())) - 2 * idle)  # both ends are ours
    assert max(counts) - counts[0] <= 2, counts


def test_hang_ups_while_answers_leave(tmp_path: Path) -> None:
    """A reset that meets the answer on its way, many times over."""
    text = house()
    done = Counter[int]()

    def provide(asked: Asked) -> Answer:
        done[asked.json["n"]] += 1
        return Answer(body="x" * 100_000)

    with Serving(text, tmp_path, provide) as homing:
        for number in range(300):
            body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "once.it", "params": {"n": number}}).encode()
            with socket.create_connection(("127.0.0.1", homing.port), 5) as hasty:
                hasty.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
                if number % 3:
                    hasty.recv(number * 40 + 1)
        rest(homing)
    assert all(count == 1 for count in done.values())
