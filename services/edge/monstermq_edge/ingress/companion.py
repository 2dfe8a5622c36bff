"""What reads Kafka topics of others beside a broker, in its loop: its bus is there."""

import asyncio
import logging
from importlib import import_module

from monstermq_edge.ingress.appending import Appender
from monstermq_edge.ingress.aside import Aside, Nowhere
from monstermq_edge.ingress.counts import IngressCollector
from monstermq_edge.ingress.dead_letters import DeadLetters
from monstermq_edge.ingress.messages import Reading
from monstermq_edge.ingress.reader import IngressReader, group_of
from monstermq_shared.bus.ports import BusPort
from monstermq_shared.bus.publishing import PublisherLimits
from monstermq_shared.clock import Clock
from monstermq_shared.config import BrokerConfig, KafkaIngress, StoreType
from monstermq_shared.config.checks import postgres_connection, stores_of
from monstermq_shared.kafka.settings import KafkaSettings

logger = logging.getLogger(__name__)

STOP_S = 5.0
"""How long a stop waits for what was read to be on the bus."""


class Ingress:
    """A companion of the broker, see ``companion.Companion``. Nobody waits for Kafka.

    Args:
        config: What to read.
        bus: Where it goes.
        clock: The wall's.

    Attributes:
        collector: See ``Companion``.
    """

    def __init__(self, config: BrokerConfig, bus: BusPort, clock: Clock) -> None:
        settings, limits = KafkaSettings.from_config(config), PublisherLimits.from_config(config)
        appender = Appender(bus.messages, clock)
        self._readers = [
            IngressReader(
                at,
                settings,
                appender=appender,
                reading=Reading(at, bus.generation, limits),
                group=group_of(at, bus.generation),
                aside=_aside(at, config, settings),
            )
            for at in config.kafka.ingress
        ]
        self._faults: list[str] = []
        self._tasks: list[asyncio.Task[None]] = []
        self.collector = IngressCollector([reader.counts for reader in self._readers])

    async def start(self) -> None:
        """See ``Companion.start``."""
        self._tasks = [
            asyncio.create_task(reader.run(), name="ingress") for reader in self._readers
        ]
        for task in self._tasks:
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A fault of ours ends the reading, and never the broker."""
        error = None if task.cancelled() else task.exception()
        if error is not None:
            logger.critical("reading a Kafka topic has failed; the broker goes on", exc_info=error)
            self._faults.append(f"reading a Kafka topic has failed: {error!r}")

    async def stop(self) -> None:
        """See ``Companion.stop``."""
        for reader in self._readers:
            reader.stop()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=STOP_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def concerns(self) -> list[str]:
        """See ``Companion.concerns``."""
        return self._faults + [at.trouble for at in self._readers if at.trouble is not None]

    def urls(self) -> list[str]:
        """See ``Companion.urls``: there are none."""
        return []


def _aside(ingress: KafkaIngress, config: BrokerConfig, settings: KafkaSettings) -> Aside:
    if ingress.dead_letter_topic is not None:
        return DeadLetters(ingress.dead_letter_topic, settings)
    if StoreType.POSTGRES not in {store for _, store in stores_of(config)}:
        return Nowhere()
    # Its driver is not needed where nothing is in PostgreSQL.
    quarantine = import_module("monstermq_edge.ingress.quarantine")
    aside: Aside = quarantine.Quarantine(postgres_connection(config))
    return aside
