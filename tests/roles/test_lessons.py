"""What a gateway learns from workers, and what it does not."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from homing.core.messages import MethodOffer
from homing.roles.lessons import LINES_MAX, LINES_S, NAMES_MAX, WARNED_MAX, Lessons, compile_offer, listed
from homing.telemetry import Log

BUILD = MethodOffer("reports.build", "reports", "safe", 60_000, "Build a report", b'{"required":["year"]}', ("year",))

TWICE = {i: {"anyOf": [{"$ref": f"#/$defs/{i + 1}"}] * 2} for i in range(20)}
DOUBLING = json.dumps({"$defs": {**TWICE, 20: {}}, "properties": {"x": {"$ref": "#/$defs/0"}}}).encode()


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    with (tmp_path / "log.jsonl").open("wb", buffering=0) as file:
        log = Log(file.fileno(), human=False)
        log.flush_with(lambda: None)
        yield log
        log.close()


def lines(log: Log) -> list[bytes]:
    return list(log._pending)


def test_an_offer_is_a_method_that_validates() -> None:
    method, why = compile_offer(BUILD)
    assert not why
    assert method is not None
    assert (method.name, method.service, method.effect, method.deadline_s) == ("reports.build", "reports", "safe", 60.0)
    assert (method.summary, method.positional, method.provider) == ("Build a report", ("year",), None)
    assert method.validate([2026])[1] == ()
    assert method.validate({})[1]


def test_an_offer_without_a_schema_or_a_time_takes_anything_for_as_long_as_anything() -> None:
    method, _ = compile_offer(MethodOffer("a.b", "a"))
    assert method is not None
    assert (method.deadline_s, method.effect) == (None, "once")
    assert method.validate({"x": 1}) == ({"x": 1}, ())


@pytest.mark.parametrize(
    ("offer", "why"),
    [
        (MethodOffer("a.b", "a", params=b"{"), "truncated"),
        (MethodOffer("a.b", "a", params=b'{"type": 7}'), "params"),
        (MethodOffer("a.b", "a", params=b'{"$ref": "http://far.example/s.json"}'), "params"),
        (MethodOffer("a.b", "a", params=b"[" * 5000), "deep|recursion|truncated"),
        (MethodOffer("a.b", "a", params=DOUBLING), "multiply"),
        (MethodOffer("a.b", ""), "who answers it"),
        (MethodOffer("", "a"), "empty"),
        (MethodOffer("rpc.x", "a"), "JSON-RPC keeps"),
    ],
    ids=["no-json", "no-schema", "fetches", "deep", "explodes", "no-service", "no-name", "kept-name"],
)
def test_a_bad_offer_is_told_once_and_left_out(offer: MethodOffer, why: str, log: Log) -> None:
    assert compile_offer(offer)[0] is None
    lessons = Lessons(configured=(), log=log)
    assert list(lessons.take([offer, BUILD])) == ["reports.build"]
    assert list(lessons.take([BUILD, offer])) == ["reports.build"]
    (line,) = lines(log)
    assert b"is left out" in line
    assert re.search(why, line.decode(), re.IGNORECASE)


def test_configured_names_win_and_of_two_offers_the_first(log: Log) -> None:
    lessons = Lessons(configured={"reports.build"}, log=log)
    one, other = MethodOffer("a.b", "a"), MethodOffer("a.b", "z")
    learnt = lessons.take([BUILD, one, other])
    assert list(learnt) == ["a.b"]
    assert learnt["a.b"].service == "a"


def test_what_was_compiled_is_kept_and_what_went_is_gone(log: Log) -> None:
    lessons = Lessons(configured=(), log=log)
    first = lessons.take([BUILD])["reports.build"]
    assert lessons.take([MethodOffer("a.b", "a"), BUILD])["reports.build"] is first
    assert lessons.take([]) == {}
    assert lessons.take([BUILD])["reports.build"] is not first


def test_what_was_told_is_remembered_within_bounds(log: Log) -> None:
    lessons = Lessons(configured=(), log=log)
    lessons.take([MethodOffer(f"rpc.{number}", "a") for number in range(WARNED_MAX + 5)])
    assert len(lessons._warned) == WARNED_MAX


def test_many_wrong_offers_do_not_fill_the_log(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    lessons = Lessons(configured=(), log=log)
    for turn in range(3):
        lessons.take([MethodOffer(f"rpc.{turn}.{number}", "a") for number in range(5000)])
    assert len(lines(log)) == LINES_MAX
    assert not lessons.may_tell()
    now += LINES_S
    lessons.take([MethodOffer("rpc.later", "a")])
    assert len(lines(log)) == LINES_MAX + 1


def test_what_is_wrong_with_an_offer_is_told_in_a_line_of_some_length(log: Log) -> None:
    Lessons(configured=(), log=log).take([MethodOffer("a.b", "a", params=b'{"type":["%s"]}' % (b"x" * 100_000))])
    (line,) = lines(log)
    assert len(line) < 1000


def test_methods_are_listed_by_name_up_to_a_number() -> None:
    assert listed([]) == "no methods of their own"
    assert listed(["a.b", "a.c"]) == "a.b, a.c"
    assert listed([str(number) for number in range(NAMES_MAX + 7)]).endswith(f", {NAMES_MAX - 1} and 7 more")
