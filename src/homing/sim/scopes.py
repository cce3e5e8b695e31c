"""How far `explore` looks: how often each thing may happen in one history, and the scopes that are looked at."""

import msgspec

from homing.errors import Effect


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """How often each thing may happen in one history."""

    effect: Effect = "once"
    workers: int = 2
    claims: int = 3  # REQUESTs that reach a worker
    crashes: int = 1
    gateway_crashes: int = 0
    resubmits: int = 1
    doublings: int = 1
    rejects: int = 1
    losses: int = 1
    strays: int = 0  # LOST that names no claim
    tellings: int = 0  # a second road says whom it reaches
    repeats: int = 1  # timers of workers that come in time: a claim or an outcome is said again, an attempt is made again
    hang_ups: int = 0
    attempts_max: int = 2


# What the ordinary test run looks at: not everything at once, for that is millions of states, but each danger with its neighbours.
SHALLOW: dict[str, Bounds] = {
    "claims and releases": Bounds(claims=3, crashes=0, doublings=0, losses=0, rejects=0, repeats=0),
    "crashes and doubled messages": Bounds(claims=2, losses=0, rejects=0, repeats=0),
    "crashes, lost workers and rejects": Bounds(claims=2, doublings=0, repeats=0),
    "timers and doubled messages": Bounds(claims=2, crashes=0, losses=0, rejects=0),
    "a gateway that crashes, a caller who hangs up": Bounds(
        claims=2, crashes=0, gateway_crashes=1, doublings=0, losses=0, rejects=0, repeats=0, hang_ups=1
    ),
    "a safe call, lost too early": Bounds(effect="safe", claims=2, crashes=0, doublings=0, rejects=0, repeats=0),
    "a keyed call, with crashes": Bounds(effect="keyed", claims=2, doublings=0, rejects=0, repeats=0, losses=0),
    "two roads, and lives that are lost with all their claims": Bounds(
        claims=2, resubmits=0, doublings=0, rejects=0, losses=0, strays=1, tellings=2, repeats=0
    ),
    "a safe call, and two roads of which one has lost its worker": Bounds(
        effect="safe", claims=2, crashes=0, doublings=0, rejects=0, losses=0, strays=1, tellings=1, repeats=0
    ),
}
DEEP: dict[str, Bounds] = {
    "everything at once": Bounds(claims=2),
    "three claims, crashes and doubled messages": Bounds(claims=3, losses=0, rejects=0, repeats=0),
    "a safe call": Bounds(effect="safe", claims=2, doublings=0),
}
