import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from homing.cli import main

WRONG = """\
[gateway]
listen = "0.0.0.0:8370"
[methods."acme.charge"]
provider = "acme"
deadline = "60x"
request = "GET /"
params = { additionalProperties = false }
"""
UNWISE = '[gateway]\nlisten = "0.0.0.0:8370"\n'


def check(folder: Path, text: str, *arguments: str) -> Result:
    (folder / "homing.toml").write_text(text)
    return CliRunner().invoke(main, ["check", *arguments])


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_mistakes_are_told_one_a_paragraph_and_exit_with_2(tmp_path: Path) -> None:
    result = check(tmp_path, WRONG)
    assert result.exit_code == 2
    *problems, summary = result.stdout.strip().split("\n\n")
    assert (
        'homing.toml: methods."acme.charge".deadline: found "60x", expected a duration such as "60s": "x" is no unit'
        in problems[2]
    )
    assert 'methods."acme.charge".provider: there is no provider "acme"' in problems[1]
    assert summary == "homing.toml: 2 mistakes, 1 warning"


def test_warnings_do_not_change_the_exit_code(tmp_path: Path) -> None:
    result = check(tmp_path, UNWISE)
    assert result.exit_code == 0
    assert "homing.toml: gateway.listen: warning: 0.0.0.0:8370 can be reached" in result.stdout
    assert result.stdout.endswith("homing.toml: no mistakes, 1 warning; 0 methods, 0 providers, 0 principals\n")


def test_programs_get_json(tmp_path: Path) -> None:
    result = check(tmp_path, WRONG, "--json")
    assert result.exit_code == 2
    told = json.loads(result.stdout)
    assert told["ok"] is False
    assert told["config"] == "homing.toml"
    assert {"file": "homing.toml", "line": 2, "path": "gateway.listen", "warning": True}.items() <= told["problems"][0].items()
    assert json.loads(check(tmp_path, "", "--json").stdout) == {"config": "homing.toml", "ok": True, "problems": []}


def test_the_file_is_named_by_option_or_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "other.toml").write_text("[gatway]\n")
    assert check(tmp_path, "", "--config", "other.toml").exit_code == 2
    monkeypatch.setenv("HOMING_CONFIG", "other.toml")
    result = check(tmp_path, "")
    assert result.exit_code == 2
    assert result.stdout.startswith("other.toml: gatway:")


def test_a_missing_file_is_a_mistake(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["check"])
    assert result.exit_code == 2
    assert "homing.toml: there is no such file; `homing init` writes one" in result.stdout
