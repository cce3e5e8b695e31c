"""The road between the machines: it loses, delays, reorders and doubles, and never invents."""

from collections import deque
from collections.abc import Callable

from homing.core.machine import Event, Life, Peer, PeerFound, PeerLost, Received
from homing.core.messages import Claim, Message, Settled
from homing.sim.plan import Plan
from homing.sim.process import Process, Wire
from homing.sim.timeline import Timeline

NOTICED_AFTER_S = 6.5  # a connection that is silently dead is closed by then (the heartbeats of ZMTP)


class Network:
    """Carries messages over wires, makes wires and breaks them. `feed` is the world's: it gives an event to a process.

    In the engine of one process there is nothing to break: messages wait in `queue` until the machine that sent them has said all
    it had to say, and what a broker would only pass on goes straight to the gateway.
    """

    __slots__ = (
        "_address_of",
        "_feed",
        "_in_one_process",
        "_plan",
        "_random",
        "_rooms",
        "_timeline",
        "doubled",
        "late",
        "lost",
        "queue",
        "quiet",
        "wires",
    )

    def __init__(self, plan: Plan, timeline: Timeline, feed: Callable[[Process, Event], None]) -> None:
        self._plan = plan
        self._timeline = timeline
        self._random = timeline.random.random
        self._feed = feed
        self._in_one_process = plan.engine == "memory"
        self._rooms: dict[Peer, Process] = {}
        self._address_of: dict[Life, Peer] = {}
        self.queue: deque[tuple[Process, Event]] = deque()
        self.wires: list[Wire] = []  # between those who live
        self.quiet = False  # no more chance faults
        self.lost = self.doubled = self.late = 0

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
        self._feed(broker, PeerFound(client.address))

    def send(self, sender: Process, peer: Peer, message: Message) -> None:
        """Put a message on its way."""
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
        plan, random, faulty = self._plan, self._random, not self.quiet
        if not wire.up or (faulty and plan.loss and random() < plan.loss):
            self.lost += 1
            return
        delay_s = plan.delay_s * (0.5 + random())
        if faulty and plan.late and random() < plan.late:
            self.late += 1
            delay_s += plan.late_s * random()
        when = self._timeline.now + delay_s
        event = Received(sender.address, message)
        if sender is wire.client:
            receiver = wire.broker
            if plan.ordered:
                when = wire.to_broker_at = max(when, wire.to_broker_at)
        else:
            receiver = wire.client
            if plan.ordered:
                when = wire.to_client_at = max(when, wire.to_client_at)
        self._timeline.at(when, self._deliver, wire, wire.epoch, receiver, event)
        if faulty and plan.doubling and random() < plan.doubling:
            self.doubled += 1
            again_at = when + plan.late_s * random()
            self._timeline.at(again_at, self._deliver, wire, wire.epoch, receiver, event)

    def _deliver(self, wire: Wire, epoch: int, receiver: Process, event: Received) -> None:
        if receiver.alive and wire.epoch == epoch and receiver.wires.get(event.peer) is wire:
            self._feed(receiver, event)
        else:
            self.lost += 1

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
        for process, peer in ((client, broker.address), (broker, client.address)):
            if peer not in process.wires:
                process.wires[peer] = wire
                self._feed(process, PeerFound(peer))

    def _lose(self, process: Process, peer: Peer, wire: Wire) -> None:
        if process.alive and process.wires.get(peer) is wire:
            del process.wires[peer]
            self._feed(process, PeerLost(peer))


GATEWAY = b"gateway 0"  # where it is, in the engine of one process
