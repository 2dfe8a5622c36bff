"""Batches to Kafka: one after the other in a partition, by a producer that is made anew in need."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
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

HEADER_OVERHEAD = 10
"""Bytes of a header in a batch beside its name and value, at most."""

Entry = tuple[int, bytes | None, bytes, list[tuple[str, bytes]]]
"""Time in milliseconds, key, value and headers of a record."""


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


class Producers:
    """Hands out the producer of the moment.

    An aiokafka producer is good until the future of one batch fails; then what follows may be
    refused for ever, or accepted without its predecessors. So each failure begins a new one (R1),
    while others finish what they have with the old one, which goes when nobody uses it any more.

    Attributes:
        begun: How many have been started.

    Args:
        options: Returns aiokafka's arguments; asked for each, because certificates are renewed.
    """

    def __init__(self, options: Callable[[], Mapping[str, Any]]) -> None:
        self.begun = 0
        self._options = options
        self._current: AIOKafkaProducer | None = None
        self._starting = asyncio.Lock()
        self._users: dict[AIOKafkaProducer, int] = {}
        self._closing: set[asyncio.Task[None]] = set()

    async def take(self) -> AIOKafkaProducer:
        """Return the producer of the moment; ``release`` it afterwards.

        Raises:
            KafkaError, OSError, TimeoutError: There is none, and it cannot be started now.
            StartupError: A file of ``Kafka.Security`` cannot be used.
        """
        if self._current is None:
            async with self._starting:
                if self._current is None:
                    self._current = await self._start()
        producer = self._current
        self._users[producer] += 1
        return producer

    async def _start(self) -> AIOKafkaProducer:
        producer = AIOKafkaProducer(**self._options())
        try:
            await producer.start()
        except BaseException:
            await close_producer(producer)
            raise
        self._users[producer] = 0
        self.begun += 1
        return producer

    def release(self, producer: AIOKafkaProducer, *, failed: bool) -> None:
        """Give a producer back: the future of a batch is done.

        Args:
            producer: It.
            failed: The future has failed: nobody takes this producer any more.
        """
        if producer not in self._users:
            return  # all were closed meanwhile
        self._users[producer] -= 1
        if failed and self._current is producer:
            self._current = None
        if producer is not self._current and not self._users[producer]:
            del self._users[producer]
            task = asyncio.create_task(close_producer(producer))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """Close all. What they have under way fails, or stays as it is."""
        producers, self._users, self._current = [*self._users], {}, None
        await asyncio.gather(*self._closing, *map(close_producer, producers))


class BatchProducer:
    """Sends batches with all replicas' acknowledgement, in order within a partition.

    Args:
        options: Returns the arguments of ``AIOKafkaProducer``, see ``Producers``; it is idempotent
            whatever they say.
    """

    def __init__(self, options: Callable[[], Mapping[str, Any]]) -> None:
        self._producers = Producers(
            lambda: {**options(), "acks": "all", "enable_idempotence": True}
        )

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
            StartupError: A file of ``Kafka.Security`` cannot be used; it may be being renewed, so
                do the same.
        """
        producer = await self._producers.take()
        failed = False
        try:
            if partition not in await producer.partitions_for(topic):
                raise UnknownTopicOrPartitionError(f"{topic} has no partition {partition}")
            batch = producer.create_batch()
            upto = _fill(batch, entries, first, size_max)
            future = await producer.send_batch(batch, topic, partition=partition)
            # Whoever waits may be cancelled; aiokafka needs it until then, and it may fail yet.
            future.add_done_callback(_retrieve)
            await asyncio.shield(future)
        except CLIENT_ERRORS:
            failed = True
            raise
        finally:
            self._producers.release(producer, failed=failed)
        return upto

    async def close(self) -> None:
        """Close the producer; what is under way fails."""
        await self._producers.close()


def _fill(batch: BatchBuilder, entries: Sequence[Entry], first: int, size_max: int) -> int:
    """Put entries into a batch, the first one in any case; return the first one that is not."""
    size, upto = BATCH_OVERHEAD, first
    for time_ms, key, value, headers in islice(entries, first, None):
        size += len(key or b"") + len(value) + ENTRY_OVERHEAD
        for name, content in headers:
            size += len(name) + len(content) + HEADER_OVERHEAD
        if size > size_max and upto > first:
            break
        if batch.append(timestamp=time_ms, key=key, value=value, headers=headers) is None:
            break
        upto += 1
    batch.close()
    return upto


def _retrieve(future: "asyncio.Future[object]") -> None:
    if future.done() and not future.cancelled():
        future.exception()
