"""What an answer may say: one table of reasons, the join over attempts, and the exceptions a client raises.

Every code, reason, verdict and HTTP status of the project stands here once; the reference page is made from `TABLE`.
"""

from typing import Literal, TypeAlias

import msgspec

Verdict: TypeAlias = Literal["no", "unknown", "yes"]
"""Whether the provider may have carried the call out. `no` and `yes` need proof."""

Effect: TypeAlias = Literal["once", "keyed", "safe"]
Retry: TypeAlias = Literal["safe", "same_key", "unsafe", "pointless"]

STRENGTH: dict[Verdict, int] = {"no": 0, "unknown": 1, "yes": 2}
RETRY_BY_EFFECT: dict[Effect, Retry] = {"once": "unsafe", "keyed": "same_key", "safe": "safe"}
STRICTNESS: dict[Effect, int] = {"safe": 0, "keyed": 1, "once": 2}  # of two effects the stricter counts


class Row(msgspec.Struct, frozen=True):
    """One reason an answer may give: its code, what it proves of one attempt, and what may be done about it."""

    code: int
    reason: str
    executed: Verdict
    retry: Retry | None  # None: by effect
    http_status: int  # when every call in the body was refused for this reason before a grant
    meaning: str


TABLE: tuple[Row, ...] = (
    Row(-32700, "parse_error", "no", "pointless", 200, "The body is not one JSON text."),
    Row(-32600, "invalid_request", "no", "pointless", 200, "The JSON is no JSON-RPC 2.0 request."),
    Row(-32601, "method_not_found", "no", "pointless", 200, "No method has this name."),
    Row(-32602, "invalid_params", "no", "pointless", 200, "The params do not fit the method; `errors` lists where."),
    Row(-32603, "internal_error", "unknown", None, 200, "A fault of homing's own or of a Python worker."),
    Row(4010, "unauthenticated", "no", "pointless", 401, "No API key, or a wrong one."),
    Row(4030, "forbidden", "no", "pointless", 403, "This principal or origin may not call this method."),
    Row(4090, "key_conflict", "no", "pointless", 200, "The same idempotency key came with other params."),
    Row(4130, "too_large", "no", "pointless", 413, "Body, batch or nesting is over the limit that `limit` names."),
    Row(4220, "provider_refused", "no", "pointless", 200, "The provider's business no."),
    Row(4290, "rate_limited", "no", "safe", 429, "The principal's rate, or our own rate towards the provider."),
    Row(4291, "provider_throttled", "no", "safe", 200, "The provider said it is asked too often (429, 529)."),
    Row(4990, "cancelled", "unknown", None, 200, "The caller went away, or the gateway was told to stop."),
    Row(5020, "provider_unreachable", "no", "safe", 200, "DNS, connect, TLS or access token failed; no byte was sent."),
    Row(5021, "connection_lost", "unknown", None, 200, "The connection broke after the first byte was sent."),
    Row(5022, "response_invalid", "unknown", None, 200, "The provider's answer is not what was promised."),
    Row(5023, "response_too_large", "unknown", None, 200, "The provider's answer is over `response_max`."),
    Row(5024, "provider_failed", "unknown", None, 200, "Every other complete answer of the provider: 3xx, 408, 409, 5xx."),
    Row(5026, "provider_denied", "no", "pointless", 200, "The provider does not take our credentials (401, 407)."),
    Row(5030, "overloaded", "no", "safe", 503, "A queue or an in-flight limit is full; `limit` names it."),
    Row(5031, "no_worker", "no", "safe", 503, "Nobody has offered the service for `no_worker_after`."),
    Row(5032, "draining", "no", "safe", 503, "This gateway is going away."),
    Row(5033, "circuit_open", "no", "safe", 503, "The provider failed too often of late."),
    Row(5034, "journal_unavailable", "no", "safe", 503, "The journal cannot be written."),
    Row(5040, "expired", "no", "safe", 200, "The deadline passed before the grant."),
    Row(5041, "deadline_exceeded", "unknown", None, 200, "The deadline passed after the grant."),
    Row(5042, "provider_timeout", "unknown", None, 200, "The provider took longer than `timeout.attempt`."),
    Row(5050, "worker_lost", "unknown", None, 200, "The worker died while it held the grant."),
    Row(5051, "broker_lost", "unknown", None, 200, "No broker was to be had until the deadline."),
)
ROWS: dict[str, Row] = {row.reason: row for row in TABLE}


class ParamError(msgspec.Struct, frozen=True):
    """One thing that is wrong with the params. `path` is a JSON Pointer (RFC 6901) into them."""

    path: str
    message: str


