"""The way to the provider is cut at every byte of request and response; the provider's own log says what was done."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.callers import Heard, call_all, judge
from tests.e2e.houses import Ledger, cut_house
from tests.e2e.surgeon import Passage, Surgeon

METHODS = ("once.it", "keyed.it", "safe.it", "found.it")
REQUEST_BYTES = 250  # more than a request has: what is beyond its end cuts after it
RESPONSE_BYTES = 140
STOP_S = 0.8
AT_ONCE = 100


def judge_all(heard: list[Heard], surgeon: Surgeon, ledger: Ledger) -> None:
    """The promise, held against what passed and what was done."""
    passages: dict[int, list[Passage]] = {}
    for passage in surgeon.passages:
        if passage.path != "/lookup":
            passages.setdefault(passage.number, []).append(passage)
    for each in heard:
        judge(each)
        number, method = each.params["n"], each.params["method"]
        own = passages.get(number, [])
        if ledger.done[number] or any(passage.request_bytes for passage in own):
            assert each.executed != "no", (each, own)
        if method in ("once.it", "found.it"):
            assert ledger.done[number] <= 1
            assert len(own) <= 1, "a byte of it may have left, and it was sent again"
        if each.ok:
            assert each.body["result"] == {"n": number}
            assert ledger.done[number] >= 1


def cuts(
    way: str, length: int, hows: tuple[str, ...], methods: tuple[str, ...] = METHODS
) -> list[tuple[str, dict[str, Any], float]]:
    """Every cut of these kinds, as calls."""
    calls: list[tuple[str, dict[str, Any], float]] = []
    for how in hows:
        for at in range(length):
            for method in methods:
                params = {"n": len(calls), "method": method, "cut": f"cut={way}:{at}:{how}"}
                calls.append((method, params, STOP_S if how == "stop" else 10.0))
    return calls


@pytest.mark.parametrize("hows", [("reset", "close"), ("stop",), ("split",)], ids="+".join)
@pytest.mark.parametrize(("way", "length"), [("request", REQUEST_BYTES), ("response", RESPONSE_BYTES)])
def test_a_cut_at_any_byte_never_makes_a_false_no(way: str, length: int, hows: tuple[str, ...], tmp_path: Path) -> None:
    ledger = Ledger()
    calls = cuts(way, length, hows)
    with cut_house(tmp_path, ledger) as (homing, surgeon):
        heard = asyncio.run(call_all(homing.port, calls, at_once=AT_ONCE))
        process = homing.process
        homing.stop_soon()
        homing.join()
    assert Counter(each.params["n"] for each in heard) == dict.fromkeys(range(len(calls)), 1)
    judge_all(heard, surgeon, ledger)
    tried = {"request": REQUEST_BYTES, "response": RESPONSE_BYTES}
    assert max(passage.size for passage in surgeon.passages) < tried["request"], "not every byte was tried"
    assert max(passage.response_bytes for passage in surgeon.passages) < tried["response"], "not every byte was tried"
    if hows == ("split",):
        assert all(each.ok for each in heard)
    assert (len(process.calls), len(process.gateway), len(process.broker), len(process.worker)) == (0, 0, 0, 0)
