"""The topics of archive groups: how we make them, and what those of others would cost us."""

from collections.abc import Iterator
from dataclasses import dataclass

from monstermq_shared.kafka.admin import ANY_TIME, FOR_EVER_MS, NewTopicSpec, TopicFacts
from monstermq_shared.kafka.producing import BATCH_OVERHEAD
from monstermq_shared.kafka.settings import BATCH_SIZE_MAX, KafkaSettings

SEGMENT_MS_MIN = 600_000
SEGMENT_MS_MAX = 7 * 86_400_000
"""Kafka deletes whole segments: one spans a tenth of the retention, within these."""

MAX_MESSAGE_BYTES = "max.message.bytes"
_BEFORE = "message.timestamp.before.max.ms"


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupTopic:
    """The topic of an archive group.

    Attributes:
        name: Kafka's.
        store: The archive's logical name.
        retention_ms: How long records are kept; None: for ever.
        record_size_max: Bytes of the largest record that may come.
    """

    name: str
    store: str
    retention_ms: int | None
    record_size_max: int

    @property
    def message_size_max(self) -> int:
        """Bytes of the largest batch, which is what Kafka calls a message here."""
        return max(self.record_size_max, BATCH_SIZE_MAX) + BATCH_OVERHEAD

    def spec(self, settings: KafkaSettings) -> NewTopicSpec:
        """Return how we make it: no bounds on time, so that an old record is not refused."""
        configs = {
            "cleanup.policy": "delete",
            "retention.ms": str(-1 if self.retention_ms is None else self.retention_ms),
            "retention.bytes": "-1",
            MAX_MESSAGE_BYTES: str(self.message_size_max),
            "message.timestamp.type": "CreateTime",
            **ANY_TIME,
        }
        if self.retention_ms is not None:
            segment_ms = min(max(self.retention_ms // 10, SEGMENT_MS_MIN), SEGMENT_MS_MAX)
            configs["segment.ms"] = str(segment_ms)
        archive = settings.section.archive
        return NewTopicSpec(
            name=self.name,
            partitions=archive.partitions,
            replication=archive.replication,
            configs=configs,
        )

    def warnings(self, found: TopicFacts) -> Iterator[str]:
        """Yield what a topic that is there loses or refuses, with the setting to change."""
        if not found.configs:
            yield "we may not see its settings (DescribeConfigs), so nobody knows what it refuses"
            return
        yield from self._refusals(found)
        yield from self._losses(found)

    def _refusals(self, found: TopicFacts) -> Iterator[str]:
        size = found.number(MAX_MESSAGE_BYTES)
        needed = self.record_size_max + BATCH_OVERHEAD
        if size is not None and size < needed:
            yield (
                f"its {MAX_MESSAGE_BYTES} is {size}, and a message of MaxMessageSizeKb may need "
                f"{needed}: the archive would stand still at one that is larger; raise it"
            )
        before_ms = found.number(_BEFORE)
        if before_ms is not None and before_ms < FOR_EVER_MS:
            yield (
                f"its {_BEFORE} is {before_ms}: after an outage of that time the archive would "
                f"stand still; make it {FOR_EVER_MS}"
            )
        in_sync = found.number("min.insync.replicas")
        if in_sync is not None and in_sync > found.replication:
            yield (
                f"its min.insync.replicas is {in_sync}, and it has {found.replication} copies: it "
                "takes no records; make it less"
            )

    def _losses(self, found: TopicFacts) -> Iterator[str]:
        if "compact" in found.configs.get("cleanup.policy", ""):
            yield (
                "its cleanup.policy compacts: Kafka keeps only the newest record of each MQTT "
                "topic; make it delete"
            )
        if found.configs.get("message.timestamp.type") == "LogAppendTime":
            yield (
                "its message.timestamp.type is LogAppendTime: Kafka's record time is not the "
                "message's; make it CreateTime"
            )
        wanted_ms = -1 if self.retention_ms is None else self.retention_ms
        kept_ms = found.number("retention.ms")
        if kept_ms is not None and kept_ms != wanted_ms:
            yield (
                f"its retention.ms is {kept_ms}, and ArchiveRetention means {wanted_ms}: Kafka "
                "goes by its own; change one of them"
            )
        kept_size = found.number("retention.bytes")
        if kept_size is not None and kept_size >= 0:
            yield (
                f"its retention.bytes is {kept_size}: beyond that Kafka deletes the oldest records "
                "of a partition; make it -1"
            )
