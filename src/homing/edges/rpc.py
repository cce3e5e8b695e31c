"""The HTTP face of JSON-RPC: what a request must look like before its body is read, and what an outcome looks like as an answer.

Any status of ours but 200 and 204 proves that nothing in the body was executed, and says so with `Homing-Executed: no`. `unknown` and
`yes` always come with 200, so that no retry layer between takes them for a failure it may repeat.
"""

import math
import os
from collections.abc import Sequence
from typing import Final, TypeAlias

from homing.core.jsonrpc import encode_answer, encode_batch
from homing.edges.http import Exchange
from homing.errors import ROWS, Outcome, failure, retry_of

Field: TypeAlias = tuple[bytes, bytes]

PATHS: Final = frozenset({"/", "/rpc"})
CONTENT_TYPES: Final = frozenset({"", "application/json", "application/json-rpc", "application/jsonrequest"})
_JSON: Final = (b"Content-Type", b"application/json")
_NOT_EXECUTED: Final = (b"Homing-Executed", b"no")
_REASON_OF_STATUS: Final = {403: "forbidden", 413: "too_large", 503: "overloaded"}
_OK_FIELDS: Final = [_JSON, (b"Homing-Reason", b"ok"), (b"Homing-Executed", b"yes"), (b"Homing-Retry", b"pointless")]


def refusal(status: int, message: str, limit: str | None) -> tuple[list[Field], bytes]:
    """Header fields and body of what HTTP itself refuses: a JSON-RPC error whose id is null."""
    reason = _REASON_OF_STATUS.get(status, "invalid_request")
    after_ms = 1000 if ROWS[reason].retry == "safe" else None
    outcome = failure(reason, message, limit=limit, retry_after_ms=after_ms)
    call_id = os.urandom(16).hex()
    fields = [_JSON, *_about(outcome, call_id)]
    if after_ms is not None:
        fields.append((b"Retry-After", b"1"))
    return fields, encode_answer(b"null", outcome, call_id)


def refuse_early(exchange: Exchange, origins: frozenset[str]) -> bool:
    """Answer what is no call at all, or comes from a page that may not call. True if that was done."""
    if exchange.path not in PATHS:
        return _refuse(exchange, 404, "There is nothing here: calls are posted to /rpc.")
    origin = exchange.header(b"origin")
    if origin is not None and origin.decode("latin-1") not in origins:
        return _refuse(exchange, 403, "Pages of this origin may not call: name it in gateway.origins.")
    if exchange.method == "OPTIONS":
        exchange.answer(204, [(b"Allow", b"POST, OPTIONS"), *cors_headers(exchange, origins)], b"")
        return True
    if exchange.method != "POST":
        return _refuse(exchange, 405, "Calls are posted: use POST.", (b"Allow", b"POST, OPTIONS"))
    kind = exchange.header(b"content-type")
    if kind is not None and kind.decode("latin-1").partition(";")[0].strip().lower() not in CONTENT_TYPES:
        return _refuse(exchange, 415, "Add the header Content-Type: application/json.")
    if exchange.header(b"content-encoding") is not None:
        return _refuse(exchange, 415, "Send the body as it is: no Content-Encoding is taken.")
    return False


def cors_headers(exchange: Exchange, origins: frozenset[str]) -> list[Field]:
    """What an allowed page's browser wants to hear."""
    origin = exchange.header(b"origin") if origins else None
    if origin is None or origin.decode("latin-1") not in origins:
        return []
    return [
        (b"Access-Control-Allow-Origin", origin),
        (b"Access-Control-Allow-Methods", b"POST"),
        (b"Access-Control-Allow-Headers", b"Authorization, Content-Type, Homing-Timeout, Idempotency-Key"),
        (
            b"Access-Control-Expose-Headers",
            b"Homing-Call-Id, Homing-Reason, Homing-Executed, Homing-Retry, Homing-Deadline-Ms, Homing-Errors, Retry-After",
        ),
        (b"Access-Control-Max-Age", b"600"),
        (b"Vary", b"Origin"),
    ]


def single(outcome: Outcome, id: bytes | None, call_id: str, timeout_ms: int) -> tuple[int, list[Field], bytes]:
    """Status, header fields and body of one call's answer; `id` None is a notification. `timeout_ms` 0: none was granted."""
    status = status_of([outcome])
    if id is None and status == 200:
        return 204, [(b"Homing-Call-Id", call_id.encode())], b""
    if outcome.reason == "ok":
        fields = [*_OK_FIELDS, (b"Homing-Call-Id", call_id.encode())]
    else:
        fields = [_JSON, *_about(outcome, call_id), *_for_status(status, [outcome])]
    if timeout_ms:
        fields.append((b"Homing-Deadline-Ms", b"%d" % timeout_ms))
    return status, fields, encode_answer(id or b"null", outcome, call_id)


def batch(answers: Sequence[tuple[bytes | None, Outcome, str]]) -> tuple[int, list[Field], bytes]:
    """The same of a batch: one array in the requests' order, notifications left out; 204 if nothing is left."""
    outcomes = [outcome for _, outcome, _ in answers]
    status = status_of(outcomes)
    told = [(id, outcome, call_id) for id, outcome, call_id in answers if id is not None]
    if not told and status == 200:
        return 204, [], b""
    if not told:
        id, outcome, call_id = answers[0]
        return status, [_JSON, _NOT_EXECUTED, *_for_status(status, outcomes)], encode_answer(b"null", outcome, call_id)
    errors = sum(outcome.reason != "ok" for _, outcome, _ in told)
    fields = [_JSON, (b"Homing-Errors", b"%d" % errors), *_for_status(status, outcomes)]
    if status != 200:
        fields.append(_NOT_EXECUTED)
    return status, fields, encode_batch([encode_answer(id, outcome, call_id) for id, outcome, call_id in told])


def heartbeat_headers(call_id: str | None, timeout_ms: int) -> list[Field]:
    """What is known of an answer before there is one."""
    if call_id is None:
        return [_JSON]
    return [_JSON, (b"Homing-Call-Id", call_id.encode()), (b"Homing-Deadline-Ms", b"%d" % timeout_ms)]


def status_of(outcomes: Sequence[Outcome]) -> int:
    """200, unless every call was refused before its grant for one and the same reason that HTTP has a status for."""
    first = outcomes[0]
    row = ROWS.get(first.reason)
    if row is None or row.http_status == 200:
        return 200
    same = all(each.reason == first.reason and each.executed == "no" and not each.attempts for each in outcomes)
    return row.http_status if same else 200


def _about(outcome: Outcome, call_id: str) -> list[Field]:
    retry = outcome.retry or retry_of(outcome.reason, outcome.executed, "once")
    return [
        (b"Homing-Call-Id", call_id.encode()),
        (b"Homing-Reason", outcome.reason.encode()),
        (b"Homing-Executed", outcome.executed.encode()),
        (b"Homing-Retry", retry.encode()),
    ]


def _for_status(status: int, outcomes: Sequence[Outcome]) -> list[Field]:
    if status == 401:
        return [(b"WWW-Authenticate", b'Bearer realm="homing"')]
    if status in (429, 503):
        after_ms = max((outcome.retry_after_ms or 1000 for outcome in outcomes), default=1000)
        return [(b"Retry-After", b"%d" % max(1, math.ceil(after_ms / 1000)))]
    return []


def _refuse(exchange: Exchange, status: int, message: str, *more: Field) -> bool:
    fields, body = refusal(status, message, None)
    exchange.answer(status, [*fields, *more], body)
    return True
