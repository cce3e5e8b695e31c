"""Providers as the configuration describes them."""

import asyncio
from pathlib import Path

from homing import config
from homing.edges.resolver import Resolver
from homing.roles.remotes import remotes_of

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
            await remote.edge.close()

    asyncio.run(main())
