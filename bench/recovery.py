"""How soon things go on after a kill: callers of a killed worker told, a restarted broker serving, a second gateway undisturbed.

SIGKILL, and a clock. Where this machine lets us make a network namespace, the worker also stands behind a cable that is pulled: no FIN,
no reset, nothing.
"""

import contextlib
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from bench import load, programs
from bench.programs import Program, free_port, homing_command, running, write_config
from bench.three import three
from chaos.island import Island, possible

CALLERS = 20
PATIENCE_S = 60.0
WATCHED_S = 3.0  # the callers of the gateway that lives, after the other was killed
INSECURE = "[broker]\ninsecure = true\n[worker]\ninsecure = true\n"  # the island is on this machine


class Recovery(msgspec.Struct):
    """Seconds. None: this machine does not let us make a network namespace."""

    worker_killed_told_s: float  # the last of its callers
    worker_cut_off_told_s: float | None
    broker_killed_answers_s: float  # from the kill, the start of the next one included
    broker_listens_answers_s: float  # of that, from the moment the next one listens
    gateway_killed_longest_s: float  # the longest that a caller of the other gateway waits
    gateway_killed_errors: int


class Silence:
    """A provider that takes requests and never answers."""

    def __init__(self, host: str) -> None:
        self.asked = 0
        self._listening = socket.create_server((host, 0), backlog=128)
        self._open: list[socket.socket] = []
        self.url = f"http://{host}:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._take, daemon=True).start()

    def close(self) -> None:
        """Nobody is heard any more."""
        self._listening.close()
        for each in self._open:
            each.close()

    def until_asked(self, count: int) -> None:
        """So many requests are here."""
        until = time.monotonic() + PATIENCE_S
        while self.asked < count:
            if time.monotonic() > until:
                raise SystemExit(f"only {self.asked} of {count} calls reached the provider")
            time.sleep(0.005)

    def _take(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                taken, _ = self._listening.accept()
                self._open.append(taken)
                taken.recv(65_536)
                self.asked += 1


def told_after(kill: Callable[[], None], port: int, provider: Silence) -> float:
    """Callers wait for a provider that is silent; then their worker dies. Seconds until the last of them is told."""
    told_at: list[float] = []

    def call() -> None:
        if load.ask(port, PATIENCE_S) == 200:  # which is worker_lost, unknown
            told_at.append(time.monotonic())

    callers = [threading.Thread(target=call) for _ in range(CALLERS)]
    for caller in callers:
        caller.start()
    provider.until_asked(CALLERS)
    killed_at = time.monotonic()
    kill()
    for caller in callers:
        caller.join()
    if len(told_at) < CALLERS:
        raise SystemExit(f"only {len(told_at)} of {CALLERS} callers were told that their worker is lost")
    return max(told_at) - killed_at


def worker_killed(folder: Path) -> float:
    """On one machine: the end of its connection says it."""
    with contextlib.closing(Silence("127.0.0.1")) as provider, three(folder, provider.url) as (_, worker, gateway):
        time.sleep(3.0)  # everybody knows everybody
        return told_after(worker.process.kill, gateway.port, provider)


def worker_cut_off(folder: Path) -> float:
    """Behind a cable that is pulled: only silence says it."""
    island = Island(7)
    island.make()
    try:
        with contextlib.closing(Silence(island.here)) as provider, _behind(island, folder, provider.url) as gateway:
            return told_after(island.pull, gateway.port, provider)
    finally:
        island.remove()


@contextlib.contextmanager
def _behind(island: Island, folder: Path, provider: str) -> Iterator[Program]:
    """Broker and gateway here, the worker on the island."""
    broker_port, port = free_port(), free_port()
    config = write_config(folder, port, provider)
    config.write_text(config.read_text().replace("[worker]\n", INSECURE))
    common = ["--config", str(config)]
    url = f"tcp://{island.here}:{broker_port}"
    with (
        running("broker", [*homing_command(), "broker", "--listen", f"tcp://0.0.0.0:{broker_port}", *common], broker_port, None),
        running("worker", [*island.command, *homing_command(), "worker", "--broker", url, *common], broker_port, None),
        running(
            "gateway", [*homing_command(), "gateway", "--broker", f"tcp://127.0.0.1:{broker_port}", *common], port, None
        ) as gateway,
    ):
        time.sleep(3.0)  # everybody knows everybody
        yield gateway


def broker_killed(folder: Path, provider: str) -> tuple[float, float]:
    """A caller calls into the gap. Seconds until the answer, from the kill, and from the moment the next broker listens."""
    with three(folder, provider) as (broker, _, gateway):
        load.ready(gateway.port)
        answered_at: list[float] = []
        killed_at = time.monotonic()
        broker.process.kill()
        broker.process.wait()
        caller = threading.Thread(
            target=lambda: load.ask(gateway.port, PATIENCE_S) == 200 and answered_at.append(time.monotonic())
        )
        caller.start()
        command = [
            *homing_command(),
            "broker",
            "--listen",
            f"tcp://127.0.0.1:{broker.port}",
            "--config",
            str(folder / "homing.toml"),
        ]
        with running("broker", command, broker.port, None):
            listens_at = time.monotonic()
            caller.join()
        if not answered_at:
            raise SystemExit("a call was not answered by the broker that was started again")
        return answered_at[0] - killed_at, max(0.0, answered_at[0] - listens_at)


def gateway_killed(folder: Path, provider: str) -> tuple[float, int]:
    """Callers of the other gateway: the longest that one of them waits, in seconds, and how many are not answered."""
    with three(folder, provider, gateways=2) as (_, _, doomed, other):
        load.ready(other.port)
        longest_s, errors = 0.0, 0
        ends, kill_at = time.monotonic() + WATCHED_S, time.monotonic() + 0.5
        while (now := time.monotonic()) < ends:
            if now >= kill_at:
                doomed.process.kill()
                kill_at = ends
            errors += load.ask(other.port) != 200
            longest_s = max(longest_s, time.monotonic() - now)
        return longest_s, errors


def recovery() -> Recovery:
    """All of it."""
    folder = load.folder()
    killed_s = worker_killed(folder)
    print(f"worker killed, all {CALLERS} callers told after {killed_s:.3f} s", flush=True)
    cut_s: float | None = None
    if possible():
        cut_s = worker_cut_off(folder)
        print(f"worker's cable pulled, all {CALLERS} callers told after {cut_s:.2f} s", flush=True)
    else:
        print("NOT MEASURED: a worker behind a pulled cable takes a network namespace, and root to make one", flush=True)
    with programs.nginx(folder / "provider", core=None) as provider:
        answers_s, listens_s = broker_killed(folder, provider.url)
        print(f"broker killed and started again, answers after {answers_s:.3f} s, {listens_s:.3f} s after it listens", flush=True)
        longest_s, errors = gateway_killed(folder, provider.url)
        print(f"gateway killed, callers of the other wait {longest_s * 1000:.1f} ms at most, {errors} errors", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    return Recovery(
        round(killed_s, 3),
        None if cut_s is None else round(cut_s, 3),
        round(answers_s, 3),
        round(listens_s, 3),
        round(longest_s, 4),
        errors,
    )
