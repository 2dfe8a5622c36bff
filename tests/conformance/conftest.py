"""One broker for all conformance tests; each test has topics and client ids of its own."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.conformance.scene import Scene
from tests.support.broker import BrokerProcess, RunningBroker, broker_under_test


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    """The broker under test, with its default limits."""
    process = broker_under_test(tmp_path_factory.mktemp("broker"))
    try:
        yield process.start()
    finally:
        process.close()


@pytest.fixture
async def scene(broker: BrokerProcess) -> AsyncIterator[Scene]:
    """A stage for one test."""
    stage = Scene(broker)
    yield stage
    stage.close()


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[RunningBroker]:
    """A MonsterMQ for one test alone, not yet started."""
    process = RunningBroker(tmp_path)
    yield process
    process.close()
