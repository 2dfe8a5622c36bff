"""Moments as people and models write them: ISO 8601, to whole milliseconds of UTC."""

import re
from datetime import UTC, datetime, timedelta

from monstermq_shared.errors import QueryRefused
from monstermq_shared.records import TIMESTAMP_MS_MAX

_SHAPE = re.compile(
    r"(\d{4}-\d{2}-\d{2})"
    r"(?:[T ](\d{2}:\d{2}(?::\d{2})?)(?:[.,](\d{1,9}))?)?"
    r"\s?(Z|[+-]\d{2}:?\d{2})?",
    re.ASCII | re.IGNORECASE,
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SHOWN_MAX = 40


def parse_time(text: str) -> int:
    """Return the milliseconds since 1970-01-01 UTC of a moment.

    A date alone is its midnight, a time without an offset is UTC, and what is finer than a
    millisecond is cut off.

    Raises:
        QueryRefused: It is not of that shape, no such moment exists, or it lies outside the years
            1970 to 9999.
    """
    found = _SHAPE.fullmatch(text.strip()) if len(text) <= _SHOWN_MAX else None
    if found is None:
        raise _refused(text)
    date, clock, fraction, offset = found.groups()
    zone = "+00:00" if offset is None or offset in {"Z", "z"} else offset
    if ":" not in zone:
        zone = f"{zone[:3]}:{zone[3:]}"
    try:
        moment = datetime.fromisoformat(f"{date}T{clock or '00:00'}{zone}")
        since = (moment - _EPOCH) // timedelta(milliseconds=1)
    except (ValueError, OverflowError) as exc:
        raise _refused(text) from exc
    milliseconds = since + int(f"{fraction or '0':0<9}"[:3])
    if not 0 <= milliseconds <= TIMESTAMP_MS_MAX:
        raise QueryRefused(f"the time {text!r} lies outside the years 1970 to 9999")
    return milliseconds


def _refused(text: str) -> QueryRefused:
    shown = text if len(text) <= _SHOWN_MAX else f"{text[:_SHOWN_MAX]}..."
    return QueryRefused(
        f"{shown!r} is not a time; write it as ISO 8601, such as 2026-01-15T10:30:00Z or "
        "2026-01-15T11:30:00.250+01:00"
    )
