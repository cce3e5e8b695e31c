"""What the page about balancers says of nginx, tried with nginx: its minute is a second here."""

import http.client
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, blocks_of
from tests.docs.walk import free_ports
from tests.serving import Answer, Serving

HOUSE = """
[gateway]
anonymous = ["slow.it"]
heartbeat = "{heartbeat}"
[providers.acme]
base_url = "{provider}"
[methods."slow.it"]
provider = "acme"
effect = "safe"
request = "POST /slow"
"""
NGINX = """
daemon off;
error_log stderr;
pid {folder}/nginx.pid;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        {location}
    }}
}}
"""


@contextmanager
def balancer(program: str, folder: Path, to: int) -> Iterator[int]:
    (block,) = [block for block in blocks_of(DOCS / "how-to" / "behind-a-balancer.md") if block.language == "nginx"]
    location = block.text.replace("8370", str(to)).replace("60s", "1s")
    assert location != block.text
    (port,) = free_ports(1)
    path = folder / "nginx.conf"
    path.write_text(NGINX.format(folder=folder, port=port, location=location))
    running = subprocess.Popen([program, "-c", str(path), "-p", str(folder)], stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 10
        while True:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            try:
                connection.connect()
                break
            except ConnectionRefusedError:
                assert time.monotonic() < until
                assert running.poll() is None
            finally:
                connection.close()
        yield port
    finally:
        running.terminate()
        running.wait(10)


@pytest.mark.parametrize(("heartbeat", "status"), [("300ms", 200), ("", 504)])
def test_a_slow_call_comes_through_if_there_is_a_heartbeat(
    heartbeat: str, status: int, needs: Callable[[str], str], tmp_path: Path
) -> None:
    text = HOUSE.replace("{heartbeat}", heartbeat) + '\n[admin]\nlisten = "127.0.0.1:0"\n'
    with (
        Serving(text, tmp_path, lambda asked: Answer(body={"done": True}, after_s=2.2)) as homing,
        balancer(needs("nginx"), tmp_path, homing.port) as port,
    ):
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "slow.it"}).encode()
        reply = homing.request("POST", "/rpc", body, {"Content-Type": "application/json"}, port)
        assert reply.status == status
        assert "homing-executed" not in reply.headers  # too early to say, or not homing's to say
        if status == 200:
            assert reply.result == {"done": True}
        refused = homing.request("POST", "/rpc", body.replace(b"slow", b"fast"), {"Content-Type": "application/json"}, port)
        assert (refused.status, refused.headers["homing-executed"]) == (401, "no")
