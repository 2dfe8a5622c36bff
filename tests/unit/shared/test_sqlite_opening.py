"""What a start says to a database it cannot use, and that it leaves it as it is."""

import os
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.support.sqlite_database import commit_full

from monstermq_shared.errors import ConfigError, StartupError, StoreConflict, StoreDamaged
from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.stores.changes import Commit
from monstermq_shared.stores.ports import (
    DatabaseSummary,
    KeepsLog,
    Log,
    Measured,
    OnDisk,
    Summarized,
)
from monstermq_shared.stores.sqlite import SqliteDatabase
from monstermq_shared.stores.sqlite.tenures import Tenures
from monstermq_shared.testing.builders import ARCHIVE, PARTITION, RETAINED, commit_once
from monstermq_shared.testing.database_contract import ALL, full_commit, marks_of, rows_of

Opener = Callable[..., Awaitable[SqliteDatabase]]


async def open_at(path: Path, archives: tuple[str, ...] = (ARCHIVE,)) -> SqliteDatabase:
    return await SqliteDatabase.open(
        str(path), session_store=True, message_stores=[RETAINED], archive_stores=archives
    )


def write(path: Path, *statements: str) -> bytes:
    """Make a database that is not ours; return the bytes of the file."""
    connection = sqlite3.connect(path)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()
    return path.read_bytes()


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def select(path: Path, query: str) -> list[tuple[Any, ...]]:
    """Ask as the ``sqlite3`` command would."""
    connection = sqlite3.connect(path)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


async def test_a_database_remembers_the_log_of_the_last_run(tmp_path: Path) -> None:
    seen = []
    logs = [Log("first log", 1), Log("first log", 2), Log("another log", 7)]
    for log in logs:
        database = await open_at(tmp_path / "x.db")
        seen.append(await database.log())
        await database.begin_boot(log)
        assert await database.log() == log
        await database.close()
        await database.close()
    assert seen == [None, *logs[:2]]


async def test_what_was_committed_is_there_after_a_restart(tmp_path: Path) -> None:
    database = await open_at(tmp_path / "deep" / "er" / "x.db")
    await commit_full(database, 1)
    await database.close()
    database = await open_at(tmp_path / "deep" / "er" / "x.db")
    assert await rows_of(database) == (1, 1, 1)
    assert (await marks_of(database))["sessions"] == 2
    await database.close()


async def test_a_group_that_is_added_later_gets_its_tables(tmp_path: Path) -> None:
    await (await open_at(tmp_path / "x.db")).close()
    database = await open_at(tmp_path / "x.db", (ARCHIVE, "my-groupArchive"))
    assert await database.archive_store("my-groupArchive").history("a") == []
    await database.close()


async def test_a_second_broker_is_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    first = await open_at(tmp_path / "x.db")
    with pytest.raises(StartupError, match=rf"x\.db is in use .*{os.getpid()}.*SQLite\.Path") as at:
        await open_at(tmp_path / "x.db")
    assert at.value.exit_code == ExitCode.STORE_IN_USE
    await commit_full(first, 1)
    await first.close()


async def test_who_lost_the_database_cannot_commit(tmp_path: Path) -> None:
    """A second broker starts all the same, as on a file system without locks: the first stops."""
    first = await open_at(tmp_path / "x.db")
    tenure = await first.begin(PARTITION, ALL)
    with closing(sqlite3.connect(tmp_path / "x.db", isolation_level=None)) as second:
        Tenures().begin(second, PARTITION, [RETAINED])
    for _ in range(2):
        with pytest.raises(StoreConflict):
            await first.commit(tenure, full_commit(1))
    assert await rows_of(first) == (0, 0, 0)
    assert await marks_of(first) == {}
    await first.close()


async def test_a_tenure_of_nothing_is_a_mistake(tmp_path: Path) -> None:
    database = await open_at(tmp_path / "x.db")
    with pytest.raises(ValueError, match="at least one"):
        await database.begin(PARTITION, [])
    await database.close()


