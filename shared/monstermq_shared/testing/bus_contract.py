"""What every bus must do, whatever carries it: subclass ``BusContract`` and give it a bus."""

import asyncio
from collections.abc import Coroutine, Mapping
from contextlib import AbstractContextManager, aclosing
from typing import TypeVar

import pytest

from monstermq_shared.bus.header import RETAIN, Kind
from monstermq_shared.bus.ports import BusPort, Entry, LogPort, LogReader, RecordBatch, Stamp
from monstermq_shared.bus.runs import Runs
from monstermq_shared.errors import BusGap, BusUnavailable
from monstermq_shared.positions import Position
from monstermq_shared.records import CONTROL_TOPIC, Record, decode_record, encode_record
from monstermq_shared.testing.bus_records import (
    OTHER,
    WRITER,
    a_control_record,
    a_record,
    numbered,
    payloads,
)

T = TypeVar("T")

PATIENCE_S = 30.0
"""How long anything may take before a test fails: for servers, not for us."""

APPENDS_MAX = 100_000
"""After so many appends that are not durable a bus must be full."""


async def next_batch(reader: LogReader) -> RecordBatch:
    """Return the next batch, or fail."""
    async with asyncio.timeout(PATIENCE_S):
        return await anext(reader)


async def read_entries(reader: LogReader, count: int) -> dict[int, list[Entry]]:
    """Return the next ``count`` entries, or some more, by partition."""
    entries: dict[int, list[Entry]] = {}
    while sum(map(len, entries.values())) < count:
        batch = await next_batch(reader)
        entries.setdefault(batch.partition, []).extend(batch.entries)
    return entries


async def read_from(log: LogPort, positions: Mapping[int, int], count: int) -> list[Entry]:
    """Return the entries that follow, or fail; the order of partitions means nothing."""
    async with aclosing(log.read(positions)) as reader:
        entries = await read_entries(reader, count)
    return [entry for partition in sorted(entries) for entry in entries[partition]]


async def gap_of(reader: LogReader) -> BusGap:
    """Return the gap that a reader meets; what it has fetched already may come first."""
    while True:
        try:
            await next_batch(reader)
        except BusGap as gap:
            return gap


async def begun(call: Coroutine[object, object, T]) -> "asyncio.Task[T]":
    """Return a task that makes the call, once it has begun to."""
    at_it = asyncio.Event()

    async def make() -> T:
        at_it.set()
        return await call

    task = asyncio.create_task(make())
    await at_it.wait()
    return task


async def outcome_of(task: "asyncio.Future[T]") -> T:
    """Return what a task or an append comes to, or fail."""
    async with asyncio.timeout(PATIENCE_S):
        return await task


def fill(log: LogPort, key: str) -> "list[asyncio.Future[Position | None]]":
    """Append records 0, 1, 2, ... of a key until no more are taken; nothing may become durable."""
    appends: list[asyncio.Future[Position | None]] = []
    partition = log.partition_of(key)
    for number in range(APPENDS_MAX):
        record = a_record(key, str(number).encode())
        try:
            appends.append(log.append(partition, [record], Stamp(WRITER, number)))
        except BusUnavailable:
            return appends
    pytest.fail(f"{APPENDS_MAX} appends were taken, and none of them was durable")


