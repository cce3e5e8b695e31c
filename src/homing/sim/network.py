"""The road between the machines: it loses, delays, reorders, doubles and damages, and never invents.

What travels are the bytes that travel between real processes, encoded and decoded by the same codec: all that a process says to a peer
in one step leaves as one ZeroMQ message, and is lost, doubled, late or damaged as a whole.
"""

from collections import deque
from collections.abc import Callable
from typing import Protocol

from homing.core.codec import TAG, WireError, decode, pair, salvage
from homing.core.machine import Event, Life, Peer, PeerFound, PeerLost, Received
from homing.core.messages import Claim, Message, Settled
from homing.sim.invariants import Violation
from homing.sim.plan import Plan
from homing.sim.process import Process, Wire
from homing.sim.timeline import Timeline

NOTICED_AFTER_S = 6.5  # a connection that is silently dead is closed by then (the heartbeats of ZMTP)
CUT_FRAMES = 1 + 2 * 256  # at this length a ZeroMQ message is closed and the next begun


class Feed(Protocol):
    """The world's: gives events to a process."""

    def __call__(self, process: Process, *events: Event) -> None:
        """Now, or when its loop turns again."""
        ...


class Network:
    """Carries messages over wires, makes wires and breaks them.

    In the engine of one process there is nothing to break: messages wait in `queue` until the machine that sent them has said all
    it had to say, and what a broker would only pass on goes straight to the gateway.
    """

    __slots__ = (
        "_address_of",
        "_due",
        "_faithful",
        "_feed",
        "_in_one_process",
        "_plan",
        "_random",
        "_rooms",
        "_timeline",
        "damaged",
        "doubled",
        "late",
        "lost",
        "queue",
        "quiet",
        "too_large",
        "wires",
    )

    def __init__(self, plan: Plan, timeline: Timeline, feed: Feed) -> None:
        self._plan = plan
        self._timeline = timeline
        self._random = timeline.random.random
        self._feed = feed
        self._in_one_process = plan.engine == "memory"
        self._faithful = plan.ordered and not plan.loss and not plan.damage
        self._rooms: dict[Peer, Process] = {}
        self._address_of: dict[Life, Peer] = {}
        self._due: list[tuple[Wire, bool]] = []  # on which wires, and in which direction, something is about to leave
        self.queue: deque[tuple[Process, Event]] = deque()
        self.wires: list[Wire] = []  # between those who live
        self.quiet = False  # no more chance faults
        self.lost = self.doubled = self.late = self.damaged = self.too_large = 0  # messages

    def enter(self, process: Process) -> None:
        """A process has an address from now on."""
        self._rooms[process.address] = process
        self._address_of[process.life] = process.address

    def at(self, address: Peer) -> Process:
        """Who has, or had, this address."""
        return self._rooms[address]

    def connect(self, client: Process, broker: Process, *, told: bool = True) -> None:
        """A wire between the two. Where the client is not told, it takes the new wire for the old one."""
        before = client.wires.get(broker.address)
        if before is not None and told:
            self._lose(client, broker.address, before)
        wire = Wire(client, broker)
        self.wires.append(wire)
        unknown = broker.address not in client.wires
        client.wires[broker.address] = wire
        broker.wires[client.address] = wire
        if unknown:
            self._feed(client, PeerFound(broker.address))
        self._feed(broker, PeerFound(client.address, client.user))

    def send(self, sender: Process, peer: Peer, message: Message) -> None:
        """Put a message on its way. Between processes it leaves with `flush`."""
        if self._in_one_process:
            if type(message) is Claim:
                peer = GATEWAY
            elif type(message) is Settled:
                peer = self._address_of[message.life]
            self.queue.append((self._rooms[peer], Received(sender.address, message)))
            return
        wire = sender.wires.get(peer)
        if wire is None:
            return
        header, body = pair(message)
        to_broker = sender is wire.client
        frames, receiver = (wire.to_broker, wire.broker) if to_broker else (wire.to_client, wire.client)
        if len(body) > min(sender.frame_bytes_max, receiver.frame_bytes_max):
            # The sender's engine drops it, or the receiver's cuts the connection, which would lose what others have said.
            if self._faithful:
                what = f"{sender} sends {receiver} a frame of {len(body)} bytes"
                raise Violation("fits", what, getattr(message, "call_id", None))
            self.too_large += 1  # what the receiver reads was said before, and has been lost or overtaken
            return
        if not frames:
            frames.append(TAG)
            self._due.append((wire, to_broker))
        frames += (header, body)
        if len(frames) >= CUT_FRAMES:
            self._leave(wire, to_broker)

    def flush(self) -> None:
        """A step is over: what was said in it leaves."""
        due = self._due
        while due:
            self._leave(*due.pop())

    def _leave(self, wire: Wire, to_broker: bool) -> None:
        """One ZeroMQ message leaves."""
        if to_broker:
            frames, wire.to_broker, sender, receiver = wire.to_broker, [], wire.client, wire.broker
        else:
            frames, wire.to_client, sender, receiver = wire.to_client, [], wire.broker, wire.client
        if not frames:
            return  # it was long, and has left already
        plan, random, faulty = self._plan, self._random, not self.quiet
        if not wire.up or (faulty and plan.loss and random() < plan.loss):
            self.lost += len(frames) // 2
            return
        delay_s = plan.delay_s * (0.5 + random())
        if faulty and plan.late and random() < plan.late:
            self.late += len(frames) // 2
            delay_s += plan.late_s * random()
        when = self._timeline.now + delay_s
        if plan.ordered:
            if to_broker:
                when = wire.to_broker_at = max(when, wire.to_broker_at)
            else:
                when = wire.to_client_at = max(when, wire.to_client_at)
        damaged = faulty and bool(plan.damage) and random() < plan.damage
        carried = damage(frames, random) if damaged else frames
        self._timeline.at(when, self._deliver, wire, wire.epoch, sender.address, receiver, carried, damaged)
        if faulty and plan.doubling and random() < plan.doubling:
            self.doubled += len(frames) // 2
            again_at = when + plan.late_s * random()
            self._timeline.at(again_at, self._deliver, wire, wire.epoch, sender.address, receiver, frames, False)

    def _deliver(self, wire: Wire, epoch: int, peer: Peer, receiver: Process, frames: list[bytes], damaged: bool) -> None:
        if not receiver.alive or wire.epoch != epoch or receiver.wires.get(peer) is not wire:
            self.lost += len(frames) // 2
            return
        messages = self._read(receiver, frames, damaged)
        if messages:
            self._feed(receiver, *[Received(peer, message) for message in messages])

    def _read(self, receiver: Process, frames: list[bytes], damaged: bool) -> list[Message]:
        """As the engine's sockets do: a broker takes all or nothing, and from a broker is taken what can be read."""
        is_broker = receiver.role == "broker"
        try:
            return decode(frames, sealed=is_broker)
        except WireError as error:
            if not damaged:
                raise Violation("sound", f"{receiver} cannot read what nothing has damaged: {error}") from error
            messages = [] if is_broker else salvage(frames)[0]
            self.damaged += len(frames) // 2 - len(messages)
            return messages

    # What breaks

    def crashed(self, process: Process, noticed_after_s: float) -> None:
        """The far ends of its wires notice, soon or later. What it had sent before may still arrive until then."""
        for wire in [wire for wire in self.wires if process in (wire.client, wire.broker)]:
            self.wires.remove(wire)
            wire.up = False
            self._timeline.after(noticed_after_s, self._lose, wire.other(process), process.address, wire)

    def cut(self, wire: Wire, duration_s: float, *, client_told: bool, broker_told: bool) -> None:
        """Nothing passes for so long, and what is on its way is lost. Either side, both or neither notice."""
        wire.up = False
        wire.epoch += 1
        noticed_after_s = duration_s * self._random() * 0.5
        if duration_s > NOTICED_AFTER_S:
            client_told = broker_told = True
            noticed_after_s = NOTICED_AFTER_S
        if client_told:
            self._timeline.after(noticed_after_s, self._lose, wire.client, wire.broker.address, wire)
        if broker_told:
            self._timeline.after(noticed_after_s * self._random(), self._lose, wire.broker, wire.client.address, wire)
        self._timeline.after(duration_s, self._mend, wire)

    def _mend(self, wire: Wire) -> None:
        client, broker = wire.client, wire.broker
        if not (client.alive and broker.alive):
            return
        wire.up = True
        for process, other in ((client, broker), (broker, client)):
            if other.address not in process.wires:
                process.wires[other.address] = wire
                self._feed(process, PeerFound(other.address, client.user if other is client else ""))

    def _lose(self, process: Process, peer: Peer, wire: Wire) -> None:
        if process.alive and process.wires.get(peer) is wire:
            del process.wires[peer]
            self._feed(process, PeerLost(peer))


def damage(frames: list[bytes], random: Callable[[], float]) -> list[bytes]:
    """The same frames, and one of them is junk: cut short, of a type that nobody knows, with a body where none belongs, or missing."""
    damaged = list(frames)
    at = 1 + 2 * int(random() * (len(frames) // 2))
    kind = random()
    if kind < 0.1:
        damaged[0] = b"HOM9"
    elif kind < 0.2:
        del damaged[at]
    elif kind < 0.6:
        damaged[at] = damaged[at][: int(random() * len(damaged[at]))]
    elif kind < 0.8:
        damaged[at] = b"\x91\x7f"  # an array of one: type 127
    else:
        damaged[at : at + 2] = pair(CLAIM)[0], b"junk"
    return damaged


CLAIM = Claim(bytes(16), bytes(16), 1)
GATEWAY = b"gateway 0"  # where it is, in the engine of one process
