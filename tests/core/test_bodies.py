"""homing.core.bodies: json, form, text, base64, and functions of one's own."""

from decimal import Decimal
from pathlib import Path

import pytest

from homing.core.bodies import Decoder, compile_encode, import_function
from homing.core.specs import MappingError

CODEC = """
import asyncio, sys

def encode(value):
    return str(sorted(value)).encode()

def encode_xml(value):
    return b"<x/>", "application/xml"

def encode_wrong(value):
    return "a text"

def encode_badly(value):
    raise KeyError("amount")

def decode(body):
    return {"size": len(body), "pair": (1, 2)}

def decode_set(body):
    return {1, 2}

def decode_badly(body):
    raise RuntimeError("no")

def gives_up(value):
    raise asyncio.CancelledError("midway")

def leaves(value):
    sys.exit("usage: codec FILE")

def names_a_file(value):
    raise OSError("no file caf\\udce9.xml")

class Mute(Exception):
    def __str__(self):
        raise RuntimeError

def is_mute(value):
    raise Mute

async def later(body):
    return None

number = 5
"""


@pytest.fixture(autouse=True)
def _codec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "codec_for_tests.py").write_text(CODEC)
    (tmp_path / "broken_for_tests.py").write_text("1 / 0")
    (tmp_path / "script_for_tests.py").write_text("import sys; sys.exit(3)")
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.parametrize(
    ("name", "value", "body"),
    [
        ("json", {"a": [1, None]}, b'{"a":[1,null]}'),
        ("json", Decimal("1.50"), b"1.50"),
        ("form", {"a": {"b": 1}}, b"a[b]=1"),
        ("text", "é", "é".encode()),
        ("text", 12, b"12"),
        ("text", True, b"true"),
        ("none", {"a": 1}, b""),
    ],
)
def test_encoding(name: str, value: object, body: bytes) -> None:
    assert compile_encode(name)(value) == (body, None)


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("json", "\ud800", "no Unicode text"),
        ("text", {}, "a body of text must be"),
        ("text", "\ud800", "a body of text"),
        ("form", [], "must be an object"),
    ],
)
def test_what_cannot_be_encoded(name: str, value: object, why: str) -> None:
    with pytest.raises(MappingError, match=why):
        compile_encode(name)(value)


def test_encoding_with_python() -> None:
    assert compile_encode("python:codec_for_tests:encode")({"b": 1, "a": 2}) == (b"['a', 'b']", None)
    assert compile_encode("python:codec_for_tests:encode_xml")({}) == (b"<x/>", "application/xml")


@pytest.mark.parametrize(
    ("function", "why"), [("encode_badly", "raised KeyError: 'amount'"), ("encode_wrong", "returned str, neither bytes nor")]
)
def test_encoding_with_python_goes_wrong(function: str, why: str) -> None:
    with pytest.raises(MappingError, match=why):
        compile_encode(f"python:codec_for_tests:{function}")({})


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("gives_up", "raised CancelledError: midway"),
        ("leaves", "raised SystemExit: usage: codec FILE"),
        ("names_a_file", "raised OSError: no file caf?.xml"),
        ("is_mute", "raised Mute"),
    ],
)
def test_whatever_a_function_raises_is_caught_and_can_be_told(function: str, words: str) -> None:
    name = f"python:codec_for_tests:{function}"
    with pytest.raises(MappingError) as refused:
        compile_encode(name)({})
    assert refused.value.message == f"{name} {words}"
    with pytest.raises(ValueError, match="raised") as invalid:
        Decoder(name).value(b"x", {})
    assert str(invalid.value) == f"{name} {words}"


@pytest.mark.parametrize(
    ("name", "body", "text", "value"),
    [
        ("json", b' {"a": 1.50} ', b' {"a": 1.50} ', {"a": 1.5}),
        ("json", b"0.12345678901234567890", b"0.12345678901234567890", Decimal("0.12345678901234567890")),
        ("text", "é".encode(), '"é"'.encode(), "é"),
        ("base64", b"\x00\xff", b'"AP8="', "AP8="),
        ("python:codec_for_tests:decode", b"abc", b'{"size":3,"pair":[1,2]}', {"size": 3, "pair": [1, 2]}),
    ],
)
def test_decoding(name: str, body: bytes, text: bytes, value: object) -> None:
    decoder = Decoder(name)
    assert decoder.text(body, {}) == text
    assert decoder.value(body, {}) == value


@pytest.mark.parametrize("name", ["json", "text", "base64", "python:codec_for_tests:decode_badly"])
def test_nothing_is_null(name: str) -> None:
    assert Decoder(name).text(b"", {}) == b"null"
    assert Decoder(name).value(b"", {}) is None


@pytest.mark.parametrize(
    ("name", "body", "why"),
    [
        ("json", b"<html>", "not JSON"),
        ("json", b'{"a":1} {"b":2}', "not JSON"),
        ("json", b'"\xff"', "not UTF-8"),
        ("json", b"[" * 513 + b"]" * 513, "deeper than 512"),
        ("json", b"NaN", "not JSON"),
        ("text", b"\xff", "no utf-8 text"),
        ("python:codec_for_tests:decode_badly", b"x", "decode_badly raised RuntimeError: no"),
        ("python:codec_for_tests:decode_set", b"x", "decode_set returned what is no JSON: set is no JSON value"),
    ],
)
def test_what_cannot_be_decoded(name: str, body: bytes, why: str) -> None:
    decoder = Decoder(name)
    with pytest.raises(ValueError, match=why):
        decoder.text(body, {})
    with pytest.raises(ValueError, match=why):
        decoder.value(body, {})


@pytest.mark.parametrize(
    ("content_type", "body", "text"),
    [
        ("text/plain", "é".encode(), "é"),
        ("text/plain; charset=UTF-8", "é".encode(), "é"),
        ('text/plain;charset="ISO-8859-1"', b"\xe9", "é"),
        ("text/plain; charset=windows-1252", b"\x80", "€"),
        ("text/plain; charset=us-ascii", b"a", "a"),
    ],
)
def test_the_charset_is_heeded(content_type: str, body: bytes, text: str) -> None:
    assert Decoder("text").value(body, {"content-type": content_type}) == text


def test_a_codec_of_python_is_no_charset() -> None:
    with pytest.raises(ValueError, match="charset unicode_escape is not known"):
        Decoder("text").value(b"a", {"content-type": "text/plain; charset=unicode_escape"})


def test_names_that_are_none() -> None:
    with pytest.raises(ValueError, match="found yaml, expected one of json, form, text, none, python:module:function"):
        compile_encode("yaml")
    with pytest.raises(ValueError, match="found yaml, expected one of json, text, base64, python:module:function"):
        Decoder("yaml")
    with pytest.raises(ValueError, match="expected one of"):
        Decoder("python")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("python:codec_for_tests", "expected python:module:function"),
        ("python:codec_for_tests:", "expected python:module:function"),
        ("python::encode", "expected python:module:function"),
        ("python:a:b:c", "expected python:module:function"),
        ("python:no_such_module_here:encode", "module no_such_module_here cannot be imported: ModuleNotFoundError"),
        ("python:broken_for_tests:encode", "cannot be imported: ZeroDivisionError"),
        ("python:script_for_tests:encode", "cannot be imported: SystemExit: 3"),
        ("python:codec_for_tests:encode_yaml", "has no encode_yaml"),
        ("python:codec_for_tests:number", "is no plain function"),
        ("python:codec_for_tests:later", "is no plain function"),
    ],
)
def test_functions_that_cannot_be_had(name: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        import_function(name)
