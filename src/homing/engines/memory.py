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
Room: TypeAlias = tuple[Peer, Handle, Act, dict[type, Peer]]  # an address, who is there, and which messages take another way


class Memory:
    """Joins any number of machines by address. `elsewhere` takes the messages for addresses that are not here; None loses them."""

    __slots__ = ("_elsewhere", "_flushing", "_machines", "_queue", "_rooms")

    def __init__(self, elsewhere: Callable[[Peer, Peer, Message], None] | None = None) -> None:
        self._machines: dict[Peer, Machine] = {}
        self._rooms: dict[Peer, Room] = {}
        self._queue: deque[tuple[Room, Event]] = deque()
        self._elsewhere = elsewhere
        self._flushing = False

    def attach(self, address: Peer, machine: Machine, act: Act, *, timed: bool = True) -> None:
        """From now on messages for `address` go to `machine`, and `act` does what it wants done beside messages.

        One that is not `timed` has no deadline, ever, and is not asked: there may be very many.
        """
        if timed:
            self._machines[address] = machine
        self._rooms[address] = (address, machine.handle, act, {})

    def connect(self, one: Peer, other: Peer, now: float) -> None:
        """Tell both that the other is there."""
        self.feed(one, PeerFound(other), now)
        self.feed(other, PeerFound(one), now)

    def detach(self, address: Peer, now: float) -> None:
        """Take a machine out and tell the others; what was on its way to it is lost."""
        self._machines.pop(address, None)
        left = self._rooms.pop(address)
        kept = [entry for entry in self._queue if entry[0] is not left]
        self._queue.clear()
        self._queue.extend(kept)
        for other in list(self._machines):
            self.feed(other, PeerLost(address), now)

    def straight(self, kind: type, sender: Peer, to: Peer) -> None:
        """Messages of this kind go from `sender` to `to`, whomever they name: what a broker would only pass on need not pass it."""
        self._rooms[sender][3][kind] = to

    def feed(self, address: Peer, event: Event, now: float) -> None:
        """Give one event to a machine, and deliver until nothing is left, what delivery brings about included.

        Whatever a machine or a shell raises goes through, the first of it, once all else is done: what one call cannot have, others
        can.
        """
        queue, find = self._queue, self._rooms.get
        room = find(address)
        if room is None:
            return
        queue.append((room, event))
        if self._flushing:
            return
        self._flushing = True
        fault: Exception | None = None
        try:
            while queue:
                (here, handle, act, straight), event = queue.popleft()
                try:
                    actions = handle(event, now)
                except Exception as error:
                    fault = fault or error
                    continue
                for action in actions:
                    try:
                        if type(action) is Send:
                            message = action.message
                            room = find(straight.get(type(message)) or action.peer)
                            if room is not None:
                                queue.append((room, Received(here, message)))
                            elif self._elsewhere is not None:
                                self._elsewhere(here, action.peer, message)
                        else:
                            act(action)
                    except Exception as error:
                        fault = fault or error
        finally:
            self._flushing = False
        if fault is not None:
            raise fault

    def tick(self, now: float) -> None:
        """Tell every machine whose deadline has passed. What they raise is as with `feed`."""
        fault: Exception | None = None
        for address, machine in list(self._machines.items()):
            instant = machine.next_deadline()
            if instant is not None and instant <= now:
                try:
                    self.feed(address, Tick(), now)
                except Exception as error:
                    fault = fault or error
        if fault is not None:
            raise fault

    def next_deadline(self) -> float | None:
        """The earliest of all machines here."""
        earliest: float | None = None
        for machine in self._machines.values():
            instant = machine.next_deadline()
            if instant is not None and (earliest is None or instant < earliest):
                earliest = instant
        return earliest
