import copy
import json
from pathlib import Path
from urllib.parse import quote, quote_plus

import msgspec
import pytest

from homing.references import ReferenceBroken, Referred, Secret, mask, plain, resolve


class Holder(msgspec.Struct, frozen=True):
    token: Secret
    url: str


def test_a_secret_shows_itself_to_no_one_who_does_not_ask() -> None:
    secret = Secret("hunter2")
    assert "hunter2" not in f"{secret} {secret!r} {secret!s} {[secret]} {Holder(secret, 'x')}"
    assert repr(secret) == "***"
    assert secret.reveal() == "hunter2"


def test_secrets_are_equal_by_what_they_hold() -> None:
    assert Secret("a") == Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert len({Secret("a"), Secret("a")}) == 1
    assert copy.deepcopy(Secret("a")).reveal() == "a"


def test_a_plain_string_is_itself(tmp_path: Path) -> None:
    assert resolve("plain", tmp_path, {}) == "plain"
    assert not isinstance(resolve("environment:x", tmp_path, {}), Referred)


def test_an_environment_variable_is_looked_up(tmp_path: Path) -> None:
    value = resolve("env:ACME_TOKEN", tmp_path, {"ACME_TOKEN": "s3cret\n"})
    assert value == "s3cret"
    assert isinstance(value, Referred)
    assert value.reference == "env:ACME_TOKEN"
    assert "s3cret" not in repr(Holder(Secret(value), value))


@pytest.mark.parametrize(
    ("content", "value"), [("a", "a"), ("a\n", "a"), ("a\n\n", "a\n"), ("a\r\n", "a"), ("a\r", "a\r"), (" a ", " a ")]
)
def test_a_file_loses_one_trailing_newline(tmp_path: Path, content: str, value: str) -> None:
    (tmp_path / "token").write_bytes(content.encode())
    assert resolve("file:token", tmp_path, {}) == value
    assert resolve(f"file:{tmp_path / 'token'}", Path(), {}) == value


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("env:NOPE", "the environment variable NOPE is not set"),
        ("env:EMPTY", "the environment variable EMPTY is empty"),
        ("env:A-B", "env:A-B is no reference"),
        ("file:nope", "no such file or directory"),
        ("file:.", "is a directory"),
        ("file:empty", "is empty"),
        ("file:binary", "is not UTF-8"),
        ("file:large", "too large"),
        ("file:a\0b", "null"),
    ],
)
def test_a_reference_that_leads_nowhere_is_told_why(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "binary").write_bytes(b"hunter2\xff")
    (tmp_path / "large").write_bytes(b"hunter2" * 20_000)
    with pytest.raises(ReferenceBroken) as raised:
        resolve(text, tmp_path, {"EMPTY": "", "A-B": "x"})
    assert says in str(raised.value)
    assert "hunter2" not in str(raised.value)


def test_what_goes_to_an_encoder_is_plain() -> None:
    value = {"a": [Referred("x", "env:X"), 1], "b": (Referred("y", "env:Y"),), "c": None}
    made = plain(value)
    assert made == value
    assert msgspec.json.encode(made) == b'{"a":["x",1],"b":["y"],"c":null}'


def test_what_a_reference_led_to_is_no_expression() -> None:
    value = [Referred("=x", "env:X"), "=x", {"a": (Referred("==", "env:Y"),)}]
    assert plain(value, template=True) == ["==x", "=x", {"a": ("===",)}]
    assert plain(value) == ["=x", "=x", {"a": ("==",)}]


def test_what_a_reference_led_to_is_masked_however_it_was_encoded() -> None:
    value = "it's \"50 %/é"
    text = (
        f"raw {value} json {json.dumps(value)} {json.dumps(value, ensure_ascii=False)} url {quote(value)} {quote_plus(value)} eu"
    )
    assert mask(text, {value, "eu", ""}) == 'raw *** json "***" "***" url *** *** eu'


def test_a_body_of_json_that_is_told_in_json_is_masked_too() -> None:
    value = "it's \"50\n\\é"
    for ascii_only in (True, False):
        body = json.dumps({"key": value}, ensure_ascii=ascii_only)
        assert mask(json.dumps({"body": body}, ensure_ascii=ascii_only), {value}) == json.dumps({"body": '{"key": "***"}'})


def test_an_expression_that_is_told_on_one_line_and_in_part_is_masked() -> None:
    assert mask("{ a: b } is no JMESPath", {"{\n  a: b\n}"}) == "*** is no JMESPath"
    assert mask(f"{'x ' * 100} is no JMESPath", {"x\n" * 300}) == "*** is no JMESPath"


def test_the_longest_value_is_masked_first() -> None:
    assert mask("abcdef abcd", ["abcd", "abcdef"]) == "*** ***"
