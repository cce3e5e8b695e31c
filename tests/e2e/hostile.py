"""Peers of a broker that keep to nothing: raw sockets that say whatever a test wants said, and what the broker has to tell of it."""

import os
import re
import time
from pathlib import Path
from typing import Self, TypeVar

import zmq

from homing.core import codec
from homing.core.messages import Heartbeat, Hello, Message, Ready
from tests.trio import PATIENCE_S, Role, Trio

T = TypeVar("T", bound=Message)


class Raw:
    """A DEALER at a broker, with a life of its own. `told` is all it has heard, `said` how much it has said.

    `keys`: its public and secret one, the broker's public.
    """

    def __init__(
        self, endpoint: str, keys: tuple[str, str, str] | None = None, *, identity: bytes = b"", received_max: int = 1000
    ) -> None:
        self.life = os.urandom(16)
        self.told: list[Message] = []
        self.said = 0
        self._fresh: list[Message] = []
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.set(zmq.LINGER, 0)
        self._socket.set(zmq.SNDTIMEO, int(PATIENCE_S * 1000))
        self._socket.set(zmq.RCVHWM, received_max)
        if identity:
            self._socket.set(zmq.IDENTITY, identity)
        if keys is not None:
            for option, key in zip((zmq.CURVE_PUBLICKEY, zmq.CURVE_SECRETKEY, zmq.CURVE_SERVERKEY), keys, strict=True):
                self._socket.set(option, key.encode())
        self._socket.connect(endpoint)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._context.destroy(linger=0)

    def send(self, *frames: bytes) -> None:
        """Frames as they are, in one ZeroMQ message."""
        self._socket.send_multipart(frames)

    def say(self, *messages: Message) -> None:
        """Messages, in one ZeroMQ message."""
        self.said += len(messages)
        self.send(*codec.encode(messages))

    def hear(self, kind: type[T], within_s: float = PATIENCE_S) -> T:
        """The next message of that kind. What comes before it is in `told` too."""
        latest = time.monotonic() + within_s
        while True:
            while self._fresh:
                message = self._fresh.pop(0)
                self.told.append(message)
                if isinstance(message, kind):
                    return message
            assert self._socket.poll(max(0, int((latest - time.monotonic()) * 1000))), f"no {kind.__name__}: {self.told[-5:]}"
            self._fresh += codec.decode(self._socket.recv_multipart())

    def hears_no(self, kind: type[Message], within_s: float = 0.3) -> None:
        """None of that kind comes, for so long."""
        latest = time.monotonic() + within_s
        while self._fresh or self._socket.poll(max(0, int((latest - time.monotonic()) * 1000))):
            if not self._fresh:
                self._fresh += codec.decode(self._socket.recv_multipart())
            message = self._fresh.pop(0)
            self.told.append(message)
            assert not isinstance(message, kind), message

    def gateway(self) -> Self:
        """Say HELLO and be known."""
        self.say(Hello(self.life))
        self.hear(Heartbeat)
        return self

    def worker(self, **services: int) -> Self:
        """Say READY and be known."""
        self.say(Ready(self.life, services, 1000))
        self.hear(Heartbeat)
        return self


def rss_bytes(role: Role) -> int:
    """What a process has in memory."""
    found = re.search(r"^VmRSS:\s+(\d+) kB$", Path(f"/proc/{role.process.pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


def counted(trio: Trio, admin_port: int) -> dict[str, float]:
    """What the broker says it dropped or refused, by why."""
    text = trio.request("GET", "/metrics", port=admin_port).body.decode()
    return {
        why: float(count)
        for why, count in re.findall(r'^homing_messages_dropped_total\{\w+="([^"]*)"\} (\S+)$', text, re.MULTILINE)
    }


def held(trio: Trio, admin_port: int) -> int:
    """How many calls a broker knows of."""
    copies: int = trio.request("GET", "/readyz?verbose", port=admin_port).json["broker_holds"]
    return copies
