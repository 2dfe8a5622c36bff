"""What is written when nobody knows whether the last COMMIT took effect."""

import sqlite3
from pathlib import Path

import pytest

from monstermq_shared.errors import StoreConflict, StoreUnavailable
from monstermq_shared.stores.changes import ClientChanges, Trim
from monstermq_shared.stores.sqlite import SqliteDatabase
from monstermq_shared.stores.sqlite.ownership import Ownership
from monstermq_shared.testing.builders import (
    ARCHIVE,
    NOON_MS,
    commit_sessions,
    make_queue,
    make_record,
    make_session,
)
from monstermq_shared.testing.database_contract import full_commit, rows_of


def disk_error() -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR
    return error


class UncertainConnection(sqlite3.Connection):
    """A driver whose COMMIT fails, before or after it took effect; reads may fail as well."""

    fails_commit = False
    applies_it = False
    fails_reads = False

    def execute(self, sql: str, parameters: object = (), /) -> sqlite3.Cursor:
        if self.fails_reads and sql.startswith("SELECT"):
            raise disk_error()
        if self.fails_commit and sql == "COMMIT":
            if self.applies_it:
                super().execute(sql)
            raise disk_error()
        return super().execute(sql, parameters)  # type: ignore[arg-type]


@pytest.fixture
def uncertain(path: Path) -> UncertainConnection:
    connection = sqlite3.connect(path, isolation_level=None, factory=UncertainConnection)
    connection.execute("CREATE TABLE monstermq_meta (writer TEXT)")
    connection.execute("CREATE TABLE watermarks (projection TEXT, partition INTEGER, upto INTEGER)")
    connection.execute("CREATE TABLE rows (x)")
    connection.execute("INSERT INTO monstermq_meta VALUES ('me')")
    connection.execute("INSERT INTO watermarks VALUES ('', -1, 1)")
    return connection


def count_rows(connection: sqlite3.Connection) -> int:
    ((count,),) = connection.execute("SELECT count(*) FROM rows").fetchall()
    return int(count)


def test_a_commit_that_failed_after_it_took_effect_is_a_success(
    uncertain: UncertainConnection,
) -> None:
    ownership = Ownership("me", 1)
    uncertain.fails_commit = uncertain.applies_it = True
    with ownership.transaction(uncertain):
        uncertain.execute("INSERT INTO rows VALUES (1)")
    uncertain.fails_commit = False
    with ownership.transaction(uncertain):
        uncertain.execute("INSERT INTO rows VALUES (2)")
    assert count_rows(uncertain) == 2
    uncertain.close()


def test_a_commit_that_failed_without_effect_can_be_repeated(
    uncertain: UncertainConnection,
) -> None:
    ownership = Ownership("me", 1)
    uncertain.fails_commit = True
    with (
        pytest.raises(sqlite3.OperationalError, match="disk"),
        ownership.transaction(uncertain),
    ):
        uncertain.execute("INSERT INTO rows VALUES (1)")
    uncertain.fails_commit = False
    assert count_rows(uncertain) == 0
    with ownership.transaction(uncertain):
        uncertain.execute("INSERT INTO rows VALUES (1)")
    assert count_rows(uncertain) == 1
    uncertain.close()


@pytest.mark.parametrize("applied", [True, False])
def test_an_unknown_outcome_is_settled_before_anything_else_is_written(
    uncertain: UncertainConnection, applied: bool
) -> None:
    ownership = Ownership("me", 1)
    uncertain.fails_commit = uncertain.fails_reads = True
    uncertain.applies_it = applied
    with (
        pytest.raises(sqlite3.OperationalError, match="disk"),
        ownership.transaction(uncertain),
    ):
        uncertain.execute("INSERT INTO rows VALUES (1)")
    uncertain.fails_commit = False
    with pytest.raises(sqlite3.OperationalError), ownership.transaction(uncertain):
        pytest.fail("the body must not run")
    uncertain.fails_reads = False
    with ownership.transaction(uncertain):
        uncertain.execute("INSERT INTO rows VALUES (2)")
    assert count_rows(uncertain) == 1 + applied
    uncertain.close()


@pytest.fixture
async def failing(database: SqliteDatabase, path: Path) -> UncertainConnection:
    """Return the writing connection of the database, with a driver that can fail."""
    connection = sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, factory=UncertainConnection
    )
    connection.execute("PRAGMA user_version").fetchall()  # so that it is not the last that closes
    database._writer._connection.close()
    database._writer._connection = connection
    return connection


@pytest.mark.parametrize("applied", [True, False])
async def test_a_purge_whose_outcome_is_unknown_does_not_hide_the_next_commit(
    database: SqliteDatabase, failing: UncertainConnection, applied: bool
) -> None:
    await database.commit(full_commit(1))
    failing.fails_commit = failing.fails_reads = True
    failing.applies_it = applied
    with pytest.raises(StoreUnavailable):
        await database.archive_store(ARCHIVE).purge(before_ms=NOON_MS, limit=10)
    failing.fails_commit = failing.fails_reads = False
    await database.commit(full_commit(2))
    assert await rows_of(database) == (2, 1, 2)
    assert (await database.watermarks())["queue"] == 3


@pytest.mark.parametrize("applied", [True, False])
@pytest.mark.parametrize("purges_between", [True, False])
async def test_a_commit_whose_outcome_is_unknown_is_done_once_when_it_is_repeated(
    database: SqliteDatabase, failing: UncertainConnection, applied: bool, purges_between: bool
) -> None:
    queued = make_queue([make_record(offset) for offset in range(4)])
    changes = ClientChanges(session=make_session("a"), queued=queued)
    await commit_sessions(database, 4, a=changes)
    failing.fails_commit = failing.fails_reads = True
    failing.applies_it = applied
    trim = ClientChanges(trim=Trim(after=-1, messages=1, size=0))
    with pytest.raises(StoreUnavailable):
        await commit_sessions(database, 4, a=trim)
    failing.fails_commit = failing.fails_reads = False
    if purges_between:
        await database.archive_store(ARCHIVE).purge(before_ms=NOON_MS, limit=10)
    for left in (3, 2):  # the second time it is another commit, however equal
        result = await commit_sessions(database, 4, a=trim)
        assert result.trimmed["a"].messages == 1
        assert len(await database.sessions.page("a", after=-1, before=9, limit=9)) == left


def test_another_writers_commit_is_not_taken_for_ours(uncertain: UncertainConnection) -> None:
    uncertain.execute("UPDATE monstermq_meta SET writer = 'other'")
    with pytest.raises(StoreConflict), Ownership("me", 1).transaction(uncertain):
        pytest.fail("the body must not run")
    assert not uncertain.in_transaction
    uncertain.close()
