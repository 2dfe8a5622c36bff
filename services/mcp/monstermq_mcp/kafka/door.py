"""The bus, opened by the first who needs it: what is asked of databases does not wait for Kafka."""

import asyncio
import logging
from contextlib import suppress

from monstermq_shared.bus.kafka.bus import KafkaBus, open_kafka_bus
from monstermq_shared.errors import BusUnavailable, MonsterError
from monstermq_shared.kafka.settings import KafkaSettings

logger = logging.getLogger(__name__)

OPEN_S = 10.0
"""How long the opening may take, for whoever waits for it."""


class BusDoor:
    """Opens the bus once, again after a failure, and closes it.

    Args:
        settings: Of the cluster.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._lock = asyncio.Lock()
        self._bus: KafkaBus | None = None
        self._watching: asyncio.Task[None] | None = None

    async def bus(self) -> KafkaBus:
        """Return the bus.

        Raises:
            BusUnavailable: Kafka cannot be reached, or its topics are not as they should be.
        """
        try:
            async with asyncio.timeout(OPEN_S), self._lock:
                if self._bus is None:
                    self._bus = await open_kafka_bus(self._settings)
                    self._watching = asyncio.create_task(self._watch(self._bus), name="bus")
                return self._bus
        except TimeoutError as exc:
            raise BusUnavailable(f"Kafka has not answered within {OPEN_S:g} s") from exc
        except MonsterError as exc:
            raise BusUnavailable(f"the bus on Kafka cannot be opened: {exc}") from exc

    async def _watch(self, bus: KafkaBus) -> None:
        """Should the bus fail by a fault of ours, let the next one who needs it open another."""
        try:
            await bus.watch()
        except Exception:
            logger.exception("the bus has failed; it is opened again")
        self._bus = None
        await bus.close()

    async def close(self) -> None:
        """Close the bus, if it is open."""
        bus, self._bus = self._bus, None
        if self._watching is not None:
            self._watching.cancel()
            with suppress(asyncio.CancelledError):
                await self._watching
        if bus is not None:
            await bus.close()
