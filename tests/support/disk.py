"""What survives a kill: committed state, changed by whole turns only."""

import sys
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from monstermq_shared.positions import Partition
from monstermq_shared.projections.retained import RetainedProjection
from monstermq_shared.records import Record
from monstermq_shared.sessions.local import QueueRead, RetainedRead, Turn
from monstermq_shared.stores.changes import (
    Commit,
    CommitResult,
    InFlightState,
    QueuedMessage,
    SessionRow,
    StoredSession,
)
from monstermq_shared.stores.memory import MemoryDatabase

T = TypeVar("T")

PARTITION = Partition("simulated", 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientRows:
    """Everything that is stored of one client."""

    row: SessionRow | None = None
    subscriptions: dict[str, int] = field(default_factory=dict)
    queue: dict[int, tuple[Record, int]] = field(default_factory=dict)
    open_ids: dict[int, int] = field(default_factory=dict)
    in_flight: dict[int, tuple[int, InFlightState]] = field(default_factory=dict)


class Disk:
    """``MemoryDatabase``, which the contract suites hold, for processes that come and go on it.

    It answers at once, without an event loop. What a process is given are copies, so nothing but
    a commit changes what the next process will find.

    Attributes:
        boot: How often a process was started on it.
        archive: Offset -> record, of all that was ever committed.
    """

    def __init__(self) -> None:
        self.boot = 0
        self.archive: dict[int, Record] = {}
        self._database = MemoryDatabase()
        self._projection = RetainedProjection()
        self._retained = self._database.message_store(self._projection.name)
        self._tenure = _result(self._database.begin(PARTITION, [self._projection.name]))
        self._elsewhere = _result(self._database.begin(PARTITION, ["elsewhere"]))

    def apply(self, turn: Turn, *, retained: bool = True) -> CommitResult:
        """Commit a turn: all of it, or all but what is retained."""
        name = self._projection.name
        self.archive.update((record.offset, record) for record in turn.records)
        commit = Commit(
            upto=turn.upto,
            sessions=turn.clients,
            messages={name: self._projection.fold(turn.records)} if retained else {},
        )
        return _result(self._database.commit(self._tenure, commit))

    def follow(self, records: Sequence[Record], upto: int) -> None:
        """Commit what a follower of the retained view has read."""
        name = self._projection.name
        commit = Commit(upto=upto, messages={name: self._projection.fold(records)})
        _result(self._database.commit(self._elsewhere, commit))

    @property
    def clients(self) -> dict[str, ClientRows]:
        """Client id -> its rows."""
        return {stored.row.client_id: self._rows(stored) for stored in self.load()}

    def client(self, client_id: str) -> ClientRows:
        """Return the rows of a client; empty ones if there is none."""
        return self.clients.get(client_id) or ClientRows()

    @property
    def retained(self) -> dict[str, Record]:
        """Topic -> retained record."""
        everything = self._retained.find("#", after="", limit=sys.maxsize, size_max=sys.maxsize)
        return {record.topic: record for record in _result(everything)}

    def load(self) -> list[StoredSession]:
        """Return what a starting process is given."""
        return self._database.sessions.stored()

    def queue_page(self, read: QueueRead) -> list[QueuedMessage]:
        """Read a page of a queue, as of now."""
        page = self._database.sessions.page(
            PARTITION,
            read.session.client_id,
            after=read.after,
            before=read.before,
            limit=read.limit,
        )
        return _result(page)

    def retained_page(self, read: RetainedRead) -> list[Record]:
        """Read a page of the retained messages, as of now."""
        page = self._retained.find(read.topic_filter, after=read.after, limit=read.limit)
        return _result(page)

    def _rows(self, stored: StoredSession) -> ClientRows:
        page = self._database.sessions.page(
            PARTITION,
            stored.row.client_id,
            after=-1,
            before=sys.maxsize,
            limit=stored.queued_messages,
            size_max=sys.maxsize,
        )
        return ClientRows(
            row=stored.row,
            subscriptions=dict(stored.subscriptions),
            queue={queued.record.offset: (queued.record, queued.qos) for queued in _result(page)},
            open_ids=dict(stored.open_ids),
            in_flight=dict(stored.in_flight),
        )


def _result(call: Coroutine[Any, Any, T]) -> T:
    """Return what a call returns that never waits."""
    try:
        call.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    raise AssertionError("a store in memory waits for nothing")
