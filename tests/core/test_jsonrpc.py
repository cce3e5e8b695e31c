"""JSON-RPC by the letter: the specification's examples, envelopes, batches, meta, headers, answers."""

import json
import time
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homing.core import jsonrpc
from homing.core.jsonrpc import Batch, Call, Refused, encode_answer, encode_batch
from homing.errors import ROWS, Attempt, Outcome, ParamError, failure
from tests.core.rpc_bodies import call, read, refused, with_params

CALL_ID = "0123456789abcdef0123456789abcdef"


# The specification's examples, section 7


def serve(body: str) -> object:
    """The example server: subtract, sum, get_data; everything else is not found."""

    def answer(item: Call | Refused) -> bytes | None:
        if isinstance(item, Refused):
            return encode_answer(item.id, item.outcome, CALL_ID)
        params = item.params
        if item.method == "subtract":
            a, b = params if isinstance(params, list) else (params["minuend"], params["subtrahend"])  # type: ignore[index]
            outcome = ok(a - b)
        elif item.method == "sum":
            outcome = ok(sum(params))  # type: ignore[call-overload]
        elif item.method == "get_data":
            outcome = ok(["hello", 5])
        else:
            outcome = failure("method_not_found", "Method not found")
        return None if item.id is None else encode_answer(item.id, outcome, CALL_ID)

    parsed = read(body)
    items = parsed.items if isinstance(parsed, Batch) else [parsed]
    answers = [given for item in items if (given := answer(item)) is not None]
    sent = encode_batch(answers) if isinstance(parsed, Batch) else b"".join(answers)
    return json.loads(sent) if sent else None


def ok(value: object) -> Outcome:
    return Outcome(reason="ok", executed="yes", result=json.dumps(value).encode())


def result(value: object, id: object) -> dict[str, object]:
    return {"jsonrpc": "2.0", "result": value, "id": id}


def error(code: int, id: object) -> dict[str, object]:
    return {"jsonrpc": "2.0", "error": code, "id": id}


def codes(answered: object) -> object:
    """Errors by their code alone: the specification's texts are its own."""
    if isinstance(answered, list):
        return [codes(one) for one in answered]
    if isinstance(answered, dict) and "error" in answered:
        return {**answered, "error": answered["error"]["code"]}
    return answered


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('{"jsonrpc": "2.0", "method": "subtract", "params": [42, 23], "id": 1}', result(19, 1)),
        ('{"jsonrpc": "2.0", "method": "subtract", "params": [23, 42], "id": 2}', result(-19, 2)),
        ('{"jsonrpc": "2.0", "method": "subtract", "params": {"subtrahend": 23, "minuend": 42}, "id": 3}', result(19, 3)),
        ('{"jsonrpc": "2.0", "method": "subtract", "params": {"minuend": 42, "subtrahend": 23}, "id": 4}', result(19, 4)),
        ('{"jsonrpc": "2.0", "method": "update", "params": [1,2,3,4,5]}', None),
        ('{"jsonrpc": "2.0", "method": "foobar"}', None),
        ('{"jsonrpc": "2.0", "method": "foobar", "id": "1"}', error(-32601, "1")),
        ('{"jsonrpc": "2.0", "method": "foobar, "params": "bar", "baz]', error(-32700, None)),
        ('{"jsonrpc": "2.0", "method": 1, "params": "bar"}', error(-32600, None)),
        (
            '[ {"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"}, {"jsonrpc": "2.0", "method" ]',
            error(-32700, None),
        ),
        ("[]", error(-32600, None)),
        ("[1]", [error(-32600, None)]),
        ("[1,2,3]", [error(-32600, None)] * 3),
        (
            """[
                {"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"},
                {"jsonrpc": "2.0", "method": "notify_hello", "params": [7]},
                {"jsonrpc": "2.0", "method": "subtract", "params": [42,23], "id": "2"},
                {"foo": "boo"},
                {"jsonrpc": "2.0", "method": "foo.get", "params": {"name": "myself"}, "id": "5"},
                {"jsonrpc": "2.0", "method": "get_data", "id": "9"}
            ]""",
            [result(7, "1"), result(19, "2"), error(-32600, None), error(-32601, "5"), result(["hello", 5], "9")],
        ),
        (
            """[
                {"jsonrpc": "2.0", "method": "notify_sum", "params": [1,2,4]},
                {"jsonrpc": "2.0", "method": "notify_hello", "params": [7]}
            ]""",
            None,
        ),
    ],
)
def test_the_examples_of_the_specification(body: str, expected: object) -> None:
    assert codes(serve(body)) == expected


