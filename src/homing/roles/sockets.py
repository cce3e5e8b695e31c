"""Listening sockets that outlive the processes that accept from them.

All gateways accept from one socket, and its supervisor holds it too. With a socket for each (SO_REUSEPORT) the kernel would spread
connections more evenly, but would deal them to a gateway that is stopped or starting as well, and reset those that wait in the
queue of one that ends. From one queue whoever is alive takes the next.
"""

import errno
import os
import socket
from collections.abc import MutableMapping
from pathlib import Path

BACKLOG = 2048
FIRST_HANDED_FD = 3  # as sd_listen_fds(3) has it
HANDED = ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")


def cannot_listen(where: object, error: OSError) -> str:
    """Why an address cannot be had, for people."""
    if error.errno and not isinstance(error, socket.gaierror):  # the numbers of those are of another kind
        why = os.strerror(error.errno)
    else:
        why = error.strerror or str(error)
    advice = "is another homing running? " if error.errno == errno.EADDRINUSE else ""
    return f"cannot listen on {where}: {why.lower()}; {advice}--listen and --admin take other addresses"


def open_tcp(host: str, port: int) -> list[socket.socket]:
    """Listen on every address of a host, on one port; 0 is any. Raises OSError if one of them cannot be had."""
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in dict.fromkeys(found):
            sock = socket.socket(family, kind, protocol)
            sockets.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # the other family has a socket of its own
            sock.bind((address[0], port_of(sockets[0]) or port, *address[2:]))
            sock.listen(BACKLOG)
    except OSError:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def open_unix(path: str) -> socket.socket:
    """Listen on a path in the file system, or on a name that begins with @ and is in none. Raises OSError.

    A socket that somebody has left at the path is replaced: who was killed could not remove it.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if _is_left(path):
            os.unlink(path)  # noqa: PTH108 - a path is text here, and may be none
        sock.bind(f"\0{path[1:]}" if path.startswith("@") else path)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise OSError(error.errno, f"{error.strerror or error}: {path}") from None
    return sock


def _is_left(path: str) -> bool:
    """Whether there is a socket on which nobody listens any more."""
    if path.startswith("@") or not Path(path).is_socket():
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # whose queue is full listens too
        return probe.connect_ex(path) == errno.ECONNREFUSED


def open_endpoint(endpoint: str) -> socket.socket:
    """Listen where ZeroMQ is to listen: "ipc://PATH", "tcp://HOST:PORT", or "tcp://*:PORT" for every address. Raises OSError."""
    scheme, _, where = endpoint.partition("://")
    try:
        if scheme == "ipc":
            return open_unix(where)
        host, _, port = where.rpartition(":")
        if host == "*" and socket.has_dualstack_ipv6():
            return socket.create_server(("", int(port)), family=socket.AF_INET6, backlog=BACKLOG, dualstack_ipv6=True)
        first, *others = open_tcp("0.0.0.0" if host == "*" else host.strip("[]"), int(port))  # noqa: S104  # that is what it says
    except OSError as error:
        raise OSError(error.errno, f"cannot listen on {endpoint}: {error.strerror or error}") from None
    for sock in others:
        sock.close()
    return first


def port_of(sock: socket.socket) -> int:
    """The port it is bound to; 0 if it is not yet."""
    return int(sock.getsockname()[1])


def handed(environ: MutableMapping[str, str], pid: int) -> dict[str, list[socket.socket]]:
    """The sockets that a service manager opened for this process, by name: "admin", and "gateway" for all that have another name.

    What says so is taken out of the environment, as it is meant for nobody else. Raises ValueError if one is no listening socket.
    """
    said = {name: environ.pop(name, "") for name in HANDED}
    if said["LISTEN_PID"] != str(pid) or not said["LISTEN_FDS"].isdigit():
        return {}
    names = said["LISTEN_FDNAMES"].split(":")
    found: dict[str, list[socket.socket]] = {}
    for number in range(int(said["LISTEN_FDS"])):
        name = "admin" if number < len(names) and names[number] == "admin" else "gateway"
        found.setdefault(name, []).append(listening(FIRST_HANDED_FD + number))
    return found


def listening(fd: int) -> socket.socket:
    """The listening socket behind a descriptor. Raises ValueError if it is none."""
    try:
        sock = socket.socket(fileno=fd)
    except OSError as error:
        raise ValueError(f"descriptor {fd} is no socket: {error.strerror}") from None
    inet = sock.family in (socket.AF_INET, socket.AF_INET6)
    if not inet or not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        sock.detach()
        raise ValueError(f"descriptor {fd} is no TCP socket that listens; a socket unit says ListenStream=8370")
    os.set_inheritable(fd, False)
    return sock
