"""Messages from Kafka on their way to the bus: each once, in order, whatever is refused."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from monstermq_edge.ingress.appending import Appender, Item, run_of
from monstermq_edge.ingress.messages import Incoming
from monstermq_shared.bus.ports import Stamp
from monstermq_shared.bus.runs import Runs
from monstermq_shared.clock import SystemClock
from monstermq_shared.errors import BusRefused, BusUnavailable, BusUntimely
from monstermq_shared.positions import Position
from monstermq_shared.queries.live import Publication
from monstermq_shared.records import Record
from monstermq_shared.testing.bus_contract import read_from
from monstermq_shared.testing.memory_bus import MemoryBus, MemoryLog

BOUND_S = 30.0
RUN = run_of("cluster", "orders", 0)


def item(number: int, topic: str = "t") -> Item:
    return Item(
        RUN, number, Incoming(Publication(topic=topic, payload=b"%d" % number), "kafka:orders")
    )


@pytest.fixture
async def bus() -> AsyncIterator[MemoryBus]:
    bus = MemoryBus(partitions=1)
    yield bus
    await bus.close()


class RefusingLog(MemoryLog):
    """Refuses records, by their payloads: each once, or for ever."""

    def __init__(self, refusals: dict[bytes, tuple[BusRefused, bool]]) -> None:
        super().__init__(1, 2**20, 2**20)
        self._refusals = refusals

    def append(
        self, partition: int, records: Sequence[Record], stamp: Stamp
    ) -> asyncio.Future[Position | None]:
        refusal, for_ever = self._refusals.get(records[0].payload, (None, False))
        if refusal is None:
            return super().append(partition, records, stamp)
        if not for_ever:
            del self._refusals[records[0].payload]
        future: asyncio.Future[Position | None] = asyncio.get_running_loop().create_future()
        future.set_exception(refusal)
        return future


async def payloads(log: MemoryLog, count: int) -> list[bytes]:
    async with asyncio.timeout(BOUND_S):
        entries = await read_from(log, {0: 1}, count)
    return [entry.record().payload for entry in entries]


def test_runs_are_of_one_place_each_and_never_those_of_wills() -> None:
    runs = {run_of("c", topic, number) for topic in ("a", "b") for number in range(500)}
    assert len(runs) == 1_000
    assert {len(run) for run in runs} == {8}
    assert not any(run.startswith(b"will") for run in runs)
    assert run_of("c", "a1", 1) != run_of("c", "a", 11)


async def test_what_is_appended_again_counts_once(bus: MemoryBus) -> None:
    appender = Appender(bus.messages, SystemClock())
    assert await appender.append([item(number) for number in range(10)]) == []
    # As after a crash: the offset that was committed is an older one, and Kafka has more now.
    assert await appender.append([item(number) for number in range(4, 14)]) == []
    assert await payloads(bus.messages, 14) == [b"%d" % number for number in range(14)]


async def test_a_full_log_is_waited_for() -> None:
    log = MemoryLog(1, 2**20, 100)
    appender = Appender(log, SystemClock())
    async with asyncio.timeout(BOUND_S):
        assert await appender.append([item(number) for number in range(200)]) == []
    assert await payloads(log, 200) == [b"%d" % number for number in range(200)]


async def test_the_end_of_the_bus_is_told(bus: MemoryBus) -> None:
    await bus.close()
    with pytest.raises(BusUnavailable):
        await Appender(bus.messages, SystemClock()).append([item(1)])


async def test_what_the_log_never_takes_is_returned_and_the_rest_is_there() -> None:
    log = RefusingLog({b"2": (BusRefused("too large"), True)})
    refused = await Appender(log, SystemClock()).append([item(number) for number in range(5)])
    assert [(at.item.sequence, at.reason) for at in refused] == [(2, "too large")]
    assert await payloads(log, 4) == [b"0", b"1", b"3", b"4"]


async def test_what_is_untimely_is_appended_until_it_is_not() -> None:
    late = (BusUntimely("the clock is off"), False)
    log = RefusingLog({b"3": late, b"4": late})
    assert await Appender(log, SystemClock()).append([item(number) for number in range(5)]) == []
    assert await payloads(log, 5) == [b"0", b"1", b"2", b"3", b"4"]


async def test_what_others_have_overtaken_is_told_and_not_appended() -> None:
    """R1: behind a later one of its run it would count for nothing."""
    log = RefusingLog({b"3": (BusUntimely("the clock is off"), False)})
    (refused,) = await Appender(log, SystemClock()).append([item(number) for number in range(5)])
    assert refused.item.sequence == 3
    runs = Runs(900_000)
    assert runs.is_new(RUN, 4, 0)
    assert not runs.is_new(RUN, 3, 0)
