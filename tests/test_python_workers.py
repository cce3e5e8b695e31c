"""A Python worker as a process of its own, beside a broker and a gateway: killed, sent away and kept busy, and every call comes home."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from homing import Client, NotExecuted
from homing.engines.zmq_curve import new_keys
from tests.roles.calling import gone
from tests.serving import Reply
from tests.trio import Role, Trio, until

HOUSE = """
[gateway]
listen = "127.0.0.1:0"
anonymous = ["*"]
brokers = ["{broker}"]
[admin]
listen = "127.0.0.1:0"
[broker]
listen = "{broker}"
[worker]
brokers = ["{broker}"]
"""
REPORTS = """
import asyncio, ctypes, logging, multiprocessing, os, sys, time
from pathlib import Path
from homing import Worker, current_call

worker = Worker("reports")
logging.basicConfig(format="as this module would like: %(message)s")


@worker.method(effect="safe", timeout=60)
async def build(year: int) -> dict[str, int]:
    "Build the report of a year."
    return {"year": year}


@worker.method(effect="safe")
def square(n: int) -> int:
    return n * n


@worker.method(effect="safe")
def hold(seconds: float, mark: str = "") -> int:
    "Hold the GIL."
    if mark:
        Path(mark).write_text(str(os.getpid()))
    ctypes.PyDLL(None).usleep(int(seconds * 1e6))
    return os.getpid()


@worker.method()
async def once(seconds: float, mark: str) -> str:
    Path(mark).write_text("begun")
    await asyncio.sleep(seconds)
    return "done"


@worker.method(effect="safe")
async def again(mark: str) -> int:
    "The first of two never ends."
    try:
        Path(mark).touch(exist_ok=False)
    except FileExistsError:
        return current_call().attempt
    await asyncio.sleep(50)
    return 0


@worker.method(effect="safe")
async def stubborn(mark: str) -> None:
    "Cannot be cancelled."
    Path(mark).write_text("begun")
    while True:
        try:
            await asyncio.sleep(50)
        except asyncio.CancelledError:
            pass


@worker.method(effect="safe")
async def in_thread(mark: str) -> None:
    "Neither can a thread."
    Path(mark).write_text("begun")
    await asyncio.to_thread(time.sleep, 50)


@worker.method(effect="safe")
async def leave() -> None:
    "As a library may that is meant for commands."
    async def main():
        sys.exit(3)
    await asyncio.gather(main(), asyncio.sleep(1))


@worker.method(effect="safe")
async def end_a_fork() -> int:
    process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(50,))
    process.start()
    process.terminate()
    await asyncio.to_thread(process.join, 20)
    return process.exitcode


def say(words):
    logging.getLogger("sales").warning("%s", words)
    logging.warning("%d", "no number")


@worker.method(effect="safe")
def tell() -> str:
    say("in a process")
    return current_call().call_id


@worker.method(effect="safe")
async def tell_here() -> str:
    say("here")
    await asyncio.to_thread(say, "in a thread")
    return current_call().call_id
"""


class House(Trio):
    """A broker, a gateway, and Python workers."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, HOUSE)
        (folder / "reports.py").write_text(REPORTS)

    def reports(self, *arguments: str) -> Role:
        return self.worker("reports:worker", "--processes", "2", *arguments)

    def learnt(self, gateway: Role) -> None:
        """Wait until the gateway knows the methods."""
        until(
            lambda: any("reports.build" in line["message"] for line in gateway.log if line["event"] == "learnt"), str(gateway.log)
        )


class Calling:
    """One call on a thread."""

    def __init__(self, house: House, method: str, params: Any, **headers: str) -> None:
        self._replies: list[Reply] = []
        self._thread = threading.Thread(target=lambda: self._replies.append(house.call(method, params, **headers)), daemon=True)
        self._thread.start()

    @property
    def done(self) -> bool:
        return bool(self._replies)

    def reply(self) -> Reply:
        self._thread.join(40)
        return self._replies[0]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with House(tmp_path) as made:
        yield made


