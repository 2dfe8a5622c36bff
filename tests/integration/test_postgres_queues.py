"""What the queues of a shared log must endure in PostgreSQL."""

from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
from tests.support.postgres_database import connected, open_database, port_of, through
from tests.support.proxy import CommitLoss, Proxy

from monstermq_shared.errors import StoreDamaged, StoreUnavailable
from monstermq_shared.positions import Mark
from monstermq_shared.stores.changes import Commit
from monstermq_shared.stores.postgres.connection import Connection
from monstermq_shared.stores.postgres.database import PostgresDatabase
from monstermq_shared.stores.queue_changes import OpenId, QueueChanges
from monstermq_shared.stores.queues import QUEUES_MARK
from monstermq_shared.testing.builders import commit_once, make_record
from monstermq_shared.testing.queues_contract import (
    BUS,
    SIZE,
    ask,
    load_queues,
    make_cut,
    offsets,
    pages,
    queued,
    records,
    waiting,
    write,
)

pytestmark = pytest.mark.integration


@pytest.fixture
async def database(postgres_schema: str) -> AsyncIterator[PostgresDatabase]:
    database = await open_database(postgres_schema, exclusive=False)
    yield database
    await database.close()


@pytest.fixture
async def sql(postgres_schema: str) -> AsyncIterator[Connection]:
    async with connected(postgres_schema) as connection:
        yield connection


@pytest.mark.parametrize("loss", CommitLoss)
async def test_a_commit_of_unknown_outcome_is_applied_once_and_counted_once(
    postgres_schema: str, loss: CommitLoss
) -> None:
    async with Proxy(port_of(postgres_schema)) as proxy:
        database = await open_database(through(proxy.port, postgres_schema), exclusive=False)
        tenure = await database.begin(BUS, [QUEUES_MARK])
        first = QueueChanges(queued=queued("c", records=records(1, 2, 3)))
        await database.commit(tenure, Commit(upto=4, queues=first))
        changes = QueueChanges(
            below={"c": 2},
            queued=queued("c", "d", records=records(5)),
            dequeued={("c", 3)},
            cuts={"c": make_cut(4, 4)},
        )
        commit = Commit(upto=6, restart=5, queues=changes)
        lost = proxy.lose_next_commit(loss)
        with suppress(StoreUnavailable):
            await database.commit(tenure, commit)
        assert lost.is_set()
        result = await database.commit(tenure, commit)
        assert result.grown == {"c": (-1, -SIZE), "d": (1, SIZE)}
        assert await waiting(database, "c") == [2, 5]
        assert (await database.log_states(BUS))[QUEUES_MARK].mark == Mark(6, 5)
        await database.close()


async def test_a_worker_that_takes_over_may_write_what_is_there(
    database: PostgresDatabase, postgres_schema: str
) -> None:
    """A window that is rebuilt has entries that the worker before has made rows of."""
    changes = QueueChanges(queued=queued("c", "d", records=records(5, 6, 7)))
    commit = Commit(upto=8, restart=5, queues=changes)
    await commit_once(database, commit, QUEUES_MARK, partition=BUS)
    other = await open_database(postgres_schema, exclusive=False)
    tenure = await other.begin(BUS, [QUEUES_MARK])
    changes = QueueChanges(queued=queued("d", "e", records=records(6, 7, 8)))
    result = await other.commit(tenure, Commit(upto=9, restart=8, queues=changes))
    assert result.grown == {"d": (1, SIZE), "e": (3, 3 * SIZE)}
    assert await waiting(database, "d") == [5, 6, 7, 8]
    assert await waiting(database, "e") == [6, 7, 8]
    await other.close()


async def test_what_is_there_is_looked_for_only_where_it_may_be(
    database: PostgresDatabase, sql: Connection
) -> None:
    """A row that only another hand can have made costs one repetition, and stays."""
    await write(database, QueueChanges(queued=queued("c", records=records(5))))
    await sql.execute(
        "UPDATE queuedmessagesclients SET position = 9; UPDATE queuedmessages SET position = 9"
    )
    assert await write(database, QueueChanges(queued=queued("c", records=records(9, 10)))) == {
        "c": (1, SIZE)
    }
    assert await waiting(database, "c") == [9, 10]


async def test_messages_that_another_hand_has_taken_are_passed_over(
    database: PostgresDatabase, sql: Connection
) -> None:
    await write(database, QueueChanges(queued=queued("c", records=records(*range(1, 9)))))
    await sql.execute("DELETE FROM queuedmessages WHERE position IN (1, 2, 3, 8)")
    some, rest = await pages(database, ask("c", limit=2), ask("c", first=6, limit=2))
    assert (offsets(some), some.is_last) == ([4, 5], False)
    assert (offsets(rest), rest.is_last) == ([6, 7], True)
    assert (await load_queues(database)) == {}


@pytest.mark.parametrize("damage", ["'[[1]]'", "'7'", "'[\"a\", 1]'", "'null'"])
async def test_a_cut_that_makes_no_sense_stops_the_load(
    database: PostgresDatabase, sql: Connection, damage: str
) -> None:
    await write(database, QueueChanges(cuts={"c": make_cut(1, 1, "a")}))
    await sql.execute(f"UPDATE cuts SET subscriptions = {damage}")
    with pytest.raises(StoreDamaged, match="row of the table cuts"):
        await load_queues(database)


async def test_a_table_that_somebody_has_altered_is_named(
    database: PostgresDatabase, sql: Connection
) -> None:
    await sql.execute("ALTER TABLE cuts DROP COLUMN epoch")
    with pytest.raises(StoreDamaged, match=r"table cuts .* its column epoch is missing"):
        await write(database, QueueChanges(cuts={"c": make_cut(1, 1, "a")}))


async def test_ids_of_an_internal_log_and_of_a_shared_one_are_apart(
    database: PostgresDatabase, sql: Connection
) -> None:
    await write(database, QueueChanges(open_ids={("c", 5): OpenId(1, 1)}))
    assert await sql.fetchval("SELECT client_id FROM open_ids") == "c"
    async with database.sessions.load(BUS) as snapshot:
        assert [page async for page in snapshot.pages()] == []


async def test_large_messages_are_queued_for_many_once(
    database: PostgresDatabase, sql: Connection
) -> None:
    names = [f"client{number}" for number in range(200)]
    large = make_record(3, payload=b"\x00\xff" * 500_000)
    await write(database, QueueChanges(queued=queued(*names, records=[large])))
    assert await sql.fetchval("SELECT count(*) FROM queuedmessages") == 1
    found = await database.queue_pages(
        BUS.generation, [ask(name) for name in names[:20]], size_max=1
    )
    assert all(page.rows[0].record == large for page in found)
