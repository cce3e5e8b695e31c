"""The processes in which plain functions run: src/homing/roles/python_pool.py."""

import asyncio
import errno
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from homing.calling import CurrentCall
from homing.roles import python_pool
from homing.roles.python_answers import Answered
from homing.roles.python_child import Asked
from homing.roles.python_pool import Command, Errand, Pool, _ending, child_command
from tests.loops import on_both_loops, until
from tests.roles.calling import TARGET, gone


@asynccontextmanager
async def pool(
    size: int = 1, *, command: Command | None = None, methods: tuple[str, ...] = (), log: Callable[[str, str], None] | None = None
) -> AsyncIterator[Pool]:
    made = Pool(
        command or child_command(TARGET),
        size,
        methods=frozenset(methods),
        loop=asyncio.get_running_loop(),
        log=log or (lambda message, fault: None),
    )
    try:
        yield made
    finally:
        await made.close()
        assert made.pids == []


class Asking:
    """An errand, and what came of it."""

    def __init__(self, pool: Pool, method: str, params: bytes = b"") -> None:
        self.answers: list[Answered] = []
        call = CurrentCall(
            call_id="ab" * 16,
            method=f"offered.{method}",
            principal="",
            idempotency_key="",
            attempt=1,
            deadline=time.monotonic() + 60,
        )
        self.errand = Errand(Asked(call, params), self.answers.append)
        pool.run(self.errand)

    async def answer(self) -> Answered:
        await until(lambda: self.answers)
        return self.answers[0]

    async def result(self) -> bytes:
        outcome = (await self.answer()).outcome
        assert outcome.reason == "ok", outcome
        return outcome.result


@on_both_loops
async def test_calls_wait_for_a_free_process_in_their_order() -> None:
    async with pool(2) as here:
        assert await here.start() == ""
        asked = [Asking(here, "add", b'{"one":%d,"other":1}' % number) for number in range(20)]
        assert [await each.result() for each in asked] == [b"%d" % (number + 1) for number in range(20)]
        assert len(here.pids) == 2


@on_both_loops
async def test_params_and_results_may_be_larger_than_any_buffer() -> None:
    async with pool() as here:
        await here.start()
        text = b"x" * 3_000_000
        assert await Asking(here, "length_in_pool", b'{"text":"%b"}' % text).result() == b"3000000"
        assert await Asking(here, "large", b'{"count":3000000}').result() == b'"%b"' % text


