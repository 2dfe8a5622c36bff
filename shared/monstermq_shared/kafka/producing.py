"""Batches to Kafka: one after the other in a partition, by a producer that is made anew in need."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import chain, islice
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import ProducerClosed, UnknownTopicOrPartitionError
from aiokafka.producer.message_accumulator import BatchBuilder

from monstermq_shared.kafka.errors import CLIENT_ERRORS

ENTRY_OVERHEAD = 40
"""Bytes of a record in a batch beside its key and value, at most, without headers."""

BATCH_OVERHEAD = 100
"""Bytes of a batch beside its records, and some to spare."""

CLOSE_S = 1.0
"""How long a producer has for what is on its way, and for closing its connections."""

Entry = tuple[int, bytes, bytes]
"""Time in milliseconds, key and value of a record."""


async def close_producer(producer: AIOKafkaProducer) -> None:
    """Close a producer at once, whether or not it was started and Kafka is there.

    What it has not sent fails with ``ProducerClosed``. Its own ``stop`` would wait for all of that,
    and while Kafka is away for ever; aiokafka has no public way not to.
    """
    with suppress(*CLIENT_ERRORS):
        async with asyncio.timeout(CLOSE_S):
            await producer._sender.close()  # noqa: SLF001 - held to by test_kafka_producing
    waiting = producer._message_accumulator  # noqa: SLF001
    # When a batch fails it is taken from among these, and one that is to be repeated is not there.
    waiting._pending_batches.update(chain.from_iterable(waiting._batches.values()))  # noqa: SLF001
    batches = [*waiting._pending_batches]  # noqa: SLF001
    waiting.fail_all(ProducerClosed())
    for batch in batches:
        # Mostly nobody waits for these any more; asyncio would log each with a traceback.
        for future in (batch.future, batch._drain_waiter):  # noqa: SLF001
            _retrieve(future)
    with suppress(*CLIENT_ERRORS):
        async with asyncio.timeout(CLOSE_S):
            await producer.stop()


class _Line:
    """A producer, and how many sends use it."""

    def __init__(self, producer: AIOKafkaProducer) -> None:
        self.producer = producer
        self.users = 0


class BatchProducer:
    """Sends batches with all replicas' acknowledgement, in order within a partition.

    An idempotent producer cannot go on in a partition in which it was refused something, so after
    any failure nothing more is begun with it, and the next call makes a new one (R1).

    Args:
        options: Arguments of ``AIOKafkaProducer``, which must make it idempotent.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = options
        self._line: _Line | None = None
        self._turn = asyncio.Lock()

    async def send(
        self, topic: str, partition: int, entries: Sequence[Entry], *, first: int, size_max: int
    ) -> int:
        """Send as many entries as one batch has room for, at least one; wait until Kafka has them.

        Entries whose order matters must not be in two calls at the same time.

        Args:
            topic: Where.
            partition: Which of its partitions.
            entries: All that wait for this partition, in order.
            first: The one to begin with.
            size_max: Bytes of the batch; a single entry may be larger.

        Returns:
            The first entry that is not in the batch.

        Raises:
            KafkaError, OSError: Nobody knows whether Kafka has the batch: send the same again.
        """
        async with self._lent() as producer:
            if partition not in await producer.partitions_for(topic):
                raise UnknownTopicOrPartitionError(f"{topic} has no partition {partition}")
            batch = producer.create_batch()
            upto = _fill(batch, entries, first, size_max)
            future = await producer.send_batch(batch, topic, partition=partition)
            # Whoever waits may be cancelled; aiokafka needs it until then, and it may fail yet.
            future.add_done_callback(_retrieve)
            await asyncio.shield(future)
            return upto

    async def close(self) -> None:
        """Close the producer; what is under way fails."""
        line, self._line = self._line, None
        if line is not None:
            await close_producer(line.producer)

    @asynccontextmanager
    async def _lent(self) -> AsyncIterator[AIOKafkaProducer]:
        line = await self._current()
        line.users += 1
        try:
            yield line.producer
        except CLIENT_ERRORS:
            if self._line is line:
                self._line = None
            raise
        finally:
            line.users -= 1
            if not line.users and self._line is not line:
                await close_producer(line.producer)

    async def _current(self) -> _Line:
        async with self._turn:
            if self._line is None:
                producer = AIOKafkaProducer(**self._options)
                try:
                    await producer.start()
                except BaseException:
                    await close_producer(producer)
                    raise
                self._line = _Line(producer)
            return self._line


def _fill(batch: BatchBuilder, entries: Sequence[Entry], first: int, size_max: int) -> int:
    """Put entries into a batch, the first one in any case; return the first one that is not."""
    size, upto = BATCH_OVERHEAD, first
    for time_ms, key, value in islice(entries, first, None):
        size += len(key) + len(value) + ENTRY_OVERHEAD
        if size > size_max and upto > first:
            break
        if batch.append(timestamp=time_ms, key=key, value=value) is None:
            break
        upto += 1
    batch.close()
    return upto


def _retrieve(future: "asyncio.Future[object]") -> None:
    if future.done() and not future.cancelled():
        future.exception()
