"""The internal bus: the log of one process, in memory, one partition.

What is durable are the views; the log holds only what they have not committed yet, and counts. An
offset is ``boot << 40 | counter``: the boot number is committed at start, so an offset that a
reader elsewhere may have seen is never used again for another message (ARCHITECTURE 11.2).

``InternalLog`` is the engine's side and the hot path. ``InternalBus`` is the bus port over it, for
readers beside the engine (a *tap*: an archive elsewhere, ``tail``) and for writers that are not
MQTT clients (``replay``). A record is made only if a view, a queue or a tap wants it.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Protocol

from mypy_extensions import mypyc_attr

from monstermq_shared.bus.header import RUN_SIZE
from monstermq_shared.bus.ports import Stamp
from monstermq_shared.bus.ring import RingEntry, RingLog, RingReader, size_of
from monstermq_shared.bus.room import Room
from monstermq_shared.bus.runs import Runs
from monstermq_shared.errors import BusUnavailable
from monstermq_shared.positions import Position
from monstermq_shared.records import Record

BOOT_SHIFT = 40
"""The bits of an offset below the boot number: a million messages a second for twelve days."""

LOG_SIZE_MAX = 64 * 1024 * 1024
"""Bytes kept for taps that have not read them yet; past it the slowest one gets a gap."""

SESSIONS_SIZE_MAX = 4 * 1024 * 1024
"""Bytes kept of the sessions log."""

APPEND_SIZE_MAX = 16 * 1024 * 1024
"""From so many bytes on that were appended through the port and are not committed yet, appends are
refused."""

LATENESS_MS = 900_000
"""How late a repeated append may come and be known as one (R1)."""


def first_offset(boot: int) -> int:
    """Return the offset that is below all of a run, and above all of the runs before it."""
    return boot << BOOT_SHIFT


def run_of(boot: int) -> bytes:
    """Return how the stamps of the engine's own records name this run; the offset counts them."""
    return boot.to_bytes(RUN_SIZE, "big")


@mypyc_attr(allow_interpreted_subclasses=True)  # the simulation looks on
class InternalLog:
    """Hands out offsets and keeps records until the next turn takes them.

    Attributes:
        boot: The number of this run; see ``Database.boot``.
        next_offset: The offset the next message gets.
        tap: Is shown every message's record, in order, whether a view wants it or not; None while
            nobody reads along.
        waiting: The records appended since the last ``take``. Not to be changed.
    """

    __slots__ = ("boot", "next_offset", "tap", "waiting")

    def __init__(self, boot: int) -> None:
        self.boot = boot
        self.next_offset = first_offset(boot) + 1
        self.tap: Callable[[Sequence[Record]], None] | None = None
        self.waiting: list[Record] = []

    def allot(self, count: int) -> int:
        """Give ``count`` consecutive offsets to messages; return the first of them."""
        first = self.next_offset
        self.next_offset = first + count
        return first

    def append(self, records: Sequence[Record]) -> None:
        """Keep records, whose offsets were allotted, for the views."""
        self.waiting += records
        if self.tap is not None:
            self.tap(records)

    def pass_through(self, record: Record) -> None:
        """Give a control record its offset; nobody but taps takes it."""
        at = record.at(self.allot(1))
        if self.tap is not None:
            self.tap([at])

    def take(self) -> list[Record]:
        """Return the records appended since the last call."""
        records = self.waiting
        self.waiting = []
        return records

    def is_older(self, offset: int) -> bool:
        """Whether the offset belongs to an earlier run of the broker."""
        return offset >> BOOT_SHIFT < self.boot


class Publishing(Protocol):
    """The engine's way in, ``sessions.local.appending.RecordAppender``; see there.

    Attributes:
        freed: Called when there is room again.
    """

    freed: Callable[[], None]

    def has_room(self) -> bool:
        """Whether a batch would be published now."""
        ...

    def append(
        self, speaker: "InternalMessages", records: Sequence[Record], done: Callable[[], None]
    ) -> None:
        """Publish a batch, and say when it is committed."""
        ...


