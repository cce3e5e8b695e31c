"""homing.edges.credentials: five kinds, each secret, and one token for all who wait."""

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from urllib.parse import parse_qs

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from homing.core.exchange import HttpRequest
from homing.edges.credentials import (
    ClientCredentials,
    Credentials,
    HeaderCredentials,
    QueryCredentials,
    basic,
    bearer,
    token_target,
)
from homing.edges.provider import Provider, ProviderSettings
from homing.edges.provider_request import target_problem
from tests.loops import on_both_loops, run, until
from tests.scripted import ScriptedProvider, Visit, closed_port, response

CHARGE = HttpRequest("POST", "/v2/charges?a=1", (("Content-Type", "application/json"),), b"{}")


def here() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


async def prepared(credentials: Credentials, timeout_s: float = 30.0) -> str | None:
    """Wait for them: None, or why not. Told twice or from inside breaks the future and the test."""
    future: asyncio.Future[str | None] = here().create_future()
    inside = True

    def done(why: str | None) -> None:
        assert not inside
        future.set_result(why)

    credentials.prepare(here().time() + timeout_s, done)
    inside = False
    return await future


# those that are always there


@on_both_loops
async def test_each_kind_stands_where_it_belongs() -> None:
    encoded = base64.b64encode("me:s:crét".encode()).decode()
    for credentials, header in (
        (bearer(here(), "tok"), ("Authorization", "Bearer tok")),
        (basic(here(), "me", "s:crét"), ("Authorization", f"Basic {encoded}")),
        (HeaderCredentials(here(), "X-Api-Key", "k"), ("X-Api-Key", "k")),
    ):
        assert credentials.ready(0.0)
        assert await prepared(credentials) is None
        assert credentials.apply(CHARGE) == HttpRequest("POST", CHARGE.target, (*CHARGE.headers, header), b"{}")
        assert not credentials.refused(CHARGE)
        await credentials.close()
    nothing = Credentials(here())
    assert nothing.apply(CHARGE) is CHARGE


def test_the_credentials_header_replaces_any_other_of_its_name() -> None:
    async def main() -> None:
        request = HttpRequest("GET", "/", (("authorization", "Bearer forged"), ("A", "1"), ("AUTHORIZATION", "x")), None)
        applied = bearer(here(), "tok").apply(request)
        assert applied.headers == (("A", "1"), ("Authorization", "Bearer tok"))

    run(main())


@pytest.mark.parametrize(
    ("target", "joined"),
    [
        ("/", "/?k%26y=a%26b%3Dc%20d%2F%C3%A9"),
        ("/x?a=1", "/x?a=1&k%26y=a%26b%3Dc%20d%2F%C3%A9"),
        ("/x?", "/x?k%26y=a%26b%3Dc%20d%2F%C3%A9"),
        ("/x?a&", "/x?a&k%26y=a%26b%3Dc%20d%2F%C3%A9"),
    ],
)
def test_the_query_is_added_to(target: str, joined: str) -> None:
    async def main() -> None:
        credentials = QueryCredentials(here(), "k&y", "a&b=c d/é")
        assert credentials.apply(HttpRequest("GET", target, (), None)).target == joined

    run(main())


@given(st.text(min_size=1), st.text())
def test_any_query_credentials_come_out_as_they_went_in(name: str, value: str) -> None:
    async def main() -> None:
        try:
            credentials = QueryCredentials(here(), name, value)
        except UnicodeEncodeError:  # a lone surrogate
            return
        target = credentials.apply(HttpRequest("GET", "/x?a=1", (), None)).target
        assert target_problem(target) is None
        assert parse_qs(target.partition("?")[2], keep_blank_values=True, strict_parsing=True) == {"a": ["1"]} | (
            {name: [value]} if name != "a" else {"a": ["1", value]}
        )

    run(main())


