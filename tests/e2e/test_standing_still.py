"""Processes that stand still and go on: stopped, or with a GIL that somebody holds. No caller waits longer than asked, none is lied to."""

import asyncio
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.callers import Heard, call_all, judge
from tests.e2e.hostile import held, rss_bytes
from tests.e2e.quirks import on_a_thread
from tests.test_three_processes import HOUSE, Gated, asked
from tests.trio import Callers, Role, Trio, until

STUCK = """
import ctypes
import json


def hold(value):
    ctypes.PyDLL(None).usleep(int(value["seconds"] * 1_000_000))
    return json.dumps(value).encode(), "application/json"
"""
METHOD = """
[methods."stuck.safe"]
provider = "acme"
effect = "safe"
request = "POST /quick"
encode = "python:stuck:hold"
"""
DEADLINE_S = 25.0  # that of the house


class House:
    """The three processes, and a second worker's worth of patience."""

    def __init__(self, trio: Trio, provider: Gated) -> None:
        self.trio = trio
        self.provider = provider
        self.broker = trio.broker("--admin", "127.0.0.1:0")
        self.admin_port = self.broker.ports()[-1]
        self.worker = trio.worker()
        self.gateway = trio.gateway()

    def role(self, name: str) -> Role:
        return {"broker": self.broker, "worker": self.worker, "gateway": self.gateway}[name]

    def rests(self) -> None:
        """A call is answered as if nothing had been, and then nobody holds anything."""
        assert self.trio.call("quick.safe", {"n": 999_999}).result == {"n": 999_999}
        until(lambda: not self.trio.verbose()["open_calls"], "the gateway holds a call")
        until(lambda: not held(self.trio, self.admin_port), "the broker holds a call")
        for role in (self.broker, self.worker, self.gateway):
            assert role.process.poll() is None
            assert not role.faults()


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    (tmp_path / "stuck.py").write_text(STUCK)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with on_a_thread(Gated()) as provider:
        text = HOUSE.replace("{url}", f"http://127.0.0.1:{provider.port}") + METHOD
        with Trio(tmp_path, text) as trio:
            yield House(trio, provider)


def check(callers: Callers, provider: Gated, *, once: bool) -> set[str]:
    """What was said is true; how it was said that they ended."""
    ends = set()
    for number, reply in callers.replies.items():
        executed = "yes" if "result" in reply.json else reply.data["executed"]
        if executed == "no":
            assert not provider.seen[number], reply.json
        if "result" in reply.json:
            assert reply.result == {"n": number}
            assert provider.seen[number]
        if once:
            assert provider.seen[number] <= 1
        ends.add("ok" if "result" in reply.json else reply.data["reason"])
    return ends


@pytest.mark.parametrize("seconds", [1.0, 10.0])
@pytest.mark.parametrize("name", ["gateway", "broker", "worker"])
def test_who_stands_still_and_goes_on_has_cost_no_call_its_one_true_answer(name: str, seconds: float, house: House) -> None:
    provider = house.provider
    running = Callers(house.trio, "gated.once", range(2))
    asked(provider, 2)
    once, safe = Callers(house.trio, "slow.once", range(10, 18)), Callers(house.trio, "slow.safe", range(20, 28))
    asked(provider, 4)
    stopped = house.role(name)
    stopped.send(signal.SIGSTOP)
    began = time.monotonic()
    time.sleep(seconds / 2)
    provider.gate.set()  # what runs ends meanwhile
    late = Callers(house.trio, "slow.safe", range(30, 42))
    time.sleep(seconds / 2)
    stopped.send(signal.SIGCONT)
    for callers in (running, once, safe, late):
        callers.join()
    assert time.monotonic() - began < DEADLINE_S + 5, "nobody waits longer than he asked to"
    house.rests()
    ends = check(running, provider, once=True) | check(once, provider, once=True)
    assert check(safe, provider, once=False) == {"ok"}
    assert check(late, provider, once=False) == {"ok"}, "not refused as if calls took as long as one process stood still"
    assert ends == {"ok"} if seconds < 5 else ends <= {"ok", "worker_lost"}, ends


def test_a_worker_whose_gil_is_held_is_not_lost_and_keeps_nobody_waiting(house: House) -> None:
    """Its heartbeats come from a thread that needs no GIL. Who asked for less time is told in time; who has time gets his answer."""
    provider = house.provider
    patient = Callers(house.trio, "gated.once", range(1))
    asked(provider, 1)
    holder = Callers(house.trio, "stuck.safe", range(50, 51))
    holder_params = [("stuck.safe", {"n": 60, "seconds": 10}, 20.0)]
    calls = [("slow.once", {"n": number}, 2.0) for number in range(100, 104)]

    async def main() -> tuple[list[Heard], list[Heard]]:
        holding = asyncio.ensure_future(call_all(house.trio.port, holder_params))
        await asyncio.sleep(0.5)
        impatient = await call_all(house.trio.port, calls)
        provider.gate.set()
        return impatient, await holding

    impatient, (held_it,) = asyncio.run(main())
    for each in impatient:
        judge(each)
        assert (each.executed, each.data["reason"]) == ("no", "expired")
    assert held_it.ok
    patient.join()
    holder.join()
    assert patient.replies[0].result == {"n": 0}
    house.rests()
    assert not any(provider.seen[each.params["n"]] for each in impatient)
    assert house.broker.said("broker", "Lost") is None


def test_a_broker_that_reads_nothing_under_load_costs_its_callers_their_time_and_the_gateway_no_more_than_it_may(
    house: House,
) -> None:
    """More is said to it than a socket and its kernel hold. All is forgotten in time, and it goes on as if nothing had been."""
    before = rss_bytes(house.gateway)
    house.broker.send(signal.SIGSTOP)
    text = "x" * 60_000
    calls = [("slow.once", {"n": number, "text": text}, 6.0) for number in range(1000, 2500)]
    heard = asyncio.run(call_all(house.trio.port, calls, at_once=1500))
    for each in heard:
        judge(each)
        assert each.executed == "no"
        assert each.data["reason"] in ("expired", "broker_lost")
    assert rss_bytes(house.gateway) < before + 600 * 1024 * 1024
    house.broker.send(signal.SIGCONT)
    house.rests()
    assert not house.provider.seen.keys() & {each.params["n"] for each in heard}
