"""JSON of every kind in the place of requests: a corpus of good and bad, numbers, nesting, duplicates, and properties of them all."""

import json
import math
import string
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homing.core import jsonrpc
from homing.core.jsonrpc import Batch, Call, Refused, check_json
from tests.core.rpc_bodies import call, read, refused, with_params

# JSON that is good, bad and in between

GOOD_VALUES = [
    "[]", "{}", "[[]]", '[""]', '{"":0}', "[-0]", "[-0.0]", "[0e1]", "[0e+1]", "[1E22]", "[1E-2]", "[1.5E+9]", "[123.456e78]",
    "[-123123e100000]"[:11] + "00]", "[20000000000000000000]", "[1.7976931348623157e308]", "[5e-324]", "[null,true,false]",
    '["\\u0060\\u012a\\u12AB"]', '["\\uD801\\udc37"]', '["\\ud83d\\ude39\\ud83d\\udc8d"]', '["\\"\\\\\\/\\b\\f\\n\\r\\t"]',
    '["\\u0000"]', '["\\uFFFF"]', '["\\uDBFF\\uDFFF"]', '["\u2028\u2029"]', '["\x7f"]', '["é\U0001f600\U0010ffff"]', '["\ufeff"]',
    '["\\u005Cu0000"]', '["\\\\u0000"]', '["asd "]', "[ 4]", "[4\n]", "\t[\r1 , 2 ]", '{"a":{"b":[{"c":null}]}}', '{"min":-1.0e+28}',
    '{"title":"\\u041f\\u043e"}', '["[[[[{{{{"]', '["' + "[" * 500 + '"]', '["\\"[[[["]', "[" + "[]," * 300 + "[]]",
]  # fmt: skip

BAD_TEXTS = [
    b"", b" ", b"[", b"]", b"{", b"}", b'"', b"'a'", b"[1,]", b"[,1]", b"[1,,2]", b"[1}", b'{"a":1]', b'{"a"}', b'{"a":}', b'{"a" 1}',
    b'{"a":1,}', b"{a:1}", b"{'a':1}", b"{1:1}", b'{"a":1,,"b":2}', b'{"a":1 "b":2}', b"[1]x", b"[1][2]", b"{}{}", b"[NaN]", b"[nan]",
    b"[Infinity]", b"[-Infinity]", b"[+1]", b"[.5]", b"[5.]", b"[-]", b"[01]", b"[-01]", b"[1e]", b"[1e+]", b"[1.e1]", b"[0x1]", b"[1_000]",
    b"[1 000]", b"[--1]", b"[tru]", b"[True]", b"[TRUE]", b"[nul]", b"[None]", b"[undefined]", b'["a', b'["a]', b'["\\"]', b'["\\x41"]',
    b'["\\u12"]', b'["\\u12G4"]', b'["\\U0041"]', b'["\\\n"]', b'["\t"]', b'["\n"]', b'["\x00"]', b'["\x1f"]', b"[\x00]", b"[1]\x00",
    b"[1/* a */]", b"// a\n[1]", b"[1]#", b"\xef\xbb\xbf[1]", b'\xef\xbb\xbf{"a":1}', b"\xfe\xff\x00[", b"[\x001\x00]\x00", b'["\xff"]',
    b'["\xc0\x80"]', b'["\xe9"]', b'["\xed\xa0\x80"]', b'["\xf4\x90\x80\x80"]', b'["\xf8\x88\x80\x80\x80"]', b'["\xc3', b"\xff",
    b'["\\ud800"]', b'["\\ud800a"]', b'["\\ud800\\n"]', b'["\\ud800\\u0041"]', b'["\\ud800\\ud800"]', b'["\\udc00"]', b'["\\udc00\\ud800"]',
    b'["\\uDEAD"]', b'{"\\ud800":1}', b"\x0b[1]", b"\x0c[1]", b"\xc2\xa0[1]", b"\xe2\x80\x83[1]", b"[1]\x1a", b"*", b"<xml/>", b"a=1",
]  # fmt: skip


def decoded(text: str) -> object:
    """What the standard library reads, with a Decimal where a float would be another number."""

    def number(text: str) -> object:
        return float(text) if Decimal(repr(float(text))) == Decimal(text) else Decimal(text)

    return json.loads(text, parse_float=number)


