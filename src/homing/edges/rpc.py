"""The HTTP face of JSON-RPC: what is refused before a body is read, and what an outcome is in status, header fields and body.

Any status but 200 and 204 proves that nothing in the body was executed, and says so with `Homing-Executed: no`.
"""

import os
from collections.abc import Sequence
from typing import Final, Protocol

from homing.core.jsonrpc import NULL, encode_answer, encode_batch
from homing.errors import ROWS, Outcome, failure, retry_of

Fields = list[tuple[bytes, bytes]]
Answer = tuple[int, Fields, bytes]  # status, header fields, body

PATHS: Final = frozenset({"/", "/rpc"})
HEALTH_PATHS: Final = frozenset({"/livez", "/readyz"})
CONTENT_TYPES: Final = frozenset({b"application/json", b"application/json-rpc", b"application/jsonrequest"})
RETRY_AFTER_S: Final = 1  # where nobody knows better

_JSON: Final = (b"Content-Type", b"application/json")
_SUCCESS: Final = ((b"Homing-Reason", b"ok"), (b"Homing-Executed", b"yes"), (b"Homing-Retry", b"pointless"))
_SUCCESS_LINES: Final = (
    b"Content-Type: application/json\r\nHoming-Call-Id: %b\r\nHoming-Reason: ok\r\nHoming-Executed: yes\r\n"
    b"Homing-Retry: pointless\r\nHoming-Deadline-Ms: %d\r\n"
)
_VARY: Final = (b"Vary", b"Origin")
_ALLOW: Final = (b"Allow", b"POST, OPTIONS")
_EXPOSED: Final = (
    b"Access-Control-Expose-Headers",
    b"Homing-Call-Id, Homing-Reason, Homing-Executed, Homing-Retry, Homing-Deadline-Ms, Homing-Errors, Retry-After",
)
_PREFLIGHT: Final[Fields] = [
    (b"Access-Control-Allow-Methods", b"POST"),
    (b"Access-Control-Allow-Headers", b"Authorization, Content-Type, Homing-Timeout, Idempotency-Key, traceparent, tracestate"),
    (b"Access-Control-Max-Age", b"600"),
]
_CHALLENGE: Final = (b"WWW-Authenticate", b'Bearer realm="homing"')  # RFC 6750 section 3
_NAMES: Final = {reason: reason.encode() for reason in [*ROWS, "application"]}

# What HTTP itself refuses, in the words of the table.
_REASONS: Final = {403: "forbidden", 413: "too_large", 414: "too_large", 431: "too_large", 503: "overloaded"}


