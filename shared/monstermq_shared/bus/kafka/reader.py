"""Reads partitions of a log: those it was given, from positions it was given, in no group.

Nothing is passed over: offsets are dense, because the topics are not compacted, so a jump is a
loss, and an offset that is out of range never becomes another one. We use no transactions; where a
stranger has, Kafka says that it has used an offset for itself.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Protocol, Self

from aiokafka import TopicPartition
from aiokafka.errors import ConsumerStoppedError, OffsetOutOfRangeError

from monstermq_shared.bus.kafka.consuming import Piece, RecordConsumer
from monstermq_shared.bus.kafka.entries import KafkaRecord, entries_of, new_entries
from monstermq_shared.bus.kafka.presence import refuse_lost_topic
from monstermq_shared.bus.ports import RecordBatch
from monstermq_shared.bus.runs import Runs
from monstermq_shared.errors import BusGap, StartupError
from monstermq_shared.kafka.errors import CLIENT_ERRORS, meaning_of
from monstermq_shared.kafka.settings import KafkaSettings
from monstermq_shared.retries import pause

logger = logging.getLogger(__name__)

POLL_S = 1.0
"""How long a fetch may take that finds nothing; then it is looked whether the topic is there."""

AT_ONCE = 200
"""After so many records of a fetch others have their turn. Fewer are handed out in one turn of the
loop, also those of several partitions: a turn costs more than one record that came alone."""


class ReadLog(Protocol):
    """What a reader has to know of its log."""

    topic: str
    partitions: int
    lateness_ms: int

    def drop(self, reader: "KafkaReader") -> None:
        """Forget a reader that was closed."""
        ...


class KafkaReader:
    """See ``ports.LogReader``.

    Attributes:
        positions: Partition -> the offset it reads next.
        is_open: It was not closed.
        doubled: Records that had been there before and were dropped (R1).

    Args:
        log: The log.
        positions: See above.
        known: Partition -> what was read below that (R1).
        settings: Of the cluster.
    """

    def __init__(
        self,
        log: ReadLog,
        positions: Mapping[int, int],
        known: Mapping[int, Runs],
        settings: KafkaSettings,
    ) -> None:
        self.positions = dict(positions)
        self.is_open = True
        self.doubled = 0
        self._log = log
        self._settings = settings
        self._runs = {
            partition: known[partition].copy() if partition in known else Runs(log.lateness_ms)
            for partition in positions
        }
        self._batch_max = settings.poll_records_max
        self._consumer: RecordConsumer | None = None
        # What one fetch has brought: aiokafka fetches again only when all of it has been taken.
        self._fetched: deque[tuple[int, Piece]] = deque()
        # Records that were handed out in this turn of the loop.
        self._at_once = 0
        self._gap: tuple[int, int, int, int | None] | None = None
        self._failures = 0

    def __aiter__(self) -> Self:
        """Return itself."""
        return self

    async def __anext__(self) -> RecordBatch:
        """See ``LogReader.__anext__``."""
        # A reader that always finds something must not keep the loop from those who write it.
        if not self._fetched or self._at_once >= AT_ONCE:
            self._at_once = 0
            await asyncio.sleep(0)
        while self.is_open:
            if self._gap is not None:
                raise _gap(self._gap)
            if self._fetched:
                return self._take(*self._fetched.popleft())
            await self._fetch()
        raise StopAsyncIteration

    def _take(self, partition: int, piece: Piece) -> RecordBatch:
        first = self.positions[partition]
        records, ending = piece
        self._at_once += len(records)
        upto = first + len(records)
        if records and (records[0].offset != first or records[-1].offset != upto - 1):
            records = self._before_hole(partition, first, records)
            upto = first + len(records)
        elif ending:
            if ending.start > upto:
                self._note_gap(partition, upto, ending.start)
            else:
                upto = max(upto, ending.stop)
        if upto == first and self._gap is not None:
            raise _gap(self._gap)
        entries = entries_of(records)
        counting = new_entries(entries, self._runs[partition])
        self.doubled += len(entries) - len(counting)
        self.positions[partition] = upto
        return RecordBatch(partition, first, upto, counting)

    def _before_hole(
        self, partition: int, first: int, records: Sequence[KafkaRecord]
    ) -> Sequence[KafkaRecord]:
        """Return the records before a jump, which is told when they have been taken."""
        count = next(n for n, record in enumerate(records) if record.offset != first + n)
        self._note_gap(partition, first + count, records[count].offset)
        return records[:count]

    def _note_gap(self, partition: int, expected: int, found: int) -> None:
        self._gap = (partition, expected, found, found - expected if found > expected else None)

    async def _fetch(self) -> None:
        """Bring what there is, or nothing after a while, or find out why there is nothing."""
        try:
            consumer = await self._connected()
            fetched = await consumer.fetch(POLL_S)
        except OffsetOutOfRangeError as exc:
            await self._out_of_range(exc)
        except ConsumerStoppedError:
            self.is_open = False
        except (*CLIENT_ERRORS, StartupError) as exc:
            # Also a file of Kafka.Security that is being renewed: that mends itself, too.
            await self._failed(exc)
        else:
            self._worked()
            for partition, pieces in fetched.items():
                for piece in pieces:
                    self._keep(partition, piece)
            if not fetched:
                await self._look_for_topic(consumer)

    def _keep(self, partition: int, piece: Piece) -> None:
        records, size = piece.records, self._batch_max
        first = 0
        while size and len(records) - first > size:
            self._fetched.append((partition, Piece(records[first : first + size], range(0))))
            first += size
        self._fetched.append((partition, Piece(records[first:], piece.ending)))

    async def _connected(self) -> RecordConsumer:
        if self._consumer is None:
            consumer = RecordConsumer(
                **self._settings.consumer_options(),
                group_id=None,
                enable_auto_commit=False,
                auto_offset_reset="none",
            )
            await consumer.begin()
            if not self.is_open:  # closed while it was starting
                await consumer.end()
                raise ConsumerStoppedError
            at = {TopicPartition(self._log.topic, p): o for p, o in self.positions.items()}
            consumer.assign(list(at))
            for partition, offset in at.items():
                consumer.seek(partition, offset)
            self._consumer = consumer
        return self._consumer

    async def _failed(self, exc: BaseException) -> None:
        if not self._failures:
            logger.warning("Kafka does not let us read %s: %s", self._log.topic, meaning_of(exc))
        await pause(self._failures)
        self._failures += 1

    def _worked(self) -> None:
        if self._failures:
            self._failures = 0
            logger.info("Kafka lets us read %s again", self._log.topic)

    async def _out_of_range(self, exc: OffsetOutOfRangeError) -> None:
        """Find out on which side an offset is out of range."""
        assert self._consumer is not None
        try:
            for at, offset in exc.args[0].items():
                first = (await self._consumer.beginning_offsets([at]))[at]
                end = (await self._consumer.end_offsets([at]))[at]
                if offset < first:
                    self._gap = (at.partition, offset, first, first - offset)
                elif offset > end:
                    self._gap = (at.partition, offset, end, None)
        except CLIENT_ERRORS as failure:
            await self._failed(failure)
        if self._gap is None:
            # A replica that is behind the one we read from before.
            await pause(0)

    async def _look_for_topic(self, consumer: RecordConsumer) -> None:
        """Notice that the topic is not there any more, or is another one.

        Raises:
            BusLost: So it is.
        """
        known = consumer.partitions_for_topic(self._log.topic)
        if known is not None and len(known) == self._log.partitions:
            return
        # It would ask for the topic again and again, without a pause.
        await self._disconnect()
        await refuse_lost_topic(
            self._settings, self._log.topic, self._log.partitions, lambda: self.is_open
        )

    async def _disconnect(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await consumer.end()

    async def aclose(self) -> None:
        """See ``LogReader.aclose``."""
        self.is_open = False
        self._log.drop(self)
        await self._disconnect()


def _gap(what: tuple[int, int, int, int | None]) -> BusGap:
    partition, expected, found, lost = what
    return BusGap(partition, expected, found, lost=lost)