# Envelopes


def test_a_call_is_read_whole() -> None:
    read_call = call('{"jsonrpc":"2.0","method":"demo.echo","params":{"text":"hi"},"id":7}')
    assert read_call == Call(b"7", "demo.echo", {"text": "hi"}, b'{"text":"hi"}', None, None)


@pytest.mark.parametrize(
    "body",
    [
        ' \t\r\n{ "jsonrpc" : "2.0" , "method" : "m" , "params" : [ 1 ] , "id" : 7 } \n',
        '{"id":7,"params":[ 1 ],"method":"m","jsonrpc":"2.0"}',
        '{"jsonr\\u0070c":"2\\u002e0","\\u006dethod":"\\u006d","par\\u0061ms":[ 1 ],"i\\u0064":7}',
        '{"jsonrpc":"2.0","method":"m","params":[ 1 ],"id":7,"auth":null,"a:b":{"c:d":["e:f"]}}',
        '{"jsonrpc":"2.0","method":"m","params":[ 1 ],"id":7,"ID":9,"Method":1}',
    ],
)
def test_white_space_order_escapes_and_other_members_change_nothing(body: str) -> None:
    assert call(body) == Call(b"7", "m", [1], b"[ 1 ]", None, None)


@pytest.mark.parametrize("method", ["m", "", "a:b", "rpc.discover", "große.methode", 'a b\\n\\"', "\\u003a", "😀"])
@pytest.mark.parametrize("params", ["", ',"params":[1,":"]', ',"params":{"a":"b:c"}', ',"params":{}'])
@pytest.mark.parametrize("id", ["", ',"id":1', ',"id":"a:b"', ',"id":null'])
def test_methods_of_all_kinds(method: str, params: str, id: str) -> None:
    body = f'{{"jsonrpc":"2.0","method":"{method}"{params}{id}}}'
    expected = json.loads(body)
    read_call = call(body)
    assert read_call.method == expected["method"]
    assert read_call.params == expected.get("params")
    assert read_call.params_raw.decode() == params[10:]
    assert (read_call.id is None) == (id == "")


@pytest.mark.parametrize(
    "id",
    [
        "1",
        "0",
        "-1",
        "-0",
        "1.0",
        "1.50",
        "1e3",
        "1E+400",
        "9" * 5000,
        "0.1000000000000000055511",
        '""',
        '"a"',
        '"\\u00e9\\ud83d\\ude00"',
        '"é \\/ \\" : \\\\"',
        "null",
        '"' + "x" * 100_000 + '"',
    ],
)
def test_ids_come_back_byte_for_byte(id: str) -> None:
    for body in (f'{{"jsonrpc":"2.0","method":"m","id":{id}}}', f'{{"jsonrpc":"2.0", "x":1,"method":"m","id" : {id} }}'):
        assert call(body).id == id.encode()
    assert refused(f'{{"jsonrpc":"2.0","id":{id},"method":3}}')[0] == id.encode()
    assert refused(f'{{"id":{id}}}')[0] == id.encode()


@pytest.mark.parametrize("id", ["true", "false", "[]", "[1]", "{}", '{"a":1}'])
@pytest.mark.parametrize("rest", ['"jsonrpc":"2.0","method":"m"', '"jsonrpc":"2.0","method":"m","other":1', '"jsonrpc":"1.0"'])
def test_an_id_of_another_kind_is_no_id(id: str, rest: str) -> None:
    assert refused(f'{{{rest},"id":{id}}}')[:2] == (b"null", "invalid_request")


def test_null_is_an_id_and_none_is_a_notification() -> None:
    assert call('{"jsonrpc":"2.0","method":"m","id":null}').id == b"null"
    assert call('{"jsonrpc":"2.0","method":"m"}').id is None