class InternalMessages(RingLog):
    """The messages of the internal bus. Nothing is kept, nor made, unless somebody reads.

    A reader sees a message when it is published, which may be before its commit. The engine's own
    records are stamped with this run and their offset.

    Args:
        log: The engine's log.
        publishing: Routes records and says when they are committed.
        touch: Makes sure that the loop turn is finished.
        writer: This run, as the stamps of the engine's records name it.
        size_max: Bytes kept for readers.

    Attributes:
        held_turn: It is a ``Speaker`` of the engine's journal, so that appends are done in order.
    """

    def __init__(
        self,
        log: InternalLog,
        publishing: Publishing,
        touch: Callable[[], None],
        *,
        writer: bytes,
        size_max: int,
    ) -> None:
        super().__init__(log, size_max)
        self.held_turn = 0
        self._log = log
        self._publishing = publishing
        self._touch = touch
        self._writer = writer
        self._runs = Runs(LATENESS_MS)
        self._appending: Stamp | None = None
        self._in_flight: dict[asyncio.Future[Position | None], int] = {}
        self._in_flight_size = 0
        self._room = Room(self._has_room)
        publishing.freed = self._room.look

    @property
    def backlog_size(self) -> int:
        """See ``LogPort.backlog_size``."""
        return self._in_flight_size

    def _has_room(self) -> bool:
        return self._in_flight_size < APPEND_SIZE_MAX and self._publishing.has_room()

    async def room(self) -> None:
        """See ``LogPort.room``."""
        await self._room.wait()

    def append(
        self, partition: int, records: Sequence[Record], stamp: Stamp
    ) -> asyncio.Future[Position | None]:
        """See ``LogPort.append``: as a client publishes, and done when PUBACK would be sent.

        Raises:
            InvalidTopic, BusUnavailable, ValueError: See there. Whatever holds clients that
                publish, too, is a reason to be unavailable.
        """
        _check(partition, records)
        size = sum(map(size_of, records))
        if self._closed:
            raise BusUnavailable("the bus is closed")
        if self._in_flight_size >= APPEND_SIZE_MAX:
            raise BusUnavailable(
                f"{self._in_flight_size} bytes are not committed yet; "
                f"append more when earlier appends are done"
            )
        new = _new(self._runs, records, stamp)
        last = stamp.sequence + len(records) - 1
        future: asyncio.Future[Position | None] = asyncio.get_running_loop().create_future()
        position = Position(0, self._log.next_offset) if new else None
        self._appending = Stamp(stamp.writer, last - len(new) + 1)
        try:
            self._in_flight[future] = size
            self._in_flight_size += size
            self._publishing.append(self, new, partial(self._appended, future, position))
        except BaseException:
            self._landed(future)
            raise
        finally:
            self._appending = None
        if new:
            _note(self._runs, stamp.writer, last)
        self._touch()
        return future

    def _appended(self, future: asyncio.Future[Position | None], position: Position | None) -> None:
        self._landed(future)
        if not future.done():
            future.set_result(position)

    def _landed(self, future: asyncio.Future[Position | None]) -> None:
        self._in_flight_size -= self._in_flight.pop(future, 0)
        self._room.look()

    def read(
        self, positions: Mapping[int, int], known: Mapping[int, Runs] | None = None
    ) -> RingReader:
        """See ``LogPort.read``. Without another reader, there is nothing to read but what comes."""
        reader = super().read(positions, known)
        if self._log.tap is None and self._readers:
            self.kept.forget_below(self._log.next_offset)
            self._log.tap = self._show
        return reader

    def drop(self, reader: RingReader) -> None:
        """Forget a reader; with the last one, stop keeping records."""
        super().drop(reader)
        if not self._readers:
            self._log.tap = None
            self.kept.forget_below(self._log.next_offset)
        else:
            self._moved()

    def close(self) -> None:
        """Let readers end, and appends that were not committed fail."""
        super().close()
        self._room.close()
        in_flight, self._in_flight = self._in_flight, {}
        self._in_flight_size = 0
        for future in in_flight:
            if not future.done():
                future.set_exception(BusUnavailable("the bus was closed before the commit"))

    def _show(self, records: Sequence[Record]) -> None:
        appending = self._appending
        if appending is None:
            writer = self._writer
            self._keep(RingEntry(r, writer, r.offset) for r in records)
            return
        writer, sequence = appending
        self._appending = Stamp(writer, sequence + len(records))
        self._keep(RingEntry(r, writer, number) for number, r in enumerate(records, sequence))

    def _moved(self) -> None:
        positions = (reader.position for reader in self._readers)
        self.kept.forget_below(min(self._log.next_offset, *positions))


