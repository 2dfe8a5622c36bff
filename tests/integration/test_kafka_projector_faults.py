"""Projectors whose commits get lost, and that have much to catch up with.

``test_projector_faults.py`` has the other faults of projectors.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

import asyncpg
import psutil
import pytest
from tests.integration.kafka_scenes import KafkaScene
from tests.integration.observing import MIB, metric, until_ready
from tests.support.bus_writing import BusWriter
from tests.support.kafka_stack import KafkaStack, ProjectorProcess
from tests.support.log_reading import LogReader
from tests.support.postgres import PostgresServer
from tests.support.proxy import CommitLoss, Proxy

from monstermq_shared.bus.kafka.bus import KafkaBus, open_kafka_bus
from monstermq_shared.config import load_config
from monstermq_shared.kafka.settings import KafkaSettings

pytestmark = pytest.mark.integration

LOAD = 500
BOUND_S = 60.0
LOSSES = 6

MUCH = 1024 if int(os.environ.get("MONSTERMQ_FAULT_ROUNDS", "20")) > 20 else 64
"""MiB that a projector has to catch up with; a gigabyte in ``make test-faults``."""

CATCH_UP_S = 600.0

LARGE = 100_000
"""Bytes of each of these messages."""

GROWTH_MIB = 250
"""By how much a projector may grow over them: some chunks, and some commits on their way."""


_BEGINNINGS = """
SELECT topic, substring(payload FROM '^[^ ]+ [^ ]+') FROM mcparchive ORDER BY partition, position
"""


@dataclass(frozen=True, slots=True)
class Writing:
    """A stack without edges: the test itself writes the log.

    Attributes:
        scene: Whose tables are checked.
        bus: The test's own.
        writer: On it.
    """

    scene: KafkaScene
    bus: KafkaBus
    writer: BusWriter

    @property
    def views(self) -> ProjectorProcess:
        """The projector of the tables."""
        return self.scene.stack.views

    async def check(self) -> LogReader:
        """Assert that the log is what was written, and the tables what follows from it."""
        stack = self.scene.stack
        await self.writer.idle(BOUND_S)
        async with LogReader(stack.servers, stack.topic) as log:
            ends = await log.read_to_end()
        rows = log.rows()
        await self.scene.until_reflected(ends)
        await self.scene.check_tables(rows)
        self.writer.check(rows)
        return log


@asynccontextmanager
async def writing(scene: KafkaScene) -> AsyncIterator[Writing]:
    """Give a writer on the stack's log, whose views have begun."""
    stack = scene.stack
    await asyncio.to_thread(stack.views.start)
    await until_ready(stack.views, 200, BOUND_S)
    config = load_config(stack.config_path, {}).config
    bus = await open_kafka_bus(KafkaSettings.from_config(config))
    try:
        yield Writing(scene, bus, BusWriter(bus.messages))
    finally:
        await bus.close()


async def test_commits_of_unknown_outcome_count_once(
    kafka_scene: KafkaScene, postgres_server: PostgresServer
) -> None:
    """P5: version and token tell whether it was applied."""
    stack = kafka_scene.stack
    async with Proxy(postgres_server.port) as proxy:
        url = postgres_server.url(stack.database)
        through = url.replace(f":{postgres_server.port}/", f":{proxy.port}/")
        stack.settings["Postgres"] = {"Url": through}
        stack.write()
        async with writing(kafka_scene) as at:
            with at.writer.load():
                for number in range(LOSSES):
                    lost = proxy.lose_next_commit(list(CommitLoss)[number % 2])
                    async with asyncio.timeout(BOUND_S):
                        await lost.wait()
                    await at.writer.more(LOAD // 10, BOUND_S)
            await at.check()
        assert proxy.commits_lost == LOSSES


async def test_one_that_was_away_for_long_catches_up_within_its_memory(
    kafka_scene: KafkaScene,
) -> None:
    async with writing(kafka_scene) as at:
        before = psutil.Process(at.views.pid).memory_info().rss
        at.views.freeze()
        await write_much(at, MUCH)
        at.views.thaw()
        peak = await watch_memory(at, before)
        found = await beginnings(kafka_scene.stack)
    print(f"{MUCH} MiB, grown by at most {peak} MiB")
    assert found == at.writer.appended
    assert peak < GROWTH_MIB


async def write_much(at: Writing, mib: int) -> None:
    """Append so much, with a bounded part on its way."""
    filling = "x" * LARGE
    topics = list(at.writer.appended)
    for number in range(mib * MIB // LARGE):
        topic = topics[number % len(topics)]
        await at.writer.until(partial(_has_room, at, at.writer.partition_of(topic)), BOUND_S)
        name = f"{topic} {number}"
        payload = f"{name} {filling}".encode()
        at.writer.append(topic, [payload], time.time_ns() // 1_000_000, [name.encode()])
        at.bus.messages.flush()
    await at.writer.idle(BOUND_S)


def _has_room(at: Writing, partition: int) -> bool:
    return not at.bus.messages.is_full(partition)


async def watch_memory(at: Writing, before: int) -> int:
    """Return by how many MiB the projector grows at most, until it is done."""
    process, peak = psutil.Process(at.views.pid), before
    ends = await at.bus.messages.end_positions()
    caught_up = asyncio.create_task(at.scene.until_reflected(ends, CATCH_UP_S))
    while not caught_up.done():
        peak = max(peak, process.memory_info().rss)
        await metric(at.views, "monstermq_commits_total")
    await caught_up
    return (peak - before) // MIB


async def beginnings(stack: KafkaStack) -> dict[str, list[bytes]]:
    """Return topic -> what each payload of the archive begins with, in order of position."""
    connection = await asyncpg.connect(stack.postgres.url(stack.database))
    try:
        rows = await connection.fetch(_BEGINNINGS)
    finally:
        await connection.close()
    found: dict[str, list[bytes]] = {}
    for topic, name in rows:
        found.setdefault(topic, []).append(name.encode())
    return found
