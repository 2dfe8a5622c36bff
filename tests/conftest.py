"""What all tests share."""

from collections.abc import Iterator

import hypothesis
import pytest
from tests.support.postgres import PostgresServer, fresh_schema

# Contract suites live in the package, where pytest would leave their assertions bare.
pytest.register_assert_rewrite("monstermq_shared.testing")


# How long an example takes says something of the machine, and nothing of the code.
hypothesis.settings.register_profile(
    "patient", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("patient")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A server that all tests share and none may hurt: it is fast, since it never syncs."""
    server = PostgresServer(fsync=False)
    try:
        yield server.start()
    finally:
        server.close()


@pytest.fixture
def postgres_database(postgres_server: PostgresServer) -> Iterator[str]:
    """The URL of an empty database on the shared server, with the credentials in it."""
    name = postgres_server.create_database()
    yield postgres_server.url(name)
    postgres_server.drop_database(name)


@pytest.fixture(scope="session")
def _shared_database(postgres_server: PostgresServer) -> str:
    return postgres_server.url(postgres_server.create_database())


@pytest.fixture
async def postgres_schema(_shared_database: str) -> str:
    """The URL of an empty schema on the shared server: as good as a database, and made faster."""
    return await fresh_schema(_shared_database)


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    """A server of this test alone, running, which it may stop, kill, freeze and configure."""
    server = PostgresServer()
    try:
        yield server.start()
    finally:
        server.close()
