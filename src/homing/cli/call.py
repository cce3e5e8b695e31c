"""`homing call`: call a method and print its result, or say in plain words what became of the call."""

import math
import re
import sys
from pathlib import Path
from typing import TypedDict

import click
import msgspec
from click.core import ParameterSource

from homing.cli.streams import leave_stdout
from homing.client import URL, Client
from homing.core.jsonrpc import KEY_LENGTH_MAX
from homing.errors import CallError
from homing.units import format_duration, parse_duration

EXIT_FAILED = 1

# The number's text is enough to see that it is one: what is sent is the text as it was given, however long the number.
_CHECK = msgspec.json.Decoder(float_hook=str)

EXECUTED = {
    "no": "no. It is proven that the provider did not carry it out.",
    "unknown": "unknown. The provider may have carried it out: look before you repeat it.",
    "yes": "yes. The provider carried it out, and still there is no result to give.",
}
RETRY = {
    "pointless": "pointless. The same call will fail the same way until something is changed.",
    "unsafe": "unsafe. Repeating it may do it twice.",
    "same_key": "with the same idempotency key, by which the provider knows it again",
}
_SHOWN_CHARACTERS_MAX = 2000
_ARGUMENT = re.compile(r"(?<![\w/.:-])(api_key|broker_key|curve|insecure)(?:=True|=)?(?![\w/.:-])")  # and in no path


class ClientOptions(TypedDict):
    """What either client is made of."""

    url: str
    api_key: str | None
    timeout: float | None
    curve: str | None
    broker_key: str | None
    insecure: bool


