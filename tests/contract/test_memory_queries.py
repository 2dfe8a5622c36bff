"""The contract of questions about topics, met by memory, and by two stores that are joined."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator

import pytest

from monstermq_shared.errors import NotSupported, QueryTimedOut, StoreUnavailable
from monstermq_shared.queries.cursors import Cursors
from monstermq_shared.queries.patterns import TopicPattern
from monstermq_shared.queries.topics import ChildrenQuery, NameSearch, ValuesQuery
from monstermq_shared.stores.memory import MemoryDatabase
from monstermq_shared.stores.memory_topics import LoopOwner, MemoryQueries
from monstermq_shared.testing.builders import ARCHIVE, LAST_VALUES, RETAINED, make_record
from monstermq_shared.testing.topic_queries_contract import TopicQueriesContract


@pytest.fixture
def database() -> MemoryDatabase:
    return MemoryDatabase()


@pytest.fixture
async def queries(database: MemoryDatabase) -> AsyncIterator[MemoryQueries]:
    queries = _queries(database, asyncio.get_running_loop())
    yield queries
    await queries.close()


def _queries(
    database: MemoryDatabase, loop: asyncio.AbstractEventLoop, *, timeout_s: float = 10
) -> MemoryQueries:
    stores = {name: database.message_store(name) for name in (RETAINED, LAST_VALUES)}
    return MemoryQueries(stores, LoopOwner(loop), Cursors(), timeout_s=timeout_s)


class TestMemoryTopicQueries(TopicQueriesContract):
    pass


async def test_both_kinds_of_store_are_named(queries: MemoryQueries) -> None:
    assert queries.topics(retained=RETAINED, last_values=LAST_VALUES).store_type == "MEMORY"


async def test_history_and_sql_are_not_supported(queries: MemoryQueries) -> None:
    with pytest.raises(NotSupported, match="not supported by MEMORY"):
        queries.archive(ARCHIVE)
    with pytest.raises(NotSupported, match="not supported by MEMORY"):
        _ = queries.sql


@pytest.fixture
def broker() -> Iterator[asyncio.AbstractEventLoop]:
    """The loop of another thread, which is to have the stores."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


async def test_many_topics_are_asked_from_another_thread(
    database: MemoryDatabase, broker: asyncio.AbstractEventLoop
) -> None:
    store = database.message_store(LAST_VALUES)
    store.apply({f"t/{i:05}/x": make_record(i, f"t/{i:05}/x") for i in range(5000)}, 5000)
    topics = _queries(database, broker).topics(retained=None, last_values=LAST_VALUES)
    found = await topics.find_by_name(NameSearch(pattern=TopicPattern.containing("4999")))
    assert [at.topic for at in found.rows] == ["t/04999/x"]
    values = await topics.values(ValuesQuery(filters=("t/+/x",), limit=1000))
    assert (len(values.rows), values.more) == (1000, True)
    children = await topics.children(ChildrenQuery(parent="t", limit=1000))
    assert (len(children.rows), children.more) == (1000, True)


async def test_a_broker_that_does_not_answer_is_named(database: MemoryDatabase) -> None:
    standing = asyncio.new_event_loop()
    topics = _queries(database, standing, timeout_s=0.01).topics(
        retained=RETAINED, last_values=None
    )
    with pytest.raises(QueryTimedOut, match="MEMORY"):
        await topics.values(ValuesQuery(filters=("#",)))
    standing.close()
    with pytest.raises(StoreUnavailable, match="has stopped"):
        await topics.values(ValuesQuery(filters=("#",)))
