"""The few connections that read and purge, beside the one that commits."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import asyncpg

from monstermq_shared.errors import StoreUnavailable
from monstermq_shared.stores.postgres.connection import Connection
from monstermq_shared.stores.postgres.errors import DRIVER_ERRORS, translated

CONNECTIONS_MAX = 3
"""Reads of any number of clients share them: whoever comes later waits."""

CLOSE_S = 5.0
"""How long saying goodbye to the server may take."""

# Values decide how a page is best read, and planning takes less than reading the wrong way. Pages
# are read in the order of an index: a bitmap would first collect all that may follow the page, and
# sort it. Reading the whole table would seem cheaper still for a stretch of a topic's history,
# because the planner takes the conditions on its beginning and on all of it for independent.
SETTINGS = """
SET plan_cache_mode = force_custom_plan;
SET enable_bitmapscan = off;
SET enable_seqscan = off;
SET max_parallel_workers_per_gather = 0;
"""


class Readers:
    """A pool of connections, made when they are needed and again after they were lost.

    Args:
        connect: Makes one.
        where: The database, as messages name it.
        size: How many there are at most.
        settings: What each of them is told first.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[Connection]],
        where: str,
        *,
        size: int = CONNECTIONS_MAX,
        settings: str = SETTINGS,
    ) -> None:
        self._connect = connect
        self._where = where
        self._settings = settings
        self._free = asyncio.Semaphore(size)
        self._idle: list[Connection] = []
        self._lent: set[Connection] = set()
        self._closed = False

    async def fetch(self, query: str, *parameters: object) -> list[asyncpg.Record]:
        """Return the rows of one statement.

        Raises:
            StoreError: As ``errors.translated`` says.
        """
        async with self.connection() as connection:
            return await connection.fetch(query, *parameters)

    async def execute(self, query: str, *parameters: object) -> int:
        """Run one statement that changes rows; return how many.

        Raises:
            StoreError: As ``errors.translated`` says.
        """
        async with self.connection() as connection:
            return changed_rows(await connection.execute(query, *parameters))

    async def delete(self, query: str, before_ms: int, *, limit: int, rows_max: int) -> int:
        """Delete what is older than that, by statements of bounded size; return how many rows.

        Args:
            query: Deletes rows before $1, at most $2 of them.
            before_ms: Milliseconds since the epoch.
            limit: Rows to delete at most.
            rows_max: Rows that one statement deletes at most.

        Raises:
            StoreError: As ``errors.translated`` says.
        """
        deleted = 0
        while deleted < limit:
            asked = min(limit - deleted, rows_max)
            count = await self.execute(query, before_ms, asked)
            deleted += count
            if count < asked:
                break
        return deleted

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Lend a connection, outside of a transaction and to be given back so.

        Raises:
            StoreError: As ``errors.translated`` says, also for what the body raises.
        """
        with translated(self._where):
            async with self._free:
                connection = await self._take()
                self._lent.add(connection)
                try:
                    yield connection
                except asyncpg.PostgresError:
                    if not connection.is_closed() and connection.is_in_transaction():
                        connection.terminate()
                    raise
                except BaseException:
                    # It may be in the middle of an answer.
                    connection.terminate()
                    raise
                finally:
                    self._give_back(connection)

    async def close(self) -> None:
        """Close all connections; what is being read ends with StoreUnavailable."""
        self._closed = True
        idle, self._idle = self._idle, []
        for connection in self._lent:
            connection.terminate()
        with suppress(*DRIVER_ERRORS):
            async with asyncio.timeout(CLOSE_S):
                for connection in idle:
                    await connection.close()
        for connection in idle:
            connection.terminate()

    async def _take(self) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed():
                return connection
        if self._closed:
            raise StoreUnavailable(f"PostgreSQL at {self._where}: it has been closed")
        connection = await self._connect()
        await connection.execute(self._settings)
        return connection

    def _give_back(self, connection: Connection) -> None:
        self._lent.discard(connection)
        if self._closed:
            connection.terminate()
        if not connection.is_closed():
            self._idle.append(connection)


def changed_rows(status: str) -> int:
    """Return how many rows a statement changed, from what the server said of it."""
    return int(status.rpartition(" ")[2])
