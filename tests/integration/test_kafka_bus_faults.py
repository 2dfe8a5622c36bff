"""The Kafka bus under load while its servers or its network fail: the writer's half of R1.

Whatever was acknowledged is in the log, once and in order; nothing else is but what may still be
acknowledged. ``test_kafka_outages.py`` has clusters, under the whole stack.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from aiokafka import TopicPartition
from tests.support.bus_writing import BusWriter
from tests.support.chance import drawn_random
from tests.support.kafka import KafkaServer
from tests.support.kafka_bus import produce
from tests.support.kafka_tools import create_topic
from tests.support.log_reading import LogReader
from tests.support.proxy import TcpProxy

from monstermq_edge.engines.kafka.kafka_trouble import KafkaTrouble
from monstermq_shared.bus.kafka.bus import KafkaBus, open_kafka_bus
from monstermq_shared.bus.kafka.consuming import RecordConsumer
from monstermq_shared.bus.kafka.log import NO_ANSWER
from monstermq_shared.config import Kafka
from monstermq_shared.config.kafka import KafkaBus as Section
from monstermq_shared.kafka.settings import KafkaSettings

pytestmark = pytest.mark.integration

PARTITIONS = 4
LOAD = 300
"""Messages between faults."""

BOUND_S = 60.0
KILLS = 2
CUTS = 4
DELAY_S = 0.02
TURN_S = 0.01
STALLED_S = 0.2
TOLD_S = 2.0
LATE_MS = 1_000_000
"""Longer than L."""


@asynccontextmanager
async def writing(servers: str, topic: str) -> AsyncIterator[tuple[KafkaBus, BusWriter]]:
    """Give a bus and a writer under load; in the end compare the log with what it wrote."""
    section = Section(topic=topic, partitions=PARTITIONS)
    settings = KafkaSettings(section=Kafka(servers=servers, bus=section), record_size_max=500_000)
    bus = await open_kafka_bus(settings)
    try:
        writer = BusWriter(bus.messages)
        with writer.load():
            await writer.more(LOAD, BOUND_S)
            yield bus, writer
            await writer.more(LOAD, BOUND_S)
        await writer.idle(BOUND_S)
        async with LogReader(servers, topic) as log:
            await log.read_to_end()
        writer.check(log.rows())
        read = await read_by_the_bus(bus)
        assert read == {p: [r.offset for r in records] for p, records in log.by_partition().items()}
        print(f"{len(writer.acknowledged)} messages, {log.doubles()} doubles in the log")
    finally:
        await bus.close()


async def read_by_the_bus(bus: KafkaBus) -> dict[int, list[int]]:
    """Return the offsets of what counts, as the product's own reader sees it."""
    found: dict[int, list[int]] = {}
    ends = await bus.messages.end_positions()
    reader = bus.messages.read(dict.fromkeys(range(PARTITIONS), 0))
    left = {partition for partition, end in ends.items() if end}
    async with asyncio.timeout(BOUND_S):
        async for batch in reader:
            offsets = [entry.offset for entry in batch.entries]
            found.setdefault(batch.partition, []).extend(offsets)
            if batch.upto >= ends[batch.partition]:
                left.discard(batch.partition)
            if not left:
                break
    await reader.aclose()
    return found


async def until(condition: Callable[[], bool]) -> None:
    """Return once something is so that nobody tells; it is looked at again and again."""
    turn = asyncio.Event()
    async with asyncio.timeout(BOUND_S):
        while not condition():
            turn.clear()
            asyncio.get_running_loop().call_later(TURN_S, turn.set)
            await turn.wait()


async def test_kills_of_the_server_lose_and_double_nothing(
    own_kafka: KafkaServer, kafka_topic: str
) -> None:
    rng = drawn_random()
    async with writing(own_kafka.address(), kafka_topic) as (_, writer):
        for _ in range(KILLS):
            await writer.more(rng.randint(1, LOAD), BOUND_S)
            own_kafka.kill()
            await asyncio.to_thread(own_kafka.start)
            await writer.more(LOAD, BOUND_S)


