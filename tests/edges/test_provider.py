"""homing.edges.provider over real sockets: one end for every exchange, by its deadline, and never a `no` that is not proven."""

import asyncio
import random
import socket

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homing.core.exchange import ExchangeFailed, ExchangeResult, HttpRequest, HttpResponse
from homing.edges.connect import ConnectFailed, Connector, TlsSettings, Wire
from homing.edges.provider import Provider, ProviderSettings
from homing.edges.provider_response import Reader
from homing.edges.resolver import Address, Resolver
from tests.asking import CHARGE, OK, ask, calling, failed, start
from tests.loops import on_both_loops, run, until
from tests.scripted import ScriptedProvider, Visit, closed_port, deaf, replies, response

# what goes right


@on_both_loops
async def test_one_exchange() -> None:
    async with ScriptedProvider(replies(response())) as there, calling(there.port) as provider:
        assert await ask(provider) == OK
        assert there.log == [
            b"POST /v2/charges?a=1 HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Type: application/json\r\n"
            b"Accept-Encoding: gzip, deflate\r\nContent-Length: 13\r\n\r\n"
            b'{"amount":12}' % there.port
        ]


@on_both_loops
async def test_connections_are_used_again() -> None:
    async with ScriptedProvider(replies(response())) as there, calling(there.port) as provider:
        for _ in range(5):
            assert await ask(provider, fresh=True) == OK
        assert len(there.visits) == 1
        assert (provider.connects_total, provider.reuses_total) == (1, 4)
        assert "1 connections, 1 resting" in repr(provider)


@on_both_loops
async def test_many_at_once_have_a_connection_each_and_few_are_kept() -> None:
    async def script(visit: Visit) -> None:
        for _ in range(2):
            asked = await visit.request()
            visit.send(response(asked.body))

    async with ScriptedProvider(script) as there, calling(there.port, idle_connections_max=3) as provider:
        requests = [HttpRequest("POST", "/", (), str(index).encode()) for index in range(20)]
        results = await asyncio.gather(*(ask(provider, request) for request in requests))
        assert [result.body for result in results if isinstance(result, HttpResponse)] == [request.body for request in requests]
        assert provider.resting == 3
        await until(lambda: provider.connections == 3)
        assert await ask(provider, requests[7]) == HttpResponse(200, {"content-length": "1"}, b"7")
        assert len(there.visits) == 20


@on_both_loops
async def test_done_may_begin_the_next_exchange() -> None:
    async with ScriptedProvider(replies(response())) as there, calling(there.port) as provider:
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()
        left = 50

        def done(result: ExchangeResult) -> None:
            nonlocal left
            assert result == OK
            left -= 1
            if left:
                provider.exchange(CHARGE, loop.time() + 30, True, done)
            else:
                ended.set_result(None)

        provider.exchange(CHARGE, loop.time() + 30, True, done)
        await ended
        assert len(there.visits) == 1


@on_both_loops
async def test_one_that_raises_when_told_disturbs_nobody() -> None:
    reported: list[dict[str, object]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: reported.append(context))
    async with ScriptedProvider(replies(response())) as there, calling(there.port) as provider:

        def done(result: ExchangeResult) -> None:
            raise ZeroDivisionError

        provider.exchange(CHARGE, loop.time() + 30, False, done)
        await until(lambda: bool(reported))
        assert isinstance(reported[0]["exception"], ZeroDivisionError)
        assert await ask(provider) == OK
        assert len(there.visits) == 1


@on_both_loops
@pytest.mark.parametrize("piece", [1, 3])
async def test_a_response_in_small_pieces(piece: int) -> None:
    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.send_slowly(b"HTTP/1.1 100 Continue\r\n\r\n" + response(), piece)
        await visit.request()
        visit.send(response())

    async with ScriptedProvider(script) as there, calling(there.port) as provider:
        assert await ask(provider) == OK
        assert await ask(provider) == OK
        assert len(there.visits) == 1


@on_both_loops
async def test_a_body_that_ends_with_the_connection() -> None:
    async def script(visit: Visit) -> None:
        await visit.request()
        visit.send(b"HTTP/1.1 200 OK\r\n\r\n")
        await visit.send_slowly(b"all of it")
        visit.close()

    async with ScriptedProvider(script) as there, calling(there.port) as provider:
        assert await ask(provider) == HttpResponse(200, {}, b"all of it")
        assert await ask(provider) == HttpResponse(200, {}, b"all of it")
        assert len(there.visits) == 2


