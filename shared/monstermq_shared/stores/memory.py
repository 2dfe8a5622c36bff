"""Stores in memory: retained messages and last values for real, the rest as the reference.

``MemoryDatabase`` is what every other database must agree with, and what tests use; its sessions
and archives keep everything in plain dictionaries. ``MemoryMessageStore`` is also the product's
store for ``RetainedStoreType: MEMORY`` and ``LastValType: MEMORY``.
"""

import asyncio
import secrets
from collections.abc import Callable, Mapping, Sequence

from monstermq_shared.errors import StoreConflict
from monstermq_shared.positions import Mark, Partition
from monstermq_shared.records import Record, size_of
from monstermq_shared.stores.changes import (
    ArchiveChanges,
    Commit,
    CommitResult,
    MessageChanges,
    Tenure,
)
from monstermq_shared.stores.memory_queues import MemoryQueues
from monstermq_shared.stores.memory_sessions import MemorySessionStore, count_within
from monstermq_shared.stores.ports import (
    HISTORY_SIZE_MAX,
    PAGE_SIZE_MAX,
    ReflectedPage,
    check_limit,
)
from monstermq_shared.stores.queues import SESSIONS_MARK, KeptRows
from monstermq_shared.stores.topic_ranges import first_after
from monstermq_shared.topic_tree import TopicTree


class MemoryMessageStore:
    """One record per topic, for as long as the process lives.

    Args:
        name: The store's name.
        positions: What ``KeepsLogState.positions`` is, of the database it belongs to if any.
    """

    def __init__(
        self, name: str, positions: Callable[[str], Mapping[tuple[str, int], int]] | None = None
    ) -> None:
        self.name = name
        self._records: TopicTree[Record] = TopicTree()
        self._positions = positions

    def apply(self, changes: MessageChanges, upto: int) -> None:
        """Take the changes; a record is never replaced by an older one.

        Args:
            changes: Topic -> its newest record, or None where it is cleared.
            upto: The offset up to which the log has been folded; newer records are not cleared.
        """
        records = self._records
        get, put = records.get, records.set
        for topic, record in changes.items():
            stored = get(topic)
            if record is None:
                if stored is not None and stored.offset < upto:
                    records.pop(topic)
            elif stored is None or stored.offset < record.offset:
                put(topic, record)

    @property
    def records(self) -> TopicTree[Record]:
        """What it holds, for reading on the thread that changes it."""
        return self._records

    async def get(self, topic: str) -> Record | None:
        """Return the topic's record, or None if there is none."""
        return self._records.get(topic)

    async def find(
        self, topic_filter: str, *, after: str, limit: int, size_max: int = PAGE_SIZE_MAX
    ) -> list[Record]:
        """Return a page of the matching records after that topic, in order of topic."""
        start: str | None = first_after(after) if after else ""
        found: list[Record] = []
        while start is not None and len(found) < limit:
            room = limit - len(found)
            items, start = self._records.scan(topic_filter, start=start, limit=room)
            found += [record for _, record in items]
            if start is not None and len(found) < limit:
                # Memory answers at once: without this, nothing else would run meanwhile.
                await asyncio.sleep(0)
        return found[: count_within(found, size_max)]

    async def find_reflected(
        self,
        view: tuple[str, str],
        topic_filter: str,
        *,
        after: str,
        limit: int,
        size_max: int = PAGE_SIZE_MAX,
    ) -> ReflectedPage:
        """Return what ``find`` does, with the marks of that moment; see ``ReflectedReader``."""
        projection, generation = view
        while True:
            marks = self._reflected(projection, generation)
            records = await self.find(topic_filter, after=after, limit=limit, size_max=size_max)
            if marks == self._reflected(projection, generation):
                return ReflectedPage(records, marks)

    def _reflected(self, projection: str, generation: str) -> dict[int, int]:
        found = self._positions(generation) if self._positions is not None else {}
        return {number: at for (name, number), at in found.items() if name == projection}

    async def count(self) -> int:
        """Return how many topics it holds."""
        return len(self._records)

    async def purge(self, *, before_ms: int, limit: int) -> int:
        """Delete up to ``limit`` records older than that; return how many there were."""
        start: str | None = ""
        deleted = 0
        while start is not None and deleted < limit:
            items, start = self._records.scan_all(start)
            old = [topic for topic, record in items if record.timestamp_ms < before_ms]
            for topic in old[: limit - deleted]:
                self._records.pop(topic)
            deleted += len(old[: limit - deleted])
            if start is not None and deleted < limit:
                await asyncio.sleep(0)
        return deleted

    def content_size(self) -> int:
        """Return the bytes of all records."""
        return sum(size_of(at) for _, at in self._records.find("#"))


