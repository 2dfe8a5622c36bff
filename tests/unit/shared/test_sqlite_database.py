"""SQLite beyond the contract: what the file looks like, and what survives when things go wrong."""

import asyncio
import shutil
import sqlite3
import sys
import threading
from pathlib import Path

import pytest
from tests.support import sqlite_victim
from tests.support.sqlite_database import commit_full, open_database

from monstermq_shared.errors import (
    ConfigError,
    StartupError,
    StoreDamaged,
    StoreError,
    StoreUnavailable,
)
from monstermq_shared.stores.changes import ClientChanges, Commit, InFlightState
from monstermq_shared.stores.sqlite import SqliteDatabase
from monstermq_shared.testing.builders import (
    ARCHIVE,
    NOON_MS,
    PARTITION,
    commit_archive,
    commit_messages,
    commit_once,
    commit_sessions,
    make_queue,
    make_record,
    make_session,
)
from monstermq_shared.testing.database_contract import ALL, full_commit, marks_of, rows_of
from monstermq_shared.testing.session_store_contract import load_all


def query(path: Path, sql: str) -> list[tuple[object, ...]]:
    """Ask as the ``sqlite3`` command would."""
    connection = sqlite3.connect(path)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def run_on_writer(database: SqliteDatabase, sql: str) -> None:
    await database._writer.submit(lambda connection: connection.execute(sql).fetchall())


async def test_the_originals_columns_are_there(database: SqliteDatabase, path: Path) -> None:
    del database
    stores = "topic time payload_blob payload_json qos retained client_id message_uuid"
    levels = " ".join(f"topic_{level}" for level in range(1, 10))
    will = " ".join(f"last_will_{part}" for part in ("topic", "message", "qos", "retain"))
    originals = {
        "sessions": f"client_id node_id clean_session connected update_time information {will}",
        "subscriptions": "client_id topic qos wildcard",
        "queuedmessages": "message_uuid message_id topic payload qos retained client_id",
        # Its message_uuid is replaced by the position, which is the key.
        "queuedmessagesclients": "client_id",
        "retainedmessages": f"{stores} {levels} topic_r topic_l",
        "mcparchive": stores,
    }
    for table, columns in originals.items():
        ours = {name for _, name, *_ in query(path, f"PRAGMA table_xinfo({table})")}
        assert set(columns.split()) - ours == set()


async def test_the_originals_columns_show_the_levels(database: SqliteDatabase, path: Path) -> None:
    topics = ["one", 'q"\\/x', "a//c", "1/2/3/4/5/6/7/8/9/ten/eleven"]
    await commit_messages(database, *(make_record(i, at) for i, at in enumerate(topics)))
    columns = "topic_1, topic_2, topic_3, topic_9, topic_r, topic_l"
    rows = query(path, f"SELECT {columns} FROM retainedmessages ORDER BY position")
    assert rows == [
        ("one", "", "", "", "[]", "one"),
        ('q"\\', "x", "", "", "[]", "x"),
        ("a", "", "c", "", "[]", "c"),
        ("1", "2", "3", "9", '["ten","eleven"]', "eleven"),
    ]


async def test_payloads_show_as_text_and_json_where_they_are(
    database: SqliteDatabase, path: Path
) -> None:
    payloads = [b"23.5", b"warm", b"", b"\xff", b'"\x00"', '{"\u00e4":1}'.encode()]
    await commit_archive(database, *(make_record(i, payload=at) for i, at in enumerate(payloads)))
    rows = query(path, "SELECT payload_blob, payload, payload_json FROM mcparchive")
    assert rows == [
        (b"23.5", "23.5", "23.5"),
        (b"warm", "warm", None),
        (b"", "", None),
        (b"\xff", None, None),
        (b'"\x00"', None, None),
        ('{"\u00e4":1}'.encode(), '{"\u00e4":1}', '{"\u00e4":1}'),
    ]
    average = "SELECT avg(CAST(payload AS REAL)) FROM mcparchive WHERE position = 0"
    assert query(path, average) == [(23.5,)]


async def test_time_is_text_that_sorts(database: SqliteDatabase, path: Path) -> None:
    await commit_archive(database, make_record(1, timestamp_ms=NOON_MS + 5))
    assert query(path, "SELECT time FROM mcparchive") == [("2026-01-15T12:00:00.005Z",)]


async def test_history_is_read_through_an_index(database: SqliteDatabase, path: Path) -> None:
    del database
    sql = "SELECT 1 FROM mcparchive WHERE topic = 'a' AND time > '2026' ORDER BY time DESC"
    ((*_, plan),) = query(path, f"EXPLAIN QUERY PLAN {sql}")
    assert "mcparchive_topic_time_idx (topic=? AND time>?)" in str(plan)


