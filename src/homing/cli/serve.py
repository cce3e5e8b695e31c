"""`homing serve`: gateway, broker and worker in one process."""

import click

from homing.cli.reading import config_option, read_or_exit
from homing.cli.running import admin_of, run_role
from homing.roles.plans import Placing, serve_plan


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
    placing = Placing(admin=admin_of(admin))
    config, reading = read_or_exit(config_path, listen=listen)
    run_role(config, reading.methods, lambda: serve_plan(config, placing))
