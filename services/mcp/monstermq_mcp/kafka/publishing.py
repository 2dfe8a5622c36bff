"""Publishing to a bus on Kafka: an edge delivers what stands there, whoever wrote it."""

import os

from monstermq_mcp.kafka.door import BusDoor
from monstermq_shared.bus.header import RUN_SIZE
from monstermq_shared.bus.kafka.bus import KafkaBus
from monstermq_shared.bus.publishing import LogPublisher, PublisherLimits
from monstermq_shared.clock import SystemClock
from monstermq_shared.queries.live import Publication


class KafkaPublisher:
    """See ``queries.ports.Publisher``.

    Args:
        door: Opens the bus.
        limits: What may be published.
    """

    def __init__(self, door: BusDoor, limits: PublisherLimits) -> None:
        self._door = door
        self._limits = limits
        self._bus: KafkaBus | None = None
        self._publisher: LogPublisher | None = None

    async def publish(self, publication: Publication) -> None:
        """See ``Publisher.publish``."""
        self._limits.check(publication)
        bus = await self._door.bus()
        if self._publisher is None or bus is not self._bus:
            # Another opening is another writer: what the last one has appended is not known.
            run, self._bus = os.urandom(RUN_SIZE), bus
            self._publisher = LogPublisher(bus.messages, run, SystemClock(), self._limits)
        await self._publisher.publish(publication)
