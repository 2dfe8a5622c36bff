"""Durations as people write them."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monstermq_shared.config import format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("45s", timedelta(seconds=45)),
        ("30m", timedelta(minutes=30)),
        ("12h", timedelta(hours=12)),
        ("7d", timedelta(days=7)),
        ("2w", timedelta(days=14)),
        ("6M", timedelta(days=180)),
        ("1y", timedelta(days=365)),
        ("100y", timedelta(days=36500)),
    ],
)
def test_a_number_and_a_unit_is_a_duration(text: str, duration: timedelta) -> None:
    assert parse_duration(text) == duration


@pytest.mark.parametrize(
    "value",
    ["", "7", "d", "0s", "-1d", "7 d", "7D", "1.5h", "1d12h", "7d\n", "\u0667d", 7, True, None],
)
def test_anything_else_is_refused_with_examples(value: object) -> None:
    with pytest.raises(ValueError, match="such as 45s"):
        parse_duration(value)


@pytest.mark.parametrize("text", ["101y", "9999999999s", "9999999999y"])
def test_more_than_a_century_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="longer than 100y"):
        parse_duration(text)


@given(st.integers(1, 100 * 365 * 86_400))
def test_what_is_formatted_reads_back_the_same(seconds: int) -> None:
    duration = timedelta(seconds=seconds)
    assert parse_duration(format_duration(duration)) == duration
