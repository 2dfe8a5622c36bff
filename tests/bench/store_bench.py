"""How many rows a second the stores take and give while the event loop has no time to spare.

The loop burns a millisecond of every turn, as it does when messages flow: a writer thread that
needs the interpreter lock for every row would show here, and only here.
"""

import asyncio
import gc
import sys
import tempfile
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

from tests.bench.model import LARGE, Effort
from tests.bench.stored import (
    acknowledge_commit,
    make_records,
    parts,
    queue_commit,
    shuffled_topics,
)

from monstermq_shared.operation.process import SWITCH_INTERVAL_S
from monstermq_shared.records import Record
from monstermq_shared.stores.changes import ClientChanges, Commit
from monstermq_shared.stores.memory import MemoryMessageStore
from monstermq_shared.stores.ports import MessageStore
from monstermq_shared.stores.sqlite import SqliteDatabase
from monstermq_shared.testing.builders import NOON_MS, PARTITION, commit_once, make_session

_RETAINED, _LAST_VALUES, _ARCHIVE = "RetainedMessages", "MCPLastval", "MCPArchive"
_COMMIT_ROWS = 4_000
_PAGE_ROWS = 500
_CLIENTS = 50
_TURN_S = 0.001

T = TypeVar("T")


def run(effort: Effort) -> list[str]:
    """Measure the stores; return the rows of the report."""
    count = effort.stored_rows
    return [*asyncio.run(_memory_rows(count)), *asyncio.run(_sqlite_rows(count))]


async def _memory_rows(count: int) -> list[str]:
    # The records exist before and belong to the store after, so they count among its bytes.
    records, record_size = _allocated(lambda: make_records(count, shuffled_topics(count)))
    store = MemoryMessageStore(_RETAINED)

    def ingest() -> None:
        for part in parts(records, _COMMIT_ROWS):
            store.apply({record.topic: record for record in part}, part[-1].offset + 1)

    started = time.perf_counter()
    ingest()
    ingest_s = time.perf_counter() - started
    assert await store.count() == count
    replay_s = await _replay(store, count)
    size = record_size + _allocated(lambda: _filled(records))[1]
    title = f"{count:,} retained topics, memory:"
    return [
        f"{title} first ingest  {count / ingest_s:,.0f} /s",
        f"{title} replay to #, pages of {_PAGE_ROWS}  {count / replay_s:,.0f} /s",
        f"{title} memory, records included  {size / count:,.0f} B each",
    ]


async def _sqlite_rows(count: int) -> list[str]:
    rows: list[str] = []
    for measure in (_retained, _queue, _default_configuration):
        with tempfile.TemporaryDirectory() as folder:
            database = await SqliteDatabase.open(
                str(Path(folder) / "bench.db"),
                session_store=True,
                message_stores=[_RETAINED, _LAST_VALUES],
                archive_stores=[_ARCHIVE],
            )
            try:
                rows += await measure(database, count)
            finally:
                await database.close()
    return rows


async def _retained(database: SqliteDatabase, count: int) -> list[str]:
    """First ingest of distinct topics, and their replay."""
    commits = [
        Commit(
            upto=part[-1].offset + 1,
            messages={_RETAINED: {record.topic: record for record in part}},
        )
        for part in parts(make_records(count, shuffled_topics(count)), _COMMIT_ROWS)
    ]
    store = database.message_store(_RETAINED)
    async with _saturated_loop():
        ingest_s, longest_s = await _commit_all(database, "retained", commits)
        assert await store.count() == count
        saturated_s = await _replay(store, count)
    replay_s = await _replay(store, count)
    title = f"{count:,} retained topics, SQLite:"
    return [
        f"{title} first ingest  {count / ingest_s:,.0f} /s, longest commit "
        f"{longest_s * 1000:,.0f} ms",
        f"{title} replay to #, pages of {_PAGE_ROWS}  {count / replay_s:,.0f} /s, "
        f"loop saturated {count / saturated_s:,.0f} /s",
        f"{title} on disk  {await database.size() / count:,.0f} B each",
    ]


async def _queue(database: SqliteDatabase, count: int) -> list[str]:
    """Messages to offline sessions, one receiver each, and their acknowledgement."""
    names = [f"client-{number}" for number in range(_CLIENTS)]
    sessions = {name: ClientChanges(session=make_session(name)) for name in names}
    await commit_once(database, Commit(upto=1, sessions=sessions), "sessions")
    dealt = list(parts(make_records(count, [f"queue/{name}" for name in names]), _COMMIT_ROWS))
    queued = [queue_commit(part, names) for part in dealt]
    dequeued = [acknowledge_commit(part, names) for part in dealt]
    async with _saturated_loop():
        queued_s, longest_s = await _commit_all(database, "sessions", queued)
        assert await _queue_length(database) == count
        paged_s = await _timed(_page_all(database, names, count))
        dequeued_s, _ = await _commit_all(database, "sessions", dequeued)
        assert await _queue_length(database) == 0
    title = f"{count:,} queued messages, SQLite:"
    return [
        f"{title} queue  {count / queued_s:,.0f} /s, longest commit {longest_s * 1000:,.0f} ms",
        f"{title} page  {count / paged_s:,.0f} /s",
        f"{title} acknowledge  {count / dequeued_s:,.0f} /s",
    ]


