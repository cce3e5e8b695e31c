"""`homing serve`: gateway, broker and worker in one process."""

import asyncio
import errno
import gc
import logging
from collections.abc import Callable, Coroutine

import click
from msgspec.structs import replace

from homing.cli.reading import config_option, read_or_exit
from homing.config import Config
from homing.core.methods import Method
from homing.forms import parse_address
from homing.roles.serve import new_loop, serve
from homing.telemetry import Log, LogHandler, to_stderr

EXIT_CONFIGURATION = 2


def run(main: Callable[[Log], Coroutine[object, object, None]]) -> None:
    """Run a process to its end, with its log. An address that cannot be had exits with 2 and says which."""
    log = to_stderr()
    logging.basicConfig(handlers=[LogHandler(log)], level=logging.WARNING, force=True)
    gc.freeze()  # what is loaded stays: the collector need not look at it again
    gc.set_threshold(50_000, 20, 100)  # calls are freed by their counts; walking thousands that wait finds nothing
    try:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(main(log))
    except OSError as error:
        if error.errno not in (errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES):
            raise
        log.close()
        click.echo(
            f"Cannot listen: {error.strerror or error}. Is another homing running? --listen and --admin take other addresses.",
            err=True,
        )
        raise SystemExit(EXIT_CONFIGURATION) from None
    finally:
        log.close()


@click.command(short_help="Run gateway, broker and worker in one process.")
@config_option
@click.option("--listen", metavar="HOST:PORT", envvar="HOMING_LISTEN", help="Overrides gateway.listen.")
@click.option("--admin", metavar="HOST:PORT", help="Overrides admin.listen.")
def command(config_path: str, listen: str | None, admin: str | None) -> None:
    """Run gateway, broker and worker in one process. SIGTERM drains: running calls end, new ones are refused.

    \b
    Example:
      homing serve --config homing.toml --listen 127.0.0.1:8370
    """
    config, reading = read_or_exit(config_path, listen=listen)
    if admin is not None:
        config = with_admin(config, admin)
    methods: dict[str, Method] = reading.methods
    run(lambda log: _serve(config, methods, log))


def with_admin(config: Config, address: str) -> Config:
    """The configuration with another admin listener. Raises BadParameter for what is no address."""
    try:
        listen = parse_address(address)
    except ValueError as error:
        raise click.BadParameter(f"{address!r}: {str(error) or 'expected HOST:PORT'}", param_hint="--admin") from None
    return replace(config, admin=replace(config.admin, listen=listen))


async def _serve(config: Config, methods: dict[str, Method], log: Log) -> None:
    await serve(config, methods, log)
