"""homing.core.answers: what an answer means, and what it proves."""

from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from homing.core.answers import MESSAGE_MAX, Answers, Row, built_in, compile_response, compile_rows, error_body, retry_after_ms
from homing.core.bodies import Decoder
from homing.core.exchange import HttpResponse
from homing.core.specs import AnswerRow, Problem
from homing.core.values import Report
from homing.errors import ROWS, Effect, Outcome

NOW = 784111777.0  # Sun, 06 Nov 1994 08:49:37 GMT


def rows(*specs: AnswerRow) -> tuple[Row, ...]:
    problems: list[Problem] = []
    made = compile_rows(specs, Report("answers", problems))
    assert problems == []
    return made


def answers(
    *specs: AnswerRow, decode: str = "json", result: str | None = None, effect: Effect = "once", body_max: int = 1000
) -> Answers:
    problems: list[Problem] = []
    expression = None if result is None else compile_response(result, Report("result", problems))
    assert problems == []
    return Answers("acme", rows(*specs), Decoder(decode), expression, effect, body_max)


def response(status: int, body: bytes = b"", **headers: str) -> HttpResponse:
    return HttpResponse(status, {name.replace("_", "-"): value for name, value in headers.items()}, body)


def interpret(made: Answers, given_response: HttpResponse) -> Outcome:
    return made.interpret(given_response, NOW)


@pytest.mark.parametrize(
    ("reason", "statuses", "again"),
    [
        ("ok", [200, 201, 202, 204, 206, 299], True),
        ("provider_refused", [400, 402, 403, 404, 405, 410, 413, 414, 415, 422, 451], False),
        ("provider_throttled", [429, 529], True),
        ("provider_denied", [401, 407], True),
        (
            "provider_failed",
            [300, 301, 302, 304, 307, 308, 406, 408, 409, 411, 423, 425, 431, 499, 500, 502, 503, 504, 599],
            True,
        ),
    ],
)
def test_the_built_in_rows(reason: str, statuses: list[int], again: bool) -> None:
    for status in statuses:
        outcome = interpret(answers(), response(status))
        assert (outcome.reason, outcome.status, outcome.again) == (reason, status, again)
        assert outcome.executed == ("yes" if reason == "ok" else ROWS[reason].executed)
        assert not outcome.settles_earlier
        assert (str(status) in outcome.message) == (reason != "ok")


@given(st.integers(100, 599))
def test_only_what_is_known_to_be_no_is_no(status: int) -> None:
    proven_no = {400, 402, 403, 404, 405, 410, 413, 414, 415, 422, 451, 429, 529, 401, 407}
    assert (built_in(status) in {"refused", "throttled", "denied"}) == (status in proven_no)


def test_a_redirect_says_the_same_tomorrow() -> None:
    assert not interpret(answers(effect="safe"), response(302)).again
    assert interpret(answers(effect="keyed"), response(302)).again
    assert interpret(answers(effect="safe"), response(503)).again
    row = AnswerRow(when="status == `307`", is_="throttled")
    assert interpret(answers(row, effect="safe"), response(307)).again


def test_the_result_is_the_body_untouched() -> None:
    body = b' {"a": 1.10, "b": 0.12345678901234567890, "c": 1e400, "\\u00e9": "x"} '
    outcome = interpret(answers(), response(200, body))
    assert (outcome.reason, outcome.executed, outcome.result, outcome.status) == ("ok", "yes", body, 200)
    assert interpret(answers(), response(200)).result == b"null"
    assert interpret(answers(), response(204, b"junk")).result == b"null"


def test_the_result_is_mapped() -> None:
    made = answers(result="{id: body.charge.id, etag: headers.etag, status: status}")
    assert interpret(made, response(201, b'{"charge":{"id":9}}', etag="e1")).result == b'{"id":9,"etag":"e1","status":201}'
    assert interpret(answers(result="body.charge"), response(200, b"{}")).result == b"null"
    assert interpret(answers(result="headers.location"), response(201, location="/x/1")).result == b'"/x/1"'
    assert interpret(answers(result="headers.location"), response(201, b"<html>", location="/x/1")).result == b'"/x/1"'


@pytest.mark.parametrize(
    ("decode", "body", "result"),
    [("text", b"hi", b'"hi"'), ("base64", b"\x00", b'"AA=="'), ("text", b"", b"null")],
)
def test_the_result_is_decoded(decode: str, body: bytes, result: bytes) -> None:
    assert interpret(answers(decode=decode), response(200, body)).result == result