def test_its_methods_are_learnt_validated_and_called(house: House) -> None:
    broker, worker = house.broker(), house.reports()
    gateway = house.gateway()
    house.learnt(gateway)
    assert house.call("reports.build", {"year": 2024}).result == {"year": 2024}
    assert house.call("reports.build", [2024]).result == {"year": 2024}
    assert house.call("reports.square", {"n": 7}).result == 49
    refused = house.call("reports.build", {"year": "2024"})
    assert (refused.data["reason"], refused.data["errors"][0]["path"], "attempts" in refused.data) == (
        "invalid_params",
        "/year",
        False,
    )
    assert house.call("reports.bulid", {}).data["reason"] == "method_not_found"
    assert worker.said("offering", "homing worker reports:worker offers reports (100 at once)") is not None
    until(lambda: len([line for line in worker.log if line["event"] == "call"]) == 3)
    assert [line["reason"] for line in worker.log if line["event"] == "call"] == ["ok"] * 3
    assert broker.faults() == gateway.faults() == worker.faults() == []


def test_a_function_that_holds_the_gil_stops_neither_heartbeats_nor_other_calls(house: House) -> None:
    house.broker()
    worker, gateway = house.reports(), house.gateway()
    house.learnt(gateway)
    mark = house.folder / "mark"
    held = Calling(house, "reports.hold", {"seconds": 10, "mark": str(mark)})
    until(mark.exists)
    for number in range(20):
        assert house.call("reports.square", {"n": number}).result == number * number
        assert house.call("reports.build", {"year": number}).result == {"year": number}
    assert not held.done
    assert isinstance(held.reply().result, int)
    assert worker.said("broker", "Lost") is None
    assert worker.faults() == gateway.faults() == []


def test_a_deadline_kills_the_process_that_runs_the_call(house: House) -> None:
    house.broker()
    house.reports()
    house.learnt(house.gateway())
    mark = house.folder / "mark"
    late = house.call("reports.hold", {"seconds": 50, "mark": str(mark)}, Homing_Timeout="2")
    assert (late.data["reason"], late.data["executed"]) == ("deadline_exceeded", "unknown")
    until(lambda: gone(int(mark.read_text())))
    assert house.call("reports.square", {"n": 3}).result == 9


def test_a_worker_that_is_killed_loses_its_once_calls_truly_and_its_safe_ones_go_elsewhere(house: House) -> None:
    house.broker()
    first, gateway = house.reports(), house.gateway()
    house.learnt(gateway)
    marks = [house.folder / name for name in ("once", "again", "hold")]
    once = Calling(house, "reports.once", {"seconds": 50, "mark": str(marks[0])})
    again = Calling(house, "reports.again", {"mark": str(marks[1])})
    hold = Calling(house, "reports.hold", {"seconds": 1, "mark": str(marks[2])})
    until(lambda: all(mark.exists() for mark in marks))
    pid = int(marks[2].read_text() or "0")
    second = house.reports()
    first.kill()
    assert (once.reply().data["reason"], once.reply().data["executed"]) == ("worker_lost", "unknown")
    assert again.reply().result == 2
    assert isinstance(hold.reply().result, int)
    until(lambda: gone(pid))  # its processes have died with it
    assert second.faults() == gateway.faults() == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_that_is_sent_away_ends_what_it_runs(house: House, number: signal.Signals) -> None:
    house.broker()
    worker = house.reports()
    house.learnt(house.gateway())
    marks = [house.folder / name for name in ("once", "hold")]
    calls = [
        Calling(house, "reports.once", {"seconds": 1, "mark": str(marks[0])}),
        Calling(house, "reports.hold", {"seconds": 1, "mark": str(marks[1])}),
    ]
    until(lambda: all(mark.exists() for mark in marks))
    worker.send(number)
    assert worker.wait() == 0
    assert calls[0].reply().result == "done"
    assert isinstance(calls[1].reply().result, int)
    assert worker.faults() == []


def test_a_function_that_exits_takes_nobody_with_it(house: House) -> None:
    house.broker()
    worker = house.reports()
    house.learnt(house.gateway())
    mark = house.folder / "mark"
    other = Calling(house, "reports.once", {"seconds": 1, "mark": str(mark)})
    until(mark.exists)
    reply = house.call("reports.leave", {})
    assert (reply.data["reason"], reply.data["executed"]) == ("internal_error", "unknown")
    assert other.reply().result == "done"
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0


