"""Durations and amounts of memory."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotmtc.errors import UsageError
from pilotmtc.units import format_duration, format_memory, parse_duration, parse_memory, parse_rate, type_memory


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (90, 90), ("90", 90), ("1.5", 1.5), ("90s", 90), ("5m", 300), ("2h", 7200), ("1h30m", 5400), ("1d", 86400),
        (" 2H ", 7200), ("0.5h", 1800), ("02:30", 150), ("01:00:00", 3600), ("1-00:00:00", 86400), ("2-12:00", 216000),
    ],
)  # fmt: skip
def test_durations_are_read(text: str | float, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "x", "-5", "5 minutes", "1h30", "inf", "nan", math.inf, -1.0, "1:2:3:4"])
def test_what_is_no_duration_is_refused(text: str | float) -> None:
    with pytest.raises(UsageError, match="not a duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        (512, 512),
        ("512", 512),
        ("1k", 1024),
        ("512M", 512 << 20),
        ("2G", 2 << 30),
        ("1.5GiB", 3 << 29),
        ("1 tb", 1 << 40),
    ],
)
def test_memory_is_read(text: str | int, amount: int) -> None:
    assert parse_memory(text) == amount


@pytest.mark.parametrize("text", ["", "G", "-1", -1, "1X", "1.2.3G"])
def test_what_is_no_memory_is_refused(text: str | int) -> None:
    with pytest.raises(UsageError, match="not an amount of memory"):
        parse_memory(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"), (-0.3, "0s"), (1e-9, "0s"), (0.00002, "0.02ms"), (0.00247, "2.5ms"), (0.0994, "99ms"),
        (0.0996, "0.1s"), (0.42, "0.42s"), (1.25, "1.2s"), (5, "5s"), (9.97, "10s"), (59, "59s"), (59.6, "1m00s"),
        (245, "4m05s"), (7380, "2h03m"), (273600, "3d04h"),
    ],
)  # fmt: skip
def test_durations_are_written(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("amount", "text"), [(512, "512B"), (1536, "1.5K"), (20 << 20, "20M"), (3 << 30, "3.0G"), (5 << 40, "5.0T")]
)
def test_memory_is_written(amount: int, text: str) -> None:
    assert format_memory(amount) == text


@pytest.mark.parametrize(
    ("amount", "text"),
    [(512, "512"), (1536, "1.5K"), (100 << 30, "100G"), (24105 << 20, "23.54G"), (900 << 40, "900T")],
)
def test_memory_is_written_as_it_is_typed(amount: int, text: str) -> None:
    assert type_memory(amount) == text
    assert parse_memory(text) == pytest.approx(amount, rel=1e-3)


@given(st.integers(0, 10**9))
def test_written_durations_are_close_to_what_they_were(seconds: int) -> None:
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, rel=0.05, abs=0.5)


def test_rate_that_would_start_nothing_is_refused() -> None:
    assert (parse_rate("30/min"), parse_rate("0"), parse_rate(0)) == (0.5, 0.0, 0.0)
    with pytest.raises(UsageError, match=r"'0/s' would start nothing: write 0 for no limit"):
        parse_rate("0/s")
