"""The engine of one process: the broker's machine is called directly, no socket between, nothing lost.

Messages wait in one queue until the machine that sent them has said all it had to say, so that no machine is entered twice at a time.
"""

from collections import deque

from homing.core.machine import Peer, PeerFound, PeerLost, Received
from homing.core.messages import Message
from homing.engines.base import Receiver


class Memory:
    """Joins any number of receivers by address."""

    __slots__ = ("_flushing", "_queue", "_receivers")

    def __init__(self) -> None:
        self._receivers: dict[Peer, Receiver] = {}
        self._queue: deque[tuple[Peer, Received]] = deque()
        self._flushing = False

    def attach(self, address: Peer, receiver: Receiver) -> None:
        """From now on messages for `address` go to `receiver`."""
        self._receivers[address] = receiver

    def connect(self, one: Peer, other: Peer) -> None:
        """Tell both that the other is there."""
        self._receivers[one].feed(PeerFound(other))
        self._receivers[other].feed(PeerFound(one))

    def detach(self, address: Peer) -> None:
        """Take a receiver out and tell the others; what was on its way to it is lost."""
        self._receivers.pop(address, None)
        for receiver in list(self._receivers.values()):
            receiver.feed(PeerLost(address))

    def send(self, sender: Peer, peer: Peer, message: Message) -> None:
        """Queue a message; for an address nobody has, it is lost."""
        self._queue.append((peer, Received(sender, message)))

    def flush(self) -> None:
        """Deliver until nothing is left, what delivery brings about included."""
        if self._flushing:
            return
        self._flushing = True
        queue, receivers = self._queue, self._receivers
        try:
            while queue:
                peer, event = queue.popleft()
                receiver = receivers.get(peer)
                if receiver is not None:
                    receiver.feed(event)
        finally:
            self._flushing = False
