"""Copies of a database, the way back to one, and what neither may ever overwrite."""

import asyncio
import os
import re
import shutil
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.support.sqlite_database import commit_full, open_database

from monstermq_shared.errors import ConfigError, StartupError, StoreDamaged, StoreUnavailable
from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.stores.sqlite import SqliteDatabase
from monstermq_shared.stores.sqlite.backup import Copied, backup_file, restore_file
from monstermq_shared.stores.sqlite.files import complete_or_absent
from monstermq_shared.stores.sqlite.recovery import recover_file
from monstermq_shared.testing.builders import commit_archive, make_record
from monstermq_shared.testing.database_contract import rows_of


@pytest.fixture(autouse=True)
def _nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def make(path: str, rows: int = 1) -> None:
    """Make a database that is closed."""

    async def fill() -> None:
        database = await open_database(path)
        await commit_archive(database, *(make_record(n) for n in range(rows)))
        await database.close()

    asyncio.run(fill())


@pytest.fixture
async def live() -> AsyncIterator[SqliteDatabase]:
    """A database that a broker runs on: ``x.db``."""
    database = await open_database("x.db")
    await commit_full(database, 1)
    yield database
    await database.close()


def archived(path: str) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("SELECT count(*) FROM mcparchive").fetchone()[0])


def content() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path().iterdir() if path.is_file()}


# backup