@pytest.mark.parametrize("value", GOOD_VALUES)
def test_good_values_go_through(value: str) -> None:
    check_json(value.encode(), 512)
    if value.lstrip()[0] in "[{":
        params = value.strip()
        assert call(with_params(params)).params == decoded(value)
        assert call(with_params(params)).params_raw == params.encode()


@pytest.mark.parametrize("text", BAD_TEXTS)
def test_bad_texts_are_parse_errors_wherever_they_stand(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        check_json(text, 512)
    bodies = [text]
    if text.strip():
        bodies += [
            b'{"jsonrpc":"2.0","method":"m","id":1,"params":' + text + b"}",
            b'{"jsonrpc":"2.0","id":1,"params":' + text + b',"method":"m"}',
            b'{"jsonrpc":"2.0","method":"m","id":1,"other":' + text + b"}",
            b'{"jsonrpc":"2.0","method":"m","id":1,"meta":' + text + b"}",
            b'[{"jsonrpc":"2.0","method":"m","id":1},' + text + b"]",
            b'["broken",{"jsonrpc":"2.0","method":1,"id":1},' + text + b"]",
        ]
    for body in bodies:
        if body in {b"[1][2]", b"{}{}"}:
            continue
        answered, reason, _ = refused(body)
        assert (answered, reason) == (b"null", "parse_error"), body


def test_messages_of_parse_errors_help() -> None:
    assert "empty" in refused(b"")[2]
    assert "byte order mark" in refused(b"\xef\xbb\xbf{}")[2]
    assert "byte order mark" in refused(b"\xef\xbb\xbf[]")[2]
    assert "(byte 3)" in refused(b'{"a\xff":1}')[2]
    assert "byte 5" in refused(b'{"a":x}')[2]


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}"), ('[{"a":', "}]"), (' [ "[[[" , ', " ] ")])
def test_nesting_up_to_64_and_not_beyond(opening: str, closing: str) -> None:
    levels = opening.count("{") + (opening[0:2].count("["))
    depth = (64 - 1) // levels
    at_most = opening * depth + "1" + closing * depth
    assert isinstance(read(with_params(at_most)), Call)
    for more in (depth + 1, 1000, 20_000):
        parsed = read(with_params(opening * more + "1" + closing * more))
        if more * levels + 1 > 64:
            assert isinstance(parsed, Refused)
            assert (parsed.id, parsed.outcome.reason, parsed.outcome.limit) == (b"null", "too_large", "depth")
    with pytest.raises(ValueError, match="deeper than 9"):
        check_json(("[" * 10 + "]" * 10).encode(), 9)
    check_json(("[" * 9 + "]" * 9).encode(), 9)


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"a":' * 100_000, b"[{" * 50_000, b'["' + b"[" * 200, b"]" * 300, b"[" * 60])
def test_bombs_of_brackets_cost_little(body: bytes) -> None:
    assert refused(body)[1] in {"parse_error", "too_large"}


def test_a_response_deeper_than_the_interpreter_bears() -> None:
    with pytest.raises(ValueError, match="recursion"):
        check_json(b"[" * 5000 + b"]" * 5000, 10_000)


# Numbers


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.1", 0.1),
        ("-0.0", -0.0),
        ("0.0", 0.0),
        ("0e5", 0.0),
        ("0.000", 0.0),
        ("1.10", 1.1),
        ("1e22", 1e22),
        ("0.30000000000000004", 0.30000000000000004),
        ("0.300000000000000040", 0.30000000000000004),
        ("5e-324", 5e-324),
        ("2.2250738585072014e-308", 2.2250738585072014e-308),
        ("123456789012345.6", 123456789012345.6),
        ("12345678901234567.8", Decimal("12345678901234567.8")),
        (
            "0.1000000000000000055511151231257827021181583404541015625",
            Decimal("0.1000000000000000055511151231257827021181583404541015625"),
        ),
        ("1e400", Decimal("1e400")),
        ("-1e400", Decimal("-1e400")),
        ("1e-400", Decimal("1e-400")),
        ("4e-324", Decimal("4e-324")),
        ("1e4300", Decimal("1e4300")),
        ("123456789012345678901234567890", 123456789012345678901234567890),
        ("9" * 4300, int("9" * 4300)),
        ("18446744073709551616", 2**64),
    ],
)
def test_numbers_are_exact(text: str, value: object) -> None:
    params = call(with_params(f"[{text}]")).params
    assert isinstance(params, list)
    assert type(params[0]) is type(value)
    assert params[0] == value
    assert not isinstance(value, float) or math.copysign(1, value) == math.copysign(1, Decimal(text))
    assert jsonrpc.decode_value(jsonrpc.encode_value(params)) == params


@pytest.mark.parametrize(
    "text",
    [
        "9" * 4301,
        "-" + "9" * 100_000,
        "9" * 100_000 + ".5",
        "0." + "1" * 100_000,
        "1e4301",
        "1e-4400",
        "1e999999999",
        "1e-999999999",
        "1e99999999999999999999999",
        "1e-99999999999999999999999",
        "1e" + "9" * 100_000,
    ],
)
def test_numbers_of_monstrous_length_are_refused_without_work(text: str) -> None:
    answered, reason, message = refused(with_params('{"a":[1,' + text + "]}"))
    assert (answered, reason) == (b"1", "invalid_request")
    assert "4300 digits" in message
    with pytest.raises(ValueError, match=r"number|range"):
        jsonrpc.decode_value(f"[{text}]".encode())
    batch = read("[" + with_params(f"[{text}]") + "," + with_params("[1]") + "]")
    assert isinstance(batch, Batch)
    item, other = batch.items
    assert isinstance(item, Refused)
    assert isinstance(other, Call)
    # in what nobody reads they do no harm
    assert isinstance(call('{"jsonrpc":"2.0","method":"m","x":' + text + ',"id":' + text + "}"), Call)


# Duplicate members in params


@pytest.mark.parametrize(
    ("params", "value", "raw"),
    [
        ('{"a":1,"a":2}', {"a": 2}, '{"a":2}'),
        ('{"a":1,"\\u0061":2, "b":"x:y"}', {"a": 2, "b": "x:y"}, '{"a":2,"b":"x:y"}'),
        ('[{"a":1,"a":1}]', [{"a": 1}], '[{"a":1}]'),
        ('{"o":{"a":{"a":1},"a":{}},"n":1.50}', {"o": {"a": {}}, "n": 1.5}, '{"o":{"a":{}},"n":1.5}'),
        ('{"a":1e400,"a":1e401,"b":12345678901234567.8}', None, '{"a":1E+401,"b":12345678901234567.8}'),
        ('{"a":1,"a":"\\u003a"}', {"a": ":"}, '{"a":":"}'),
        ('{"a":1,"a":"\\u003A","b":{}}', {"a": ":", "b": {}}, '{"a":":","b":{}}'),
    ],
)
def test_the_text_says_what_was_decoded(params: str, value: object, raw: str) -> None:
    read_call = call(with_params(params))
    assert value is None or read_call.params == value
    assert read_call.params_raw == raw.encode()


@pytest.mark.parametrize(
    "params", ['{ "a" : "b:c" }', '{"a":{"b":1 },"c":[{},{"d":":"}]}', "[ {} ]", '[":",{"a":1.0}]', '{"a":{},"b":[]}']
)
def test_the_text_stays_as_it_came(params: str) -> None:
    assert call(with_params(params)).params_raw == params.encode()


# Properties

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=8), inner, max_size=4)
    ),
    max_leaves=20,
)
texts = st.text(st.characters(codec="utf-8"), max_size=20)
ids = st.none() | st.integers() | texts | st.floats(allow_nan=False, allow_infinity=False)
containers = st.lists(values, max_size=4) | st.dictionaries(texts.filter(lambda name: name != "_meta"), values, max_size=4)
separators = st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", "\t:\r")])