def test_no_secret_is_shown() -> None:
    async def main() -> None:
        for credentials in (
            bearer(here(), "hunter2"),
            basic(here(), "me", "hunter2"),
            HeaderCredentials(here(), "X", "hunter2"),
            QueryCredentials(here(), "k", "hunter2"),
        ):
            assert "hunter2" not in repr(credentials)
            assert "aHVu" not in repr(credentials)
        for make in (
            lambda: bearer(here(), "hunter2\r\nEvil: 1"),
            lambda: bearer(here(), "hunter2☃"),
            lambda: HeaderCredentials(here(), "X Y", "hunter2"),
            lambda: HeaderCredentials(here(), "Content-Length", "hunter2"),
            lambda: basic(here(), "a:b", "hunter2"),
        ):
            with pytest.raises(ValueError) as caught:
                make()
            assert "hunter2" not in str(caught.value)

    run(main())


# the token


def granted(token: str = "tok", **more: object) -> bytes:
    return response(msgspec.json.encode({"access_token": token, "token_type": "Bearer", "expires_in": 3600} | more))


class Endpoint:
    """A token endpoint that grants t0, t1, … or answers what the test says."""

    def __init__(self) -> None:
        self.asked: list[tuple[dict[str, str], bytes]] = []
        self.answer: Callable[[int], bytes] = lambda number: granted(f"t{number}")
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def __call__(self, visit: Visit) -> None:
        while True:
            request = await visit.request()
            self.asked.append((request.headers, request.body))
            assert request.line == "POST /oauth/token?v=1 HTTP/1.1"
            number = len(self.asked) - 1
            await self.may_answer.wait()
            visit.send(self.answer(number))


@asynccontextmanager
async def fetching(port: int, *, fetch_timeout_s: float = 10.0) -> AsyncIterator[ClientCredentials]:
    url = f"http://127.0.0.1:{port}/oauth/token?v=1"
    provider = Provider(ProviderSettings(name="acme", base_url=url), here())
    credentials = ClientCredentials(
        here(),
        provider,
        target=token_target(url),
        client_id="our:id",
        client_secret="hunter2 &",
        scopes=("read", "write:all"),
        fetch_timeout_s=fetch_timeout_s,
    )
    try:
        yield credentials
    finally:
        await credentials.close()
        assert provider.connections == 0


def token_of(credentials: Credentials) -> str | None:
    return dict(credentials.apply(CHARGE).headers).get("Authorization")


def with_endpoint(test: Callable[[Endpoint, ClientCredentials], Awaitable[None]], **more: float) -> Callable[[], Awaitable[None]]:
    async def whole() -> None:
        endpoint = Endpoint()
        async with ScriptedProvider(endpoint) as there, fetching(there.port, **more) as credentials:
            await test(endpoint, credentials)

    return whole


@on_both_loops
async def test_the_token_is_fetched_once_for_all_who_wait() -> None:
    async def test(endpoint: Endpoint, credentials: ClientCredentials) -> None:
        assert not credentials.ready(here().time())
        assert token_of(credentials) is None
        endpoint.may_answer.clear()
        waiting = [asyncio.ensure_future(prepared(credentials)) for _ in range(50)]
        await until(lambda: endpoint.asked)
        late = asyncio.ensure_future(prepared(credentials))
        await asyncio.sleep(0)
        endpoint.may_answer.set()
        assert await asyncio.gather(*waiting, late) == [None] * 51
        assert credentials.ready(here().time())
        assert await prepared(credentials) is None
        assert token_of(credentials) == "Bearer t0"
        ((headers, body),) = endpoint.asked
        pair = base64.b64encode(b"our%3Aid:hunter2+%26").decode()
        assert headers["authorization"] == f"Basic {pair}"
        assert headers["content-type"] == "application/x-www-form-urlencoded"
        assert body == b"grant_type=client_credentials&scope=read+write%3Aall"
        assert "hunter2" not in repr(credentials)

    await with_endpoint(test)()


@on_both_loops
async def test_it_is_renewed_while_the_old_one_still_serves() -> None:
    async def test(endpoint: Endpoint, credentials: ClientCredentials) -> None:
        await prepared(credentials)
        now = here().time()
        assert credentials.ready(now + 3530)
        assert len(endpoint.asked) == 1
        endpoint.may_answer.clear()
        assert credentials.ready(now + 3550)
        assert credentials.ready(now + 3550)
        assert token_of(credentials) == "Bearer t0"
        endpoint.may_answer.set()
        await until(lambda: token_of(credentials) == "Bearer t1")
        assert len(endpoint.asked) == 2
        assert not credentials.ready(now + 2 * 3600)

    await with_endpoint(test)()


