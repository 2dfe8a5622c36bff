"""Connections that only read, for our own statements; each question ends in its time."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import TypeAlias

import asyncpg

from monstermq_shared.config.postgres_urls import ConnectionSettings, describe
from monstermq_shared.errors import QueryTimedOut, StoreError, StoreUnavailable
from monstermq_shared.stores.postgres import readers
from monstermq_shared.stores.postgres.connection import Connection, connect
from monstermq_shared.stores.postgres.errors import forget_lost_waits
from monstermq_shared.stores.postgres.readers import Readers

CONNECTIONS_MAX = 2
"""How many questions of a kind run at the same time."""

WAITING_MAX = 64
"""Questions that may wait for a connection; more are refused, so that none waits for ever."""

SERVERS_SHARE = 0.9
"""The part of a question's time after which the server itself ends it: it is to be the first."""

_READ_ONLY = "SET default_transaction_read_only = on;"

# Where the planner expects few rows it would rather read a whole stretch, and sort it, than take
# the first rows of an index and sort those that have the first 250 characters in common.
_NO_SORT = "SET enable_sort = off;"

IN_ORDER = readers.SETTINGS + _NO_SORT + _READ_ONLY
"""For what is read in the order of an index, page by page."""

SEARCHING = f"""
SET plan_cache_mode = force_custom_plan;
SET max_parallel_workers_per_gather = 0;
{_READ_ONLY}
"""
"""For what an index finds that has no order."""

Fetch: TypeAlias = Callable[..., Awaitable[list[asyncpg.Record]]]
"""Runs one statement with its parameters, and returns its rows."""


class Turns:
    """Who asks a server: so many at a time wait for a connection or have one, each for its time.

    Args:
        where: The database, as messages name it.
        timeout_s: Seconds after which a question is given up, its waiting included.
    """

    def __init__(self, where: str, timeout_s: float) -> None:
        self._where = where
        self._timeout_s = timeout_s
        self._asked = 0

    @asynccontextmanager
    async def turn(
        self, connection: AbstractAsyncContextManager[Connection]
    ) -> AsyncIterator[Connection]:
        """Enter what lends a connection, for one question.

        Raises:
            QueryTimedOut: It took too long.
            StoreUnavailable: There was no connection in time, or too many are waiting.
            StoreError: What the connection or the question raised.
        """
        with _in_time(self._where, self._timeout_s), self._counted():
            connected = False
            try:
                async with asyncio.timeout(self._timeout_s), connection as lent:
                    connected = True
                    yield lent
            except TimeoutError as exc:
                if connected:
                    raise
                raise self._unreached() from exc

    @contextmanager
    def _counted(self) -> Iterator[None]:
        if self._asked >= CONNECTIONS_MAX + WAITING_MAX:
            raise StoreUnavailable(
                f"PostgreSQL at {self._where}: too many questions at a time; ask again later"
            )
        self._asked += 1
        try:
            yield
        finally:
            self._asked -= 1

    def _unreached(self) -> StoreUnavailable:
        return StoreUnavailable(
            f"PostgreSQL at {self._where}: there was no connection within {self._timeout_s:g} "
            "seconds; is the server running, and can it be reached?"
        )


class Asking:
    """A few connections, made when they are needed.

    Attributes:
        timeout_s: See below.

    Args:
        settings: How to connect.
        timeout_s: Seconds after which a question is given up, its waiting included.
        session: What each connection is told first.
    """

    def __init__(self, settings: ConnectionSettings, *, timeout_s: float, session: str) -> None:
        self._settings = settings
        self.timeout_s = timeout_s
        where = describe(settings)
        self._readers = Readers(self._connect, where, size=CONNECTIONS_MAX, settings=session)
        self._turns = Turns(where, timeout_s)

    @asynccontextmanager
    async def question(self) -> AsyncIterator[Fetch]:
        """Lend a connection's ``fetch``, for all statements of one question.

        Raises:
            QueryTimedOut: It took too long.
            StoreUnavailable: The server cannot be reached now, or too many are waiting.
            StoreError: See ``errors.translated``.
        """
        async with self._turns.turn(self._readers.connection()) as lent:
            yield lent.fetch

    async def close(self) -> None:
        """Close all connections; what is being asked ends with StoreUnavailable."""
        await self._readers.close()

    async def _connect(self) -> Connection:
        forget_lost_waits(asyncio.get_running_loop())
        return await connect(
            self._settings, statement_timeout_s=self.timeout_s * SERVERS_SHARE, durable=False
        )


@contextmanager
def _in_time(where: str, timeout_s: float) -> Iterator[None]:
    """Raise what says that a question was not answered in time as what it means for who asked.

    Raises:
        QueryTimedOut: It took too long.
        StoreError: A table is missing, which is no damage before the broker's first start.
    """
    try:
        yield
    except TimeoutError as exc:
        raise _timed_out(where, timeout_s) from exc
    except StoreError as exc:
        if isinstance(exc.__cause__, asyncpg.QueryCanceledError):
            raise _timed_out(where, timeout_s) from exc.__cause__
        if isinstance(exc.__cause__, asyncpg.UndefinedTableError):
            raise StoreError(
                f"PostgreSQL at {where}: a table of this archive group is not there yet; a broker "
                "that is started with this configuration makes it"
            ) from exc.__cause__
        raise


def _timed_out(where: str, timeout_s: float) -> QueryTimedOut:
    return QueryTimedOut(
        f"PostgreSQL at {where} has not answered within {timeout_s:g} seconds; ask for less: a "
        "narrower filter, a shorter stretch of time"
    )
