import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homing.units import format_duration, format_size, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90.0),
        ("500ms", 0.5),
        ("1m", 60.0),
        ("24h", 86400.0),
        ("7d", 604800.0),
        ("1.5s", 1.5),
        ("0s", 0.0),
        ("10 s", 10.0),
        ("0.1s", 0.1),
        ("100ms", 0.1),
    ],
)
def test_a_duration_is_read_as_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("60x", '"x" is no unit'),
        ("60", "the unit is missing"),
        ("60sec", 'write "60s"'),
        ("5Minutes", 'write "5m"'),
        ("-5s", "cannot be negative"),
        ("60S", '"S" is no unit'),
        ("99999d", "more than ten years"),
        ("soon", ""),
        ("", ""),
        ("1e3s", ""),
        ("60s\n", ""),
        ("٣s", ""),
    ],
)
def test_what_is_no_duration_is_told_why(text: str, says: str) -> None:
    with pytest.raises(ValueError) as raised:
        parse_duration(text)
    assert says in str(raised.value)
    assert bool(says) is bool(str(raised.value))


@pytest.mark.parametrize(
    ("text", "size"),
    [("1MiB", 1024**2), ("16KiB", 16384), ("10kB", 10_000), ("1.5KiB", 1536), ("0B", 0), ("2GB", 2 * 10**9), ("3 MB", 3_000_000)],
)
def test_a_size_is_read_as_bytes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("1mb", 'write "1MB"'),
        ("1M", 'write "1MiB"'),
        ("10KB", 'write "10kB"'),
        ("10 bytes", 'write "10B"'),
        ("10", "the unit is missing"),
        ("10TB", '"TB" is no unit'),
        ("0.3B", "no whole number of bytes"),
        ("99999999999GiB", "more than any machine holds"),
        ("-1B", "cannot be negative"),
        ("large", ""),
    ],
)
def test_what_is_no_size_is_told_why(text: str, says: str) -> None:
    with pytest.raises(ValueError) as raised:
        parse_size(text)
    assert says in str(raised.value)
    assert bool(says) is bool(str(raised.value))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (100.0, "100s"),
        (300.0, "300s"),
        (86400.0, "24h"),
        (0.1, "100ms"),
        (1.5, "1.5s"),
        (0.0, "0s"),
        (60.0, "60s"),
        (90061.0, "90061s"),
    ],
)
def test_a_duration_is_written_short(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"), [(1024**2, "1MiB"), (512 * 1024**2, "512MiB"), (16384, "16KiB"), (1000, "1000B"), (0, "0B")]
)
def test_a_size_is_written_short(size: int, text: str) -> None:
    assert format_size(size) == text


@given(st.integers(min_value=0, max_value=10 * 365 * 86_400_000))
def test_what_format_duration_writes_parse_duration_reads(milliseconds: int) -> None:
    assert parse_duration(format_duration(milliseconds / 1000)) == pytest.approx(milliseconds / 1000, abs=1e-9)


@given(st.integers(min_value=0, max_value=2**53))
def test_what_format_size_writes_parse_size_reads(size: int) -> None:
    assert parse_size(format_size(size)) == size


@given(st.text())
def test_any_text_is_a_quantity_or_a_value_error(text: str) -> None:
    for parse in (parse_duration, parse_size):
        with contextlib.suppress(ValueError):
            assert parse(text) >= 0
