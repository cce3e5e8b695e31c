import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from homing.cli import main
from homing.cli.reading import read_or_exit, styled
from homing.config import Problem


def test_a_configuration_with_mistakes_ends_the_command_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "homing.toml"
    path.write_text('[gateway]\nlisten = "0.0.0.0:1"\nlistn = 1\nbody_max = "1mb"\n')
    with pytest.raises(SystemExit) as raised:
        read_or_exit(str(path))
    assert raised.value.code == 2
    shown = capsys.readouterr()
    assert not shown.out
    assert shown.err.count("\n\n") == 2  # one paragraph each; the warning is for `check`
    assert "warning" not in shown.err


def test_a_right_one_is_given_with_what_came_of_reading_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "homing.toml"
    path.write_text("")
    config, reading = read_or_exit(str(path), listen="127.0.0.1:9999")
    assert config is reading.config
    assert config.gateway.listen.port == 9999
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("warning", [True, False])
def test_colours_change_no_word(warning: bool) -> None:
    import click

    problem = Problem("homing.toml", "gateway.listen", "found 5", warning)
    assert click.unstyle(styled(problem)) == str(problem)
    assert styled(problem) != str(problem)


@pytest.mark.parametrize("arguments", [["check", "--config"], ["init"], ["keys", "curve", "w", "--out"]])
def test_a_path_that_is_no_utf_8_is_escaped_in_json(tmp_path: Path, arguments: list[str]) -> None:
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff")
    Path(path).mkdir()
    result = CliRunner().invoke(main, [*arguments, path, "--json"])
    told = json.loads(result.stdout)
    assert path in (told.get("config"), told.get("path"), str(Path(told.get("path", "")).parent))


def test_json_is_utf_8_whatever_the_terminal_speaks() -> None:
    program = "from homing.cli.reading import print_json; print_json({'a': 'é€😀'})"
    environ = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, env=environ)
    assert json.loads(told.stdout) == {"a": "é€😀"}
