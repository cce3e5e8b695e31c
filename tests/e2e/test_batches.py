"""Batches and pipelines: what one call of many became is never said of another, and an HTTP refusal proves that none was begun."""

import json
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from homing import Client, NotExecuted, OutcomeUnknown
from tests.serving import Answer, Asked, Reply, Serving

HOUSE = """
[gateway]
anonymous = ["open.*"]
deadline = { default = "5s", max = "8s" }
in_flight_max = 400
[broker]
queue_length_max = 100
[providers.acme]
base_url = "{provider}"
in_flight_max = 20
breaker = { window = "1s", calls_min = 1000000, failure_ratio = 1.0, open_for = "1s" }
[methods."open.once"]
provider = "acme"
request = "POST /once"
[methods."open.safe"]
provider = "acme"
effect = "safe"
request = "POST /safe"
[methods."closed.once"]
provider = "acme"
request = "POST /once"
"""


class Fate:
    """Each call names its fate in its params; what was asked is in the log."""

    def __init__(self) -> None:
        self.asked: Counter[int] = Counter()
        self._lock = threading.Lock()

    def __call__(self, asked: Asked) -> Answer:
        number, fate = asked.json["n"], asked.json["fate"]
        with self._lock:
            self.asked[number] += 1
        if fate == "drop":
            return Answer(drop=True)
        if fate == "never":
            return Answer(never=True)
        if isinstance(fate, int):
            return Answer(status=fate)
        return Answer(body={"n": number}, after_s=asked.json.get("after", 0.0))


@pytest.fixture
def fate() -> Fate:
    return Fate()


@pytest.fixture
def homing(fate: Fate, tmp_path: Path) -> Iterator[Serving]:
    with Serving(HOUSE, tmp_path, fate) as homing:
        yield homing
        process = homing.process
        until = time.monotonic() + 12
        while len(process.calls) or len(process.gateway) or len(process.broker) or len(process.worker):
            assert time.monotonic() < until
            time.sleep(0.02)


