"""The cables between roles: TCP passed on byte for byte until somebody cuts it, at once or at a byte of their choice, or stops it."""

import asyncio
import contextlib
import socket
import struct
from typing import Literal, TypeAlias

Way: TypeAlias = Literal["up", "down"]  # towards the broker, and back
How: TypeAlias = Literal[
    "cut",  # every connection is reset, and new ones are taken
    "stall",  # nothing passes until it is mended, and nobody is told: no FIN, no reset
    "deaden",  # this connection passes nothing ever again, and neither end is told; new ones are taken
]

RESET_AFTER_S = 0.02  # a reset overtakes what the kernel has not sent yet
_AT_ONCE = struct.pack("ii", 1, 0)  # SO_LINGER: close with a reset


class Link:
    """One role's cable to one broker. `port` is what the role dials."""

    def __init__(self, name: str, broker_port: int, host: str = "127.0.0.1") -> None:
        self.name = name
        self.host = host  # where the role finds it
        self.port = 0
        self.broker_port = broker_port
        self.stalled = False
        self.left: dict[Way, int] = {}
        self.how: How = "cut"  # what happens where nothing is left
        self.joins: set[Join] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Take connections from now on."""
        self._server = await asyncio.get_running_loop().create_server(lambda: Join(self), self.host, 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """For good."""
        assert self._server is not None
        self._server.close()
        self.cut()

    def cut(self) -> None:
        """Reset every connection that runs over it. New ones are taken."""
        for join in list(self.joins):
            join.reset()

    def cut_after(self, way: Way, count: int) -> None:
        """Let so many more bytes through in that direction, and not one more."""
        self.end_after("cut", way, count)

    def end_after(self, how: How, way: Way, count: int) -> None:
        """The same, and then something else than a cut."""
        self.how = how
        self.left[way] = count

    def stall(self) -> None:
        """Nothing passes any more, and nobody is told: no FIN, no reset."""
        self.stalled = True

    def mend(self) -> None:
        """All passes again, but over connections that are dead."""
        self.left.clear()
        self.stalled = False
        for join in list(self.joins):
            join.go_on()


class Join(asyncio.Protocol):
    """The role's end of one connection; `far` is the broker's."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.near: asyncio.Transport | None = None
        self.far: asyncio.Transport | None = None
        self.dead = False
        self._waiting: list[tuple[Way, bytes]] = []  # what came while the cable was stalled, or the far end not there yet
        self._dialling: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.near = transport
        self.link.joins.add(self)
        self._dialling = asyncio.ensure_future(self._dial())

    def data_received(self, data: bytes) -> None:
        self.passes("up", data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended()

    def passes(self, way: Way, data: bytes) -> None:
        """Bytes of one direction: on, or not, or as many of them as may."""
        to = self.far if way == "up" else self.near
        if self.link.stalled or self.dead or to is None:
            self._waiting.append((way, data))
            return
        left = self.link.left.get(way)
        if left is not None and left < len(data):
            data, rest = data[: max(0, left)], data[max(0, left) :]
            if self.link.how == "cut":
                self.link.left[way] = 0
                asyncio.get_running_loop().call_later(RESET_AFTER_S, self._cut)
            else:
                self._waiting.append((way, rest))
                self.link.stalled = self.link.how == "stall"
                self.dead = self.link.how == "deaden"
                self.link.left.clear()
        elif left is not None:
            self.link.left[way] = left - len(data)
        if data:
            to.write(data)

    def go_on(self) -> None:
        """What has waited passes."""
        waiting, self._waiting = self._waiting, []
        for way, data in waiting:
            self.passes(way, data)

    def ended(self) -> None:
        """One end is gone: so is the other, but where nothing passes, the news does not either."""
        ends = [end for end in (self.near, self.far) if end is not None]
        if not self.dead or all(end.is_closing() for end in ends):
            self.reset()

    def reset(self) -> None:
        """Both ends at once."""
        self.link.joins.discard(self)
        if self._dialling is not None:
            self._dialling.cancel()
        for end in (self.near, self.far):
            if end is None or end.is_closing():
                continue
            sock: socket.socket = end.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
            end.abort()

    def _cut(self) -> None:
        self.link.left.clear()
        self.link.cut()

    async def _dial(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            self.far, _ = await loop.create_connection(lambda: _Far(self), "127.0.0.1", self.link.broker_port)
        except OSError:
            self._dialling = None
            self.reset()
            return
        self._dialling = None
        self.go_on()


class _Far(asyncio.Protocol):
    """The broker's end."""

    def __init__(self, join: Join) -> None:
        self._join = join

    def data_received(self, data: bytes) -> None:
        self._join.passes("down", data)

    def connection_lost(self, exc: Exception | None) -> None:
        with contextlib.suppress(RuntimeError):  # the loop may be closed already
            self._join.ended()
