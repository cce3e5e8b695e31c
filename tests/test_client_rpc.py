"""client_rpc: what is asked, what an answer proves, and when to ask again."""

import dataclasses
import json
import math
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from homing.client_http import Fault, ResponseReader, lost
from homing.client_rpc import Ending, Errand, Question, encode_params, may_ask_again, read
from homing.errors import TABLE, CallError, Executed, NotExecuted, OutcomeUnknown


@dataclasses.dataclass
class Charge:
    amount: float


def reader_of(body: bytes, status: int = 200, *lines: str) -> ResponseReader:
    reader = ResponseReader()
    head = "".join(f"{line}\r\n" for line in (f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", *lines, ""))
    reader.feed(head.encode() + body)
    return reader


def errand(*questions: Question, alone: bool = True, timeout: float | None = 10.0, retries: int = 2, dice: float = 0.0) -> Errand:
    return Errand(
        list(questions) or [Question("1", "m")], 100.0, alone=alone, timeout=timeout, retries=retries, random=lambda: dice
    )


def refusal(reason: str = "overloaded", **data: object) -> Ending:
    said = {"reason": reason, "executed": "no", "retry": "safe"} | data
    body = {"jsonrpc": "2.0", "id": "1", "error": {"code": 5030, "message": "m", "data": said}}
    return Ending(reader=reader_of(json.dumps(body).encode()))


# What is asked


@pytest.mark.parametrize(
    ("params", "text"),
    [
        (None, b""),
        ({"a": [1, None, 0.1, "null"]}, b'{"a":[1,null,0.1,"null"]}'),
        ([2**70], b"[1180591620717411303424]"),
        ((1, 2), b"[1,2]"),
        ({"a": Decimal("1.10")}, b'{"a":1.10}'),
        (Charge(1.5), b'{"amount":1.5}'),
        (msgspec.Raw(b' {"a":1.10}'), b' {"a":1.10}'),
        ({"a": None, "b": Charge(1.5), "c": msgspec.Raw(b"null"), "d": b"null"}, None),
    ],
)
def test_params_are_written_as_they_are(params: object, text: bytes | None) -> None:
    encoded = encode_params(params)
    assert text is None or encoded == text


@pytest.mark.parametrize(
    ("params", "wrong"),
    [
        ({"a": math.nan}, ValueError),
        ([1, (math.inf,)], ValueError),
        ({"a": Charge(-math.inf)}, ValueError),
        (Charge(math.nan), ValueError),
        ({"a": {1.0, math.nan}}, ValueError),
        ({"a": Decimal("NaN")}, ValueError),
        ([Decimal("-Infinity")], ValueError),
        ({"a": {"b": [Decimal("sNaN1")]}}, ValueError),
        ("text", TypeError),
        (7, TypeError),
        (True, TypeError),
        (msgspec.Raw(b"  7"), TypeError),
        ({"a": object()}, TypeError),
        ({"a": "\ud800"}, ValueError),
    ],
)
def test_params_that_json_has_no_place_for_are_refused(params: object, wrong: type[Exception]) -> None:
    with pytest.raises(wrong):
        encode_params(params)


def test_params_that_hold_themselves_are_refused() -> None:
    endless: list[object] = []
    endless.append(endless)
    with pytest.raises(ValueError, match="hold themselves"):
        encode_params(endless)


def test_a_request_has_the_time_that_is_left() -> None:
    asked = errand(Question("1", "m", b"{}", "order-17"))
    assert asked.fields(101.5) == b"Homing-Timeout: 8.500\r\nIdempotency-Key: order-17\r\n"
    assert asked.body() == b'{"jsonrpc":"2.0","method":"m","params":{},"id":"1"}'
    with pytest.raises(Fault) as caught:
        asked.fields(110.0)
    assert (caught.value.reason, caught.value.sent) == ("expired", False)


@pytest.mark.parametrize("key", ["", "a b", '"a"', "ü", "a\r\nX: y", "x" * 256])
def test_a_key_that_no_header_can_carry_goes_into_the_body(key: str) -> None:
    asked = errand(Question("1", "m", b"", key))
    assert asked.fields(100.0) == b"Homing-Timeout: 10.000\r\n"
    assert json.loads(asked.body())["meta"] == {"idempotency_key": key}


@given(st.text(), st.text())
def test_no_method_and_no_key_breaks_out_of_the_envelope(method: str, key: str) -> None:
    try:
        body = errand(Question("1", method, b'{"a":1}', key), alone=False).body()
    except UnicodeEncodeError:
        return
    assert json.loads(body) == [
        {"jsonrpc": "2.0", "method": method, "params": {"a": 1}, "meta": {"idempotency_key": key}, "id": "1"}
    ]


# How long to wait


@pytest.mark.parametrize(
    ("timeout", "head", "until"),
    [
        (10.0, (), 111.0),
        (200.0, (), 302.0),
        (1000.0, (), 1103.0),
        (10.0, ("Homing-Deadline-Ms: 90000",), 111.0),
        (None, (), 403.0),
        (None, ("Homing-Deadline-Ms: 50000",), 151.0),
        (None, ("Homing-Deadline-Ms: 900000",), 1003.0),
    ],
)
def test_the_grace_is_for_the_way_there_and_back(timeout: float | None, head: tuple[str, ...], until: float) -> None:
    assert errand(timeout=timeout).give_up_at(reader_of(b"", 200, *head), 100.0) == pytest.approx(until)


# When to ask again


def test_asking_again_waits_longer_each_time_and_ends() -> None:
    asked = errand(retries=3, dice=1.0)
    assert [asked.take(refusal(), 100.0) for _ in range(4)] == [0.05, 0.1, 0.2, None]
    assert isinstance(asked.answers[0], NotExecuted)


def test_retry_after_is_the_least_to_wait() -> None:
    assert errand(dice=0.5).take(refusal(retry_after_ms=2000), 100.0) == pytest.approx(2.025)
    assert errand(dice=0.5).take(refusal(retry_after_ms=-2000), 100.0) == pytest.approx(0.025)


@pytest.mark.parametrize(("now", "fits"), [(100.0, True), (107.8, True), (107.95, False), (200.0, False)])
def test_what_does_not_fit_the_timeout_is_not_asked_again(now: float, fits: bool) -> None:
    assert (errand().take(refusal(retry_after_ms=2000), now) is not None) is fits


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.reason)
@pytest.mark.parametrize("executed", ["no", "unknown", "yes"])
@pytest.mark.parametrize("attempts", [[], [{"provider": "acme"}]])
def test_only_what_was_attempted_by_nobody_is_asked_again(row, executed, attempts) -> None:
    error = CallError(
        row.code, "m", {"reason": row.reason, "executed": executed, "retry": row.retry or "safe", "attempts": attempts}
    )
    again = may_ask_again(error)
    assert not (again and (executed != "no" or attempts or row.retry == "pointless" or row.executed != "no"))
    if row.http_status in {429, 503} and executed == "no" and not attempts:
        assert again


# What an answer proves

VERDICTS = ["no", "unknown", "yes", None, "junk"]


@given(
    status=st.sampled_from([200, 204, 401, 429, 500, 502, 503]),
    header=st.sampled_from(VERDICTS),
    said=st.sampled_from(VERDICTS),
    id=st.sampled_from(["1", "2", None, 1]),
    kind=st.sampled_from(["result", "error", "html", "nothing"]),
    alone=st.booleans(),
    listed=st.booleans(),
    fault=st.booleans(),
)
def test_no_is_never_concluded_without_proof(status, header, said, id, kind, alone, listed, fault) -> None:
    """Whatever comes back: `no` only if the head or the data says so, and `yes` likewise."""
    data = {} if said is None else {"executed": said}
    reply: dict[str, object] = {"jsonrpc": "2.0", "id": id}
    reply |= {"result": 7} if kind == "result" else {"error": {"code": 1, "message": "m", "data": data}}
    body = b"<html>" if kind == "html" else b"" if kind == "nothing" else json.dumps([reply] if listed else reply).encode()
    lines = () if header is None else (f"Homing-Executed: {header}",)
    reader = reader_of(b"" if status == 204 else body, status, *lines)
    (answer,) = read([Question("1", "m")], Ending(reader=reader, fault=lost(None) if fault else None), alone=alone)
    if not isinstance(answer, CallError):
        assert answer == b"7"
        assert (status, id, kind, listed, fault) == (200, "1", "result", not alone, False)
        return
    parsed = kind in {"result", "error"} and not fault and status != 204
    if parsed and id not in {"1", None}:
        assert answer.executed == "unknown"  # the head came with it, and speaks of the same other call
    proofs = {header, said if kind == "error" and not fault and status != 204 else None}
    if answer.executed != "unknown":
        assert answer.executed in proofs
    if answer.executed == "no":
        assert not proofs & {"unknown", "yes"} or header == "no"
    assert type(answer) is {"no": NotExecuted, "unknown": OutcomeUnknown, "yes": Executed}[answer.executed]


def test_the_advice_of_a_verdict_that_does_not_stand_is_not_passed_on() -> None:
    body = b'{"jsonrpc":"2.0","id":"1","error":{"code":1,"message":"m","data":{"executed":"no","retry":"safe"}}}'
    (answer,) = read([Question("1", "m")], Ending(reader=reader_of(body, 200, "Homing-Executed: unknown")), alone=True)
    assert isinstance(answer, OutcomeUnknown)
    assert answer.retry == "unsafe"


def test_the_heads_retry_after_counts_where_the_body_is_lost() -> None:
    reader = reader_of(b"<html>", 503, "Homing-Executed: no", "Homing-Reason: overloaded", "Retry-After: 2")
    asked = errand()
    assert asked.take(Ending(reader=reader), 100.0) == 2.0
    assert isinstance(asked.answers[0], NotExecuted)
    assert (asked.answers[0].reason, asked.answers[0].retry_after) == ("overloaded", 2)


def test_what_is_shown_of_a_body_has_a_limit() -> None:
    (answer,) = read([Question("1", "m")], Ending(reader=reader_of(b"x" * 20_000, 502)), alone=True)
    assert isinstance(answer, CallError)
    assert answer.body == "x" * 16_384
    assert isinstance(answer.data, dict)
    assert answer.data["body_truncated"] is True


def test_numbers_in_an_errors_data_do_not_hide_it() -> None:
    body = b'{"jsonrpc":"2.0","id":"1","error":{"code":4220,"message":"m","data":{"executed":"no","body":1e400}}}'
    (answer,) = read([Question("1", "m")], Ending(reader=reader_of(body)), alone=True)
    assert isinstance(answer, NotExecuted)
    assert answer.body == math.inf


def test_data_that_cannot_be_read_leaves_the_error() -> None:
    body = b'{"jsonrpc":"2.0","id":"1","error":{"code":4220,"message":"m","data":{"executed":"no","a":%s}}}' % (b"1" * 5000)
    (answer,) = read([Question("1", "m")], Ending(reader=reader_of(body)), alone=True)
    assert isinstance(answer, OutcomeUnknown)
    assert answer.code == 4220


def test_without_a_response_there_is_no_answer() -> None:
    (answer,) = read([Question("1", "m")], Ending(), alone=True)
    assert isinstance(answer, OutcomeUnknown)
    assert answer.reason == "connection_lost"


@pytest.mark.parametrize("body", [b"[", b'[{"jsonrpc":"2.0","id":"1","result":1}', b"[7, null, []]"])
def test_a_list_that_is_no_answer_is_unknown_for_each(body: bytes) -> None:
    answers = read([Question("1", "m"), Question("2", "m")], Ending(reader=reader_of(body)), alone=False)
    assert [type(answer) for answer in answers] == [OutcomeUnknown, OutcomeUnknown]
