"""Many processes under wrk: gateway, broker and worker, and `serve --processes 2`, beside one process. All of them, wrk and the provider
share the same cores, and nobody is pinned: that is how such a machine is used.
"""

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from bench import load, programs
from bench.load import Measure, say
from bench.programs import CONNECTIONS, Program, free_port, homing_command, running, write_config

ONE, THREE, SERVE = "homing, one process", "homing, three processes", "homing serve --processes 2"
PROVIDER = "the provider itself"


@contextlib.contextmanager
def three(folder: Path, provider: str, *, brokers: int = 1, gateways: int = 1) -> Iterator[list[Program]]:
    """Brokers, a worker and gateways, in this order, each a process of its own."""
    ports = [free_port() for _ in range(brokers)]
    urls = [f"tcp://127.0.0.1:{port}" for port in ports]
    dial = [part for url in urls for part in ("--broker", url)]
    with contextlib.ExitStack() as stack:
        started: list[Program] = []

        def start(name: str, port: int, *arguments: str) -> None:
            command = [*homing_command(), *arguments, "--config", str(folder / "homing.toml")]
            started.append(stack.enter_context(running(name, command, port, None)))

        listens = [free_port() for _ in range(gateways)]
        write_config(folder, listens[0], provider)
        for port, url in zip(ports, urls, strict=True):
            start("broker", port, "broker", "--listen", url)
        start("worker", ports[0], "worker", *dial)
        for port in listens:
            start("gateway", port, "gateway", "--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{free_port()}", *dial)
        yield started


@contextlib.contextmanager
def together(folder: Path, provider: str) -> Iterator[Program]:
    """The three as one program, reached at its gateway."""
    with three(folder, provider) as started:
        gateway = started[-1]
        load.ready(gateway.port)
        yield Program(THREE, gateway.process, gateway.port, sum(each.start_s for each in started), tuple(started[:-1]))


def serve(folder: Path, provider: str, *arguments: str) -> AbstractContextManager[Program]:
    """One command: one process, or a supervisor and all that it starts."""
    port = free_port()
    write_config(folder, port, provider)
    command = [*homing_command(), "serve", "--config", str(folder / "homing.toml"), *arguments]
    return running(SERVE if arguments else ONE, command, port, None)


def rates(seconds: float) -> list[Measure]:
    """Each under wrk, and the provider alone for what one connection costs without any of them."""
    folder = load.folder()
    measures: list[Measure] = []
    with programs.nginx(folder / "provider", core=None) as provider:
        programs_: list[Callable[[], AbstractContextManager[Program]]] = [
            lambda: serve(folder, provider.url),
            lambda: together(folder, provider.url),
            lambda: serve(folder, provider.url, "--processes", str(os.cpu_count() or 2)),
        ]
        for make in programs_:
            with make() as program:
                load.ready(program.port)
                load.wrk(program, 64, min(2.0, seconds), core=None)
                for connections in CONNECTIONS:
                    measures.append(load.wrk(program, connections, seconds, core=None))
                    say(measures[-1])
        provider.name = PROVIDER
        measures.append(load.wrk(provider, 1, seconds, core=None))
        say(measures[-1])
    shutil.rmtree(folder, ignore_errors=True)
    return measures


def ratios(measures: list[Measure]) -> dict[str, float]:
    """How three processes stand to one, all on the same cores."""
    rate = {(each.program, each.connections): each for each in measures}
    direct_ms = rate[PROVIDER, 1].p50_ms
    return {
        "calls/s of three processes, best": round(max(rate[THREE, each].calls_per_s for each in CONNECTIONS)),
        "times one process, three processes": round(rate[THREE, 64].calls_per_s / rate[ONE, 64].calls_per_s, 2),
        "times one process, serve --processes": round(rate[SERVE, 64].calls_per_s / rate[ONE, 64].calls_per_s, 2),
        "times the processor of one process": round(rate[THREE, 64].cpu_us_per_call / rate[ONE, 64].cpu_us_per_call, 2),
        "ms added at one connection by three processes": round(rate[THREE, 1].p50_ms - direct_ms, 3),
        "ms added at one connection by one process": round(rate[ONE, 1].p50_ms - direct_ms, 3),
    }
