"""Scopes: each danger is looked at with its neighbours, and whatever may happen may happen in some of them."""

import msgspec

from homing.sim.scopes import DEEP, SHALLOW, Bounds


def test_everything_that_may_happen_happens_in_some_scope_and_not_in_all() -> None:
    for field in msgspec.structs.fields(Bounds):
        if field.name not in ("effect", "workers", "attempts_max", "claims"):
            assert {bool(getattr(bounds, field.name)) for bounds in SHALLOW.values()} == {True, False}, field.name
    assert {bounds.effect for bounds in SHALLOW.values()} == {"once", "keyed", "safe"}
    assert not SHALLOW.keys() & DEEP.keys()
