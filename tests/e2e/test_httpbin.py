"""A provider nobody here wrote, httpbin on waitress, called through a homing.toml of one's own with curl, as a user would."""

import base64
import json
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpbin
import pytest
import waitress

from tests.running import ANY_PORT, Running

pytestmark = pytest.mark.needs("curl")

HOUSE = (
    ANY_PORT.replace("[gateway]\n", '[gateway]\nanonymous = ["*"]\ndeadline = { default = "10s", max = "20s" }\n')
    + """
[providers.bin]
base_url = "{url}"
error_body_max = "100B"
breaker = { window = "1s", calls_min = 1000000, failure_ratio = 1.0, open_for = "1s" }
headers = { X-Own = "mine", Accept = "application/json" }

[providers.basic]
base_url = "{url}"
auth = { type = "basic", username = "ada", password = "env:BIN_PASSWORD" }

[providers.bearer]
base_url = "{url}/"
auth = { type = "bearer", token = "file:token.txt" }

[methods."bin.post"]
provider = "bin"
request = "POST /post{?q,list*}"
[methods."bin.form"]
provider = "bin"
encode = "form"
request = "POST /post"
result = "body.form"
[methods."bin.get"]
provider = "bin"
effect = "safe"
request = "GET /get{?a,b}"
result = "body.args"
[methods."bin.status"]
provider = "bin"
request = "POST /status/{code}"
[methods."bin.delay"]
provider = "bin"
effect = "safe"
request = "GET /delay/{seconds}"
result = "{delayed: starts_with(body.url, 'http')}"
[methods."bin.gzip"]
provider = "bin"
effect = "safe"
request = "GET /gzip"
[methods."bin.deflate"]
provider = "bin"
effect = "safe"
request = "GET /deflate"
[methods."bin.brotli"]
provider = "bin"
effect = "safe"
request = "GET /brotli"
[methods."bin.drip"]
provider = "bin"
effect = "safe"
decode = "text"
request = "GET /drip{?numbytes,duration,delay,code}"
[methods."bin.redirect"]
provider = "bin"
effect = "safe"
request = "GET /redirect/{times}"
[methods."bin.bytes"]
provider = "bin"
effect = "safe"
decode = "base64"
request = "GET /bytes/{count}{?seed}"
[methods."bin.stream"]
provider = "bin"
effect = "safe"
request = "GET /stream/{lines}"
[methods."bin.html"]
provider = "bin"
effect = "safe"
request = "GET /html"
[methods."bin.text"]
provider = "bin"
effect = "safe"
decode = "text"
request = "GET /robots.txt"
[methods."bin.utf8"]
provider = "bin"
effect = "safe"
decode = "text"
request = "GET /encoding/utf8"
[methods."bin.headers"]
provider = "bin"
effect = "safe"
request = "GET /headers"
headers = { X-Call = "=call.id", X-Attempt = "=call.attempt", X-Param = "=params.x" }
result = "body.headers"
[methods."bin.anything"]
provider = "bin"
request = "PUT /anything/{first}/{second}{?q}"
result = "{url: url, method: method, json: json}"
[methods."bin.delete"]
provider = "bin"
request = "DELETE /delete{?id}"
result = "body.args"
[methods."bin.patch"]
provider = "bin"
request = "PATCH /patch"
result = "body.json"
[methods."bin.response_headers"]
provider = "bin"
effect = "safe"
request = "GET /response-headers{?freeform}"
result = "headers.freeform"
[methods."bin.head"]
provider = "bin"
effect = "safe"
request = "HEAD /get"

[methods."basic.ok"]
provider = "basic"
effect = "safe"
request = "GET /basic-auth/ada/s3cr%C3%A9t"
[methods."basic.wrong"]
provider = "basic"
effect = "safe"
request = "GET /basic-auth/ada/other"
[methods."bearer.ok"]
provider = "bearer"
effect = "safe"
request = "GET /bearer"
[methods."bearer.none"]
provider = "bin"
effect = "safe"
request = "GET /bearer"
"""
).replace('result = "{url: url', 'result = "body.{url: url')


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Httpbin's address."""
    server = waitress.create_server(httpbin.app, host="127.0.0.1", port=0, threads=8, clear_untrusted_proxy_headers=False)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.effective_port}"
    server.close()
    thread.join(10)


