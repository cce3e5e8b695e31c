"""`homing broker`: a process with the queues between gateways and workers."""

import click
from msgspec.structs import replace

from homing import checks
from homing.cli.reading import config_option, read_or_exit
from homing.cli.running import admin_of, endpoint_of, opened_of, opened_option, refuse, run_role, supervised_options
from homing.forms import SOCKET_ADDRESS
from homing.roles.plans import Placing, broker_plan


@click.command(short_help="Run a broker: queues between gateways and workers.")
@config_option
@click.option("--listen", "listens", metavar="URL", multiple=True, help="Overrides broker.listen; may be said again.")
@click.option("--admin", metavar="HOST:PORT", help="Overrides broker.admin.")
@opened_option
@supervised_options
def command(
    config_path: str,
    listens: tuple[str, ...],
    admin: str | None,
    opened: tuple[str, ...],
    share: int,
    parent_fd: int | None,
) -> None:
    """Run a broker. Gateways and workers dial it, and it keeps no truth: one that is restarted costs a pause and no call.

    SIGTERM ends it at once.

    \b
    Example:
      homing broker --listen tcp://127.0.0.1:8372
    """
    address = admin_of(admin)
    given = tuple(endpoint_of(text, SOCKET_ADDRESS, "--listen") for text in listens)
    config, reading = read_or_exit(config_path, role="broker")
    table = config.broker
    endpoints = given or ((table.listen,) if table.listen else ())
    if not endpoints:
        refuse('nobody could reach it; say --listen tcp://HOST:PORT, or listen = "tcp://HOST:PORT" in [broker]')
    for endpoint in endpoints:
        if (why := checks.exposed(replace(table, listen=endpoint))) is not None:
            refuse(why)
    placing = Placing(listens=endpoints, admin=address, opened=opened_of(opened), parent_fd=parent_fd)
    run_role(config, reading.methods, lambda: broker_plan(config, placing))
