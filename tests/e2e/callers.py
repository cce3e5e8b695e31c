"""Callers for the tests of the whole: many at once, each on a connection of its own that hears everything that comes."""

import asyncio
import json
import re
import time
from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Heard:
    """What one call got: `raw` is every byte that came on its connection from its request on."""

    params: dict[str, Any]
    asked_s: float  # its timeout
    took_s: float = 0.0
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = None

    @property
    def ok(self) -> bool:
        return "result" in self.body

    @property
    def data(self) -> dict[str, Any]:
        return self.body["error"]["data"]

    @property
    def executed(self) -> str:
        return "yes" if self.ok else self.data["executed"]


class Connection:
    """One connection of one caller. Reads exactly one response for each request; `surplus` is what nobody asked for."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.reader: asyncio.StreamReader | None = None
        self.writer: asyncio.StreamWriter | None = None

    async def call(self, method: str, params: dict[str, Any], timeout: float, **fields: str) -> Heard:
        if self.writer is None:
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        assert self.reader is not None
        body = json.dumps({"jsonrpc": "2.0", "id": params["n"], "method": method, "params": params}).encode()
        extra = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
        head = f"POST /rpc HTTP/1.1\r\nHost: x\r\nHoming-Timeout: {timeout}\r\n{extra}Content-Length: {len(body)}\r\n\r\n"
        heard = Heard(params, timeout)
        began = time.monotonic()
        self.writer.write(head.encode() + body)
        text = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        heard.status = int(text[9:12])
        lines = [line.partition(": ") for line in text.split("\r\n")[1:-2]]
        heard.headers = {name.lower(): value for name, _, value in lines}
        assert len(heard.headers) == len(lines)
        heard.body = json.loads(await self.reader.readexactly(int(heard.headers["content-length"])))
        heard.took_s = time.monotonic() - began
        assert heard.body["id"] == params["n"]
        if heard.headers.get("connection") == "close":
            await self.close()
        return heard

    async def surplus(self, wait_s: float = 0.0) -> bytes:
        """What came that belongs to no answer."""
        if self.reader is None:
            return b""
        try:
            return await asyncio.wait_for(self.reader.read(65536), wait_s or 0.001)
        except TimeoutError:
            return b""

    async def close(self) -> None:
        if self.writer is not None:
            self.writer.close()
            self.writer = self.reader = None


async def call_all(port: int, calls: Iterable[tuple[str, dict[str, Any], float]], *, at_once: int = 200) -> list[Heard]:
    """Make all these calls (method, params, timeout), so many at a time, and see that each is answered once and nothing is left over."""
    heard: list[Heard] = []
    waiting = iter(calls)

    async def one() -> None:
        connection = Connection(port)
        for method, params, timeout in waiting:
            heard.append(await connection.call(method, params, timeout))
        assert await connection.surplus() == b""
        await connection.close()

    await asyncio.gather(*(one() for _ in range(at_once)))
    return heard


def together(*coroutines: Coroutine[Any, Any, Any]) -> Sequence[Any]:
    """Run coroutines side by side on a loop of this test's own."""

    async def main() -> Sequence[Any]:
        return await asyncio.gather(*coroutines)

    return asyncio.run(main())


CALL_ID = re.compile("[0-9a-f]{32}")


def judge(heard: Heard, *, slack_s: float = 5.0) -> None:
    """What holds of every answer there is, whatever happened: its head and its body say the same, and it came by its deadline.

    The slack is for a machine that has other things to do; a deadline that is not kept is off by more than that, or by all there is.
    """
    assert CALL_ID.fullmatch(heard.headers["homing-call-id"])
    assert heard.took_s <= heard.asked_s + slack_s, heard
    assert heard.headers["homing-executed"] == heard.executed
    if heard.status == 200:
        assert heard.headers["homing-deadline-ms"] == str(round(heard.asked_s * 1000))
    if heard.ok:
        assert (heard.status, heard.headers["homing-reason"]) == (200, "ok")
        return
    data = heard.data
    assert heard.headers["homing-reason"] == data["reason"]
    assert heard.headers["homing-retry"] == data["retry"]
    assert heard.headers["homing-call-id"] == data["call_id"]
    strongest = max((each["executed"] for each in data.get("attempts", [])), key=["no", "unknown", "yes"].index, default="no")
    assert ["no", "unknown", "yes"].index(data["executed"]) >= ["no", "unknown", "yes"].index(strongest), data
    if heard.status != 200:
        assert data["executed"] == "no"
    for attempt in data.get("attempts", []):
        assert 0 <= attempt["started_ms"] <= data["timeout_ms"]
        assert attempt["started_ms"] + attempt["duration_ms"] <= data["timeout_ms"] + slack_s * 1000
