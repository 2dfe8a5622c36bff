"""The bus port: what edges, projections and tools ask of a log, whatever carries it.

A bus is two logs. ``messages`` has what clients publish, keyed by topic, and control records in
every partition they concern; ``sessions`` has claims and session facts, in the partition of their
client id, kept by time and never compacted. Both are used in the same way. Every record carries its
writer's run and a sequence, so that what is appended twice counts once (R1), and a writer knows its
own records when it reads them back (ARCHITECTURE 11.25).
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, Self

from monstermq_shared.bus.runs import Runs
from monstermq_shared.positions import Position
from monstermq_shared.records import Record


class Stamp(NamedTuple):
    """Whose record it is, and which of his.

    Attributes:
        writer: The run of a process, exactly 8 bytes; a restart is another writer.
        sequence: Grows within a partition from record to record of one writer. Two records with
            one stamp are one record.
    """

    writer: bytes
    sequence: int


class Entry(Protocol):
    """One record as a reader meets it. Only ``record`` may cost: it may have to be decoded.

    What is in the log and does not begin with a header of ours is met as well, as *foreign*, so
    that it is counted and never passed over in silence. Its stamp means nothing, and ``record``
    says what is wrong with it.

    Decoding is asked for one by one, because whether somebody wants a record can depend on the one
    before it (a subscription's marker in the same batch), and because one that cannot be decoded
    must not take its batch with it.
    """

    @property
    def key(self) -> str:
        """The record's topic."""
        ...

    @property
    def topic(self) -> bytes:
        """The same as bytes, as they stand in the log; of a foreign record any bytes."""
        ...

    @property
    def flags(self) -> int:
        """QoS, retain flag and kind, see ``header``; 0xFF if it is foreign."""
        ...

    @property
    def kind(self) -> int | None:
        """A ``header.Kind``, or the number of a later release's; None if it is foreign."""
        ...

    @property
    def foreign(self) -> bool:
        """Whether it has no header of ours."""
        ...

    @property
    def offset(self) -> int:
        """Where it stands in the batch's partition."""
        ...

    @property
    def writer(self) -> bytes:
        """Whose it is: a run of 8 bytes."""
        ...

    @property
    def sequence(self) -> int:
        """Which of his."""
        ...

    @property
    def stamp(self) -> Stamp:
        """Both."""
        ...

    @property
    def time_ms(self) -> int:
        """When it was written, milliseconds since 1970: the record's own time."""
        ...

    @property
    def size(self) -> int:
        """Bytes of its key and of what stands there, about: what it costs to keep it."""
        ...

    def record(self) -> Record:
        """Return the record, with its offset.

        Raises:
            InvalidRecord: What stands there is not a record: to be counted and passed over.
            UnknownFact: A later release wrote it: to be stopped at (R6).
        """
        ...


class RecordBatch(NamedTuple):
    """What a reader gets at a time: all that stands in ``first`` <= offset < ``upto``.

    Attributes:
        partition: Where.
        first: The offset the reader was at.
        upto: The offset it is at now: what a watermark becomes once the batch is folded.
        entries: In order of offset. Offsets that are missing in between belong to records
            dropped as doubled, or to no record.
    """

    partition: int
    first: int
    upto: int
    entries: Sequence[Entry]


class LogReader(Protocol):
    """Reads one log, all partitions it was given, each in order. It is used by one task."""

    def __aiter__(self) -> Self:
        """Return itself."""
        ...

    async def __anext__(self) -> RecordBatch:
        """Return the next batch, as soon as there is one; the iteration ends with the bus.

        Raises:
            BusGap: What it would have to read next is not there. The reader stays where it is;
                to go on, log what is missed and open another one at ``BusGap.found``.
            BusLost: The log is not the one it was: there is nothing to go on with.
        """
        ...

    async def aclose(self) -> None:
        """Stop reading, so that nothing is kept for this reader any more."""
        ...


class LogPort(Protocol):
    """One log.

    Attributes:
        partitions: How many; never changed in place, because keys are mapped to them.
    """

    partitions: int

    @property
    def backlog_size(self) -> int:
        """Bytes that were appended and whose futures are not done; about, with what they cost."""
        ...

    def partition_of(self, key: str) -> int:
        """Return where a topic's messages or a client's facts go: all to one partition."""
        ...

    def append(
        self, partition: int, records: Sequence[Record], stamp: Stamp
    ) -> asyncio.Future[Position | None]:
        """Append a batch to one partition, in the order of the calls; their offsets are ignored.

        The future is done when the batch is as durable as this bus makes it. Its result is where
        the first new record stands, or None if the bus cannot tell; what must be right is read
        back. A batch repeated with its stamp counts once.

        Args:
            partition: Of a message, that of its key; of a control record, the one it concerns.
            records: At least one.
            stamp: Of the first record; the others' sequences follow without a gap.

        Raises:
            InvalidTopic: A topic nobody may append to; nothing was appended.
            BusUnavailable: Too much is on its way already: nothing was appended, and ``room``
                says when to try again. From the future: the bus was closed before it was known to
                have the batch.
            BusRefused: From the future: the log takes one of the records neither now nor later.
            ValueError: There is no such partition, or no record.
        """
        ...

    async def room(self) -> None:
        """Return as soon as an append would be taken, however large; others may come first.

        Raises:
            BusUnavailable: The bus is closed, or very many wait already.
        """
        ...

    def read(
        self, positions: Mapping[int, int], known: Mapping[int, Runs] | None = None
    ) -> LogReader:
        """Return a reader of these partitions, which is there from now on.

        Args:
            positions: Partition -> the offset to begin with: the next one, never the last read.
            known: Partition -> what was read below that (R1); it is copied. Without it, a record
                counts though its double stands below.

        Raises:
            ValueError: There is no such partition, or none is named.
        """
        ...

    async def end_positions(self) -> Mapping[int, int]:
        """Return for every partition the offset the next record gets at the earliest."""
        ...


class BusPort(Protocol):
    """A bus.

    Attributes:
        generation: Which log positions belong to; those of another generation mean nothing here
            (ARCHITECTURE 11.3).
    """

    generation: str

    @property
    def messages(self) -> LogPort:
        """What clients publish, and control records."""
        ...

    @property
    def sessions(self) -> LogPort:
        """Claims and session facts. The offset of a claim is its epoch."""
        ...

    async def close(self) -> None:
        """End readers, and what is not yet known to be appended with ``BusUnavailable``."""
        ...
