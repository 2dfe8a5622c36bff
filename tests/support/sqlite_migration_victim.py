"""A process that dies in the middle of a migration; see ``test_sqlite_migrations``."""

import asyncio
import os
import sqlite3
import sys

from monstermq_shared.stores.sqlite import SqliteDatabase, opening


def _die(statement: str) -> None:
    if "DROP TABLE watermarks" in statement:
        os._exit(9)


def main(path: str) -> None:
    """Open a database, and die before its migration ends."""
    connect = opening._connect

    def connect_and_watch(path: str) -> sqlite3.Connection:
        connection = connect(path)
        connection.set_trace_callback(_die)
        return connection

    opening._connect = connect_and_watch
    asyncio.run(SqliteDatabase.open(path, session_store=True, message_stores=[], archive_stores=[]))


if __name__ == "__main__":
    main(sys.argv[1])
