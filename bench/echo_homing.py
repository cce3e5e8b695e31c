"""Calls through a homing broker to a Python worker. `python -m bench.echo_homing client URL IN_FLIGHT SECONDS [KEY BROKER_KEY]`

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
    keys = {"curve": curve[0], "broker_key": curve[1]} if curve else {}
    async with AsyncClient(url, **keys) as homing:
        params = {"text": BODY}
        await fly(lambda: homing.call("echo.echo", params, timeout=30), in_flight, seconds)


if __name__ == "__main__":
    uvloop.run(load(sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), *sys.argv[5:]))
