"""`homing serve --processes`, with real processes that are killed, replaced and told to leave while callers go on calling."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from tests.load import Load, Provider, check
from tests.running import ANY_PORT, Running, homing

HOUSE = (
    ANY_PORT.replace("[gateway]", '[gateway]\nanonymous = ["*"]\ndeadline = { default = "20s" }')
    + """
[providers.acme]
base_url = "http://127.0.0.1:{port}"
breaker = { window = "1s", calls_min = 1000000, failure_ratio = 1.0, open_for = "1s" }

[methods."a.once"]
provider = "acme"
request = "POST /once"

[methods."a.keyed"]
provider = "acme"
effect = "keyed"
idempotency_key = { header = "Idempotency-Key", lifetime = "1h" }
request = "POST /keyed"

[methods."a.safe"]
provider = "acme"
effect = "safe"
request = "POST /safe"
"""
)
TWO = ("--processes", "2")
Housed: TypeAlias = Callable[..., contextlib.AbstractContextManager[tuple["House", Provider]]]


def until(condition: Callable[[], Any], patience_s: float = 30.0) -> Any:
    """Wait until something holds, and return it."""
    deadline = time.monotonic() + patience_s
    while not (found := condition()):
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(0.02)
    return found


class House(Running):
    """Several processes and who is over them. `count` is how many there should be."""

    count = 0

    def processes(self, role: str = "", state: str = "ready") -> list[Any]:
        found = self.verbose()["processes"]
        return [each for each in found if each["role"].startswith(role) and each["state"] == state]

    def pids(self, role: str = "") -> set[int]:
        return {each["pid"] for each in self.processes(role)}

    def kill(self, role: str, number: signal.Signals = signal.SIGKILL) -> int:
        """End one of a role; its pid."""
        pid = int(self.processes(role)[0]["pid"])
        os.kill(pid, number)
        return pid

    def logged(self, event: str) -> list[Any]:
        return [line for line in list(self.log) if line.get("event") == event]

    def await_all(self) -> None:
        until(lambda: len(self.processes()) == self.count)

    def roll(self) -> None:
        """SIGHUP, until every process is another one."""
        times = len(self.logged("rolled"))
        os.kill(self.pid, signal.SIGHUP)
        until(lambda: len(self.logged("rolled")) > times or self.logged("not_rolled"), 50.0)
        assert not self.logged("not_rolled"), self.log


@pytest.fixture
def short() -> Iterator[Path]:
    """Where run folders are made; its path is short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="h") as made:
        yield Path(made)


@pytest.fixture
def housed(tmp_path: Path, short: Path) -> Housed:
    """A house that has started; in the end it is told to leave, and nothing of it is left."""

    @contextlib.contextmanager
    def housed(gateways: int, workers: int, takes_s: float = 0.02) -> Iterator[tuple[House, Provider]]:
        arguments = ("--processes", str(gateways), "--workers", str(workers))
        with Provider(takes_s) as provider:
            with House(tmp_path, HOUSE.replace("{port}", str(provider.port)), arguments=arguments, TMPDIR=str(short)) as house:
                until(lambda: house.logged("ready"))
                house.count = gateways + workers + 1
                yield house, provider
                house.terminate()
                if house.wait() == 0:
                    assert not list(short.iterdir())
            until(lambda: not alive_in(tmp_path))

    return housed


