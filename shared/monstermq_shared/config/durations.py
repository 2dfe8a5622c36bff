"""Durations as the configuration writes them: 45s, 30m, 12h, 7d, 2w, 6M, 1y."""

import re
from datetime import timedelta
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

DURATION_PATTERN = "^[1-9][0-9]{0,9}[smhdwMy]$"
DURATION_MAX = timedelta(days=100 * 365)

_PATTERN = re.compile(DURATION_PATTERN)
# Months and years are lengths here, not calendar dates: retention needs no more.
_UNITS = {
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
    "M": timedelta(days=30),
    "y": timedelta(days=365),
}


def parse_duration(value: object) -> timedelta:
    """Read a whole number and one unit: s, m, h, d, w, M (30 days) or y (365 days).

    Raises:
        ValueError: It is written otherwise, is zero, or is longer than a hundred years.
    """
    if isinstance(value, timedelta):
        return value
    if not isinstance(value, str) or _PATTERN.fullmatch(value) is None:
        raise ValueError(
            "must be a number and a unit such as 45s, 30m, 12h, 7d, 2w, 6M or 1y; "
            "leave the key out for no limit"
        )
    count = int(value[:-1])
    unit = _UNITS[value[-1]]
    if count > DURATION_MAX // unit:
        raise ValueError("is longer than 100y; leave the key out for no limit")
    return count * unit


def format_duration(duration: timedelta) -> str:
    """Write whole seconds in the largest unit that divides them, so that it reads back the same."""
    for letter in "ydhm":
        if duration % _UNITS[letter] == timedelta():
            return f"{duration // _UNITS[letter]}{letter}"
    return f"{duration // _UNITS['s']}s"


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration),
    WithJsonSchema({"type": "string", "pattern": DURATION_PATTERN, "examples": ["12h", "7d"]}),
]
"""A configuration field that holds a duration."""
