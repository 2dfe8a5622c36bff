"""The contracts, met by the Memory reference."""

from pathlib import Path

import pytest

from monstermq_shared.errors import StoreError
from monstermq_shared.stores.memory import MemoryDatabase
from monstermq_shared.testing.archive_store_contract import ArchiveStoreContract
from monstermq_shared.testing.database_contract import DatabaseContract, full_commit
from monstermq_shared.testing.message_store_contract import MessageStoreContract
from monstermq_shared.testing.session_store_contract import SessionStoreContract


@pytest.fixture
def database() -> MemoryDatabase:
    return MemoryDatabase()


class TestMemoryMessages(MessageStoreContract):
    pass


class TestMemoryArchive(ArchiveStoreContract):
    pass


class TestMemorySessions(SessionStoreContract):
    pass


class TestMemoryDatabase(DatabaseContract):
    def test_a_commit_never_suspends(self, database: MemoryDatabase) -> None:
        with pytest.raises(StopIteration):
            database.commit(full_commit(1)).send(None)

    async def test_a_backup_is_refused(self, database: MemoryDatabase, tmp_path: Path) -> None:
        with pytest.raises(StoreError, match="memory"):
            await database.backup(tmp_path / "copy")
