"""homing.edges.provider against providers that nobody here wrote: nginx, and httpbin on waitress."""

import asyncio
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
import trustme

from homing.core.exchange import ExchangeFailed, HttpRequest, HttpResponse
from homing.edges.connect import TlsSettings
from homing.edges.credentials import HeaderCredentials, QueryCredentials, basic, bearer
from homing.edges.provider import Provider
from tests.asking import ask, calling
from tests.loops import on_both_loops
from tests.scripted import closed_port

CONFIG = """
daemon off; master_process off; worker_processes 1; pid {dir}/nginx.pid; error_log {dir}/error.log; {user}
events {{ worker_connections 512; }}
http {{
  access_log off; default_type application/json; keepalive_timeout 75s; gzip_types application/json; gzip_min_length 1;
  client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/fcgi;
  uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;
  client_max_body_size 100k;
  server {{
    listen 127.0.0.1:{port};
    location / {{ return 200 '{{"ok":true,"uri":"$request_uri","length":"$content_length"}}'; }}
    location /files/ {{ alias {dir}/files/; gzip on; }}
    location /plain/ {{ alias {dir}/files/; chunked_transfer_encoding off; gzip on; }}
    location /moved {{ return 302 /elsewhere; }}
    location /gone {{ return 444; }}
    location /empty {{ return 204; }}
    location /closing {{ keepalive_timeout 0; return 200 '{{}}'; }}
    location /upload {{ proxy_pass http://127.0.0.1:{closed}; }}
  }}
  server {{
    listen 127.0.0.1:{tls_port} ssl;
    ssl_certificate {dir}/server.pem; ssl_certificate_key {dir}/server.pem;
    ssl_protocols TLSv1.2 TLSv1.3; ssl_client_certificate {dir}/ca.pem; ssl_verify_client optional;
    location / {{ return 200 '{{"client":"$ssl_client_s_dn","protocol":"$ssl_protocol","verified":"$ssl_client_verify"}}'; }}
  }}
}}
"""