def alive_in(folder: Path) -> list[str]:
    """The processes that were started in a folder, and run."""
    found = []
    for each in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (each / "cwd").resolve() == folder and "State:\tZ" not in (each / "status").read_text():
                found.append((each / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return found


def test_calls_are_answered_and_figures_are_added_up(housed: Housed) -> None:
    with housed(2, 1) as (house, provider):
        assert [len(house.processes(role)) for role in ("gateway", "broker", "worker")] == [2, 1, 1]
        assert house.request("GET", "/readyz", port=house.admin_port).body == b"ready\n"
        assert house.request("GET", "/readyz").status == 200, "the gateways say it too"
        with Load(house.port) as load:
            load.more(60)
        assert not load.bad
        check(load, provider)
        page = house.request("GET", "/metrics", port=house.admin_port).body.decode()
        counted = [float(value) for value in re.findall(r'^homing_calls_total\{.*reason="ok"\} (.*)$', page, re.MULTILINE)]
        assert sum(counted) == load.ok
        assert 'homing_processes{role="gateway"} 2.0' in page
        says = [each["says"] for each in house.processes("gateway")]
        assert all(each["open_calls"] == 0 for each in says)
        house.terminate()
        assert house.wait() == 0
        assert not house.faults()


def test_a_gateway_that_is_killed_loses_its_own_callers_only_and_comes_back(housed: Housed) -> None:
    with housed(2, 1) as (house, provider):
        with Load(house.port) as load:
            load.more(30)
            pid = house.kill("gateway")
            load.more(60)
            house.await_all()
            assert pid not in house.pids()
            load.more(60)
        assert {heard.what for heard in load.bad} <= {"lost"}
        assert len(load.bad) <= load.callers
        check(load, provider)
        (died,) = house.logged("died")
        assert (died["role"], died["child"]) == ("gateway", pid)


def test_a_broker_that_is_killed_costs_a_pause_and_no_call(housed: Housed) -> None:
    with housed(1, 1) as (house, provider):
        with Load(house.port) as load:
            for _ in range(2):
                load.more(30)
                house.kill("broker")
                load.more(30)
                house.await_all()
        assert not load.bad
        check(load, provider)


def test_a_worker_that_is_killed_is_told_of_and_what_may_be_repeated_is(housed: Housed) -> None:
    with housed(1, 2) as (house, provider):
        with Load(house.port) as load:
            for _ in range(2):
                load.more(30)
                house.kill("worker")
                load.more(60)
                house.await_all()
        assert {(heard.effect, heard.what, heard.executed) for heard in load.bad} <= {("once", "worker_lost", "unknown")}
        check(load, provider)


def test_all_are_replaced_under_load_and_no_call_is_lost(housed: Housed) -> None:
    with housed(1, 1) as (house, provider):
        before = house.pids()
        with Load(house.port) as load:
            load.more(30)
            house.roll()
            load.more(30)
        assert not load.bad
        check(load, provider)
        assert not before & house.pids()
        assert len(house.processes()) == house.count
        page = house.request("GET", "/metrics", port=house.admin_port).body.decode()
        assert 'homing_process_restarts_total{role="gateway"} 0.0' in page


def test_a_configuration_that_is_wrong_replaces_nobody(tmp_path: Path, housed: Housed) -> None:
    with housed(1, 1) as (house, _):
        before = house.pids()
        text = (tmp_path / "homing.toml").read_text()
        (tmp_path / "homing.toml").write_text(text + "\n[nonsense]\n")
        os.kill(house.pid, signal.SIGHUP)
        until(lambda: house.logged("not_rolled"))
        os.kill(house.pid, signal.SIGUSR2)
        (told,) = until(lambda: house.logged("not_exchanged"))
        assert "nonsense" in told["message"]
        assert house.pids() == before


def test_the_program_over_them_is_exchanged_under_load_and_no_call_is_lost(housed: Housed) -> None:
    with housed(1, 1) as (house, provider):
        before = house.pids()
        with Load(house.port) as load:
            load.more(30)
            counted = house.request("GET", "/metrics", port=house.admin_port).body.decode()
            os.kill(house.pid, signal.SIGUSR2)
            until(lambda: house.logged("rolled"), 50.0)
            load.more(30)
        assert not load.bad
        check(load, provider)
        assert not before & house.pids()
        assert len(house.processes()) == house.count
        assert len(house.logged("listening")) >= 1
        assert ok_calls(counted) < ok_calls(house.request("GET", "/metrics", port=house.admin_port).body.decode()) <= load.ok
        house.terminate()
        assert house.wait() == 0


def ok_calls(page: str) -> float:
    return sum(float(value) for value in re.findall(r'^homing_calls_total\{.*reason="ok"\} (.*)$', page, re.MULTILINE))


def test_who_is_told_to_leave_answers_whom_it_has(housed: Housed) -> None:
    with housed(2, 2, takes_s=1.0) as (house, provider):
        with Load(house.port) as load:
            until(lambda: len(provider.done) >= load.callers)
            house.terminate()
            assert house.wait() == 0
        check(load, provider)
        assert load.ok >= load.callers, "those who were there when it came"
        assert {heard.what for heard in load.bad} <= {"draining", "refused", "lost"}
        lost = [heard for heard in load.bad if heard.what == "lost"]
        assert len(lost) <= 2, "those at most who had connected, and said nothing when the last door was closed"
        left = [line["role"] for line in house.logged("left")]
        assert left == ["gateway"] * 2 + ["worker"] * 2 + ["broker"]
        assert not house.faults()


def test_a_second_signal_hurries(housed: Housed) -> None:
    with housed(1, 1, takes_s=20.0) as (house, provider), Load(house.port, callers=2) as load:
        until(lambda: len(provider.done) == 2)
        load._stop.set()
        house.terminate()
        until(lambda: house.logged("drain"))
        house.terminate()
        assert house.wait() == 0
        until(lambda: len(load.heard) == 2)
        assert {heard.executed for heard in load.heard} == {"unknown"}


def test_nobody_serves_on_when_who_was_over_them_is_killed(tmp_path: Path, housed: Housed) -> None:
    with housed(2, 1, takes_s=0.5) as (house, provider):
        with Load(house.port, callers=3) as load:
            until(lambda: len(provider.done) == 3)
            load._stop.set()
            os.kill(house.pid, signal.SIGKILL)
            until(lambda: len(load.heard) == 3)
        assert load.ok == 3, "calls that run are still answered"
        until(lambda: not alive_in(tmp_path))
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", house.port))


def test_sockets_of_a_service_manager_are_used_and_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = """
import os, socket, sys
os.environ.update(LISTEN_FDS="2", LISTEN_PID=str(os.getpid()), LISTEN_FDNAMES="homing.socket:admin")
gateway, admin = (socket.socket(fileno=int(fd)) for fd in sys.argv[1:3])
os.dup2(gateway.fileno(), 203), os.dup2(admin.fileno(), 204)
os.dup2(203, 3), os.dup2(204, 4)
os.execv(sys.executable, [sys.executable, *sys.argv[3:]])
"""
    monkeypatch.chdir(tmp_path)
    with (
        Provider() as provider,
        socket.create_server(("127.0.0.1", 0)) as gateway,
        socket.create_server(("127.0.0.1", 0)) as admin,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager,
    ):
        manager.bind("notify")
        manager.settimeout(30)
        port = gateway.getsockname()[1]
        (tmp_path / "homing.toml").write_text(HOUSE.replace("{port}", str(provider.port)))
        serve = ["-c", "from homing.cli import main; main()", "serve", "--processes", "1"]
        with subprocess.Popen(
            [sys.executable, "-c", program, str(gateway.fileno()), str(admin.fileno()), *serve],
            env={**os.environ, "NOTIFY_SOCKET": "notify"},
            pass_fds=(gateway.fileno(), admin.fileno()),
            stderr=subprocess.PIPE,
        ) as process:
            with Load(port, callers=2) as load:  # from before it listens
                assert manager.recv(100) == b"READY=1"
                load.more(10)
            assert not load.bad
            with socket.create_connection(admin.getsockname(), timeout=30) as caller:
                caller.sendall(b"GET /readyz HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
                assert caller.makefile("rb").readline() == b"HTTP/1.1 200 OK\r\n"
            process.terminate()
            assert manager.recv(100) == b"STOPPING=1"
            assert process.stderr is not None
            lines = [json.loads(line) for line in process.stderr]
            assert process.wait(30) == 0
    first = next(line for line in lines if line["event"] == "listening")
    assert f":{port}," in first["message"]


def test_a_port_that_is_taken_is_told_at_once(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        text = HOUSE.replace("127.0.0.1:0", f"127.0.0.1:{taken.getsockname()[1]}", 1)
        (tmp_path / "homing.toml").write_text(text.replace("{port}", "1"))
        told = homing("serve", *TWO, cwd=tmp_path)
    assert told.returncode == 2
    assert re.match(r"Cannot listen on 127\.0\.0\.1:\d+: address already in use; .*--listen", told.stderr)


def test_a_configuration_that_no_worker_starts_with_ends_it(tmp_path: Path) -> None:
    (tmp_path / "homing.toml").write_text(ANY_PORT)
    told = homing("serve", "--processes", "1", cwd=tmp_path)
    assert told.returncode == 2
    assert "no method has a provider" in told.stderr
    assert '"event":"not_started"' in told.stderr
    assert not alive_in(tmp_path)