@on_both_loops
async def test_head_has_no_body_and_leaves_the_connection_whole() -> None:
    async def script(visit: Visit) -> None:
        while True:
            asked = await visit.request()
            whole = response()
            visit.send(whole[: whole.index(b"\r\n\r\n") + 4] if asked.line.startswith("HEAD") else whole)

    async with ScriptedProvider(script) as there, calling(there.port) as provider:
        head = HttpRequest("HEAD", "/", (), None)
        assert await ask(provider, head) == HttpResponse(200, {"content-length": "11"}, b"")
        assert await ask(provider) == OK
        assert await ask(provider, head) == HttpResponse(200, {"content-length": "11"}, b"")
        assert len(there.visits) == 1


@on_both_loops
@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"])
async def test_a_redirect_is_an_answer(status: str) -> None:
    script = replies(response(b"", status, "Location: http://127.0.0.1:1/"))
    async with ScriptedProvider(script) as there, calling(there.port) as provider:
        result = await ask(provider)
        assert isinstance(result, HttpResponse)
        assert result.status == int(status[:3])
        assert result.headers["location"] == "http://127.0.0.1:1/"
        assert len(there.visits) == 1


@on_both_loops
async def test_a_large_request_and_a_large_response() -> None:
    async def script(visit: Visit) -> None:
        while True:
            asked = await visit.request()
            visit.send(response(asked.body))

    async with ScriptedProvider(script) as there, calling(there.port) as provider:
        body = random.Random(1).randbytes(3_000_000)
        for _ in range(2):
            result = await ask(provider, HttpRequest("POST", "/", (), body))
            assert isinstance(result, HttpResponse)
            assert result.body == body
        assert len(there.visits) == 1


# what goes wrong before a byte is written


@on_both_loops
async def test_refused() -> None:
    port = closed_port()
    async with calling(port) as provider:
        message = failed(await ask(provider), "provider_unreachable", "no").message
        assert message == f"no connection to 127.0.0.1:{port}: 127.0.0.1: Connection refused"


@on_both_loops
async def test_unknown_host() -> None:
    def unknown(host: str) -> list[Address]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    resolver = Resolver(asyncio.get_running_loop(), unknown)
    async with calling(0, base_url="http://a.example", resolver=resolver) as provider:
        message = failed(await ask(provider), "provider_unreachable", "no").message
        assert message == "unknown host a.example: Name or service not known"
    async with calling(0, base_url="http://name.invalid") as provider:
        assert failed(await ask(provider), "provider_unreachable", "no").message.startswith("unknown host name.invalid: ")


@on_both_loops
async def test_a_name_becomes_an_address() -> None:
    resolver = Resolver(asyncio.get_running_loop(), lambda host: [Address(socket.AF_INET, "127.0.0.1")])
    async with (
        ScriptedProvider(replies(response())) as there,
        calling(0, base_url=f"http://a.example:{there.port}", resolver=resolver) as provider,
    ):
        assert await ask(provider) == OK
        assert f"Host: a.example:{there.port}\r\n".encode() in there.log[0]


@on_both_loops
async def test_no_connection_within_the_connect_timeout_or_the_deadline() -> None:
    async with deaf() as port:
        async with calling(port, connect_timeout_s=0.03) as provider:
            assert "within 0.03 s" in failed(await ask(provider), "provider_unreachable", "no").message
        async with calling(port) as provider:
            failed(await ask(provider, timeout_s=0.03), "timed_out", "no")


@on_both_loops
@pytest.mark.parametrize("after_s", [0.0, -1.0])
async def test_a_deadline_that_has_passed(after_s: float) -> None:
    async with ScriptedProvider(replies(response())) as there, calling(there.port) as provider:
        failed(await ask(provider, timeout_s=after_s), "timed_out", "no")
        await ask(provider)
        failed(await ask(provider, timeout_s=after_s), "timed_out", "no")
        assert len(there.visits) == 1
        assert there.log[0].count(b"POST") == 1


@on_both_loops
async def test_a_provider_that_speaks_first() -> None:
    async def script(visit: Visit) -> None:
        visit.send(b"220 mail.example ESMTP\r\n")
        await visit.end()

    async with ScriptedProvider(script) as there:
        for number in range(20):
            async with calling(there.port) as provider:
                result = await ask(provider)
                assert isinstance(result, ExchangeFailed)
                if result.executed == "no":
                    assert result.reason == "provider_unreachable"
                    assert there.log[number] == b""
                else:
                    assert result.reason == "response_invalid"


