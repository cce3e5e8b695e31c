"""`processes`: what the processes of a house are given, and what becomes of it. With real ones: tests/test_serve_processes.py."""

import asyncio
import errno
import os
import signal
import socket
import ssl
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import trustme

from homing.config import Config
from homing.forms import Address
from homing.roles import succession
from homing.roles.children import Command, Place
from homing.roles.process import Unbound
from homing.roles.processes import Numbers, Processes, run_processes
from homing.settings import Admin, Broker, Gateway, GatewayTls
from homing.telemetry import Log
from tests.loops import on_both_loops, until

ANY = Address("127.0.0.1", 0)


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where run folders are made; its path is short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="h") as made:
        monkeypatch.setattr(tempfile, "tempdir", made)
        yield Path(made)


@pytest.fixture
def log() -> Iterator[Log]:
    fd = os.open(os.devnull, os.O_WRONLY)
    log = Log(fd, human=False)
    yield log
    log.close()
    os.close(fd)


def house(**gateway: object) -> Config:
    table = msgspec.structs.replace(Gateway(listen=ANY), **gateway)
    return Config(gateway=table, admin=Admin(listen=ANY), broker=Broker(listen="tcp://127.0.0.1:0"))


def given(command: Command, option: str) -> list[str]:
    """What an option was given, each time."""
    words = command.arguments
    return [words[number + 1] for number, word in enumerate(words) if word == option]


def inside(folder: Path) -> list[Path]:
    return list(folder.iterdir())


@on_both_loops
async def test_each_role_is_given_what_it_needs_and_no_more(folder: Path, log: Log) -> None:
    processes = Processes(house(majordomo="tcp://127.0.0.1:0"), "h.toml", Numbers(gateways=3, workers=2), log=log)
    (run,) = inside(folder)
    assert stat.S_IMODE(run.stat().st_mode) == 0o700
    roles = [place.role for place in processes.supervisor.places]
    assert (roles.count("gateway"), roles.count("broker"), roles.count("worker")) == (3, 1, 2)
    gateway, broker, worker = (processes._command(Place(role, 0), "/a") for role in ("gateway", "broker", "worker"))
    for command in (gateway, broker, worker):
        assert given(command, "--config") == ["h.toml"]
        assert given(command, "--admin") == ["unix:/a"]
        assert int(given(command, "--parent-fd")[0]) == command.descriptors[0]
    private = f"ipc://{run}/broker"
    assert given(broker, "--listen") == [private, "tcp://127.0.0.1:0"]
    assert [text.rpartition("=")[0] for text in given(broker, "--opened")] == given(broker, "--listen")
    assert given(gateway, "--broker") == given(worker, "--broker") == [private]
    assert (given(gateway, "--share"), given(worker, "--share"), given(broker, "--share")) == (["3"], ["2"], [])
    (fd,) = given(gateway, "--listen-fd")
    with socket.socket(fileno=os.dup(int(fd))) as shared:
        assert shared.getsockname()[1] == processes.port
    assert given(gateway, "--opened")[0].startswith("tcp://127.0.0.1:0=")
    sockets = {int(fd), *(int(text.rpartition("=")[2]) for command in (gateway, broker) for text in given(command, "--opened"))}
    assert not sockets & set(worker.descriptors)
    assert len(sockets) == 4

    # Each holds the far ends of the pipes of those it needs to the end: they are told to leave when the last one has.
    pipes = {role: processes._pipes[role] for role in ("gateway", "worker", "broker")}
    assert not any(pipes["gateway"][1] in command.descriptors for command in (gateway, worker, broker))
    assert [pipes["worker"][1] in command.descriptors for command in (gateway, worker, broker)] == [True, False, False]
    assert [pipes["broker"][1] in command.descriptors for command in (gateway, worker, broker)] == [True, True, False]

    await processes._leave()
    assert not inside(folder)


@on_both_loops
async def test_a_socket_for_others_is_removed_at_the_end(folder: Path, log: Log) -> None:
    path = folder / "broker.sock"
    processes = Processes(
        msgspec.structs.replace(house(), broker=Broker(listen=f"ipc://{path}")), "h.toml", Numbers(1, 1), log=log
    )
    assert path.is_socket()
    await processes._leave()
    assert not inside(folder)


@on_both_loops
async def test_an_address_that_cannot_be_had_leaves_nothing_behind(folder: Path, log: Log) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        admin = Admin(listen=Address("127.0.0.1", taken.getsockname()[1]))
        with pytest.raises(Unbound, match=r"cannot listen on 127\.0\.0\.1:\d+: address already in use; .*--admin"):
            await run_processes(msgspec.structs.replace(house(), admin=admin), "h.toml", Numbers(1, 1), log)
    assert not inside(folder)


