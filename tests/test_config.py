# ruff: noqa: E501  (a snippet and what is said of it read best on one line)
from collections.abc import Mapping
from pathlib import Path

import pytest

from homing import config
from homing.config import ConfigError, Problem
from homing.forms import Address
from homing.references import Secret

PROVIDER = '[providers.acme]\nbase_url = "https://acme.example"\n'
METHOD = '[methods."acme.find"]\nprovider = "acme"\neffect = "safe"\ndeadline = "30s"\nrequest = "GET /find{?q}"\n'
PARAMS = '[methods."acme.find".params]\nadditionalProperties = false\nproperties.q.type = "string"\n'
HASH = "sha256:" + "0f" * 32


def written(folder: Path, text: str, name: str = "homing.toml") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def told(folder: Path, text: str, environ: Mapping[str, str] | None = None) -> list[str]:
    problems = config.check(written(folder, text), environ=environ or {})
    return [str(problem).replace(f"{folder}/", "") for problem in problems]


def test_an_empty_file_is_all_defaults(tmp_path: Path) -> None:
    loaded = config.load(written(tmp_path, ""), environ={})
    assert loaded == config.Config()
    assert str(loaded.gateway.listen) == "127.0.0.1:8370"
    assert loaded.gateway.deadline.max == 300.0
    assert loaded.broker.held_bytes_max == 512 * 1024**2


def test_the_defaults_are_those_of_the_page_that_fixes_them(tmp_path: Path) -> None:
    """The same values, written out, are the same configuration."""
    text = """\
[gateway]
listen = "127.0.0.1:8370"
deadline = { default = "100s", max = "300s" }
body_max = "1MiB"
batch_length_max = 1000
in_flight_max = 20000
held_bytes_max = "512MiB"
header_bytes_max = "32KiB"
header_count_max = 100
timeout = { header = "10s", body = "30s", idle = "75s", write = "10s" }
heartbeat = ""
health = true
drain = { delay = "0s", timeout = "120s" }
anonymous = []
origins = []
tls = { cert = "", key = "" }
brokers = []
majordomo = ""
curve = { key = "", broker = "" }
insecure = false
[admin]
listen = "127.0.0.1:8371"
[broker]
listen = ""
queue_length_max = 10000
held_bytes_max = "512MiB"
frame_bytes_max = "16MiB"
no_worker_after = "5s"
admin = ""
curve = { key = "" }
insecure = false
[worker]
brokers = []
services = []
credit = 100
outcomes_held_bytes_max = "256MiB"
drain = { delay = "0s", timeout = "120s" }
admin = ""
curve = { key = "", broker = "" }
insecure = false
[providers.acme]
base_url = "https://api.acme.example/v2"
timeout = { connect = "3s" }
in_flight_max = 64
retry = { attempts_max = 3 }
breaker = { window = "30s", calls_min = 20, failure_ratio = 0.5, open_for = "15s" }
response_max = "8MiB"
error_body_max = "16KiB"
call_id_header = ""
proxy = ""
tls = { ca = "", client_cert = "", client_key = "", min_version = "1.2" }
"""
    plain = '[providers.acme]\nbase_url = "https://api.acme.example/v2"\n'
    assert config.load(written(tmp_path, text), environ={}) == config.load(written(tmp_path, plain, "plain.toml"), environ={})


FULL = f"""\
include = ["providers/*.toml"]      # before the first table
[gateway]
heartbeat = "20s"
anonymous = ["acme.f*"]
[principals.webshop]
api_key_hash = ["{HASH}", "{HASH.replace("0", "1")}"]
methods = ["acme.*"]
rate = {{ limit = 100, per = "1s", burst = 200 }}
in_flight_max = 200
[methods."acme.charge"]
provider = "acme"
summary = "Charge a card"
deadline = "60s"
request = "POST /accounts/{{account}}/charges{{?expand}}"
body = {{ amount = "=params.amount", currency = "eur", metadata = "=params.metadata" }}
result = "body.charge"
lookup = {{ request = "GET /charges", query = {{ reference = "=call.key" }}, found = "body.data[0]", reserve = "5s" }}
[methods."acme.charge".params]
required = ["account", "amount"]
additionalProperties = false
properties.account.type = "string"
properties.expand.type = "string"
properties.metadata.type = "object"
properties.amount = {{ type = "integer", minimum = 1 }}
[methods."acme.find"]
provider = "acme"
effect = "safe"
request = "GET /charges{{?account}}"
params = "schemas/find.json"
"""
ACME = """\
[providers.acme]
base_url = "https://api.acme.example/v2"
auth = { type = "bearer", token = "env:ACME_TOKEN" }
headers = { Accept = "application/json", X-Shop = "file:shop" }
timeout = { connect = "3s", attempt = "120s" }
rate = { limit = 600, per = "1m", burst = 50 }
request_id_header = "request-id"
[providers.acme.defaults]
effect = "keyed"
idempotency_key = { header = "Idempotency-Key", lifetime = "24h", required = false, scope = "principal" }
lookup = { request = "GET /other", reserve = "9s" }
[[providers.acme.answers]]
when = "status == `429` && body.error.code == 'spend_limit'"
is = "refused"
"""


def full(folder: Path) -> Path:
    written(folder, ACME, "providers/acme.toml")
    written(folder, "shop-17\n", "providers/shop")
    written(folder, '{"additionalProperties": false, "properties": {"account": {"type": "string"}}}', "schemas/find.json")
    return written(folder, FULL)


