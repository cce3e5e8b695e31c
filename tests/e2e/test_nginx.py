"""nginx as the provider: its access log is the witness of what it was asked, whatever it does to its connections."""

import asyncio
import http.server
import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme

from tests.e2e.callers import Heard, call_all, judge
from tests.running import ANY_PORT, Running
from tests.trio import until

NGINX = """
daemon off; {user} worker_processes 1; worker_shutdown_timeout 5s; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
  log_format witness '$server_port $request_method $uri $arg_n $status $request_length $body_bytes_sent $request_completion';
  access_log {folder}/witness.log witness;
  default_type application/json; gzip_types application/json; gzip_min_length 1; gzip_proxied any;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  limit_conn_zone $server_port zone=one:1m;
  server {{
    listen 127.0.0.1:{plain} backlog=1024;
    client_max_body_size 1k;
    location / {{ return 200 '{{"n":$arg_n,"length":"$content_length"}}'; }}
    location /zipped {{ alias {folder}/zipped.json; gzip on; error_page 405 =200 $uri; }}
    location /dead {{ proxy_pass http://127.0.0.1:{dead}; }}
    location /gone {{ return 444; }}
    location /crowded {{ limit_conn one 2; proxy_pass http://127.0.0.1:{slow}; proxy_http_version 1.1; }}
    location /dripping {{ alias {folder}/zipped.json; gzip off; limit_rate 200; }}
  }}
  server {{ listen 127.0.0.1:{one} backlog=1024; keepalive_requests 1; location / {{ return 200 '{{"n":$arg_n}}'; }} }}
  server {{ listen 127.0.0.1:{two} backlog=1024; keepalive_requests 2; location / {{ return 200 '{{"n":$arg_n}}'; }} }}
  server {{ listen 127.0.0.1:{brief} backlog=1024; keepalive_timeout 40ms; location / {{ return 200 '{{"n":$arg_n}}'; }} }}
  server {{
    listen 127.0.0.1:{tls} ssl;
    ssl_certificate {folder}/server.pem; ssl_certificate_key {folder}/server.pem;
    ssl_protocols TLSv1.2 TLSv1.3; ssl_client_certificate {folder}/ca.pem; ssl_verify_client on;
    location / {{ return 200 '{{"n":$arg_n,"who":"$ssl_client_s_dn","protocol":"$ssl_protocol"}}'; }}
  }}
}}
"""

PROVIDER = """
[providers.{name}]
base_url = "{url}"
in_flight_max = 500
timeout = {{ connect = "2s" }}
breaker = {{ window = "1s", calls_min = 1000000, failure_ratio = 1.0, open_for = "1s" }}
{more}
[methods."{name}.once"]
provider = "{name}"
request = "POST {path}{{?n}}"
[methods."{name}.safe"]
provider = "{name}"
effect = "safe"
request = "GET {path}{{?n}}"
params = {{ properties = {{ n = {{}} }}, additionalProperties = false }}
"""
PLAIN = ("plain", "dead", "gone", "crowded", "dripping", "zipped")


class Patient(http.server.ThreadingHTTPServer):
    """Lets as many wait at its door as come at once: beyond five, a busy machine would drop them."""

    request_queue_size = 128


