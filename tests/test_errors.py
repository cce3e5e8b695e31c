"""The table of reasons is the one of the contract; the join tells no lie; exceptions carry what an answer says."""

import copy
import pickle

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from homing.errors import (
    ROWS,
    STRENGTH,
    TABLE,
    Attempt,
    CallError,
    Effect,
    Executed,
    NotExecuted,
    Outcome,
    OutcomeUnknown,
    ParamError,
    Verdict,
    code_of,
    executed_of,
    failure,
    join,
    raised_by,
    retry_of,
)

# code, reason, executed of one attempt, retry ("" is by effect), HTTP status when all calls of a body were refused so before a grant
CONTRACT = """
-32700 parse_error           no      pointless 200
-32600 invalid_request       no      pointless 200
-32601 method_not_found      no      pointless 200
-32602 invalid_params        no      pointless 200
-32603 internal_error        unknown -         200
  4010 unauthenticated       no      pointless 401
  4030 forbidden             no      pointless 403
  4090 key_conflict          no      pointless 200
  4130 too_large             no      pointless 413
  4220 provider_refused      no      pointless 200
  4290 rate_limited          no      safe      429
  4291 provider_throttled    no      safe      200
  4990 cancelled             unknown -         200
  5020 provider_unreachable  no      safe      200
  5021 connection_lost       unknown -         200
  5022 response_invalid      unknown -         200
  5023 response_too_large    unknown -         200
  5024 provider_failed       unknown -         200
  5026 provider_denied       no      pointless 200
  5030 overloaded            no      safe      503
  5031 no_worker             no      safe      503
  5032 draining              no      safe      503
  5033 circuit_open          no      safe      503
  5034 journal_unavailable   no      safe      503
  5040 expired               no      safe      200
  5041 deadline_exceeded     unknown -         200
  5042 provider_timeout      unknown -         200
  5050 worker_lost           unknown -         200
  5051 broker_lost           unknown -         200
"""


def test_the_table_is_the_contract() -> None:
    written = [f"{row.code} {row.reason} {row.executed} {row.retry or '-'} {row.http_status}" for row in TABLE]
    assert written == [" ".join(line.split()) for line in CONTRACT.strip().splitlines()]


def test_every_row_has_a_code_a_name_and_a_sentence_of_its_own() -> None:
    assert len({row.code for row in TABLE}) == len({row.meaning for row in TABLE}) == len(ROWS) == len(TABLE)
    for row in TABLE:
        assert row.meaning.endswith(".")
        assert not -32099 <= row.code <= -32000  # claimed by MCP


def test_only_what_is_proven_no_has_a_retry_of_its_own() -> None:
    for row in TABLE:
        assert (row.retry is None) == (row.executed == "unknown")
        assert row.http_status == 200 or row.executed == "no"


# Outcomes


def test_a_failure_has_the_verdict_of_the_table_unless_told_otherwise() -> None:
    assert failure("connection_lost", "gone").executed == "unknown"
    assert failure("cancelled", "never granted", executed="no").executed == "no"
    outcome = failure(
        "invalid_params", "two things", errors=(ParamError("/a", "is missing"),), retry_after_ms=5, limit="a.b", again=False
    )
    assert (outcome.reason, outcome.message, outcome.executed) == ("invalid_params", "two things", "no")
    assert (outcome.errors, outcome.retry_after_ms, outcome.limit) == ((ParamError("/a", "is missing"),), 5, "a.b")
    assert outcome.again is False
    with pytest.raises(KeyError):
        failure("no_such_reason", "")


def test_an_outcome_weighs_what_it_holds() -> None:
    assert Outcome(reason="ok", executed="yes", result=b"12345").held_bytes == 5
    assert Outcome(reason="provider_refused", executed="no", body=b"123").held_bytes == 3
    assert Outcome(reason="application", executed="unknown", code=1, body=b"123", detail=b"4567").held_bytes == 7


def test_an_outcome_survives_the_wire() -> None:
    attempt = Attempt(provider="acme", started_ms=1, duration_ms=2, reason="provider_failed", executed="unknown", status=500)
    outcome = msgspec.structs.replace(failure("provider_failed", "500"), attempts=(attempt,), body=b"{}", retry="unsafe")
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(outcome), type=Outcome) == outcome


