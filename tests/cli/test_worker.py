"""`homing worker`: what it says when it cannot."""

from pathlib import Path

from click.testing import CliRunner

from homing.cli import main

HOUSE = """
[worker]
brokers = ["tcp://127.0.0.1:8372"]
[providers.acme]
base_url = "http://127.0.0.1:9"
[methods."acme.find"]
provider = "acme"
effect = "safe"
request = "GET /find"
[methods."reports.build"]
service = "reports"
"""


def worker(folder: Path, text: str, *arguments: str) -> str:
    (folder / "homing.toml").write_text(text)
    result = CliRunner().invoke(main, ["worker", "--config", str(folder / "homing.toml"), *arguments])
    assert result.exit_code == 2
    return result.stderr


def test_it_has_a_broker_to_reach(tmp_path: Path) -> None:
    assert "brokers = [" in worker(tmp_path, HOUSE.replace("brokers", "services").replace("tcp://127.0.0.1:8372", "acme"))


def test_it_has_something_to_serve(tmp_path: Path) -> None:
    assert "no method has a provider" in worker(tmp_path, '[worker]\nbrokers = ["tcp://127.0.0.1:8372"]\n')


def test_services_are_those_of_methods_with_a_provider(tmp_path: Path) -> None:
    said = worker(tmp_path, HOUSE, "--services", "acme, reports")
    assert 'the service "reports"; those here are acme' in said
