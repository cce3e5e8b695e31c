"""`rpc`: statuses and header fields of JSON-RPC over HTTP, to the letter."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from homing.edges import rpc
from homing.errors import TABLE, Attempt, Outcome, failure

ID = "0123456789abcdef0123456789abcdef"
ORIGINS = frozenset({"https://shop.example"})
OK = Outcome(reason="ok", executed="yes", result=b'{"a":1}')
ATTEMPT = Attempt(provider="acme", started_ms=0, duration_ms=1, reason="provider_unreachable", executed="no")


@dataclass
class Request:
    method: str = "POST"
    path: str = "/rpc"
    headers: dict[bytes, bytes] = field(default_factory=dict)
    answers: list[tuple[int, dict[str, str], bytes]] = field(default_factory=list)

    def header(self, name: bytes) -> bytes | None:
        return self.headers.get(name)

    def answer(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
        self.answers.append((status, named(headers), body))

    refuse = answer


def named(headers: Sequence[tuple[bytes, bytes]]) -> dict[str, str]:
    names = [name.lower() for name, _ in headers]
    assert len(set(names)) == len(names), names
    return {name.decode(): value.decode() for name, value in headers}


def early(request: Request, *, health: bool = False) -> tuple[int, dict[str, str], Any] | None:
    if not rpc.refuse_early(request, ORIGINS, health=health):
        assert not request.answers
        return None
    ((status, headers, body),) = request.answers
    if status == 204:
        assert body == b""
        return status, headers, None
    answer = json.loads(body)
    assert answer["id"] is None
    assert headers["Homing-Executed"] == "no" == answer["error"]["data"]["executed"]
    assert headers["Homing-Reason"] == answer["error"]["data"]["reason"]
    assert headers["Homing-Retry"] == answer["error"]["data"]["retry"] == "pointless"
    assert headers["Homing-Call-Id"] == answer["error"]["data"]["call_id"]
    assert re.fullmatch("[0-9a-f]{32}", headers["Homing-Call-Id"])
    assert headers["Content-Type"] == "application/json"
    return status, headers, answer


# Before the body


@pytest.mark.parametrize("path", ["/", "/rpc"])
@pytest.mark.parametrize(
    "kind",
    [
        None,
        b"application/json",
        b"application/json-rpc",
        b"application/jsonrequest",
        b"Application/JSON; charset=utf-8",
        b"application/json ;charset=UTF-8",
    ],
)
def test_a_call_passes(path: str, kind: bytes | None) -> None:
    assert early(Request(path=path, headers={} if kind is None else {b"content-type": kind})) is None


@pytest.mark.parametrize(
    "kind", [b"text/plain", b"application/x-www-form-urlencoded", b"", b"application/json, text/plain", b"json"]
)
def test_another_type_is_told_what_to_add(kind: bytes) -> None:
    found = early(Request(headers={b"content-type": kind}))
    assert found is not None
    assert found[0] == 415
    assert "Content-Type: application/json" in found[2]["error"]["message"]
    assert found[1]["Homing-Reason"] == "invalid_request"


@pytest.mark.parametrize("coding", [b"gzip", b"identity", b""])
def test_any_content_coding_is_refused(coding: bytes) -> None:
    found = early(Request(headers={b"content-encoding": coding}))
    assert found is not None
    assert found[0] == 415
    assert found[1]["Accept-Encoding"] == "identity"


@pytest.mark.parametrize("path", ["/rpc/", "/RPC", "/livez", "*", "//", "/%72pc"])
def test_nothing_is_elsewhere(path: str) -> None:
    found = early(Request(path=path))
    assert found is not None
    assert found[0] == 404


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "TRACE"])
def test_calls_are_posted(method: str) -> None:
    found = early(Request(method=method))
    assert found is not None
    assert (found[0], found[1]["Allow"]) == (405, "POST, OPTIONS")


def test_health_is_left_to_who_knows() -> None:
    for path in ("/livez", "/readyz"):
        for method in ("GET", "HEAD"):
            assert early(Request(method, path), health=True) is None
        found = early(Request("POST", path), health=True)
        assert found is not None
        assert (found[0], found[1]["Allow"]) == (405, "GET, HEAD")
    assert early(Request("GET", "/health"), health=True) is not None


@pytest.mark.parametrize(
    "origin", [b"https://evil.example", b"null", b"https://shop.example.evil", b"http://shop.example", b"\xff"]
)
@pytest.mark.parametrize("method", ["POST", "OPTIONS"])
def test_a_foreign_origin_is_refused(origin: bytes, method: str) -> None:
    found = early(Request(method, headers={b"origin": origin}))
    assert found is not None
    assert (found[0], found[1]["Homing-Reason"], found[1]["Vary"]) == (403, "forbidden", "Origin")
    assert not [name for name in found[1] if name.startswith("Access-Control")]


def test_an_origin_that_is_our_own_host_is_foreign_all_the_same() -> None:
    """A name that an attacker points at 127.0.0.1 is the same in both."""
    request = Request(headers={b"origin": b"http://rebound.example:8370", b"host": b"rebound.example:8370"})
    found = early(request)
    assert found is not None
    assert found[0] == 403


def test_an_allowed_origin_may_call_and_read_the_answer() -> None:
    request = Request(headers={b"origin": b"https://shop.example"})
    assert early(request) is None
    headers = named(rpc.cors_headers(request, ORIGINS))
    assert headers["Access-Control-Allow-Origin"] == "https://shop.example"
    assert headers["Vary"] == "Origin"
    assert "Homing-Executed" in headers["Access-Control-Expose-Headers"]
    assert rpc.cors_headers(request, frozenset()) == []
    assert rpc.cors_headers(Request(), ORIGINS) == []
    refused = early(Request("GET", headers=request.headers))
    assert refused is not None
    assert refused[1]["Access-Control-Allow-Origin"] == "https://shop.example"


def test_a_preflight_is_answered() -> None:
    found = early(Request("OPTIONS", headers={b"origin": b"https://shop.example", b"access-control-request-method": b"POST"}))
    assert found is not None
    assert found[0] == 204
    assert found[1]["Access-Control-Allow-Origin"] == "https://shop.example"
    assert found[1]["Access-Control-Allow-Methods"] == "POST"
    for name in ("Authorization", "Content-Type", "Homing-Timeout", "Idempotency-Key"):
        assert name in found[1]["Access-Control-Allow-Headers"]


def test_an_allowed_page_may_read_why_http_itself_refuses() -> None:
    for status in (400, 408, 413, 431, 503):
        headers = named(rpc.refusal(status, "No.", None, b"https://shop.example", origins=ORIGINS)[0])
        assert headers["Access-Control-Allow-Origin"] == "https://shop.example"
        for origin in (None, b"https://evil.example", b"\xff"):
            headers = named(rpc.refusal(status, "No.", None, origin, origins=ORIGINS)[0])
            assert "Access-Control-Allow-Origin" not in headers
    for method, path in (("POST", "/elsewhere"), ("POST", "/livez")):
        found = early(Request(method, path, headers={b"origin": b"https://shop.example"}), health=True)
        assert found is not None
        assert found[1]["Access-Control-Allow-Origin"] == "https://shop.example"


def test_options_without_an_origin_says_what_is_allowed() -> None:
    found = early(Request("OPTIONS"))
    assert found is not None
    assert (found[0], found[1]) == (204, {"Allow": "POST, OPTIONS"})


@pytest.mark.parametrize(
    ("status", "limit", "reason"),
    [
        (400, None, "invalid_request"),
        (408, "gateway.timeout.header", "invalid_request"),
        (411, None, "invalid_request"),
        (413, "gateway.body_max", "too_large"),
        (414, "gateway.header_bytes_max", "too_large"),
        (417, None, "invalid_request"),
        (431, "gateway.header_count_max", "too_large"),
        (501, None, "invalid_request"),
        (505, None, "invalid_request"),
        (503, "gateway.held_bytes_max", "overloaded"),
    ],
)
def test_what_http_refuses_has_a_json_rpc_error(status: int, limit: str | None, reason: str) -> None:
    fields, body = rpc.refusal(status, "Why.", limit)
    headers, answer = named(fields), json.loads(body)
    assert answer["jsonrpc"] == "2.0"
    assert answer["id"] is None
    assert answer["error"]["message"] == "Why."
    data = answer["error"]["data"]
    assert (data["reason"], data["executed"], data.get("limit")) == (reason, "no", limit)
    assert (headers["Homing-Reason"], headers["Homing-Executed"]) == (reason, "no")
    assert headers["Homing-Retry"] == data["retry"] == ("safe" if status == 503 else "pointless")
    assert headers["Homing-Call-Id"] == data["call_id"]
    assert headers.get("Retry-After") == ("1" if status == 503 else None)
    assert data.get("retry_after_ms") == (1000 if status == 503 else None)


def test_every_refusal_has_an_id_of_its_own() -> None:
    assert rpc.refusal(400, "", None)[1] != rpc.refusal(400, "", None)[1]


# Single calls


def single(outcome: Outcome, id: bytes | None = b"1", timeout_ms: int = 60_000) -> tuple[int, dict[str, str], Any]:
    status, fields, body = rpc.single(outcome, id, ID, timeout_ms)
    return status, named(fields), json.loads(body) if body else None


def test_success_says_so() -> None:
    assert single(OK, b'"x"') == (
        200,
        {
            "Content-Type": "application/json",
            "Homing-Call-Id": ID,
            "Homing-Reason": "ok",
            "Homing-Executed": "yes",
            "Homing-Retry": "pointless",
            "Homing-Deadline-Ms": "60000",
        },
        {"jsonrpc": "2.0", "id": "x", "result": {"a": 1}},
    )


# By hand: nothing here is taken from the table it checks.
REFUSED = {
    "unauthenticated": 401,
    "forbidden": 403,
    "too_large": 413,
    "rate_limited": 429,
    "overloaded": 503,
    "no_worker": 503,
    "draining": 503,
    "circuit_open": 503,
    "journal_unavailable": 503,
}


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.reason)
def test_a_status_that_is_not_200_proves_that_nothing_was_executed(row: Any) -> None:
    expected = REFUSED.get(row.reason, 200)
    status, headers, answer = single(failure(row.reason, "Why."))
    assert status == expected
    assert headers["Homing-Reason"] == row.reason == answer["error"]["data"]["reason"]
    assert headers["Homing-Executed"] == answer["error"]["data"]["executed"]
    assert headers["Homing-Retry"] == answer["error"]["data"]["retry"]
    assert headers["Homing-Call-Id"] == answer["error"]["data"]["call_id"] == ID
    if status != 200:
        assert headers["Homing-Executed"] == "no"
    assert ("WWW-Authenticate" in headers) is (status == 401)
    assert ("Retry-After" in headers) is (status in {429, 503})
    # after the grant it is another matter
    for later in (
        Outcome(reason=row.reason, executed="no", attempts=(ATTEMPT,)),
        Outcome(reason=row.reason, executed="no", status=500),
        Outcome(reason=row.reason, executed="unknown"),
        Outcome(reason=row.reason, executed="yes"),
    ):
        assert single(later)[0] == 200


@pytest.mark.parametrize(("after_ms", "seconds"), [(None, "1"), (0, "1"), (1, "1"), (1000, "1"), (1001, "2"), (59_999, "60")])
@pytest.mark.parametrize("reason", ["rate_limited", "overloaded", "draining"])
def test_retry_after_is_in_whole_seconds_rounded_up(after_ms: int | None, seconds: str, reason: str) -> None:
    assert single(failure(reason, "", retry_after_ms=after_ms))[1]["Retry-After"] == seconds


def test_what_settled_says_what_may_be_done_about_it() -> None:
    assert single(Outcome(reason="connection_lost", executed="unknown", retry="same_key"))[1]["Homing-Retry"] == "same_key"
    assert single(Outcome(reason="connection_lost", executed="unknown"))[1]["Homing-Retry"] == "unsafe"
    assert single(Outcome(reason="application", executed="unknown", code=7))[1]["Homing-Reason"] == "application"


def test_no_timeout_is_told_where_none_was_granted() -> None:
    assert "Homing-Deadline-Ms" not in single(failure("parse_error", ""), b"null", 0)[1]


def test_a_null_id_is_answered() -> None:
    assert single(OK, b"null")[2] == {"jsonrpc": "2.0", "id": None, "result": {"a": 1}}


def test_a_notification_is_not_answered() -> None:
    assert single(OK, None) == (204, {"Homing-Call-Id": ID, "Homing-Deadline-Ms": "60000"}, None)
    status, headers, body = single(failure("method_not_found", ""), None, 0)
    assert (status, body) == (204, None)
    assert headers == {
        "Homing-Call-Id": ID,
        "Homing-Reason": "method_not_found",
        "Homing-Executed": "no",
        "Homing-Retry": "pointless",
    }


@pytest.mark.parametrize("reason", REFUSED)
def test_a_notification_is_told_what_applies_to_the_whole_body(reason: str) -> None:
    status, headers, answer = single(failure(reason, ""), None, 0)
    assert status == REFUSED[reason]
    assert headers["Homing-Executed"] == "no"
    assert answer["id"] is None


def test_success_in_one_piece_says_the_same() -> None:
    for result in (b"", b'{"a":1}'):
        status, fields, body = rpc.single(Outcome(reason="ok", executed="yes", result=result), b'"x"', "c" * 32, 5000)
        assert status == 200
        assert rpc.success(result, b'"x"', "c" * 32, 5000) == (b"".join(b"%b: %b\r\n" % field for field in fields), body)


def test_a_heartbeat_tells_what_is_known() -> None:
    assert named(rpc.heartbeat_headers(ID, 5)) == {
        "Content-Type": "application/json",
        "Homing-Call-Id": ID,
        "Homing-Deadline-Ms": "5",
    }
    assert named(rpc.heartbeat_headers(None, 5)) == {"Content-Type": "application/json"}


# Batches


def batch(*items: tuple[bytes | None, Outcome]) -> tuple[int, dict[str, str], Any]:
    status, fields, body = rpc.batch([(*item, f"{number:032x}") for number, item in enumerate(items)])
    return status, named(fields), json.loads(body) if body else None


def test_a_batch_is_answered_in_its_order_without_its_notifications() -> None:
    status, headers, answers = batch((b"3", OK), (None, OK), (b"1", failure("invalid_params", "")), (b"null", OK))
    assert (status, headers) == (200, {"Content-Type": "application/json", "Homing-Errors": "1"})
    assert [answer["id"] for answer in answers] == [3, 1, None]
    assert answers[1]["error"]["data"]["call_id"] == f"{2:032x}"


def test_a_batch_of_notifications_is_not_answered() -> None:
    assert batch((None, OK), (None, failure("method_not_found", ""))) == (204, {}, None)


@pytest.mark.parametrize("reason", REFUSED)
def test_a_batch_refused_as_a_whole_says_so_in_its_status(reason: str) -> None:
    refused = failure(reason, "", retry_after_ms=100)
    status, headers, answers = batch((b"1", refused), (None, refused), (b"2", failure(reason, "", retry_after_ms=2500)))
    assert status == REFUSED[reason]
    assert headers["Homing-Errors"] == "2"
    assert (headers["Homing-Reason"], headers["Homing-Executed"]) == (reason, "no")
    assert headers["Homing-Retry"] == answers[0]["error"]["data"]["retry"]
    assert [answer["id"] for answer in answers] == [1, 2]
    assert headers.get("Retry-After") == ("3" if status in {429, 503} else None)
    assert ("WWW-Authenticate" in headers) is (status == 401)
    status, headers, answer = batch((None, refused))
    assert (status, headers["Homing-Errors"], answer["id"]) == (REFUSED[reason], "1", None)


@pytest.mark.parametrize(
    "other",
    [
        OK,
        failure("draining", ""),
        failure("invalid_request", ""),
        Outcome(reason="overloaded", executed="no", attempts=(ATTEMPT,)),
        Outcome(reason="overloaded", executed="unknown"),
    ],
    ids=["ok", "another reason", "junk", "attempted", "unknown"],
)
def test_a_batch_refused_in_part_is_200(other: Outcome) -> None:
    refused = failure("overloaded", "")
    for items in ([(b"1", refused), (b"2", other)], [(b"1", other), (b"2", refused)], [(b"1", refused), (None, other)]):
        status, headers, _ = batch(*items)
        assert status == 200
        assert "Homing-Executed" not in headers


def test_a_batch_over_the_limit_is_one_array_with_one_error() -> None:
    status, headers, answers = batch((b"null", failure("too_large", "", limit="gateway.batch_length_max")))
    assert (status, headers["Homing-Executed"]) == (413, "no")
    assert len(answers) == 1
    assert answers[0]["error"]["data"]["limit"] == "gateway.batch_length_max"
