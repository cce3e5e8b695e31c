"""Ports, who answers there, and what they say of themselves."""

import asyncio
import contextlib
import random
import socket
import urllib.error
import urllib.request

import msgspec

PATIENCE_S = 60.0


class PortTaken(Exception):
    """Another program listens where one of ours should: a port that was free a moment ago."""


def free_port() -> int:
    """A port that was free a moment ago, and that no connection is given by chance: for that it is too low."""
    while True:
        port = random.SystemRandom().randrange(15_000, 32_000)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


async def reachable(port: int) -> None:
    """Until somebody takes connections there. Raises TimeoutError."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                return


def verbose(port: int) -> dict[str, object]:
    """What a process says of itself. Raises OSError."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz?verbose", timeout=10) as answer:
        state: dict[str, object] = msgspec.json.decode(answer.read())
    return state


def said_of_itself(port: int) -> dict[str, object]:
    """The same, of one that says that it is not ready, too. Raises OSError."""
    try:
        return verbose(port)
    except urllib.error.HTTPError as error:
        with error:
            state: dict[str, object] = msgspec.json.decode(error.read())
        return state


def held(state: dict[str, object]) -> list[tuple[str, object]]:
    """The figures that are nothing when nobody calls."""
    providers, functions = state.get("providers"), state.get("functions")
    in_flight = sum(each["in_flight"] for each in providers.values()) if isinstance(providers, dict) else 0
    running = sum(functions.values()) if isinstance(functions, dict) else 0
    found = [("open calls", state.get("open_calls")), ("copies", state.get("broker_holds"))]
    return [*found, ("requests", in_flight), ("functions", running)]
