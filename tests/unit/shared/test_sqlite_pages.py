"""Pages in SQLite: bounded in bytes, whatever happens to the rows while they are read."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from monstermq_shared.records import Record
from monstermq_shared.stores.changes import Commit
from monstermq_shared.stores.ports import is_last_page
from monstermq_shared.stores.sqlite import SqliteDatabase
from monstermq_shared.stores.sqlite.messages import SqliteMessageStore
from monstermq_shared.stores.sqlite.readers import Reader, Row
from monstermq_shared.stores.sqlite.rows import PAGE_ROWS_MAX, Page
from monstermq_shared.testing.builders import RETAINED, commit_messages, commit_once, make_record

LARGE = bytes(5_000)


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[SqliteDatabase]:
    database = await SqliteDatabase.open(
        str(tmp_path / "x.db"), session_store=False, message_stores=[RETAINED], archive_stores=[]
    )
    yield database
    await database.close()


class ObservedReaders:
    """A reader that tells after which query it is; rows may change before the next one."""

    def __init__(
        self, readers: Reader, after: Callable[[str, Sequence[object]], Awaitable[None]]
    ) -> None:
        self._readers = readers
        self._after = after

    async def fetch(self, query: str, parameters: Sequence[object] = ()) -> list[Row]:
        rows = await self._readers.fetch(query, parameters)
        await self._after(query, parameters)
        return rows


def observe(
    database: SqliteDatabase, after: Callable[[str, Sequence[object]], Awaitable[None]]
) -> SqliteMessageStore:
    store = database.message_store(RETAINED)
    assert isinstance(store, SqliteMessageStore)
    store._readers = ObservedReaders(store._readers, after)
    return store


def is_scan(query: str) -> bool:
    return "json_group_array" in query


async def test_payloads_are_fetched_only_until_the_page_has_its_size() -> None:
    fetched: list[int] = []

    async def fetch(index: int) -> Record:
        fetched.append(index)
        return make_record(index, payload=LARGE)

    page = Page(10, 12_000)
    records = [make_record(offset, payload=b"") for offset in range(8)]
    assert await page.add(records, [1, 2, 4, 5, 6], fetch) == 5
    assert fetched == [1, 2, 4]
    assert [at.offset for at in page.records] == [0, 1, 2, 3, 4]
    assert page.rows_max == 0


async def test_a_record_that_has_gone_takes_no_room_in_a_page() -> None:
    async def fetch(_: int) -> None:
        return None

    page = Page(3, 1_000_000)
    records = [make_record(offset) for offset in range(3)]
    assert await page.add(records, [1, 2], fetch) == 3
    assert page.records == records[:1]
    assert page.rows_max == 2


@pytest.mark.parametrize("topic_filter", ["#", "a/+"])
@pytest.mark.parametrize("limit", [2, 3, 100])
async def test_rows_that_go_while_they_are_read_hide_no_others(
    database: SqliteDatabase, topic_filter: str, limit: int
) -> None:
    """Every large payload goes between the scan that finds it and its own read."""
    going = [f"a/{i:02}" for i in range(20) if i % 3]

    async def clear(query: str, _: Sequence[object]) -> None:
        if is_scan(query):
            cleared = dict.fromkeys(going, None)
            await commit_once(database, Commit(upto=99, messages={RETAINED: cleared}), RETAINED)

    topics = [f"a/{i:02}" for i in range(20)]
    records = [make_record(i, at, LARGE if i % 3 else b"") for i, at in enumerate(topics)]
    await commit_messages(database, *records)
    store = observe(database, clear)
    found: list[Record] = []
    while True:
        after = found[-1].topic if found else ""
        page = await store.find(topic_filter, after=after, limit=limit, size_max=10_000)
        found += page
        if is_last_page(page, limit=limit, size_max=10_000):
            break
    assert found == records[::3]


@pytest.mark.parametrize("topic_filter", ["#", "+/#"])
async def test_long_texts_do_not_make_one_answer_large(
    database: SqliteDatabase, topic_filter: str
) -> None:
    records = [make_record(i, f"{i:04}/{'x' * 60_000}", b"") for i in range(PAGE_ROWS_MAX)]
    for record in records:
        record.client_id = "c" * 60_000
    await commit_messages(database, *records)
    sizes: list[int] = []

    class Measured(ObservedReaders):
        async def fetch(self, query: str, parameters: Sequence[object] = ()) -> list[Row]:
            rows = await super().fetch(query, parameters)
            sizes.append(sum(len(value) for row in rows for value in row if isinstance(value, str)))
            return rows

    async def nothing(_: str, __: Sequence[object]) -> None: ...

    store = observe(database, nothing)
    store._readers = Measured(store._readers, nothing)
    page = await store.find(topic_filter, after="", limit=PAGE_ROWS_MAX)
    assert page == records[: len(page)]
    assert len(page) == 9
    assert max(sizes) < 200_000


@pytest.mark.parametrize("topic_filter", ["#", "a/+/c"])
async def test_of_large_rows_no_more_are_scanned_than_pages_take(
    database: SqliteDatabase, topic_filter: str
) -> None:
    """Rows are read as a whole: a replay would else read all that follow, for every page."""
    scans: list[object] = []

    async def note(query: str, parameters: Sequence[object]) -> None:
        below_dollar = "$"  # the other range of the filter #, where nothing is
        if is_scan(query) and len(parameters) == 3 and parameters[1] != below_dollar:
            scans.append(parameters[2])

    records = [make_record(i, f"a/{i:03}/c", LARGE) for i in range(200)]
    await commit_messages(database, *records)
    store = observe(database, note)
    for start in (0, 2):
        after = records[start - 1].topic if start else ""
        page = await store.find(topic_filter, after=after, limit=PAGE_ROWS_MAX, size_max=10_000)
        assert page == records[start : start + 2]
    assert scans == [PAGE_ROWS_MAX, 16]
    # What is found goes back to long stretches by itself.
    assert await store.find(topic_filter, after="", limit=500) == records
    assert scans[2:] == [16, 32, 64, 128]
