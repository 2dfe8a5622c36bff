"""The producer of a log: which one is used now, and when it is closed.

An aiokafka producer is good until the future of one batch fails; then what follows may be refused
for ever, or accepted without its predecessors. So each failure begins a new one (R1), while other
partitions finish what they have with the old one.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from monstermq_shared.kafka.settings import Options
from monstermq_shared.retries import pause

logger = logging.getLogger(__name__)

STOP_S = 5.0
"""How long a producer may take to stop before its connections are closed under it."""


class Producers:
    """Hands out the producer of the moment; a failed one goes when nobody uses it any more.

    Attributes:
        begun: How many have been started.

    Args:
        options: Returns aiokafka's arguments; asked for each, because certificates are renewed.
    """

    def __init__(self, options: Callable[[], Options]) -> None:
        self.begun = 0
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
            producer = AIOKafkaProducer(**self._options())
            try:
                await producer.start()
            except (KafkaError, OSError, TimeoutError) as exc:
                logger.debug("no producer yet: %r", exc)
                await producer.stop()
            except BaseException:
                await stop(producer)
                raise
            else:
                self._users[producer] = 0
                self.begun += 1
                return producer
            await pause(attempt)
            attempt += 1

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
            task = asyncio.create_task(stop(producer))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """Close all. What they have under way fails, or stays as it is."""
        producers, self._users, self._current = [*self._users], {}, None
        await asyncio.gather(*self._closing, *map(stop, producers))


async def stop(producer: AIOKafkaProducer) -> None:
    """Stop a producer in bounded time, whatever its server does.

    aiokafka's own ``stop`` waits for what is under way, and a server that does not answer makes
    that for ever; so then the connections go first, and the task that repeats requests.
    """
    stopping = asyncio.ensure_future(producer.stop())
    await asyncio.wait([stopping], timeout=0 if _is_busy(producer) else STOP_S)
    if not stopping.done():
        await producer.client.close()
        task = producer._sender.sender_task  # noqa: SLF001 - there is no public way to give up
        if task is not None:
            task.cancel()
    with suppress(KafkaError, OSError, asyncio.CancelledError):
        await stopping


def _is_busy(producer: AIOKafkaProducer) -> bool:
    accumulator = producer._message_accumulator  # noqa: SLF001 - as above
    return bool(accumulator._batches or accumulator._pending_batches)  # noqa: SLF001 - as above
