"""What a follower is yet to commit: a reader of the internal bus that misses nothing.

A tap loses what it is too slow for. A backlog does not: it is bounded by holding back those who
publish what the follower wants, as soon as it is full.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Self

from monstermq_shared.bus.ports import RecordBatch
from monstermq_shared.bus.ring import ENTRY_OVERHEAD, RingEntry
from monstermq_shared.records import Record, size_of

BATCH_RECORDS_MAX = 5_000
"""Records in one batch; less than that makes commits small, more makes them long."""

BATCH_SIZE_MAX = 4 * 1024 * 1024
"""Bytes in one batch, about."""

OVERFULL = 2
"""At so many times its bound a backlog is a reason to let nobody in."""


class Backlog:
    """The records that one follower has not committed, in order of offset.

    Attributes:
        name: Whose it is, for messages and metrics.
        size: Bytes of the records.
        size_max: From so many bytes on it is full.
        count: How many records there are.
        holds: It was full, and is not yet half empty again: so long publishers are held.
        upto: The next offset: everything below it has been shown.
        emptied: Called when it is half empty again.
        wake: Set when there may be more to read.
        closed: Its reader is to end.

    Args:
        name: See above.
        size_max: See above.
        select: Returns the records the follower wants, of those it is shown.
    """

    def __init__(
        self,
        name: str,
        size_max: int,
        select: Callable[[Sequence[Record]], Sequence[Record]],
    ) -> None:
        self.name = name
        self.size = 0
        self.size_max = size_max
        self.count = 0
        self.holds = False
        self.wake = asyncio.Event()
        self.upto = 0
        self.emptied: Callable[[Backlog], None] = _ignore
        self.closed = False
        self._select = select
        # (records, their bytes, the offset behind the last one), the oldest first.
        self._chunks: deque[tuple[Sequence[Record], int, int]] = deque()

    @property
    def is_full(self) -> bool:
        """Whether nobody may publish to it for now."""
        return self.size >= self.size_max

    @property
    def is_overfull(self) -> bool:
        """Whether much more waits than publishers, which are held, can cause.

        It comes from connections that publish something and go.
        """
        return self.size >= OVERFULL * self.size_max

    def show(self, records: Sequence[Record], upto: int) -> None:
        """Take what has been committed to the session store's database, and belongs in the log.

        Args:
            records: In order of offset, all above what was shown before.
            upto: The next offset.
        """
        self.upto = upto
        wanted = self._select(records)
        # In pieces that are no larger than a batch, so that a batch is a number of chunks.
        for start in range(0, len(wanted), BATCH_RECORDS_MAX):
            self._keep(wanted[start : start + BATCH_RECORDS_MAX])
        if wanted:
            self.wake.set()

    def _keep(self, records: Sequence[Record]) -> None:
        size = sum(map(size_of, records)) + ENTRY_OVERHEAD * len(records)
        self._chunks.append((records, size, records[-1].offset + 1))
        self.size += size
        self.count += len(records)
        self.holds = self.holds or self.is_full

    def uncommitted(self) -> Iterator[Sequence[Record]]:
        """Yield the records in order of offset."""
        for records, _, _ in self._chunks:
            yield records

    @property
    def newest(self) -> int:
        """The offset of the newest record, -1 if there is none."""
        return self._chunks[-1][2] - 1 if self._chunks else -1

    def age_s(self, wall_ms: int) -> float:
        """Return the seconds since the oldest record came; 0 if there is none."""
        if not self._chunks:
            return 0.0
        return max(wall_ms - self._chunks[0][0][0].timestamp_ms, 0) / 1000

    def committed(self, upto: int) -> None:
        """The follower has committed what stands below: it may go."""
        was_full = 2 * self.size > self.size_max
        while self._chunks and self._chunks[0][2] <= upto:
            records, size, _ = self._chunks.popleft()
            self.size -= size
            self.count -= len(records)
        if was_full and 2 * self.size <= self.size_max:
            self.holds = False
            self.emptied(self)

    def close(self) -> None:
        """Let its reader end."""
        self.closed = True
        self.wake.set()


def _ignore(_: Backlog) -> None:
    """Nobody waits."""


class BacklogReader:
    """Reads a backlog; see ``ports.LogReader``. What is read stays until it is committed.

    Args:
        backlog: What to read.
        position: The offset to begin with.
        writer: The run that appends the records, see ``ports.Stamp``.
    """

    def __init__(self, backlog: Backlog, position: int, writer: bytes) -> None:
        self._backlog = backlog
        self._position = position
        self._writer = writer

    def __aiter__(self) -> Self:
        """Return itself."""
        return self

    async def __anext__(self) -> RecordBatch:
        """See ``LogReader.__anext__``."""
        backlog = self._backlog
        while not backlog.closed:
            backlog.wake.clear()
            records = self._next()
            if records:
                # Below the end of the last turn that was shown, everything has been shown.
                last = records[-1].offset + 1
                upto = last if backlog.newest >= last else backlog.upto
                first, self._position = self._position, upto
                writer = self._writer
                entries = [RingEntry(r, writer, r.offset) for r in records]
                return RecordBatch(0, first, self._position, entries)
            await backlog.wake.wait()
        raise StopAsyncIteration

    def _next(self) -> list[Record]:
        found: list[Record] = []
        size = 0
        for records in self._backlog.uncommitted():
            if records[0].offset < self._position:
                continue
            if found and len(found) + len(records) > BATCH_RECORDS_MAX:
                break
            found += records
            size += sum(len(record.payload) for record in records)
            if size >= BATCH_SIZE_MAX:
                break
        return found

    async def aclose(self) -> None:
        """See ``LogReader.aclose``."""
        self._backlog.close()
