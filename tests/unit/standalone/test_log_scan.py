"""A stretch of the log, merged: on the reference bus, with every unevenness that seeds bring."""

import random

import pytest

from monstermq.log_scan import LogScan, Picker, Standing, Stretch
from monstermq_shared.bus.ports import Stamp
from monstermq_shared.errors import BusGap
from monstermq_shared.records import Record
from monstermq_shared.testing.memory_bus import LATENESS_MS, MemoryBus

NOON_MS = 1_768_478_400_000


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


def payloads(found: list[Standing], partition: int) -> list[bytes]:
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


async def test_what_comes_is_behind_the_stretch() -> None:
    bus = MemoryBus()
    prng = random.Random(1)
    await fill(bus, prng, 10)
    ends = dict(await bus.messages.end_positions())
    picker = Picker(["#"], LATENESS_MS, control=False)
    scan = LogScan(bus.messages, Stretch(dict(ends), ends), picker, refuse)
    assert [some async for some in scan.past(lambda _: None)] == []
    expected = await fill(bus, prng, 30)
    found: list[Standing] = []
    async for some in scan.live():
        found += some
        if len(found) == len(expected):
            break
    assert sorted(int(at.entry.record().payload) for at in found) == list(range(30))
    await bus.close()
