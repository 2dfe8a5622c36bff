"""What a reader of the bus on Kafka keeps of what it has read: nothing."""

import gc
from collections.abc import Iterator
from contextlib import aclosing

import pytest
from aiokafka.consumer.fetcher import PartitionRecords
from tests.support.kafka import KafkaServer
from tests.support.kafka_bus import bus_settings, opened

from monstermq_shared.bus.ports import Stamp
from monstermq_shared.testing.bus_contract import next_batch
from monstermq_shared.testing.bus_records import a_record, payloads

pytestmark = pytest.mark.integration


@pytest.fixture
def _uncollected() -> Iterator[None]:
    """No garbage is collected meanwhile."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("_uncollected")
async def test_what_was_fetched_goes_as_soon_as_it_is_read(
    kafka_server: KafkaServer, kafka_topic: str
) -> None:
    async with opened(bus_settings(kafka_server.address(), kafka_topic)) as bus:
        log = bus.messages
        async with aclosing(log.read(await log.end_positions())) as reader:
            for number in range(3):
                record = a_record("a", b"x")
                await log.append(0, [record], Stamp(b"a writer", number))
                assert payloads((await next_batch(reader)).entries) == [b"x"]
            held = [at for at in gc.get_objects() if isinstance(at, PartitionRecords)]
    assert held == []
