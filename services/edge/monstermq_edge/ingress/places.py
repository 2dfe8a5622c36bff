"""How far a consumer group is in a Kafka topic of others, and where it begins and goes on."""

import logging
import os
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition

from monstermq_edge.ingress.counts import IngressCounts
from monstermq_shared.kafka.admin import Admin, TopicFacts
from monstermq_shared.retries import pause

logger = logging.getLogger(__name__)

_MARK = "monstermq"


class Reached(NamedTuple):
    """How far the bus has what stands in a partition. It is committed to Kafka as it is.

    Attributes:
        offset: The next one whose record is not on the bus.
        salt: Makes the run under which records are appended (R1). A new one is taken wherever
            offsets begin again, or records that never came would count as doubles of others.
        newest_ms: The newest time of the records below, as their producers say; -1: none known.
    """

    offset: int
    salt: str
    newest_ms: int = -1

    def metadata(self) -> str:
        """Return the note that Kafka keeps beside the offset."""
        return f"{_MARK}:{self.salt}:{self.newest_ms}"

    @classmethod
    def read(cls, offset: int, metadata: str) -> "Reached | None":
        """Return what was committed; None if somebody else has: it has no note of ours."""
        match metadata.split(":"):
            case [mark, salt, newest] if mark == _MARK and newest.lstrip("-").isdecimal():
                return cls(offset, salt, int(newest))
        return None

    def upto(self, offset: int, times_ms: Sequence[int], now_ms: int) -> "Reached":
        """Return it after more records; no time to come is believed."""
        newest_ms = max(self.newest_ms, *(min(at, now_ms) for at in times_ms))
        return Reached(offset, self.salt, newest_ms)


def new_salt() -> str:
    """Return one that nobody has had."""
    return os.urandom(8).hex()


class Places:
    """Where a group begins and goes on, in one topic.

    Args:
        topic: Kafka's name.
        group: The consumer group.
        counts: Counts what Kafka had deleted.
    """

    def __init__(self, topic: str, group: str, counts: IngressCounts) -> None:
        self._topic = topic
        self._group = group
        self._counts = counts
        self._partitions_at_first = 0
        self._has_read = False

    async def look(self, admin: Admin, facts: TopicFacts) -> None:
        """Learn whether the group is new; before it is joined.

        What is known of it stays: Kafka forgets it with a topic that is deleted, and whoever makes
        that again wants all of it read.

        Raises:
            StartupError: Kafka does not say.
        """
        self._partitions_at_first = self._partitions_at_first or facts.partitions
        self._has_read = self._has_read or bool(await admin.group_offsets(self._group, self._topic))

    async def learn(
        self, admin: Admin, consumer: AIOKafkaConsumer, partitions: Sequence[TopicPartition]
    ) -> tuple[Mapping[TopicPartition, Reached], Collection[TopicPartition]]:
        """Return how far the group is in partitions that have become ours, and which are noted.

        The others have to be committed before anything of them is appended.

        A group that is new begins with what is written from now on. A partition that was added
        since begins where it begins, or something would be missing.

        Raises:
            StartupError, KafkaError, OSError, TimeoutError: Kafka does not say.
        """
        kept = await admin.group_offsets(self._group, self._topic)
        reached: dict[TopicPartition, Reached] = {}
        noted: list[TopicPartition] = []
        for at in partitions:
            if at.partition in kept:
                found = Reached.read(*kept[at.partition])
                if found is not None:
                    noted.append(at)
                reached[at] = found or Reached(kept[at.partition].offset, new_salt())
        missing = [at for at in partitions if at not in reached]
        begins = await consumer.beginning_offsets(missing)
        new = [at for at in missing if self._is_new(at)]
        ends = await consumer.end_offsets(new)
        passed_over = sum(ends[at] - begins[at] for at in new)
        if passed_over:
            logger.warning(
                "the consumer group %s has not read the Kafka topic %s, or Kafka has forgotten it "
                "(offsets.retention.minutes): the %d records that are there are passed over",
                *(self._group, self._topic, passed_over),
            )
        for at, begin in {**begins, **ends}.items():
            reached[at] = Reached(begin, new_salt())
            logger.info("%s begins at %s:%d:%d", self._group, *at, begin)
        return reached, noted

    def begun(self) -> None:
        """Note that the group has begun: from now on nothing is passed over."""
        self._has_read = True

    def _is_new(self, at: TopicPartition) -> bool:
        return not self._has_read and at.partition < self._partitions_at_first

    async def find(
        self, consumer: AIOKafkaConsumer, at: TopicPartition, reached: Reached
    ) -> Reached:
        """Return where there is something again, when what is next is not there.

        Raises:
            KafkaError, OSError, TimeoutError: Kafka does not say.
        """
        first = (await consumer.beginning_offsets([at]))[at]
        end = (await consumer.end_offsets([at]))[at]
        if reached.offset < first:
            self._counts.missed += first - reached.offset
            logger.error(
                "Kafka has deleted %s:%d:%d to %d before they were read: they are no messages",
                *(*at, reached.offset, first - 1),
            )
            return reached._replace(offset=first)
        if reached.offset <= end:
            # A replica that is behind the one we read from before.
            await pause(0)
            return reached
        oldest = (await consumer.offsets_for_times({at: 0}))[at]
        if oldest is not None and oldest.timestamp <= reached.newest_ms:
            # All that is there was read: a week of it would come again.
            logger.error(
                "Kafka has lost %s:%d:%d to %d, which were read: reading goes on at %d",
                *(*at, end, reached.offset - 1, end),
            )
            return Reached(end, new_salt(), reached.newest_ms)
        logger.warning(
            "the Kafka topic %s was made anew: partition %d is read from its beginning", *at
        )
        return Reached(first, new_salt())
