"""Permits: exact names, prefixes, and nothing else."""

import pytest

from homing.core.permits import ANYTHING, NOTHING, Permit, matches


@pytest.mark.parametrize(
    ("patterns", "name", "expected"),
    [
        ((), "acme", False),
        (("acme",), "acme", True),
        (("acme",), "acme2", False),
        (("acme",), "acm", False),
        (("acme*",), "acme", True),
        (("acme*",), "acme2", True),
        (("acme*",), "acm", False),
        (("*",), "acme", True),
        (("*",), "", True),
        (("a*e",), "acme", False),  # a star stands at the end, or it is a letter like any other
        (("a*e",), "a*e", True),
        (("bank", "acme"), "acme", True),
    ],
    ids=str,
)
def test_a_pattern_is_a_name_or_a_beginning(patterns: tuple[str, ...], name: str, expected: bool) -> None:
    assert matches(patterns, name) is expected


def test_serving_and_calling_are_two_rights() -> None:
    permit = Permit(serve=("acme",), call=("bank",))
    assert (permit.serves("acme"), permit.serves("bank")) == (True, False)
    assert (permit.calls("acme"), permit.calls("bank")) == (False, True)


def test_anything_and_nothing() -> None:
    assert ANYTHING.serves("acme")
    assert ANYTHING.calls("acme")
    assert not NOTHING.serves("acme")
    assert not NOTHING.calls("acme")
    assert NOTHING.principal == ANYTHING.principal == ""
