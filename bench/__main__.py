"""`make bench`: everything in one run, a table on the terminal, results as JSON and an SVG chart in docs/bench/.

python -m bench [--seconds 5] [--quick] [--only one|three|brokers]
"""

import argparse
import contextlib
import datetime as dt
import os
import platform
import shutil
import time
from pathlib import Path

import msgspec

from bench import brokers, chart, load, programs, three
from bench.brokers import Echo
from bench.hops import hops
from bench.load import Held, Measure, say
from bench.machines import handles
from bench.programs import CONNECTIONS
from bench.queued import Queued, queued
from bench.recovery import Recovery, recovery

ROOT = Path(__file__).parent.parent
HELD_CALLS = 9000
QUEUED_CALLS = 100_000
PARTS = ("one", "three", "brokers")


class Results(msgspec.Struct):
    """One run."""

    when: str
    machine: str
    python: str
    seconds: float
    load_before: float  # of the machine, over a minute: with more than a little, only CPU and ratios mean something
    rates: list[Measure] = []  # one process and its peers, each on one core
    held: list[Held] = []
    start_s: dict[str, float] = {}
    handle_us: dict[str, float] = {}
    shared: list[Measure] = []  # one process and three, all on the same cores
    hops_ms: dict[str, float] = {}
    recovery: Recovery | None = None
    echoes: list[Echo] = []
    queued: Queued | None = None
    ratios: dict[str, float] = {}
    load_after: float = 0.0


def rates(seconds: float, results: Results) -> None:
    """Calls a second of each program, one after the other before the same provider."""
    folder = load.folder()
    with programs.nginx(folder / "provider", core=programs.LOAD_CORE) as provider:
        peers = [
            lambda: programs.homing(folder / "homing", provider.url),
            lambda: programs.fastapi("aiohttp", provider.url),
            lambda: programs.fastapi("httpx", provider.url),
            lambda: programs.nginx(folder / "proxy", core=programs.PROGRAM_CORE, upstream=provider.port),
        ]
        for number, peer in enumerate(peers):
            with peer() as program:
                program.name = "nginx as a plain proxy" if number == 3 else program.name
                results.start_s[program.name] = round(program.start_s, 3)
                load.wrk(program, 64, min(2.0, seconds))
                for connections in CONNECTIONS:
                    measure = load.wrk(program, connections, seconds)
                    results.rates.append(measure)
                    say(measure)
        direct = load.wrk(msgspec.structs.replace(provider, name="the provider itself"), 1, seconds)
        results.rates.append(direct)
        say(direct)
    shutil.rmtree(folder, ignore_errors=True)


def held(calls: int, results: Results) -> None:
    """Memory of calls that wait, for homing and the quicker peer."""
    folder = load.folder()
    for make in (programs.homing, lambda _, url: programs.fastapi("aiohttp", url)):
        port = programs.free_port()
        with make(folder / "homing", f"http://127.0.0.1:{port}") as program:
            measure = load.held(program, port, calls)
            results.held.append(measure)
            print(f"{measure.program:24} {measure.kb_per_call:8.1f} KB a held call, {measure.calls} held", flush=True)
    shutil.rmtree(folder, ignore_errors=True)


def ratios(results: Results) -> dict[str, float]:
    """What counts: how homing stands to its peers in this run."""
    rate = {(each.program, each.connections): each for each in results.rates}
    ours = rate["homing", 64]
    direct = rate["the provider itself", 1]
    best = max((rate["homing", connections] for connections in CONNECTIONS), key=lambda each: each.calls_per_s)
    found = {
        "calls/s, best": float(round(best.calls_per_s)),
        "ms added at one connection": round(rate["homing", 1].p50_ms - direct.p50_ms, 3),
    }
    for name, digits, over, under in (
        ("times FastAPI + aiohttp", 2, ours.calls_per_s, rate["FastAPI + aiohttp", 64].calls_per_s),
        ("times less CPU than FastAPI + aiohttp", 2, rate["FastAPI + aiohttp", 64].cpu_us_per_call, ours.cpu_us_per_call),
        ("times FastAPI + httpx", 2, ours.calls_per_s, rate["FastAPI + httpx", 64].calls_per_s),
        ("share of nginx as a plain proxy", 3, ours.calls_per_s, rate["nginx as a plain proxy", 64].calls_per_s),
    ):
        if under:  # a peer that answered nothing in its time, on a machine that has none to give, is no measure
            found[name] = round(over / under, digits)
    return found


