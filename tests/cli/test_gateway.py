"""`homing gateway`: what it says when it cannot."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from homing.cli import main


def gateway(folder: Path, text: str, *arguments: str) -> str:
    (folder / "homing.toml").write_text(text)
    result = CliRunner().invoke(main, ["gateway", "--config", str(folder / "homing.toml"), *arguments])
    assert result.exit_code == 2
    return result.stderr


def test_it_has_a_broker_to_reach(tmp_path: Path) -> None:
    assert "brokers = [" in gateway(tmp_path, "")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--broker", "127.0.0.1:8372"], "did you mean"),
        (["--broker", "tcp://10.9.8.7:8372"], "insecure = true"),
        (["--broker", "tcp://127.0.0.1:8372", "--share", "0"], "--share"),
        (["--broker", "tcp://127.0.0.1:8372", "--admin", "x"], "--admin"),
    ],
    ids=["no-url", "far", "share", "admin"],
)
def test_what_is_wrong_on_the_command_line_is_told(arguments: list[str], says: str, tmp_path: Path) -> None:
    assert says in gateway(tmp_path, "", *arguments)


def test_a_key_file_that_went_bad_is_told(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("x")
    (tmp_path / "key").chmod(0o600)
    assert "is no key file" in gateway(tmp_path, f'[gateway]\ncurve = {{ key = "key", broker = "{"0" * 40}" }}\n')
