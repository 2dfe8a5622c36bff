"""The log on Kafka for the tools: a stretch of it merged by time, and what comes from there on."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from monstermq.stretch import Stretch
from monstermq_shared.bus.control import decode_facts
from monstermq_shared.bus.facts import Marker
from monstermq_shared.bus.fences import Fences
from monstermq_shared.bus.header import KIND_SHIFT, STAMPED, Kind
from monstermq_shared.bus.ports import Entry, LogReader, RecordBatch
from monstermq_shared.bus.wanted import Wanted
from monstermq_shared.errors import BusGap, InvalidRecord, UnknownFact
from monstermq_shared.records import StampedRecord

LATE_MS = 120_000
"""A record that is older than one before it by more, which edges' clocks can bring about, is put
only so far back. Without such a bound a partition with nothing that is wanted would hold the merge
until it is read to its end."""


class PositionedEntry(NamedTuple):
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
class ScanCounts:
    """What a scan has met.

    Attributes:
        records: All, those included that were not wanted.
        foreign: What is no record of ours, or cannot be read.
        fenced: Publishes of dead connections, which do not count (R3).
    """

    records: int = 0
    foreign: int = 0
    fenced: int = 0


@dataclass(slots=True)
class Before:
    """What stood before a batch in its partition: what the order of a merge depends on.

    It depends on nothing else, so it is the same however Kafka has cut the log into batches.

    Attributes:
        picked_ms: What the last entry that was picked is ordered by.
        newest_ms: The newest time of all entries that are ours, picked or not.
    """

    picked_ms: int = -1
    newest_ms: int = -1

    @property
    def time_ms(self) -> int:
        """Nothing that is ordered by an older time can follow."""
        return max(self.picked_ms, self.newest_ms - LATE_MS)


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
        self, batch: RecordBatch, since_ms: int, until_ms: int | None, before: "Before"
    ) -> list[PositionedEntry]:
        """Return the entries of a batch that are of a time, in order.

        Args:
            batch: Of one partition.
            since_ms: The earliest time, inclusive.
            until_ms: The latest, exclusive; None: there is none.
            before: What stood before the batch; it is brought up to date.
        """
        takes, partition, found = self._wanted.takes, batch.partition, []
        picked_ms, newest_ms = before.picked_ms, before.newest_ms
        late_ms = newest_ms - LATE_MS
        self.counts.records += batch.upto - batch.first
        for entry in batch.entries:
            flags, time_ms, counts = entry.flags, entry.time_ms, True
            # Plain messages are 0 to 7 in the header's first byte: nearly all of them.
            if flags >= STAMPED:
                if entry.foreign:  # whose time may be any number
                    self.counts.foreign += 1
                    continue
                counts = self._counts(partition, entry)
            if time_ms > newest_ms:
                newest_ms, late_ms = time_ms, time_ms - LATE_MS
            if time_ms < since_ms or (until_ms is not None and time_ms >= until_ms):
                continue
            if counts and (flags >> KIND_SHIFT or takes(entry.topic)):
                picked_ms = max(picked_ms, time_ms, late_ms)
                found.append(PositionedEntry(picked_ms, partition, entry.offset, entry))
        before.picked_ms, before.newest_ms = picked_ms, newest_ms
        return found

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

    Attributes:
        on_gap: See above.
        positions: Partition -> up to where ``live`` has come.
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
        self.on_gap = on_gap
        self.positions = dict(stretch.ends)

    async def past(self, advance: Callable[[int], None]) -> AsyncIterator[list[PositionedEntry]]:
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
                # Of two that are ordered by the same time the lower partition is first: whoever
                # reads the log again, in other batches, gets the same order.
                bound = min(((lane.time_ms, lane.partition) for lane in reading), default=None)
                merged = sorted(at for lane in lanes for at in lane.take(bound))
                if merged:
                    yield merged
                lanes = [lane for lane in lanes if lane.standing or not lane.is_done]

    async def live(self) -> AsyncIterator[list[PositionedEntry]]:
        """Yield what is appended behind the stretch, as it comes, until the bus is closed."""
        positions, ended = self.positions, False
        while not ended:
            reader = self._log.read(positions)
            try:
                async for batch in reader:
                    positions[batch.partition] = batch.upto
                    found = self._picker.picked(batch, 0, self._stretch.until_ms, Before())
                    if found:
                        yield found
                ended = True
            except BusGap as gap:
                self.on_gap(gap)
                positions[gap.partition] = gap.found
            finally:
                await reader.aclose()

    def open(self, partition: int, offset: int) -> LogReader:
        """Return a reader of one partition."""
        return self._log.read({partition: offset})

    def picked(self, batch: RecordBatch, before: Before) -> list[PositionedEntry]:
        """Return what is wanted of a batch of the stretch; see ``Picker.picked``."""
        end = self._stretch.ends[batch.partition]
        if batch.upto > end:
            entries = [entry for entry in batch.entries if entry.offset < end]
            batch = RecordBatch(batch.partition, batch.first, end, entries)
        stretch = self._stretch
        since_ms = stretch.since_of(batch.partition)
        found = self._picker.picked(batch, since_ms, stretch.until_ms, before)
        first = stretch.goes_on_at.get(batch.partition, 0)
        return found if batch.first >= first else [at for at in found if at.offset >= first]

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
        is_done: It is read to its end.
    """

    def __init__(self, partition: int, offset: int, scan: LogScan) -> None:
        self.standing: deque[PositionedEntry] = deque()
        self.is_done = False
        self.partition = partition
        self._next = offset
        self._scan = scan
        self._before = Before()
        self._reader = scan.open(partition, offset)

    @property
    def time_ms(self) -> int:
        """See ``Before.time_ms``."""
        return self._before.time_ms

    async def read(self) -> int:
        """Read the next batch; return how many records it had."""
        before = self._next
        try:
            batch = await anext(self._reader)
        except StopAsyncIteration:
            self.is_done = True
            return 0
        except BusGap as gap:
            self._scan.on_gap(gap)
            await self._reader.aclose()
            end = self._scan.end_of(self.partition)
            self._next = min(max(gap.found, self._next), end)
            self._reader = self._scan.open(self.partition, self._next)
        else:
            self._next = min(batch.upto, self._scan.end_of(self.partition))
            self.standing += self._scan.picked(batch, self._before)
        self.is_done = self._next >= self._scan.end_of(self.partition)
        return self._next - before

    def take(self, bound: tuple[int, int] | None) -> Sequence[PositionedEntry]:
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
