"""A log of one partition in memory: the newest records, as many as a bound allows.

A reader that falls so far behind that its records are gone is told so; it never holds a writer
back, and never makes the log larger.
"""

import asyncio
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from operator import attrgetter
from typing import Protocol, Self

from monstermq_shared.bus.header import KIND_SHIFT, flags_of
from monstermq_shared.bus.ports import RecordBatch, Stamp
from monstermq_shared.bus.runs import Runs
from monstermq_shared.errors import BusGap
from monstermq_shared.records import Record

BATCH_RECORDS_MAX = 1000
"""Records a reader gets at a time; in between the event loop does other things."""

ENTRY_OVERHEAD = 400
"""Bytes a kept record takes beside its texts, so that a bound in bytes bounds empty ones too."""

_offset_of = attrgetter("offset")


def size_of(record: Record) -> int:
    """Return about how many bytes a record takes in memory."""
    return len(record.payload) + len(record.topic) + ENTRY_OVERHEAD


class RingEntry:
    """A record in memory, as its readers meet it; see ``ports.Entry``."""

    __slots__ = ("_record", "offset", "sequence", "writer")

    foreign = False

    def __init__(self, record: Record, writer: bytes, sequence: int) -> None:
        self.offset = record.offset
        self.writer = writer
        self.sequence = sequence
        self._record = record

    @property
    def key(self) -> str:
        """See ``Entry.key``."""
        return self._record.topic

    @property
    def topic(self) -> bytes:
        """See ``Entry.topic``."""
        return self._record.topic.encode()

    @property
    def flags(self) -> int:
        """See ``Entry.flags``."""
        return flags_of(self._record)

    @property
    def kind(self) -> int:
        """See ``Entry.kind``."""
        return self.flags >> KIND_SHIFT

    @property
    def stamp(self) -> Stamp:
        """See ``Entry.stamp``."""
        return Stamp(self.writer, self.sequence)

    @property
    def time_ms(self) -> int:
        """See ``Entry.time_ms``."""
        return self._record.timestamp_ms

    @property
    def size(self) -> int:
        """See ``Entry.size``."""
        return len(self._record.payload) + len(self._record.topic)

    def record(self) -> Record:
        """Return the record; it never has to be decoded."""
        return self._record


def unread(entries: list[RingEntry], runs: Runs | None) -> list[RingEntry]:
    """Return the entries that do not stand below, too, as far as a reader was told (R1)."""
    if runs is None:
        return entries
    return [entry for entry in entries if runs.is_new(entry.writer, entry.sequence, entry.time_ms)]


class Ring:
    """Entries in order of offset, bounded in bytes.

    Attributes:
        first: Everything from this offset on is there.
        size: Bytes of all entries.
        dropped: Entries that made room for others.
    """

    def __init__(self, first: int, size_max: int) -> None:
        self.first = first
        self.size = 0
        self.dropped = 0
        self._size_max = size_max
        self._entries: list[RingEntry] = []

    def __len__(self) -> int:
        """Return how many entries are kept."""
        return len(self._entries)

    def extend(self, entries: Iterable[RingEntry]) -> None:
        """Add the newest entries; the oldest quarter goes when they are too many."""
        for entry in entries:
            self._entries.append(entry)
            self.size += size_of(entry.record())
        if self.size > self._size_max:
            self._make_room()

    def _make_room(self) -> None:
        # More than needed, because what is left has to move up each time.
        target = self._size_max * 3 // 4
        size = self.size
        for count, entry in enumerate(self._entries, 1):
            size -= size_of(entry.record())
            if size <= target:
                self.dropped += count
                self.forget_below(entry.offset + 1)
                return

    def forget_below(self, offset: int) -> None:
        """Drop the entries below an offset."""
        if offset > self.first:
            self.first = offset
            count = bisect_left(self._entries, offset, key=_offset_of)
            self.size -= sum(size_of(entry.record()) for entry in self._entries[:count])
            del self._entries[:count]

    def since(self, offset: int) -> list[RingEntry]:
        """Return the oldest entries from an offset on, at most ``BATCH_RECORDS_MAX``."""
        start = bisect_left(self._entries, offset, key=_offset_of)
        return self._entries[start : start + BATCH_RECORDS_MAX]


