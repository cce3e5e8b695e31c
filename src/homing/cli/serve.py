"""`homing serve`: gateway, broker and worker, in one process or several."""

import click
from msgspec.structs import replace

from homing.cli.reading import config_option, read_or_exit
from homing.cli.running import admin_of, refuse, run, run_role
from homing.config import Config
from homing.forms import Address
from homing.roles.plans import Placing, serve_plan
from homing.roles.processes import Numbers, run_processes


@click.command(short_help="Run gateway, broker and worker, in one process or several.")
@config_option
@click.option("--listen", metavar="HOST:PORT", help="Overrides HOMING_LISTEN and gateway.listen.")
@click.option("--admin", metavar="HOST:PORT", help="Overrides admin.listen.")
@click.option("--processes", metavar="N", type=click.IntRange(1), help="N gateways, a broker and as many workers, supervised.")
@click.option("--workers", metavar="M", type=click.IntRange(0), help="With --processes: another number of workers.")
def command(config_path: str, listen: str | None, admin: str | None, processes: int | None, workers: int | None) -> None:
    """Run gateway, broker and worker, in one process if nothing else is said. SIGTERM drains: running calls end, new ones are refused.

    With --processes each is a process of its own, under one that restarts what dies. There SIGHUP replaces all of them, one after the
    other, with the configuration as it is then, and SIGUSR2 also the program; callers notice neither.

    \b
    Example:
      homing serve --config homing.toml --listen 127.0.0.1:8370
      homing serve --processes 2
    """
    if processes is not None:
        numbers = Numbers(processes, processes if workers is None else workers)
        config, _ = read_or_exit(config_path, listen=listen)
        config = _with_admin(config, admin_of(admin))
        run(lambda log: run_processes(config, config_path, numbers, log))
        return
    if workers is not None:
        refuse("--workers says how many there are beside the gateways of --processes, and that is missing")
    placing = Placing(admin=admin_of(admin))
    config, reading = read_or_exit(config_path, listen=listen)
    run_role(config, reading.methods, lambda: serve_plan(config, placing))


def _with_admin(config: Config, admin: Address | str | None) -> Config:
    if isinstance(admin, str):
        raise click.BadParameter("expected HOST:PORT", param_hint="--admin")
    return config if admin is None else replace(config, admin=replace(config.admin, listen=admin))