class BusContract:
    """The suite. A subclass gives a fixture ``bus`` and the two methods.

    The bus keeps what the tests append, up to its bound, until ``forget_oldest``. Nothing here is
    waited for but with a bound, and that something does not come is shown by what comes after it.

    Attributes:
        durable_key: A key whose messages are not durable at once.
    """

    durable_key = "a"

    @pytest.fixture(params=["messages", "sessions"])
    def log(self, bus: BusPort, request: pytest.FixtureRequest) -> LogPort:
        """Each of the bus's two logs in turn."""
        logs = {"messages": bus.messages, "sessions": bus.sessions}
        return logs[str(request.param)]

    async def forget_oldest(self, log: LogPort, partition: int) -> None:
        """Make the oldest records of a partition go, as time or a bound would."""
        raise NotImplementedError

    def standstill(self, bus: BusPort) -> AbstractContextManager[None]:
        """In the block, no appended message of ``durable_key`` becomes durable."""
        raise NotImplementedError

    # -- reading what was appended ---------------------------------------------------------------

    async def test_records_are_read_in_the_order_they_were_appended(self, log: LogPort) -> None:
        """Over several batches, of which not every one was waited for."""
        start = await log.end_positions()
        partition = log.partition_of("a")
        records = numbered("a", 9)
        appends = [
            log.append(partition, records[first : first + 3], Stamp(WRITER, first))
            for first in (0, 3, 6)
        ]
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(*appends)
        entries = await read_from(log, {partition: start[partition]}, 9)
        assert payloads(entries) == [record.payload for record in records]
        offsets = [entry.offset for entry in entries]
        assert offsets == sorted(set(offsets))

    async def test_reading_can_begin_at_any_record(self, log: LogPort) -> None:
        """A position is that of the next record to read."""
        start = await log.end_positions()
        partition = log.partition_of("a")
        await log.append(partition, numbered("a", 5), Stamp(WRITER, 1))
        entries = await read_from(log, {partition: start[partition]}, 5)
        for index, entry in enumerate(entries):
            rest = await read_from(log, {partition: entry.offset}, 5 - index)
            assert payloads(rest) == payloads(entries[index:])

    async def test_a_record_comes_back_as_it_was_and_its_json_says_the_same(
        self, log: LogPort
    ) -> None:
        """Payloads are any bytes; the record knows its offset."""
        start = await log.end_positions()
        partition = log.partition_of("sites/käse")
        sent = [a_record("sites/käse", data) for data in (b"", b"23.5", b"\x00\xff", b"x" * 5000)]
        await log.append(partition, sent, Stamp(WRITER, 1))
        entries = await read_from(log, {partition: start[partition]}, len(sent))
        for before, entry in zip(sent, entries, strict=True):
            after = entry.record()
            before.offset = entry.offset
            assert after == before
            assert entry.key == "sites/käse"
            assert decode_record(encode_record(after), offset=entry.offset) == before

    async def test_batches_follow_each_other_without_a_gap(self, log: LogPort) -> None:
        """``upto`` is where the next batch begins, and what a watermark becomes."""
        start = await log.end_positions()
        partition = log.partition_of("a")
        async with aclosing(log.read({partition: start[partition]})) as reader:
            at = start[partition]
            for sequence in range(5):
                await log.append(partition, [a_record("a")], Stamp(WRITER, sequence))
                batch = await next_batch(reader)
                assert batch.first == at
                assert all(batch.first <= entry.offset < batch.upto for entry in batch.entries)
                at = batch.upto
        assert at <= (await log.end_positions())[partition]

    async def test_the_position_an_append_tells_is_where_the_record_is_read(
        self, log: LogPort
    ) -> None:
        """If it tells one."""
        start = await log.end_positions()
        partition = log.partition_of("a")
        position = await log.append(partition, numbered("a", 2), Stamp(WRITER, 1))
        first = (await read_from(log, {partition: start[partition]}, 2))[0]
        assert position is None or position == (partition, first.offset)

    async def test_end_positions_grow_with_what_is_appended(self, log: LogPort) -> None:
        """They are above every record there is."""
        start = await log.end_positions()
        assert sorted(start) == list(range(log.partitions))
        partition = log.partition_of("a")
        await log.append(partition, numbered("a", 3), Stamp(WRITER, 1))
        entries = await read_from(log, {partition: start[partition]}, 3)
        assert (await log.end_positions())[partition] > entries[-1].offset

    async def test_a_reader_from_the_end_gets_only_what_comes_after(self, log: LogPort) -> None:
        """Also if that comes before it is first asked."""
        partition = log.partition_of("a")
        await log.append(partition, [a_record("a", b"before")], Stamp(WRITER, 1))
        async with aclosing(log.read(await log.end_positions())) as reader:
            await log.append(partition, [a_record("a", b"after")], Stamp(WRITER, 2))
            entries = await read_entries(reader, 1)
        assert payloads(entries[partition]) == [b"after"]

    async def test_a_waiting_reader_is_woken_by_an_append(self, log: LogPort) -> None:
        """It waits, and does not end, when there is nothing to read."""
        partition = log.partition_of("a")
        async with aclosing(log.read(await log.end_positions())) as reader:
            waiting = await begun(next_batch(reader))
            await log.append(partition, [a_record("a", b"now")], Stamp(WRITER, 1))
            assert payloads((await waiting).entries) == [b"now"]

    async def test_two_readers_do_not_disturb_each_other(self, log: LogPort) -> None:
        """What one has read, the other still gets."""
        start = await log.end_positions()
        partition = log.partition_of("a")
        async with aclosing(log.read(start)) as one, aclosing(log.read(start)) as other:
            await log.append(partition, numbered("a", 3), Stamp(WRITER, 0))
            await read_entries(one, 3)
            await log.append(partition, [a_record("a", b"3")], Stamp(WRITER, 3))
            await one.aclose()
            entries = await read_entries(other, 4)
        assert payloads(entries[partition]) == [b"0", b"1", b"2", b"3"]

    # -- partitions and keys ---------------------------------------------------------------------

    async def test_one_reader_gets_all_partitions(self, log: LogPort) -> None:
        """Markers go to every partition, and are read back by whoever sent them."""
        async with aclosing(log.read(await log.end_positions())) as reader:
            for partition in range(log.partitions):
                marker = a_control_record(str(partition).encode())
                await log.append(partition, [marker], Stamp(WRITER, partition))
            entries = await read_entries(reader, log.partitions)
        told = {partition: payloads(found) for partition, found in entries.items()}
        assert told == {p: [str(p).encode()] for p in range(log.partitions)}

    async def test_the_records_of_a_key_stay_in_order(self, log: LogPort) -> None:
        """Whatever is appended for other keys in between."""
        keys = [f"plant/{number}" for number in range(20)]
        async with aclosing(log.read(await log.end_positions())) as reader:
            for value in range(5):
                for number, key in enumerate(keys):
                    log.append(
                        log.partition_of(key),
                        [a_record(key, str(value).encode())],
                        Stamp(WRITER, value * len(keys) + number),
                    )
            entries = await read_entries(reader, 5 * len(keys))
        for key in keys:
            found = [entry for entry in entries[log.partition_of(key)] if entry.key == key]
            assert payloads(found) == [b"0", b"1", b"2", b"3", b"4"]

    async def test_control_records_pass_through(self, bus: BusPort) -> None:
        """They stand between the messages, where they were appended."""
        log = bus.messages
        partition = log.partition_of("a")
        batch = [a_record("a", b"1"), a_control_record(b"{}"), a_record("a", b"2")]
        async with aclosing(log.read(await log.end_positions())) as reader:
            await log.append(partition, batch, Stamp(WRITER, 1))
            entries = (await read_entries(reader, 3))[partition]
        assert [(e.record().topic, e.record().payload) for e in entries] == [
            ("a", b"1"),
            (CONTROL_TOPIC, b"{}"),
            ("a", b"2"),
        ]
        assert [entry.kind for entry in entries] == [Kind.MESSAGE, Kind.CONTROL, Kind.MESSAGE]

    async def test_what_a_reader_has_to_know_is_told_without_the_record(self, bus: BusPort) -> None:
        """Whose it is, when it was written, and whether anybody can want it."""
        log = bus.messages
        partition = log.partition_of("a/ä")
        sent = Record("a/ä", b"1", 2, True, "c", a_record("a").timestamp_ms, 0)
        async with aclosing(log.read(await log.end_positions())) as reader:
            await log.append(partition, [sent], Stamp(WRITER, 3))
            entry = (await read_entries(reader, 1))[partition][0]
        assert (entry.topic, entry.key) == ("a/ä".encode(), "a/ä")
        assert entry.flags == 2 | RETAIN
        assert (entry.kind, entry.foreign) == (Kind.MESSAGE, False)
        assert (entry.writer, entry.sequence) == entry.stamp == (WRITER, 3)
        assert entry.time_ms == entry.record().timestamp_ms == sent.timestamp_ms

    async def test_what_cannot_be_appended_or_read_is_refused(self, log: LogPort) -> None:
        """A partition that is not there, none at all, and a batch without records."""
        with pytest.raises(ValueError, match="partition"):
            log.append(log.partitions, [a_record("a")], Stamp(WRITER, 1))
        with pytest.raises(ValueError, match="record"):
            log.append(0, [], Stamp(WRITER, 1))
        with pytest.raises(ValueError, match="partition"):
            log.read({log.partitions: 0})
        with pytest.raises(ValueError, match="partition"):
            log.read({})

    # -- stamps ----------------------------------------------------------------------------------

    async def test_a_batch_appended_twice_counts_once(self, log: LogPort) -> None:
        """Nobody knew whether the first time had worked."""
        partition = log.partition_of("a")
        records = numbered("a", 3)
        async with aclosing(log.read(await log.end_positions())) as reader:
            await log.append(partition, records, Stamp(WRITER, 10))
            await log.append(partition, records, Stamp(WRITER, 10))
            await log.append(partition, [a_record("a", b"3")], Stamp(WRITER, 13))
            entries = (await read_entries(reader, 4))[partition]
        assert payloads(entries) == [b"0", b"1", b"2", b"3"]

    async def test_of_a_batch_that_overlaps_only_what_is_new_counts(self, log: LogPort) -> None:
        """A writer may cut what it repeats into other batches."""
        partition = log.partition_of("a")
        records = numbered("a", 5)
        async with aclosing(log.read(await log.end_positions())) as reader:
            await log.append(partition, records[:3], Stamp(WRITER, 0))
            await log.append(partition, records[1:], Stamp(WRITER, 1))
            await log.append(partition, [a_record("a", b"end")], Stamp(WRITER, 5))
            entries = (await read_entries(reader, 6))[partition]
        assert payloads(entries) == [b"0", b"1", b"2", b"3", b"4", b"end"]
        assert [entry.stamp.sequence for entry in entries] == [0, 1, 2, 3, 4, 5]

    async def test_sequences_of_two_writers_have_nothing_to_do_with_each_other(
        self, log: LogPort
    ) -> None:
        """The same number of another writer is another record."""
        partition = log.partition_of("a")
        async with aclosing(log.read(await log.end_positions())) as reader:
            await log.append(partition, [a_record("a", b"1")], Stamp(WRITER, 7))
            await log.append(partition, [a_record("a", b"2")], Stamp(OTHER, 7))
            entries = (await read_entries(reader, 2))[partition]
        assert payloads(entries) == [b"1", b"2"]

    async def test_a_writer_knows_its_own_records_when_it_reads_them_back(
        self, log: LogPort
    ) -> None:
        """By their stamps."""
        partition = log.partition_of("a")
        async with aclosing(log.read(await log.end_positions())) as reader:
            await log.append(partition, numbered("a", 3), Stamp(WRITER, 40))
            await log.append(partition, [a_record("a")], Stamp(OTHER, 1))
            entries = (await read_entries(reader, 4))[partition]
        assert [entry.stamp for entry in entries] == [
            (WRITER, 40),
            (WRITER, 41),
            (WRITER, 42),
            (OTHER, 1),
        ]

    async def test_what_was_read_below_counts_once_for_a_reader_that_is_told(
        self, log: LogPort
    ) -> None:
        """Who goes on at a position gives what he knew there; his own state stays as it was."""
        partition = log.partition_of("a")
        await log.append(partition, numbered("a", 3), Stamp(WRITER, 10))
        start = {partition: (await log.end_positions())[partition]}
        known = Runs(900_000)
        assert known.is_new(WRITER, 13, a_record("a").timestamp_ms)
        async with aclosing(log.read(start, {partition: known})) as reader:
            await log.append(partition, numbered("a", 3), Stamp(WRITER, 13))
            entries = (await read_entries(reader, 2))[partition]
        assert [entry.sequence for entry in entries] == [14, 15]
        assert known.highest(WRITER) == 13

    # -- the backlog -----------------------------------------------------------------------------

    async def test_what_is_not_durable_yet_is_the_backlog(self, bus: BusPort) -> None:
        """In bytes, until the future is done."""
        log, key = bus.messages, self.durable_key
        partition = log.partition_of(key)
        with self.standstill(bus):
            one = log.append(partition, [a_record(key, b"x" * 500)], Stamp(WRITER, 1))
            assert (size := log.backlog_size) >= 500
            other = log.append(partition, [a_record(key, b"x" * 700)], Stamp(WRITER, 2))
            assert log.backlog_size >= size + 700
            assert not one.done()
            assert not other.done()
        await outcome_of(other)
        assert one.done()
        assert log.backlog_size == 0

    async def test_a_full_log_refuses_and_tells_everybody_when_it_has_room(
        self, bus: BusPort
    ) -> None:
        """What was refused was not appended, and is taken then."""
        log, key = bus.messages, self.durable_key
        partition = log.partition_of(key)
        async with aclosing(log.read(await log.end_positions())) as reader:
            with self.standstill(bus):
                appends = fill(log, key)
                count = len(appends)
                last = a_record(key, str(count).encode())
                waiting = [await begun(log.room()) for _ in range(3)]
                with pytest.raises(BusUnavailable):
                    log.append(partition, [last], Stamp(WRITER, count))
                assert not any(task.done() for task in waiting)
            for task in waiting:
                await outcome_of(task)
            await outcome_of(log.append(partition, [last], Stamp(WRITER, count)))
            assert all(append.done() for append in appends)
            entries = (await read_entries(reader, count + 1))[partition]
        assert payloads(entries) == [str(number).encode() for number in range(count + 1)]

    async def test_while_there_is_room_nobody_waits_for_it(self, log: LogPort) -> None:
        """An append after it is taken."""
        async with asyncio.timeout(PATIENCE_S):
            await log.room()
            await log.append(log.partition_of("a"), [a_record("a")], Stamp(WRITER, 1))
            await log.room()

    async def test_who_waits_for_room_no_longer_takes_none_from_others(self, bus: BusPort) -> None:
        """One that was cancelled, say by its time-out."""
        log = bus.messages
        with self.standstill(bus):
            fill(log, self.durable_key)
            one, other = await begun(log.room()), await begun(log.room())
            one.cancel()
            with pytest.raises(asyncio.CancelledError):
                await outcome_of(one)
        await outcome_of(other)

    # -- bounds and the end ----------------------------------------------------------------------

    async def test_a_reader_below_what_is_kept_is_told(self, log: LogPort) -> None:
        """And where it can go on, from where on everything is there."""
        start = await log.end_positions()
        partition = log.partition_of("a")
        await log.append(partition, [a_record("a", b"old")], Stamp(WRITER, 1))
        await self.forget_oldest(log, partition)
        async with aclosing(log.read({partition: start[partition]})) as reader:
            with pytest.raises(BusGap) as gap:
                await next_batch(reader)
            assert gap.value.partition == partition
            assert gap.value.expected == start[partition] < gap.value.found
            assert gap.value.lost == gap.value.found - start[partition]
            await log.append(partition, [a_record("a", b"new")], Stamp(WRITER, 2))
            async with aclosing(log.read({partition: gap.value.found})) as later:
                entries: list[Entry] = []
                while not entries or entries[-1].record().payload != b"new":
                    entries.extend((await next_batch(later)).entries)
        assert entries[0].offset >= gap.value.found

    async def test_a_slow_reader_holds_nobody_back_and_is_told_what_it_missed(
        self, log: LogPort
    ) -> None:
        """The log goes on without it; it never jumps over anything in silence."""
        start = await log.end_positions()
        partition = log.partition_of("a")
        async with aclosing(log.read({partition: start[partition]})) as slow:
            await log.append(partition, [a_record("a")], Stamp(WRITER, 1))
            await next_batch(slow)
            await log.append(partition, [a_record("a")], Stamp(WRITER, 2))
            await self.forget_oldest(log, partition)
            gap = await gap_of(slow)
            assert gap.lost
            with pytest.raises(BusGap):  # asking again does not help
                await next_batch(slow)

    async def test_a_reader_above_the_end_is_told(self, log: LogPort) -> None:
        """Its position is one of another log."""
        partition = log.partition_of("a")
        end = (await log.end_positions())[partition]
        async with aclosing(log.read({partition: end + 1000})) as reader:
            with pytest.raises(BusGap) as gap:
                await next_batch(reader)
        assert gap.value.lost is None

    async def test_the_end_of_the_bus_ends_readers_and_refuses_appends(self, bus: BusPort) -> None:
        """Nobody waits for ever."""
        logs = (bus.messages, bus.sessions)
        waiting = [await begun(_rest(log.read(await log.end_positions()))) for log in logs]
        await bus.close()
        for task in waiting:
            assert await outcome_of(task) == []
        for log in logs:
            with pytest.raises(BusUnavailable):
                await log.append(log.partition_of("a"), [a_record("a")], Stamp(WRITER, 1))
            with pytest.raises(BusUnavailable):
                await log.room()

    async def test_what_is_under_way_when_the_bus_ends_fails(self, bus: BusPort) -> None:
        """Nobody knows whether the bus has it. Nor does anybody wait for room any more."""
        log = bus.messages
        with self.standstill(bus):
            appends = fill(log, self.durable_key)
            waiting = await begun(log.room())
            await bus.close()
            for append in appends:
                with pytest.raises(BusUnavailable):
                    await outcome_of(append)
            with pytest.raises(BusUnavailable):
                await outcome_of(waiting)


async def _rest(reader: LogReader) -> list[RecordBatch]:
    return [batch async for batch in reader]
