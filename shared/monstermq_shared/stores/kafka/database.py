"""Archives in Kafka as a database: records to topics first, then the marks to another database."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace

from monstermq_shared.errors import StartupError, StoreConflict, StoreError, StoreUnavailable
from monstermq_shared.positions import Partition
from monstermq_shared.stores.changes import Commit, CommitResult, StoredLogState, Tenure
from monstermq_shared.stores.kafka.archives import KafkaArchive
from monstermq_shared.stores.kafka.marks import Marks
from monstermq_shared.stores.kafka.preparing import Topics
from monstermq_shared.stores.kafka.production import Producers, Production, TopicChanged
from monstermq_shared.stores.ports import (
    ArchiveStore,
    Database,
    DatabaseSummary,
    KeepsLogState,
    MessageStore,
    SessionStore,
)


class KafkaDatabase:
    """The archives of groups of type KAFKA; see ``ports.Database``.

    A commit is not one transaction: its records are in Kafka before its marks are moved, so after a
    crash those between come again. Each has its ``id``, by which a reader knows it. Within a
    partition, and so within an MQTT topic, they stand in the order of their offsets.

    Args:
        producers: Bring them there.
        archives: By logical name.
        marks: The database that keeps tenures and marks; it is not closed with this one.
        topics: The topics that they have.
    """

    def __init__(
        self,
        producers: Producers,
        archives: Mapping[str, KafkaArchive],
        marks: Database,
        topics: Topics,
    ) -> None:
        self._producers = producers
        self._archives = archives
        self._marks_database = marks
        self._topics = topics
        self._marks: dict[str, Marks] = {}
        self._under_way: dict[str, tuple[Commit, Production]] = {}
        self._looking = asyncio.Lock()
        self._look_again = False

    # -- stores ----------------------------------------------------------------------------------

    @property
    def sessions(self) -> SessionStore:
        """There are none.

        Raises:
            StoreError: Always.
        """
        raise StoreError("sessions cannot be kept in Kafka")

    def message_store(self, name: str) -> MessageStore:
        """There are none.

        Raises:
            StoreError: Always.
        """
        raise StoreError(f"{name} cannot be kept in Kafka")

    def archive_store(self, name: str) -> ArchiveStore:
        """Return the archive of that name; the database was opened with it."""
        return self._archives[name]

    # -- commits ---------------------------------------------------------------------------------

    @property
    def lost(self) -> str | None:
        """Why nothing is committed any more: what the database of the marks says."""
        return self._marks_database.lost

    async def begin(self, partition: Partition, projections: Sequence[str]) -> Tenure:
        """Begin a tenure in the database of the marks; see ``Database.begin``."""
        tenure = await self._marks_database.begin(partition, projections)
        for token, marks in [*self._marks.items()]:
            if marks.are_taken_by(tenure):
                marks.stop()
                del self._marks[token]
                self._under_way.pop(token, None)
        self._marks[tenure.token] = Marks(self._marks_database, tenure)
        return tenure

    async def commit(self, tenure: Tenure, commit: Commit) -> CommitResult:
        """Bring the records to Kafka, then the marks where they belong; see ``Database.commit``.

        The marks of a log that is kept elsewhere and read again are moved at once. Others only tell
        the next start what may be missing, and follow within a second or so.

        Raises:
            StoreUnavailable: Kafka does not take them, or the other database the marks: repeat.
            StoreConflict: The tenure is over.
            StoreError: The other database refuses.
        """
        marks = self._marks.get(tenure.token)
        if marks is None:
            raise StoreConflict("the archives in Kafka: another tenure has begun")
        if commit.archives:
            await self._produce(tenure, commit)
        if commit.archives and commit.log is None:
            marks.later(commit.upto)
            result = CommitResult({})
        else:
            result = await marks.commit(replace(commit, archives={}))
        self._under_way.pop(tenure.token, None)
        return result

    async def _produce(self, tenure: Tenure, commit: Commit) -> None:
        known, production = self._under_way.get(tenure.token, (None, None))
        if production is None or not (known is commit or known == commit):
            await self._make_missing(commit)
            production = await Production.of(
                *(commit.archives, self._archives, self._topics.where, tenure.partition.generation)
            )
            self._under_way[tenure.token] = (commit, production)
        try:
            await production.run(self._producers)
        except TopicChanged:
            self._look_again = True
            if await self._look_at_topics():
                self._under_way.clear()
            raise
        if self._look_again:
            self._look_again = False
            await self._look_at_topics()

    async def _look_at_topics(self) -> bool:
        """Make a topic that was deleted, and learn what each is like now.

        Returns:
            Whether records go to other partitions than before.
        """
        try:
            async with self._looking:
                facts = await self._topics.prepare()
        except StartupError:
            # Whoever waits is told why by the failure that made us look.
            return False
        changes = [archive.learn(facts) for archive in self._archives.values()]
        return any(changes)

    async def _make_missing(self, commit: Commit) -> None:
        """Make the topics that messages lead to for the first time.

        Raises:
            StoreUnavailable: Nobody knows whether they are there.
        """
        for name, records in commit.archives.items():
            archive = self._archives[name]
            if not archive.missing(records):
                continue
            async with self._looking:
                # Another partition's commit may have made them meanwhile.
                missing = archive.missing(records)
                if not missing:
                    continue
                try:
                    facts = await self._topics.make(missing)
                except StartupError as exc:
                    raise StoreUnavailable(str(exc)) from exc
                for topic in missing:
                    archive.admit(topic.name, facts.get(topic.name))

    async def close(self) -> None:
        """Move the marks, and close the connections; nothing is under way any more."""
        for marks in self._marks.values():
            await marks.close()
        self._marks.clear()
        for producer in self._producers.values():
            await producer.close()

    async def summary(self) -> DatabaseSummary:
        """Return what there is now, for the log of a start."""
        return DatabaseSummary(
            place=f"Kafka at {self._topics.where}", sessions=None, ended_cleanly=None
        )


class SharedKafkaDatabase(KafkaDatabase):
    """The same for a log that several processes read; see ``ports.KeepsLogState``.

    What is kept with the marks is kept where they are.

    Args:
        producers, archives, marks, topics: See above.
        log_states: The same database.
    """

    def __init__(
        self,
        producers: Producers,
        archives: Mapping[str, KafkaArchive],
        marks: Database,
        topics: Topics,
        *,
        log_states: KeepsLogState,
    ) -> None:
        super().__init__(producers, archives, marks, topics)
        self._log_states = log_states

    async def begin_marks(self, log_id: str, starts: Mapping[Partition, Mapping[str, int]]) -> None:
        """See ``KeepsLogState.begin_marks``."""
        await self._log_states.begin_marks(log_id, starts)

    async def log_states(
        self, partition: Partition, projections: Sequence[str] | None = None
    ) -> Mapping[str, StoredLogState]:
        """See ``KeepsLogState.log_states``."""
        return await self._log_states.log_states(partition, projections)

    async def positions(self, generation: str) -> Mapping[tuple[str, int], int]:
        """See ``KeepsLogState.positions``."""
        return await self._log_states.positions(generation)

    async def versions(self, generation: str) -> Mapping[tuple[str, int], tuple[int, str]]:
        """See ``KeepsLogState.versions``."""
        return await self._log_states.versions(generation)