@on_both_loops
@pytest.mark.parametrize(
    "request_",
    [
        HttpRequest("POST", "/", (("X", "a\r\nEvil: 1"),), b""),
        HttpRequest("POST", "/", (("X\r\nEvil", "a"),), b""),
        HttpRequest("POST", "/a b", (), b""),
        HttpRequest("POST", "/a\r\nEvil: 1", (), b""),
        HttpRequest("POST", "/", (("Content-Length", "5"),), b""),
        HttpRequest("POST", "/", (("Transfer-Encoding", "chunked"),), b""),
        HttpRequest("POST", "/", (("X", "☃"),), b""),
    ],
)
async def test_a_request_that_would_mean_something_else_is_not_written(request_: HttpRequest) -> None:
    async with ScriptedProvider(replies(response())) as there, calling(there.port) as provider:
        await ask(provider)
        with pytest.raises(ValueError):
            provider.exchange(request_, asyncio.get_running_loop().time() + 9, False, lambda result: None)
        assert await ask(provider) == OK
        assert there.log[0].count(b"HTTP/1.1") == 2


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"base_url": "ftp://a"}, "http"),
        ({"proxy": "socks5://hunter2@a"}, "proxy"),
        ({"base_url": "https://a", "tls": TlsSettings(ca="nosuch.pem")}, "nosuch.pem"),
    ],
)
def test_settings_that_cannot_be(more: dict[str, object], words: str) -> None:
    async def main() -> None:
        with pytest.raises(ValueError, match=words) as caught:
            Provider(ProviderSettings(**({"name": "acme", "base_url": "http://a"} | more)), asyncio.get_running_loop())  # type: ignore[arg-type]
        assert "hunter2" not in str(caught.value)

    run(main())


def test_no_secret_is_shown() -> None:
    shown = repr(ProviderSettings(name="acme", base_url="http://a", proxy="http://me:hunter2@proxy"))
    assert "hunter2" not in shown
    assert "acme" in shown


# giving up


@on_both_loops
async def test_cancelled_before_a_byte_is_written() -> None:
    async with ScriptedProvider(replies(response())) as there, calling(there.port) as provider, deaf() as port:
        cancel, end = start(provider)
        cancel()
        cancel()
        failed(await end, "cancelled", "no")
        cancel()
        async with calling(port) as dialing:
            cancel, end = start(dialing)
            await asyncio.sleep(0.01)
            cancel()
            assert dialing.connections <= 1
            failed(await end, "cancelled", "no")


@on_both_loops
@pytest.mark.parametrize("came", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"])
async def test_cancelled_after_a_byte_was_written(came: bytes) -> None:
    written = asyncio.Event()

    async def script(visit: Visit) -> None:
        await visit.request()
        visit.send(came + b"H" if came else b"H")
        written.set()

    async with ScriptedProvider(script) as there, calling(there.port) as provider:
        cancel, end = start(provider)
        await written.wait()
        (connection,) = provider._open
        await until(lambda: connection._reader.started)
        cancel()
        cancel()
        failed(await end, "cancelled", "unknown", 200 if came else None)
        await until(lambda: provider.connections == 0)


@on_both_loops
async def test_cancelling_what_has_ended_does_not_touch_the_connection() -> None:
    async with ScriptedProvider(replies(response())) as there, calling(there.port) as provider:
        cancel, end = start(provider)
        await end
        _, following = start(provider)
        cancel()
        assert await following == OK
        assert len(there.visits) == 1


@on_both_loops
async def test_close_ends_everything_and_nothing_begins_after_it() -> None:
    async def script(visit: Visit) -> None:
        await visit.request()
        if b"GET" in visit.raw:
            visit.send(response())

    async with ScriptedProvider(script) as there, deaf() as port, calling(there.port) as provider, calling(port) as dialing:
        await ask(provider, HttpRequest("GET", "/", (), None))
        ends = [start(provider, timeout_s=50)[1] for _ in range(3)]
        await until(lambda: sum(b"amount" in log for log in there.log) == 3)
        ends.append(start(dialing)[1])
        await asyncio.gather(provider.close(), provider.close())
        await dialing.close()
        for end in ends[:3]:
            failed(end.result(), "cancelled", "unknown")
        failed(ends[3].result(), "cancelled", "no")
        failed(await ask(provider), "cancelled", "no")
        cancel, end = start(provider)
        cancel()
        failed(await end, "cancelled", "no")


def test_a_loop_that_ends_settles_what_it_was_connecting() -> None:
    results: list[ExchangeResult] = []

    async def main() -> None:
        async with deaf() as port:
            loop = asyncio.get_running_loop()
            provider = Provider(ProviderSettings(name="acme", base_url=f"http://127.0.0.1:{port}"), loop)
            provider.exchange(CHARGE, loop.time() + 30, False, results.append)
            await asyncio.sleep(0.01)

    run(main())
    failed(results[0], "cancelled", "no")


@on_both_loops
@pytest.mark.parametrize("what", ["fails", "connects"])
async def test_a_connection_that_comes_although_nobody_waits_any_more_is_closed(
    what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = Connector.connect

    async def stubborn(self: Connector, protocol: asyncio.Protocol) -> Wire:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            if what == "fails":
                raise ConnectFailed("too late") from None
        return await connect(self, protocol)

    monkeypatch.setattr(Connector, "connect", stubborn)
    async with ScriptedProvider(replies(response())) as there, calling(there.port) as provider:
        cancel, end = start(provider)
        await asyncio.sleep(0)
        cancel()
        failed(await end, "cancelled", "no")
        await until(lambda: not provider._dials and not provider.connections)
        assert there.log in ([], [b""])


@on_both_loops
async def test_a_fault_of_our_own_while_connecting_is_told_and_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(self: Connector, protocol: asyncio.Protocol) -> Wire:
        raise ZeroDivisionError("hunter2")

    monkeypatch.setattr(Connector, "connect", broken)
    reported: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    async with calling(9) as provider:
        message = failed(await ask(provider), "provider_unreachable", "no").message
        assert message == "no connection to 127.0.0.1:9: ZeroDivisionError"
        assert isinstance(reported[0]["exception"], ZeroDivisionError)


@on_both_loops
async def test_a_fault_of_our_own_while_reading_is_told_and_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Reader, data: bytes) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Reader, "on_body", broken)
    reported: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    async with ScriptedProvider(replies(response())) as there, calling(there.port) as provider:
        failed(await ask(provider), "connection_lost", "unknown", 200)
        assert "callback" in str(reported[0]["exception"])


