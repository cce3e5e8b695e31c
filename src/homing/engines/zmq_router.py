"""The socket that others dial: a ROUTER, and who is behind it.

Everything about a peer is learnt from its first message, for a ROUTER tells nothing before. The routing id is the connection's and
made by libzmq, fresh each time: a peer that lost its connection comes back as another, and its life says that it is the same. Each
frame also carries the descriptor of the connection that it came by, and that is what the monitor names when the connection ends.
"""

import errno
from typing import Protocol

import zmq

from homing.core import codec
from homing.core.machine import Peer, PeerFound, PeerLost, Received
from homing.engines import zmq_endpoint
from homing.engines.zmq_curve import CurveServer, guard, user_of
from homing.engines.zmq_desk import Desk, Outlet
from homing.engines.zmq_monitor import HANDSHAKE_ENDED_BADLY, Monitor
from homing.engines.zmq_socket import DONTWAIT, LAST_WORDS_S, MORE, Reader, new_socket

FRAMES_MAX = 4096  # of one ZeroMQ message; what has more is junk, and is read without being kept

_EVENTS = zmq.Event.ACCEPTED | zmq.Event.DISCONNECTED | HANDSHAKE_ENDED_BADLY
_SOURCE = int(zmq.SRCFD)


class Foreign(Protocol):
    """Takes what does not begin with the tag of our protocol."""

    def received(self, peer: Peer, frames: list[bytes], user: str) -> bool:
        """All frames of one ZeroMQ message. False: nobody knows this; it is dropped and counted."""
        ...

    def lost(self, peer: Peer) -> None:
        """The connection of a peer whose frames were taken is gone."""
        ...


class Guest(Outlet):
    """A peer behind a ROUTER."""

    __slots__ = ("expelled", "foreign", "routing_id", "source")

    def __init__(self, router: "Router", peer: Peer, user: str, routing_id: bytes, source: int) -> None:
        super().__init__(router, peer, user)
        self.routing_id = routing_id
        self.source = source
        self.foreign = False
        self.expelled = False


