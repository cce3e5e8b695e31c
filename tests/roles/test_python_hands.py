"""Functions called, ended in time, and answered for whatever they do: src/homing/roles/python_hands.py. No call goes over a socket."""

import asyncio
import os
import time
from pathlib import Path
from typing import Any

import pytest

from homing.core.machine import DrainTimedOut
from homing.roles import python_hands
from tests.loops import on_both_loops, until
from tests.roles import offered
from tests.roles.calling import WORKER, gone, house, only


@on_both_loops
async def test_both_kinds_of_functions_are_called_and_logged(tmp_path: Path) -> None:
    async with house(tmp_path) as here:
        assert await here.result("build", {"year": 2024, "format": "csv", "pages": 2}) == {"year": 2024, "format": "csvcsv"}
        assert await here.result("build", [2024]) == {"year": 2024, "format": "pdf"}
        assert await here.result("add", [1, 2]) == 3
        assert await here.result("pid") != os.getpid()
        assert here.part.running == 0
    lines = here.events("call")
    assert [(line["method"], line["reason"], line["principal"]) for line in lines] == [
        ("offered.build", "ok", "webshop"),
        ("offered.build", "ok", "webshop"),
        ("offered.add", "ok", "webshop"),
        ("offered.pid", "ok", "webshop"),
    ]


@pytest.mark.parametrize(
    ("params", "errors"),
    [
        ({}, [("", "lacks the member")]),
        ({"year": "2024"}, [("/year", "must be of type integer")]),
        ({"year": 2024, "format": "doc", "pages": 0}, [("/format", "must be"), ("/pages", "must be at least 1")]),
        ({"year": 2024, "yaer": 1}, [("", "does not know: yaer")]),
        ([1, "pdf", 3], [("", "has 3 elements, but the method takes 2")]),
        ({"year": 2024.0}, [("/year", "Expected `int`")]),
        (b"{", None),
        (b"17", None),
        (b'{"year": %b}' % (b"[" * 1000 + b"]" * 1000), None),
        (b'{"year": "\xff"}', None),
    ],
    ids=[str(number) for number in range(10)],
)
def test_wrong_params_are_told_by_the_worker_too_and_nothing_is_called(
    params: object, errors: list[tuple[str, str]] | None, tmp_path: Path
) -> None:
    from tests.loops import run

    async def main() -> None:
        async with house(tmp_path, only("build")) as here:
            outcome = await here.call("build", params)
        assert (outcome.reason, outcome.executed, outcome.retry) == ("invalid_params", "no", "pointless")
        if errors is not None:
            told = sorted((error.path, error.message) for error in outcome.errors)
            assert [path for path, _ in told] == [path for path, _ in errors]
            assert all(words in message for (_, message), (_, words) in zip(told, errors, strict=True)), told

    run(main())


@on_both_loops
async def test_nobody_makes_a_method_less_strict_than_it_is(tmp_path: Path) -> None:
    async with house(tmp_path, only("sleep", "build")) as here:
        outcome = await here.call("sleep", [0], effect="safe")
        assert (outcome.reason, outcome.executed) == ("invalid_request", "no")
        assert "is 'once' here, and was called as 'safe'" in outcome.message
        assert (await here.call("build", [2024], effect="once")).reason == "ok"


@on_both_loops
async def test_a_method_that_no_worker_knows_is_told_as_such(tmp_path: Path) -> None:
    async with house(tmp_path, only("build")) as here:
        outcome = await here.call("bulid", {})
    assert (outcome.reason, outcome.executed) == ("method_not_found", "no")


@on_both_loops
async def test_the_call_is_at_hand_in_both(tmp_path: Path) -> None:
    async with house(tmp_path) as here:
        for method in ("who", "who_else"):
            call = await here.result(method)
            assert (call["method"], call["principal"], call["attempt"]) == (f"offered.{method}", "webshop", 1)
            assert len(call["call_id"]) == 32
            assert 20 < call["remaining_s"] < 30
            assert 20 < call["deadline"] - time.monotonic() < 30
        keys = [
            (await here.call("who", key=key, principal=principal)).result.partition(b'"idempotency_key":"')[2][:32]
            for key, principal in [("order-17", "a"), ("order-17", "a"), ("order-17", "b"), ("order-18", "a")]
        ]
    assert keys[0] == keys[1]
    assert len({*keys}) == 3


