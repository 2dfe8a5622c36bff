"""Tells a pooler that changes the server's session under us from one that does not.

Settings, advisory locks and prepared statements belong to the server's session. PgBouncer leaves it
to one client for good only in session mode. It does not say which mode it is in, so it is tried:

- The process id given at log-in is the session's own on a real server; a pooler makes one up.
- Behind a pooler, an idle session of ours is handed to the next who asks, unless it is ours for
  good. So a second connection asks, in a transaction: if it is given the first one's session, or
  the first is given another one meanwhile, the sessions are not ours.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import asyncpg

from monstermq_shared.errors import StoreUnavailable
from monstermq_shared.stores.postgres.errors import StoreUnfit

if TYPE_CHECKING:
    from monstermq_shared.stores.postgres.connection import Connection

ROUNDS = 3
"""How often it is tried: other clients of the pooler may take the session in between."""

_PID = "SELECT pg_backend_pid()"
# A statement that another client has prepared in the session, and one of ours in another session.
_SIGNS = (asyncpg.DuplicatePreparedStatementError, asyncpg.InvalidSQLStatementNameError)
_NO_TRANSACTIONS = "statement pooling mode"  # so PgBouncer ends a connection that says BEGIN


async def check_pooling(
    connection: "Connection",
    where: str,
    another: Callable[[], Awaitable["Connection"]],
    *,
    timeout_s: float,
) -> None:
    """Refuse a pooler in transaction or statement mode.

    Args:
        connection: Logged in and outside of a transaction.
        where: The database, as messages name it.
        another: Opens a second connection the same way.
        timeout_s: How long the pooler may take, each time, to give us a session.

    Raises:
        StoreUnfit: The session is not ours for good.
        StoreUnavailable: The pooler has no second session for us, without which nobody can tell.
        asyncpg.PostgresError, OSError: The connection was lost.
    """
    try:
        own = await connection.fetchval(_PID, timeout=timeout_s)
        if own == connection.get_server_pid():
            return
        shared = await _is_shared(connection, own, where, another, timeout_s)
    except _SIGNS:
        shared = True
    except asyncpg.PostgresConnectionError as exc:
        if _NO_TRANSACTIONS not in str(exc):
            raise
        shared = True
    if shared:
        raise StoreUnfit(
            f"PostgreSQL at {where}: the pooler before it gives one session to several clients in "
            "turn, as PgBouncer does in transaction and statement mode, and the broker's locks and "
            "settings belong to its session; set pool_mode = session for this database, or connect "
            "to the server itself"
        )


async def _is_shared(
    connection: "Connection",
    own: int,
    where: str,
    another: Callable[[], Awaitable["Connection"]],
    timeout_s: float,
) -> bool:
    """Whether the session of ``connection`` is given to a second one, or exchanged."""
    try:
        async with asyncio.timeout(timeout_s):
            second = await another()
            try:
                for _ in range(ROUNDS):
                    async with second.transaction():
                        seconds = await second.fetchval(_PID)
                        if seconds == own or await connection.fetchval(_PID) != own:
                            return True
            finally:
                second.terminate()
    except TimeoutError as exc:
        raise StoreUnavailable(
            f"PostgreSQL at {where}: the pooler before it gives the broker one connection, and not "
            "two at once; raise its default_pool_size"
        ) from exc
    return False
