"""One PostgreSQL database: all its stores, committed together."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress

import asyncpg

from monstermq_shared.config.postgres_urls import ConnectionSettings, describe
from monstermq_shared.errors import StartupError, StoreConflict, StoreError
from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.positions import Partition
from monstermq_shared.stores.changes import (
    Commit,
    CommitResult,
    Quarantined,
    StoredLogState,
    Tenure,
)
from monstermq_shared.stores.ports import DatabaseSummary, Log, QuarantineEntry
from monstermq_shared.stores.postgres import (
    archives,
    log_states,
    messages,
    opening,
    quarantine,
    reading_role,
    session_tables,
)
from monstermq_shared.stores.postgres.archives import PostgresArchiveStore, make_hypertable
from monstermq_shared.stores.postgres.connection import (
    SHARED_IDLE_IN_TRANSACTION_S,
    Connection,
    connect,
)
from monstermq_shared.stores.postgres.errors import (
    forget_lost_waits,
    may_be_altered,
    translated_at_start,
)
from monstermq_shared.stores.postgres.holder import PING_S, Holder
from monstermq_shared.stores.postgres.messages import PostgresMessageStore
from monstermq_shared.stores.postgres.queues import PostgresQueues
from monstermq_shared.stores.postgres.readers import Readers
from monstermq_shared.stores.postgres.search_indexes import index_new
from monstermq_shared.stores.postgres.session_tables import QUERIES
from monstermq_shared.stores.postgres.sessions import PostgresSessionStore
from monstermq_shared.stores.postgres.tables import TableKind
from monstermq_shared.stores.postgres.tenures import Tenures
from monstermq_shared.stores.postgres.writer import Writer
from monstermq_shared.stores.queue_changes import QueueGrowth
from monstermq_shared.stores.sql import load_queries, table_names

logger = logging.getLogger(__name__)

STATEMENT_TIMEOUT_S = 60.0
"""How long the server may work on one statement."""

SHARED_STATEMENT_TIMEOUT_S = 30.0
"""The same for commits where others wait to take them over: a process that stands still in the
middle of a COPY keeps the server waiting for so long."""

WRITERS_SHARED = 2
"""Connections that commit for a log of several partitions, each for its share of them. One keeps a
core of the server busy, and while it does the process makes what the other one sends: measured on
two cores, 1.5 times the rows of one connection, and no more with three or four."""

_QUERIES = load_queries(__package__, "database.sql")


class PostgresDatabase(PostgresQueues):
    """A ``Database`` on a PostgreSQL server; open it with ``open``, and close it.

    Attributes:
        lost: None: whatever befalls the server, it may come back.
        sessions: The session store, if it was asked for.
    """

    lost: None = None

    def __init__(
        self,
        settings: ConnectionSettings,
        tables: Mapping[str, str],
        message_stores: Sequence[str],
        archive_stores: Sequence[str],
        *,
        exclusive: bool,
    ) -> None:
        """Prepare one that is not connected; for ``open``, which says what the arguments are."""
        where = describe(settings)
        self._settings = settings
        self._holder = Holder(where) if exclusive else None
        super().__init__(Readers(self._connect_reader, where), Tenures(where), where)
        count = 1 if exclusive else WRITERS_SHARED
        self._writers = [Writer(self._connect_writer, self._holder, where) for _ in range(count)]
        self.sessions = PostgresSessionStore(self._readers, self._tenures)
        self._messages = {
            name: PostgresMessageStore(name, tables[name], self._readers) for name in message_stores
        }
        self._archives = {
            name: PostgresArchiveStore(name, tables[name], self._readers) for name in archive_stores
        }
        self._pinging: asyncio.Task[None] | None = None
        self._tables: dict[str, TableKind] = {}
        self._ended_cleanly: bool | None = None
        self._keeps_sessions = False

    @classmethod
    async def open(
        cls,
        settings: ConnectionSettings,
        *,
        session_store: bool,
        message_stores: Sequence[str],
        archive_stores: Sequence[str],
        exclusive: bool = True,
    ) -> "PostgresDatabase":
        """Open a database, make what is missing, and lock every other broker out of it.

        Args:
            settings: Where it is.
            session_store: Whether sessions are kept here.
            message_stores: Names of retained and last-value stores, such as ``MCPLastval``.
            archive_stores: Names of archives, such as ``MCPArchive``.
            exclusive: Whether other brokers are locked out; else only tenures part them.

        Raises:
            ConfigError: A name cannot be that of a table, or two would share one.
            StartupError: It cannot be reached or used, or another broker has it.
            StoreDamaged: It is corrupt, or of a schema this release does not know.
        """
        tables = table_names(
            [*message_stores, *archive_stores],
            reserved=[*opening.RESERVED, *session_tables.TABLES],
        )
        kinds = {**session_tables.TABLES} if session_store else {}
        kinds |= {tables[name]: messages.KIND for name in message_stores}
        kinds |= {tables[name]: archives.KIND for name in archive_stores}
        database = cls(settings, tables, message_stores, archive_stores, exclusive=exclusive)
        try:
            await database._start(kinds)
        except BaseException:
            await database.close()
            raise
        return database

    @classmethod
    async def inspect(
        cls, settings: ConnectionSettings, *, exclusive: bool = False
    ) -> "PostgresDatabase":
        """Open what is there, without stores, for an operator's command: nothing is made.

        Args:
            settings: Where it is.
            exclusive: Whether what is changed asks for the lock that a single broker has.

        Raises:
            StartupError: It cannot be reached, or no broker has used it.
            StoreDamaged: Its schema is of another version.
        """
        database = cls(settings, {}, (), (), exclusive=exclusive)
        try:
            with translated_at_start(database._where):
                async with database._readers.connection() as connection:
                    await opening.check_version(connection, database._where)
        except BaseException:
            await database.close()
            raise
        return database

    @property
    def where(self) -> str:
        """The database, as messages name it."""
        return self._where

    def message_store(self, name: str) -> PostgresMessageStore:
        """Return the message store of that name; it was given to ``open``."""
        return self._messages[name]

    def archive_store(self, name: str) -> PostgresArchiveStore:
        """Return the archive of that name; it was given to ``open``."""
        return self._archives[name]

    async def let_read(self, role: str, tables: Sequence[str]) -> None:
        """Let a role read some tables, if there is one. What hinders is logged: it can wait.

        Args:
            role: Its name.
            tables: Archives and last values.
        """
        try:
            async with self._readers.connection() as connection:
                there = await reading_role.has_role(connection, role)
                if there:
                    await reading_role.give_rights(connection, role, tables)
        except StoreError as exc:
            logger.warning("no SQL of others yet: %s", exc)
        else:
            if not there:
                logger.warning(
                    "PostgreSQL at %s: there is no role %s (Postgres.ReadUser), so no SQL of "
                    "others; make it with: monstermq db init",
                    *(self._where, role),
                )

    async def begin(self, partition: Partition, projections: Sequence[str]) -> Tenure:
        """Begin a tenure; an older one of these projections and partition is over.

        Raises:
            StartupError: The database has been given to another log.
            StoreUnavailable: The server cannot be reached now.
            StoreConflict: Another broker holds the database now.
            StoreError: The server refuses.
        """
        async with self._writer_of(partition).transaction() as connection:
            tenure = await self._tenures.begin(connection, partition, projections)
        reflected = max((mark.reflected for mark in tenure.marks.values()), default=0)
        self.begin_queues(partition, reflected)
        return tenure

    async def commit(self, tenure: Tenure, commit: Commit) -> CommitResult:
        """Apply it in one transaction, on condition that the tenure is not over.

        Until it returns, what it carries must not change. After StoreUnavailable the identical
        call is repeated until it succeeds: it is applied once, even if a try of unknown outcome
        had taken effect.

        Raises:
            StoreUnavailable: The server is gone, or cannot do it now: repeat with backoff.
            StoreConflict: The tenure is over, another broker holds the database, or the server has
                lost commits.
            StoreDamaged: The server's data is corrupt, or somebody has changed a table: stop.
        """
        writer = self._writer_of(tenure.partition)
        async with writer.connection() as connection:
            try:
                return await self._commit(writer, connection, tenure, commit)
            except asyncpg.UniqueViolationError:
                # Some of its rows are there already.
                await writer.roll_back(connection)
                return await self._commit(writer, connection, tenure, commit, careful=True)
            except asyncpg.PostgresError as exc:
                if may_be_altered(exc):
                    await writer.roll_back(connection)
                    await opening.check(connection, self._where, self._tables)
                raise

    async def begin_marks(self, log_id: str, starts: Mapping[Partition, Mapping[str, int]]) -> None:
        """Say where projections begin that have no mark yet; those that have one keep it."""
        async with self._writers[0].transaction() as connection:
            await self._tenures.begin_marks(connection, log_id, starts)

    async def log_states(
        self, partition: Partition, projections: Sequence[str] | None = None
    ) -> Mapping[str, StoredLogState]:
        """Return what is kept for each projection that has a mark there, as of one moment."""
        async with (
            self._readers.connection() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            place = await self._tenures.find_place(connection, partition)
            if place is None:
                return {}
            return await log_states.read_states(connection, place, projections)

    async def positions(self, generation: str) -> Mapping[tuple[str, int], int]:
        """Return (projection, partition) -> the next offset its rows do not reflect."""
        rows = await self._readers.fetch(log_states.QUERIES["positions"], generation)
        return {(projection, partition): reflected for projection, partition, reflected in rows}

    async def versions(self, generation: str) -> Mapping[tuple[str, int], tuple[int, str]]:
        """Return (projection, partition) -> version and token of the tenure it has now."""
        rows = await self._readers.fetch(log_states.QUERIES["versions"], generation)
        return {(name, number): (version, token) for name, number, version, token in rows}

    async def put_in_quarantine(self, partition: Partition, records: Sequence[Quarantined]) -> None:
        """Keep records of a log whose rows are not here, in one transaction; those there stay.

        Raises:
            StoreError: They are not kept.
        """
        async with self._writers[0].transaction() as connection:
            place = await self._tenures.place(connection, partition)
            await quarantine.add(connection, place, records)

    async def quarantined(self, *, limit: int) -> list[QuarantineEntry]:
        """Return the newest of all partitions, newest first, without their values."""
        return await quarantine.read_newest(self._readers, limit)

    async def quarantined_at(self, partition: Partition, offset: int) -> QuarantineEntry | None:
        """Return one with its value, None if nothing is kept of that position."""
        return await quarantine.read_at(self._readers, partition, offset)

    async def discard_quarantined(self, partition: Partition, offset: int) -> bool:
        """Forget one; return whether it was there."""
        async with self._writers[0].transaction() as connection:
            return await quarantine.discard(connection, partition, offset)

    async def quarantine_counts(self) -> tuple[int, int]:
        """Return how many are kept, and how many were dropped to make room."""
        return await quarantine.read_counts(self._readers)

    async def belong_to(self, generation: str) -> None:
        """Take this log for the database's own if it has none.

        Raises:
            StartupError: It belongs to another.
        """
        async with self._writers[0].transaction() as connection:
            await log_states.belong_to(connection, self._where, generation)

    async def adopt(self, generation: str | None) -> str | None:
        """Make it another log's, or nobody's; return whose it was. Rows stay as they are."""
        async with self._writers[0].transaction() as connection:
            return await log_states.adopt(connection, generation)

    async def owner(self) -> str | None:
        """Return the log whose rows it takes, None if it has none yet."""
        ((owner,),) = await self._readers.fetch(log_states.QUERIES["has_owner"])
        return None if owner is None else str(owner)

    async def clients_by_run(self, generation: str) -> Mapping[str, int]:
        """Return run, in hex -> how many clients of a sessions log its edge has."""
        rows = await self._readers.fetch(QUERIES["clients_by_run"], generation)
        return {row["run"]: row["clients"] for row in rows}

    async def log(self) -> Log | None:
        """Return the newest internal log it has seen, None if it has seen none.

        Raises:
            StartupError: It belongs to a log that is no internal one.
        """
        rows = await self._readers.fetch(_QUERIES["log"])
        if not rows:
            return None
        generation, boot = rows[0]
        if boot is None:
            raise log_states.of_another_log(self._where, generation, "the internal bus")
        return Log(generation, boot)

    async def begin_boot(self, log: Log) -> None:
        """Remember that a run with this boot number begins, before any of its offsets is used."""
        async with self._writers[0].transaction() as connection:
            await connection.execute(_QUERIES["begin_boot"], log.generation, log.boot)
            if self._keeps_sessions:
                await self._tenures.take_sessions(connection, log.generation)

    async def generation_number(self, generation: str) -> int:
        """Return what rows call a log; it is written down if it is new."""
        async with self._writers[0].transaction() as connection:
            return await self._tenures.number(connection, generation)

    async def size(self) -> int:
        """Return the bytes that our tables and their indexes take on the server."""
        ((size,),) = await self._readers.fetch(_QUERIES["size"])
        return int(size)

    async def summary(self) -> DatabaseSummary:
        """Return what there is now, for the log of a start."""
        sessions = None
        if self._keeps_sessions:
            ((sessions,),) = await self._readers.fetch(_QUERIES["sessions"])
        return DatabaseSummary(
            place=self._where, sessions=sessions, ended_cleanly=self._ended_cleanly
        )

    async def close(self) -> None:
        """Finish what is running, and let another broker have it. A second call does nothing."""
        if self._pinging is not None:
            self._pinging.cancel()
            await asyncio.wait([self._pinging])
            self._pinging = None
        for writer in self._writers:
            await writer.close()
        await self._readers.close()

    async def _start(self, kinds: Mapping[str, TableKind]) -> None:
        async def prepare(connection: Connection) -> None:
            made = await opening.prepare_schema(connection, self._where, kinds)
            for table in made:
                if kinds.get(table) is archives.KIND:
                    await make_hypertable(connection, self._where, table)
            searched = [table for table in made if kinds.get(table) is messages.KIND]
            await index_new(connection, self._where, searched)
            if self._holder is not None:
                self._ended_cleanly = await self._holder.ended_cleanly(connection)

        self._tables = {**opening.META_TABLES, **kinds}
        forget_lost_waits(asyncio.get_running_loop())
        try:
            with translated_at_start(self._where):
                await self._writers[0].start(prepare)
        except StoreConflict as exc:
            raise StartupError(str(exc), exit_code=ExitCode.STORE_IN_USE) from exc
        self._keeps_sessions = kinds.keys() >= session_tables.TABLES.keys()
        self._pinging = asyncio.create_task(self._ping())

    def _writer_of(self, partition: Partition) -> Writer:
        return self._writers[partition.number % len(self._writers)]

    async def _commit(
        self,
        writer: Writer,
        connection: Connection,
        tenure: Tenure,
        commit: Commit,
        *,
        careful: bool = False,
    ) -> CommitResult:
        while True:
            await connection.execute("BEGIN")
            if await self._tenures.claim(connection, tenure, commit):
                break
            earlier, earlier_result = await self._tenures.earlier(connection, tenure)
            await writer.commit(connection)
            self._tenures.settle(tenure)
            if earlier == commit:
                return earlier_result
        result = await self._apply(connection, tenure, commit, careful=careful)
        self._tenures.suspect(tenure, commit, result)
        await writer.commit(connection)
        self._tenures.settle(tenure)
        return result

    async def _apply(
        self, connection: Connection, tenure: Tenure, commit: Commit, *, careful: bool
    ) -> CommitResult:
        """Write the changes of all stores into the transaction that is open."""
        place = await self._tenures.find_place(connection, tenure.partition)
        assert place is not None, "the claim has found its rows"
        trimmed = await self.sessions.apply(connection, place, commit.sessions, careful=careful)
        grown: dict[str, QueueGrowth] = {}
        if commit.queues is not None:
            grown = await self.apply_queues(
                connection, tenure.partition, place, commit.queues, careful=careful
            )
        for name, changes in commit.messages.items():
            await self._messages[name].apply(connection, place, changes, commit.upto)
        for name, records in commit.archives.items():
            await self._archives[name].apply(connection, place, records, careful=careful)
        if commit.log is not None:
            await log_states.put_fences(
                connection, tenure.projections, place, commit.upto, commit.log
            )
        if commit.quarantined:
            await quarantine.add(connection, place, commit.quarantined)
        return CommitResult(trimmed, grown)

    async def _ping(self) -> None:
        """Show the server that we live, as ``holder`` says, and notice when it has gone."""
        while True:
            await asyncio.sleep(PING_S)
            # Whoever commits next is told.
            with suppress(StoreError):
                await self._writers[0].ping()

    async def _connect_reader(self) -> Connection:
        return await connect(self._settings, statement_timeout_s=STATEMENT_TIMEOUT_S, durable=False)

    async def _connect_writer(self) -> Connection:
        if self._holder is not None:
            return await connect(self._settings, statement_timeout_s=STATEMENT_TIMEOUT_S)
        return await connect(
            self._settings,
            statement_timeout_s=SHARED_STATEMENT_TIMEOUT_S,
            idle_in_transaction_s=SHARED_IDLE_IN_TRANSACTION_S,
        )
