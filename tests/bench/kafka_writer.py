"""Somebody else who writes to the bus, as an edge does."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from tests.bench.kafka_places import KafkaPlace

from monstermq_shared.bus.kafka.bus import KafkaBus, open_kafka_bus
from monstermq_shared.messages import MessageRun

TICK_S = 0.01
_RUNS_PER_TURN = 100


class BusWriter:
    """Appends runs, and knows when Kafka has all of them."""

    def __init__(self, bus: KafkaBus) -> None:
        self.bus = bus
        self._log = bus.messages
        self._left = 0
        self._none_left = asyncio.Event()
        self._log.on_appended = self._appended

    def _appended(self, tickets: list[object]) -> None:
        self._left -= len(tickets)
        if not self._left:
            self._none_left.set()

    def append(self, run: MessageRun) -> None:
        """Append a run; it is sent by ``flush``."""
        log, topic = self._log, run.topic
        self._left += 1
        now_ms = int(time.time() * 1000)
        log.append_run(log.partition_of(topic.decode()), topic, run, "elsewhere", now_ms, self)

    async def write(self, runs: Iterable[MessageRun]) -> None:
        """Append runs as fast as Kafka takes them."""
        for number, run in enumerate(runs, start=1):
            self.append(run)
            if number % _RUNS_PER_TURN == 0:
                self._log.flush()
                await asyncio.sleep(0)
                await self._log.room()
        await self.flush()

    async def write_steadily(self, runs: Iterable[MessageRun], per_s: int, seconds: float) -> int:
        """Append runs at a rate of messages, as far as Kafka goes; how many messages that were."""
        loop, source, written = asyncio.get_running_loop(), iter(runs), 0
        began_s = loop.time()
        while (passed_s := loop.time() - began_s) < seconds:
            while written < passed_s * per_s:
                run = next(source)
                self.append(run)
                written += run.count
            self._log.flush()
            await asyncio.sleep(TICK_S)
            await self._log.room()
        await self.flush()
        return written

    async def flush(self) -> None:
        """Return when Kafka has all."""
        self._log.flush()
        while self._left:
            self._none_left.clear()
            await self._none_left.wait()


@asynccontextmanager
async def bus_writer(place: KafkaPlace) -> AsyncIterator[BusWriter]:
    """Open the bus, whose topics are made if they are missing."""
    bus = await open_kafka_bus(place.settings)
    try:
        yield BusWriter(bus)
    finally:
        await bus.close()
