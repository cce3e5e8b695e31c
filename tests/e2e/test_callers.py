"""Callers nobody here wrote: http.client, aiohttp, node's fetch, and curl where it does something odd."""

import asyncio
import http.client
import json
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import trustme

from tests.serving import Answer, Asked, Serving

HOUSE = """
[gateway]
anonymous = ["*"]
deadline = { default = "5s", max = "8s" }
origins = ["https://shop.example"]
heartbeat = "200ms"
{tls}
[providers.acme]
base_url = "{provider}"
[methods."acme.echo"]
provider = "acme"
effect = "safe"
request = "POST /echo"
[methods."acme.slow"]
provider = "acme"
request = "POST /slow"
[methods."acme.no"]
provider = "acme"
request = "POST /no"
"""


def provide(asked: Asked) -> Answer:
    if asked.path == "/slow":
        return Answer(body=asked.json, after_s=0.7)
    if asked.path == "/no":
        return Answer(status=422, body={"why": "\u20ac"})
    return Answer(body=asked.json)


@pytest.fixture(scope="module")
def homing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with Serving(HOUSE.replace("{tls}", ""), tmp_path_factory.mktemp("callers"), provide) as homing:
        yield homing


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Serving, Path]]:
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(folder / "server.pem"))
    tls = 'tls = { cert = "server.pem", key = "server.pem" }'
    with Serving(HOUSE.replace("{tls}", tls), folder, provide) as homing:
        yield homing, folder / "ca.pem"


def envelope(method: str, params: Any = None, id: Any = 1) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": id, "method": method, "params": params or {}}).encode()


def test_http_client_on_one_connection(homing: Serving) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", homing.port, timeout=10)
    for number in range(50):
        connection.request("POST", "/rpc", envelope("acme.echo", {"n": number}, number))
        response = connection.getresponse()
        assert json.load(response) == {"jsonrpc": "2.0", "id": number, "result": {"n": number}}
    connection.request("POST", "/rpc", iter([envelope("acme.echo")[:20], envelope("acme.echo")[20:]]), encode_chunked=True)
    assert json.load(connection.getresponse())["result"] == {}
    connection.request("POST", "/rpc", envelope("acme.slow", {"n": 7}))
    response = connection.getresponse()
    assert response.getheader("transfer-encoding") == "chunked"
    assert json.load(response)["result"] == {"n": 7}
    connection.request("POST", "/rpc", envelope("acme.no"))
    response = connection.getresponse()
    assert (response.status, response.getheader("homing-executed")) == (200, "no")
    assert json.load(response)["error"]["data"]["body"] == {"why": "\u20ac"}
    connection.close()


def test_http_client_over_tls(secure: tuple[Serving, Path]) -> None:
    homing, ca = secure
    context = ssl.create_default_context(cafile=str(ca))
    connection = http.client.HTTPSConnection("localhost", homing.port, timeout=10, context=context)
    for number in range(20):
        connection.request("POST", "/rpc", envelope("acme.echo", {"n": number, "x": "y" * 50_000}))
        assert json.load(connection.getresponse())["result"]["n"] == number
    connection.close()


async def talk(url: str, context: ssl.SSLContext | bool) -> None:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=50, ssl=context)) as session:

        async def call(method: str, params: Any, number: int) -> Any:
            body = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
            async with session.post(url, json=body) as response:
                answer = await response.json()
                assert answer["id"] == number
                return answer.get("result", answer.get("error"))

        results = await asyncio.gather(*(call("acme.echo", {"n": number}, number) for number in range(200)))
        assert results == [{"n": number} for number in range(200)]
        slow = await asyncio.gather(*(call("acme.slow", {"n": number}, number) for number in range(50)))
        assert slow == [{"n": number} for number in range(50)]
        assert (await call("acme.no", {}, 1))["data"]["reason"] == "provider_refused"

        async def pieces() -> Any:
            body = envelope("acme.echo", {"x": "y" * 100_000})
            for start in range(0, len(body), 3000):
                yield body[start : start + 3000]

        async with session.post(url, data=pieces(), headers={"Content-Type": "application/json"}, expect100=True) as response:
            assert len((await response.json())["result"]["x"]) == 100_000
        async with session.options(url, headers={"Origin": "https://shop.example"}) as response:
            assert response.status == 204
            assert response.headers["access-control-allow-origin"] == "https://shop.example"
        async with session.get(url) as response:
            assert (response.status, response.headers["homing-executed"]) == (405, "no")
        async with session.ws_connect(url.replace("http", "ws")) as _:
            raise AssertionError("there is no such thing here")


