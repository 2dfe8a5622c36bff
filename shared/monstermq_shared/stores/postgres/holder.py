"""Keeps a second broker out of the database, and lets it in once the first one is dead.

The lock is an advisory one, of the connection that commits: it ends with the connection's session
on the server. A broker that vanished without a word (power, network) leaves its session behind, so
whoever finds the lock taken looks at that session. A living broker shows itself by a statement
every ``PING_S`` seconds at the latest; after ``SILENCE_S`` its session is ended.
"""

import asyncio
import logging
import os
import socket
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from monstermq_shared.errors import StoreConflict, StoreUnavailable
from monstermq_shared.stores.postgres.connection import Connection
from monstermq_shared.stores.sql import load_queries

logger = logging.getLogger(__name__)

PING_S = 10.0
"""A broker that has nothing to say to the server says so that often."""

SILENCE_S = 45.0
"""A session that has been silent for so long is that of a dead or frozen broker."""

LOOK_S = 0.5
"""How often a taken lock is looked at."""

END_LOOKS = 20
"""How often it is looked whether a session that was told to end has done so."""

_QUERIES = load_queries(__package__, "holder.sql")


@dataclass(frozen=True, slots=True)
class Backend:
    """A session on the server, which may outlive our end of the connection.

    Attributes:
        pid: Its process there.
        since: When it began, for pids are used again.
    """

    pid: int
    since: datetime

    @classmethod
    async def of(cls, connection: Connection) -> "Backend":
        """Return the session of a connection."""
        row = await connection.fetchrow(_QUERIES["own_backend"])
        assert row is not None
        return cls(*row)

    async def end(self, connection: Connection) -> None:
        """End the session, with its transaction and its locks, and wait until it is gone.

        Raises:
            StoreUnavailable: It does not go.
        """
        for _ in range(END_LOOKS):
            ended = await connection.fetch(_QUERIES["end_backend"], self.pid, self.since)
            if not ended:
                return
            await asyncio.sleep(LOOK_S / 10)
        raise StoreUnavailable("a session that the broker has lost still runs on the server")


class Holder:
    """The lock, as the broker of this process takes it.

    The lock is one of the schema: several brokers may have a schema each.

    Args:
        where: The database, as messages name it.
    """

    def __init__(self, where: str) -> None:
        self._where = where

    async def take(self, connection: Connection) -> None:
        """Take the lock; if it is taken, wait until it is known whether the owner lives.

        Raises:
            StoreConflict: A living broker has it. The message says which.
            StoreUnavailable: The server works for whoever has it all the time, so that nobody can
                tell. If that is a dead broker's last statement, it ends by itself.
        """
        silent_before: float | None = None
        for _ in range(int(SILENCE_S / LOOK_S) + END_LOOKS):
            if await connection.fetchval(_QUERIES["try_lock"]):
                return
            row = await connection.fetchrow(_QUERIES["lock_owner"])
            if row is not None and not row["may_be_broker"]:
                if await self._wait_in_line(connection, row["usename"]):
                    return
            elif row is not None:
                silent_s = row["silent_s"]
                if silent_s is None or (silent_before is not None and silent_s < silent_before):
                    raise await self._conflict(connection)
                if silent_s >= SILENCE_S:
                    await self._end(connection, Backend(row["pid"], row["backend_start"]))
                    continue
                if silent_before is None:
                    logger.info(
                        "PostgreSQL at %s: %s may use this database; looking whether it lives, "
                        "for up to %d s",
                        *(self._where, await self._owner(connection), SILENCE_S),
                    )
                silent_before = silent_s
            await asyncio.sleep(LOOK_S)
        raise StoreUnavailable(
            f"PostgreSQL at {self._where}: {await self._owner(connection)} may use this database, "
            "or is dead, and the server still works on its last statement"
        )

    async def _wait_in_line(self, connection: Connection, role: str) -> bool:
        """Wait for a lock that somebody has who is no broker; tell whether we have it now.

        To look at it again and again would be to leave it to whoever waits for it.
        """
        logger.warning(
            "PostgreSQL at %s: the role %s has taken the broker's lock, and is no broker; waiting",
            *(self._where, role),
        )
        try:
            await connection.execute(_QUERIES["await_lock"])
        except asyncpg.QueryCanceledError:
            return False
        return True

    async def sign(self, connection: Connection) -> None:
        """Say in the database who has it, for the messages of others."""
        await connection.execute(_QUERIES["set_holder"], socket.gethostname(), os.getpid())

    async def ended_cleanly(self, connection: Connection) -> bool:
        """Tell whether whoever had it last has let go of it; before ``sign``."""
        return bool(await connection.fetchval(_QUERIES["ended_cleanly"]))

    async def let_go(self, connection: Connection) -> None:
        """Give the lock back, and say that nobody has it."""
        await connection.execute(_QUERIES["clear_holder"])
        await connection.execute(_QUERIES["unlock"])

    async def _end(self, connection: Connection, backend: Backend) -> None:
        owner = await self._owner(connection)
        logger.warning(
            "PostgreSQL at %s: %s has been silent for more than %d s; its session is ended",
            *(self._where, owner, SILENCE_S),
        )
        await backend.end(connection)

    async def _conflict(self, connection: Connection) -> StoreConflict:
        return StoreConflict(
            f"PostgreSQL at {self._where}: {await self._owner(connection)} uses this database; "
            "stop it, or set Postgres.Url to another database, or to another schema with "
            "currentSchema"
        )

    async def _owner(self, connection: Connection) -> str:
        """Return what is known of the broker that has the lock."""
        known = None
        if await connection.fetchval(_QUERIES["has_meta"]):
            known = await connection.fetchrow(_QUERIES["holder"])
        if known is None or known["holder_host"] is None:
            return "another broker"
        return (
            f"the broker with process id {known['holder_process']} on host "
            f"{known['holder_host']} (since {known['holder_since']:%Y-%m-%d %H:%M:%S} UTC)"
        )
