"""Questions to a server that is slow, away or not ready: an answer in time that names it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.support.postgres import PostgresServer
from tests.support.postgres_database import connected
from tests.support.postgres_reading import ReadingSite

from monstermq_shared.config.postgres_urls import parse_url
from monstermq_shared.errors import QueryTimedOut, StoreError, StoreUnavailable
from monstermq_shared.queries.aggregates import AggregateFunction, AggregateQuery
from monstermq_shared.queries.cursors import Cursors
from monstermq_shared.queries.history import HistoryPage, HistoryQuery
from monstermq_shared.queries.patterns import TopicPattern
from monstermq_shared.queries.ports import DatabaseQueries
from monstermq_shared.queries.topics import NameSearch, ValueSource, ValuesQuery
from monstermq_shared.stores.postgres.configured import open_queries
from monstermq_shared.stores.postgres.database import PostgresDatabase
from monstermq_shared.stores.postgres.queries.archive_topics import TOPICS_MAX
from monstermq_shared.stores.postgres.queries.asking import (
    CONNECTIONS_MAX,
    IN_ORDER,
    WAITING_MAX,
    Asking,
)
from monstermq_shared.stores.postgres.queries.database import PostgresQueries
from monstermq_shared.testing.builders import (
    ARCHIVE,
    LAST_VALUES,
    NOON_MS,
    RETAINED,
    commit_archive,
    commit_messages,
    make_record,
)

pytestmark = pytest.mark.integration

TIMEOUT_S = 20.0

IMPATIENT_S = 5.0
"""For questions that are to have no answer in time."""


@asynccontextmanager
async def asked(site: ReadingSite, timeout_s: float = TIMEOUT_S) -> AsyncIterator[DatabaseQueries]:
    queries = open_queries(site.config, Cursors(), timeout_s=timeout_s)
    try:
        yield queries
    finally:
        await queries.close()


async def history(queries: DatabaseQueries) -> HistoryPage:
    return await queries.archive(ARCHIVE).history(HistoryQuery(filters=("#",)))


async def fill(site: ReadingSite) -> None:
    database = await site.open()
    await commit_archive(database, make_record(1))
    await database.close()


async def test_a_server_that_stops_and_comes_back(
    own_postgres: PostgresServer, tmp_path: Path
) -> None:
    site = ReadingSite(own_postgres, tmp_path)
    await fill(site)
    named = f"PostgreSQL at .*{site.database}"
    async with asked(site) as queries:
        assert len((await history(queries)).rows) == 1
        own_postgres.stop()
        with pytest.raises(StoreUnavailable, match=named):
            await history(queries)
        with pytest.raises(StoreUnavailable, match=named):
            await history(queries)
        own_postgres.start()
        assert len((await history(queries)).rows) == 1


async def test_a_server_that_stands_still(own_postgres: PostgresServer, tmp_path: Path) -> None:
    site = ReadingSite(own_postgres, tmp_path)
    await fill(site)
    named = f"PostgreSQL at .*{site.database}"
    async with asked(site, IMPATIENT_S) as queries:
        await history(queries)
        own_postgres.freeze()
        with pytest.raises(QueryTimedOut, match=named):
            await history(queries)
        with pytest.raises(StoreUnavailable, match=named):
            await history(queries)
        topics = queries.topics(retained=RETAINED, last_values=LAST_VALUES)
        assert await topics.similar("a", limit=1) == []
        own_postgres.thaw()
        assert len((await history(queries)).rows) == 1


async def test_a_question_that_waits_for_a_lock_ends_and_leaves_no_statement(
    postgres_server: PostgresServer, tmp_path: Path
) -> None:
    site = ReadingSite(postgres_server, tmp_path)
    await fill(site)
    async with asked(site, IMPATIENT_S) as queries, connected(site.url) as owner:
        await history(queries)
        async with owner.transaction():
            await owner.execute("LOCK TABLE mcparchive, mcplastval")
            with pytest.raises(QueryTimedOut, match="ask for less"):
                await history(queries)
            topics = queries.topics(retained=None, last_values=LAST_VALUES)
            with pytest.raises(QueryTimedOut):
                await topics.values(ValuesQuery(filters=("#",)))
            waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
            assert await owner.fetchval(waiting) == 0
        assert len((await history(queries)).rows) == 1
    site.close()


async def test_before_the_first_start_the_tables_are_not_there_yet(
    postgres_server: PostgresServer, tmp_path: Path
) -> None:
    site = ReadingSite(postgres_server, tmp_path)
    async with asked(site) as queries:
        with pytest.raises(StoreError, match="not there yet") as caught:
            await history(queries)
        assert type(caught.value) is StoreError
        search = NameSearch(pattern=TopicPattern.glob("*"))
        with pytest.raises(StoreError, match="not there yet"):
            await queries.topics(retained=RETAINED, last_values=None).find_by_name(search)
        await fill(site)
        assert len((await history(queries)).rows) == 1
    site.close()


async def test_topics_that_begin_alike_have_their_statistics_each(postgres_schema: str) -> None:
    """The index has 250 characters, alike in more of them than are looked up at once."""
    settings = parse_url(postgres_schema)
    database = await PostgresDatabase.open(
        settings, session_store=False, message_stores=[], archive_stores=[ARCHIVE]
    )
    count = 2 * TOPICS_MAX + 50
    names = ["x" * 260 + f"/{number:04}" for number in range(count)]
    await commit_archive(database, *(make_record(i, at, b"1") for i, at in enumerate(names)))
    await database.close()
    queries = PostgresQueries(settings, reader=None, readable={}, cursors=Cursors(), timeout_s=20)
    found: list[str | None] = []
    cursor: str | None = None
    while cursor is not None or not found:
        page = await queries.archive(ARCHIVE).aggregate(
            AggregateQuery(
                filters=("+/#",),
                functions=(AggregateFunction.COUNT,),
                start_ms=NOON_MS,
                end_ms=NOON_MS + 3_600_000,
                bucket_ms=3_600_000,
                limit=1000,
                cursor=cursor,
            )
        )
        found += [bucket.topic for bucket in page.rows]
        cursor = page.cursor_after(len(page.rows))
    assert found == names
    await queries.close()


async def test_of_two_values_of_one_millisecond_the_later_one_counts(
    postgres_server: PostgresServer, tmp_path: Path
) -> None:
    site = ReadingSite(postgres_server, tmp_path)
    database = await site.open()
    for topic, retained, last in (("a", 1, 2), ("b", 2, 1)):
        older, newer = (make_record(at, topic, timestamp_ms=NOON_MS) for at in (retained, last))
        await commit_messages(database, older)
        await commit_messages(database, newer, store=LAST_VALUES)
    await database.close()
    async with asked(site) as queries:
        topics = queries.topics(retained=RETAINED, last_values=LAST_VALUES)
        page = await topics.values(ValuesQuery(filters=("+",)))
    assert [value.source for value in page.rows] == [ValueSource.LAST_VALUE, ValueSource.RETAINED]
    site.close()


async def test_too_many_questions_at_a_time_are_refused(postgres_schema: str) -> None:
    asking = Asking(parse_url(postgres_schema), timeout_s=TIMEOUT_S, session=IN_ORDER)
    begun = asyncio.Event()

    async def ask() -> None:
        async with asking.question():
            await begun.wait()

    tasks = [asyncio.create_task(ask()) for _ in range(CONNECTIONS_MAX + WAITING_MAX + 5)]
    refused, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    begun.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert len(refused) == 5
    assert results.count(None) == len(tasks) - 5
    assert all("too many questions" in str(task.exception()) for task in refused)
    await asking.close()


async def test_its_connections_only_read(postgres_schema: str) -> None:
    asking = Asking(parse_url(postgres_schema), timeout_s=TIMEOUT_S, session=IN_ORDER)
    with pytest.raises(StoreError, match="read-only transaction"):
        async with asking.question() as fetch:
            await fetch("CREATE TABLE mine (x int)")
    await asking.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        async with asking.question():
            pass
