"""One partition of a log in memory, and somebody who reads it for a follower as Kafka is read."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from random import Random
from typing import Any

from monstermq_shared.bus.header import FOREIGN_FLAGS, KIND_SHIFT, flags_of
from monstermq_shared.bus.ports import Entry, Stamp
from monstermq_shared.errors import BusUnavailable, InvalidRecord
from monstermq_shared.records import Record
from monstermq_shared.stores.changes import Quarantined
from monstermq_shared.views.log_follower import LogFollower
from monstermq_shared.views.log_loading import Bounds

LATENESS_MS = 900_000


class LogEntry:
    """An entry of the log; without a record it is foreign."""

    def __init__(
        self, offset: int, record: Record | None, writer: bytes, sequence: int, time_ms: int
    ) -> None:
        self.offset = offset
        self.writer = writer
        self.sequence = sequence
        self.time_ms = time_ms
        self.flags = FOREIGN_FLAGS if record is None else flags_of(record)
        self.key = "" if record is None else record.topic
        self.topic = self.key.encode()
        self.decoded = 0
        self._record = record

    @property
    def kind(self) -> int | None:
        return None if self.foreign else self.flags >> KIND_SHIFT

    @property
    def foreign(self) -> bool:
        return self._record is None

    @property
    def stamp(self) -> Stamp:
        return Stamp(self.writer, self.sequence)

    @property
    def size(self) -> int:
        return len(self.topic)

    def record(self) -> Record:
        self.decoded += 1
        if self._record is None:
            raise InvalidRecord("no header")
        return self._record


def describe(entry: Entry, reason: str) -> Quarantined:
    """Return what quarantine keeps of an entry."""
    return Quarantined(
        offset=entry.offset, time_ms=entry.time_ms, reason=reason, key=entry.topic, value=b""
    )


class FollowedLog:
    """A partition, as ``LogSource``.

    Attributes:
        entries: All there ever was.
        first: Below it nothing can be read any more.
        held: Whether the follower wants nothing more.
        asked: Questions so far.
        away: How many questions fail from now on.
        seeks: Where it was told to read from.
    """

    def __init__(self) -> None:
        self.entries: list[LogEntry] = []
        self.first = 0
        self.held = False
        self.asked = 0
        self.away = 0
        self.seeks: list[int] = []
        self._reader: Reader | None = None

    def attach(self, reader: "Reader") -> None:
        self._reader = reader

    async def bounds(self, partition: int) -> Bounds:
        self.asked += 1
        if self.away:
            self.away -= 1
            raise BusUnavailable("no answer")
        return Bounds(self.first, len(self.entries))

    async def read_from(self, partition: int, offset: int) -> None:
        self.seeks.append(offset)
        assert self._reader is not None
        self._reader.at = offset

    def hold(self, partition: int) -> None:
        self.held = True

    def append(
        self, record: Record | None, writer: bytes = b"writer-1", sequence: int | None = None
    ) -> LogEntry:
        """Append a record, by default with the next sequence; None is something foreign."""
        offset = len(self.entries)
        if record is not None:
            record.offset = offset
        time_ms = 1_768_478_400_000 + offset if record is None else record.timestamp_ms
        number = offset if sequence is None else sequence
        entry = LogEntry(offset, record, writer, number, time_ms)
        self.entries.append(entry)
        return entry


class Reader:
    """Reads a log for a follower, in pieces of random size, and begins where that says.

    Args:
        log: What is read.
        follower: For whom.
        prng: Decides the sizes; without, all there is comes at once.
    """

    def __init__(
        self, log: FollowedLog, follower: LogFollower[Any], prng: Random | None = None
    ) -> None:
        self.at = 0
        self.log = log
        self.follower = follower
        self._prng = prng
        log.attach(self)

    async def run(self) -> None:
        """Read until cancelled."""
        await self.follower.loaded.wait()
        self.at = self.follower.position or 0
        while True:
            piece = self.next_piece()
            if piece:
                self.at = piece[-1].offset + 1
                await self.follower.deliver(piece)
            else:
                await asyncio.sleep(0)

    def next_piece(self) -> Sequence[LogEntry]:
        if self.log.held:
            return ()
        size = 1_000 if self._prng is None else self._prng.randint(1, 7)
        begin = max(self.at, self.log.first)
        return self.log.entries[begin : begin + size]


@contextlib.asynccontextmanager
async def running(*works: Callable[[], Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    """Run coroutines while the block lasts."""
    tasks = [asyncio.create_task(work()) for work in works]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
