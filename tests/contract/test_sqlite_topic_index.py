"""The index of topics in SQLite: it always finds what a look at every topic would find."""

import asyncio
import random
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from pathlib import Path

import orjson
import pytest

from monstermq_shared.queries.cursors import Cursors
from monstermq_shared.queries.patterns import TopicPattern, matcher
from monstermq_shared.queries.topics import (
    DescriptionSearch,
    FoundPage,
    NameSearch,
    config_topic,
)
from monstermq_shared.records import Record
from monstermq_shared.stores.changes import Commit
from monstermq_shared.stores.sqlite import SqliteDatabase, topic_index
from monstermq_shared.stores.sqlite import database as database_module
from monstermq_shared.stores.sqlite.backup import backup_file
from monstermq_shared.stores.sqlite.queries.database import SqliteQueries
from monstermq_shared.stores.sqlite.queries.searching import trigrams
from monstermq_shared.stores.sqlite.queries.topics import SqliteTopicQueries
from monstermq_shared.stores.sqlite.recovery import recover_file
from monstermq_shared.testing.builders import (
    LAST_VALUES,
    RETAINED,
    commit_messages,
    commit_once,
    make_record,
)
from monstermq_shared.testing.topic_queries_contract import TopicQueriesContract

WAIT_S = 30


async def open_stores(path: Path) -> SqliteDatabase:
    return await SqliteDatabase.open(
        str(path),
        session_store=False,
        message_stores=[RETAINED, LAST_VALUES],
        archive_stores=[],
    )


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[SqliteDatabase]:
    database = await open_stores(tmp_path / "x.db")
    yield database
    await database.close()


@pytest.fixture
async def queries(database: SqliteDatabase, tmp_path: Path) -> AsyncIterator[SqliteQueries]:
    queries = SqliteQueries(str(tmp_path / "x.db"), Cursors(), readable={}, timeout_s=10)
    yield queries
    await queries.close()


