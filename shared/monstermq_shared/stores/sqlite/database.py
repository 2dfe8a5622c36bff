"""One SQLite database: all its stores, committed together."""

import asyncio
import shutil
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from monstermq_shared.errors import StoreUnavailable
from monstermq_shared.stores.changes import Commit, CommitResult
from monstermq_shared.stores.ports import ArchiveStore, MessageStore
from monstermq_shared.stores.sql import load_queries, table_names
from monstermq_shared.stores.sqlite import sessions as session_tables
from monstermq_shared.stores.sqlite.archives import SqliteArchiveStore
from monstermq_shared.stores.sqlite.backup import backup_open_file
from monstermq_shared.stores.sqlite.copying import copy_to
from monstermq_shared.stores.sqlite.files import place_of
from monstermq_shared.stores.sqlite.maintenance import Maintenance
from monstermq_shared.stores.sqlite.messages import SqliteMessageStore
from monstermq_shared.stores.sqlite.opening import MEMORY, META_TABLES, Opened, open_database
from monstermq_shared.stores.sqlite.ownership import Attempt
from monstermq_shared.stores.sqlite.readers import FileReaders, Readers, WriterReaders
from monstermq_shared.stores.sqlite.sessions import SqliteSessionStore
from monstermq_shared.stores.sqlite.statements import to_json
from monstermq_shared.stores.sqlite.writer import Writer

_QUERIES = load_queries(__package__, "database.sql")


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseSummary:
    """What a start finds.

    Attributes:
        path: The absolute path of the file, links followed, or ``:memory:``.
        sessions: Persistent sessions.
        retained: Topics with a retained message; None if they are not kept here.
        queued: Messages that wait for absent sessions, counted once for each.
        ended_cleanly: Whether whoever had it open last has closed it; True for a new one.
    """

    path: str
    sessions: int
    retained: int | None
    queued: int
    ended_cleanly: bool


