"""A bus of several partitions in memory: what the bus contract holds a bus with partitions to.

It promises no more than a bus on a network does: an append takes a loop turn at least, a doubled
record takes an offset that nobody reads, and the partitions' offsets begin at different numbers, so
that whoever mixes them up is told.
"""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Self

from monstermq_shared.bus.ports import RecordBatch, Stamp
from monstermq_shared.bus.ring import BATCH_RECORDS_MAX, Ring, RingEntry, size_of, unread
from monstermq_shared.bus.room import Room
from monstermq_shared.bus.runs import Runs
from monstermq_shared.errors import BusGap, BusUnavailable
from monstermq_shared.kafka import murmur2
from monstermq_shared.positions import Position
from monstermq_shared.records import Record

PARTITIONS = 3
FIRST_OFFSETS = 1_000
"""Partition 1 begins so many offsets above partition 0, and so on."""

LATENESS_MS = 900_000
"""L of the bus, see ``Runs``."""


class _Partition:
    """One partition.

    Attributes:
        next_offset: What the next record gets.
        kept: The records readers can still get.
        runs: What stands in it.
    """

    def __init__(self, first: int, size_max: int) -> None:
        self.next_offset = first
        self.runs = Runs(LATENESS_MS)
        self.kept = Ring(first, size_max)


class _Append(NamedTuple):
    """A batch that is not durable yet."""

    future: asyncio.Future[Position | None]
    partition: int
    records: Sequence[Record]
    stamp: Stamp
    size: int


class MemoryLog:
    """One log; see ``ports.LogPort``.

    Args:
        partitions: How many.
        size_max: Bytes kept of each partition for readers.
        append_size_max: From so many bytes on that are not durable yet, appends are refused.
    """

    def __init__(self, partitions: int, size_max: int, append_size_max: int) -> None:
        self.partitions = partitions
        self.backlog_size = 0
        self._append_size_max = append_size_max
        self._at = [_Partition(FIRST_OFFSETS * p + 1, size_max) for p in range(partitions)]
        self._under_way: deque[_Append] = deque()
        self._readers: dict[MemoryReader, None] = {}
        self._room = Room(self._has_room)
        self._paused = False
        self._closed = False

    def partition_of(self, key: str) -> int:
        """See ``LogPort.partition_of``."""
        return murmur2.partition_of(key.encode(), self.partitions)

    # -- appending -------------------------------------------------------------------------------

    def append(
        self, partition: int, records: Sequence[Record], stamp: Stamp
    ) -> asyncio.Future[Position | None]:
        """See ``LogPort.append``.

        Raises:
            BusUnavailable, ValueError: See there.
        """
        self._check(partition)
        if not records:
            raise ValueError("a batch without records has no position")
        if self._closed:
            raise BusUnavailable("the bus is closed")
        if not self._has_room():
            raise BusUnavailable(f"{self.backlog_size} bytes are not durable yet")
        loop = asyncio.get_running_loop()
        size = sum(map(size_of, records))
        append = _Append(loop.create_future(), partition, [*records], stamp, size)
        self._under_way.append(append)
        self.backlog_size += size
        loop.call_soon(self._land)
        return append.future

    def _check(self, partition: int) -> None:
        if not 0 <= partition < self.partitions:
            raise ValueError(f"there is no partition {partition}, but {self.partitions} from 0 on")

    def _has_room(self) -> bool:
        return self.backlog_size < self._append_size_max

    async def room(self) -> None:
        """See ``LogPort.room``."""
        await self._room.wait()

    def pause(self) -> None:
        """Let nothing become durable until ``go_on``, as a server that has stopped."""
        self._paused = True

    def go_on(self) -> None:
        """End the pause."""
        self._paused = False
        self._land()

    def _land(self) -> None:
        while self._under_way and not self._paused:
            append = self._under_way.popleft()
            position = self._write(append)
            self.backlog_size -= append.size
            if not append.future.done():
                append.future.set_result(position)
        self._room.look()

    def _write(self, append: _Append) -> Position | None:
        at, writer = self._at[append.partition], append.stamp.writer
        entries: list[RingEntry] = []
        for sequence, record in enumerate(append.records, append.stamp.sequence):
            if at.runs.is_new(writer, sequence, record.timestamp_ms):
                entries.append(RingEntry(record.at(at.next_offset), writer, sequence))
            at.next_offset += 1
        at.kept.extend(entries)
        for reader in self._readers:
            reader.wake.set()
        return Position(append.partition, entries[0].offset) if entries else None

    # -- reading ---------------------------------------------------------------------------------

    def read(
        self, positions: Mapping[int, int], known: Mapping[int, Runs] | None = None
    ) -> "MemoryReader":
        """See ``LogPort.read``."""
        if not positions:
            raise ValueError("a reader needs a partition")
        for partition in positions:
            self._check(partition)
        reader = MemoryReader(self, positions, known or {})
        if not self._closed:
            self._readers[reader] = None
        return reader

    async def end_positions(self) -> Mapping[int, int]:
        """See ``LogPort.end_positions``."""
        return {partition: at.next_offset for partition, at in enumerate(self._at)}

    def forget_below(self, partition: int, offset: int) -> None:
        """Keep no record of the partition below an offset, as if time had passed."""
        self._at[partition].kept.forget_below(offset)

    def is_open(self, reader: "MemoryReader") -> bool:
        """Whether there is more to come for this reader."""
        return reader in self._readers

    def drop(self, reader: "MemoryReader") -> None:
        """Forget a reader."""
        self._readers.pop(reader, None)
        reader.wake.set()

    def next_batch(self, partition: int, first: int, known: Runs | None) -> RecordBatch | None:
        """Return what stands in a partition from an offset on; None if there is nothing yet.

        Raises:
            BusGap: It is below what is kept, or above the end.
        """
        at = self._at[partition]
        end, kept = at.next_offset, at.kept
        if first > end:
            raise BusGap(partition, first, end, lost=None)
        if first < kept.first:
            raise BusGap(partition, first, kept.first, lost=kept.first - first)
        entries = kept.since(first)
        if not entries:
            return None
        upto = end if len(entries) < BATCH_RECORDS_MAX else entries[-1].offset + 1
        return RecordBatch(partition, first, upto, unread(entries, known))

    def close(self) -> None:
        """Let readers end, and what is not durable yet fail."""
        self._closed = True
        self._room.close()
        for reader in list(self._readers):
            self.drop(reader)
        while self._under_way:
            append = self._under_way.popleft()
            self.backlog_size -= append.size
            if not append.future.done():
                append.future.set_exception(BusUnavailable("the bus was closed before"))