def ask(path: Path, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()


async def settle(path: Path) -> None:
    """Wait until all that was noted is in the index."""
    async with asyncio.timeout(WAIT_S):
        behind = "SELECT EXISTS (SELECT 1 FROM topic_changes)"
        while ask(path, behind) != [(0,)]:  # noqa: ASYNC110 - the database tells nobody
            await asyncio.sleep(0.01)


class Settled:
    """Asks once the index has everything."""

    def __init__(self, topics: SqliteTopicQueries, path: Path) -> None:
        self._topics = topics
        self._path = path
        self.store_type = topics.store_type
        self.values = topics.values
        self.children = topics.children
        self.similar = topics.similar

    async def find_by_name(self, query: NameSearch) -> FoundPage:
        await settle(self._path)
        return await self._topics.find_by_name(query)

    async def find_by_description(self, query: DescriptionSearch) -> FoundPage:
        await settle(self._path)
        return await self._topics.find_by_description(query)


class TestIndexed(TopicQueriesContract):
    @pytest.fixture
    def topics(self, queries: SqliteQueries, tmp_path: Path) -> Settled:
        both = queries.topics(retained=RETAINED, last_values=LAST_VALUES)
        return Settled(both, tmp_path / "x.db")


class TestNoted(TopicQueriesContract):
    @pytest.fixture
    async def database(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> AsyncIterator[SqliteDatabase]:
        monkeypatch.setattr(topic_index, "_SLICE_ROWS", 0)
        database = await open_stores(tmp_path / "x.db")
        yield database
        await database.close()


class TestWithoutIndex(TopicQueriesContract):
    @pytest.fixture
    async def database(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> AsyncIterator[SqliteDatabase]:
        monkeypatch.setattr(database_module, "can_index", lambda: False)
        database = await open_stores(tmp_path / "x.db")
        yield database
        await database.close()


NAMES = ["room/1/temp", "room/2/temp", "Room/3", "a", "ab", "abc", "x/äöü/y", "x/ÄÖÜ/y", "t%_\\"]
TOPICS = [*NAMES, *map(config_topic, NAMES)]
TEXTS = ["Kitchen temperature", "Hall", "kitchen", "Ünder", "", "a b"]
PATTERNS = [
    *map(TopicPattern.glob, ["*oom*", "*", "*temp", "room/?/*", "a*", "*ab*", "*abc*", "*<conf*"]),
    *map(TopicPattern.containing, ["öü/", "%_", "ROOM", "<config>"]),
]
WORDS = ["kitchen", "temp KITCH", "a", "hall", "ünd", "b a"]


@pytest.mark.parametrize("seed", range(6))
async def test_it_finds_what_a_look_at_every_topic_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(topic_index, "_SLICE_ROWS", 3)
    monkeypatch.setattr(topic_index.Indexing, "note", lambda _, **__: None)
    path = tmp_path / "x.db"
    prng = random.Random(seed)
    database = await open_stores(path)
    index = topic_index.TopicIndex(["retainedmessages", "mcplastval"])
    queries = SqliteQueries(str(path), Cursors(), readable={}, timeout_s=10)
    topics = queries.topics(retained=RETAINED, last_values=LAST_VALUES)
    truth: dict[str, dict[str, Record]] = {RETAINED: {}, LAST_VALUES: {}}
    for step in range(1, 60):
        await _change(database, truth, prng, step)
        for _ in range(prng.choice([0, 0, 1, 2, 9])):
            await database._writer.submit(index.take_slice)
        await _compare(topics, truth, prng)
    await queries.close()
    await database.close()


async def _change(
    database: SqliteDatabase,
    truth: dict[str, dict[str, Record]],
    prng: random.Random,
    step: int,
) -> None:
    store = prng.choice([RETAINED, RETAINED, LAST_VALUES])
    changes: dict[str, Record | None] = {}
    for topic in prng.sample(TOPICS, prng.randint(1, 5)):
        payload = orjson.dumps({"Description": prng.choice(TEXTS)})
        changes[topic] = prng.choice([None, make_record(step, topic, payload)])
    await commit_once(database, Commit(upto=step + 1, messages={store: changes}), store)
    for topic, record in changes.items():
        if record is None:
            truth[store].pop(topic, None)
        else:
            truth[store][topic] = record


async def _compare(
    topics: SqliteTopicQueries, truth: dict[str, dict[str, Record]], prng: random.Random
) -> None:
    pattern, folds, limit = prng.choice(PATTERNS), prng.choice([True, False]), prng.randint(1, 9)
    matches = matcher(pattern, ignore_case=folds)
    found: list[str] = []
    cursor: str | None = None
    while True:
        search = NameSearch(pattern=pattern, ignore_case=folds, limit=limit, cursor=cursor)
        page = await topics.find_by_name(search)
        found += [at.topic for at in page.rows]
        cursor = page.cursor_after(len(page.rows))
        if cursor is None:
            break
    expected = {topic for stored in truth.values() for topic in stored if matches(topic)}
    assert sorted(found) == sorted(expected)
    text = prng.choice(WORDS)
    described: list[str] = []
    while True:
        wanted = DescriptionSearch(text=text, ignore_case=folds, limit=limit, cursor=cursor)
        page = await topics.find_by_description(wanted)
        described += [at.topic for at in page.rows]
        cursor = page.cursor_after(len(page.rows))
        if cursor is None:
            break
    words = [matcher(TopicPattern.containing(one), ignore_case=folds) for one in wanted.words]
    assert sorted(described) == sorted(
        topic.removesuffix("/<config>")
        for topic, record in truth[RETAINED].items()
        if topic.endswith("/<config>")
        and all(word(orjson.loads(record.payload)["Description"]) for word in words)
    )


async def test_many_topics_are_taken_in_while_nothing_else_is_written(
    database: SqliteDatabase, queries: SqliteQueries, tmp_path: Path
) -> None:
    await commit_messages(database, *(make_record(i, f"t/{i:05}") for i in range(3000)))
    await settle(tmp_path / "x.db")
    assert ask(tmp_path / "x.db", "SELECT count(*) FROM topic_names") == [(3000,)]
    found = await _found(queries, "*02999")
    assert found == ["t/02999"]


async def test_what_was_noted_is_taken_in_by_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.db"
    with monkeypatch.context() as patched:
        patched.setattr(topic_index, "_SLICE_ROWS", 0)
        database = await open_stores(path)
        await commit_messages(database, make_record(1, "noted"))
        await database.close()
    database = await open_stores(path)
    assert database.topics_noted == 1
    await settle(path)
    async with asyncio.timeout(WAIT_S):
        while database.topics_noted:  # noqa: ASYNC110 - it is read when somebody asks
            await asyncio.sleep(0.01)
    await database.close()
    assert ask(path, "SELECT topic FROM topic_names") == [("noted",)]


async def test_a_file_without_an_index_gets_one_with_all_its_topics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.db"
    with monkeypatch.context() as patched:
        patched.setattr(database_module, "can_index", lambda: False)
        database = await open_stores(path)
        await commit_messages(database, make_record(1, "old"), make_record(2, "old/<config>"))
        await commit_messages(database, make_record(1, "older"), store=LAST_VALUES)
        await database.close()
    database = await open_stores(path)
    await settle(path)
    await database.close()
    assert ask(path, "SELECT topic FROM topic_names ORDER BY 1") == [
        ("old",),
        ("old/<config>",),
        ("older",),
    ]


async def test_a_recovered_file_gets_a_new_index(database: SqliteDatabase, tmp_path: Path) -> None:
    path, backup, recovered = (tmp_path / name for name in ("x.db", "backup.db", "new.db"))
    await commit_messages(database, make_record(1, "kept"))
    await settle(path)
    await database.backup(backup)
    assert not recover_file(backup, recovered).left_out
    again = await open_stores(recovered)
    await settle(recovered)
    await again.close()
    assert ask(recovered, "SELECT topic FROM topic_names") == [("kept",)]


async def test_a_backup_has_the_index(database: SqliteDatabase, tmp_path: Path) -> None:
    await commit_messages(database, make_record(1, "kept"))
    await settle(tmp_path / "x.db")
    backup_file(tmp_path / "x.db", tmp_path / "backup.db")
    queries = SqliteQueries(str(tmp_path / "backup.db"), Cursors(), readable={}, timeout_s=10)
    assert await _found(queries, "*kep*") == ["kept"]
    await queries.close()


async def test_a_long_topic_and_a_long_description_are_taken_in(
    database: SqliteDatabase, queries: SqliteQueries, tmp_path: Path
) -> None:
    topic = "long/" + "x" * 60_000 + "/end"
    document = orjson.dumps({"Description": "begin " + "y" * 100_000})
    await commit_messages(
        database, make_record(1, topic), make_record(2, config_topic("d"), document)
    )
    await settle(tmp_path / "x.db")
    assert await _found(queries, "*/end") == [topic]
    found = await queries.topics(retained=RETAINED, last_values=None).find_by_description(
        DescriptionSearch(text="begin")
    )
    assert [at.topic for at in found.rows] == ["d"]


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["abc"], '"abc"'),
        (["abcdefg"], '"abc" AND "def" AND "efg"'),
        (["ab", "x"], None),
        ([], None),
        (['a"b'], '"a""b"'),
        (["ab", "room"], '"roo" AND "oom"'),
    ],
)
def test_the_index_is_asked_for_three_characters_at_a_time(
    texts: Sequence[str], expected: str | None
) -> None:
    assert trigrams(texts) == expected


async def _found(queries: SqliteQueries, pattern: str) -> list[str]:
    topics = queries.topics(retained=RETAINED, last_values=LAST_VALUES)
    page = await topics.find_by_name(NameSearch(pattern=TopicPattern.glob(pattern)))
    return [at.topic for at in page.rows]
