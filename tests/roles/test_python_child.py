"""A process of the pool, spoken to over its socket: src/homing/roles/python_child.py."""

import contextvars
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest

from homing.calling import CurrentCall
from homing.errors import Outcome
from homing.functions import Function
from homing.roles.python_answers import Answered
from homing.roles.python_child import LENGTH_BYTES, Asked, Begun, _frame_of, answer, frame
from homing.roles.python_pool import child_command
from tests.roles import offered
from tests.roles.calling import gone


def call(method: str = "offered.add") -> CurrentCall:
    return CurrentCall(
        call_id="ab" * 16, method=method, principal="webshop", idempotency_key="k", attempt=1, deadline=time.monotonic() + 60
    )


class Child:
    def __init__(self, process: "subprocess.Popen[bytes]", channel: socket.socket) -> None:
        self.process = process
        self.channel = channel

    def receive(self, kind: Any) -> Any:
        length = int.from_bytes(self._exactly(LENGTH_BYTES), "big")
        return msgspec.msgpack.decode(self._exactly(length), type=kind)

    def ask(self, method: str, params: bytes) -> Any:
        self.channel.sendall(frame(Asked(call(f"offered.{method}"), params)))
        return self.receive(Answered).outcome

    def _exactly(self, length: int) -> bytes:
        data = b""
        while len(data) < length:
            more = self.channel.recv(length - len(data))
            assert more, "it hung up"
            data += more
        return data


@contextmanager
def child(target: str = "tests.roles.offered:worker") -> Iterator[Child]:
    ours, theirs = socket.socketpair()
    ours.settimeout(20)
    with ours:
        with theirs:
            command = child_command(target)(theirs.fileno())
            process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
        try:
            yield Child(process, ours)
        finally:
            process.kill()
            process.wait()


def test_it_says_what_it_has_and_answers_one_call_after_the_other() -> None:
    with child() as there:
        assert set(there.receive(Begun).methods) == set(offered.worker.functions)
        assert there.ask("add", b'{"one":1,"other":2}').result == b"3"
        assert there.ask("misbehave_in_pool", b'{"how":"exit"}').reason == "internal_error"
        assert there.ask("misbehave_in_pool", b'{"how":"interrupt"}').reason == "internal_error"
        assert there.ask("misbehave_in_pool", b'{"how":"surrogate"}').reason == "internal_error"
        assert there.ask("add", b'{"one":"x","other":2}').reason == "invalid_params"
        assert there.ask("large", b'{"count":3000000}').held_bytes == 3_000_002


def test_an_answer_that_cannot_be_told_is_told_as_such() -> None:
    untold = Answered(Outcome(reason="application", executed="no", code=10**30))
    with pytest.raises(OverflowError):
        frame(untold)
    told = msgspec.msgpack.decode(_frame_of(Asked(call(), b""), untold)[LENGTH_BYTES:], type=Answered)
    assert (told.outcome.reason, told.outcome.executed) == ("internal_error", "unknown")
    assert "OverflowError" in told.fault


def test_an_answer_that_nobody_could_carry_on_stays_where_it_is() -> None:
    with child() as there:
        there.receive(Begun)
        there.channel.sendall(frame(Asked(call("offered.large"), b'{"count":1022}', outcome_bytes_max=1024)))
        assert there.receive(Answered).outcome.reason == "ok"
        there.channel.sendall(frame(Asked(call("offered.large"), b'{"count":1023}', outcome_bytes_max=1024)))
        outcome = there.receive(Answered).outcome
        assert (outcome.reason, outcome.executed, outcome.result) == ("response_too_large", "yes", b"")


@pytest.mark.parametrize("how", ["exit", "raise", "return"])
def test_a_fork_that_comes_back_from_its_function_answers_nothing(how: str) -> None:
    with child() as there:
        there.receive(Begun)
        assert there.ask("fork_in_pool", b'{"how":"%b"}' % how.encode()).result == b'"the parent\'s"'
        assert [there.ask("add", b'{"one":1,"other":%d}' % number).result for number in range(3)] == [b"1", b"2", b"3"]


def test_a_signal_ends_what_a_function_forked() -> None:
    with child() as there:
        there.receive(Begun)
        assert there.ask("end_a_fork_in_pool", b"").result == b"-15"


def test_it_leaves_when_the_pool_hangs_up() -> None:
    with child() as there:
        there.receive(Begun)
        there.channel.shutdown(socket.SHUT_WR)
        assert there.process.wait(20) == 0


def test_a_thread_that_a_function_has_left_does_not_keep_it() -> None:
    with child() as there:
        there.receive(Begun)
        assert there.ask("leave_a_thread", b'{"closing":false}').result == b'"left"'
        there.channel.shutdown(socket.SHUT_WR)
        assert there.process.wait(20) == 0
    with child() as there:
        there.receive(Begun)
        with pytest.raises(AssertionError, match="it hung up"):
            there.ask("leave_a_thread", b'{"closing":true}')
        assert there.process.wait(20) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_to_stop_are_for_the_pool(number: signal.Signals) -> None:
    with child() as there:
        there.receive(Begun)
        there.process.send_signal(number)
        assert there.ask("add", b'{"one":1,"other":2}').result == b"3"


def test_it_dies_with_the_process_that_started_it() -> None:
    code = f"""
import os, socket, subprocess, sys
from homing.roles.python_pool import child_command
ours, theirs = socket.socketpair()
child = subprocess.Popen(child_command("tests.roles.offered:worker")(theirs.fileno()), pass_fds=[theirs.fileno()])
os.set_inheritable(theirs.fileno(), True)
ours.recv(1)  # it has begun
print(child.pid, flush=True)
os.kill(os.getpid(), {signal.SIGKILL})
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=30)
    pid = int(done.stdout)
    while not gone(pid):
        time.sleep(0.01)


def test_what_cannot_be_imported_is_told_with_its_traceback() -> None:
    with child("tests.roles.not_there:worker") as there:
        begun = there.receive(Begun)
        assert "there is no module 'tests.roles.not_there'" in begun.problem
        assert "Traceback" in begun.fault
        assert there.process.wait(20) == 0


def test_each_call_has_a_context_of_its_own() -> None:
    seen = []

    def function() -> None:
        from homing import current_call

        seen.append(current_call().method)

    def main() -> None:
        answered = answer(Function(function, service="s"), Asked(call("s.function"), b""))
        assert (answered.outcome.result, seen) == (b"null", ["s.function"])
        with pytest.raises(LookupError):
            function()

    contextvars.Context().run(main)  # an empty one, whatever a test before has left
