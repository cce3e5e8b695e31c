"""The figures as charts and as the README's tables."""

import textwrap
from collections.abc import Sequence
from html import escape
from pathlib import Path

from bench.brokers import IN_FLIGHT, Echo
from bench.load import Held, Measure
from bench.programs import CONNECTIONS
from bench.queued import Queued
from bench.recovery import Recovery

WIDTH, BAR, GAP, LEFT, RIGHT = 760, 22, 8, 230, 110
OURS, OTHERS = "#0f766e", "#9ca3af"
PEERS = (
    "times FastAPI + aiohttp",
    "times less CPU than FastAPI + aiohttp",
    "times FastAPI + httpx",
    "share of nginx as a plain proxy",
)
WHO = ("broker", "worker", "client")
BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"


def rates(measures: Sequence[Measure]) -> str:
    """Calls a second at 64 connections, a bar each, as SVG."""
    bars = [(each.program, each.calls_per_s) for each in measures if each.connections == 64]
    return _bars(
        "Calls a second at 64 connections, one core", "The provider is an nginx that answers at once. More is better.", bars
    )


def echoes(measures: Sequence[Echo]) -> str:
    """Calls a second at 100 in flight, a bar each, as SVG."""
    bars = [(each.program, each.calls_per_s) for each in measures if each.in_flight == 100]
    return _bars(
        "Calls a second, 100 in flight, 200 bytes and back", "Clients, brokers and workers share all cores. More is better.", bars
    )


def _bars(title: str, said: str, bars: Sequence[tuple[str, float]]) -> str:
    shown = sorted(bars, key=lambda bar: -bar[1])
    most = max(value for _, value in shown)
    height = 64 + len(shown) * (BAR + GAP) + 22
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img"'
            ' font-family="system-ui, sans-serif" font-size="13">'
        ),
        f"<title>{title}</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="16" y="26" font-size="16" font-weight="600" fill="#111827">{title}</text>',
        f'<text x="16" y="45" fill="#4b5563">{said}</text>',
    ]
    for index, (name, value) in enumerate(shown):
        top = 62 + index * (BAR + GAP)
        width = max(2.0, value / most * (WIDTH - LEFT - RIGHT))
        ours = name.startswith("homing")
        color, weight = (OURS, "600") if ours else (OTHERS, "400")
        middle = top + BAR * 0.7
        parts += [
            f'<text x="{LEFT - 10}" y="{middle:.1f}" text-anchor="end" font-weight="{weight}" fill="#111827">{escape(name)}</text>',
            f'<rect x="{LEFT}" y="{top}" width="{width:.1f}" height="{BAR}" rx="3" fill="{color}"/>',
            f'<text x="{LEFT + width + 8:.1f}" y="{middle:.1f}" font-weight="{weight}" fill="#111827">{value:,.0f}</text>',
        ]
    return "\n".join([*parts, "</svg>", ""])


def table(measures: Sequence[Measure], held: Sequence[Held], ratios: dict[str, float], machine: str, loads: str) -> str:
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
    summary = ", ".join(f"{ratios[name]:g} {name}" for name in PEERS if name in ratios)
    how = (
        f"Measured on {machine}: each program on one core, wrk and the provider, an nginx that answers at once, on the other; all in one run"
        f" of `make bench`. In ratios: {summary}. Ratios count, absolutes drift: this machine was shared, {loads}."
    )
    return "\n".join([*lines, "", *textwrap.wrap(how, 120, break_on_hyphens=False)])


def many(measures: Sequence[Measure], after: Recovery | None) -> str:
    """One process and three, on the same cores, and how soon things go on after a kill."""
    rate = {(each.program, each.connections): each for each in measures}
    direct_ms = rate["the provider itself", 1].p50_ms
    names = list(dict.fromkeys(each.program for each in measures if each.connections == 64))
    lines = [
        "| all on the same cores, wrk and the provider too | calls/s at 1 / 64 / 512 connections | CPU µs a call at 64 | ms added at one |",
        "|---|---:|---:|---:|",
    ]
    for name in names:
        at = " / ".join(f"{rate[name, connections].calls_per_s:,.0f}" for connections in CONNECTIONS)
        lines.append(f"| {name} | {at} | {rate[name, 64].cpu_us_per_call:.0f} | {rate[name, 1].p50_ms - direct_ms:.2f} |")
    if after is None:
        return "\n".join(lines)
    cut = "" if after.worker_cut_off_told_s is None else f", behind a pulled cable after {after.worker_cut_off_told_s:.1f} s"
    said = (
        f"After a SIGKILL: the callers of a worker are told after {after.worker_killed_told_s:.2f} s{cut}; a broker that is started again"
        f" answers {after.broker_listens_answers_s:.2f} s after it listens, {after.broker_killed_answers_s:.1f} s after the kill; callers of"
        f" another gateway wait {after.gateway_killed_longest_s * 1000:.0f} ms at most, {after.gateway_killed_errors} errors."
    )
    return "\n".join([*lines, "", *textwrap.wrap(said, 120, break_on_hyphens=False)])


def brokers(measures: Sequence[Echo], queue: Queued | None, ratios: dict[str, float]) -> str:
    """Ask and answer through brokers."""
    rate = {(each.program, each.in_flight): each for each in measures}
    lines = [
        "| 200 bytes there and back | calls/s at 1 / 100 / 1,000 in flight | p50 ms at 1 / 100 | CPU µs a call at 100: broker, worker, client |",
        "|---|---:|---:|---:|",
    ]
    for name in dict.fromkeys(each.program for each in measures):
        alone, hundred = rate[name, 1], rate[name, 100]
        at = " / ".join(f"{rate[name, in_flight].calls_per_s:,.0f}" for in_flight in IN_FLIGHT)
        cpu = ", ".join(f"{hundred.cpu_us_per_call[who]:.0f}" if who in hundred.cpu_us_per_call else "–" for who in WHO)
        lines.append(f"| {name} | {at} | {alone.p50_ms:.2f} / {hundred.p50_ms:.1f} | {cpu} |")
    said = "Thin peers speak the wire and keep no promise: what they measure is the broker, through which four messages pass for each call, and a fifth for several at once."
    summary = ", ".join(f"{value:g} {name}" for name, value in ratios.items() if name not in PEERS and name.startswith("times"))
    said += f" In ratios at 100 in flight: {summary}."
    if queue is not None:
        said += f" A broker with {queue.calls:,} calls queued holds {queue.kb_per_call:.1f} KB for each."
    return "\n".join([*lines, "", *textwrap.wrap(said, 120, break_on_hyphens=False)])


def fill(page: Path, tables: Sequence[str]) -> None:
    """Put the tables between the page's two marks, if it has them."""
    if not page.exists() or BEGIN not in (text := page.read_text()):
        return
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    whole = "\n\n".join(tables)
    page.write_text(f"{before}{BEGIN}\n{whole}\n{END}{after}")
