"""homing.cli.try_: nothing is sent, and nothing secret is shown."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from homing.cli import main

TEXT = """\
[providers.acme]
base_url = "https://api.acme.example:8443/v2"
auth = { type = "bearer", token = "env:ACME_TOKEN" }
headers = { X-Shop = "env:SHOP" }
[providers.acme.defaults]
effect = "keyed"
idempotency_key = { header = "Idempotency-Key", scope = "verbatim" }
[[providers.acme.answers]]
when = "status == `402` && body.code == 'declined'"
is = "refused"
message = "body.text"
[methods."acme.charge"]
provider = "acme"
request = "POST /accounts/{account}/charges"
body = { amount = "=params.amount", shop = "env:SHOP", by = "=call.principal" }
result = "body.charge"
lookup = { request = "GET /charges", query = { reference = "=call.key" }, found = "body.data[0]" }
positional = ["account", "amount"]
[methods."acme.charge".params]
required = ["account", "amount"]
additionalProperties = false
properties.account.type = "string"
properties.amount = { type = "integer", minimum = 1 }
[methods."acme.find"]
provider = "acme"
effect = "safe"
request = "GET /find{?q}"
params = { additionalProperties = false, properties.q.type = "string" }
[methods."acme.keyed"]
provider = "acme"
idempotency_key = { header = "Idempotency-Key", required = true }
request = "POST /keyed"
[methods."acme.raw"]
provider = "acme"
effect = "safe"
request = "POST /raw"
encode = "python:tests.cli.test_try:to_bytes"
[methods."echo.echo"]
service = "echo"
"""
PARAMS = '{"account": "a 1", "amount": 1200}'


def to_bytes(params: object) -> tuple[bytes, str]:
    return b"\xff\x00", "application/octet-stream"


@pytest.fixture(autouse=True)
def _configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ACME_TOKEN", "hunter2")
    monkeypatch.setenv("SHOP", "shop-17")
    Path("homing.toml").write_text(TEXT)


def tried(*arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(main, ["try", *arguments], input=stdin)


def test_a_dry_run_shows_the_exact_request_with_secrets_masked() -> None:
    result = tried("acme.charge", PARAMS, "--dry-run", "--idempotency-key", "order-17", "--principal", "shop")
    assert result.exit_code == 0
    request, _, lookup = result.stdout.partition("\n\n# and after an unknown, the lookup\n")
    head, _, body = request.partition("\n\n")
    first, *headers = head.splitlines()
    assert first == "POST https://api.acme.example:8443/v2/accounts/a%201/charges"
    assert {
        "Host: api.acme.example:8443",
        "X-Shop: ***",
        "Content-Type: application/json",
        "Idempotency-Key: order-17",
        "Authorization: Bearer ***",
    } <= set(headers)
    assert json.loads(body) == {"amount": 1200, "shop": "***", "by": "shop"}
    assert lookup.startswith("GET https://api.acme.example:8443/v2/charges?reference=order-17\n")
    assert "hunter2" not in result.output
    assert "shop-17" not in result.output


def test_params_may_come_as_an_array() -> None:
    assert tried("acme.charge", '["a 1", 1200]', "--dry-run").stdout == tried("acme.charge", PARAMS, "--dry-run").stdout


def test_programs_get_the_request_as_json() -> None:
    told = json.loads(tried("acme.find", '{"q": "x"}', "--dry-run", "--json").stdout)
    assert told["request"]["method"] == "GET"
    assert told["request"]["url"] == "https://api.acme.example:8443/v2/find?q=x"
    assert ["Authorization", "Bearer ***"] in told["request"]["headers"]
    assert told["request"]["body"] is None
    assert "lookup" not in told


@pytest.mark.parametrize(
    ("auth", "shown"),
    [
        ('{ type = "basic", username = "u", password = "hunter2" }', "Authorization: Basic ***"),
        ('{ type = "header", name = "X-Key", value = "hunter2" }', "X-Key: ***"),
        ('{ type = "query", name = "api key", value = "hunter2" }', "find?q=x&api%20key=***"),
        (
            '{ type = "oauth2_client_credentials", token_url = "https://x.example", client_id = "c", client_secret = "hunter2" }',
            "Authorization: Bearer ***",
        ),
    ],
)
def test_credentials_of_every_kind_are_masked(auth: str, shown: str) -> None:
    Path("homing.toml").write_text(TEXT.replace('{ type = "bearer", token = "env:ACME_TOKEN" }', auth))
    result = tried("acme.find", '{"q": "x"}', "--dry-run")
    assert shown in result.stdout
    assert "hunter2" not in result.output


@pytest.mark.parametrize(
    ("lookup", "why"),
    [
        ("GET /charges{?note}", "none of the params is there that it asks by"),
        ("GET /{call.key}/{note}", "`note` is missing"),
    ],
)
def test_a_lookup_that_would_not_be_made_is_told_and_the_call_is_shown(lookup: str, why: str) -> None:
    text = TEXT.replace('"GET /charges", query = { reference = "=call.key" }', f'"{lookup}"')
    Path("homing.toml").write_text(text.replace("properties.amount", 'properties.note.type = "string"\nproperties.amount', 1))
    result = tried("acme.charge", PARAMS, "--dry-run")
    assert result.exit_code == 0
    assert "POST https://api.acme.example:8443/v2/accounts/a%201/charges" in result.stdout
    assert "# and after" not in result.stdout
    assert f"after an unknown, no lookup is made: {why}" in result.stderr


def test_credentials_stand_where_they_are_sent() -> None:
    Path("homing.toml").write_text(TEXT.replace("X-Shop", "authorization"))
    headers = json.loads(tried("acme.find", "--dry-run", "--json").stdout)["request"]["headers"]
    assert [value for name, value in headers if name.lower() == "authorization"] == ["Bearer ***"]
    in_query = TEXT.replace('{ type = "bearer", token = "env:ACME_TOKEN" }', '{ type = "query", name = "k", value = "hunter2" }')
    Path("homing.toml").write_text(in_query.replace("GET /find{?q}", "POST /find?"))
    assert json.loads(tried("acme.find", "--dry-run", "--json").stdout)["request"]["url"].endswith("/find?k=***")


def test_a_provider_without_credentials_gets_none() -> None:
    Path("homing.toml").write_text(TEXT.replace('auth = { type = "bearer", token = "env:ACME_TOKEN" }', ""))
    result = tried("acme.find", "--dry-run")
    assert result.exit_code == 0
    assert "Authorization" not in result.stdout


def test_a_body_that_is_no_text_is_shown_in_hex() -> None:
    result = tried("acme.raw", "{}", "--dry-run")
    assert "(2 bytes that are no text: ff00)" in result.stdout, result.output


def test_a_method_of_a_worker_sends_nothing() -> None:
    assert "go to the workers of echo as they are" in tried("echo.echo", "{}", "--dry-run").stdout
    told = tried("echo.echo", "{}", "--dry-run", "--json").stdout
    assert json.loads(told) == {"request": None, "service": "echo"}


@pytest.mark.parametrize(
    ("body", "arguments", "shown"),
    [
        (
            '{"charge": {"id": 5}}',
            [],
            {"row": "built-in: 200 is ok", "executed": "yes", "result": {"id": 5}, "retry": None, "code": None},
        ),
        (
            '{"code": "declined", "text": "No funds"}',
            ["--status", "402"],
            {"reason": "provider_refused", "code": 4220, "executed": "no", "retry": "pointless", "message": "No funds"},
        ),
        (
            "busy",
            ["--status", "503", "--header", "Retry-After: 7"],
            {"reason": "provider_failed", "executed": "unknown", "retry": "same_key"},
        ),
        (
            "",
            ["--status", "429", "--header", "Retry-After: 7"],
            {"reason": "provider_throttled", "retry": "safe", "retry_after_ms": 7000},
        ),
        ("not json", [], {"reason": "response_invalid", "executed": "unknown", "retry": "same_key", "code": 5022}),
    ],
)
def test_an_answer_is_told_for_what_it_means(body: str, arguments: list[str], shown: dict[str, object]) -> None:
    Path("answer").write_text(body)
    result = tried("acme.charge", PARAMS, "--response", "answer", *arguments, "--json")
    assert result.exit_code == 0
    assert shown.items() <= json.loads(result.stdout).items()
    plain = tried("acme.charge", PARAMS, "--response", "-", *arguments, stdin=body)
    assert f"executed        {json.loads(result.stdout)['executed']}\n" in plain.stdout


def test_the_row_of_ones_own_that_matched_is_named() -> None:
    result = tried(
        "acme.charge", PARAMS, "--response", "-", "--status", "402", stdin='{"code": "declined", "text": "No shop-17"}'
    )
    assert "row             providers.acme.answers[0]: status == `402` && body.code == 'declined'\n" in result.stdout
    assert "message         No ***\n" in result.stdout


def test_repeated_headers_are_joined() -> None:
    Path("homing.toml").write_text(TEXT.replace("body.text", 'headers.\\"x-a\\"'))
    result = tried(
        "acme.charge",
        PARAMS,
        "--response",
        "-",
        "--status",
        "402",
        "--header",
        "X-A: 1",
        "--header",
        "x-a:2",
        stdin='{"code":"declined"}',
    )
    assert "message         1, 2\n" in result.stdout


@pytest.mark.parametrize(
    "arguments",
    [["{}", "--idempotency-key", "order-17"], ['{"_meta": {"homing": {"idempotency_key": "order-17"}}}']],
)
def test_the_callers_key_is_where_the_gateway_looks_for_it(arguments: list[str]) -> None:
    assert "\nIdempotency-Key: order-17\n" in tried("acme.keyed", *arguments, "--dry-run").stdout


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["acme.charge", PARAMS], 2, "say --dry-run, or --response FILE"),
        (["acme.charge", PARAMS, "--dry-run", "--response", "-"], 2, "say --dry-run, or --response FILE"),
        (["acme.chrage", PARAMS, "--dry-run"], 2, 'there is no method "acme.chrage"; did you mean acme.charge?'),
        (["nothing", "--dry-run"], 2, 'there is no method "nothing"\n'),
        (["acme.charge", "{'account': 1}", "--dry-run"], 2, "strings and names stand in double quotes"),
        (["acme.charge", "{account: 1}", "--dry-run"], 2, "the shell takes double quotes away"),
        (["acme.charge", '{"account": 1', "--dry-run"], 2, "PARAMS are not JSON: expecting"),
        (["acme.charge", '{"account": 1}}', "--dry-run"], 2, "PARAMS are not JSON: extra data"),
        (["acme.charge", "5", "--dry-run"], 2, "must be an object or an array"),
        (["acme.charge", '{"account": NaN}', "--dry-run"], 2, "PARAMS cannot be used:"),
        (["acme.charge", '{"amount": 0}', "--dry-run"], 1, "-32602 invalid_params: acme.charge is not called\n"),
        (["acme.charge", '{"account": "..", "amount": 1}', "--dry-run"], 1, "-32602 invalid_params: acme.charge is not called\n"),
        (["acme.find", "[1]", "--dry-run"], 1, "  (params): must be an object"),
        (["acme.find", '{"q": ' + "[" * 9999, "--dry-run"], 2, "PARAMS are not JSON: maximum recursion depth"),
        (["acme.find", '{"q": "\udcff"}', "--dry-run"], 2, "PARAMS are not JSON: 'utf-8' codec can't decode"),
        (["acme.keyed", "--dry-run"], 1, "acme.keyed is not called without an idempotency key: say --idempotency-key KEY\n"),
        (["acme.keyed", "--dry-run", "--idempotency-key", ""], 2, "is a string of 1 to 255 printable ASCII"),
        (["acme.keyed", "--dry-run", "--idempotency-key", "schlüssel"], 2, "is a string of 1 to 255 printable ASCII"),
        (["acme.find", "--response", "nope"], 2, "does not exist"),
        (["acme.find", "--response", "-", "--status", "100"], 2, "--status"),
        (["acme.find", "--response", "-", "--header", "x"], 2, "--header wants 'Name: value'"),
    ],
)
def test_what_cannot_be_tried_is_told_why(arguments: list[str], code: int, says: str) -> None:
    result = tried(*arguments)
    assert says in result.stderr
    assert result.exit_code == code
    assert not result.stdout
