"""homing.cli.call_batch: many calls from a file, answered in its order and summed up."""

import json
import re
import signal
import subprocess
import threading
from pathlib import Path

import pytest

from homing.cli.call_batch import Line, read_lines
from tests.broker_host import Host
from tests.brokers import ok
from tests.cli.test_call import HOMING, echo, homing, on_a_terminal
from tests.scripted_gateway import Request, ScriptedGateway, Visit, each, error, free_port, result


def rows(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "calls.jsonl"


def test_answers_come_in_the_files_order(file: Path) -> None:
    file.write_text("".join(f'{{"n": {n}}}\n' for n in range(40)))
    later = threading.Event()

    def backwards(request: Request) -> bytes:
        """The first is answered when most of the others are."""
        match request.json["params"]["n"]:
            case 0:
                assert later.wait(30)
            case 30:
                later.set()
        return echo(request)

    with ScriptedGateway(each(backwards)) as gateway:
        done = homing("m", "--batch", str(file), "--url", gateway.url, "--parallel", "8")
    assert done.exit_code == 0
    assert rows(done.stdout) == [{"line": n + 1, "result": {"n": n}} for n in range(40)]
    assert re.fullmatch(r"40 of 40 calls in \d+\.\d s \(\d+\.\d calls/s\): 40 ok, 0 not\n", done.stderr)
    assert 1 < gateway.visits <= 40


def test_lines_may_name_their_own_methods(file: Path) -> None:
    file.write_bytes(
        b'\xef\xbb\xbf{"method": "a", "params": [1.10]}\r\n\r\n  \n{"method":"b","idempotency_key":"k-2","timeout":7}\n{"method":"c"}'
    )
    with ScriptedGateway(each(echo)) as gateway:
        done = homing("--batch", str(file), "--url", gateway.url, "--parallel", "1", "--timeout", "20")
    assert done.exit_code == 0
    assert done.stdout == '{"line":1,"result":[1.10]}\n{"line":4,"result":null}\n{"line":5,"result":null}\n'
    assert [request.json["method"] for request in gateway.requests] == ["a", "b", "c"]
    assert [request.header("idempotency-key") for request in gateway.requests] == [None, "k-2", None]
    assert [round(float(request.header("homing-timeout") or 0)) for request in gateway.requests] == [20, 7, 20]


def test_stdin_is_a_file_too() -> None:
    with ScriptedGateway(each(echo)) as gateway:
        done = homing("m", "--batch", "-", "--url", gateway.url, stdin="[1]\n[2]\n")
    assert rows(done.stdout) == [{"line": 1, "result": [1]}, {"line": 2, "result": [2]}]


def test_an_empty_file_is_no_work(file: Path) -> None:
    file.write_text("\n")
    done = homing("m", "--batch", str(file), "--url", f"http://127.0.0.1:{free_port()}")
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr.startswith("0 of 0 calls")


def mixed(visit: Visit) -> None:
    """A gateway of many minds."""
    while (request := visit.request()) is not None:
        match request.json["params"][0]:
            case "ok":
                visit.send(result(request))
            case "refused":
                data = {"reason": "provider_refused", "executed": "no", "retry": "pointless", "call_id": "c" * 32}
                visit.send(error(request, 4220, "No.", data))
            case "yes":
                visit.send(error(request, 5022, "Strange.", {"reason": "response_invalid", "executed": "yes", "retry": "unsafe"}))
            case _:
                return


def test_errors_stand_in_their_lines_and_are_counted(file: Path) -> None:
    file.write_text('["ok"]\n["refused"]\n\n["lost"]\n["yes"]\n["refused"]\n["lost"]\n')
    with ScriptedGateway(mixed) as gateway:
        done = homing("m", "--batch", str(file), "--url", gateway.url)
        machine = homing("m", "--batch", str(file), "--url", gateway.url, "--json")
    assert done.exit_code == machine.exit_code == 1
    answers = rows(done.stdout)
    assert rows(machine.stdout) == answers
    assert [answer["line"] for answer in answers] == [1, 2, 4, 5, 6, 7]
    assert answers[1]["error"] == {
        "code": 4220,
        "message": "No.",
        "data": {"reason": "provider_refused", "executed": "no", "retry": "pointless", "call_id": "c" * 32},
    }
    assert done.stderr.splitlines()[1:] == [
        "  executed no:      2 (provider_refused 2)",
        "  executed unknown: 2 (connection_lost 2)",
        "  executed yes:     1 (response_invalid 1)",
        "  The provider may have carried out lines 4, 7: look before you repeat them.",
    ]
    counts = json.loads(machine.stderr)
    assert counts.pop("seconds") >= 0
    assert counts.pop("calls_per_second") > 0
    assert counts == {
        "calls": 6,
        "ok": 1,
        "no": {"provider_refused": 2},
        "unknown": {"connection_lost": 2},
        "yes": {"response_invalid": 1},
        "not_sent": 0,
        "unknown_lines": [4, 7],
    }


def test_many_unknown_lines_are_not_all_named(file: Path) -> None:
    file.write_text('["lost"]\n' * 60)
    with ScriptedGateway(mixed) as gateway:
        done = homing("m", "--batch", str(file), "--url", gateway.url)
    assert "lines 1, 2, 3, " in done.stderr
    assert "50 and 10 more:" in done.stderr


@pytest.mark.parametrize(
    ("method", "line", "words"),
    [
        ("m", "{", "not JSON"),
        ("m", "7", "object or array"),
        ("m", '{"a": 1} {"a": 2}', "not JSON"),
        ("m", '{"a": "\udcff"}', "not UTF-8"),
        (None, "[1]", "Expected `object`"),
        (None, '{"params": [1]}', "missing required field `method`"),
        (None, '{"method": "m", "parms": [1]}', "unknown field `parms`"),
        (None, '{"method": 7}', "Expected `str`"),
        (None, '{"method": "m", "params": 7}', "object or array"),
        (None, '{"method": "m", "params": null}', "object or array"),
        (None, '{"method": "m", "timeout": 0}', "positive number"),
        (None, '{"method": "m", "timeout": "30s"}', "Expected `float"),
        (None, '{"method": "m", "idempotency_key": ""}', "1 to 255 printable ASCII"),
    ],
)
def test_lines_that_are_no_calls_are_told_before_anything_is_sent(file: Path, method: str | None, line: str, words: str) -> None:
    good = '{"method": "m"}'
    file.write_text(f"{good}\n{line}\n{good}\n{line}\n", errors="surrogateescape")
    with ScriptedGateway(each(result)) as gateway:
        done = homing(*([method] if method else []), "--batch", str(file), "--url", gateway.url)
        assert gateway.visits == 0
    assert (done.exit_code, done.stdout) == (2, "")
    first, second, last = done.stderr.splitlines()
    assert first.startswith("line 2: ")
    assert words in first
    assert second.startswith("line 4: ")
    assert last == "Nothing was sent."


def test_not_every_bad_line_is_shown(file: Path) -> None:
    file.write_text("x\n" * 50)
    done = homing("m", "--batch", str(file))
    assert len(done.stderr.splitlines()) == 22
    assert "… and 30 lines more" in done.stderr


def test_a_wrong_url_exits_with_2(file: Path) -> None:
    file.write_text("[]\n")
    assert homing("m", "--batch", str(file), "--url", "nowhere").exit_code == 2


def test_lines_are_read_with_their_numbers(file: Path) -> None:
    file.write_text('\n{"method": "m"}\n')
    assert read_lines(str(file), None) == [Line(2, "m")]


def test_ctrl_c_says_what_is_unknown(file: Path) -> None:
    file.write_text("".join(f"[{n}]\n" for n in range(6)))
    both = threading.Barrier(2)

    def script(visit: Visit) -> None:
        while (request := visit.request()) is not None:
            if request.json["params"][0] == 0:
                visit.send(result(request))
                continue
            if both.wait() == 0:
                running[0].send_signal(signal.SIGINT)
            visit.gone()
            return

    running: list[subprocess.Popen[str]] = []
    with ScriptedGateway(script) as gateway:
        process = subprocess.Popen(
            [*HOMING, "call", "m", "--batch", str(file), "--parallel", "2", "--url", gateway.url],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == 1
    answers = rows(stdout)
    assert answers[0] == {"line": 1, "result": "done"}
    assert [answer["line"] for answer in answers] == [1, 2, 3]
    for answer in answers[1:]:
        assert isinstance(answer["error"], dict)
        assert answer["error"]["data"] == {"reason": "cancelled", "executed": "unknown", "retry": "unsafe"}
    assert "3 of 6 calls" in stderr
    assert "may have carried out lines 2, 3:" in stderr
    assert "not sent: 3" in stderr
    assert "Traceback" not in stderr


def test_when_nobody_reads_the_answers_no_further_call_is_made(file: Path) -> None:
    file.write_text("".join(f"[{n}]\n" for n in range(50)))
    closed = threading.Event()

    def script(visit: Visit) -> None:
        while (request := visit.request()) is not None:
            if request.json["params"][0] > 0:
                closed.wait(30)
            visit.send(result(request))

    with ScriptedGateway(script) as gateway:
        process = subprocess.Popen(
            [*HOMING, "call", "m", "--batch", str(file), "--parallel", "1", "--url", gateway.url],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == '{"line":1,"result":"done"}\n'
        process.stdout.close()
        closed.set()
        stderr = process.stderr.read()
        process.stderr.close()
        assert process.wait(30) == 1
        assert len(gateway.requests) == 2
    assert "2 of 50 calls" in stderr
    assert "not sent: 48" in stderr
    assert "BrokenPipe" not in stderr


def test_on_a_terminal_there_is_a_bar(file: Path) -> None:
    file.write_text("[1]\n[2]\n[3]\n")
    with ScriptedGateway(each(echo)) as gateway:
        shown = on_a_terminal("call", "m", "--batch", str(file), "--url", gateway.url)
    assert "calling" in shown
    assert "━" in shown
    assert [f'{{"line":{n},"result":[{n}]}}' in shown for n in (1, 2, 3)] == [True] * 3
    assert "3 of 3 calls in" in shown


def test_brokers_are_called_too(file: Path) -> None:
    file.write_text("".join(f'{{"n": {n}}}\n' for n in range(200)))
    with Host({"acme.echo": lambda start: ok(start.body)}) as host:
        done = homing("acme.echo", "--batch", str(file), "--url", host.url)
    assert done.exit_code == 0
    assert rows(done.stdout) == [{"line": n + 1, "result": {"n": n}} for n in range(200)]
    assert "200 ok, 0 not" in done.stderr
