"""Providers as the configuration describes them."""

import asyncio
import threading
import time
from pathlib import Path

import pytest

from homing import config
from homing.edges.resolver import Resolver
from homing.roles.remotes import remotes_of
from tests.serving import Answer, Asked, Reply, Serving

TEXT = """
[providers.acme]
base_url = "http://127.0.0.1:1/v1"
auth = { type = "bearer", token = "t0ken" }
request_id_header = "X-Request-ID"
response_max = "1KiB"
timeout = { connect = "1s" }
proxy = "http://user:pa55@127.0.0.1:3"

[providers.plain]
base_url = "http://127.0.0.1:1"
"""


def test_every_table_becomes_a_remote(tmp_path: Path) -> None:
    (tmp_path / "homing.toml").write_text(TEXT)
    loaded = config.load(tmp_path / "homing.toml")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        remotes = remotes_of(loaded, Resolver(loop), loop)
        assert remotes["acme"].request_id_header == "x-request-id"
        assert remotes["acme"].credentials is not None
        assert remotes["plain"].credentials is None
        assert "t0ken" not in repr(remotes)
        assert "pa55" not in repr(remotes)
        for remote in remotes.values():
            await remote.close()

    asyncio.run(main())


HOUSE = """
[gateway]
anonymous = ["*"]
[providers.acme]
base_url = "{provider}"
auth = AUTH
[methods."a.b"]
provider = "acme"
request = "GET /x"
"""


@pytest.mark.parametrize(
    ("auth", "header", "query"),
    [
        ('{ type = "bearer", token = "t0ken" }', "Bearer t0ken", ""),
        ('{ type = "basic", username = "u", password = "p" }', "Basic dTpw", ""),
        ('{ type = "header", name = "Authorization", value = "Token t" }', "Token t", ""),
        ('{ type = "query", name = "api key", value = "a&b" }', None, "api%20key=a%26b"),
    ],
)
def test_credentials_reach_the_provider(auth: str, header: str | None, query: str, tmp_path: Path) -> None:
    with Serving(HOUSE.replace("AUTH", auth), tmp_path, lambda asked: Answer(body=1)) as homing:
        assert homing.call("a.b").result == 1
    asked = homing.provider.log[0]
    assert (asked.headers.get("authorization"), asked.query) == (header, query)


