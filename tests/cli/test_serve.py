"""`homing serve`: what it says when it cannot."""

import errno
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from homing.cli import main, serve
from homing.config import Config
from homing.telemetry import Log


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


@pytest.mark.parametrize("number", [errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES])
def test_an_address_that_cannot_be_had_is_2(number: int, capfd: pytest.CaptureFixture[str]) -> None:
    async def taken(log: Log) -> None:
        raise OSError(number, "no way")

    with pytest.raises(SystemExit) as left:
        serve.run(taken)
    assert left.value.code == 2
    assert "--listen" in capfd.readouterr().err


def test_any_other_fault_is_no_question_of_addresses() -> None:
    async def broken(log: Log) -> None:
        raise OSError(errno.EIO, "disk")

    with pytest.raises(OSError, match="disk"):
        serve.run(broken)


def test_the_admin_listener_can_be_moved() -> None:
    moved = serve.with_admin(Config(), "127.0.0.1:9")
    assert (moved.admin.listen.port, moved.gateway) == (9, Config().gateway)
    with pytest.raises(click.BadParameter, match="nowhere"):
        serve.with_admin(Config(), "nowhere")
