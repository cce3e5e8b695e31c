"""Majordomo's frames: MDP 0.1 (ZeroMQ RFC 7) and 0.2 (RFC 18), read and written as the peer at the other end does it.

0.1 begins every command with an empty frame and 0.2 does not; in the field both come with and without. Whatever a peer sends first
is how it is answered. Nothing here raises: frames that are no Majordomo are None, and commands that no such peer may send are told
from those.
"""

from collections.abc import Sequence
from typing import Final, TypeAlias

import msgspec

SERVICE_BYTES_MAX: Final = 200
MANAGEMENT: Final = "mmi."
"""How the names of a broker's own services begin (RFC 8)."""

FOUND, NOT_FOUND, NOT_IMPLEMENTED = b"200", b"404", b"501"  # what those answer

_READY, _REQUEST, _PARTIAL, _FINAL, _HEARTBEAT, _DISCONNECT = range(6)
_COMMANDS: Final = {  # 0.1 has one REPLY where 0.2 has PARTIAL and FINAL
    b"MDPW01": {b"\x01": _READY, b"\x02": _REQUEST, b"\x03": _FINAL, b"\x04": _HEARTBEAT, b"\x05": _DISCONNECT},
    b"MDPW02": {
        b"\x01": _READY,
        b"\x02": _REQUEST,
        b"\x03": _PARTIAL,
        b"\x04": _FINAL,
        b"\x05": _HEARTBEAT,
        b"\x06": _DISCONNECT,
    },
}
_NUMBERS: Final = {header: {kind: number for number, kind in numbers.items()} for header, numbers in _COMMANDS.items()}

# A client's REQUEST, and the FINAL it waits for. RFC 18 numbers a client's commands from 1, a worker's READY taking no number of
# theirs; the client of majortomo numbers both alike. A client has but this one command, so nobody is mistaken for another.
_FINAL_OF: Final = {b"\x01": b"\x03", b"\x02": b"\x04"}


class Dialect(msgspec.Struct, frozen=True, gc=False):
    """How a worker speaks: its header, and whether an empty frame comes first."""

    header: bytes
    empty_first: bool


class Offered(msgspec.Struct, frozen=True, gc=False):
    """READY: it serves this service, and no other."""

    service: str


class Replied(msgspec.Struct, frozen=True, gc=False):
    """REPLY or FINAL, or PARTIAL if not `last`: an answer for the client of this address."""

    address: bytes
    body: bytes
    last: bool


class Beat(msgspec.Struct, frozen=True, gc=False):
    """HEARTBEAT."""


class Left(msgspec.Struct, frozen=True, gc=False):
    """DISCONNECT."""


class Illegal(msgspec.Struct, frozen=True, gc=False):
    """A worker's header, and then what no worker may send."""


Command: TypeAlias = Offered | Replied | Beat | Left | Illegal


def read_worker(frames: Sequence[bytes]) -> tuple[Dialect, Command] | None:
    """What a worker says; None if this is no worker of Majordomo."""
    empty_first = bool(frames) and not frames[0]
    rest = frames[1:] if empty_first else frames
    numbers = _COMMANDS.get(rest[0]) if rest else None
    if numbers is None:
        return None
    return Dialect(rest[0], empty_first), _command(numbers.get(rest[1]) if len(rest) > 1 else None, rest[2:])


def _command(kind: int | None, rest: Sequence[bytes]) -> Command:
    if kind in (_PARTIAL, _FINAL) and len(rest) >= 2 and rest[0] and not rest[1]:  # address, delimiter, body
        return Replied(rest[0], b"".join(rest[2:]), kind == _FINAL)
    if kind == _READY and len(rest) == 1 and (service := _name(rest[0])) is not None:
        return Offered(service)
    if kind == _HEARTBEAT and not rest:
        return Beat()
    if kind == _DISCONNECT and not rest:
        return Left()
    return Illegal()


def _name(frame: bytes) -> str | None:
    """A service's name: a printable string."""
    try:
        name = frame.decode()
    except UnicodeDecodeError:
        return None
    return name if 0 < len(frame) <= SERVICE_BYTES_MAX and name.isprintable() else None


def request(dialect: Dialect, address: bytes, body: bytes) -> list[bytes]:
    """REQUEST to a worker; it gives the address back with its answer."""
    return _to_worker(dialect, _REQUEST, address, b"", body)


def heartbeat(dialect: Dialect) -> list[bytes]:
    """HEARTBEAT to a worker."""
    return _to_worker(dialect, _HEARTBEAT)


def disconnect(dialect: Dialect) -> list[bytes]:
    """DISCONNECT to a worker: it shall close its socket, and come back with a new one if it likes."""
    return _to_worker(dialect, _DISCONNECT)


def _to_worker(dialect: Dialect, kind: int, *rest: bytes) -> list[bytes]:
    frames = [dialect.header, _NUMBERS[dialect.header][kind], *rest]
    return [b"", *frames] if dialect.empty_first else frames


class Ask(msgspec.Struct, frozen=True, gc=False):
    """A client's REQUEST. `envelope` is what the frames of its answer begin with."""

    envelope: tuple[bytes, ...]
    service: str
    body: bytes


def read_client(frames: Sequence[bytes]) -> Ask | None:
    """What a client asks; None if this is no client of Majordomo, or asks for nothing that has a name."""
    before = tuple(frames[:1]) if frames and not frames[0] else ()
    rest = frames[len(before) :]
    if len(rest) >= 2 and rest[0] == b"MDPC01":
        head = (*before, rest[0])
        rest = rest[1:]
    elif len(rest) >= 3 and rest[0] == b"MDPC02" and rest[1] in _FINAL_OF:
        head = (*before, rest[0], _FINAL_OF[rest[1]])
        rest = rest[2:]
    else:
        return None
    service = _name(rest[0])
    return Ask((*head, rest[0]), service, b"".join(rest[1:])) if service is not None else None


def answer(ask: Ask, body: bytes) -> list[bytes]:
    """REPLY or FINAL to a client."""
    return [*ask.envelope, body]
