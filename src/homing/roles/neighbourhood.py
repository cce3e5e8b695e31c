"""What a process has to do with Majordomo: foreign workers if it has the broker, foreign clients if they may come to its gateway."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial

from homing.config import Config
from homing.core.machine import Draining, DrainTimedOut, Event, Peer
from homing.core.methods import Method
from homing.core.neighbours import Neighbours
from homing.core.permits import NOTHING, Permit
from homing.engines.zmq import Foreign, Zmq
from homing.roles.gateway import Gateway
from homing.roles.machines import new_life
from homing.roles.majordomo import ForeignClients, ForeignWorkers
from homing.telemetry import Metrics

CLIENTS = b"majordomo clients"  # no machine is there: at that endpoint nothing but Majordomo is spoken
LOOK_EVERY_S = 0.01  # while draining


class Neighbourhood:
    """Joins what there is of it to an engine. `workers` is for the broker's endpoints."""

    def __init__(self, station: Zmq, feed: Callable[[Peer, Event], None]) -> None:
        self.workers: ForeignWorkers | None = None
        self.clients: ForeignClients | None = None
        self._station = station
        self._feed = feed

    def take_workers(
        self,
        config: Config,
        methods: Mapping[str, Method],
        broker: Peer,
        permits: Mapping[str, Permit] | None,
        metrics: Metrics,
    ) -> Foreign:
        """From now on there may be workers; what they say at the broker's endpoints is for what this returns.

        A service that has a provider is nobody else's: whoever offered it would be told what is meant for the provider.
        """
        provided = {method.service for method in methods.values() if method.provider is not None}
        machine = Neighbours(
            lives=new_life,
            may_serve=lambda user, service: service not in provided and _permits(permits, user, service),
            body_bytes_max=config.broker.frame_bytes_max,
            held_bytes_max=config.worker.outcomes_held_bytes_max,
        )
        self.workers = ForeignWorkers(
            machine,
            broker,
            say=partial(self._station.send_frames, broker),
            feed=self._feed,
            attach=self._station.attach,
        )
        metrics.gauge("homing_foreign_workers", "Workers of Majordomo.", lambda: len(machine))
        metrics.gauge("homing_foreign_workers_busy", "Workers of Majordomo that work on a call.", lambda: machine.busy)
        return self.workers

    def take_clients(self, config: Config, gateway: Gateway, endpoint: str, metrics: Metrics) -> str:
        """From now on clients may come in at `endpoint`; returns the bound one. Raises OSError.

        They bring no keys, so they are nobody in particular: `gateway.anonymous` says what they may call.
        """
        clients = self.clients = ForeignClients(
            gateway,
            say=partial(self._station.send_frames, CLIENTS),
            principal_of=lambda user: None,
            body_bytes_max=config.gateway.body_max,
            held_bytes_max=config.gateway.held_bytes_max,
        )
        metrics.counter("homing_majordomo_requests", "Requests of Majordomo's clients.", lambda: clients.requests)
        metrics.gauge("homing_majordomo_waiting", "Clients of Majordomo that wait for an answer.", lambda: len(clients))
        return self._station.bind(CLIENTS, endpoint, foreign=clients)

    @property
    def counts(self) -> Counter[str]:
        """What was refused or dropped, by why."""
        machine = self.workers.machine if self.workers is not None else None
        return Counter({f"majordomo {why}": count for why, count in machine.counts.items()}) if machine else Counter()

    def verbose(self) -> dict[str, object]:
        """What `?verbose` says of it."""
        return {"foreign_workers": len(self.workers.machine)} if self.workers is not None else {}

    async def drain(self, within_s: float, hurry: asyncio.Event) -> None:
        """Give workers nothing new; what they work on may end, until that much time has passed or there is a hurry. Then they go."""
        if self.workers is None:
            return
        machine = self.workers.machine
        self._feed(ForeignWorkers.ADDRESS, Draining())
        latest = time.monotonic() + within_s
        while machine.busy:
            if hurry.is_set() or time.monotonic() >= latest:
                break
            await asyncio.sleep(LOOK_EVERY_S)
        self._feed(ForeignWorkers.ADDRESS, DrainTimedOut())


def _permits(permits: Mapping[str, Permit] | None, user: str, service: str) -> bool:
    return permits is None or permits.get(user, NOTHING).serves(service)
