import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from homing.cli import commands, main
from homing.cli.commands import COMMANDS, Listed

THERE = [name for name, listed in COMMANDS.items() if find_spec(f"homing.cli.{listed.module}")]


def test_the_help_lists_what_is_there() -> None:
    shown = CliRunner().invoke(main, ["--help"]).stdout
    for name in THERE:
        assert COMMANDS[name].hidden or f"  {name}" in shown
    assert "Exit codes: 0 done, 1 the call failed, 2 usage or configuration" in shown


@pytest.mark.parametrize("name", THERE)
def test_every_command_explains_itself_with_an_example(name: str) -> None:
    made = main.get_command(click.Context(main), name)
    assert made is not None
    made = made.commands["new"] if isinstance(made, click.Group) else made
    shown = made.get_help(click.Context(made))
    assert "Example" in shown
    assert "homing" in shown.split("Example")[1]


def test_a_command_whose_module_is_missing_breaks_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(commands.COMMANDS, "later", Listed("later", "Not here yet."))
    runner = CliRunner()
    shown = runner.invoke(main, ["--help"])
    assert shown.exit_code == 0
    assert "later" not in shown.stdout
    assert runner.invoke(main, ["check", "--help"]).exit_code == 0
    missing = runner.invoke(main, ["later"])
    assert missing.exit_code == 2
    assert "No such command" in missing.stderr


@pytest.mark.parametrize(
    ("name", "meant"), [("chek", " Did you mean 'check'?"), ("Serve", " Did you mean 'serve'?"), ("xyz", "")]
)
def test_a_command_that_is_none_is_told_with_what_may_be_meant(name: str, meant: str) -> None:
    told = CliRunner().invoke(main, [name])
    assert told.exit_code == 2
    assert told.stderr.endswith(f"Error: No such command {name!r}.{meant}\n")


def test_the_help_imports_no_command() -> None:
    """Whoever only asks what there is waits for no event loop, schema compiler or table of colours."""
    program = "import sys; from homing.cli import main; main(['--help'], standalone_mode=False); print(sorted(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    for heavy in ("homing.config", "homing.core", "uvloop", "jsonschema_rs", "rich", "asyncio"):
        assert f"'{heavy}'" not in ran.stdout


def test_the_version_is_told() -> None:
    assert CliRunner().invoke(main, ["--version"]).stdout.startswith("homing ")


@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
def test_there_are_colours_on_a_terminal_only_and_never_with_no_color(tmp_path: Path, no_color: str, coloured: bool) -> None:
    reader, writer = os.openpty()
    config = tmp_path / "homing.toml"
    config.write_text("[gatway]\n")
    arguments = [sys.executable, "-c", "from homing.cli import main; main()", "check", "--config", str(config)]
    environ = {**os.environ, "NO_COLOR": no_color}
    try:
        ran = subprocess.run(arguments, stdout=writer, stderr=writer, stdin=subprocess.DEVNULL, env=environ, check=False)
        shown = os.read(reader, 65536)
    finally:
        os.close(reader)
        os.close(writer)
    assert ran.returncode == 2
    assert b"did you mean" in shown
    assert (b"\x1b[" in shown) is coloured
    piped = subprocess.run(arguments, capture_output=True, env=environ, check=False)
    assert b"\x1b[" not in piped.stdout
