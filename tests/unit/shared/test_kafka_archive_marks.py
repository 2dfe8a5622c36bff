"""Marks of archives in Kafka, in a database of their own that may be away."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.two_databases import AwayDatabase

from monstermq_shared.errors import StoreConflict, StoreUnavailable
from monstermq_shared.positions import Partition
from monstermq_shared.stores.changes import Commit, Tenure
from monstermq_shared.stores.kafka import marks as marks_module
from monstermq_shared.stores.kafka.marks import Marks

PARTITION = Partition("generation", 0)
NAME = "sensorsArchive"
BOUND_S = 30.0


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(marks_module, "INTERVAL_S", 0.001)


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[AwayDatabase]:
    database = await AwayDatabase.open(
        str(tmp_path / "marks.db"), session_store=True, message_stores=(), archive_stores=()
    )
    assert isinstance(database, AwayDatabase)
    yield database
    await database.close()


async def begin(database: AwayDatabase) -> Tenure:
    return await database.begin(PARTITION, [NAME])


async def mark_of(database: AwayDatabase) -> int:
    """Return where the mark stands; it ends the tenure."""
    found = (await begin(database)).marks.get(NAME)
    return 0 if found is None else found.reflected


async def until_moved(marks: Marks) -> None:
    assert marks._task is not None
    async with asyncio.timeout(BOUND_S):
        await marks._task


async def test_they_follow_by_themselves(database: AwayDatabase) -> None:
    marks = Marks(database, await begin(database))
    for upto in range(1, 100):
        marks.later(upto)
    await until_moved(marks)
    await marks.close()
    assert await mark_of(database) == 99


async def test_the_end_does_not_wait_for_its_time(
    database: AwayDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(marks_module, "INTERVAL_S", 3600.0)
    marks = Marks(database, await begin(database))
    marks.later(7)
    await marks.close()
    assert await mark_of(database) == 7


async def test_a_database_that_is_away_keeps_nobody_waiting(database: AwayDatabase) -> None:
    marks = Marks(database, await begin(database))
    database.away = True
    marks.later(1)
    async with asyncio.timeout(BOUND_S):
        await database.refused.wait()
    marks.later(2)
    database.away = False
    await until_moved(marks)
    assert await mark_of(database) == 2


async def test_a_commit_of_unknown_outcome_is_repeated_before_the_next_one(
    database: AwayDatabase,
) -> None:
    marks = Marks(database, await begin(database))
    database.away = True
    marks.later(1)
    async with asyncio.timeout(BOUND_S):
        await database.refused.wait()
    with pytest.raises(StoreUnavailable):
        await marks.commit(Commit(upto=5))
    database.away = False
    await marks.commit(Commit(upto=5))
    await marks.close()
    assert await mark_of(database) == 5


async def test_a_tenure_that_is_over_is_told_at_the_next_call(database: AwayDatabase) -> None:
    marks = Marks(database, await begin(database))
    await begin(database)
    marks.later(1)
    await until_moved(marks)
    with pytest.raises(StoreConflict):
        marks.later(2)
    with pytest.raises(StoreConflict):
        await marks.commit(Commit(upto=2))
    await marks.close()


async def test_only_a_tenure_of_the_same_projections_takes_them(database: AwayDatabase) -> None:
    marks = Marks(database, await begin(database))
    assert marks.are_taken_by(await begin(database))
    assert not marks.are_taken_by(await database.begin(PARTITION, ["another"]))
    other = Partition("another generation", 0)
    assert not marks.are_taken_by(await database.begin(other, [NAME]))
