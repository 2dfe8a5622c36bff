"""Where a tool begins and ends: times, how long ago, a position in the log, its beginning."""

import re
from argparse import ArgumentTypeError
from dataclasses import dataclass
from datetime import timedelta

from monstermq_shared.clock import SystemClock
from monstermq_shared.config.durations import parse_duration
from monstermq_shared.errors import QueryRefused
from monstermq_shared.queries.times import parse_time

BEGINNING = "beginning"
NOW = "now"

_POSITION = re.compile(r"(\d{1,9}):(\d{1,18})", re.ASCII)
_SHOWN_MAX = 80


@dataclass(frozen=True, slots=True)
class Moment:
    """A time, milliseconds since 1970-01-01 UTC; 0 is the beginning of everything."""

    time_ms: int


@dataclass(frozen=True, slots=True)
class LogPosition:
    """A record of the log, and in the other partitions what is not older."""

    partition: int
    offset: int

    def __str__(self) -> str:
        """Return it as it is written."""
        return f"{self.partition}:{self.offset}"


Begin = Moment | LogPosition


def begin_of(text: str) -> Begin:
    """Read where to begin, for argparse."""
    found = _POSITION.fullmatch(text)
    if found is not None:
        return LogPosition(int(found[1]), int(found[2]))
    if text == BEGINNING:
        return Moment(0)
    try:
        return moment_of(text)
    except ArgumentTypeError as exc:
        raise ArgumentTypeError(f"{exc}, or beginning, or a position such as 3:17") from exc


def positions_of(text: str) -> dict[int, int]:
    """Read partition -> offset, such as 0:17,1:4, for argparse."""
    positions: dict[int, int] = {}
    for each in text.split(","):
        found = _POSITION.fullmatch(each)
        if found is None or int(found[1]) in positions:
            raise ArgumentTypeError(
                f"{each[:_SHOWN_MAX]!r}: positions are written 0:17,1:4, one for each partition"
            )
        positions[int(found[1])] = int(found[2])
    return positions


def moment_of(text: str) -> Moment:
    """Read a time, or how long ago it was, for argparse."""
    if text == NOW:
        return Moment(SystemClock().wall_ms())
    if text.startswith("-"):
        try:
            ago = parse_duration(text[1:])
        except ValueError as exc:
            raise _refused(text) from exc
        return Moment(max(0, SystemClock().wall_ms() - ago // timedelta(milliseconds=1)))
    try:
        return Moment(parse_time(text))
    except QueryRefused as exc:
        raise _refused(text) from exc


def _refused(text: str) -> ArgumentTypeError:
    return ArgumentTypeError(
        f"{text[:_SHOWN_MAX]!r} is no time: write 2026-01-15T10:30:00Z, or -10m for ten minutes "
        "ago (s, m, h, d, w), or now"
    )
