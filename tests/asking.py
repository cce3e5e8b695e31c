"""Asking a provider edge in a test: with the proof that it tells the end once, never from inside, and leaves nothing behind."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from homing.core.exchange import ExchangeFailed, ExchangeResult, HttpRequest, HttpResponse
from homing.edges.provider import Provider, ProviderSettings
from homing.edges.resolver import Resolver

CHARGE = HttpRequest("POST", "/v2/charges?a=1", (("Content-Type", "application/json"),), b'{"amount":12}')
OK = HttpResponse(200, {"content-length": "11"}, b'{"ok":true}')


@asynccontextmanager
async def calling(port: int, *, resolver: Resolver | None = None, **more: object) -> AsyncIterator[Provider]:
    """A provider edge, and the proof that it leaves nothing behind."""
    chosen = {"name": "acme", "base_url": f"http://127.0.0.1:{port}/v2"} | more
    provider = Provider(ProviderSettings(**chosen), asyncio.get_running_loop(), resolver=resolver)  # type: ignore[arg-type]
    try:
        yield provider
    finally:
        await provider.close()
        assert (provider.connections, provider.resting, len(provider.deadlines)) == (0, 0, 0)


def start(
    provider: Provider, request: HttpRequest = CHARGE, *, timeout_s: float = 30.0, fresh: bool = False
) -> tuple[Callable[[], None], "asyncio.Future[ExchangeResult]"]:
    """Begin an exchange: how to cancel it, and its end. `done` called from inside, or twice, breaks the future and the test."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[ExchangeResult] = loop.create_future()
    inside = True

    def done(result: ExchangeResult) -> None:
        assert not inside
        future.set_result(result)

    running = provider.exchange(request, loop.time() + timeout_s, fresh, done)
    inside = False
    return running.cancel, future


async def ask(
    provider: Provider, request: HttpRequest = CHARGE, *, timeout_s: float = 30.0, fresh: bool = False
) -> ExchangeResult:
    return await start(provider, request, timeout_s=timeout_s, fresh=fresh)[1]


def failed(result: ExchangeResult, reason: str, executed: str, status: int | None = None) -> ExchangeFailed:
    assert isinstance(result, ExchangeFailed), result
    assert (result.reason, result.executed, result.status) == (reason, executed, status), result
    return result
