import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from homing import config
from homing.cli import main
from homing.cli.init import STARTER


def test_the_starter_has_nothing_wrong_or_unwise_and_fits_on_a_screen(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["init", str(tmp_path / "new" / "deep")])
    assert result.exit_code == 0
    written = tmp_path / "new" / "deep" / "homing.toml"
    assert written.read_text(encoding="utf-8") == STARTER
    assert config.check(written) == []
    assert STARTER.count("\n") <= 50
    assert f"cd {written.parent}\n" in result.stdout


def test_what_it_says_to_paste_can_be_pasted(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["init", str(tmp_path / "my gateway")])
    assert f"  cd '{tmp_path}/my gateway'\n" in result.stdout


def test_here_is_where_it_goes_when_nothing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["init"])
    assert result.exit_code == 0
    assert "wrote homing.toml" in result.stdout
    assert "cd " not in result.stdout
    assert CliRunner().invoke(main, ["check"]).exit_code == 0


def test_the_next_steps_can_be_pasted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shlex

    monkeypatch.chdir(tmp_path)
    lines = [line.strip() for line in CliRunner().invoke(main, ["init"]).stdout.splitlines()]
    (dry_run,) = [shlex.split(line)[1:] for line in lines if "--dry-run" in line]
    assert CliRunner().invoke(main, dry_run).exit_code == 0


def test_what_is_there_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "homing.toml").write_text("# mine\n")
    result = CliRunner().invoke(main, ["init", str(tmp_path)])
    assert result.exit_code == 2
    assert "is there already and stays as it is" in result.stderr
    assert (tmp_path / "homing.toml").read_text() == "# mine\n"


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = CliRunner().invoke(main, ["init", str(tmp_path / "file" / "below")])
    assert result.exit_code == 2
    assert "cannot be written" in result.stderr


def test_programs_get_json(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["init", str(tmp_path), "--json"])
    assert (result.exit_code, json.loads(result.stdout)) == (0, {"path": str(tmp_path / "homing.toml")})
