"""The disk does not become full as long as there is history that can give way."""

import asyncio
import logging
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from monstermq_edge.engines.local.disk_reserve import DiskReserve
from monstermq_shared.clock import SystemClock
from monstermq_shared.counters import Counters
from monstermq_shared.records import Record
from monstermq_shared.stores.changes import Commit
from monstermq_shared.stores.sqlite import SqliteDatabase
from monstermq_shared.testing.builders import NOON_MS, commit_once, make_record

MIB = 1024 * 1024
ARCHIVES = ("aArchive", "bArchive")
DEADLINE_S = 60.0


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[SqliteDatabase]:
    database = await SqliteDatabase.open(
        str(tmp_path / "x.db"), session_store=False, message_stores=[], archive_stores=ARCHIVES
    )
    yield database
    await database.close()


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return what is free on the disk, as one number that a test changes."""
    free = [10 * MIB]
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=free[0]))
    return free


def reserve_of(database: SqliteDatabase, counters: Counters) -> DiskReserve:
    archives = [database.archive_store(name) for name in ARCHIVES]
    return DiskReserve(database, archives, counters, SystemClock(), 10 * MIB)


async def fill(database: SqliteDatabase, name: str, *records: Record) -> None:
    await commit_once(database, Commit(upto=1, archives={name: records}), name)


async def kept(database: SqliteDatabase, name: str) -> list[int]:
    history = await database.archive_store(name).history("plant/1", limit=99_999)
    return sorted(record.timestamp_ms - NOON_MS for record in history)


async def keep(reserve: DiskReserve) -> str | None:
    async with asyncio.timeout(DEADLINE_S):
        return await reserve.keep()


async def test_the_oldest_of_all_groups_goes_until_the_reserve_is_free(
    database: SqliteDatabase, disk: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    counters = Counters()
    old = [make_record(i, payload=bytes(3_000)) for i in range(4_000)]
    new = [make_record(i, payload=bytes(3_000)) for i in range(4_000, 8_000)]
    await fill(database, "bArchive", *old)
    await fill(database, "aArchive", *new)
    disk[0] -= 3 * MIB
    with caplog.at_level(logging.WARNING):
        assert await keep(reserve_of(database, counters)) is None
    assert counters.rows_purged == 2_000
    assert await kept(database, "bArchive") == [*range(2_000, 4_000)]
    assert len(await kept(database, "aArchive")) == 4_000
    assert ["MinFreeMb" in record.getMessage() for record in caplog.records] == [True]
    disk[0] -= 8 * MIB
    assert await keep(reserve_of(database, counters)) is None
    assert await kept(database, "bArchive") == []
    assert await kept(database, "aArchive") != []


async def test_a_disk_with_room_keeps_everything(database: SqliteDatabase, disk: list[int]) -> None:
    assert disk == [10 * MIB]
    counters = Counters()
    await fill(database, "aArchive", make_record(1))
    assert await keep(reserve_of(database, counters)) is None
    assert await kept(database, "aArchive") == [1]
    assert counters.rows_purged == 0


async def test_a_disk_that_others_have_filled_is_told(
    database: SqliteDatabase, disk: list[int]
) -> None:
    await fill(database, "aArchive", make_record(1))
    disk[0] = MIB
    reserve = reserve_of(database, Counters())
    reason = await keep(reserve)
    assert reason is not None
    assert "no history is left to delete" in reason
    disk[0] = 11 * MIB
    assert await keep(reserve) is None


async def test_memory_has_no_disk() -> None:
    database = await SqliteDatabase.open(
        ":memory:", session_store=False, message_stores=[], archive_stores=ARCHIVES
    )
    await fill(database, "aArchive", make_record(1))
    assert await keep(reserve_of(database, Counters())) is None
    await database.close()