def test_a_whole_configuration_is_read(tmp_path: Path) -> None:
    reading = config.read(full(tmp_path), environ={"ACME_TOKEN": "t0ken"})
    assert reading.problems == ()
    assert reading.config is not None
    acme = reading.config.providers["acme"]
    assert acme.rate is not None
    assert (acme.rate.limit, acme.rate.per, acme.rate.burst_or_limit) == (600, 60.0, 50)
    assert acme.auth is not None
    assert getattr(acme.auth, "token", None) == Secret("t0ken")
    assert acme.headers["X-Shop"] == "shop-17"
    assert reading.referred == {"t0ken", "shop-17"}
    assert not any(secret in repr(reading) for secret in reading.referred)
    principal = reading.config.principals["webshop"]
    assert principal.api_key_hash == (HASH, HASH.replace("0", "1"))


def test_defaults_are_merged_under_each_method(tmp_path: Path) -> None:
    loaded = config.load(full(tmp_path), environ={"ACME_TOKEN": "t0ken"})
    charge, find = loaded.methods["acme.charge"], loaded.methods["acme.find"]
    assert charge.effect == "keyed"
    assert find.effect == "safe"
    assert charge.idempotency_key is not None
    assert charge.idempotency_key.header == "Idempotency-Key"
    assert charge.lookup is not None
    assert (charge.lookup.request, charge.lookup.reserve, charge.lookup.found) == ("GET /charges", 5.0, "body.data[0]")
    assert find.lookup is not None
    assert (find.lookup.request, find.lookup.reserve) == ("GET /other", 9.0)
    assert find.params == {"additionalProperties": False, "properties": {"account": {"type": "string"}}}


def test_methods_are_compiled(tmp_path: Path) -> None:
    loaded = config.load(full(tmp_path), environ={"ACME_TOKEN": "t0ken"})
    compiled = config.compile_methods(loaded)
    assert set(compiled) == {"acme.charge", "acme.find"}
    assert compiled["acme.charge"].key_header == "Idempotency-Key"
    assert compiled["acme.charge"].deadline_s == 60.0
    assert config.read(full(tmp_path), environ={"ACME_TOKEN": "x"}).methods.keys() == compiled.keys()


def test_schemas_and_answers_in_defaults_are_taken_whole(tmp_path: Path) -> None:
    text = f"""{PROVIDER}
[providers.acme.defaults]
effect = "safe"
deadline = "9s"
headers = {{ X-A = "a", X-B = "b" }}
answers = [{{ when = "status == `200`", is = "ok" }}]
params = {{ additionalProperties = false, properties.a.type = "string" }}
[methods.x]
provider = "acme"
request = "GET /{{?b}}"
headers = {{ X-B = "c" }}
answers = []
params = {{ additionalProperties = false, properties.b.type = "string" }}
[methods.y]
provider = "acme"
request = "GET /{{?a}}"
"""
    loaded = config.load(written(tmp_path, text), environ={})
    x, y = loaded.methods["x"], loaded.methods["y"]
    assert x.params == {"additionalProperties": False, "properties": {"b": {"type": "string"}}}
    assert x.headers == {"X-A": "a", "X-B": "c"}
    assert x.answers == ()
    assert y.params == {"additionalProperties": False, "properties": {"a": {"type": "string"}}}
    assert len(y.answers) == 1


def test_the_environment_and_the_command_line_override_where_to_listen(tmp_path: Path) -> None:
    path = written(tmp_path, '[gateway]\nlisten = "127.0.0.1:1"\n')
    environ = {"HOMING_LISTEN": "127.0.0.1:2"}
    assert config.load(path, environ={}).gateway.listen == Address("127.0.0.1", 1)
    assert config.load(path, environ=environ).gateway.listen == Address("127.0.0.1", 2)
    assert config.load(path, listen="127.0.0.1:3", environ=environ).gateway.listen == Address("127.0.0.1", 3)


