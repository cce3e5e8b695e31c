"""Ask and answer through a broker: homing's beside nats-server, grpc.aio and zerorpc, each with its own client and server processes."""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from bench.flight import BEGINS
from bench.programs import free_port, reachable

ROOT = Path(__file__).parent.parent
PEERS = str(ROOT / ".venv-bench/bin/python")
HOMING = [sys.executable, "-c", "from homing.cli import main; main()"]
IN_FLIGHT = (1, 100, 1000)
CREDIT = 1000  # of the Python worker: as many as are ever in flight
ALONE = "homing's broker, thin peers"
HOMING_ECHO, HOMING_CURVE = "homing, client to Python worker", "homing, the same with CURVE"
NATS = "nats-py + nats-server"


class Echo(msgspec.Struct):
    """So many calls in flight: calls a second, milliseconds each, microseconds of processor a call, by who used them."""

    program: str
    in_flight: int
    calls: int
    calls_per_s: float
    p50_ms: float
    p99_ms: float
    cpu_us_per_call: dict[str, float]


class Street:
    """The processes of one peer."""

    def __init__(self, name: str, client: list[str]) -> None:
        self.name = name
        self.client = client
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, command: list[str]) -> None:
        """One that serves until the end."""
        self._processes[name] = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def stop(self) -> None:
        """All of them, the last first."""
        for process in reversed(self._processes.values()):
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
            process.kill()
            process.wait()

    def fly(self, in_flight: int, seconds: float) -> Echo:
        """One measurement, by a client of its own; the processor counts from the end of its warming up."""
        command = [*self.client, str(in_flight), str(seconds)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as client:
            assert client.stdout is not None
            assert client.stderr is not None
            pids = {**{name: process.pid for name, process in self._processes.items()}, "client": client.pid}
            begins = client.stdout.readline().strip()
            before = {name: cpu_s(pid) for name, pid in pids.items()} if begins == BEGINS else {}
            said = client.stdout.readline()
            if not said:
                raise SystemExit(f"{self.name} came to nothing: {client.stderr.read()}")
            used_s = {
                name: cpu_s(pid) - before[name] for name, pid in pids.items()
            }  # the client is not gone before it is waited for
        figures = msgspec.json.decode(said, type=Figures)
        each_us = {name: used / figures.calls * 1e6 for name, used in used_s.items()}
        return Echo(self.name, in_flight, figures.calls, figures.calls_per_s, figures.p50_ms, figures.p99_ms, each_us)


class Figures(msgspec.Struct):
    """What a client says."""

    calls: int
    calls_per_s: float
    p50_ms: float
    p99_ms: float


def cpu_s(pid: int) -> float:
    """Seconds of processor that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def homing(name: str, *, curve: bool = False, thin: bool = False) -> Iterator[Street]:
    """Client, broker and Python worker: three processes. `thin`: the peers of `echo_wire` instead of a client and a worker."""
    port = free_port()
    url = f"tcp://127.0.0.1:{port}"
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    keys: list[str] = []
    lines = [f'[broker]\nlisten = "{url}"']
    if curve:
        made = {each: _key(folder, each) for each in ("broker", "echo", "caller")}
        keys = [str(folder / "caller.key"), made["broker"]]
        lines[0] += '\ncurve = { key = "broker.key" }'
        lines.append(f'[worker]\ncurve = {{ key = "echo.key", broker = "{made["broker"]}" }}')
        lines.append(f'[peers.echo]\npublic_key = "{made["echo"]}"\nserve = ["echo"]')
        lines.append(f'[peers.caller]\npublic_key = "{made["caller"]}"\ncall = ["echo"]')
    config = folder / "homing.toml"
    config.write_text("\n".join(lines) + "\n")
    street = Street(name, [sys.executable, "-m", "bench.echo_wire" if thin else "bench.echo_homing", "client", url, *keys])
    try:
        street.start("broker", [*HOMING, "broker", "--config", str(config)])
        reachable(port)
        if thin:
            street.start("worker", [sys.executable, "-m", "bench.echo_wire", "worker", url])
        else:
            target = ["bench.echo_homing:worker", "--credit", str(CREDIT)]
            street.start("worker", [*HOMING, "worker", *target, "--broker", url, "--config", str(config)])
        street.fly(1, 0.1)  # waits until the worker is known
        yield street
    finally:
        street.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _key(folder: Path, name: str) -> str:
    made = subprocess.run(
        [*HOMING, "keys", "curve", name, "--out", str(folder), "--json"], capture_output=True, text=True, check=True
    )
    public: str = msgspec.json.decode(made.stdout, type=dict[str, str])["public_key"]
    return public


@contextlib.contextmanager
def nats(program: str) -> Iterator[Street]:
    """nats-py on both sides of nats-server."""
    port = free_port()
    url = f"nats://127.0.0.1:{port}"
    street = Street(NATS, [PEERS, "-m", "bench.echo_nats", "client", url])
    try:
        street.start("broker", [program, "-a", "127.0.0.1", "-p", str(port)])
        reachable(port)
        street.start("worker", [PEERS, "-m", "bench.echo_nats", "server", url])
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
        street.start("worker", [PEERS, "-m", module, "server", target])
        reachable(port)
        yield street
    finally:
        street.stop()


def echoes(seconds: float) -> list[Echo]:
    """Every peer at every number of calls in flight, one after the other."""
    found: list[Echo] = []
    server = shutil.which("nats-server", path=os.environ["PATH"] + ":/usr/sbin")
    if server is None:
        print("nats-server is not here, and is left out: apt-get install nats-server", flush=True)
    peers: list[Callable[[], contextlib.AbstractContextManager[Street]]] = [
        lambda: homing(ALONE, thin=True),
        *([] if server is None else [lambda: nats(server)]),
        lambda: homing(HOMING_ECHO),
        lambda: homing(HOMING_CURVE, curve=True),
        lambda: direct("grpc.aio, no broker", "bench.echo_grpc", "{port}"),
        lambda: direct("zerorpc, no broker", "bench.echo_zerorpc", "tcp://127.0.0.1:{port}"),
    ]
    for peer in peers:
        with peer() as street:
            for in_flight in IN_FLIGHT:
                echo = street.fly(in_flight, seconds)
                found.append(echo)
                shares = ", ".join(f"{name} {each:.0f}" for name, each in echo.cpu_us_per_call.items())
                print(
                    f"{echo.program:36} {in_flight:5} in flight {echo.calls_per_s:10,.0f} calls/s "
                    f"p50 {echo.p50_ms:8.2f} ms  p99 {echo.p99_ms:8.2f} ms  µs CPU: {shares}",
                    flush=True,
                )
    return found


def ratios(found: list[Echo]) -> dict[str, float]:
    """What counts: how the broker stands to its peers in this run."""
    rate = {(echo.program, echo.in_flight): echo.calls_per_s for echo in found}
    cpu = {(echo.program, echo.in_flight): sum(echo.cpu_us_per_call.values()) for echo in found}
    whole = rate[HOMING_ECHO, 100]
    against = {
        "times grpc.aio (client to worker)": whole / rate["grpc.aio, no broker", 100],
        "times zerorpc (client to worker)": whole / rate["zerorpc, no broker", 100],
        "times the processor with CURVE": cpu[HOMING_CURVE, 100] / cpu[HOMING_ECHO, 100],
    }
    if (NATS, 100) in rate:
        against["times nats-py + nats-server (the broker alone)"] = rate[ALONE, 100] / rate[NATS, 100]
        against["times nats-py + nats-server (client to worker)"] = whole / rate[NATS, 100]
    return {name: round(ratio, 2) for name, ratio in against.items()}
