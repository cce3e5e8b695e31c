import errno
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from homing.engines import zmq_endpoint


@pytest.fixture
def bound() -> Iterator[zmq.Socket[bytes]]:
    with zmq.Context() as context, context.socket(zmq.ROUTER) as opened:
        opened.setsockopt(zmq.LINGER, 0)
        yield opened


def refused(bound: zmq.Socket[bytes], endpoint: str) -> OSError:
    with pytest.raises(OSError) as caught:
        zmq_endpoint.bind(bound, endpoint)
    assert endpoint in str(caught.value)
    return caught.value


def test_a_wildcard_becomes_a_port(bound: zmq.Socket[bytes]) -> None:
    endpoint = zmq_endpoint.bind(bound, "tcp://127.0.0.1:*")
    assert int(endpoint.removeprefix("tcp://127.0.0.1:")) > 0


def test_an_address_in_use_is_told(bound: zmq.Socket[bytes]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        error = refused(bound, f"tcp://127.0.0.1:{taken.getsockname()[1]}")
    assert error.errno == errno.EADDRINUSE
    assert "in use already; stop whoever listens there" in str(error)


@pytest.mark.parametrize(
    ("endpoint", "sentence"),
    [
        ("tcp://203.0.113.1:5555", "no such address; say one of its own, or 0.0.0.0 for all"),
        ("tcp://nosuchinterface:5555", "no such address"),
        ("127.0.0.1:5555", "expected tcp://HOST:PORT"),
        ("udp-ish://127.0.0.1:5555", "expected tcp://HOST:PORT"),
        ("tcp://127.0.0.1:http", "expected tcp://HOST:PORT"),
        ("ipc:///nonexistent/folder/broker", "the folder does not exist"),
    ],
)
def test_what_cannot_be_bound_is_told_for_people(bound: zmq.Socket[bytes], endpoint: str, sentence: str) -> None:
    assert sentence in str(refused(bound, endpoint))


def test_a_path_that_somebody_listens_on_is_left_to_them(bound: zmq.Socket[bytes], tmp_path: Path) -> None:
    path = tmp_path / "broker"
    with socket.socket(socket.AF_UNIX) as taken:
        taken.bind(str(path))
        taken.listen(0)
        assert refused(bound, f"ipc://{path}").errno == errno.EADDRINUSE
        filling = [socket.socket(socket.AF_UNIX) for _ in range(4)]
        for each in filling:
            each.setblocking(False)
            each.connect_ex(str(path))
        assert refused(bound, f"ipc://{path}").errno == errno.EADDRINUSE, "a full backlog is somebody, too"
        for each in filling:
            each.close()
    assert path.is_socket()


def test_a_path_left_behind_is_taken_over(bound: zmq.Socket[bytes], tmp_path: Path) -> None:
    path = tmp_path / "broker"
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(path))
    assert path.is_socket()
    assert zmq_endpoint.bind(bound, f"ipc://{path}") == f"ipc://{path}"


def test_a_file_that_is_no_socket_is_not_taken_away(bound: zmq.Socket[bytes], tmp_path: Path) -> None:
    path = tmp_path / "broker"
    path.write_text("somebody's")
    assert "it is no socket; move it away" in str(refused(bound, f"ipc://{path}"))
    assert path.read_text() == "somebody's"


def test_a_path_that_is_too_long_is_told(bound: zmq.Socket[bytes], tmp_path: Path) -> None:
    error = refused(bound, f"ipc://{tmp_path}/{'x' * 100}")
    assert error.errno == errno.ENAMETOOLONG
    assert "at most 107 fit" in str(error)


def test_an_abstract_path_has_no_file(bound: zmq.Socket[bytes], tmp_path: Path) -> None:
    endpoint = f"ipc://@homing-{tmp_path.name}"
    assert zmq_endpoint.bind(bound, endpoint) == endpoint
    with zmq.Context() as context, context.socket(zmq.ROUTER) as second:
        assert refused(second, endpoint).errno == errno.EADDRINUSE


def test_what_is_no_endpoint_cannot_be_dialled(bound: zmq.Socket[bytes]) -> None:
    with pytest.raises(OSError, match="cannot dial nowhere: expected tcp://HOST:PORT"):
        zmq_endpoint.connect(bound, "nowhere")


@pytest.mark.parametrize(
    ("endpoint", "named"),
    [
        ("tcp://127.0.0.1:8372", False),
        ("tcp://[::1]:8372", False),
        ("tcp://[fe80::1%eth0]:8372", False),
        ("tcp://localhost:8372", True),
        ("tcp://[broker.example]:8372", True),
        ("ipc:///run/broker", False),
    ],
)
def test_a_name_is_told_from_an_address(endpoint: str, named: bool) -> None:
    assert zmq_endpoint.is_named(endpoint) is named


def test_addresses_of_both_families_stay_what_they_are(bound: zmq.Socket[bytes]) -> None:
    assert zmq_endpoint.bind(bound, "tcp://127.0.0.1:*").startswith("tcp://127.0.0.1:")
    if socket.has_ipv6:
        assert zmq_endpoint.bind(bound, "tcp://[::1]:*").startswith("tcp://[::1]:")
