"""The command line; one file a command group. A group's module is imported when its command is used, so that `--help` is quick."""

import os
import sys
from importlib import import_module
from importlib.util import find_spec

import click

from homing.cli.commands import COMMANDS, Listed
from homing.cli.streams import full_disk_told, open_streams


class LateGroup(click.Group):
    """A group that knows its commands by name and one line each, and imports the module of the one that is used."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: object
    ) -> click.Context:
        """Read the options of `homing` itself; its help and version are printed on the way."""
        with full_disk_told():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> object:
        """Run the command that was asked for."""
        with full_disk_told():
            return super().invoke(ctx)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands whose modules are there, in the order in which they are of use to somebody new."""
        return [name for name, listed in COMMANDS.items() if not listed.hidden and _is_there(listed)]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """The command itself; None if there is none of this name."""
        listed = COMMANDS.get(name)
        if listed is None or not _is_there(listed):
            return None
        command = import_module(_module(listed)).command
        assert isinstance(command, click.Command), f"{_module(listed)} has no `command`"
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that was asked for; what may have been meant if there is none."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from difflib import get_close_matches

            close = get_close_matches(args[0].lower(), self.list_commands(ctx), 1)
            if not close:
                raise
            raise click.UsageError(f"{error.message} Did you mean {close[0]!r}?", ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list in the help, without importing anything."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name].summary) for name in self.list_commands(ctx)])


def _module(listed: Listed) -> str:
    return f"homing.cli.{listed.module}"


def _is_there(listed: Listed) -> bool:
    return find_spec(_module(listed)) is not None


@click.group(
    cls=LateGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 done, 1 the call failed, 2 usage or configuration. `homing COMMAND --help` has an example each.",
)
@click.version_option(package_name="homing", prog_name="homing", message="%(prog)s %(version)s")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Every call comes home: one answer, on time, and true.

    A gateway that takes JSON-RPC calls, asks slow HTTP providers, and never leaves a caller without an honest answer.

    \b
      homing demo                 see it, without a configuration
      homing init                 write a homing.toml to start from
      homing check && homing serve
    """
    open_streams()
    if os.environ.get("NO_COLOR") or not sys.stdout.isatty():
        ctx.color = False
