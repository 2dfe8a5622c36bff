"""Where the partitions of a topic begin and end."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from aiokafka import TopicPartition

from monstermq_shared.bus.kafka.consuming import RecordConsumer
from monstermq_shared.errors import BusUnavailable
from monstermq_shared.kafka.errors import CLIENT_ERRORS, meaning_of
from monstermq_shared.kafka.settings import KafkaSettings

ANSWER_S = 10.0
"""How long an answer may take: whoever asks more often may try again."""


class Positions:
    """Asks by a connection of its own, which is kept.

    Args:
        topic: The topic.
        partitions: How many it has.
        settings: Of the cluster.
    """

    def __init__(self, topic: str, partitions: int, settings: KafkaSettings) -> None:
        self._partitions = [TopicPartition(topic, number) for number in range(partitions)]
        self._settings = settings
        self._consumer: RecordConsumer | None = None
        self._asking = asyncio.Lock()

    async def firsts(self) -> Mapping[int, int]:
        """Return the first offset of each partition.

        Raises:
            BusUnavailable: Kafka does not answer.
        """
        return await self._ask(lambda consumer: consumer.beginning_offsets(self._partitions))

    async def ends(self) -> Mapping[int, int]:
        """Return the offset that each partition's next record gets.

        Raises:
            BusUnavailable: Kafka does not answer.
        """
        return await self._ask(lambda consumer: consumer.end_offsets(self._partitions))

    async def since(self, time_ms: int) -> Mapping[int, int]:
        """Return for each partition the first offset whose record is of that time or later.

        A partition that has none is not there.

        Raises:
            BusUnavailable: Kafka does not answer.
        """

        async def ask(consumer: RecordConsumer) -> Mapping[TopicPartition, int]:
            found = await consumer.offsets_for_times(dict.fromkeys(self._partitions, time_ms))
            return {at: stamp.offset for at, stamp in found.items() if stamp is not None}

        return await self._ask(ask)

    async def _ask(
        self, question: Callable[[RecordConsumer], Awaitable[Mapping[TopicPartition, int]]]
    ) -> Mapping[int, int]:
        try:
            async with self._asking, asyncio.timeout(ANSWER_S):
                answer = await question(await self._connected())
        except CLIENT_ERRORS as exc:
            raise BusUnavailable(f"Kafka does not tell its positions: {meaning_of(exc)}") from exc
        return {at.partition: offset for at, offset in answer.items()}

    async def _connected(self) -> RecordConsumer:
        if self._consumer is None:
            consumer = RecordConsumer(**self._settings.consumer_options())
            await consumer.begin()
            self._consumer = consumer
        return self._consumer

    async def close(self) -> None:
        """Close the connection."""
        if self._consumer is not None:
            await self._consumer.end()
