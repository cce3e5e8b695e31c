"""homing.cli.call: one call from the command line, its result or what became of it."""

import json
import os
import pty
import signal
import subprocess
import sys

import pytest
from click.testing import CliRunner, Result

from homing.cli import main
from homing.cli.call import check_params, in_words
from homing.errors import CallError
from tests.broker_host import Host
from tests.brokers import ok
from tests.scripted_gateway import Request, ScriptedGateway, Visit, each, error, free_port, response, result

HOMING = [sys.executable, "-c", "from homing.cli import main; main(prog_name='homing')"]


def homing(*arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(main, ["call", *arguments], input=stdin)


def echo(request: Request) -> bytes:
    """Echo the params as they were written, unless there are none."""
    _, _, params = request.body.partition(b'"params":')
    text = params.rpartition(b',"id":')[0] or b"null"
    return response(b'{"jsonrpc":"2.0","id":"%s","result":%s}' % (request.id.encode(), text))


def test_a_result_is_printed_as_it_came() -> None:
    with ScriptedGateway(each(echo)) as gateway:
        done = homing("demo.echo", '{"n": 1.10, "big": 123456789012345678901234567890, "e": 1e400}', "--url", gateway.url)
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout == '{"n":1.10,"big":123456789012345678901234567890,"e":1e400}\n'
    assert gateway.requests[0].json["method"] == "demo.echo"


def test_what_is_asked_for_is_sent() -> None:
    with ScriptedGateway(each(echo)) as gateway:
        options = ["--timeout", "30s", "--idempotency-key", "order-17", "--api-key", "hk_secret"]
        assert homing("m", "[1, 2]", *options, "--url", gateway.url).stdout == "[1,2]\n"
        assert homing("m", "--url", gateway.url, "--timeout", "0.5").stdout == "null\n"
        assert homing("m", "-", "--url", gateway.url, stdin='{"a": "ü"}').stdout == '{"a":"ü"}\n'
    first, second, _ = gateway.requests
    assert first.header("authorization") == "Bearer hk_secret"
    assert first.header("idempotency-key") == "order-17"
    assert 29 < float(first.header("homing-timeout") or 0) <= 30
    assert float(second.header("homing-timeout") or 0) <= 0.5


def test_the_environment_says_where(monkeypatch: pytest.MonkeyPatch) -> None:
    with ScriptedGateway(each(result)) as gateway:
        monkeypatch.setenv("HOMING_URL", gateway.url)
        monkeypatch.setenv("HOMING_API_KEY", "hk_env")
        assert homing("m").stdout == '"done"\n'
    assert gateway.requests[0].header("authorization") == "Bearer hk_env"


def test_programs_get_json() -> None:
    with ScriptedGateway(each(echo)) as gateway:
        assert homing("m", "[1]", "--json", "--url", gateway.url).stdout == '{"result":[1]}\n'
    done = homing("m", "--json", "--url", f"http://127.0.0.1:{free_port()}")
    assert (done.exit_code, done.stderr) == (1, "")
    said = json.loads(done.stdout)["error"]
    assert said["code"] == 5020
    assert said["data"] == {"reason": "provider_unreachable", "executed": "no", "retry": "safe", "leg": "gateway"}


def test_people_get_words() -> None:
    attempt = {
        "provider": "acme",
        "started_ms": 3,
        "duration_ms": 900,
        "status": 503,
        "reason": "provider_failed",
        "executed": "unknown",
        "provider_request_id": "req_1",
    }
    data = {
        "reason": "provider_failed",
        "executed": "unknown",
        "retry": "same_key",
        "idempotency_key": "order-17",
        "key_expires_ms": 86_400_000,
        "call_id": "c" * 32,
        "attempts": [attempt, "a shape of a later version"],
        "status": 503,
        "body": {"message": "oops"},
    }
    with ScriptedGateway(each(lambda request: error(request, 5024, "The provider \x1b[31mfailed.", data))) as gateway:
        done = homing("acme.charge", "--url", gateway.url)
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [
        "The provider  [31mfailed. [provider_failed, 5024]",
        "  executed  unknown. The provider may have carried it out: look before you repeat it.",
        "  retry     with the same idempotency key, by which the provider knows it again, within 24h: --idempotency-key order-17",
        "  attempt   acme, 3 ms after admission, for 900 ms: HTTP 503, provider_failed, executed unknown (the provider calls it req_1)",
        "  status    HTTP 503 from the provider",
        '  body      {"message":"oops"}',
        "  call id   " + "c" * 32,
    ]


def test_who_is_not_known_is_told_where_an_api_key_goes() -> None:
    assert "  api key   --api-key KEY, or HOMING_API_KEY" in in_words(CallError(4010, "m", {"reason": "unauthenticated"}))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"executed": "no", "retry": "safe", "retry_after_ms": 1500}, "safe. It may be called again, after 1.5s."),
        ({"executed": "no", "retry": "safe"}, "safe. It may be called again."),
        ({"executed": "unknown", "retry": "safe"}, "safe. Repeating it does no harm."),
        ({"executed": "unknown", "retry": "unsafe"}, "unsafe. Repeating it may do it twice."),
        ({"executed": "no", "retry": "pointless"}, "pointless. The same call will fail the same way until something is changed."),
        ({"executed": "unknown", "retry": "same_key"}, "with the same idempotency key, by which the provider knows it again."),
        (
            {"executed": "unknown", "retry": "unsafe", "leg": "gateway", "idempotency_key": "k"},
            "--idempotency-key k makes it safe",
        ),
        (
            {"executed": "yes", "retry": "unsafe"},
            "executed  yes. The provider carried it out, and still there is no result to give.",
        ),
        ({"executed": "no", "limit": "gateway.in_flight_max"}, "limit     gateway.in_flight_max"),
        ({"executed": "no", "errors": [{"path": "/a", "message": "too small"}]}, "params    /a: too small"),
        ({"executed": "no", "errors": [{"path": "", "message": "no object"}, 7]}, "params    all of it: no object"),
        (
            {"executed": "unknown", "status": 502, "body": "<html>", "leg": "gateway"},
            "status    HTTP 502 answered before the gateway did",
        ),
        ({"executed": "unknown", "body": "x" * 5000}, "body      " + "x" * 2000 + "…"),
        ({"executed": "unknown", "detail": [1]}, "detail    [1]"),
        ([1], "detail    [1]"),
    ],
)
def test_each_thing_that_is_known_has_its_line(data: object, words: str) -> None:
    assert words in in_words(CallError(1, "m", data))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "say which METHOD"),
        (["m", "{"], "not JSON"),
        (["m", "{'a': 1}"], "not JSON"),
        (["m", "7"], "object or array"),
        (["m", "null"], "object or array"),
        (["m", "hello"], "not JSON"),
        (["m", '{"a": NaN}'], "not JSON"),
        (["m", "[" * 5000], "nested too deeply\n"),
        (["m", "[1,"], "truncated\n"),
        (["m", "{a: 1}"], 'so put single ones around all of it: \'{"a": "b"}\''),
        (["m", "{'a': 1}"], "strings and names stand in double quotes"),
        (["m", "{}", "--idempotency-key", ""], "is a string of 1 to 255 printable ASCII characters"),
        (["m", "{}", "--idempotency-key", "schlüssel"], "is a string of 1 to 255 printable ASCII characters"),
        (["m", "{}", "--idempotency-key", "k" * 256], "is a string of 1 to 255 printable ASCII characters"),
        (["m", "--timeout", "0"], "is no time"),
        (["m", "--timeout", "soon"], "is no time"),
        (["m", "--timeout", "-3"], "is no time"),
        (["m", "--url", "127.0.0.1:8370"], "does not begin with http"),
        (["m", "--api-key", "a b"], "visible ASCII"),
        (["\x1b", "{}"], "no name of a method"),
        (["m", "{}", "--batch", "x.jsonl"], "the params are in the file"),
        (["m", "--batch", "x.jsonl", "--idempotency-key", "k"], "a key of its own"),
        (["m", "--batch", "missing.jsonl"], "No such file"),
        (["m", "--parallel", "0"], "--parallel"),
    ],
)
def test_what_cannot_be_called_exits_with_2(arguments: list[str], words: str) -> None:
    done = homing(*arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert words in done.stderr


def test_params_that_are_not_utf_8_are_refused() -> None:
    with pytest.raises(ValueError, match="not UTF-8"):
        check_params(b'{"a": "\xff"}')


def test_the_help_has_an_example() -> None:
    assert 'homing call demo.echo \'{"text": "hello"}\'' in homing("--help").stdout


def test_ctrl_c_says_that_it_may_be_carried_out() -> None:
    def script(visit: Visit) -> None:
        visit.request()
        running[0].send_signal(signal.SIGINT)
        visit.gone()

    running: list[subprocess.Popen[str]] = []
    with ScriptedGateway(script) as gateway:
        process = subprocess.Popen([*HOMING, "call", "m", "--url", gateway.url], stderr=subprocess.PIPE, text=True)
        running.append(process)
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "the provider may carry it out" in stderr


def on_a_terminal(*arguments: str) -> str:
    """Run homing with a terminal for everything; return what it shows."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*HOMING, *arguments], stdin=theirs, stdout=theirs, stderr=theirs, env={**os.environ, "TERM": "xterm"}
    )
    os.close(theirs)
    shown = b""
    try:
        while data := os.read(ours, 65536):
            shown += data
    except OSError:  # how Linux says that the other side is closed
        pass
    os.close(ours)
    process.wait(30)
    return shown.decode()


def test_on_a_terminal_a_result_has_line_breaks_and_an_error_colours() -> None:
    with ScriptedGateway(each(echo)) as gateway:
        assert on_a_terminal("call", "m", '{"a":1}', "--url", gateway.url) == '{\r\n  "a": 1\r\n}\r\n'
    assert "\x1b[31m" in on_a_terminal("call", "m", "--url", f"http://127.0.0.1:{free_port()}")


# Brokers


def test_a_broker_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOMING_API_KEY", "hk_of_some_gateway")
    with Host({"acme.echo": lambda start: ok(start.body)}) as host:
        done = homing("acme.echo", '{"n": 1.10}', "--url", host.url)
        assert (done.exit_code, done.stdout, done.stderr) == (0, '{"n":1.10}\n', "")
        done = homing("acme.none", "--url", host.url, "--timeout", "20", "--json")
        assert done.exit_code == 1
        assert json.loads(done.stdout)["error"]["data"]["executed"] == "no"


def test_a_broker_that_is_not_there_is_told_in_words() -> None:
    done = homing("acme.charge", "--url", f"tcp://127.0.0.1:{free_port()}", "--timeout", "0.1")
    assert done.exit_code == 1
    assert "No broker was to be had until the deadline. [broker_lost, 5051]" in done.stderr
    assert "It is proven that the provider did not carry it out." in done.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--url", "tcp://127.0.0.1"], "is no broker's address"),
        (
            ["--url", "tcp://127.0.0.1:1", "--api-key", "hk_1"],
            "--api-key is for gateways; a broker knows callers by their CURVE keys: give --curve and --broker-key",
        ),
        (
            ["--url", "tcp://10.0.0.5:1"],
            "nothing would be encrypted: give --curve and --broker-key, or --insecure if that is meant",
        ),
        (["--url", "tcp://127.0.0.1:1", "--curve", "curve/curve"], "--broker-key, the broker's public key, is missing"),
        (
            ["--url", "tcp://10.0.0.5:1", "--curve", "curve/api_key.curve", "--broker-key", "0" * 40],
            "Error: curve/api_key.curve cannot be read",
        ),
        (["--url", "http://api_key:curve@h"], "give the API key as --api-key"),
        (["--url", "tcp://10.0.0.5:1", "--curve", "none.toml", "--broker-key", "0" * 40], "none.toml cannot be read"),
        (["--url", "http://127.0.0.1:1", "--insecure"], "--insecure is for brokers"),
    ],
)
@pytest.mark.parametrize("batch", [False, True])
def test_what_cannot_work_with_brokers_is_a_usage_error(options: list[str], said: str, batch: bool) -> None:
    done = homing("acme.charge", *options, *(["--batch", "-"] if batch else []), stdin="{}")
    assert done.exit_code == 2
    assert said in " ".join(done.stderr.split())