def test_codes() -> None:
    assert code_of(failure("draining", "")) == 5032
    assert code_of(Outcome(reason="application", executed="unknown", code=1007)) == 1007


@pytest.mark.parametrize(
    ("reason", "executed", "effect", "retry"),
    [
        ("overloaded", "no", "once", "safe"),
        ("provider_refused", "no", "keyed", "pointless"),
        ("cancelled", "no", "once", "safe"),
        ("application", "no", "once", "safe"),
        ("connection_lost", "unknown", "once", "unsafe"),
        ("connection_lost", "unknown", "keyed", "same_key"),
        ("connection_lost", "unknown", "safe", "safe"),
        ("provider_unreachable", "unknown", "once", "unsafe"),
        ("response_invalid", "yes", "keyed", "same_key"),
        ("application", "unknown", "once", "unsafe"),
    ],
)
def test_what_the_caller_may_do(reason: str, executed: Verdict, effect: Effect, retry: str) -> None:
    assert retry_of(reason, executed, effect) == retry


# The join

verdicts: st.SearchStrategy[Verdict] = st.sampled_from(["no", "unknown", "yes"])
effects: st.SearchStrategy[Effect] = st.sampled_from(["once", "keyed", "safe"])
attempts = st.builds(
    Attempt,
    provider=st.just("acme"),
    started_ms=st.integers(0),
    duration_ms=st.integers(0),
    reason=st.just("x"),
    executed=verdicts,
)
errors = st.builds(
    Outcome,
    reason=st.sampled_from(sorted(ROWS)),
    executed=verdicts,
    message=st.text(max_size=3),
    attempts=st.lists(attempts, max_size=2).map(tuple),
    retry_after_ms=st.none() | st.integers(0),
)


def joined(outcomes: list[Outcome], effect: Effect) -> Outcome:
    whole: Outcome | None = None
    for outcome in outcomes:
        whole = join(whole, outcome, effect)
    assert whole is not None
    return whole


def without_attempts(outcome: Outcome) -> Outcome:
    return msgspec.structs.replace(outcome, attempts=())


@given(st.lists(errors, min_size=1, max_size=6), effects)
def test_errors_say_together_what_the_last_of_the_strongest_says(outcomes: list[Outcome], effect: Effect) -> None:
    strongest = max(STRENGTH[outcome.executed] for outcome in outcomes)
    last = [outcome for outcome in outcomes if STRENGTH[outcome.executed] == strongest][-1]
    whole = joined(outcomes, effect)
    assert without_attempts(whole) == without_attempts(last)
    assert whole.attempts == sum((outcome.attempts for outcome in outcomes), ())


@given(st.lists(errors, max_size=6), effects)
def test_a_result_settles_what_came_before(outcomes: list[Outcome], effect: Effect) -> None:
    result = Outcome(reason="ok", executed="yes", result=b"1")
    whole = joined([*outcomes, result], effect)
    assert without_attempts(whole) == result
    assert whole.attempts == sum((outcome.attempts for outcome in outcomes), ())


@given(st.lists(errors, min_size=1, max_size=6), effects, st.booleans())
@example([failure("response_invalid", "not what was promised", executed="yes")], "keyed", True)
@example([failure("connection_lost", "gone")], "keyed", True)
@example([failure("connection_lost", "gone")], "keyed", False)
@example([failure("connection_lost", "gone")], "safe", True)
def test_a_refusal_settles_what_is_unknown_only_under_a_key_and_by_a_row_of_ones_own(
    outcomes: list[Outcome], effect: Effect, own: bool
) -> None:
    before = joined(outcomes, effect)
    refusal = failure("provider_refused", "card declined")
    refusal.settles_earlier = own
    whole = joined([*outcomes, refusal], effect)
    if before.executed == "no" or (before.executed == "unknown" and effect == "keyed" and own):
        assert without_attempts(whole) == refusal
    else:
        assert without_attempts(whole) == without_attempts(before)


