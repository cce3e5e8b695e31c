"""What is said of one round, and of all of them."""

from collections import Counter
from pathlib import Path

import msgspec

from chaos.rounds import Round


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
    shapes: Counter[str] = msgspec.field(default_factory=Counter)  # rounds of each kind
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
        self.shapes[one.shape.kind] += 1
        self.broken += [f"seed {one.seed} ({one.shape.kind}): {wrong}" for wrong in one.findings.broken]


def print_round(one: Round, folder: Path) -> None:
    """One line, and what was broken."""
    found = one.findings
    print(
        f"seed {one.seed:<7} {one.shape}  {found.calls} calls  "
        f"{sum(one.faults.values())} faults  healed in {one.healed_s:4.1f} s  "
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
    print("rounds: " + ", ".join(f"{kind} {count}" for kind, count in report.shapes.most_common()))
    print("faults: " + ", ".join(f"{name} {count}" for name, count in report.faults.most_common()))
    for name, count in report.answers.most_common():
        print(f"  {count:8}  {count / max(1, report.calls):7.2%}  {name}")
    share, by_faults = (count / max(1, report.calls) for count in (report.unknown, report.unknown_by_faults))
    print(f"left unknown: {share:.2%} of the callers, {by_faults:.2%} where the provider had done its part")
    print("every promise was kept" if not report.broken else f"{len(report.broken)} promises were BROKEN")
