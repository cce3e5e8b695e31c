"""`homing simulate`: the whole system on a virtual clock, broken in every way known, with every rule checked step by step."""

import contextlib
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator

import click
import msgspec

from homing.cli.reading import json_option
from homing.sim.invariants import RULES, Violation
from homing.sim.plan import Plan, draw
from homing.sim.story import Story
from homing.sim.world import Report, World

EXIT_BROKEN = 1
STORY_LINES = 60
RUN_CALLS_MAX = 1000  # in one run


class Sum(msgspec.Struct):
    """What several runs did together."""

    seeds: int = 0
    calls: int = 0
    steps: int = 0
    checks: int = 0
    simulated_s: float = 0.0
    took_s: float = 0.0
    answers: Counter[tuple[str, str]] = msgspec.field(default_factory=Counter)
    faults: Counter[str] = msgspec.field(default_factory=Counter)

    def add(self, report: Report) -> None:
        """One run more."""
        self.seeds += 1
        self.calls += report.calls
        self.steps += report.steps
        self.checks += report.checks
        self.simulated_s += report.simulated_s
        self.answers.update(report.answers)
        self.faults.update(report.faults)


@click.command(short_help="Run the whole system on a virtual clock and break it.")
@click.option(
    "--seed", metavar="N", type=int, default=7, show_default=True, help="The first seed; the same seed is the same run."
)
@click.option(
    "--seeds", metavar="N", type=click.IntRange(1), default=1, show_default=True, help="How many seeds, one after the other."
)
@click.option(
    "--calls",
    metavar="N",
    type=click.IntRange(1),
    default=1000,
    show_default=True,
    help=f"Calls for each seed; every {RUN_CALLS_MAX} take a seed. Those of callers who ask again come on top, and a few after healing.",
)
@json_option
def command(seed: int, seeds: int, calls: int, as_json: bool) -> None:
    """Gateways, brokers, workers, callers and a provider with a ledger, in virtual time, from one seed: crashes, losses, delays,
    partitions, stalls and bad providers, then healing. After every step the rules must hold. Exits with 1 if one did not.

    \b
    Example:
      homing simulate --seed 7 --calls 100000
    """
    total, began = Sum(), time.monotonic()
    done = 0
    with _progress(seeds * calls) as told:
        for plan in plans(seed, seeds, calls):
            try:
                total.add(World(plan, progress=_from(told, done)).run())
            except Violation as violation:
                broken(plan, violation)
                raise SystemExit(EXIT_BROKEN) from None
            done += plan.calls
    total.took_s = time.monotonic() - began
    click.echo(msgspec.json.encode(_plain(total)).decode() if as_json else in_words(total))


def plans(seed: int, seeds: int, calls: int) -> Iterator[Plan]:
    """A plan for each run. More than `RUN_CALLS_MAX` calls are several seeds: each draws its own kinds of fault."""
    sizes = [RUN_CALLS_MAX] * (calls // RUN_CALLS_MAX) + [calls % RUN_CALLS_MAX] * bool(calls % RUN_CALLS_MAX)
    for number, size in enumerate(sizes * seeds):
        yield draw(seed + number, size)


def broken(plan: Plan, violation: Violation) -> None:
    """Say which rule did not hold, how to see it again, and what had happened to the call."""
    story = Story(violation.call_id, STORY_LINES)
    with contextlib.suppress(Violation):  # the same run again, watched
        World(plan, story=story).run()
    click.echo(f"seed {plan.seed}: {violation.rule} is broken: {violation.what}", err=True)
    click.echo(f"  the rule   {RULES.get(violation.rule, violation.rule)}", err=True)
    click.echo(f"  again      homing simulate --seed {plan.seed} --calls {plan.calls}\n", err=True)
    for line in story.lines():
        click.echo(f"  {line}", err=True)


def in_words(total: Sum) -> str:
    """For people."""
    kinds: Counter[str] = Counter()
    lines = [f"{total.calls:,} calls of {total.seeds:,} {'seed' if total.seeds == 1 else 'seeds'}", "", "answers"]
    for (reason, executed), count in total.answers.most_common():
        lines.append(f"  {reason:24} executed: {executed:8} {count:12,}")
        kinds["ok" if reason == "ok" else executed] += count
    lines += ["", "faults"]
    lines += [f"  {fault:42} {count:12,}" for fault, count in total.faults.most_common()] or ["  none"]
    rate = total.calls / total.took_s if total.took_s else 0.0
    return "\n".join(
        [
            *lines,
            "",
            f"{len(RULES)} invariants held over {total.steps:,} steps, looked at {total.checks:,} times",
            f"{total.simulated_s:,.0f} s simulated in {total.took_s:.1f} s, {rate:,.0f} calls a second",
        ]
    )


def _plain(total: Sum) -> dict[str, object]:
    answers = [
        {"reason": reason, "executed": executed, "calls": count} for (reason, executed), count in total.answers.most_common()
    ]
    return {**msgspec.structs.asdict(total), "answers": answers, "faults": dict(total.faults), "invariants": len(RULES)}


def _from(told: Callable[[int], None], before: int) -> Callable[[int], None]:
    return lambda done: told(before + done)


@contextlib.contextmanager
def _progress(calls: int) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, silence elsewhere."""
    if not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("simulating"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("", total=calls)
        yield lambda done: progress.update(bar, completed=done)