def test_a_token_is_fetched_once_for_all_and_renewed_once_when_it_is_refused(tmp_path: Path) -> None:
    fetched: list[str] = []
    fresh = threading.Event()

    def provide(asked: Asked) -> Answer:
        if asked.path == "/token":
            fetched.append(asked.body.decode())
            return Answer(body={"access_token": f"t{len(fetched)}", "token_type": "Bearer", "expires_in": 3600}, after_s=0.1)
        if fresh.is_set() and asked.headers["authorization"] == "Bearer t1":
            return Answer(status=401)
        return Answer(body=asked.headers["authorization"])

    auth = '{ type = "oauth2_client_credentials", token_url = "{provider}/token", client_id = "me", SCOPES client_secret = "s" }'
    auth = auth.replace("SCOPES", 'scopes = ["a", "b"],')
    with Serving(HOUSE.replace("AUTH", auth), tmp_path, provide) as homing:
        results: list[object] = []
        callers = [threading.Thread(target=lambda: results.append(homing.call("a.b").result)) for _ in range(5)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
        assert results == ["Bearer t1"] * 5
        assert fetched == ["grant_type=client_credentials&scope=a+b"]
        fresh.set()
        assert homing.call("a.b").result == "Bearer t2"
    assert len(fetched) == 2


def test_without_a_token_nothing_is_sent(tmp_path: Path) -> None:
    auth = '{ type = "oauth2_client_credentials", token_url = "{provider}/token", client_id = "me", client_secret = "s" }'
    with Serving(
        HOUSE.replace("AUTH", auth), tmp_path, lambda asked: Answer(status=400, body={"error": "invalid_client"})
    ) as homing:
        reply = homing.call("a.b")
    assert (reply.data["reason"], reply.data["executed"], reply.data["retry"]) == ("provider_unreachable", "no", "safe")
    assert "invalid_client" in reply.error["message"]
    assert [asked.path for asked in homing.provider.log] == ["/token"]


LOOKED_UP = HOUSE.replace('request = "GET /x"', 'request = "POST /x"\nlookup = { request = "GET /x", reserve = "20s" }').replace(
    "AUTH", '{ type = "oauth2_client_credentials", token_url = "{provider}/token", client_id = "me", client_secret = "s" }'
)


def shortlived(asked: Asked, tokens: list[float], then: Answer) -> Answer:
    """Tokens serve for 1 s. A request is lost once its token has expired; a lookup finds it, with a token that has not."""
    if asked.path == "/token":
        if tokens:
            return then
        tokens.append(time.monotonic())
        return Answer(body={"access_token": "t0", "expires_in": 1})
    if asked.method == "POST":
        return Answer(drop=True, after_s=1.1)
    return Answer(status=401) if asked.headers["authorization"] == "Bearer t0" else Answer(body={"id": 7})


def test_a_lookup_gets_a_new_token_if_that_of_its_call_has_expired(tmp_path: Path) -> None:
    tokens: list[float] = []
    renewed = Answer(body={"access_token": "t1", "expires_in": 60})
    with Serving(LOOKED_UP, tmp_path, lambda asked: shortlived(asked, tokens, renewed)) as homing:
        assert homing.call("a.b").result == {"id": 7}
    assert [asked.path for asked in homing.provider.log] == ["/token", "/x", "/token", "/x"]


def test_a_lookup_that_gets_no_new_token_finds_nothing(tmp_path: Path) -> None:
    tokens: list[float] = []
    with Serving(LOOKED_UP, tmp_path, lambda asked: shortlived(asked, tokens, Answer(status=500))) as homing:
        data = homing.call("a.b").data
    assert (data["reason"], data["executed"]) == ("connection_lost", "unknown")
    assert [asked.path for asked in homing.provider.log] == ["/token", "/x", "/token"]


@pytest.mark.parametrize("good", ["Bearer t2", "none"])
def test_a_lookup_whose_token_is_refused_is_asked_again_once_with_a_new_one(good: str, tmp_path: Path) -> None:
    tokens: list[str] = []

    def provide(asked: Asked) -> Answer:
        if asked.path == "/token":
            tokens.append(f"t{len(tokens) + 1}")
            return Answer(body={"access_token": tokens[-1], "expires_in": 3600})
        if asked.method == "POST":
            return Answer(drop=True)
        return Answer(body={"id": 7}) if asked.headers["authorization"] == good else Answer(status=401)

    with Serving(LOOKED_UP, tmp_path, provide) as homing:
        reply = homing.call("a.b")
    assert [(asked.method, asked.path) for asked in homing.provider.log] == [
        ("POST", "/token"), ("POST", "/x"), ("GET", "/x"), ("POST", "/token"), ("GET", "/x"),
    ]  # fmt: skip
    if good == "none":
        assert (reply.data["reason"], reply.data["executed"]) == ("connection_lost", "unknown")
    else:
        assert reply.result == {"id": 7}


def test_a_lookup_that_waits_for_its_token_can_be_given_up(tmp_path: Path) -> None:
    tokens: list[float] = []
    text = LOOKED_UP.replace("[gateway]", '[gateway]\ndrain = { timeout = "1s" }')
    with Serving(text, tmp_path, lambda asked: shortlived(asked, tokens, Answer(never=True))) as homing:
        replies: list[Reply] = []
        caller = threading.Thread(target=lambda: replies.append(homing.call("a.b")))
        caller.start()
        while len(homing.provider.log) < 3:
            time.sleep(0.01)
        homing.stop_soon()
        caller.join(10)
        assert (replies[0].data["reason"], replies[0].data["executed"]) == ("cancelled", "unknown")
        late = time.monotonic() + 2.0  # of the 5 s that a worker waits for what runs
        while homing.process.hands.running:
            assert time.monotonic() < late
            time.sleep(0.01)
