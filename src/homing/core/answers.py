"""What a complete answer of a provider means: rows of the method's own, of the provider's, then the built-in ones.

    200 to 299                                              ok
    400 402 403 404 405 410 413 414 415 422 451             refused: the provider's business no
    429 529                                                 throttled
    401 407                                                 denied: our credentials
    all else                                                failed: 3xx, 408, 409, 423, 425, 5xx, …

A built-in row speaks of one attempt. A row of one's own says what this provider means, so its `refused` speaks for earlier attempts
under the same idempotency key too, and its `ok`, if it looks at the body, is proof that the call was carried out.
"""

import calendar
import codecs
import re
from collections.abc import Sequence
from email.utils import parsedate_tz
from math import ceil
from typing import Final

from homing.core.bodies import DEPTH_MAX, NULL, Decoder
from homing.core.exchange import HttpResponse
from homing.core.jsonrpc import check_json, encode_value
from homing.core.mapping import EvaluationError, Expression, compile_expression, is_false
from homing.core.scalars import TOO_EXACT, inexact
from homing.core.specs import AnswerKind, AnswerRow
from homing.core.traps import RESPONSE
from homing.core.values import Report
from homing.errors import Effect, Outcome, Verdict

REFUSED: Final = frozenset({400, 402, 403, 404, 405, 410, 413, 414, 415, 422, 451})
THROTTLED: Final = frozenset({429, 529})
DENIED: Final = frozenset({401, 407})

REASONS: Final[dict[AnswerKind, str]] = {
    "ok": "ok",
    "refused": "provider_refused",
    "throttled": "provider_throttled",
    "denied": "provider_denied",
    "failed": "provider_failed",
}
_EXECUTED: Final[dict[AnswerKind, Verdict]] = {
    "ok": "yes",
    "refused": "no",
    "throttled": "no",
    "denied": "no",
    "failed": "unknown",
}
_SAYING: Final[dict[AnswerKind, str]] = {
    "ok": "",
    "refused": "refused the request",
    "throttled": "asks for fewer requests",
    "denied": "does not take our credentials",
    "failed": "did not answer as promised",
}
MESSAGE_MAX: Final = 500  # characters of a message that a provider wrote
RETRY_AFTER_MAX_S: Final = 31_536_000  # a year: what is further off is a mistake

_Utf8 = codecs.getincrementaldecoder("utf-8")
_SECONDS = re.compile(r"[0-9]+(?:\.[0-9]{1,9})?")


class Row:
    """A compiled row. `where` is its path in the configuration; `proves` says that its `when` looks at the body."""

    __slots__ = ("again", "executed", "kind", "message", "proves", "when", "where")

    def __init__(self, spec: AnswerRow, where: str, when: Expression, message: Expression | None) -> None:
        self.where = where
        self.when = when
        self.kind = spec.is_
        self.message = message
        self.executed: Verdict = spec.executed or _EXECUTED[spec.is_]
        self.again = spec.retry is not False and spec.is_ != "refused"
        self.proves = "body" in when.roots


def compile_rows(specs: Sequence[AnswerRow], report: Report) -> tuple[Row, ...]:
    """Compile the rows under a key `answers`; those with problems are left out."""
    rows: list[Row] = []
    for index, spec in enumerate(specs):
        at = report.at(index)
        before = len(report.problems)
        when = compile_response(spec.when, at.at("when"))
        message = None if spec.message is None else compile_response(spec.message, at.at("message"))
        if spec.is_ == "ok" and spec.executed not in {None, "yes"}:
            at.at("executed").problem("an answer that is ok was executed: leave this out, or write another `is`")
        if spec.retry and spec.is_ in {"refused", "denied"}:
            at.at("retry").problem(
                f'what is {spec.is_} is not asked again: write is = "throttled", or "failed" with executed = "no"'
            )
        if when is not None and all(problem.warning for problem in report.problems[before:]):
            rows.append(Row(spec, at.path, when, message))
    return tuple(rows)


