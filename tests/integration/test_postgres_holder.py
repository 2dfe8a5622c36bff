"""One broker for one PostgreSQL database, and the next one after it has died."""

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
from tests.support.postgres_database import connected, open_database, port_of, through
from tests.support.proxy import Proxy

from monstermq_shared.errors import StartupError, StoreConflict, StoreUnavailable
from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.positions import Partition
from monstermq_shared.stores.changes import ClientChanges, Commit
from monstermq_shared.stores.ports import Log
from monstermq_shared.stores.postgres import database as database_module
from monstermq_shared.stores.postgres import holder, writer
from monstermq_shared.testing.builders import (
    ARCHIVE,
    PARTITION,
    commit_archive,
    commit_once,
    make_record,
    make_session,
)
from monstermq_shared.testing.database_contract import commit_until_it_works, full_commit

pytestmark = pytest.mark.integration

BOUND_S = 30.0

LOCKS = """
SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE locktype = 'advisory' AND granted AND datname = current_database()
"""


@pytest.fixture
async def proxy(postgres_schema: str) -> AsyncIterator[Proxy]:
    async with Proxy(port_of(postgres_schema)) as proxy:
        yield proxy


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Brokers that speak up often, and are held for dead soon."""
    monkeypatch.setattr(database_module, "PING_S", 0.2)
    monkeypatch.setattr(holder, "SILENCE_S", 2.0)
    monkeypatch.setattr(holder, "LOOK_S", 0.1)


@pytest.mark.usefixtures("hasty")
async def test_a_second_broker_is_told_who_was_first(postgres_schema: str) -> None:
    first = await open_database(postgres_schema)
    with pytest.raises(StartupError) as refused:
        await open_database(postgres_schema)
    assert refused.value.exit_code == ExitCode.STORE_IN_USE
    message = str(refused.value)
    assert f"process id {os.getpid()} on host {socket.gethostname()} (since 20" in message
    assert "currentSchema" in message
    await commit_archive(first, make_record(1))
    await first.close()
    await (await open_database(postgres_schema)).close()


async def test_brokers_in_schemas_of_their_own_do_not_meet(postgres_schema: str) -> None:
    async with connected(postgres_schema) as connection:
        await connection.execute('CREATE SCHEMA IF NOT EXISTS "Another broker"')
    address = postgres_schema.rpartition("=")[0]
    first = await open_database(postgres_schema)
    second = await open_database(f'{address}="Another broker"')
    assert await second.size() > 0
    await commit_archive(first, make_record(1))
    await commit_archive(second, make_record(1))
    await first.close()
    await second.close()


async def test_whoever_opens_it_next_knows_how_it_ended(postgres_schema: str) -> None:
    first = await open_database(postgres_schema)
    assert (await first.summary()).ended_cleanly is True
    await first.close()
    second = await open_database(postgres_schema)
    assert (await second.summary()).ended_cleanly is True
    async with connected(postgres_schema) as connection:
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
    await second.close()
    third = await open_database(postgres_schema)
    summary = await third.summary()
    assert (summary.ended_cleanly, summary.sessions) == (False, 0)
    assert summary.place in postgres_schema
    await third.close()


async def test_a_projector_is_no_broker(postgres_schema: str) -> None:
    broker = await open_database(postgres_schema)
    projector = await open_database(postgres_schema, exclusive=False)
    assert (await projector.summary()).ended_cleanly is None
    await commit_archive(broker, make_record(1))
    await commit_archive(projector, make_record(2))
    await projector.close()
    await commit_archive(broker, make_record(3))
    await broker.close()


@pytest.mark.usefixtures("hasty")
async def test_a_broker_that_has_vanished_is_replaced(
    postgres_schema: str, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    """Its session stays on the server, as after a power loss, and it may be there after all."""
    first = await open_database(through(proxy.port, postgres_schema))
    tenure = await first.begin(PARTITION, [ARCHIVE])
    await first.commit(tenure, Commit(upto=2, archives={ARCHIVE: [make_record(1)]}))
    proxy.stall()
    with caplog.at_level(logging.INFO):
        async with asyncio.timeout(BOUND_S):
            second = await open_database(postgres_schema)
    assert "looking whether it lives" in caplog.text
    assert "has been silent for more than 2 s; its session is ended" in caplog.text
    await commit_archive(second, make_record(2))
    proxy.resume()
    commit = Commit(upto=9, archives={ARCHIVE: [make_record(3)]})
    with pytest.raises(StoreConflict, match=f"process id {os.getpid()}"):
        await commit_until_it_works(first, tenure, commit)
    history = await second.archive_store(ARCHIVE).history("plant/1", newest_first=False)
    assert [record.offset for record in history] == [1, 2]
    await first.close()
    await second.close()


@pytest.mark.usefixtures("hasty")
async def test_a_silent_stranger_does_not_keep_a_broker_out_for_ever(postgres_schema: str) -> None:
    """Somebody has the lock and writes no row about himself."""
    await (await open_database(postgres_schema)).close()
    async with connected(postgres_schema) as connection:
        await connection.execute(
            "SELECT pg_advisory_lock(hashtextextended('monstermq ' || current_schema(), 0))"
        )
        async with asyncio.timeout(BOUND_S):
            await (await open_database(postgres_schema)).close()


@pytest.mark.usefixtures("hasty")
async def test_nobody_can_tell_whether_a_broker_lives_for_which_the_server_works(
    postgres_schema: str,
) -> None:
    """It may have been killed in a long statement: the next one is to try again, and not to end."""
    await (await open_database(postgres_schema)).close()
    async with connected(postgres_schema) as connection:
        await connection.execute(
            "SELECT pg_advisory_lock(hashtextextended('monstermq ' || current_schema(), 0))"
        )
        working = asyncio.create_task(connection.execute("SELECT pg_sleep(60)"))
        with pytest.raises(StartupError, match="or is dead") as refused:
            await open_database(postgres_schema)
        assert refused.value.exit_code == ExitCode.STORE_UNREACHABLE
        working.cancel()
        with suppress(asyncio.CancelledError):
            await working


async def test_a_connection_that_the_server_still_holds_for_ours_is_ended(
    postgres_schema: str,
) -> None:
    """We have lost it, and the server has not noticed: it holds our lock, and locks on rows."""
    database = await open_database(postgres_schema)
    tenure = await database.begin(PARTITION, ["sessions"])
    async with database._writers[0].connection() as lost:
        await lost.execute("BEGIN")
        await lost.execute("UPDATE watermarks SET version = version + 1")
        database._writers[0]._connection = None
    async with asyncio.timeout(BOUND_S):
        await database.commit(tenure, full_commit(1))
    assert lost.is_closed()
    await database.close()


async def test_the_lock_is_taken_again_without_a_commit(postgres_schema: str, proxy: Proxy) -> None:
    """By the ping, so that nobody slips in after the server was restarted."""
    database = await open_database(through(proxy.port, postgres_schema))
    async with connected(postgres_schema) as connection:
        assert await connection.fetchval(LOCKS) == 1
        proxy.cut()
        with suppress(StoreUnavailable):  # it may not know yet
            await database._writers[0].ping()
        await database._writers[0].ping()
        assert await connection.fetchval(LOCKS) == 1
    await database.close()


async def test_the_log_is_remembered(postgres_schema: str) -> None:
    database = await open_database(postgres_schema)
    assert await database.log() is None
    await database.begin_boot(Log("one", 7))
    await commit_once(database, Commit(upto=1), "sessions", partition=Partition("one", 0))
    assert await database.log() == Log("one", 7)
    await database.close()
    database = await open_database(postgres_schema)
    assert await database.log() == Log("one", 7)
    await database.begin_boot(Log("two", 1))
    assert await database.log() == Log("two", 1)
    await database.close()


async def test_sessions_go_on_with_the_next_log(postgres_schema: str) -> None:
    """A database keeps its sessions when it goes on with the log of another one."""
    database = await open_database(postgres_schema)
    kept = ClientChanges(session=make_session("a"), subscriptions={"x/#": 1})
    claimed = make_session("claimed")
    claimed.epoch = 7
    await database.begin_boot(Log("one", 7))
    changes = {"a": kept, "claimed": ClientChanges(session=claimed)}
    place = Partition("one", 0)
    await commit_once(database, Commit(upto=1, sessions=changes), "sessions", partition=place)
    await database.begin_boot(Log("two", 1))
    async with database.sessions.load(Partition("two", 0)) as snapshot:
        (stored,) = [session async for page in snapshot.pages() for session in page]
    assert (stored.row.client_id, stored.subscriptions) == ("a", {"x/#": 1})
    await database.close()


async def test_a_closed_database_says_so(postgres_schema: str) -> None:
    database = await open_database(postgres_schema)
    tenure = await database.begin(PARTITION, [ARCHIVE])
    await database.close()
    await database.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        await database.commit(tenure, Commit(upto=1))
    with pytest.raises(StoreUnavailable, match="closed"):
        await database.archive_store(ARCHIVE).history("plant/1")


async def test_a_server_that_says_nothing_does_not_delay_the_end(
    postgres_schema: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "CLOSE_S", 0.2)
    database = await open_database(through(proxy.port, postgres_schema))
    await database.archive_store(ARCHIVE).history("plant/1")
    proxy.stall()
    reading = asyncio.create_task(database.archive_store(ARCHIVE).history("plant/1"))
    await asyncio.sleep(0)  # it has been sent
    async with asyncio.timeout(BOUND_S):
        await database.close()
        with pytest.raises(StoreUnavailable):
            await reading
