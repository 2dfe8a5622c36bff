"""What the operator's commands reach: the database and the bus of a configuration, as they are.

Nothing is made and nothing is changed: whoever looks at a system must not begin one.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from monstermq_shared.bus.kafka.bus import KafkaBus, log_generation
from monstermq_shared.bus.kafka.log import KafkaLog
from monstermq_shared.bus.kafka.topics import partitions_of
from monstermq_shared.bus.ports import Entry
from monstermq_shared.config import BrokerConfig, StoreType
from monstermq_shared.config.checks import postgres_connection, stores_of
from monstermq_shared.errors import BusGap, ConfigError, StartupError
from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.kafka.admin import Admin
from monstermq_shared.kafka.settings import KafkaSettings
from monstermq_shared.operation.logging import silence_kafka_client
from monstermq_shared.stores.postgres.database import PostgresDatabase


@asynccontextmanager
async def reached_database(
    config: BrokerConfig, *, exclusive: bool = False
) -> AsyncIterator[PostgresDatabase]:
    """Open the PostgreSQL database of a configuration for as long as the block lasts.

    Raises:
        ConfigError: Nothing of the configuration is there.
        StartupError, StoreError: It cannot be used.
    """
    check_in_postgres(config)
    database = await PostgresDatabase.inspect(postgres_connection(config), exclusive=exclusive)
    try:
        yield database
    finally:
        await database.close()


def check_in_postgres(config: BrokerConfig) -> None:
    """Refuse a configuration of which nothing is in PostgreSQL.

    Raises:
        ConfigError: So it is.
    """
    if StoreType.POSTGRES not in {store for _, store in stores_of(config)}:
        raise ConfigError(
            "this command is about what is in PostgreSQL, and nothing of this configuration is: "
            "name another one with -config FILE"
        )


def check_on_kafka(config: BrokerConfig) -> None:
    """Refuse a configuration whose bus is not on Kafka.

    Raises:
        ConfigError: So it is.
    """
    if not config.kafka.bus.enabled:
        raise ConfigError(
            "this command looks at a bus on Kafka, and Kafka.Bus.Enabled is false: name another "
            "configuration with -config FILE; one broker alone tells its state at /ready and "
            "/metrics of Metrics.Port"
        )


@asynccontextmanager
async def reached_bus(config: BrokerConfig) -> AsyncIterator[KafkaBus]:
    """Return the bus of a configuration, for looking at, for as long as the block lasts.

    Raises:
        ConfigError: It has no bus on Kafka.
        StartupError: Kafka cannot be reached, or has not its topics.
    """
    silence_kafka_client()
    check_on_kafka(config)
    settings = KafkaSettings.from_config(config)
    async with Admin.opened(settings, ExitCode.BUS_UNREACHABLE) as admin:
        partitions = partitions_of(settings.section.bus)
        there = await admin.topics(partitions)
        for topic, count in partitions.items():
            found = there[topic].partitions if topic in there else None
            if found != count:
                raise StartupError(
                    f"Kafka at {admin.where}: the topic {topic} "
                    + (
                        "is not there; an edge or a projector makes it (Kafka.Bus.Topic)"
                        if found is None
                        else f"has {found} partitions, and {count} are expected "
                        "(Kafka.Bus.Partitions)"
                    ),
                    exit_code=ExitCode.BUS_MISMATCH,
                )
        cluster_id = admin.cluster_id
    reached = KafkaBus(settings, cluster_id)
    try:
        yield reached
    finally:
        await reached.close()


async def generation_of(config: BrokerConfig) -> str | None:
    """Return the log that a start with this configuration is on; None for the internal bus.

    Raises:
        StartupError: Kafka cannot be reached.
    """
    if not config.kafka.bus.enabled:
        return None
    settings = KafkaSettings.from_config(config)
    async with Admin.opened(settings, ExitCode.BUS_UNREACHABLE) as admin:
        return log_generation(admin.cluster_id, config.kafka.bus.topic)


async def first_entry(log: KafkaLog, partition: int, offset: int, within_s: float) -> Entry | None:
    """Return what stands at an offset or next to it; None if that is gone, or too slow."""
    try:
        return await entry_within(log, partition, offset, within_s)
    except TimeoutError:
        return None


async def entry_within(log: KafkaLog, partition: int, offset: int, within_s: float) -> Entry | None:
    """Return what stands at an offset or next to it; None if that is gone.

    Raises:
        TimeoutError: Nothing has come within so many seconds.
    """
    reader = log.read({partition: offset})
    try:
        async with asyncio.timeout(within_s):
            async for batch in reader:
                if batch.entries:
                    return batch.entries[0]
    except BusGap:
        return None
    finally:
        await reader.aclose()
    return None
