"""A trial at start: may we write to the topics and read them, and do the clocks agree (R7)?"""

import asyncio
import os

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import InvalidTimestampError

from monstermq_shared.bus.control import encode_facts
from monstermq_shared.bus.header import CONTROL_HEADER, HEADER, RUN_SIZE, Kind, pack_header
from monstermq_shared.bus.kafka.consuming import RecordConsumer
from monstermq_shared.bus.kafka.topics import sessions_topic
from monstermq_shared.errors import StartupError
from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.kafka.errors import CLIENT_ERRORS, meaning_of
from monstermq_shared.kafka.producing import close_producer
from monstermq_shared.kafka.settings import KafkaSettings
from monstermq_shared.records import CONTROL_TOPIC, SESSION_TOPIC, ControlRecord, encode_record

ANSWER_S = 20.0
"""How long each half may take: a start is not to hang."""


async def try_topics(settings: KafkaSettings, wall_ms: int) -> None:
    """Append a control record without facts to each topic, and read it back.

    Args:
        settings: Of the cluster.
        wall_ms: The time of this process.

    Raises:
        StartupError: It does not work; the message names the setting or the right.
    """
    topic = settings.section.bus.topic
    kinds = {topic: (CONTROL_TOPIC, Kind.ACKS), sessions_topic(topic): (SESSION_TOPIC, Kind.LEASE)}
    for name, (control_topic, kind) in kinds.items():
        record = ControlRecord(control_topic, encode_facts(()).encode(), wall_ms, 0, kind)
        offset = await _write(settings, name, record)
        await _read(settings, TopicPartition(name, 0), offset)


async def _write(settings: KafkaSettings, topic: str, record: ControlRecord) -> int:
    producer = AIOKafkaProducer(**settings.producer_options())
    # A run of its own, because it has nothing to do with what this process will append.
    header = pack_header(record.kind, 0, False, False, os.urandom(RUN_SIZE), 0)
    try:
        async with asyncio.timeout(ANSWER_S):
            await producer.start()
            appended = await producer.send_and_wait(
                topic,
                encode_record(record),
                record.topic.encode(),
                partition=0,
                timestamp_ms=record.timestamp_ms,
                headers=[(HEADER, header), (CONTROL_HEADER, b"")],
            )
    except InvalidTimestampError as exc:
        lateness_s = settings.section.bus.lateness_s
        raise StartupError(
            f"the clock of this machine and that of Kafka differ by more than {lateness_s} s "
            "(Kafka.Bus.LatenessS): set the clocks",
            exit_code=ExitCode.BUS_MISMATCH,
        ) from exc
    except CLIENT_ERRORS as exc:
        raise _refused(f"writing to the topic {topic}", exc, settings) from exc
    finally:
        await close_producer(producer)
    offset: int = appended.offset
    return offset


async def _read(settings: KafkaSettings, partition: TopicPartition, offset: int) -> None:
    consumer = RecordConsumer(
        **settings.consumer_options(), enable_auto_commit=False, auto_offset_reset="none"
    )
    try:
        async with asyncio.timeout(ANSWER_S):
            await consumer.begin()
            consumer.assign([partition])
            consumer.seek(partition, max(offset, 0))
            while not await consumer.fetch(1.0):
                pass
    except CLIENT_ERRORS as exc:
        raise _refused(f"reading the topic {partition.topic}", exc, settings) from exc
    finally:
        await consumer.end()


def _refused(what: str, exc: BaseException, settings: KafkaSettings) -> StartupError:
    return StartupError(
        f"Kafka at {settings.section.servers}: {what} (Kafka.Bus.Topic): {meaning_of(exc)}",
        exit_code=ExitCode.BUS_UNREACHABLE,
    )
