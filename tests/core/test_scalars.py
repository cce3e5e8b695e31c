"""homing.core.scalars: no mapped number changes its decimal value without somebody saying so."""

from decimal import Decimal
from enum import IntEnum, StrEnum

import pytest

from homing.core.jsonrpc import encode_value
from homing.core.scalars import inexact, path_under, plain, pointer, pointer_to, scalar_text


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


def test_a_path_of_the_configuration_can_be_pasted() -> None:
    assert path_under("providers", "acme-2_b") == "providers.acme-2_b"
    for name in ("a.b", "a@b", "é", ""):
        assert path_under("providers", name) == f'providers."{name}"'


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


class Text(str):
    """What lxml calls its texts."""

    __slots__ = ()


class Colour(StrEnum):
    RED = "red"


class Code(IntEnum):
    OK = 1


class Float(float):
    """What numpy calls its numbers."""

    __slots__ = ()


def test_what_only_descends_from_json_becomes_json() -> None:
    made = plain({Text("a"): [Text("x"), Colour.RED, Code.OK, Float(1.5)]})
    assert made == {"a": ["x", "red", 1, 1.5]}
    assert encode_value(made) == b'{"a":["x","red",1,1.5]}'


@pytest.mark.parametrize("value", [float("nan"), float("inf"), Decimal("Infinity"), {1: 2}, [{1}], b"x"])
def test_what_is_no_json_is_not(value: object) -> None:
    with pytest.raises(ValueError, match=r"no JSON|no name"):
        plain(value)