@pytest.mark.parametrize(
    ("body", "id", "word"),
    [
        ('{"jsonrpc":"2.0","method":"m","params":null,"id":5}', b"5", "params"),
        ('{"jsonrpc":"2.0","method":"m","params":"bar","id":5}', b"5", "params"),
        ('{"jsonrpc":"2.0","method":"m","params":3,"id":5}', b"5", "params"),
        ('{"jsonrpc":"2.0","method":"m","params":null}', b"null", "params"),
        ('{"jsonrpc":"2.0","method":null,"id":5}', b"5", "method"),
        ('{"jsonrpc":"2.0","id":5}', b"5", "method"),
        ('{"jsonrpc":"2.0","method":["m"],"id":5}', b"5", "method"),
        ('{"jsonrpc":"1.0","method":"m","id":5}', b"5", "jsonrpc"),
        ('{"jsonrpc":2.0,"method":"m","id":5}', b"5", "jsonrpc"),
        ('{"method":"m","id":5}', b"5", "jsonrpc"),
        ('{"method":"m"}', b"null", "jsonrpc"),
        ("{}", b"null", "jsonrpc"),
        ("1", b"null", "object"),
        ("null", b"null", "object"),
        ('"{}"', b"null", "object"),
        ("  []  ", b"null", "empty"),
    ],
)
def test_what_is_no_request_says_why(body: str, id: bytes, word: str) -> None:
    answered, reason, message = refused(body)
    assert (answered, reason) == (id, "invalid_request")
    assert word in message


@pytest.mark.parametrize(
    ("body", "id", "member"),
    [
        ('{"jsonrpc":"2.0","method":"m","id":1,"id":2}', b"null", "id"),
        ('{"jsonrpc":"2.0","method":"m","id":1,"id":1}', b"null", "id"),
        ('{"jsonrpc":"2.0","method":"m","method":"n","id":1}', b"1", "method"),
        ('{"jsonrpc":"2.0","method":"m","\\u006dethod":"n","id":1}', b"1", "method"),
        ('{"jsonrpc":"2.0","jsonrpc":"2.0","method":"m"}', b"null", "jsonrpc"),
        ('{"jsonrpc":"2.0","method":"m","params":[],"params":{"a:b":1},"id":1}', b"1", "params"),
        ('{"jsonrpc":"2.0","method":"m","params":{"a:b":1},"params":[],"id":1}', b"1", "params"),
        ('{"jsonrpc":"2.0","method":"a\\u003ab","method":"a\\u003ab","id":1}', b"1", "method"),
        ('{"jsonrpc":"2.0","method":"m","x":1,"x":1,"id":1}', b"1", "x"),
        ('{"jsonrpc":"2.0","method":"m","meta":{},"meta":{},"id":true}', b"null", "meta"),
        # of the length of a request with params and without the duplicate
        ('{"jsonrpc":"2.0","method":"m","id":1,"id":22345}', b"null", "id"),
        ('{"jsonrpc":"2.0","method":"m","params":1,"m":1,"m":2}', b"null", "m"),
    ],
)
def test_members_that_come_twice_are_refused(body: str, id: bytes, member: str) -> None:
    answered, reason, message = refused(body)
    assert (answered, reason) == (id, "invalid_request")
    assert f'"{member}"' in message


# Batches


def items(body: str, limit: int = 1000) -> list[Call | Refused]:
    parsed = read(body, limit)
    assert isinstance(parsed, Batch)
    return parsed.items


def test_junk_in_a_batch_is_answered_in_its_place() -> None:
    first, second, third, fourth, fifth = items(
        ' [{"jsonrpc":"2.0","method":"a","id":1}, [], {"jsonrpc":"2.0","method":"b"}, {"id":"x"}, true]'
    )
    assert isinstance(first, Call)
    assert isinstance(third, Call)
    assert (first.method, third.method, third.id) == ("a", "b", None)
    for item, raw_id in ((second, b"null"), (fourth, b'"x"'), (fifth, b"null")):
        assert isinstance(item, Refused)
        assert (item.id, item.outcome.reason) == (raw_id, "invalid_request")