INVALID: list[tuple[str | None, bytes]] = [
    (None, b"<html>"),
    (None, b'{"a":1'),
    (None, b'{"a":1},"x":{}'),
    (None, b"[" * 600 + b"]" * 600),
    ("body.a", b"<html>"),
    ("body.a", b'{"a":0.12345678901234567890}'),
    ("body.a", b'{"a":[1e400]}'),
    ("abs(body.a)", b'{"a":"x"}'),
    ("to_string(body.a)", b'{"a":1e400}'),
]


@pytest.mark.parametrize(("result", "body"), INVALID)
def test_what_was_not_promised(result: str | None, body: bytes) -> None:
    outcome = interpret(answers(result=result), response(200, body))
    assert (outcome.reason, outcome.executed, outcome.status, outcome.again) == ("response_invalid", "unknown", 200, True)
    assert outcome.message.startswith("the answer of acme (200) cannot be used: ")
    assert outcome.body is not None
    assert not interpret(answers(result=result, effect="safe"), response(200, body)).again


def test_success_is_proven_by_the_body_only() -> None:
    body = b'{"paid":true,"id":1e400}'
    by_body = AnswerRow(when="body.paid", is_="ok")
    by_status = AnswerRow(when="status == `200`", is_="ok", executed="yes")
    assert interpret(answers(by_body, result="body.id"), response(200, body)).executed == "yes"
    assert interpret(answers(by_status, result="body.id"), response(200, body)).executed == "unknown"
    assert interpret(answers(result="body.id"), response(200, body)).executed == "unknown"


def test_a_row_of_ones_own_wins() -> None:
    row = AnswerRow(when="status == `429` && body.error.code == 'spend_limit'", is_="refused", message="body.error.message")
    made = answers(row)
    spent = interpret(made, response(429, b'{"error":{"code":"spend_limit","message":"too much"}}', retry_after="7"))
    assert (spent.reason, spent.executed, spent.again, spent.settles_earlier) == ("provider_refused", "no", False, True)
    assert (spent.message, spent.retry_after_ms, spent.status) == ("too much", 7000, 429)
    assert spent.body == b'{"error":{"code":"spend_limit","message":"too much"}}'
    assert interpret(made, response(429, b'{"error":{"code":"rate"}}')).reason == "provider_throttled"
    assert interpret(made, response(200, b"{}")).reason == "ok"
    assert made.evaluations_failed == 0


def test_the_first_row_wins() -> None:
    made = answers(AnswerRow(when="status == `404`", is_="ok"), AnswerRow(when="status", is_="failed"))
    assert interpret(made, response(404, b"[]")).result == b"[]"
    assert interpret(made, response(200, b"[]")).reason == "provider_failed"


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (AnswerRow(when="status", is_="refused"), ("provider_refused", "no", False, True)),
        (AnswerRow(when="status", is_="refused", executed="unknown"), ("provider_refused", "unknown", False, False)),
        (AnswerRow(when="status", is_="refused", executed="yes"), ("provider_refused", "yes", False, True)),
        (AnswerRow(when="status", is_="throttled"), ("provider_throttled", "no", True, False)),
        (AnswerRow(when="status", is_="throttled", retry=False), ("provider_throttled", "no", False, False)),
        (AnswerRow(when="status", is_="denied"), ("provider_denied", "no", True, False)),
        (AnswerRow(when="status", is_="denied", retry=False), ("provider_denied", "no", False, False)),
        (AnswerRow(when="status", is_="failed"), ("provider_failed", "unknown", True, False)),
        (AnswerRow(when="status", is_="failed", executed="no", retry=True), ("provider_failed", "no", True, False)),
        (AnswerRow(when="status", is_="failed", executed="yes", retry=False), ("provider_failed", "yes", False, False)),
        (AnswerRow(when="status", is_="ok"), ("ok", "yes", True, False)),
    ],
)
def test_what_a_row_may_say(row: AnswerRow, expected: tuple[object, ...]) -> None:
    outcome = interpret(answers(row), response(500))
    assert (outcome.reason, outcome.executed, outcome.again, outcome.settles_earlier) == expected


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("body.error", "bad card"),
        ("body.code", "acme refused the request (500)"),
        ("body.nothing", "acme refused the request (500)"),
        ("abs(body.error)", "acme refused the request (500)"),
        ("body.long", "x" * MESSAGE_MAX),
    ],
)
def test_the_message_of_a_row(message: str, said: str) -> None:
    body = msgspec.json.encode({"error": "bad card", "code": 7, "long": "x" * 9999})
    made = answers(AnswerRow(when="status", is_="refused", message=message))
    assert interpret(made, response(500, body)).message == said
    assert made.evaluations_failed == (message == "abs(body.error)")


