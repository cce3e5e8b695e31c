"""A call that is asked twice, with one of the attempts cut: what the answers say together is never less than what was done."""

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from tests.e2e.callers import call_all, judge
from tests.e2e.houses import HOUSE, Ledger, cut_house
from tests.serving import Answer, Asked

TWICE = HOUSE.replace("in_flight_max = 1000", "in_flight_max = 1000\nretry = { attempts_max = 2 }")

AGAIN = [
    Answer(status=400),
    Answer(status=401),
    Answer(status=404),
    Answer(status=409),
    Answer(status=422, body={"error": "this key was used with another body"}),
    Answer(status=429, headers={"Retry-After": "0"}),
    Answer(status=429, headers={"Retry-After": "3600"}),
    Answer(status=503),
    Answer(drop=True),
]


@pytest.mark.parametrize("method", ["keyed.it", "safe.it"])
@pytest.mark.parametrize("how", ["reset", "close"])
def test_nothing_a_second_attempt_hears_takes_back_what_the_first_may_have_done(method: str, how: str, tmp_path: Path) -> None:
    """The first attempt is done and its response lost; whatever is said to the second, no is no answer."""
    done: Counter[int] = Counter()

    def provide(asked: Asked) -> Answer:
        number = asked.json["n"]
        done[number] += 1
        return Answer(body={}) if done[number] == 1 else AGAIN[number]

    for at in (0, 30, 100):  # nothing of the response, a part of its head, a part of its body
        done.clear()
        folder = tmp_path / str(at)
        folder.mkdir()
        with cut_house(folder, provide, TWICE) as (homing, _):
            # No more than the retry budget has from the start.
            calls = [
                (method, {"n": number, "method": method, "cut": f"cut1=response:{at}:{how}"}, 2.0) for number in range(len(AGAIN))
            ]
            heard = asyncio.run(call_all(homing.port, calls, at_once=3))
        assert all(count >= 2 for count in done.values())
        for each in heard:
            judge(each)
            assert each.executed == "unknown", each
            assert each.data["attempts"][0]["executed"] == "unknown"


@pytest.mark.parametrize("first", [Answer(status=429, headers={"Retry-After": "0"}), Answer(status=503), Answer(drop=True)])
def test_a_cut_second_attempt_is_as_unknown_as_a_first(first: Answer, tmp_path: Path) -> None:
    """The first attempt is refused; the second is done, and its response lost at some byte."""
    done: Counter[int] = Counter()
    asked_for: Counter[int] = Counter()

    def provide(asked: Asked) -> Answer:
        number = asked.json["n"]
        asked_for[number] += 1
        if asked_for[number] == 1:
            return first
        done[number] += 1
        return Answer(body={})

    with cut_house(tmp_path, provide) as (homing, surgeon):
        calls = [
            (method, {"n": number, "method": method, "cut": f"cut{turn}=response:{number * 9}:{how}"}, 3.0)
            for number, (method, turn, how) in enumerate(
                (method, turn, how)
                for method in ("keyed.it", "safe.it", "once.it")
                for turn in (2, 3)
                for how in ("reset", "close")
            )
        ]
        heard = asyncio.run(call_all(homing.port, calls, at_once=3))
    for each in heard:
        judge(each)
        if done[each.params["n"]]:
            assert each.executed != "no", each
        if each.params["method"] == "once.it":
            sent = [passage for passage in surgeon.passages if passage.number == each.params["n"]]
            assert done[each.params["n"]] <= 1
            assert len(sent) == 1 or first.status == 429, "only a proven no is asked again"


@pytest.mark.parametrize("how", ["reset", "close", "stop"])
@pytest.mark.parametrize(("way", "length"), [("request", 130), ("response", 140)])
@pytest.mark.parametrize("first", ["request:300:reset", "response:0:reset", "request:40:reset"])
def test_a_lookup_cut_at_any_byte_proves_nothing(first: str, way: str, length: int, how: str, tmp_path: Path) -> None:
    """The call is done, or only half asked, and lost; then the lookup is lost too. Only a lookup that came through says yes."""
    ledger = Ledger()
    step = 4 if how == "stop" else 3
    calls = [
        ("found.it", {"n": number, "cut": f"cut={first}", "look": f"look={way}:{at}:{how}"}, 0.8 if how == "stop" else 5.0)
        for number, at in enumerate(range(0, length, step), 1000)  # all as long
    ]
    calls += [("found.it", {"n": 2000 + number, "cut": f"cut={first}"}, 5.0) for number in range(3)]  # whose lookup is let be
    with cut_house(tmp_path, ledger) as (homing, surgeon):
        heard = asyncio.run(call_all(homing.port, calls, at_once=60))
    lookups = {passage.number: passage for passage in surgeon.passages if passage.path == "/lookup"}
    assert len(lookups) == sum(passage.path == "/lookup" for passage in surgeon.passages)
    whole = max(passage.response_bytes for passage in lookups.values())
    for each in heard:
        judge(each)
        number = each.params["n"]
        assert ledger.done[number] <= 1
        came = number in lookups and lookups[number].response_bytes == whole
        if each.executed == "no":
            assert each.data["reason"] == "expired", "it did not come to be asked"
            assert not any(passage.number == number for passage in surgeon.passages)
        elif came and ledger.done[number] and each.took_s < each.asked_s:
            assert each.executed == "yes", (each, lookups[number])
        else:
            assert each.executed == "unknown" or (came and ledger.done[number]), each
    assert any(lookup.cut for lookup in lookups.values())
    assert not all(lookup.cut for lookup in lookups.values())
