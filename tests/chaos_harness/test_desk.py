"""The desk writes its ledger before it does anything else, and not at all where it says that it did nothing."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from chaos import desk
from chaos.history import Entry
from homing import CallError, NotExecuted
from homing.calling import CurrentCall, enter_call


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(desk.LEDGER, str(tmp_path / "ledger"))
    monkeypatch.setattr(desk, "_ledgers", [])
    call = CurrentCall(call_id="00", method="desk.once", principal="", idempotency_key="k1", attempt=1, deadline=0.0)
    enter_call(call)
    return tmp_path / "ledger"


def entries(ledger: Path) -> list[Entry]:
    return [msgspec.json.decode(line, type=Entry) for line in ledger.read_bytes().splitlines()]


def test_a_refusal_leaves_no_entry(ledger: Path) -> None:
    with pytest.raises(NotExecuted):
        asyncio.run(desk.once("t1", "refuse", 0))
    with pytest.raises(NotExecuted):
        desk.once_apart("t1", "refuse", 0)
    assert not ledger.exists()


@pytest.mark.parametrize(("end", "raised"), [("error", CallError), ("done", CallError), ("break", ValueError)])
def test_whatever_is_raised_the_entry_is_there(ledger: Path, end: str, raised: type[Exception]) -> None:
    with pytest.raises(raised):
        asyncio.run(desk.safe("t1", end, 0))
    with pytest.raises(raised):
        desk.safe_apart("t2", end, 0)
    assert [(entry.token, entry.method, entry.key) for entry in entries(ledger)] == [("t1", "safe", ""), ("t2", "safe", "")]


def test_a_keyed_entry_has_the_key_of_its_call(ledger: Path) -> None:
    assert asyncio.run(desk.keyed("t1", "ok", 0)) == "t1"
    assert desk.keyed_apart("t1", "hold", 1) == "t1"
    assert [entry.key for entry in entries(ledger)] == ["k1", "k1"]


def test_to_die_on_the_loop_is_to_try_to_end_it(ledger: Path) -> None:
    async def attempt() -> None:
        with pytest.raises(SystemExit):
            await desk.once("t1", "die", 0)

    asyncio.run(attempt())
    assert len(entries(ledger)) == 1


def test_every_method_is_offered_under_its_effect() -> None:
    offers = {offer.name: offer.effect for offer in (function.offer for function in desk.worker.functions.values())}
    assert offers == {f"desk.{effect}{apart}": effect for effect in ("once", "keyed", "safe") for apart in ("", "_apart")}