def test_a_row_that_cannot_be_evaluated_does_not_match_and_is_counted() -> None:
    made = answers(AnswerRow(when="abs(body.a) == `1`", is_="refused"), AnswerRow(when="body.b", is_="refused"))
    assert interpret(made, response(500, b'{"a":"x"}')).reason == "provider_failed"
    assert made.evaluations_failed == 1
    assert interpret(made, response(502, b"<html>")).reason == "provider_failed"
    assert made.evaluations_failed == 3


def test_the_body_is_decoded_once_and_only_if_somebody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[bytes] = []

    def value(self: Decoder, body: bytes, headers: dict[str, str]) -> object:
        looked.append(body)
        raise ValueError("no")

    monkeypatch.setattr(Decoder, "value", value)
    interpret(answers(AnswerRow(when="status == `500`", is_="failed")), response(500, b"x"))
    assert looked == []
    interpret(answers(AnswerRow(when="body.a", is_="failed"), AnswerRow(when="body.b", is_="failed")), response(500, b"x"))
    assert looked == [b"x"]


def test_a_row_is_explained() -> None:
    made = answers(AnswerRow(when="status == `404`", is_="ok"), AnswerRow(when="body.a", is_="refused"))
    assert made.explain(response(404), NOW)[0] == "answers[0]: status == `404`"
    assert made.explain(response(500, b'{"a":1}'), NOW)[0] == "answers[1]: body.a"
    words, outcome = made.explain(response(503), NOW)
    assert (words, outcome.reason) == ("built-in: 503 is failed", "provider_failed")


@pytest.mark.parametrize(
    ("body", "size_max", "shown", "cut"),
    [
        (b'{"a": 1.10}', 100, b'{"a": 1.10}', False),
        (b'{"a": 1.10}', 11, b'{"a": 1.10}', False),
        (b'{"a": 1.10}', 10, b'"{\\"a\\": 1.10"', True),
        (b"<p>no</p>", 100, b'"<p>no</p>"', False),
        ("né".encode(), 2, b'"n"', True),
        (b"\xff\xfe", 100, '"��"'.encode(), False),
        (b"\xffab", 2, '"�a"'.encode(), True),
        (b"abc", 0, None, True),
        (b"[" * 600 + b"]" * 600, 2000, b'"' + b"[" * 600 + b"]" * 600 + b'"', False),
    ],
)
def test_the_body_of_an_error(body: bytes, size_max: int, shown: bytes | None, cut: bool) -> None:
    assert error_body(body, size_max) == (shown, cut)
    outcome = interpret(answers(body_max=size_max), response(500, body))
    assert (outcome.body, outcome.body_truncated) == (shown, cut)


def test_no_body_is_none() -> None:
    assert interpret(answers(), response(500)).body is None


@given(st.binary(), st.integers(0, 50))
def test_the_body_of_an_error_is_json_whatever_it_was(body: bytes, size_max: int) -> None:
    shown, cut = error_body(body, size_max)
    assert cut == (len(body) > size_max)
    if shown is not None:
        msgspec.json.decode(shown)


@pytest.mark.parametrize(
    ("value", "milliseconds"),
    [
        (None, None),
        ("0", 0),
        ("3", 3000),
        (" 3 ", 3000),
        ("1.5", 1500),
        ("0.0001", 1),
        ("9999999999", 31_536_000_000),
        ("9" * 400, 31_536_000_000),
        ("Sun, 06 Nov 1994 08:49:47 GMT", 10_000),
        ("Sunday, 06-Nov-94 08:49:47 GMT", 10_000),
        ("Sun Nov  6 08:49:47 1994", 10_000),
        ("Sun, 06 Nov 1994 08:49:00 GMT", 0),
        ("Sun, 06 Nov 1994 10:49:47 +0200", 10_000),
        ("-3", None),
        ("soon", None),
        ("", None),
        ("3, 4", None),
        ("٣", None),
        ("Sun, 06 Nov 99999999 08:49:37 GMT", None),
    ],
)
def test_retry_after(value: str | None, milliseconds: int | None) -> None:
    assert retry_after_ms(value, NOW) == milliseconds


