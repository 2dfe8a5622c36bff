"""The contracts, met by the Memory reference."""

import pytest

from monstermq_shared.stores.changes import Tenure
from monstermq_shared.stores.memory import MemoryDatabase
from monstermq_shared.testing.archive_store_contract import ArchiveStoreContract, ShrinkableContract
from monstermq_shared.testing.database_contract import DatabaseContract, full_commit
from monstermq_shared.testing.message_store_contract import MessageStoreContract
from monstermq_shared.testing.queue_readers_contract import KeepsQueuesContract
from monstermq_shared.testing.session_store_contract import SessionStoreContract
from monstermq_shared.testing.shared_database_contract import (
    LogStateContract,
    QuarantineContract,
)


@pytest.fixture
def database() -> MemoryDatabase:
    return MemoryDatabase()


class TestMemoryMessages(MessageStoreContract):
    pass


class TestMemoryArchive(ArchiveStoreContract, ShrinkableContract):
    pass


class TestMemorySessions(SessionStoreContract):
    pass


class TestMemoryDatabase(DatabaseContract):
    def test_a_commit_never_suspends(self, database: MemoryDatabase, tenure: Tenure) -> None:
        with pytest.raises(StopIteration):
            database.commit(tenure, full_commit(1)).send(None)


class TestMemoryLogStates(LogStateContract):
    pass


class TestMemoryQuarantine(QuarantineContract):
    pass


class TestMemoryQueues(KeepsQueuesContract):
    pass