async def test_the_lock_is_the_files_and_not_its_names(tmp_path: Path) -> None:
    """Neither a removed lock file nor another way to the file lets a second broker in."""
    first = await open_at(tmp_path / "x.db")
    (tmp_path / "x.db.lock").unlink()
    with pytest.raises(StartupError, match="in use by another broker") as at:
        await open_at(tmp_path / "x.db")
    assert at.value.exit_code == ExitCode.STORE_IN_USE
    await commit_full(first, 1)
    assert await rows_of(first) == (1, 1, 1)
    await first.close()


async def test_a_memory_database_is_one_and_each_is_its_own(tmp_path: Path) -> None:
    first, second = await open_at(Path(":memory:")), await open_at(Path(":memory:"))
    await commit_full(first, 1)
    assert await rows_of(first) == (1, 1, 1)
    assert await rows_of(second) == (0, 0, 0)
    await first.close()
    await second.close()


async def test_the_originals_file_is_recognized_and_left_alone(tmp_path: Path) -> None:
    before = write(tmp_path / "x.db", "CREATE TABLE mcparchive (topic TEXT, time TEXT)")
    with pytest.raises(StartupError, match=r"original MonsterMQ.*SQLite\.Path") as at:
        await open_at(tmp_path / "x.db")
    assert at.value.exit_code == ExitCode.STORE_DAMAGED
    assert (tmp_path / "x.db").read_bytes() == before


async def test_another_programs_file_is_left_alone(tmp_path: Path) -> None:
    before = write(tmp_path / "x.db", "CREATE TABLE bookmarks (url TEXT)")
    with pytest.raises(StartupError, match=r"another program.*SQLite\.Path") as at:
        await open_at(tmp_path / "x.db")
    assert at.value.exit_code == ExitCode.STORE_DAMAGED
    assert (tmp_path / "x.db").read_bytes() == before


@pytest.mark.parametrize("version", [0, 3, 99])
async def test_an_unknown_schema_version_is_refused(tmp_path: Path, version: int) -> None:
    await (await open_at(tmp_path / "x.db")).close()
    before = write(tmp_path / "x.db", f"PRAGMA user_version = {version}")
    with pytest.raises(StoreDamaged, match=rf"schema version {version}\b.*Nothing was changed"):
        await open_at(tmp_path / "x.db")
    assert (tmp_path / "x.db").read_bytes() == before


@pytest.mark.parametrize("offset", [40, 4096])
async def test_a_damaged_file_is_refused_with_the_way_to_rescue_it(
    tmp_path: Path, offset: int
) -> None:
    path = tmp_path / "x.db"
    database = await open_at(path)
    await commit_full(database, 1)
    await database.close()
    content = bytearray(path.read_bytes())
    content[offset : offset + 8_192] = b"\xa5" * len(content[offset : offset + 8_192])
    path.write_bytes(content)
    with pytest.raises(StoreDamaged, match=r"monstermq db recover (\S+x\.db) \1\.recovered;"):
        await open_at(path)
    assert path.read_bytes() == content
    with pytest.raises(StoreDamaged):  # and it is not the lock that keeps us out now
        await open_at(path)


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_text("Dear diary, " * 1_000)
    with pytest.raises(StoreDamaged, match=r"is no SQLite database.*SQLite\.Path.*db restore"):
        await open_at(tmp_path / "x.db")


@pytest.mark.parametrize(
    "statements",
    [
        ["CREATE TABLE bookmarks (url TEXT)"],
        ["PRAGMA journal_mode = WAL", "CREATE TABLE bookmarks (url TEXT)"],
        ["CREATE TABLE mcparchive (topic TEXT, time TEXT)"],
        ["PRAGMA user_version = 1"],
    ],
)
async def test_nothing_is_made_beside_a_file_that_is_not_ours(
    tmp_path: Path, statements: list[str]
) -> None:
    before = write(tmp_path / "x.db", *statements)
    with pytest.raises(StartupError):
        await open_at(tmp_path / "x.db")
    assert names_in(tmp_path) == ["x.db"]
    assert (tmp_path / "x.db").read_bytes() == before


