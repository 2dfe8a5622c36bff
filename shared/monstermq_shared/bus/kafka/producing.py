"""The producers of a log: whoever appends to the bus has nothing better to do than to wait."""

import asyncio
import logging
from collections.abc import Callable

from aiokafka import AIOKafkaProducer

from monstermq_shared.errors import StartupError
from monstermq_shared.kafka.errors import CLIENT_ERRORS, meaning_of
from monstermq_shared.kafka.producing import Producers
from monstermq_shared.kafka.settings import Options
from monstermq_shared.retries import pause

logger = logging.getLogger(__name__)


class PatientProducers(Producers):
    """Producers that are started again and again until one is there.

    Attributes:
        large: Held by whoever sends a large batch.

    Args:
        options: See ``Producers``.
    """

    def __init__(self, options: Callable[[], Options]) -> None:
        super().__init__(options)
        self.large = asyncio.Lock()

    async def _start(self) -> AIOKafkaProducer:
        attempt = 0
        while True:
            try:
                return await super()._start()
            except (*CLIENT_ERRORS, StartupError) as exc:
                if not attempt:
                    logger.warning("no connection to write to Kafka by, yet: %s", meaning_of(exc))
            await pause(attempt)
            attempt += 1
