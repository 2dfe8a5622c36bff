"""What engines, projections and their followers ask of a database.

A *store* turns changes into rows of its tables and reads them back. A *database* commits the
changes of all its stores, and how far each projection has come, in one transaction, under a
*tenure*. What only some databases have is a capability of its own: see the protocols at the end.
Nobody outside this package sees a driver or its errors: calls raise the ``StoreError`` tree.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

from monstermq_shared.positions import Mark, Partition
from monstermq_shared.records import Record, size_of
from monstermq_shared.stores.changes import (
    Commit,
    CommitResult,
    Quarantined,
    QueuedMessage,
    StoredLogState,
    StoredSession,
    Tenure,
)

PAGE_SIZE_MAX = 1024 * 1024
"""Bytes of records (``size_of``) after which a page ends: rows are large, and held in memory."""

HISTORY_SIZE_MAX = 16 * 1024 * 1024
"""The same for a history, which is read for one answer, and by few at a time."""


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


# -- stores --------------------------------------------------------------------------------------


class SessionSnapshot(Protocol):
    """All sessions as of one moment.

    Attributes:
        marks: Projection -> how far it had come in the partition at that moment.
    """

    marks: Mapping[str, Mark]

    def pages(self) -> AsyncIterator[Sequence[StoredSession]]:
        """Yield every session, also clean ones that a crash left with their will, by the page.

        Raises:
            StoreDamaged: Somebody else has written a row that makes no sense.
        """
        ...


class SessionStore(Protocol):
    """Sessions, subscriptions, queue, open ids, in-flight. Written through ``Commit.sessions``."""

    def load(self, partition: Partition) -> AbstractAsyncContextManager[SessionSnapshot]:
        """Return a snapshot; while it is open, what is committed does not show in it.

        Of sessions that were committed under another partition or generation it has none, if the
        database can serve logs of several partitions.
        """
        ...

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
        """Return a page of the queue rows with after < offset < before, oldest first.

        Call again with the offset of the last row, until ``is_last_page`` for their records.
        """
        ...


class Purgeable(Protocol):
    """A store with a retention."""

    async def purge(self, *, before_ms: int, limit: int) -> int:
        """Delete up to ``limit`` records older than that; return how many there were.

        There may be more of them unless it is 0.
        """
        ...


class MessageReader(Protocol):
    """Reads one record per topic: retained messages, or last values."""

    name: str

    async def get(self, topic: str) -> Record | None:
        """Return the topic's record, or None if there is none."""
        ...

    async def find(
        self, topic_filter: str, *, after: str, limit: int, size_max: int = PAGE_SIZE_MAX
    ) -> list[Record]:
        """Return a page of the records whose topic matches, in order of topic, after ``after``.

        The order is that of code points. Pages are by key and hold no transaction open: call again
        with the last topic, until ``is_last_page``; ``""`` begins. Agrees with ``topics.matches``
        on every filter and topic, ``$``-topics included.
        """
        ...

    async def count(self) -> int:
        """Return how many topics it holds; a large database may estimate it."""
        ...


class ReflectedPage(NamedTuple):
    """A page of records, and what it reflects: both as of one moment (R5).

    Attributes:
        reflected: Partition -> the next offset whose record does not show in the page. A partition
            in which the view has no mark yet is not there.
    """

    records: list[Record]
    reflected: Mapping[int, int]


@runtime_checkable
class ReflectedReader(Protocol):
    """A message reader whose pages can be joined to the log: view + overlay = now (V2)."""

    async def find_reflected(
        self,
        view: tuple[str, str],
        topic_filter: str,
        *,
        after: str,
        limit: int,
        size_max: int = PAGE_SIZE_MAX,
    ) -> ReflectedPage:
        """Return what ``MessageReader.find`` does, with the marks of that moment.

        Args:
            view: The projection whose marks are meant, and the generation of the log.
            topic_filter: As for ``find``, and so are the others.
            after: The last topic of the page before.
            limit: Rows of a page.
            size_max: Bytes after which it ends.
        """
        ...


class MessageStore(MessageReader, Purgeable, Protocol):
    """One record per topic. Written through ``Commit.messages``."""


class ArchiveReader(Protocol):
    """Reads the records of a group, by topic and time."""

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


class ArchiveStore(ArchiveReader, Purgeable, Protocol):
    """Every record of a group. Written through ``Commit.archives``."""


# -- databases -----------------------------------------------------------------------------------


class Database(Protocol):
    """One database: its stores, and the commits that change all of them together."""

    @property
    def sessions(self) -> SessionStore:
        """The session store, if the database was opened with it."""
        ...

    def message_store(self, name: str) -> MessageStore:
        """Return the message store of that name; the database was opened with it."""
        ...

    def archive_store(self, name: str) -> ArchiveStore:
        """Return the archive of that name; the database was opened with it."""
        ...

    @property
    def lost(self) -> str | None:
        """Why nothing is committed any more before a restart, and what to do; None if all is well.

        ``commit`` raises StoreUnavailable then: what was acknowledged is kept, nothing else is.
        """
        ...

    async def begin(self, partition: Partition, projections: Sequence[str]) -> Tenure:
        """Begin a tenure; an older one of these projections and partition is over.

        Raises:
            StoreUnavailable: The database cannot be reached now.
            StoreError: It refuses.
        """
        ...

    async def commit(self, tenure: Tenure, commit: Commit) -> CommitResult:
        """Apply it in one transaction, on condition that the tenure is not over.

        One call at a time for one tenure. Until it returns, what it carries must not change. After
        StoreUnavailable the identical call is repeated until it succeeds: whether or not a try
        whose outcome nobody knew had taken effect, it is applied once. Marks never go back.

        Raises:
            StoreUnavailable: Locked, full, or gone for now: repeat with backoff.
            StoreConflict: The tenure is over: another has begun. Nothing was applied.
            StoreDamaged: It is corrupt, or somebody has changed a table: stop.
        """
        ...

    async def close(self) -> None:
        """Finish what is running, end all tenures, and let another process have the database."""
        ...