class Router:
    """Peers behind one bound endpoint, for the machine at `address`."""

    def __init__(self, desk: Desk, address: Peer, curve: CurveServer | None, domain: bytes, foreign: Foreign | None) -> None:
        self._desk = desk
        self.address = address
        self._foreign = foreign
        self._guarded = curve is not None
        self._guests: dict[bytes, Guest] = {}
        self._by_source: dict[int, list[Guest]] = {}
        self._connected: set[int] = set()
        self._skipping = False
        self._endpoint = ""
        self._socket = new_socket(desk.context, zmq.ROUTER, frame_bytes_max=desk.frame_bytes_max)
        if curve is not None:
            guard(self._socket, curve, domain)
        self._monitor = Monitor(desk.loop, desk.context, self._socket, _EVENTS, self._heard)
        self.reader = Reader(desk.loop, self._socket, self._receive)

    def bind(self, endpoint: str, fd: int | None = None) -> str:
        """Listen; returns where. Raises OSError, which says for people what is wrong. `fd` is as in `zmq_endpoint.bind`."""
        self._endpoint = zmq_endpoint.bind(self._socket, endpoint, fd)
        return self._endpoint

    def close(self) -> None:
        """Read nothing more. The socket itself goes with its context, and what was sent before it."""
        self.reader.close()
        self._monitor.close()

    def discard(self) -> None:
        """It was never used."""
        self.close()
        self._socket.close()

    def push(self, outlet: Outlet) -> bool:
        """Send what waits for this peer, without waiting. False: there is no room, come again."""
        assert isinstance(outlet, Guest)
        outbox, send, routing_id = outlet.outbox, self.reader.send, outlet.routing_id
        while (frames := outbox.first()) is not None:
            try:
                send(routing_id, MORE)
            except zmq.Again:
                return False
            except zmq.ZMQError as error:
                if error.errno != errno.EHOSTUNREACH:
                    raise
                self._lose(outlet)
                return True
            # From here on it is all or nothing: should the connection end meanwhile, libzmq swallows the rest.
            for frame in frames[:-1]:
                send(frame, MORE)
            send(frames[-1], DONTWAIT)
            outbox.left()
        return True

    def expel(self, peer: Peer) -> bool:
        """Hear no more of this peer, and say nothing to it. libzmq cannot close its connection. Returns whether it is here."""
        for guest in self._guests.values():
            if guest.peer == peer:
                self._desk.forget(self.address, guest)
                guest.expelled = True
                guest.known = False
                return True
        return False

    def _receive(self) -> int:
        if self._skipping:
            return self._skip()
        routing_id, recv_frame = self.reader.recv(), self.reader.recv_frame
        first = frame = recv_frame()
        frames = [first.bytes]
        while frame.more:
            if len(frames) == FRAMES_MAX:
                self._desk.tally.add("frames")
                self._skipping = True
                return len(frames) + 1
            frame = recv_frame()
            frames.append(frame.bytes)
        guest = self._guests.get(routing_id)
        if guest is None:
            guest = self._met(routing_id, first)
        elif self._guarded and user_of(first) != guest.user:
            # Peers may choose their routing ids: somebody has taken one that another has just left.
            self._lose(guest)
            guest = self._met(routing_id, first)
        if guest.expelled:
            self._desk.tally.add("expelled")
        elif frames[0] == codec.TAG and self._desk.has_machine(self.address):
            self._hear(guest, frames)
        else:
            self._hear_foreign(guest, frames)
        return len(frames) + 1

    def _skip(self) -> int:
        self._skipping = self.reader.recv_frame().more
        return 1

    def _hear(self, guest: Guest, frames: list[bytes]) -> None:
        desk, address, peer = self._desk, self.address, guest.peer
        try:
            messages = codec.decode(frames, sealed=desk.sealed)
        except codec.WireError as error:
            who = f"{guest.user} at {self._endpoint}" if guest.user else self._endpoint
            desk.tally.add(error.kind, f"Junk from a peer of {who} was dropped: {error.detail}.")
            return
        if not guest.known:
            guest.known = True
            desk.outlets.setdefault(address, {})[peer] = guest
            desk.tell(address, PeerFound(peer, guest.user))
        if messages:
            desk.tell(address, *[Received(peer, message) for message in messages])

    def _hear_foreign(self, guest: Guest, frames: list[bytes]) -> None:
        desk = self._desk
        desk.outlets.setdefault(self.address, {})[guest.peer] = guest
        if self._foreign is not None and self._foreign.received(guest.peer, frames, guest.user):
            guest.foreign = True
        else:
            desk.tally.add(
                "foreign", f"A peer of {self._endpoint} speaks no protocol that is known here; what it said was dropped."
            )

    def _met(self, routing_id: bytes, first: zmq.Frame) -> Guest:
        self._monitor.drain()  # whoever had this descriptor before is known to be gone now
        source = first.get(_SOURCE)
        assert isinstance(source, int)
        guest = Guest(self, self._desk.new_peer(), user_of(first) if self._guarded else "", routing_id, source)
        self._guests[routing_id] = guest
        if source in self._connected:
            self._by_source.setdefault(source, []).append(guest)
        else:
            self._lose_soon(guest)  # these are its last words
        return guest

    def _heard(self, event: int, value: int) -> None:
        if event == zmq.Event.ACCEPTED:
            self._connected.add(value)
        elif event == zmq.Event.DISCONNECTED:
            self._connected.discard(value)
            for guest in self._by_source.pop(value, ()):
                self._lose_soon(guest)
        elif event == zmq.Event.HANDSHAKE_FAILED_PROTOCOL:
            self._desk.tally.add(
                "handshake",
                f"A peer that dialled {self._endpoint} was refused: it does not speak CURVE where that is asked for (or does where "
                "it is not), or has not this broker's public key.",
            )
        else:
            self._desk.tally.add("handshake")  # it said too little, or is on no list, which the door tells

    def _lose_soon(self, guest: Guest) -> None:
        self._desk.loop.call_later(LAST_WORDS_S, self._lose, guest)

    def _lose(self, guest: Guest) -> None:
        if self._guests.get(guest.routing_id) is not guest or self._desk.closed:
            return
        del self._guests[guest.routing_id]
        beside = self._by_source.get(guest.source)
        if beside is not None and guest in beside:
            beside.remove(guest)
            if not beside:
                del self._by_source[guest.source]
        self._desk.forget(self.address, guest)
        if guest.known:
            self._desk.tell(self.address, PeerLost(guest.peer))
        if guest.foreign and self._foreign is not None:
            self._foreign.lost(guest.peer)
