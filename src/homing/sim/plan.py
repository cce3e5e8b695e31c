"""What one seed imagines: how many of each role, how they are bounded, and which faults come how often.

Swarm testing (Groce et al., ISSTA 2012): each seed switches a random part of the faults on. A run with everything at once hides what
only shows when, say, nothing is lost but everything is doubled.
"""

from random import Random
from typing import Literal, TypeAlias, get_args

import msgspec

from homing.core.broker import BrokerLimits
from homing.core.holding import MethodPolicy, ProviderPolicy
from homing.core.limits import BreakerPolicy, Rate
from homing.core.links import FRAME_BYTES_MAX
from homing.core.permits import Permit
from homing.errors import Effect

Disturbance: TypeAlias = Literal["crash gateway", "crash broker", "crash worker", "cut told", "cut silent", "stall", "drain"]
DISTURBANCES: tuple[Disturbance, ...] = (
    "crash gateway",
    "crash broker",
    "crash worker",
    "cut told",
    "cut silent",
    "stall",
    "drain",
)
# In the engine of one process nothing is cut, and who crashes takes all along.
DISTURBANCES_IN_ONE_PROCESS: tuple[Disturbance, ...] = ("stall",)

Behaviour: TypeAlias = Literal[
    "ok",
    "refuse",  # no connection: proven that no byte left
    "connect hangs",  # the same, and it takes all the time there is
    "hang",  # takes the request, never answers, never does anything
    "hang after",  # does it, never answers: a drip that does not end, a balancer that forgot
    "reset before",  # the connection breaks, and nothing was done
    "reset after",
    "reset, done later",  # the connection breaks; the request lies in some queue and has its effect long after
    "late",  # answers, but long after
    "throttle",
    "unavailable before",
    "unavailable after",
    "no",  # the provider's business no
    "own no",  # the same, said by a row of the method's own `answers`
    "deny",
    "invalid after",  # did it, and answers nonsense
    "proven after",  # did it, says so, and the rest of the answer is nonsense
    "in progress",  # 409: the first request under this key is still at work
]
FAULTY_BEHAVIOURS: tuple[Behaviour, ...] = tuple(behaviour for behaviour in get_args(Behaviour) if behaviour != "ok")


class MethodPlan(msgspec.Struct, frozen=True, kw_only=True):
    """One method of the imagined configuration."""

    name: str
    service: str
    effect: Effect
    policy: MethodPolicy


METHODS: tuple[MethodPlan, ...] = (
    MethodPlan(name="acme.charge", service="acme", effect="once", policy=MethodPolicy(provider="acme", deadline_s=10.0)),
    MethodPlan(
        name="acme.found",
        service="acme",
        effect="once",
        policy=MethodPolicy(provider="acme", deadline_s=10.0, has_lookup=True, reserve_s=1.0),
    ),
    MethodPlan(name="acme.pay", service="acme", effect="keyed", policy=MethodPolicy(provider="acme", deadline_s=10.0)),
    MethodPlan(name="acme.read", service="acme", effect="safe", policy=MethodPolicy(provider="acme", deadline_s=10.0)),
    MethodPlan(name="bureau.ask", service="bureau", effect="once", policy=MethodPolicy(provider="bureau", deadline_s=10.0)),
)


# What a stranger at a broker tries, who has a key, and rights to nothing that anybody else wants.
Trick: TypeAlias = Literal[
    "forgeries",  # says what only others may say, about calls that are theirs
    "another's head",  # a gateway whose life begins like another's
    "another's life",  # a worker that says it is another
]
TRICKS: tuple[Trick, ...] = get_args(Trick)

ATTIC = "attic"  # the service that strangers may serve and call
PERMITS: dict[str, Permit] = {
    "front": Permit(call=("*",)),
    "clerk": Permit(call=("acme",)),
    "teller": Permit(call=("acme", "bur*"), principal="webshop"),
    "forge": Permit(serve=("*",)),
    "smithy": Permit(serve=("acme",)),
    "stranger": Permit(serve=(ATTIC,), call=(ATTIC,)),
}
GATEWAY_USERS = ("front", "clerk", "teller")  # by seat
WORKER_USERS = ("forge", "smithy", "forge", "smithy")

