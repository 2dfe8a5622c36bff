"""What all tests share."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from typing import TypeVar

import hypothesis
import pytest
from tests.support.kafka import KafkaCluster, KafkaServer
from tests.support.kafka_tools import VERSION, VERSIONS, new_topic_name
from tests.support.order import turn_of
from tests.support.postgres import PostgresServer, fresh_schema
from tests.support.repository import ROOT

from monstermq_shared.operation.form import form, outdated_libraries

_Kafka = TypeVar("_Kafka", KafkaServer, KafkaCluster)

# Contract suites live in the package, where pytest would leave their assertions bare.
pytest.register_assert_rewrite("monstermq_shared.testing")


def pytest_configure() -> None:
    """Refuse to test libraries that are older than their source: they are not what was edited."""
    if outdated_libraries(ROOT):
        raise pytest.UsageError(form())


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where several processes share the files out, let them begin with the longest."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: turn_of(item.path))


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


@pytest.fixture(scope="session")
def _kafka_servers() -> Iterator[Callable[[str], KafkaServer]]:
    """By version; each is started for the first test that asks for it."""
    with ExitStack() as servers:

        @cache
        def running(version: str) -> KafkaServer:
            server = KafkaServer(version=version)
            servers.callback(server.close)
            return server.start()

        yield running


@pytest.fixture(scope="session")
def kafka_server(_kafka_servers: Callable[[str], KafkaServer]) -> KafkaServer:
    """A server that all tests share and none may hurt; each test takes topics of its own."""
    return _kafka_servers(VERSION)


@pytest.fixture(params=VERSIONS)
def each_kafka(
    request: pytest.FixtureRequest, _kafka_servers: Callable[[str], KafkaServer]
) -> KafkaServer:
    """The same in each version that we support: the test runs once with each."""
    return _kafka_servers(request.param)


@pytest.fixture
def kafka_topic() -> str:
    """A topic's name that no other test has; the topic does not exist."""
    return new_topic_name()


@pytest.fixture
def own_kafka() -> Iterator[KafkaServer]:
    """A server of this test alone, running, which it may stop, kill, freeze and configure."""
    yield from _running_kafka(KafkaServer())


@pytest.fixture
def kafka_cluster() -> Iterator[KafkaCluster]:
    """Three servers of this test alone, running; a record has to be on two of them."""
    yield from _running_kafka(KafkaCluster())


def _running_kafka(server: _Kafka) -> Iterator[_Kafka]:
    try:
        yield server.start()
    finally:
        server.close()
