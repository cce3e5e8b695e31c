"""`homing serve`: gateway, broker and worker in one process."""

import asyncio
import errno
import gc
import logging
from collections.abc import Callable, Coroutine

import click

from homing.cli.reading import config_option, read_or_exit
from homing.config import Config
from homing.core.methods import Method
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
            f"Cannot listen: {error.strerror or error}. Is another homing running? --listen takes another address.", err=True
        )
        raise SystemExit(EXIT_CONFIGURATION) from None
    finally:
        log.close()


@click.command(short_help="Run gateway, broker and worker in one process.")
@config_option
@click.option("--listen", metavar="HOST:PORT", envvar="HOMING_LISTEN", help="Overrides gateway.listen.")
def command(config_path: str, listen: str | None) -> None:
    """Run gateway, broker and worker in one process. SIGTERM drains: running calls end, new ones are refused.

    \b
    Example:
      homing serve --config homing.toml --listen 127.0.0.1:8370
    """
    config, reading = read_or_exit(config_path, listen=listen)
    methods: dict[str, Method] = reading.methods
    run(lambda log: _serve(config, methods, log))


async def _serve(config: Config, methods: dict[str, Method], log: Log) -> None:
    await serve(config, methods, log)
