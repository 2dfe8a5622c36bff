"""The Kafka bus keeps the bus contract, on the real server."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, contextmanager

import pytest
from tests.support.kafka import KafkaServer
from tests.support.kafka_tools import delete_below, new_topic_name

from monstermq_shared.bus.kafka.bus import KafkaBus, open_kafka_bus
from monstermq_shared.bus.kafka.log import KafkaLog
from monstermq_shared.bus.kafka.reader import AT_ONCE
from monstermq_shared.bus.ports import BusPort, LogPort, Stamp
from monstermq_shared.config import Kafka
from monstermq_shared.config.kafka import KafkaBus as Section
from monstermq_shared.errors import BusUnavailable
from monstermq_shared.kafka.settings import KafkaSettings
from monstermq_shared.testing.bus_contract import next_batch, outcome_of
from monstermq_shared.testing.bus_records import a_record
from monstermq_shared.testing.partitioned_bus_contract import PartitionedBusContract

pytestmark = pytest.mark.integration

FLOOD = 40
"""Records of 100 kB: more than a reader has fetched before it is asked."""

TURNS = 5
"""Turns of the loop after which what was appended is with the producer."""


class TestKafkaBus(PartitionedBusContract):
    @pytest.fixture
    async def bus(self, each_kafka: KafkaServer) -> AsyncIterator[KafkaBus]:
        self._server = each_kafka
        section = Section(topic=new_topic_name(), partitions=3, in_flight_kb_per_partition=64)
        settings = KafkaSettings(
            section=Kafka(servers=each_kafka.address(), bus=section), record_size_max=2_000_000
        )
        bus = await open_kafka_bus(settings)
        yield bus
        await bus.close()

    async def forget_oldest(self, log: LogPort, partition: int) -> None:
        assert isinstance(log, KafkaLog)
        for sequence in range(FLOOD):
            batch = [a_record("flood", b"x" * 100_000)]
            await log.append(partition, batch, Stamp(b"flooding", sequence))
        end = (await log.end_positions())[partition]
        await delete_below(self._server.address(), log.topic, {partition: end})

    @contextmanager
    def standstill(self, bus: BusPort) -> Iterator[None]:
        self._server.freeze()
        try:
            yield
        finally:
            self._server.thaw()

    @pytest.mark.parametrize(("count", "is_in_one_turn"), [(1, True), (AT_ONCE, False)])
    async def test_a_few_records_of_several_partitions_come_in_one_turn_of_the_loop(
        self, bus: KafkaBus, count: int, is_in_one_turn: bool
    ) -> None:
        log = bus.messages
        positions = await log.end_positions()
        for partition in positions:
            await log.append(partition, [a_record("a")] * count, Stamp(b"a writer", 0))
        others: list[str] = []
        async with aclosing(log.read(positions)) as reader:
            first = await next_batch(reader)
            asyncio.get_running_loop().call_soon(others.append, "had their turn")
            second = await anext(reader)
            assert first.partition != second.partition
            assert (not others) == is_in_one_turn

    async def test_what_is_with_the_producer_when_the_bus_ends_fails(self, bus: KafkaBus) -> None:
        log = bus.messages
        await log.append(0, [a_record("a")], Stamp(b"a writer", 0))
        with self.standstill(bus):
            waiting = log.append(0, [a_record("a"), a_record("a")], Stamp(b"a writer", 1))
            for _ in range(TURNS):
                await asyncio.sleep(0)
            assert log.stalled(0.0)
            await bus.close()
            with pytest.raises(BusUnavailable):
                await outcome_of(waiting)
