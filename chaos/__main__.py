"""`make chaos`: rounds of load under faults, each from a seed of its own, each with its history held against the ledger.

python -m chaos [--seconds 3600] [--round 40] [--seed N] [--per-second 60] [--json FILE] [--keep]
"""

import argparse
import asyncio
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import msgspec

from chaos import island
from chaos.callers import Callers
from chaos.faults import Faults
from chaos.history import Entry, Findings, check
from chaos.stage import Shape, Stage

LATE_S = 1.0  # on a machine that is shared, an answer may be this late on its way back
HEALED_S = 30.0
REST_S = 45.0
FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"


class Round(msgspec.Struct):
    """What came of one seed."""

    seed: int
    shape: Shape
    faults: dict[str, int]
    findings: Findings
    healed_s: float = 0.0


class Report(msgspec.Struct):
    """All rounds together."""

    seconds: float = 0.0
    rounds: int = 0
    calls: int = 0
    effects: int = 0
    unknown: int = 0
    unknown_by_faults: int = 0
    answers: Counter[str] = msgspec.field(default_factory=Counter)
    faults: Counter[str] = msgspec.field(default_factory=Counter)
    broken: list[str] = []

    def add(self, one: Round) -> None:
        """One more."""
        self.rounds += 1
        self.calls += one.findings.calls
        self.effects += one.findings.effects
        self.unknown += one.findings.unknown
        self.unknown_by_faults += one.findings.unknown_by_faults
        self.answers.update(one.findings.answers)
        self.faults.update(one.faults)
        self.broken += [f"seed {one.seed}: {wrong}" for wrong in one.findings.broken]


async def play(
    seed: int, seconds: float, per_s: float, folder: Path, *, preload: str = "", islands: bool = False, late_s: float = LATE_S
) -> Round:
    """One round: load and faults, then healing, then the reckoning."""
    dice = random.Random(seed)
    shape = Shape(
        gateways=dice.choice((1, 2)),
        brokers=dice.choice((1, 1, 2)),
        workers=dice.choice((1, 2, 3)),
        islands=dice.choice((0, 1)) if islands else 0,
    )
    stage = Stage(folder, shape, dice, preload=preload)
    began = time.monotonic()
    with (folder / "faults.log").open("w", buffering=1) as log:
        try:
            await stage.start()
            watching = asyncio.ensure_future(stage.watch())
            callers = Callers(stage, random.Random(seed + 1), per_s=per_s, prefix=f"s{seed}")
            faults = Faults(
                stage,
                callers,
                random.Random(seed + 2),
                clock=bool(preload),
                told=lambda what: print(f"{time.monotonic():.3f} {time.monotonic() - began:8.3f} {what}", file=log),
            )
            await asyncio.gather(callers.come(seconds), faults.come(seconds))
            await faults.quiet()
            healed_s, wrongs = await heal(stage, callers)
            await callers.settled()
            watching.cancel()
            wrongs += await rest(stage)
            await asyncio.sleep(1.5)  # a request that was written late must be in the ledger before it is read
            wrongs += await stage.close()
        finally:
            await stage.kill()
    entries = [msgspec.json.decode(line, type=Entry) for line in stage.ledger.read_bytes().splitlines()]
    (folder / "calls.jsonl").write_bytes(b"".join(msgspec.json.encode(call) + b"\n" for call in callers.calls))
    findings = check(callers.calls, entries, late_s=late_s)
    findings.broken += faults.wrongs + wrongs
    return Round(seed, shape, dict(faults.counts), findings, healed_s)


