"""The machines as the configuration wants them, and the limits and keys that go with them."""

import os
import random
from collections.abc import Iterable, Mapping

from msgspec.structs import replace

from homing.config import Config
from homing.core.broker import Broker, BrokerLimits
from homing.core.calls import Calls
from homing.core.holding import MethodPolicy, ProviderPolicy
from homing.core.limits import BreakerPolicy, Rate
from homing.core.messages import GATEWAY_BYTES, LIFE_BYTES, MethodOffer
from homing.core.methods import Method
from homing.core.permits import ANYTHING, Permit
from homing.core.roster import gateway_life
from homing.core.worker import Worker
from homing.edges.auth import Principal, Principals
from homing.edges.http import ListenerLimits
from homing.roles.gateway import GatewayLimits
from homing.settings import OAuth2Auth
from homing.settings import Principal as PrincipalTable
from homing.settings import Provider as ProviderTable
from homing.settings import Rate as RateTable

HEARTBEAT_S = 1.0  # between processes; 0.0 where all machines are in this one, and nothing is ever lost


def new_life() -> bytes:
    """128 random bits."""
    return os.urandom(LIFE_BYTES)


def calls_of(config: Config, *, heartbeat_s: float) -> Calls:
    """The gateway's machine."""
    return Calls(gateway_life(os.urandom(GATEWAY_BYTES)), heartbeat_s=heartbeat_s, frame_bytes_max=config.broker.frame_bytes_max)


def broker_of(config: Config, *, heartbeat_s: float, permits: Mapping[str, Permit] | None = None) -> Broker:
    """The broker's machine."""
    table = config.broker
    limits = BrokerLimits(table.queue_length_max, table.held_bytes_max, table.no_worker_after)
    return Broker(new_life(), limits, heartbeat_s=heartbeat_s, frame_bytes_max=config.broker.frame_bytes_max, permits=permits)


def permits_of(config: Config) -> dict[str, Permit]:
    """What the peers may do, by name. Who has no key came by a way that is guarded otherwise, and may do anything."""
    permits = {name: Permit(serve=peer.serve, call=peer.call, principal=peer.principal) for name, peer in config.peers.items()}
    return {"": ANYTHING, **permits}


def worker_of(config: Config, methods: Mapping[str, Method], *, heartbeat_s: float, credit_max: int | None = None) -> Worker:
    """The machine of a worker that serves these methods. `credit_max` bounds how many calls of one service it takes at once."""
    policies: dict[str, MethodPolicy] = {}
    for name, method in methods.items():
        assert method.provider is not None, "only what has a provider is asked of one"
        policies[name] = MethodPolicy(
            provider=method.provider,
            deadline_s=method.deadline_s or config.gateway.deadline.default,
            has_lookup=method.has_lookup,
            reserve_s=method.reserve_s,
            key_lifetime_s=method.key_lifetime_s,
        )
    return Worker(
        new_life(),
        services=credits_of(config, methods, credit_max),
        methods=policies,
        providers={name: _provider_policy(table) for name, table in config.providers.items()},
        random=random.random,
        heartbeat_s=heartbeat_s,
        outcomes_held_bytes_max=config.worker.outcomes_held_bytes_max,
        frame_bytes_max=config.broker.frame_bytes_max,
        offers=offers_of(methods),
    )


def offers_of(methods: Mapping[str, Method]) -> tuple[MethodOffer, ...]:
    """What a worker says of methods that are in its configuration. Who calls them knows their schemas, or leaves params to the worker."""
    return tuple(
        MethodOffer(
            name=name,
            service=method.service,
            effect=method.effect,
            timeout_ms=round((method.deadline_s or 0.0) * 1000),
            summary=method.summary,
            positional=method.positional,
        )
        for name, method in methods.items()
    )


def asked_methods(methods: Mapping[str, Method], services: Iterable[str] = ()) -> dict[str, Method]:
    """Those that a provider is asked for, of these services; of all where none is named."""
    wanted = set(services)
    return {
        name: method
        for name, method in methods.items()
        if method.provider is not None and (not wanted or method.service in wanted)
    }


