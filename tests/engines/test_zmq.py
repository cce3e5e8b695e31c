"""The engine of many processes, over real sockets, on both loops."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engines.conformance import Conformance
from tests.engines.zmq_road import ZmqRoad
from tests.loops import LOOPS


@pytest.fixture(params=list(LOOPS))
def road(request: pytest.FixtureRequest, endpoint: str) -> Iterator[ZmqRoad]:
    loop = LOOPS[request.param]()
    road = ZmqRoad(loop, endpoint)
    yield road
    road.close()
    loop.close()


class OnSockets(Conformance):
    @pytest.fixture
    def road(self, road: ZmqRoad) -> ZmqRoad:
        return road

    def soon(self) -> float:
        return time.monotonic() + 30.0


class TestOverTcp(OnSockets):
    @pytest.fixture
    def endpoint(self) -> str:
        return "tcp://127.0.0.1:*"


class TestOverIpc(OnSockets):
    @pytest.fixture
    def endpoint(self, tmp_path: Path) -> str:
        return f"ipc://{tmp_path}/broker"
