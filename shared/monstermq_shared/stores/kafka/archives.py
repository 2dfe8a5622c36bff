"""One archive: which partition a record goes to, and what it is there."""

from collections.abc import Sequence

from monstermq_shared.errors import StoreError
from monstermq_shared.kafka.murmur2 import partition_of
from monstermq_shared.kafka.producing import Entry
from monstermq_shared.kafka.settings import BATCH_SIZE_MAX
from monstermq_shared.records import Record
from monstermq_shared.stores.kafka.encoding import Encoder, topic_text
from monstermq_shared.stores.kafka.topics import GroupTopic
from monstermq_shared.stores.ports import HISTORY_SIZE_MAX

PLACES_SIZE_MAX = 8 * 1024 * 1024
"""Bytes of remembered places, about; beyond that all are forgotten, and the busy ones soon back."""

_PLACE_OVERHEAD = 400

Place = tuple[int, bytes, bytes]
"""Partition, key and beginning of the JSON of a topic's records."""


class KafkaArchive:
    """The archive of a group, as others know it; see ``ports.ArchiveStore``.

    Attributes:
        name: The logical name.
        topic: Where its records go.
        batch_size_max: Bytes of a batch of several; less once Kafka has refused one for its size.

    Args:
        topic: See above.
        partitions: How many the topic has.
    """

    def __init__(self, topic: GroupTopic, partitions: int) -> None:
        self.name = topic.store
        self.topic = topic
        self.batch_size_max = BATCH_SIZE_MAX
        self._partitions = partitions
        self._encoder = Encoder()
        self._places: dict[str, Place] = {}
        self._size = 0

    def repartition(self, partitions: int) -> None:
        """The topic was made again, and has so many partitions now."""
        if partitions != self._partitions:
            self._partitions = partitions
            self._places.clear()
            self._size = 0

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
        self._size += 3 * len(key) + _PLACE_OVERHEAD
        if self._size > PLACES_SIZE_MAX:
            self._places.clear()
            self._size = 3 * len(key) + _PLACE_OVERHEAD
        self._places[topic] = place
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