def credits_of(config: Config, methods: Mapping[str, Method], credit_max: int | None = None) -> dict[str, int]:
    """How many calls of each service a worker takes at once: as many as its provider's `in_flight_max`, and `credit_max`."""
    services: dict[str, int] = {}
    for method in methods.values():
        most = config.providers[method.provider or ""].in_flight_max
        credit = most if credit_max is None else min(most, credit_max)
        services[method.service] = max(services.get(method.service, 0), credit)
    return services


def principals_of(config: Config) -> Principals:
    """Who may call."""
    return Principals(_principal(name, table) for name, table in config.principals.items())


def gateway_limits(config: Config) -> GatewayLimits:
    """What a gateway admits."""
    gateway = config.gateway
    return GatewayLimits(
        deadline_default_s=gateway.deadline.default,
        deadline_max_s=gateway.deadline.max,
        batch_length_max=gateway.batch_length_max,
        in_flight_max=gateway.in_flight_max,
        anonymous=gateway.anonymous,
        origins=frozenset(gateway.origins),
        health=gateway.health,
        heartbeat=gateway.heartbeat > 0,
    )


def listener_limits(config: Config) -> ListenerLimits:
    """What its listener reads."""
    gateway = config.gateway
    return ListenerLimits(
        body_bytes_max=gateway.body_max,
        header_bytes_max=gateway.header_bytes_max,
        header_count_max=gateway.header_count_max,
        held_bytes_max=gateway.held_bytes_max,
        header_timeout_s=gateway.timeout.header,
        body_timeout_s=gateway.timeout.body,
        idle_timeout_s=gateway.timeout.idle,
        write_timeout_s=gateway.timeout.write,
        heartbeat_s=gateway.heartbeat,
    )


def shared(config: Config, count: int) -> Config:
    """The configuration of one of `count` processes that bear its limits together: a share of each, at least 1.

    A rate is shared by its time, so that nothing is rounded away. What a process holds has room for one body still.
    """
    if count == 1:
        return config
    gateway, worker = config.gateway, config.worker
    return replace(
        config,
        gateway=replace(
            gateway,
            in_flight_max=_share(gateway.in_flight_max, count),
            held_bytes_max=max(gateway.body_max, gateway.held_bytes_max // count),
        ),
        worker=replace(
            worker,
            credit=_share(worker.credit, count),
            outcomes_held_bytes_max=_share(worker.outcomes_held_bytes_max, count),
        ),
        principals={
            name: replace(
                table,
                rate=_shared_rate(table.rate, count),
                in_flight_max=None if table.in_flight_max is None else _share(table.in_flight_max, count),
            )
            for name, table in config.principals.items()
        },
        providers={
            name: replace(table, rate=_shared_rate(table.rate, count), in_flight_max=_share(table.in_flight_max, count))
            for name, table in config.providers.items()
        },
    )


def _share(limit: int, count: int) -> int:
    return max(1, limit // count)


def _shared_rate(rate: RateTable | None, count: int) -> RateTable | None:
    return None if rate is None else replace(rate, per=rate.per * count, burst=_share(rate.burst_or_limit, count))


def _provider_policy(table: ProviderTable) -> ProviderPolicy:
    breaker = table.breaker
    return ProviderPolicy(
        in_flight_max=table.in_flight_max,
        rate=_rate(table.rate),
        attempts_max=table.retry.attempts_max,
        attempt_timeout_s=table.timeout.attempt,
        breaker=BreakerPolicy(breaker.window, breaker.calls_min, breaker.failure_ratio, breaker.open_for),
        needs_token=isinstance(table.auth, OAuth2Auth),
    )


def _rate(table: RateTable | None) -> Rate | None:
    return Rate(table.limit, table.per, table.burst_or_limit) if table is not None else None


def _principal(name: str, table: PrincipalTable) -> Principal:
    return Principal(
        name=name,
        hashes=table.api_key_hash,
        methods=table.methods,
        rate=_rate(table.rate),
        in_flight_max=table.in_flight_max,
    )
