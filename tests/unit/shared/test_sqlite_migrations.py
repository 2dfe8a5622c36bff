"""A file of schema version 1: it is brought to the current one, and all goes on."""

import asyncio
import logging
import shutil
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest
from tests.support import sqlite_migration_victim
from tests.support.sqlite_version_1 import BEGIN, make_version_1

from monstermq_shared.errors import StartupError, StoreDamaged, StoreError
from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.messages import Will
from monstermq_shared.positions import Mark
from monstermq_shared.records import Record, size_of
from monstermq_shared.stores.changes import (
    ClientChanges,
    Commit,
    InFlightState,
    Trim,
    Trimmed,
)
from monstermq_shared.stores.ports import Log
from monstermq_shared.stores.sqlite import SqliteDatabase, migrations
from monstermq_shared.stores.sqlite.backup import backup_file, restore_file
from monstermq_shared.stores.sqlite.recovery import recover_file
from monstermq_shared.testing.builders import (
    ARCHIVE,
    NOON_MS,
    PARTITION,
    RETAINED,
    commit_archive,
    commit_once,
    commit_sessions,
    make_queue,
    make_record,
)
from monstermq_shared.testing.database_contract import marks_of
from monstermq_shared.testing.session_store_contract import load, load_all, queued_offsets

LAST = "MCPLastval"
NEXT = 4 << 40
"""The first position of the next boot."""

PROJECTIONS = ["sessions", "retained", LAST, ARCHIVE]

SENT = [
    Record("plant/1", b"21.5", 1, False, "sensor", NOON_MS + 1, BEGIN + 1),
    Record("plant/1", b'{"value": 22}', 1, False, "sensor", NOON_MS + 123, BEGIN + 2),
    Record("plant/1", b"\xff\x00", 2, False, "sensor", NOON_MS + 123, BEGIN + 3),
    Record("plant/1", "warm \u00e4".encode(), 1, True, "sensor", NOON_MS + 123, BEGIN + 4),
    Record("plant/1", b"23.5", 2, True, "sensor", NOON_MS + 124, BEGIN + 6),
]
"""What the file has in the archive on this topic."""

EMPTY = Record("plant/2", b"", 1, False, "sensor", NOON_MS + 124, BEGIN + 5)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "monstermq.db"
    make_version_1(path)
    return path


async def open_all(path: Path) -> SqliteDatabase:
    return await SqliteDatabase.open(
        str(path), session_store=True, message_stores=[RETAINED, LAST], archive_stores=[ARCHIVE]
    )


