"""Load: wrk for rates and latencies, and a crowd of callers who only wait."""

import asyncio
import re
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import msgspec
import uvloop

from bench.programs import BODY, KEY, LOAD_CORE, Program, on_core

SCRIPT = """
wrk.method = "POST"
wrk.path = "/rpc"
wrk.body = '{body}'
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = "Bearer {key}"
done = function(summary, latency, requests)
  io.write(string.format("RESULT %d %d %d %f %f %f\\n", summary.requests, summary.duration,
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.status + summary.errors.timeout,
    latency:percentile(50), latency:percentile(99), latency.min))
end
"""


class Measure(msgspec.Struct):
    """One run of wrk: calls a second, microseconds of processor a call, latencies in milliseconds, errors."""

    program: str
    connections: int
    calls: int
    calls_per_s: float
    cpu_us_per_call: float
    p50_ms: float
    p99_ms: float
    min_ms: float
    errors: int


def say(measure: Measure) -> None:
    """A line of the table."""
    print(
        f"{measure.program:28} {measure.connections:4} connections {measure.calls_per_s:9.0f} calls/s "
        f"{measure.cpu_us_per_call:8.1f} µs CPU p50 {measure.p50_ms:8.2f} ms p99 {measure.p99_ms:8.2f} ms"
        + (f"  {measure.errors} ERRORS" if measure.errors else ""),
        flush=True,
    )


def ready(port: int, patience_s: float = 30.0) -> None:
    """Until a call is answered."""
    until = time.monotonic() + patience_s
    while (status := ask(port)) != 200:
        if time.monotonic() > until:
            raise SystemExit(f"no call is answered on port {port}: {status}")
        time.sleep(0.02)


def ask(port: int, timeout_s: float = 30.0) -> int:
    """One call; the status of its answer, 0 if there is none."""
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/rpc", BODY, headers)
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def wrk(program: Program, connections: int, seconds: float, *, core: int | None = LOAD_CORE) -> Measure:
    """Load a program, from the other core unless another is named."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(SCRIPT.format(body=BODY.decode(), key=KEY))
        script.flush()
        command = [
            *on_core(core),
            "wrk",
            "-t1",
            f"-c{connections}",
            f"-d{max(1, round(seconds))}s",
            "--timeout",
            "20s",
        ]
        before = program.cpu_s()
        out = subprocess.run([*command, "-s", script.name, program.url], capture_output=True, text=True, check=True).stdout
        used_s = program.cpu_s() - before
    found = re.search(r"RESULT (\d+) (\d+) (\d+) (\S+) (\S+) (\S+)", out)
    if found is None:
        raise SystemExit(f"wrk said nothing to go by:\n{out}")
    calls, micros, errors = int(found[1]), int(found[2]), int(found[3])
    p50, p99, least = (float(found[index]) / 1000 for index in (4, 5, 6))
    return Measure(
        program.name, connections, calls, calls / (micros / 1e6), used_s / max(1, calls) * 1e6, p50, p99, least, errors
    )


class Silent(asyncio.Protocol):
    """A provider that reads and never answers."""

    def __init__(self, counter: list[int]) -> None:
        self._counter = counter

    def data_received(self, data: bytes) -> None:
        self._counter[0] += 1


class Waiting(asyncio.Protocol):
    """A caller who has called and waits."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        request = b"POST /rpc HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nAuthorization: Bearer %b\r\nContent-Length: %d\r\n\r\n%b"
        transport.write(request % (KEY.encode(), len(BODY), BODY))  # type: ignore[attr-defined]


class Held(msgspec.Struct):
    """Memory of calls that wait: how many, and kilobytes each."""

    program: str
    calls: int
    kb_per_call: float


def held(program: Program, provider_port: int, calls: int) -> Held:
    """Open so many calls towards a silent provider, and look at the memory once all of them have reached it."""

    async def main() -> Held:
        loop = asyncio.get_running_loop()
        counter = [0]
        server = await loop.create_server(lambda: Silent(counter), "127.0.0.1", provider_port, backlog=4096)
        callers: list[asyncio.BaseTransport] = []

        async def open_to(count: int) -> None:
            while len(callers) < count:
                made = await asyncio.gather(
                    *(loop.create_connection(Waiting, "127.0.0.1", program.port) for _ in range(min(100, count - len(callers))))
                )
                callers.extend(transport for transport, _ in made)
            patience = time.monotonic() + 60
            while counter[0] < count and time.monotonic() < patience:
                await asyncio.sleep(0.02)
            if counter[0] < count:
                raise SystemExit(f"{program.name}: only {counter[0]} of {count} calls reached the provider")

        first = min(500, calls // 10)  # pools, parsers and pages that are there anyway
        await open_to(first)
        before = program.rss_kb()
        await open_to(first + calls)
        result = Held(program.name, calls, (program.rss_kb() - before) / calls)
        for caller in callers:
            caller.close()
        server.close()
        return result

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main())


def folder() -> Path:
    """A temporary folder of one's own."""
    return Path(tempfile.mkdtemp(prefix="bench-"))
