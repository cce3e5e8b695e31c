"""Failures of real processes that `docs/explanation/failures.md` speaks of, and no other test shows."""

import http.client
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.quirks import on_a_thread
from tests.serving import Reply
from tests.test_three_processes import HOUSE, Gated, asked
from tests.trio import Callers as Served
from tests.trio import Role, Trio, until


class Callers(Served):
    """Callers with headers of their own. `lost` are those whose connection broke."""

    def __init__(self, trio: Trio, method: str, numbers: range, **headers: str) -> None:
        self.headers = headers
        self.lost: set[int] = set()
        super().__init__(trio, method, numbers)

    def _one(self, number: int) -> None:
        try:
            self.replies[number] = self._trio.call(self._method, {"n": number}, **self.headers)
        except (OSError, http.client.HTTPException):
            self.lost.add(number)

    def join(self) -> None:
        for thread in self._threads:
            thread.join(40)
            assert not thread.is_alive()


def told(reply: Reply) -> tuple[str, str, str]:
    """The three words that matter of an error."""
    return reply.data["reason"], reply.data["executed"], reply.data["retry"]


@pytest.fixture
def provider() -> Iterator[Gated]:
    with on_a_thread(Gated()) as provider:
        yield provider


@pytest.fixture
def trio(provider: Gated, tmp_path: Path) -> Iterator[Trio]:
    with Trio(tmp_path, HOUSE.replace("{url}", f"http://127.0.0.1:{provider.port}")) as trio:
        yield trio


def test_who_dies_with_the_broker_is_missed_at_the_deadline(trio: Trio, provider: Gated) -> None:
    """The next broker has never heard of that worker, so nobody can say that it is lost."""
    broker, worker = trio.broker(), trio.worker()
    trio.gateway()
    began = time.monotonic()
    callers = Callers(trio, "gated.once", range(1), Homing_Timeout="4")
    asked(provider, 1)
    broker.kill()
    worker.kill()
    trio.broker()
    callers.join()
    assert told(callers.replies[0]) == ("deadline_exceeded", "unknown", "unsafe")
    assert time.monotonic() - began > 3, "it is not known before"
    assert provider.seen[0] == 1


def held_by(trio: Trio, broker: Role) -> int:
    """How many calls a broker knows of."""
    held: int = trio.request("GET", "/readyz?verbose", port=broker.ports()[-1]).json["broker_holds"]
    return held


def test_a_killed_gateway_takes_what_waits_along_and_lets_what_runs_run(trio: Trio, provider: Gated) -> None:
    """Four run, two wait. Nobody can be told, and those two are not begun for nobody."""
    broker = trio.broker("--admin", "127.0.0.1:0")
    worker = trio.worker()
    gateway = trio.gateway()
    callers = Callers(trio, "gated.once", range(6))
    asked(provider, 4)
    until(lambda: trio.verbose()["open_calls"] == 6)
    gateway.kill()
    callers.join()
    assert callers.lost == set(range(6))
    until(lambda: held_by(trio, broker) == 4, "it goes on with what waits for nobody")
    provider.gate.set()
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0
    assert sorted(provider.seen.values()) == [1, 1, 1, 1]


def test_a_worker_that_stands_still_is_lost_before_the_deadline(trio: Trio, provider: Gated) -> None:
    """And when it goes on, it asks for nothing a second time, and nobody is told a second time."""
    trio.broker()
    worker = trio.worker()
    trio.gateway()
    once = Callers(trio, "gated.once", range(1))
    asked(provider, 1)
    safe = Callers(trio, "gated.safe", range(10, 11))
    asked(provider, 2)
    worker.send(signal.SIGSTOP)
    began = time.monotonic()
    second = trio.worker()
    once.join()
    told_s = time.monotonic() - began
    assert told(once.replies[0]) == ("worker_lost", "unknown", "unsafe")
    assert told_s < 15, "not at the deadline"
    until(lambda: provider.seen[10] == 2, "what is safe does not go to another")
    worker.send(signal.SIGCONT)
    provider.gate.set()
    safe.join()
    assert safe.replies[10].result == {"n": 10}
    assert provider.seen[0] == 1
    assert not second.faults()
