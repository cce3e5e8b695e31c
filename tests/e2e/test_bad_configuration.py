"""Every kind of mistake in a configuration, through the commands as an operator runs them: exit code 2, file and path named."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.running import homing

SOUND = """
[gateway]
listen = "127.0.0.1:0"
anonymous = ["acme.*"]
[admin]
listen = "127.0.0.1:0"
[providers.acme]
base_url = "http://127.0.0.1:1"
[methods."acme.echo"]
provider = "acme"
effect = "safe"
request = "POST /echo"
[methods."acme.echo".params]
properties.text = { type = "string" }
additionalProperties = false
"""


def with_line(after: str, line: str) -> str:
    """The sound configuration with one more line."""
    assert after in SOUND
    return SOUND.replace(after, f"{after}\n{line}")


GATEWAY, ACME, ECHO = 'anonymous = ["acme.*"]', 'base_url = "http://127.0.0.1:1"', 'request = "POST /echo"'

# What is written, the path a message must name, and a word that must be in it.
MISTAKES: dict[str, tuple[str, str, str]] = {
    "no TOML": ("[gateway\n", "", "line 1"),
    "no TOML later": (SOUND + "\nx = = 1\n", "", "line"),
    "not UTF-8": ("# \udcff\n", "", "UTF-8"),
    "unknown table": (SOUND + "[gatewy]\n", "gatewy", "gateway"),
    "unknown key": (with_line(GATEWAY, 'lisen = "x"'), "gateway.lisen", "listen"),
    "unknown key of a provider": (with_line(ACME, 'base_ur = "x"'), "providers.acme.base_ur", "base_url"),
    "unknown key of a method": (with_line(ECHO, 'efect = "once"'), 'methods."acme.echo".efect', "effect"),
    "a method without quotes": (SOUND + '[methods.acme.charge]\nrequest = "POST /"\n', "methods.acme", "quotes"),
    "include after a table": (SOUND + 'include = ["x.toml"]\n', "include", "before"),
    "an include that is not there": ('include = ["nowhere.toml"]\n' + SOUND, "include", "nowhere.toml"),
    "a spaced header name": (with_line(ACME, 'headers = { "X Y" = "z" }'), "providers.acme.headers", "X Y"),
    "a header with a line end": (with_line(ACME, 'headers = { X = "a\\nb" }'), "providers.acme.headers", "X"),
    "a header that is ours": (with_line(ACME, 'headers = { Content-Length = "5" }'), "providers.acme.headers", "Content-Length"),
    "a string for a number": (with_line(GATEWAY, 'in_flight_max = "many"'), "gateway.in_flight_max", ""),
    "a negative number": (with_line(GATEWAY, "in_flight_max = -1"), "gateway.in_flight_max", ""),
    "a number for a duration": (with_line(GATEWAY, "deadline = { default = 30 }"), "gateway.deadline.default", ""),
    "a duration without a unit": (with_line(GATEWAY, 'deadline = { default = "30" }'), "gateway.deadline.default", "s"),
    "a duration that is none": (with_line(GATEWAY, 'deadline = { default = "soon" }'), "gateway.deadline.default", "soon"),
    "a default over the maximum": (
        with_line(GATEWAY, 'deadline = { default = "400s", max = "300s" }'),
        "gateway.deadline",
        "",
    ),
    "a size that is none": (with_line(GATEWAY, 'body_max = "1 elephant"'), "gateway.body_max", "elephant"),
    "an address without a port": (SOUND.replace('listen = "127.0.0.1:0"', 'listen = "127.0.0.1"', 1), "gateway.listen", "port"),
    "a port too large": (SOUND.replace("127.0.0.1:0", "127.0.0.1:70000", 1), "gateway.listen", ""),
    "a certificate without a key": (with_line(GATEWAY, 'tls = { cert = "x.pem" }'), "gateway.tls", ""),
    "a certificate that is not there": (with_line(GATEWAY, 'tls = { cert = "x.pem", key = "x.pem" }'), "gateway.tls", "x.pem"),
    "a URL of another kind": (SOUND.replace("http://127.0.0.1:1", "ftp://127.0.0.1"), "providers.acme.base_url", "http"),
    "a URL without a host": (SOUND.replace("http://127.0.0.1:1", "http://"), "providers.acme.base_url", ""),
    "a URL with a password": (SOUND.replace("http://127.0.0.1:1", "http://u:s3cret@h"), "providers.acme.base_url", "auth"),
    "no URL": (SOUND.replace('base_url = "http://127.0.0.1:1"', ""), "providers.acme", "base_url"),
    "a variable that is not set": (
        with_line(ACME, 'auth = { type = "bearer", token = "env:NOT_SET_ANYWHERE" }'),
        "providers.acme.auth.token",
        "NOT_SET_ANYWHERE",
    ),
    "a file that is not there": (
        with_line(ACME, 'auth = { type = "bearer", token = "file:nowhere" }'),
        "providers.acme.auth.token",
        "nowhere",
    ),
    "an unknown kind of auth": (with_line(ACME, 'auth = { type = "magic" }'), "providers.acme.auth", "bearer"),
    "auth without its token": (with_line(ACME, 'auth = { type = "bearer" }'), "providers.acme.auth", "token"),
    "no provider of that name": (SOUND.replace('provider = "acme"', 'provider = "acne"'), 'methods."acme.echo".provider', "acme"),
    "no provider at all": (SOUND.replace('provider = "acme"\n', ""), 'methods."acme.echo"', "provider"),
    "no request": (SOUND.replace(ECHO, ""), 'methods."acme.echo"', "request"),
    "a request without a method": (SOUND.replace(ECHO, 'request = "/echo"'), 'methods."acme.echo".request', ""),
    "a request to another host": (SOUND.replace("POST /echo", "POST http://evil/"), 'methods."acme.echo".request', ""),
    "a stray brace": (SOUND.replace("POST /echo", "POST /echo/{a"), 'methods."acme.echo".request', ""),
    "an unsafe template": (SOUND.replace("POST /echo", "POST /echo/{+a}"), 'methods."acme.echo".request', ""),
    "an unknown effect": (SOUND.replace('effect = "safe"', 'effect = "twice"'), 'methods."acme.echo".effect', "once"),
    "JMESPath that is none": (with_line(ECHO, 'result = "body.["'), 'methods."acme.echo".result', ""),
    "a JMESPath function that is not": (with_line(ECHO, 'result = "nope(body)"'), 'methods."acme.echo".result', "nope"),
    "a bare true": (with_line(ECHO, 'result = "true"'), 'methods."acme.echo".result', "`true`"),
    "a body on GET": (
        SOUND.replace("POST /echo", "GET /echo"),
        'methods."acme.echo"',
        "text",
    ),
    "a schema that is none": (SOUND.replace('type = "string"', 'type = "strange"'), 'methods."acme.echo".params', "strange"),
    "a schema that looks elsewhere": (
        SOUND.replace('type = "string"', '"$ref" = "file:///etc/passwd"'),
        'methods."acme.echo".params',
        "",
    ),
    "an answers row without when": (with_line(ACME, 'answers = [{ is = "ok" }]'), "providers.acme.answers", "when"),
    "an answers row of a kind that is not": (
        with_line(ACME, 'answers = [{ when = "status == `200`", is = "fine" }]'),
        "providers.acme.answers",
        "refused",
    ),
    "a hash that is none": (
        SOUND + '[principals.shop]\napi_key_hash = "abc"\nmethods = ["*"]\n',
        "principals.shop.api_key_hash",
        "sha256",
    ),
    "a key instead of its hash": (
        SOUND + '[principals.shop]\napi_key_hash = "hk_' + "A" * 43 + '"\nmethods = ["*"]\n',
        "principals.shop.api_key_hash",
        "sha256",
    ),
    "a star in the middle": (SOUND.replace("acme.*", "ac*me"), "gateway.anonymous", "*"),
    "a rate that is none": (
        SOUND + '[principals.shop]\napi_key_hash = "sha256:' + "0" * 64 + '"\nrate = { limit = 0, per = "1s" }\n',
        "principals.shop.rate",
        "",
    ),
    "a codec that is not there": (
        with_line(ECHO, 'encode = "python:no_such_module:f"'),
        'methods."acme.echo".encode',
        "no_such_module",
    ),
    "a lookup without a request": (with_line(ECHO, 'lookup = { found = "body" }'), 'methods."acme.echo".lookup', "request"),
    "a proxy that is none": (with_line(ACME, 'proxy = "socks5://x:1"'), "providers.acme.proxy", "http"),
    "keyed without a header": (
        SOUND.replace('effect = "safe"', 'effect = "keyed"'),
        'methods."acme.echo"',
        "idempotency_key",
    ),
}


def write(folder: Path, text: str) -> Path:
    path = folder / "homing.toml"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    return path


# Python and the command are loaded once; each check is a process of its own all the same.
CHECK_ALL = """
import os, sys
import homing.checks, homing.config, homing.cli.check, homing.core.methods
from homing.cli import main
for folder in sys.argv[1:]:
    if not os.fork():
        os.chdir(folder)
        for number, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT), number)
        main(["check"])
    with open(os.path.join(folder, "code"), "w") as file:
        file.write(str(os.waitstatus_to_exitcode(os.wait()[1])))
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str]]:
    """What `check` says to each."""
    folders = {name: tmp_path_factory.mktemp("mistake") for name in MISTAKES}
    for name, folder in folders.items():
        write(folder, MISTAKES[name][0])
    subprocess.run([sys.executable, "-c", CHECK_ALL, *folders.values()], check=True, timeout=50)
    return {
        name: (int((folder / "code").read_text()), (folder / "out").read_text() + (folder / "err").read_text())
        for name, folder in folders.items()
    }