class Offsets(Protocol):
    """Where a log's offsets come from.

    Attributes:
        next_offset: What the next record gets.
    """

    next_offset: int

    def is_older(self, offset: int) -> bool:
        """Whether the offset belongs to an earlier run, whose records are not here."""
        ...


class RingLog:
    """What both logs of a bus in memory have in common: readers, and what is kept for them.

    Attributes:
        partitions: One.
        kept: The records readers can still get.
    """

    partitions = 1

    def __init__(self, offsets: Offsets, size_max: int) -> None:
        self._offsets = offsets
        self._readers: dict[RingReader, None] = {}
        self._closed = False
        self.kept = Ring(offsets.next_offset, size_max)

    @property
    def readers(self) -> int:
        """How many readers are open."""
        return len(self._readers)

    def partition_of(self, key: str) -> int:
        """See ``LogPort.partition_of``."""
        return 0

    def read(
        self, positions: Mapping[int, int], known: Mapping[int, Runs] | None = None
    ) -> "RingReader":
        """See ``LogPort.read``."""
        if set(positions) != {0}:
            raise ValueError(f"there is one partition, 0, to read; not {sorted(positions)}")
        runs = None if known is None or 0 not in known else known[0].copy()
        reader = RingReader(self, positions[0], runs)
        if not self._closed:
            self._readers[reader] = None
        return reader

    async def end_positions(self) -> Mapping[int, int]:
        """See ``LogPort.end_positions``."""
        return {0: self._offsets.next_offset}

    def close(self) -> None:
        """Let every reader end."""
        self._closed = True
        for reader in list(self._readers):
            self.drop(reader)

    def drop(self, reader: "RingReader") -> None:
        """Forget a reader."""
        self._readers.pop(reader, None)
        reader.wake.set()

    def is_open(self, reader: "RingReader") -> bool:
        """Whether there is more to come for this reader."""
        return reader in self._readers

    def next_batch(self, reader: "RingReader") -> RecordBatch | None:
        """Return what a reader has not had, and move it on; None if there is nothing.

        Raises:
            BusGap: It is below what is kept, or above the end.
        """
        first, end, kept = reader.position, self._offsets.next_offset, self.kept
        if not kept.first <= first <= end:
            self._refuse(first)
        entries = kept.since(first)
        if not entries:
            return None
        # Offsets are given and their records shown in one go, so below the end all is shown.
        upto = end if len(entries) < BATCH_RECORDS_MAX else entries[-1].offset + 1
        reader.position = upto
        self._moved()
        return RecordBatch(0, first, upto, unread(entries, reader.runs))

    def _refuse(self, offset: int) -> None:
        end = self._offsets.next_offset
        if offset > end:
            raise BusGap(0, offset, end, lost=None)
        first = self.kept.first
        older = self._offsets.is_older(offset)
        raise BusGap(0, offset, first, lost=None if older else first - offset)

    def _moved(self) -> None:
        """A reader has moved on; what nobody needs any more may go."""

    def _keep(self, entries: Iterable[RingEntry]) -> None:
        self.kept.extend(entries)
        for reader in self._readers:
            reader.wake.set()


class RingReader:
    """See ``ports.LogReader``.

    Attributes:
        position: The offset it reads next.
        runs: What was read below, if it was told (R1).
        wake: Set when it has to look again.
    """

    def __init__(self, log: RingLog, position: int, runs: Runs | None) -> None:
        self.position = position
        self.runs = runs
        self.wake = asyncio.Event()
        self._log = log

    def __aiter__(self) -> Self:
        """Return itself."""
        return self

    async def __anext__(self) -> RecordBatch:
        """See ``LogReader.__anext__``."""
        # A reader that always finds something must not keep the loop from those who write it.
        await asyncio.sleep(0)
        while self._log.is_open(self):
            self.wake.clear()
            batch = self._log.next_batch(self)
            if batch is not None:
                return batch
            await self.wake.wait()
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """See ``LogReader.aclose``."""
        self._log.drop(self)
