"""What the callers heard, held against what the provider's ledger has. Pure: tests give it both."""

from collections import Counter
from typing import Literal, TypeAlias

import msgspec

from homing.errors import Effect

Heard: TypeAlias = Literal[
    "ok",  # a result
    "error",  # a JSON-RPC error, which says `executed`
    "lost",  # the connection to the gateway broke before the answer: the caller knows nothing
    "unsent",  # no connection, or a client that was closed: the caller knows that nothing happened
    "silence",  # no answer, long after the deadline
]

LEAVES_UNKNOWN = ("reset", "hang", "half", "fail", "error", "break", "die", "hold")  # nobody can know after these


class Entry(msgspec.Struct, frozen=True):
    """One request that the provider has begun to carry out, written as soon as its head is read.

    Where `body` is there, it is what the rest of a request under a key turned out to be: no request of its own.
    """

    at: float
    token: str
    method: str
    key: str = ""
    body: str = ""


class Call(msgspec.Struct, kw_only=True):
    """One call as its caller saw it. Instants are those of the machine's monotonic clock, which all processes share.

    `paused_s` is how long its gateway, or the caller itself, stood still meanwhile, and `grace_s` how long a client waits for a gateway
    that says nothing: that long an answer may be late. `via` is the door, and `end` what the provider was told to do.
    """

    token: str
    effect: Effect
    via: str
    sent_at: float
    timeout_s: float
    heard: Heard = "silence"
    answered_at: float = 0.0
    answers: int = 0
    executed: str = ""
    reason: str = ""
    result: str = ""
    paused_s: float = 0.0
    grace_s: float = 0.0
    forbidden: bool = False  # its caller has no right to it
    end: str = "ok"


class Findings(msgspec.Struct):
    """What a history amounts to: broken promises, each in a sentence, and how the calls ended."""

    broken: list[str] = []
    answers: Counter[str] = msgspec.field(default_factory=Counter)
    effects: int = 0
    calls: int = 0
    unknown: int = 0  # callers who were left not knowing …
    unknown_by_faults: int = 0  # … and not because of what the provider did


def check(calls: list[Call], ledger: list[Entry], *, late_s: float) -> Findings:
    """Hold the history against the ledger. An answer may come `late_s` after its deadline, which is for the way back."""
    found = Findings(calls=len(calls), effects=sum(not entry.body for entry in ledger))
    entries: dict[str, list[Entry]] = {}
    for entry in ledger:
        entries.setdefault(entry.token, []).append(entry)
    for call in calls:
        done = entries.get(call.token, [])
        ending = _ending(call)
        found.answers[ending] += 1
        if ending.endswith(" unknown"):
            found.unknown += 1
            found.unknown_by_faults += call.end not in LEAVES_UNKNOWN
        found.broken += [f"{call.token} ({call.effect}, {call.via}): {what}" for what in _wrongs(call, done, late_s)]
    known = {call.token for call in calls}
    found.broken += [f"{token}: the provider was asked for a call that nobody made" for token in entries if token not in known]
    return found


def noticed(calls: list[Call]) -> list[str]:
    """Who has noticed anything, where nobody may: what should have succeeded, and did not."""
    return [
        f"{call.token} ({call.effect}, {call.via}): {_ending(call)}"
        for call in calls
        if call.heard != "ok" and not call.forbidden
    ]


def _ending(call: Call) -> str:
    """How it ended, in two or three words; the last is what the caller may believe."""
    if call.heard == "ok":
        return "ok yes"
    if call.heard == "error":
        return f"{call.reason} {call.executed}"
    return {"lost": "connection lost unknown", "unsent": "not sent no", "silence": "silence unknown"}[call.heard]


def _wrongs(call: Call, entries: list[Entry], late_s: float) -> list[str]:
    wrongs: list[str] = []
    done = [entry for entry in entries if not entry.body]
    if call.heard == "silence":
        wrongs.append(f"no answer {call.timeout_s:.1f} s after it was sent, nor long after that")
    if call.answers > 1:
        wrongs.append(f"{call.answers} answers")
    if call.heard in ("ok", "error"):
        over_s = call.answered_at - call.sent_at - call.timeout_s - call.paused_s - call.grace_s
        if over_s > late_s:
            wrongs.append(f"answered {over_s:.2f} s after its deadline ({_ending(call)})")
    if done and (call.heard == "unsent" or (call.heard == "error" and call.executed == "no")):
        wrongs.append(f"said executed: no ({call.reason}), and the provider had it at {done[0].at - call.sent_at:+.2f} s")
    if call.heard == "error" and call.executed not in ("no", "unknown", "yes"):
        wrongs.append(f"an error that does not say whether it was executed: {call.executed!r}")
    if call.heard == "ok" and not done:
        wrongs.append("a result, and the provider never had it")
    if call.heard == "error" and call.executed == "yes" and not done:
        wrongs.append(f"said executed: yes ({call.reason}), and the provider never had it")
    if call.heard == "ok" and call.result != call.token:
        wrongs.append(f"the result of another call: {call.result!r}")
    if call.forbidden and (done or call.heard == "ok"):
        wrongs.append("carried out for somebody who has no right to it")
    if call.effect == "once" and len(done) > 1:
        times = ", ".join(f"{entry.at - call.sent_at:+.2f} s" for entry in done)
        wrongs.append(f"once, and the provider had it {len(done)} times: {times}")
    if call.effect == "keyed" and len({entry.key for entry in entries}) > 1:
        wrongs.append("keyed, and asked again under another key")
    if call.effect == "keyed" and len({entry.body for entry in entries if entry.body}) > 1:
        wrongs.append("keyed, and asked again with another body")
    if call.effect == "keyed" and any(not entry.key for entry in entries):
        wrongs.append("keyed, and asked without a key")
    return wrongs
