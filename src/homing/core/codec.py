"""Messages as frames and back. `docs/reference/protocol.md` is the page.

One ZeroMQ message is the protocol's tag and then any number of pairs `[header, body]`. A header is a message's fields as one msgpack
array behind its number; the params of a REQUEST and the result in a FINAL travel in the body frame, so that nobody on the way copies
or re-encodes them. To decode is total: whatever the bytes, there are messages or there is a `WireError`.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Literal, TypeAlias, final, get_args

import msgspec
from msgspec.structs import force_setattr, replace

from homing.core.jsonrpc import check_json
from homing.core.messages import (
    LIFE_BYTES,
    CallId,
    Cancel,
    Claim,
    Count,
    Deny,
    Disconnect,
    Final,
    Grant,
    Heartbeat,
    Hello,
    Life,
    Lost,
    LostSeen,
    Message,
    Ready,
    Reject,
    Release,
    Request,
    Settled,
    Workers,
)
from homing.errors import ROWS, Outcome, failure

TAG = b"HOM1"

WireErrorKind: TypeAlias = Literal["frames", "version", "header", "type", "field", "body"]
KINDS: tuple[WireErrorKind, ...] = get_args(WireErrorKind)

ATTEMPTS_MAX = 100
PARAM_ERRORS_MAX = 100
DETAIL_CHARACTERS_MAX = 200
DEPTH_MAX = 512  # of JSON text within an outcome

_REASONS = frozenset({"ok", *ROWS})
_INT64_MAX = 2**63 - 1
_FINAL = 9


class WireError(Exception):
    """Frames that are no messages. `kind` is one of `KINDS`, to count by; `detail` is for people."""

    def __init__(self, kind: WireErrorKind, detail: str) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind: WireErrorKind = kind
        self.detail = detail


class Sealed(Outcome, kw_only=True):
    """An outcome that is carried, not read: `packed` leaves as it came. Its other fields say nothing, but for `result`."""

    packed: msgspec.Raw

    @property
    def held_bytes(self) -> int:
        """What it weighs while it is held."""
        return len(self.result) + len(self.packed)


@final
class _SealedFinal(msgspec.Struct, frozen=True, array_like=True, tag=_FINAL):
    """A FINAL whose outcome is not read."""

    call_id: CallId
    life: Life
    claim: Count
    outcome: msgspec.Raw


# Everything but FINAL, which stands in two shapes.
_Other: TypeAlias = (
    Hello
    | Request
    | Cancel
    | Reject
    | Claim
    | Grant
    | Deny
    | Release
    | Settled
    | Lost
    | LostSeen
    | Ready
    | Heartbeat
    | Disconnect
    | Workers
)
_FIT = frozenset({Claim, Grant, Deny, Release, Settled})  # they have neither text nor body: nothing that can go wrong
_PLAIN = frozenset({Cancel, Claim, Grant, Deny, Release, Settled, Lost, LostSeen, Disconnect, Workers})  # nothing left to check

_encode: Callable[[object], bytes] = msgspec.msgpack.Encoder().encode
_read_open: Callable[[bytes], Message] = msgspec.msgpack.Decoder(_Other | Final).decode
_read_sealed: Callable[[bytes], Message] = msgspec.msgpack.Decoder(_Other | _SealedFinal).decode  # `_finish` makes a Final of it


def pair(message: Message) -> tuple[bytes, bytes]:
    """The two frames of one message, header and body."""
    try:
        if type(message) is Request:  # measured: a copy by `replace` costs less than a tuple of its fields, here and in `_finish`
            return _encode(replace(message, body=b"")), message.body
        if type(message) is Final:
            outcome = message.outcome
            if type(outcome) is Sealed:
                return _encode((_FINAL, message.call_id, message.life, message.claim, outcome.packed)), outcome.result
            return _encode(replace(message, outcome=replace(outcome, result=b""))), outcome.result
        return _encode(message), b""
    except (UnicodeEncodeError, OverflowError):
        return _scrubbed_pair(message)


def encode(messages: Iterable[Message]) -> list[bytes]:
    """The frames of one ZeroMQ message that says all of these, in order."""
    frames = [TAG]
    for message in messages:
        frames += (_encode(message), b"") if type(message) in _FIT else pair(message)
    return frames


def frame_bytes(message: Message) -> int:
    """How large the larger of its two frames is, to be compared with the peer's `frame_bytes_max`."""
    header, body = pair(message)
    return max(len(header), len(body))


def decode(frames: Sequence[bytes], *, sealed: bool = False) -> list[Message]:
    """The messages of one ZeroMQ message, all of them or none. `sealed`: the outcomes are `Sealed`, for who only carries them.

    Raises `WireError` and nothing else.
    """
    _check_frame_count(frames)
    read = _read_sealed if sealed else _read_open
    messages: list[Message] = []
    rest = iter(frames)
    next(rest)
    try:
        for header, body in zip(rest, rest, strict=True):
            message = read(header)
            if type(message) not in _PLAIN:
                message = _finish(message, body)
            elif body:
                raise _unwanted_body(message)
            messages.append(message)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise _explained(error) from None
    return messages


def salvage(frames: Sequence[bytes], *, sealed: bool = False) -> tuple[list[Message], list[WireError]]:
    """What can be read of a ZeroMQ message that `decode` refused, and what was wrong with the rest.

    A broker coalesces what many peers said, and does not read the outcomes that it carries. So who is spoken to by a broker must not
    lose what others said because one of them sent junk.
    """
    try:
        _check_frame_count(frames)
    except WireError as error:
        return [], [error]
    messages: list[Message] = []
    errors: list[WireError] = []
    for index in range(1, len(frames), 2):
        try:
            messages += decode((TAG, frames[index], frames[index + 1]), sealed=sealed)
        except WireError as error:
            errors.append(error)
    return messages, errors


