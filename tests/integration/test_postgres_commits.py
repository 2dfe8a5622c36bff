"""Commits to PostgreSQL when the server, its standby or our task does not last."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress

import pytest
from tests.support.postgres import PASSWORD, ROLE, PostgresServer, PostgresStandby
from tests.support.postgres_database import connected, open_database, port_of, through
from tests.support.proxy import CommitLoss, Proxy

from monstermq_shared.errors import StoreConflict, StoreUnavailable
from monstermq_shared.records import size_of
from monstermq_shared.stores.changes import ClientChanges, Commit, Tenure, Trim, Trimmed
from monstermq_shared.stores.postgres.database import PostgresDatabase
from monstermq_shared.testing.builders import (
    ARCHIVE,
    PARTITION,
    RETAINED,
    commit_sessions,
    make_queue,
    make_record,
    make_session,
)
from monstermq_shared.testing.database_contract import (
    ALL,
    commit_until_it_works,
    full_commit,
    marks_of,
    rows_of,
)

pytestmark = pytest.mark.integration

BOUND_S = 60.0
KILLS = 3


@pytest.fixture
async def proxy(postgres_schema: str) -> AsyncIterator[Proxy]:
    async with Proxy(port_of(postgres_schema)) as proxy:
        yield proxy


@pytest.fixture
async def database(postgres_schema: str, proxy: Proxy) -> AsyncIterator[PostgresDatabase]:
    database = await open_database(through(proxy.port, postgres_schema))
    yield database
    await database.close()


@pytest.fixture
async def tenure(database: PostgresDatabase) -> Tenure:
    return await database.begin(PARTITION, ALL)


async def test_a_tenure_is_of_at_least_one_projection(database: PostgresDatabase) -> None:
    """Without one, nothing could tell its commits apart; in memory there is no need to."""
    with pytest.raises(ValueError, match="at least one projection"):
        await database.begin(PARTITION, [])


@pytest.mark.parametrize("loss", CommitLoss)
async def test_a_trim_of_unknown_outcome_drops_once(
    database: PostgresDatabase, proxy: Proxy, tenure: Tenure, loss: CommitLoss
) -> None:
    records = [make_record(i) for i in range(10)]
    changes = ClientChanges(session=make_session("a"), queued=make_queue(records))
    await database.commit(tenure, Commit(upto=10, sessions={"a": changes}))
    proxy.lose_next_commit(loss)
    trim = Commit(upto=11, sessions={"a": ClientChanges(trim=Trim(-1, 3, 0))})
    with pytest.raises(StoreUnavailable):
        await database.commit(tenure, trim)
    result = await database.commit(tenure, trim)
    assert result.trimmed == {"a": Trimmed(3, 3 * size_of(records[0]))}
    assert (await rows_of(database))[0] == 7


async def test_another_commit_may_follow_one_of_unknown_outcome(
    database: PostgresDatabase, proxy: Proxy, tenure: Tenure
) -> None:
    """Whoever gives up on it and goes on, as the next start would, loses nothing."""
    proxy.lose_next_commit(CommitLoss.ANSWER)
    with pytest.raises(StoreUnavailable):
        await database.commit(tenure, full_commit(1))
    await database.commit(tenure, full_commit(2))
    assert await rows_of(database) == (2, 1, 2)
    await database.commit(tenure, full_commit(3))
    assert await marks_of(database) == dict.fromkeys(ALL, 4)


async def test_a_commit_of_unknown_outcome_may_be_lost_again_and_again(
    database: PostgresDatabase, proxy: Proxy, tenure: Tenure
) -> None:
    """Also the one that finds out that it was applied."""
    records = [make_record(i) for i in range(10)]
    changes = ClientChanges(session=make_session("a"), queued=make_queue(records))
    await database.commit(tenure, Commit(upto=10, sessions={"a": changes}))
    trim = Commit(upto=11, sessions={"a": ClientChanges(trim=Trim(-1, 3, 0))})
    for loss in (CommitLoss.ANSWER, CommitLoss.REQUEST, CommitLoss.ANSWER):
        proxy.lose_next_commit(loss)
        with pytest.raises(StoreUnavailable):
            await database.commit(tenure, trim)
    result = await database.commit(tenure, trim)
    assert result.trimmed["a"].messages == 3
    assert (await rows_of(database))[0] == 7


async def test_a_tenure_is_begun_once_more_if_nobody_knows(
    database: PostgresDatabase, proxy: Proxy
) -> None:
    for loss in CommitLoss:
        proxy.lose_next_commit(loss)
        with pytest.raises(StoreUnavailable):
            await database.begin(PARTITION, ALL)
    tenure = await database.begin(PARTITION, ALL)
    await database.commit(tenure, full_commit(1))
    assert await rows_of(database) == (1, 1, 1)


async def test_a_cancelled_commit_is_repeated_like_any_other(
    database: PostgresDatabase, postgres_schema: str, tenure: Tenure
) -> None:
    async with connected(postgres_schema) as connection:
        async with connection.transaction():
            await connection.execute("LOCK TABLE mcparchive")
            task = asyncio.create_task(database.commit(tenure, full_commit(1)))
            while not await connection.fetchval(
                "SELECT count(*) FROM pg_locks "
                "WHERE NOT granted AND relation = 'mcparchive'::regclass"
            ):
                pass
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        await commit_until_it_works(database, tenure, full_commit(1))
    assert await rows_of(database) == (1, 1, 1)


@pytest.mark.parametrize(
    "loss",
    [
        "UPDATE watermarks SET version = version - 1",
        "UPDATE watermarks SET version = version - 1, token = 'of an earlier one'",
        "DELETE FROM watermarks WHERE projection = 'sessions'",
        "TRUNCATE watermarks, generations",
    ],
)
async def test_a_server_that_has_lost_commits_ends_the_tenure(
    database: PostgresDatabase, postgres_schema: str, tenure: Tenure, loss: str
) -> None:
    await database.commit(tenure, full_commit(1))
    async with connected(postgres_schema) as connection:
        await connection.execute(loss)
    with pytest.raises(StoreConflict, match="the server has lost what it had committed"):
        await database.commit(tenure, full_commit(2))


async def test_tenures_of_many_partitions_share_sessions(
    database: PostgresDatabase, postgres_schema: str
) -> None:
    """Processes that commit for the same clients at the same time."""
    ids = [f"client-{number}" for number in range(700)]
    sessions = {id_: ClientChanges(session=make_session(id_)) for id_ in ids}
    await commit_sessions(database, 1, **sessions)
    other = await open_database(postgres_schema, exclusive=False)

    async def commit_all(of: PostgresDatabase, number: int, clients: Sequence[str]) -> None:
        tenure = await of.begin(PARTITION._replace(number=number), ["sessions"])
        for offset in range(5):
            queued = make_queue([make_record(offset)])
            changes = {id_: ClientChanges(queued=queued) for id_ in clients}
            await commit_until_it_works(of, tenure, Commit(upto=offset + 1, sessions=changes))

    await asyncio.gather(
        commit_all(database, 0, ids),
        commit_all(database, 1, ids[::-1]),
        commit_all(other, 2, ids[300:] + ids[:300]),
    )
    async with database.sessions.load(PARTITION) as snapshot:
        loaded = [session async for page in snapshot.pages() for session in page]
    assert {session.queued_messages for session in loaded} == {15}
    await other.close()


async def test_a_killed_server_loses_and_doubles_nothing(own_postgres: PostgresServer) -> None:
    database = await open_database(own_postgres.url(own_postgres.create_database()))
    tenure = await database.begin(PARTITION, ALL)
    committed = 0
    killed, enough = asyncio.Event(), asyncio.Event()

    async def commit_all() -> None:
        nonlocal committed
        while not killed.is_set():
            await commit_until_it_works(database, tenure, full_commit(committed))
            committed += 1
            if committed % 30 == 0:
                enough.set()

    task = asyncio.create_task(commit_all())
    for kill in range(KILLS):
        enough.clear()
        async with asyncio.timeout(BOUND_S):
            await enough.wait()
        own_postgres.kill() if kill % 2 else own_postgres.stop("immediate")
        own_postgres.start()
    killed.set()
    async with asyncio.timeout(BOUND_S):
        await task
    assert await rows_of(database) == (committed, 1, committed)
    await database.close()


@pytest.fixture
async def standby(own_postgres: PostgresServer) -> AsyncIterator[PostgresStandby]:
    """One that must confirm every commit."""
    standby = PostgresStandby(own_postgres)
    standby.start()
    own_postgres.settings["synchronous_standby_names"] = "standby"
    own_postgres.restart()
    yield standby
    standby.close()


async def test_a_synchronous_standby_takes_over(
    own_postgres: PostgresServer, standby: PostgresStandby
) -> None:
    name = own_postgres.create_database()
    hosts = f"127.0.0.1:{own_postgres.port},127.0.0.1:{standby.port}"
    database = await open_database(f"postgresql://{ROLE}:{PASSWORD}@{hosts}/{name}")
    tenure = await database.begin(PARTITION, ALL)
    for offset in range(20):
        await database.commit(tenure, full_commit(offset))
    own_postgres.kill()
    with pytest.raises(StoreUnavailable):
        await database.commit(tenure, full_commit(20))
    standby.promote()
    await commit_until_it_works(database, tenure, full_commit(20))
    assert await rows_of(database) == (21, 1, 21)
    assert standby.psql("SELECT count(*) FROM mcparchive", database=name) == "21"
    await database.close()


async def test_an_asynchronous_standby_that_lost_commits_ends_the_tenure(
    own_postgres: PostgresServer,
) -> None:
    standby = PostgresStandby(own_postgres)
    try:
        standby.start()
        name = own_postgres.create_database()
        hosts = f"127.0.0.1:{own_postgres.port},127.0.0.1:{standby.port}"
        database = await open_database(f"postgresql://{ROLE}:{PASSWORD}@{hosts}/{name}")
        tenure = await database.begin(PARTITION, ALL)
        await database.commit(tenure, full_commit(0))
        position = own_postgres.psql("SELECT pg_current_wal_insert_lsn()")
        while standby.psql(f"SELECT pg_last_wal_replay_lsn() >= '{position}'") != "t":
            pass
        standby.stop()
        await database.commit(tenure, full_commit(1))
        own_postgres.kill()
        standby.start()
        standby.promote()
        with pytest.raises(StoreConflict, match="the server has lost"):
            await commit_until_it_works(database, tenure, full_commit(2))
        await database.close()
    finally:
        standby.close()


WAITS_FOR_STANDBY = "FROM pg_stat_activity WHERE wait_event = 'SyncRep'"


async def wait_for_standby(primary: PostgresServer) -> None:
    """Return once a commit waits for the standby."""
    async with asyncio.timeout(BOUND_S):
        count = f"SELECT count(*) {WAITS_FOR_STANDBY}"
        while await asyncio.to_thread(primary.psql, count) == "0":
            pass


async def test_what_the_standby_has_not_confirmed_is_not_committed(
    own_postgres: PostgresServer, standby: PostgresStandby
) -> None:
    """Somebody ends the server's wait for it: the server says that it has committed."""
    name = own_postgres.create_database()
    database = await open_database(own_postgres.url(name))
    tenure = await database.begin(PARTITION, ALL)
    await database.commit(tenure, full_commit(1))
    standby.freeze()
    task = asyncio.create_task(database.commit(tenure, full_commit(2)))
    await wait_for_standby(own_postgres)
    own_postgres.psql(f"SELECT pg_cancel_backend(pid) {WAITS_FOR_STANDBY}")
    with pytest.raises(StoreUnavailable, match="the synchronous standby has not confirmed"):
        await task
    task = asyncio.create_task(database.commit(tenure, full_commit(2)))
    await wait_for_standby(own_postgres)
    assert not task.done()
    standby.thaw()
    async with asyncio.timeout(BOUND_S):
        await task
    assert await rows_of(database) == (2, 1, 2)
    await database.commit(tenure, full_commit(3))
    await database.close()


async def test_a_full_server_is_unavailable_and_goes_on(
    database: PostgresDatabase, postgres_schema: str, tenure: Tenure
) -> None:
    """As by a disk: a trigger raises what the server raises for one."""
    await database.commit(tenure, full_commit(1))
    async with connected(postgres_schema) as connection:
        await connection.execute(
            "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100'; END $$"
        )
        await connection.execute(
            "CREATE TRIGGER full_disk BEFORE INSERT ON mcparchive "
            "FOR EACH ROW EXECUTE FUNCTION full_disk()"
        )
        for _ in range(3):
            with pytest.raises(StoreUnavailable, match="its disk is full"):
                await database.commit(tenure, full_commit(2))
        assert await rows_of(database) == (1, 1, 1)
        assert await database.message_store(RETAINED).count() == 1
        await connection.execute("DROP TRIGGER full_disk ON mcparchive")
    await database.commit(tenure, full_commit(2))
    history = await database.archive_store(ARCHIVE).history("plant/1")
    assert [record.offset for record in history] == [2, 1]
