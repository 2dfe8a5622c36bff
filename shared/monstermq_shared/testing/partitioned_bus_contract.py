"""What a bus must do that has several partitions: subclass ``PartitionedBusContract``."""

from contextlib import aclosing

import pytest

from monstermq_shared.bus.ports import LogPort, LogReader, Stamp
from monstermq_shared.errors import BusGap
from monstermq_shared.testing.bus_contract import (
    BusContract,
    begun,
    next_batch,
    read_entries,
    read_from,
)
from monstermq_shared.testing.bus_records import WRITER, a_record, numbered, payloads

KEYS_MAX = 1_000
"""Among so many keys there is one for each partition."""


def keys_of(log: LogPort) -> list[str]:
    """Return a key of each partition, in their order."""
    keys: dict[int, str] = {}
    for number in range(KEYS_MAX):
        key = f"plant/{number}"
        keys.setdefault(log.partition_of(key), key)
        if len(keys) == log.partitions:
            return [keys[partition] for partition in range(log.partitions)]
    pytest.fail(f"{KEYS_MAX} keys fill {len(keys)} of {log.partitions} partitions")


async def say(log: LogPort, partition: int, *payloads: bytes, first: int = 0) -> None:
    """Append records of this partition's key, and wait until they are there."""
    key = keys_of(log)[partition]
    records = [a_record(key, payload) for payload in payloads]
    await log.append(partition, records, Stamp(WRITER, first))