@pytest.mark.parametrize(("listen", "name"), [("8370", "--listen"), (None, "HOMING_LISTEN")])
def test_an_override_that_is_no_address_is_told(tmp_path: Path, listen: str | None, name: str) -> None:
    with pytest.raises(ConfigError) as raised:
        config.load(written(tmp_path, ""), listen=listen, environ={"HOMING_LISTEN": "8370"})
    assert str(raised.value) == f'{name}: found "8370", expected an address such as "127.0.0.1:8370": the port is missing'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        # names that need quotes
        ("[methods.acme.charge]\nprovider = 'x'", 'methods.acme.charge: dots without quotes make tables within tables; write [methods."acme.charge"]'),
        ("[methods.acme.charge.params]\nrequired = []", 'methods.acme.charge: dots without quotes'),
        ("[methods.acme.v1.charge]\nprovider = 'x'", 'methods.acme.v1.charge: dots without quotes make tables within tables; write [methods."acme.v1.charge"]'),
        ('[methods.acme.lookup]\nprovider = "x"\nrequest = "GET /"', 'methods.acme.lookup: dots without quotes make tables within tables; write [methods."acme.lookup"]'),
        ('[providers.api.acme]\nbase_url = "https://x.example"', 'providers.api.acme: dots without quotes make tables within tables; write [providers."api.acme"]'),
        ("[principals.shop.eu]\nmethods = []", 'principals.shop.eu: dots without quotes make tables within tables; write [principals."shop.eu"]'),
        # include in the wrong place
        ('[gateway]\ninclude = ["x.toml"]', "gateway.include: include must stand before the first table; after [gateway] it became a key of that table"),
        (
            '[methods."a.b".params]\nadditionalProperties = false\ninclude = ["x.toml"]',
            'methods."a.b".params.include: include must stand before the first table',
        ),
        ('[methods."a.b"]\ninclude = ["x.toml"]', 'methods."a.b".include: include must stand before the first table'),
        ('[principals]\ninclude = ["x.toml"]', "principals.include: include must stand before the first table"),
        # unknown keys
        ("[gatway]", 'gatway: this key is unknown; did you mean "gateway"?'),
        ("[gateway]\nlistn = 1", 'gateway.listn: this key is unknown; did you mean "listen"?'),
        ("[gateway]\nbase_url = 1", "gateway.base_url: this key is unknown here; it belongs into [providers.NAME]"),
        (f'{METHOD}retry = 2', 'methods."acme.find".retry: this key is unknown here; it belongs into [providers.NAME]'),
        ('[worker]\nservice = "a"', 'worker.service: this key is unknown; did you mean "services"?'),
        (f"{PROVIDER}methods.find.request = 'GET /'", "providers.acme.methods: this table stands by itself: write [methods.NAME]"),
        ('[gateway.admin]\nlisten = "127.0.0.1:1"', "gateway.admin: this table stands by itself: write [admin]"),
        ("[admin]\nheartbeat = 1", "admin.heartbeat: this key is unknown here; it belongs into [gateway]"),
        ("listen = 1", "listen: this key is unknown; the keys here are include, gateway,"),
        (f"{PROVIDER}[providers.acme.timeout]\ntotal = 1", "providers.acme.timeout.total: this key is unknown; the keys here are connect, attempt"),
        (f"{PROVIDER}[providers.acme.timeouts]\nconnect = 1", 'providers.acme.timeouts: this key is unknown; did you mean "timeout"?'),
        (f'{PROVIDER}{METHOD}lookups = {{ request = "GET /" }}', 'methods."acme.find".lookups: this key is unknown; did you mean "lookup"?'),
        # tables
        ("gateway = 5", "gateway: found 5, expected a table"),
        ("methods = 5", "methods: found 5, expected tables such as [methods.NAME]"),
        ("[[methods]]", "methods: found a list, expected tables such as [methods.NAME]"),
        ("[methods]\nx = 5", "methods.x: found 5, expected a table"),
        # names
        ('[methods."acme.*"]', 'methods."acme.*": found the key "acme.*", expected a method\'s name such as "acme.charge": * is for patterns'),
        ('[methods."rpc.x"]', 'methods."rpc.x": found the key "rpc.x"'),
        ('[providers."a\\nb"]', 'providers."a\\nb": found the key "a\\nb", expected a name: it has a line break'),
        # values
        ('[gateway]\ndeadline = { default = "60x" }', 'gateway.deadline.default: found "60x", expected a duration such as "60s": "x" is no unit'),
        ('[gateway]\ndeadline = "60s"', 'gateway.deadline: found "60s", expected a table; its keys are default, max'),
        ('[gateway]\ndeadline = { max = "50ms" }', 'gateway.deadline.max: found "50ms", expected a duration such as "60s" from 100ms to 576h'),
        # what no message between processes can hold
        ('[gateway]\ndeadline = { max = "25d" }', 'gateway.deadline.max: found "25d", expected a duration such as "60s" from 100ms to 576h'),
        ("[worker]\ncredit = 100001", "worker.credit: found 100001, expected a whole number from 1 to 100000"),
        ('[methods."a.b"]\nservice = " a"', 'methods."a.b".service: found " a", expected a name, or "" for none: it begins or ends with a space'),
        ("[gateway]\nbody_max = 0", 'gateway.body_max: found 0, expected a size such as "1MiB" from 1B up'),
        ("[gateway]\ndrain = { delay = 5 }", 'gateway.drain.delay: found 5, expected a duration such as "60s": the unit is missing; did you mean "5s"?'),
        ('[gateway]\nbody_max = "1mib"', 'gateway.body_max: found "1mib", expected a size such as "1MiB": write "1MiB"'),
        ('[gateway]\ntimeout = { header = "0s" }', 'gateway.timeout.header: found "0s", expected a duration such as "60s" above 0s'),
        ('[gateway]\ndeadline = { default = "400s" }', "gateway.deadline: default, 400s, is above max, 300s"),
        ('[gateway]\ntls = { cert = "nope.pem" }', 'gateway.tls.cert: found "nope.pem", expected the path of a file that can be read'),
        ('[principals.x]\napi_key_hash = "hk_secret"', 'principals.x.api_key_hash: found a string, expected "sha256:" and 64 hexadecimal digits'),
        ("[principals.x]", 'principals.x.api_key_hash: it is missing; expected "sha256:"'),
        ("[providers.x]", "providers.x.base_url: it is missing; expected a URL such as"),
        (f'{PROVIDER}auth = {{ type = "bearer" }}', 'providers.acme.auth.token: it is missing; expected a string, best as a reference'),
        (f'{PROVIDER}auth = {{ type = "baerer" }}', 'providers.acme.auth.type: found "baerer", expected "bearer", "basic", "header", "query"'),
        (f'{PROVIDER}auth = {{ type = "bearer", token = "env:NOPE" }}', "providers.acme.auth.token: the environment variable NOPE is not set"),
        (f'{PROVIDER}auth = {{ type = "oauth2_client_credentials", token_url = "x" }}', 'providers.acme.auth.token_url: found "x", expected a URL'),
        (f'{PROVIDER}headers = {{ "X Key" = "a" }}', 'providers.acme.headers."X Key": found the key "X Key", expected a header\'s name'),
        (f"{PROVIDER}breaker = {{ failure_ratio = 50 }}", "providers.acme.breaker.failure_ratio: found 50, expected a number above 0 up to 1"),
        (f'{PROVIDER}tls = {{ min_version = "1.1" }}', 'providers.acme.tls.min_version: found "1.1", expected "1.2" or "1.3"'),
        (f'{PROVIDER}[[providers.acme.answers]]\nwhen = "status"\nis = "fine"', 'providers.acme.answers[0].is: found "fine", expected "ok", "refused", "throttled", "denied" or "failed"'),
        (f"{PROVIDER}[providers.acme.defaults]\neffekt = 1", 'providers.acme.defaults.effekt: this key is unknown; did you mean "effect"?'),
        (f"{PROVIDER}[providers.acme.defaults]\nprovider = 'x'", "providers.acme.defaults.provider: a provider's defaults are for its own methods"),
        (f"{PROVIDER}defaults = 5", "providers.acme.defaults: found 5, expected a table"),
        (f'{PROVIDER}{METHOD}{PARAMS.replace("acme.find", "acme.fnd")}', 'methods."acme.fnd"'),
        (METHOD, 'methods."acme.find".provider: there is no provider "acme"'),
        (f'{PROVIDER}{METHOD}params = "nope.json"', 'methods."acme.find".params: found "nope.json", expected a JSON Schema as a table, or the path of a JSON file'),
        (f'{PROVIDER}{METHOD}effect_ = 1', 'methods."acme.find".effect_: this key is unknown; did you mean "effect"?'),
        # what compiling finds
        (f'{PROVIDER}{METHOD.replace("{?q}", "{q")}{PARAMS}', 'methods."acme.find".request: '),
        (f'{PROVIDER}{METHOD}result = "body.["\n{PARAMS}', 'methods."acme.find".result: '),
        (f'{PROVIDER}{METHOD}{PARAMS.replace("string", "strnig")}', 'methods."acme.find".params'),
        (f'{PROVIDER}[[providers.acme.answers]]\nwhen = "nope(body)"\nis = "ok"', "providers.acme.answers[0].when: "),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_file_and_path(tmp_path: Path, text: str, says: str) -> None:
    found = told(tmp_path, text)
    assert any(problem.startswith(f"homing.toml: {says}") for problem in found), found


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (f'[methods."a.b"]\nservice = "{"x" * 201}"', "expected a name, or \"\" for none: it is longer than 200 bytes"),
        (f'[methods."{"x" * 201}"]\nservice = "a"', "such as \"acme.charge\": it is longer than 200 bytes"),
        (f'[providers."{"x" * 201}"]', "expected a name: it is longer than 200 bytes"),
        (f'[methods."a.b"]\nsummary = "{"x" * 65537}"', "expected a line for people: it has 65537 characters, at most 65536 can be told to other processes"),
        (f'[peers.a]\nprincipal = "{"x" * 201}"', "expected a name, or \"\" for none: it is longer than 200 bytes"),
    ],
)  # fmt: skip
def test_what_is_longer_than_processes_can_tell_each_other_is_a_mistake(tmp_path: Path, text: str, says: str) -> None:
    """Else the broker would not read what names it, and calls would wait until their deadline."""
    assert any(problem.endswith(says) for problem in told(tmp_path, text)), told(tmp_path, text)
    with pytest.raises(ConfigError):
        config.load(tmp_path / "homing.toml", environ={})


