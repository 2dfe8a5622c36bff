"""Stores in memory: retained messages and last values for real, the rest as the reference.

``MemoryDatabase`` is what every other database must agree with, and what tests use; its sessions
and archives keep everything in plain dictionaries. ``MemoryMessageStore`` is also the product's
store for ``RetainedStoreType: MEMORY`` and ``LastValType: MEMORY``.
"""

import asyncio
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeVar

from monstermq_shared.errors import StoreError
from monstermq_shared.records import Record, size_of
from monstermq_shared.stores.ports import (
    HISTORY_SIZE_MAX,
    PAGE_SIZE_MAX,
    ArchiveChanges,
    ClientChanges,
    Commit,
    CommitResult,
    InFlightState,
    MessageChanges,
    QueuedMessage,
    SessionChanges,
    SessionRow,
    StoredSession,
    Trim,
    Trimmed,
    check_limit,
)
from monstermq_shared.stores.topic_ranges import first_after
from monstermq_shared.topic_tree import TopicTree

K = TypeVar("K")
V = TypeVar("V")


class MemoryMessageStore:
    """One record per topic, for as long as the process lives.

    Args:
        name: The store's name.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._records: TopicTree[Record] = TopicTree()

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
                # Nothing is waited for here, so without this the event loop would have to wait.
                await asyncio.sleep(0)
        return found[: _count_within(found, size_max)]

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
    """Every record of a group, in a dictionary by offset.

    Args:
        name: The store's name.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._records: dict[int, Record] = {}

    def apply(self, changes: ArchiveChanges) -> None:
        """Append the records; one that is there already stays as it is."""
        for record in changes:
            self._records.setdefault(record.offset, record)

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
        return found[: _count_within(found[:limit], size_max)]

    async def oldest_ms(self) -> int | None:
        """Return the time of the oldest record, None if there is none."""
        return min((at.timestamp_ms for at in self._records.values()), default=None)

    async def purge(self, *, before_ms: int, limit: int) -> int:
        """Delete up to ``limit`` records older than that; return how many there were."""
        old = [at for at in self._records.values() if at.timestamp_ms < before_ms]
        return self._delete(old, limit)

    async def purge_oldest(self, *, limit: int) -> int:
        """Delete the ``limit`` oldest records; return how many there were."""
        return self._delete([*self._records.values()], limit)

    def _delete(self, records: list[Record], limit: int) -> int:
        records.sort(key=_time_and_position)
        for record in records[:limit]:
            del self._records[record.offset]
        return len(records[:limit])

    def content_size(self) -> int:
        """Return the bytes of all records."""
        return sum(map(size_of, self._records.values()))


class MemorySessionStore:
    """Sessions and what belongs to them, in dictionaries by client."""

    def __init__(self) -> None:
        self._clients: dict[str, _Client] = {}

    def apply(self, changes: SessionChanges) -> dict[str, Trimmed]:
        """Take the changes; return what each ``Trim`` dropped."""
        trimmed: dict[str, Trimmed] = {}
        for client_id, change in changes.items():
            if change.ended:
                self._clients.pop(client_id, None)
            if change.session is not None and client_id not in self._clients:
                self._clients[client_id] = _Client(change.session)
            client = self._clients.get(client_id)
            if client is None:
                continue
            client.apply(change)
            if change.trim is not None:
                trimmed[client_id] = client.trim(change.trim)
        return trimmed

    async def load(self) -> list[StoredSession]:
        """Return every session there is."""
        return [client.stored() for client in self._clients.values()]

    async def page(
        self,
        client_id: str,
        *,
        after: int,
        before: int,
        limit: int,
        size_max: int = PAGE_SIZE_MAX,
    ) -> list[QueuedMessage]:
        """Return a page of the queue rows with after < offset < before, oldest first."""
        client = self._clients.get(client_id)
        if client is None:
            return []
        offsets = sorted(offset for offset in client.queue if after < offset < before)
        page = [client.queue[offset] for offset in offsets[:limit]]
        count = _count_within((record for record, _ in page), size_max)
        return [QueuedMessage(record=record, qos=qos) for record, qos in page[:count]]


