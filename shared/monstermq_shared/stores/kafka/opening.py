"""Opens the archives in Kafka: topics that are not there are made, the others looked at."""

import logging
from collections.abc import Mapping, Sequence

from monstermq_shared.errors import StartupError
from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.kafka.admin import Admin, TopicFacts
from monstermq_shared.kafka.producing import BatchProducer
from monstermq_shared.kafka.settings import BATCH_SIZE_MAX, PRODUCE_TIMEOUT_MS, KafkaSettings
from monstermq_shared.stores.kafka.archives import KafkaArchive
from monstermq_shared.stores.kafka.database import KafkaDatabase, SharedKafkaDatabase
from monstermq_shared.stores.kafka.topics import GroupTopic
from monstermq_shared.stores.ports import Database, KeepsLogState

logger = logging.getLogger(__name__)


async def open_archives(
    settings: KafkaSettings, topics: Sequence[GroupTopic], marks: Database
) -> KafkaDatabase:
    """Open the archives of some groups.

    Args:
        settings: Of the cluster.
        topics: One for each archive.
        marks: The database that keeps their marks.

    Raises:
        StartupError: Kafka cannot be reached, does not let us in, or a topic cannot be made.
    """
    async with Admin.opened(settings, ExitCode.STORE_UNREACHABLE) as admin:
        facts = await _prepare(admin, settings, topics)
        where = admin.where
    archives = {at.store: KafkaArchive(at, facts[at.name].partitions) for at in topics}
    producer = BatchProducer(
        {
            **settings.client_options(),
            "acks": "all",
            "enable_idempotence": True,
            "max_batch_size": BATCH_SIZE_MAX,
            "max_request_size": settings.record_size_max,
            "request_timeout_ms": PRODUCE_TIMEOUT_MS,
        }
    )
    if isinstance(marks, KeepsLogState):
        return SharedKafkaDatabase(producer, archives, marks, where, log_states=marks)
    return KafkaDatabase(producer, archives, marks, where)


async def _prepare(
    admin: Admin, settings: KafkaSettings, topics: Sequence[GroupTopic]
) -> Mapping[str, TopicFacts]:
    names = [topic.name for topic in topics]
    found = await admin.topics(names)
    missing = [topic for topic in topics if topic.name not in found]
    await admin.create([topic.spec(settings) for topic in missing])
    facts = await admin.topics(names, made=[topic.name for topic in missing])
    for topic in topics:
        if topic.name not in facts:
            raise StartupError(
                f"Kafka at {admin.where}: we may not see the topic {topic.name}: give "
                "Kafka.Security.User the right to describe and to write it",
                exit_code=ExitCode.STORE_UNREACHABLE,
            )
        if topic.name not in found:
            logger.info("made the Kafka topic %s", topic.name)
        for warning in topic.warnings(facts[topic.name]):
            logger.warning("the Kafka topic %s: %s", topic.name, warning)
    return facts
