"""Tables that are made anew beside those in use, and put into their places when they are ready."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from monstermq_shared.config.postgres_urls import ConnectionSettings, describe
from monstermq_shared.errors import StoreConflict
from monstermq_shared.stores.postgres.connection import Connection, connect
from monstermq_shared.stores.postgres.errors import translated, translated_at_start
from monstermq_shared.stores.sql import fill_in, load_queries

_QUERIES = load_queries(__package__, "shadows.sql")

STATEMENT_TIMEOUT_S = 3600.0
"""How long one statement may take: the first slice of a copy may have to look through a table."""

SWAP_S = 60
"""How long a swap may wait for the last records of the log, while others wait for the swap."""

SLICE_ROWS = 10_000
"""Rows that are copied in one transaction."""

_NO_TIME = datetime.min.replace(tzinfo=UTC)


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


class Shadows:
    """One connection that makes room for such a table, fills it with what is old, and swaps.

    Args:
        connection: Outside of a transaction.
        where: The database, as messages name it.
        shadow: What it is about.
    """

    def __init__(self, connection: Connection, where: str, shadow: Shadow) -> None:
        self._connection = connection
        self._where = where
        self._shadow = shadow
        names = {
            "table": shadow.table,
            "shadow": shadow.shadow,
            "replaced": f"{shadow.table}_old",
        }
        self._queries = fill_in(_QUERIES, names)

    async def refuse_dependents(self) -> None:
        """Refuse a table that views of others are made of: they would go with it.

        Raises:
            StoreConflict: There are some.
        """
        table = f'"{self._shadow.table}"'
        with translated(self._where):
            rows = await self._connection.fetch(self._queries["dependents"], table)
        if rows:
            names = ", ".join(row["relname"] for row in rows)
            raise StoreConflict(
                f"PostgreSQL at {self._where}: {names} depends on {self._shadow.table}, which is "
                "to be replaced by another table; drop it, and make it again afterwards"
            )

    async def is_there(self) -> bool:
        """Whether the new table was begun before."""
        with translated(self._where):
            found = await self._connection.fetchval(self._queries["is_there"], self._shadow.shadow)
        return bool(found)

    async def discard(self) -> None:
        """Drop what was begun before."""
        shadow = self._shadow
        with translated(self._where):
            async with self._connection.transaction():
                await self._connection.execute(self._queries["drop"])
                await self._connection.execute(self._queries["forget_table"], shadow.shadow)
                for query in ("forget_marks", "forget_fences"):
                    await self._connection.execute(self._queries[query], shadow.shadow_projection)

    async def copy_older(self, generation: int, firsts: Mapping[int, int]) -> AsyncIterator[int]:
        """Copy the rows that are older than the log; yield how many each transaction has copied.

        Args:
            generation: The number that rows of the log have; others' rows are all older.
            firsts: Partition -> where the log begins.
        """
        log = (generation, [firsts[number] for number in range(len(firsts))])
        key: Sequence[object] = (_NO_TIME, 0, 0, 0) if self._shadow.is_archive else (b"",)
        query = self._queries["copy_archive" if self._shadow.is_archive else "copy_messages"]
        while True:
            with translated(self._where):
                row = await self._connection.fetchrow(query, *log, *key, SLICE_ROWS)
            if row is None:
                return
            *key, rows = row
            yield rows

    @asynccontextmanager
    async def swapping(self, generation: int) -> AsyncIterator[Mapping[int, int]]:
        """Let nobody commit the table in use while the block lasts, and swap at its end.

        Yields:
            Partition -> up to where the table in use reflects the log: the new one must not end
            below that, for there are readers who have forgotten what the table shows them.

        Raises:
            StoreUnavailable: Somebody uses the table for too long; nothing was changed.
        """
        connection, shadow = self._connection, self._shadow
        names = (shadow.projection, shadow.shadow_projection)
        with translated(self._where):
            async with connection.transaction():
                await connection.execute(self._queries["patience"])
                await connection.execute(self._queries["add_marks"], *names, generation)
                rows = await connection.fetch(
                    self._queries["lock_marks"], shadow.projection, generation
                )
                yield {row["partition"]: row["reflected"] for row in rows}
                await connection.execute(self._queries["hold_table"])
                for query in ("put_away", "put_in_place", "drop_replaced"):
                    await connection.execute(self._queries[query])
                await connection.execute(
                    self._queries["drop_fences"], shadow.projection, generation
                )
                await connection.execute(self._queries["take_fences"], *names)
                await connection.execute(self._queries["take_marks"], *names, generation)
                await connection.execute(self._queries["forget_marks"], shadow.shadow_projection)
                await connection.execute(self._queries["forget_table"], shadow.shadow)


@asynccontextmanager
async def opened(settings: ConnectionSettings, shadow: Shadow) -> AsyncIterator[Shadows]:
    """Be the only one who makes a table anew, for as long as the block lasts.

    Raises:
        StartupError: The server cannot be reached.
        StoreConflict: Another process does it.
    """
    where = describe(settings)
    with translated_at_start(where):
        connection = await connect(
            settings, statement_timeout_s=STATEMENT_TIMEOUT_S, idle_in_transaction_s=SWAP_S
        )
    try:
        with translated(where):
            await connection.execute(_QUERIES["planner"])
            is_ours = await connection.fetchval(_QUERIES["lock"], shadow.table)
        if not is_ours:
            raise StoreConflict(
                f"PostgreSQL at {where}: another process rebuilds {shadow.table} at the moment; "
                "wait for it, or stop it"
            )
        yield Shadows(connection, where, shadow)
    finally:
        connection.terminate()
