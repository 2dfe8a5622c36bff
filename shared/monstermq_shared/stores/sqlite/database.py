"""One SQLite database: all its stores, committed together."""

import asyncio
import shutil
import sqlite3
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from monstermq_shared.errors import StoreError, StoreUnavailable
from monstermq_shared.positions import Partition
from monstermq_shared.stores.changes import Commit, CommitResult, Tenure
from monstermq_shared.stores.ports import DatabaseSummary, Log
from monstermq_shared.stores.sql import load_queries, table_names
from monstermq_shared.stores.sqlite import sessions as session_tables
from monstermq_shared.stores.sqlite.archives import SqliteArchiveStore
from monstermq_shared.stores.sqlite.backup import backup_open_file
from monstermq_shared.stores.sqlite.copying import copy_to
from monstermq_shared.stores.sqlite.files import MEMORY, place_of
from monstermq_shared.stores.sqlite.maintenance import Maintenance
from monstermq_shared.stores.sqlite.messages import SqliteMessageStore
from monstermq_shared.stores.sqlite.opening import META_TABLES, Opened, open_database
from monstermq_shared.stores.sqlite.readers import FileReaders, Readers, WriterReaders
from monstermq_shared.stores.sqlite.sessions import SqliteSessionStore
from monstermq_shared.stores.sqlite.tenures import PartitionColumns, Tenures, transaction
from monstermq_shared.stores.sqlite.topic_index import TABLES as INDEX_TABLES
from monstermq_shared.stores.sqlite.topic_index import Indexing, TopicIndex, can_index
from monstermq_shared.stores.sqlite.writer import Writer

_QUERIES = load_queries(__package__, "database.sql")