def _check_frame_count(frames: Sequence[bytes]) -> None:
    if not frames:
        raise WireError("frames", "no frame at all, expected the tag first")
    if frames[0] != TAG:
        raise WireError("version", f"begins with {frames[0][:16]!r}, expected {TAG!r}")
    if not len(frames) & 1:
        raise WireError("frames", f"{len(frames) - 1} frames after the tag, expected pairs of header and body")


def _finish(message: Message | _SealedFinal, body: bytes) -> Message:
    """What msgspec cannot check, and the body at its place."""
    if type(message) is Request:
        if message.body:
            raise WireError("field", "Request: the body stands in the header, expected it in the frame after it")
        force_setattr(message, "body", body)  # made a moment ago: nobody else has it
        return message
    if type(message) is _SealedFinal:
        sealed = Sealed(reason="sealed", executed="unknown", result=body, packed=message.outcome)
        return Final(message.call_id, message.life, message.claim, sealed)
    if type(message) is Final:
        _check_outcome(message.outcome)
        message.outcome.result = body  # made a moment ago: nobody else has it
        if body and message.outcome.reason == "ok":
            _check_result(message)
        return message
    if body:
        raise _unwanted_body(message)
    if isinstance(message, Reject):
        if message.kind == "refused" and message.reason not in ROWS:
            raise WireError("field", f"Reject: refused for {message.reason[:64]!r}, expected a reason of the table of errors")
    elif isinstance(message, Hello | Ready | Heartbeat) and len(message.peer_life) not in {0, LIFE_BYTES}:
        raise WireError(
            "field", f"{type(message).__name__}: a peer_life of {len(message.peer_life)} bytes, expected 0 or {LIFE_BYTES}"
        )
    return message


def _check_outcome(outcome: Outcome) -> None:
    if outcome.result:
        raise WireError("field", "Final: the result stands in the header, expected it in the frame after it")
    if outcome.reason not in _REASONS and (outcome.reason != "application" or outcome.code is None):
        raise WireError(
            "field", f"Final: reason {outcome.reason[:64]!r}, expected ok, one of the table of errors, or application and a code"
        )
    if len(outcome.attempts) > ATTEMPTS_MAX or len(outcome.errors) > PARAM_ERRORS_MAX:
        raise WireError("field", f"Final: more than {ATTEMPTS_MAX} attempts or {PARAM_ERRORS_MAX} errors")
    if outcome.retry_after_ms is not None and outcome.retry_after_ms < 0:
        raise WireError("field", "Final: retry_after_ms is below 0")
    for name, text in (("body", outcome.body), ("detail", outcome.detail)):
        if text:  # it goes into the answer as it is
            try:
                check_json(text, DEPTH_MAX)
            except ValueError as error:
                raise WireError("field", f"Final: {name}: {str(error)[:DETAIL_CHARACTERS_MAX]}") from None


def _check_result(final: Final) -> None:
    """It goes into the answer as it is, in a batch between those of others. Whoever says anything else than JSON has not answered.

    How deep it is nested is not counted: that takes long, and the worker has done it.
    """
    outcome = final.outcome
    try:
        check_json(outcome.result, len(outcome.result))
    except ValueError as error:
        invalid = failure("response_invalid", f"The worker's answer is no JSON value: {str(error)[:DETAIL_CHARACTERS_MAX]}.")
        force_setattr(final, "outcome", replace(invalid, status=outcome.status, attempts=outcome.attempts))


def _unwanted_body(message: object) -> WireError:
    return WireError("body", f"{type(message).__name__} has a body, expected an empty frame")


def _explained(error: Exception) -> WireError:
    """Which kind of junk it was that msgspec refused."""
    said, _, where = str(error).rpartition(" - at ")  # said may quote what was found, at any length
    kind: WireErrorKind = "header"
    if isinstance(error, msgspec.ValidationError):
        if where == "`$[0]`":
            kind = "type"
        elif said or "of at least length" in where:
            kind = "field"
    elif isinstance(error, UnicodeDecodeError):
        kind = "field"
    return WireError(kind, f"{said[:DETAIL_CHARACTERS_MAX]} at {where}" if said else where)


def _scrubbed_pair(message: Message) -> tuple[bytes, bytes]:
    """The pair of a message that msgpack cannot say: some text has a lone surrogate, or some integer more than 64 bits.

    Such things come from outside, in what a provider or a Python worker said. The message is sent with them made fit: that it ended,
    and what that proves, counts for more than a letter of its sentence.
    """
    body = b""
    if isinstance(message, Request):
        message, body = replace(message, body=b""), message.body
    elif isinstance(message, Final):
        message, body = replace(message, outcome=replace(message.outcome, result=b"")), message.outcome.result
    return _encode(_scrubbed(msgspec.to_builtins(message, builtin_types=(bytes,)))), body


def _scrubbed(value: object) -> object:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, int):
        return value if isinstance(value, bool) else max(-_INT64_MAX, min(value, _INT64_MAX))
    if isinstance(value, list | tuple):
        return [_scrubbed(member) for member in value]
    if isinstance(value, dict):
        return {_scrubbed(name): _scrubbed(member) for name, member in value.items()}
    return value
