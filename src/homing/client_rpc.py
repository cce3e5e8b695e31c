"""What the clients ask and how they read the answer: JSON-RPC, the verdict, and when to ask again. No sockets, no clock."""

import math
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Final, Literal

import msgspec

from homing.client_http import Fault, ResponseReader, lost, out_of_time
from homing.errors import ROWS, STRENGTH, CallError, Effect, Verdict, raised_by

LONGEST_S: Final = 300.0  # what a gateway grants at most, unless it was told otherwise (`deadline.max`)
GRACE_MIN_S: Final = 1.0
GRACE_MAX_S: Final = 3.0
BACKOFF_BASE_S: Final = 0.05
BACKOFF_MAX_S: Final = 20.0
WORTH_ASKING_S: Final = 0.1  # less time than this is no use to a gateway
SHOWN_BYTES_MAX: Final = 16_384

# Reasons that time may mend, given before anybody was asked to carry the call out.
ASK_AGAIN: Final = frozenset({
    "provider_unreachable",
    "rate_limited",
    "overloaded",
    "no_worker",
    "draining",
    "circuit_open",
    "journal_unavailable",
})  # fmt: skip

_BARE_KEY = re.compile(r"[A-Za-z0-9._~:/+=@-]{1,255}")
_ENCODER = msgspec.json.Encoder(decimal_format="number")


class Question(msgspec.Struct, frozen=True):
    """One call or notification (`id` is None), with its params as JSON text (b"" if there are none).

    `service` and `effect` are for brokers: a gateway knows both of each method.
    """

    id: str | None
    method: str
    params: bytes = b""
    idempotency_key: str | None = None
    service: str | None = None
    effect: Effect | None = None


class Ending(msgspec.Struct, frozen=True):
    """How one exchange went: what was read of the response, and what kept it from being read to its end."""

    reader: ResponseReader | None = None
    fault: Fault | None = None


Answer = bytes | CallError  # a result's JSON text, or why there is none


class _Error(msgspec.Struct):
    code: int
    message: str
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _Reply(msgspec.Struct):
    jsonrpc: Literal["2.0"]
    id: object = msgspec.UNSET
    result: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    error: _Error | msgspec.UnsetType = msgspec.UNSET


_REPLY = msgspec.json.Decoder(_Reply)
_ERROR = msgspec.json.Decoder(_Error)
_LIST = msgspec.json.Decoder(list[msgspec.Raw])
_DATA = msgspec.json.Decoder(float_hook=float)  # what goes with an error is shown, not reckoned with: 1e400 may be infinity
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def encode_params(params: object) -> bytes:
    """Return params as JSON text; b"" for None. Raises ValueError or TypeError for what JSON or JSON-RPC has no place for."""
    if params is None:
        return b""
    try:
        text = _ENCODER.encode(params)
    except RecursionError:
        raise ValueError("the params are nested too deeply, or hold themselves") from None
    if text[:1] not in {b"{", b"["} and text.lstrip()[:1] not in {b"{", b"["}:  # a Raw may begin with white space
        raise TypeError("params are an object or an array")
    if any(word in text for word in (b"null", b"NaN", b"Infinity")) and _holds_nan(params):
        raise ValueError("the params hold a number that JSON does not have: NaN or Infinity")
    return text


def _holds_nan(value: object) -> bool:
    """Whether a number in there is none. msgspec writes null for it, and a null is something else to a provider; or NaN, of a Decimal."""
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, Decimal):
        return not value.is_finite()
    if isinstance(value, dict):
        return any(map(_holds_nan, value.values()))
    if isinstance(value, list | tuple | set | frozenset):
        return any(map(_holds_nan, value))
    if isinstance(value, str | bytes | int | msgspec.Raw) or value is None:
        return False
    plain = msgspec.to_builtins(value)
    return type(plain) is not type(value) and _holds_nan(plain)