@on_both_loops
async def test_it_is_not_fetched_on_a_connection_that_may_be_dying() -> None:
    async def script(visit: Visit) -> None:
        await visit.request()
        visit.send(granted(f"t{visit.number}"))
        await visit.request()  # and closes: its patience ended while this was on its way

    async with ScriptedProvider(script) as there, fetching(there.port) as credentials:
        assert await prepared(credentials) is None
        (resting,) = credentials._provider._resting
        resting.rest_since -= 1.0
        assert credentials.refused(credentials.apply(CHARGE))
        assert await prepared(credentials) is None
        assert token_of(credentials) == "Bearer t1"


@on_both_loops
async def test_a_renewal_that_fails_does_no_harm_until_the_end() -> None:
    async def test(endpoint: Endpoint, credentials: ClientCredentials) -> None:
        await prepared(credentials)
        now = here().time()
        endpoint.answer = lambda number: response(b"", "503 Busy")
        assert credentials.ready(now + 3550)
        await until(lambda: credentials._fetch is None)
        assert credentials.ready(now + 3550.5)
        assert token_of(credentials) == "Bearer t0"
        assert not credentials.ready(now + 3596)

    await with_endpoint(test)()


@on_both_loops
@pytest.mark.parametrize(("life", "usable_s"), [(10, 9.5), ("10", 9.5), (100.5, 95.4), (None, 3595)])
async def test_how_long_a_token_serves(life: object, usable_s: float) -> None:
    async def test(endpoint: Endpoint, credentials: ClientCredentials) -> None:
        endpoint.answer = lambda number: granted(expires_in=life)
        started = here().time()
        assert await prepared(credentials) is None
        assert credentials.ready(started + usable_s - 0.1)
        assert not credentials.ready(here().time() + usable_s + 0.2)

    await with_endpoint(test)()


@on_both_loops
async def test_a_401_brings_one_new_token_and_not_one_each() -> None:
    async def test(endpoint: Endpoint, credentials: ClientCredentials) -> None:
        await prepared(credentials)
        refused = [credentials.apply(CHARGE) for _ in range(3)]
        assert credentials.refused(refused[0])
        assert not credentials.ready(here().time())
        waiting = asyncio.ensure_future(prepared(credentials))
        await asyncio.sleep(0)
        assert credentials.refused(refused[1])  # the same token: it is being replaced already
        assert await waiting is None
        assert credentials.refused(refused[2])  # it was replaced: ask again with the new one
        assert token_of(credentials) == "Bearer t1"
        assert len(endpoint.asked) == 2
        assert not credentials.refused(credentials.apply(CHARGE))  # the new one too: it is not the token
        assert token_of(credentials) == "Bearer t1"
        credentials._replaced_at -= 61
        assert credentials.refused(credentials.apply(CHARGE))

    await with_endpoint(test)()


@on_both_loops
@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (response(b'{"error":"invalid_client"}', "401 No"), "answered 401 (invalid_client)"),
        (response(b'{"error":"Evil <b>"}', "400 No"), "answered 400"),
        (response(b"oops", "500 Oops"), "answered 500"),
        (response(b"", "302 Found", "Location: /elsewhere"), "answered 302"),
        (response(b"oops"), "sent no access_token"),
        (response(b"[1]"), "sent no access_token"),
        (response(b'{"error":"bad_verification_code"}'), "sent no access_token (bad_verification_code)"),
        (response(b"[" * 100_000), "sent no access_token"),
        (response(b'{"access_token":5}'), "sent no access_token"),
        (granted(""), "sent no access_token"),
        (granted("a\r\nEvil: 1"), "sent no access_token"),
        (granted("a b"), "sent no access_token"),
        (granted("ä"), "sent no access_token"),
        (granted(token_type="mac"), "another type than Bearer"),
        (granted(token_type=5), "another type than Bearer"),
        (granted(expires_in=0), "has expired"),
        (granted(expires_in="-5"), None),  # no number of ours: as if it had not been said
        (granted(expires_in=True), None),
        (granted(token_type="bearer"), None),
        (response(b'{"access_token":"x"}'), None),
        (response(b'{"access_token":"x","expires_in":1%b}' % (b"0" * 400)), None),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", "malformed"),
    ],
)
async def test_what_the_endpoint_may_say(answer: bytes, why: str | None) -> None:
    async def test(endpoint: Endpoint, credentials: ClientCredentials) -> None:
        endpoint.answer = lambda number: answer
        told = tuple(await asyncio.gather(prepared(credentials), prepared(credentials)))
        if why is None:
            assert told == (None, None)
            return
        for one in told:
            assert one is not None
            assert one.startswith("no access token: ")
            assert one.endswith(why) or why == "malformed"
            assert "Evil" not in one
            assert "hunter2" not in one
        assert token_of(credentials) is None

    await with_endpoint(test)()