async def test_an_empty_file_is_not_taken_for_a_new_database(tmp_path: Path) -> None:
    (tmp_path / "x.db").touch()
    with pytest.raises(StartupError, match=r"is empty \(0 bytes\).*db restore.*remove the") as at:
        await open_at(tmp_path / "x.db")
    assert at.value.exit_code == ExitCode.STORE_DAMAGED
    assert (tmp_path / "x.db").stat().st_size == 0


async def test_a_database_without_tables_is_not_taken_for_a_new_one(tmp_path: Path) -> None:
    """As ``sqlite3 damaged.db .recover | sqlite3 x.db`` makes where it cannot recover."""
    before = write(tmp_path / "x.db", "PRAGMA user_version = 1", "VACUUM")
    assert before
    with pytest.raises(StartupError, match=r"without any table.*db restore") as at:
        await open_at(tmp_path / "x.db")
    assert at.value.exit_code == ExitCode.STORE_DAMAGED
    assert (tmp_path / "x.db").read_bytes() == before


async def test_a_log_without_its_database_is_not_thrown_away(tmp_path: Path) -> None:
    (tmp_path / "x.db-wal").write_bytes(b"committed")
    with pytest.raises(StartupError, match=r"x\.db is missing, but .*x\.db-wal is there"):
        await open_at(tmp_path / "x.db")
    assert names_in(tmp_path) == ["x.db-wal"]


async def test_a_new_database_appears_only_when_it_is_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(connection: sqlite3.Connection) -> None:
        connection.execute("CREATE TABLE half (x)")
        raise StartupError("killed here")

    with monkeypatch.context() as patch:
        patch.setattr("monstermq_shared.stores.sqlite.opening.create_meta", fail)
        with pytest.raises(StartupError, match="killed here"):
            await open_at(tmp_path / "x.db")
    assert not (tmp_path / "x.db").exists()
    (tmp_path / "x.db.partial").write_bytes(b"of a start that was killed")
    await (await open_at(tmp_path / "x.db")).close()
    assert names_in(tmp_path) == ["x.db", "x.db.lock"]


async def test_the_lock_names_the_process_while_it_runs_and_nobody_afterwards(
    tmp_path: Path,
) -> None:
    database = await open_at(tmp_path / "x.db")
    assert (tmp_path / "x.db.lock").read_text() == f"{os.getpid()}\n"
    await database.close()
    assert (tmp_path / "x.db.lock").read_text() == ""