class Errand:
    """The calls of one request, asked until each is answered or must not be asked again, all within one timeout.

    A link takes it to the gateway: `body()` and `fields()` make the next request, `take()` reads how that went and says after how
    many seconds to ask again (None: `answers` is complete). A link to brokers looks at `open()`, and says with `note()` what came of
    it. Instants are on the caller's monotonic clock, in seconds.
    """

    __slots__ = ("_alone", "_open", "_questions", "_random", "_retries", "answers", "asked", "timeout", "until")

    def __init__(
        self,
        questions: list[Question],
        now: float,
        *,
        alone: bool,
        timeout: float | None,
        retries: int,
        random: Callable[[], float],
    ) -> None:
        self._questions = questions
        self._alone = alone
        self._retries = retries
        self._random = random
        self.timeout = timeout
        self.asked = 0  # how often
        self._open = list(range(len(questions)))
        self.until = now + (LONGEST_S if timeout is None else timeout)  # nothing is sent after this
        self.answers: list[Answer] = [b""] * len(questions)

    def give_up_at(self, reader: ResponseReader, sent_at: float) -> float:
        """Return when to stop waiting for the answer to a request sent at `sent_at`. Heartbeats change nothing about it.

        The gateway answers by the deadline; the grace is for the way there and back. Where the caller named no timeout, a head
        that came early tells which one was granted.
        """
        until = self.until
        if self.timeout is None and reader.deadline_ms is not None:
            until = sent_at + reader.deadline_ms / 1000
        return until + min(max(GRACE_MIN_S, 0.01 * (until - sent_at)), GRACE_MAX_S)

    def fields(self, now: float) -> bytes:
        """Return the header lines that are this request's own. Raises Fault when there is no time left for it."""
        remaining = self.until - now
        if remaining < 0.001:
            raise out_of_time()
        lines = b"" if self.timeout is None else b"Homing-Timeout: %.3f\r\n" % remaining
        key = self._questions[self._open[0]].idempotency_key
        if self._alone and key is not None and _BARE_KEY.fullmatch(key):
            lines += b"Idempotency-Key: %s\r\n" % key.encode("ascii")
        return lines

    def open(self) -> list[Question]:
        """Return what is still to be asked, in order."""
        return [self._questions[index] for index in self._open]

    def body(self) -> bytes:
        """Return the JSON text of what is still to be asked."""
        if not self._alone:
            return b"[" + b",".join([envelope(question) for question in self.open()]) + b"]"
        question = self._questions[0]
        key = question.idempotency_key
        return envelope(question, keyless=key is not None and _BARE_KEY.fullmatch(key) is not None)

    def take(self, ending: Ending, now: float) -> float | None:
        """Note what a gateway answered, as `note` does."""
        return self.note(read(self.open(), ending, alone=self._alone), now)

    def note(self, answers: list[Answer], now: float) -> float | None:
        """Note the answers to `open()`; return the seconds to wait before asking again for those that may be, None if there are none."""
        backoff = self._random() * min(BACKOFF_MAX_S, BACKOFF_BASE_S * 2**self.asked)
        waits: dict[int, float] = {}
        for index, answer in zip(self._open, answers, strict=True):
            self.answers[index] = answer
            if self.asked < self._retries and isinstance(answer, CallError) and may_ask_again(answer):
                wait = backoff + max(answer.retry_after or 0.0, 0.0)
                if now + wait + WORTH_ASKING_S < self.until:
                    waits[index] = wait
        self._open = list(waits)
        self.asked += 1
        return max(waits.values()) if waits else None


def envelope(question: Question, *, keyless: bool = False) -> bytes:
    """Return the JSON text of one request; without its idempotency key if that travels elsewhere."""
    parts = [b'{"jsonrpc":"2.0","method":', msgspec.json.encode(question.method)]
    if question.params:
        parts += [b',"params":', question.params]
    if question.idempotency_key is not None and not keyless:
        parts += [b',"meta":', msgspec.json.encode({"idempotency_key": question.idempotency_key})]
    if question.id is not None:
        parts += [b',"id":', msgspec.json.encode(question.id)]
    return b"".join(parts) + b"}"


