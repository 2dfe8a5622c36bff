"""Several processes on one PostgreSQL database: none holds up the others."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from tests.support.postgres_database import connected, open_database

from monstermq_shared.errors import StoreConflict
from monstermq_shared.positions import Partition
from monstermq_shared.stores.changes import Commit, LogState, Tenure
from monstermq_shared.stores.postgres.connection import SHARED_IDLE_IN_TRANSACTION_S
from monstermq_shared.stores.postgres.database import PostgresDatabase
from monstermq_shared.testing.builders import ARCHIVE, make_record

pytestmark = pytest.mark.integration

PATIENCE_S = 30.0
LOG = "kafka:a:b"
FROZEN, OTHER = Partition(LOG, 0), Partition(LOG, 2)

STAND_STILL = "UPDATE watermarks SET version = version + 1 WHERE partition = 0"


@pytest.fixture
async def databases(postgres_schema: str) -> AsyncIterator[list[PostgresDatabase]]:
    opened = [await open_database(postgres_schema, exclusive=False) for _ in range(3)]
    yield opened
    for database in opened:
        await database.close()


async def test_one_that_stands_still_holds_up_nobody_but_its_partition(
    postgres_schema: str, databases: list[PostgresDatabase]
) -> None:
    """As a worker that was stopped in the middle of a commit."""
    mine, theirs, edge = databases
    await mine.belong_to(LOG)
    await mine.begin(FROZEN, ["a", "b"])
    running = await mine.begin(OTHER, ["a", "b"])
    await edge.begin_marks(LOG, {FROZEN: {"a": 0, "b": 0}})
    async with connected(postgres_schema) as frozen:
        await frozen.execute("BEGIN")
        await frozen.execute(STAND_STILL)
        waiting = asyncio.create_task(theirs.begin(FROZEN, ["a", "b"]))
        async with asyncio.timeout(PATIENCE_S):
            while not await frozen.fetchval(  # noqa: ASYNC110 - the server has no event for that
                "SELECT count(*) FROM pg_locks WHERE NOT granted"
            ):
                await asyncio.sleep(0.01)
            await mine.commit(running, Commit(upto=1))
            taken = await edge.begin(OTHER, ["a", "b"])
            await edge.commit(taken, Commit(upto=2))
            await edge.begin_marks(LOG, {FROZEN: {"a": 5, "b": 5}, OTHER: {"c": 5}})
            assert (await edge.positions(LOG))["c", 2] == 5
            await edge.belong_to(LOG)
        assert not waiting.done()
        await frozen.execute("COMMIT")
        async with asyncio.timeout(PATIENCE_S):
            tenure = await waiting
            await theirs.commit(tenure, Commit(upto=1))


async def test_the_server_ends_one_that_stands_still_soon(
    databases: list[PostgresDatabase],
) -> None:
    async with databases[0]._writers[0].connection() as connection:
        found = await connection.fetchval("SHOW idle_in_transaction_session_timeout")
    assert found == f"{SHARED_IDLE_IN_TRANSACTION_S}s"


async def test_of_tenures_that_begin_together_one_holds(databases: list[PostgresDatabase]) -> None:
    """And each is of a higher version than those before."""
    for _ in range(20):
        tenures = await asyncio.gather(*(db.begin(FROZEN, ["a", "b"]) for db in databases))
        versions = [tenure.version for tenure in tenures]
        assert len(set(versions)) == len(versions)
        winner = versions.index(max(versions))
        for number, (database, tenure) in enumerate(zip(databases, tenures, strict=True)):
            if number == winner:
                await database.commit(tenure, Commit(upto=1))
            else:
                with pytest.raises(StoreConflict, match="another process has begun"):
                    await database.commit(tenure, Commit(upto=1))


async def test_commits_of_all_partitions_go_on_side_by_side(
    databases: list[PostgresDatabase],
) -> None:
    """Over both connections that commit; every row and every mark is there in the end."""
    database = databases[0]
    tenures = [await database.begin(Partition(LOG, number), [ARCHIVE]) for number in range(12)]

    async def commit_all(tenure: Tenure) -> None:
        for offset in range(20):
            topic = f"plant/{tenure.partition.number}"
            log = LogState(log_id=LOG, last_id=f"{offset}", runs={"aa": [offset, offset]})
            commit = Commit(
                upto=offset + 1, archives={ARCHIVE: [make_record(offset, topic)]}, log=log
            )
            await database.commit(tenure, commit)

    await asyncio.gather(*map(commit_all, tenures))
    archive = databases[1].archive_store(ARCHIVE)
    for tenure in tenures:
        number = tenure.partition.number
        assert len(await archive.history(f"plant/{number}")) == 20
        assert (await databases[1].log_states(tenure.partition))[ARCHIVE].last_id == "19"
