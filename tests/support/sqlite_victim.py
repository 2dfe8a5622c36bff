"""A process that dies in the middle of its sixth commit; see ``test_sqlite_database``."""

import asyncio
import os
import sqlite3
import sys

from monstermq_shared.stores.sqlite import SqliteDatabase
from monstermq_shared.testing.builders import ARCHIVE, PARTITION, RETAINED
from monstermq_shared.testing.database_contract import ALL, full_commit


def _die(statement: str) -> None:
    if "mcparchive" in statement:
        os._exit(9)


def _arm(connection: sqlite3.Connection) -> None:
    connection.set_trace_callback(_die)


async def main(path: str) -> None:
    """Commit five times, and die in the sixth."""
    database = await SqliteDatabase.open(
        path, session_store=True, message_stores=[RETAINED], archive_stores=[ARCHIVE]
    )
    tenure = await database.begin(PARTITION, ALL)
    for offset in range(5):
        await database.commit(tenure, full_commit(offset))
    await database._writer.submit(_arm)
    await database.commit(tenure, full_commit(5))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