def may_ask_again(error: CallError) -> bool:
    """Whether an error proves that nobody has been asked to carry the call out, and time may mend it."""
    attempts = error.data.get("attempts") if isinstance(error.data, dict) else None
    return error.executed == "no" and error.retry == "safe" and not attempts and error.reason in ASK_AGAIN


def read(questions: list[Question], ending: Ending, *, alone: bool) -> list[Answer]:
    """Return one answer for each question. Whatever cannot be understood is `unknown`."""
    reader, fault = ending.reader, ending.fault
    if fault is not None or reader is None:
        fault = fault or lost(None)
        return [_unanswered(question, fault, reader, reader, alone=alone) for question in questions]
    if reader.status == 204 and alone and questions[0].id is None:
        return [b"null"]
    text = bytes(reader.body)
    is_list = text.lstrip()[:1] == b"["
    replies = _replies(text) if is_list else [_reply(text)]
    # Only an answer of the right shape is looked into: a list for a batch, an object for a call.
    by_id = _by_id(replies) if is_list is not alone else {}
    refusal = None if is_list and alone else _refusal(replies, reader, whole=not is_list)
    # A head that came with somebody else's answer speaks of somebody else's call.
    ours = [None, msgspec.UNSET, *(question.id for question in questions)]
    head = reader if all(reply is None or reply.id in ours for reply in replies) else None
    return [
        _answer(question, by_id.get(question.id or "") or refusal, reader, alone=alone)
        or _unanswered(question, _not_understood(reader), reader, head, alone=alone)
        for question in questions
    ]


def _replies(text: bytes) -> list[_Reply | None]:
    """Return the members of a batch's answer; nothing of what is no list."""
    try:
        return [_reply(member) for member in _LIST.decode(text)]
    except _UNREADABLE:
        return []


def _reply(text: bytes | msgspec.Raw) -> _Reply | None:
    """Return a JSON-RPC response, which has either a result or an error; None for everything else."""
    try:
        str(memoryview(text), "utf-8")  # msgspec does not look into what it leaves raw
        reply = _REPLY.decode(text)
    except _UNREADABLE:
        return None
    return reply if (reply.result is msgspec.UNSET) is not (reply.error is msgspec.UNSET) else None


def _by_id(replies: list[_Reply | None]) -> dict[str, _Reply | None]:
    """Return each reply under its id; two under the same id contradict each other, and count as none."""
    found: dict[str, _Reply | None] = {}
    for reply in replies:
        if reply is not None and isinstance(reply.id, str):
            found[reply.id] = None if reply.id in found else reply
    return found


def _refusal(replies: list[_Reply | None], reader: ResponseReader, *, whole: bool) -> _Reply | None:
    """Return the one reply that speaks for everything in the request, because it could not be read or was too large.

    It bears no id, so it counts only with its proof that nothing was executed.
    """
    reply = replies[0] if len(replies) == 1 else None
    if reply is None or not (reply.id is None or reply.id is msgspec.UNSET) or isinstance(reply.error, msgspec.UnsetType):
        return None
    return reply if _verdict(_data(reply.error), reader, whole=whole) == "no" else None


def _answer(question: Question, reply: _Reply | None, reader: ResponseReader, *, alone: bool) -> Answer | None:
    if reply is None:
        return None
    if isinstance(reply.error, msgspec.UnsetType):
        return bytes(reply.result) if reader.status == 200 and isinstance(reply.result, msgspec.Raw) else None
    data = _data(reply.error)
    verdict = _verdict(data, reader, whole=alone)
    error = _raised(reply.error, data, verdict, question)
    if isinstance(data, dict) and data.get("executed") != verdict:
        error.retry = "unsafe" if verdict != "no" else error.retry  # its advice belongs to a verdict that does not stand
    if alone:
        error.call_id = error.call_id or reader.header("homing-call-id")
    return error


