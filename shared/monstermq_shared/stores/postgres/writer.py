"""The one connection that commits: made again after it was lost, and never used by two at once."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import TypeAlias

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from monstermq_shared.errors import StoreError, StoreUnavailable
from monstermq_shared.stores.postgres.connection import Connection
from monstermq_shared.stores.postgres.errors import DRIVER_ERRORS, translated
from monstermq_shared.stores.postgres.holder import Backend, Holder
from monstermq_shared.stores.postgres.readers import CLOSE_S

# All its statements find rows by their keys. A table that was empty when a statement was planned
# may be large a moment later, and the plan is kept until somebody analyses the table. And whether
# anybody waits for a message is known from the first who does: a bitmap would collect them all.
SETTINGS = """
SET enable_seqscan = off;
SET enable_bitmapscan = off;
SET enable_hashjoin = off;
SET enable_mergejoin = off;
SET plan_cache_mode = force_generic_plan;
"""

# The server's function that waits for the standby: what it warns of is in the server's language.
_REPLICATION_WAIT = "SyncRepWaitForLSN"

_Notifier: TypeAlias = Connection | PoolConnectionProxy


class Writer:
    """A connection with the settings for commits, and the database's lock if it has one.

    Args:
        connect: Makes one.
        holder: Takes the lock for each new connection; None for one among several tenants.
        where: The database, as messages name it.
    """

    def __init__(
        self, connect: Callable[[], Awaitable[Connection]], holder: Holder | None, where: str
    ) -> None:
        self._connect = connect
        self._holder = holder
        self._where = where
        self._turn = asyncio.Lock()
        self._connection: Connection | None = None
        self._lost: Backend | None = None
        self._backend: Backend | None = None
        self._is_unreplicated = False
        self._closed = False

    async def start(self, prepare: Callable[[Connection], Awaitable[None]]) -> None:
        """Connect for the first time.

        Args:
            prepare: Makes the tables, once the lock is ours.

        Raises:
            StoreConflict: Another broker holds the database.
            StoreError: As ``errors.translated`` says.
        """
        with translated(self._where):
            async with self._turn:
                await self._open(prepare)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Lend the connection, once nobody else uses it; made if there is none.

        Raises:
            StoreConflict: Another broker holds the database now.
            StoreError: As ``errors.translated`` says, also for what the body raises.
        """
        with translated(self._where):
            async with self._turn:
                if self._closed:
                    raise StoreUnavailable(f"PostgreSQL at {self._where}: it has been closed")
                connection = self._connection
                if connection is None or connection.is_closed():
                    connection = await self._open()
                try:
                    yield connection
                except (asyncpg.PostgresError, StoreError):
                    await self.roll_back(connection)
                    raise
                except BaseException:
                    # It may be in the middle of an answer, or a COMMIT may be on its way.
                    self._drop(connection)
                    raise

    async def commit(self, connection: Connection) -> None:
        """Commit the open transaction of the connection that is lent.

        Raises:
            StoreUnavailable: The server has committed, and somebody has ended its waiting for the
                synchronous standby. The outcome counts as unknown.
            asyncpg.PostgresError, OSError: The outcome is unknown.
        """
        self._is_unreplicated = False
        await connection.execute("COMMIT")
        if self._is_unreplicated:
            raise StoreUnavailable(
                f"PostgreSQL at {self._where}: the synchronous standby has not confirmed a commit"
            )

    async def roll_back(self, connection: Connection) -> None:
        """Leave the transaction of the connection that is lent, if one is open."""
        if connection.is_closed() or not connection.is_in_transaction():
            return
        try:
            await connection.execute("ROLLBACK")
        except DRIVER_ERRORS:
            self._drop(connection)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """Lend the connection with a transaction, which is committed if the body raises nothing.

        Raises:
            StoreError: As from ``connection`` and ``commit``.
        """
        async with self.connection() as connection:
            await connection.execute("BEGIN")
            yield connection
            await self.commit(connection)

    async def ping(self) -> None:
        """Show the server that we live, if nobody else does so now; connect again if need be."""
        if not self._turn.locked() and not self._closed:
            async with self.connection() as connection:
                await connection.execute("SELECT 1")

    async def close(self) -> None:
        """Finish what is running, and let go of the lock, if the server answers."""
        async with self._turn:
            self._closed = True
            connection, self._connection = self._connection, None
            if connection is None or connection.is_closed():
                return
            with suppress(*DRIVER_ERRORS):
                async with asyncio.timeout(CLOSE_S):
                    if self._holder is not None:
                        await self._holder.let_go(connection)
                    await connection.close()
            connection.terminate()

    async def _open(
        self, prepare: Callable[[Connection], Awaitable[None]] | None = None
    ) -> Connection:
        """Make the connection; whatever the last one has left on the server ends before."""
        self._lost, self._backend, self._connection = self._backend or self._lost, None, None
        connection = await self._connect()
        try:
            await connection.execute(SETTINGS)
            if self._lost is not None:
                await self._lost.end(connection)
            # From now on, for this session too may be lost before all that follows is done.
            self._backend = await Backend.of(connection)
            if self._holder is not None:
                await self._holder.take(connection)
            if prepare is not None:
                await prepare(connection)
            if self._holder is not None:
                await self._holder.sign(connection)
        except BaseException:
            connection.terminate()
            raise
        connection.add_log_listener(self._hear)
        self._connection = connection
        return connection

    def _hear(self, _: _Notifier, message: asyncpg.PostgresLogMessage) -> None:
        if message.server_source_function == _REPLICATION_WAIT:
            self._is_unreplicated = True

    def _drop(self, connection: Connection) -> None:
        connection.terminate()
        self._connection = None
