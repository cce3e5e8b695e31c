"""Every service that is offered, called or waited for at one broker."""

from collections.abc import Mapping
from math import inf

from homing.core.machine import Deadlines
from homing.core.queues import Offering, Service

STALL_BEATS = 2  # a broker has heartbeats to send: if it was told of nothing for so long, not even the time, it stood still


class Services(dict[str, Service]):
    """By name; one that is asked for is there. What nobody has offered for so long is told by `due`, and forgotten.

    Whoever was going to offer a service has had the time since this broker began.
    """

    __slots__ = ("_no_worker_after_s", "_stall_s", "_turned_at", "awake_since", "began_at", "patience")

    def __init__(self, no_worker_after_s: float, heartbeat_s: float = 0.0) -> None:
        super().__init__()
        self._no_worker_after_s = no_worker_after_s
        self._stall_s = STALL_BEATS * heartbeat_s or inf
        self._turned_at = inf
        self.began_at: float | None = None  # the broker's first event
        self.awake_since = -inf  # the first event since it last stood still: what took time before was not its workers' doing
        self.patience: Deadlines[str] = Deadlines()  # until when those are waited for that nobody offers

    def turn(self, now: float) -> None:
        """The broker has been told of an event."""
        if self.began_at is None:
            self.began_at = now
        if now - self._turned_at > self._stall_s:
            self.awake_since = now
        self._turned_at = now

    def __missing__(self, name: str) -> Service:
        assert self.began_at is not None, "with the first event"
        service = self[name] = Service(name, self.began_at)
        self.patience.set(name, self.began_at + self._no_worker_after_s)
        return service

    def offer(self, worker: Offering, services: Mapping[str, int], now: float) -> None:
        """A worker offers these, each with its credit, and what it offered before no longer."""
        for name in worker.services.keys() - services.keys():
            service = self[name]
            service.workers.pop(worker.life, None)
            if not service.workers:
                service.nobody_since = now
                self.patience.set(name, now + self._no_worker_after_s)
        worker.services = dict(services)
        for name in services:
            service = self[name]
            service.workers[worker.life] = worker
            service.nobody_since = None
            self.patience.pop(name, None)

    def due(self, now: float) -> list[Service]:
        """Those that nobody has offered for long enough. They are forgotten here; whoever waits is to be told."""
        return [self.pop(name) for name in self.patience.pop_due(now)]
