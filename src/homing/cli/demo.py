"""`homing demo`: see it, without a configuration."""

import click
from msgspec.structs import replace

from homing.cli.running import admin_of, run
from homing.config import ConfigError
from homing.roles.demo import demo_config, start_demo
from homing.roles.serve import OneProcess
from homing.telemetry import Log

TRY = """\
  A call that comes home:
{echo}

  A call whose answer is lost on the way. The provider did it; the answer says `executed: unknown`, and never a lie:
{lost}

  The same accident with a lookup: homing asks the provider whether it happened, and brings the charge home:
{found}

  What the provider has really done:
{ledger}
"""


def curl(url: str, method: str, params: str) -> str:
    """A line worth pasting."""
    body = f'{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}'
    return f"    curl -sw '\\n' {url}/rpc -H 'Content-Type: application/json' -d '{body}'"


def words(process: OneProcess, provider_port: int) -> str:
    """What runs where, and what to paste."""
    listen, admin = process.config.gateway.listen, process.config.admin.listen
    url = f"http://{replace(listen, port=process.port)}"
    lines = TRY.format(
        echo=curl(url, "demo.echo", '{"text":"hello"}'),
        lost=curl(url, "demo.lost", '{"account":"a1","amount":1200}'),
        found=curl(url, "demo.found", '{"account":"a1","amount":1200}'),
        ledger=curl(url, "demo.ledger", "{}"),
    )
    return (
        f"\n  gateway    {url}\n"
        f"  admin      http://{replace(admin, port=process.admin_port)}/readyz?verbose\n"
        f"  provider   http://127.0.0.1:{provider_port} (the demo's own)\n\n"
        f"{lines}\n"
        "  Also demo.slow {seconds}, demo.flaky {failure_ratio}, demo.charge {account, amount}. Ctrl-C ends it.\n"
    )


async def demo(log: Log, listen: str | None, admin: str | None) -> None:
    """Runs until it is told to stop."""
    process, provider = await start_demo(log, listen=listen, admin=admin)
    process.heed_signals()
    click.echo(words(process, provider.port))
    await process.run()
    await provider.listener.close(0.2)


@click.command(short_help="Everything in one process with a demo provider, and lines to paste.")
@click.option("--listen", metavar="HOST:PORT", help="Where the gateway listens.  [default: HOMING_LISTEN, or 127.0.0.1:8370]")
@click.option("--admin", metavar="HOST:PORT", help="Where health and metrics are.  [default: 127.0.0.1:8371]")
@click.option("--print-config", is_flag=True, help="Print the demo's homing.toml and leave.")
def command(listen: str | None, admin: str | None, print_config: bool) -> None:
    """Run gateway, broker, worker and a demo provider in one process. No API key is needed.

    \b
    Example:
      homing demo --listen 127.0.0.1:9000
    """
    if print_config:
        click.echo(demo_config(), nl=False)
        return
    admin_of(admin)
    try:
        run(lambda log: demo(log, listen, admin))
    except ConfigError as error:  # its file is nobody's: what can be wrong was said here
        raise click.UsageError("; ".join(f"{one.path or one.file}: {one.message}" for one in error.problems)) from None