class MemoryReader:
    """See ``ports.LogReader``: a batch of each of its partitions in turn.

    Attributes:
        positions: Partition -> the offset it reads next.
        wake: Set when it has to look again.
    """

    def __init__(
        self, log: MemoryLog, positions: Mapping[int, int], known: Mapping[int, Runs]
    ) -> None:
        self.positions = dict(positions)
        self._known = {partition: runs.copy() for partition, runs in known.items()}
        self.wake = asyncio.Event()
        self._log = log

    def __aiter__(self) -> Self:
        """Return itself."""
        return self

    async def __anext__(self) -> RecordBatch:
        """See ``LogReader.__anext__``."""
        await asyncio.sleep(0)  # whoever writes has its turn, too
        while self._log.is_open(self):
            self.wake.clear()
            batch = self._next()
            if batch is not None:
                return batch
            await self.wake.wait()
        raise StopAsyncIteration

    def _next(self) -> RecordBatch | None:
        for partition, position in self.positions.items():
            batch = self._log.next_batch(partition, position, self._known.get(partition))
            if batch is not None:
                # The partition that was read last is asked last.
                del self.positions[partition]
                self.positions[partition] = batch.upto
                return batch
        return None

    async def aclose(self) -> None:
        """See ``LogReader.aclose``."""
        self._log.drop(self)


class MemoryBus:
    """The bus port over several partitions; see ``ports.BusPort``.

    Attributes:
        messages: The messages.
        sessions: Session facts.
    """

    generation = "memory"

    def __init__(
        self,
        *,
        partitions: int = PARTITIONS,
        size_max: int = 10_000_000,
        append_size_max: int = 10_000_000,
    ) -> None:
        self.messages = MemoryLog(partitions, size_max, append_size_max)
        self.sessions = MemoryLog(partitions, size_max, append_size_max)

    async def close(self) -> None:
        """See ``BusPort.close``."""
        self.messages.close()
        self.sessions.close()
