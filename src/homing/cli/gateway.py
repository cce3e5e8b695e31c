"""`homing gateway`: a process where callers come in, and whose calls go to brokers."""

import click

from homing.cli.reading import config_option, read_or_exit
from homing.cli.running import admin_of, broker_option, dials_of, opened_of, opened_option, run_role, supervised_options
from homing.roles.machines import shared
from homing.roles.plans import Placing, gateway_plan


@click.command(short_help="Run a gateway: callers come in, brokers get their calls.")
@config_option
@click.option("--listen", metavar="HOST:PORT", help="Overrides HOMING_LISTEN and gateway.listen.")
@click.option("--admin", metavar="HOST:PORT", help="Overrides admin.listen.")
@broker_option
@click.option("--listen-fd", "listen_fds", type=int, multiple=True, hidden=True, help="A listening socket, inherited.")
@opened_option
@supervised_options
def command(
    config_path: str,
    listen: str | None,
    admin: str | None,
    brokers: tuple[str, ...],
    listen_fds: tuple[int, ...],
    opened: tuple[str, ...],
    share: int,
    parent_fd: int | None,
) -> None:
    """Run a gateway. It takes callers, owns their calls, and gives these to brokers; workers do the rest.

    SIGTERM drains: running calls end, new ones are refused. With several brokers a call goes to the one with the fewest, and on to
    another if that one is lost.

    \b
    Example:
      homing gateway --broker tcp://127.0.0.1:8372
    """
    address = admin_of(admin)
    config, reading = read_or_exit(config_path, listen=listen, role="gateway")
    table = config.gateway
    dials = dials_of(brokers, table.brokers, table.curve, insecure=table.insecure, section="gateway")
    placing = Placing(dials=dials, admin=address, listen_fds=listen_fds, opened=opened_of(opened), parent_fd=parent_fd)
    config = shared(config, share)
    run_role(config, reading.methods, lambda: gateway_plan(config, placing))
