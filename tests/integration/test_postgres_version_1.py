"""A PostgreSQL database of schema version 1, with rows, brought to this release's."""

import asyncio

import pytest
from tests.support.postgres_database import connected, open_database
from tests.support.postgres_version_1 import BEGIN, make_version_1

from monstermq_shared.errors import StartupError
from monstermq_shared.messages import Will
from monstermq_shared.positions import Mark
from monstermq_shared.stores.changes import ClientChanges, Commit, InFlightState, LogState
from monstermq_shared.stores.ports import Log
from monstermq_shared.stores.postgres.migrations import VERSION
from monstermq_shared.testing.builders import (
    ARCHIVE,
    PARTITION,
    RETAINED,
    commit_once,
    make_session,
)
from monstermq_shared.testing.database_contract import full_commit, marks_of
from monstermq_shared.testing.session_store_contract import load, load_all, queued_offsets

pytestmark = pytest.mark.integration

ALL = ["sessions", RETAINED, ARCHIVE]


async def test_every_row_is_there(postgres_schema: str) -> None:
    await make_version_1(postgres_schema)
    database = await open_database(postgres_schema)
    away = await load(database, "away")
    assert away is not None
    assert away.row == make_session(
        "away",
        incarnation=BEGIN,
        connected=False,
        will=Will(topic="w", payload=b"gone", qos=1, retain=True),
    )
    assert away.subscriptions == {"plant/#": 1, "a/+/b": 2}
    assert away.open_ids == {5: BEGIN + 1}
    assert away.in_flight == {
        7: (BEGIN + 2, InFlightState.SENT),
        8: (BEGIN + 1, InFlightState.RECEIVED),
    }
    assert (away.queued_messages, away.queued_size) == (4, 78)
    assert len(await load_all(database)) == 2
    assert await queued_offsets(database, "away") == [BEGIN + n for n in range(4)]
    retained = await database.message_store(RETAINED).find("#", after="", limit=10)
    assert [record.offset for record in retained] == [BEGIN + 2, BEGIN + 3]
    history = await database.archive_store(ARCHIVE).history("plant/0", newest_first=False)
    assert [record.payload for record in history] == [b"23.5", b"\xff\x00"]
    assert await database.log() == Log(PARTITION.generation, 3)
    assert await marks_of(database) == dict.fromkeys(ALL, BEGIN + 4)
    await database.close()


async def test_its_tenures_go_on_and_keep_the_state_of_a_log(postgres_schema: str) -> None:
    await make_version_1(postgres_schema)
    database = await open_database(postgres_schema)
    tenure = await database.begin(PARTITION, ALL)
    assert tenure.marks == dict.fromkeys(ALL, Mark(BEGIN + 4, BEGIN + 4))
    before = await database.log_states(PARTITION)
    assert {state.log_id for state in before.values()} == {None}
    log = LogState(log_id="log", last_id="1:aa:1", runs={"aa": [1, 2]}, fences={"c": (3, 4)})
    await database.commit(tenure, full_commit(BEGIN + 4))
    await database.commit(tenure, Commit(upto=BEGIN + 9, log=log))
    states = await database.log_states(PARTITION)
    assert {state.last_id for state in states.values()} == {"1:aa:1"}
    changes = {"here": ClientChanges(session=make_session("here", connected=False))}
    await commit_once(database, Commit(upto=BEGIN + 10, sessions=changes), "sessions")
    assert len(await load_all(database)) == 3
    await database.close()


async def test_the_sessions_of_its_newest_log_are_the_ones_that_are_loaded(
    postgres_schema: str,
) -> None:
    await make_version_1(postgres_schema)
    async with connected(postgres_schema) as connection:
        await connection.execute(
            "UPDATE generations SET number = 2; INSERT INTO generations VALUES (1, 'old')"
        )
    database = await open_database(postgres_schema)
    assert len(await load_all(database)) == 2
    await database.close()


async def test_the_migration_is_made_once_by_processes_that_start_together(
    postgres_schema: str,
) -> None:
    await make_version_1(postgres_schema)
    opened = [open_database(postgres_schema, exclusive=False) for _ in range(4)]
    for database in await asyncio.gather(*opened):
        assert len(await load_all(database)) == 2
        await database.close()
    async with connected(postgres_schema) as connection:
        version = await connection.fetchval("SELECT schema_version FROM monstermq_meta")
    assert version == VERSION


async def test_it_belongs_to_its_internal_log(postgres_schema: str) -> None:
    await make_version_1(postgres_schema)
    database = await open_database(postgres_schema, exclusive=False)
    with pytest.raises(StartupError, match=f"log {PARTITION.generation}.*monstermq db adopt"):
        await database.belong_to("kafka:a:b")
    assert await database.adopt("kafka:a:b") == PARTITION.generation
    await database.belong_to("kafka:a:b")
    with pytest.raises(StartupError, match=r"kafka:a:b, and this start is on the internal bus"):
        await database.log()
    await database.close()
