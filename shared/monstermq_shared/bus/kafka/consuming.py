"""aiokafka's consumer, for readers that want records and nothing around them."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.consumer.fetcher import FetchResult
from aiokafka.errors import ConsumerStoppedError, CorruptRecordException

from monstermq_shared.bus.kafka.entries import KafkaRecord
from monstermq_shared.kafka.errors import CLIENT_ERRORS
from monstermq_shared.kafka.parsing import read_any_header_name


class Piece(NamedTuple):
    """What a fetch has brought of a partition, or the part of it up to a transaction's end.

    Attributes:
        records: In order of offset.
        ending: The offsets behind them that Kafka has used for itself, to end the transaction of
            some client; empty if it has not.
    """

    records: Sequence[KafkaRecord]
    ending: range


class RecordConsumer(AIOKafkaConsumer):  # type: ignore[misc]  # aiokafka has no types
    """A consumer without a group that hands out records as they were parsed.

    ``getmany`` makes an object with a dictionary and two tuples of each record, which is most of
    what reading costs and half of what the garbage collector has to look at. ``fetch`` does the
    same without them; what it uses of aiokafka is private, and ``tests/contract`` holds it.
    """

    async def begin(self) -> None:
        """Start, or be stopped.

        Raises:
            KafkaError, OSError, TimeoutError: It could not be started.
        """
        read_any_header_name()
        try:
            await self.start()
        except BaseException:
            await self.end()
            raise

    async def end(self) -> None:
        """Stop, started or not."""
        # It cancels a task of its own and waits for it, which fails if that has not begun yet.
        await asyncio.sleep(0)
        await self._end_fetches()
        with suppress(*CLIENT_ERRORS):
            await self.stop()

    async def _end_fetches(self) -> None:
        """End what ``stop`` would wait for in a way that can cancel who calls it.

        A fetch that has failed pauses, and one that is cancelled in its pause raises that.
        """
        if self._fetcher is not None:
            pending = self._fetcher._pending_tasks  # noqa: SLF001 - see the class
            tasks = [self._fetcher._fetch_task, *pending]  # noqa: SLF001 - see the class
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            pending.clear()

    async def fetch(self, timeout_s: float) -> dict[int, list[Piece]]:
        """Return all that has come, by partition; nothing if nothing came in time.

        Transactions of strangers are read as if they were none, aborted ones too: no view is of
        their records.

        The next request is made only when all of it has been taken, so it is taken at once.

        Raises:
            ConsumerStoppedError: It was stopped.
            KafkaError: A partition cannot be read; what else there is comes first.
        """
        if self._closed:
            raise ConsumerStoppedError
        fetched = self._taken()
        if not fetched:
            waiter = self._fetcher._create_fetch_waiter()  # noqa: SLF001 - see the class
            await asyncio.wait([waiter], timeout=timeout_s)
            if self._closed:
                raise ConsumerStoppedError
            if not waiter.done():
                waiter.cancel()
                return {}
            fetched = self._taken()
        return fetched

    def _taken(self) -> dict[int, list[Piece]]:
        fetcher = self._fetcher
        taken: dict[int, list[Piece]] = {}
        for at, result in [*fetcher._records.items()]:  # noqa: SLF001 - see the class
            is_error = type(result) is not FetchResult
            if is_error and taken:
                break
            del fetcher._records[at]  # noqa: SLF001 - see the class
            fetcher._notify(fetcher._wait_consume_future)  # noqa: SLF001 - see the class
            if is_error:
                result.check_raise()
            elif pieces := self._pieces_of(at, result):
                taken[at.partition] = pieces
        return taken

    def _pieces_of(self, at: TopicPartition, result: FetchResult) -> list[Piece]:
        partition = result._partition_records  # noqa: SLF001 - see the class
        # It refers to the partition, so all the bytes of the fetch would wait for the collector.
        partition._records_iterator = None  # noqa: SLF001 - see the class
        if not result.check_assignment(at):
            return []
        batches, upto = partition._records, partition.next_fetch_offset  # noqa: SLF001 - see above
        pieces: list[Piece] = []
        records: list[KafkaRecord] = []
        while batches.has_next():
            batch = batches.next_batch()
            if self._check_crcs and not batch.validate_crc():
                raise CorruptRecordException(f"{at}: a batch does not have its checksum")
            if batch.is_control_batch:
                pieces.append(Piece(records, range(batch.base_offset, batch.next_offset)))
                records = []
            else:
                # A fetch brings whole batches, also if it asked for the middle of one.
                first = batch.base_offset
                records += batch if first >= upto else (r for r in batch if r.offset >= upto)
            upto = batch.next_offset
        partition.next_fetch_offset = upto
        result._update_position()  # noqa: SLF001 - see the class
        if records:
            pieces.append(Piece(records, range(0)))
        return pieces