class Nginx:
    """Where it listens and what it serves."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port, self.tls_port = closed_port(), closed_port()
        self.ca = str(directory / "ca.pem")
        self.client = str(directory / "client.pem")
        self.document = msgspec.json.encode([{"number": number, "text": "some text " * 5} for number in range(3000)])


@pytest.fixture(scope="module")
def nginx(needs: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    program = needs("nginx")
    directory = tmp_path_factory.mktemp("nginx")
    there = Nginx(directory)
    (directory / "files").mkdir()
    (directory / "files" / "document.json").write_bytes(there.document)
    authority = trustme.CA()
    authority.cert_pem.write_to_path(there.ca)
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(directory / "server.pem"))
    authority.issue_cert("shop.example", common_name="shop").private_key_and_cert_chain_pem.write_to_path(there.client)
    config = directory / "nginx.conf"
    user = "user root;" if os.geteuid() == 0 else ""
    text = CONFIG.format(dir=directory, port=there.port, tls_port=there.tls_port, closed=closed_port(), user=user)
    config.write_text(text, encoding="utf-8")
    with subprocess.Popen([program, "-c", str(config), "-p", str(directory)], stderr=subprocess.PIPE) as process:
        try:
            wait_for(there.port, process)
            yield there
        finally:
            process.terminate()


def wait_for(port: int, process: "subprocess.Popen[bytes] | None" = None) -> None:
    pause = threading.Event()
    while True:
        with closing(socket.socket()) as sock:
            if sock.connect_ex(("127.0.0.1", port)) == 0:
                return
        if process is not None and process.poll() is not None:
            assert process.stderr is not None
            pytest.fail(process.stderr.read().decode())
        pause.wait(0.01)


async def answer(provider: Provider, request: HttpRequest) -> HttpResponse:
    result = await ask(provider, request)
    assert isinstance(result, HttpResponse), result
    return result


def get(target: str, **headers: str) -> HttpRequest:
    return HttpRequest("GET", target, tuple((name.replace("_", "-"), value) for name, value in headers.items()), None)


# nginx


@on_both_loops
async def test_nginx_many_over_few_connections(nginx: Nginx) -> None:
    async with calling(nginx.port) as provider:
        for _ in range(20):
            results = await asyncio.gather(*(answer(provider, HttpRequest("POST", f"/x?n={n}", (), b"{}")) for n in range(10)))
            assert [msgspec.json.decode(result.body)["uri"] for result in results] == [f"/x?n={n}" for n in range(10)]
        assert provider.connects_total == 10


@on_both_loops
@pytest.mark.parametrize("place", ["files", "plain"])
@pytest.mark.parametrize("coding", ["gzip, deflate", "identity"])
async def test_nginx_packed_in_chunks_until_close_or_as_it_is(nginx: Nginx, place: str, coding: str) -> None:
    async with calling(nginx.port) as provider:
        for _ in range(3):
            result = await answer(provider, get(f"/{place}/document.json", Accept_Encoding=coding))
            assert result.body == nginx.document
            assert "content-encoding" not in result.headers
        # Without chunks and without knowing the length nginx can only end the body with the connection.
        assert provider.connects_total == (3 if place == "plain" and coding != "identity" else 1)


@on_both_loops
async def test_nginx_odds_and_ends(nginx: Nginx) -> None:
    async with calling(nginx.port) as provider:
        moved = await answer(provider, get("/moved"))
        assert moved.status == 302
        assert moved.headers["location"].endswith("/elsewhere")
        assert (await answer(provider, get("/empty"))).status == 204
        head = await answer(provider, HttpRequest("HEAD", "/files/document.json", (("Accept-Encoding", "identity"),), None))
        assert (head.status, head.body) == (200, b"")
        assert (await answer(provider, get("/files/nosuch"))).status == 404
        assert (await answer(provider, get("/upload"))).status == 502
        part = await answer(provider, get("/files/document.json", Range="bytes=0-9", Accept_Encoding="identity"))
        assert (part.status, part.body) == (206, nginx.document[:10])
        assert provider.connects_total == 1
        assert (await answer(provider, get("/closing"))).body == b"{}"
        gone = await ask(provider, get("/gone"))
        assert isinstance(gone, ExchangeFailed)
        assert (gone.reason, gone.executed) == ("connection_lost", "unknown")


@on_both_loops
async def test_nginx_refuses_a_large_body(nginx: Nginx) -> None:
    async with calling(nginx.port) as provider:
        result = await ask(provider, HttpRequest("POST", "/upload", (), bytes(300_000)))
        # It answers and closes, and the end may overtake the answer.
        assert result.status == 413 if isinstance(result, HttpResponse) else result.executed == "unknown"
        assert (await answer(provider, get("/"))).status == 200


@on_both_loops
async def test_nginx_over_tls_with_and_without_a_client_certificate(nginx: Nginx) -> None:
    base_url = f"https://localhost:{nginx.tls_port}"
    for tls, verified in (
        (TlsSettings(ca=nginx.ca), "NONE"),
        (TlsSettings(ca=nginx.ca, client_cert=nginx.client, min_version="1.3"), "SUCCESS"),
    ):
        async with calling(0, base_url=base_url, tls=tls) as provider:
            for _ in range(3):
                shown = msgspec.json.decode((await answer(provider, get("/"))).body)
                assert shown["verified"] == verified
                assert shown["protocol"] == "TLSv1.3"
            assert provider.connects_total == 1
    async with calling(0, base_url=base_url) as provider:
        result = await ask(provider, get("/"))
        assert isinstance(result, ExchangeFailed)
        assert (result.reason, result.executed) == ("provider_unreachable", "no")
        assert "not to be trusted" in result.message


# httpbin


@pytest.fixture(scope="module")
def httpbin() -> Iterator[int]:
    """Httpbin (flask) on waitress: another server, another framework."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        core = pytest.importorskip("httpbin.core")
        waitress = pytest.importorskip("waitress.server")
        server = waitress.create_server(core.app, host="127.0.0.1", port=0, threads=4)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_for(int(server.effective_port))
    yield int(server.effective_port)
    server.close()
    thread.join(5)


