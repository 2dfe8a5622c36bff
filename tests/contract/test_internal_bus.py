"""The internal bus keeps the bus contract."""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path

import jsonschema
import pytest
from tests.support.local_bus import LocalBus

from monstermq_shared.bus.internal import InternalBus
from monstermq_shared.bus.ports import BusPort, LogPort, Stamp
from monstermq_shared.records import encode_record
from monstermq_shared.testing.bus_contract import BusContract, read_from
from monstermq_shared.testing.bus_records import a_record

SCHEMA = json.loads((Path(__file__).parents[2] / "schemas/bus-record.v1.json").read_text())
SIZE_MAX = 100_000


class TestInternalBus(BusContract):
    durable_key = "stored/a"

    @pytest.fixture
    def local(self) -> LocalBus:
        return LocalBus(size_max=SIZE_MAX)

    @pytest.fixture
    async def bus(self, local: LocalBus) -> AsyncIterator[InternalBus]:
        bus = local.bus
        # Messages are kept only while somebody has to read them.
        async with aclosing(bus.messages.read(await bus.messages.end_positions())):
            yield bus
        await bus.close()

    @pytest.fixture(autouse=True)
    def _stand(self, local: LocalBus) -> None:
        self._local = local

    @contextmanager
    def standstill(self, bus: BusPort) -> Iterator[None]:
        self._local.stuck = True
        yield
        self._local.stuck = False
        self._local.end_turn()

    async def forget_oldest(self, log: LogPort, partition: int) -> None:
        for sequence in range(20):
            batch = [a_record("flood", b"x" * (SIZE_MAX // 10))]
            await log.append(partition, batch, Stamp(b"flood---", sequence))

    async def test_the_json_of_what_is_read_satisfies_the_schema(self, log: LogPort) -> None:
        start = await log.end_positions()
        await log.append(0, [a_record("a", b"\xff"), a_record("b", b"1")], Stamp(b"w-------", 1))
        for entry in await read_from(log, start, 2):
            jsonschema.validate(json.loads(encode_record(entry.record())), SCHEMA)