@pytest.mark.parametrize("name", MISTAKES)
def test_check_names_file_and_path_and_leaves_with_2(name: str, told: dict[str, tuple[int, str]]) -> None:
    code, said = told[name]
    _, path, word = MISTAKES[name]
    assert code == 2, said
    assert "Traceback" not in said
    assert "homing.toml" in said
    assert path.replace('"', "") in said.replace('"', ""), said
    assert word in said, said
    assert "s3cret" not in said
    assert "A" * 43 not in said


@pytest.mark.parametrize("name", ["no TOML", "unknown key", "a certificate that is not there"])
def test_serve_does_not_begin_with_a_mistake(name: str, tmp_path: Path) -> None:
    write(tmp_path, MISTAKES[name][0])
    done = homing("serve", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "homing.toml" in done.stderr
    assert MISTAKES[name][1] in done.stderr
    assert "Traceback" not in done.stderr


def test_all_mistakes_of_one_file_are_told_in_one_run(tmp_path: Path) -> None:
    text = with_line(GATEWAY, 'lisen = "x"\nbody_max = "elephant"').replace('effect = "safe"', 'effect = "twice"')
    write(tmp_path, text.replace("http://127.0.0.1:1", "ftp://x") + "[gatewy]\n")
    done = homing("check", cwd=tmp_path)
    said = done.stdout + done.stderr
    assert done.returncode == 2
    for path in ("gateway.lisen", "gateway.body_max", "acme.echo", "providers.acme.base_url", "gatewy"):
        assert path in said


def test_a_mistake_in_an_included_file_names_that_file(tmp_path: Path) -> None:
    (tmp_path / "providers").mkdir()
    (tmp_path / "providers" / "other.toml").write_text('[providers.other]\nbase_url = "http://x"\nrespons_max = "1MiB"\n')
    (tmp_path / "providers" / "twice.toml").write_text('[providers.acme]\nbase_url = "http://x"\n')
    write(tmp_path, 'include = ["providers/*.toml"]\n' + SOUND)
    said = homing("check", cwd=tmp_path)
    text = said.stdout + said.stderr
    assert said.returncode == 2
    assert "other.toml" in text
    assert "providers.other.respons_max" in text
    assert "twice.toml" in text


def test_no_file_a_folder_for_a_file_and_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    for command in ("check", "serve"):
        done = homing(command, cwd=tmp_path)
        assert done.returncode == 2
        assert "homing.toml" in done.stdout + done.stderr
        assert "Traceback" not in done.stderr
    (tmp_path / "homing.toml").mkdir()
    done = homing("serve", cwd=tmp_path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert homing("serve", "--config", "other.toml", cwd=tmp_path).returncode == 2
    assert homing("serve", "--listen", "nowhere", cwd=tmp_path).returncode == 2
    assert homing("serve", "--nonsense", cwd=tmp_path).returncode == 2


def test_a_sound_one_is_sound(tmp_path: Path) -> None:
    write(tmp_path, SOUND)
    done = homing("check", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