SMALL_FRAME_BYTES = 6000
LARGE_BYTES = 7000  # of params or of a result: more than a small frame takes


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a world is made from. Durations are in seconds of true time, shares between 0 and 1."""

    seed: int
    calls: int
    engine: Literal["memory", "network"]
    gateways: int = 1
    brokers: int = 1
    workers: int = 1
    heartbeat_s: float = 0.0
    clock_error: float = 0.0  # of a second a second, either way
    # callers
    arrival_s: float = 0.005
    timeout_s: tuple[float, float] = (5.0, 20.0)
    hang_up: float = 0.0
    ask_again: float = 0.0  # how many of those whom the answer allows it ask again, three times at most
    # the road
    delay_s: float = 0.001
    ordered: bool = True
    loss: float = 0.0
    doubling: float = 0.0
    late: float = 0.0
    late_s: float = 2.0
    damage: float = 0.0  # how many ZeroMQ messages have junk in them
    large: float = 0.0  # how many orders have long params, or a long result
    broker_frame_bytes_max: int = FRAME_BYTES_MAX
    worker_frame_bytes_max: int = FRAME_BYTES_MAX
    guarded: bool = False  # keys, and permits
    stranger: Trick | None = None
    stranger_user: str = ""
    # the provider
    provider_s: float = 0.25
    faulty: float = 0.0  # how many exchanges go wrong
    behaviours: tuple[Behaviour, ...] = ()
    token_s: float = 0.05
    token_problem: float = 0.0
    # processes
    disturbances: tuple[tuple[Disturbance, float], ...] = ()  # with the mean seconds between two
    # limits
    credit: int = 32
    outcomes_held_bytes_max: int = 1024 * 1024
    broker_limits: BrokerLimits = BrokerLimits()
    providers: dict[str, ProviderPolicy] = {}
    narrow: bool = False  # the last worker does not know every method


def calm(seed: int, calls: int) -> Plan:
    """No fault at all, everything in one process: what the machines cost."""
    providers = {"acme": ProviderPolicy(in_flight_max=256), "bureau": ProviderPolicy(in_flight_max=256)}
    return Plan(seed=seed, calls=calls, engine="memory", credit=256, providers=providers)


def draw(seed: int, calls: int) -> Plan:
    """The plan of a seed. The same on every machine: a seed that is text is hashed by Random itself."""
    random = Random(f"plan {seed}")
    in_one_process = random.random() < 0.2
    swarm = 0.0 if random.random() < 0.05 else random.choice((0.3, 0.5, 0.8))
    on = [random.random() < swarm for _ in range(9)]
    possible = DISTURBANCES_IN_ONE_PROCESS if in_one_process else DISTURBANCES
    disturbances = tuple((kind, random.choice((0.7, 2.0, 6.0))) for kind in possible if random.random() < swarm)
    behaviours = tuple(behaviour for behaviour in FAULTY_BEHAVIOURS if random.random() < swarm)
    credit = random.choice((2, 8, 32))
    workers = random.randint(1, 4)
    provider_s = random.choice((0.05, 0.25, 1.0, 3.0))
    arrival_s = provider_s / (workers * credit) / random.choice((0.3, 0.8, 2.0))  # as much as there are slots for, or more
    timeouts_s = random.choice(((5.0, 20.0), (0.1, 3.0), (0.1, 30.0)))
    plan = Plan(
        seed=seed,
        calls=calls,
        engine="memory" if in_one_process else "network",
        gateways=1 if in_one_process else random.randint(1, 3),
        brokers=1 if in_one_process else random.randint(1, 2),
        workers=workers,
        heartbeat_s=0.0 if in_one_process else random.choice((0.5, 1.0)),
        clock_error=0.0 if in_one_process or not on[0] else random.choice((0.001, 0.005)),
        arrival_s=min(0.1, max(0.002, arrival_s)),
        timeout_s=timeouts_s,
        hang_up=random.choice((0.05, 0.3)) if on[1] else 0.0,
        ask_again=random.choice((0.3, 0.9)) if on[2] else 0.0,
        delay_s=random.choice((0.0002, 0.002, 0.05)),
        ordered=not on[3],
        loss=0.0 if in_one_process or not on[4] else random.choice((0.01, 0.1, 0.3)),
        doubling=0.0 if in_one_process or not on[5] else random.choice((0.02, 0.3)),
        late=0.0 if in_one_process or not on[6] else random.choice((0.01, 0.1)),
        late_s=random.choice((0.5, 3.0)),
        provider_s=provider_s,
        faulty=random.choice((0.0, 0.05, 0.3, 0.7)) if behaviours else 0.0,
        behaviours=behaviours,
        token_problem=random.choice((0.05, 0.5)) if on[7] else 0.0,
        disturbances=disturbances,
        credit=credit,
        outcomes_held_bytes_max=random.choice((1024 * 1024, 200)),
        broker_limits=BrokerLimits(
            queue_length_max=5 if random.random() < 0.15 else random.choice((100, 10_000)),
            held_bytes_max=400 if random.random() < 0.15 else 1024 * 1024,
            no_worker_after_s=random.choice((0.5, 5.0)),
        ),
        providers={
            "acme": ProviderPolicy(
                in_flight_max=random.choice((credit, credit, max(1, credit // 2))),
                attempt_timeout_s=random.choice((None, 2.0)),
                breaker=BreakerPolicy(window_s=5.0, calls_min=random.choice((5, 50)), open_for_s=random.choice((0.5, 3.0))),
            ),
            "bureau": ProviderPolicy(
                in_flight_max=credit,
                rate=random.choice((None, Rate(limit=2, per_s=1.0, burst=2), Rate(limit=50, per_s=1.0, burst=5))),
                breaker=BreakerPolicy(window_s=5.0, calls_min=random.choice((5, 20)), open_for_s=1.0),
                needs_token=True,
            ),
        },
        narrow=on[8],
    )
    return plan if in_one_process else _between_processes(plan, random, swarm)


def _between_processes(plan: Plan, random: Random, swarm: float) -> Plan:
    """What there is only where processes are apart: junk on the road, keys, strangers, small frames."""
    small = random.choice((SMALL_FRAME_BYTES, FRAME_BYTES_MAX))
    broker_bytes, worker_bytes = random.choice(((small, small), (small, FRAME_BYTES_MAX), (FRAME_BYTES_MAX, small)))
    guarded = random.random() < 0.5
    strange = guarded and random.random() < swarm
    return msgspec.structs.replace(
        plan,
        damage=random.choice((0.01, 0.1)) if random.random() < swarm else 0.0,
        large=random.choice((0.05, 0.3)) if random.random() < swarm else 0.0,
        broker_frame_bytes_max=broker_bytes,
        worker_frame_bytes_max=worker_bytes,
        guarded=guarded,
        stranger=random.choice(TRICKS) if strange else None,
        stranger_user=random.choice(("stranger", "nobody")) if strange else "",
    )
