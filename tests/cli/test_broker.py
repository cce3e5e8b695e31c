"""`homing broker`: what it says when it cannot."""

from pathlib import Path

from click.testing import CliRunner

from homing.cli import main


def broker(folder: Path, text: str, *arguments: str) -> str:
    (folder / "homing.toml").write_text(text)
    result = CliRunner().invoke(main, ["broker", "--config", str(folder / "homing.toml"), *arguments])
    assert result.exit_code == 2
    return result.stderr


def test_somebody_can_reach_it(tmp_path: Path) -> None:
    assert "--listen tcp://HOST:PORT" in broker(tmp_path, "")


def test_off_this_machine_it_wants_keys(tmp_path: Path) -> None:
    assert "homing keys curve" in broker(tmp_path, "", "--listen", "tcp://0.0.0.0:8372")
    assert "homing keys curve" in broker(tmp_path, '[broker]\nlisten = "tcp://0.0.0.0:8372"\n')


def test_an_address_that_is_none_is_told(tmp_path: Path) -> None:
    assert "did you mean" in broker(tmp_path, "", "--listen", "127.0.0.1:8372")
