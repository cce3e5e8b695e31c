"""Time: answers that come as the deadline does, a process that stands still, and a loop that is held up by somebody's Python."""

import asyncio
import os
import random
import signal
import threading
import time
from collections import Counter
from pathlib import Path

from homing import AsyncClient, CallError, NotExecuted
from tests.e2e.callers import call_all, judge
from tests.e2e.quirks import Line, QuirkyProvider, on_a_thread
from tests.running import Running
from tests.serving import Answer, Asked, Serving

HOUSE = """
[gateway]
listen = "127.0.0.1:0"
anonymous = ["*"]
deadline = { default = "5s", max = "20s" }
[admin]
listen = "127.0.0.1:0"
[providers.acme]
base_url = "{provider}"
in_flight_max = {slots}
breaker = { window = "1s", calls_min = 1000000, failure_ratio = 1.0, open_for = "1s" }
[methods."once.it"]
provider = "acme"
request = "POST /once"
{more}
[methods."safe.it"]
provider = "acme"
effect = "safe"
request = "POST /safe"
"""


def test_answers_that_come_as_the_deadline_does(tmp_path: Path) -> None:
    luck = random.Random(1)
    done: Counter[int] = Counter()

    def provide(asked: Asked) -> Answer:
        done[asked.json["n"]] += 1
        return Answer(body={"n": asked.json["n"]}, after_s=asked.json["after"])

    text = HOUSE.replace("{slots}", "1000").replace("{more}", "")
    calls = [
        (method, {"n": number, "after": 0.3 + luck.uniform(-0.03, 0.01)}, 0.3)
        for number, method in enumerate(["once.it", "safe.it"] * 300)
    ]
    with Serving(text, tmp_path, provide) as homing:
        heard = asyncio.run(call_all(homing.port, calls, at_once=100))
        homing.stop_soon()
        homing.join()
        lines = [line["call_id"] for line in homing.log_lines() if line["event"] == "call"]
    said = Counter("ok" if each.ok else each.data["reason"] for each in heard)
    for each in heard:
        judge(each)
        if done[each.params["n"]]:
            assert each.executed != "no"
        if each.ok:
            assert each.body["result"] == {"n": each.params["n"]}
    assert len(lines) == len(set(lines)) == len(calls)
    assert said["deadline_exceeded"] > 0


async def once(line: Line) -> bool:
    await asyncio.sleep(0.02)
    await line.say(line.response())
    return True


def test_a_process_that_stands_still_now_and_then_makes_no_false_no(tmp_path: Path) -> None:
    ends: dict[int, object] = {}
    over = threading.Event()

    async def load(port: int) -> None:
        numbers = iter(range(10**9))
        async with AsyncClient(f"http://127.0.0.1:{port}", timeout=0.4, retries=1) as client:

            async def one() -> None:
                for number in numbers:
                    if over.is_set():
                        return
                    try:
                        ends[number] = await client.call("once.it", {"n": number})
                    except CallError as error:
                        ends[number] = error

            await asyncio.gather(*(one() for _ in range(30)))

    with on_a_thread(QuirkyProvider({"/once": once})) as provider:
        text = HOUSE.replace("{slots}", "10").replace("{more}", "").replace("{provider}", f"http://127.0.0.1:{provider.port}")
        with Running(tmp_path, text) as homing:
            calling = threading.Thread(target=lambda: asyncio.run(load(homing.port)))
            calling.start()
            for pause in (0.2, 0.5, 0.7, 0.3, 1.0):
                time.sleep(0.4)
                os.kill(homing.pid, signal.SIGSTOP)
                time.sleep(pause)
                os.kill(homing.pid, signal.SIGCONT)
            time.sleep(0.3)
            over.set()
            calling.join(30)
            assert not calling.is_alive()
            homing.terminate()
            assert homing.wait() == 0
            assert not homing.faults()
        said: Counter[str] = Counter()
        for number, end in ends.items():
            said[end.executed if isinstance(end, CallError) else "ok"] += 1
            assert provider.seen[number] <= 1
            if isinstance(end, NotExecuted):
                assert not provider.seen[number], end
            elif not isinstance(end, CallError):
                assert end == {"n": number}
    assert said["ok"] > 50
    assert said["unknown"] > 0


def test_a_loop_that_is_held_up_between_grant_and_request(tmp_path: Path) -> None:
    """The codec takes longer than the call may: nothing is sent any more, and that is what is said."""
    (tmp_path / "dawdling.py").write_text(
        "import json, time\ndef encode(value):\n    time.sleep(0.25)\n    return json.dumps(value).encode(), 'application/json'\n"
    )
    done: Counter[int] = Counter()

    def provide(asked: Asked) -> Answer:
        done[asked.json["n"]] += 1
        return Answer(body={})

    text = HOUSE.replace("{slots}", "10").replace("{more}", 'encode = "python:dawdling:encode"')
    with Serving(text, tmp_path, provide) as homing:
        calls = [("once.it", {"n": number}, 0.2 + number % 5 / 10) for number in range(20)]
        heard = asyncio.run(call_all(homing.port, calls, at_once=4))
    said: Counter[str] = Counter()
    for each in heard:
        judge(each, slack_s=15.0)
        said[each.executed] += 1
        assert done[each.params["n"]] <= 1
        if done[each.params["n"]]:
            assert each.executed != "no", each
    assert said["no"] > 0
