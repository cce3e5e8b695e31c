"""`homing try`: the request that a call would send, or what an answer of the provider would mean, without sending anything."""

import json
import sys
import time
from difflib import get_close_matches
from pathlib import Path
from typing import NoReturn
from urllib.parse import quote

import click
import msgspec

from homing.cli.call import advice, key_of
from homing.cli.reading import EXIT_CONFIGURATION, config_option, json_option, read_or_exit
from homing.config import Reading
from homing.core import jsonrpc
from homing.core.exchange import HttpRequest, HttpResponse
from homing.core.methods import Method
from homing.core.specs import CallInfo, MappingError
from homing.edges.connect import parse_origin
from homing.edges.credentials import with_header, with_parameter
from homing.edges.provider_request import encode
from homing.errors import code_of, retry_of
from homing.references import MASK, mask
from homing.settings import Auth, BasicAuth, HeaderAuth, Provider, QueryAuth

EXIT_REFUSED = 1
CALL_ID = "0" * 32


class Shown(msgspec.Struct, frozen=True):
    """A request as it is shown: with its credentials masked. `body` is None if there is none, and not text in `body_hex`."""

    method: str
    url: str
    headers: list[tuple[str, str]]
    body: str | None
    body_hex: str | None = None


@click.command(
    short_help="Show the request a call would send, or what an answer would mean.",
    epilog="""Examples:

\b
homing try acme.charge '{"account": "a1", "amount": 1200}' --dry-run
homing try acme.charge '{"account": "a1", "amount": 1200}' --response declined.json --status 402""",
)
@click.argument("method_name", metavar="METHOD")
@click.argument("params_text", metavar="[PARAMS]", default="")
@config_option
@click.option("--dry-run", is_flag=True, help="Print the exact request, secrets masked. Nothing is sent.")
@click.option(
    "--response",
    "response_path",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, allow_dash=True),
    help="The body of an answer, - is stdin: print what it would mean.",
)
@click.option("--status", type=click.IntRange(200, 599), default=200, show_default=True, help="The status of that answer.")
@click.option("--header", "headers", metavar="'NAME: VALUE'", multiple=True, help="A header of that answer; may be repeated.")
@click.option(
    "--idempotency-key",
    metavar="KEY",
    callback=key_of,
    help="The caller's idempotency key; else the call id, which is all zeros here.",
)
@click.option("--principal", metavar="NAME", default="", help="Who calls; else an anonymous caller.")
@json_option
def command(
    method_name: str,
    params_text: str,
    config_path: str,
    dry_run: bool,
    response_path: str | None,
    status: int,
    headers: tuple[str, ...],
    idempotency_key: str | None,
    principal: str,
    as_json: bool,
) -> None:
    """Show the request that a call of METHOD would send, or what an answer of the provider would mean. Nothing is sent.

    PARAMS are JSON. Params that do not fit the method exit with 1, as the call would be answered with an error.
    """
    if dry_run == (response_path is not None):
        raise click.UsageError("say --dry-run, or --response FILE, and not both")
    _, reading = read_or_exit(config_path)
    method = _method(reading, method_name)
    params, params_raw, key = _params(method, params_text, idempotency_key)
    if method.provider is None and as_json:
        click.echo(msgspec.json.format(msgspec.json.encode({"request": None, "service": method.service})))
    elif method.provider is None:
        click.echo(f"{method.name} asks no provider: its params go to the workers of {method.service} as they are")
    elif response_path is None:
        if key is None and method.key_required:
            _exit(f"-32602 invalid_params: {method.name} is not called without an idempotency key: say --idempotency-key KEY")
        call = CallInfo(CALL_ID, method.provider_key(principal, CALL_ID if key is None else key), principal)
        _print_requests(_requests(reading, method, params, params_raw, call), reading, as_json=as_json)
    else:
        body = sys.stdin.buffer.read() if response_path == "-" else Path(response_path).read_bytes()
        _print_meaning(method, HttpResponse(status, _headers(headers), body), reading, as_json=as_json)


# What was given


def _method(reading: Reading, name: str) -> Method:
    if name not in reading.methods:
        close = get_close_matches(name, reading.methods, 1)
        _exit(f'there is no method "{name}"{f"; did you mean {close[0]}?" if close else ""}', EXIT_CONFIGURATION)
    return reading.methods[name]