@pytest.mark.parametrize("item", ["1", '{"jsonrpc":"2.0","method":"m","params":[1,2],"id":1}'])
@pytest.mark.parametrize(("length", "limit"), [(1, 1), (3, 3), (1000, 1000), (5000, 5000)])
def test_a_batch_up_to_the_limit(item: str, length: int, limit: int) -> None:
    assert len(items("[" + ",".join([item] * length) + "]", limit)) == length


@pytest.mark.parametrize("item", ["1", '{"jsonrpc":"2.0","method":"m","params":[1,2],"id":1}'])
@pytest.mark.parametrize(("length", "limit"), [(2, 1), (4, 3), (1001, 1000), (5001, 5000), (100_000, 1000)])
def test_a_batch_over_the_limit_is_one_array_with_one_error(item: str, length: int, limit: int) -> None:
    (item_refused,) = items("[" + ",".join([item] * length) + "]", limit)
    assert isinstance(item_refused, Refused)
    assert item_refused.id == b"null"
    outcome = item_refused.outcome
    assert (outcome.reason, outcome.executed, outcome.limit) == ("too_large", "no", "gateway.batch_length_max")
    assert str(limit) in outcome.message


def test_a_limit_of_very_many_takes_no_seconds_to_prepare() -> None:
    body = "[" + ",".join(["1"] * 200_001) + "]"
    began = time.process_time()
    (item,) = items(body, 200_000)
    assert time.process_time() - began < 1
    assert isinstance(item, Refused)
    assert (item.outcome.reason, item.outcome.limit) == ("too_large", "gateway.batch_length_max")


def test_an_oversized_batch_is_not_read_to_its_end() -> None:
    (item,) = items("[" + "1," * 3000 + "and this is no JSON")
    assert isinstance(item, Refused)
    assert item.outcome.reason == "too_large"


@pytest.mark.parametrize("body", ["[", "[1", "[1,", "[1,]", "[1]]", "[1 2]", "[1,2,3,]", "[1,2,3,nul]", '[{"a":1},{]'])
@pytest.mark.parametrize("limit", [2, 1000])
def test_a_batch_that_is_no_json_is_one_parse_error(body: str, limit: int) -> None:
    parsed = read(body, limit)
    refusal = parsed.items[0] if isinstance(parsed, Batch) else parsed
    assert isinstance(refusal, Refused)
    assert refusal.outcome.reason == "parse_error" or (limit == 2 and refusal.outcome.reason == "too_large")
    assert refusal.id == b"null"


# Meta


def asked(meta: str) -> tuple[float | None, str | None]:
    """What a call asks for; the same beside params and in them."""
    outside = call('{"jsonrpc":"2.0","method":"m","meta":' + meta + ',"id":1}')
    inside = call(with_params('{"_meta":{"homing":' + meta + "}}"))
    assert (inside.params, inside.params_raw) == ({}, b"{}")
    assert (outside.timeout_s, outside.idempotency_key) == (inside.timeout_s, inside.idempotency_key)
    return outside.timeout_s, outside.idempotency_key


@pytest.mark.parametrize(
    ("meta", "expected"),
    [
        ("{}", (None, None)),
        ('{"timeout":30}', (30.0, None)),
        ('{"timeout":0.5,"traceparent":"00:1","x":{"y":{}}}', (0.5, None)),
        ('{"timeout":1e3, "idempotency_key":"order:17"}', (1000.0, "order:17")),
        ('{"idempotency_key":"a \\"b\\" ~"}', (None, 'a "b" ~')),
        ('{"timeout":1e400}', (1e9, None)),
        ('{"timeout":' + "9" * 4000 + "}", (1e9, None)),
        ('{"timeout":1e-400}', (0.001, None)),
        ('{"idempotency_key":"' + "k" * 255 + '"}', (None, "k" * 255)),
    ],
)
def test_meta_is_read(meta: str, expected: object) -> None:
    timeout_s, _ = asked(meta)
    assert asked(meta) == expected
    assert timeout_s is None or type(timeout_s) is float