@pytest.mark.parametrize(
    ("said", "attempts", "effect", "settles_earlier", "executed"),
    [
        ("no", (), "once", False, "no"),
        ("no", ("no", "no"), "once", False, "no"),
        ("no", ("no", "unknown", "no"), "once", False, "unknown"),
        ("no", ("unknown", "yes"), "safe", False, "yes"),
        ("unknown", ("no",), "once", False, "unknown"),
        ("yes", ("unknown",), "once", False, "yes"),
        ("no", ("unknown", "no"), "keyed", True, "no"),
        ("no", ("yes", "no"), "keyed", True, "yes"),
        ("no", ("unknown", "no"), "safe", True, "unknown"),
    ],
)
def test_what_was_executed_is_the_strongest_of_a_call_and_its_attempts(
    said: Verdict, attempts: tuple[Verdict, ...], effect: Effect, settles_earlier: bool, executed: Verdict
) -> None:
    outcome = Outcome(reason="provider_refused", executed=said, settles_earlier=settles_earlier)
    outcome.attempts = tuple(Attempt(provider="acme", started_ms=0, duration_ms=1, reason="", executed=each) for each in attempts)
    assert executed_of(outcome, effect) == executed


def test_neither_side_of_a_join_is_changed() -> None:
    attempt = Attempt(provider="acme", started_ms=0, duration_ms=1, reason="connection_lost", executed="unknown")
    first, second = failure("connection_lost", "gone"), failure("provider_unreachable", "refused")
    first.attempts = second.attempts = (attempt,)
    assert join(first, second, "safe").attempts == (attempt, attempt)
    assert first.attempts == second.attempts == (attempt,)
    assert join(None, first, "safe") is first


# Exceptions

DATA = {
    "reason": "provider_failed",
    "executed": "unknown",
    "retry": "same_key",
    "call_id": "0123456789abcdef0123456789abcdef",
    "retry_after_ms": 1500,
    "idempotency_key": "order-17",
    "attempts": [{"provider": "acme"}],
    "status": 503,
    "body": {"error": "busy"},
}


def test_an_exception_carries_what_the_answer_said() -> None:
    error = OutcomeUnknown(5024, "the provider said 503", DATA)
    assert (error.code, error.message, error.reason, error.executed) == (
        5024,
        "the provider said 503",
        "provider_failed",
        "unknown",
    )
    assert (error.retry, error.retry_after, error.call_id) == ("same_key", 1.5, "0123456789abcdef0123456789abcdef")
    assert (error.idempotency_key, error.attempts, error.status) == ("order-17", [{"provider": "acme"}], 503)
    assert (error.body, error.data) == ({"error": "busy"}, DATA)
    assert str(error) == "the provider said 503 [5024 provider_failed, executed: unknown, retry: same_key]"


@pytest.mark.parametrize(
    "data",
    [
        None,
        "text",
        [],
        {},
        {"executed": [], "retry_after_ms": "soon", "call_id": 7, "attempts": {}, "status": "503"},
        {"executed": "maybe"},
    ],
)
def test_an_answer_of_a_stranger_makes_no_trouble(data: object) -> None:
    error = CallError(-32000, "no", data)
    assert (error.reason, error.executed, error.retry) == ("application", "unknown", "unsafe")
    assert (error.retry_after, error.call_id, error.idempotency_key, error.status, error.body) == (None, None, None, None, None)
    assert error.attempts == []


@pytest.mark.parametrize(("executed", "kind"), [("no", NotExecuted), ("unknown", OutcomeUnknown), ("yes", Executed)])
def test_the_class_says_the_verdict(executed: Verdict, kind: type[CallError]) -> None:
    assert raised_by(executed) is kind
    error = kind(1007, "said so")
    assert error.executed == executed
    assert error.retry == ("safe" if executed == "no" else "unsafe")
    assert issubclass(kind, CallError)
    assert kind(1007, "said so", executed="yes").executed == "yes"
    assert CallError(1007, "", {"executed": executed}).executed == executed


def test_a_worker_says_why_it_did_nothing() -> None:
    error = NotExecuted("the ledger is closed")
    assert (error.code, error.message, error.executed) == (5020, "the ledger is closed", "no")
    assert NotExecuted().code == 5020


@pytest.mark.parametrize("error", [NotExecuted("why"), OutcomeUnknown(5024, "503", DATA), Executed(5022, "x"), CallError(1, "m")])
def test_an_exception_crosses_between_processes(error: CallError) -> None:
    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(other) is type(error)
        assert other.__dict__ == error.__dict__
        assert str(other) == str(error)
