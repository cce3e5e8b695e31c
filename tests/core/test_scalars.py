"""homing.core.scalars: no number changes its decimal value without somebody saying so."""

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homing.core.scalars import decode_exact, encode_exact, inexact, number, plain, pointer, pointer_to, scalar_text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.1", 0.1),
        ("1.50", 1.5),
        ("1e3", 1000.0),
        ("123456789012.345", 123456789012.345),
        ("0.10000000000000000", 0.1),
        ("1E400", Decimal("1E400")),
        ("1e-400", Decimal("1e-400")),
        ("0.12345678901234567890", Decimal("0.12345678901234567890")),
        ("9007199254740993.0", Decimal("9007199254740993.0")),
        ("-0.0", -0.0),
    ],
)
def test_a_number_is_a_float_only_if_that_keeps_its_value(text: str, value: object) -> None:
    assert repr(number(text)) == repr(value)


@pytest.mark.parametrize("text", ["1e999999999999999999999", "1e5000", "1e-5000", "0." + "1" * 4300])
def test_a_number_too_long_to_write_out_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="too long a number"):
        number(text)


@given(st.from_regex(r"-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?", fullmatch=True))
def test_decoding_and_encoding_keep_the_value(text: str) -> None:
    assert Decimal(encode_exact(decode_exact(text.encode())).decode()) == Decimal(text)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ({"a": [1, 2.5, "x", None, True]}, None),
        (Decimal("1E400"), Decimal("1E400")),
        ({"a": [{"b": Decimal("0.1")}]}, Decimal("0.1")),
        ([object()], None),
    ],
)
def test_an_inexact_number_is_found_wherever_it_is(value: object, found: object) -> None:
    assert inexact(value) == found


def test_an_inexact_number_is_found_at_any_depth() -> None:
    value: object = Decimal(1)
    for _ in range(5000):
        value = [value]
    assert inexact(value) == Decimal(1)


def test_a_value_is_pointed_at() -> None:
    wanted = Decimal("0.5")
    params = {"b": [Decimal("0.5"), {"c/d": {"~": wanted}}], "a": 1}
    assert pointer_to(params, wanted) == "/b/1/c~1d/~0"
    assert pointer_to(params, object()) is None


def test_a_path_is_a_json_pointer() -> None:
    assert pointer(()) == ""
    assert pointer(["a/b", 0, "m~n"]) == "/a~1b/0/m~0n"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("x", "x"),
        ("", ""),
        (True, "true"),
        (False, "false"),
        (0, "0"),
        (10**30, str(10**30)),
        (1e22, "1e22"),
        (None, None),
        ([], None),
    ],
)
def test_scalars_as_text(value: object, text: str | None) -> None:
    assert scalar_text(value) == text


@pytest.mark.parametrize(("value", "why"), [({}, "object"), ([1], "array"), (Decimal("0.1"), "no double can hold")])
def test_what_is_no_scalar_is_refused(value: object, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        scalar_text(value)


def test_json_is_plain() -> None:
    value = {"a": [1, 2.5, None, True, "x", Decimal("1.5")], "b": {}}
    assert plain(value) == value
    assert plain((1, 2)) == [1, 2]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), Decimal("Infinity"), {1: 2}, [{1}], b"x"])
def test_what_is_no_json_is_not(value: object) -> None:
    with pytest.raises(ValueError, match="no JSON|no name"):
        plain(value)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_json_goes_round(value: object) -> None:
    assert decode_exact(encode_exact(value)) == value == json.loads(encode_exact(value))