class SqliteDatabase:
    """A ``Database`` on SQLite; open it with ``open``, and close it.

    Attributes:
        boot: How often the database has been opened; the high bits of this run's offsets.
        generation: Which log its positions belong to; given once, when it is made.
        sessions: The session store, if it was asked for.
    """

    def __init__(
        self,
        path: str,
        opened: Opened,
        tables: Mapping[str, str],
        message_stores: Sequence[str],
        archive_stores: Sequence[str],
    ) -> None:
        """Take over an opened database; for ``open``, which says what the arguments must be."""
        self.boot = opened.boot
        self.generation = opened.generation
        self._path = path
        self._absolute_path = path if path == MEMORY else str(place_of(Path(path)))
        self._lock = opened.lock
        self._ownership = opened.ownership
        self._ended_cleanly = opened.ended_cleanly
        self._writer = Writer(opened.connection, path, opened.guard)
        self._readers: Readers = (
            WriterReaders(self._writer) if path == MEMORY else FileReaders(Path(path), self._writer)
        )
        maintenance = self._maintenance = Maintenance(self._writer, self._ownership)
        self.sessions = SqliteSessionStore(self._readers)
        self._messages = {
            name: SqliteMessageStore(name, tables[name], self._readers, maintenance)
            for name in message_stores
        }
        self._archives = {
            name: SqliteArchiveStore(name, tables[name], self._readers, maintenance)
            for name in archive_stores
        }
        self._last_attempt: _CommitAttempt | None = None
        self._committing = False
        self._closed = False

    @classmethod
    async def open(
        cls,
        path: str,
        *,
        session_store: bool,
        message_stores: Sequence[str],
        archive_stores: Sequence[str],
    ) -> "SqliteDatabase":
        """Open a database, make what is missing, and lock every other broker out of it.

        Args:
            path: The file; its folder is made. ``:memory:`` is a database that ends with
                ``close``.
            session_store: Whether sessions are kept here.
            message_stores: Names of retained and last-value stores, such as ``MCPLastval``.
            archive_stores: Names of archives, such as ``MCPArchive``.

        Raises:
            ConfigError: A name cannot be that of a table, or two would share one.
            StartupError: It is in use, unwritable, full, or not ours.
            StoreDamaged: It is corrupt, or of a schema this release does not know.
        """
        tables = table_names(
            [*message_stores, *archive_stores], reserved=[*META_TABLES, *session_tables.TABLES]
        )
        schema = [*session_tables.SCHEMA] if session_store else []
        for name in message_stores:
            schema += SqliteMessageStore.schema(tables[name])
        for name in archive_stores:
            schema += SqliteArchiveStore.schema(tables[name])
        opened = await asyncio.to_thread(open_database, path, schema)
        return cls(path, opened, tables, message_stores, archive_stores)

    def message_store(self, name: str) -> MessageStore:
        """Return the message store of that name; it was given to ``open``."""
        return self._messages[name]

    def archive_store(self, name: str) -> ArchiveStore:
        """Return the archive of that name; it was given to ``open``."""
        return self._archives[name]

    @property
    def lost(self) -> str | None:
        """Why nothing is committed until a restart: its files were taken away, see ``Guard``."""
        return self._writer.lost

    async def commit(self, commit: Commit) -> CommitResult:
        """Apply it in one transaction, on condition that nobody else has written since we opened.

        One call at a time. Until it returns, what it carries must not change. After an error
        nothing of it was applied, and the same call is repeated.

        Raises:
            StoreUnavailable: Locked, full, or gone for now: repeat with backoff.
            StoreConflict: Another process has taken the database over: stop.
            StoreDamaged: The file is corrupt: stop.
        """
        if self._committing:
            raise RuntimeError("one commit at a time: await the last one first")
        self._committing = True
        try:
            return await self._writer.submit(lambda connection: self._apply(connection, commit))
        finally:
            self._committing = False

    async def watermarks(self) -> Mapping[str, int]:
        """Return, for each projection that ever committed, the next offset it has to read."""
        return dict(await self._readers.fetch(_QUERIES["watermarks"]))

    async def backup(self, target: Path) -> None:
        """Write a consistent copy of the whole database, while it is being used.

        The copy appears under its name only when it is complete and on the disk.

        Raises:
            ConfigError: The target is the database itself.
            StoreUnavailable: It cannot be written, or the disk is full.
        """
        if self._path == MEMORY:
            await self._writer.submit(lambda source: copy_to(source, target, read=MEMORY))
        else:
            await asyncio.to_thread(backup_open_file, Path(self._path), target)

    async def size(self) -> int:
        """Return the bytes it takes on disk, its write-ahead log included, or in memory."""
        if self._path == MEMORY:
            ((pages,),) = await self._readers.fetch("PRAGMA page_count")
            ((page_size,),) = await self._readers.fetch("PRAGMA page_size")
            return int(pages * page_size)
        files = (Path(self._path), Path(f"{self._path}-wal"))
        return sum(file.stat().st_size for file in files if file.exists())

    async def summary(self, retained: str) -> DatabaseSummary:
        """Return what there is now, for the log of a start. It must have the session store.

        Args:
            retained: The name of the message store with the retained messages.
        """
        ((sessions, queued),) = await self._readers.fetch(_QUERIES["summary"])
        store = self._messages.get(retained)
        return DatabaseSummary(
            path=self._absolute_path,
            sessions=sessions,
            retained=None if store is None else await store.count(),
            queued=queued,
            ended_cleanly=self._ended_cleanly,
        )

    async def free_size(self) -> int | None:
        """Return the bytes that can be written before its disk is full, None for ``:memory:``.

        Raises:
            StoreUnavailable: The disk cannot be asked.
        """
        if self._path == MEMORY:
            return None
        ((pages,),) = await self._readers.fetch("PRAGMA freelist_count")
        ((page_size,),) = await self._readers.fetch("PRAGMA page_size")
        try:
            disk = shutil.disk_usage(self._path)
        except OSError as exc:
            raise StoreUnavailable(f"{self._path}: the disk cannot be asked: {exc}") from exc
        return disk.free + int(pages * page_size)

    async def give_space_back(self) -> bool:
        """Return some of what a purge has freed to the disk; return whether there is more.

        One call takes some milliseconds, which commits wait for.

        Raises:
            StoreError: As from ``commit``.
        """
        return await self._maintenance.give_space_back()

    async def close(self) -> None:
        """Finish what is running and release the file. A second call does nothing."""
        if self._closed:
            return
        self._closed = True
        await self._readers.close()
        await self._writer.close()
        if self._lock is None:
            return
        if self.lost is None:
            self._lock.close()
        else:
            self._lock.leave()

    def _apply(self, connection: sqlite3.Connection, commit: Commit) -> CommitResult:
        """Run the transaction, on the writer's thread."""
        self._ownership.settle(connection)
        last = self._last_attempt
        if last is not None and last.applied and last.commit == commit:
            self._last_attempt = None
            return last.result  # this is the call whose outcome was not known
        attempt = self._last_attempt = _CommitAttempt(commit)
        with self._ownership.transaction(connection, attempt):
            attempt.result = CommitResult(self.sessions.apply(connection, commit.sessions))
            for name, changes in commit.messages.items():
                self._messages[name].apply(connection, changes, commit.upto)
            for name, records in commit.archives.items():
                self._archives[name].apply(connection, records)
            marks = (to_json([*commit.projections]), commit.upto)
            connection.execute(_QUERIES["advance_watermarks"], marks)
        self._last_attempt = None  # only an attempt that raised is repeated
        return attempt.result


class _CommitAttempt(Attempt):
    """A commit, and what it returns once it is known to be applied."""

    def __init__(self, commit: Commit) -> None:
        super().__init__()
        self.commit = commit
        self.result = CommitResult({})