def test_an_unquoted_name_is_told_once_and_nothing_else_of_it(tmp_path: Path) -> None:
    text = f"{PROVIDER}[methods.acme.a]\nprovider = 'acme'\nxx = 1\n[methods.acme.b]\nsummary = ''\n[methods.acme]\nprovider = 'acme'\n"
    found = told(tmp_path, text)
    assert sum("dots without quotes" in problem for problem in found) == 2
    assert not any("xx" in problem for problem in found)


@pytest.mark.parametrize(
    ("header", "says"),
    [
        ("[methods.acme.find.params]", '[methods."acme.find".params]'),
        ("[[methods.acme.find.answers]]", '[[methods."acme.find".answers]]'),
        ("[methods.acme.other.params]", '[methods."acme.other"]'),
    ],
)
def test_a_part_of_a_method_without_quotes_is_told_as_that_part(tmp_path: Path, header: str, says: str) -> None:
    (only,) = [one for one in told(tmp_path, f"{PROVIDER}{METHOD}{PARAMS}{header}\nwhen = 'x'\nis = 'ok'") if "dots" in one]
    assert only.endswith(f"dots without quotes make tables within tables; write {says}")


def test_all_mistakes_are_told_in_one_run_in_the_order_of_the_files(tmp_path: Path) -> None:
    written(tmp_path, '[providers.acme]\nbase_url = "x"\n', "b.toml")
    text = 'include = ["b.toml"]\n[methods.m]\nprovider = "acme"\nsummary = 1\nrequest = "GET"\n[gateway]\nheartbeat = "20s"\nhealth = 1\n[admin]\nlisten = 1\n'
    assert [problem.partition(": found")[0] for problem in told(tmp_path, text)] == [
        "homing.toml: methods.m.params: warning: without a schema anything goes: write what the params are",
        'homing.toml: methods.m.lookup: warning: once without a lookup: an unknown stays unknown; write one, or effect = "safe" or "keyed" if that is what it is',
        "homing.toml: methods.m.summary",
        "homing.toml: methods.m.request",
        "homing.toml: gateway.health",
        "homing.toml: admin.listen",
        "b.toml: providers.acme.base_url",
    ]


