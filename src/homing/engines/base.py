"""What an engine promises: little, so that any can serve.

A message may be lost, delayed, reordered or doubled, and is never invented. Deadline, claim and the one answer are the machines'.
"""

from typing import Protocol

from homing.core.machine import Event, Peer
from homing.core.messages import Message


class Receiver(Protocol):
    """Whoever takes events: a driver."""

    def feed(self, event: Event) -> None:
        """Take one event now."""
        ...


class Engine(Protocol):
    """The road between one role and its peers, as its driver sees it."""

    def send(self, sender: Peer, peer: Peer, message: Message) -> None:
        """Put a message on its way. It leaves at the latest with `flush`."""
        ...

    def flush(self) -> None:
        """Whatever one turn has produced leaves now, as one piece where the engine can."""
        ...
