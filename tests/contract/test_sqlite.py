"""The contracts, met by SQLite: in a file, and in memory."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.sqlite_database import open_database
from tests.support.sqlite_faults import SqliteFaults

from monstermq_shared.errors import StoreError
from monstermq_shared.stores.changes import Commit
from monstermq_shared.stores.queue_changes import QueueChanges
from monstermq_shared.stores.queues import KeepsQueues
from monstermq_shared.stores.sqlite import SqliteDatabase
from monstermq_shared.testing.archive_store_contract import ArchiveStoreContract, ShrinkableContract
from monstermq_shared.testing.builders import PARTITION
from monstermq_shared.testing.database_contract import DatabaseContract, DatabaseFaultContract
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


class TestSqliteFaults(DatabaseFaultContract):
    @pytest.fixture
    async def database(self, tmp_path: Path) -> AsyncIterator[SqliteDatabase]:
        database = await open_database(tmp_path / "x.db")
        yield database
        await database.close()

    @pytest.fixture
    async def faults(self, database: SqliteDatabase, tmp_path: Path) -> AsyncIterator[SqliteFaults]:
        faults = SqliteFaults(database, tmp_path / "x.db")
        yield faults
        await faults.close()


async def test_queues_of_a_shared_log_are_refused(database: SqliteDatabase) -> None:
    assert not isinstance(database, KeepsQueues)
    tenure = await database.begin(PARTITION, ["queues"])
    with pytest.raises(StoreError, match="keeps no queues"):
        await database.commit(tenure, Commit(upto=1, queues=QueueChanges()))
    await database.commit(tenure, Commit(upto=1))