OTHERS = 'result = "body("\nlookup = { request = "GET /", found = "body(" }\nanswers = [{ when = "body(", is = "ok" }]\n'


@pytest.mark.parametrize(
    ("provider", "method", "path"),
    [
        ("", "", 'methods."a.b".provider'),
        ("[providers.acme]", "", "providers.acme.base_url"),
        ('[providers.acme]\nbase_url = "acme"', "", "providers.acme.base_url"),
        (PROVIDER, "provider = 1", 'methods."a.b".provider'),
        (PROVIDER, 'request = "GET"', 'methods."a.b".request'),
        (PROVIDER, "request = 1", 'methods."a.b".request'),
        (PROVIDER, 'effect = "keyde"', 'methods."a.b".effect'),
        (PROVIDER, 'encode = "python:nowhere:f"', 'methods."a.b".encode'),
        (PROVIDER, 'decode = "python:nowhere:f"', 'methods."a.b".decode'),
        (PROVIDER, "deadline = 1", 'methods."a.b".deadline'),
        (PROVIDER, "params = 1", 'methods."a.b".params'),
        (PROVIDER, "query.x = 2001-01-01", 'methods."a.b".query.x'),
    ],
)
def test_a_mistake_in_or_above_a_method_hides_none_beside_it(tmp_path: Path, provider: str, method: str, path: str) -> None:
    given = {line.partition(" ")[0] for line in method.splitlines()}
    lines = ['provider = "acme"', 'request = "GET /{a}"', "params = { additionalProperties = false, properties.a = true }"]
    lines = [line for line in lines if line.partition(" ")[0] not in given]
    found = told(tmp_path, "\n".join([provider, '[methods."a.b"]', *lines, method, OTHERS]))
    assert sorted(one.split(": ")[1] for one in found if "warning" not in one) == sorted(
        [path, 'methods."a.b".result', 'methods."a.b".lookup.found', 'methods."a.b".answers[0].when']
    )


def test_a_mistake_in_a_table_within_a_method_hides_none_beside_it(tmp_path: Path) -> None:
    tables = 'lookup = { found = "body(", query.a = "=foo" }\nanswers = [{ when = "status =", is = "oky" }, { is = "ok", message = "a =" }]\n'
    assert [one.split(": ")[1] for one in told(tmp_path, PROVIDER + METHOD + tables + PARAMS)] == [
        'methods."acme.find".lookup.request',
        'methods."acme.find".lookup.query.a',
        'methods."acme.find".lookup.found',
        'methods."acme.find".answers[0].is',
        'methods."acme.find".answers[1].when',
        'methods."acme.find".answers[0].when',
        'methods."acme.find".answers[1].message',
    ]


def test_a_mistake_in_a_provider_hides_none_beside_it(tmp_path: Path) -> None:
    text = 'auth = { type = "header", name = "Host", value = "x" }\nheaders = { "A B" = "x", C = "=foo", D = 2001-01-01, Host = "x" }\n'
    found = told(tmp_path, f'[providers.acme]\nbase_url = "acme"\ncall_id_header = "TE"\nanswers = [{{ is = "ok" }}]\n{text}')
    keys = [one.split(": ")[1].removeprefix("providers.acme.") for one in found if "warning" not in one]
    assert sorted(keys) == [
        "answers[0].when",
        "auth.name",
        "base_url",
        "call_id_header",
        'headers."A B"',
        "headers.C",
        "headers.D",
        "headers.Host",
    ]


def test_two_keys_that_are_wrong_are_not_the_same_key(tmp_path: Path) -> None:
    text = '[principals.{0}]\napi_key_hash = "x"\nmethods = ["*"]\n[peers.{0}]\npublic_key = "x"\nserve = ["*"]\n'
    assert len(told(tmp_path, text.format("a") + text.format("b"))) == 4


def test_what_a_method_sends_is_looked_at_though_part_of_it_is_wrong(tmp_path: Path) -> None:
    method = '[methods.m]\nprovider = "acme"\neffect = "keyed"\nrequest = "GET /"\nheaders.Host = "x"\n'
    params = "params = { additionalProperties = false, properties.a = true }\n"
    assert [one.split(": ")[1] for one in told(tmp_path, PROVIDER + method + params) if "warning" not in one] == [
        "methods.m.idempotency_key",
        "methods.m.request",
        "methods.m.headers.Host",
    ]


@pytest.mark.parametrize(
    "method",
    [
        'effect = "keyed"\nidempotency_key.header = "a b"',
        'effect = "keyed"\nheaders.A = "=call.key +"',
        'request = "GET /"\nquery.a = "=params.a +"',
        'request = "GET /"\nquery.a = 2001-01-01',
        'request = "GET /{a"',
        'effect = "keyed"\nprovider = "acne"',
        "provider = 1",
    ],
)
def test_a_mistake_is_told_without_its_echoes(tmp_path: Path, method: str) -> None:
    """What would have come of the value that is wrong is nobody's second mistake."""
    given = {line.partition(" ")[0] for line in method.splitlines()}
    lines = ['provider = "acme"', 'request = "POST /"', "params = { additionalProperties = false, properties.a = true }"]
    lines = [line for line in lines if line.partition(" ")[0] not in given]
    found = told(tmp_path, "\n".join([PROVIDER, "[methods.m]", *lines, method]))
    assert len([one for one in found if "warning" not in one]) == 1, found