class MemoryDatabase:
    """A ``Database`` that ends with the process. Its stores are made when they are first named.

    Attributes:
        boot: 1.
        lost: None: nobody can take memory away.
        sessions: The session store.
    """

    lost: None = None

    def __init__(self) -> None:
        self.boot = 1
        self.sessions = MemorySessionStore()
        self._messages: dict[str, MemoryMessageStore] = {}
        self._archives: dict[str, MemoryArchiveStore] = {}
        self._watermarks: dict[str, int] = {}

    def message_store(self, name: str) -> MemoryMessageStore:
        """Return the message store of that name."""
        return self._messages.setdefault(name, MemoryMessageStore(name))

    def archive_store(self, name: str) -> MemoryArchiveStore:
        """Return the archive of that name."""
        return self._archives.setdefault(name, MemoryArchiveStore(name))

    async def commit(self, commit: Commit) -> CommitResult:
        """Apply it at once, without giving way to another task."""
        trimmed = self.sessions.apply(commit.sessions)
        for name, changes in commit.messages.items():
            self.message_store(name).apply(changes, commit.upto)
        for name, records in commit.archives.items():
            self.archive_store(name).apply(records)
        for projection in commit.projections:
            before = self._watermarks.get(projection, commit.upto)
            self._watermarks[projection] = max(before, commit.upto)
        return CommitResult(trimmed)

    async def watermarks(self) -> Mapping[str, int]:
        """Return, for each projection that ever committed, the next offset it has to read."""
        return dict(self._watermarks)

    async def backup(self, target: Path) -> None:
        """Refuse: there is no form in which memory could be restored.

        Raises:
            StoreError: Always.
        """
        raise StoreError(f"{target}: stores in memory cannot be backed up; use SQLite")

    async def size(self) -> int:
        """Return the bytes of all records, without sessions and without overhead."""
        messages = sum(store.content_size() for store in self._messages.values())
        return messages + sum(store.content_size() for store in self._archives.values())

    async def free_size(self) -> None:
        """Return None: there is no disk that could become full."""

    async def give_space_back(self) -> bool:
        """Do nothing: it has been given back."""
        return False

    async def close(self) -> None:
        """Do nothing."""


class _Client:
    """A session and what belongs to it."""

    def __init__(self, session: SessionRow) -> None:
        self.session = session
        self.subscriptions: dict[str, int] = {}
        self.queue: dict[int, tuple[Record, int]] = {}
        self.open_ids: dict[int, int] = {}
        self.in_flight: dict[int, tuple[int, InFlightState]] = {}

    def apply(self, change: ClientChanges) -> None:
        """Take all but ``ended`` and ``trim``, in the order that ``ClientChanges`` gives."""
        if change.session is not None:
            self.session = change.session
        _update(self.subscriptions, change.subscriptions)
        for offset, queued in change.queued.items():
            self.queue.setdefault(offset, queued)
        for offset in change.dequeued:
            self.queue.pop(offset, None)
        _update(self.open_ids, change.open_ids)
        _update(self.in_flight, change.in_flight)

    def trim(self, trim: Trim) -> Trimmed:
        """Drop the oldest messages until both figures are reached."""
        messages = size = 0
        for offset in sorted(offset for offset in self.queue if offset > trim.after):
            if messages >= trim.messages and size >= trim.size:
                break
            record, _ = self.queue.pop(offset)
            messages += 1
            size += size_of(record)
        return Trimmed(messages, size)

    def stored(self) -> StoredSession:
        """Return a copy, as a database would read it."""
        return StoredSession(
            row=self.session,
            subscriptions=dict(self.subscriptions),
            open_ids=dict(self.open_ids),
            in_flight=dict(self.in_flight),
            queued_messages=len(self.queue),
            queued_size=sum(size_of(record) for record, _ in self.queue.values()),
        )


def _count_within(records: Iterable[Record], size_max: int) -> int:
    """Return how many records a page takes until they have that size."""
    count = size = 0
    for record in records:
        count += 1
        size += size_of(record)
        if size >= size_max:
            break
    return count


def _time_and_position(record: Record) -> tuple[int, int]:
    return record.timestamp_ms, record.offset


def _update(kept: dict[K, V], changes: Mapping[K, V | None]) -> None:
    for key, value in changes.items():
        if value is None:
            kept.pop(key, None)
        else:
            kept[key] = value
