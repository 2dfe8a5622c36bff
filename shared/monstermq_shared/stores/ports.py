"""What the engine and the projections ask of a database.

A *store* turns changes into rows of its tables and reads them back. A *database* commits the
changes of all its stores, and how far each projection has read, in one transaction. Nobody outside
this package sees a driver or its errors: calls raise the ``StoreError`` tree.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Protocol

from monstermq_shared.messages import Will
from monstermq_shared.records import Record, size_of

MessageChanges = Mapping[str, Record | None]
"""Topic -> its newest record, or None where the topic is cleared."""

ArchiveChanges = Sequence[Record]
"""Records to append, in order of position."""

PAGE_SIZE_MAX = 1024 * 1024
"""Bytes of records (``size_of``) after which a page ends: rows are large, and held in memory."""

HISTORY_SIZE_MAX = 16 * 1024 * 1024
"""The same for a history, which is read for one answer, and by few at a time."""


class InFlightState(IntEnum):
    """How far an outbound QoS 2 exchange is."""

    SENT = 1
    """PUBLISH was sent (or may have been); PUBREC is awaited."""
    RECEIVED = 2
    """PUBREC has come; PUBREL is owed until PUBCOMP comes."""


@dataclass(slots=True, kw_only=True)
class SessionRow:
    """One row of ``sessions``.

    ``incarnation`` is the offset at which the session began; rows of an older one never count.
    ``updated_ms`` is when the row last changed: while it is not connected, when it went, for the
    session expiry.
    """

    client_id: str
    incarnation: int
    clean: bool
    connected: bool
    updated_ms: int
    information: dict[str, str | int | bool]
    will: Will | None


@dataclass(slots=True)
class Trim:
    """Drop the oldest queue rows of a client: at least ``messages`` and ``size`` bytes of them.

    Rows at or below ``after`` are in flight and are left alone.
    """

    after: int
    messages: int
    size: int


@dataclass(slots=True)
class ClientChanges:
    """What one commit changes for one client. Applied in the order of the members.

    Attributes:
        ended: First delete everything there is of this client: session, subscriptions, queue,
            open ids, in-flight.
        session: Then insert or replace the session row.
        subscriptions: Filter -> QoS to insert or replace, or None to delete.
        queued: Offset -> (record, QoS of the delivery) to insert; nothing on conflict.
        dequeued: Offsets of queue rows to delete; the shared payload goes with the last one.
        open_ids: Inbound QoS 2 packet id -> offset of its message, or None to delete.
        in_flight: Outbound QoS 2 packet id -> (offset, state) to insert or replace, or None.
        trim: Last, make room by dropping the oldest queue rows.
    """

    ended: bool = False
    session: SessionRow | None = None
    subscriptions: dict[str, int | None] = field(default_factory=dict)
    queued: dict[int, tuple[Record, int]] = field(default_factory=dict)
    dequeued: list[int] = field(default_factory=list)
    open_ids: dict[int, int | None] = field(default_factory=dict)
    in_flight: dict[int, tuple[int, InFlightState] | None] = field(default_factory=dict)
    trim: Trim | None = None


SessionChanges = Mapping[str, ClientChanges]
"""Client id -> what changes for it."""


@dataclass(slots=True, kw_only=True)
class Commit:
    """What one transaction changes.

    Attributes:
        upto: The next offset: everything below it is reflected once this is committed.
        projections: Names whose watermark moves to ``upto``.
        sessions: For the session store, if this database has it.
        messages: Store name -> changes, for retained and last-value stores.
        archives: Store name -> records to append.
    """

    upto: int
    projections: Sequence[str]
    sessions: SessionChanges = field(default_factory=dict)
    messages: Mapping[str, MessageChanges] = field(default_factory=dict)
    archives: Mapping[str, ArchiveChanges] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Trimmed:
    """How much a ``Trim`` dropped."""

    messages: int
    size: int


@dataclass(frozen=True, slots=True)
class CommitResult:
    """What the engine must know of a commit: for each client, what its ``Trim`` dropped."""

    trimmed: Mapping[str, Trimmed]


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuedMessage:
    """A row of the queue, as it is paged: the record and the QoS it is delivered with."""

    record: Record
    qos: int


@dataclass(slots=True, kw_only=True)
class StoredSession:
    """Everything the engine must know of one persistent session when it starts.

    ``queued_messages`` and ``queued_size`` count the rows and the bytes of them (``size_of``).
    """

    row: SessionRow
    subscriptions: dict[str, int]
    open_ids: dict[int, int]
    in_flight: dict[int, tuple[int, InFlightState]]
    queued_messages: int
    queued_size: int


def is_last_page(records: Sequence[Record], *, limit: int, size_max: int = PAGE_SIZE_MAX) -> bool:
    """Tell whether nothing follows a page, given the bounds it was read with.

    Every page is bounded by rows and by bytes: it ends with the row that brings it to ``limit``
    rows, or their ``size_of`` to ``size_max`` or more. So it holds at least one row if there is
    one, however large, and only where nothing follows does it reach neither bound.
    """
    if not records:
        return True
    return len(records) < limit and sum(map(size_of, records)) < size_max


def check_limit(limit: int) -> None:
    """Refuse a negative number of rows: SQL would take it for all of them.

    Raises:
        ValueError: It is negative.
    """
    if limit < 0:
        raise ValueError(f"limit is {limit}; it must be 0 or more")


class SessionStore(Protocol):
    """Sessions, subscriptions, queue, open ids, in-flight. Written through ``Commit.sessions``."""

    async def load(self) -> list[StoredSession]:
        """Return every session there is, also clean ones that a crash left with their will."""
        ...

    async def page(
        self,
        client_id: str,
        *,
        after: int,
        before: int,
        limit: int,
        size_max: int = PAGE_SIZE_MAX,
    ) -> list[QueuedMessage]:
        """Return a page of the queue rows with after < offset < before, oldest first.

        Call again with the offset of the last row, until ``is_last_page`` for their records.
        """
        ...


class MessageStore(Protocol):
    """One record per topic: retained messages, or last values."""

    name: str

    async def get(self, topic: str) -> Record | None:
        """Return the topic's record, or None if there is none."""
        ...

    async def find(
        self, topic_filter: str, *, after: str, limit: int, size_max: int = PAGE_SIZE_MAX
    ) -> list[Record]:
        """Return a page of the records whose topic matches, in order of topic, after ``after``.

        Pages are by key and hold no transaction open: call again with the last topic, until
        ``is_last_page``; ``""`` begins. Agrees with ``topics.matches`` on every filter and topic,
        ``$``-topics included.
        """
        ...

    async def count(self) -> int:
        """Return how many topics it holds."""
        ...

    async def purge(self, *, before_ms: int, limit: int) -> int:
        """Delete up to ``limit`` records older than that; return how many there were.

        There may be more of them unless it is 0.
        """
        ...


