"""What all sockets of one engine share: the loop, the counts, who can be spoken to, and the moment at which what was said leaves."""

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

import zmq

from homing.core import codec
from homing.core.machine import Peer, Tell
from homing.core.messages import Message
from homing.engines.zmq_outbox import Outbox
from homing.engines.zmq_socket import SLACK_BYTES, Reader
from homing.engines.zmq_tally import Tally

RETRY_S, RETRY_MAX_S = 0.002, 0.1  # after a peer's queue was full: a ROUTER does not tell when there is room again


class Line(Protocol):
    """A socket, as far as sending goes."""

    reader: Reader

    def push(self, outlet: "Outlet") -> bool:
        """Send what waits for this peer, without waiting. False: there is no room, come again."""
        ...


class Outlet:
    """One peer behind a socket. `known`: the machine was told of it."""

    __slots__ = ("due", "known", "line", "outbox", "peer", "user")

    def __init__(self, line: Line, peer: Peer, user: str = "") -> None:
        self.line = line
        self.peer = peer
        self.user = user
        self.outbox = Outbox()
        self.known = False
        self.due = False


class Desk:
    """Everything that is sent goes over it. `tell` is how what sockets bring reaches the machines."""

    __slots__ = (
        "_blocked",
        "_contexts",
        "_due",
        "_flushing",
        "_retry_s",
        "_retrying",
        "closed",
        "context",
        "frame_bytes_max",
        "has_machine",
        "loop",
        "number",
        "outlets",
        "sealed",
        "tally",
        "tell",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        tally: Tally,
        *,
        frame_bytes_max: int,
        sealed: bool,
        has_machine: Callable[[Peer], bool],
        tell: Tell,
    ) -> None:
        self.loop = loop
        self.tally = tally
        self.frame_bytes_max = frame_bytes_max
        self.sealed = sealed
        self.has_machine = has_machine
        self.tell = tell
        self._contexts: list[zmq.Context[zmq.Socket[bytes]]] = []
        self.context = self.new_context()
        self.outlets: dict[Peer, dict[Peer, Outlet]] = {}
        self.number = 0
        self.closed = False
        self._due: list[Outlet] = []
        self._blocked: list[Outlet] = []
        self._retry_s = RETRY_S
        self._flushing: asyncio.Handle | None = None
        self._retrying: asyncio.TimerHandle | None = None

    def new_context(self) -> zmq.Context[zmq.Socket[bytes]]:
        """A thread of libzmq's, and the sockets it carries for."""
        self._contexts.append(zmq.Context())
        return self._contexts[-1]

    def new_peer(self) -> Peer:
        """An address that nobody had before: what a peer calls itself may be what another is called."""
        self.number += 1
        return b"peer-%d" % self.number

    def say(self, sender: Peer, peer: Peer, message: Message) -> None:
        """A machine said this. It leaves when this turn of the loop is over, with all else that was said to that peer."""
        outlets = self.outlets.get(sender)
        outlet = outlets.get(peer) if outlets is not None else None
        if outlet is None:
            self.tally.add("unreachable")
            return
        header, body = codec.pair(message)
        if len(header) > self.frame_bytes_max + SLACK_BYTES or len(body) > self.frame_bytes_max:
            # The peer would cut the connection, and lose what all others said on it.
            self.tally.add("size", f"A {type(message).__name__} of {len(header) + len(body)} bytes was too large to send.")
        elif not outlet.outbox.add(header, body):
            self._full(outlet)
        elif not outlet.due:
            self._make_due(outlet)

    def say_frames(self, sender: Peer, peer: Peer, frames: list[bytes]) -> bool:
        """The same for frames that are no messages of ours; they leave as they are. False: they never will."""
        outlet = self._find(sender, peer)
        if outlet is None:
            return False
        if not outlet.outbox.add_frames(frames):
            self._full(outlet)
            return False
        if not outlet.due:
            self._make_due(outlet)
        return True

    def forget(self, address: Peer, outlet: Outlet) -> None:
        """Nothing more can be said to this peer."""
        self.outlets.get(address, {}).pop(outlet.peer, None)
        outlet.outbox.clear()
        if outlet.due:
            outlet.due = False
            self._blocked = [each for each in self._blocked if each is not outlet]

    def flush(self) -> None:
        """Send what waits, now. What one line raises goes through once the others have sent: it may be told that a peer is gone."""
        self._flushing = None
        due, self._due = self._due, []
        lines: set[Line] = set()
        fault: Exception | None = None
        for outlet in due:
            outlet.due = False
            lines.add(outlet.line)
            try:
                sent = outlet.line.push(outlet)
            except Exception as error:
                fault = fault or error
                continue
            if not sent:
                outlet.due = True
                self._blocked.append(outlet)
        for line in lines:
            line.reader.look()
        if self._blocked and self._retrying is None and not self.closed:
            self._retrying = self.loop.call_later(self._retry_s, self._retry)
        if fault is not None:
            raise fault

    def flush_blocked(self) -> None:
        """Try those again that had no room, the longer in between the longer none of them has any."""
        blocked, self._blocked = self._blocked, []
        held_bytes = sum(outlet.outbox.held_bytes for outlet in blocked)
        self._due += blocked
        self.flush()
        moved = sum(outlet.outbox.held_bytes for outlet in blocked) < held_bytes
        self._retry_s = RETRY_S if moved else min(RETRY_MAX_S, 2 * self._retry_s)

    def waits(self) -> bool:
        """Whether anything has not left."""
        return bool(self._due or self._blocked)

    def held_bytes(self) -> int:
        """What waits for peers that do not read."""
        return sum(outlet.outbox.held_bytes for outlets in self.outlets.values() for outlet in outlets.values())

    def close(self) -> None:
        """Nothing is sent by itself any more."""
        self.closed = True
        for timer in (self._flushing, self._retrying):
            if timer is not None:
                timer.cancel()

    def destroy(self, end: float) -> None:
        """Close every socket. What was sent has until the instant `end` to leave."""
        self.outlets.clear()
        for context in self._contexts:
            context.destroy(linger=max(0, int((end - time.monotonic()) * 1000)))

    def _find(self, sender: Peer, peer: Peer) -> Outlet | None:
        outlets = self.outlets.get(sender)
        outlet = None if outlets is None else outlets.get(peer)
        if outlet is None:
            self.tally.add("unreachable")
        return outlet

    def _full(self, outlet: Outlet) -> None:
        who = f" of {outlet.user}" if outlet.user else ""
        self.tally.add("full", f"A peer{who} does not read; what was said to it was dropped.")

    def _make_due(self, outlet: Outlet) -> None:
        outlet.due = True
        self._due.append(outlet)
        if self._flushing is None and not self.closed:
            self._flushing = self.loop.call_soon(self.flush)

    def _retry(self) -> None:
        self._retrying = None
        self.flush_blocked()
