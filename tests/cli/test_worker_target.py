"""`homing worker MODULE:NAME`: what it offers, and what it says when it cannot: src/homing/cli/worker_target.py."""

import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from homing.cli import main, worker_target
from homing.roles.python_worker import Offering, Unable

REPORTS = """
from homing import Worker

worker = Worker("reports")
empty = Worker("empty")


@worker.method()
async def build(year: int) -> int:
    return year


@worker.method()
def print_it(year: int) -> None: ...
"""
BROKER = ("--broker", "tcp://127.0.0.1:8372")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "reports_of_cli_test.py").write_text(REPORTS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HOMING_CONFIG", raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "reports_of_cli_test", raising=False)


def refusal(*arguments: str) -> str:
    result = CliRunner().invoke(main, ["worker", *arguments])
    assert result.exit_code == 2, result.output
    return result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("not_there_of_test:worker", *BROKER), "There is no module 'not_there_of_test'"),
        (("reports_of_cli_test:wroker", *BROKER), "are reports_of_cli_test:worker, reports_of_cli_test:empty."),
        (("reports_of_cli_test", *BROKER), "Expected MODULE:NAME"),
        (("reports_of_cli_test:empty", *BROKER), "has no methods: put @worker.method() above a function"),
        (("reports_of_cli_test:worker",), "there is no broker to reach"),
        (("reports_of_cli_test:worker", "--broker", "tcp://192.0.2.1:8372"), "nothing would be encrypted"),
        (("reports_of_cli_test:worker", "--services", "acme", *BROKER), "--services is for workers that ask providers"),
        (("--credit", "7", *BROKER), "--credit and --processes are for a TARGET"),
        (("reports_of_cli_test:worker", "--config", "not-there.toml", *BROKER), "not-there.toml"),
    ],
    ids=["module", "name", "no name", "empty", "broker", "far", "services", "credit", "configuration"],
)
def test_what_cannot_be_says_why(arguments: tuple[str, ...], words: str) -> None:
    assert words.lower() in refusal(*arguments).lower()


def test_what_the_module_raises_says_where(tmp_path: Path) -> None:
    """A ValueError too, of which the sentence alone would help nobody."""
    (tmp_path / "reports_of_cli_test.py").write_text(REPORTS + "PORT = int('x')\n")
    result = CliRunner().invoke(main, ["worker", "reports_of_cli_test:worker", *BROKER])
    assert (result.exit_code, repr(result.exception)) == (1, repr(ValueError("invalid literal for int() with base 10: 'x'")))


def test_the_configuration_is_read_where_there_is_one(tmp_path: Path) -> None:
    (tmp_path / "homing.toml").write_text("[worker]\nbrokers = [7]\n")
    assert "worker.brokers[0]" in refusal("reports_of_cli_test:worker")


def test_a_key_file_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("nothing")
    (tmp_path / "key").chmod(0o600)
    (tmp_path / "homing.toml").write_text(
        f'[worker]\ncurve = {{ key = "{tmp_path}/key", broker = "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{{hID" }}\n'
    )
    assert "key" in refusal("reports_of_cli_test:worker", *BROKER)


def test_the_module_of_this_folder_is_found_first(tmp_path: Path) -> None:
    offering = worker_target.offering_at("reports_of_cli_test:worker", processes=3)
    assert sys.path[0] == str(Path.cwd())
    worker_target.offering_at("reports_of_cli_test:worker")
    assert sys.path.count(str(Path.cwd())) == 1
    assert (offering.name, sorted(offering.functions), offering.pool_size) == (
        "reports",
        ["reports.build", "reports.print_it"],
        3,
    )


@pytest.mark.parametrize(
    ("text", "arguments", "credit"),
    [
        ("", (), 100),
        ("[worker]\ncredit = 7\n", (), 7),
        ("[worker]\ncredit = 7\n", ("--credit", "9"), 9),
        ("[worker]\ncredit = 500\n", (), 100),
    ],
    ids=["default", "configured", "said", "configured above"],
)
def test_how_much_at_once_is_said_configured_or_the_default(
    text: str, arguments: tuple[str, ...], credit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[Offering] = []

    async def run_offering(offering: Offering, *_: object) -> None:
        ran.append(offering)
        raise Unable("The processes of reports cannot begin: no")

    monkeypatch.setattr(worker_target, "run_offering", run_offering)
    (tmp_path / "homing.toml").write_text(text)
    assert "The processes of reports cannot begin: no." in refusal("reports_of_cli_test:worker", *BROKER, *arguments)
    assert [offering.credit_max for offering in ran] == [credit]
