"""What one commit brings to Kafka, and how much of it is there."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Self

from aiokafka.errors import (
    MessageSizeTooLargeError,
    NotLeaderForPartitionError,
    RecordListTooLargeError,
    UnknownTopicOrPartitionError,
)

from monstermq_shared.config import Compression
from monstermq_shared.errors import StartupError, StoreUnavailable
from monstermq_shared.kafka.errors import CLIENT_ERRORS, meaning_of, worst_of
from monstermq_shared.kafka.producing import BatchProducer, Entry
from monstermq_shared.records import Record
from monstermq_shared.stores.kafka.archives import ArchiveTopic, KafkaArchive, Sorted

SORTED_AT_ONCE = 500
"""Records that are encoded in one go, about a millisecond; then others have their turn."""

_TOO_LARGE = (MessageSizeTooLargeError, RecordListTooLargeError)
_GONE = (UnknownTopicOrPartitionError, NotLeaderForPartitionError)


Producers = Mapping[Compression, BatchProducer]
"""One for each compression in use."""


class TopicChanged(StoreUnavailable):
    """A topic may have been deleted or made again, or takes less than it did."""


class _Lane:
    """What goes to one partition.

    Attributes:
        topic: Where it is.
        entries: All of it, in order.
        first: The first one that Kafka may not have.
    """

    def __init__(
        self,
        topic: ArchiveTopic,
        partition: int,
        entries: Sequence[Entry],
        compression: Compression,
    ) -> None:
        self.topic = topic
        self.entries = entries
        self.first = 0
        self._partition = partition
        self._compression = compression

    async def run(self, producers: Producers) -> None:
        """Send what is left, a batch at a time."""
        producer = producers[self._compression]
        while self.first < len(self.entries):
            try:
                self.first = await producer.send(
                    self.topic.name,
                    self._partition,
                    self.entries,
                    first=self.first,
                    size_max=self.topic.batch_size_max,
                )
            except _TOO_LARGE:
                self.topic.halve()
                raise


class Production:
    """The records of one commit, by partition.

    A repetition sends only what is not known to be there, so a record comes twice only if nobody
    knew.
    """

    def __init__(self, lanes: Sequence[_Lane], where: str) -> None:
        self._lanes = lanes
        self._where = where

    @classmethod
    async def of(
        cls,
        changes: Mapping[str, Sequence[Record]],
        archives: Mapping[str, KafkaArchive],
        where: str,
        generation: str,
    ) -> Self:
        """Sort the records of some archives by partition, as they are to stand in Kafka.

        Args:
            changes: Records, by the archive's logical name; their topics are there.
            archives: The same way.
            where: The servers, as messages name them.
            generation: Of the log that the records stand in.
        """
        lanes: list[_Lane] = []
        for name, records in changes.items():
            archive, entries = archives[name], Sorted()
            for start in range(0, len(records), SORTED_AT_ONCE):
                archive.sort(records[start : start + SORTED_AT_ONCE], entries, generation)
                await asyncio.sleep(0)
            lanes += [_Lane(*lane, of, archive.compression) for lane, of in entries.items()]
        return cls(lanes, where)

    async def run(self, producers: Producers) -> None:
        """Bring to Kafka what is not there.

        Raises:
            TopicChanged: Look at the topics before.
            StoreUnavailable: Kafka has not taken all of it; run it again.
        """
        lanes = [lane for lane in self._lanes if lane.first < len(lane.entries)]
        outcomes = await asyncio.gather(
            *(lane.run(producers) for lane in lanes), return_exceptions=True
        )
        failures: list[tuple[str, BaseException]] = []
        for lane, outcome in zip(lanes, outcomes, strict=True):
            # Also a file of Kafka.Security that is being renewed: that mends itself, too.
            if isinstance(outcome, (*CLIENT_ERRORS, StartupError)):
                failures.append((lane.topic.name, outcome))
            elif outcome is not None:
                raise outcome
        if failures:
            raise self._told(failures)

    def _told(self, failures: Sequence[tuple[str, BaseException]]) -> StoreUnavailable:
        """Return the error that tells of failures, each with the name of its topic."""
        worst = worst_of(exc for _, exc in failures)
        topics = dict.fromkeys(name for name, exc in failures if type(exc) is type(worst))
        changed = any(isinstance(exc, (*_GONE, *_TOO_LARGE)) for _, exc in failures)
        error = (TopicChanged if changed else StoreUnavailable)(
            f"Kafka at {self._where}: topic {', '.join(topics)}: {meaning_of(worst)}"
        )
        error.__cause__ = worst
        return error