def test_a_signal_for_what_a_function_forked_is_not_the_workers(house: House) -> None:
    house.broker()
    worker = house.reports()
    house.learnt(house.gateway())
    for _ in range(2):
        assert house.call("reports.end_a_fork", {}).result == -signal.SIGTERM
    assert worker.said("drain") is None
    assert worker.faults() == []


def test_what_functions_log_are_lines_of_the_log_that_know_the_call(house: House) -> None:
    house.broker()
    worker = house.reports()
    house.learnt(house.gateway())
    call_ids = {house.call(f"reports.{method}", {}).result for method in ("tell", "tell_here")}
    said = [worker.wait_for("log", words) for words in ("in a process", "here", "in a thread")]
    assert {line["call_id"] for line in said} == call_ids
    assert [(line["level"], line["logger"]) for line in said] == [("warning", "sales")] * 3
    until(lambda: len([line for line in worker.log if "cannot be put together" in line.get("message", "")]) == 3)
    assert worker.said("said") is None


@pytest.mark.parametrize("method", ["stubborn", "in_thread"])
def test_what_cannot_be_ended_does_not_keep_it(house: House, method: str) -> None:
    house.broker()
    worker = house.reports()
    house.learnt(house.gateway())
    mark = house.folder / "mark"
    reply = house.call(f"reports.{method}", {"mark": str(mark)}, Homing_Timeout="0.5")
    assert (mark.read_text(), reply.data["reason"], reply.data["executed"]) == ("begun", "deadline_exceeded", "unknown")
    worker.send(signal.SIGTERM)
    assert worker.process.wait(15) == 0
    assert worker.wait() == 0
    assert worker.said("stopped") is not None
    assert (worker.said("left_behind", "reports.stubborn") is not None) == (method == "stubborn")
    assert worker.faults() == []