def compile_response(text: str, report: Report) -> Expression | None:
    """Compile an expression over `{status, headers, body}`; None if the report got problems for it."""
    expression, problems = compile_expression(text, RESPONSE)
    for message in problems:
        report.problem(message)
    for message in expression.doubts if expression else ():
        report.warn(message)
    return expression


class View:
    """A response as expressions see it: its body is decoded when the first of them looks."""

    __slots__ = ("_decoded", "_decoder", "_error", "_root", "response")

    def __init__(self, response: HttpResponse, decoder: Decoder) -> None:
        self.response = response
        self._decoder = decoder
        self._root: dict[str, object] = {"status": response.status, "headers": response.headers}
        self._decoded = False
        self._error = ""

    def search(self, expression: Expression) -> object:
        """Evaluate. Raises EvaluationError, also if the expression looks at a body that cannot be decoded."""
        if "body" in expression.roots:
            if not self._decoded:
                self._decode()
            if self._error:
                raise EvaluationError(self._error)
        return expression.search(self._root)

    def _decode(self) -> None:
        self._decoded = True
        try:
            self._root["body"] = self._decoder.value(self.response.body, self.response.headers)
        except (ValueError, RecursionError) as error:
            self._error = str(error)


class Answers:
    """The rows and the result of one method. `evaluations_failed` counts the rows that could not be evaluated on an answer.

    `shared` are those of the rows that its provider has for all its answers, a lookup's too.
    """

    __slots__ = ("_body_max", "_decoder", "_effect", "_plain", "_result", "_rows", "_shared", "evaluations_failed", "provider")

    def __init__(
        self,
        provider: str,
        rows: tuple[Row, ...],
        decoder: Decoder,
        result: Expression | None,
        effect: Effect,
        error_body_max: int,
        *,
        shared: tuple[Row, ...] = (),
    ) -> None:
        self.provider = provider
        self.evaluations_failed = 0
        self._rows = rows
        self._shared = shared
        self._decoder = decoder
        self._result = result
        self._effect = effect
        self._body_max = error_body_max
        self._plain = not rows and result is None and decoder.name == "json"

    def interpret(self, response: HttpResponse, wall_now: float) -> Outcome:
        """Return the outcome of an attempt that was answered; `wall_now` is Unix time, for dates in Retry-After."""
        if self._plain and response.status == 200 and response.body:
            # What most answers are, where nothing was configured about them: the body itself, once it is known to be JSON.
            try:
                check_json(response.body, DEPTH_MAX)
                return Outcome(reason="ok", executed="yes", result=response.body, status=200)
            except ValueError:
                pass  # the long way says what is wrong with it
        return self.explain(response, wall_now)[1]

    def explain(self, response: HttpResponse, wall_now: float) -> tuple[str, Outcome]:
        """Return the row that matched, in words, and the outcome."""
        view = View(response, self._decoder)
        row = self._match(view, self._rows) if self._rows else None
        kind = row.kind if row else built_in(response.status)
        words = f"{row.where}: {row.when.text}" if row else f"built-in: {response.status} is {kind}"
        if kind == "ok":
            return words, self._ok(view, row)
        message = f"{self.provider} {_SAYING[kind]} ({response.status})"
        outcome = Outcome(
            reason=REASONS[kind],
            executed=_EXECUTED[kind],
            message=message,
            status=response.status,
            again=kind != "refused",  # what is denied: if there are other credentials, which the caller knows
        )
        if row:
            outcome.executed = row.executed
            outcome.again = row.again
            outcome.settles_earlier = kind == "refused" and row.executed != "unknown"
            outcome.message = self._message(view, row) or message
        if kind == "failed" and self._effect == "safe" and 300 <= response.status < 400:
            outcome.again = False  # a redirect says the same tomorrow
        outcome.retry_after_ms = retry_after_ms(response.headers.get("retry-after"), wall_now)
        self._add_body(outcome, response.body)
        return words, outcome

    def found(self, response: HttpResponse, found: Expression) -> bytes | None:
        """Return what a lookup found, as JSON text; None: it found nothing, or nothing that can be trusted."""
        if built_in(response.status) != "ok":
            return None
        view = View(response, self._decoder)
        row = self._match(view, self._shared)
        if row is not None and row.kind != "ok":
            return None  # an error that comes with a 200 is no proof of a success
        try:
            value = view.search(found)
            if is_false(value):
                return None
            if found.path == ("body",):
                return self._decoder.text(response.body, response.headers)
            return _mapped(value)
        except (EvaluationError, ValueError):
            self.evaluations_failed += 1
            return None

    def _match(self, view: View, rows: tuple[Row, ...]) -> Row | None:
        status = view.response.status
        for row in rows:
            if not row.when.may_hold(status):
                continue
            try:
                if not is_false(view.search(row.when)):
                    return row
            except EvaluationError:
                self.evaluations_failed += 1
        return None

    def _ok(self, view: View, row: Row | None) -> Outcome:
        response = view.response
        try:
            if self._result is not None:
                result = _mapped(view.search(self._result))
            elif response.status == 204:
                result = NULL
            else:
                result = self._decoder.text(response.body, response.headers)
        except (EvaluationError, ValueError) as error:
            outcome = Outcome(
                reason="response_invalid",
                executed="yes" if row and row.proves else "unknown",
                message=f"the answer of {self.provider} ({response.status}) cannot be used: {str(error)[:MESSAGE_MAX]}",
                status=response.status,
                again=self._effect != "safe",
            )
            self._add_body(outcome, response.body)
            return outcome
        return Outcome(reason="ok", executed="yes", result=result, status=response.status)

    def _message(self, view: View, row: Row) -> str:
        if row.message is None:
            return ""
        try:
            value = view.search(row.message)
        except EvaluationError:
            self.evaluations_failed += 1
            return ""
        return value[:MESSAGE_MAX] if isinstance(value, str) else ""

    def _add_body(self, outcome: Outcome, body: bytes) -> None:
        if body:
            outcome.body, outcome.body_truncated = error_body(body, self._body_max)


