"""The socket that dials: a DEALER, and the one broker behind it.

It dials for ever, and keeps nothing for a broker that is not there: what cannot leave now is lost, and whoever said it is told that
the broker is gone, so that it says again what matters when the broker is back. libzmq has an option for that, IMMEDIATE; but when a
connection ends it also drops what came by it and was not read yet. So nothing is sent before the monitor says that a connection is
there, and when it has gone and its last words are read, the broker is dialled anew: what had not left goes nowhere.
"""

import asyncio

import zmq

from homing.core import codec
from homing.core.machine import Peer, PeerFound, PeerLost, Received
from homing.engines import zmq_endpoint
from homing.engines.zmq_curve import CurveClient, arm
from homing.engines.zmq_desk import Desk, Outlet
from homing.engines.zmq_monitor import HANDSHAKE_ENDED_BADLY, Monitor
from homing.engines.zmq_socket import DONTWAIT, LAST_WORDS_S, MORE, Reader, new_socket

_EVENTS = zmq.Event.HANDSHAKE_SUCCEEDED | zmq.Event.DISCONNECTED | HANDSHAKE_ENDED_BADLY


class Dealer:
    """The broker at one endpoint, for the machine at `address`."""

    def __init__(self, desk: Desk, address: Peer, endpoint: str, curve: CurveClient | None) -> None:
        self._desk = desk
        self.address = address
        self._endpoint = endpoint
        self._expelled = False
        self._losing: asyncio.TimerHandle | None = None
        self._broker = Outlet(self, endpoint.encode())
        # libzmq's thread looks names up, and does nothing else meanwhile: a name server that hangs must not cost other connections.
        context = desk.new_context() if zmq_endpoint.is_named(endpoint) else desk.context
        self._socket = new_socket(context, zmq.DEALER, frame_bytes_max=desk.frame_bytes_max)
        if curve is not None:
            arm(self._socket, curve)
        self._monitor = Monitor(desk.loop, context, self._socket, _EVENTS, self._heard)
        self.reader = Reader(desk.loop, self._socket, self._receive)

    @property
    def peer(self) -> Peer:
        """The broker's address."""
        return self._broker.peer

    def dial(self) -> None:
        """From now on and for ever. Raises OSError if that is no endpoint."""
        zmq_endpoint.connect(self._socket, self._endpoint)

    def close(self) -> None:
        """Read nothing more. The socket itself goes with its context, and what was sent before it."""
        self.reader.close()
        self._monitor.close()

    def discard(self) -> None:
        """It was never used."""
        self.close()
        self._socket.close()

    def push(self, outlet: Outlet) -> bool:
        """Send what waits for the broker, without waiting. False: there is no room, come again."""
        outbox, send = outlet.outbox, self.reader.send
        while (frames := outbox.first()) is not None:
            try:
                send(frames[0], MORE)
            except zmq.Again:
                return False
            # There is room for a message or there is not: from here on none of its frames has to wait.
            for frame in frames[1:-1]:
                send(frame, MORE)
            send(frames[-1], DONTWAIT)
            outbox.left()
        return True

    def expel(self, peer: Peer) -> bool:
        """Hear no more of this broker until it has a new connection. Returns whether it is here."""
        if peer != self.peer:
            return False
        self._desk.forget(self.address, self._broker)
        self._broker.known = False
        self._expelled = True
        return True

    def _receive(self) -> int:
        recv_frame = self.reader.recv_frame
        frame = recv_frame()
        frames = [frame.bytes]
        while frame.more:
            frame = recv_frame()
            frames.append(frame.bytes)
        desk, address, peer = self._desk, self.address, self._broker.peer
        if not self._broker.known:
            self._monitor.drain()
        if not self._broker.known:
            desk.tally.add("expelled" if self._expelled else "late")
            return len(frames)
        # A broker carries what many have said, and does not look into all of it: one of them may have said junk.
        try:
            messages = codec.decode(frames, sealed=desk.sealed)
        except codec.WireError:
            messages, errors = codec.salvage(frames, sealed=desk.sealed)
            for error in errors:
                desk.tally.add(error.kind, f"Junk from the broker at {self._endpoint} was dropped: {error.detail}.")
        if messages:
            desk.tell(address, *[Received(peer, message) for message in messages])
        return len(frames)

    def _heard(self, event: int, value: int) -> None:
        if event == zmq.Event.HANDSHAKE_SUCCEEDED:
            self._found()
        elif event == zmq.Event.DISCONNECTED:
            if self._losing is None and self._broker.known:
                self._losing = self._desk.loop.call_later(LAST_WORDS_S, self._lost)
        else:
            self._refused(event)

    def _found(self) -> None:
        if self._losing is not None:
            self._forget()  # it was back before it was missed
        self._expelled = False
        self._broker.known = True
        self._desk.outlets.setdefault(self.address, {})[self.peer] = self._broker
        self._desk.tell(self.address, PeerFound(self.peer))
        self.reader.look()

    def _lost(self) -> None:
        if self._desk.closed:
            return
        self._monitor.drain()
        if self._losing is None:
            return  # it is back, and was told to be
        self.reader.drain()
        zmq_endpoint.disconnect(self._socket, self._endpoint)
        zmq_endpoint.connect(self._socket, self._endpoint)
        self._forget()

    def _forget(self) -> None:
        if self._losing is not None:
            self._losing.cancel()
            self._losing = None
        if not self._broker.known:
            return
        self._broker.known = False
        self._desk.forget(self.address, self._broker)
        self._desk.tell(self.address, PeerLost(self.peer))

    def _refused(self, event: int) -> None:
        if event == zmq.Event.HANDSHAKE_FAILED_AUTH:
            sentence = (
                f"The broker at {self._endpoint} refused this process: its public key is on no list there. "
                "The broker's homing.toml needs a [peers.NAME] with it."
            )
        else:
            sentence = (
                f"The broker at {self._endpoint} and this process came to no understanding: only one of them speaks CURVE, or the "
                "`broker` key of this process is not that broker's public key, or what listens there is no broker."
            )
        self._desk.tally.add("handshake", sentence)
