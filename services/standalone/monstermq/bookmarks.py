"""Where a replay goes on after a break: each kind of source has its own way of saying it."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from monstermq_shared.records import format_timestamp


class Mark(NamedTuple):
    """Where a message stands in its source.

    Attributes:
        time_ms: Its time, in milliseconds since 1970-01-01 UTC.
        partition, offset: Its position in a log; 0 elsewhere.
    """

    time_ms: int
    partition: int = 0
    offset: int = 0


class Bookmark(Protocol):
    """What has arrived of a source, as options of a command line that goes on behind it."""

    def skipped(self, marks: Sequence[Mark]) -> None:
        """Note messages that were left out as ``--skip`` asks, before any that is passed."""
        ...

    def passed(self, marks: Sequence[Mark]) -> None:
        """Note messages that have arrived, in order."""
        ...

    def options(self, last_ms: int, beyond: Sequence[Mark] = ()) -> str:
        """Return the options.

        Args:
            last_ms: The newest time of all that is to be sent.
            beyond: Messages that count as if they had arrived, too.
        """
        ...


class CountBookmark:
    """How many messages of a file, which stays as it is.

    Args:
        skip: How many an earlier call had sent.
    """

    def __init__(self, skip: int) -> None:
        self._count = skip

    def skipped(self, marks: Sequence[Mark]) -> None:
        """See ``Bookmark``."""

    def passed(self, marks: Sequence[Mark]) -> None:
        """See ``Bookmark``."""
        self._count += len(marks)

    def options(self, _last_ms: int, beyond: Sequence[Mark] = ()) -> str:
        """See ``Bookmark``."""
        return f"--skip {self._count + len(beyond)}"


class TimeBookmark:
    """The last time of an archive group, whose beginning may be deleted meanwhile.

    Args:
        begin_ms: The earliest time that was asked for.
        until_ms: The latest, exclusive; None: what is there.
        skip: How many of the first messages an earlier call had sent.
    """

    def __init__(self, begin_ms: int, until_ms: int | None, skip: int) -> None:
        self._until_ms = until_ms
        # A time, and how many messages of that time and later ones are left out.
        self._at = begin_ms, skip
        self._skipped = -1, 0

    def skipped(self, marks: Sequence[Mark]) -> None:
        """See ``Bookmark``."""
        self._skipped = _behind(self._skipped, marks)

    def passed(self, marks: Sequence[Mark]) -> None:
        """See ``Bookmark``."""
        if marks:
            self._at = self._skipped = _behind(self._skipped, marks)

    def options(self, last_ms: int, beyond: Sequence[Mark] = ()) -> str:
        """See ``Bookmark``."""
        time_ms, count = _behind(self._skipped, beyond) if beyond else self._at
        skip = f" --skip {count}" if count else ""
        return f"{_times(format_timestamp(time_ms), self._until_ms, last_ms)}{skip}"


def _behind(at: tuple[int, int], marks: Sequence[Mark]) -> tuple[int, int]:
    """Return the last time, and how many messages were of that time."""
    time_ms, count = at
    for mark in marks:
        count = count + 1 if mark.time_ms == time_ms else 1
        time_ms = mark.time_ms
    return time_ms, count


class PositionBookmark:
    """The next position of each partition of a log, which says more than a count can.

    What is appended late and what retention deletes changes no position, but it would change
    which message is the thousandth.

    Args:
        begin: What was asked for, as it is written.
        until_ms: The latest time, exclusive; None: what is there.
        begins: Partition -> the first offset.
    """

    def __init__(self, begin: str, until_ms: int | None, begins: Mapping[int, int]) -> None:
        self._begin = begin
        self._until_ms = until_ms
        self._next = dict(begins)

    def skipped(self, marks: Sequence[Mark]) -> None:
        """See ``Bookmark``."""
        self.passed(marks)

    def passed(self, marks: Sequence[Mark]) -> None:
        """See ``Bookmark``."""
        following = self._next
        for _, partition, offset in marks:
            following[partition] = offset + 1

    def options(self, last_ms: int, beyond: Sequence[Mark] = ()) -> str:
        """See ``Bookmark``."""
        following = self._next | {at.partition: at.offset + 1 for at in beyond}
        positions = ",".join(f"{each}:{following[each]}" for each in sorted(following))
        return f"{_times(self._begin, self._until_ms, last_ms)} --continue {positions}"


def _times(begin: str, until_ms: int | None, last_ms: int) -> str:
    """Return from when to when: minutes ago is another time by then."""
    until_ms = last_ms + 1 if until_ms is None else until_ms
    return f"--from {begin} --to {format_timestamp(until_ms)}"
