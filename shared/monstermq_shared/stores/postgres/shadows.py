"""Tables that are made anew beside those in use, and put into their places when they are ready."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

import asyncpg

from monstermq_shared.config.postgres_urls import ConnectionSettings, describe
from monstermq_shared.errors import StoreConflict
from monstermq_shared.stores.postgres.connection import Connection, connect
from monstermq_shared.stores.postgres.errors import translated, translated_at_start
from monstermq_shared.stores.postgres.holder import Backend
from monstermq_shared.stores.sql import fill_in, load_queries

_QUERIES = load_queries(__package__, "shadows.sql")

STATEMENT_TIMEOUT_S = 24 * 3600.0
"""How long one statement may take: a slice of a copy may have to look through a whole table."""

SWAP_S = 60
"""How long a swap may wait for the last records of the log, while others wait for the swap."""

SLICE_ROWS = 10_000
"""Rows that are copied in one transaction."""

_NO_TIME = datetime.min.replace(tzinfo=UTC)

_KEPT = 59
"""Characters of a name that leave room for another ending."""

Key = Sequence[object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shadow:
    """A table, and the one that takes its place.

    Attributes:
        table: The table in use.
        shadow: The one that is made.
        projection: Whose mark the first one has.
        shadow_projection: And the second one.
        is_archive: Whether it has all records; else one for each topic.
    """

    table: str
    shadow: str
    projection: str
    shadow_projection: str
    is_archive: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class OldRows:
    """Rows of the table in use that the log cannot make again.

    Attributes:
        generation: The number that rows of the log have.
        firsts: Partition -> the first position; 0 where it is not there.
        ends: Partition -> the position behind the last one.
        others: Those of other logs, too.
    """

    generation: int
    firsts: Mapping[int, int]
    ends: Mapping[int, int]
    others: bool

    @property
    def arguments(self) -> Sequence[object]:
        """As statements have it."""
        numbers = range(max(self.ends, default=-1) + 1)
        firsts = [self.firsts.get(number, 0) for number in numbers]
        return (
            self.generation,
            firsts,
            [self.ends.get(number, 0) for number in numbers],
            self.others,
        )


class Slice(NamedTuple):
    """Rows that were copied in one transaction.

    Attributes:
        key: The last one's.
        rows: How many.
    """

    key: Key
    rows: int


class Shadows:
    """Makes room for such a table, fills it with what is old, and swaps.

    By one connection, which is made again after it was lost. Whatever failed may be called again.

    Args:
        settings: How to connect.
        shadow: What it is about.
    """

    def __init__(self, settings: ConnectionSettings, shadow: Shadow) -> None:
        self._settings = settings
        self._where = describe(settings)
        self._shadow = shadow
        self._turn = asyncio.Lock()
        self._connection: Connection | None = None
        self._backend: Backend | None = None
        names = {
            "table": shadow.table,
            "shadow": shadow.shadow,
            "replaced": f"{shadow.shadow[:_KEPT]}_old",
        }
        self._queries = fill_in(_QUERIES, names)

    @property
    def is_connected(self) -> bool:
        """Whether the connection is there."""
        return self._connection is not None and not self._connection.is_closed()

    async def refuse_dependents(self) -> None:
        """Refuse a table that others' views or foreign keys need: they would go with it.

        Raises:
            StoreConflict: There are some.
        """
        async with self._connected() as connection:
            rows = await connection.fetch(self._queries["dependents"], f'"{self._shadow.table}"')
        if rows:
            names = ", ".join(row["relname"] for row in rows)
            raise StoreConflict(
                f"PostgreSQL at {self._where}: {names} depends on {self._shadow.table}, which is "
                "to be replaced by another table; drop it, and make it again afterwards"
            )

    async def is_there(self) -> bool:
        """Whether the new table was begun before."""
        async with self._connected() as connection:
            return bool(await connection.fetchval(self._queries["is_there"], self._shadow.shadow))

    async def discard(self) -> None:
        """Drop what was begun before."""
        shadow = self._shadow
        async with self._connected() as connection, connection.transaction():
            await connection.execute(self._queries["drop"])
            await connection.execute(self._queries["forget_table"], shadow.shadow)
            for query in ("forget_marks", "forget_fences"):
                await connection.execute(self._queries[query], shadow.shadow_projection)

    async def copy(self, old: OldRows, behind: Key | None) -> Slice | None:
        """Copy some rows of the table in use; what is there already is as new afterwards.

        Args:
            old: Which.
            behind: The key of the slice before; None: from the beginning.

        Returns:
            None if there are no more.
        """
        is_archive = self._shadow.is_archive
        key = behind or ((_NO_TIME, 0, 0, 0) if is_archive else (b"",))
        query = self._queries["copy_archive" if is_archive else "copy_messages"]
        async with self._connected() as connection:
            row = await connection.fetchrow(query, *old.arguments, *key, SLICE_ROWS)
        if row is None:
            return None
        *key, rows = row
        return Slice(key, rows)

    async def drop_cleared(self, generation: int, partition: int) -> None:
        """Drop the topics of a partition that are not in the table in use any more.

        Args:
            generation: The number that rows of the log have.
            partition: Which. The table in use is to reflect more of it than the new one.
        """
        async with self._connected() as connection:
            await connection.execute(self._queries["drop_cleared"], generation, partition)

    async def analyze(self) -> None:
        """Let the planner know what is in the new table."""
        async with self._connected() as connection:
            await connection.execute(self._queries["analyze"])

    @asynccontextmanager
    async def swapping(self, generation: int) -> AsyncIterator[Mapping[int, int]]:
        """Let nobody commit the table in use while the block lasts, and swap at its end.

        Nothing else may be asked for in the block.

        Yields:
            Partition -> up to where the table in use reflects the log: the new one must not end
            below that, for there are readers who have forgotten what the table shows them.

        Raises:
            StoreUnavailable: Somebody uses the table for too long; nothing was changed.
        """
        shadow = self._shadow
        names = (shadow.projection, shadow.shadow_projection)
        async with self._connected() as connection, connection.transaction():
            await connection.execute(self._queries["patience"])
            await connection.execute(self._queries["add_marks"], *names, generation)
            rows = await connection.fetch(
                self._queries["lock_marks"], shadow.projection, generation
            )
            yield {row["partition"]: row["reflected"] for row in rows}
            await connection.execute(self._queries["hold_table"])
            for query in ("put_away", "put_in_place", "take_rights", "drop_replaced"):
                await connection.execute(self._queries[query])
            await connection.execute(self._queries["drop_fences"], shadow.projection, generation)
            await connection.execute(self._queries["take_fences"], *names)
            await connection.execute(self._queries["take_marks"], *names, generation)
            await connection.execute(self._queries["forget_marks"], shadow.shadow_projection)
            await connection.execute(self._queries["forget_table"], shadow.shadow)

    # -- the connection --------------------------------------------------------------------------

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[Connection]:
        """Lend the connection, outside of a transaction.

        Raises:
            StoreConflict: Another process makes the table anew.
            StoreError: As ``errors.translated`` says, also for what the body raises.
        """
        with translated(self._where):
            async with self._turn:
                connection = self._connection
                if connection is None or connection.is_closed():
                    connection = await self.connect()
                try:
                    yield connection
                except asyncpg.PostgresError:
                    raise
                except BaseException:
                    # It may be in the middle of an answer.
                    connection.terminate()
                    raise

    async def connect(self) -> Connection:
        """Connect, and take the lock; what the last connection has left there ends before.

        Raises:
            StoreConflict: Another process has it.
            StoreError: The server cannot be reached.
        """
        connection = await connect(
            self._settings, statement_timeout_s=STATEMENT_TIMEOUT_S, idle_in_transaction_s=SWAP_S
        )
        try:
            if self._backend is not None:
                await self._backend.end(connection)
            backend = await Backend.of(connection)
            await connection.execute(_QUERIES["planner"])
            await self._lock(connection)
        except BaseException:
            connection.terminate()
            raise
        self._connection, self._backend = connection, backend
        return connection

    async def _lock(self, connection: Connection) -> None:
        if not await connection.fetchval(_QUERIES["lock"], self._shadow.table):
            raise StoreConflict(
                f"PostgreSQL at {self._where}: another process rebuilds {self._shadow.table} at "
                "the moment; wait for it, or stop it"
            )

    def close(self) -> None:
        """End the connection."""
        if self._connection is not None:
            self._connection.terminate()


@asynccontextmanager
async def opened(settings: ConnectionSettings, shadow: Shadow) -> AsyncIterator[Shadows]:
    """Be the only one who makes a table anew, for as long as the block lasts.

    Raises:
        StartupError: The server cannot be reached.
        StoreConflict: Another process does it.
    """
    shadows = Shadows(settings, shadow)
    with translated_at_start(describe(settings)):
        await shadows.connect()
    try:
        yield shadows
    finally:
        shadows.close()
