"""A stretch of the log, merged: on the reference bus, with every unevenness that seeds bring."""

import random
from collections.abc import Mapping
from typing import Self

import pytest

from monstermq.log_scan import LogScan, Picker, PositionedEntry
from monstermq.stretch import Stretch
from monstermq_shared.bus.ports import LogReader, RecordBatch, Stamp
from monstermq_shared.errors import BusGap
from monstermq_shared.records import Record
from monstermq_shared.testing.memory_bus import LATENESS_MS, MemoryBus, MemoryLog

NOON_MS = 1_768_478_400_000
MINUTE_MS = 60_000


async def fill(bus: MemoryBus, prng: random.Random, count: int) -> list[Record]:
    """Append records whose times are nearly in order, most of them to one partition."""
    records = []
    favourite = prng.randrange(bus.messages.partitions)
    for number in range(count):
        uneven = prng.random() < 0.9
        partition = favourite if uneven else prng.randrange(bus.messages.partitions)
        topic = f"{prng.choice('ab')}/{partition}"
        time_ms = NOON_MS + number + prng.randrange(-5, 5)
        record = Record(topic, b"%d" % number, 0, False, "c", time_ms, 0)
        await bus.messages.append(partition, [record], Stamp(b"a writer", number))
        records.append(record)
    return records


def refuse(gap: BusGap) -> None:
    raise gap


def payloads(found: list[PositionedEntry], partition: int) -> list[bytes]:
    return [at.entry.record().payload for at in found if at.partition == partition]


@pytest.mark.parametrize("seed", range(30))
async def test_a_stretch_is_in_the_order_of_time_and_each_partition_in_its_own(seed: int) -> None:
    prng = random.Random(seed)
    bus = MemoryBus()
    log = bus.messages
    begins = dict(await log.end_positions())
    records = await fill(bus, prng, 300)
    ends = dict(await log.end_positions())
    await fill(bus, prng, 20)  # behind the stretch
    since_ms, until_ms = NOON_MS + prng.randrange(100), NOON_MS + 200 + prng.randrange(200)
    scan = LogScan(
        log,
        Stretch(begins, ends, since_ms, until_ms),
        Picker(["a/#"], LATENESS_MS, control=False),
        refuse,
    )
    advanced: list[int] = []
    found = [at async for some in scan.past(advanced.append) for at in some]
    wanted = [
        record
        for record in records
        if record.topic[0] == "a" and since_ms <= record.timestamp_ms < until_ms
    ]
    assert [at.time_ms for at in found] == sorted(at.time_ms for at in found)
    for partition in begins:
        expected = [at.payload for at in wanted if at.topic == f"a/{partition}"]
        assert payloads(found, partition) == expected
    assert sum(advanced) == sum(ends[p] - begins[p] for p in begins) == 300
    await bus.close()


class CutLog:
    """A log whose readers bring so many records at a time, as somebody else's fetches would."""

    def __init__(self, log: MemoryLog, prng: random.Random, size_max: int) -> None:
        self._log = log
        self._prng = prng
        self._size_max = size_max

    def read(self, positions: Mapping[int, int]) -> LogReader:
        return CutReader(self._log.read(positions), self._prng, self._size_max)


class CutReader:
    def __init__(self, reader: LogReader, prng: random.Random, size_max: int) -> None:
        self._reader = reader
        self._prng = prng
        self._size_max = size_max
        self._rest: RecordBatch | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> RecordBatch:
        batch = await anext(self._reader) if self._rest is None else self._rest
        count = self._prng.randint(1, self._size_max)
        entries, rest = batch.entries[:count], batch.entries[count:]
        upto = rest[0].offset if rest else batch.upto
        self._rest = RecordBatch(batch.partition, upto, batch.upto, rest) if rest else None
        return RecordBatch(batch.partition, batch.first, upto, entries)

    async def aclose(self) -> None:
        await self._reader.aclose()


@pytest.mark.parametrize("seed", range(8))
async def test_the_order_is_the_same_however_the_log_is_cut_into_batches(seed: int) -> None:
    prng = random.Random(seed)
    bus = MemoryBus()
    log = bus.messages
    begins = dict(await log.end_positions())
    for number in range(200):
        partition = prng.randrange(log.partitions)
        # Many share their millisecond, some are late, and half are not wanted.
        time_ms = NOON_MS + number // 20 * MINUTE_MS - prng.choice((0, 0, 0, 3 * MINUTE_MS))
        record = Record(prng.choice("ab"), b"", 0, False, "c", time_ms, 0)
        await log.append(partition, [record], Stamp(b"a writer", number))
    stretch = Stretch(begins, dict(await log.end_positions()), NOON_MS, NOON_MS + 9 * MINUTE_MS)
    orders = []
    for size_max in (1, 2, 7, 1000):
        scan = LogScan(
            CutLog(log, prng, size_max), stretch, Picker(["a"], LATENESS_MS, control=False), refuse
        )
        orders.append([at.position async for some in scan.past(lambda _: None) for at in some])
    assert len(orders[0]) > 50
    assert orders.count(orders[0]) == len(orders)
    await bus.close()


async def test_what_comes_is_behind_the_stretch() -> None:
    bus = MemoryBus()
    prng = random.Random(1)
    await fill(bus, prng, 10)
    ends = dict(await bus.messages.end_positions())
    picker = Picker(["#"], LATENESS_MS, control=False)
    scan = LogScan(bus.messages, Stretch(dict(ends), ends), picker, refuse)
    assert [some async for some in scan.past(lambda _: None)] == []
    expected = await fill(bus, prng, 30)
    found: list[PositionedEntry] = []
    async for some in scan.live():
        found += some
        if len(found) == len(expected):
            break
    assert sorted(int(at.entry.record().payload) for at in found) == list(range(30))
    await bus.close()
