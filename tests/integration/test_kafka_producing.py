"""Batches to real Kafka servers that go away, come back and refuse."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    KafkaError,
    MessageSizeTooLargeError,
    UnknownTopicOrPartitionError,
)
from tests.support.kafka import KafkaServer
from tests.support.kafka_tools import create_topic, read_topic

from monstermq_shared.config import Compression
from monstermq_shared.errors import StartupError, StoreUnavailable
from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.kafka.admin import TopicFacts
from monstermq_shared.kafka.producing import BatchProducer, Entry, close_producer
from monstermq_shared.stores.kafka.archives import ArchiveTopic
from monstermq_shared.stores.kafka.production import Production, _Lane

BOUND_S = 60.0
CLOSING_S = 10.0
"""Beyond the time that closing may take by itself: the machine may be busy."""

SIZE_MAX = 100_000

pytestmark = pytest.mark.integration


def options(server: KafkaServer, **changed: Any) -> dict[str, Any]:
    return {
        "bootstrap_servers": server.address(),
        "acks": "all",
        "enable_idempotence": True,
        "max_batch_size": SIZE_MAX,
        **changed,
    }


def entries(*values: bytes) -> list[Entry]:
    now_ms = time.time_ns() // 1_000_000
    return [(now_ms, b"key", value, []) for value in values]


def numbered(first: int, count: int) -> list[Entry]:
    return entries(*(b"%d" % number for number in range(first, first + count)))


async def send_all(producer: BatchProducer, topic: str, given: list[Entry]) -> int:
    """Send them all; return in how many batches."""
    first = batches = 0
    async with asyncio.timeout(BOUND_S):
        while first < len(given):
            first = await producer.send(topic, 0, given, first=first, size_max=SIZE_MAX)
            batches += 1
    return batches


async def values_of(server: KafkaServer, topic: str) -> list[bytes]:
    return [record.value for record in await read_topic(server.address(), topic)]


@pytest.fixture
async def producer(kafka_server: KafkaServer) -> AsyncIterator[BatchProducer]:
    producer = BatchProducer(lambda: options(kafka_server))
    yield producer
    await producer.close()


async def test_batches_are_bounded_and_in_order(
    producer: BatchProducer, kafka_server: KafkaServer, kafka_topic: str
) -> None:
    await create_topic(kafka_server.address(), kafka_topic)
    given = numbered(0, 10_000)
    assert await send_all(producer, kafka_topic, given) > 1
    assert await values_of(kafka_server, kafka_topic) == [value for _, _, value, _ in given]


async def test_one_entry_larger_than_a_batch_is_sent_by_itself(
    producer: BatchProducer, kafka_server: KafkaServer, kafka_topic: str
) -> None:
    await create_topic(kafka_server.address(), kafka_topic)
    given = entries(b"small", b"x" * 5 * SIZE_MAX, b"small")
    assert await send_all(producer, kafka_topic, given) == 3
    assert await values_of(kafka_server, kafka_topic) == [value for _, _, value, _ in given]


async def test_after_a_refusal_the_same_goes_on_with_another_producer(
    producer: BatchProducer, kafka_server: KafkaServer, kafka_topic: str
) -> None:
    settings = {"max.message.bytes": "1000"}
    await create_topic(kafka_server.address(), kafka_topic, settings=settings)
    await send_all(producer, kafka_topic, entries(b"1"))
    with pytest.raises(MessageSizeTooLargeError):
        await send_all(producer, kafka_topic, entries(b"x" * 2_000))
    await send_all(producer, kafka_topic, entries(b"2"))
    await send_all(producer, kafka_topic, entries(b"3"))
    assert await values_of(kafka_server, kafka_topic) == [b"1", b"2", b"3"]


async def test_one_refusal_fails_nothing_else_that_is_under_way(
    producer: BatchProducer, kafka_server: KafkaServer, kafka_topic: str
) -> None:
    small, large = f"{kafka_topic}-small", f"{kafka_topic}-large"
    settings = {"max.message.bytes": "1000"}
    await create_topic(kafka_server.address(), small, settings=settings)
    await create_topic(kafka_server.address(), large)
    for _ in range(5):
        sends = [
            send_all(producer, small, entries(b"x" * 2_000)),
            send_all(producer, large, entries(b"x" * 2_000)),
        ]
        refused, taken = await asyncio.gather(*sends, return_exceptions=True)
        assert isinstance(refused, MessageSizeTooLargeError)
        assert taken == 1
    assert len(await values_of(kafka_server, large)) == 5


async def test_a_producer_that_is_made_anew_asks_for_its_options_again(
    kafka_server: KafkaServer, kafka_topic: str
) -> None:
    await create_topic(kafka_server.address(), kafka_topic)
    files = iter([True, False, True])

    def ask() -> dict[str, Any]:
        if not next(files):
            raise StartupError("Kafka.Security.CertFile cannot be used", exit_code=ExitCode.TLS)
        return options(kafka_server)

    producer = BatchProducer(ask)
    try:
        await send_all(producer, kafka_topic, entries(b"1"))
        with pytest.raises(UnknownTopicOrPartitionError):
            await producer.send(kafka_topic, 99, entries(b"x"), first=0, size_max=SIZE_MAX)
        with pytest.raises(StartupError):
            await send_all(producer, kafka_topic, entries(b"x"))
        await send_all(producer, kafka_topic, entries(b"2"))
    finally:
        await producer.close()
    assert await values_of(kafka_server, kafka_topic) == [b"1", b"2"]


async def test_an_archive_waits_for_a_file_that_is_being_renewed() -> None:
    def ask() -> dict[str, Any]:
        raise StartupError("Kafka.Security.CertFile cannot be used", exit_code=ExitCode.TLS)

    topic = ArchiveTopic(TopicFacts(name="t", partitions=1, replication=1))
    lane = _Lane(topic, 0, entries(b"1"), Compression.NONE)
    with pytest.raises(StoreUnavailable, match=r"topic t: .*CertFile cannot be used"):
        await Production([lane], "nowhere").run({Compression.NONE: BatchProducer(ask)})


async def test_an_outage_doubles_nothing(own_kafka: KafkaServer, kafka_topic: str) -> None:
    await create_topic(own_kafka.address(), kafka_topic)
    producer = BatchProducer(lambda: options(own_kafka))
    try:
        await send_all(producer, kafka_topic, numbered(0, 10_000))
        for first in (10_000, 20_000):
            sent = asyncio.create_task(send_all(producer, kafka_topic, numbered(first, 10_000)))
            await asyncio.to_thread(own_kafka.kill)
            await asyncio.to_thread(own_kafka.start)
            await sent
    finally:
        await producer.close()
    values = await values_of(own_kafka, kafka_topic)
    assert values == [b"%d" % number for number in range(30_000)]


async def closing_s(producer: AIOKafkaProducer) -> float:
    began = time.monotonic()
    async with asyncio.timeout(BOUND_S):
        await close_producer(producer)
    return time.monotonic() - began


async def pending(server: KafkaServer, topic: str, **changed: Any) -> AIOKafkaProducer:
    """A producer that has a batch on its way, and others behind it."""
    producer = AIOKafkaProducer(**options(server, **changed))
    await producer.start()
    await producer.send_and_wait(topic, b"1", partition=0)
    return producer


@pytest.mark.parametrize("how", ["stop", "kill", "freeze"])
async def test_a_producer_is_closed_whatever_the_server_does(
    own_kafka: KafkaServer, kafka_topic: str, how: str
) -> None:
    await create_topic(own_kafka.address(), kafka_topic, partitions=3)
    producer = await pending(own_kafka, kafka_topic)
    await asyncio.to_thread(getattr(own_kafka, how))
    futures = []
    for partition in range(3):
        batch = producer.create_batch()
        batch.append(timestamp=1, key=b"k", value=b"2")
        batch.close()
        futures.append(await producer.send_batch(batch, kafka_topic, partition=partition))
    # Some are on their way, or about to be repeated.
    await asyncio.wait(futures, timeout=0.5)
    assert await closing_s(producer) < CLOSING_S
    for outcome in await asyncio.gather(*futures, return_exceptions=True):
        assert isinstance(outcome, KafkaError | asyncio.CancelledError)


async def test_a_producer_that_was_never_started_is_closed() -> None:
    producer = AIOKafkaProducer(bootstrap_servers="127.0.0.1:1")
    assert await closing_s(producer) < CLOSING_S


async def test_a_server_that_is_away_fails_the_start_and_leaves_nothing_open() -> None:
    nowhere = {"bootstrap_servers": "127.0.0.1:1", "enable_idempotence": True}
    producer = BatchProducer(lambda: nowhere)
    for _ in range(2):
        with pytest.raises(KafkaError):
            await producer.send("t", 0, entries(b"1"), first=0, size_max=SIZE_MAX)
    await producer.close()