@pytest.fixture(scope="module")
def homing(server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("httpbin")
    (folder / "token.txt").write_text("t0ken\n")
    with Running(folder, HOUSE.replace("{url}", server), BIN_PASSWORD="s3cr\u00e9t") as running:
        yield running
        verbose = running.verbose()
        assert (verbose["open_calls"], verbose["broker_holds"], verbose["granted"]) == (0, 0, 0)
        running.terminate()
        assert running.wait() == 0
        assert not running.faults()


class Curl:
    """Calls as a user does, at the shell."""

    def __init__(self, url: str) -> None:
        self.url = url

    def __call__(self, method: str, params: Any = None, *arguments: str) -> Any:
        call: dict[str, Any] = {"jsonrpc": "2.0", "id": 1, "method": method}
        if params is not None:
            call["params"] = params
        command = ["curl", "-sS", "--max-time", "30", self.url, *arguments, "--json", json.dumps(call)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return json.loads(done.stdout)

    def result(self, method: str, params: Any = None, *arguments: str) -> Any:
        answer = self(method, params, *arguments)
        assert "result" in answer, answer
        return answer["result"]

    def data(self, method: str, params: Any = None, *arguments: str) -> Any:
        answer = self(method, params, *arguments)
        assert "error" in answer, answer
        return answer["error"]["data"]


@pytest.fixture(scope="module")
def curl(homing: Running) -> Curl:
    return Curl(homing.url)


def test_post(curl: Curl) -> None:
    result = curl.result(
        "bin.post", {"q": "a b&c=d/\u00e9", "list": ["x", "y z"], "deep": {"n": 12345678901234567890, "u": "\u20ac"}}
    )
    assert result["json"] == {"deep": {"n": 12345678901234567890, "u": "\u20ac"}}
    assert result["args"] == {"q": "a b&c=d/\u00e9", "list": ["x", "y z"]}
    assert result["headers"]["X-Own"] == "mine"
    assert result["headers"]["Content-Type"] == "application/json"


def test_a_form(curl: Curl) -> None:
    params = {"a": "1 & 2", "items": ["x", "y"], "card": {"number": "4242", "expires": {"year": 2030}}}
    form = curl.result("bin.form", params)
    assert form["a"] == "1 & 2"
    assert form["card[number]"] == "4242"
    assert form["card[expires][year]"] == "2030"
    assert [value for name, value in form.items() if name.startswith("items")]


def test_get(curl: Curl) -> None:
    assert curl.result("bin.get", {"a": True, "b": 1.5}) == {"a": "true", "b": "1.5"}
    assert curl.result("bin.get", {"a": None, "b": ""}) == {"b": ""}
    assert curl.result("bin.get") == {}


@pytest.mark.parametrize(
    ("code", "reason", "executed"),
    [
        (300, "provider_failed", "unknown"),
        (304, "provider_failed", "unknown"),
        (307, "provider_failed", "unknown"),
        (400, "provider_refused", "no"),
        (401, "provider_denied", "no"),
        (402, "provider_refused", "no"),
        (404, "provider_refused", "no"),
        (406, "provider_failed", "unknown"),
        (408, "provider_failed", "unknown"),
        (409, "provider_failed", "unknown"),
        (418, "provider_failed", "unknown"),
        (422, "provider_refused", "no"),
        (423, "provider_failed", "unknown"),
        (429, "provider_throttled", "no"),
        (451, "provider_refused", "no"),
        (500, "provider_failed", "unknown"),
        (502, "provider_failed", "unknown"),
        (503, "provider_failed", "unknown"),
        (504, "provider_failed", "unknown"),
        (529, "provider_throttled", "no"),
        (599, "provider_failed", "unknown"),
    ],
)
def test_every_kind_of_status(code: int, reason: str, executed: str, curl: Curl) -> None:
    data = curl.data("bin.status", {"code": code}, "-H", "Homing-Timeout: 1")
    assert (data["reason"], data["executed"], data["status"]) == (reason, executed, code)
    assert all(attempt["status"] == code for attempt in data["attempts"])


@pytest.mark.parametrize("code", [200, 201, 202, 204, 205, 206])
def test_an_empty_success_is_null(code: int, curl: Curl) -> None:
    assert curl.result("bin.status", {"code": code}) is None


def test_a_delay_within_the_deadline_and_one_beyond_it(curl: Curl) -> None:
    assert curl.result("bin.delay", {"seconds": 1}) == {"delayed": True}
    data = curl.data("bin.delay", {"seconds": 5}, "-H", "Homing-Timeout: 0.5")
    assert (data["reason"], data["executed"], data["timeout_ms"]) == ("deadline_exceeded", "unknown", 500)


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_codings_that_were_asked_for(coding: str, curl: Curl) -> None:
    result = curl.result(f"bin.{coding}")
    assert result["gzipped" if coding == "gzip" else "deflated"] is True
    assert "gzip" in result["headers"]["Accept-Encoding"]


def test_a_coding_that_was_not_asked_for(curl: Curl) -> None:
    data = curl.data("bin.brotli")
    assert (data["reason"], data["executed"]) == ("response_invalid", "unknown")


def test_drip(curl: Curl) -> None:
    assert curl.result("bin.drip", {"numbytes": 20, "duration": 1}) == "*" * 20
    data = curl.data("bin.drip", {"numbytes": 50, "duration": 5}, "-H", "Homing-Timeout: 0.8")
    assert (data["reason"], data["executed"]) == ("deadline_exceeded", "unknown")
    data = curl.data("bin.drip", {"numbytes": 300, "duration": 0, "code": 500}, "-H", "Homing-Timeout: 0.8")
    assert (data["reason"], data["body"], data["body_truncated"]) == ("provider_failed", "*" * 100, True)


def test_redirects_are_not_followed(curl: Curl) -> None:
    data = curl.data("bin.redirect", {"times": 1})
    assert (data["reason"], data["status"], len(data["attempts"])) == ("provider_failed", 302, 1)


def test_bytes(curl: Curl) -> None:
    one = base64.b64decode(curl.result("bin.bytes", {"count": 1000, "seed": 7}))
    assert len(one) == 1000
    assert one == base64.b64decode(curl.result("bin.bytes", {"count": 1000, "seed": 7}))
    assert curl.result("bin.bytes", {"count": 0}) in ("", None)


def test_several_json_values_are_none(curl: Curl) -> None:
    assert curl.data("bin.stream", {"lines": 3})["reason"] == "response_invalid"
    assert curl.result("bin.stream", {"lines": 1})["id"] == 0


def test_html_is_not_json_and_text_is_text(curl: Curl) -> None:
    data = curl.data("bin.html")
    assert (data["reason"], data["executed"], data["body_truncated"]) == ("response_invalid", "unknown", True)
    assert data["body"].startswith("<!DOCTYPE html>")
    assert curl.result("bin.text").startswith("User-agent")
    assert "\u222e E\u22c5da = Q" in curl.result("bin.utf8")


def test_credentials(curl: Curl) -> None:
    assert curl.result("basic.ok") == {"authenticated": True, "user": "ada"}
    data = curl.data("basic.wrong")
    assert (data["reason"], data["executed"], data["retry"]) == ("provider_denied", "no", "pointless")
    assert curl.result("bearer.ok") == {"authenticated": True, "token": "t0ken"}
    assert curl.data("bearer.none")["reason"] == "provider_denied"


def test_headers(curl: Curl) -> None:
    headers = curl.result("bin.headers", {"x": "tab\tand \u00e9"})
    assert len(headers["X-Call"]) == 32
    assert headers["X-Attempt"] == "1"
    assert headers["X-Param"] == "tab\tand \u00e9"
    assert headers["Host"].startswith("127.0.0.1:")


def test_anything(curl: Curl) -> None:
    result = curl.result("bin.anything", {"first": "a/..b c", "second": "50%", "q": "?&#", "rest": [1, {"x": None}]})
    assert result["method"] == "PUT"
    assert result["json"] == {"rest": [1, {"x": None}]}
    assert result["url"].endswith("/anything/a/..b%20c/50%?q=?%26%23")  # as httpbin shows what it has decoded


@pytest.mark.parametrize("value", ["..", ".", "", "a/../b", "./a", None, True, 1.5, ["a"], {"a": 1}])
def test_a_path_value_that_would_lead_elsewhere(value: Any, curl: Curl) -> None:
    answer = curl("bin.anything", {"first": value, "second": "x"})
    assert answer["error"]["code"] == -32602
    assert answer["error"]["data"]["executed"] == "no"
    assert answer["error"]["data"].get("attempts", []) == [] or answer["error"]["data"]["attempts"][0]["executed"] == "no"


def test_other_methods_of_http(curl: Curl) -> None:
    assert curl.result("bin.delete", {"id": 7}) == {"id": "7"}
    assert curl.result("bin.patch", {"a": [1.10, 1e5]}) == {"a": [1.1, 100000.0]}
    assert curl.result("bin.head") is None
    assert curl.result("bin.response_headers", {"freeform": "w\u00f6rd"}) is not None


def test_a_batch_and_a_notification(homing: Running) -> None:
    batch = [
        {"jsonrpc": "2.0", "id": "a", "method": "bin.get", "params": {"a": 1}},
        {"jsonrpc": "2.0", "method": "bin.get"},
        {"jsonrpc": "2.0", "id": "b", "method": "bin.status", "params": {"code": 422}},
    ]
    done = subprocess.run(["curl", "-sS", homing.url, "--json", json.dumps(batch)], capture_output=True, text=True, check=True)
    one, two = json.loads(done.stdout)
    assert (one["id"], one["result"]) == ("a", {"a": "1"})
    assert (two["id"], two["error"]["data"]["reason"]) == ("b", "provider_refused")
    command = ["curl", "-sS", "-o", "-", "-w", "%{http_code}", homing.url, "--json", json.dumps(batch[1])]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "204"


def test_curl_without_a_content_type_and_with_the_one_it_sends_by_itself(homing: Running) -> None:
    body = '{"jsonrpc":"2.0","id":1,"method":"bin.get"}'
    form = subprocess.run(
        ["curl", "-sS", "-w", "\n%{http_code}", homing.url, "-d", body], capture_output=True, text=True, check=True
    )
    text, status = form.stdout.rsplit("\n", 1)
    assert status == "415"
    assert "Content-Type: application/json" in json.loads(text)["error"]["message"]
    bare = subprocess.run(
        ["curl", "-sS", homing.url, "-H", "Content-Type:", "-d", body], capture_output=True, text=True, check=True
    )
    assert json.loads(bare.stdout)["result"] == {}


def test_a_large_body_that_waits_for_100_continue(homing: Running, curl: Curl, tmp_path: Path) -> None:
    """Curl sends `Expect: 100-continue` of itself from a megabyte on."""
    (tmp_path / "body").write_text(
        json.dumps({"jsonrpc": "2.0", "id": 1, "method": "bin.post", "params": {"x": "y" * 1_040_000}})
    )
    command = ["curl", "-sS", homing.url, "-H", "Content-Type: application/json", "--data-binary", f"@{tmp_path / 'body'}"]
    command += ["-H", "Expect: 100-continue"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert len(json.loads(done.stdout)["result"]["json"]["x"]) == 1_040_000