def call(number: int, fate: Any = "ok", method: str = "open.once", **more: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": {"n": number, "fate": fate, **more}}


def send(homing: Serving, *calls: Any, **headers: str) -> Reply:
    return homing.post(json.dumps(list(calls)).encode(), **headers)


def executed(answer: dict[str, Any]) -> str:
    return "yes" if "result" in answer else answer["error"]["data"]["executed"]


FATES: list[Any] = ["ok", "drop", "never", 422, 429, 500, 503, 401, 302]


@pytest.mark.parametrize("seed", range(6))
def test_whatever_the_mixture_each_is_told_its_own(seed: int, homing: Serving, fate: Fate) -> None:
    luck = random.Random(seed)
    calls: list[Any] = []
    for number in range(60):
        kind = luck.random()
        if kind < 0.7:
            calls.append(call(number, luck.choice(FATES), luck.choice(["open.once", "open.safe"]), after=luck.random() / 10))
        elif kind < 0.8:
            calls.append(luck.choice([7, {}, "x", [], None, {"jsonrpc": "2.0", "id": number}]))
        elif kind < 0.9:
            calls.append(call(number, "ok", "closed.once"))
        else:
            calls.append(call(number, "ok", "open.nothing"))
    reply = send(homing, *calls, Homing_Timeout="1.5")
    assert reply.status == 200
    assert len(reply.json) == len(calls)
    assert reply.headers["homing-errors"] == str(sum("error" in answer for answer in reply.json))
    assert "homing-executed" not in reply.headers, "no one word is true of all"
    for asked, answer in zip(calls, reply.json, strict=True):
        if not isinstance(asked, dict) or "params" not in asked:
            assert answer["error"]["code"] == -32600
            continue
        number = asked["id"]
        assert answer["id"] == number
        if "result" in answer:
            assert answer["result"] == {"n": number}
        if (
            asked["params"]["fate"] in ("drop", "never", 500, 503, 302)
            and asked["method"].startswith("open.")
            and fate.asked[number]
        ):
            assert executed(answer) == "unknown"
        if asked["method"] != "open.safe":
            assert fate.asked[number] <= (3 if asked["params"]["fate"] == 429 else 1)
        if asked["method"] == "closed.once":
            assert answer["error"]["data"]["reason"] == "unauthenticated"
            assert not fate.asked[number]


@pytest.mark.parametrize("fates", [["drop"], ["never"], [500], ["drop", "never", 503, 429]])
def test_where_something_was_begun_no_status_says_otherwise(fates: list[Any], homing: Serving) -> None:
    """Every call ends in an error, some with homing's own reasons, and none of that is an HTTP refusal."""
    calls = [call(number, fates[number % len(fates)]) for number in range(8)]
    reply = send(homing, *calls, call(90, "ok", "closed.once"), Homing_Timeout="0.7")
    assert reply.status == 200
    assert all("error" in answer for answer in reply.json)


def test_only_where_nothing_was_begun_is_it_a_refusal(homing: Serving, fate: Fate) -> None:
    reply = send(homing, *(call(number, "ok", "closed.once") for number in range(5)))
    assert (reply.status, reply.headers["homing-executed"], reply.headers["homing-errors"]) == (401, "no", "5")
    assert [answer["id"] for answer in reply.json] == list(range(5))
    mixed = send(homing, call(10), *(call(number, "ok", "closed.once") for number in range(5)))
    assert mixed.status == 200
    assert fate.asked[10] == 1


def test_a_batch_that_overflows_the_queue(homing: Serving, fate: Fate) -> None:
    """Twenty run, a hundred wait, the rest is refused; a second like it, while the first fills everything, is refused as a whole."""
    first: list[Reply] = []
    filling = threading.Thread(target=lambda: first.append(send(homing, *(call(number, after=0.4) for number in range(300)))))
    filling.start()
    until = time.monotonic() + 10
    while len(fate.asked) < 20:
        assert time.monotonic() < until
    refused = send(homing, *(call(number) for number in range(1000, 1010)))
    filling.join(20)
    said = Counter(executed(answer) for answer in first[0].json)
    assert (first[0].status, said["no"] + said["yes"]) == (200, 300)
    for answer in first[0].json:
        assert fate.asked[answer["id"]] == (1 if "result" in answer else 0)
    if refused.status == 503:
        assert refused.headers["homing-executed"] == "no"
        assert int(refused.headers["retry-after"]) >= 1
        assert not any(fate.asked[number] for number in range(1000, 1010))
    for answer in refused.json:
        assert fate.asked[answer["id"]] == (1 if "result" in answer else 0)


def test_a_thousand_at_once_that_fit(tmp_path: Path, fate: Fate) -> None:
    text = HOUSE.replace("queue_length_max = 100", "queue_length_max = 5000").replace(
        "in_flight_max = 400", "in_flight_max = 5000"
    )
    with Serving(text, tmp_path, fate) as homing:
        reply = send(homing, *(call(number, pad="x" * 100) for number in range(1000)))
    assert [answer["result"]["n"] for answer in reply.json] == list(range(1000))
    assert fate.asked == dict.fromkeys(range(1000), 1)


def test_equal_ids_are_the_callers_affair(homing: Serving) -> None:
    reply = send(homing, *({**call(number), "id": "same"} for number in range(5)))
    assert [(answer["id"], answer["result"]["n"]) for answer in reply.json] == [("same", number) for number in range(5)]


def test_a_batch_whose_caller_hangs_up(homing: Serving, fate: Fate) -> None:
    """What was begun ends; what had not begun never does."""
    body = json.dumps([call(number, after=0.3) for number in range(60)]).encode()
    with socket.create_connection(("127.0.0.1", homing.port), 10) as caller:
        caller.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        until = time.monotonic() + 10
        while len(fate.asked) < 20:
            assert time.monotonic() < until
    homing.stop_soon()
    homing.join()
    lines = {line["call_id"]: line for line in homing.log_lines() if line["event"] == "call"}
    said = Counter((line["reason"], line["executed"]) for line in lines.values())
    assert sum(said.values()) == 60
    assert said["ok", "yes"] == len(fate.asked)
    assert said["ok", "yes"] + said["cancelled", "no"] == 60


def test_a_pipeline_with_everything_in_it(homing: Serving, fate: Fate) -> None:
    """Slow before quick, refusals between, and at the end something that is no HTTP at all: answers come in order, then the end."""
    requests = []
    for number, (what, after) in enumerate([("ok", 0.3), ("ok", 0.0), (422, 0.0), ("drop", 0.0), ("ok", 0.1)]):
        body = json.dumps(call(number, what, after=after)).encode()
        requests.append(b"POST /rpc HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    requests.insert(2, b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n")
    with socket.create_connection(("127.0.0.1", homing.port), 10) as caller, caller.makefile("rb") as answers:
        caller.sendall(b"".join(requests) + b"NONSENSE\r\n\r\n")
        got = answers.read()
    parts = got.split(b"HTTP/1.1 ")[1:]
    assert [int(part[:3]) for part in parts] == [200, 200, 404, 200, 200, 200, 400]
    ids = [json.loads(part.partition(b"\r\n\r\n")[2])["id"] for part in parts]
    assert ids == [0, 1, None, 2, 3, 4, None]
    assert fate.asked == dict.fromkeys(range(5), 1)


def test_a_clients_batch(homing: Serving, fate: Fate) -> None:
    with Client(homing.url, timeout=1.0, retries=2) as client:
        asked = [
            ("open.once", {"n": number, "fate": what}) for number, what in enumerate(["ok", "drop", 422, "never", 503, "ok"])
        ]
        results = client.batch(asked)
    kinds = [type(result) for result in results]
    assert kinds == [dict, OutcomeUnknown, NotExecuted, OutcomeUnknown, OutcomeUnknown, dict]
    assert all(count == 1 for count in fate.asked.values())