@pytest.mark.parametrize(
    ("meta", "word"),
    [
        ("null", "object"),
        ("[]", "object"),
        ("30", "object"),
        ('{"timeout":0}', "timeout"),
        ('{"timeout":0.0}', "timeout"),
        ('{"timeout":-1}', "timeout"),
        ('{"timeout":-1e400}', "timeout"),
        ('{"timeout":true}', "timeout"),
        ('{"timeout":null}', "timeout"),
        ('{"timeout":"30"}', "timeout"),
        ('{"timeout":[30]}', "timeout"),
        ('{"timeout":1e9999}', "digits"),
        ('{"idempotency_key":""}', "idempotency_key"),
        ('{"idempotency_key":17}', "idempotency_key"),
        ('{"idempotency_key":null}', "idempotency_key"),
        ('{"idempotency_key":"a\\nb"}', "idempotency_key"),
        ('{"idempotency_key":"é"}', "idempotency_key"),
        ('{"idempotency_key":"' + "k" * 256 + '"}', "idempotency_key"),
    ],
)
def test_meta_that_cannot_be_meant_is_refused(meta: str, word: str) -> None:
    for body in ('{"jsonrpc":"2.0","method":"m","meta":' + meta + ',"id":1}', with_params('{"_meta":{"homing":' + meta + "}}")):
        answered, reason, message = refused(body)
        assert (answered, reason) == (b"1", "invalid_request")
        assert word in message


@pytest.mark.parametrize("meta", ['{"timeout":1,"timeout":2}', '{"idempotency_key":"a:b","x":{},"idempotency_key":"a"}'])
def test_members_of_meta_that_come_twice_are_refused(meta: str) -> None:
    assert "more than once" in refused('{"jsonrpc":"2.0","method":"m","meta":' + meta + ',"id":1}')[2]


def test_meta_beside_params_comes_before_meta_in_them() -> None:
    inside = '"params":{"a":1,"_meta":{"homing":{"timeout":2,"idempotency_key":"b"}}}'
    both = call('{"jsonrpc":"2.0","method":"m","id":1,"meta":{"timeout":1,"idempotency_key":"a"},' + inside + "}")
    assert (both.timeout_s, both.idempotency_key, both.params, both.params_raw) == (1.0, "a", {"a": 1}, b'{"a":1}')
    one_each = call('{"jsonrpc":"2.0","method":"m","id":1,"meta":{"timeout":1},' + inside + "}")
    assert (one_each.timeout_s, one_each.idempotency_key) == (1.0, "b")


@pytest.mark.parametrize(
    ("params", "left"),
    [
        ('{"_meta":{"homing":{},"x":7},"n":[1.5,12345678901234567.8]}', '{"_meta":{"x":7},"n":[1.5,12345678901234567.8]}'),
        ('{"_meta": {"progressToken":7} }', '{"_meta": {"progressToken":7} }'),
        ('{"_meta":{} }', '{"_meta":{} }'),
        ('{"_meta":null }', '{"_meta":null }'),
        ('{"_meta":"homing" }', '{"_meta":"homing" }'),
        ('[{"_meta":{"homing":{}} }]', '[{"_meta":{"homing":{}} }]'),
        ('{"a":{"_meta":{"homing":{}} }}', '{"a":{"_meta":{"homing":{}} }}'),
    ],
)  # fmt: skip
def test_of_params_only_our_own_is_taken(params: str, left: str) -> None:
    read_call = call(with_params(params))
    assert read_call.params_raw == left.encode()
    assert read_call.params == json.loads(left, parse_float=Decimal)


