"""What survives a kill: committed state, changed by whole turns only."""

from dataclasses import dataclass, field
from typing import TypeVar

from monstermq_shared.records import Record
from monstermq_shared.sessions.local import QueueRead, RetainedRead, Turn
from monstermq_shared.stores.ports import (
    ClientChanges,
    CommitResult,
    InFlightState,
    QueuedMessage,
    SessionRow,
    StoredSession,
    Trim,
    Trimmed,
)
from monstermq_shared.topics import matches

K = TypeVar("K")
V = TypeVar("V")


@dataclass(slots=True)
class ClientRows:
    """Everything that is stored of one client."""

    row: SessionRow | None = None
    subscriptions: dict[str, int] = field(default_factory=dict)
    queue: dict[int, tuple[Record, int]] = field(default_factory=dict)
    open_ids: dict[int, int] = field(default_factory=dict)
    in_flight: dict[int, tuple[int, InFlightState]] = field(default_factory=dict)

    def apply(self, changes: ClientChanges) -> Trimmed | None:
        """Apply what a commit changes, in the order ``ClientChanges`` promises."""
        if changes.session is not None:
            self.row = changes.session
        _merge(self.subscriptions, changes.subscriptions)
        for offset, item in changes.queued.items():
            self.queue.setdefault(offset, item)
        for offset in changes.dequeued:
            self.queue.pop(offset, None)
        _merge(self.open_ids, changes.open_ids)
        _merge(self.in_flight, changes.in_flight)
        return None if changes.trim is None else self._trim(changes.trim)

    def _trim(self, trim: Trim) -> Trimmed:
        messages = size = 0
        for offset in sorted(self.queue):
            if messages >= trim.messages and size >= trim.size:
                break
            if offset > trim.after:
                record, _ = self.queue.pop(offset)
                messages += 1
                size += len(record.payload)
        return Trimmed(messages, size)


def _merge(rows: dict[K, V], changes: dict[K, V | None]) -> None:
    for key, value in changes.items():
        if value is None:
            rows.pop(key, None)
        else:
            rows[key] = value


class Disk:
    """Committed state of a simulated database.

    Attributes:
        boot: How often a process was started on it.
        clients: Client id -> its rows.
        retained: Topic -> retained record.
        archive: Offset -> record, of all that was ever committed.
    """

    def __init__(self) -> None:
        self.boot = 0
        self.clients: dict[str, ClientRows] = {}
        self.retained: dict[str, Record] = {}
        self.archive: dict[int, Record] = {}

    def apply(self, turn: Turn) -> CommitResult:
        """Commit a turn: all of it."""
        trimmed: dict[str, Trimmed] = {}
        for client_id, changes in turn.clients.items():
            if changes.ended:
                self.clients.pop(client_id, None)
            dropped = self.clients.setdefault(client_id, ClientRows()).apply(changes)
            if dropped is not None:
                trimmed[client_id] = dropped
        for record in turn.records:
            if record.retained and record.payload:
                self.retained[record.topic] = record
            elif record.retained:
                self.retained.pop(record.topic, None)
        self.archive.update((record.offset, record) for record in turn.records)
        return CommitResult(trimmed)

    def client(self, client_id: str) -> ClientRows:
        """Return the rows of a client; empty ones if there is none."""
        return self.clients.get(client_id) or ClientRows()

    def load(self) -> list[StoredSession]:
        """Return what a starting process is given."""
        return [
            StoredSession(
                row=rows.row,
                subscriptions=dict(rows.subscriptions),
                open_ids=dict(rows.open_ids),
                in_flight=dict(rows.in_flight),
                queued_messages=len(rows.queue),
                queued_size=sum(len(record.payload) for record, _ in rows.queue.values()),
            )
            for rows in self.clients.values()
            if rows.row is not None
        ]

    def queue_page(self, read: QueueRead) -> list[QueuedMessage]:
        """Read a page of a queue, as of now."""
        queue = self.client(read.session.client_id).queue
        offsets = sorted(o for o in queue if read.after < o < read.before)[: read.limit]
        return [QueuedMessage(record=queue[o][0], qos=queue[o][1]) for o in offsets]

    def retained_page(self, read: RetainedRead) -> list[Record]:
        """Read a page of the retained messages, as of now."""
        topics = sorted(
            topic
            for topic in self.retained
            if topic > read.after and matches(read.topic_filter, topic)
        )
        return [self.retained[topic] for topic in topics[: read.limit]]