@given(ids, texts, containers, separators, st.booleans())
def test_what_was_sent_is_what_is_read(
    id: object, method: str, params: object, separators: tuple[str, str], ascii_only: bool
) -> None:
    def dump(value: object) -> str:
        return json.dumps(value, separators=separators, ensure_ascii=ascii_only)

    body = dump({"jsonrpc": "2.0", "method": method, "params": params, "id": id})
    read_call = call(body)
    assert read_call.id == dump(id).encode()
    assert (read_call.method, read_call.params) == (method, params)
    # as it came; or, where a colon was written as an escape, in the words of `params`
    assert json.loads(read_call.params_raw) == params
    assert read_call.params_raw == dump(params).encode() or b"\\u003" in body.encode()


@given(st.binary(max_size=60))
def test_no_bytes_make_it_raise(body: bytes) -> None:
    assert isinstance(read(body), Call | Refused | Batch)


pieces = st.sampled_from(
    [*'{}[]",:', " ", "\n", "\\", "\\u003a", "\\ud800", "\\udc00", "\x00", "é", "1", "-", "1e400", "0.10", "null", "true", "NaN",
     '"jsonrpc":"2.0"', '"method":"m"', '"method"', '"id":1', '"id"', '"params":', '"meta":', '"timeout":1', '"_meta":{"homing":{}}', '"a"']
)  # fmt: skip
soup = st.lists(pieces, max_size=24).map("".join)


