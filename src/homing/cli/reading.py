"""What all commands share that read a configuration: `--config`, `--json`, and how problems are printed."""

import json
import sys
from collections.abc import Callable, Iterable
from typing import TypeVar

import click
import msgspec

from homing import config
from homing.config import Config, Problem, Reading, Role

EXIT_CONFIGURATION = 2

Command = TypeVar("Command", bound=Callable[..., object])


def config_option(command: Command) -> Command:
    """Adds `--config`; the command gets `config_path`."""
    return click.option(
        "--config",
        "config_path",
        metavar="FILE",
        envvar="HOMING_CONFIG",
        default=config.CONFIG_NAME,
        show_default=True,
        show_envvar=True,
        help="The configuration.",
    )(command)


def json_option(command: Command) -> Command:
    """Adds `--json`; the command gets `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")(command)


def print_json(value: object) -> None:
    """JSON for programs, in UTF-8 whatever the terminal speaks. A path may hold what is no UTF-8: that is escaped."""
    try:
        text = msgspec.json.format(msgspec.json.encode(value))
    except UnicodeEncodeError:
        text = json.dumps(msgspec.to_builtins(value), indent=2).encode()
    click.echo(text)


def read_or_exit(path: str, *, listen: str | None = None, role: Role | None = None) -> tuple[Config, Reading]:
    """The configuration, for a `role` or for all. With mistakes in it they are printed to stderr, and the process exits with 2.

    Warnings are for `check` to tell.
    """
    reading = config.read(path, listen=listen, role=role)
    if reading.config is None:
        print_problems((problem for problem in reading.problems if not problem.warning), err=True)
        raise SystemExit(EXIT_CONFIGURATION)
    return reading.config, reading


def print_problems(problems: Iterable[Problem], *, err: bool = False) -> None:
    """One paragraph each, in colour on a terminal."""
    coloured = (sys.stderr if err else sys.stdout).isatty() and None
    for problem in problems:
        click.echo(styled(problem) + "\n", err=err, color=coloured)


def styled(problem: Problem) -> str:
    """A problem as a line for people; without the colours it is `str(problem)`."""
    parts = [click.style(problem.file, bold=True)]
    if problem.path:
        parts.append(click.style(problem.path, fg="cyan"))
    if problem.warning:
        parts.append(click.style("warning", fg="yellow"))
    return ": ".join([*parts, problem.message])
