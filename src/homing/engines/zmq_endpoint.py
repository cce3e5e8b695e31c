"""Endpoints that cannot be used, in words for people; and what libzmq does not look after itself."""

import errno
import ipaddress
import socket
import stat
from pathlib import Path

import zmq

IPC = "ipc://"
PATH_BYTES_MAX = 107  # what a Unix socket's address holds

_WHY = {
    errno.EADDRINUSE: "it is in use already; stop whoever listens there, or say another address",
    errno.EADDRNOTAVAIL: "this machine has no such address; say one of its own, or 0.0.0.0 for all",
    errno.ENODEV: "this machine has no such address; say one of its own, or 0.0.0.0 for all",
    errno.EACCES: "this user may not listen there",
    errno.ENOENT: "the folder does not exist",
    errno.ENOTDIR: "the folder does not exist",
    errno.EINVAL: "expected tcp://HOST:PORT or ipc://PATH",
    errno.EPROTONOSUPPORT: "expected tcp://HOST:PORT or ipc://PATH",
}


def bind(bound: zmq.Socket[bytes], endpoint: str, fd: int | None = None) -> str:
    """Listen there; returns where, with the port that a wildcard became. Raises OSError, which says for people what is wrong.

    `fd` is a socket that listens there already, and from which others may accept too. libzmq closes it in the end, and leaves its path.
    """
    if fd is not None:
        bound.set(zmq.USE_FD, fd)
    elif endpoint.startswith(IPC):
        _make_way(endpoint)
    _choose_family(bound, endpoint)
    try:
        bound.bind(endpoint)
    except zmq.ZMQError as error:
        raise _explained(error, endpoint, "cannot listen on") from None
    return bound.getsockopt_string(zmq.LAST_ENDPOINT)


def connect(connected: zmq.Socket[bytes], endpoint: str) -> None:
    """Dial it, from now on and for ever. Raises OSError if that is no endpoint."""
    _choose_family(connected, endpoint)
    try:
        connected.connect(endpoint)
    except zmq.ZMQError as error:
        raise _explained(error, endpoint, "cannot dial") from None


def disconnect(connected: zmq.Socket[bytes], endpoint: str) -> None:
    """Dial it no more; what was not sent is dropped."""
    connected.disconnect(endpoint)


def is_named(endpoint: str) -> bool:
    """Whether it takes a look-up of a name to dial it."""
    if not endpoint.startswith("tcp://"):
        return False
    host = endpoint.removeprefix("tcp://").rpartition(":")[0].strip("[]").partition("%")[0]
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return True
    return False


def _choose_family(opened: zmq.Socket[bytes], endpoint: str) -> None:
    """IPv6 for what stands in brackets, an address or a name. For all else it would only make ::ffff:127.0.0.1 of 127.0.0.1."""
    opened.set(zmq.IPV6, int(endpoint.startswith("tcp://[")))


def _explained(error: zmq.ZMQError, endpoint: str, what: str) -> OSError:
    number = error.errno or 0
    return OSError(number, f"{what} {endpoint}: {_WHY.get(number) or error.strerror.lower()}")


def _make_way(endpoint: str) -> None:
    """Refuse a path that somebody listens on, or that is no socket: libzmq would take it away from them without a word."""
    name = endpoint.removeprefix(IPC)
    if name.startswith(("@", "*")):  # abstract, which the kernel guards; or a path that libzmq makes up
        return
    if len(name.encode()) > PATH_BYTES_MAX:
        raise OSError(
            errno.ENAMETOOLONG,
            f"cannot listen on {endpoint}: the path has {len(name.encode())} bytes, at most {PATH_BYTES_MAX} fit",
        )
    try:
        mode = Path(name).lstat().st_mode
    except OSError:
        return  # there is nothing, or bind will say why
    if not stat.S_ISSOCK(mode):
        raise OSError(
            errno.EEXIST, f"cannot listen on {endpoint}: there is something at that path, and it is no socket; move it away"
        )
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(name)
        except ConnectionRefusedError:
            return  # left behind by somebody who is gone
        except OSError as error:
            if error.errno != errno.EAGAIN:  # a full backlog is somebody, too
                raise OSError(
                    error.errno, f"cannot listen on {endpoint}: {_WHY.get(error.errno or 0) or error.strerror}"
                ) from None
    raise OSError(errno.EADDRINUSE, f"cannot listen on {endpoint}: {_WHY[errno.EADDRINUSE]}")
