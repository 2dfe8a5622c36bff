"""Questions to the groups of a configuration: which database answers, and what none answers."""

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest

from monstermq_shared.config import ArchiveGroup, BrokerConfig
from monstermq_shared.errors import NotSupported, QueryRefused
from monstermq_shared.queries.cursors import Cursors
from monstermq_shared.queries.history import HistoryQuery
from monstermq_shared.queries.patterns import TopicPattern
from monstermq_shared.queries.sql import SqlQuery
from monstermq_shared.queries.topics import NameSearch, ValuesQuery
from monstermq_shared.stores.group_queries import GroupQueries
from monstermq_shared.stores.memory import MemoryMessageStore
from monstermq_shared.stores.memory_topics import MemoryQueries
from monstermq_shared.stores.sqlite import SqliteDatabase
from monstermq_shared.testing.builders import (
    ARCHIVE,
    LAST_VALUES,
    RETAINED,
    commit_archive,
    commit_messages,
    make_record,
)

T = TypeVar("T")


class Here:
    """Memory of this very thread."""

    async def call(self, ask: Callable[[], T]) -> T:
        return ask()


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[SqliteDatabase]:
    database = await SqliteDatabase.open(
        str(tmp_path / "x.db"),
        session_store=True,
        message_stores=[LAST_VALUES],
        archive_stores=[ARCHIVE, "OtherArchive"],
    )
    yield database
    await database.close()


@pytest.fixture
def config(tmp_path: Path) -> BrokerConfig:
    groups = [
        {"Name": "MCP", "LastValType": "SQLITE", "ArchiveType": "SQLITE"},
        {"Name": "Other", "LastValType": "MEMORY", "ArchiveType": "SQLITE"},
        {"Name": "Bare", "LastValType": "NONE", "ArchiveType": "NONE"},
    ]
    return BrokerConfig.model_validate(
        {
            "SessionStoreType": "SQLITE",
            "RetainedStoreType": "MEMORY",
            "SQLite": {"Path": str(tmp_path / "x.db")},
            "ArchiveGroups": groups,
        }
    )


@pytest.fixture
def retained() -> MemoryMessageStore:
    return MemoryMessageStore(RETAINED)


@pytest.fixture
async def queries(
    config: BrokerConfig, retained: MemoryMessageStore
) -> AsyncIterator[GroupQueries]:
    cursors = Cursors()
    stores = {RETAINED: retained, "OtherLastval": MemoryMessageStore("OtherLastval")}
    memory = MemoryQueries(stores, Here(), cursors, timeout_s=5)
    queries = GroupQueries(config, cursors, timeout_s=5, memory=memory)
    yield queries
    await queries.close()


def group(config: BrokerConfig, name: str) -> ArchiveGroup:
    return next(one for one in config.archive_groups if one.name == name)


async def test_retained_in_memory_and_last_values_in_a_file_are_one_answer(
    database: SqliteDatabase,
    config: BrokerConfig,
    retained: MemoryMessageStore,
    queries: GroupQueries,
) -> None:
    retained.apply(
        {
            "t/1": make_record(1, "t/1", b"old"),
            "t/3": make_record(3, "t/3", b"kept"),
            "t/1/<config>": make_record(4, "t/1/<config>", b'{"Description": "One"}'),
        },
        5,
    )
    last = [make_record(7, "t/1", b"new"), make_record(8, "t/2", b"last")]
    await commit_messages(database, *last, store=LAST_VALUES)
    topics = queries.topics(group(config, "MCP"))
    assert topics.store_type == "SQLITE and MEMORY"
    values = (await topics.values(ValuesQuery(filters=("t/+",)))).rows
    assert [at.message.payload for at in values] == [b"new", b"last", b"kept"]
    search = NameSearch(pattern=TopicPattern.glob("t/?"), limit=1)
    found = [(await topics.find_by_name(search)).rows[0]]
    page = await topics.find_by_name(search)
    while (cursor := page.cursor_after(1)) is not None:
        search = NameSearch(pattern=TopicPattern.glob("t/?"), limit=1, cursor=cursor)
        page = await topics.find_by_name(search)
        found += page.rows
    assert {at.topic: at.description for at in found} == {"t/1": "One", "t/2": None, "t/3": None}


async def test_history_and_sql_come_from_the_archive(
    database: SqliteDatabase, config: BrokerConfig, queries: GroupQueries
) -> None:
    await commit_archive(database, make_record(1))
    archive = queries.archive(group(config, "MCP"))
    assert len((await archive.history(HistoryQuery(filters=("#",)))).rows) == 1
    sql = queries.sql(group(config, "MCP"))
    assert (await sql.run(SqlQuery(text="SELECT count(*) FROM mcparchive"))).rows == [[1]]


async def test_a_group_that_keeps_nothing_says_what_to_set(
    config: BrokerConfig, queries: GroupQueries
) -> None:
    bare = group(config, "Bare")
    with pytest.raises(NotSupported, match="ArchiveType is NONE"):
        queries.archive(bare)
    with pytest.raises(NotSupported, match="keeps nothing that SQL could read"):
        queries.sql(bare)
    assert queries.topics(bare).store_type == "MEMORY"


async def test_a_cursor_of_another_group_is_refused(
    database: SqliteDatabase, config: BrokerConfig, queries: GroupQueries
) -> None:
    records = [make_record(number, f"t/{number}") for number in range(3)]
    await commit_archive(database, *records)
    await commit_messages(database, *records, store=LAST_VALUES)
    mcp, other = group(config, "MCP"), group(config, "Other")
    past = HistoryQuery(filters=("#",), limit=1)
    cursor = (await queries.archive(mcp).history(past)).cursor_after(1)
    again = (await queries.archive(mcp).history(replace(past, cursor=cursor))).rows
    assert [at.topic for at in again] == ["t/1"]
    with pytest.raises(QueryRefused, match="cursor"):
        await queries.archive(other).history(replace(past, cursor=cursor))
    search = NameSearch(pattern=TopicPattern.glob("*"), limit=1)
    cursor = (await queries.topics(mcp).find_by_name(search)).cursor_after(1)
    for topics in (queries.topics(other), queries.topics(None)):
        with pytest.raises(QueryRefused, match="cursor"):
            await topics.find_by_name(replace(search, cursor=cursor))
    values = ValuesQuery(filters=("#",), limit=1)
    cursor = (await queries.topics(mcp).values(values)).cursor_after(1)
    found = (await queries.topics(mcp).values(replace(values, cursor=cursor))).rows
    assert [at.message.topic for at in found] == ["t/1"]
    with pytest.raises(QueryRefused, match="cursor"):
        await queries.topics(other).values(replace(values, cursor=cursor))


async def test_memory_of_another_process_is_not_asked(config: BrokerConfig) -> None:
    queries = GroupQueries(config, Cursors(), timeout_s=5)
    with pytest.raises(NotSupported, match="not supported by MEMORY"):
        queries.topics(None)
    await queries.close()
