"""Ask and answer through a broker: homing's beside nats-server, grpc.aio and zerorpc, each with its own client and server processes."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from bench.programs import free_port, reachable

ROOT = Path(__file__).parent.parent
PEERS = str(ROOT / ".venv-bench/bin/python")
HOMING = [sys.executable, "-c", "from homing.cli import main; main()"]
IN_FLIGHT = (1, 100, 1000)


class Echo(msgspec.Struct):
    """So many calls in flight: calls a second, milliseconds each, microseconds of processor a call over all its processes."""

    program: str
    in_flight: int
    calls: int
    calls_per_s: float
    p50_ms: float
    p99_ms: float
    cpu_us_per_call: float


class Street:
    """The processes of one peer."""

    def __init__(self, name: str, client: list[str]) -> None:
        self.name = name
        self.client = client
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, command: list[str], **environ: str) -> None:
        """One that serves until the end."""
        self._processes.append(
            subprocess.Popen(
                command, cwd=ROOT, env={**os.environ, **environ}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
        )

    def stop(self) -> None:
        """All of them."""
        for process in reversed(self._processes):
            process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
            process.kill()
            process.wait()

    def cpu_s(self) -> float:
        """Seconds of processor that those who serve have used."""
        used = 0
        for process in self._processes:
            fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
            used += int(fields[11]) + int(fields[12])
        return used / os.sysconf("SC_CLK_TCK")

    def fly(self, in_flight: int, seconds: float) -> Echo:
        """One measurement, by a client of its own."""
        before, own = self.cpu_s(), os.times()
        done = subprocess.run(
            [*self.client, str(in_flight), str(seconds)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds + 60,
        )
        if done.returncode:
            raise SystemExit(f"{self.name}: {done.stderr}")
        after = os.times()
        client_s = after.children_user + after.children_system - own.children_user - own.children_system
        said = json.loads(done.stdout)
        share = seconds / (seconds + 1.0)  # the first second is not counted
        cpu_us = (self.cpu_s() - before + client_s) * share / max(1, said["calls"]) * 1e6
        return Echo(self.name, in_flight, said["calls"], said["calls_per_s"], said["p50_ms"], said["p99_ms"], cpu_us)


@contextlib.contextmanager
def homing(*, curve: bool = False) -> Iterator[Street]:
    """Client, broker and Python worker: three processes."""
    port = free_port()
    url = f"tcp://127.0.0.1:{port}"
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    keys: list[str] = []
    lines = [f'[broker]\nlisten = "{url}"']
    worker: list[str] = []
    if curve:
        made = {name: _key(folder, name) for name in ("broker", "echo", "caller")}
        broker_key = made["broker"]
        keys = [str(folder / "caller.key"), broker_key]
        lines[0] += '\ncurve = { key = "broker.key" }'
        lines.append(f'[worker]\ncurve = {{ key = "echo.key", broker = "{broker_key}" }}')
        lines.append(f'[peers.echo]\npublic_key = "{made["echo"]}"\nserve = ["echo"]')
        lines.append(f'[peers.caller]\npublic_key = "{made["caller"]}"\ncall = ["echo"]')
    config = folder / "homing.toml"
    config.write_text("\n".join(lines) + "\n")
    street = Street("homing, CURVE" if curve else "homing", [])
    try:
        street.start([*HOMING, "broker", "--config", str(config)])
        reachable(port)
        street.start([*HOMING, "worker", "bench.echo_homing:worker", "--broker", url, "--config", str(config), *worker])
        street.client = [sys.executable, "-c", _CLIENT, url, *keys]
        time.sleep(1.5)  # until the worker is known; the client would wait for it anyway
        yield street
    finally:
        street.stop()
        shutil.rmtree(folder, ignore_errors=True)


_CLIENT = (
    "import sys; from bench.echo_homing import load; import uvloop; "
    "*given, n, s = sys.argv[1:]; uvloop.run(load(given[0], int(n), float(s), *given[1:]))"
)


def _key(folder: Path, name: str) -> str:
    made = subprocess.run(
        [*HOMING, "keys", "curve", name, "--out", str(folder), "--json"], capture_output=True, text=True, check=True
    )
    public: str = json.loads(made.stdout)["public_key"]
    return public


@contextlib.contextmanager
def nats() -> Iterator[Street]:
    """nats-py on both sides of nats-server."""
    port = free_port()
    url = f"nats://127.0.0.1:{port}"
    street = Street("nats-py + nats-server", [PEERS, "-m", "bench.echo_nats", "client", url])
    try:
        street.start(["nats-server", "-a", "127.0.0.1", "-p", str(port)])
        reachable(port)
        street.start([PEERS, "-m", "bench.echo_nats", "server", url])
        time.sleep(1.0)
        yield street
    finally:
        street.stop()


@contextlib.contextmanager
def direct(name: str, module: str, address: str) -> Iterator[Street]:
    """A peer without a broker between: client and server."""
    port = free_port()
    target = address.format(port=port)
    street = Street(name, [PEERS, "-m", module, "client", target])
    try:
        street.start([PEERS, "-m", module, "server", target])
        reachable(port)
        yield street
    finally:
        street.stop()


def echoes(seconds: float) -> list[Echo]:
    """Every peer at every number of calls in flight, one after the other."""
    found: list[Echo] = []
    peers = [
        homing,
        nats,
        lambda: direct("grpc.aio, no broker", "bench.echo_grpc", "{port}"),
        lambda: direct("zerorpc, no broker", "bench.echo_zerorpc", "tcp://127.0.0.1:{port}"),
        lambda: homing(curve=True),
    ]
    for peer in peers:
        with peer() as street:
            for in_flight in IN_FLIGHT:
                echo = street.fly(in_flight, seconds)
                found.append(echo)
                print(
                    f"{echo.program:24} {in_flight:5} in flight {echo.calls_per_s:10,.0f} calls/s {echo.cpu_us_per_call:8.0f} µs CPU "
                    f"p50 {echo.p50_ms:8.2f} ms  p99 {echo.p99_ms:8.2f} ms",
                    flush=True,
                )
    return found