def _params(method: Method, text: str, key: str | None) -> tuple[dict[str, object], bytes, str | None]:
    """The params as the gateway would read them, and the idempotency key, which may stand among them.

    Exits with 2 for what cannot be read, with 1 for what does not fit the method.
    """
    raw = text.strip().encode("utf-8", "surrogateescape")
    if raw:
        try:
            json.loads(raw)
        except (ValueError, RecursionError) as error:
            _exit(f"PARAMS are not JSON: {str(error)[:1].lower()}{str(error)[1:]}{advice(text)}", EXIT_CONFIGURATION)
        raw = b',"params":' + raw
    meta = b"" if key is None else b',"meta":' + json.dumps({"idempotency_key": key}).encode()
    parsed = jsonrpc.parse(b'{"jsonrpc":"2.0","id":1,"method":"x"' + raw + meta + b"}", batch_length_max=1)
    if not isinstance(parsed, jsonrpc.Call):
        message = parsed.outcome.message if isinstance(parsed, jsonrpc.Refused) else "they are a batch"
        _exit(f"PARAMS cannot be used: {message}", EXIT_CONFIGURATION)
    params, errors = method.validate(parsed.params)
    if errors:
        _exit(
            "\n".join(
                [
                    f"-32602 invalid_params: {method.name} is not called",
                    *(f"  {e.path or '(params)'}: {e.message}" for e in errors),
                ]
            )
        )
    named = isinstance(parsed.params, dict)
    params_raw = parsed.params_raw if named or not params else jsonrpc.encode_value(params)
    return params, params_raw, parsed.idempotency_key


def _headers(lines: tuple[str, ...]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name.strip():
            raise click.UsageError(f"--header wants 'Name: value', and {line!r} is none")
        name, value = name.strip().lower(), value.strip()
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


# What it would send


def _requests(reading: Reading, method: Method, params: dict[str, object], params_raw: bytes, call: CallInfo) -> list[Shown]:
    """The request, and the lookup's if there is one."""
    assert reading.config is not None
    assert method.provider is not None
    provider = reading.config.providers[method.provider]
    try:
        requests = [method.render(params, params_raw, call)]
        try:
            if method.has_lookup:
                requests.append(method.render_lookup(params, call))
        except MappingError as error:
            click.echo(f"after an unknown, no lookup is made: {error.message}", err=True)
        return [_shown(request, provider) for request in requests]
    except MappingError as error:
        _exit(f"-32602 invalid_params: {method.name} is not called\n  {error.path or '(params)'}: {error.message}")
    except ValueError as error:
        _exit(f"no such request can be sent: {error}")


def _shown(request: HttpRequest, provider: Provider) -> Shown:
    """The request as the edge writes it, with *** for the credentials."""
    origin = parse_origin(provider.base_url)
    request = _with_masked_credentials(request, provider.auth)
    head, _, body = encode(request, origin.authority).partition(b"\r\n\r\n")
    _, *lines = head.decode("latin-1").split("\r\n")
    headers = [(name, value) for name, _, value in (line.partition(": ") for line in lines)]
    url = f"{'https' if origin.secure else 'http'}://{origin.authority}{request.target}"
    if not body:
        return Shown(request.method, url, headers, None)
    try:
        return Shown(request.method, url, headers, body.decode())
    except UnicodeDecodeError:
        return Shown(request.method, url, headers, None, body.hex())


def _with_masked_credentials(request: HttpRequest, auth: Auth | None) -> HttpRequest:
    if auth is None:
        return request
    if isinstance(auth, QueryAuth):
        return with_parameter(request, f"{quote(auth.name, safe='')}={MASK}")
    if isinstance(auth, HeaderAuth):
        header = (auth.name, MASK)
    else:
        header = ("Authorization", f"{'Basic' if isinstance(auth, BasicAuth) else 'Bearer'} {MASK}")
    return with_header(request, header)


def _print_requests(requests: list[Shown], reading: Reading, *, as_json: bool) -> None:
    if as_json:
        names = ("request", "lookup")
        text = msgspec.json.format(msgspec.json.encode(dict(zip(names, requests, strict=False)))).decode()
        click.echo(mask(text, reading.referred))
        return
    for index, request in enumerate(requests):
        if index:
            click.echo(click.style("\n# and after an unknown, the lookup", dim=True))
        lines = [click.style(f"{request.method} {request.url}", bold=True)]
        lines += [f"{click.style(name, fg='cyan')}: {value}" for name, value in request.headers]
        if request.body is not None:
            lines += ["", request.body]
        elif request.body_hex is not None:
            lines += ["", f"({len(request.body_hex) // 2} bytes that are no text: {request.body_hex})"]
        click.echo(mask("\n".join(lines), reading.referred))


# What an answer would mean


def _print_meaning(method: Method, response: HttpResponse, reading: Reading, *, as_json: bool) -> None:
    row, outcome = method.explain(response, time.time())
    ok = outcome.reason == "ok"
    meaning: dict[str, object] = {
        "row": row,
        "reason": outcome.reason,
        "code": None if ok else code_of(outcome),
        "executed": outcome.executed,
        "retry": None if ok else retry_of(outcome.reason, outcome.executed, method.effect),
        "retry_after_ms": outcome.retry_after_ms,
        "message": outcome.message or None,
        "result": msgspec.Raw(outcome.result) if ok else None,
    }
    if as_json:
        text = msgspec.json.format(msgspec.json.encode(meaning)).decode()
    else:
        if ok:
            meaning["result"] = outcome.result.decode()
        text = "\n".join(
            f"{click.style(f'{name:<16}', fg='cyan')}{value}" for name, value in meaning.items() if value is not None
        )
    click.echo(mask(text, reading.referred))


def _exit(message: str, code: int = EXIT_REFUSED) -> NoReturn:
    click.echo(message, err=True)
    raise SystemExit(code)
