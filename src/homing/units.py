"""Durations and sizes as people write them: `"90s"`, `"500ms"`, `"1MiB"`; inside they are seconds and bytes."""

import re
from decimal import Decimal

DURATION_UNITS: dict[str, Decimal] = {
    "ms": Decimal("0.001"),
    "s": Decimal(1),
    "m": Decimal(60),
    "h": Decimal(3600),
    "d": Decimal(86400),
}
SIZE_UNITS: dict[str, int] = {
    "B": 1,
    "kB": 1000,
    "MB": 1000**2,
    "GB": 1000**3,
    "KiB": 1024,
    "MiB": 1024**2,
    "GiB": 1024**3,
}
DURATION_MAX_S = 10 * 366 * 86400.0
SIZE_MAX_BYTES = 2**53

_NUMBER_AND_UNIT = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,9})?) ?([A-Za-zµ]*)", re.ASCII)
_LONG_NAMES = {
    "sec": "s",
    "secs": "s",
    "second": "s",
    "seconds": "s",
    "min": "m",
    "mins": "m",
    "minute": "m",
    "minutes": "m",
    "hr": "h",
    "hour": "h",
    "hours": "h",
    "day": "d",
    "days": "d",
    "msec": "ms",
    "millis": "ms",
    "milliseconds": "ms",
}


def parse_duration(text: str) -> float:
    """`"90s"` as 90.0 seconds. Raises ValueError, whose message says what is wrong with the unit (empty if all of it is)."""
    number, unit = _split(text)
    if unit not in DURATION_UNITS:
        raise ValueError(_unit_advice(number, unit, _LONG_NAMES.get(unit.lower()), DURATION_UNITS))
    seconds = float(Decimal(number) * DURATION_UNITS[unit])
    if seconds > DURATION_MAX_S:
        raise ValueError("that is more than ten years")
    return seconds


def parse_size(text: str) -> int:
    """`"1MiB"` as 1048576 bytes. Raises ValueError like `parse_duration`."""
    number, unit = _split(text)
    if unit not in SIZE_UNITS:
        known = {name.lower(): name for name in SIZE_UNITS} | {"k": "KiB", "m": "MiB", "g": "GiB", "bytes": "B"}
        raise ValueError(_unit_advice(number, unit, known.get(unit.lower()), SIZE_UNITS))
    exact = Decimal(number) * SIZE_UNITS[unit]
    if exact != int(exact):
        raise ValueError("that is no whole number of bytes")
    if exact > SIZE_MAX_BYTES:
        raise ValueError("that is more than any machine holds")
    return int(exact)


def format_duration(seconds: float) -> str:
    """The shortest text that `parse_duration` reads as `seconds`, to a millisecond at the finest; minutes are told in seconds."""
    milliseconds = round(seconds * 1000)
    if milliseconds and milliseconds % 3_600_000 == 0:
        return f"{milliseconds // 3_600_000}h"
    if milliseconds % 1000 == 0:
        return f"{milliseconds // 1000}s"
    return f"{milliseconds}ms" if milliseconds < 1000 else f"{(Decimal(milliseconds) / 1000).normalize()}s"


def format_size(size: int) -> str:
    """The shortest text that `parse_size` reads as `size` bytes."""
    for unit in ("GiB", "MiB", "KiB"):
        if size and size % SIZE_UNITS[unit] == 0:
            return f"{size // SIZE_UNITS[unit]}{unit}"
    return f"{size}B"


def _split(text: str) -> tuple[str, str]:
    found = _NUMBER_AND_UNIT.fullmatch(text)
    if found is None:
        raise ValueError("it cannot be negative" if text.startswith("-") and text[1:2].isdigit() else "")
    return found[1], found[2]


def _unit_advice(number: str, unit: str, meant: str | None, units: dict[str, Decimal] | dict[str, int]) -> str:
    if not unit:
        return f"the unit is missing; the units are {', '.join(units)}"
    if meant is not None:
        return f'write "{number}{meant}"'
    return f'"{unit}" is no unit; the units are {", ".join(units)}'
