"""How long each hop of a call takes, through three processes that have nothing else to do: one call at a time.

python -m bench.hops ROLE URL is one of the processes. Each has the real machine, the real engine and the real driver, and writes down
when its machine was told of each step of each call. Their clocks are the same one, for they are on one machine.
"""

import asyncio
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Final

import msgspec
import uvloop

from bench.programs import free_port, reachable
from homing.core.broker import Broker, BrokerLimits
from homing.core.calls import Calls
from homing.core.holding import MethodPolicy, ProviderPolicy
from homing.core.machine import Action, Event, Finished, Machine, Received, Settle, Start, Submitted
from homing.core.messages import CALL_ID_BYTES, LIFE_BYTES
from homing.core.worker import Worker
from homing.driver import Driver
from homing.engines.zmq import Zmq
from homing.errors import Outcome

CALLS: Final = 500
WARM: Final = 100
ROOT = Path(__file__).parent.parent
STEPS: Final = {
    "REQUEST, gateway to broker": ("gateway Submitted", "broker Request"),
    "REQUEST, broker to worker": ("broker Request", "worker Request"),
    "CLAIM, worker to broker": ("worker Request", "broker Claim"),
    "CLAIM, broker to gateway": ("broker Claim", "gateway Claim"),
    "GRANT, gateway to broker": ("gateway Claim", "broker Grant"),
    "GRANT, broker to worker: it begins": ("broker Grant", "worker Grant"),
    "FINAL, worker to broker": ("worker Finished", "broker Final"),
    "FINAL, broker to gateway: settled": ("broker Final", "gateway Final"),
    "all of it": ("gateway Submitted", "gateway Final"),
}

Times = dict[str, dict[str, float]]  # call id -> step -> instant


class Watched:
    """A machine, and when it was told of what."""

    def __init__(self, role: str, machine: Machine) -> None:
        self.times: Times = defaultdict(dict)
        self.next_deadline = machine.next_deadline
        self._role = role
        self._machine = machine

    def handle(self, event: Event, now: float) -> list[Action]:
        said = event.message if isinstance(event, Received) else event
        call_id = getattr(said, "call_id", None)
        if isinstance(call_id, bytes):
            self.times[call_id.hex()].setdefault(f"{self._role} {type(said).__name__}", time.monotonic())
        return self._machine.handle(event, now)


async def play(role: str, url: str) -> None:
    """Be one of the three. The broker and the worker end with their standard input; the gateway when its calls are answered."""
    loop = asyncio.get_running_loop()
    life, address = os.urandom(LIFE_BYTES), role.encode()
    settled = asyncio.Event()

    def act(action: Action) -> None:
        if isinstance(action, Start):
            outcome = Outcome(reason="ok", executed="yes", result=action.body)
            loop.call_soon(driver.feed, address, Finished(action.call_id, action.number, outcome))
        elif isinstance(action, Settle):
            settled.set()

    machines: dict[str, Machine] = {
        "gateway": Calls(life, heartbeat_s=1.0),
        "broker": Broker(life, BrokerLimits(), heartbeat_s=1.0),
        "worker": Worker(
            life,
            services={"p": 100},
            methods={"m": MethodPolicy(provider="p")},
            providers={"p": ProviderPolicy()},
            random=lambda: 0.5,
            heartbeat_s=1.0,
        ),
    }
    machine = Watched(role, machines[role])
    station = Zmq(loop, sealed=role == "broker")
    driver = Driver(station, loop)
    station.tell = driver.feed
    station.attach(address, machine, act)
    if role == "broker":
        station.bind(address, url)
    else:
        station.dial(address, url)
    if role == "gateway":
        for _ in range(WARM + CALLS):
            settled.clear()
            call_id = life[:8] + os.urandom(CALL_ID_BYTES - 8)
            asked = Submitted(
                call_id=call_id,
                service="p",
                method="m",
                deadline=time.monotonic() + 60,
                timeout_ms=60_000,
                effect="once",
                principal="bench",
                key="k",
                caller_key="k",
                body=b'{"account":"a1","amount":1200}',
            )
            driver.feed(address, asked)
            await settled.wait()
    else:
        ended = asyncio.Event()
        loop.add_reader(sys.stdin.fileno(), ended.set)
        await ended.wait()
    driver.close()
    station.close()
    sys.stdout.buffer.write(msgspec.json.encode(machine.times))


def hops() -> dict[str, float]:
    """The median of each step, in milliseconds."""
    port = free_port()
    url = f"tcp://127.0.0.1:{port}"
    processes: list[subprocess.Popen[bytes]] = []
    for role in ("broker", "worker", "gateway"):
        command = [sys.executable, "-m", "bench.hops", role, url]
        processes.append(subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        if role == "broker":
            reachable(port)
    try:
        said = [process.communicate(timeout=120)[0] for process in reversed(processes)]  # the gateway ends by itself
    finally:
        for process in processes:
            process.kill()
            process.wait()
    whole: Times = defaultdict(dict)
    for times in said:
        for call_id, instants in msgspec.json.decode(times, type=Times).items():
            whole[call_id].update(instants)
    calls = sorted(whole.values(), key=lambda instants: instants["gateway Submitted"])[WARM:]
    return {
        name: round(statistics.median(instants[to] - instants[since] for instants in calls) * 1000, 3)
        for name, (since, to) in STEPS.items()
    }


if __name__ == "__main__":
    uvloop.run(play(sys.argv[1], sys.argv[2]))
