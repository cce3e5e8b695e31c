"""What a Python worker offers, and how it leaves: src/homing/roles/python_worker.py."""

import asyncio
import logging
import os
import signal
import threading
import time
from collections.abc import Coroutine
from functools import partial
from pathlib import Path
from typing import Annotated

import msgspec
import pytest

from homing.config import Config
from homing.core.limits import Breaker
from homing.core.machine import PeerFound, Send
from homing.core.messages import Ready
from homing.functions import Function
from homing.roles import python_worker
from homing.roles.process import Plan, new_loop
from homing.roles.python_pool import child_command
from homing.roles.python_worker import _NEVER_OPENS, Offering, Unable, machine_of, methods_of, run_alone, run_offering, unheard
from homing.settings import Broker as BrokerTable
from homing.telemetry import Log, LogHandler
from tests.loops import on_both_loops, until
from tests.roles import offered
from tests.roles.calling import TARGET, WORKER, house, only

WAYS = tuple(name.partition(".")[2] for name in offered.worker.functions)


def offering(*names: str, **options: int) -> Offering:
    return Offering(name="offered", functions=only(*names), command=child_command(TARGET), **options)


@pytest.mark.parametrize(
    ("made", "size", "credit"),
    [
        (offering("build", "who"), 0, 100),
        (offering("build", "who", credit=7), 0, 7),
        (offering("add"), os.cpu_count(), os.cpu_count()),
        (offering("add", "pid", processes=3), 3, 3),
        (offering("add", "build", processes=3), 3, 100),
        (offering("add", "build", processes=3, credit=2), 3, 2),
    ],
    ids=["async", "credit", "def", "processes", "both", "all said"],
)
def test_how_much_it_takes_at_once(made: Offering, size: int, credit: int) -> None:
    assert (made.pool_size, made.credit_max) == (size, credit)


def test_it_tells_the_broker_what_it_has() -> None:
    machine = machine_of(offering("build", "add", processes=2), heartbeat_s=1.0)
    said = [action.message for action in machine.handle(PeerFound(b"broker"), 0.0) if isinstance(action, Send)]
    ready = said[0]
    assert isinstance(ready, Ready)
    assert ready.services == {"offered": 100}
    assert [offer.name for offer in ready.methods] == ["offered.build", "offered.add"]
    assert ready.methods[0] == offered.worker.functions["offered.build"].offer


def test_an_offering_that_brokers_would_not_hear_of_is_told() -> None:
    one = Function(lambda: None, service="offered", name="f")
    assert unheard(offering(*WAYS), 2**20) == ""
    many = Offering(name="offered", functions={str(number): one for number in range(10_000)}, command=child_command(TARGET))
    assert unheard(many, 2**24) == ""
    assert all(
        words in unheard(many, 2**20) for words in ("of its 10000 methods has", "at most 1048576", "broker.frame_bytes_max")
    )
    more = Offering(name="offered", functions={**many.functions, "more": one}, command=child_command(TARGET))
    assert "10001 methods, and brokers hear of at most 10000: spread" in unheard(more, 2**24)


def test_an_offering_that_brokers_would_not_hear_of_does_not_begin() -> None:
    config = Config(broker=BrokerTable(frame_bytes_max=1024))
    log = Log(human=False)
    with pytest.raises(Unable, match="No broker would hear of offered: what it says of its 9 methods has"):
        asyncio.run(run_offering(offering(*WAYS[:9]), config, Plan(name="worker"), log))
    log.close()


def test_what_functions_raise_keeps_no_caller_away() -> None:
    breaker = Breaker(_NEVER_OPENS)
    for number in range(1000):
        breaker.record(number / 100, failure=True, ticket=breaker.allow(number / 100))
    assert breaker.allow(10.0)


def test_a_schema_that_is_none_is_told() -> None:
    function = Function(lambda: None, service="s", name="f")
    function.schema = {"type": "object", "properties": 7}
    with pytest.raises(Unable, match=r"^The params of s\.f have no schema .*methods\..*params"):
        methods_of({"s.f": function})


def test_a_pattern_that_only_python_knows_is_told() -> None:
    def find(text: Annotated[str, msgspec.Meta(pattern=r"^(?P<year>\d+)\Z")]) -> None: ...

    with pytest.raises(Unable, match=r"s\.find .*params\.properties\.text\.pattern"):
        methods_of({"s.find": Function(find, service="s")})