@pytest.mark.parametrize(
    ("defaults", "own", "path"),
    [
        ("", 'effect = "safe"\nidempotency_key.required = true', "methods.m.idempotency_key"),
        ("idempotency_key.header = 'K'", 'effect = "safe"\nidempotency_key.required = true', "methods.m.idempotency_key"),
        ("idempotency_key.header = 'K'\neffect = 'safe'", "", "providers.acme.defaults.idempotency_key"),
        ("idempotency_key.header = 'K'\neffect = 'keyed'", 'effect = "safe"', None),
        ("effect = 'safe'", 'effect = "keyed"\nidempotency_key.header = "K"', None),
    ],
)
def test_a_key_that_a_safe_method_does_not_heed_is_unwise(tmp_path: Path, defaults: str, own: str, path: str | None) -> None:
    method = f'[methods.m]\nprovider = "acme"\nrequest = "POST /"\ndeadline = "9s"\nparams.additionalProperties = false\n{own}\n'
    found = [one.split(": ", 2)[1:] for one in told(tmp_path, f"{PROVIDER}[providers.acme.defaults]\n{defaults}\n{method}")]
    says = "warning: it has no effect: what is safe is repeated without a key, and none is asked for"
    assert found == ([] if path is None else [[path, says]])


def test_a_syntax_error_is_told_alone(tmp_path: Path) -> None:
    assert told(tmp_path, "[gateway]\nlistn = 1\nheartbeat = 20s\n") == [
        'homing.toml: line 3, column 15: a text needs quotes: "20s"'
    ]


def test_what_stands_in_two_files_is_a_mistake_in_the_second(tmp_path: Path) -> None:
    written(tmp_path, f"[gateway]\n{PROVIDER}{METHOD}{PARAMS}", "b.toml")
    text = f'include = ["b.toml"]\n[gateway]\nhealth = true\n{PROVIDER}{METHOD}{PARAMS}'
    assert told(tmp_path, text) == [
        "b.toml: gateway: it stands in homing.toml too, line 2; one of the two has to go",
        "b.toml: providers.acme: it stands in homing.toml too, line 4; one of the two has to go",
        'b.toml: methods."acme.find": it stands in homing.toml too, line 6; one of the two has to go',
    ]


def test_a_mistake_in_defaults_is_told_where_it_stands_and_once(tmp_path: Path) -> None:
    provider = (
        '[providers.acme]\nbase_url = "https://acme.example"\n[providers.acme.defaults]\ndeadline = "60x"\nresult = "body.["\n'
    )
    written(tmp_path, provider + 'params = "../nope.json"\n', "deep/acme.toml")
    methods = METHOD.replace('deadline = "30s"\n', "")
    text = f'include = ["deep/acme.toml"]\n[gateway]\nheartbeat = "20s"\n{methods}{methods.replace("acme.find", "acme.seek")}'
    found = told(tmp_path, text)
    assert all(problem.startswith("deep/acme.toml: providers.acme.defaults.") for problem in found), found
    assert sum(".deadline:" in problem for problem in found) == 1
    assert sum(".params:" in problem for problem in found) == 1


def test_a_compiled_mistake_in_defaults_is_told_where_it_stands(tmp_path: Path) -> None:
    text = f'{PROVIDER}[providers.acme.defaults]\nresult = "body.["\nlookup = {{ found = "body" }}\n{METHOD}{PARAMS}'
    assert [problem.partition(": ")[2].partition(":")[0] for problem in told(tmp_path, text)] == [
        "providers.acme.defaults.result",
        'methods."acme.find".lookup.request',
    ]


def test_a_warning_is_left_out_where_there_is_a_mistake(tmp_path: Path) -> None:
    """No "without a schema" where the schema was only misspelt, no "without a lookup" where the lookup lacks something."""
    text = METHOD.replace("safe", "once") + 'params = "nope.json"\nlookup = {}\n'
    assert [problem.partition(": ")[2].partition(":")[0] for problem in told(tmp_path, PROVIDER + text)] == [
        'methods."acme.find".params',
        'methods."acme.find".lookup.request',
    ]


def test_a_default_that_stands_in_for_a_mistake_is_held_against_nothing(tmp_path: Path) -> None:
    (only,) = told(tmp_path, '[gateway]\ndeadline = { default = "400s", max = "10x" }')
    assert 'gateway.deadline.max: found "10x"' in only


def test_nobody_is_told_to_write_a_lookup_while_the_effect_is_unclear(tmp_path: Path) -> None:
    (only,) = told(tmp_path, PROVIDER + METHOD.replace("safe", "Once") + PARAMS)
    assert 'methods."acme.find".effect: found "Once"' in only