def test_a_program_that_runs_its_own_worker_goes_on_after_it_whatever_the_functions_do(house: House) -> None:
    house.broker()
    run = f"worker.run('{house.endpoint}', processes=1)"
    (house.folder / "my-program.py").write_text(f"{REPORTS}\nif __name__ == '__main__':\n    {run}\n    print('left')\n")
    program = subprocess.Popen(
        [sys.executable, "my-program.py"], cwd=house.folder, stderr=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        house.learnt(house.gateway())
        mark = str(house.folder / "mark")
        assert house.call("reports.stubborn", {"mark": mark}, Homing_Timeout="0.5").data["reason"] == "deadline_exceeded"
        program.send_signal(signal.SIGTERM)
        said, log = program.communicate(timeout=15)
    finally:
        program.kill()
    assert (program.returncode, said.decode()) == (0, "left\n"), log
    assert b"Traceback" not in log


def test_a_worker_that_has_not_begun_can_be_sent_away(house: House) -> None:
    """Its module waits for something when it is imported again: a lock, say, that the first one holds."""
    (house.folder / "locked.py").write_text(
        "import os, time\nfrom homing import Worker\nworker = Worker('locked')\n"
        "@worker.method()\ndef f() -> None: ...\n"
        "if os.environ.get('TWICE'):\n    print('waiting', flush=True)\n    open('waiting', 'w').close()\n    time.sleep(50)\n"
        "os.environ['TWICE'] = '1'\n"
    )
    worker = house.start("worker", "locked:worker", "--processes", "1")
    until((house.folder / "waiting").exists)
    worker.send(signal.SIGTERM)
    assert worker.process.wait(15) == 0
    assert worker.wait() == 0


def test_all_of_its_process_group_being_told_to_leave_ends_no_call(house: House) -> None:
    """As a service manager does, which tells every process of a service."""
    house.broker()
    worker = house.reports()
    house.learnt(house.gateway())
    mark = house.folder / "mark"
    held = Calling(house, "reports.hold", {"seconds": 2, "mark": str(mark)})
    until(lambda: mark.exists() and mark.read_text())
    os.kill(int(mark.read_text()), signal.SIGTERM)
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0
    assert isinstance(held.reply().result, int)


def test_a_method_of_the_configuration_goes_to_it_too_and_is_above_its_offer(house: House) -> None:
    path = house.folder / "homing.toml"
    path.write_text(
        path.read_text()
        + '[methods."reports.build"]\nservice = "reports"\neffect = "safe"\nparams.properties.year.maximum = 1999\n'
    )
    house.broker()
    house.reports()
    gateway = house.gateway()
    until(lambda: any("reports.square" in line["message"] for line in gateway.log if line["event"] == "learnt"))
    assert house.call("reports.build", {"year": 1984}).result == {"year": 1984}
    assert house.call("reports.build", {"year": 2024}).data["errors"] == [{"path": "/year", "message": "must be at most 1999"}]


def test_a_program_may_run_its_own_worker(house: House) -> None:
    house.broker()
    (house.folder / "my-program.py").write_text(
        REPORTS + f'\nworker.run("{house.endpoint}", processes=1)\nprint("left", os.getpid())\n'
    )
    program = subprocess.Popen(
        [sys.executable, "my-program.py"], cwd=house.folder, stderr=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        house.learnt(house.gateway())
        assert house.call("reports.square", {"n": 5}).result == 25
        program.send_signal(signal.SIGTERM)
        said, log = program.communicate(timeout=30)
    finally:
        program.kill()
    assert program.returncode == 0, log
    assert said.decode().splitlines()[-1] == f"left {program.pid}"


def test_a_client_of_the_broker_calls_it_without_a_gateway_and_is_validated_by_the_worker(house: House) -> None:
    house.broker()
    house.reports()
    with Client(house.endpoint, timeout=30) as homing:
        assert homing.call("reports.square", {"n": 7}) == 49
        with pytest.raises(NotExecuted) as caught:
            homing.call("reports.square", {"n": "7"})
    assert (caught.value.reason, caught.value.executed) == ("invalid_params", "no")


def test_with_keys_it_serves_what_its_key_may_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "reports.py").write_text(REPORTS)
    keys = {name: new_keys() for name in ("broker", "reports", "stranger", "caller")}
    for name, (public, secret) in keys.items():
        path = tmp_path / f"{name}.key"
        path.write_text(f'public_key = "{public}"\nsecret_key = "{secret}"\n')
        path.chmod(0o600)
    peers = "".join(
        f'[peers.{name}]\npublic_key = "{keys[name][0]}"\n{may}\n'
        for name, may in (("reports", 'serve = ["reports"]'), ("stranger", 'serve = ["acme"]'), ("caller", 'call = ["*"]'))
    )
    with Trio(tmp_path, '[broker]\nlisten = "{broker}"\ncurve = { key = "broker.key" }\n' + peers) as house:
        house.broker()
        for name in ("stranger", "reports"):
            path = tmp_path / f"{name}.toml"
            path.write_text(f'[worker]\ncurve = {{ key = "{name}.key", broker = "{keys["broker"][0]}" }}\n')
        with Client(house.endpoint, curve=tmp_path / "caller.key", broker_key=keys["broker"][0], timeout=30) as homing:
            house.worker("reports:worker", "--broker", house.endpoint, "--config", "stranger.toml")
            with pytest.raises(NotExecuted) as caught:
                homing.call("reports.square", {"n": 7}, timeout=20)
            assert caught.value.reason == "no_worker"
            house.worker("reports:worker", "--broker", house.endpoint, "--config", "reports.toml")
            assert homing.call("reports.square", {"n": 7}) == 49


def test_serve_with_an_open_broker_takes_python_workers_too(house: House) -> None:
    serving = house.start("serve")
    house.port, house.admin_port = serving.ports()[:2]
    house.reports()
    house.learnt(serving)
    assert house.call("reports.square", {"n": 6}).result == 36


def test_a_module_that_cannot_be_imported_again_is_told_before_anything_is_offered(house: House) -> None:
    house.broker()
    (house.folder / "twice.py").write_text(
        "import os\nfrom homing import Worker\nworker = Worker('twice')\n"
        "@worker.method()\ndef f() -> None: ...\n"
        "if os.environ.get('TWICE'):\n    raise RuntimeError('not twice')\nos.environ['TWICE'] = '1'\n"
    )
    worker = house.start("worker", "twice:worker")
    assert worker.wait() == 2
    said = "\n".join(line["message"] for line in worker.log)
    assert "The processes of twice cannot begin: RuntimeError: not twice" in said
    assert worker.said("offering") is None