class Old(http.server.BaseHTTPRequestHandler):
    """HTTP/1.0, as the standard library has it: no length, the end of the connection ends the body."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"n":%b,"got":%d}' % (self.path.partition("n=")[2].encode(), len(body)))

    def log_message(self, *_: object) -> None:
        pass


class Slow(http.server.BaseHTTPRequestHandler):
    """Takes its time, so that nginx has connections to count."""

    def do_POST(self) -> None:
        time.sleep(0.4)
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        pass


def free_ports(*names: str) -> dict[str, int]:
    sockets = {name: socket.socket() for name in names}
    for each in sockets.values():
        each.bind(("127.0.0.1", 0))
    ports = {name: int(each.getsockname()[1]) for name, each in sockets.items()}
    for each in sockets.values():
        each.close()
    return ports


class House:
    """nginx and homing before it."""

    def __init__(self, folder: Path, homing: Running, nginx: "subprocess.Popen[bytes]") -> None:
        self.folder = folder
        self.homing = homing
        self.nginx = nginx

    def ask(self, method: str, count: int, *, first: int = 0, at_once: int = 20, timeout: float = 10.0) -> list[Heard]:
        calls = [(method, {"n": number}, timeout) for number in range(first, first + count)]
        return asyncio.run(call_all(self.homing.port, calls, at_once=at_once))

    def witness(self) -> Counter[int]:
        """How often nginx had the whole of a request, by its number."""
        seen = Counter[int]()
        for line in (self.folder / "witness.log").read_text().splitlines():
            number = line.split(" ")[3]
            if number.isdigit():
                seen[int(number)] += 1
        return seen


@pytest.fixture(scope="module")
def house(needs: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("nginx")
    ports = free_ports("plain", "one", "two", "brief", "tls", "dead")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(folder / "server.pem"))
    authority.issue_cert("shop.example", common_name="shop").private_key_and_cert_chain_pem.write_to_path(
        str(folder / "shop.pem")
    )
    (folder / "zipped.json").write_text("[" + ",".join(["1234567890"] * 2000) + "]")
    servers = [Patient(("127.0.0.1", 0), handler) for handler in (Old, Slow)]
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    ports["old"], ports["slow"] = (server.server_address[1] for server in servers)
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, user=user, **ports))
    text = ANY_PORT.replace("[gateway]\n", '[gateway]\nanonymous = ["*"]\ndeadline = { default = "10s", max = "20s" }\n')
    for name in (*PLAIN, "one", "two", "brief", "old"):
        port = ports["plain"] if name in PLAIN else ports[name]
        path = "/" if name not in PLAIN or name == "plain" else f"/{name}"
        text += PROVIDER.format(name=name, url=f"http://127.0.0.1:{port}", path=path, more="")
    for name, more in [
        ("shop", 'tls = { ca = "ca.pem", client_cert = "shop.pem" }'),
        ("shop13", 'tls = { ca = "ca.pem", client_cert = "shop.pem", client_key = "shop.pem", min_version = "1.3" }'),
        ("nobody", 'tls = { ca = "ca.pem" }'),
        ("stranger", ""),
    ]:
        text += PROVIDER.format(name=name, url=f"https://localhost:{ports['tls']}", path="/", more=more)
    nginx = subprocess.Popen([needs("nginx"), "-c", str(folder / "nginx.conf"), "-p", str(folder)], stderr=subprocess.PIPE)
    try:
        _wait_for(ports["tls"], nginx)
        with Running(folder, text) as homing:
            yield House(folder, homing, nginx)
            homing.terminate()
            assert homing.wait() == 0
            assert not homing.faults()
    finally:
        nginx.terminate()
        nginx.communicate(timeout=10)
        for server in servers:
            server.shutdown()
            server.server_close()


def _wait_for(port: int, process: "subprocess.Popen[bytes]") -> None:
    latest = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 5).close()
            return
        except ConnectionRefusedError:
            if process.poll() is not None or time.monotonic() > latest:
                process.kill()
                raise AssertionError(process.communicate()[1].decode()) from None


def judge_all(heard: list[Heard], house: House) -> None:
    until(
        lambda: house.witness().keys() >= {each.params["n"] for each in heard if each.ok},
        "nginx writes down what it has answered",
    )
    seen = house.witness()
    for each in heard:
        judge(each)
        number = each.params["n"]
        assert seen[number] <= 1
        if each.ok:
            assert each.body["result"]["n"] == number, "another call's answer"
            assert seen[number] == 1
        elif seen[number]:
            assert each.executed != "no", each


@pytest.mark.parametrize(("name", "first"), [("plain", 0), ("one", 10_000), ("two", 20_000), ("old", 30_000)])
@pytest.mark.parametrize("at_once", [1, 25])
def test_whatever_becomes_of_the_connection_each_call_is_answered_by_its_own_answer(
    name: str, first: int, at_once: int, house: House
) -> None:
    heard = house.ask(f"{name}.once", 300, first=first + at_once * 300, at_once=at_once)
    assert all(each.ok for each in heard), [each for each in heard if not each.ok][:3]
    if name != "old":
        judge_all(heard, house)
    assert all(each.body["result"]["n"] == each.params["n"] for each in heard)


def test_connections_that_die_young_make_no_false_no(house: House) -> None:
    """Nginx closes after 40 ms of rest, and calls come about as often: some are written into a connection that is closing."""

    async def now_and_then() -> list[Heard]:
        heard: list[Heard] = []
        for number in range(120):
            heard += await call_all(house.homing.port, [("brief.once", {"n": 40_000 + number}, 5.0)], at_once=1)
            await asyncio.sleep(0.037 + number % 7 / 1000)
        return heard

    judge_all(asyncio.run(now_and_then()), house)


def test_a_reload_under_load_makes_no_false_no(house: House) -> None:
    """Nginx closes the connections of its old workers while they are being used."""
    over = threading.Event()

    def reload() -> None:
        while not over.wait(0.15):
            house.nginx.send_signal(signal.SIGHUP)

    reloading = threading.Thread(target=reload)
    reloading.start()
    try:
        heard = house.ask("plain.once", 2000, first=50_000, at_once=10)
    finally:
        over.set()
        reloading.join()
    judge_all(heard, house)
    assert sum(each.ok for each in heard) > 1000


def test_413(house: House) -> None:
    reply = house.homing.call("plain.once", {"n": 1, "x": "y" * 900_000})
    assert (reply.data["reason"], reply.data["executed"], reply.data["status"]) == ("provider_refused", "no", 413)
    assert reply.data["body"].startswith("<html>")


def test_compressed_and_chunked(house: House) -> None:
    reply = house.homing.call("zipped.safe", {"n": 1})
    assert reply.result == [1234567890] * 2000


def test_a_dead_upstream_is_502_and_unknown(house: House) -> None:
    data = house.homing.call("dead.once", {"n": 2}).data
    assert (data["reason"], data["executed"], data["status"], len(data["attempts"])) == ("provider_failed", "unknown", 502, 1)
    assert len(house.homing.call("dead.safe", {"n": 3}).data["attempts"]) == 3


def test_closing_without_a_word_is_unknown(house: House) -> None:
    data = house.homing.call("gone.once", {"n": 60_001}).data
    assert (data["reason"], data["executed"], len(data["attempts"])) == ("connection_lost", "unknown", 1)
    assert house.witness()[60_001] == 1


def test_a_limit_on_connections(house: House) -> None:
    heard = house.ask("crowded.once", 12, first=60_100, at_once=12)
    said = Counter(each.body["result"] == {} if each.ok else each.data["status"] for each in heard)
    assert said.keys() == {True, 503}
    assert all(each.executed == "unknown" for each in heard if not each.ok)


def test_dripping(house: House) -> None:
    data = house.homing.call("dripping.safe", {"n": 60_200}, Homing_Timeout="1").data
    assert (data["reason"], data["executed"]) == ("deadline_exceeded", "unknown")


def test_client_certificates(house: House) -> None:
    result = house.homing.call("shop.once", {"n": 60_300}).result
    assert result["who"].startswith("CN=shop")
    assert house.homing.call("shop13.once", {"n": 60_301}).result["protocol"] == "TLSv1.3"
    nobody = house.homing.call("nobody.once", {"n": 60_302}).data
    assert (nobody["reason"], nobody["executed"], nobody["status"]) == ("provider_refused", "no", 400)
    stranger = house.homing.call("stranger.once", {"n": 60_303})
    assert (stranger.data["reason"], stranger.data["executed"]) == ("provider_unreachable", "no")
    assert re.search("certificate", stranger.error["message"])
    assert house.witness()[60_303] == 0


def test_many_over_tls(house: House) -> None:
    heard = house.ask("shop.once", 400, first=70_000, at_once=30)
    assert all(each.ok for each in heard)
    judge_all(heard, house)