class SqliteDatabase:
    """A ``Database`` on SQLite; open it with ``open``, and close it.

    Attributes:
        sessions: The session store, if it was asked for.
    """

    def __init__(
        self,
        path: str,
        opened: Opened,
        tables: Mapping[str, str],
        *,
        session_store: bool,
        message_stores: Sequence[str],
        archive_stores: Sequence[str],
    ) -> None:
        """Take over an opened database; for ``open``, which says what the arguments must be."""
        self._path = path
        self._place = path if path == MEMORY else str(place_of(Path(path)))
        self._has_sessions = session_store
        self._lock = opened.lock
        self._tenures = Tenures(one_partition=opened.one_partition)
        self._ended_cleanly = opened.ended_cleanly
        self._writer = Writer(opened.connection, path, opened.guard)
        self._readers: Readers = (
            WriterReaders(self._writer) if path == MEMORY else FileReaders(Path(path), self._writer)
        )
        maintenance = self._maintenance = Maintenance(self._writer)
        self.sessions = SqliteSessionStore(self._readers)
        self._messages = {
            name: SqliteMessageStore(name, tables[name], self._readers, maintenance)
            for name in message_stores
        }
        self._archives = {
            name: SqliteArchiveStore(name, tables[name], self._readers, maintenance)
            for name in archive_stores
        }
        self._indexing: Indexing | None = None
        self._committing: set[str] = set()
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
            [*message_stores, *archive_stores],
            reserved=[*META_TABLES, *session_tables.TABLES, *INDEX_TABLES],
        )
        schema = [*session_tables.SCHEMA] if session_store else []
        for name in message_stores:
            schema += SqliteMessageStore.schema(tables[name])
        for name in archive_stores:
            schema += SqliteArchiveStore.schema(tables[name])
        index: TopicIndex | None = None
        if message_stores and path != MEMORY and can_index():
            index = TopicIndex([tables[name] for name in message_stores])
            schema += index.schema()
        opened = await asyncio.to_thread(open_database, path, schema)
        database = cls(
            path,
            opened,
            tables,
            session_store=session_store,
            message_stores=message_stores,
            archive_stores=archive_stores,
        )
        if index is not None:
            await database._begin_indexing(index)
        return database

    def message_store(self, name: str) -> SqliteMessageStore:
        """Return the message store of that name; it was given to ``open``."""
        return self._messages[name]

    def archive_store(self, name: str) -> SqliteArchiveStore:
        """Return the archive of that name; it was given to ``open``."""
        return self._archives[name]

    @property
    def lost(self) -> str | None:
        """Why nothing is committed until a restart: its files were taken away, see ``Guard``."""
        return self._writer.lost

    async def begin(self, partition: Partition, projections: Sequence[str]) -> Tenure:
        """Begin a tenure; an older one of these projections and partition is over.

        Raises:
            StoreUnavailable: Locked, full, or gone for now: repeat with backoff.
            StoreDamaged: The file is corrupt: stop.
        """
        return await self._writer.submit(
            lambda connection: self._tenures.begin(connection, partition, projections)
        )

    async def commit(self, tenure: Tenure, commit: Commit) -> CommitResult:
        """Apply it in one transaction, on condition that the tenure is not over.

        One call at a time for one tenure. Until it returns, what it carries must not change. After
        StoreUnavailable the identical call is repeated, and applied once.

        Raises:
            StoreUnavailable: Locked, full, or gone for now: repeat with backoff.
            StoreConflict: Another has begun a tenure of these projections: stop.
            StoreDamaged: The file is corrupt: stop.
            StoreError: It has queues of a shared log, which a file of one machine does not keep.
        """
        if commit.queues is not None:
            raise StoreError("SQLite keeps no queues of a log of several partitions")
        if tenure.token in self._committing:
            raise RuntimeError("one commit at a time: await the last one first")
        self._committing.add(tenure.token)
        try:
            return await self._writer.submit(
                lambda connection: self._tenures.commit(
                    connection, tenure, commit, partial(self._apply, connection, commit)
                )
            )
        finally:
            self._committing.discard(tenure.token)
            if self._indexing is not None:
                self._indexing.note(changed=bool(commit.messages))

    async def log(self) -> Log | None:
        """Return the log of the last run, None before the first."""
        rows = await self._readers.fetch(_QUERIES["log"])
        return Log(*rows[0]) if rows else None

    async def begin_boot(self, log: Log) -> None:
        """Remember that a run with this boot number begins, before any of its offsets is used.

        Raises:
            StoreError: As from ``begin``.
        """

        def run(connection: sqlite3.Connection) -> None:
            with transaction(connection):
                connection.execute(_QUERIES["begin_boot"], (log.generation, log.boot))

        await self._writer.submit(run)

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

    async def summary(self) -> DatabaseSummary:
        """Return what there is now, for the log of a start."""
        sessions: int | None = None
        if self._has_sessions:
            ((sessions,),) = await self._readers.fetch(_QUERIES["count_sessions"])
        return DatabaseSummary(
            place=self._place, sessions=sessions, ended_cleanly=self._ended_cleanly
        )

    @property
    def topics_noted(self) -> int:
        """About how many changes of topics the index does not show yet; 0 without an index."""
        return 0 if self._indexing is None else self._indexing.behind

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
        try:
            if self._indexing is not None:
                await self._indexing.close()
        finally:
            await self._close_connections()

    async def _close_connections(self) -> None:
        await self._readers.close()
        await self._writer.close()
        if self._lock is None:
            return
        if self.lost is None:
            self._lock.close()
        else:
            self._lock.leave()

    async def _begin_indexing(self, index: TopicIndex) -> None:
        try:
            behind = await self._writer.submit(index.behind)
        except BaseException:
            await self.close()
            raise
        self._indexing = Indexing(index, self._writer, behind=behind)

    def _apply(
        self, connection: sqlite3.Connection, commit: Commit, columns: PartitionColumns
    ) -> CommitResult:
        """Write what it changes into the transaction that is open, on the writer's thread."""
        trimmed = self.sessions.apply(connection, columns, commit.sessions)
        for name, changes in commit.messages.items():
            self._messages[name].apply(connection, columns, changes, commit.upto)
        for name, records in commit.archives.items():
            self._archives[name].apply(connection, columns, records)
        return CommitResult(trimmed)