def seconds_of(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """Seconds, from a number or with a unit."""
    if value is None:
        return None
    try:
        seconds = float(value) if value[-1:].isdigit() else parse_duration(value)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < math.inf:
        raise click.BadParameter(f"{value!r} is no time; write 30, 0.5 or 30s", ctx, param)
    return seconds


def key_of(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """An idempotency key, if every gateway would take it."""
    try:
        return None if value is None else check_key(value)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from None


def check_key(text: str) -> str:
    """Raises ValueError for what cannot be an idempotency key."""
    if not 1 <= len(text) <= KEY_LENGTH_MAX or not all(" " <= character <= "~" for character in text):
        raise ValueError(f"an idempotency key is a string of 1 to {KEY_LENGTH_MAX} printable ASCII characters")
    return text


@click.command(short_help="Call a method, or many from a file.")
@click.argument("method", required=False)
@click.argument("params", required=False)
@click.option(
    "--url",
    envvar="HOMING_URL",
    default=URL,
    show_default=True,
    show_envvar=True,
    help="The gateway, or brokers: tcp://HOST:PORT, several with commas between.",
)
@click.option(
    "--api-key",
    metavar="KEY",
    envvar="HOMING_API_KEY",
    show_envvar=True,
    help="Better kept in the environment.",
)
@click.option("--curve", metavar="FILE", help="To brokers: your keys, as `homing keys curve NAME` wrote them.")
@click.option("--broker-key", metavar="KEY", help="To brokers: their public key.")
@click.option("--insecure", is_flag=True, help="To brokers on other machines without CURVE: anybody may read and forge it.")
@click.option(
    "--timeout",
    metavar="SECONDS",
    callback=seconds_of,
    help="For each call, retries and all. Default: the method's deadline.",
)
@click.option(
    "--idempotency-key", metavar="KEY", callback=key_of, help="By which a keyed method's provider knows the call again."
)
@click.option(
    "--batch", metavar="FILE.jsonl", help="A call per line: params of METHOD or, without it, {method, params}. - is stdin."
)
@click.option(
    "--parallel", type=click.IntRange(1, 1000), default=16, show_default=True, help="Calls of a batch under way at once."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs: errors too, on stdout.")
@click.pass_context
def command(
    ctx: click.Context,
    method: str | None,
    params: str | None,
    url: str,
    api_key: str | None,
    curve: str | None,
    broker_key: str | None,
    insecure: bool,
    timeout: float | None,
    idempotency_key: str | None,
    batch: str | None,
    parallel: int,
    as_json: bool,
) -> None:
    """Call METHOD with PARAMS, a JSON object or array (- reads it from stdin), and print the result.

    With --batch, print a line of JSON for each line of the file, in its order: {"line", "result"} or {"line", "error"}. A line
    without METHOD may also have an "idempotency_key" and a "timeout" in seconds.

    \b
    Example:
      homing call demo.echo '{"text": "hello"}'
      homing call demo.charge --batch charges.jsonl > done.jsonl
      homing call demo.echo '{"text": "hello"}' --url tcp://127.0.0.1:8372
    """
    if url.startswith(("tcp://", "ipc://")) and ctx.get_parameter_source("api_key") is ParameterSource.ENVIRONMENT:
        api_key = None  # it is for gateways
    options = ClientOptions(url=url, api_key=api_key, timeout=timeout, curve=curve, broker_key=broker_key, insecure=insecure)
    if method is not None and not method.isprintable():
        raise click.UsageError(f"{method!r} is no name of a method")
    if batch is not None:
        if params is not None:
            raise click.UsageError("with --batch the params are in the file; give METHOD only, or nothing")
        if idempotency_key is not None:
            raise click.UsageError('with --batch each line needs a key of its own: {"method", "params", "idempotency_key"}')
        from homing.cli.call_batch import call_all, read_lines

        lines = read_lines(batch, method)
        raise SystemExit(EXIT_FAILED if call_all(lines, options, parallel, as_json=as_json) else 0)
    if method is None:
        raise click.UsageError("say which METHOD to call, or give a file of calls with --batch")
    text = read_params(params)
    try:
        client = Client(**options)
    except ValueError as error:
        raise click.UsageError(in_options(str(error))) from None
    try:
        with client:
            result = client.call(method, text, idempotency_key=idempotency_key, result_type=msgspec.Raw)
    except CallError as error:
        report(error, as_json=as_json)
        raise SystemExit(EXIT_FAILED) from None
    except KeyboardInterrupt:
        click.echo("\nInterrupted. If the request had left, the provider may carry it out: look before you repeat it.", err=True)
        raise SystemExit(EXIT_FAILED) from None
    try:
        show(bytes(result), as_json=as_json)
    except OSError as error:
        leave_stdout()
        click.echo(
            f"The call was carried out, and its result cannot be written: {(error.strerror or str(error)).lower()}.", err=True
        )
        raise SystemExit(EXIT_FAILED) from None


def in_options(told: str) -> str:
    """What a client says of its arguments, in the words of the command line."""
    return _ARGUMENT.sub(lambda found: "--" + found[1].replace("_", "-"), told)


def read_params(params: str | None) -> msgspec.Raw | None:
    """The params as they were written, once they are known to be JSON and of the right kind; exits with 2 otherwise."""
    if params is None:
        return None
    text = sys.stdin.buffer.read() if params == "-" else params.encode("utf-8", "surrogateescape")
    try:
        return check_params(text)
    except ValueError as error:
        why = f"{error}{advice(params)}" if str(error).startswith("not JSON") else str(error)
        raise click.BadParameter(why, param_hint="PARAMS") from None


def advice(text: str) -> str:
    """What may have gone wrong between somebody's shell and here."""
    if text.lstrip().startswith("'") or ("'" in text and '"' not in text):
        return """; strings and names stand in double quotes, and all of it in single ones for the shell: '{"a": "b"}'"""
    if '"' not in text and text.strip()[:1] in {"{", "["} and any(character.isalpha() for character in text):
        return """; the shell takes double quotes away, so put single ones around all of it: '{"a": "b"}'"""
    return ""


def check_params(text: bytes) -> msgspec.Raw:
    """Raises ValueError for what cannot be params."""
    try:
        value = _CHECK.decode(text.decode())
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
    except msgspec.DecodeError as error:
        raise ValueError(f"not JSON: {str(error).removeprefix('JSON is malformed: ')}") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(value, dict | list):
        raise ValueError('a JSON object or array is needed, such as {"text": "hello"}')
    return msgspec.Raw(text)


def show(result: bytes, *, as_json: bool) -> None:
    """Print a result: its own JSON text, on a terminal with line breaks."""
    if as_json:
        result = b'{"result":%s}' % msgspec.json.format(result, indent=-1)
    else:
        result = msgspec.json.format(result, indent=2 if sys.stdout.isatty() else -1)
    click.echo(result)


def report(error: CallError, *, as_json: bool) -> None:
    """Print an error: to stdout for programs, to stderr for people."""
    if as_json:
        click.echo(msgspec.json.encode({"error": error_object(error)}))
    else:
        click.echo(in_words(error), err=True)


def error_object(error: CallError) -> dict[str, object]:
    """An error as JSON-RPC has it, with what the client found out itself among the data."""
    data: dict[str, object] = dict(error.data) if isinstance(error.data, dict) else {}
    if error.data is not None and not data:
        data["detail"] = error.data
    data |= {"reason": error.reason, "executed": error.executed, "retry": error.retry}
    if error.call_id is not None:
        data["call_id"] = error.call_id
    if error.idempotency_key is not None:
        data["idempotency_key"] = error.idempotency_key
    return {"code": error.code, "message": error.message, "data": data}


def in_words(error: CallError) -> str:
    """What became of the call, for people: a line each."""
    data = error_object(error)["data"]
    assert isinstance(data, dict)
    rows = [("executed", EXECUTED[error.executed]), ("retry", _retry(error, data))]
    errors = data.get("errors")
    rows += [("params", f"{one.get('path') or 'all of it'}: {one.get('message')}") for one in _objects(errors)]
    if "limit" in data:
        rows.append(("limit", str(data["limit"])))
    if error.reason == "unauthenticated":
        rows.append(("api key", "--api-key KEY, or HOMING_API_KEY in the environment"))
    rows += [("attempt", _attempt(one)) for one in _objects(error.attempts)]
    if error.status is not None:
        who = "answered before the gateway did" if data.get("leg") == "gateway" else "from the provider"
        rows.append(("status", f"HTTP {error.status} {who}"))
    if error.body is not None:
        rows.append(("body", error.body if isinstance(error.body, str) else msgspec.json.encode(error.body).decode()))
    if "detail" in data:
        rows.append(("detail", msgspec.json.encode(data["detail"]).decode()))
    if error.call_id is not None:
        rows.append(("call id", error.call_id))
    title = click.style(f"{plain(error.message)}", fg="red", bold=True) + f" [{plain(error.reason)}, {error.code}]"
    return "\n".join([title, *(f"  {name:<9} {plain(text)}" for name, text in rows)])


def _retry(error: CallError, data: dict[str, object]) -> str:
    if error.retry == "safe":
        words = "safe. It may be called again" if error.executed == "no" else "safe. Repeating it does no harm"
        return words + (f", after {format_duration(max(error.retry_after, 0.0))}." if error.retry_after else ".")
    words = RETRY.get(error.retry, error.retry)
    if error.retry == "same_key":
        expires = data.get("key_expires_ms")
        within = f", within {format_duration(expires / 1000)}" if isinstance(expires, int) else ""
        words += f"{within}: --idempotency-key {error.idempotency_key}" if error.idempotency_key else f"{within}."
    elif error.retry == "unsafe" and error.idempotency_key is not None and data.get("leg") == "gateway":
        words += f" (If the method is keyed, --idempotency-key {error.idempotency_key} makes it safe.)"
    return words


def _objects(value: object) -> list[dict[str, object]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _attempt(one: dict[str, object]) -> str:
    parts = [f"{one.get('provider')}, {one.get('started_ms')} ms after admission, for {one.get('duration_ms')} ms:"]
    if one.get("status") is not None:
        parts.append(f"HTTP {one['status']},")
    parts.append(f"{one.get('reason')}, executed {one.get('executed')}")
    if one.get("provider_request_id") is not None:
        parts.append(f"(the provider calls it {one['provider_request_id']})")
    return " ".join(parts)


def plain(text: str) -> str:
    """Text from elsewhere, on one line and without anything that a terminal would obey."""
    shown = "".join(character if character.isprintable() else " " for character in text)
    return shown if len(shown) <= _SHOWN_CHARACTERS_MAX else shown[:_SHOWN_CHARACTERS_MAX] + "…"


def read_file(path: str) -> bytes:
    """A file's bytes, or stdin's for `-`; exits with 2 when it cannot be read."""
    try:
        return sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except OSError as error:
        raise click.BadParameter(f"{path}: {error.strerror or error}", param_hint="--batch") from None
