"""`homing methods`: what callers can call."""

import click

from homing.cli.reading import config_option, json_option, print_json, read_or_exit
from homing.references import MASK, Referred
from homing.units import format_duration

COLUMNS = ("METHOD", "ASKS", "EFFECT", "DEADLINE", "SUMMARY")


@click.command("methods", short_help="List the methods.", epilog="Example: homing methods --json | jq '.[].name'")
@config_option
@click.option("--broker", metavar="URL", help="List instead what the workers of a broker offer; several with commas between.")
@click.option("--curve", metavar="FILE", help="To a broker: your keys, as `homing keys curve NAME` wrote them.")
@click.option("--broker-key", metavar="KEY", help="To a broker: its public key.")
@click.option("--insecure", is_flag=True, help="To a broker on another machine without CURVE: anybody may read and forge it.")
@json_option
def command(
    config_path: str, broker: str | None, curve: str | None, broker_key: str | None, insecure: bool, as_json: bool
) -> None:
    """List the methods: whom they ask, their effect and their deadline. With --broker, those that workers brought along."""
    if broker is not None:
        from homing.cli.methods_offered import list_offered

        list_offered(broker, curve, broker_key, insecure=insecure, as_json=as_json)
        return
    config, _ = read_or_exit(config_path)
    listed: list[dict[str, object]] = []
    for name, method in sorted(config.methods.items()):
        listed.append(
            {
                "name": name,
                "provider": method.provider,
                "service": method.service or method.provider,
                "effect": method.effect,
                "deadline_s": method.deadline or config.gateway.deadline.default,
                "summary": MASK if isinstance(method.summary, Referred) else method.summary,
            }
        )
    if as_json:
        print_json(listed)
    elif not listed:
        click.echo(f"{config_path} has no methods yet", err=True)
    else:
        print_table(listed)


def print_table(listed: list[dict[str, object]]) -> None:
    """A line for each method: name, whom it asks, effect, deadline, summary. Deadlines of None are whatever the gateway grants."""
    rows = [
        (
            str(one["name"]),
            str(one["provider"] or f"service {one['service']}"),
            str(one["effect"]),
            "" if one["deadline_s"] is None else format_duration(float(str(one["deadline_s"]))),
            str(one["summary"]),
        )
        for one in listed
    ]
    widths = [max(len(row[column]) for row in (COLUMNS, *rows)) for column in range(len(COLUMNS))]
    for index, row in enumerate((COLUMNS, *rows)):
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        click.echo(click.style(line, bold=True) if index == 0 else line)