@on_both_loops
async def test_calls_at_once_have_each_their_own_context(tmp_path: Path) -> None:
    async with house(tmp_path, only("who")) as here:
        calls = [here.begin("who", principal=f"p{number}") for number in range(50)]
        principals = [(await call).result.partition(b'"principal":"')[2].partition(b'"')[0] for call in calls]
    assert principals == [b"p%d" % number for number in range(50)]


MISBEHAVIOUR = [
    ("value", "internal_error", None, "unknown"),
    ("not executed", "provider_unreachable", None, "no"),
    ("not executed, own code", "application", 17, "no"),
    ("executed", "application", 18, "yes"),
    ("unknown", "application", 19, "unknown"),
    ("call error", "application", 20, "unknown"),
    ("call error, refused", "application", 21, "no"),
    ("of another call", "overloaded", None, "unknown"),
    ("unencodable data", "application", 22, "unknown"),
    ("no verdict", "application", 23, "unknown"),
    ("no code", "internal_error", None, "unknown"),
    ("not whole", "internal_error", None, "unknown"),
    ("exit", "internal_error", None, "unknown"),
    ("interrupt", "internal_error", None, "unknown"),
    ("cancelled", "internal_error", None, "unknown"),
    ("generator exit", "internal_error", None, "unknown"),
    ("timeout", "internal_error", None, "unknown"),
    ("recursion", "internal_error", None, "unknown"),
    ("unencodable", "internal_error", None, "unknown"),
    ("nan", "internal_error", None, "unknown"),
    ("print", "ok", None, "yes"),
]


@on_both_loops
async def test_whatever_a_function_does_there_is_one_answer(tmp_path: Path) -> None:
    async with house(tmp_path) as here:
        for method in ("misbehave", "misbehave_in_pool"):
            found = []
            for how, *_ in MISBEHAVIOUR:
                outcome = await here.call(method, {"how": how})
                found.append((how, outcome.reason, outcome.code, outcome.executed))
                assert "secret" not in outcome.message
            assert found == MISBEHAVIOUR
        pids = here.part.pool.pids if here.part.pool else []
        assert await here.result("pid") in pids
    faults = here.events("fault")
    faulty = [how for how, reason, *_ in MISBEHAVIOUR if reason == "internal_error"]
    assert len(faults) == 2 * (len(faulty) + 2)
    assert any("ValueError: a secret" in fault["traceback"] for fault in faults)
    assert {fault["method"] for fault in faults} == {"offered.misbehave", "offered.misbehave_in_pool"}


@on_both_loops
async def test_a_function_that_forks_is_answered_once_and_the_next_has_its_own_answer(tmp_path: Path) -> None:
    async with house(tmp_path, processes=1) as here:
        for method in ("fork", "fork_in_pool"):
            for how in ("exit", "raise", "return"):
                assert await here.result(method, {"how": how}) == "the parent's"
                assert [await here.result("add", [1, number]) for number in range(3)] == [1, 2, 3]


@on_both_loops
async def test_a_function_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    async with house(tmp_path) as here:
        asleep, blocked = here.begin("sleep", [50], timeout=0.5), here.begin("block", [50, str(mark)], timeout=2)
        for call in (asleep, blocked):
            outcome = await call
            assert (outcome.reason, outcome.executed, outcome.retry) == ("deadline_exceeded", "unknown", "unsafe")
        await until(lambda: gone(int(mark.read_text())))
        assert await here.result("add", [1, 2]) == 3


@on_both_loops
async def test_a_function_that_was_cancelled_may_prove_that_it_did_nothing(tmp_path: Path) -> None:
    async with house(tmp_path, only("careful")) as here:
        outcome = await here.start("careful", timeout=0.2)
        assert (outcome.reason, outcome.executed, outcome.message) == ("provider_unreachable", "no", "It was never sent.")


