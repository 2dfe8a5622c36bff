"""The contracts, met by PostgreSQL, and what befalls it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from tests.support.postgres_database import open_database, port_of, through
from tests.support.proxy import CommitLoss, Proxy

from monstermq_shared.stores.ports import Database
from monstermq_shared.stores.postgres.database import PostgresDatabase
from monstermq_shared.testing.archive_store_contract import ArchiveStoreContract
from monstermq_shared.testing.database_contract import DatabaseContract, DatabaseFaultContract
from monstermq_shared.testing.message_store_contract import MessageStoreContract
from monstermq_shared.testing.queue_readers_contract import KeepsQueuesContract
from monstermq_shared.testing.session_store_contract import SessionStoreContract
from monstermq_shared.testing.shared_database_contract import (
    LogStateContract,
    QuarantineContract,
)

pytestmark = pytest.mark.integration


@pytest.fixture
async def database(postgres_schema: str) -> AsyncIterator[PostgresDatabase]:
    database = await open_database(postgres_schema)
    yield database
    await database.close()


class TestPostgresMessages(MessageStoreContract):
    pass


class TestPostgresArchive(ArchiveStoreContract):
    pass


class TestPostgresSessions(SessionStoreContract):
    pass


class TestPostgresDatabase(DatabaseContract):
    pass


class TestPostgresLogStates(LogStateContract):
    pass


class TestPostgresQuarantine(QuarantineContract):
    pass


class TestPostgresQueues(KeepsQueuesContract):
    pass


class PostgresFaults:
    """What a proxy before the server can do."""

    def __init__(self, url: str, proxy: Proxy) -> None:
        self._url = url
        self._proxy = proxy
        self._tenants: list[PostgresDatabase] = []

    async def second_tenant(self) -> Database:
        tenant = await open_database(self._url, exclusive=False)
        self._tenants.append(tenant)
        return tenant

    @asynccontextmanager
    async def unavailable(self) -> AsyncIterator[None]:
        await self._proxy.shut()
        yield
        await self._proxy.open()

    @asynccontextmanager
    async def unknown_outcome(self, *, applied: bool) -> AsyncIterator[None]:
        lost = self._proxy.lose_next_commit(CommitLoss.ANSWER if applied else CommitLoss.REQUEST)
        yield
        assert lost.is_set()

    async def close(self) -> None:
        for tenant in self._tenants:
            await tenant.close()


class TestPostgresFaults(DatabaseFaultContract):
    @pytest.fixture
    async def proxy(self, postgres_schema: str) -> AsyncIterator[Proxy]:
        async with Proxy(port_of(postgres_schema)) as proxy:
            yield proxy

    @pytest.fixture
    async def database(self, postgres_schema: str, proxy: Proxy) -> AsyncIterator[PostgresDatabase]:
        database = await open_database(through(proxy.port, postgres_schema))
        yield database
        await database.close()

    @pytest.fixture
    async def faults(self, postgres_schema: str, proxy: Proxy) -> AsyncIterator[PostgresFaults]:
        faults = PostgresFaults(postgres_schema, proxy)
        yield faults
        await faults.close()


class TestSharedPostgresFaults(TestPostgresFaults):
    """The same where several processes have the database."""

    @pytest.fixture
    async def database(self, postgres_schema: str, proxy: Proxy) -> AsyncIterator[PostgresDatabase]:
        database = await open_database(through(proxy.port, postgres_schema), exclusive=False)
        yield database
        await database.close()
