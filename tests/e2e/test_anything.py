"""Anything at all from a caller and from a provider: one sound answer each time, its head and its body agreed, and nothing breaks."""

import http.client
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from homing.errors import ROWS, STRENGTH
from tests.e2e.quirks import Line, QuirkyProvider, on_a_thread
from tests.running import ANY_PORT, Running

HOUSE = (
    ANY_PORT.replace("[gateway]\n", '[gateway]\nanonymous = ["acme.*"]\ndeadline = { default = "3s", max = "20s" }\n')
    + """
[providers.acme]
base_url = "{url}"
error_body_max = "200B"
retry = { attempts_max = 2 }
request_id_header = "x-id"
breaker = { window = "1s", calls_min = 1000000, failure_ratio = 1.0, open_for = "1s" }
[[providers.acme.answers]]
when = "status == `418` && length(body.a) > `2`"
is = "refused"
message = "body.message"
[[providers.acme.answers]]
when = "contains(keys(body), 'fault')"
is = "failed"
executed = "no"
retry = false
message = "join('-', body.fault)"
[[providers.acme.answers]]
when = "body.sure"
is = "ok"

[methods."acme.raw"]
provider = "acme"
request = "POST /raw"
[methods."acme.keyed"]
provider = "acme"
effect = "keyed"
idempotency_key = { header = "Idempotency-Key", lifetime = "1h" }
request = "POST /keyed"
[methods."acme.mapped"]
provider = "acme"
request = "POST /mapped/{a}{?b,c*}"
headers = { X-D = "=params.d" }
body = { e = "=params.e", f = "=params.f.g", h = "=length(params.e)" }
result = "body.{a: a, n: length(b), s: sum(c)}"
[methods."acme.form"]
provider = "acme"
encode = "form"
decode = "text"
request = "POST /form"
[methods."acme.typed"]
provider = "acme"
effect = "safe"
request = "GET /typed{?a,b}"
positional = ["a", "b"]
result = "body"
[methods."acme.typed".params]
properties.a = { type = ["number", "string", "null"], format = "date-time" }
properties.b = { type = "array", items = { type = "integer", multipleOf = 2 }, uniqueItems = true }
additionalProperties = false
[methods."acme.found"]
provider = "acme"
request = "POST /found"
lookup = { request = "GET /raw", query = { key = "=call.key", a = "=params.a" }, found = "body.b[0]", reserve = "500ms" }
[methods."acme.found".params]
additionalProperties = true
"""
)
METHODS = ["acme.raw", "acme.keyed", "acme.mapped", "acme.form", "acme.typed", "acme.found", "acme.none", ""]

texts = st.text(max_size=20)
numbers = st.one_of(
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([10**30, -(10**400), 0.1, -0.0, 1e308, 5e-324]),
)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, texts),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts | st.sampled_from("abcdefg"), inner, max_size=4)),
    max_leaves=12,
)
params = st.one_of(
    st.dictionaries(st.sampled_from(["a", "b", "c", "d", "e", "f", "_meta", ""]), values, max_size=6),
    st.lists(values, max_size=4),
    st.none(),
    values,
)
bodies = st.one_of(
    st.binary(max_size=200),
    values.map(lambda value: json.dumps(value).encode()),
    st.dictionaries(st.sampled_from(["a", "b", "c", "fault", "message", "sure"]), values, max_size=5).map(
        lambda value: json.dumps(value).encode()
    ),
    values.map(lambda value: json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")),
)
fields = st.lists(
    st.tuples(
        st.sampled_from(
            ["Retry-After", "X-Id", "Content-Type", "Set-Cookie", "X-A", "Keep-Alive", "Content-Encoding", "Connection"]
        ),
        st.one_of(
            st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=30),
            st.sampled_from(
                ["0", "1", "timeout=5", "timeout=99999999", "Fri, 31 Dec 9999 23:59:59 GMT", "gzip", "close", "identity"]
            ),
        ),
    ),
    max_size=4,
)


class Whatever:
    """What the provider says next."""

    def __init__(self) -> None:
        self.status = 200
        self.fields: list[tuple[str, str]] = []
        self.body = b""

    async def __call__(self, line: Line) -> bool:
        said = "".join(f"{name}: {value}\r\n" for name, value in self.fields)
        head = f"HTTP/1.1 {self.status} Whatever\r\n{said}Content-Length: {len(self.body)}\r\n\r\n"
        await line.say(head.encode("latin-1") + (b"" if self.status in (204, 304) else self.body))
        return not any(name == "Connection" for name, _ in self.fields)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, Whatever]]:
    whatever = Whatever()

    class Everywhere(dict):
        def get(self, key: Any, default: Any = None) -> Any:
            return whatever

    with on_a_thread(QuirkyProvider(Everywhere())) as provider:
        text = HOUSE.replace("{url}", f"http://127.0.0.1:{provider.port}")
        with Running(tmp_path_factory.mktemp("anything"), text) as homing:
            yield homing, whatever
            verbose = homing.verbose()
            assert (verbose["open_calls"], verbose["granted"], verbose["broker_holds"]) == (0, 0, 0)
            homing.terminate()
            assert homing.wait() == 0
            assert not homing.faults(), homing.faults()[:3]