class InternalSessions(RingLog):
    """The sessions log of the internal bus: the newest facts, as durable as the process.

    The local engine has no use for it, because its facts are rows (``ARCHITECTURE.md`` 5).
    """

    def __init__(self, boot: int, *, size_max: int) -> None:
        self._log = InternalLog(boot)
        super().__init__(self._log, size_max)
        self._runs = Runs(LATENESS_MS)

    @property
    def backlog_size(self) -> int:
        """See ``LogPort.backlog_size``: everything is done at once."""
        return 0

    async def room(self) -> None:
        """See ``LogPort.room``: there always is."""
        if self._closed:
            raise BusUnavailable("the bus is closed")

    def append(
        self, partition: int, records: Sequence[Record], stamp: Stamp
    ) -> asyncio.Future[Position | None]:
        """See ``LogPort.append``: done at once.

        Raises:
            BusUnavailable, ValueError: See there.
        """
        _check(partition, records)
        if self._closed:
            raise BusUnavailable("the bus is closed")
        new = _new(self._runs, records, stamp)
        future: asyncio.Future[Position | None] = asyncio.get_running_loop().create_future()
        if not new:
            future.set_result(None)
            return future
        last = stamp.sequence + len(records) - 1
        _note(self._runs, stamp.writer, last)
        first = self._log.allot(len(new))
        self._keep(
            RingEntry(record.at(offset), stamp.writer, sequence)
            for record, offset, sequence in zip(
                new,
                range(first, first + len(new)),
                range(last - len(new) + 1, last + 1),
                strict=True,
            )
        )
        future.set_result(Position(0, first))
        return future


class InternalBus:
    """The bus port in one process; see ``ports.BusPort``.

    Args:
        log: The engine's log.
        publishing: The engine's way in for records that come from no connection.
        touch: Called after it, to have the loop turn finished.
        generation: Of the database whose boot number the log counts from.
        size_max: Bytes kept for readers of the messages.

    Attributes:
        messages: The messages; they end here and in the engine's views.
        sessions: Session facts.
    """

    def __init__(
        self,
        log: InternalLog,
        publishing: Publishing,
        touch: Callable[[], None],
        *,
        generation: str,
        size_max: int = LOG_SIZE_MAX,
    ) -> None:
        self.generation = generation
        self.messages = InternalMessages(
            log, publishing, touch, writer=run_of(log.boot), size_max=size_max
        )
        self.sessions = InternalSessions(log.boot, size_max=min(size_max, SESSIONS_SIZE_MAX))

    async def close(self) -> None:
        """See ``BusPort.close``."""
        self.messages.close()
        self.sessions.close()


def _check(partition: int, records: Sequence[Record]) -> None:
    if partition != 0:
        raise ValueError(f"there is one partition, 0; not {partition}")
    if not records:
        raise ValueError("a batch without records has no position")


def _new(runs: Runs, records: Sequence[Record], stamp: Stamp) -> list[Record]:
    """Return the records that were not there before: all of them, or the last ones."""
    highest = runs.highest(stamp.writer)
    return [*records[max(0, highest + 1 - stamp.sequence) :]]


def _note(runs: Runs, writer: bytes, sequence: int) -> None:
    # By the time of the append: records that are replayed may be years old.
    runs.is_new(writer, sequence, int(asyncio.get_running_loop().time() * 1000))
