"""Who calls: each call over a connection of its own, written and read by hand, so that nothing between asks again or hides a thing."""

import asyncio
import random
import time

import msgspec

from chaos.history import Call
from chaos.provider import ENDS
from chaos.stage import Stage
from homing.errors import Effect

EFFECTS: tuple[Effect, ...] = ("once", "once", "keyed", "safe")
ENDS_WEIGHTS = (70, 4, 2, 3, 5, 5, 5, 6)
SILENCE_S = 30.0  # beyond the deadline: whoever has not answered by then never will
_RESULT = msgspec.json.Decoder()


class Callers:
    """Sends calls, keeps what came of each. `calls` grows."""

    def __init__(self, stage: Stage, dice: random.Random, *, per_s: float, prefix: str) -> None:
        self.calls: list[Call] = []
        self._stage = stage
        self._dice = dice
        self._per_s = per_s
        self._prefix = prefix
        self._running: set[asyncio.Task[None]] = set()
        self._lags: list[tuple[float, float]] = []

    async def come(self, seconds: float) -> None:
        """One after the other, at random distances, for so long."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            due = time.monotonic() + self._dice.expovariate(self._per_s)
            await asyncio.sleep(due - time.monotonic())
            late_s = time.monotonic() - due
            if late_s > 0.05:
                self._lags.append((due, due + late_s))
            self.order()

    def order(self, *, effect: Effect | None = None, end: str | None = None, timeout_s: float | None = None) -> None:
        """One call, as the dice fall."""
        dice = self._dice
        effect = effect or dice.choice(EFFECTS)
        end = end or dice.choices(ENDS, ENDS_WEIGHTS)[0]
        delay_ms = int(dice.choice((0, 10, 50, 250, 1000)) * (0.5 + dice.random()))
        timeout_s = timeout_s or dice.choice((0.5, 1.0, 2.0, 5.0, 10.0)) * (0.8 + 0.4 * dice.random())
        params = {"token": f"{self._prefix}-{len(self.calls)}", "end": end, "delay_ms": delay_ms}
        self.place(f"bank.{effect}", params, effect, round(timeout_s, 3), dice.randrange(len(self._stage.gateway_ports)))

    def flood(self, count: int, timeout_s: float) -> None:
        """So many at once, to one gateway."""
        for _ in range(count):
            self.order(end="ok", timeout_s=timeout_s)

    def place(self, method: str, params: dict[str, object], effect: Effect, timeout_s: float, gateway: int) -> Call:
        """One call, as it is said."""
        call = Call(token=str(params["token"]), effect=effect, gateway=gateway, sent_at=time.monotonic(), timeout_s=timeout_s)
        call.end = str(params["end"])
        self.calls.append(call)
        running = asyncio.ensure_future(self._call(call, method, params))
        self._running.add(running)
        running.add_done_callback(self._running.discard)
        return call

    async def settled(self) -> None:
        """Until every call has ended, one way or the other."""
        while self._running:
            await asyncio.wait(self._running)

    async def _call(self, call: Call, method: str, params: dict[str, object]) -> None:
        body = msgspec.json.encode({"jsonrpc": "2.0", "id": call.token, "method": method, "params": params})
        head = (
            f"POST /rpc HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\nContent-Type: application/json\r\n"
            f"Homing-Timeout: {call.timeout_s}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        gateway = self._stage.of("gateway")[call.gateway]
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._stage.gateway_ports[call.gateway])
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
        call.paused_s = gateway.paused_s(call.sent_at, call.answered_at) + self._lag_s(call.sent_at, call.answered_at)
        if answer is not None:
            _heard(call, answer)

    async def _read(self, call: Call, reader: asyncio.StreamReader) -> bytes | None:
        """All that came until the connection ended; None if it never did."""
        gateway = self._stage.of("gateway")[call.gateway]
        answer = b""
        while True:
            try:
                async with asyncio.timeout(call.timeout_s + SILENCE_S):
                    while chunk := await reader.read(65536):
                        answer += chunk
                    return answer
            except TimeoutError:
                waited_s = time.monotonic() - call.sent_at
                if waited_s - gateway.paused_s(call.sent_at, time.monotonic()) > call.timeout_s + SILENCE_S:
                    return None

    def _lag_s(self, since: float, until: float) -> float:
        """How long this process itself stood still in that time."""
        return sum(max(0.0, min(end, until) - max(begin, since)) for begin, end in self._lags)


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
