"""The ways in: HTTP written and read by hand, and our own clients, to a gateway or to brokers. Each says what a caller heard there."""

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

import msgspec

from chaos.history import Call
from chaos.processes import Process
from homing import AsyncClient, CallError, Executed, NotExecuted, OutcomeUnknown

SILENCE_S = 30.0  # beyond the deadline: whoever has not answered by then never will
GRACE_S = 3.0  # for so long a client waits beyond its time for a gateway that says nothing
_RESULT = msgspec.json.Decoder()
_SAID = {NotExecuted: "no", OutcomeUnknown: "unknown", Executed: "yes"}


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What is called. `told` is whether the caller says what it knows of the method, and under which key; `retries` are a client's."""

    method: str
    params: dict[str, object]
    told: bool = False
    retries: int = 0


class Door(Protocol):
    """One way in."""

    name: str

    async def ask(self, call: Call, wish: Wish) -> None:
        """Call, and write down what came of it."""

    def paused_s(self, since: float, until: float) -> float:
        """How long whoever answers here stood still in that time."""


class GatewayDoor:
    """Each call over a connection of its own, so that nothing between asks again or hides a thing."""

    def __init__(self, gateway: Process, port: int) -> None:
        self.name = str(gateway)
        self._gateway = gateway
        self._port = port

    def paused_s(self, since: float, until: float) -> float:
        """The gateway."""
        return self._gateway.paused_s(since, until)

    async def ask(self, call: Call, wish: Wish) -> None:
        """One request, read to the end of its connection."""
        body = msgspec.json.encode({"jsonrpc": "2.0", "id": call.token, "method": wish.method, "params": wish.params})
        key = f"Idempotency-Key: {call.token}\r\n" if wish.told and call.effect == "keyed" else ""
        head = (
            f"POST /rpc HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\nContent-Type: application/json\r\n"
            f"Homing-Timeout: {call.timeout_s}\r\n{key}Content-Length: {len(body)}\r\n\r\n"
        )
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            call.heard = "unsent"
            return
        call.sent_at = time.monotonic()
        try:
            writer.write(head.encode() + body)
            await writer.drain()
            answer = await self._read(call, reader)
        except OSError:
            answer = b""
        finally:
            writer.transport.abort()
        call.answered_at = time.monotonic()
        if answer is not None:
            _heard(call, answer)

    async def _read(self, call: Call, reader: asyncio.StreamReader) -> bytes | None:
        """All that came until the connection ended; None if it never did."""
        answer = b""
        while True:
            try:
                async with asyncio.timeout(call.timeout_s + SILENCE_S):
                    while chunk := await reader.read(65536):
                        answer += chunk
                    return answer
            except TimeoutError:
                waited_s = time.monotonic() - call.sent_at
                if waited_s - self.paused_s(call.sent_at, time.monotonic()) > call.timeout_s + SILENCE_S:
                    return None


def _heard(call: Call, answer: bytes) -> None:
    head, _, body = answer.partition(b"\r\n\r\n")
    lengths = [line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    if not lengths or len(body) < int(lengths[0]):
        call.heard = "lost"  # cut before its end: half an answer is none
        return
    call.answers = answer.count(b"HTTP/1.1 ")
    said = _RESULT.decode(body[: int(lengths[0])])
    if "result" in said:
        call.heard, call.result = "ok", str(said["result"])
        return
    data = said["error"].get("data", {})
    call.heard, call.executed, call.reason = "error", data.get("executed", ""), data.get("reason", "")


class ClientDoor:
    """One client of ours for all calls that come this way, which asks again by itself, and is closed and opened under load."""

    def __init__(self, name: str, open_client: Callable[[], AsyncClient], gateway: Process | None = None) -> None:
        self.name = name
        self._open = open_client
        self._gateway = gateway
        self._client = open_client()

    def paused_s(self, since: float, until: float) -> float:
        """To brokers the client answers for itself."""
        return 0.0 if self._gateway is None else self._gateway.paused_s(since, until)

    async def reopen(self) -> None:
        """Close the client with all that is under way, and have another."""
        client, self._client = self._client, self._open()
        await client.close()

    async def close(self) -> None:
        """For good."""
        await self._client.close()

    async def ask(self, call: Call, wish: Wish) -> None:
        """One call of the client's."""
        to_brokers = self._gateway is None
        call.grace_s = 0.0 if to_brokers else GRACE_S
        call.sent_at = time.monotonic()
        try:
            async with asyncio.timeout(call.timeout_s + SILENCE_S):
                result = await self._client.call(
                    wish.method,
                    wish.params,
                    timeout=call.timeout_s,
                    retries=wish.retries,
                    idempotency_key=call.token if wish.told and call.effect == "keyed" else None,
                    service=wish.method.partition(".")[0] if wish.told and to_brokers else None,
                    effect=call.effect if wish.told and to_brokers else None,
                )
        except CallError as error:
            verdict = _SAID[type(error)]
            call.heard, call.reason = "error", error.reason
            call.executed = verdict if verdict == error.executed else f"{verdict} and {error.executed}"
        except RuntimeError:
            call.heard = "unsent"  # the client was closed before it was asked
        except TimeoutError:
            return
        else:
            call.heard, call.result = "ok", str(result)
        call.answers = 1
        call.answered_at = time.monotonic()
