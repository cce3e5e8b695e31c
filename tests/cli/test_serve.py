"""`homing serve`: what it says when it cannot."""

from pathlib import Path

from click.testing import CliRunner

from homing.cli import main


def test_mistakes_in_the_configuration_are_all_told_before_anything_listens(tmp_path: Path) -> None:
    (tmp_path / "homing.toml").write_text('[gateway]\nlistn = "x"\n[methods."a.b"]\nprovider = "nobody"\n')
    result = CliRunner().invoke(main, ["serve", "--config", str(tmp_path / "homing.toml")])
    assert result.exit_code == 2
    assert "did you mean" in result.stderr
    assert "nobody" in result.stderr


def test_no_configuration_is_told(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["serve", "--config", str(tmp_path / "nothing.toml")])
    assert result.exit_code == 2
    assert "nothing.toml" in result.stderr


def test_help_has_an_example() -> None:
    assert "Example:" in CliRunner().invoke(main, ["serve", "--help"]).output


def test_an_admin_address_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "homing.toml").touch()
    result = CliRunner().invoke(main, ["serve", "--config", str(tmp_path / "homing.toml"), "--admin", "nowhere"])
    assert result.exit_code == 2
    assert "--admin" in result.stderr