@on_both_loops
async def test_whatever_happens_each_has_one_end_and_no_connection_is_left_counted() -> None:
    dice = random.Random(4)

    async def script(visit: Visit) -> None:
        while True:
            asked = await visit.request()
            what = dice.randrange(9)
            whole = response(asked.body)
            if what == 0:
                visit.reset()
            elif what == 1:
                visit.send(whole[: dice.randrange(len(whole))])
                visit.close()
            elif what == 2:
                visit.send(whole + whole)
            elif what == 3:
                visit.send(dice.randbytes(30))
            elif what == 4:
                await asyncio.sleep(0.2)
            else:
                await asyncio.sleep(dice.random() * 0.01)
                visit.send(whole)
            if what < 2:
                return

    async with ScriptedProvider(script) as there, calling(there.port, idle_connections_max=5) as provider:
        ends: list[tuple[bytes, asyncio.Future[ExchangeResult]]] = []
        for index in range(400):
            body = b"%d." % index
            request = HttpRequest("POST", "/", (), body)
            cancel, end = start(provider, request, timeout_s=dice.random() * 0.1, fresh=dice.random() < 0.5)
            ends.append((body, end))
            if dice.random() < 0.2:
                asyncio.get_running_loop().call_later(dice.random() * 0.02, cancel)
            if dice.random() < 0.3:
                await asyncio.sleep(dice.random() * 0.005)
        received = b""
        for body, end in ends:
            result = await end
            received = b"".join(there.log)
            if isinstance(result, HttpResponse):
                assert result.body == body
            elif b"\r\n\r\n" + body in received:
                assert result.executed == "unknown", result
        await until(lambda: provider.connections == provider.resting)
        assert provider.resting <= 5


BYTES = st.binary(max_size=60) | st.sampled_from(
    [
        b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", b"\r\n", b"Content-Length: 3\r\n", b"Content-Length: 9999999999\r\n",
        b"Transfer-Encoding: chunked\r\n", b"Content-Encoding: gzip\r\n", b"Connection: close\r\n", b"3\r\nabc\r\n", b"0\r\n\r\n", b"abc",
    ]
)  # fmt: skip


@settings(max_examples=60)
@given(st.lists(BYTES, max_size=8), st.sampled_from(["close", "reset", "stay"]), st.booleans())
def test_any_bytes_from_a_provider_give_exactly_one_end(pieces: list[bytes], how: str, apart: bool) -> None:
    async def script(visit: Visit) -> None:
        await visit.request()
        for piece in pieces:
            visit.send(piece)
            if apart:
                await asyncio.sleep(0)
        if how != "stay":
            visit.close() if how == "close" else visit.reset()

    async def main() -> None:
        async with ScriptedProvider(script) as there, calling(there.port) as provider:
            for _ in range(2):
                result = await ask(provider, timeout_s=0.05 if how == "stay" else 30)
                if isinstance(result, ExchangeFailed):
                    assert result.executed == "unknown"

    run(main(), "uvloop")