def error_of(text: bytes, verdict: Verdict, question: Question) -> CallError:
    """Return the exception for an error object that this process wrote itself, and whose verdict it knows."""
    said = _ERROR.decode(text)
    return _raised(said, _data(said), verdict, question)


def _raised(error: _Error, data: object, verdict: Verdict, question: Question) -> CallError:
    raised = raised_by(verdict)(error.code, error.message, data, executed=verdict)
    raised.idempotency_key = raised.idempotency_key or question.idempotency_key
    return raised


def _data(error: _Error) -> object:
    try:
        return None if isinstance(error.data, msgspec.UnsetType) else _DATA.decode(error.data)
    except _UNREADABLE:
        return None


def _verdict(data: object, reader: ResponseReader, *, whole: bool) -> Verdict:
    """Return the stronger of what the error and the head say; without either it is unknown.

    The head speaks for one call, or, where it is no 200, for everything in the request.
    """
    said = data.get("executed") if isinstance(data, dict) else None
    verdicts = [said] if isinstance(said, str) and said in STRENGTH else []
    if reader.executed is not None and (whole or reader.status != 200):
        verdicts.append(reader.executed)
    return max(verdicts, key=STRENGTH.__getitem__, default="unknown")


def _not_understood(reader: ResponseReader) -> Fault:
    if reader.status == 200:
        return Fault("response_invalid", "What came back from the gateway's address is no answer to this call.", sent=True)
    return Fault(
        "provider_failed", f"Something before the gateway, or in its place, answered with HTTP {reader.status}.", sent=True
    )


def _unanswered(
    question: Question, fault: Fault, reader: ResponseReader | None, head: ResponseReader | None, *, alone: bool
) -> CallError:
    """Return the error of a call whose answer did not arrive: what the head proves, if it is to be trusted, else unknown."""
    reason, message, retry = fault.reason, fault.message, fault.retry
    verdict: Verdict = "unknown" if fault.sent else "no"
    data: dict[str, object] = {"idempotency_key": question.idempotency_key}
    if head is not None and head.status and fault.sent:
        if head.executed is not None and (alone or head.status != 200):
            verdict, retry = head.executed, head.retry
            if head.reason is not None:
                reason = head.reason
                message = f"{ROWS[reason].meaning} The gateway said so, and no more of its answer is readable: {message}"
        if alone:
            data["call_id"] = head.header("homing-call-id")
            # Without a key of the caller's the gateway takes the call's id for one.
            data["idempotency_key"] = question.idempotency_key or data["call_id"]
        data["retry_after_ms"] = head.retry_after_ms if verdict == "no" else None
    if reader is not None and reader.status and fault.sent:
        data["status"] = reader.status
        data |= _shown(reader)
    if reason == fault.reason:
        data["leg"] = "gateway"  # it went wrong between this program and the gateway, not behind it
    if retry is None:  # which effect the method has, nobody knows here
        retry = (ROWS[reason].retry or "safe") if verdict == "no" else "unsafe"
    data |= {"reason": reason, "executed": verdict, "retry": retry}
    data = {name: value for name, value in data.items() if value is not None}
    return raised_by(verdict)(ROWS[reason].code, message, data, executed=verdict)


def _shown(reader: ResponseReader) -> dict[str, object]:
    """Return what came as a body, for people to look at."""
    text = bytes(reader.body[:SHOWN_BYTES_MAX])
    shown: dict[str, object] = {"body_truncated": True} if len(reader.body) > SHOWN_BYTES_MAX else {}
    if text:
        try:
            shown["body"] = _DATA.decode(text)
        except _UNREADABLE:
            shown["body"] = text.decode("utf-8", "replace")
    return shown
