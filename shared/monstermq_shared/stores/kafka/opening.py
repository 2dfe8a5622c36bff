"""Opens the archives in Kafka."""

from collections.abc import Sequence
from functools import partial

from monstermq_shared.config import Compression
from monstermq_shared.kafka.producing import BatchProducer
from monstermq_shared.kafka.settings import BATCH_SIZE_MAX, KafkaSettings, Options
from monstermq_shared.stores.kafka.archives import KafkaArchive, Shape
from monstermq_shared.stores.kafka.database import KafkaDatabase, SharedKafkaDatabase
from monstermq_shared.stores.kafka.preparing import Topics
from monstermq_shared.stores.kafka.topics import GroupTopic
from monstermq_shared.stores.ports import Database, KeepsLogState

ANSWER_MS = 10_000
"""Without an answer for so long a batch is sent again; without a leader for so long it fails, and
the topic is looked at: it may have been deleted."""

_COMPRESSIONS = {at: None if at is Compression.NONE else at.value.lower() for at in Compression}


async def open_archives(
    settings: KafkaSettings, groups: Sequence[tuple[GroupTopic, Shape]], marks: Database
) -> KafkaDatabase:
    """Open the archives of some groups.

    Args:
        settings: Of the cluster.
        groups: The topic of each archive, and what its records are.
        marks: The database that keeps their marks.

    Raises:
        StartupError: Kafka cannot be reached, does not let us in, or a topic cannot be made.
    """
    topics = Topics(settings, [topic for topic, _ in groups])
    facts = await topics.prepare()
    archives = {at.store: KafkaArchive(at, facts[at.name], shape) for at, shape in groups}
    producers = {
        compression: BatchProducer(partial(_options, settings, compression))
        for compression in {shape.compression for _, shape in groups}
    }
    if isinstance(marks, KeepsLogState):
        return SharedKafkaDatabase(producers, archives, marks, topics, log_states=marks)
    return KafkaDatabase(producers, archives, marks, topics)


def _options(settings: KafkaSettings, compression: Compression) -> Options:
    return {
        **settings.client_options(),
        "max_batch_size": BATCH_SIZE_MAX,
        "max_request_size": settings.record_size_max,
        "request_timeout_ms": ANSWER_MS,
        "compression_type": _COMPRESSIONS[compression],
    }
