"""A bus on a real Kafka, as tests open it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.record.default_records import (
    _DefaultRecordBatchBuilderPy as DefaultRecordBatchBuilder,
)

from monstermq_shared.bus.kafka.bus import KafkaBus, open_kafka_bus
from monstermq_shared.config import Kafka, KafkaSecurity
from monstermq_shared.config import KafkaBus as BusSection
from monstermq_shared.kafka.settings import KafkaSettings
from monstermq_shared.messages import MessageRun

RECORD_SIZE_MAX = 2_000_000


def bus_settings(
    servers: str,
    topic: str,
    *,
    security: dict[str, Any] | None = None,
    record_size_max: int = RECORD_SIZE_MAX,
    **bus: Any,
) -> KafkaSettings:
    """Return settings of a bus with three partitions.

    Args:
        servers: As in the configuration.
        topic: The bus topic.
        security: Members of ``Kafka.Security``.
        record_size_max: Bytes of the largest record.
        bus: Members of ``Kafka.Bus``.
    """
    section = Kafka(
        servers=servers,
        security=KafkaSecurity(**security or {}),
        bus=BusSection(topic=topic, **{"partitions": 3} | bus),
    )
    return KafkaSettings(section=section, record_size_max=record_size_max)


@asynccontextmanager
async def opened(settings: KafkaSettings) -> AsyncIterator[KafkaBus]:
    """Open a bus for as long as the block lasts."""
    bus = await open_kafka_bus(settings)
    try:
        yield bus
    finally:
        await bus.close()


def a_run(topic: str, *payloads: bytes, qos: int = 0) -> MessageRun:
    """Return what a client says in one read chunk on one topic."""
    stops = [sum(map(len, payloads[: i + 1])) for i in range(len(payloads))]
    return MessageRun(topic.encode(), qos, False, b"".join(payloads), (), [0, *stops[:-1]], stops)


async def produce(address: str, topic: str, *records: dict[str, Any]) -> None:
    """Write records as somebody else's producer does.

    Args:
        address: The server's.
        topic: Where.
        records: Arguments of ``AIOKafkaProducer.send_and_wait``.
    """
    producer = AIOKafkaProducer(bootstrap_servers=address, max_request_size=50_000_000)
    await producer.start()
    try:
        for record in records:
            await producer.send_and_wait(topic, **record)
    finally:
        await producer.stop()


class HeaderName(str):
    """A header's name that need not be text: what Kafka is given of it is ``raw``."""

    raw: bytes

    @classmethod
    def of(cls, raw: bytes) -> "HeaderName":
        """Return the name that these bytes are."""
        name = cls("?")
        name.raw = raw
        return name

    def encode(self, *_: object) -> bytes:
        """Return the bytes."""
        return self.raw


def batch_builder(compression: int = 0) -> DefaultRecordBatchBuilder:
    """Return what builds a batch, also with a ``HeaderName``; ``compression`` is Kafka's number."""
    return DefaultRecordBatchBuilder(2, compression, 0, -1, -1, 0, 1_000_000)


async def produce_with_header(
    address: str, topic: str, partition: int, name: HeaderName, value: bytes
) -> None:
    """Write a record with one header, as clients may that are written in C.

    Args:
        address: The server's.
        topic: Where.
        partition: The same.
        name: The header's.
        value: The record's.
    """
    producer = AIOKafkaProducer(bootstrap_servers=address)
    await producer.start()
    try:
        builder = producer.create_batch()
        builder._builder = batch_builder()
        builder.append(timestamp=None, key=b"a", value=value, headers=[(name, b"1")])
        await (await producer.send_batch(builder, topic, partition=partition))
    finally:
        await producer.stop()
