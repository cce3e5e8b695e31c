"""homing.core.forms: nested values as payment APIs read them."""

from decimal import Decimal
from typing import cast
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homing.core.forms import encode_form
from homing.core.specs import MappingError


@pytest.mark.parametrize(
    ("value", "body"),
    [
        ({}, b""),
        ({"a": 1, "b": "x y&z=", "c": True, "d": 1.5}, b"a=1&b=x%20y%26z%3D&c=true&d=1.5"),
        ({"a": {"b": "c"}}, b"a[b]=c"),
        ({"a": {"b": {"c": 1}}}, b"a[b][c]=1"),
        ({"a": ["x", "y"]}, b"a[]=x&a[]=y"),
        ({"a": [{"b": 1}, {"b": 2, "c": 3}]}, b"a[0][b]=1&a[1][b]=2&a[1][c]=3"),
        ({"a": [[1, 2], [3]]}, b"a[0][]=1&a[0][]=2&a[1][]=3"),
        ({"a": None, "b": [], "c": {}, "d": [None]}, b""),
        ({"a": ""}, b"a="),
        ({"a[b]": {"c]": "[]"}}, b"a%5Bb%5D[c%5D]=%5B%5D"),
        ({"é": "ü"}, b"%C3%A9=%C3%BC"),
        ({"a": Decimal("0.12345678901234567890")}, b"a=0.12345678901234567890"),
        ({"a": 10**25}, b"a=10000000000000000000000000"),
    ],
)
def test_encoding(value: object, body: bytes) -> None:
    assert encode_form(value) == body


@pytest.mark.parametrize("value", [[1], "a=b", None])
def test_a_form_is_made_of_an_object(value: object) -> None:
    with pytest.raises(MappingError, match="must be an object"):
        encode_form(value)


@pytest.mark.parametrize("value", [{"a": "\ud800"}, {"\ud800": 1}, {"a": {"\ud800": 1}}])
def test_a_lone_surrogate_is_no_text(value: object) -> None:
    with pytest.raises(MappingError, match="no Unicode text"):
        encode_form(value)


def read(body: bytes) -> dict[str, object]:
    """Read a form as PHP does, as far as objects of texts and arrays of texts go."""
    found: dict[str, object] = {}
    for name, text in parse_qsl(body.decode(), keep_blank_values=True):
        *outer, last = name.replace("]", "").split("[")
        listed = not last
        if listed:
            last = outer.pop()
        at = found
        for step in outer:
            at = cast(dict[str, object], at.setdefault(step, {}))
        if listed:
            cast(list[object], at.setdefault(last, [])).append(text)
        else:
            at[last] = text
    return found


names = st.text("aé %&=+/\0", min_size=1, max_size=3)
texts = st.text(max_size=5)


leaves = st.dictionaries(names, texts | st.lists(texts, min_size=1, max_size=3), min_size=1, max_size=3)


@given(st.dictionaries(names, leaves | st.dictionaries(names, leaves, min_size=1, max_size=3), max_size=3))
def test_what_was_written_is_read(value: dict[str, object]) -> None:
    assert read(encode_form(value)) == value
