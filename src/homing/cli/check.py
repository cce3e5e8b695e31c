"""`homing check`: every mistake in the configuration in one run, and what is legal but unwise."""

import click

from homing import config
from homing.cli.reading import EXIT_CONFIGURATION, config_option, json_option, print_json, print_problems
from homing.config import Reading


@click.command(
    "check",
    short_help="Find every mistake in the configuration, and what is unwise.",
    epilog="Example: homing check --config staging.toml --json",
)
@config_option
@json_option
def command(config_path: str, as_json: bool) -> None:
    """Find every mistake in the configuration, and what is unwise.

    All mistakes are told in one run; only a TOML syntax error hides what stands behind it. Warnings tell what is legal but unwise,
    and do not change the exit code: 0 if homing can run with this configuration, 2 if not.
    """
    reading = config.read(config_path)
    if as_json:
        found = {"config": config_path, "ok": reading.config is not None, "problems": reading.problems}
        print_json(found)
    else:
        print_problems(reading.problems)
        click.echo(_summary(reading, config_path))
    if reading.config is None:
        raise SystemExit(EXIT_CONFIGURATION)


def _summary(reading: Reading, path: str) -> str:
    warnings = sum(problem.warning for problem in reading.problems)
    mistakes = len(reading.problems) - warnings
    counted = [_count(mistakes, "mistake") if mistakes else click.style("no mistakes", fg="green")]
    if warnings:
        counted.append(_count(warnings, "warning"))
    held = ""
    if reading.config is not None:
        parts = (
            _count(len(reading.config.methods), "method"),
            _count(len(reading.config.providers), "provider"),
            _count(len(reading.config.principals), "principal"),
        )
        held = f"; {', '.join(parts)}"
    return f"{path}: {', '.join(counted)}{held}"


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
