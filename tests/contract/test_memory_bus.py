"""The Memory reference keeps the bus contract, with three partitions."""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import pytest

from monstermq_shared.bus.ports import BusPort, LogPort, Stamp
from monstermq_shared.testing.bus_records import a_record
from monstermq_shared.testing.memory_bus import MemoryBus
from monstermq_shared.testing.partitioned_bus_contract import PartitionedBusContract

SIZE_MAX = 200_000


class TestMemoryBus(PartitionedBusContract):
    @pytest.fixture
    async def bus(self) -> AsyncIterator[MemoryBus]:
        bus = MemoryBus(size_max=SIZE_MAX, append_size_max=100_000)
        yield bus
        await bus.close()

    async def forget_oldest(self, log: LogPort, partition: int) -> None:
        for sequence in range(20):
            batch = [a_record("flood", b"x" * (SIZE_MAX // 10))]
            await log.append(partition, batch, Stamp(b"flood---", sequence))

    @contextmanager
    def standstill(self, bus: BusPort) -> Iterator[None]:
        assert isinstance(bus, MemoryBus)
        bus.messages.pause()
        yield
        bus.messages.go_on()
