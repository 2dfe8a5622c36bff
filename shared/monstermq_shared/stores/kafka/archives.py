"""One archive: which partition a record goes to, and what it is there."""

from collections.abc import Sequence

from monstermq_shared.errors import StoreError
from monstermq_shared.kafka.admin import TopicFacts
from monstermq_shared.kafka.murmur2 import partition_of
from monstermq_shared.kafka.producing import Entry
from monstermq_shared.kafka.settings import BATCH_SIZE_MAX
from monstermq_shared.records import Record
from monstermq_shared.remembered import Remembered
from monstermq_shared.stores.kafka.encoding import Encoder, topic_text
from monstermq_shared.stores.kafka.topics import MAX_MESSAGE_BYTES, GroupTopic
from monstermq_shared.stores.ports import HISTORY_SIZE_MAX

BATCH_SIZE_MIN = 4_096
"""Where batches are no longer halved: what is refused then is a single record."""

PLACES_SIZE_MAX = 8 * 1024 * 1024
"""Bytes of remembered places, about."""

_PLACE_OVERHEAD = 400

Place = tuple[int, bytes, bytes]
"""Partition, key and beginning of the JSON of a topic's records."""


class KafkaArchive:
    """The archive of a group, as others know it; see ``ports.ArchiveStore``.

    Attributes:
        name: The logical name.
        topic: Where its records go.
        batch_size_max: Bytes of a batch of several.

    Args:
        topic: See above.
        found: What it is like.
    """

    def __init__(self, topic: GroupTopic, found: TopicFacts) -> None:
        self.name = topic.store
        self.topic = topic
        self.batch_size_max = BATCH_SIZE_MAX
        self._partitions = 0
        self._encoder = Encoder()
        self._places = Remembered[str, Place](PLACES_SIZE_MAX)
        self.learn(found)

    def learn(self, found: TopicFacts) -> bool:
        """Go by what the topic is like now; return whether records go to other partitions."""
        size_max = found.number(MAX_MESSAGE_BYTES)
        if size_max is not None:
            self.batch_size_max = min(size_max, BATCH_SIZE_MAX)
        if found.partitions == self._partitions:
            return False
        self._partitions = found.partitions
        self._places.forget()
        return True

    def halve(self) -> None:
        """Kafka has refused a batch for its size."""
        self.batch_size_max = max(self.batch_size_max // 2, BATCH_SIZE_MIN)

    def sort(self, records: Sequence[Record], into: dict[int, list[Entry]]) -> None:
        """Add records, in order, to the entries of their partitions."""
        places, encode = self._places, self._encoder.encode
        for record in records:
            place = places.get(record.topic)
            if place is None:
                place = self._find_place(record.topic)
            partition, key, beginning = place
            entry = (record.timestamp_ms, key, encode(record, beginning))
            entries = into.get(partition)
            if entries is None:
                into[partition] = [entry]
            else:
                entries.append(entry)

    def _find_place(self, topic: str) -> Place:
        key = topic.encode()
        place = (partition_of(key, self._partitions), key, topic_text(topic))
        self._places.remember(topic, place, 3 * len(key) + _PLACE_OVERHEAD)
        return place

    async def purge(self, *, before_ms: int, limit: int) -> int:
        """Delete nothing: Kafka does, by the topic's ``retention.ms``."""
        return 0

    async def history(
        self,
        topic: str,
        *,
        start_ms: int | None = None,
        end_ms: int | None = None,
        limit: int = 1000,
        newest_first: bool = True,
        size_max: int = HISTORY_SIZE_MAX,
    ) -> list[Record]:
        """Refuse: Kafka has no index by key.

        Raises:
            StoreError: Always; it says how to read the archive.
        """
        raise StoreError(
            f"the archive {self.name} is in Kafka, which cannot look up the history of {topic}: "
            f"read the Kafka topic {self.topic.name}, or give the group an ArchiveType of a "
            "database"
        )
