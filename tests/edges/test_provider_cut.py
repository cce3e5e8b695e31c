"""homing.edges.provider through a proxy that cuts at every byte, with the provider's own log as the witness.

There is one rule: never `executed: no` when the provider received a byte of the request.
"""

import asyncio
import ssl
from collections.abc import Iterable

import pytest
import trustme

from homing.core.exchange import ExchangeFailed, ExchangeResult, HttpResponse
from homing.edges.connect import TlsSettings
from tests.asking import CHARGE, ask, calling
from tests.cutting import Cut, CuttingProxy, How, Way, cutting
from tests.loops import on_both_loops, run, until
from tests.scripted import ScriptedProvider, replies, response

ANSWER = response()
STOPPED_S = 0.1
AT_ONCE = 40


async def cut_once(
    cut: Cut | None, *, before: int = 0, server: ssl.SSLContext | None = None, ca: str = ""
) -> tuple[ExchangeResult, CuttingProxy, bytes]:
    """Ask `before` times, then once more: its result, and what the provider had received by the end of it."""
    scheme = "https" if server else "http"
    async with ScriptedProvider(replies(ANSWER), tls=server) as there, CuttingProxy(there.port, cut) as proxy:
        async with calling(0, base_url=f"{scheme}://127.0.0.1:{proxy.port}", tls=TlsSettings(ca=ca)) as provider:
            for _ in range(before):
                assert isinstance(await ask(provider, fresh=True), HttpResponse)
            assert provider.connects_total == (1 if before else 0)
            result = await ask(provider, timeout_s=STOPPED_S if cut is not None and cut.how == "stop" else 30, fresh=True)
        if cut is not None and cut.how != "stop":  # let it read what is on its way
            await until(lambda: all(visit.reader.at_eof() or visit.reader.exception() for visit in there.visits))
        await asyncio.sleep(0.005)
        return result, proxy, b"".join(there.log)


async def lengths(**more: object) -> tuple[int, int]:
    """Bytes of one whole exchange, by direction."""
    result, proxy, _ = await cut_once(None, **more)  # type: ignore[arg-type]
    assert isinstance(result, HttpResponse)
    (passage,) = proxy.passages
    return len(passage.request), len(passage.response)


async def cut_everywhere(way: Way, how: How, offsets: Iterable[int], whole: int, *, before: int = 0, **more: object) -> None:
    """`whole` is how many bytes the exchange with the cut has in this direction, those before it included."""
    places = asyncio.Semaphore(AT_ONCE)

    async def one(at: int) -> None:
        async with places:
            result, _, received = await cut_once(Cut(way, at, how), before=before, **more)  # type: ignore[arg-type]
        received_of_it = received.split(CHARGE.body or b"", before)[-1] if before else received
        if isinstance(result, HttpResponse):
            assert result.body == b'{"ok":true}'
            assert at >= whole
            return
        assert isinstance(result, ExchangeFailed)
        if result.executed == "no":
            assert received_of_it == b"", (at, result)
            assert result.reason in {"provider_unreachable", "timed_out"}
        else:
            assert result.executed == "unknown"
            assert result.reason in {"connection_lost", "timed_out"}, (at, result)

    await asyncio.gather(*(one(at) for at in offsets))


@on_both_loops
@pytest.mark.parametrize("how", ["reset", "close", "stop"])
@pytest.mark.parametrize("way", ["request", "response"])
async def test_at_every_byte(way: Way, how: How) -> None:
    request, answer = await lengths()
    whole = request if way == "request" else answer
    # A request that passed whole and was cut then has no answer; a response that passed whole is one.
    await cut_everywhere(way, how, range(whole), whole)
    result, _, received = await cut_once(Cut(way, whole, how))
    assert isinstance(result, HttpResponse if way == "response" else ExchangeFailed)
    assert received.endswith(b'{"amount":12}')
    if isinstance(result, ExchangeFailed):
        assert result.executed == "unknown"


@on_both_loops
@pytest.mark.parametrize("how", ["reset", "close", "stop"])
@pytest.mark.parametrize("way", ["request", "response"])
async def test_at_every_byte_of_the_second_exchange_on_a_connection(way: Way, how: How) -> None:
    request, answer = await lengths()
    one = request if way == "request" else answer
    # From one byte on: cut where the first exchange ends, there may be a new connection.
    await cut_everywhere(way, how, range(one + 1, 2 * one), 2 * one, before=1)


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, str]:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    path = tmp_path_factory.mktemp("tls") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return context, str(path)


@on_both_loops
@pytest.mark.parametrize("how", ["reset", "close", "stop"])
@pytest.mark.parametrize("way", ["request", "response"])
async def test_all_along_a_tls_connection(way: Way, how: How, tls: tuple[ssl.SSLContext, str]) -> None:
    server, ca = tls
    request, answer = await lengths(server=server, ca=ca)
    whole = request if way == "request" else answer
    # Handshakes are dear and their bytes alike; what follows them is looked at closely.
    end = whole - 400
    offsets = [*range(0, end, 37), *range(end, whole - 30, 7)]
    await cut_everywhere(way, how, offsets, whole - 200, server=server, ca=ca)


def test_the_proxy_on_a_thread_passes_and_cuts() -> None:
    import socket

    def talk(port: int) -> bytes:
        with socket.create_connection(("127.0.0.1", port)) as sock:
            seen = b""
            try:
                sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
                while data := sock.recv(100):
                    seen += data
                    if seen == ANSWER:
                        break
            except (ConnectionResetError, BrokenPipeError):
                seen += b"!"
            return seen

    async def main() -> None:
        async with ScriptedProvider(replies(ANSWER)) as there:
            with cutting(there.port) as proxy:
                assert await asyncio.to_thread(talk, proxy.port) == ANSWER
                proxy.cut = Cut("response", 10, "close")
                assert await asyncio.to_thread(talk, proxy.port) == ANSWER[:10]
                proxy.cut = Cut("response", 5, "reset")
                assert await asyncio.to_thread(talk, proxy.port) == ANSWER[:5] + b"!"
                proxy.cut = Cut("request", 0, "close")
                assert await asyncio.to_thread(talk, proxy.port) in (b"", b"!")
                assert [passage.cut for passage in proxy.passages] == [False, True, True, True]
            with cutting(1) as proxy:  # nobody is there
                assert await asyncio.to_thread(talk, proxy.port) in (b"", b"!")

    run(main())
