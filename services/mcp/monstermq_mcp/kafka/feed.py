"""Live messages of a bus on Kafka: one reader of all partitions, as long as somebody watches."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

from monstermq_mcp.kafka.door import BusDoor
from monstermq_shared.bus.kafka.log import KafkaLog
from monstermq_shared.bus.ports import RecordBatch
from monstermq_shared.bus.wanted import Wanted, message_in
from monstermq_shared.bus.watching import MessageWatch, Published, check_room
from monstermq_shared.errors import BusError, BusGap
from monstermq_shared.queries.filters import checked_filters

logger = logging.getLogger(__name__)


class KafkaFeed:
    """See ``queries.ports.LiveFeed``.

    Args:
        door: Opens the bus.
    """

    def __init__(self, door: BusDoor) -> None:
        self._door = door
        self._watches: dict[MessageWatch, Wanted] = {}
        self._beginning = asyncio.Lock()
        self._reading: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def watch(
        self, filters: Sequence[str], *, payload_limit: int
    ) -> AsyncIterator[MessageWatch]:
        """See ``LiveFeed.watch``."""
        wanted = Wanted(checked_filters(filters))
        check_room(len(self._watches))
        watch = MessageWatch(payload_limit)
        self._watches[watch] = wanted
        try:
            await self._begin()
            yield watch
        finally:
            del self._watches[watch]
            if not self._watches:
                await self._end()

    async def _begin(self) -> None:
        """See that somebody reads, from now on at the latest."""
        async with self._beginning:
            if self._reading is None or self._reading.done():
                log = (await self._door.bus()).messages
                positions = dict(await log.end_positions())
                self._reading = asyncio.create_task(self._read(log, positions), name="live")
                self._reading.add_done_callback(self._ended)

    def _ended(self, reading: "asyncio.Task[None]") -> None:
        """Tell those who watch that nothing more comes, unless others read on."""
        if reading is not self._reading or reading.cancelled():
            return
        if exc := reading.exception():
            logger.error("live messages have failed", exc_info=exc)
        for watch in self._watches:
            watch.end("the bus on Kafka was lost while it was watched; call again")

    async def _end(self) -> None:
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.cancel()
            with suppress(asyncio.CancelledError):
                await reading

    async def _read(self, log: KafkaLog, positions: dict[int, int]) -> None:
        """Hand messages out until nobody watches, or the bus ends."""
        ended = False
        while not ended:
            reader = log.read(positions)
            try:
                async for batch in reader:
                    self._hand_out(batch)
                ended = True
            except BusGap as gap:
                positions = {**reader.positions, gap.partition: gap.found}
                for watch in self._watches:
                    watch.dropped += gap.lost or 0
            except BusError as exc:
                logger.warning("live messages end: %s", exc)
                ended = True
            finally:
                await reader.aclose()

    def _hand_out(self, batch: RecordBatch) -> None:
        for entry in batch.entries:
            targets = [watch for watch, it in self._watches.items() if it.takes(entry.topic)]
            record = message_in(entry) if targets else None
            if record is None:
                continue
            message = Published(
                entry.topic,
                record.payload,
                record.timestamp_ms,
                record.qos,
                record.retained,
                record.client_id,
                record.id,
            )
            for watch in targets:
                watch.put(message)