def one(results: Results, seconds: float, *, quick: bool) -> None:
    """One process beside its peers."""
    rates(seconds, results)
    held(1000 if quick else HELD_CALLS, results)
    results.handle_us = handles(2000 if quick else 20_000)
    print("machines, µs a handle: " + ", ".join(f"{name} {taken}" for name, taken in results.handle_us.items()))
    results.ratios |= ratios(results)


def many(results: Results, seconds: float) -> None:
    """Many processes beside one, each hop of a call, and what happens after a kill."""
    results.shared = three.rates(seconds)
    results.hops_ms = hops()
    print("hops, ms: " + ", ".join(f"{name} {taken}" for name, taken in results.hops_ms.items()), flush=True)
    results.recovery = recovery()
    results.ratios |= three.ratios(results.shared)


def through_brokers(results: Results, seconds: float, *, quick: bool) -> None:
    """Brokers, each with clients and workers of its own, and a long queue."""
    results.echoes = brokers.echoes(seconds)
    results.queued = queued(10_000 if quick else QUEUED_CALLS)
    print(f"a broker with {results.queued.calls} queued: {results.queued.kb_per_call:.2f} KB a call", flush=True)
    results.ratios |= brokers.ratios(results.echoes)


def main() -> None:
    """Run it all."""
    options = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    options.add_argument("--seconds", type=float, default=5.0, help="each run of wrk")
    options.add_argument("--quick", action="store_true", help="short runs and fewer held calls; nothing is kept")
    options.add_argument("--only", choices=PARTS, help="one part; nothing is kept")
    options.add_argument("--out", type=Path, default=ROOT / "docs" / "bench")
    given = options.parse_args()
    for program in ("wrk", "nginx", "taskset"):
        if shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin") is None:
            raise SystemExit(f"{program} is needed: apt-get install {program if program != 'taskset' else 'util-linux'}")
    seconds = 1.0 if given.quick else given.seconds
    machine = f"{os.cpu_count()} cores, {platform.machine()}, {_processor()}"
    now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    results = Results(now, machine, platform.python_version(), seconds, round(os.getloadavg()[0], 2))
    began = time.monotonic()
    parts = PARTS if given.only is None else (given.only,)
    if "one" in parts:
        one(results, seconds, quick=given.quick)
    if "three" in parts:
        many(results, seconds)
    if "brokers" in parts:
        through_brokers(results, seconds, quick=given.quick)
    results.load_after = round(os.getloadavg()[0], 2)
    for name, value in results.ratios.items():
        print(f"{name:48} {value}")
    print(f"took {time.monotonic() - began:.0f} s; load of the machine {results.load_before} before, {results.load_after} after")
    if given.quick or given.only is not None:
        return
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "results.json").write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=1) + b"\n")
    (given.out / "rates.svg").write_text(chart.rates(results.rates))
    (given.out / "brokers.svg").write_text(chart.echoes(results.echoes))
    loads = f"with a load of {results.load_before:g} before and {results.load_after:g} after"
    table = chart.table(results.rates, results.held, results.ratios, machine, loads)
    chart.fill(
        ROOT / "README.md",
        [
            table,
            chart.many(results.shared, results.recovery),
            chart.brokers(results.echoes, results.queued, brokers.ratios(results.echoes)),
        ],
    )
    print(f"kept in {given.out}")


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return "unknown processor"


if __name__ == "__main__":
    main()
