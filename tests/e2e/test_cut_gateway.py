"""The way to the gateway is cut at every byte: what `Client` and `AsyncClient` raise is held against what the provider did."""

from pathlib import Path

import pytest

from homing import NotExecuted, OutcomeUnknown
from tests.e2e.gateway_cuts import HOUSE, REQUEST_BYTES, RESPONSE_BYTES, ask_async, ask_blocking, cuts, judge_all
from tests.e2e.houses import Ledger
from tests.e2e.surgeon import surgery
from tests.serving import Answer, Asked, Serving


@pytest.mark.parametrize("ask", [ask_blocking, ask_async])
@pytest.mark.parametrize("how", ["reset", "close", "split"])
@pytest.mark.parametrize(("way", "length"), [("request", REQUEST_BYTES), ("response", RESPONSE_BYTES)])
def test_a_cut_at_any_byte_never_raises_a_false_not_executed(way: str, length: int, how: str, ask, tmp_path: Path) -> None:
    ledger = Ledger()
    asked = cuts(way, length, how)
    with Serving(HOUSE % "", tmp_path, ledger) as homing, surgery(homing.port, "gate") as surgeon:
        ended = ask(surgeon.port, asked, 10.0)
        homing.stop_soon()
        homing.join()
    assert len(ended) == length
    judge_all(ended, ledger.done)
    assert max(passage.size for passage in surgeon.passages) < REQUEST_BYTES, "not every byte was tried"
    assert max(passage.response_bytes for passage in surgeon.passages) < RESPONSE_BYTES, "not every byte was tried"
    if how == "split":
        assert all(isinstance(result, dict) for _, result in ended)


def refuse(asked: Asked) -> Answer:
    return Answer(status=422, body={"no": 1})


@pytest.mark.parametrize("ask", [ask_blocking, ask_async])
def test_a_no_that_is_cut_is_a_no_only_where_the_head_says_so(ask, tmp_path: Path) -> None:
    with Serving(HOUSE % "", tmp_path, refuse) as homing, surgery(homing.port, "gate") as surgeon:
        ended = ask(surgeon.port, cuts("response", 700, "reset", step=3), 10.0)
    for params, result in ended:
        assert isinstance(result, NotExecuted | OutcomeUnknown), (params, result)
    assert {type(result) for _, result in ended} == {NotExecuted, OutcomeUnknown}
