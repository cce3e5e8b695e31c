"""The way to the gateway goes silent after any byte."""

from pathlib import Path

import pytest

from tests.e2e.gateway_cuts import HOUSE, REQUEST_BYTES, RESPONSE_BYTES, STOP_S, ask_async, ask_blocking, cuts, judge_all
from tests.e2e.houses import Ledger
from tests.e2e.surgeon import surgery
from tests.serving import Serving


@pytest.mark.parametrize("ask", [ask_blocking, ask_async])
@pytest.mark.parametrize(("way", "length"), [("request", REQUEST_BYTES), ("response", RESPONSE_BYTES)])
def test_a_silence_after_any_byte_never_raises_a_false_not_executed(way: str, length: int, ask, tmp_path: Path) -> None:
    ledger = Ledger()
    asked = cuts(way, length, "stop")
    with Serving(HOUSE % "", tmp_path, ledger) as homing, surgery(homing.port, "gate") as surgeon:
        ended = ask(surgeon.port, asked, STOP_S)
        homing.stop_soon()
        homing.join()
    assert len(ended) == length
    judge_all(ended, ledger.done)
    assert max(passage.size for passage in surgeon.passages) < REQUEST_BYTES, "not every byte was tried"
    assert max(passage.response_bytes for passage in surgeon.passages) < RESPONSE_BYTES, "not every byte was tried"
