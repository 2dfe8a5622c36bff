"""Kafka's own programs, run by Java, from jars that ``scripts/install-test-tools kafka`` fetches.

Beside them what a test asks of a server before and after: a topic, and what stands in it.
"""

import os
import subprocess
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.errors import for_code
from tests.support.machine import program

VERSIONS = ("3.9.1", "4.1.1")
VERSION = os.environ.get("MONSTERMQ_TEST_KAFKA", VERSIONS[-1])
"""The version of servers whose test does not say which one."""

CONSOLE_CONSUMER = "org.apache.kafka.tools.consumer.ConsoleConsumer"
TOPIC_COMMAND = "org.apache.kafka.tools.TopicCommand"
TOOL_S = 60.0

_MEMORY = ("-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
_JARS_FOLDER = "MONSTERMQ_TEST_KAFKA_JARS"
_numbers = count(1)


class KafkaFailed(AssertionError):
    """The server or a tool ended, or did not become ready; the message carries its log."""


def jars(version: str = VERSION) -> Path:
    """Return the folder with the jars of a version.

    Raises:
        AssertionError: They have not been fetched.
    """
    cache = os.environ.get(_JARS_FOLDER) or Path.home() / ".cache/monstermq-tests/kafka"
    folder = Path(cache) / version
    assert folder.is_dir(), f"no Kafka {version} in {folder}: run scripts/install-test-tools kafka"
    return folder


def classes_file(version: str) -> Path:
    """Return where to keep the classes of a version as this machine's Java has them in memory."""
    built_s = int(Path(program("java")).stat().st_mtime)
    return jars(version).with_name(f"{version}-java-{built_s}.jsa")


def new_topic_name() -> str:
    """Return a topic's name that no other test has."""
    return f"monster{next(_numbers)}"


def java(version: str, name: str, *arguments: str, options: Sequence[str] = ()) -> list[str]:
    """Return the command that runs a Java class of Kafka.

    Args:
        version: One of ``VERSIONS``.
        name: The class.
        arguments: Its own.
        options: Java's.
    """
    return [program("java"), *_MEMORY, *options, "-cp", f"{jars(version)}/*", name, *arguments]


def run_tool(version: str, name: str, *arguments: str) -> str:
    """Run a console tool to its end and return what it prints.

    Raises:
        KafkaFailed: It failed.
    """
    done = subprocess.run(
        java(version, name, *arguments), capture_output=True, text=True, timeout=TOOL_S, check=False
    )
    if done.returncode != 0:
        raise KafkaFailed(f"{name}: {done.stdout}{done.stderr}")
    return done.stdout


async def create_topic(
    address: str,
    name: str,
    *,
    partitions: int = 1,
    replication: int = 1,
    settings: Mapping[str, str] | None = None,
) -> None:
    """Create a topic, in a tenth of the time that the console tool takes.

    Its leaders may need a moment more.

    Args:
        address: The server's, or several.
        name: The topic's.
        partitions: How many.
        replication: Copies of each.
        settings: The topic's own, such as ``retention.ms``.
    """
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    try:
        topic = NewTopic(name, partitions, replication, topic_configs=dict(settings or {}))
        answer = await admin.create_topics([topic])
        for _, code, message in answer.topic_errors:
            if code:
                raise KafkaFailed(f"{name}: {for_code(code).__name__} {message}")
    finally:
        await admin.close()


async def delete_topics(address: str, *names: str) -> None:
    """Delete topics, and return once they are gone."""
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    try:
        await admin.delete_topics([*names])
        while not set(names).isdisjoint(await admin.list_topics()):
            pass
    finally:
        await admin.close()


async def add_partitions(address: str, name: str, count: int) -> None:
    """Give a topic more partitions, so that it has this many."""
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    try:
        await admin.create_partitions({name: NewPartitions(count)})
    finally:
        await admin.close()


async def delete_below(address: str, name: str, ends: Mapping[int, int]) -> None:
    """Delete what retention would.

    Args:
        address: Of a server.
        name: Of the topic.
        ends: Partition -> the first offset that stays; -1: none does.
    """
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    try:
        await admin.delete_records(
            {TopicPartition(name, number): RecordsToDelete(end) for number, end in ends.items()}
        )
    finally:
        await admin.close()


async def write_in_transactions(address: str, name: str, partition: int) -> list[int]:
    """Append a record in a transaction that is committed, and one in a transaction that is not.

    Returns:
        Their offsets. Behind each stands one that has no record, which ends the transaction.
    """
    producer = AIOKafkaProducer(bootstrap_servers=address, transactional_id=f"stranger-of-{name}")
    offsets = []
    await producer.start()
    try:
        for end in (producer.commit_transaction, producer.abort_transaction):
            await producer.begin_transaction()
            sent = await producer.send_and_wait(name, b"not ours", key=b"key", partition=partition)
            offsets.append(sent.offset)
            await end()
    finally:
        await producer.stop()
    return offsets


async def read_topic(address: str, name: str) -> list[ConsumerRecord]:
    """Return all that stands in a topic now, each partition in order.

    Args:
        address: The server's, or several.
        name: The topic's.
    """
    consumer = AIOKafkaConsumer(name, bootstrap_servers=address, auto_offset_reset="earliest")
    try:
        await consumer.start()
        partitions = sorted(consumer.assignment())
        ends = await consumer.end_offsets(partitions)
        found: list[ConsumerRecord] = []
        while any([await consumer.position(at) < end for at, end in ends.items()]):
            for records in (await consumer.getmany(timeout_ms=1_000)).values():
                found += records
    finally:
        await consumer.stop()
    return found
