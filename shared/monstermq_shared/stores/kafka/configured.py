"""The archives in Kafka that a configuration names."""

from collections.abc import Iterator

from monstermq_shared.config import BrokerConfig, enabled_groups
from monstermq_shared.kafka.settings import KafkaSettings
from monstermq_shared.stores.kafka.opening import open_archives
from monstermq_shared.stores.kafka.topics import GroupTopic
from monstermq_shared.stores.needed import StoresNeeded, archive_name
from monstermq_shared.stores.ports import Database


async def open_beside(config: BrokerConfig, needed: StoresNeeded, marks: Database) -> Database:
    """Open them; see ``open_archives``."""
    settings = KafkaSettings.from_config(config)
    topics = [*_topics(config, needed, settings.record_size_max)]
    return await open_archives(settings, topics, marks)


def _topics(config: BrokerConfig, needed: StoresNeeded, size_max: int) -> Iterator[GroupTopic]:
    for _, group in enabled_groups(config):
        retention = group.archive_retention
        if archive_name(group) in needed.archive_stores:
            yield GroupTopic(
                name=group.name,
                store=archive_name(group),
                retention_ms=None if retention is None else int(retention.total_seconds() * 1000),
                record_size_max=size_max,
            )