class PartitionedBusContract(BusContract):
    """The suite. The bus has three partitions or more; the rest is as ``BusContract`` says."""

    async def test_a_key_always_goes_to_one_partition_and_keys_go_to_all(
        self, log: LogPort
    ) -> None:
        """Otherwise nothing here is shown."""
        assert log.partitions >= 3
        keys = keys_of(log)
        assert [log.partition_of(key) for key in keys] == list(range(log.partitions))
        assert keys_of(log) == keys

    async def test_each_partition_keeps_the_order_in_which_it_was_appended_to(
        self, log: LogPort
    ) -> None:
        """Though batches of others come in between, and none was waited for."""
        start = await log.end_positions()
        keys = keys_of(log)
        for number in range(20):
            for partition, key in enumerate(keys):
                record = a_record(key, str(number).encode())
                log.append(partition, [record], Stamp(WRITER, number))
        async with aclosing(log.read(start)) as reader:
            entries = await read_entries(reader, 20 * log.partitions)
        for partition, key in enumerate(keys):
            assert payloads(entries[partition]) == [str(n).encode() for n in range(20)]
            assert {entry.key for entry in entries[partition]} == {key}

    async def test_a_reader_of_some_partitions_gets_nothing_of_the_others(
        self, log: LogPort
    ) -> None:
        """What was appended to the third one before everything else would have come first."""
        start = await log.end_positions()
        two = {partition: start[partition] for partition in (0, 2)}
        async with aclosing(log.read(two)) as reader:
            await say(log, 1, b"not for you")
            await say(log, 0, b"0")
            await say(log, 2, b"2")
            await say(log, 1, b"nor this", first=1)
            await say(log, 0, b"end", first=1)
            await say(log, 2, b"end", first=1)
            entries = await read_entries(reader, 4)
        told = {partition: payloads(found) for partition, found in entries.items()}
        assert told == {0: [b"0", b"end"], 2: [b"2", b"end"]}

    async def test_a_busy_partition_keeps_no_other_one_waiting_for_ever(self, log: LogPort) -> None:
        """All that was there is read, whatever order the partitions come in."""
        start = await log.end_positions()
        await log.append(0, numbered(keys_of(log)[0], 300), Stamp(WRITER, 0))
        await say(log, 1, b"1")
        async with aclosing(log.read(start)) as reader:
            entries = await read_entries(reader, 301)
        assert len(entries[0]) == 300
        assert payloads(entries[1]) == [b"1"]

    async def test_positions_are_those_of_their_partition(self, log: LogPort) -> None:
        """Reading goes on in each where a batch of it ended, and only there."""
        at = dict(await log.end_positions())
        before = dict(at)
        await say(log, 0, b"0", b"1", b"2")
        await say(log, 1, b"0")
        async with aclosing(log.read(at)) as reader:
            read = 0
            while read < 4:
                batch = await next_batch(reader)
                assert batch.first == at[batch.partition]
                at[batch.partition] = batch.upto
                read += len(batch.entries)
        assert at[2] == before[2]
        await say(log, 2, b"there")
        await say(log, 0, b"3", first=3)
        async with aclosing(log.read(at)) as later:
            entries = await read_entries(later, 2)
        assert {p: payloads(found) for p, found in entries.items()} == {0: [b"3"], 2: [b"there"]}

    async def test_the_end_of_a_partition_moves_with_what_is_appended_to_it(
        self, log: LogPort
    ) -> None:
        """The ends of the others stay."""
        start = await log.end_positions()
        await say(log, 1, b"0", b"1")
        end = await log.end_positions()
        assert sorted(end) == list(range(log.partitions))
        assert {p for p in end if end[p] != start[p]} == {1}
        assert end[1] >= start[1] + 2

    async def test_an_append_tells_its_own_partition(self, log: LogPort) -> None:
        """If it tells a position."""
        start = await log.end_positions()
        key = keys_of(log)[2]
        position = await log.append(2, [a_record(key)], Stamp(WRITER, 1))
        entry = (await read_from(log, {2: start[2]}, 1))[0]
        assert position is None or position == (2, entry.offset)

    async def test_a_batch_doubled_in_one_partition_takes_nothing_from_another(
        self, log: LogPort
    ) -> None:
        """A writer counts in each partition on its own."""
        start = await log.end_positions()
        for _ in range(2):
            await say(log, 0, b"0", b"1", first=10)
        await say(log, 1, b"0", b"1", first=10)  # the same stamps, and new here
        await say(log, 1, b"low", first=12)
        await say(log, 0, b"end", first=12)
        async with aclosing(log.read(start)) as reader:
            entries = await read_entries(reader, 6)
        told = {partition: payloads(found) for partition, found in entries.items()}
        assert told == {0: [b"0", b"1", b"end"], 1: [b"0", b"1", b"low"]}

    async def test_a_gap_in_one_partition_names_it(self, log: LogPort) -> None:
        """Whoever goes on behind it loses nothing of the others."""
        start = await log.end_positions()
        await say(log, 1, b"old")
        await say(log, 2, b"kept")
        await self.forget_oldest(log, 1)
        at = {1: start[1], 2: start[2]}
        async with aclosing(log.read(at)) as reader:
            gap = await _gap(reader, at)
        assert (gap.partition, gap.expected) == (1, start[1])
        await say(log, 1, b"new", first=1)
        at[1] = gap.found
        read: dict[int, list[bytes]] = {1: [], 2: []}
        if at[2] > start[2]:
            read[2] = [b"kept"]
        async with aclosing(log.read(at)) as later:
            while not (read[1][-1:] == [b"new"] and read[2]):
                batch = await next_batch(later)
                read[batch.partition] += payloads(batch.entries)
        assert read[2] == [b"kept"]

    async def test_a_waiting_reader_is_woken_by_each_of_its_partitions(self, log: LogPort) -> None:
        """Not only by the one it was given first."""
        async with aclosing(log.read(await log.end_positions())) as reader:
            for partition in reversed(range(log.partitions)):
                waiting = await begun(next_batch(reader))
                await say(log, partition, b"now")
                batch = await waiting
                assert (batch.partition, payloads(batch.entries)) == (partition, [b"now"])


async def _gap(reader: LogReader, at: dict[int, int]) -> BusGap:
    """Return the gap that a reader meets; what other partitions have may come first."""
    while True:
        try:
            batch = await next_batch(reader)
        except BusGap as gap:
            return gap
        at[batch.partition] = batch.upto
