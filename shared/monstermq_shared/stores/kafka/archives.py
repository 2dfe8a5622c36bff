"""One archive: which topic and partition a record goes to, and what it is there."""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from monstermq_shared.config import Compression, PayloadFormat
from monstermq_shared.config.templates import Template
from monstermq_shared.errors import StoreError
from monstermq_shared.kafka.admin import TopicFacts
from monstermq_shared.kafka.murmur2 import partition_of
from monstermq_shared.kafka.origin import origin_header
from monstermq_shared.kafka.producing import Entry
from monstermq_shared.kafka.settings import BATCH_SIZE_MAX
from monstermq_shared.records import Record
from monstermq_shared.remembered import Remembered
from monstermq_shared.stores.kafka.encoding import Encoder, topic_text
from monstermq_shared.stores.kafka.naming import TopicNames, key_of, knows_clients
from monstermq_shared.stores.kafka.raw import headers_of
from monstermq_shared.stores.kafka.topics import MAX_MESSAGE_BYTES, GroupTopic
from monstermq_shared.stores.ports import HISTORY_SIZE_MAX

logger = logging.getLogger(__name__)

BATCH_SIZE_MIN = 4_096
"""Where batches are no longer halved: what is refused then is a single record."""

PLACES_SIZE_MAX = 8 * 1024 * 1024
"""Bytes of remembered places, about."""

_PLACE_OVERHEAD = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What the records of an archive are, and where they go.

    Attributes:
        payload_format: Of their values.
        key: Makes their keys; None: the MQTT topic.
        names: Makes the names of their topics; None: all go to the main one.
        reserved: Names, folded, of topics that no message may lead to.
        topics_max: How many topics there are, at most.
        compression: Of their batches.
    """

    payload_format: PayloadFormat = PayloadFormat.RECORD
    key: Template | None = None
    names: Template | None = None
    reserved: Collection[str] = ()
    topics_max: int = 1
    compression: Compression = Compression.NONE


class ArchiveTopic:
    """A topic of an archive.

    Attributes:
        name: Kafka's name of it.
        partitions: How many it has.
        batch_size_max: Bytes of a batch of several.
    """

    def __init__(self, found: TopicFacts) -> None:
        self.name = found.name
        self.partitions = 0
        self.batch_size_max = BATCH_SIZE_MAX
        self.learn(found)

    def learn(self, found: TopicFacts) -> bool:
        """Go by what the topic is like now; return whether records go to other partitions."""
        size_max = found.number(MAX_MESSAGE_BYTES)
        if size_max is not None:
            self.batch_size_max = min(size_max, BATCH_SIZE_MAX)
        changed = found.partitions != self.partitions
        self.partitions = found.partitions
        return changed

    def halve(self) -> None:
        """Kafka has refused a batch for its size."""
        self.batch_size_max = max(self.batch_size_max // 2, BATCH_SIZE_MIN)


Place = tuple[tuple[ArchiveTopic, int], bytes, bytes]
"""Topic with partition, key, and beginning of the JSON of a topic's records."""

Sorted = dict[tuple[ArchiveTopic, int], list[Entry]]
"""Topic with partition -> what goes there, in order."""


class KafkaArchive:
    """The archive of a group, as others know it; see ``ports.ArchiveStore``.

    Attributes:
        name: The logical name.
        topic: The main topic: for all records, or for those that have none of their own.
        compression: Of batches.

    Args:
        topic: See above.
        found: What it is like.
        shape: What its records are.
    """

    def __init__(self, topic: GroupTopic, found: TopicFacts, shape: Shape | None = None) -> None:
        shape = shape or Shape()
        self.name = topic.store
        self.topic = topic
        self.compression = shape.compression
        self._raw = shape.payload_format is PayloadFormat.RAW
        self._key = shape.key
        self._names: TopicNames | None = None
        if shape.names is not None:
            self._names = TopicNames(shape.names, topic.name, shape.reserved)
        self._topics_max = shape.topics_max
        self._by_client = knows_clients(shape.key, shape.names)
        self._main = ArchiveTopic(found)
        # None: Kafka does not let us have it.
        self._topics: dict[str, ArchiveTopic | None] = {topic.name: self._main}
        self._told_full = False
        self._encoder = Encoder()
        self._places = Remembered[str | tuple[str, str], Place](PLACES_SIZE_MAX)

    def learn(self, found: Mapping[str, TopicFacts]) -> bool:
        """Go by what the topics are like now; return whether records go to other partitions."""
        changes = [
            topic.learn(found[name])
            for name, topic in self._topics.items()
            if topic is not None and name in found
        ]
        if any(changes):
            self._places.forget()
        return any(changes)

    # -- topics that messages lead to ------------------------------------------------------------

    def missing(self, records: Sequence[Record]) -> list[GroupTopic]:
        """Return the topics that these records need and nobody has looked for yet."""
        names = self._names
        if names is None:
            return []
        places = self._places
        wanted = dict.fromkeys(
            names.name_of(at) for at in records if self._place_key(at) not in places
        )
        new = [name for name in wanted if name not in self._topics]
        room = self._topics_max - len(self._topics)
        if len(new) > room and not self._told_full:
            self._told_full = True
            logger.warning(
                "the group of the Kafka topic %s has %d topics (Kafka.Archive.TopicsMax): what "
                "would need another one goes to the topic of the group's name",
                *(self.topic.name, self._topics_max),
            )
        return [replace(self.topic, name=name) for name in new[:room]] if room > 0 else []

    def admit(self, name: str, found: TopicFacts | None) -> None:
        """Take a topic that ``missing`` has asked for; None: Kafka does not let us have it."""
        self._topics[name] = None if found is None else ArchiveTopic(found)

    def _topic_of(self, record: Record) -> ArchiveTopic:
        if self._names is None:
            return self._main
        return self._topics.get(self._names.name_of(record)) or self._main

    # -- records ---------------------------------------------------------------------------------

    def sort(self, records: Sequence[Record], into: Sorted, generation: str) -> None:
        """Add records, in order, to the entries of their partitions.

        Args:
            records: Of the group.
            into: See ``Sorted``.
            generation: Of the log that they stand in.
        """
        places, encode, raw = self._places, self._encoder.encode, self._raw
        origin = [origin_header(generation)]
        for record in records:
            place = places.get(self._place_key(record))
            if place is None:
                place = self._find_place(record)
            lane, key, beginning = place
            if raw:
                headers = headers_of(record) + origin
                entry = (record.timestamp_ms, key, record.payload, headers)
            else:
                entry = (record.timestamp_ms, key, encode(record, beginning), origin)
            entries = into.get(lane)
            if entries is None:
                into[lane] = [entry]
            else:
                entries.append(entry)

    def _place_key(self, record: Record) -> str | tuple[str, str]:
        return (record.topic, record.client_id) if self._by_client else record.topic

    def _find_place(self, record: Record) -> Place:
        topic = self._topic_of(record)
        key = record.topic.encode() if self._key is None else key_of(self._key, record)
        beginning = b"" if self._raw else topic_text(record.topic)
        place = ((topic, partition_of(key, topic.partitions)), key, beginning)
        size = len(record.topic) + len(record.client_id) + len(key) + len(beginning)
        self._places.remember(self._place_key(record), place, size + _PLACE_OVERHEAD)
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