class ArchiveStore(Protocol):
    """Every record of a group, by topic and time."""

    name: str

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
        """Return a topic's records with start <= time <= end, ordered by (time, position).

        A negative limit is refused with ``ValueError``.

        It is a page: unless ``is_last_page`` there are more. They begin at the time of the last
        record, so that one, and others of the same millisecond, come again.
        """
        ...

    async def oldest_ms(self) -> int | None:
        """Return the time of the oldest record, None if there is none."""
        ...

    async def purge(self, *, before_ms: int, limit: int) -> int:
        """Delete up to ``limit`` records older than that; return how many there were."""
        ...

    async def purge_oldest(self, *, limit: int) -> int:
        """Delete the ``limit`` oldest records; return how many there were."""
        ...


class Database(Protocol):
    """One database: commits, watermarks and the life of the connection.

    Attributes:
        boot: How often a broker has been started on it; the high bits of this run's offsets.
    """

    boot: int

    @property
    def lost(self) -> str | None:
        """Why nothing is committed any more before a restart, and what to do; None if all is well.

        ``commit`` raises StoreUnavailable then: what was acknowledged is kept, nothing else is.
        """
        ...

    async def commit(self, commit: Commit) -> CommitResult:
        """Apply it in one transaction, on condition that nobody else has written since we opened.

        One call at a time. After an error nothing of it was applied, and the same call is repeated.

        Raises:
            StoreUnavailable: Locked, full, or gone for now: repeat with backoff.
            StoreConflict: Another process has taken the database over: stop.
            StoreDamaged: The file is corrupt: stop.
        """
        ...

    async def watermarks(self) -> Mapping[str, int]:
        """Return, for each projection that ever committed, the next offset it has to read."""
        ...

    async def backup(self, target: Path) -> None:
        """Write a consistent copy of the whole database, while it is being used."""
        ...

    async def size(self) -> int:
        """Return the bytes it takes on disk (or in memory)."""
        ...

    async def free_size(self) -> int | None:
        """Return the bytes that can be written before its disk is full, None if it has no disk.

        That is what is free on the disk, and inside the database.
        """
        ...

    async def give_space_back(self) -> bool:
        """Return some of what a purge has freed to the disk; return whether there is more."""
        ...

    async def close(self) -> None:
        """Finish what is running and release the file."""
        ...
