"""A gateway that says it is still there, cut at every byte of what it says: heartbeats that came through prove nothing."""

from dataclasses import replace
from pathlib import Path

import pytest

from homing import OutcomeUnknown
from tests.e2e.gateway_cuts import HOUSE, RESPONSE_BYTES, ask_async, ask_blocking, cuts, judge_all
from tests.e2e.houses import Ledger
from tests.e2e.surgeon import surgery
from tests.serving import Provide, Serving


def slowly(provide: Provide) -> Provide:
    return lambda asked: replace(provide(asked), after_s=0.4)


@pytest.mark.parametrize("ask", [ask_blocking, ask_async])
@pytest.mark.parametrize("how", ["reset", "stop"])
def test_a_heartbeat_that_came_through_proves_nothing(how: str, ask, tmp_path: Path) -> None:
    """The head, two heartbeats and the answer in chunks, cut at every byte."""
    ledger = Ledger()
    asked = cuts("response", RESPONSE_BYTES, how)
    with Serving(HOUSE % 'heartbeat = "150ms"', tmp_path, slowly(ledger)) as homing, surgery(homing.port, "gate") as surgeon:
        ended = ask(surgeon.port, asked, 1.5 if how == "stop" else 10.0)
        homing.stop_soon()
        homing.join()
    judge_all(ended, ledger.done)
    assert {type(result) for _, result in ended} >= {OutcomeUnknown, dict}