def dump(path: Path) -> list[str]:
    """Return all there is in a file, as SQL."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return [*connection.iterdump(), str(version_of(path))]


def version_of(path: Path) -> int:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])


def content(path: Path) -> bytes:
    return path.read_bytes()


def log_size(path: Path) -> int:
    """Return the bytes of the write-ahead log."""
    return path.with_name(f"{path.name}-wal").stat().st_size


async def check_content(database: SqliteDatabase) -> None:
    """Check that what the file had in every table is there."""
    assert await database.log() == Log(PARTITION.generation, 3)
    marks = dict.fromkeys(PROJECTIONS, Mark(BEGIN + 7, BEGIN + 7))
    async with database.sessions.load(PARTITION) as snapshot:
        assert snapshot.marks == marks
    away, here, idle = await load_all(database)
    assert (away.row.client_id, away.row.connected, away.row.updated_ms, away.row.incarnation) == (
        "away",
        False,
        NOON_MS + 5,
        BEGIN,
    )
    assert away.subscriptions == {"plant/#": 1, "plant/+/x": 2, "it's": 0}
    assert away.in_flight == {
        7: (BEGIN + 3, InFlightState.SENT),
        8: (BEGIN + 2, InFlightState.RECEIVED),
    }
    assert (away.queued_messages, away.queued_size) == (4, sum(map(size_of, SENT[:4])))
    assert here.row.will == Will(topic="wills/here", payload=b"\x00gone", qos=1, retain=True)
    assert (here.open_ids, here.queued_messages, here.queued_size) == ({3: BEGIN + 6}, 1, 15)
    assert (idle.row.client_id, idle.queued_messages, idle.queued_size) == ("idle", 0, 0)
    page = await database.sessions.page(PARTITION, "away", after=0, before=NEXT, limit=9)
    assert [(at.record, at.qos) for at in page] == [(record, 1) for record in SENT[:4]]
    (waiting,) = await database.sessions.page(PARTITION, "here", after=0, before=NEXT, limit=9)
    assert (waiting.record, waiting.qos) == (SENT[2], 2)
    retained = await database.message_store(RETAINED).find("#", after="", limit=9)
    assert [at.topic for at in retained] == ["plant/1", "plant/1/old"]
    assert await database.message_store(LAST).find("#", after="", limit=9) == [SENT[4], EMPTY]
    assert await database.archive_store(ARCHIVE).history("plant/1", newest_first=False) == SENT
    assert await database.archive_store(ARCHIVE).history("plant/2") == [EMPTY]


async def test_every_store_of_an_old_file_reads_on(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for _ in range(2):
        database = await open_all(path)
        await check_content(database)
        await database.close()
    first, second = [record.getMessage() for record in caplog.records]
    assert "from schema version 1 to 2" in first
    assert "has schema version 2" in second
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


async def test_commits_go_on_in_an_old_file(path: Path) -> None:
    database = await open_all(path)
    await database.begin_boot(Log(PARTITION.generation, 4))
    tenure = await database.begin(PARTITION, PROJECTIONS)
    assert tenure.marks == dict.fromkeys(PROJECTIONS, Mark(BEGIN + 7, BEGIN + 7))
    records = [make_record(NEXT + n) for n in range(3)]
    away = ClientChanges(
        queued=make_queue([SENT[4], *records]),
        dequeued={BEGIN + 1: size_of(SENT[0]), BEGIN + 2: None},
        in_flight={7: None, 9: (BEGIN + 4, InFlightState.SENT)},
    )
    commit = Commit(
        upto=NEXT + 3,
        sessions={"away": away, "here": ClientChanges(ended=True)},
        messages={RETAINED: {"plant/1": records[2], "plant/1/old": None}},
        archives={ARCHIVE: [SENT[4], *records]},
    )
    await database.commit(tenure, commit)
    await database.close()
    database = await open_all(path)
    assert (await marks_of(database))[ARCHIVE] == NEXT + 3
    stored = await load(database, "away")
    assert stored is not None
    left = [*SENT[2:], *records]
    assert (stored.queued_messages, stored.queued_size) == (6, sum(map(size_of, left)))
    assert stored.in_flight[9] == (BEGIN + 4, InFlightState.SENT)
    assert await queued_offsets(database, "away") == [at.offset for at in left]
    assert await load(database, "here") is None
    history = await database.archive_store(ARCHIVE).history("plant/1", newest_first=False)
    assert sorted(at.offset for at in history) == [at.offset for at in [*SENT, *records]]
    assert await database.message_store(RETAINED).find("#", after="", limit=9) == [records[2]]
    result = await commit_sessions(
        database, NEXT + 4, away=ClientChanges(trim=Trim(BEGIN + 3, 2, 0))
    )
    assert result.trimmed["away"] == Trimmed(2, sum(map(size_of, SENT[3:])))
    assert await queued_offsets(database, "away") == [BEGIN + 3, *(at.offset for at in records)]
    await database.close()


async def test_times_of_six_digits_and_of_three_share_a_millisecond(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As text, ...123Z comes after ...123456Z; ranges and pages must know both."""
    database = await open_all(path)
    late = [
        make_record(NEXT + n, timestamp_ms=NOON_MS + ms)
        for n, ms in enumerate([122, 123, 123, 124])
    ]
    await commit_archive(database, *late)
    archive = database.archive_store(ARCHIVE)
    before, first, second, after = late
    at_123 = [*SENT[1:4], first, second]
    every = [SENT[0], before, *at_123, SENT[4], after]
    for rows_max in (1_024, 1, 2, 3):
        monkeypatch.setattr("monstermq_shared.stores.sqlite.rows.PAGE_ROWS_MAX", rows_max)
        assert await archive.history("plant/1", newest_first=False) == every
        assert await archive.history("plant/1") == every[::-1]
        for newest_first in (True, False):
            found = await archive.history(
                "plant/1",
                start_ms=NOON_MS + 123,
                end_ms=NOON_MS + 123,
                newest_first=newest_first,
            )
            assert found == (at_123[::-1] if newest_first else at_123)
        assert await archive.history("plant/1", start_ms=NOON_MS + 124) == [after, SENT[4]]
        found = await archive.history("plant/1", end_ms=NOON_MS + 122, newest_first=False)
        assert found == [SENT[0], before]
    assert await archive.oldest_ms() == NOON_MS + 1
    assert await archive.purge(before_ms=NOON_MS + 123, limit=9) == 2
    assert await archive.history("plant/1", newest_first=False) == every[2:]
    assert await archive.purge(before_ms=NOON_MS + 124, limit=9) == 5
    values = database.message_store(LAST)
    assert await values.purge(before_ms=NOON_MS + 124, limit=9) == 0
    assert await values.purge(before_ms=NOON_MS + 125, limit=9) == 2
    await database.close()


async def test_large_payloads_and_texts_of_an_old_file_are_found(path: Path) -> None:
    database = await open_all(path)
    large = make_record(NEXT, "t" * 2_000, b"x" * 10_000)
    await commit_archive(database, large)
    archive = database.archive_store(ARCHIVE)
    assert await archive.history(large.topic) == [large]
    await archive.purge_oldest(limit=99)
    await commit_archive(database, make_record(NEXT + 1, large.topic, b"y" * 10_000))
    (found,) = await archive.history(large.topic)
    assert found.payload == b"y" * 10_000
    await database.close()