async def test_a_frozen_server_is_waited_for(own_kafka: KafkaServer, kafka_topic: str) -> None:
    async with writing(own_kafka.address(), kafka_topic) as (bus, writer):
        own_kafka.freeze()
        try:
            await until(lambda: len(bus.messages.stalled(STALLED_S)) == PARTITIONS)
        finally:
            own_kafka.thaw()
        await writer.more(LOAD, BOUND_S)
        assert not bus.messages.stalled(BOUND_S)


async def test_an_edge_tells_once_that_a_server_is_waited_for(
    own_kafka: KafkaServer, kafka_topic: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with writing(own_kafka.address(), kafka_topic) as (bus, writer):
        trouble = KafkaTrouble([bus.messages, bus.sessions], TOLD_S)
        watching = asyncio.create_task(trouble.watch())
        why = f"Kafka: {kafka_topic}, {PARTITIONS} partitions: {NO_ANSWER}"
        own_kafka.freeze()
        try:
            await until(lambda: trouble.reasons == [why])
            await until(lambda: any("Kafka: writes to" in line for line in caplog.messages))
        finally:
            own_kafka.thaw()
        await until(lambda: "Kafka: works again" in caplog.messages)
        watching.cancel()
        await writer.more(LOAD, BOUND_S)
        told = [line for line in caplog.messages if line.startswith("Kafka: ")]
    assert told == [f"Kafka: writes to {kafka_topic} hang: {NO_ANSWER}", "Kafka: works again"]


async def test_a_network_that_delays_and_cuts_loses_and_doubles_nothing(kafka_topic: str) -> None:
    rng = drawn_random()
    server = KafkaServer()
    async with TcpProxy(server.ports["PLAINTEXT"]) as proxy:
        through = f"127.0.0.1:{proxy.port}"
        server.settings["advertised.listeners"] = f"PLAINTEXT://{through}"
        try:
            await asyncio.to_thread(server.start)
            async with writing(through, kafka_topic) as (_, writer):
                proxy.delay_s = DELAY_S
                for _ in range(CUTS):
                    await writer.more(rng.randint(1, LOAD), BOUND_S)
                    proxy.cut()
                proxy.delay_s = 0.0
                await writer.more(LOAD, BOUND_S)
        finally:
            server.close()


async def test_what_is_refused_takes_nothing_with_it(
    kafka_server: KafkaServer, kafka_topic: str
) -> None:
    async with writing(kafka_server.address(), kafka_topic) as (_, writer):
        late_ms = time.time_ns() // 1_000_000 - LATE_MS
        late = {topic: f"{topic} late".encode() for topic in writer.appended}
        for topic, payload in late.items():
            writer.append(topic, [payload], late_ms)
        await writer.more(LOAD, BOUND_S)
        await writer.until(lambda: writer.refused == set(late.values()), BOUND_S)
        for reason in writer.reasons:
            assert "too far from the server's clock" in str(reason), reason


async def test_a_reader_that_is_closed_while_a_failed_fetch_pauses_cancels_nobody(
    own_kafka: KafkaServer, kafka_topic: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, "aiokafka.consumer.fetcher")  # a tool may have silenced it
    await create_topic(own_kafka.address(), kafka_topic)
    await produce(own_kafka.address(), kafka_topic, {"value": b"1"})
    consumer = RecordConsumer(
        bootstrap_servers=own_kafka.address(),
        enable_auto_commit=False,
        retry_backoff_ms=int(BOUND_S * 1000),
    )
    await consumer.begin()
    partition = TopicPartition(kafka_topic, 0)
    consumer.assign([partition])
    consumer.seek(partition, 0)
    assert await consumer.fetch(BOUND_S)
    own_kafka.kill()
    await until(lambda: "Failed fetch messages" in caplog.text)
    await consumer.end()
