"""One round: load and faults, then healing, then the reckoning."""

import asyncio
import random
import time
from pathlib import Path

import msgspec

from chaos.callers import Callers
from chaos.faults import Faults
from chaos.history import Entry, Findings, check, noticed
from chaos.ports import PortTaken
from chaos.shapes import Shape
from chaos.stage import LOOK_EVERY_S, Stage

STARTS_MAX = 5
LATE_S = 1.0  # on a machine that is shared, an answer may be this late on its way back
HEALED_S = 30.0
REST_S = 45.0
METHODS = {"bank": ("bank.once", "bank.keyed", "bank.safe"), "desk": ("desk.once", "desk.keyed_apart", "desk.safe")}


class Round(msgspec.Struct):
    """What came of one seed."""

    seed: int
    shape: Shape
    faults: dict[str, int]
    findings: Findings
    healed_s: float = 0.0


async def play(
    seed: int, shape: Shape, seconds: float, per_s: float, folder: Path, *, preload: str = "", late_s: float = LATE_S
) -> Round:
    """One round: load and faults, then healing, then the reckoning."""
    stage = await staged(folder, shape, preload=preload)
    began = time.monotonic()
    with (folder / "faults.log").open("w", buffering=1) as log:
        try:
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
            healed_s, wrongs = await heal(callers)
            await callers.settled()
            await asyncio.sleep(LOOK_EVERY_S * 2)  # so that the last pause is seen
            watching.cancel()
            callers.excuse()
            wrongs += await rest(stage)
            await callers.close()
            await asyncio.sleep(1.5)  # a request that was written late must be in the ledger before it is read
            wrongs += await stage.close()
        finally:
            await stage.kill()
    entries = [msgspec.json.decode(line, type=Entry) for line in stage.ledger.read_bytes().splitlines()]
    (folder / "calls.jsonl").write_bytes(b"".join(msgspec.json.encode(call) + b"\n" for call in callers.calls))
    findings = check(callers.calls, entries, late_s=late_s)
    findings.broken += faults.wrongs + wrongs
    if shape.calm:
        findings.broken += [f"nothing was amiss, and yet: {what}" for what in noticed(callers.calls)]
    return Round(seed, shape, dict(faults.counts), findings, healed_s)


async def staged(folder: Path, shape: Shape, *, preload: str = "") -> Stage:
    """All of it started. Whose port somebody else has taken meanwhile is given another one."""
    for starts_left in reversed(range(STARTS_MAX)):
        stage = Stage(folder, shape, preload=preload)
        try:
            await stage.start()
        except BaseException as error:
            await stage.kill()
            if not isinstance(error, PortTaken) or not starts_left:
                raise
        else:
            return stage
    raise AssertionError("the last one is returned or raised")


async def heal(callers: Callers) -> tuple[float, list[str]]:
    """Nothing is broken any more: soon every method must succeed through every door, and then no table holds anything."""
    began = time.monotonic()
    wanting = [(door, method) for door in callers.doors for service in callers.services for method in METHODS[service]]
    while wanting and time.monotonic() < began + HEALED_S:
        probes = [callers.probe(method, door, 3.0) for door, method in wanting]
        await callers.settled()
        await asyncio.sleep(0.2)
        wanting = [pair for pair, probe in zip(wanting, probes, strict=True) if probe.heard != "ok"]
    return time.monotonic() - began, [f"{method} does not succeed again by {door.name}" for door, method in wanting]


async def rest(stage: Stage) -> list[str]:
    """Nobody calls any more: every table must become empty, at the latest when the last exchange's time is up."""
    began = time.monotonic()
    while left := await stage.left():
        if time.monotonic() > began + REST_S:
            return [f"after {REST_S:g} s without a call {what}" for what in left]
        await asyncio.sleep(0.5)
    return []
