"""One life of one role: a machine, a clock of its own, and whatever waits while its loop stands still."""

from collections.abc import Callable
from typing import Literal, TypeAlias

from homing.core.links import FRAME_BYTES_MAX
from homing.core.machine import Life, Machine, Peer
from homing.core.permits import ANYTHING, Permit

Role: TypeAlias = Literal["gateway", "broker", "worker", "stranger"]


class Process:
    """What dies in a crash. A restart makes a new one, with a new life and a clock that begins anew.

    `seat` is what outlives it: the third worker is the third worker in every life. `wires` is the world's: what this process is
    connected to, by the address its machine knows.
    """

    __slots__ = (
        "address",
        "alive",
        "backlog",
        "died_at",
        "draining",
        "frame_bytes_max",
        "index",
        "last",
        "life",
        "machine",
        "offset_s",
        "permit",
        "rate",
        "resumed_at",
        "role",
        "running",
        "seat",
        "stalled",
        "timer_at",
        "touched",
        "user",
        "wires",
    )

    def __init__(self, role: Role, seat: int, index: int, life: Life, address: Peer, machine: Machine) -> None:
        self.role: Role = role
        self.seat = seat
        self.index = index  # the how manyth process of the whole run
        self.life = life
        self.address = address
        self.machine = machine
        self.user = ""  # whose key it has
        self.permit: Permit = ANYTHING  # what that key may do
        self.frame_bytes_max = FRAME_BYTES_MAX  # the largest frame it reads
        self.offset_s = 0.0
        self.rate = 1.0
        self.last = 0.0
        self.alive = True
        self.died_at = -1.0  # in true time
        self.draining = False
        self.stalled = False
        self.resumed_at = -1.0  # in true time
        self.timer_at: float | None = None  # in true time
        self.touched = False
        self.backlog: list[Callable[[], None]] = []  # what has come while it stood still
        self.running: dict[str, int] = {}  # exchanges, by provider
        self.wires: dict[Peer, Wire] = {}

    def __str__(self) -> str:
        return f"{self.role} {self.seat}.{self.index}"

    def clock(self, offset_s: float, rate: float) -> None:
        """Set the clock: where it begins, and how many of its seconds a true one has."""
        self.offset_s, self.rate = offset_s, rate
        self.last = offset_s

    def local(self, now: float) -> float:
        """What this process's monotonic clock says at the true instant `now`. Rounding never makes it go back."""
        instant = self.offset_s + now * self.rate
        if instant < self.last:
            return self.last
        self.last = instant
        return instant

    def true(self, instant: float) -> float:
        """The true instant at which this process's clock says `instant`."""
        return (instant - self.offset_s) / self.rate


class Wire:
    """A connection between a client (a gateway or a worker) and a broker.

    What was sent before a break does not arrive after it: `epoch` says in which unbroken stretch it was sent.
    """

    __slots__ = ("broker", "client", "epoch", "to_broker", "to_broker_at", "to_client", "to_client_at", "up")

    def __init__(self, client: Process, broker: Process) -> None:
        self.client = client
        self.broker = broker
        self.up = True
        self.epoch = 0
        self.to_broker: list[bytes] = []  # the frames of what is being said; they leave together
        self.to_client: list[bytes] = []
        self.to_broker_at = 0.0  # when the last message sent arrives, so that an ordered road keeps its order
        self.to_client_at = 0.0

    def other(self, one: Process) -> Process:
        """The far end."""
        return self.broker if one is self.client else self.client
