"""What can befall a database in a file: see ``Faults`` of the contract."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from monstermq_shared.stores.sqlite import SqliteDatabase
from monstermq_shared.stores.sqlite.opening import Opened
from monstermq_shared.testing.builders import ARCHIVE, RETAINED


def disk_error() -> sqlite3.OperationalError:
    """Make the error of a disk that fails."""
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR
    return error


class UncertainConnection(sqlite3.Connection):
    """A driver whose COMMIT fails, before or after it took effect; so may the look at it."""

    fails_commit = False
    applies_it = False
    fails_reads = False

    def execute(self, sql: str, parameters: object = (), /) -> sqlite3.Cursor:
        """Execute, or fail."""
        if self.fails_reads and sql.startswith("SELECT"):
            raise disk_error()
        if self.fails_commit and sql == "COMMIT":
            if self.applies_it:
                super().execute(sql)
            raise disk_error()
        return super().execute(sql, parameters)  # type: ignore[arg-type]


async def make_uncertain(database: SqliteDatabase, path: Path) -> UncertainConnection:
    """Give the database a writing connection that can fail, and return that."""
    connection = sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, factory=UncertainConnection
    )
    connection.execute("PRAGMA user_version").fetchall()  # so that it is not the last that closes

    def exchange(old: sqlite3.Connection) -> None:
        old.close()
        database._writer._connection = connection

    # On its thread, which may be busy with the index of topics.
    await database._writer.submit(exchange)
    return connection


class SqliteFaults:
    """What can befall a database.

    Args:
        database: The database.
        path: Its file.
    """

    def __init__(self, database: SqliteDatabase, path: Path) -> None:
        self._database = database
        self._path = path
        self._tenants: list[SqliteDatabase] = []

    async def second_tenant(self) -> SqliteDatabase:
        """Open the file once more, as if its lock did not hold, as on some network disks."""
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        tenant = SqliteDatabase(
            str(self._path),
            Opened(connection),
            {RETAINED: RETAINED.lower(), ARCHIVE: ARCHIVE.lower()},
            session_store=True,
            message_stores=[RETAINED],
            archive_stores=[ARCHIVE],
        )
        self._tenants.append(tenant)
        return tenant

    @asynccontextmanager
    async def unavailable(self) -> AsyncIterator[None]:
        """Let another program hold the lock."""
        await self._database._writer.submit(
            lambda connection: connection.execute("PRAGMA busy_timeout = 0").fetchall()
        )
        shell = sqlite3.connect(self._path, isolation_level=None)
        try:
            shell.execute("BEGIN IMMEDIATE")
            yield
        finally:
            shell.close()

    @asynccontextmanager
    async def unknown_outcome(self, *, applied: bool) -> AsyncIterator[None]:
        """Let the COMMIT fail, and whatever would tell its outcome."""
        connection = await make_uncertain(self._database, self._path)
        connection.applies_it = applied
        connection.fails_commit = connection.fails_reads = True
        yield
        connection.fails_commit = connection.fails_reads = False

    async def close(self) -> None:
        """Close what was opened."""
        for tenant in self._tenants:
            await tenant.close()
