"""A backlog misses nothing, is bounded by those who are held for it, and is read in batches."""

import asyncio
from collections.abc import Sequence

import pytest

from monstermq_shared.bus import backlog as module
from monstermq_shared.bus.backlog import Backlog, BacklogReader
from monstermq_shared.bus.ports import RecordBatch
from monstermq_shared.bus.ring import ENTRY_OVERHEAD
from monstermq_shared.records import Record, size_of
from monstermq_shared.testing.builders import make_record

PATIENCE_S = 30.0


def all_of(records: Sequence[Record]) -> Sequence[Record]:
    return records


def records_of(first: int, count: int) -> list[Record]:
    return [make_record(first + number) for number in range(count)]


async def next_of(reader: BacklogReader) -> RecordBatch:
    async with asyncio.timeout(PATIENCE_S):
        return await anext(reader)


def offsets(batch: RecordBatch) -> list[int]:
    return [entry.offset for entry in batch.entries]


async def test_turns_are_read_together_and_stay_until_they_are_committed() -> None:
    backlog = Backlog("X", 10_000, all_of)
    reader = BacklogReader(backlog, 0, b"the run.")
    backlog.show(records_of(1, 3), 5)
    backlog.show([], 6)
    backlog.show(records_of(7, 2), 9)
    batch = await next_of(reader)
    assert (batch.first, batch.upto, offsets(batch)) == (0, 9, [1, 2, 3, 7, 8])
    assert backlog.count == 5
    assert backlog.size == 5 * (size_of(make_record(1)) + ENTRY_OVERHEAD)
    backlog.committed(9)
    assert (backlog.count, backlog.size, [*backlog.uncommitted()]) == (0, 0, [])


async def test_what_comes_while_a_batch_is_committed_is_the_next_batch() -> None:
    backlog = Backlog("X", 10_000, all_of)
    reader = BacklogReader(backlog, 0, b"the run.")
    backlog.show(records_of(1, 3), 4)
    assert (await next_of(reader)).upto == 4
    backlog.show(records_of(4, 3), 9)
    batch = await next_of(reader)
    assert (batch.first, batch.upto, offsets(batch)) == (4, 9, [4, 5, 6])
    backlog.committed(4)
    assert [at.offset for records in backlog.uncommitted() for at in records] == [4, 5, 6]


async def test_batches_are_bounded_and_end_where_the_next_begins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "BATCH_RECORDS_MAX", 4)
    backlog = Backlog("X", 10_000, all_of)
    reader = BacklogReader(backlog, 0, b"the run.")
    backlog.show(records_of(1, 10), 20)
    batches = [await next_of(reader) for _ in range(3)]
    assert [offsets(batch) for batch in batches] == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10]]
    assert [(batch.first, batch.upto) for batch in batches] == [(0, 5), (5, 9), (9, 20)]


async def test_a_reader_waits_for_more_and_ends_with_the_backlog() -> None:
    backlog = Backlog("X", 10_000, all_of)
    reader = BacklogReader(backlog, 0, b"the run.")
    waiting = asyncio.create_task(next_of(reader))
    await asyncio.sleep(0)
    backlog.show(records_of(1, 1), 2)
    assert offsets(await waiting) == [1]
    waiting = asyncio.create_task(next_of(reader))
    await asyncio.sleep(0)
    await reader.aclose()
    with pytest.raises(StopAsyncIteration):
        await waiting


async def test_it_is_full_at_its_bound_and_says_when_it_is_half_empty() -> None:
    size = size_of(make_record(1)) + ENTRY_OVERHEAD
    backlog = Backlog("X", 4 * size, all_of)
    told: list[int] = []
    backlog.emptied = lambda at: told.append(at.count)
    backlog.show(records_of(1, 3), 4)
    full = [backlog.is_full]
    for number in range(4, 8):
        backlog.show(records_of(number, 1), number + 1)
    full.append(backlog.is_full)
    backlog.committed(5)
    full.append(backlog.is_full)
    assert (told, full) == ([], [False, True, False])
    assert backlog.holds
    backlog.committed(7)
    backlog.committed(8)
    assert told == [1]
    assert not backlog.holds


async def test_far_beyond_its_bound_it_is_a_reason_to_let_nobody_in() -> None:
    size = size_of(make_record(1)) + ENTRY_OVERHEAD
    backlog = Backlog("X", 2 * size, all_of)
    overfull = []
    for number in range(1, 5):
        backlog.show(records_of(number, 1), number + 1)
        overfull.append(backlog.is_overfull)
    assert overfull == [False, False, False, True]


async def test_only_what_is_wanted_counts() -> None:
    backlog = Backlog("X", 10_000, lambda records: [at for at in records if at.offset % 2])
    reader = BacklogReader(backlog, 0, b"the run.")
    backlog.show(records_of(1, 4), 5)
    assert backlog.count == 2
    batch = await next_of(reader)
    assert (batch.upto, offsets(batch)) == (5, [1, 3])


async def test_its_age_is_that_of_the_oldest_record() -> None:
    backlog = Backlog("X", 10_000, all_of)
    now_ms = make_record(1).timestamp_ms + 1_500
    assert backlog.age_s(now_ms) == 0.0
    backlog.show(records_of(1, 4), 5)
    assert backlog.age_s(now_ms) == 1.5
