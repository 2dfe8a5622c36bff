"""The SQLite database that most tests of it open."""

from pathlib import Path

from monstermq_shared.stores.sqlite import SqliteDatabase
from monstermq_shared.testing.builders import ARCHIVE, RETAINED, commit_once
from monstermq_shared.testing.database_contract import ALL, full_commit


async def open_database(path: Path | str) -> SqliteDatabase:
    """Open a database with a store of every kind, as ``full_commit`` fills them."""
    return await SqliteDatabase.open(
        str(path), session_store=True, message_stores=[RETAINED], archive_stores=[ARCHIVE]
    )


async def commit_full(database: SqliteDatabase, offset: int) -> None:
    """Commit a change of every store."""
    await commit_once(database, full_commit(offset), *ALL)