@on_both_loops
async def test_a_call_that_holds_the_gil_stops_no_other_and_is_killed_alone(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    async with pool(2) as here:
        await here.start()
        blocked = Asking(here, "block", b'{"seconds":50,"mark":"%b"}' % str(mark).encode())
        await until(lambda: mark.exists() and mark.read_text())
        pid = int(mark.read_text())
        others = [int(await Asking(here, "pid").result()) for _ in range(3)]
        assert pid not in others
        assert here.stop(blocked.errand) is True
        await until(lambda: pid not in here.pids and len(here.pids) == 2)
        assert others[0] in here.pids
        assert blocked.answers == []


@on_both_loops
async def test_what_a_function_started_dies_with_it(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    async with pool() as here:
        await here.start()
        asked = Asking(here, "start_and_block", b'{"mark":"%b"}' % str(mark).encode())
        await until(lambda: mark.exists() and mark.read_text())
        here.stop(asked.errand)
        await until(lambda: gone(int(mark.read_text())))


@on_both_loops
async def test_a_call_that_still_waits_is_stopped_with_proof() -> None:
    async with pool() as here:  # not started: none is ever free
        asked = Asking(here, "add", b'{"one":1,"other":1}')
        assert here.stop(asked.errand) is False
        assert here.stop(asked.errand) is False
        assert await here.start() == ""
        assert await Asking(here, "add", b'{"one":1,"other":2}').result() == b"3"
        assert asked.answers == []


@on_both_loops
async def test_an_answer_that_comes_as_it_is_stopped_is_dropped_and_the_process_replaced() -> None:
    async with pool() as here:
        await here.start()
        before = here.pids
        asked = Asking(here, "add", b'{"one":1,"other":1}')
        here.stop(asked.errand)
        assert await Asking(here, "add", b'{"one":1,"other":2}').result() == b"3"
        assert asked.answers == []
        assert here.pids != before


@pytest.mark.parametrize(
    ("how", "words"), [("exit", "exit code 7"), ("segfault", "SIGSEGV"), ("SIGKILL", "SIGKILL")], ids=["exit", "segfault", "kill"]
)
def test_a_process_that_dies_leaves_its_call_unknown(how: str, words: str) -> None:
    from tests.loops import run

    async def main() -> None:
        async with pool() as here:
            await here.start()
            answered = await Asking(here, "die", b'{"how":"%b"}' % how.encode()).answer()
            assert (answered.outcome.reason, answered.outcome.executed) == ("internal_error", "unknown")
            assert words in answered.outcome.message
            assert await Asking(here, "add", b'{"one":1,"other":2}').result() == b"3"

    run(main())


@on_both_loops
async def test_a_process_that_answers_junk_is_replaced_and_its_call_is_answered() -> None:
    code = """
import socket, sys
from homing.roles.python_child import Begun, frame
with socket.socket(fileno=int(sys.argv[1])) as channel:
    channel.sendall(frame(Begun(methods=("offered.add",))))
    channel.recv(9)
    channel.sendall(b"\\0\\0\\0\\x03xyz")
    channel.recv(9999)
    channel.recv(9999)
"""
    async with pool(command=lambda descriptor: [sys.executable, "-c", code, str(descriptor)]) as here:
        await here.start()
        before = here.pids
        answered = await Asking(here, "add", b'{"one":1,"other":2}').answer()
        assert (answered.outcome.reason, answered.outcome.executed) == ("internal_error", "unknown")
        await until(lambda: here.pids and here.pids != before)


@on_both_loops
async def test_a_process_that_dies_with_nothing_to_do_is_replaced() -> None:
    said: list[Any] = []
    async with pool(log=lambda message, fault: said.append((message, fault))) as here:
        await here.start()
        before = here.pids
        os.kill(before[0], signal.SIGKILL)
        await until(lambda: here.pids and here.pids != before)
        assert await Asking(here, "add", b'{"one":1,"other":2}').result() == b"3"
        assert said == [("A process of the pool ended while it had nothing to do (killed by SIGKILL).", "")]


@on_both_loops
async def test_a_process_that_nobody_can_wait_for_is_replaced_too() -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        async with pool() as here:
            await here.start()
            (pid,) = here.pids
            answered = await Asking(here, "die", b'{"how":"exit"}').answer()
            assert (answered.outcome.reason, answered.outcome.executed) == ("internal_error", "unknown")
            assert await Asking(here, "add", b'{"one":1,"other":2}').result() == b"3"
            assert pid not in here.pids
    finally:
        signal.signal(signal.SIGCHLD, before)


@on_both_loops
async def test_a_module_that_is_not_there_is_told_and_not_tried_without_end() -> None:
    said: list[Any] = []
    async with pool(command=child_command("tests.roles.not_there:worker"), log=lambda *words: said.append(words)) as here:
        assert "no module 'tests.roles.not_there'" in await here.start()
        await until(lambda: not here.pids)
        assert len(said) == 1
        assert "Traceback" in said[0][1]


@on_both_loops
async def test_a_process_that_lacks_a_method_is_no_use() -> None:
    async with pool(methods=("offered.add", "offered.later")) as here:
        assert "the module has no offered.later" in await here.start()


@on_both_loops
async def test_a_process_that_ends_before_it_has_begun_is_told() -> None:
    async with pool(command=lambda descriptor: [sys.executable, "-c", "raise SystemExit(9)"]) as here:
        assert await here.start() == "it ended before it had begun (exit code 9)"


@on_both_loops
async def test_a_process_that_cannot_be_started_now_is_started_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without descriptors or memory for a moment the pool must not stay empty for ever."""
    monkeypatch.setattr(python_pool, "AGAIN_AFTER_S", 0.01)
    said: list[str] = []
    failures = 0

    def command(descriptor: int) -> Sequence[str]:
        nonlocal failures
        if failures:
            failures -= 1
            raise OSError(errno.EMFILE, "too many open files")
        return child_command(TARGET)(descriptor)

    async with pool(command=command, log=lambda message, fault: said.append(message)) as here:
        await here.start()
        failures = 2
        asked = Asking(here, "die", b'{"how":"exit"}')
        assert (await asked.answer()).outcome.executed == "unknown"
        assert await Asking(here, "add", b'{"one":1,"other":2}').result() == b"3"
    assert [message for message in said if "cannot be started" in message] == [
        "A process of the pool cannot be started: [Errno 24] too many open files"
    ] * 2


@on_both_loops
async def test_a_pool_that_cannot_start_anything_says_so() -> None:
    async with pool(command=lambda descriptor: ["/not/there"]) as here:
        assert "cannot be started" in await here.start()
        assert here.pids == []


@on_both_loops
async def test_closing_ends_all_of_them_whatever_they_do(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    async with pool(2) as here:
        await here.start()
        asked = Asking(here, "block", b'{"seconds":50,"mark":"%b"}' % str(mark).encode())
        await until(lambda: mark.exists() and mark.read_text())
    assert gone(int(mark.read_text()))
    assert asked.answers == []


def test_an_end_is_told_in_words() -> None:
    assert [_ending(0), _ending(-9), _ending(-77)] == ["exit code 0", "killed by SIGKILL", "killed by signal 77"]
