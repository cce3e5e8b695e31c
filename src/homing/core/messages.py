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


class Hello(msgspec.Struct, frozen=True, gc=False):
    """A gateway introduces itself to a broker."""

    life: bytes


class Request(msgspec.Struct, frozen=True, gc=False):
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


class Cancel(msgspec.Struct, frozen=True, gc=False):
    """Nobody waits for this call any more."""

    call_id: bytes


class Reject(msgspec.Struct, frozen=True, gc=False):
    """One copy of a call will not be started here. It says nothing about other copies."""

    call_id: bytes
    kind: RejectKind
    reason: str = ""
    message: str = ""
    retry_after_ms: int | None = None
    limit: str | None = None


class Claim(msgspec.Struct, frozen=True, gc=False):
    """May I begin? Repeated until answered."""

    call_id: bytes
    life: bytes
    claim: int


class Grant(msgspec.Struct, frozen=True, gc=False):
    """Begin, within what remains. The point of no return."""

    call_id: bytes
    life: bytes
    claim: int
    remaining_ms: int


class Deny(msgspec.Struct, frozen=True, gc=False):
    """Do not begin."""

    call_id: bytes
    life: bytes
    claim: int


class Release(msgspec.Struct, frozen=True, gc=False):
    """I never began under this claim and never will."""

    call_id: bytes
    life: bytes
    claim: int


class Final(msgspec.Struct, frozen=True):
    """How it ended under this claim. Held and repeated until SETTLED."""

    call_id: bytes
    life: bytes
    claim: int
    outcome: Outcome


class Settled(msgspec.Struct, frozen=True):
    """The worker of this life need not hold these outcomes any longer."""

    life: bytes
    call_ids: tuple[bytes, ...]


class Lost(msgspec.Struct, frozen=True, gc=False):
    """The worker of this life is gone, and with it this claim. Repeated until seen."""

    call_id: bytes
    life: bytes
    claim: int


class LostSeen(msgspec.Struct, frozen=True, gc=False):
    """I have seen this LOST."""

    call_id: bytes
    life: bytes
    claim: int


class Ready(msgspec.Struct, frozen=True):
    """A worker offers services, each with how many calls it takes at once."""

    life: bytes
    services: dict[str, int]
    interval_ms: int


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True):
    """I live; this is my life, yours as I know it, and how many messages I sent and received on this link before this one.

    A worker adds what it holds. `gap` asks the peer to say again whatever may have been lost.
    """

    life: bytes
    peer_life: bytes
    sent: int
    received: int
    gap: bool = False
    in_flight: tuple[bytes, ...] | None = None
    lag_ms: int = 0


class Disconnect(msgspec.Struct, frozen=True, gc=False):
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
)
