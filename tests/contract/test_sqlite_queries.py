"""The contracts of questions, met by SQLite."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from monstermq_shared.queries.cursors import Cursors
from monstermq_shared.stores.sqlite import SqliteDatabase
from monstermq_shared.stores.sqlite.queries.database import SqliteQueries
from monstermq_shared.testing.archive_queries_contract import ArchiveQueriesContract
from monstermq_shared.testing.builders import ARCHIVE, LAST_VALUES, RETAINED
from monstermq_shared.testing.topic_queries_contract import TopicQueriesContract


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[SqliteDatabase]:
    database = await SqliteDatabase.open(
        str(tmp_path / "monster mq?#%20.db"),
        session_store=True,
        message_stores=[RETAINED, LAST_VALUES],
        archive_stores=[ARCHIVE],
    )
    yield database
    await database.close()


@pytest.fixture
async def queries(database: SqliteDatabase, tmp_path: Path) -> AsyncIterator[SqliteQueries]:
    queries = SqliteQueries(
        str(tmp_path / "monster mq?#%20.db"), Cursors(), readable={}, timeout_s=10
    )
    yield queries
    await queries.close()


class TestSqliteArchiveQueries(ArchiveQueriesContract):
    pass


class TestSqliteTopicQueries(TopicQueriesContract):
    pass