@given(st.text())
def test_retry_after_never_raises(value: str) -> None:
    found = retry_after_ms(value, NOW)
    assert found is None or found >= 0


@pytest.mark.parametrize(
    ("found", "status", "body", "result"),
    [
        ("body", 200, b' {"id": 1.10} ', b' {"id": 1.10} '),
        ("body", 200, b'{"id":0.12345678901234567890}', b'{"id":0.12345678901234567890}'),
        ("body.data[0]", 200, b'{"data":[{"id":1}]}', b'{"id":1}'),
        ("body.count", 200, b'{"count":0}', b"0"),
        ("body.data[0]", 200, b'{"data":[]}', None),
        ("body", 404, b'{"id":1}', None),
        ("body", 500, b'{"id":1}', None),
        ("body", 302, b'{"id":1}', None),
        ("body", 204, b"", None),
        ("body", 200, b"null", None),
        ("body", 200, b"false", None),
        ("body", 200, b'""', None),
        ("body", 200, b"[]", None),
        ("body", 200, b"{}", None),
        ("body", 200, b"<html>", None),
        ("body.a", 200, b'{"a":1e400}', None),
        ("abs(body.a)", 200, b'{"a":"x"}', None),
    ],
)
def test_what_a_lookup_finds(found: str, status: int, body: bytes, result: bytes | None) -> None:
    expression = compile_response(found, Report("found", []))
    assert expression is not None
    made = answers()
    assert made.found(response(status, body), expression) == result
    assert made.evaluations_failed == (body in {b"<html>", b'{"a":1e400}', b'{"a":"x"}'})


def test_what_its_provider_calls_no_success_is_nothing_found() -> None:
    """A row of the method's own speaks of the call's answer, which a lookup's need not look like."""
    shared = rows(
        AnswerRow(when="body.error.code == 'late'", is_="ok"),
        AnswerRow(when="body.error", is_="throttled"),
        AnswerRow(when="abs(body.id) == `7`", is_="refused"),
    )
    own = rows(AnswerRow(when="!(body.charge)", is_="failed"))
    made = Answers("acme", own + shared, Decoder("json"), None, "once", 1000, shared=shared)
    expression = compile_response("body", Report("found", []))
    assert expression is not None
    assert made.found(response(200, b'{"error":{"code":"busy"}}'), expression) is None
    assert made.found(response(200, b'{"id":-7}'), expression) is None
    assert made.found(response(200, b'{"error":{"code":"late"}}'), expression) == b'{"error":{"code":"late"}}'
    assert made.found(response(200, b'{"id":1}'), expression) == b'{"id":1}'
    assert made.found(response(200, b'{"id":"x"}'), expression) == b'{"id":"x"}'


@pytest.mark.parametrize(
    ("row", "path", "why"),
    [
        (AnswerRow(when="status == 429", is_="failed"), "answers[0].when", "backticks"),
        (AnswerRow(when="status", is_="failed", message="error"), "answers[0].message", "unknown name error"),
        (AnswerRow(when="status", is_="ok", executed="no"), "answers[0].executed", "was executed"),
        (AnswerRow(when="status", is_="refused", retry=True), "answers[0].retry", "not asked again"),
        (AnswerRow(when="status", is_="denied", retry=True), "answers[0].retry", "not asked again"),
    ],
)
def test_rows_that_are_refused(row: AnswerRow, path: str, why: str) -> None:
    problems: list[Problem] = []
    assert compile_rows([row], Report("answers", problems)) == ()
    assert [problem.path for problem in problems] == [path]
    assert why in problems[0].message


def test_a_row_that_is_unwise_is_warned_of_and_taken() -> None:
    problems: list[Problem] = []
    (row,) = compile_rows([AnswerRow(when="body.data[?id == call.id]", is_="ok")], Report("answers", problems))
    assert row.kind == "ok"
    assert [(problem.path, problem.warning) for problem in problems] == [("answers[0].when", True)]


def test_a_number_that_no_double_holds_is_named() -> None:
    outcome = interpret(answers(result="body.a"), response(200, b'{"a":0.12345678901234567890}'))
    assert str(Decimal("0.12345678901234567890")) in outcome.message
