import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from homing.cli import main

TEXT = """\
[gateway]
deadline = { default = "50s" }
[providers.acme]
base_url = "https://acme.example"
[methods."acme.find"]
provider = "acme"
summary = "Find é"
effect = "safe"
deadline = "1500ms"
request = "GET /"
[methods."acme.charge"]
provider = "acme"
summary = "env:SUMMARY"
request = "POST /"
[methods."echo.echo"]
service = "echo"
"""


def listed(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str, *arguments: str) -> Result:
    monkeypatch.setenv("SUMMARY", "hunter2")
    path = folder / "homing.toml"
    path.write_text(text, encoding="utf-8")
    return CliRunner().invoke(main, ["methods", "--config", str(path), *arguments])


def test_methods_are_listed_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = listed(tmp_path, monkeypatch, TEXT)
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "METHOD       ASKS          EFFECT  DEADLINE  SUMMARY",
        "acme.charge  acme          once    50s       ***",
        "acme.find    acme          safe    1.5s      Find é",
        "echo.echo    service echo  once    50s",
    ]


def test_programs_get_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = json.loads(listed(tmp_path, monkeypatch, TEXT, "--json").stdout)
    assert told[1] == {
        "name": "acme.find",
        "provider": "acme",
        "service": "acme",
        "effect": "safe",
        "deadline_s": 1.5,
        "summary": "Find é",
    }
    assert told[2]["provider"] is None
    assert told[2]["service"] == "echo"


def test_none_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = listed(tmp_path, monkeypatch, "")
    assert result.exit_code == 0
    assert "has no methods yet" in result.stderr
    assert listed(tmp_path, monkeypatch, "", "--json").stdout == "[]\n"


def test_a_configuration_with_mistakes_exits_with_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = listed(tmp_path, monkeypatch, "[gatway]")
    assert result.exit_code == 2
    assert 'did you mean "gateway"?' in result.stderr