async def test_an_old_file_has_room_for_the_internal_log_only(path: Path, tmp_path: Path) -> None:
    """Positions are the key there, so those of another log would be taken for repetitions."""
    database = await open_all(path)
    for partition in (PARTITION._replace(number=1), PARTITION._replace(generation="another log")):
        with pytest.raises(StoreError, match="monstermq db recover OLD NEW"):
            await database.begin(partition, ["sessions"])
    # Another internal log goes on above all there is: see ``KeepsLog``.
    await database.begin_boot(Log("another log", 9))
    await commit_once(
        database, Commit(upto=1), "sessions", partition=PARTITION._replace(generation="another log")
    )
    await database.close()
    recover_file(path, tmp_path / "new.db")
    database = await open_all(tmp_path / "new.db")
    await database.begin(PARTITION._replace(number=1), ["sessions"])
    await database.close()


async def test_large_tables_are_not_rewritten(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN")
        for number in range(20_000):
            connection.execute(
                "INSERT INTO mcparchive (topic, time, payload_blob, is_text, qos, retained,"
                " client_id, message_uuid, position) VALUES ('a', '2026-01-15T12:00:01.000000Z',"
                " zeroblob(100), 0, 0, 0, 'c', 'u', ?)",
                (BEGIN + 1_000 + number,),
            )
        connection.execute("COMMIT")
    size = len(content(path))
    database = await open_all(path)
    assert log_size(path) < size / 20
    await database.close()


@pytest.mark.parametrize("tables", ["archive", "sessions"])
async def test_a_file_with_some_of_the_stores_is_migrated(path: Path, tables: str) -> None:
    """Where another database has the rest."""
    mine = {"archive": ("mcparchive",), "sessions": ("sessions", "subscriptions", "queuedmessages")}
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        found = "SELECT name FROM sqlite_schema WHERE type = 'table'"
        for (name,) in connection.execute(found).fetchall():
            keep = ("monstermq_meta", "watermarks", *mine[tables])
            if name not in keep and not (tables == "sessions" and name in _QUEUE):
                connection.execute(f"DROP TABLE {name}")
    database = await SqliteDatabase.open(
        str(path),
        session_store=tables == "sessions",
        message_stores=[],
        archive_stores=[ARCHIVE] if tables == "archive" else [],
    )
    marks = (await database.begin(PARTITION, ["sessions"])).marks
    if tables == "archive":
        assert await database.archive_store(ARCHIVE).history("plant/1") == SENT[::-1]
        assert marks == {}
    else:
        assert [at.queued_messages for at in await load_all(database)] == [4, 1, 0]
        assert marks == {"sessions": Mark(BEGIN + 7, BEGIN + 7)}
    await database.close()


_QUEUE = ("queuedmessagesclients", "open_ids", "inflight")


async def test_a_migration_that_fails_leaves_the_file_as_it_was(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = dump(path)
    queries = {**migrations._QUERIES, "v2_rename_watermarks": "ALTER TABLE missing RENAME TO x"}
    with monkeypatch.context() as patch:
        patch.setattr(migrations, "_QUERIES", queries)
        with pytest.raises(StoreDamaged):
            await open_all(path)
    assert dump(path) == before
    database = await open_all(path)
    await check_content(database)
    await database.close()


async def test_a_migration_that_is_killed_leaves_the_file_as_it_was(path: Path) -> None:
    before = dump(path)
    script = Path(sqlite_migration_victim.__file__)
    killed = await asyncio.create_subprocess_exec(sys.executable, script, path)
    assert await killed.wait() == 9
    assert dump(path) == before
    database = await open_all(path)
    await check_content(database)
    await database.close()


async def test_a_migration_without_room_is_refused_with_the_figure(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = content(path)
    usage = shutil.disk_usage("/")._replace(free=1_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(
        StartupError, match=r"needs 10\d{5} bytes.*1000000 are free; free \d+"
    ) as at:
        await open_all(path)
    assert at.value.exit_code == ExitCode.STORE_FULL
    assert content(path) == before


async def test_an_old_file_is_backed_up_as_it_is_and_an_old_backup_restored(
    path: Path, tmp_path: Path
) -> None:
    backup, restored = tmp_path / "backup.db", tmp_path / "restored.db"
    before = dump(path)
    backup_file(path, backup)
    assert version_of(path) == version_of(backup) == 1
    assert dump(path) == before
    await (await open_all(path)).close()
    restore_file(backup, restored)
    assert version_of(restored) == 1
    for file in (path, restored):
        database = await open_all(file)
        await check_content(database)
        await database.close()


async def test_an_old_file_is_recovered_into_one_of_the_current_schema(
    path: Path, tmp_path: Path
) -> None:
    before = content(path)
    recovered = recover_file(path, tmp_path / "new.db")
    assert recovered.complete
    assert {table.name: table.rows for table in recovered.tables} == {
        "mcplastval": 2,
        "retainedmessages": 2,
        "mcparchive": 6,
        "sessions": 3,
        "queuedmessages": 4,
        "subscriptions": 4,
        "queuedmessagesclients": 5,
        "open_ids": 1,
        "inflight": 2,
    }
    assert content(path) == before
    assert version_of(tmp_path / "new.db") == 2
    database = await open_all(tmp_path / "new.db")
    await check_content(database)
    await database.close()
