"""The SQLite database that most tests of it open."""

from pathlib import Path

from monstermq_shared.stores.sqlite import SqliteDatabase
from monstermq_shared.testing.builders import ARCHIVE, RETAINED


async def open_database(path: Path | str) -> SqliteDatabase:
    """Open a database with a store of every kind, as ``full_commit`` fills them."""
    return await SqliteDatabase.open(
        str(path), session_store=True, message_stores=[RETAINED], archive_stores=[ARCHIVE]
    )
