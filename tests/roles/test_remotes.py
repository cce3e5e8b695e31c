"""Providers as the configuration describes them."""

import asyncio
import threading
from pathlib import Path

import pytest

from homing import config
from homing.edges.resolver import Resolver
from homing.roles.remotes import remotes_of
from tests.serving import Answer, Asked, Serving

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
