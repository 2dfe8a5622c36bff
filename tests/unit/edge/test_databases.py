"""Which log goes on at a start, whatever each database remembers."""

import logging

import pytest

from monstermq_edge.engines.local.databases import Databases
from monstermq_shared.config import StoreType
from monstermq_shared.stores.memory import MemoryDatabase
from monstermq_shared.stores.ports import Log
from monstermq_shared.stores.sqlite import SqliteDatabase

SESSIONS, OTHER = StoreType.SQLITE, StoreType.POSTGRES


async def database_of(log: Log | None) -> SqliteDatabase:
    """Return a database that has seen this log last."""
    database = await SqliteDatabase.open(
        ":memory:", session_store=True, message_stores=[], archive_stores=[]
    )
    if log is not None:
        await database.begin_boot(log)
    return database


async def begin(sessions: Log | None, other: Log | None) -> tuple[Log, list[Log | None]]:
    """Return the log of a run, and what the databases remember of it."""
    by_type = {SESSIONS: await database_of(sessions), OTHER: await database_of(other)}
    databases = Databases(SESSIONS, by_type)
    await databases.begin_boot()
    remembered = [await database.log() for database in by_type.values()]
    await databases.close()
    return databases.log, remembered


@pytest.mark.parametrize(
    ("sessions", "other", "goes_on"),
    [
        (Log("A", 3), Log("A", 3), Log("A", 4)),
        (Log("A", 3), Log("A", 7), Log("A", 8)),
        (Log("A", 7), Log("A", 3), Log("A", 8)),
        (Log("A", 3), None, Log("A", 4)),
        (None, Log("A", 3), Log("A", 4)),
        (Log("A", 3), Log("B", 9), Log("A", 4)),
    ],
)
async def test_the_session_stores_log_goes_on_above_all_that_is_known_of_it(
    sessions: Log | None, other: Log | None, goes_on: Log
) -> None:
    log, remembered = await begin(sessions, other)
    assert log == goes_on
    assert remembered == [goes_on, goes_on]


async def test_where_all_is_new_a_log_of_its_own_begins() -> None:
    first, remembered = await begin(None, None)
    second, _ = await begin(None, None)
    assert first.boot == second.boot == 1
    assert first.generation != second.generation
    assert remembered == [first, first]


@pytest.mark.parametrize(("other", "lines"), [(Log("A", 1), 0), (None, 0), (Log("B", 1), 1)])
async def test_rows_of_another_log_are_told(
    other: Log | None, lines: int, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        await begin(Log("A", 1), other)
    told = [text for text in caplog.messages if "the rows in POSTGRES are of another log" in text]
    assert len(told) == lines


async def test_a_database_that_keeps_no_log_is_passed_over() -> None:
    databases = Databases(
        SESSIONS, {SESSIONS: await database_of(Log("A", 3)), OTHER: MemoryDatabase()}
    )
    await databases.begin_boot()
    assert databases.log == Log("A", 4)
    await databases.close()