def strictly(text: bytes) -> Any:
    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    return json.loads(text.decode("utf-8"), parse_constant=refuse, object_pairs_hook=once_each)


def once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return dict(pairs)


def post(homing: Running, body: bytes, **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", homing.port, timeout=20)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request("POST", "/rpc", body, {"Content-Type": "application/json", **named})
    response = connection.getresponse()
    got = response.read()
    connection.close()
    return response.status, {name.lower(): value for name, value in response.getheaders()}, got


def check(status: int, headers: dict[str, str], body: bytes, id: Any) -> None:
    answer = strictly(body)
    assert set(answer) in ({"jsonrpc", "id", "result"}, {"jsonrpc", "id", "error"})
    assert answer["jsonrpc"] == "2.0"
    assert answer["id"] == id or answer["id"] is None
    if "result" in answer:
        assert (status, headers["homing-reason"], headers["homing-executed"]) == (200, "ok", "yes")
        return
    error, data = answer["error"], answer["error"]["data"]
    assert error["message"]
    assert error["code"] == ROWS[data["reason"]].code
    assert data["reason"] != "internal_error", error
    assert (headers["homing-reason"], headers["homing-executed"], headers["homing-retry"]) == (
        data["reason"],
        data["executed"],
        data["retry"],
    )
    assert data["retry"] in ("safe", "same_key", "unsafe", "pointless")
    attempts = data.get("attempts", [])
    if attempts:
        assert status == 200
        assert STRENGTH[data["executed"]] >= max(STRENGTH[attempt["executed"]] for attempt in attempts)
    if status != 200:
        assert data["executed"] == "no"
    if "retry_after_ms" in data:
        assert data["retry_after_ms"] >= 0


ids = st.one_of(st.integers(-(2**53), 2**53), st.text(max_size=10), st.none())
quick = settings(max_examples=250, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@quick
@given(
    method=st.sampled_from(METHODS),
    params=params,
    id=ids,
    status=st.one_of(st.integers(200, 599), st.sampled_from([200, 418, 429, 503, 401, 422, 409])),
    fields=fields,
    body=bodies,
)
@example(method="acme.raw", params={}, id=1, status=418, fields=[], body=b'{"a":[1,2,3],"message":"\\ud83d"}')
@example(method="acme.raw", params={}, id=1, status=500, fields=[("X-Id", "\xff")], body=b'{"fault":[1]}')
@example(method="acme.raw", params={}, id=1, status=500, fields=[], body=b"\xe2\x82" * 100)
def test_any_params_and_any_answer(
    place: tuple[Running, Whatever], method: str, params: Any, id: Any, status: int, fields: list[tuple[str, str]], body: bytes
) -> None:
    homing, whatever = place
    whatever.status, whatever.fields, whatever.body = status, fields, body
    call = {"jsonrpc": "2.0", "id": id, "method": method, "params": params}
    check(*post(homing, json.dumps(call).encode("utf-8", "surrogatepass"), Homing_Timeout="1"), id)


@quick
@given(
    body=st.one_of(
        st.binary(max_size=300),
        values.map(lambda value: json.dumps(value).encode()),
        st.lists(
            st.one_of(
                values,
                st.fixed_dictionaries(
                    {"jsonrpc": st.just("2.0"), "method": st.sampled_from(METHODS)},
                    optional={"id": values, "params": params, "meta": values, "x": values},
                ),
            ),
            max_size=5,
        ).map(lambda value: json.dumps(value).encode()),
    ),
    timeout=st.one_of(st.just("0.5"), st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=8)),
    key=st.one_of(st.just("k"), st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=300)),
    authorization=st.one_of(st.just(""), st.text(st.characters(min_codepoint=33, max_codepoint=255), max_size=60)),
)
def test_any_body_and_any_head(place: tuple[Running, Whatever], body: bytes, timeout: str, key: str, authorization: str) -> None:
    homing, whatever = place
    whatever.status, whatever.fields, whatever.body = 200, [], b"{}"
    headers = {"Homing_Timeout": timeout, "Idempotency_Key": key.replace("\x7f", "")}
    if authorization:
        headers["Authorization"] = authorization.replace("\x7f", "")
    for name, value in list(headers.items()):
        if any(ord(one) < 32 or 127 <= ord(one) < 160 for one in value):
            headers[name] = "x"
    status, got, answer = post(homing, body, **headers)
    if status == 204:
        assert answer == b""
        return
    said = strictly(answer)
    for each in said if isinstance(said, list) else [said]:
        assert each["jsonrpc"] == "2.0"
        if "error" in each:
            assert each["error"]["data"]["reason"] != "internal_error"
            if status != 200:
                assert (each["error"]["data"]["executed"], got["homing-executed"]) == ("no", "no")
