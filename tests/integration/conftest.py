"""Brokers and clients for one test."""

import gc
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.integration.kafka_scenes import FragileScene, KafkaScene
from tests.integration.kept_scenes import KeptScene
from tests.support.broker import RunningBroker
from tests.support.chance import drawn_random
from tests.support.kafka import KafkaServer
from tests.support.kafka_stack import KafkaStack
from tests.support.kafka_tools import new_topic_name
from tests.support.load import Cast
from tests.support.log_tools import KEPT, Log, Target, opened_log
from tests.support.mcp_broker import Served
from tests.support.operator_site import Site, configure
from tests.support.postgres import PostgresServer
from tests.support.projectors import Setting, Writer

from monstermq_shared.bus.kafka.bus import open_kafka_bus
from monstermq_shared.config import load_config
from monstermq_shared.kafka.settings import KafkaSettings


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let tests on Kafka pass over what aiokafka leaves behind.

    Where its start is cut short, because a server is slow or says no, it may leave a connection
    open, and nobody knows in which later test of the file that is found.
    """
    left_open = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
    for item in items:
        if item.path.name.startswith("test_kafka_"):
            item.add_marker(left_open)


@pytest.fixture(scope="module", autouse=True)
def left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Have what aiokafka leaves behind found in the file that it is of."""
    yield
    if request.path.name.startswith("test_kafka_"):
        gc.collect()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[RunningBroker]:
    """A broker that is not yet started; in the end it is killed."""
    broker = RunningBroker(tmp_path)
    yield broker
    broker.close()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """As ``broker``, to be started with an MCP server."""
    served = Served(tmp_path)
    yield served
    served.close()


@pytest.fixture
async def cast() -> AsyncIterator[Cast]:
    """Clients whose connections are dropped in the end."""
    cast = Cast()
    yield cast
    await cast.close()


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """Begin the topics and the client ids of one test, where others use the same broker."""
    return str(request.node.name).replace(" ", "-").replace("[", "-").strip("]")


@pytest.fixture
def hasty_postgres() -> Iterator[PostgresServer]:
    """A server of this test alone, as ``own_postgres``, that never syncs and is faster for it."""
    server = PostgresServer(fsync=False)
    try:
        yield server.start()
    finally:
        server.close()


@pytest.fixture(scope="module")
def shared_stack(
    tmp_path_factory: pytest.TempPathFactory,
    kafka_server: KafkaServer,
    postgres_server: PostgresServer,
) -> Iterator[KafkaStack]:
    """Two edges and the projectors, for all tests of a module that take ``stack``."""
    folder = tmp_path_factory.mktemp("stack")
    stack = KafkaStack(folder, kafka_server.address(), new_topic_name(), postgres_server)
    yield stack
    stack.close()


@pytest.fixture
def stack(shared_stack: KafkaStack) -> KafkaStack:
    """Two edges and the projectors, all running; a test may stop and kill them.

    Others have used them before: clients and topics begin with ``name``.
    """
    return shared_stack.start()


@pytest.fixture
async def kafka_scene(
    tmp_path: Path, kafka_server: KafkaServer, kafka_topic: str, postgres_server: PostgresServer
) -> AsyncIterator[KafkaScene]:
    """Edges and projectors, not yet started, on servers that all tests share."""
    stack = KafkaStack(tmp_path, kafka_server.address(), kafka_topic, postgres_server)
    scene = KafkaScene(stack, kafka_server.cluster_id, drawn_random())
    yield scene
    await scene.close()
    stack.close()
    scene.print_logs()


@pytest.fixture
async def fragile_scene(
    tmp_path: Path, own_kafka: KafkaServer, hasty_postgres: PostgresServer
) -> AsyncIterator[FragileScene]:
    """Edges and projectors, not yet started, on servers of this test alone."""
    stack = KafkaStack(tmp_path, own_kafka.address(), "bus", hasty_postgres)
    scene = FragileScene(stack, own_kafka, hasty_postgres, drawn_random())
    yield scene
    await scene.close()
    stack.close()
    scene.print_logs()


@pytest.fixture
async def kept_scene(
    tmp_path: Path, own_kafka: KafkaServer, hasty_postgres: PostgresServer
) -> AsyncIterator[KeptScene]:
    """The same with clients of kept sessions."""
    stack = KafkaStack(tmp_path, own_kafka.address(), "bus", hasty_postgres)
    scene = KeptScene(stack, own_kafka, hasty_postgres, drawn_random())
    yield scene
    await scene.close()
    stack.close()
    scene.print_logs()


@pytest.fixture
async def log(kafka_server: KafkaServer, kafka_topic: str, tmp_path: Path) -> AsyncIterator[Log]:
    log = await opened_log(tmp_path / "log.yaml", kafka_server.address(), kafka_topic)
    yield log
    await log.bus.close()


@pytest.fixture
def setting(tmp_path: Path, kafka_server: KafkaServer, postgres_database: str) -> Setting:
    """A log and its tables, both empty, for projectors and tools."""
    return Setting(tmp_path, kafka_server.address(), postgres_database)


@pytest.fixture
async def writer(setting: Setting) -> AsyncIterator[Writer]:
    """Writes to that log."""
    async with setting.bus() as writer:
        yield writer


@pytest.fixture(scope="module")
def shared_target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    process = RunningBroker(tmp_path_factory.mktemp("target"))
    process.start(KEPT)
    yield Target(process)
    process.close()


@pytest.fixture
def target(shared_target: Target) -> Target:
    """The same for all tests of this module: topics are those of the test."""
    if not shared_target.process.is_running:
        shared_target.process.start(KEPT)
    return shared_target


@pytest.fixture
async def site(
    kafka_server: KafkaServer, kafka_topic: str, postgres_schema: str, tmp_path: Path
) -> AsyncIterator[Site]:
    """A log on Kafka, an empty database, and the configuration that joins them."""
    path = configure(tmp_path / "c.yaml", kafka_server.address(), kafka_topic, postgres_schema)
    bus = await open_kafka_bus(KafkaSettings.from_config(load_config(path, {}).config))
    yield Site(path, bus, postgres_schema)
    await bus.close()
