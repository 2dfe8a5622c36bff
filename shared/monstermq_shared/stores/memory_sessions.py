"""Sessions in memory: the reference that every session store must agree with."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

from monstermq_shared.positions import Mark, Partition
from monstermq_shared.records import Record, size_of
from monstermq_shared.stores.changes import (
    ClientChanges,
    InFlightState,
    QueuedMessage,
    SessionChanges,
    SessionRow,
    StoredSession,
    Trim,
    Trimmed,
)
from monstermq_shared.stores.memory_logs import MemoryLogs
from monstermq_shared.stores.ports import PAGE_SIZE_MAX
from monstermq_shared.stores.queues import KeptRow

K = TypeVar("K")
V = TypeVar("V")


class MemorySessionStore:
    """Sessions and what belongs to them, in dictionaries by client."""

    def __init__(self, database: MemoryLogs) -> None:
        self._database = database
        self._clients: dict[str, _Client] = {}

    @asynccontextmanager
    async def load(self, partition: Partition) -> AsyncIterator["MemorySnapshot"]:
        """Return a snapshot of every session there is."""
        yield MemorySnapshot(self._database.marks(partition), self.stored(partition))

    def apply(self, partition: Partition, changes: SessionChanges) -> dict[str, Trimmed]:
        """Take the changes; return what each ``Trim`` dropped."""
        trimmed: dict[str, Trimmed] = {}
        for client_id, change in changes.items():
            if change.ended or change.cleared:
                self._clients.pop(client_id, None)
            if change.session is not None:
                put = self._clients.setdefault(client_id, _Client(change.session))
                put.partition = partition
            client = self._clients.get(client_id)
            if client is None:
                continue
            client.apply(partition, change)
            if change.trim is not None:
                trimmed[client_id] = client.trim(partition, change.trim)
        return trimmed

    def stored(self, partition: Partition | None = None) -> list[StoredSession]:
        """Return every session of a partition, or of all."""
        return [
            client.stored()
            for client in self._clients.values()
            if partition is None or client.partition == partition
        ]

    def kept(self, partition: Partition, client_ids: Sequence[str]) -> dict[str, KeptRow]:
        """Return what ``KeepsQueues.kept_rows`` does, without the mark."""
        found = {client_id: self._clients.get(client_id) for client_id in client_ids}
        return {
            client_id: client.kept()
            for client_id, client in found.items()
            if client is not None
            and client.partition == partition
            and client.session.epoch is not None
        }

    async def page(
        self,
        partition: Partition,
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
        queue = client.queue.get(partition, {})
        offsets = sorted(offset for offset in queue if after < offset < before)
        page = [queue[offset] for offset in offsets[:limit]]
        count = count_within((record for record, _ in page), size_max)
        return [QueuedMessage(record=record, qos=qos) for record, qos in page[:count]]


class MemorySnapshot:
    """See ``SessionSnapshot``.

    Attributes:
        marks: As of the moment it was made.
    """

    def __init__(self, marks: Mapping[str, Mark], sessions: Sequence[StoredSession]) -> None:
        self.marks = marks
        self._sessions = sessions

    async def pages(self) -> AsyncIterator[Sequence[StoredSession]]:
        """Yield every session."""
        if self._sessions:
            yield self._sessions


class _Client:
    """A session and what belongs to it."""

    def __init__(self, session: SessionRow) -> None:
        self.session = session
        self.partition: Partition | None = None
        self.subscriptions: dict[str, int] = {}
        self.queue: dict[Partition, dict[int, tuple[Record, int]]] = {}
        self.open_ids: dict[int, int] = {}
        self.in_flight: dict[int, tuple[int, InFlightState]] = {}
        self.opened: dict[int, tuple[int | None, int | None]] = {}

    def apply(self, partition: Partition, change: ClientChanges) -> None:
        """Take all but ``ended`` and ``trim``, in the order that ``ClientChanges`` gives."""
        if change.session is not None:
            self.session = change.session
        _update(self.subscriptions, change.subscriptions)
        queue = self.queue.setdefault(partition, {})
        for offset, queued in change.queued.items():
            queue.setdefault(offset, queued)
        for offset in change.dequeued:
            queue.pop(offset, None)
        _update(self.open_ids, change.open_ids)
        _update(self.in_flight, change.in_flight)
        _update(self.opened, change.opened)

    def trim(self, partition: Partition, trim: Trim) -> Trimmed:
        """Drop the oldest messages of a partition until both figures are reached."""
        messages = size = 0
        queue = self.queue[partition]
        for offset in sorted(offset for offset in queue if offset > trim.after):
            if messages >= trim.messages and size >= trim.size:
                break
            record, _ = queue.pop(offset)
            messages += 1
            size += size_of(record)
        return Trimmed(messages, size)

    def kept(self) -> KeptRow:
        """Return what an edge reads of it."""
        session = self.session
        assert session.epoch is not None, "it was claimed"
        return KeptRow(
            epoch=session.epoch,
            incarnation=session.incarnation,
            expiry_s=session.expiry_s or 0,
            attached=session.connected,
            subscriptions={at: (qos, 0) for at, qos in self.subscriptions.items()},
            in_flight=dict(self.opened),
            sent=session.sent,
        )

    def stored(self) -> StoredSession:
        """Return a copy, as a database would read it."""
        return StoredSession(
            row=self.session,
            subscriptions=dict(self.subscriptions),
            open_ids=dict(self.open_ids),
            in_flight=dict(self.in_flight),
            opened=dict(self.opened),
            queued_messages=sum(map(len, self.queue.values())),
            queued_size=sum(
                size_of(record) for queue in self.queue.values() for record, _ in queue.values()
            ),
        )


def count_within(records: Iterable[Record], size_max: int) -> int:
    """Return how many records a page takes until they have that size."""
    count = size = 0
    for record in records:
        count += 1
        size += size_of(record)
        if size >= size_max:
            break
    return count


def _update(kept: dict[K, V], changes: Mapping[K, V | None]) -> None:
    for key, value in changes.items():
        if value is None:
            kept.pop(key, None)
        else:
            kept[key] = value
