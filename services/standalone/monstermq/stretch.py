"""Which part of a log on Kafka a tool reads."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from monstermq.moments import Begin, LogPosition
from monstermq.reaching import first_entry
from monstermq_shared.bus.kafka.log import KafkaLog
from monstermq_shared.errors import BusUnavailable, ConfigError, StartupError
from monstermq_shared.exit_codes import ExitCode

READ_S = 30.0
"""How long the record at a position may take to come."""


@dataclass(slots=True)
class Stretch:
    """Part of a log.

    Attributes:
        begins: Partition -> the first offset.
        ends: Partition -> the offset behind the last one.
        since_ms: What is older is left out, though it stands in between.
        until_ms: The same of what is not older than this; None: nothing.
        whole: The partition of which nothing is too old: it begins at a position.
        cut: Partition -> its first offset, where what stood below that is deleted and may have
            been asked for.
        goes_on_at: Partition -> the first offset that counts; what is read before it only tells
            which of those behind it are doubles (R1), or fenced (R3). Empty: all count.
    """

    begins: dict[int, int]
    ends: dict[int, int]
    since_ms: int = 0
    until_ms: int | None = None
    whole: int | None = None
    cut: Mapping[int, int] = field(default_factory=dict)
    goes_on_at: Mapping[int, int] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """How many records it has."""
        return sum(self.ends[each] - begin for each, begin in self.begins.items())

    def since_of(self, partition: int) -> int:
        """Return the earliest time of a partition, in milliseconds since 1970-01-01 UTC."""
        return 0 if partition == self.whole else self.since_ms

    @property
    def warning(self) -> str | None:
        """What has to be said of it, None if it has all that was asked for."""
        if not self.cut:
            return None
        firsts = ", ".join(f"{each}:{first}" for each, first in sorted(self.cut.items()))
        return (
            f"the log does not go back to all of that: what stood before {firsts} is deleted "
            "(Kafka.Bus.RetentionHours)"
        )


async def stretch_of(log: KafkaLog, begin: Begin | None, until_ms: int | None) -> Stretch:
    """Find where a stretch begins and ends.

    Args:
        log: Of what.
        begin: The first record or time; None: what is appended from now on.
        until_ms: The time at which it ends, exclusive; None: what is there now.

    Raises:
        ConfigError: The position is not there.
        StartupError: Kafka does not answer.
    """
    try:
        return await _stretch_of(log, begin, until_ms)
    except BusUnavailable as exc:
        raise StartupError(str(exc), exit_code=ExitCode.BUS_UNREACHABLE) from exc


async def rest_of(log: KafkaLog, positions: Mapping[int, int], until_ms: int | None) -> Stretch:
    """Return the stretch from positions to what is there now.

    Raises:
        StartupError: Kafka does not answer.
    """
    try:
        ends = dict(await log.end_positions())
    except BusUnavailable as exc:
        raise StartupError(str(exc), exit_code=ExitCode.BUS_UNREACHABLE) from exc
    return Stretch(dict(positions), ends, 0, until_ms)


async def _stretch_of(log: KafkaLog, begin: Begin | None, until_ms: int | None) -> Stretch:
    firsts, ends = dict(await log.first_positions()), dict(await log.end_positions())
    stretch = Stretch(dict(ends), ends, 0, until_ms)
    if isinstance(begin, LogPosition):
        stretch.since_ms = await _time_at(log, begin, firsts, ends)
        stretch.whole = begin.partition
    elif begin is not None:
        stretch.since_ms = begin.time_ms
    if begin is not None:
        stretch.begins |= firsts
    if stretch.since_ms:
        since = ends | dict(await log.positions_since(stretch.since_ms))
        stretch.cut = {
            each: first
            for each, first in firsts.items()
            if 0 < first < ends[each] and since[each] <= first and each != stretch.whole
        }
        stretch.begins |= since
    if isinstance(begin, LogPosition):
        stretch.begins[begin.partition] = begin.offset
    if until_ms is not None:
        # Two latenesses later nothing that is older can follow any more (R7).
        stretch.ends = ends | dict(await log.positions_since(until_ms + 2 * log.lateness_ms))
    for each, at in stretch.begins.items():
        stretch.begins[each] = min(max(at, firsts[each]), stretch.ends[each])
    return stretch


async def _time_at(
    log: KafkaLog, at: LogPosition, firsts: Mapping[int, int], ends: Mapping[int, int]
) -> int:
    """Return the time of a record."""
    if at.partition not in ends:
        raise ConfigError(f"position {at}: the log has the partitions 0 to {len(ends) - 1}")
    first, end = firsts[at.partition], ends[at.partition]
    if at.offset < first:
        raise ConfigError(
            f"position {at}: what stood there is deleted; the partition begins with "
            f"{at.partition}:{first} now"
        )
    if at.offset >= end:
        raise ConfigError(
            f"position {at} is not there yet: the partition's next record will be "
            f"{at.partition}:{end}"
        )
    # A double that was dropped leaves its place to the next one.
    entry = await first_entry(log, at.partition, at.offset, READ_S)
    if entry is None:
        raise StartupError(
            f"position {at} cannot be read: Kafka does not answer, or it was deleted just now",
            exit_code=ExitCode.BUS_UNREACHABLE,
        )
    return max(0, entry.time_ms)


async def go_on_at(log: KafkaLog, stretch: Stretch, positions: Mapping[int, int]) -> None:
    """Begin a stretch where an earlier call has stopped.

    Args:
        log: Of what.
        stretch: As that call had it; it is changed.
        positions: Partition -> the next offset, of all partitions.

    Raises:
        ConfigError: There is no such position, or one is missing.
        StartupError: Kafka does not answer, or what was to be read next is deleted.
    """
    try:
        await _go_on_at(log, stretch, positions)
    except BusUnavailable as exc:
        raise StartupError(str(exc), exit_code=ExitCode.BUS_UNREACHABLE) from exc


async def _go_on_at(log: KafkaLog, stretch: Stretch, positions: Mapping[int, int]) -> None:
    firsts, ends = await log.first_positions(), await log.end_positions()
    if positions.keys() != ends.keys():
        raise ConfigError(
            f"--continue: the log has the partitions 0 to {len(ends) - 1}; give a position of each"
        )
    for each, offset in positions.items():
        if offset > ends[each]:
            raise ConfigError(
                f"--continue: {each}:{offset} is not there yet: the partition's next record will "
                f"be {each}:{ends[each]}"
            )
    gone = [each for each in sorted(positions) if positions[each] < firsts[each]]
    if gone:
        what = ", ".join(f"{each}:{positions[each]} to {each}:{firsts[each] - 1}" for each in gone)
        left = ",".join(f"{each}:{max(positions[each], firsts[each])}" for each in sorted(ends))
        raise StartupError(
            f"retention has deleted what was to be sent next: {what}; --continue {left} sends what "
            "is left",
            exit_code=ExitCode.FAILURE,
        )
    reading = [each for each, at in positions.items() if at < stretch.ends[each]]
    entries = await asyncio.gather(
        *(first_entry(log, each, positions[each], READ_S) for each in reading)
    )
    times = [entry.time_ms for entry in entries if entry is not None]
    # Doubles and what is fenced stand within two latenesses of what makes them that (R1, R3).
    since_ms = max(0, min(times, default=0) - 2 * log.lateness_ms)
    since = await log.positions_since(since_ms) if times else {}
    stretch.begins = {
        each: min(max(stretch.begins[each], since.get(each, at)), at, stretch.ends[each])
        for each, at in positions.items()
    }
    stretch.cut, stretch.goes_on_at = {}, positions