# Headers


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30", 30),
        ("0.5", 0.5),
        (" 007.250\t", 7.25),
        ("0.0000001", 0.001),
        ("9" * 400, 1e9),
        ("0." + "0" * 400 + "1", 0.001),
        ("10", 10),
    ],
)
def test_timeouts_that_are_meant(text: str, seconds: float) -> None:
    assert jsonrpc.parse_timeout(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "0",
        "0.0",
        "000",
        "-1",
        "+1",
        "1e3",
        "nan",
        "inf",
        "Infinity",
        ".5",
        "5.",
        "1,5",
        "30s",
        "0x10",
        "1 0",
        "٣",
        "1_0",
        "30, 30",
        "30\n",
        "\n30",
        "1.2.3",
    ],
)
def test_timeouts_that_cannot_be_meant(text: str) -> None:
    with pytest.raises(ValueError, match="a number of seconds above zero"):
        jsonrpc.parse_timeout(text)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("order-17", "order-17"),
        (" order-17 ", "order-17"),
        ('"order-17"', "order-17"),
        ('"a, b"', "a, b"),
        ('" a "', " a "),
        (r'"a\"b\\c"', r'a"b\c'),
        ("8e03978e-40d5-43e8-bc93-6894a57f9324", "8e03978e-40d5-43e8-bc93-6894a57f9324"),
        ("a b", "a b"),
        ("!#$%&'()*+-./:;<=>?@[\\]^_`{|}~", "!#$%&'()*+-./:;<=>?@[\\]^_`{|}~"),
        ("k" * 255, "k" * 255),
        ('"' + "k" * 255 + '"', "k" * 255),
        ('"' + r"\"" * 255 + '"', '"' * 255),
    ],
)
def test_idempotency_keys_bare_and_quoted(text: str, key: str) -> None:
    assert jsonrpc.parse_idempotency_key(text) == key


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        '""',
        '"',
        '"a',
        'a"',
        'a"b',
        '"a"b',
        '"a";p=1',
        '"a", "b"',
        "a, b",
        "a,b",
        "é",
        '"é"',
        "a\x00",
        "a\nb",
        '"a\tb"',
        "a\x7f",
        r'"a\b"',
        '"a\\"',
        "k" * 256,
        '"' + "k" * 256 + '"',
        "a\n",
    ],
)
def test_idempotency_keys_that_are_malformed(text: str) -> None:
    with pytest.raises(ValueError, match="must have 1 to 255 printable"):
        jsonrpc.parse_idempotency_key(text)


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=255))
def test_every_printable_key_has_a_quoted_form(key: str) -> None:
    quoted = '"' + key.replace("\\", "\\\\").replace('"', '\\"') + '"'
    assert jsonrpc.parse_idempotency_key(quoted) == key


# Answers


def test_a_result_goes_in_untouched() -> None:
    outcome = Outcome(reason="ok", executed="yes", result=b'{ "a" :1.0, "a":2}')
    assert encode_answer(b"1.50", outcome, CALL_ID) == b'{"jsonrpc":"2.0","id":1.50,"result":{ "a" :1.0, "a":2}}'
    assert encode_answer(b"null", Outcome(reason="ok", executed="yes"), CALL_ID) == b'{"jsonrpc":"2.0","id":null,"result":null}'


def test_an_error_has_the_members_it_must_have_and_no_others() -> None:
    assert encode_answer(b'"x"', failure("draining", "going away"), CALL_ID).decode() == (
        '{"jsonrpc":"2.0","id":"x","error":{"code":5032,"message":"going away","data":'
        f'{{"reason":"draining","executed":"no","retry":"safe","call_id":"{CALL_ID}"}}}}}}'
    )


def test_an_error_has_every_member_that_applies() -> None:
    outcome = Outcome(
        reason="provider_failed",
        executed="unknown",
        message="the provider said 503",
        retry="same_key",
        retry_after_ms=0,
        limit="providers.acme.rate",
        errors=(ParamError("/amount", "is too small"),),
        timeout_ms=60000,
        idempotency_key="order-17",
        key_expires_ms=86400000,
        attempts=(
            Attempt(provider="acme", started_ms=0, duration_ms=12, reason="provider_unreachable", executed="no"),
            Attempt(
                provider="acme", started_ms=80, duration_ms=300, reason="provider_failed", executed="unknown", status=503,
                provider_request_id="r1",
            ),
        ),
        status=503,
        body=b'{"error": 1.0}',
        body_truncated=True,
        detail=b"[1]",
    )  # fmt: skip
    encoded = encode_answer(b"1", outcome, CALL_ID)
    assert b'"body":{"error": 1.0}' in encoded
    answer = json.loads(encoded)
    assert list(answer) == ["jsonrpc", "id", "error"]
    assert answer["error"] == {
        "code": 5024,
        "message": "the provider said 503",
        "data": {
            "reason": "provider_failed",
            "executed": "unknown",
            "retry": "same_key",
            "call_id": CALL_ID,
            "retry_after_ms": 0,
            "limit": "providers.acme.rate",
            "errors": [{"path": "/amount", "message": "is too small"}],
            "timeout_ms": 60000,
            "idempotency_key": "order-17",
            "key_expires_ms": 86400000,
            "attempts": [
                {"provider": "acme", "started_ms": 0, "duration_ms": 12, "reason": "provider_unreachable", "executed": "no"},
                {
                    "provider": "acme",
                    "started_ms": 80,
                    "duration_ms": 300,
                    "status": 503,
                    "reason": "provider_failed",
                    "executed": "unknown",
                    "provider_request_id": "r1",
                },
            ],
            "status": 503,
            "body": {"error": 1.0},
            "body_truncated": True,
            "detail": [1],
        },
    }