async def test_a_backup_is_one_file_with_what_was_committed_while_a_writer_goes_on(
    live: SqliteDatabase,
) -> None:
    with closing(sqlite3.connect("x.db", isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("DELETE FROM mcparchive")
        copied = backup_file(Path("x.db"), Path("copy.db"))
        writer.execute("ROLLBACK")
    assert copied == Copied(size=len(content()["copy.db"]), replaced=False)
    assert archived("copy.db") == 1
    assert [name for name in content() if "copy" in name] == ["copy.db"]


def test_a_backup_replaces_an_older_one_only_when_it_is_complete() -> None:
    make("old.db", 1)
    make("x.db", 5)
    Path("bad.db").write_bytes(b"not a database" * 1000)
    with pytest.raises(StoreDamaged):
        backup_file(Path("bad.db"), Path("old.db"))
    assert archived("old.db") == 1
    assert backup_file(Path("x.db"), Path("old.db")).replaced
    assert archived("old.db") == 5


def test_a_source_with_a_strange_name_is_found() -> None:
    make("a ?#%20.db", 3)
    backup_file(Path("a ?#%20.db"), Path("copy.db"))
    assert archived("copy.db") == 3


def test_a_missing_source_is_refused_and_not_created() -> None:
    with pytest.raises(StoreUnavailable, match="there is no such database"):
        backup_file(Path("missing.db"), Path("copy.db"))
    assert content() == {}


def test_an_empty_or_foreign_source_never_replaces_a_backup() -> None:
    make("old.db")
    Path("empty.db").touch()
    with closing(sqlite3.connect("foreign.db")) as connection:
        connection.execute("CREATE TABLE t (n)")
    before = content()
    for source in ("empty.db", "foreign.db"):
        with pytest.raises(StartupError):
            backup_file(Path(source), Path("old.db"))
    assert content() == before


def test_a_target_that_cannot_be_written_is_refused() -> None:
    make("x.db")
    with pytest.raises(StoreUnavailable):
        backup_file(Path("x.db"), Path("nowhere/copy.db"))
    Path("folder").mkdir()
    for target in ("folder", "/dev/null"):
        with pytest.raises(StoreUnavailable, match="not a file"):
            backup_file(Path("x.db"), Path(target), force=True)
    assert Path("/dev/null").is_char_device()


SIDES = ["x.db-wal", "x.db-shm", "x.db-journal", "x.db.lock", "x.db.partial"]


def make_aliases() -> None:
    """Make other ways to the database and the files beside it."""
    Path("link.db").symlink_to("x.db")
    Path("sub").mkdir()
    Path("linked").symlink_to(".")
    for number, side in enumerate(SIDES):
        Path(f"alias{number}").symlink_to(side)


@pytest.mark.parametrize("target", ["x.db", "link.db", "sub/../x.db", "linked/x.db"])
async def test_the_database_is_never_its_own_backup(live: SqliteDatabase, target: str) -> None:
    make_aliases()
    with pytest.raises(ConfigError, match="is the database itself"):
        backup_file(Path("x.db"), Path(target), force=True)
    assert await rows_of(live) == (1, 1, 1)


@pytest.mark.parametrize("source", ["x.db", "link.db"])
@pytest.mark.parametrize("force", [False, True])
async def test_no_file_of_the_database_is_a_target(
    live: SqliteDatabase, source: str, force: bool
) -> None:
    make_aliases()
    for number, side in enumerate(SIDES):
        for target in (side, f"sub/../{side}", f"linked/{side}", f"alias{number}"):
            with pytest.raises(ConfigError, match=r"belongs to the database"):
                backup_file(Path(source), Path(target), force=force)
    await commit_full(live, 2)
    assert await rows_of(live) == (2, 1, 2)


def test_a_target_whose_own_files_would_be_the_database_is_refused() -> None:
    make("copy.partial")
    before = content()
    with pytest.raises(ConfigError, match="belongs to the database"):
        backup_file(Path("copy.partial"), Path("copy"))
    assert content() == before


@pytest.mark.parametrize("found", [b"", b"my thesis", b"SQLite format 3\0 and then nothing"])
def test_another_file_is_replaced_only_by_force(found: bytes) -> None:
    make("x.db")
    Path("thesis").write_bytes(found)
    with pytest.raises(ConfigError, match=r"thesis exists and is no MonsterMQ database.*--force"):
        backup_file(Path("x.db"), Path("thesis"))
    assert Path("thesis").read_bytes() == found
    assert backup_file(Path("x.db"), Path("thesis"), force=True).replaced
    assert archived("thesis") == 1


async def test_a_database_in_use_is_not_replaced_even_by_force(live: SqliteDatabase) -> None:
    await (await open_database("other.db")).close()
    with pytest.raises(ConfigError, match="in use"):
        backup_file(Path("other.db"), Path("x.db"), force=True)
    assert await rows_of(live) == (1, 1, 1)


def test_a_target_that_is_a_link_is_written_where_it_leads() -> None:
    make("x.db")
    Path("far").mkdir()
    Path("latest.db").symlink_to("far/today.db")
    backup_file(Path("x.db"), Path("latest.db"))
    assert Path("latest.db").is_symlink()
    assert archived("far/today.db") == 1


# restore


def test_a_restore_brings_the_backup_and_keeps_what_was_there() -> None:
    make("x.db", 3)
    backup_file(Path("x.db"), Path("copy.db"))
    make("x.db", 9)
    Path("x.db-wal").write_bytes(b"its log")
    restored = restore_file(Path("copy.db"), Path("x.db"))
    assert restored.size == Path("x.db").stat().st_size
    assert archived("x.db") == 3
    aside, log = restored.aside
    assert aside.name.startswith("x.db.2")
    assert log.name == f"{aside.name}-wal"
    assert log.read_bytes() == b"its log"
    assert not Path("x.db-wal").exists()
    log.unlink()
    assert archived(str(aside)) == 9
    assert archived("copy.db") == 3
    assert Path("x.db.lock").read_text() == ""


def test_a_restore_where_nothing_was_needs_nothing_aside() -> None:
    make("copy.db", 2)
    assert restore_file(Path("copy.db"), Path("data/x.db")).aside == ()
    assert archived("data/x.db") == 2


async def test_nothing_is_restored_under_a_running_broker(live: SqliteDatabase) -> None:
    await (await open_database("copy.db")).close()
    with pytest.raises(StartupError, match=r"in use by another broker \(process \d+\)") as at:
        restore_file(Path("copy.db"), Path("x.db"))
    assert at.value.exit_code == ExitCode.STORE_IN_USE
    await commit_full(live, 2)
    assert await rows_of(live) == (2, 1, 2)


async def test_a_backup_with_its_own_log_is_restored_with_it(live: SqliteDatabase) -> None:
    """A copy of the files of a database that was running."""
    for part in ("", "-wal"):
        shutil.copyfile(f"x.db{part}", f"copy.db{part}")
    before = {name: data for name, data in content().items() if name.startswith("copy")}
    restore_file(Path("copy.db"), Path("y.db"))
    assert archived("y.db") == 1
    assert {name: data for name, data in content().items() if name.startswith("copy")} == before
    assert await rows_of(live) == (1, 1, 1)


def test_a_backup_that_is_none_changes_nothing() -> None:
    make("x.db")
    make("damaged.db", 500)
    data = bytearray(Path("damaged.db").read_bytes())
    data[-8192:-4096] = b"\xa5" * 4096
    Path("damaged.db").write_bytes(data)
    Path("empty.db").touch()
    Path("text.db").write_text("Dear diary, " * 1_000)
    with closing(sqlite3.connect("foreign.db")) as connection:
        connection.execute("CREATE TABLE t (n)")
    before = content()
    for name, error in {
        "damaged.db": StoreDamaged,
        "text.db": StoreDamaged,
        "empty.db": StartupError,
        "foreign.db": StartupError,
        "missing.db": StoreUnavailable,
        "x.db": ConfigError,
    }.items():
        with pytest.raises(error):
            restore_file(Path(name), Path("x.db"))
    assert content() == before


def test_an_exchange_that_fails_leaves_the_old_database() -> None:
    make("x.db", 2)
    make("copy.db", 3)
    Path("x.db.partial").mkdir()
    with pytest.raises(StoreUnavailable, match="cannot be replaced"):
        restore_file(Path("copy.db"), Path("x.db"))
    assert archived("x.db") == 2


# what lies beside a name that is given


COMPANIONS = ["-wal", "-journal"]


@pytest.mark.parametrize("part", COMPANIONS)
def test_a_backup_is_not_put_beside_the_log_of_another(part: str) -> None:
    make("x.db")
    Path(f"copy.db{part}").write_bytes(b"foreign")
    before = content()
    with pytest.raises(ConfigError, match=rf"copy\.db{part} is there without its database"):
        backup_file(Path("x.db"), Path("copy.db"), force=True)
    assert content() == before


@pytest.mark.parametrize("part", COMPANIONS)
def test_a_link_beside_a_new_name_counts_wherever_it_leads(part: str) -> None:
    make("x.db")
    Path(f"copy.db{part}").symlink_to("nowhere")
    with pytest.raises(ConfigError, match="without its database"):
        backup_file(Path("x.db"), Path("copy.db"))


def test_what_is_empty_or_only_an_index_is_removed_with_a_backup() -> None:
    make("x.db")
    for part in COMPANIONS:
        Path(f"copy.db{part}").touch()
    Path("copy.db-shm").write_bytes(bytes(32768))
    backup_file(Path("x.db"), Path("copy.db"))
    assert sorted(content()) == ["copy.db", "x.db", "x.db.lock"]
    assert archived("copy.db") == 1


def test_a_log_whose_database_is_gone_is_moved_aside_by_a_restore() -> None:
    make("copy.db", 4)
    left = {part: f"foreign {part}".encode() for part in ("-journal", "-shm", "-wal")}
    for part, data in left.items():
        Path(f"x.db{part}").write_bytes(data)
    restored = restore_file(Path("copy.db"), Path("x.db"))
    assert {
        f"-{aside.name.rpartition('-')[2]}": aside.read_bytes() for aside in restored.aside
    } == (left)
    assert archived("x.db") == 4
    make("x.db")
    assert archived("x.db") == 4


def test_a_file_never_gets_a_name_beside_which_a_log_has_come_meanwhile() -> None:
    with (
        pytest.raises(FileExistsError, match=r"x\.db-wal is there"),
        complete_or_absent(Path("x.db")),
    ):
        Path("x.db-wal").write_bytes(b"foreign")
    assert content() == {"x.db-wal": b"foreign"}


def test_a_journal_of_an_interrupted_copy_is_not_played_back_into_the_next() -> None:
    make("x.db", 7)
    for part in ("", "-wal", "-shm", "-journal"):
        Path(f"copy.db.partial{part}").write_bytes(b"left by a crash")
    backup_file(Path("x.db"), Path("copy.db"))
    assert sorted(content()) == ["copy.db", "x.db", "x.db.lock"]
    assert archived("copy.db") == 7


# who may read it


@pytest.fixture(params=[0o000, 0o022, 0o177])
def _umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


def permit(mode: int) -> None:
    make("x.db")
    Path("x.db").chmod(mode)


def modes() -> dict[str, str]:
    return {path.name: f"{path.stat().st_mode & 0o777:o}" for path in Path().iterdir()}


@pytest.mark.usefixtures("_umask")
async def test_every_file_is_its_owners_alone_whatever_the_umask() -> None:
    database = await open_database("x.db")
    await commit_full(database, 1)
    await database.backup(Path("live.db"))
    assert modes() == dict.fromkeys(["x.db", "x.db-wal", "x.db-shm", "x.db.lock", "live.db"], "600")
    await database.close()
    backup_file(Path("x.db"), Path("live.db"))
    recover_file(Path("x.db"), Path("recovered.db"))
    restore_file(Path("recovered.db"), Path("x.db"))
    assert set(modes().values()) == {"600"}


def test_a_copy_is_its_owners_alone_from_its_first_byte() -> None:
    with complete_or_absent(Path("copy.db")) as partial:
        assert modes() == {"copy.db.partial": "600"}
        assert partial.read_bytes() == b""


async def modes_while_open() -> dict[str, str]:
    database = await open_database("x.db")
    found = modes()
    await database.close()
    return found


def test_the_mode_of_a_database_is_left_and_its_log_follows_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    permit(0o640)
    found = asyncio.run(modes_while_open())
    assert [found[name] for name in ("x.db", "x.db-wal", "x.db-shm")] == ["640"] * 3
    assert caplog.messages == []


def test_a_database_that_every_user_can_read_is_left_and_warned_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    permit(0o644)
    asyncio.run(modes_while_open())
    assert modes()["x.db"] == "644"
    (message,) = caplog.messages
    assert "every user of this machine can read" in message
    assert re.search(r"chmod o-rwx \S+/x.db \S+/x.db-wal \S+/x.db-shm$", message)


# links


def test_links_that_lead_in_a_circle_are_refused_by_name() -> None:
    make("x.db")
    Path("loop.db").symlink_to("loop.db")
    with pytest.raises(ConfigError, match=r"loop\.db is a symbolic link that leads back to itself"):
        backup_file(Path("x.db"), Path("loop.db"))
    with pytest.raises(ConfigError, match="leads back to itself"):
        make("loop.db")