@dataclass(frozen=True, slots=True)
class Log:
    """The identity of an internal log, as a database remembers it.

    Attributes:
        generation: Given when the log began; see ``positions.Partition``.
        boot: How often a broker has been started on it: the high bits of this run's offsets.
    """

    generation: str
    boot: int


@runtime_checkable
class KeepsLog(Protocol):
    """A database that remembers which log its rows come from, and counts the starts."""

    async def log(self) -> Log | None:
        """Return the newest log it has seen, None if it has seen none."""
        ...

    async def begin_boot(self, log: Log) -> None:
        """Remember that a run with this boot number begins, before any of its offsets is used."""
        ...


@runtime_checkable
class KeepsLogState(Protocol):
    """A database that several processes share, each reading the log from where its rows stand."""

    async def begin_marks(self, log_id: str, starts: Mapping[Partition, Mapping[str, int]]) -> None:
        """Say where projections begin that have no mark yet; those that have one keep it (P1).

        Whoever starts first does it, so it begins no tenure.

        Args:
            log_id: Of the log, for ``StoredLogState``.
            starts: Partition -> projection -> the first offset it is to reflect.
        """
        ...

    async def log_states(
        self, partition: Partition, projections: Sequence[str] | None = None
    ) -> Mapping[str, StoredLogState]:
        """Return what is kept for each projection that has a mark there, all as of one moment.

        Args:
            partition: Of which log, and where in it.
            projections: Those that are wanted, for there may be much; None: all.
        """
        ...

    async def positions(self, generation: str) -> Mapping[tuple[str, int], int]:
        """Return (projection, partition) -> the next offset its rows do not reflect. Cheap."""
        ...

    async def versions(self, generation: str) -> Mapping[tuple[str, int], tuple[int, str]]:
        """Return (projection, partition) -> version and token of the tenure it has now. Cheap."""
        ...


@runtime_checkable
class OwnedByLog(Protocol):
    """A database that takes rows of one log only: positions of two do not mix."""

    async def belong_to(self, generation: str) -> None:
        """Take this log for the database's own if it has none.

        Raises:
            StartupError: It belongs to another. The message tells how to change that.
        """
        ...

    async def adopt(self, generation: str | None) -> str | None:
        """Make it another log's, or nobody's; return whose it was. Rows stay as they are."""
        ...


class QuarantineEntry(NamedTuple):
    """What is kept of one record that is none.

    Attributes:
        partition: Where it stands.
        record: What it is; in a list, without its value.
    """

    partition: Partition
    record: Quarantined


@runtime_checkable
class KeepsQuarantine(Protocol):
    """A database that keeps what is no record, up to a bound: see ``Commit.quarantined``.

    For each partition it keeps the newest ``quarantine.ROWS_MAX``, of ``quarantine.SIZE_MAX``
    bytes together, and counts what went.
    """

    async def quarantined(self, *, limit: int) -> list[QuarantineEntry]:
        """Return the newest of all partitions, newest first, without their values."""
        ...

    async def quarantined_at(self, partition: Partition, offset: int) -> QuarantineEntry | None:
        """Return one with its value, None if nothing is kept of that position."""
        ...

    async def quarantine_counts(self) -> tuple[int, int]:
        """Return how many are kept, and how many were dropped to make room."""
        ...


@runtime_checkable
class Measured(Protocol):
    """A database that knows how large it is."""

    async def size(self) -> int:
        """Return the bytes it takes on disk (or in memory)."""
        ...


@runtime_checkable
class IndexesTopics(Protocol):
    """A database with an index of topics that follows its commits."""

    @property
    def topics_noted(self) -> int:
        """About how many changes of topics the index does not show yet."""
        ...


@runtime_checkable
class OnDisk(Measured, Protocol):
    """A database that is a file of this machine."""

    async def backup(self, target: Path) -> None:
        """Write a consistent copy of the whole database, while it is being used."""
        ...

    async def free_size(self) -> int | None:
        """Return the bytes that can be written before its disk is full, None if it has no disk.

        That is what is free on the disk, and inside the database.
        """
        ...

    async def give_space_back(self) -> bool:
        """Return some of what a purge has freed to the disk; return whether there is more."""
        ...


@runtime_checkable
class Shrinkable(Protocol):
    """An archive whose oldest records can make room for new ones."""

    async def oldest_ms(self) -> int | None:
        """Return the time of the oldest record, None if there is none."""
        ...

    async def purge_oldest(self, *, limit: int) -> int:
        """Delete the ``limit`` oldest records; return how many there were."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseSummary:
    """What a start finds, for the log.

    Attributes:
        place: The absolute path of the file, or host, port and name; never a password.
        sessions: Sessions; None if they are not kept here.
        ended_cleanly: Whether whoever had it open last has closed it; True for a new one, None
            where nobody can tell.
    """

    place: str
    sessions: int | None
    ended_cleanly: bool | None


@runtime_checkable
class Summarized(Protocol):
    """A database that tells what a start finds."""

    async def summary(self) -> DatabaseSummary:
        """Return what there is now."""
        ...
