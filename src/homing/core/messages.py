"""What gateway, broker and worker say to each other. `docs/reference/protocol.md` is the page; this is the vocabulary.

The bounds are the wire's: `codec` refuses what is outside of them, and nothing looks at them where a message is made.

A message may be lost, delayed, reordered or doubled on its way, and is never invented. Every rule that keeps the promise under
those conditions is in the machines; nothing here decides anything.

A `life` is 128 random bits, new at each start of a process. A claim is a number within a worker's life. A call_id is the first
8 bytes of its gateway's life and 8 random ones, so whoever holds only the id knows whom to ask.
"""

from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta

from homing.errors import Effect, Outcome, Verdict

CALL_ID_BYTES = 16
LIFE_BYTES = 16
GATEWAY_BYTES = 8  # of a call_id: the head of its gateway's life
LABEL_LENGTH_MAX, TEXT_LENGTH_MAX = 256, 65_536  # in characters
SCHEMA_BYTES_MAX = 1_048_576
POSITIONAL_MAX = 256

CallId: TypeAlias = Annotated[bytes, Meta(min_length=CALL_ID_BYTES, max_length=CALL_ID_BYTES)]
Life: TypeAlias = Annotated[bytes, Meta(min_length=LIFE_BYTES, max_length=LIFE_BYTES)]
LifeOrNone: TypeAlias = Annotated[bytes, Meta(max_length=LIFE_BYTES)]  # b"" where it is not known
Name: TypeAlias = Annotated[str, Meta(min_length=1, max_length=LABEL_LENGTH_MAX)]
Label: TypeAlias = Annotated[str, Meta(max_length=LABEL_LENGTH_MAX)]
Text: TypeAlias = Annotated[str, Meta(max_length=TEXT_LENGTH_MAX)]
Count: TypeAlias = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Milliseconds: TypeAlias = Annotated[int, Meta(ge=0, le=2**31)]  # 24 days
Credit: TypeAlias = Annotated[int, Meta(ge=0, le=2**31)]
CallIds: TypeAlias = Annotated[tuple[CallId, ...], Meta(max_length=100_000)]

RejectKind: TypeAlias = Literal[
    "again",  # not started, and fine elsewhere
    "drop",  # denied or expired: nobody wants it any more
    "refused",  # breaker, rate or token: `reason` says which
]


class Hello(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=1):
    """A gateway, or a client that owns its calls, introduces itself to a broker. `peer_life` is the broker's as it knows it."""

    life: Life
    peer_life: LifeOrNone = b""
    frame_bytes_max: Count = 0


class Request(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=2):
    """One copy of a call, on its way to a worker. `body` is the params' JSON text, `b""` for none.

    `attempts` and `executed` say what earlier dispatches have already done.
    """

    call_id: CallId
    service: Name
    method: Name
    remaining_ms: Milliseconds
    effect: Effect
    principal: Label
    key: Text
    attempts: Count
    executed: Verdict
    trace: Text
    body: bytes


class Cancel(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=3):
    """Nobody waits for this call any more."""

    call_id: CallId


class Reject(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=4):
    """One copy of a call will not be started here. It says nothing about other copies."""

    call_id: CallId
    kind: RejectKind
    reason: Label = ""
    message: Text = ""
    retry_after_ms: Count | None = None
    limit: Text | None = None


class Claim(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=5):
    """May I begin? Repeated until answered."""

    call_id: CallId
    life: Life
    claim: Count


class Grant(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=6):
    """Begin, within what remains. The point of no return."""

    call_id: CallId
    life: Life
    claim: Count
    remaining_ms: Milliseconds


class Deny(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=7):
    """Do not begin."""

    call_id: CallId
    life: Life
    claim: Count


class Release(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=8):
    """I never began under this claim and never will."""

    call_id: CallId
    life: Life
    claim: Count


class Final(msgspec.Struct, frozen=True, array_like=True, tag=9):
    """How it ended under this claim. Held and repeated until SETTLED."""

    call_id: CallId
    life: Life
    claim: Count
    outcome: Outcome


class Settled(msgspec.Struct, frozen=True, array_like=True, tag=10):
    """The worker of this life need not hold these outcomes any longer."""

    life: Life
    call_ids: CallIds


class Lost(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=11):
    """The worker of this life is gone, and with it this claim; claim 0: every claim of that life. Repeated until seen."""

    call_id: CallId
    life: Life
    claim: Count


class LostSeen(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=12):
    """I have seen this LOST."""

    call_id: CallId
    life: Life
    claim: Count


class MethodOffer(msgspec.Struct, frozen=True, array_like=True):
    """A method that a worker can do. `params` is its JSON Schema as text, `b""` where the caller's side knows it or there is none."""

    name: Name
    service: Name
    effect: Effect = "once"
    timeout_ms: Milliseconds = 0
    summary: Text = ""
    params: Annotated[bytes, Meta(max_length=SCHEMA_BYTES_MAX)] = b""
    positional: Annotated[tuple[Label, ...], Meta(max_length=POSITIONAL_MAX)] = ()


MethodOffers: TypeAlias = Annotated[tuple[MethodOffer, ...], Meta(max_length=10_000)]


class Ready(msgspec.Struct, frozen=True, array_like=True, tag=13):
    """A worker offers services, each with how many calls it takes at once, and says what it can do."""

    life: Life
    services: Annotated[dict[Name, Credit], Meta(max_length=10_000)]
    interval_ms: Milliseconds
    methods: MethodOffers = ()
    peer_life: LifeOrNone = b""
    frame_bytes_max: Count = 0


class Workers(msgspec.Struct, frozen=True, array_like=True, tag=16):
    """A broker tells a gateway which lives of workers it reaches, and what they can do. The newest one counts."""

    lives: Annotated[tuple[Life, ...], Meta(max_length=10_000)]
    methods: MethodOffers = ()


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag=14):
    """I live; this is my life, yours as I know it, and how many messages I sent and received on this link before this one.

    A worker adds what it holds. `gap` asks the peer to say again whatever may have been lost. `frame_bytes_max` is the largest frame
    that is read here, 0 where none is announced.
    """

    life: Life
    peer_life: LifeOrNone
    sent: Count
    received: Count
    gap: bool = False
    in_flight: CallIds | None = None
    lag_ms: Milliseconds = 0
    frame_bytes_max: Count = 0


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