@on_both_loops
async def test_calls_wait_for_a_process_before_they_are_claimed(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    async with house(tmp_path, processes=1) as here:
        blocked = here.begin("block", [1, str(mark)])
        await until(lambda: mark.exists() and mark.read_text())
        waiting = [here.begin("add", [number, 1]) for number in range(5)]
        assert here.part.running == 1
        assert here.calls.granted == 1
        assert [(await each).result for each in waiting] == [b"%d" % (number + 1) for number in range(5)]
        assert blocked.done()


@on_both_loops
async def test_callers_are_told_the_service_wherever_the_function_runs(tmp_path: Path) -> None:
    async with house(tmp_path, only("add", "build")) as here:
        for method, params in (("add", [1, 2]), ("build", [2024])):
            outcome = await here.call(method, params)
            assert [attempt.provider for attempt in outcome.attempts] == ["offered"]


@on_both_loops
async def test_a_drain_lets_calls_end_and_takes_none(tmp_path: Path) -> None:
    async with house(tmp_path) as here:
        running = [here.begin("sleep", [0.5]), here.begin("block", [0.5])]
        await until(lambda: here.part.running == 2)
        drained = asyncio.ensure_future(here.part.drain(partial(here.driver.feed, WORKER), 30.0, asyncio.Event()))
        await asyncio.sleep(0)
        late = here.begin("add", [1, 2])
        assert [(await each).reason for each in running] == ["ok", "ok"]
        await drained
        assert len(here.part.worker) == 0
        assert not late.done()


@on_both_loops
async def test_a_drain_ends_with_its_time_or_in_a_hurry(tmp_path: Path) -> None:
    for folder, within_s, hurries in (("time", 0.2, False), ("hurry", 30.0, True)):
        (tmp_path / folder).mkdir()
        async with house(tmp_path / folder, only("sleep")) as here:
            running = here.begin("sleep", [50])
            await until(lambda here=here: here.part.running == 1)  # type: ignore[misc]
            hurry = asyncio.Event()
            if hurries:
                asyncio.get_running_loop().call_later(0.05, hurry.set)
            since = time.monotonic()
            await here.part.drain(partial(here.driver.feed, WORKER), within_s, hurry)
            assert time.monotonic() - since < 10
            assert ((await running).reason, (await running).executed) == ("cancelled", "unknown")


@on_both_loops
async def test_it_says_how_it_is(tmp_path: Path) -> None:
    async with house(tmp_path, only("sleep")) as here:
        call = here.begin("sleep", [0.2])
        await until(lambda: here.part.running == 1)
        assert here.part.verbose() == {"functions": {"offered.sleep": 1.0}, "outcomes_held_bytes": 0}
        assert (await call).reason == "ok"


def test_what_a_program_logs_after_it_is_its_own_again_and_so_are_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    root, during = logging.getLogger(), []

    def run(main: Coroutine[object, object, None]) -> None:
        during.extend(root.handlers)
        main.close()
        with asyncio.Runner(loop_factory=new_loop) as runner:
            for number in heeded:
                runner.get_loop().add_signal_handler(number, print)

    monkeypatch.setattr(python_worker, "run_to_its_end", run)
    monkeypatch.setattr(root, "handlers", [])
    heeded = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)}
    run_alone(offering("build"), ("tcp://127.0.0.1:1",), None, drain_timeout_s=1)
    assert [type(handler) for handler in during] == [LogHandler]
    assert root.handlers == []
    assert {number: signal.getsignal(number) for number in heeded} == heeded


def test_it_is_run_in_the_main_thread_and_on_no_loop() -> None:
    said: list[str] = []

    def try_it() -> None:
        with pytest.raises(RuntimeError) as caught:
            run_alone(offering("build"), ("tcp://127.0.0.1:1",), None, drain_timeout_s=1)
        said.append(str(caught.value))

    async def try_here() -> None:
        try_it()

    asyncio.run(try_here())
    thread = threading.Thread(target=try_it)
    thread.start()
    thread.join()
    assert ["loop" in said[0], "main thread" in said[1]] == [True, True]
