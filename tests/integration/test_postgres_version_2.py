"""A PostgreSQL database of schema version 2, with rows of Kafka, brought to this release's."""

import pytest
from tests.support.postgres_database import connected, open_database
from tests.support.postgres_version_2 import BUS, SESSIONS, make_version_2

from monstermq_shared.messages import Will
from monstermq_shared.positions import Mark
from monstermq_shared.stores.changes import ClientChanges, Commit, InFlightState, LogState
from monstermq_shared.stores.postgres.database import PostgresDatabase
from monstermq_shared.stores.postgres.migrations import VERSION
from monstermq_shared.stores.queue_changes import OpenId, QueueChanges
from monstermq_shared.stores.queues import QUEUES_MARK, SESSIONS_MARK, QueueAsk
from monstermq_shared.testing.builders import (
    ARCHIVE,
    NOON_MS,
    PARTITION,
    RETAINED,
    make_record,
    make_session,
)
from monstermq_shared.testing.queues_contract import make_cut, queued
from monstermq_shared.testing.session_store_contract import load

pytestmark = pytest.mark.integration

RUN = "00112233445566ff"


async def open_version_2(url: str) -> PostgresDatabase:
    await make_version_2(url)
    return await open_database(url, exclusive=False)


async def test_rows_of_the_views_and_their_state_are_there(postgres_schema: str) -> None:
    database = await open_version_2(postgres_schema)
    assert await database.owner() == BUS.generation
    states = await database.log_states(BUS)
    assert states.keys() == {RETAINED, ARCHIVE}
    for state in states.values():
        assert state.mark == Mark(9, 9)
        assert (state.runs, state.skips) == ({RUN: [8, NOON_MS]}, ())
        assert state.fences == {"c": (3, NOON_MS)}
    retained = await database.message_store(RETAINED).find("#", after="", limit=10)
    assert [record.offset for record in retained] == [5, 6, 7, 8]
    assert len(await database.quarantined(limit=10)) == 1
    await database.close()


async def test_rows_of_the_sessions_log_are_there(postgres_schema: str) -> None:
    database = await open_version_2(postgres_schema)
    async with database.sessions.load(SESSIONS) as snapshot:
        (found,) = [session async for page in snapshot.pages() for session in page]
    row = make_session("here", will=Will(topic="w", payload=b"gone", qos=1, retain=True))
    row.clean, row.epoch, row.run, row.expiry_s = True, 4, RUN, 0
    assert found.row == row
    generation, number = SESSIONS
    kept = (await database.kept_rows(generation, {number: ["here"]}))[number]
    assert kept.mark == Mark(9, 9)
    assert (kept.rows["here"].epoch, kept.rows["here"].sent) == (4, None)
    await database.close()


async def test_queues_begin_beside_what_is_there(postgres_schema: str) -> None:
    database = await open_version_2(postgres_schema)
    await database.begin_marks("kafka:log", {BUS: {QUEUES_MARK: 9}})
    tenure = await database.begin(BUS, [QUEUES_MARK, RETAINED, ARCHIVE])
    changes = QueueChanges(
        queued=queued("away", records=[make_record(9)]),
        open_ids={("away", 5): OpenId(9, 2)},
        cuts={"away": make_cut(2, 8, "plant/#")},
    )
    log = LogState(log_id="kafka:log", last_id=f"{NOON_MS}:{RUN}:9", skips=(9,))
    await database.commit(tenure, Commit(upto=10, restart=9, queues=changes, log=log))
    (page,) = await database.queue_pages(
        BUS.generation, [QueueAsk("away", BUS.number, 0, 99, 10)], size_max=1_000
    )
    assert ([at.record.offset for at in page.rows], page.cut) == ([9], (2, 8))
    assert (await database.log_states(BUS))[QUEUES_MARK].skips == (9,)
    tenure = await database.begin(SESSIONS, [SESSIONS_MARK])
    opened = ClientChanges(opened={1: (3, 9), 2: (None, None)})
    await database.commit(tenure, Commit(upto=10, sessions={"here": opened}))
    generation, number = SESSIONS
    rows = (await database.kept_rows(generation, {number: ["here"]}))[number].rows
    assert rows["here"].in_flight == {1: (3, 9), 2: (None, None)}
    await database.close()


async def test_what_an_internal_log_has_left_is_there_once_it_is_given_back(
    postgres_schema: str,
) -> None:
    database = await open_version_2(postgres_schema)
    assert await database.adopt(None) == BUS.generation
    away = await load(database, "away")
    assert away is not None
    assert away.subscriptions == {"plant/#": 1}
    assert (away.open_ids, away.in_flight) == ({5: 8}, {7: (8, InFlightState.SENT)})
    page = await database.sessions.page(PARTITION, "away", after=-1, before=2**62, limit=10)
    assert [message.record.offset for message in page] == [8]
    await database.close()
    async with connected(postgres_schema) as connection:
        assert await connection.fetchval("SELECT schema_version FROM monstermq_meta") == VERSION
