"""The producer of a log: which one is used now, and when it is closed.

An aiokafka producer is good until the future of one batch fails; then what follows may be refused
for ever, or accepted without its predecessors. So each failure begins a new one (R1), while other
partitions finish what they have with the old one.
"""

import asyncio
import logging
from collections.abc import Callable

from aiokafka import AIOKafkaProducer

from monstermq_shared.errors import StartupError
from monstermq_shared.kafka.errors import CLIENT_ERRORS, meaning_of
from monstermq_shared.kafka.producing import close_producer
from monstermq_shared.kafka.settings import Options
from monstermq_shared.retries import pause

logger = logging.getLogger(__name__)


class Producers:
    """Hands out the producer of the moment; a failed one goes when nobody uses it any more.

    Attributes:
        begun: How many have been started.
        large: Held by whoever sends a large batch.

    Args:
        options: Returns aiokafka's arguments; asked for each, because certificates are renewed.
    """

    def __init__(self, options: Callable[[], Options]) -> None:
        self.begun = 0
        self.large = asyncio.Lock()
        self._options = options
        self._current: AIOKafkaProducer | None = None
        self._starting = asyncio.Lock()
        self._users: dict[AIOKafkaProducer, int] = {}
        self._closing: set[asyncio.Task[None]] = set()

    async def take(self) -> AIOKafkaProducer:
        """Return the producer of the moment, once there is one; ``release`` it afterwards."""
        if self._current is None:
            async with self._starting:
                if self._current is None:
                    self._current = await self._start()
        producer = self._current
        self._users[producer] += 1
        return producer

    async def _start(self) -> AIOKafkaProducer:
        attempt = 0
        while True:
            try:
                return await self._started()
            except (*CLIENT_ERRORS, StartupError) as exc:
                if not attempt:
                    logger.warning("no connection to write to Kafka by, yet: %s", meaning_of(exc))
            await pause(attempt)
            attempt += 1

    async def _started(self) -> AIOKafkaProducer:
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