async def test_two_names_of_a_database_have_one_lock(tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to("x.db")
    database = await open_at(tmp_path / "link.db")
    with pytest.raises(StartupError, match="in use"):
        await open_at(tmp_path / "x.db")
    await database.close()
    assert (tmp_path / "link.db").is_symlink()
    assert (tmp_path / "x.db").is_file()


async def test_the_summary_tells_what_there_is(tmp_path: Path) -> None:
    database = await open_at(tmp_path / "x.db")
    await commit_full(database, 1)
    await database.close()
    database = await open_at(tmp_path / "x.db")
    assert await database.summary() == DatabaseSummary(
        place=str(tmp_path / "x.db"), sessions=1, ended_cleanly=True
    )
    await database.close()
    database = await SqliteDatabase.open(
        str(tmp_path / "x.db"), session_store=False, message_stores=[], archive_stores=[]
    )
    assert (await database.summary()).sessions is None
    await database.close()


async def test_it_has_the_capabilities_of_a_file(tmp_path: Path) -> None:
    database = await open_at(tmp_path / "x.db")
    for capability in (KeepsLog, Measured, OnDisk, Summarized):
        assert isinstance(database, capability)
    await database.close()


async def test_a_run_that_was_killed_is_told_by_the_next_one_alone(tmp_path: Path) -> None:
    await (await open_at(tmp_path / "x.db")).close()
    (tmp_path / "x.db.lock").write_text("4711\n")  # as a killed process leaves it
    with pytest.raises(ConfigError):
        await open_at(tmp_path / "x.db", ("sessions",))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("monstermq_shared.stores.sqlite.opening._check_integrity", _damaged)
        with pytest.raises(StoreDamaged):
            await open_at(tmp_path / "x.db")
    for ended_cleanly in (False, True):
        database = await open_at(tmp_path / "x.db")
        assert (await database.summary()).ended_cleanly is ended_cleanly
        await database.close()


def _damaged(connection: sqlite3.Connection, path: str) -> None:
    raise StoreDamaged(path)


async def test_a_folder_made_outside_the_working_directory_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    await (await open_at(Path("data/x.db"))).close()
    assert caplog.records == []
    for _ in range(2):
        await (await open_at(tmp_path / "there" / "x.db")).close()
    (record,) = caplog.records
    assert f"the folder {tmp_path}/there did not exist" in record.getMessage()


async def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StartupError, match=r"file/x\.db.*SQLite\.Path") as at:
        await open_at(tmp_path / "file" / "x.db")
    assert at.value.exit_code == ExitCode.STORE_UNWRITABLE


async def test_a_folder_in_the_place_of_the_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.db").mkdir()
    with pytest.raises(StartupError, match=r"x\.db.*SQLite\.Path") as at:
        await open_at(tmp_path / "x.db")
    assert at.value.exit_code == ExitCode.STORE_UNWRITABLE


async def test_another_programs_lock_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monstermq_shared.stores.sqlite.opening._BUSY_TIMEOUT_S", 0.0)
    await (await open_at(tmp_path / "x.db")).close()
    shell = sqlite3.connect(tmp_path / "x.db", isolation_level=None)
    shell.execute("BEGIN IMMEDIATE")
    with pytest.raises(StartupError, match="end that program") as at:
        await open_at(tmp_path / "x.db")
    assert at.value.exit_code == ExitCode.STORE_IN_USE
    shell.close()
    await (await open_at(tmp_path / "x.db")).close()


async def test_a_library_that_is_too_old_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 37, 2))
    with pytest.raises(StartupError, match=r"3\.38\.0 or newer"):
        await open_at(tmp_path / "x.db")


@pytest.mark.parametrize(
    "archives",
    [
        ('x" (a); DROP TABLE sessions; --Archive',),
        ("sessions",),
        ("Watermarks",),
        ("aArchive", "AArchive"),
        ("RetainedMessages",),
    ],
)
async def test_hostile_group_names_make_no_table(tmp_path: Path, archives: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match=r"ArchiveGroups\[\]\.Name"):
        await open_at(tmp_path / "x.db", archives)
    assert not (tmp_path / "x.db").exists()


async def test_a_word_of_sql_is_a_name_like_any_other(tmp_path: Path) -> None:
    database = await open_at(tmp_path / "x.db", ("select", "drop-table", ARCHIVE))
    await commit_once(database, Commit(upto=1, archives={"select": []}), "select")
    assert await database.archive_store("drop-table").history("a") == []
    await database.close()


async def test_another_spelling_of_the_path_does_not_pass_the_lock(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "linked").symlink_to(tmp_path / "real")
    (tmp_path / "y.db").symlink_to(tmp_path / "real" / "x.db")
    first = await open_at(tmp_path / "real" / "x.db")
    for path in (tmp_path / "linked" / "x.db", tmp_path / "y.db"):
        with pytest.raises(StartupError, match="in use") as at:
            await open_at(path)
        assert at.value.exit_code == ExitCode.STORE_IN_USE
    await first.close()