@pytest.mark.parametrize("reason", sorted(ROWS))
def test_every_reason_can_be_said(reason: str) -> None:
    row = ROWS[reason]
    data = json.loads(jsonrpc.encode_error(failure(reason, ""), CALL_ID))
    assert (data["code"], data["message"]) == (row.code, row.meaning)
    assert data["data"]["executed"] == row.executed
    # by effect: where nobody filled in a retry, the careful one
    assert data["data"]["retry"] == (row.retry or "unsafe")


def test_an_application_speaks_for_itself() -> None:
    said = Outcome(reason="application", executed="no", code=1007, message="no such größe \udcff", detail=b'"x"')
    error_object = json.loads(jsonrpc.encode_error(said, CALL_ID))
    assert error_object["code"] == 1007
    assert error_object["message"] == "no such größe ?"
    assert error_object["data"] == {"reason": "application", "executed": "no", "retry": "safe", "call_id": CALL_ID, "detail": "x"}
    silent = Outcome(reason="application", executed="unknown", code=1007)
    assert json.loads(jsonrpc.encode_error(silent, CALL_ID))["message"] == "The method answered with an error."


def test_batches_are_arrays_and_never_empty_ones() -> None:
    assert encode_batch([]) == b""
    assert encode_batch([b"1"]) == b"[1]"
    assert encode_batch([b"1", b"2"]) == b"[1,2]"


@given(
    st.sampled_from([b"1", b'"x"', b"null", b"-1.5", b"[]", b"{}", b"true"]),
    st.sampled_from(
        [b"{}", b'{"a":1}', b'{"a":{"b":[1,{"c":":"}]}}', b'{"a":1,"a":2}', b'{"_meta":{"homing":{"timeout":3}}}', b"[1]"]
    )
    | st.sampled_from([b'{"a":1e99999}', b'{"a":%b}' % (b"9" * 5000), b'{"a":"\\u003a","a":1}', b'{"_meta":1}', b"7"]),
)
def test_a_request_without_a_spare_byte_is_read_as_any_other(raw_id: bytes, params: bytes) -> None:
    bare = b'{"jsonrpc":"2.0","method":"m","params":%b,"id":%b}' % (params, raw_id)
    assert jsonrpc.parse(bare, batch_length_max=1) == jsonrpc.parse(bare + b" ", batch_length_max=1)