def test_paths_count_from_the_file_that_names_them(tmp_path: Path) -> None:
    written(tmp_path, f'{PROVIDER}[providers.acme.defaults]\nparams = "find.json"\n', "deep/acme.toml")
    written(tmp_path, '{"additionalProperties": false, "properties": {"q": {"type": "string"}}}', "deep/find.json")
    text = f'include = ["deep/acme.toml"]\n{METHOD}'
    assert told(tmp_path, text) == []
    assert config.load(tmp_path / "homing.toml", environ={}).methods["acme.find"].params is not None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[gateway]\nlisten = "0.0.0.0:8370"', "gateway.listen: warning: 0.0.0.0:8370 can be reached"),
        (f"{PROVIDER}{METHOD}{PARAMS.replace('additionalProperties = false', '')}", 'methods."acme.find".params: warning: '),
        (f"{PROVIDER}{METHOD}", 'methods."acme.find".params: warning: '),
        (f'{PROVIDER}timeout = {{ attempt = "20s" }}\n{METHOD}{PARAMS}', 'methods."acme.find".deadline: warning: '),
        (f"{PROVIDER}{METHOD.replace('30s', '61s')}{PARAMS}", "gateway.heartbeat: warning: "),
        (f"{PROVIDER}{METHOD.replace('safe', 'once')}{PARAMS}", 'methods."acme.find".lookup: warning: '),
        (f'[principals.x]\napi_key_hash = "{HASH}"', "principals.x.methods: warning: "),
        ('include = ["nope/*.toml"]', 'include[0]: warning: "nope/*.toml" matches no file'),
    ],
)
def test_what_is_unwise_is_told_and_does_no_harm(tmp_path: Path, text: str, says: str) -> None:
    found = told(tmp_path, text)
    assert [problem.startswith(f"homing.toml: {says}") for problem in found] == [True], found
    assert isinstance(config.load(tmp_path / "homing.toml", environ={}), config.Config)


def test_values_of_references_stay_out_of_what_is_told(tmp_path: Path) -> None:
    environ = {"A": "hunter2hunter2", "B": "body.[hunter2"}
    text = f'{PROVIDER}proxy = "env:A"\nauth = {{ type = "header", name = "env:A\\n", value = "env:A" }}\n{METHOD}result = "env:B"\n{PARAMS}'
    problems = config.check(written(tmp_path, text), environ=environ)
    assert len(problems) >= 2
    assert "hunter2" not in str(problems)


@pytest.mark.parametrize(
    "text",
    [
        '[gateway]\nlisten = "env:A"\nanonymous = ["env:A"]\nmajordomo = "env:B"',
        '[worker]\nservices = ["env:A"]\nbrokers = ["env:B"]',
        f'{METHOD.replace("acme", "env:A")}service = "env:A"\npositional = ["env:A"]\n{PARAMS}',
        f'{PROVIDER}tls = {{ ca = "env:A" }}',
        '[broker]\nlisten = "env:B"',
    ],
)
def test_what_is_wrong_between_keys_is_told_without_values_of_references(tmp_path: Path, text: str) -> None:
    (tmp_path / "hunter2hunter2").touch()
    problems = config.check(written(tmp_path, text), environ={"A": "hunter2hunter2", "B": "tcp://hunter2.example:1"})
    assert problems
    assert "hunter2" not in str(problems)


@pytest.mark.parametrize("body", ["[" * 190 + "]" * 190, "{ a = " * 190 + "1" + " }" * 190])
def test_what_is_nested_as_deep_as_may_be_is_read_or_told(tmp_path: Path, body: str) -> None:
    assert told(tmp_path, f"{PROVIDER}{METHOD.replace('GET', 'POST')}body = {body}\n{PARAMS}") is not None


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such file; `homing init` writes one"):
        config.load(tmp_path / "homing.toml")


def test_a_configuration_that_was_changed_by_hand_may_not_compile(tmp_path: Path) -> None:
    loaded = config.load(full(tmp_path), environ={"ACME_TOKEN": "x"})
    loaded.methods["acme.find"] = type(loaded.methods["acme.find"])(provider="acme", request="GET /{")
    with pytest.raises(ConfigError) as raised:
        config.compile_methods(loaded)
    assert isinstance(raised.value.problems[0], Problem)


def test_a_path_that_cannot_be_read_back_is_told_of_its_table(tmp_path: Path) -> None:
    text = '[providers."a\\"b"]\nbase_url = "https://acme.example"\nheaders = { A = "=nope(" }\n'
    assert told(tmp_path, text)[0].startswith('homing.toml: providers."a\\"b"')


ODD = ("5", '""', '"x"', "[]", "{}", "inf", '{ a = { b = [1] }, type = "x", when = 5 }')


@pytest.mark.parametrize("odd", ODD)
def test_any_value_anywhere_is_read_or_told_and_never_raises(tmp_path: Path, odd: str) -> None:
    """Every value of a whole configuration, one at a time, is something else, and then is not there at all."""
    path = full(tmp_path)
    for file, text in ((path, FULL), (tmp_path / "providers" / "acme.toml", ACME)):
        lines = text.splitlines(keepends=True)
        for number, line in enumerate(lines):
            key, equals, _ = line.partition(" = ")
            for changed in (f"{key} = {odd}\n", "") if equals else (f"{line}odd = {odd}\n", ""):
                file.write_text("".join([*lines[:number], changed, *lines[number + 1 :]]), encoding="utf-8")
                reading = config.read(path, environ={"ACME_TOKEN": "t0ken"})
                assert (reading.config is None) is any(not problem.warning for problem in reading.problems)
        file.write_text(text, encoding="utf-8")