async def test_two_commits_at_once_are_a_mistake(database: SqliteDatabase) -> None:
    tenure = await database.begin(PARTITION, ALL)
    first = asyncio.ensure_future(database.commit(tenure, full_commit(1)))
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="one commit at a time"):
        await database.commit(tenure, full_commit(2))
    await first
    await database.commit(tenure, full_commit(3))


async def test_a_full_disk_refuses_the_commit_and_nothing_else(database: SqliteDatabase) -> None:
    tenure = await database.begin(PARTITION, ALL)
    await database.commit(tenure, full_commit(1))
    await run_on_writer(database, "PRAGMA max_page_count = 1")  # that is: as large as it is now
    large = full_commit(2)
    large.archives = {ARCHIVE: [make_record(i, payload=b"x" * 100_000) for i in range(2, 50)]}
    for _ in range(3):
        with pytest.raises(StoreUnavailable, match="full"):
            await database.commit(tenure, large)
        assert await rows_of(database) == (1, 1, 1)
        assert (await marks_of(database))["sessions"] == 2
    await run_on_writer(database, "PRAGMA max_page_count = 1000000")
    await database.commit(tenure, large)
    assert await rows_of(database) == (2, 1, 49)
    assert (await marks_of(database))["sessions"] == 3


async def test_a_lock_held_by_another_program_is_worth_repeating(
    database: SqliteDatabase, path: Path
) -> None:
    await run_on_writer(database, "PRAGMA busy_timeout = 0")
    shell = sqlite3.connect(path, isolation_level=None)
    shell.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="lock"):
        await commit_full(database, 1)
    shell.close()
    await commit_full(database, 1)
    assert await rows_of(database) == (1, 1, 1)


async def test_a_backup_is_the_whole_database_as_it_was(
    database: SqliteDatabase, tmp_path: Path
) -> None:
    await commit_full(database, 1)
    copy = tmp_path / "copies of today.db"
    await database.backup(copy)  # an older one, which is replaced

    async def go_on() -> None:
        for offset in range(2, 30):
            await commit_full(database, offset)

    await asyncio.gather(go_on(), database.backup(copy))
    assert not any(name.endswith(".partial") for name in names_in(tmp_path))
    restored = await open_database(copy)
    queue, retained, archive = await rows_of(restored)
    assert queue == archive
    assert (await marks_of(restored))["sessions"] == archive + 1
    assert retained == 1
    await restored.close()
    assert (await rows_of(database))[0] == 29


async def test_a_memory_database_can_be_backed_up(tmp_path: Path) -> None:
    database = await open_database(":memory:")
    await commit_full(database, 1)
    await database.backup(tmp_path / "copy.db")
    await database.close()
    assert query(tmp_path / "copy.db", "SELECT count(*) FROM mcparchive") == [(1,)]


async def test_a_backup_that_fails_leaves_no_trace(
    database: SqliteDatabase, path: Path, tmp_path: Path
) -> None:
    before = names_in(tmp_path)
    with pytest.raises(ConfigError, match="itself"):
        await database.backup(path)
    with pytest.raises(StoreUnavailable):
        await database.backup(tmp_path / "missing" / "copy.db")
    with pytest.raises(StoreUnavailable):
        await database.backup(path / "copy.db")
    assert names_in(tmp_path) == before
    await commit_full(database, 1)


async def test_a_purge_gives_the_space_back(database: SqliteDatabase) -> None:
    records = [make_record(i, payload=bytes(5_000)) for i in range(4_000)]
    await commit_archive(database, *records)
    await run_on_writer(database, "PRAGMA wal_checkpoint(TRUNCATE)")
    before = await database.size()
    archive = database.archive_store(ARCHIVE)
    assert await archive.purge(before_ms=NOON_MS + 3_900, limit=10_000) == 3_900
    while await database.give_space_back():
        pass
    await run_on_writer(database, "PRAGMA wal_checkpoint(TRUNCATE)")
    assert await database.size() < before / 4


async def test_nothing_to_give_back_writes_nothing(database: SqliteDatabase, path: Path) -> None:
    await commit_full(database, 1)
    async with asyncio.timeout(30):
        # The topic index writes behind the commit, on its own.
        while query(path, "SELECT 1 FROM topic_changes"):  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.01)
    log = path.with_name(f"{path.name}-wal")
    before = log.stat().st_size
    assert not await database.give_space_back()
    assert log.stat().st_size == before