@pytest.mark.parametrize(
    ("text", "params", "said"),
    [
        (b"", None, b""),
        (b'{"a":1.50}', {"a": Decimal("1.50")}, b'{"a":1.50}'),
        (b"[1]", [1], b"[1]"),
        (b'{"a":1,"a":2}', {"a": 2}, b'{"a":2}'),
    ],
    ids=["none", "object", "array", "twice"],
)
def test_params_from_another_process_are_what_was_decoded_of_them(text: bytes, params: object, said: bytes) -> None:
    assert jsonrpc.read_params(text) == (params, said)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"{", "truncated"),
        (b"\xff", "not UTF-8"),
        (b"7", "object or an array"),
        (b"[" * 70 + b"]" * 70, "deeper than 64"),
        (b"[" + b"9" * 5000 + b"]", "more than"),
    ],
    ids=["cut", "bytes", "number", "deep", "long"],
)
def test_params_from_another_process_that_are_none(text: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        jsonrpc.read_params(text)


def test_a_call_in_another_envelope_is_read_as_if_it_came_in_ours() -> None:
    wishes = b' {"a": 1, "_meta": {"homing": {"timeout": 2.5, "idempotency_key": "order-17"}}}\n'
    assert jsonrpc.read_call("acme.charge", wishes) == Call(b"null", "acme.charge", {"a": 1}, b'{"a":1}', 2.5, "order-17")
    assert jsonrpc.read_call("acme.charge", b"[1]") == Call(b"null", "acme.charge", [1], b"[1]", None, None)
    assert jsonrpc.read_call("acme.charge", b"") == Call(b"null", "acme.charge", None, b"", None, None)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"{", "parse_error"),
        (b"\xff", "parse_error"),
        (b" ", "parse_error"),
        (b"null", "invalid_request"),
        (b'1,"id":2', "parse_error"),
        (b"[" * 70 + b"]" * 70, "too_large"),
        (b"[" + b"9" * 5000 + b"]", "invalid_request"),
        (b'{"_meta":{"homing":{"timeout":0}}}', "invalid_request"),
    ],
    ids=["cut", "bytes", "blank", "null", "more members", "deep", "long", "no time"],
)
def test_and_refused_as_if_it_came_in_ours(text: bytes, reason: str) -> None:
    refused_call = jsonrpc.read_call("acme.charge", text)
    assert isinstance(refused_call, Refused)
    assert (refused_call.id, refused_call.outcome.reason) == (b"null", reason)


@pytest.mark.parametrize(
    "rest", ['"params":[1e9999,0e0]', '"params":null', '"params":{"a":1e9999},"x":1', '"meta":{"timeout":1e9999}', '"meta":null']
)
def test_params_and_wishes_of_whom_nobody_lets_in_are_not_read(rest: str) -> None:
    text = ('{"jsonrpc":"2.0","id":7,"method":"m",' + rest + "}").encode()
    assert jsonrpc.parse(text, batch_length_max=2).__class__ is jsonrpc.Refused
    bare = jsonrpc.Call(b"7", "m", None, b"", None, None)
    assert jsonrpc.parse(text, batch_length_max=2, envelopes_only=True) == bare
    batch = jsonrpc.parse(b"[" + text + b",5]", batch_length_max=2, envelopes_only=True)
    assert isinstance(batch, jsonrpc.Batch)
    assert batch.items[0] == bare
    assert isinstance(batch.items[1], jsonrpc.Refused)


@pytest.mark.parametrize(
    "text", ['{"jsonrpc":"2.0","method":"m","id":1,"id":1}', '{"jsonrpc":"2.0","id":[],"method":"m"}', "{", "[]"]
)
def test_what_is_no_request_is_none_either_where_only_the_envelope_is_read(text: str) -> None:
    for body in (text.encode(), b"[" + text.encode() + b"]"):
        assert jsonrpc.parse(body, batch_length_max=2, envelopes_only=True) == jsonrpc.parse(body, batch_length_max=2)


@pytest.mark.parametrize("half", ["\\ud83d", "\\uD800x", "\\udbffabcdefg"])
def test_one_half_of_a_pair_is_told_for_what_it_is(half: str) -> None:
    body = with_params('["' + half + '"]')
    answered, reason, message = refused(body)
    assert (answered, reason) == (b"null", "parse_error")
    assert (
        message
        == f"The body is not JSON: {half[:6]} is one half of a surrogate pair, without the other (byte {body.index(half)})."
    )


@pytest.mark.parametrize("text", ['["\\\\ud83d"', '["\\ud83d\\ude00', '["\\ud83d\\ude00",]', '["\\\\ud83d",]'])
def test_a_pair_or_what_only_looks_like_a_half_is_not_blamed(text: str) -> None:
    _, reason, message = refused('{"jsonrpc":"2.0","method":"m","id":1,"params":' + text)
    assert reason == "parse_error"
    assert "pair" not in message