@on_both_loops
async def test_httpbin_sees_what_was_sent(httpbin: int) -> None:
    async with calling(httpbin) as provider:
        request = HttpRequest(
            "POST", "/anything/a%20b?x=1&x=%C3%A9", (("X-Name", "caf\xe9"), ("Content-Type", "application/json")), b'{"a":1}'
        )
        seen = msgspec.json.decode((await answer(provider, request)).body)
        assert seen["method"] == "POST"
        assert seen["json"] == {"a": 1}
        assert seen["args"] == {"x": ["1", "é"]}
        assert seen["headers"]["X-Name"] == "caf\xe9"
        assert seen["headers"]["Host"] == f"127.0.0.1:{httpbin}"
        assert seen["headers"]["Content-Length"] == "7"


@on_both_loops
@pytest.mark.parametrize("coding", ["gzip", "deflate"])
async def test_httpbin_packs(httpbin: int, coding: str) -> None:
    async with calling(httpbin) as provider:
        seen = msgspec.json.decode((await answer(provider, get(f"/{coding}"))).body)
        assert seen["deflated" if coding == "deflate" else "gzipped"] is True


@on_both_loops
@pytest.mark.parametrize("status", [200, 201, 204, 304, 401, 404, 409, 418, 429, 500, 503])
async def test_httpbin_statuses(httpbin: int, status: int) -> None:
    async with calling(httpbin) as provider:
        assert (await answer(provider, get(f"/status/{status}"))).status == status
        assert (await answer(provider, HttpRequest("POST", f"/status/{status}", (), b"x"))).status == status


@on_both_loops
async def test_httpbin_bodies_of_every_kind(httpbin: int) -> None:
    async with calling(httpbin) as provider:
        assert len((await answer(provider, get("/stream/20"))).body.splitlines()) == 20
        assert len((await answer(provider, get("/stream-bytes/5000?chunk_size=7"))).body) == 5000
        assert len((await answer(provider, get("/bytes/5000"))).body) == 5000
        assert len((await answer(provider, get("/drip?duration=0&numbytes=50&delay=0"))).body) == 50
        assert "caf" not in (await answer(provider, get("/html"))).headers
        redirect = await answer(provider, get("/redirect/2"))
        assert (redirect.status, redirect.headers["location"]) == (302, "/relative-redirect/1")
    async with calling(httpbin, response_bytes_max=4999) as provider:
        for target in ("/bytes/5000", "/stream-bytes/5000"):
            result = await ask(provider, get(target))
            assert isinstance(result, ExchangeFailed)
            assert (result.reason, result.executed) == ("response_too_large", "unknown")


@on_both_loops
async def test_httpbin_believes_our_credentials(httpbin: int) -> None:
    loop = asyncio.get_running_loop()
    async with calling(httpbin) as provider:
        assert (await answer(provider, get("/basic-auth/me/s%3Acret"))).status == 401
        request = basic(loop, "me", "s:cret").apply(get("/basic-auth/me/s:cret"))
        assert (await answer(provider, request)).status == 200
        seen = msgspec.json.decode((await answer(provider, bearer(loop, "tok").apply(get("/bearer")))).body)
        assert seen == {"authenticated": True, "token": "tok"}
        request = QueryCredentials(loop, "key", "a&b=c d/é").apply(get("/anything?x=1"))
        seen = msgspec.json.decode((await answer(provider, request)).body)
        assert seen["args"] == {"x": "1", "key": "a&b=c d/é"}
        request = HeaderCredentials(loop, "X-Api-Key", "k").apply(get("/anything"))
        assert msgspec.json.decode((await answer(provider, request)).body)["headers"]["X-Api-Key"] == "k"
