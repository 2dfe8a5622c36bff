"""Files that are taken away under an open database: noticed, nothing acknowledged, all saved."""

import asyncio
import logging
import os
import re
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.support.sqlite_database import commit_full, open_database

from monstermq_shared.errors import StoreUnavailable
from monstermq_shared.stores.sqlite import SqliteDatabase, rescue, writer
from monstermq_shared.testing.builders import commit_archive, make_record

WAIT_S = 20.0
ROWS = 50
LARGE = b"x" * 20_000
"""A payload on pages of its own, which nobody has read since they were written."""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(writer, "_LOOK_LASTS_S", 0.0)
    return folder


class Told(logging.Handler):
    """What the guard logs, as it comes on another thread."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []
        self._came = threading.Semaphore(0)

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())
        self._came.release()

    async def next(self) -> str:
        assert await asyncio.to_thread(self._came.acquire, timeout=WAIT_S)
        return self.messages[-1]


@pytest.fixture
def told() -> Iterator[Told]:
    handler = Told()
    rescue.logger.addHandler(handler)
    yield handler
    rescue.logger.removeHandler(handler)


async def filled() -> SqliteDatabase:
    database = await open_database("x.db")
    await commit_archive(database, *(make_record(n, payload=LARGE) for n in range(ROWS)))
    return database


def archived(path: str | Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("SELECT count(*) FROM mcparchive").fetchone()[0])


def names(pattern: str = "*") -> list[str]:
    return sorted(path.name for path in Path().glob(pattern))


def content() -> dict[str, bytes]:
    """What there is, without the index of a log, which is only memory, and without rescues."""
    return {
        name: Path(name).read_bytes()
        for name in names("x.db*")
        if ".rescued" not in name and not name.endswith(("-shm", ".lock"))
    }


def rescued(message: str) -> Path:
    named = re.search(r"is saved in (\S+); stop the broker, run: monstermq db restore \1,", message)
    assert named is not None, message
    assert re.fullmatch(r"x\.db\.rescued-\d{8}T\d{6}Z", Path(named[1]).name)
    return Path(named[1])


def delete() -> None:
    for part in ("", "-wal", "-shm", ".lock"):
        Path(f"x.db{part}").unlink()


def delete_the_folder() -> None:
    shutil.rmtree(Path.cwd())


def replace() -> None:
    shutil.copyfile("x.db", "copy")
    Path("copy").replace("x.db")


def replace_with_its_log() -> None:
    """Another database that has a log of its own, as a broker killed elsewhere leaves it."""
    for part in ("", "-wal"):
        shutil.copyfile(f"x.db{part}", f"copy{part}")
    for part in ("", "-wal"):
        Path(f"copy{part}").replace(f"x.db{part}")


def rename(old: str = "x.db", new: str = "y.db") -> None:
    Path(old).rename(new)


def delete_the_log() -> None:
    Path("x.db-wal").unlink()


def replace_the_log() -> None:
    Path("copy").write_bytes(b"another log")
    Path("copy").replace("x.db-wal")


def delete_the_index() -> None:
    Path("x.db-shm").unlink()


INTACT: list[tuple[Callable[[], None], str]] = [
    (delete, "x.db has been deleted"),
    (delete_the_folder, "x.db has been deleted"),
    (replace_with_its_log, "x.db has been replaced by another file"),
    (rename, "x.db has been given another name"),
    (delete_the_log, "x.db-wal has been deleted"),
    (replace_the_log, "x.db-wal has been replaced by another file"),
    (delete_the_index, "x.db-shm has been deleted"),
]


@pytest.mark.parametrize(("happens", "what"), INTACT, ids=[f.__name__ for f, _ in INTACT])
async def test_nothing_is_committed_after_it_and_all_before_it_is_saved(
    happens: Callable[[], None], what: str, told: Told
) -> None:
    database = await filled()
    happens()
    before = content()
    for _ in range(3):
        with pytest.raises(StoreUnavailable, match=f"{what} while in use"):
            await commit_archive(database, make_record(ROWS))
    message = await told.next()
    assert f"{what} while in use: publishers wait, and all that was acknowledged" in message
    assert database.lost == message
    await database.close()
    assert content() == before
    assert told.messages == [message]
    assert archived(rescued(message)) == ROWS
    assert rescued(message).stat().st_mode & 0o777 == 0o600


async def test_a_log_of_ours_is_not_left_beside_the_database_of_another(told: Told) -> None:
    """Whoever starts on that one would play it back into it."""
    database = await filled()
    log = content()["x.db-wal"]
    replace()
    before = content()
    with pytest.raises(StoreUnavailable, match=r"x\.db has been replaced by another file"):
        await commit_archive(database, make_record(ROWS))
    saved = rescued(await told.next())
    await database.close()
    stem = saved.name.replace("rescued", "replaced")
    assert content() == {"x.db": before["x.db"], f"{stem}-wal": log}
    assert names("*-shm") == []
    assert archived(saved) == ROWS


def lead_to(place: str) -> None:
    Path("far").mkdir(exist_ok=True)
    Path("x.db").unlink(missing_ok=True)
    Path("x.db").symlink_to(place)


async def test_a_link_that_is_made_to_lead_elsewhere_is_another_file(told: Told) -> None:
    lead_to("far/1.db")
    database = await filled()
    await (await open_database("far/2.db")).close()
    lead_to("far/2.db")
    with pytest.raises(StoreUnavailable, match="replaced by another file"):
        await commit_archive(database, make_record(ROWS))
    message = await told.next()
    await database.close()
    (saved,) = names("far/1.db.rescued-*")
    assert saved in message
    assert archived(f"far/{saved}") == ROWS


async def test_what_was_committed_as_it_happened_is_saved_and_not_acknowledged(told: Told) -> None:
    database = await filled()

    def commit_and_lose(connection: sqlite3.Connection) -> None:
        connection.execute("DELETE FROM mcparchive WHERE position = 0")
        delete()

    with pytest.raises(StoreUnavailable):
        await database._writer.submit(commit_and_lose)
    assert archived(rescued(await told.next())) == ROWS - 1
    await database.close()


async def test_what_is_committed_before_the_next_look_is_saved_too(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "_LOOK_LASTS_S", WAIT_S)
    database = await filled()
    delete()
    await commit_archive(database, make_record(ROWS))
    monkeypatch.setattr(writer, "_LOOK_LASTS_S", 0.0)
    with pytest.raises(StoreUnavailable):
        await commit_archive(database, make_record(ROWS + 1))
    assert archived(rescued(await told.next())) == ROWS + 1
    await database.close()


async def test_it_is_noticed_without_traffic(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "_LOOK_S", 0.01)
    database = await filled()
    delete()
    assert archived(rescued(await told.next())) == ROWS
    assert database.lost is not None
    await database.close()


async def test_it_is_noticed_by_a_stop_which_leaves_the_other_file_alone(told: Told) -> None:
    database = await filled()
    replace_with_its_log()
    before = content()
    await database.close()
    assert content() == before
    assert archived(rescued(await told.next())) == ROWS


async def test_a_file_that_is_put_back_is_taken_up_by_the_next_start_only(told: Told) -> None:
    database = await filled()
    rename()
    with pytest.raises(StoreUnavailable):
        await commit_archive(database, make_record(ROWS))
    rename("y.db", "x.db")
    with pytest.raises(StoreUnavailable, match="given another name"):
        await commit_archive(database, make_record(ROWS))
    await told.next()
    before = content()
    await database.close()
    assert content() == before
    for part in ("", "-wal"):  # as a process finds it that has nothing open
        shutil.copyfile(f"x.db{part}", f"next.db{part}")
    assert archived("next.db") == ROWS


# content that is gone


LOG_CHANGED = "x.db-wal has been truncated or overwritten"


def truncate(name: str, size: int = 0) -> None:
    os.truncate(name, size)


def overwrite() -> None:
    """As ``cp backup.db x.db`` does it."""
    with closing(sqlite3.connect("other.db")) as other:
        other.execute("CREATE TABLE t (n)")
    Path("x.db").write_bytes(Path("other.db").read_bytes())


@pytest.mark.parametrize(
    ("happens", "moved", "what"),
    [
        (lambda: truncate("x.db"), True, "x.db has been truncated"),
        (lambda: truncate("x.db", 500_000), True, "x.db has been truncated"),
        (lambda: truncate("x.db"), False, "x.db has been truncated"),
        (overwrite, True, "x.db has been truncated"),
        (lambda: truncate("x.db-wal"), False, "x.db-wal has been truncated or overwritten"),
        (
            lambda: truncate("x.db-wal", 500_000),
            False,
            "x.db-wal has been truncated or overwritten",
        ),
        (
            lambda: Path("x.db-wal").write_bytes(LARGE * 100),
            False,
            "x.db-wal has been truncated or",
        ),
        (lambda: truncate("x.db-wal"), True, "x.db-wal has been truncated or overwritten"),
    ],
)
async def test_a_truncated_file_is_noticed_and_never_written_to(
    happens: Callable[[], None], moved: bool, what: str, told: Told
) -> None:
    database = await filled()
    if moved:
        await database._writer.submit(
            lambda connection: connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        )
    # So that nothing of it is in the connection's memory.
    await database._writer.submit(lambda connection: connection.execute("PRAGMA shrink_memory"))
    happens()
    before = content()
    with pytest.raises(StoreUnavailable, match=f"{what}.* while in use"):
        await commit_archive(database, make_record(ROWS))
    message = await told.next()
    await database.close()
    assert content() == before
    assert told.messages == [message]
    assert names("*.partial*") == []
    if saved := names("*.rescued-*"):
        assert archived(saved[0]) == ROWS
    else:
        assert "could not be saved (" in message
        assert "monstermq db recover" in message


async def test_a_read_of_a_truncated_file_does_not_end_the_broker_as_damage(told: Told) -> None:
    database = await filled()
    for part in ("x.db-wal", "x.db"):
        truncate(part)
    with pytest.raises(StoreUnavailable, match="truncated"):
        await database.archive_store("MCPArchive").history("a/b")
    await told.next()
    await database.close()


# what is no loss


def other_program(*statements: str) -> None:
    with closing(sqlite3.connect("x.db", isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement).fetchall()


@pytest.mark.parametrize(
    "happens",
    [
        lambda: other_program("PRAGMA wal_checkpoint(TRUNCATE)"),
        lambda: other_program("DELETE FROM mcparchive", "VACUUM", "PRAGMA wal_checkpoint(RESTART)"),
        lambda: other_program("CREATE TABLE mine (n)", "INSERT INTO mine VALUES (1)"),
        lambda: Path("x.db").touch(),
        lambda: Path("x.db").chmod(0o640),
        lambda: Path("snapshot.db").hardlink_to("x.db"),
        lambda: Path("x.db.lock").unlink(),
    ],
)
async def test_what_others_may_do_to_a_database_in_use_is_no_loss(
    happens: Callable[[], None],
) -> None:
    database = await filled()
    await commit_full(database, 1)
    for _ in range(2):
        happens_once(happens)
        await commit_archive(database, make_record(ROWS))
        await database._writer.submit(
            lambda connection: connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        )
    assert database.lost is None
    await database.close()
    assert names("*.rescued*") == []


def happens_once(happens: Callable[[], None]) -> None:
    """Do it again where it can be done again."""
    try:
        happens()
    except (FileExistsError, FileNotFoundError, sqlite3.OperationalError):
        return


async def test_its_own_checkpoints_and_purges_are_no_loss() -> None:
    database = await filled()
    archive = database.archive_store("MCPArchive")
    for n in range(1, 4):
        await commit_archive(
            database, *(make_record(n * ROWS + m, payload=LARGE) for m in range(9))
        )
        await archive.purge_oldest(limit=30)
        await database._writer.submit(
            lambda connection: connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        )
        await database.give_space_back()
    assert database.lost is None
    await database.close()


# a rescue that cannot be made


def put_in_the_way(place: Path | None, gone: Path | None = None) -> None:
    if gone is not None:
        gone.unlink()
    if place is not None:
        place.write_text("a file")


async def test_a_rescue_without_room_is_tried_again(
    folder: Path, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rescue, "_RETRY_S", 0.0)
    database = await filled()
    delete_the_folder()
    put_in_the_way(folder)
    with pytest.raises(StoreUnavailable):
        await commit_archive(database, make_record(ROWS))
    message = await told.next()
    assert "could not be saved yet" in message
    assert f"leave the broker running and make room in {folder}: it is tried again" in message
    put_in_the_way(None, folder)
    with pytest.raises(StoreUnavailable):
        await commit_archive(database, make_record(ROWS))
    assert archived(rescued(await told.next())) == ROWS
    await database.close()


class Interruptible(sqlite3.Connection):
    """A connection whose copy waits until it has been interrupted."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]  # the driver's own
        self.interrupted = threading.Event()

    def interrupt(self) -> None:
        super().interrupt()
        self.interrupted.set()

    def wait(self) -> int:
        assert self.interrupted.wait(WAIT_S)
        return 0


async def test_a_stop_does_not_wait_for_a_long_rescue_for_ever(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "_RESCUE_AT_STOP_S", 0.0)
    monkeypatch.setattr(writer, "_INTERRUPT_S", 0.01)
    database = await filled()
    slow = sqlite3.connect(
        "x.db", isolation_level=None, check_same_thread=False, factory=Interruptible
    )
    slow.execute("SELECT count(*) FROM mcparchive").fetchall()
    slow.set_progress_handler(slow.wait, 1)

    def exchange(connection: sqlite3.Connection) -> None:
        connection.close()
        database._writer._connection = slow

    await database._writer.submit(exchange)
    delete()
    await database.close()
    assert "could not be saved (interrupted)" in await told.next()
    assert names() == []