def test_aiohttp(homing: Serving) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError):
        asyncio.run(talk(f"{homing.url}/rpc", True))


def test_aiohttp_over_tls(secure: tuple[Serving, Path]) -> None:
    homing, ca = secure
    with pytest.raises(aiohttp.WSServerHandshakeError):
        asyncio.run(talk(f"https://localhost:{homing.port}/rpc", ssl.create_default_context(cafile=str(ca))))


SCRIPT = """
const url = process.argv[1];
async function call(method, params, id, headers = {}) {
  const response = await fetch(url, {
    method: "POST",
    headers: { "content-type": "application/json; charset=utf-8", ...headers },
    body: JSON.stringify({ jsonrpc: "2.0", id, method, params }),
  });
  return { status: response.status, executed: response.headers.get("homing-executed"), ...(await response.json()) };
}
async function main() {
  const many = await Promise.all([...Array(100).keys()].map((n) => call("acme.echo", { n, text: "\\u{1F600}\\u00e9" }, `id-${n}`)));
  if (!many.every((each, n) => each.id === `id-${n}` && each.result.n === n && each.result.text === "\\u{1F600}\\u00e9"))
    throw new Error("another call's answer");
  const slow = await call("acme.slow", { n: 1 }, 1);
  const no = await call("acme.no", {}, 2);
  const foreign = await call("acme.echo", {}, 3, { origin: "https://elsewhere.example" });
  const abort = new AbortController();
  const gone = fetch(url, {
    method: "POST", signal: abort.signal, headers: { "content-type": "application/json" },
    body: JSON.stringify({ jsonrpc: "2.0", id: 9, method: "acme.slow", params: { n: 9 } }),
  }).catch((error) => error.name);
  setTimeout(() => abort.abort(), 200);
  console.log(JSON.stringify({ slow: slow.result, no: no.executed, foreign: foreign.status, gone: await gone }));
}
main().catch((error) => { console.error(error); process.exit(1); });
"""


@pytest.mark.needs("node")
def test_fetch_of_node(homing: Serving) -> None:
    done = subprocess.run(["node", "-e", SCRIPT, f"{homing.url}/rpc"], capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"slow": {"n": 1}, "no": "no", "foreign": 403, "gone": "AbortError"}


@pytest.mark.needs("curl")
def test_curl_of_other_ages_and_over_tls(homing: Serving, secure: tuple[Serving, Path]) -> None:
    def curl(*arguments: str) -> Any:
        done = subprocess.run(["curl", "-sS", *arguments], capture_output=True, text=True, check=False, timeout=30)
        assert done.returncode == 0, done.stderr
        return done.stdout

    body = envelope("acme.echo", {"a": 1}).decode()
    assert json.loads(curl("--http1.0", homing.url, "--json", body))["result"] == {"a": 1}
    assert json.loads(curl("--http1.0", homing.url, "--json", envelope("acme.slow", {"a": 1}).decode()))["result"] == {"a": 1}
    assert json.loads(curl("-H", "Transfer-Encoding: chunked", homing.url, "--json", body))["result"] == {"a": 1}
    assert json.loads(curl("--http2", homing.url, "--json", body))["result"] == {"a": 1}, "an upgrade is an offer"
    assert (
        curl("-o", "-", "-w", "%{http_code}", "--http2-prior-knowledge", "-m", "3", f"{homing.url}/livez", "--http1.1") == "200"
    )
    two = curl(homing.url, "--json", body, "--next", "-sS", homing.url, "--json", body)
    assert two.count('"result":{"a": 1}') == 2
    other, ca = secure
    for version in ("--tlsv1.2", "--tlsv1.3"):
        done = curl(version, "--cacert", str(ca), f"https://localhost:{other.port}/", "--json", body)
        assert json.loads(done)["result"] == {"a": 1}
    assert (
        "empty reply"
        in subprocess.run(
            ["curl", "-sS", f"http://127.0.0.1:{other.port}/", "--json", body],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        ).stderr.lower()
    )
