"""The figures as a chart and as the README's table."""

import textwrap
from collections.abc import Sequence
from html import escape
from pathlib import Path

from bench.load import Held, Measure

WIDTH, BAR, GAP, LEFT, RIGHT = 760, 22, 8, 190, 110
COLORS = {"homing": "#0f766e"}
BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"


def rates(measures: Sequence[Measure]) -> str:
    """Calls a second at 64 connections, a bar each, as SVG."""
    shown = sorted((each for each in measures if each.connections == 64), key=lambda each: -each.calls_per_s)
    most = max(each.calls_per_s for each in shown)
    height = 64 + len(shown) * (BAR + GAP) + 22
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img"'
            ' font-family="system-ui, sans-serif" font-size="13">'
        ),
        "<title>Calls a second at 64 connections, one core</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        '<text x="16" y="26" font-size="16" font-weight="600" fill="#111827">Calls a second at 64 connections, one core</text>',
        '<text x="16" y="45" fill="#4b5563">The provider is an nginx that answers at once. More is better.</text>',
    ]
    for index, each in enumerate(shown):
        top = 62 + index * (BAR + GAP)
        width = max(2.0, each.calls_per_s / most * (WIDTH - LEFT - RIGHT))
        color = COLORS.get(each.program, "#9ca3af")
        weight = "600" if each.program == "homing" else "400"
        middle = top + BAR * 0.7
        parts += [
            f'<text x="{LEFT - 10}" y="{middle:.1f}" text-anchor="end" font-weight="{weight}" fill="#111827">{escape(each.program)}</text>',
            f'<rect x="{LEFT}" y="{top}" width="{width:.1f}" height="{BAR}" rx="3" fill="{color}"/>',
            f'<text x="{LEFT + width + 8:.1f}" y="{middle:.1f}" font-weight="{weight}" fill="#111827">{each.calls_per_s:,.0f}</text>',
        ]
    return "\n".join([*parts, "</svg>", ""])


def table(measures: Sequence[Measure], held: Sequence[Held], ratios: dict[str, float], machine: str) -> str:
    """The README's table."""
    rate = {(each.program, each.connections): each for each in measures}
    memory = {each.program: each for each in held}
    names = list(dict.fromkeys(each.program for each in measures if each.connections == 64))
    direct_ms = rate["the provider itself", 1].p50_ms
    lines = [
        "| | calls/s | CPU µs a call | p50 / p99 ms at 64 connections | ms added at one connection | KB a held call |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name in names:
        at_64, alone = rate[name, 64], rate[name, 1]
        kb = f"{memory[name].kb_per_call:.1f}" if name in memory else ""
        lines.append(
            f"| {name} | {at_64.calls_per_s:,.0f} | {at_64.cpu_us_per_call:.0f} | {at_64.p50_ms:.1f} / {at_64.p99_ms:.1f} "
            f"| {alone.p50_ms - direct_ms:.2f} | {kb} |"
        )
    summary = ", ".join(f"{value:g} {name}" for name, value in ratios.items() if name.startswith(("times", "share")))
    how = (
        f"Measured on {machine}: each program on one core, wrk and the provider, an nginx that answers at once, on the other; all in one run"
        f" of `make bench`. In ratios: {summary}. Ratios count, absolutes drift, and this machine was shared."
    )
    return "\n".join([*lines, "", *textwrap.wrap(how, 120)])


def fill_table(page: Path, measures: Sequence[Measure], held: Sequence[Held], ratios: dict[str, float], machine: str) -> None:
    """Put the table between its two marks, if the page has them."""
    if not page.exists() or BEGIN not in (text := page.read_text()):
        return
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    page.write_text(f"{before}{BEGIN}\n{table(measures, held, ratios, machine)}\n{END}{after}")