async def test_what_is_free_is_the_disks_and_the_files_own(
    database: SqliteDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    await commit_archive(database, *(make_record(i, payload=bytes(5_000)) for i in range(1_000)))
    usage = shutil.disk_usage("/")._replace(free=7)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    assert await database.free_size() == 7
    await database.archive_store(ARCHIVE).purge_oldest(limit=1_000)
    free = await database.free_size()
    assert free is not None
    assert free > 4_000_000


async def test_a_killed_process_keeps_what_was_committed_and_nothing_more(path: Path) -> None:
    """The process dies inside a transaction, between two of its statements."""
    script = Path(sqlite_victim.__file__)
    killed = await asyncio.create_subprocess_exec(sys.executable, script, path)
    assert await killed.wait() == 9
    database = await open_database(path)
    assert await rows_of(database) == (5, 1, 5)
    assert await marks_of(database) == dict.fromkeys(ALL, 5)
    await database.close()


async def test_a_commit_after_the_end_is_refused(path: Path) -> None:
    database = await open_database(path)
    await database.close()
    with pytest.raises(StoreError, match="closed"):
        await commit_full(database, 1)


async def test_a_commit_of_nothing_moves_the_watermark(database: SqliteDatabase) -> None:
    await commit_once(database, Commit(upto=7), "sessions")
    assert await marks_of(database) == {"sessions": 7}


def change(path: Path, *statements: str) -> None:
    """Write as the ``sqlite3`` command would."""
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        connection.execute(statement)
    connection.close()


async def test_rows_of_clients_without_a_session_are_ignored_with_a_warning(
    database: SqliteDatabase, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for client_id in ("a", "b", "c"):
        changes = ClientChanges(
            session=make_session(client_id),
            subscriptions={"x/#": 1, "y": 2},
            queued=make_queue([make_record(7)]),
            open_ids={1: 7},
            in_flight={1: (7, InFlightState.SENT)},
        )
        await commit_sessions(database, 9, **{client_id: changes})
    change(path, "DELETE FROM sessions WHERE client_id IN ('a', 'c')")
    (stored,) = await load_all(database)
    assert stored.row.client_id == "b"
    assert (len(stored.subscriptions), stored.queued_messages) == (2, 1)
    said = [record.getMessage() for record in caplog.records]
    tables = ["subscriptions", "open_ids", "inflight"]
    assert [text.split()[1] for text in said] == tables
    assert all("2 clients" in text for text in said)


async def test_a_session_that_cannot_be_understood_is_damage(
    database: SqliteDatabase, path: Path
) -> None:
    await commit_sessions(database, 1, a=ClientChanges(session=make_session("a")))
    change(path, "UPDATE sessions SET information = 'none'")
    with pytest.raises(StoreDamaged, match=r"session tables.*Nothing was changed"):
        await load_all(database)


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE mcparchive",
        "ALTER TABLE mcparchive RENAME COLUMN client_id TO publisher",
        "ALTER TABLE mcparchive ADD COLUMN plant TEXT NOT NULL DEFAULT 'x' CHECK (plant <> 'x')",
    ],
)
async def test_a_table_that_somebody_changes_is_damage(
    database: SqliteDatabase, path: Path, statement: str
) -> None:
    await commit_sessions(database, 1, a=ClientChanges(session=make_session("a")))
    change(path, statement)
    with pytest.raises(StoreDamaged, match=r"somebody has changed its tables.*db restore"):
        await commit_full(database, 1)
    assert await marks_of(database) == {"sessions": 1}


def store_threads() -> list[threading.Thread]:
    """Return the writers and readers there are."""
    mine = threading.current_thread()
    pool = "asyncio_"  # the loop's own, which it ends
    return [at for at in threading.enumerate() if at is not mine and not at.name.startswith(pool)]


async def test_a_database_that_is_closed_reads_nothing_and_leaves_no_thread(path: Path) -> None:
    """Also when a reader is being opened at that moment."""
    before = store_threads()
    database = await SqliteDatabase.open(
        str(path), session_store=True, message_stores=[], archive_stores=[]
    )
    reading = asyncio.ensure_future(database.log())
    await asyncio.sleep(0)
    await database.close()
    assert await reading is None
    with pytest.raises(StoreError, match="closed"):
        await database.log()
    with pytest.raises(StoreError, match="closed"):
        await load_all(database)
    assert store_threads() == before


async def test_an_opening_that_fails_leaves_no_thread(path: Path) -> None:
    change(path, "CREATE TABLE recipes (name TEXT)")
    before = store_threads()
    with pytest.raises(StartupError):
        await SqliteDatabase.open(
            str(path), session_store=True, message_stores=[], archive_stores=[]
        )
    assert store_threads() == before


_DIES_AFTER_READING = """
import asyncio, sys
from monstermq_shared.stores.sqlite import SqliteDatabase

async def main():
    database = await SqliteDatabase.open(
        sys.argv[1], session_store=True, message_stores=[], archive_stores=[]
    )
    kept.append(database)
    await database.log()
    raise RuntimeError("of all things")

kept = []
asyncio.run(main())
"""


async def test_a_process_that_dies_without_closing_ends(path: Path) -> None:
    arguments = ("-c", _DIES_AFTER_READING, str(path))
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(30):
            _, said = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 1
    assert b"of all things" in said
