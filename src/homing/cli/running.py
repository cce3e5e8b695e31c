"""What the commands share that run a process: its loop, its log, its options, and what they say if it cannot start."""

import gc
import resource
from collections.abc import Callable, Coroutine
from typing import NoReturn, TypeVar

import click

from homing.checks import plaintext
from homing.cli.reading import EXIT_CONFIGURATION
from homing.config import Config
from homing.core.methods import Method
from homing.forms import ENDPOINT, NOWHERE, Address, Form, parse_address
from homing.roles.plans import run_plan
from homing.roles.process import Plan, Unbound, run_to_its_end
from homing.roles.python_log import take_logging
from homing.settings import DialCurve
from homing.telemetry import Log, LogHandler, to_stderr

UNIX = "unix:"

Command = TypeVar("Command", bound=Callable[..., object])


def run(main: Callable[[Log], Coroutine[object, object, None]]) -> None:
    """Run a process to its end, with its log. An address that cannot be had exits with 2 and says which."""
    log = to_stderr()
    take_logging(LogHandler(log))
    _, files_max = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files_max, files_max))  # a held call is two sockets, and 1,024 are soon used up
    gc.freeze()  # what is loaded stays: the collector need not look at it again
    gc.set_threshold(50_000, 20, 100)  # calls are freed by their counts; walking thousands that wait finds nothing
    try:
        run_to_its_end(main(log))
    except Unbound as error:
        log.close()
        refuse(error.strerror or str(error))
    finally:
        log.close()


def run_role(config: Config, methods: dict[str, Method], plan: Callable[[], Plan]) -> None:
    """Run a role to its end. A key file that is none exits with 2."""
    try:
        made = plan()
    except ValueError as error:
        refuse(str(error))
    else:
        run(lambda log: run_plan(config, methods, made, log))


def refuse(why: str) -> NoReturn:
    """Say why not, and exit with 2."""
    begins = why[:1] if "://" in why.partition(" ")[0] else why[:1].upper()
    click.echo(f"{begins}{why[1:]}.", err=True)
    raise SystemExit(EXIT_CONFIGURATION)


def broker_option(command: Command) -> Command:
    """Adds `--broker`; the command gets `brokers`."""
    return click.option(
        "--broker", "brokers", metavar="URL", multiple=True, help="A broker; may be said again. Overrides brokers."
    )(command)


def supervised_options(command: Command) -> Command:
    """Adds what only a supervisor says; the command gets `share` and `parent_fd`."""
    command = click.option("--share", type=click.IntRange(1), default=1, hidden=True, help="One of N: limits are divided.")(
        command
    )
    return click.option("--parent-fd", type=int, hidden=True, help="A pipe; leave when it ends.")(command)


def opened_option(command: Command) -> Command:
    """Adds `--opened`, which only a supervisor says; the command gets `opened`."""
    return click.option("--opened", multiple=True, hidden=True, help="ENDPOINT=FD: a listening socket, inherited.")(command)


def opened_of(given: tuple[str, ...]) -> tuple[tuple[str, int], ...]:
    """`--opened`: sockets by endpoint. Raises BadParameter."""
    found = []
    for text in given:
        endpoint, _, fd = text.rpartition("=")
        if not endpoint or not fd.isdecimal():
            raise click.BadParameter(f"{text!r}: expected ENDPOINT=FD", param_hint="--opened")
        found.append((endpoint, int(fd)))
    return tuple(found)


def dials_of(
    given: tuple[str, ...], configured: tuple[str, ...], keys: DialCurve, *, insecure: bool, section: str
) -> tuple[str, ...]:
    """The brokers to dial, each once. What is no endpoint, may not be dialled, or is none at all exits with 2."""
    endpoints = tuple(dict.fromkeys([endpoint_of(text, ENDPOINT, "--broker") for text in given] or configured))
    if not endpoints:
        refuse(f'there is no broker to reach; say --broker tcp://HOST:PORT, or brokers = ["tcp://HOST:PORT"] in [{section}]')
    for endpoint in endpoints:
        if (why := plaintext(endpoint, keys, insecure)) is not None:
            refuse(why)
    return endpoints


def endpoint_of(text: str, form: Form, option: str) -> str:
    """An endpoint on the command line. Raises BadParameter."""
    try:
        return str(form.parse(text, NOWHERE))
    except ValueError as error:
        raise click.BadParameter(f"{text!r}: expected {form.expected}{_because(error)}", param_hint=option) from None


def admin_of(text: str | None) -> Address | str | None:
    """`--admin`: HOST:PORT, or, for a supervisor, unix:PATH. Raises BadParameter."""
    if text is None:
        return None
    if text.startswith(UNIX):
        return text.removeprefix(UNIX)
    try:
        return parse_address(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r}: {str(error) or 'expected HOST:PORT'}", param_hint="--admin") from None


def _because(error: ValueError) -> str:
    return f": {error}" if str(error) else ""