class MemoryArchiveStore:
    """Every record of a group, in a dictionary by position.

    Args:
        name: The store's name.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._records: dict[tuple[Partition, int], Record] = {}

    def apply(self, partition: Partition, changes: ArchiveChanges) -> None:
        """Append the records; one that is there already stays as it is."""
        for record in changes:
            self._records.setdefault((partition, record.offset), record)

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
        """Return a topic's records with start <= time <= end, ordered by (time, position)."""
        check_limit(limit)
        found = [
            record
            for record in self._records.values()
            if record.topic == topic
            and (start_ms is None or record.timestamp_ms >= start_ms)
            and (end_ms is None or record.timestamp_ms <= end_ms)
        ]
        found.sort(key=_time_and_position, reverse=newest_first)
        return found[: count_within(found[:limit], size_max)]

    async def oldest_ms(self) -> int | None:
        """Return the time of the oldest record, None if there is none."""
        return min((at.timestamp_ms for at in self._records.values()), default=None)

    async def purge(self, *, before_ms: int, limit: int) -> int:
        """Delete up to ``limit`` records older than that; return how many there were."""
        old = [key for key, at in self._records.items() if at.timestamp_ms < before_ms]
        return self._delete(old, limit)

    async def purge_oldest(self, *, limit: int) -> int:
        """Delete the ``limit`` oldest records; return how many there were."""
        return self._delete([*self._records], limit)

    def _delete(self, keys: list[tuple[Partition, int]], limit: int) -> int:
        keys.sort(key=lambda key: _time_and_position(self._records[key]))
        for key in keys[:limit]:
            del self._records[key]
        return len(keys[:limit])

    def content_size(self) -> int:
        """Return the bytes of all records."""
        return sum(map(size_of, self._records.values()))


class MemoryDatabase(MemoryQueues):
    """A ``Database`` that ends with the process. Its stores are made when they are first named.

    Attributes:
        lost: None: nobody can take memory away.
        sessions: The session store.
    """

    lost: None = None

    def __init__(self) -> None:
        super().__init__()
        self.sessions = MemorySessionStore(self)
        self._messages: dict[str, MemoryMessageStore] = {}
        self._archives: dict[str, MemoryArchiveStore] = {}

    def message_store(self, name: str) -> MemoryMessageStore:
        """Return the message store of that name."""
        return self._messages.setdefault(name, MemoryMessageStore(name, self.reflected))

    def archive_store(self, name: str) -> MemoryArchiveStore:
        """Return the archive of that name."""
        return self._archives.setdefault(name, MemoryArchiveStore(name))

    async def begin(self, partition: Partition, projections: Sequence[str]) -> Tenure:
        """Begin a tenure; an older one of these projections and partition is over.

        Raises:
            StartupError: The database has been given to another log.
        """
        self.check_owner(partition.generation)
        token = secrets.token_hex(8)
        self._holders.update(((partition, name), (0, token)) for name in projections)
        marks = {n: mark for n, mark in self.marks(partition).items() if n in projections}
        return Tenure(
            partition=partition, projections=tuple(projections), marks=marks, token=token, version=0
        )

    async def commit(self, tenure: Tenure, commit: Commit) -> CommitResult:
        """Apply it at once, without giving way to another task."""
        partition = tenure.partition
        keys = [(partition, name) for name in tenure.projections]
        if any(self._holders.get(key, (0, ""))[1] != tenure.token for key in keys):
            raise StoreConflict("another has begun a tenure of these projections")
        trimmed = self.sessions.apply(partition, commit.sessions)
        queues = self.queues_of(partition)
        grown = {} if commit.queues is None else queues.apply(commit.queues)
        for name, changes in commit.messages.items():
            self.message_store(name).apply(changes, commit.upto)
        for name, records in commit.archives.items():
            self.archive_store(name).apply(partition, records)
        for key in keys:
            self.move(key, commit)
        self.quarantine(partition, commit.quarantined)
        tenure.version += 1
        self._holders.update((key, (tenure.version, tenure.token)) for key in keys)
        return CommitResult(trimmed, grown)

    async def kept_rows(
        self, generation: str, asked: Mapping[int, Sequence[str]]
    ) -> dict[int, KeptRows]:
        """Return rows of clients of partitions of the sessions log."""
        places = {number: Partition(generation, number) for number in asked}
        return {
            number: KeptRows(
                self.marks(place).get(SESSIONS_MARK, Mark(0, 0)),
                self.sessions.kept(place, asked[number]),
            )
            for number, place in places.items()
        }

    async def size(self) -> int:
        """Return the bytes of all records, without sessions and without overhead."""
        messages = sum(store.content_size() for store in self._messages.values())
        return messages + sum(store.content_size() for store in self._archives.values())

    async def close(self) -> None:
        """End all tenures."""
        self._holders.clear()


def _time_and_position(record: Record) -> tuple[int, int]:
    return record.timestamp_ms, record.offset
