"""The engine of one process: machines joined in memory, no socket between, nothing lost.

Messages wait in one queue until the machine that sent them has said all it had to say, so that no machine is entered twice at a time,
and all that one event brings about happens at one instant.
"""

from collections import deque
from collections.abc import Callable
from typing import TypeAlias

from homing.core.machine import Action, Event, Machine, Peer, PeerFound, PeerLost, Received, Send, Tick
from homing.core.messages import Message

Act: TypeAlias = Callable[[Action], None]
Handle: TypeAlias = Callable[[Event, float], list[Action]]


class Memory:
    """Joins any number of machines by address. `elsewhere` takes the messages for addresses that are not here; None loses them."""

    __slots__ = ("_elsewhere", "_flushing", "_machines", "_queue", "_rooms")

    def __init__(self, elsewhere: Callable[[Peer, Peer, Message], None] | None = None) -> None:
        self._machines: dict[Peer, Machine] = {}
        self._rooms: dict[Peer, tuple[Handle, Act, dict[type, Peer]]] = {}
        self._queue: deque[tuple[Peer, Event]] = deque()
        self._elsewhere = elsewhere
        self._flushing = False

    def attach(self, address: Peer, machine: Machine, act: Act) -> None:
        """From now on messages for `address` go to `machine`, and `act` does what it wants done beside messages."""
        self._machines[address] = machine
        self._rooms[address] = (machine.handle, act, {})

    def connect(self, one: Peer, other: Peer, now: float) -> None:
        """Tell both that the other is there."""
        self.feed(one, PeerFound(other), now)
        self.feed(other, PeerFound(one), now)

    def detach(self, address: Peer, now: float) -> None:
        """Take a machine out and tell the others; what was on its way to it is lost."""
        del self._machines[address]
        del self._rooms[address]
        kept = [entry for entry in self._queue if entry[0] != address]
        self._queue.clear()
        self._queue.extend(kept)
        for other in list(self._machines):
            self.feed(other, PeerLost(address), now)

    def straight(self, kind: type, sender: Peer, to: Peer) -> None:
        """Messages of this kind go from `sender` to `to`, whomever they name: what a broker would only pass on need not pass it."""
        self._rooms[sender][2][kind] = to

    def feed(self, address: Peer, event: Event, now: float) -> None:
        """Give one event to a machine, and deliver until nothing is left, what delivery brings about included."""
        queue = self._queue
        queue.append((address, event))
        if self._flushing:
            return
        self._flushing = True
        rooms = self._rooms
        try:
            while queue:
                here, happened = queue.popleft()
                room = rooms.get(here)
                if room is None:
                    continue
                handle, act, straight = room
                for action in handle(happened, now):
                    if type(action) is Send:
                        message = action.message
                        there = straight.get(type(message), action.peer) if straight else action.peer
                        if there in rooms:
                            queue.append((there, Received(here, message)))
                        elif self._elsewhere is not None:
                            self._elsewhere(here, there, message)
                    else:
                        act(action)
        finally:
            self._flushing = False

    def tick(self, now: float) -> None:
        """Tell every machine whose deadline has passed."""
        for address, machine in list(self._machines.items()):
            instant = machine.next_deadline()
            if instant is not None and instant <= now:
                self.feed(address, Tick(), now)

    def next_deadline(self) -> float | None:
        """The earliest of all machines here."""
        earliest: float | None = None
        for machine in self._machines.values():
            instant = machine.next_deadline()
            if instant is not None and (earliest is None or instant < earliest):
                earliest = instant
        return earliest
