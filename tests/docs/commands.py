"""Makes the page of the commands from the commands: `python -m tests.docs.commands > docs/reference/commands.md`."""

from collections.abc import Iterator

import click
from click.testing import CliRunner

from homing.cli import main

INTRO = """\
# Commands

<!-- Made from the code: `python -m tests.docs.commands`. Edit the help texts in src/homing/cli instead. -->

Exit codes of all of them: 0 done, 1 the call failed, 2 usage or configuration. What reads a configuration takes `--config`, by default
`homing.toml` or what `HOMING_CONFIG` names. Callers read `HOMING_URL` and `HOMING_API_KEY`. Colours are for terminals only, and
`NO_COLOR` turns them off there too.
"""


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """What is typed for every command that is listed, after `homing`."""
    yield path
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name)


def help_of(path: tuple[str, ...]) -> str:
    """What `--help` prints where there are 100 columns."""
    command: click.Command | None = main
    for name in path:
        assert isinstance(command, click.Group)
        command = command.get_command(click.Context(command), name)
    assert command is not None
    command._help_option = None  # kept from whoever asked first, and without its group it is another
    done = CliRunner().invoke(main, [*path, "--help"], prog_name="homing", terminal_width=100)
    assert done.exit_code == 0, done.output
    return "\n".join(line.rstrip() for line in done.output.rstrip().splitlines())


def page() -> str:
    """docs/reference/commands.md."""
    parts = [f"## `{' '.join(('homing', *path))}`\n\n```text\n{help_of(path)}\n```\n" for path in commands(main)]
    return "\n".join([INTRO, *parts])


if __name__ == "__main__":
    print(page(), end="")
