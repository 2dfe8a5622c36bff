"""The log on Kafka for the tools: a stretch of it merged by time, and what comes from there on."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from monstermq.moments import Begin, LogPosition
from monstermq_mcp.kafka.matching import Wanted
from monstermq_shared.bus.control import decode_facts
from monstermq_shared.bus.facts import Marker
from monstermq_shared.bus.fences import Fences
from monstermq_shared.bus.header import KIND_SHIFT, STAMPED, Kind
from monstermq_shared.bus.kafka.log import KafkaLog
from monstermq_shared.bus.ports import Entry, LogReader, RecordBatch
from monstermq_shared.errors import (
    BusGap,
    BusUnavailable,
    ConfigError,
    InvalidRecord,
    StartupError,
    UnknownFact,
)
from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.records import StampedRecord

READ_S = 30.0
"""How long the record at a position may take to come."""


class Standing(NamedTuple):
    """An entry, and what it is ordered by: in its partition never backwards."""

    time_ms: int
    partition: int
    offset: int
    entry: Entry

    @property
    def position(self) -> str:
        """Where it stands, as people write it."""
        return f"{self.partition}:{self.offset}"


@dataclass(slots=True)
class Stretch:
    """Part of a log.

    Attributes:
        begins: Partition -> the first offset.
        ends: Partition -> the offset behind the last one.
        since_ms: What is older is left out, though it stands in between.
        until_ms: The same of what is not older than this; None: nothing.
        missing: Partition -> records that were asked for and are deleted.
    """

    begins: dict[int, int]
    ends: dict[int, int]
    since_ms: int = 0
    until_ms: int | None = None
    missing: dict[int, int] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """How many records it has."""
        return sum(self.ends[each] - begin for each, begin in self.begins.items())


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


async def _stretch_of(log: KafkaLog, begin: Begin | None, until_ms: int | None) -> Stretch:
    firsts, ends = dict(await log.first_positions()), dict(await log.end_positions())
    begins, since_ms = ends, 0
    if isinstance(begin, LogPosition):
        since_ms = await _time_at(log, begin, firsts, ends)
    elif begin is not None:
        since_ms = begin.time_ms
    if begin is not None:
        begins = {**ends, **(await log.positions_since(since_ms))} if since_ms else firsts
    if until_ms is not None:
        # Two latenesses later nothing that is older can follow any more (R7).
        ends = ends | dict(await log.positions_since(until_ms + 2 * log.lateness_ms))
    if isinstance(begin, LogPosition):
        begins = begins | {begin.partition: begin.offset}
    begins = {each: min(max(at, firsts[each]), ends[each]) for each, at in begins.items()}
    return Stretch(begins, ends, since_ms, until_ms)


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
    reader = log.read({at.partition: at.offset})
    try:
        async with asyncio.timeout(READ_S):
            async for batch in reader:
                # A double that was dropped leaves its place to the next one.
                if batch.entries:
                    return max(0, batch.entries[0].time_ms)
    except (BusGap, TimeoutError) as exc:
        raise StartupError(
            f"position {at} cannot be read: {str(exc) or 'Kafka does not answer'}",
            exit_code=ExitCode.BUS_UNREACHABLE,
        ) from exc
    finally:
        await reader.aclose()
    return 0


@dataclass(slots=True)
class ScanCounts:
    """What a scan has met.

    Attributes:
        records: All, those included that were not wanted.
        foreign: What is no record of ours, or cannot be read.
        fenced: Publishes of dead connections, which do not count (R3).
        lost: Records that were deleted before they could be read, at most.
    """

    records: int = 0
    foreign: int = 0
    fenced: int = 0
    lost: int = 0


class Picker:
    """Picks the entries that are wanted and count.

    Args:
        filters: Topics and filters.
        lateness_ms: L of the log.
        control: Control records are wanted, too.
    """

    def __init__(self, filters: Sequence[str], lateness_ms: int, *, control: bool) -> None:
        self.counts = ScanCounts()
        self._wanted = Wanted(filters)
        self._control = control
        self._lateness_ms = lateness_ms
        self._fences: dict[int, Fences] = {}

    def picked(
        self, batch: RecordBatch, since_ms: int, until_ms: int | None, newest_ms: int = -1
    ) -> tuple[list[Standing], int]:
        """Return the entries of a batch that are of a time, in order, and the newest time.

        Args:
            batch: Of one partition.
            since_ms: The earliest time, inclusive.
            until_ms: The latest, exclusive; None: there is none.
            newest_ms: What an entry is ordered by is no older than this, nor than what stood
                before it in its partition, whether that is picked or not: so it is the same
                however Kafka has cut the log into batches.
        """
        takes, partition, found = self._wanted.takes, batch.partition, []
        self.counts.records += batch.upto - batch.first
        for entry in batch.entries:
            flags, time_ms, counts = entry.flags, entry.time_ms, True
            # Plain messages are 0 to 7 in the header's first byte: nearly all of them.
            if flags >= STAMPED:
                if entry.foreign:  # whose time may be any number
                    self.counts.foreign += 1
                    continue
                counts = self._counts(partition, entry)
            newest_ms = max(newest_ms, time_ms)
            if time_ms < since_ms or (until_ms is not None and time_ms >= until_ms):
                continue
            if counts and (flags >> KIND_SHIFT or takes(entry.topic)):
                found.append(Standing(newest_ms, partition, entry.offset, entry))
        return found, newest_ms

    def _counts(self, partition: int, entry: Entry) -> bool:
        fences = self._fences.setdefault(partition, Fences(self._lateness_ms))
        try:
            if entry.kind == Kind.MESSAGE:
                record = entry.record()
                assert isinstance(record, StampedRecord)
                counts = fences.admits(record.client_id, record.epoch)
                self.counts.fenced += not counts
                return counts
            if entry.kind == Kind.CONTROL:
                for fact in decode_facts(entry.record().payload):
                    if isinstance(fact, Marker):
                        fences.mark(fact.client_id, fact.epoch, entry.time_ms)
        except (InvalidRecord, UnknownFact):
            self.counts.foreign += 1
        return self._control


class ReadLog(Protocol):
    """What a scan has to know of its log."""

    def read(self, positions: Mapping[int, int]) -> LogReader:
        """See ``LogPort.read``."""
        ...


class LogScan:
    """Reads a stretch, and what comes after it.

    Args:
        log: The log.
        stretch: Where it begins, and where the past ends.
        picker: What is wanted.
        on_gap: Called where records were deleted before they could be read; if it returns, the
            scan goes on behind them.
    """

    def __init__(
        self,
        log: ReadLog,
        stretch: Stretch,
        picker: Picker,
        on_gap: Callable[[BusGap], None],
    ) -> None:
        self._log = log
        self._stretch = stretch
        self._picker = picker
        self._on_gap = on_gap

    async def past(self, advance: Callable[[int], None]) -> AsyncIterator[list[Standing]]:
        """Yield what the stretch has, merged by time, and within a partition as it stands there.

        The order is the same each time.

        One reader for each partition, and each is read only as far as the merge needs it: however
        uneven they are, no more is held than what each has fetched.

        Args:
            advance: Told how many records were read.
        """
        async with AsyncExitStack() as stack:
            lanes: list[_Lane] = []
            for partition, begin in self._stretch.begins.items():
                if begin < self._stretch.ends[partition]:
                    lane = _Lane(partition, begin, self)
                    lanes.append(await stack.enter_async_context(aclosing(lane)))
            reading = lanes
            while reading:
                needed = [lane for lane in reading if not lane.standing]
                for read in await asyncio.gather(*(lane.read() for lane in needed)):
                    advance(read)
                reading = [lane for lane in reading if not lane.is_done]
                # What a lane brings next is behind its newest time, and of two that are of the
                # same millisecond the lower partition is first: whoever reads the log again, in
                # other batches, gets the same order.
                bound = min(((lane.time_ms, lane.partition) for lane in reading), default=None)
                merged = sorted(at for lane in lanes for at in lane.take(bound))
                if merged:
                    yield merged
                lanes = [lane for lane in lanes if lane.standing or not lane.is_done]

    async def live(self) -> AsyncIterator[list[Standing]]:
        """Yield what is appended behind the stretch, as it comes, until the bus is closed."""
        positions = dict(self._stretch.ends)
        ended = False
        while not ended:
            reader = self._log.read(positions)
            try:
                async for batch in reader:
                    positions[batch.partition] = batch.upto
                    found, _ = self._picker.picked(batch, 0, None)
                    if found:
                        yield found
                ended = True
            except BusGap as gap:
                self.told(gap)
                positions[gap.partition] = gap.found
            finally:
                await reader.aclose()

    def told(self, gap: BusGap) -> None:
        """Count what is lost, and tell it."""
        self._picker.counts.lost += gap.lost or 0
        self._on_gap(gap)

    def open(self, partition: int, offset: int) -> LogReader:
        """Return a reader of one partition."""
        return self._log.read({partition: offset})

    def picked(self, batch: RecordBatch, newest_ms: int) -> tuple[list[Standing], int]:
        """Return what is wanted of a batch of the stretch; see ``Picker.picked``."""
        end = self._stretch.ends[batch.partition]
        if batch.upto > end:
            entries = [entry for entry in batch.entries if entry.offset < end]
            batch = RecordBatch(batch.partition, batch.first, end, entries)
        stretch = self._stretch
        return self._picker.picked(batch, stretch.since_ms, stretch.until_ms, newest_ms)

    def end_of(self, partition: int) -> int:
        """Return where the stretch ends."""
        return self._stretch.ends[partition]


class _Lane:
    """One partition of a merge.

    Args:
        partition: Which.
        offset: Where it begins.
        scan: What it belongs to.

    Attributes:
        partition: See above.
        standing: What was read and not yet taken, in order.
        time_ms: Nothing older follows: the newest time so far.
        is_done: It is read to its end.
    """

    def __init__(self, partition: int, offset: int, scan: LogScan) -> None:
        self.standing: deque[Standing] = deque()
        self.time_ms = -1
        self.is_done = False
        self.partition = partition
        self._next = offset
        self._scan = scan
        self._reader = scan.open(partition, offset)

    async def read(self) -> int:
        """Read the next batch; return how many records it had."""
        before = self._next
        try:
            batch = await anext(self._reader)
        except StopAsyncIteration:
            self.is_done = True
            return 0
        except BusGap as gap:
            self._scan.told(gap)
            await self._reader.aclose()
            end = self._scan.end_of(self.partition)
            self._next = min(max(gap.found, self._next), end)
            self._reader = self._scan.open(self.partition, self._next)
        else:
            self._next = min(batch.upto, self._scan.end_of(self.partition))
            found, self.time_ms = self._scan.picked(batch, self.time_ms)
            self.standing += found
        self.is_done = self._next >= self._scan.end_of(self.partition)
        return self._next - before

    def take(self, bound: tuple[int, int] | None) -> Sequence[Standing]:
        """Return, and forget, what is not behind a time and partition; None: all."""
        standing, taken = self.standing, []
        if bound is None or (standing and standing[-1][:2] <= bound):
            taken = list(standing)
            standing.clear()
        while standing and bound is not None and standing[0][:2] <= bound:
            taken.append(standing.popleft())
        return taken

    async def aclose(self) -> None:
        """Close its reader."""
        await self._reader.aclose()