def strictly(text: str) -> object:
    """json.loads as RFC 8259 and RFC 7493 have it: no NaN, no lone surrogates, no byte order mark."""

    def constant(name: str) -> object:
        raise ValueError(name)

    value = json.loads(text, parse_constant=constant)
    json.dumps(value, ensure_ascii=False).encode()
    return value


@given(soup | soup.map(lambda text: "{" + text + "}") | soup.map(lambda text: '{"jsonrpc":"2.0","method":"m",' + text + "}"))
def test_it_agrees_with_the_standard_library(text: str) -> None:
    body = text.encode()
    try:
        value = strictly(text)
    except ValueError:
        with pytest.raises(ValueError, match=r"\w"):
            check_json(body, 64)
        assert refused(body)[1] == "parse_error"
        return
    check_json(body, 64)
    parsed = read(body)
    if isinstance(parsed, Refused):
        assert parsed.outcome.reason == "invalid_request"
    elif isinstance(parsed, Batch):
        assert isinstance(value, list)
        assert len(parsed.items) == len(value)
    else:
        assert isinstance(value, dict)
        names = [name for name, _ in json.loads(text, object_pairs_hook=list)]
        assert len(names) == len(set(names))
        assert (value["jsonrpc"], value["method"]) == ("2.0", parsed.method)
        assert (parsed.id is None) == ("id" not in value)
        assert parsed.id is None or json.loads(parsed.id) == value["id"]
        assert ("params" in value) == bool(parsed.params_raw)


object_names = st.sampled_from(["a", "b", "a:b", "\\u0061", "\\u003a"])


@st.composite
def object_texts(draw: st.DrawFn, depth: int = 3) -> str:
    """The text of a value whose objects may well have members of one name."""
    if depth == 0 or draw(st.booleans()):
        return draw(st.sampled_from(["1", "0.50", '"x:y"', '"\\u003a"', "null", "{}", "[]", "12345678901234567.8"]))
    inner = st.lists(object_texts(depth=depth - 1), max_size=3)
    if draw(st.booleans()):
        return "[" + ",".join(draw(inner)) + "]"
    return "{" + ",".join(f'"{draw(object_names)}":{value}' for value in draw(inner)) + "}"


@given(object_texts().filter(lambda text: text[0] in "[{"))
def test_whoever_reads_the_text_reads_what_was_decoded(text: str) -> None:
    """The text may be read by one who keeps the first of two members of one name: there must not be two."""

    def once(pairs: list[tuple[str, object]]) -> dict[str, object]:
        assert len(dict(pairs)) == len(pairs)
        return dict(pairs)

    read_call = call(with_params(text))
    assert json.loads(read_call.params_raw, object_pairs_hook=once, parse_float=Decimal) == json.loads(text, parse_float=Decimal)


@given(st.from_regex(r"-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,25})?([eE][+-]?[0-9]{1,4})?", fullmatch=True, alphabet=string.printable))
def test_a_number_is_the_same_number(text: str) -> None:
    parsed = read(with_params(f"[{text}]"))
    if isinstance(parsed, Refused):
        assert abs(Decimal(text).adjusted()) > 4300
        return
    assert isinstance(parsed, Call)
    assert isinstance(parsed.params, list)
    (value,) = parsed.params
    assert (Decimal(repr(value)) if isinstance(value, float) else Decimal(value)) == Decimal(text)