def built_in(status: int) -> AnswerKind:
    """What a status means where no row of one's own matches."""
    if 200 <= status < 300:
        return "ok"
    if status in REFUSED:
        return "refused"
    if status in THROTTLED:
        return "throttled"
    return "denied" if status in DENIED else "failed"


def _mapped(value: object) -> bytes:
    """Encode what an expression made of an answer. Raises ValueError for a number that would not keep its value."""
    found = inexact(value)
    if found is not None:
        raise ValueError(f"{str(found)[:40]} {TOO_EXACT}")
    return encode_value(value)


def error_body(body: bytes, size_max: int) -> tuple[bytes | None, bool]:
    """Return a body for the answer as JSON text, and whether it was cut: itself if it is JSON, else as a JSON string."""
    if len(body) <= size_max:
        try:
            check_json(body, DEPTH_MAX)
            return body, False
        except ValueError:
            return encode_value(body.decode(errors="replace")), False
    text = _Utf8(errors="replace").decode(body[:size_max])  # leaves out the half of a character at the cut
    return (encode_value(text) if text else None), True


def retry_after_ms(value: str | None, wall_now: float) -> int | None:
    """Read a Retry-After header: seconds, or a date in one of the three forms of RFC 9110 section 5.6.7. None if it has neither."""
    if value is None:
        return None
    text = value.strip()
    if _SECONDS.fullmatch(text):
        seconds = float(text)
    else:
        parsed = parsedate_tz(text)
        if parsed is None:
            return None
        try:
            seconds = max(0.0, calendar.timegm((*parsed[:6], 0, 0, 0)) - (parsed[9] or 0) - wall_now)
        except (ValueError, OverflowError):  # the year 99999999
            return None
    return ceil(min(seconds, RETRY_AFTER_MAX_S) * 1000)
