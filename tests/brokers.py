"""A broker and a worker for tests of the client that speaks to brokers: the real machines, with an answer for each method."""

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from typing import TypeAlias

from homing.client_owner import OWNER, Owner
from homing.core.broker import Broker, BrokerLimits
from homing.core.holding import MethodPolicy, ProviderPolicy
from homing.core.machine import Action, Event, Finished, Peer, PeerFound, PeerLost, Start, Stop, Tell
from homing.core.messages import MethodOffer
from homing.core.worker import Worker
from homing.engines.memory import Memory
from homing.errors import Outcome, failure

BROKER, WORKER = b"broker", b"worker"
LIMITS = BrokerLimits(no_worker_after_s=0.2)

Answers: TypeAlias = Mapping[str, Outcome | Callable[[Start], Outcome]]


def ok(result: bytes = b'"done"') -> Outcome:
    return Outcome(reason="ok", executed="yes", result=result)


class Provider:
    """Answers what a worker starts. A method without an answer is never answered, until `answer` is called."""

    def __init__(self, answers: Answers) -> None:
        self.answers = dict(answers)
        self.started: list[Start] = []
        self.stopped: list[Stop] = []
        self.feed: Callable[[Event], None] = lambda event: None

    def act(self, action: Action) -> None:
        if isinstance(action, Start):
            self.started.append(action)
            answer = self.answers.get(action.method)
            if answer is not None:
                self.answer(action, answer if isinstance(answer, Outcome) else answer(action))
        elif isinstance(action, Stop):
            self.stopped.append(action)
            start = next(start for start in self.started if start.call_id == action.call_id)
            self.answer(start, failure("cancelled", "Stopped."))

    def answer(self, start: Start, outcome: Outcome) -> None:
        asyncio.get_running_loop().call_soon(self.feed, Finished(start.call_id, start.number, outcome))


def worker_of(methods: list[str], *, heartbeat_s: float = 0.0, credit: int = 100, offers: tuple[MethodOffer, ...] = ()) -> Worker:
    """A worker's machine that serves `acme`."""
    return Worker(
        os.urandom(16),
        services={"acme": credit},
        offers=offers,
        methods={name: MethodPolicy(provider="acme") for name in methods},
        providers={"acme": ProviderPolicy(in_flight_max=credit)},
        random=lambda: 0.0,
        heartbeat_s=heartbeat_s,
    )


class Street(Memory):
    """The engine of one process as an owner sees it: with a wire that can be cut."""

    def __init__(self) -> None:
        super().__init__()
        self.tell: Tell = lambda address, /, *events: None
        self.closed = 0

    def join(self, broker: Peer = BROKER) -> None:
        """The owner and a broker find each other."""
        self.tell(OWNER, PeerFound(broker))
        self.feed(broker, PeerFound(OWNER), time.monotonic())

    def part(self, broker: Peer = BROKER) -> None:
        """They lose each other."""
        self.tell(OWNER, PeerLost(broker))
        self.feed(broker, PeerLost(OWNER), time.monotonic())

    def close(self, linger_s: float = 1.0) -> None:
        self.closed += 1


class Town:
    """An owner, a broker and a worker, joined in memory on the running loop."""

    def __init__(
        self,
        answers: Answers | None = None,
        *,
        joined: bool = True,
        served: bool = True,
        principal: str = "",
        limits: BrokerLimits = LIMITS,
    ) -> None:
        self.provider = Provider(answers or {})
        self.street = Street()
        self.broker = Broker(os.urandom(16), limits)
        self.worker = worker_of(list(self.provider.answers) or ["acme.charge"])
        self.street.attach(BROKER, self.broker, self.provider.act)
        if served:
            self.street.attach(WORKER, self.worker, self.provider.act)
            self.street.connect(WORKER, BROKER, time.monotonic())
        dial = self.street.join if joined else lambda: None
        self.owner = Owner(self.street, asyncio.get_running_loop(), dial, principal=principal, heartbeat_s=0.0)
        self.provider.feed = lambda event: self.owner._driver.feed(WORKER, event)

    @property
    def start(self) -> Start:
        """The one exchange that was begun."""
        (start,) = self.provider.started
        return start
