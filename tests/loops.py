"""Tests that are coroutines, run on asyncio's loop and on uvloop: an edge must work on both.

@on_both_loops
async def test_it(tmp_path: Path) -> None: ...
"""

import asyncio
import functools
import inspect
from collections.abc import Callable, Coroutine
from typing import TypeVar

import pytest
import uvloop

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
LIMIT_S = 50.0  # a hang is a failure of that test

T = TypeVar("T")


async def until(condition: Callable[[], object]) -> None:
    """Wait until it holds; `run` bounds how long."""
    while True:
        if condition():
            return
        await asyncio.sleep(0.001)


def run(coroutine: Coroutine[object, object, T], loop_name: str = "asyncio") -> T:
    """Run it to its end. Whatever was reported to the loop's exception handler meanwhile fails the test."""
    reported: list[str] = []

    async def main() -> T:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(repr(context)))
        async with asyncio.timeout(LIMIT_S):
            result = await coroutine
        await _all_closed()
        return result

    with asyncio.Runner(loop_factory=LOOPS[loop_name]) as runner:
        result = runner.run(main())
    assert not reported, reported
    return result


async def _all_closed() -> None:
    """What is just being closed has a moment to, such as a connection whose other side left in the midst of its TLS handshake."""
    selector = getattr(asyncio.get_running_loop(), "_selector", None)  # asyncio's own; uvloop waits by itself
    for _ in range(100):
        if selector is None or len(selector.get_map()) <= 1:  # the loop's own
            return
        await asyncio.sleep(0.005)


def on_both_loops(test: Callable[..., Coroutine[object, object, None]]) -> Callable[..., None]:
    """Make a test of a coroutine function; it runs once on each loop."""

    @functools.wraps(test)
    def both(*args: object, loop_name: str, **kwargs: object) -> None:
        run(test(*args, **kwargs), loop_name)

    signature = inspect.signature(test)
    parameters = [*signature.parameters.values(), inspect.Parameter("loop_name", inspect.Parameter.KEYWORD_ONLY)]
    both.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return pytest.mark.parametrize("loop_name", list(LOOPS))(both)