@on_both_loops
async def test_a_folder_that_is_too_long_for_sockets_is_told(folder: Path, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    longest = folder / ("x" * (76 - len(f"{folder}/")))
    longest.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(longest))
    processes = Processes(house(), "homing.toml", Numbers(1, 1), log=log)
    (run,) = inside(longest)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(run / "gateway-999999"))
    await processes._leave()
    monkeypatch.setattr(tempfile, "tempdir", f"{longest}x")
    with pytest.raises(Unbound, match=rf"{longest}x, has too long a path for sockets in it, .* TMPDIR=/var/tmp"):
        await run_processes(house(), "homing.toml", Numbers(1, 1), log)


@on_both_loops
async def test_a_program_that_cannot_be_run_is_told_and_this_one_stays(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever makes a virtual environment anew has none for a while."""
    lines, fd = folder / "log", os.open(folder / "log", os.O_WRONLY | os.O_CREAT)
    log = Log(fd, human=False)
    processes = Processes(house(), "h.toml", Numbers(gateways=1, workers=1), log=log)
    gone = str(folder / "gone")
    monkeypatch.setattr(sys, "executable", gone)
    await processes._exchange()
    log.flush()
    await until(lambda: "not_exchanged" in lines.read_text())
    assert f"The new program cannot be run; this one stays. {gone}: No such file or directory" in lines.read_text()
    await processes._leave()
    log.close()
    os.close(fd)


class Trial:
    """A program that finds no mistake in the configuration."""

    returncode = 0

    def __init__(self, number: int = 0) -> None:
        self.number = number  # of the signal that this process is told just then, or 0

    async def communicate(self) -> tuple[bytes, bytes]:
        os.kill(os.getpid(), self.number)
        return b"", b""


@on_both_loops
async def test_a_program_that_cannot_be_exchanged_after_all_is_told_and_this_one_stays(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It could be tried a moment before."""
    lines, fd = folder / "log", os.open(folder / "log", os.O_WRONLY | os.O_CREAT)
    log = Log(fd, human=False)
    processes = Processes(house(), "h.toml", Numbers(gateways=1, workers=1), log=log)

    def bequeath(_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(succession, "bequeath", bequeath)
    monkeypatch.setattr(asyncio, "create_subprocess_exec", lambda *_, **__: asyncio.sleep(0, Trial()))
    await processes._exchange()
    assert "The program cannot be exchanged; this one stays. No space left on device" in lines.read_text()
    assert signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    await processes._leave()
    os.close(fd)


@on_both_loops
async def test_who_is_told_to_leave_just_before_the_program_is_exchanged_leaves(
    folder: Path, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python had noted the signal, and the next program knew nothing of that: it went on for ever."""
    processes = Processes(house(), "h.toml", Numbers(gateways=1, workers=1), log=log)
    exchanged: list[object] = []
    monkeypatch.setattr(succession, "bequeath", exchanged.append)
    monkeypatch.setattr(asyncio, "create_subprocess_exec", lambda *_, **__: asyncio.sleep(0, Trial(signal.SIGTERM)))
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, processes.supervisor.stop_soon)
    await processes._exchange()
    assert processes.supervisor.stopping.is_set()
    assert not exchanged
    assert signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    loop.remove_signal_handler(signal.SIGTERM)
    await processes._leave()


@on_both_loops
async def test_sockets_that_are_none_are_told(folder: Path, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("homing.roles.sockets.FIRST_HANDED_FD", 250)
    monkeypatch.setenv("LISTEN_FDS", "1")
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    with pytest.raises(Unbound, match="descriptor 250 is no socket"):
        await run_processes(house(), "h.toml", Numbers(1, 1), log)
    assert "LISTEN_FDS" not in os.environ
    assert not inside(folder)


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
@on_both_loops
async def test_who_connects_just_when_the_last_gateway_left_is_told(secure: bool, folder: Path, log: Log) -> None:
    authority = trustme.CA()
    context = None
    config = house()
    if secure:
        issued = authority.issue_cert("localhost")
        issued.cert_chain_pems[0].write_to_path(folder / "cert")
        issued.private_key_pem.write_to_path(folder / "key")
        config = house(tls=GatewayTls(cert=str(folder / "cert"), key=str(folder / "key")))
        context = ssl.create_default_context()
        authority.configure_trust(context)
    processes = Processes(config, "h.toml", Numbers(1, 1), log=log)
    with socket.create_connection(("127.0.0.1", processes.port)) as sock:  # nobody accepts it
        leaving = asyncio.ensure_future(processes._leave())
        sock.setblocking(False)
        name = "localhost" if secure else None
        reader, writer = await asyncio.open_connection(sock=sock.dup(), ssl=context, server_hostname=name)
        writer.write(b"POST /rpc HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}")
        answer = await reader.read()
        writer.close()
        await leaving
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"Homing-Executed: no\r\n" in answer
    assert b"draining" in answer
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", processes.port))