class Attempt(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One request to a provider, as the answer's `attempts` lists it. Times count from admission."""

    provider: str
    started_ms: int
    duration_ms: int
    reason: str
    executed: Verdict
    status: int | None = None
    provider_request_id: str | None = None


class Outcome(msgspec.Struct, kw_only=True, omit_defaults=True):
    """How one attempt, one dispatch or the whole call ended. `reason` is "ok", "application" or a reason of `TABLE`.

    `result` and `body` hold JSON text, never decoded on the way. `again` is False where asking again cannot help or an `answers`
    row forbids it; `settles_earlier` is True where an `answers` row of the provider's or method's own speaks for earlier attempts too.
    The fields after `detail` are filled in by the gateway when the call settles.
    """

    reason: str
    executed: Verdict
    result: bytes = b""
    message: str = ""
    code: int | None = None  # an application's own, with reason "application"
    retry_after_ms: int | None = None
    limit: str | None = None
    errors: tuple[ParamError, ...] = ()
    status: int | None = None
    body: bytes | None = None
    body_truncated: bool = False
    attempts: tuple[Attempt, ...] = ()
    again: bool = True
    settles_earlier: bool = False
    detail: bytes | None = None
    retry: Retry | None = None
    timeout_ms: int | None = None
    idempotency_key: str | None = None
    key_expires_ms: int | None = None

    @property
    def held_bytes(self) -> int:
        """What it weighs while it is held: the result, the provider's body, what a Python worker attached."""
        return len(self.result) + len(self.body or b"") + len(self.detail or b"")


def failure(
    reason: str,
    message: str,
    *,
    executed: Verdict | None = None,
    retry_after_ms: int | None = None,
    limit: str | None = None,
    errors: tuple[ParamError, ...] = (),
    again: bool = True,
) -> Outcome:
    """An outcome that is an error, with the table's verdict unless `executed` says otherwise."""
    verdict = ROWS[reason].executed if executed is None else executed
    return Outcome(
        reason=reason,
        executed=verdict,
        message=message,
        retry_after_ms=retry_after_ms,
        limit=limit,
        errors=errors,
        again=again,
    )


def join(earlier: Outcome | None, latest: Outcome, effect: Effect) -> Outcome:
    """What two outcomes of one call say together: the strongest `executed`, and the reason of the last that has it.

    An `ok` settles everything before it. For `keyed` calls so does a refusal by an `answers` row of one's own: under the same key
    the provider speaks of the same request. A built-in row never does, for a 422 may as well be about the second request only; and
    a proven `yes` is never taken back.
    """
    if earlier is None:
        return latest
    attempts = earlier.attempts + latest.attempts
    speaks_for_all = latest.reason == "ok" or (effect == "keyed" and latest.settles_earlier and earlier.executed != "yes")
    stands = speaks_for_all or STRENGTH[latest.executed] >= STRENGTH[earlier.executed]
    return msgspec.structs.replace(latest if stands else earlier, attempts=attempts)


def executed_of(outcome: Outcome, effect: Effect) -> Verdict:
    """The strongest of what an outcome says of the call and of each attempt; what settles earlier attempts outweighs their `unknown`."""
    settled = effect == "keyed" and outcome.settles_earlier
    strongest = outcome.executed
    for attempt in outcome.attempts:
        if STRENGTH[attempt.executed] > STRENGTH[strongest] and not (settled and attempt.executed == "unknown"):
            strongest = attempt.executed
    return strongest


def retry_of(reason: str, executed: Verdict, effect: Effect) -> Retry:
    """What the caller may do: the table's word where nothing was executed, else what the method's effect allows."""
    if executed != "no":
        return RETRY_BY_EFFECT[effect]
    row = ROWS.get(reason)
    return (row.retry if row else None) or "safe"


def code_of(outcome: Outcome) -> int:
    """The JSON-RPC error code of an outcome that is not ok."""
    return outcome.code if outcome.code is not None else ROWS[outcome.reason].code


class CallError(Exception):
    """A call was answered with an error, or not at all. Catch `NotExecuted`, `OutcomeUnknown` or `Executed` to tell which.

    A Python worker raises it too, to answer with a code of its own; its `executed` is "unknown" unless said otherwise.
    """

    _executed_default: Verdict = "unknown"

    def __init__(
        self,
        code: int,
        message: str,
        data: object = None,
        *,
        executed: Verdict | None = None,
    ) -> None:
        super().__init__(message)
        fields: dict[str, object] = data if isinstance(data, dict) else {}
        self.code = code
        self.message = message
        self.data = data
        said = fields.get("executed")
        if executed is None:
            executed = said if isinstance(said, str) and said in STRENGTH else self._executed_default
        self.executed: Verdict = executed
        self.reason = str(fields.get("reason", "application"))
        self.retry = str(fields.get("retry", "safe" if self.executed == "no" else "unsafe"))
        after_ms = fields.get("retry_after_ms")
        self.retry_after: float | None = after_ms / 1000 if isinstance(after_ms, int | float) else None  # seconds
        self.call_id = _text(fields.get("call_id"))
        self.idempotency_key = _text(fields.get("idempotency_key"))
        attempts = fields.get("attempts")
        self.attempts: list[object] = attempts if isinstance(attempts, list) else []
        self.status = fields["status"] if isinstance(fields.get("status"), int) else None
        self.body = fields.get("body")

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.code, self.message, self.data), self.__dict__  # an exception may cross processes

    def __str__(self) -> str:
        return f"{self.message} [{self.code} {self.reason}, executed: {self.executed}, retry: {self.retry}]"


class NotExecuted(CallError):
    """Proven: the provider did not carry the call out. Raised inside a Python worker it is such a proof."""

    _executed_default: Verdict = "no"

    def __init__(
        self, code: int | str = 5020, message: str = "", data: object = None, *, executed: Verdict | None = None
    ) -> None:
        if isinstance(code, str):  # NotExecuted("why") reads best in a worker
            message, code = code, ROWS["provider_unreachable"].code
        super().__init__(code, message, data, executed=executed)


class OutcomeUnknown(CallError):
    """The provider may have carried the call out. Look before you repeat it, or repeat it under its idempotency key."""


class Executed(CallError):
    """The provider carried the call out, and still there is no result to give."""

    _executed_default: Verdict = "yes"


def raised_by(executed: Verdict) -> type[CallError]:
    """The exception class that stands for a verdict."""
    return {"no": NotExecuted, "unknown": OutcomeUnknown, "yes": Executed}[executed]


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
