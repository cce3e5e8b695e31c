from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from homing import settings
from homing.cli import main
from homing.cli.reference import configuration_page, errors_page
from homing.decoding import fields_of
from homing.errors import TABLE

PAGES = Path(__file__).resolve().parents[2] / "docs" / "reference"


@pytest.mark.parametrize("page", ["configuration", "errors"])
def test_the_page_is_what_the_code_says(page: str) -> None:
    """If this fails: `homing reference configuration > docs/reference/configuration.md`, likewise for errors."""
    made = CliRunner().invoke(main, ["reference", page])
    assert made.exit_code == 0
    assert (PAGES / f"{page}.md").read_text(encoding="utf-8") == made.stdout


@pytest.mark.parametrize(
    "section",
    [settings.Gateway, settings.Admin, settings.Broker, settings.Principal, settings.Provider, settings.Method, settings.Lookup],
)
def test_every_key_is_on_the_page(section: type[msgspec.Struct]) -> None:
    page = configuration_page()
    for key, field in fields_of(section).items():
        assert f"| `{key}" in page
        assert field.reason.replace("|", "\\|") in page or f"`{key}." in page


def test_every_reason_is_on_the_page() -> None:
    page = errors_page()
    assert all(f"| {row.code} | `{row.reason}` |" in page for row in TABLE)


def test_defaults_are_told_as_toml_writes_them() -> None:
    page = configuration_page()
    for line in (
        '| `body_max` | size | `"1MiB"` |',
        '| `deadline.default` | duration, at least 100ms | `"100s"` |',
        '| `heartbeat` | duration | `""` |',
        '| `drain.delay` | duration | `"0s"` |',
        "| `health` | `true` or `false` | `true` |",
        "| `base_url` | URL | required |",
        "| `breaker.failure_ratio` | number, at most 1 | `0.5` |",
    ):
        assert line in page


def test_bounds_are_told_where_they_are_not_plain_to_see() -> None:
    page = configuration_page()
    assert "| `retry.attempts_max` | whole number, at most 10 |" in page
    assert "| `deadline.max` | duration, at least 100ms, at most " in page
    assert "| `in_flight_max` | whole number |" in page


def test_it_is_not_listed() -> None:
    assert "reference" not in CliRunner().invoke(main, ["--help"]).stdout