@on_both_loops
async def test_a_function_that_goes_on_is_answered_for(tmp_path: Path) -> None:
    mark = str(tmp_path)
    async with house(tmp_path, only("stubborn")) as here:
        outcome = await here.call("stubborn", [mark], timeout=0.3)
        assert (outcome.reason, outcome.executed) == ("deadline_exceeded", "unknown")
        assert mark not in offered.went_on
        await until(lambda: mark in offered.went_on)
        assert here.part.running == 0
    assert [line["reason"] for line in here.events("call")] == ["deadline_exceeded"]


@on_both_loops
async def test_what_waits_for_a_process_when_its_time_is_up_was_never_begun(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    async with house(tmp_path, processes=1) as here:
        blocked = here.begin("block", [50, str(mark)], timeout=30)
        await until(lambda: mark.exists() and mark.read_text())
        outcome = await here.call("add", [1, 2], timeout=0.3)
        assert outcome.executed == "no"
        assert not blocked.done()


@on_both_loops
async def test_a_process_that_is_being_replaced_at_the_deadline_proves_a_no(tmp_path: Path) -> None:
    async with house(tmp_path, processes=1) as here:
        pool = here.part.pool
        assert pool is not None
        idle, pool._idle = pool._idle, []  # as if it had just been killed
        outcome = await here.start("add", [1, 2], timeout=0.2)
        assert (outcome.reason, outcome.executed) == ("deadline_exceeded", "no")
        pool._idle = idle
        assert await here.result("add", [1, 2]) == 3


@on_both_loops
async def test_calls_go_on_while_one_holds_the_gil_for_seconds(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    async with house(tmp_path) as here:
        blocked = here.begin("block", [3, str(mark)])
        await until(lambda: mark.exists() and mark.read_text())
        assert await here.result("add", [1, 2]) == 3
        assert (await here.result("build", [2024]))["year"] == 2024
        assert not blocked.done()
        assert (await blocked).result == b'"blocked"'


@on_both_loops
async def test_what_still_runs_when_the_drain_is_over_is_ended(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    async with house(tmp_path) as here:
        calls = [here.begin("sleep", [50]), here.begin("block", [50, str(mark)])]
        await until(lambda: mark.exists() and mark.read_text())
        here.driver.feed(WORKER, DrainTimedOut())
        outcomes = [await call for call in calls]
    assert [(outcome.reason, outcome.executed) for outcome in outcomes] == [("cancelled", "unknown")] * 2
    assert gone(int(mark.read_text()))


def test_the_grace_is_shorter_than_anybody_waits() -> None:
    assert 0 < python_hands.GRACE_S < 0.25  # a hop's largest margin


@on_both_loops
async def test_a_worker_of_coroutines_has_no_processes(tmp_path: Path) -> None:
    async with house(tmp_path, only("build", "length")) as here:
        assert here.part.pool is None
        text: Any = "x" * 1_000_000
        assert await here.result("length", {"text": text}) == 1_000_000


@on_both_loops
async def test_a_name_that_is_no_utf_8_in_what_a_function_raises_takes_nobody_his_answer(tmp_path: Path) -> None:
    async with house(tmp_path) as here:
        for method in ("misbehave", "misbehave_in_pool"):
            outcome = await here.call(method, {"how": "surrogate"})
            assert (outcome.reason, outcome.executed) == ("internal_error", "unknown")
            assert "broke off" in outcome.message
        assert here.part.running == 0
    assert ["no file caf?" in event["traceback"] for event in here.events("fault")] == [True, True]


@on_both_loops
async def test_a_log_that_fails_takes_nobody_his_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with house(tmp_path, only("sleep")) as here:
        faults: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: faults.append(context))

        def fail(*_: object, **__: object) -> None:
            raise RuntimeError("no log")

        monkeypatch.setattr(here.part.hands.log, "call", fail)
        assert (await here.call("sleep", [0])).reason == "ok"
        monkeypatch.undo()


@on_both_loops
async def test_what_cannot_be_begun_for_a_fault_of_ours_is_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with house(tmp_path, only("sleep")) as here:
        with monkeypatch.context() as patched:
            patched.setattr(python_hands, "CurrentCall", None)
            outcome = await here.call("sleep", [0])
        assert (outcome.reason, outcome.executed) == ("internal_error", "unknown")
        assert here.part.running == 0
        assert (await here.call("sleep", [0])).reason == "ok"
