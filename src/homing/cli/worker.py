"""`homing worker`: a process that does the work, by asking providers, or in Python."""

import click
from msgspec.structs import replace

from homing.cli.reading import config_option, read_or_exit
from homing.cli.running import admin_of, broker_option, dials_of, refuse, run_role, supervised_options
from homing.cli.worker_target import config_of, run_target
from homing.roles.machines import asked_methods, shared
from homing.roles.plans import Placing, worker_plan
from homing.workers import COUNT_MAX


@click.command(short_help="Run a worker: it asks the providers, or calls Python functions.")
@click.argument("target", required=False)
@config_option
@broker_option
@click.option("--services", metavar="A,B", help="Overrides worker.services.")
@click.option("--admin", metavar="HOST:PORT", help="Overrides worker.admin.")
@click.option("--credit", type=click.IntRange(1, COUNT_MAX), help="Of a TARGET: how many calls it takes at once.")
@click.option("--processes", type=click.IntRange(1, COUNT_MAX), help="Of a TARGET: how many there are for plain functions.")
@supervised_options
@click.pass_context
def command(
    context: click.Context,
    target: str | None,
    config_path: str,
    brokers: tuple[str, ...],
    services: str | None,
    admin: str | None,
    credit: int | None,
    processes: int | None,
    share: int,
    parent_fd: int | None,
) -> None:
    """Run a worker. It dials the brokers, offers services, and asks their providers for what it is granted.

    With TARGET, such as reports:worker, it offers the functions of that homing.Worker in reports.py, and needs no configuration.

    SIGTERM drains: nothing new is taken, running calls end, and their outcomes are seen before it leaves.

    \b
    Examples:
      homing worker --broker tcp://127.0.0.1:8372 --services acme
      homing worker reports:worker --broker tcp://127.0.0.1:8372
    """
    address = admin_of(admin)
    if target is not None:
        if services is not None:
            raise click.UsageError("--services is for workers that ask providers; the service of TARGET is its name.")
        config = config_of(context, config_path)
        dials = dials_of(brokers, config.worker.brokers, config.worker.curve, insecure=config.worker.insecure, section="worker")
        run_target(config, target, Placing(dials=dials, admin=address), credit=credit, processes=processes)
        return
    if credit is not None or processes is not None:
        raise click.UsageError("--credit and --processes are for a TARGET; worker.credit and in_flight_max are for providers.")
    config, reading = read_or_exit(config_path, role="worker")
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
