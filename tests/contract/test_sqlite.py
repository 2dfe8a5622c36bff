"""The contracts, met by SQLite: in a file, and in memory."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.sqlite_database import open_database

from monstermq_shared.stores.sqlite import SqliteDatabase
from monstermq_shared.testing.archive_store_contract import ArchiveStoreContract, ShrinkableContract
from monstermq_shared.testing.database_contract import DatabaseContract
from monstermq_shared.testing.message_store_contract import MessageStoreContract
from monstermq_shared.testing.session_store_contract import SessionStoreContract


@pytest.fixture(params=["file", "memory"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SqliteDatabase]:
    path = ":memory:" if request.param == "memory" else str(tmp_path / "monster mq?#%20.db")
    database = await open_database(path)
    yield database
    await database.close()


class TestSqliteMessages(MessageStoreContract):
    pass


class TestSqliteArchive(ArchiveStoreContract, ShrinkableContract):
    pass


class TestSqliteSessions(SessionStoreContract):
    pass


class TestSqliteDatabase(DatabaseContract):
    pass