def test_a_codec_beside_the_file_is_found(tmp_path: Path) -> None:
    (tmp_path / "codec_beside_it.py").write_text("def encode(value):\n    return b'x'\n")
    (tmp_path / "homing.toml").write_text(
        '[providers.p]\nbase_url = "http://127.0.0.1:1"\n'
        '[methods."a.b"]\nprovider = "p"\nrequest = "POST /"\nencode = "python:codec_beside_it:encode"\n'
    )
    assert "a.b" in config.read(tmp_path / "homing.toml").methods


DIVIDED = """\
[gateway]
tls = { cert = "tls.pem", key = "tls.key" }
curve = { key = "front.key", broker = "{z85}" }
brokers = ["tcp://broker.internal:8372"]
[broker]
listen = "tcp://0.0.0.0:8372"
curve = { key = "broker.key" }
[peers.back]
public_key = "env:BACK"
serve = ["*"]
[worker]
curve = { key = "back.key", broker = "{z85}" }
brokers = ["tcp://broker.internal:8372"]
[principals.shop]
api_key_hash = "env:SHOP_HASH"
methods = ["acme.*"]
[providers.acme]
base_url = "env:ACME_URL"
auth = { type = "basic", username = "env:ACME_USER", password = "file:password" }
headers = { X-Shop = "env:ACME_SHOP" }
proxy = "env:PROXY"
tls = { ca = "ca.pem" }
[methods."acme.find"]
provider = "acme"
effect = "safe"
deadline = "30s"
request = "GET /find{?q}"
query = { shop = "env:ACME_SHOP" }
params = "find.json"
""".replace("{z85}", "0" * 40)
CURVE_PAIR = """\
public_key = "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID"
secret_key = "D:)Q[IlAW!ahhC2ac:9*A}h:p?([4%wOTJ%JR%cs"
"""


def key(folder: Path, name: str) -> None:
    written(folder, CURVE_PAIR, name).chmod(0o600)


def test_each_role_reads_its_part_and_needs_no_secrets_of_the_others(tmp_path: Path) -> None:
    path = written(tmp_path, DIVIDED.replace('tls = { cert = "tls.pem", key = "tls.key" }\n', ""))
    written(tmp_path, '{"required": ["q"]}', "find.json")
    with pytest.raises(ConfigError):
        config.load(path, environ={})
    key(tmp_path, "front.key")
    reading = config.read(path, environ={"SHOP_HASH": HASH}, role="gateway")
    gateway = config.usable(reading)
    assert reading.methods["acme.find"].validate({})[1], "the schema is there"
    assert gateway.principals["shop"].api_key_hash == (HASH,)
    assert (gateway.broker.curve.key, gateway.worker.curve.key) == ("", "")
    (tmp_path / "front.key").unlink()
    (tmp_path / "find.json").unlink()
    key(tmp_path, "broker.key")
    broker = config.usable(config.read(path, environ={"BACK": "0" * 40}, role="broker"))
    assert broker.broker.curve.key.endswith("broker.key")
    assert broker.peers["back"].serve == ("*",)


@pytest.mark.parametrize("role", ["gateway", "broker", "functions"])
def test_who_asks_no_provider_needs_no_codecs(tmp_path: Path, role: config.Role) -> None:
    written(tmp_path, "raise SystemExit('it is run')", "codec_of_others.py")
    codecs = 'encode = "python:codec_of_others:encode"\ndecode = "python:no_such_codec:decode"\n'
    path = written(tmp_path, PROVIDER + METHOD + codecs + PARAMS)
    reading = config.read(path, environ={}, role=role)
    assert config.usable(reading).methods["acme.find"].encode == "python:codec_of_others:encode"
    assert reading.methods["acme.find"].validate({"q": 1})[1]
    problems = config.read(path, environ={}, role="worker").problems
    assert [problem.path.rpartition(".")[2] for problem in problems] == ["encode", "decode"]


def test_a_worker_needs_no_keys_of_callers(tmp_path: Path) -> None:
    text = (
        DIVIDED.replace('tls = { ca = "ca.pem" }\n', "")
        .replace('proxy = "env:PROXY"\n', "")
        .replace('params = "find.json"\n', "")
    )
    path = written(tmp_path, text)
    key(tmp_path, "back.key")
    written(tmp_path, "s3cret", "password")
    environ = {"ACME_URL": "https://acme.example", "ACME_USER": "us", "ACME_SHOP": "17"}
    assert config.usable(config.read(path, environ=environ, role="worker")).providers["acme"].base_url == "https://acme.example"


@pytest.mark.parametrize(
    ("role", "missing"),
    [
        ("gateway", ["gateway.tls.cert", "gateway.tls.key", "gateway.curve.key", "principals.shop.api_key_hash", 'methods."acme.find".params']),
        ("broker", ["broker.curve.key", "peers.back.public_key"]),
        ("functions", ["worker.curve.key"]),
        (
            "worker",
            [
                "worker.curve.key", "providers.acme.base_url", "providers.acme.auth.username", "providers.acme.auth.password",
                "providers.acme.headers.X-Shop", "providers.acme.proxy", "providers.acme.tls.ca", 'methods."acme.find".query.shop',
                'methods."acme.find".params',
            ],
        ),
    ],
    ids=["gateway", "broker", "functions", "worker"],
)  # fmt: skip
def test_what_a_role_needs_itself_is_missed(role: config.Role, missing: list[str], tmp_path: Path) -> None:
    problems = config.read(written(tmp_path, DIVIDED), environ={}, role=role).problems
    assert sorted(problem.path for problem in problems if not problem.warning) == sorted(missing)
