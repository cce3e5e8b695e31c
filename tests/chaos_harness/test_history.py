"""The reckoning must see every kind of broken promise, or an hour of chaos proves nothing."""

from typing import Any

import pytest

from chaos.history import Call, Entry, Findings, check


def call(**fields: Any) -> Call:
    given = {"token": "t1", "effect": "once", "via": "gateway 0", "sent_at": 10.0, "timeout_s": 2.0, "answered_at": 11.0}
    return Call(**{**given, "heard": "ok", "result": "t1", "answers": 1, **fields})


def error(executed: str, **fields: Any) -> Call:
    return call(heard="error", executed=executed, reason="connection_lost", result="", **fields)


def entry(token: str = "t1", at: float = 10.5, **fields: Any) -> Entry:
    return Entry(at, token, "once", **fields)


def found(calls: list[Call], *ledger: Entry) -> Findings:
    return check(calls, list(ledger), late_s=0.5)


GOOD = {
    "a result": ([call()], [entry()]),
    "no, and nothing was done": ([error("no")], []),
    "unknown, and it was done": ([error("unknown")], [entry()]),
    "unknown, and it was not": ([error("unknown")], []),
    "connection lost, and it was done": ([call(heard="lost")], [entry()]),
    "not sent": ([call(heard="unsent")], []),
    "late by what its gateway stood still": ([call(answered_at=15.0, paused_s=2.6)], [entry()]),
    "late by what a client waits for its gateway": ([call(answered_at=15.0, grace_s=2.6)], [entry()]),
    "an error, and it was done": ([error("yes")], [entry()]),
    "safe, done twice": ([call(effect="safe")], [entry(), entry()]),
    "keyed, asked twice alike": (
        [call(effect="keyed")],
        [entry(key="k"), entry(key="k", body="b"), entry(key="k"), entry(key="k", body="b")],
    ),
}
BROKEN = {
    "said executed: no": ([error("no")], [entry()]),
    "said executed: no (": ([call(heard="unsent")], [entry()]),
    "no answer": ([call(heard="silence")], []),
    "2 answers": ([call(answers=2)], [entry()]),
    "after its deadline": ([call(answered_at=12.6)], [entry()]),
    "does not say whether": ([error("")], []),
    "the provider never had it": ([call()], []),
    "said executed: yes": ([error("yes")], []),
    "the result of another call": ([call(result="t2")], [entry()]),
    "had it 2 times": ([call()], [entry(), entry()]),
    "under another key": ([call(effect="keyed")], [entry(key="a"), entry(key="b")]),
    "with another body": ([call(effect="keyed")], [entry(key="a"), entry(key="a", body="x"), entry(key="a", body="y")]),
    "without a key": ([call(effect="keyed")], [entry()]),
    "no right to it": ([call(forbidden=True)], [entry()]),
    "a call that nobody made": ([call()], [entry(), entry("t9")]),
}


@pytest.mark.parametrize("name", GOOD)
def test_a_kept_promise_is_no_finding(name: str) -> None:
    calls, ledger = GOOD[name]
    assert found(calls, *ledger).broken == []


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_promise_is_found(name: str) -> None:
    calls, ledger = BROKEN[name]
    broken = found(calls, *ledger).broken
    assert len(broken) == 1
    assert name.rstrip(" (") in broken[0]


def test_the_share_of_unknown_counts_lost_connections_too() -> None:
    findings = found([call(), error("unknown", end="reset"), call(heard="lost"), error("no")], entry())
    assert (findings.unknown, findings.unknown_by_faults) == (2, 1)
    assert findings.answers == {
        "ok yes": 1,
        "connection_lost unknown": 1,
        "connection lost unknown": 1,
        "connection_lost no": 1,
    }
    assert findings.effects == 1
