"""What gateway, broker and worker say to each other. `docs/reference/protocol.md` is the page; this is the vocabulary.

A message may be lost, delayed, reordered or doubled on its way, and is never invented. Every rule that keeps the promise under
those conditions is in the machines; nothing here decides anything.

A `life` is 128 random bits, new at each start of a process. A claim is a number within a worker's life. A call_id is the first
8 bytes of its gateway's life and 8 random ones, so whoever holds only the id knows whom to ask.
"""

from typing import Literal, TypeAlias

import msgspec

from homing.errors import Effect, Outcome, Verdict

CALL_ID_BYTES = 16
LIFE_BYTES = 16
GATEWAY_BYTES = 8  # of a call_id: the head of its gateway's life

RejectKind: TypeAlias = Literal[
    "again",  # not started, and fine elsewhere
    "drop",  # denied or expired: nobody wants it any more
    "refused",  # breaker, rate or token: `reason` says which
]


class Hello(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=1):
    """A gateway, or a client that owns its calls, introduces itself to a broker. `peer_life` is the broker's as it knows it."""

    life: bytes
    peer_life: bytes = b""
    frame_bytes_max: int = 0


class Request(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=2):
    """One copy of a call, on its way to a worker. `body` is the params' JSON text, `b""` for none.

    `attempts` and `executed` say what earlier dispatches have already done.
    """

    call_id: bytes
    service: str
    method: str
    remaining_ms: int
    effect: Effect
    principal: str
    key: str
    attempts: int
    executed: Verdict
    trace: str
    body: bytes


class Cancel(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=3):
    """Nobody waits for this call any more."""

    call_id: bytes


class Reject(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=4):
    """One copy of a call will not be started here. It says nothing about other copies."""

    call_id: bytes
    kind: RejectKind
    reason: str = ""
    message: str = ""
    retry_after_ms: int | None = None
    limit: str | None = None


class Claim(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=5):
    """May I begin? Repeated until answered."""

    call_id: bytes
    life: bytes
    claim: int


class Grant(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=6):
    """Begin, within what remains. The point of no return."""

    call_id: bytes
    life: bytes
    claim: int
    remaining_ms: int


class Deny(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=7):
    """Do not begin."""

    call_id: bytes
    life: bytes
    claim: int


class Release(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=8):
    """I never began under this claim and never will."""

    call_id: bytes
    life: bytes
    claim: int


class Final(msgspec.Struct, frozen=True, array_like=True, tag=9):
    """How it ended under this claim. Held and repeated until SETTLED."""

    call_id: bytes
    life: bytes
    claim: int
    outcome: Outcome


class Settled(msgspec.Struct, frozen=True, array_like=True, tag=10):
    """The worker of this life need not hold these outcomes any longer."""

    life: bytes
    call_ids: tuple[bytes, ...]


class Lost(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=11):
    """The worker of this life is gone, and with it this claim. Repeated until seen."""

    call_id: bytes
    life: bytes
    claim: int


class LostSeen(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=12):
    """I have seen this LOST."""

    call_id: bytes
    life: bytes
    claim: int


class MethodOffer(msgspec.Struct, frozen=True, array_like=True):
    """A method that a worker can do. `params` is its JSON Schema as text, `b""` where the caller's side knows it or there is none."""

    name: str
    service: str
    effect: Effect = "once"
    timeout_ms: int = 0
    summary: str = ""
    params: bytes = b""
    positional: tuple[str, ...] = ()


class Ready(msgspec.Struct, frozen=True, array_like=True, tag=13):
    """A worker offers services, each with how many calls it takes at once, and says what it can do."""

    life: bytes
    services: dict[str, int]
    interval_ms: int
    methods: tuple[MethodOffer, ...] = ()
    peer_life: bytes = b""
    frame_bytes_max: int = 0


class Workers(msgspec.Struct, frozen=True, array_like=True, tag=16):
    """A broker tells a gateway which lives of workers it reaches, and what they can do. The newest one counts."""

    lives: tuple[bytes, ...]
    methods: tuple[MethodOffer, ...] = ()


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag=14):
    """I live; this is my life, yours as I know it, and how many messages I sent and received on this link before this one.

    A worker adds what it holds. `gap` asks the peer to say again whatever may have been lost. `frame_bytes_max` is the largest frame
    that is read here, 0 where none is announced.
    """

    life: bytes
    peer_life: bytes
    sent: int
    received: int
    gap: bool = False
    in_flight: tuple[bytes, ...] | None = None
    lag_ms: int = 0
    frame_bytes_max: int = 0


class Disconnect(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=15):
    """I am leaving (from a worker), or: introduce yourself again (from a broker)."""


Message: TypeAlias = (
    Hello
    | Request
    | Cancel
    | Reject
    | Claim
    | Grant
    | Deny
    | Release
    | Final
    | Settled
    | Lost
    | LostSeen
    | Ready
    | Heartbeat
    | Disconnect
    | Workers
)
