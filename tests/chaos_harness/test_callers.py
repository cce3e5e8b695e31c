"""What made an answer late is known only when it is over, so it is reckoned at the end."""

import random
from pathlib import Path

from chaos.callers import Callers
from chaos.history import Call
from chaos.shapes import Shape
from chaos.stage import Stage


class Door:
    name = "gateway 0"

    async def ask(self, call: Call, wish: object) -> None:
        raise AssertionError("nobody calls here")

    def paused_s(self, since: float, until: float) -> float:
        return 0.25


def test_a_pause_that_is_noted_after_the_answer_excuses_it(tmp_path: Path) -> None:
    stage = Stage(tmp_path, Shape(gateways=0))
    callers = Callers(stage, random.Random(1), per_s=1.0, prefix="t")
    callers.doors = [Door()]
    callers.calls = [
        Call(token="t1", effect="once", via="gateway 0", sent_at=10.0, timeout_s=1.0, answered_at=13.0),
        Call(token="t2", effect="once", via="gateway 0", sent_at=14.0, timeout_s=1.0, answered_at=14.5),
        Call(token="t3", effect="once", via="gateway 0", sent_at=10.0, timeout_s=1.0),
    ]
    stage._lags.append((11.0, 13.5))
    callers.excuse()
    assert [call.paused_s for call in callers.calls] == [2.25, 0.25, 0.0]
