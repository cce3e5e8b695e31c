"""`homing methods --broker URL`: src/homing/cli/methods_offered.py."""

import json

import pytest
from click.testing import CliRunner, Result

from homing.cli import main, methods_offered
from homing.core.messages import MethodOffer
from tests.broker_host import Host

OFFERS = (
    MethodOffer("acme.build", "acme", "safe", 60_000, "Build é", b'{"type":"object"}', ("year",)),
    MethodOffer("acme.odd", "acme", params=b"{"),
)


def listed(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["methods", *arguments])


def test_what_workers_offer_is_listed() -> None:
    with Host({}, offers=OFFERS) as host:
        table, said = listed("--broker", host.url), listed("--broker", host.url, "--json")
    assert table.stdout.splitlines() == [
        "METHOD      ASKS          EFFECT  DEADLINE  SUMMARY",
        "acme.build  service acme  safe    60s       Build é",
        "acme.odd    service acme  once",
    ]
    assert json.loads(said.stdout)[0] == {
        "name": "acme.build",
        "provider": None,
        "service": "acme",
        "effect": "safe",
        "deadline_s": 60.0,
        "summary": "Build é",
        "positional": ["year"],
        "params": {"type": "object"},
    }
    assert json.loads(said.stdout)[1]["params"] is None


def test_nothing_offered_is_nothing_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(methods_offered, "TELL_S", 0.2)
    with Host({}) as host:
        table, said = listed("--broker", host.url), listed("--broker", host.url, "--json")
    assert (table.exit_code, table.stdout) == (0, "")
    assert "offer no methods of their own" in table.stderr
    assert json.loads(said.stdout) == []


def test_nobody_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(methods_offered, "REACH_S", 0.2)
    result = listed("--broker", "ipc://@homing-nobody-is-here")
    assert result.exit_code == 1
    assert "No broker can be reached at ipc://@homing-nobody-is-here." in result.stderr


@pytest.mark.parametrize("url", ["127.0.0.1:8372", "tcp://192.0.2.1:8372"])
def test_what_cannot_be_meant_is_told(url: str) -> None:
    result = listed("--broker", url)
    assert result.exit_code == 2
    assert url in result.stderr
    assert "=" not in result.stderr  # as a program would say it
