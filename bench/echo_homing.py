"""Calls through a homing broker to a Python worker. `python -m bench.echo_homing client URL [KEY BROKER_KEY] IN_FLIGHT SECONDS`

The worker is `homing worker bench.echo_homing:worker`.
"""

import sys

import uvloop

from bench.flight import BODY, fly
from homing import AsyncClient, Worker

worker = Worker("echo")


@worker.method(effect="safe", timeout=30)
async def echo(text: str) -> str:
    """Answer with what was asked."""
    return text


async def load(url: str, in_flight: int, seconds: float, *curve: str) -> None:
    """Ask."""
    key, broker_key = curve or (None, None)
    async with AsyncClient(url, curve=key, broker_key=broker_key) as homing:
        params = {"text": BODY}
        await fly(lambda: homing.call("echo.echo", params, timeout=30), in_flight, seconds)


if __name__ == "__main__":
    *to, given_in_flight, given_seconds = sys.argv[2:]
    uvloop.run(load(to[0], int(given_in_flight), float(given_seconds), *to[1:]))
