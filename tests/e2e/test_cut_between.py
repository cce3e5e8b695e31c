"""What stands between worker and provider, cut at every byte: an HTTP proxy that opens a tunnel, and a server that gives out tokens."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.cutting import Cut
from tests.e2e.callers import Heard, call_all, judge
from tests.e2e.counting import CountingProvider, Cutter
from tests.e2e.quirks import on_a_thread
from tests.serving import Serving

HOUSE = """
[gateway]
anonymous = ["*"]
deadline = { default = "10s", max = "20s" }
[providers.acme]
base_url = "http://localhost:{port}"
in_flight_max = 1000
timeout = { connect = "1s" }
retry = { attempts_max = 1 }
breaker = { window = "1s", calls_min = 1000000, failure_ratio = 1.0, open_for = "1s" }
{more}
[methods."once.it"]
provider = "acme"
request = "POST /once/{n}"
body = "=params"
"""


class Open:
    """The connections that are being served."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[object]] = set()

    def enter(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def ended(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # for the transports that were closed


class Tunnels:
    """A proxy that is asked to CONNECT, behind something that cuts its connections, and the provider beyond it."""

    def __init__(self, cuts: list[Cut]) -> None:
        self.provider = CountingProvider()
        self._open = Open()
        self._cuts = cuts

    async def start(self) -> None:
        self.provider_port = await self.provider.start()
        self._server = await asyncio.start_server(self._tunnel, "127.0.0.1", 0, backlog=1024)
        self._cutter = Cutter(self._server.sockets[0].getsockname()[1], iter(self._cuts))
        await self._cutter.__aenter__()
        self.port = self._cutter.port

    async def stop(self) -> None:
        await self._cutter.__aexit__()
        for server in (self._server, self.provider.server):
            server.close()
            await server.wait_closed()
        await self._open.ended()

    async def _tunnel(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.enter()
        far: asyncio.StreamWriter | None = None
        pipes: list[asyncio.Task[None]] = []
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"CONNECT localhost:%d HTTP/1.1\r\n" % self.provider_port)
            far_reader, far = await asyncio.open_connection("127.0.0.1", self.provider_port)
            writer.write(b"HTTP/1.1 200 Connection established\r\nX-Proxy: yes\r\n\r\n")
            pipes = [asyncio.create_task(_pipe(reader, far)), asyncio.create_task(_pipe(far_reader, writer))]
            await asyncio.wait(pipes, return_when=asyncio.FIRST_COMPLETED)
        except (OSError, EOFError, asyncio.CancelledError):
            pass
        finally:
            for pipe in pipes:
                pipe.cancel()
            writer.close()
            if far is not None:
                far.close()


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()


@pytest.mark.parametrize("how", ["reset", "close", "stop"])
def test_a_tunnel_cut_at_any_byte_makes_no_false_no(how, tmp_path: Path) -> None:
    """One after the other, so that it is plain whose a byte was; only silence is tried side by side, for it takes its time."""
    step = 5 if how == "stop" else 1
    cuts = [Cut("request", at, how) for at in range(0, 300, step)] + [Cut("response", at, how) for at in range(0, 180, step)]
    came: dict[int, int] = {}

    async def one_by_one(port: int) -> list[Heard]:
        heard = []
        for number in range(100_000, 100_000 + len(cuts)):
            before = provider.bytes
            heard += await call_all(port, [("once.it", {"n": number}, 8.0)], at_once=1)
            await asyncio.sleep(0.003)  # for what was passed on just before the cut
            came[number] = provider.bytes - before
        return heard

    with on_a_thread(Tunnels(cuts)) as tunnels:
        provider = tunnels.provider
        text = HOUSE.replace("{port}", str(tunnels.provider_port)).replace("{more}", f'proxy = "http://127.0.0.1:{tunnels.port}"')
        with Serving(text, tmp_path) as homing:
            if how == "stop":
                calls = [("once.it", {"n": 100_000 + number}, 1.5) for number in range(len(cuts))]
                heard = asyncio.run(call_all(homing.port, calls, at_once=60))
            else:
                heard = asyncio.run(one_by_one(homing.port))
    for each in heard:
        judge(each)
        number = each.params["n"]
        assert provider.done[number] <= 1
        if provider.got[number] or came.get(number):
            assert each.executed != "no", each
        if each.ok:
            assert provider.done[number] == 1
        if each.executed == "no":
            assert each.data["reason"] in ("provider_unreachable", "deadline_exceeded")
    assert {each.executed for each in heard} == {"no", "unknown", "yes"}


class Tokens:
    """A server that gives out tokens, behind something that cuts its connections, and a provider that wants them."""

    def __init__(self, cuts: list[Cut]) -> None:
        self.provider = CountingProvider()
        self._open = Open()
        self.given = 0
        self._cuts = cuts

    async def start(self) -> None:
        self.provider_port = await self.provider.start()
        self._server = await asyncio.start_server(self._give, "127.0.0.1", 0, backlog=1024)
        self._cutter = Cutter(self._server.sockets[0].getsockname()[1], iter(self._cuts))
        await self._cutter.__aenter__()
        self.port = self._cutter.port

    async def stop(self) -> None:
        await self._cutter.__aexit__()
        for server in (self._server, self.provider.server):
            server.close()
            await server.wait_closed()
        await self._open.ended()

    async def _give(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.enter()
        try:
            await reader.readuntil(b"\r\n\r\n")
            self.given += 1
            body = b'{"access_token":"t%d","token_type":"Bearer","expires_in":3600}' % self.given
            head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
            writer.write(head + body)
            await writer.drain()
            await reader.read(65536)
        except (OSError, EOFError, asyncio.CancelledError):
            pass
        finally:
            writer.close()


@contextmanager
def with_tokens(cuts: list[Cut], folder: Path, *, providers: int = 1) -> Iterator[tuple[Serving, Tokens]]:
    """The first provider is `acme`; with more of them there are `acme1`, `acme2`, …, each with a token of its own."""
    with on_a_thread(Tokens(cuts)) as tokens:
        auth = (
            f'auth = {{ type = "oauth2_client_credentials", token_url = "http://127.0.0.1:{tokens.port}/token", '
            'client_id = "me", client_secret = "secret", scopes = ["a"] }'
        )
        house, tables = HOUSE.replace("{port}", str(tokens.provider_port)).replace("{more}", auth).split("[providers.acme]")
        text = house + "[providers.acme]" + tables
        for number in range(1, providers):
            more = ("[providers.acme]" + tables).replace("acme", f"acme{number}").replace("once.it", f"once.it{number}")
            text += more
        with Serving(text, folder) as homing:
            yield homing, tokens


@pytest.mark.parametrize("how", ["reset", "close"])
def test_without_a_token_nothing_is_asked(how, tmp_path: Path) -> None:
    """Each provider's token is cut off at another byte: no call, and a proven no. Only where it came through is anything asked."""
    cuts = [Cut("response", at, how) for at in range(0, 160, 2)] + [Cut("request", at, how) for at in range(0, 90, 6)]
    with with_tokens(cuts, tmp_path, providers=len(cuts) + 1) as (homing, tokens):
        calls = [(f"once.it{number or ''}", {"n": 100_000 + number}, 3.0) for number in range(len(cuts) + 1)]
        heard = asyncio.run(call_all(homing.port, calls, at_once=1))
    for each in heard:
        judge(each)
        if each.executed == "no":
            assert each.data["reason"] == "provider_unreachable"
            assert not tokens.provider.got[each.params["n"]]
        else:
            assert each.ok
    assert heard[-1].ok
    assert sum(each.executed == "no" for each in heard) > 80


def test_one_token_is_fetched_for_all_who_wait(tmp_path: Path) -> None:
    with with_tokens([], tmp_path) as (homing, tokens):
        calls = [("once.it", {"n": 100_000 + number}, 20.0) for number in range(200)]
        heard = asyncio.run(call_all(homing.port, calls, at_once=100))
        assert not [each for each in heard if not each.ok]
    assert tokens.given == 1


def test_a_token_server_that_is_silent_costs_no_more_than_the_deadline(tmp_path: Path) -> None:
    cuts = [Cut("response", 0, "stop")] * 10
    with with_tokens(cuts, tmp_path) as (homing, tokens):
        heard = asyncio.run(
            call_all(homing.port, [("once.it", {"n": 100_000 + number}, 0.6) for number in range(40)], at_once=40)
        )
    for each in heard:
        judge(each)
        assert each.executed == "no"
    assert not tokens.provider.got
