"""A machine's state as plain values: equal if, and only if, the machine will behave the same from here on."""

from collections import deque
from typing import TypeAlias

import msgspec

from homing.core.machine import Deadlines

Value: TypeAlias = "str | bytes | int | float | tuple[Value, ...] | None"


def snapshot(thing: object) -> Value:
    """Nested tuples. The order of dicts is kept, for machines go through them; that of sets is not, for none may."""
    match thing:
        case None | str() | bytes() | int() | float():
            return thing
        case tuple() | list() | deque():
            return tuple(map(snapshot, thing))
        case Deadlines():
            return tuple(sorted(thing.items()))  # the heap below it has stale entries
        case dict():
            return tuple((snapshot(key), snapshot(value)) for key, value in thing.items() if not callable(value))
        case set() | frozenset():
            return tuple(sorted(thing))
        case msgspec.Struct():
            return (type(thing).__name__, *(snapshot(getattr(thing, name)) for name in thing.__struct_fields__))
        case _ if callable(thing):
            return None
    return (type(thing).__name__, *((name, snapshot(value)) for name, value in fields_of(thing)))


def fields_of(thing: object) -> list[tuple[str, object]]:
    """What a thing has, by name."""
    named = dict(vars(thing)) if hasattr(thing, "__dict__") else {}
    for kind in type(thing).__mro__:
        for name in getattr(kind, "__slots__", ()):
            named[name] = getattr(thing, name, None)
    return sorted(named.items())