@pytest.mark.parametrize("empty", [True, False])
async def test_a_log_whose_database_is_gone_is_not_emptied(tmp_path: Path, empty: bool) -> None:
    path, log = tmp_path / "x.db", tmp_path / "x.db-wal"
    log.write_bytes(b"messages")
    if empty:
        path.touch()
    with pytest.raises(StartupError) as at:
        await open_at(path)
    assert at.value.exit_code == ExitCode.STORE_DAMAGED
    assert log.read_bytes() == b"messages"


async def test_the_writer_has_the_settings_that_promises_rest_on(tmp_path: Path) -> None:
    for _ in range(2):  # a new file, and one that is there
        database = await open_at(tmp_path / "x.db")
        connection = database._writer._connection
        for setting, value in (("journal_mode", "wal"), ("synchronous", 2), ("auto_vacuum", 2)):
            assert connection.execute(f"PRAGMA {setting}").fetchone() == (value,)
        await database.close()


async def test_a_file_that_cannot_become_smaller_is_refused_with_the_way_to_change_it(
    tmp_path: Path,
) -> None:
    path = tmp_path / "x.db"
    await (await open_at(path)).close()
    write(path, "PRAGMA journal_mode = DELETE", "PRAGMA auto_vacuum = NONE", "VACUUM")
    with pytest.raises(StartupError, match=r"auto_vacuum is 0.*PRAGMA auto_vacuum = 2; VACUUM"):
        await open_at(path)
    write(path, "PRAGMA auto_vacuum = 2", "VACUUM")
    await (await open_at(path)).close()


async def test_a_file_system_without_a_write_ahead_log_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pragmas = ("PRAGMA journal_mode = DELETE", "PRAGMA synchronous = FULL")
    monkeypatch.setattr("monstermq_shared.stores.sqlite.opening._PRAGMAS", pragmas)
    with pytest.raises(StartupError, match=r"journal_mode is 'delete'.*local disk"):
        await open_at(tmp_path / "x.db")


async def test_damage_in_the_sessions_of_a_large_file_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.db"
    database = await open_at(path)
    await commit_full(database, 1)
    await database.close()
    ((page,),) = select(path, "SELECT rootpage FROM sqlite_schema WHERE name = 'sessions'")
    ((page_size,),) = select(path, "PRAGMA page_size")
    content = bytearray(path.read_bytes())
    start = (page - 1) * page_size
    content[start + 3 : start + page_size] = b"\xa5" * (page_size - 3)
    path.write_bytes(content)
    monkeypatch.setattr("monstermq_shared.stores.sqlite.opening._CHECKED_SIZE_MAX", 0)
    with pytest.raises(StoreDamaged):
        await open_at(path)
    assert path.read_bytes() == content


# -- how much a commit writes --------------------------------------------------------------------


def log_frames(path: Path) -> int:
    """Return how many pages the write-ahead log holds that has not begun anew."""
    ((page_size,),) = select(path, "PRAGMA page_size")
    return path.with_name(f"{path.name}-wal").stat().st_size // (int(page_size) + 24)


async def test_a_commit_touches_one_page_besides_its_rows(tmp_path: Path) -> None:
    database = await open_at(tmp_path / "x.db")
    tenure = await database.begin(PARTITION, ALL)
    await database.commit(tenure, Commit(upto=1))
    before = log_frames(tmp_path / "x.db")
    await database.commit(tenure, Commit(upto=2))
    assert log_frames(tmp_path / "x.db") == before + 1
    await database.close()


async def test_a_database_of_an_older_release_keeps_its_page_size(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    database = await open_at(path)
    await commit_full(database, 1)
    await database.close()
    assert select(path, "PRAGMA page_size") == [(2048,)]
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in (
        "PRAGMA journal_mode = DELETE",
        "PRAGMA page_size = 4096",
        "VACUUM",
    ):
        connection.execute(statement)
    connection.close()
    database = await open_at(path)
    await commit_full(database, 2)
    assert await rows_of(database) == (2, 1, 2)
    await database.close()
    assert select(path, "PRAGMA page_size") == [(4096,)]
