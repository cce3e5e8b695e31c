"""`homing keys new`: an API key, and the stanza that lets it in. `homing keys curve`: the same for a process."""

import os
from pathlib import Path

import click

from homing.cli.reading import EXIT_CONFIGURATION, json_option, print_json
from homing.edges.auth import new_key
from homing.forms import NAME
from homing.sources import show_path

KEY_FILE = """\
# The CURVE keys of {name}, for this process alone: whoever has this file is {name}.
public_key = "{public}"
secret_key = "{secret}"
"""


@click.group("keys", short_help="Make API keys, and keys for processes.")
def command() -> None:
    """Make API keys, and keys for processes."""


@command.command("new", epilog="Example: homing keys new webshop >> homing.toml")
@click.argument("name")
@json_option
def new(name: str, as_json: bool) -> None:
    """Make an API key for the principal NAME.

    The stanza for homing.toml goes to stdout. It has the key's hash only: the key itself is shown once, on stderr, and kept nowhere.
    """
    _check_name(name, "a principal")
    key, digest = new_key()
    if as_json:
        print_json({"name": name, "key": key, "hash": digest})
        return
    click.echo(f"[{show_path(('principals', name))}]")
    click.echo(f'api_key_hash = "{digest}"')
    click.echo('methods = []      # what it may call: exact names, or beginnings that end in *, such as "acme.*"')
    click.echo(f"\nthe key, shown only here and now: {click.style(key, bold=True)}", err=True)


@command.command("curve", epilog="Example: homing keys curve worker-1 --out /etc/homing >> broker.toml")
@click.argument("name")
@click.option(
    "--out",
    metavar="DIR",
    default=".",
    show_default=True,
    type=click.Path(path_type=Path),
    help="The folder to write NAME.key to.",
)
@json_option
def curve(name: str, out: Path, as_json: bool) -> None:
    """Make a pair of CURVE keys for the process NAME.

    Both go to NAME.key, which only its owner may read, and which is never overwritten. The stanza for the homing.toml of brokers that
    shall let it in goes to stdout; it has the public key only.
    """
    from homing.engines.zmq_curve import new_keys

    _check_name(name, "a process")
    if "/" in name or "\0" in name:
        click.echo(f"{name!r} is no name for a process: it names a file, too, and cannot have a slash in it", err=True)
        raise SystemExit(EXIT_CONFIGURATION)
    path = out / f"{name}.key"
    public, secret = new_keys()
    try:
        _write_once(path, KEY_FILE.format(name=name, public=public, secret=secret))
    except FileExistsError:
        click.echo(f"{path} exists, and keys are never overwritten. Move it away, or say another name or --out.", err=True)
        raise SystemExit(EXIT_CONFIGURATION) from None
    except OSError as error:
        click.echo(f"{path} cannot be written: {(error.strerror or str(error)).lower()}", err=True)
        raise SystemExit(EXIT_CONFIGURATION) from None
    if as_json:
        print_json({"name": name, "public_key": public, "path": str(path)})
        return
    click.echo(f"[{show_path(('peers', name))}]")
    click.echo(f'public_key = "{public}"')
    click.echo("serve = []        # services it may serve, as a worker: exact names, or beginnings that end in *")
    click.echo("call = []         # services it may call, as a gateway or a client, likewise")
    click.echo(f"\nboth keys, for its owner's eyes only: {click.style(str(path), bold=True)}", err=True)


def _check_name(name: str, whose: str) -> None:
    try:
        NAME.parse(name, Path())
    except ValueError as error:
        click.echo(f"{name!r} is no name for {whose}: {error}", err=True)
        raise SystemExit(EXIT_CONFIGURATION) from None


def _write_once(path: Path, text: str) -> None:
    """Write a new file for its owner's eyes, whole or not at all. Raises OSError, FileExistsError if there is one."""
    with open(path, "x", encoding="utf-8", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        try:
            os.fchmod(file.fileno(), 0o600)
            file.write(text)
            file.flush()
        except BaseException:
            path.unlink()
            raise
