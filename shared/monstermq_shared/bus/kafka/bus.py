"""The bus port on Kafka; see ``ports.BusPort``."""

import asyncio
import os

from monstermq_shared.bus.header import RUN_SIZE
from monstermq_shared.bus.kafka.log import KafkaLog
from monstermq_shared.bus.kafka.topics import SESSIONS_PARTITIONS, ensure_topics, sessions_topic
from monstermq_shared.bus.kafka.trial import try_topics
from monstermq_shared.clock import SystemClock
from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.kafka.admin import Admin
from monstermq_shared.kafka.settings import KafkaSettings
from monstermq_shared.records import CONTROL_TOPIC, SESSION_TOPIC


class KafkaBus:
    """Two topics of one cluster.

    Attributes:
        generation: See ``ports.BusPort``: the cluster and the topic.
        cluster_id: The cluster's own id.
        run: This process, as the stamps of what it appends name it.
        messages: The messages.
        sessions: Claims and session facts.

    Args:
        settings: Of the cluster.
        cluster_id: See above.
    """

    def __init__(self, settings: KafkaSettings, cluster_id: str) -> None:
        bus = settings.section.bus
        self.generation = log_generation(cluster_id, bus.topic)
        self.cluster_id = cluster_id
        self.run = os.urandom(RUN_SIZE)
        self.messages = KafkaLog(bus.topic, bus.partitions, CONTROL_TOPIC, self.run, settings)
        self.sessions = KafkaLog(
            sessions_topic(bus.topic), SESSIONS_PARTITIONS, SESSION_TOPIC, self.run, settings
        )

    def start(self) -> None:
        """Begin to send; from the loop's thread."""
        self.messages.start()
        self.sessions.start()

    async def watch(self) -> None:
        """Return when the bus is closed; run it beside all else.

        Raises:
            Exception: What sends has failed, by a bug of ours, or of whoever is called back: a
                partition would stand still for ever.
        """
        await asyncio.gather(self.messages.watch(), self.sessions.watch())

    async def close(self) -> None:
        """See ``ports.BusPort.close``."""
        await asyncio.gather(self.messages.close(), self.sessions.close())


def log_generation(cluster_id: str, topic: str) -> str:
    """Return what positions of a bus belong to."""
    return f"kafka:{cluster_id}:{topic}"


async def open_kafka_bus(settings: KafkaSettings) -> KafkaBus:
    """Return the bus of a configuration, once its topics are there and as they have to be.

    Raises:
        StartupError: Kafka cannot be reached or does not let us in, its topics are otherwise, the
            clocks differ, or a right is missing; the message names the setting.
    """
    async with Admin.opened(settings, ExitCode.BUS_UNREACHABLE) as admin:
        await ensure_topics(admin, settings)
        cluster_id = admin.cluster_id
    await try_topics(settings, SystemClock().wall_ms())
    bus = KafkaBus(settings, cluster_id)
    bus.start()
    return bus