async def heal(stage: Stage, callers: Callers) -> tuple[float, list[str]]:
    """Nothing is broken any more: soon every method must succeed through every gateway, and then no table holds anything."""
    began = time.monotonic()
    wanting = [(gateway, effect) for gateway in range(stage.shape.gateways) for effect in ("once", "keyed", "safe")]
    while wanting and time.monotonic() < began + HEALED_S:
        probes = [
            callers.place(
                f"bank.{effect}", {"token": f"probe-{time.monotonic_ns()}", "end": "ok", "delay_ms": 0}, effect, 3.0, gateway
            )
            for gateway, effect in wanting
        ]
        await callers.settled()
        wanting = [pair for pair, probe in zip(wanting, probes, strict=True) if probe.heard != "ok"]
    return time.monotonic() - began, [f"gateway {gateway}: {effect} does not succeed again" for gateway, effect in wanting]


async def rest(stage: Stage) -> list[str]:
    """Nobody calls any more: every table must become empty, at the latest when the last exchange's time is up."""
    began = time.monotonic()
    while left := await stage.left():
        if time.monotonic() > began + REST_S:
            return [f"after {REST_S:g} s without a call {what}" for what in left]
        await asyncio.sleep(0.5)
    return []


def print_round(one: Round, folder: Path) -> None:
    """One line, and what was broken."""
    found = one.findings
    shape = one.shape
    print(
        f"seed {one.seed:<10} {shape.gateways} gateways, {shape.brokers} brokers, {shape.workers} workers  {found.calls:6} calls  "
        f"{sum(one.faults.values()):3} faults  healed in {one.healed_s:4.1f} s  "
        f"unknown {found.unknown / max(1, found.calls):6.2%}, {found.unknown_by_faults / max(1, found.calls):6.2%} by faults  "
        f"{'all promises kept' if not found.broken else 'BROKEN'}",
        flush=True,
    )
    for wrong in found.broken[:20]:
        print(f"    {wrong}", flush=True)
    if found.broken:
        print(f"    logs, calls and ledger are in {folder}", flush=True)


def print_report(report: Report) -> None:
    """The sum."""
    print(
        f"\n{report.rounds} rounds, {report.seconds / 60:.0f} minutes, {report.calls} calls, {report.effects} effects in the ledger"
    )
    print("faults: " + ", ".join(f"{name} {count}" for name, count in report.faults.most_common()))
    for name, count in report.answers.most_common():
        print(f"  {count:8}  {count / max(1, report.calls):7.2%}  {name}")
    share, by_faults = (count / max(1, report.calls) for count in (report.unknown, report.unknown_by_faults))
    print(f"left unknown: {share:.2%} of the callers, {by_faults:.2%} where the provider had done its part")
    print("every promise was kept" if not report.broken else f"{len(report.broken)} promises were BROKEN")


def main() -> int:
    """Rounds until the time is up."""
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=3600, help="how long in all; at least one round is played")
    parser.add_argument("--round", type=float, default=40, help="seconds of load in one round")
    parser.add_argument("--seed", type=int, default=None, help="of the first round; the next ones count on from it")
    parser.add_argument("--per-second", type=float, default=60, help="calls")
    parser.add_argument("--json", default="", help="write the summary there")
    parser.add_argument("--keep", action="store_true", help="keep the folders of rounds that were well too")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(10**6)
    preload = FAKETIME if Path(FAKETIME).exists() else ""
    if not preload:
        print("libfaketime is not installed: wall clocks stay as they are", file=sys.stderr)
    islands = island.possible()
    if not islands:
        print("no network namespaces here: nobody is cut off without a FIN", file=sys.stderr)
    report, began = Report(), time.monotonic()
    try:
        while not report.rounds or time.monotonic() < began + options.seconds:
            folder = Path(tempfile.mkdtemp(prefix=f"chaos-{seed}-"))
            one = asyncio.run(play(seed, options.round, options.per_second, folder, preload=preload, islands=islands))
            report.add(one)
            print_round(one, folder)
            if not one.findings.broken and not options.keep:
                shutil.rmtree(folder)
            seed += 1
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
    report.seconds = time.monotonic() - began
    print_report(report)
    if options.json:
        Path(options.json).write_text(json.dumps(msgspec.to_builtins(report), indent=1) + "\n")
    return 1 if report.broken else 0


if __name__ == "__main__":
    raise SystemExit(main())