async def _default_configuration(database: SqliteDatabase, count: int) -> list[str]:
    """Archive and last value of everything, as the default configuration has it."""
    records = make_records(count, [f"plant/line{number}/value" for number in range(_CLIENTS)])
    commits = [
        Commit(
            upto=part[-1].offset + 1,
            messages={_LAST_VALUES: {record.topic: record for record in part}},
            archives={_ARCHIVE: part},
        )
        for part in parts(records, _COMMIT_ROWS)
    ]
    archive = database.archive_store(_ARCHIVE)
    async with _saturated_loop():
        archived_s, longest_s = await _commit_all(database, "archive", commits)
        assert await database.message_store(_LAST_VALUES).count() == _CLIENTS
        topic, expected = records[0].topic, len(records[::_CLIENTS])
        history_s = await _timed(_count_history(database, topic, expected))
        size = await database.size()
        purge_s = await _timed(archive.purge(before_ms=NOON_MS * 2, limit=count))
        assert await archive.history(topic, limit=1) == []
    title = f"{count:,} records, archive and last value in SQLite:"
    return [
        f"{title} write  {count / archived_s:,.0f} /s, longest commit {longest_s * 1000:,.0f} ms",
        f"{title} history of a topic  {expected / history_s:,.0f} /s",
        f"{title} purge  {count / purge_s:,.0f} /s",
        f"{title} on disk  {size / count:,.0f} B each",
    ]


@asynccontextmanager
async def _saturated_loop() -> AsyncIterator[None]:
    """Keep the loop busy all the time, a turn at a time.

    The interpreter is shared as in the broker: by default a loop with turns as short as these may
    keep it from the writer's thread for minutes.
    """

    async def burn() -> None:
        while True:
            until = time.perf_counter() + _TURN_S
            while time.perf_counter() < until:
                pass
            await asyncio.sleep(0)

    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    task = asyncio.create_task(burn())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
        sys.setswitchinterval(interval_s)


async def _commit_all(
    database: SqliteDatabase, projection: str, commits: Sequence[Commit]
) -> tuple[float, float]:
    """Return the seconds all commits of one tenure took, and the longest one."""
    tenure = await database.begin(PARTITION, [projection])
    seconds = [await _timed(database.commit(tenure, commit)) for commit in commits]
    return sum(seconds), max(seconds)


async def _replay(store: MessageStore, count: int) -> float:
    """Return the seconds it takes to page through everything."""
    started = time.perf_counter()
    found, after = 0, ""
    while page := await store.find("#", after=after, limit=_PAGE_ROWS):
        found += len(page)
        after = page[-1].topic
    assert found == count
    return time.perf_counter() - started


async def _page_all(database: SqliteDatabase, names: Sequence[str], count: int) -> None:
    found = 0
    for name in names:
        after = 0
        while page := await database.sessions.page(
            PARTITION, name, after=after, before=2**62, limit=_PAGE_ROWS
        ):
            found += len(page)
            after = page[-1].record.offset
    assert found == count


async def _count_history(database: SqliteDatabase, topic: str, expected: int) -> None:
    history = await database.archive_store(_ARCHIVE).history(topic, limit=expected + 1)
    assert len(history) == expected


async def _queue_length(database: SqliteDatabase) -> int:
    async with database.sessions.load(PARTITION) as snapshot:
        return sum([one.queued_messages async for page in snapshot.pages() for one in page])


def _filled(records: Sequence[Record]) -> MemoryMessageStore:
    store = MemoryMessageStore(_RETAINED)
    store.apply({record.topic: record for record in records}, records[-1].offset + 1)
    return store


async def _timed(work: Awaitable[object]) -> float:
    started = time.perf_counter()
    await work
    return time.perf_counter() - started


def _allocated(build: Callable[[], T]) -> tuple[T, int]:
    """Return what was built, and the bytes it takes."""
    gc.collect()
    tracemalloc.start()
    try:
        result = build()
        gc.collect()
        size, _ = tracemalloc.get_traced_memory()
        return result, size
    finally:
        tracemalloc.stop()


if __name__ == "__main__":
    print(*run(LARGE), sep="\n")
