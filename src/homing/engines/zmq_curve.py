"""CURVE, the cipher between processes (ZeroMQ RFC 26), and who may come in (ZAP, RFC 27).

The door asks a list: a public key, and whom it belongs to. It stands on the loop of the engine, with no thread of its own; a
handshake that comes while the loop is busy waits that long.
"""

import asyncio
from collections.abc import Mapping

import msgspec
import zmq
from zmq.utils import z85

from homing.curve import is_key
from homing.engines.zmq_socket import DONTWAIT, MORE, Reader
from homing.engines.zmq_tally import Tally

ZAP_ENDPOINT = "inproc://zeromq.zap.01"
KEY_BYTES = 32

_VERSION = b"1.0"
_NO_METADATA = b""


class CurveServer(msgspec.Struct, frozen=True):
    """For who is dialled: its secret key in Z85, and who may come in: the name of a user by public key in Z85."""

    secret_key: bytes
    users: Mapping[bytes, str]

    def __repr__(self) -> str:
        return f"CurveServer(secret_key='***', users={dict(self.users)!r})"


class CurveClient(msgspec.Struct, frozen=True):
    """For who dials: its own keys and the public key of who is dialled, in Z85."""

    public_key: bytes
    secret_key: bytes
    server_key: bytes

    def __repr__(self) -> str:
        return f"CurveClient(public_key={self.public_key!r}, secret_key='***', server_key={self.server_key!r})"


def new_keys() -> tuple[str, str]:
    """A new pair, public and secret, in Z85."""
    public, secret = zmq.curve_keypair()
    return public.decode(), secret.decode()


def check(curve: CurveServer | CurveClient) -> None:
    """Raises ValueError for a key that is none, with a sentence for people."""
    if isinstance(curve, CurveServer):
        keys = {"the secret key of this broker": curve.secret_key}
        keys |= {f"the public key of {user}": key for key, user in curve.users.items()}
    else:
        keys = {
            "the public key of the broker": curve.server_key,
            "the public key of this process": curve.public_key,
            "the secret key of this process": curve.secret_key,
        }
    for what, key in keys.items():
        if not is_key(key.decode("ascii", "replace")):
            raise ValueError(f"{what} is no CURVE key; expected 40 characters of Z85, as `homing keys curve` makes them")


def guard(socket: zmq.Socket[bytes], curve: CurveServer, domain: bytes) -> None:
    """Let in who speaks CURVE and is on the list of `domain`; and nobody, if there were no list."""
    socket.set(zmq.CURVE_SERVER, 1)
    socket.set(zmq.CURVE_SECRETKEY, curve.secret_key)
    socket.set(zmq.ZAP_DOMAIN, domain)
    socket.set(zmq.ZAP_ENFORCE_DOMAIN, 1)


def arm(socket: zmq.Socket[bytes], curve: CurveClient) -> None:
    """Speak CURVE to whom this dials."""
    socket.set(zmq.CURVE_SERVERKEY, curve.server_key)
    socket.set(zmq.CURVE_PUBLICKEY, curve.public_key)
    socket.set(zmq.CURVE_SECRETKEY, curve.secret_key)


def user_of(frame: zmq.Frame) -> str:
    """Whom the key belongs to that this frame came under. Every frame says so, as libzmq found it in the handshake."""
    user = frame.get("User-Id")
    return user if isinstance(user, str) else ""


class Zap:
    """The door of one engine: answers libzmq, which asks it at each handshake under CURVE."""

    __slots__ = ("_reader", "_tally", "_users")

    def __init__(self, loop: asyncio.AbstractEventLoop, context: zmq.Context[zmq.Socket[bytes]], tally: Tally) -> None:
        self._users: dict[bytes, dict[bytes, str]] = {}
        self._tally = tally
        socket = context.socket(zmq.ROUTER)
        socket.set(zmq.LINGER, 0)
        socket.set(zmq.SNDHWM, 0)
        socket.set(zmq.RCVHWM, 0)
        socket.bind(ZAP_ENDPOINT)
        self._reader = Reader(loop, socket, self._receive)

    def admit(self, domain: bytes, users: Mapping[bytes, str]) -> None:
        """Who may come in at `domain`."""
        self._users[domain] = {z85.decode(key): user for key, user in users.items()}

    def close(self) -> None:
        """Nobody comes in any more."""
        self._reader.close()
        self._reader.socket.close()

    def _receive(self) -> int:
        frames = self._reader.socket.recv_multipart(DONTWAIT)
        # routing id, empty, version, request id, domain, address, routing id of the peer, mechanism, credentials
        if len(frames) == 9 and frames[7] == b"CURVE" and len(frames[8]) == KEY_BYTES:
            user = self._users.get(frames[4], {}).get(frames[8])
            if user is not None:
                self._answer(frames, b"200", b"OK", user.encode())
                return len(frames)
            self._tally.add(
                "denied",
                f"A peer at {frames[5].decode(errors='replace')} was refused: its public key {z85.encode(frames[8]).decode()} is on "
                "no list. If it is one of yours, give it a [peers.NAME] with this public_key.",
            )
        else:
            self._tally.add("denied", "A peer was refused: it does not speak CURVE, and nobody else may come in here.")
        self._answer(frames, b"400", b"this key is on no list", b"")
        return len(frames)

    def _answer(self, asked: list[bytes], status: bytes, text: bytes, user: bytes) -> None:
        answer = [*asked[:2], _VERSION, asked[3] if len(asked) > 3 else b"", status, text, user]
        for frame in answer:
            self._reader.send(frame, MORE)
        self._reader.send(_NO_METADATA, DONTWAIT)
