"""`homing keys new`: an API key, and the stanza that lets it in."""

from pathlib import Path

import click
import msgspec

from homing.cli.reading import EXIT_CONFIGURATION, json_option
from homing.edges.auth import new_key
from homing.forms import NAME
from homing.sources import show_path


@click.group("keys", short_help="Make API keys.")
def command() -> None:
    """Make API keys."""


@command.command("new", epilog="Example: homing keys new webshop >> homing.toml")
@click.argument("name")
@json_option
def new(name: str, as_json: bool) -> None:
    """Make an API key for the principal NAME.

    The stanza for homing.toml goes to stdout. It has the key's hash only: the key itself is shown once, on stderr, and kept nowhere.
    """
    try:
        NAME.parse(name, Path())
    except ValueError as error:
        click.echo(f"{name!r} is no name for a principal: {error}", err=True)
        raise SystemExit(EXIT_CONFIGURATION) from None
    key, digest = new_key()
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode({"name": name, "key": key, "hash": digest})))
        return
    click.echo(f"[{show_path(('principals', name))}]")
    click.echo(f'api_key_hash = "{digest}"')
    click.echo('methods = []      # what it may call: exact names, or beginnings that end in *, such as "acme.*"')
    click.echo(f"\nthe key, shown only here and now: {click.style(key, bold=True)}", err=True)
