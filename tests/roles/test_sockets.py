"""`sockets`: listening sockets that are opened here or handed down."""

import errno
import os
import re
import socket
import stat
from pathlib import Path

import pytest
import zmq

from homing.roles import sockets

ABSTRACT = "ipc://@homing-test-{pid}"  # two runs may be under way at once, and a test has the same name in each


def test_a_host_with_several_addresses_has_one_port() -> None:
    opened = sockets.open_tcp("localhost", 0)
    try:
        assert len({sockets.port_of(sock) for sock in opened}) == 1
        for sock in opened:
            with socket.create_connection(sock.getsockname()[:2], timeout=10) as caller:
                taken, address = sock.accept()
                taken.close()
                assert address == caller.getsockname()
    finally:
        for sock in opened:
            sock.close()


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError(errno.EADDRINUSE, "x"), "address already in use; is another homing running? --listen and --admin take other"),
        (OSError(errno.EADDRNOTAVAIL, "x"), "cannot assign requested address; --listen and --admin take other addresses"),
        (socket.gaierror(-2, "Name or service not known"), "name or service not known; --listen"),
    ],
)
def test_why_nobody_can_listen_is_told_in_words(error: OSError, says: str) -> None:
    assert sockets.cannot_listen("here:1", error).startswith(f"cannot listen on here:1: {says}")


def test_a_port_that_is_taken_is_told_and_nothing_stays_open() -> None:
    (held,) = sockets.open_tcp("127.0.0.1", 0)
    with held, pytest.raises(OSError, match="in use"):
        sockets.open_tcp("127.0.0.1", sockets.port_of(held))


def test_a_path_is_named_when_it_cannot_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path has at most some hundred bytes
    with sockets.open_unix("broker"):
        assert stat.S_ISSOCK(Path("broker").stat().st_mode)
        with pytest.raises(OSError, match="broker"):
            sockets.open_unix("broker")


def test_a_socket_that_was_left_behind_is_replaced_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sockets.open_unix("broker").close()
    with sockets.open_unix("broker"), socket.socket(socket.AF_UNIX) as caller:
        caller.connect("broker")
    Path("notes").write_text("mine")
    with pytest.raises(OSError, match="notes"):
        sockets.open_unix("notes")
    assert Path("notes").read_text() == "mine"


@pytest.mark.parametrize("endpoint", ["tcp://127.0.0.1:0", "tcp://*:0", "tcp://localhost:0", "ipc://broker", ABSTRACT])
def test_what_zeromq_takes_over_from_here_on(endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    endpoint = endpoint.replace("{pid}", str(os.getpid()))
    with sockets.open_endpoint(endpoint) as opened, zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        named = endpoint if endpoint.startswith("ipc") else f"{endpoint[:-1]}{sockets.port_of(opened)}"
        with context.socket(zmq.DEALER) as dealer:
            dealer.setsockopt(zmq.IPV6, 1)
            dealer.connect(named.replace("*", "127.0.0.1"))
            dealer.send(b"before anybody accepts")
            router.setsockopt(zmq.USE_FD, os.dup(opened.fileno()))
            router.bind(named)
            assert router.poll(20_000)
            assert router.recv_multipart()[1:] == [b"before anybody accepts"]
    assert [path.name for path in tmp_path.iterdir()] == ["broker"] * (endpoint == "ipc://broker"), "it belongs to who opened it"


@pytest.mark.parametrize("endpoint", ["ipc://nowhere/broker", "tcp://nobody.invalid:1", "tcp://192.0.2.1:0"])
def test_an_endpoint_that_cannot_be_had_is_named(endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OSError, match=re.escape(f"cannot listen on {endpoint}: ")):
        sockets.open_endpoint(endpoint)


def hand_down(monkeypatch: pytest.MonkeyPatch, *given: socket.socket) -> None:
    """As a service manager does; but for the numbers, which tests cannot choose."""
    numbers = [sock.fileno() for sock in given]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    monkeypatch.setattr(sockets, "FIRST_HANDED_FD", numbers[0])


def in_a_row(count: int) -> list[socket.socket]:
    """Listening sockets whose descriptors follow each other."""
    first = 200
    found = []
    for number in range(first, first + count):
        with socket.create_server(("127.0.0.1", 0)) as sock:
            os.dup2(sock.fileno(), number)
            found.append(socket.socket(fileno=number))
    return found


def test_sockets_of_a_service_manager_are_taken_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    given = in_a_row(3)
    hand_down(monkeypatch, *given)
    environ = {"LISTEN_FDS": "3", "LISTEN_PID": "77", "LISTEN_FDNAMES": "homing.socket:admin:x", "PATH": "p"}
    found = sockets.handed(environ, 77)
    assert {name: [sock.fileno() for sock in each] for name, each in found.items()} == {"gateway": [200, 202], "admin": [201]}
    assert environ == {"PATH": "p"}
    assert not any(os.get_inheritable(sock.fileno()) for each in found.values() for sock in each)
    for sock in given:
        sock.detach()
    for each in found.values():
        for sock in each:
            sock.close()


@pytest.mark.parametrize(
    "environ",
    [{}, {"LISTEN_FDS": "1"}, {"LISTEN_FDS": "1", "LISTEN_PID": "78"}, {"LISTEN_FDS": "many", "LISTEN_PID": "77"}],
    ids=["none", "no-pid", "another-pid", "no-number"],
)
def test_what_is_meant_for_another_process_is_not_taken(environ: dict[str, str]) -> None:
    assert sockets.handed(environ, 77) == {}
    assert environ == {}


def test_what_does_not_listen_on_tcp_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.socket() as deaf, sockets.open_unix("s") as unix, (tmp_path / "file").open("w") as file:
        for fd in (deaf.fileno(), unix.fileno()):
            with pytest.raises(ValueError, match="no TCP socket that listens"):
                sockets.listening(fd)
        with pytest.raises(ValueError, match="no socket"):
            sockets.listening(file.fileno())
