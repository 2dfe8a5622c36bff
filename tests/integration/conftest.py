"""A broker and clients for one test."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.support.broker import RunningBroker
from tests.support.load import Cast


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[RunningBroker]:
    """A broker that is not yet started; in the end it is killed."""
    broker = RunningBroker(tmp_path)
    yield broker
    broker.close()


@pytest.fixture
async def cast(broker: RunningBroker) -> AsyncIterator[Cast]:
    """Clients whose connections are dropped in the end."""
    cast = Cast()
    yield cast
    await cast.close()
