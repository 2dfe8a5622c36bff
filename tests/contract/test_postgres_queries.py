"""The contracts of questions, met by PostgreSQL."""

from collections.abc import AsyncIterator

import pytest
from tests.support.postgres import PostgresServer, fresh_schema

from monstermq_shared.config.postgres_urls import parse_url
from monstermq_shared.queries.cursors import Cursors
from monstermq_shared.queries.ports import DatabaseQueries
from monstermq_shared.stores.postgres.database import PostgresDatabase
from monstermq_shared.stores.postgres.queries.database import PostgresQueries
from monstermq_shared.testing.archive_queries_contract import ArchiveQueriesContract
from monstermq_shared.testing.builders import ARCHIVE, LAST_VALUES, RETAINED
from monstermq_shared.testing.topic_queries_contract import TopicQueriesContract

pytestmark = pytest.mark.integration


@pytest.fixture
async def database(postgres_schema: str) -> AsyncIterator[PostgresDatabase]:
    database = await PostgresDatabase.open(
        parse_url(postgres_schema),
        session_store=True,
        message_stores=[RETAINED, LAST_VALUES],
        archive_stores=[ARCHIVE],
    )
    yield database
    await database.close()


@pytest.fixture
async def queries(
    database: PostgresDatabase, postgres_schema: str
) -> AsyncIterator[DatabaseQueries]:
    queries = PostgresQueries(
        parse_url(postgres_schema), reader=None, readable={}, cursors=Cursors(), timeout_s=20
    )
    yield queries
    await queries.close()


class TestPostgresArchiveQueries(ArchiveQueriesContract):
    pass


class TestPostgresTopicQueries(TopicQueriesContract):
    pass


@pytest.fixture(scope="session")
def _database_with_trigrams(postgres_server: PostgresServer) -> str:
    name = postgres_server.create_database()
    postgres_server.psql("CREATE EXTENSION pg_trgm", database=name)
    return postgres_server.url(name)


class TestPostgresTopicQueriesWithTrigrams(TopicQueriesContract):
    """The same where names have an index."""

    @pytest.fixture
    async def postgres_schema(self, _database_with_trigrams: str) -> str:
        return await fresh_schema(_database_with_trigrams)
