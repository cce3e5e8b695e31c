"""`homing worker`: a process that does the work, by asking providers, or in Python."""

import click
from msgspec.structs import replace

from homing.cli.reading import config_option, read_or_exit
from homing.cli.running import admin_of, broker_option, dials_of, refuse, run_role, supervised_options
from homing.roles.machines import asked_methods, shared
from homing.roles.plans import Placing, worker_plan


@click.command(short_help="Run a worker: it asks the providers.")
@config_option
@broker_option
@click.option("--services", metavar="A,B", help="Overrides worker.services.")
@click.option("--admin", metavar="HOST:PORT", help="Overrides worker.admin.")
@supervised_options
def command(
    config_path: str,
    brokers: tuple[str, ...],
    services: str | None,
    admin: str | None,
    share: int,
    parent_fd: int | None,
) -> None:
    """Run a worker. It dials the brokers, offers services, and asks their providers for what it is granted.

    SIGTERM drains: nothing new is taken, running calls end, and their outcomes are seen before it leaves.

    \b
    Example:
      homing worker --broker tcp://127.0.0.1:8372 --services acme
    """
    address = admin_of(admin)
    config, reading = read_or_exit(config_path)
    if services is not None:
        named = tuple(name.strip() for name in services.split(",") if name.strip())
        config = replace(config, worker=replace(config.worker, services=named))
    table = config.worker
    dials = dials_of(brokers, table.brokers, table.curve, insecure=table.insecure, section="worker")
    known = {method.service for method in asked_methods(reading.methods).values()}
    for service in table.services:
        if service not in known:
            refuse(f'no method with a provider has the service "{service}"; those here are {", ".join(sorted(known)) or "none"}')
    if not known:
        refuse("there is nothing to serve: no method has a provider")
    placing = Placing(dials=dials, admin=address, parent_fd=parent_fd)
    config = shared(config, share)
    run_role(config, reading.methods, lambda: worker_plan(config, placing))