class Request(Protocol):
    """As much of the listener's exchange as is needed here."""

    @property
    def method(self) -> str: ...
    @property
    def path(self) -> str: ...
    def header(self, name: bytes) -> bytes | None: ...
    def answer(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> None: ...
    def refuse(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> None: ...


# Before the body


def refuse_early(request: Request, origins: frozenset[str], *, health: bool = False) -> bool:
    """Answer what its head alone decides: a path or method that is none of ours, a foreign origin, a preflight, a wrong type.

    Returns True if it did. With `health` a GET or HEAD of /livez and /readyz is left to whoever knows how we are.
    """
    method, path = request.method, request.path
    cors = cors_headers(request, origins)
    if path not in PATHS:
        if not health or path not in HEALTH_PATHS:
            return _refuse(request, cors, 404, "Nothing is here; calls are POSTed to /rpc.")
        if method in {"GET", "HEAD"}:
            return False
        return _refuse(request, [*cors, (b"Allow", b"GET, HEAD")], 405, f"{path} is asked with GET or HEAD.")
    if not cors and request.header(b"origin") is not None:
        return _refuse(request, [_VARY], 403, "This Origin may not call; gateway.origins lists those that may.")
    if method != "POST":
        if method == "OPTIONS":
            request.answer(204, [*cors, *_PREFLIGHT] if cors else [_ALLOW], b"")
            return True
        return _refuse(request, [*cors, _ALLOW], 405, "Calls are POSTed.")
    kind = request.header(b"content-type")
    if kind is not None and kind not in CONTENT_TYPES and kind.partition(b";")[0].rstrip(b"\t ").lower() not in CONTENT_TYPES:
        return _refuse(request, cors, 415, "The body must be JSON, and say so: add the header Content-Type: application/json.")
    if request.header(b"content-encoding") is not None:
        accepted = (b"Accept-Encoding", b"identity")  # RFC 9110 section 12.5.3
        return _refuse(request, [*cors, accepted], 415, "Send the body as it is, without Content-Encoding.")
    return False


def cors_headers(request: Request, origins: frozenset[str]) -> Fields:
    """What a browser must see before it hands an answer to a page of an allowed origin; empty for everybody else."""
    return _cors_of(request.header(b"origin"), origins) if origins else []


def _cors_of(origin: bytes | None, origins: frozenset[str]) -> Fields:
    if origin is None or origin.decode("latin-1") not in origins:
        return []
    return [(b"Access-Control-Allow-Origin", origin), _VARY, _EXPOSED]


def refusal(
    status: int, message: str, limit: str | None, origin: bytes | None = None, *, origins: frozenset[str] = frozenset()
) -> tuple[Fields, bytes]:
    """Header fields and body of what HTTP itself refuses: a JSON-RPC error whose id is null, which a page may read too."""
    retry_after_ms = RETRY_AFTER_S * 1000 if status == 503 else None
    outcome = failure(_REASONS.get(status, "invalid_request"), message, executed="no", limit=limit, retry_after_ms=retry_after_ms)
    call_id = os.urandom(16).hex()
    fields = [_JSON, (b"Homing-Call-Id", call_id.encode()), *_about(outcome)]
    if status == 503:
        fields.append(_retry_after([outcome]))
    return fields + _cors_of(origin, origins), encode_answer(NULL, outcome, call_id)


def _refuse(request: Request, fields: Fields, status: int, message: str) -> bool:
    own, body = refusal(status, message, None)
    request.refuse(status, own + fields, body)
    return True


# After the call


def single(outcome: Outcome, id: bytes | None, call_id: str, timeout_ms: int) -> Answer:
    """The answer to one call. `timeout_ms` is the timeout as granted, 0 if the call did not come so far.

    `id` None is a notification: 204, unless what refused it applies to the whole body. "ok" says of one that it was admitted; what
    becomes of it is not told.
    """
    status = _status_of(outcome)
    fields: Fields = [_JSON, (b"Homing-Call-Id", call_id.encode())]
    if outcome.reason != "ok":
        fields += _about(outcome)
    elif id is not None:
        fields += _SUCCESS
    if timeout_ms:
        fields.append((b"Homing-Deadline-Ms", b"%d" % timeout_ms))
    if status != 200:
        fields += _explain(status, [outcome])
    elif id is None:
        return 204, fields[1:], b""
    return status, fields, encode_answer(NULL if id is None else id, outcome, call_id)


def success(result: bytes, id: bytes, call_id: str, timeout_ms: int) -> tuple[bytes, bytes]:
    """The header lines and the body that `single` gives for a call that went well, in one piece each: what most answers are."""
    return (
        _SUCCESS_LINES % (call_id.encode(), timeout_ms),
        b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (id, result or NULL),
    )


def heartbeat_headers(call_id: str | None, timeout_ms: int) -> Fields:
    """What can be said before an outcome is known; `call_id` None is a batch."""
    if call_id is None:
        return [_JSON]
    return [_JSON, (b"Homing-Call-Id", call_id.encode()), (b"Homing-Deadline-Ms", b"%d" % timeout_ms)]


def batch(answers: Sequence[tuple[bytes | None, Outcome, str]]) -> Answer:
    """The answer to a batch, from (id, outcome, call id) of each item in its order; an id of None as in `single`."""
    texts: list[bytes] = []
    errors = 0
    for request_id, outcome, call_id in answers:
        if request_id is not None:
            texts.append(encode_answer(request_id, outcome, call_id))
            errors += outcome.reason != "ok"
    outcomes = [outcome for _, outcome, _ in answers]
    status = _status_of(outcomes[0])
    if any(outcome.reason != outcomes[0].reason or _status_of(outcome) != status for outcome in outcomes):
        status = 200
    if status == 200:
        return (200, [_JSON, _count(errors)], encode_batch(texts)) if texts else (204, [], b"")
    call_id = answers[0][2]
    body = encode_batch(texts) or encode_answer(NULL, outcomes[0], call_id)
    fields = [_JSON, _count(errors or 1), *_about(outcomes[0]), *_explain(status, outcomes)]
    return status, fields, body


def _count(errors: int) -> tuple[bytes, bytes]:
    return b"Homing-Errors", b"%d" % errors


def _status_of(outcome: Outcome) -> int:
    """200, unless it was refused before the grant: then nobody was asked, and there is proof that nothing was executed."""
    if outcome.executed != "no" or outcome.attempts or outcome.status is not None:
        return 200
    row = ROWS.get(outcome.reason)
    return row.http_status if row is not None else 200


def _about(outcome: Outcome) -> Fields:
    retry = outcome.retry or retry_of(outcome.reason, outcome.executed, "once")
    return [
        (b"Homing-Reason", _NAMES[outcome.reason]),
        (b"Homing-Executed", outcome.executed.encode()),
        (b"Homing-Retry", retry.encode()),
    ]


def _explain(status: int, outcomes: list[Outcome]) -> Fields:
    """What HTTP wants beside a status."""
    if status == 401:
        return [_CHALLENGE]
    if status in {429, 503}:
        return [_retry_after(outcomes)]
    return []


def _retry_after(outcomes: list[Outcome]) -> tuple[bytes, bytes]:
    """Whole seconds, rounded up, after which the last of them may be asked again (RFC 9110 section 10.2.3)."""
    longest_ms = max(outcome.retry_after_ms or 0 for outcome in outcomes)
    return b"Retry-After", b"%d" % max(RETRY_AFTER_S, -(-longest_ms // 1000))
