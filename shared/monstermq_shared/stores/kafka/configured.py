"""The archives in Kafka that a configuration names."""

from collections.abc import Collection, Iterator

from monstermq_shared.config import (
    ArchiveGroup,
    BrokerConfig,
    enabled_groups,
    main_topic_of,
)
from monstermq_shared.config.kafka import folded
from monstermq_shared.config.kafka_checks import topics_in_use
from monstermq_shared.config.templates import Template
from monstermq_shared.kafka.settings import KafkaSettings
from monstermq_shared.stores.kafka.archives import Shape
from monstermq_shared.stores.kafka.opening import open_archives
from monstermq_shared.stores.kafka.topics import GroupTopic
from monstermq_shared.stores.needed import StoresNeeded, archive_name
from monstermq_shared.stores.ports import Database


async def open_beside(config: BrokerConfig, needed: StoresNeeded, marks: Database) -> Database:
    """Open them; see ``open_archives``."""
    settings = KafkaSettings.from_config(config)
    groups = [*_groups(config, needed, settings.record_size_max)]
    return await open_archives(settings, groups, marks)


def _groups(
    config: BrokerConfig, needed: StoresNeeded, size_max: int
) -> Iterator[tuple[GroupTopic, Shape]]:
    taken = frozenset(map(folded, topics_in_use(config)))
    for _, group in enabled_groups(config):
        retention = group.archive_retention
        if archive_name(group) in needed.archive_stores:
            topic = GroupTopic(
                name=main_topic_of(group),
                store=archive_name(group),
                retention_ms=None if retention is None else int(retention.total_seconds() * 1000),
                record_size_max=size_max,
            )
            yield topic, _shape_of(group, config.kafka.archive.topics_max, taken)


def _shape_of(group: ArchiveGroup, topics_max: int, taken: Collection[str]) -> Shape:
    names = None if group.kafka_topic is None else Template.parse(group.kafka_topic)
    return Shape(
        payload_format=group.payload_format,
        key=None if group.kafka_key is None else Template.parse(group.kafka_key),
        names=names if names is not None and names.names else None,
        reserved=taken,
        topics_max=topics_max + 1,
        compression=group.kafka_compression,
    )