@on_both_loops
async def test_after_a_failure_the_endpoint_is_left_alone_for_a_moment() -> None:
    async def test(endpoint: Endpoint, credentials: ClientCredentials) -> None:
        endpoint.answer = lambda number: response(b"", "503 Busy")
        first = await prepared(credentials)
        assert first is not None
        assert await prepared(credentials) == first
        assert len(endpoint.asked) == 1
        endpoint.answer = lambda number: granted("better")
        credentials._hold_until = here().time()
        assert await prepared(credentials) is None
        assert len(endpoint.asked) == 2

    await with_endpoint(test)()


@on_both_loops
async def test_nobody_waits_beyond_his_deadline_and_the_fetch_goes_on_for_the_others() -> None:
    async def test(endpoint: Endpoint, credentials: ClientCredentials) -> None:
        endpoint.may_answer.clear()
        patient = asyncio.ensure_future(prepared(credentials))
        assert await prepared(credentials, timeout_s=0.02) == "no access token: it did not come in time"
        told: list[str | None] = []
        waiting = credentials.prepare(here().time() + 30, told.append)
        waiting.cancel()
        waiting.cancel()
        endpoint.may_answer.set()
        assert await patient is None
        assert told == []
        assert len(endpoint.asked) == 1

    await with_endpoint(test)()


@on_both_loops
async def test_the_fetch_has_a_bound_of_its_own() -> None:
    async def test(endpoint: Endpoint, credentials: ClientCredentials) -> None:
        endpoint.may_answer.clear()
        why = await prepared(credentials)
        assert why is not None
        assert "the deadline passed before a response came" in why

    await with_endpoint(test, fetch_timeout_s=0.03)()


@on_both_loops
async def test_an_endpoint_that_is_not_there() -> None:
    port = closed_port()
    async with fetching(port) as credentials:
        why = await prepared(credentials)
        assert why == f"no access token: no connection to 127.0.0.1:{port}: 127.0.0.1: Connection refused"


@on_both_loops
async def test_closing_tells_those_who_wait() -> None:
    async def test(endpoint: Endpoint, credentials: ClientCredentials) -> None:
        endpoint.may_answer.clear()
        waiting = asyncio.ensure_future(prepared(credentials))
        await until(lambda: endpoint.asked)
        await credentials.close()
        why = await waiting
        assert why is not None
        assert "cancelled" in why

    await with_endpoint(test)()


@on_both_loops
async def test_one_who_raises_when_told_does_not_keep_it_from_the_others() -> None:
    reported: list[dict[str, object]] = []

    async def test(endpoint: Endpoint, credentials: ClientCredentials) -> None:
        here().set_exception_handler(lambda _, context: reported.append(context))

        def raises(why: str | None) -> None:
            raise ZeroDivisionError

        credentials.prepare(here().time() + 30, raises)
        assert await prepared(credentials) is None
        assert isinstance(reported[0]["exception"], ZeroDivisionError)

    await with_endpoint(test)()


def test_a_target_that_cannot_be_sent() -> None:
    async def main() -> None:
        provider = Provider(ProviderSettings(name="acme", base_url="http://a.example"), here())
        with pytest.raises(ValueError, match="target"):
            ClientCredentials(here(), provider, target="/a b", client_id="a", client_secret="b")

    run(main())


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("https://idp.example/oauth/token", "/oauth/token"),
        ("https://idp.example", "/"),
        ("https://idp.example/t?tenant=a%20b", "/t?tenant=a%20b"),
    ],
)
def test_token_target(url: str, target: str) -> None:
    assert token_target(url) == target
