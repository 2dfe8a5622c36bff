"""How far the rows are behind the log, in records and in seconds; and whether nothing moves."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from monstermq_shared.views.log_follower import LogFollower, Phase

STUCK_S = 60.0
"""How long records may be in the log, and nothing be read of them or done, before the process
gives up: consumers have been seen to stop in silence."""


@dataclass(slots=True)
class _Behind:
    """A projection that has not reached the end it had to reach.

    Attributes:
        since_s: Since when, monotonic.
        end: Which.
    """

    since_s: float
    end: int


@dataclass(slots=True)
class Lags:
    """The lag of every projection, over the partitions that are ours.

    Attributes:
        records: Projection -> records it has not committed.
        seconds: Projection -> the age of the oldest of them; 0 if there is none.
    """

    records: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    _behind: dict[tuple[int, str], _Behind] = field(default_factory=dict)

    def look(
        self,
        followers: Mapping[int, LogFollower[Any]],
        ends: Mapping[int, int],
        now_s: float,
    ) -> None:
        """Take note of what is there now.

        Args:
            followers: Of our partitions.
            ends: Partition -> its end; empty while nobody knows.
            now_s: Monotonic seconds.
        """
        records: dict[str, int] = {}
        seconds: dict[str, float] = {}
        behind: dict[tuple[int, str], _Behind] = {}
        for number, follower in followers.items():
            end = ends.get(number)
            for name, reflected in follower.reflected().items():
                records.setdefault(name, 0)
                seconds.setdefault(name, 0.0)
                if end is None or end <= reflected:
                    continue
                at = self._behind.get((number, name))
                if at is None or reflected >= at.end:
                    at = _Behind(now_s, end)
                behind[number, name] = at
                records[name] += end - reflected
                age_s = follower.oldest_age_s()
                seconds[name] = max(seconds[name], now_s - at.since_s, age_s or 0.0)
        self.records, self.seconds, self._behind = records, seconds, behind


class Watchdog:
    """Notices partitions of which nothing is read although there is something.

    A database that is away is no reason: whoever retries is at work.
    """

    def __init__(self) -> None:
        # Partition -> (since when, deliveries then).
        self._waiting: dict[int, tuple[float, int]] = {}

    def forget(self) -> None:
        """Begin anew: there was a time in which nobody looked."""
        self._waiting.clear()

    def stuck(
        self, followers: Mapping[int, LogFollower[Any]], ends: Mapping[int, int], now_s: float
    ) -> list[int]:
        """Return the partitions of which nothing has been read for ``STUCK_S``.

        Args:
            followers: Of our partitions.
            ends: Partition -> its end; empty while Kafka does not answer.
            now_s: Monotonic seconds.
        """
        waiting: dict[int, tuple[float, int]] = {}
        for number, follower in followers.items():
            if not _waits(follower, ends.get(number)):
                continue
            since_s, delivered = self._waiting.get(number, (now_s, follower.delivered))
            if delivered != follower.delivered:
                since_s, delivered = now_s, follower.delivered
            waiting[number] = since_s, delivered
        self._waiting = waiting
        return [number for number, (since_s, _) in waiting.items() if now_s - since_s >= STUCK_S]


def _waits(follower: LogFollower[Any], end: int | None) -> bool:
    """Whether there is something to read, and the follower could take it."""
    if end is None or follower.position is None or follower.phase is not Phase.FOLLOWING:
        return False
    return end > follower.position and not follower.is_busy


STORM_S = 30.0
STORM_ASSIGNMENTS = 30
"""So often in so many seconds are partitions dealt out only if two processes come under one name:
each of them takes it from the other, in silence and without end."""


class StormGlass:
    """Notices that partitions are dealt out without end."""

    def __init__(self) -> None:
        self._began = (0.0, 0)

    def is_storm(self, assignments: int, now_s: float) -> bool:
        """Whether it is so.

        Args:
            assignments: How often partitions were assigned since the start.
            now_s: Monotonic seconds.
        """
        since_s, before = self._began
        if now_s - since_s < STORM_S:
            return False
        self._began = (now_s, assignments)
        return assignments - before >= STORM_ASSIGNMENTS
