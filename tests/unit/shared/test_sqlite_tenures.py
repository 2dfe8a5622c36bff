"""What is written under a tenure, also when nobody knows whether the last COMMIT took effect."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.support.sqlite_faults import UncertainConnection, make_uncertain

from monstermq_shared.errors import StoreConflict, StoreUnavailable
from monstermq_shared.positions import Mark
from monstermq_shared.stores.changes import ClientChanges, Commit, CommitResult, Tenure, Trim
from monstermq_shared.stores.sqlite import SqliteDatabase
from monstermq_shared.stores.sqlite.opening import create_meta
from monstermq_shared.stores.sqlite.tenures import PartitionColumns, Tenures, transaction
from monstermq_shared.testing.builders import (
    ARCHIVE,
    NOON_MS,
    PARTITION,
    commit_sessions,
    make_queue,
    make_record,
    make_session,
)
from monstermq_shared.testing.database_contract import ALL, full_commit, marks_of, rows_of

OTHER = PARTITION._replace(number=1)


@pytest.fixture
def uncertain(path: Path) -> Iterator[UncertainConnection]:
    with closing(
        sqlite3.connect(path, isolation_level=None, factory=UncertainConnection)
    ) as connection:
        create_meta(connection)
        connection.execute("CREATE TABLE rows (x)")
        yield connection


class Writing:
    """A holder of a tenure who writes one row by each commit."""

    def __init__(self, connection: sqlite3.Connection, tenures: Tenures) -> None:
        self.tenure = tenures.begin(connection, PARTITION, ["a", "b"])
        self._connection = connection
        self._tenures = tenures

    def write(self, upto: int) -> None:
        """Commit a row."""
        self._tenures.commit(self._connection, self.tenure, Commit(upto=upto), self._apply)

    def _apply(self, columns: PartitionColumns) -> CommitResult:
        assert columns == (1, 0)
        self._connection.execute("INSERT INTO rows VALUES (1)")
        return CommitResult({})


@pytest.fixture
def writing(uncertain: UncertainConnection) -> Writing:
    return Writing(uncertain, Tenures())


def count_rows(connection: sqlite3.Connection) -> int:
    ((count,),) = connection.execute("-- \nSELECT count(*) FROM rows").fetchall()
    return int(count)


def test_a_commit_that_failed_after_it_took_effect_is_a_success(
    uncertain: UncertainConnection, writing: Writing
) -> None:
    uncertain.fails_commit = uncertain.applies_it = True
    writing.write(1)
    uncertain.fails_commit = False
    writing.write(2)
    assert count_rows(uncertain) == 2


def test_a_commit_that_failed_without_effect_can_be_repeated(
    uncertain: UncertainConnection, writing: Writing
) -> None:
    uncertain.fails_commit = True
    with pytest.raises(sqlite3.OperationalError, match="disk"):
        writing.write(1)
    uncertain.fails_commit = False
    assert count_rows(uncertain) == 0
    writing.write(1)
    assert count_rows(uncertain) == 1


@pytest.mark.parametrize("applied", [True, False])
@pytest.mark.parametrize("upto", [1, 2])
def test_an_unknown_outcome_is_settled_before_the_tenure_writes_again(
    uncertain: UncertainConnection, writing: Writing, applied: bool, upto: int
) -> None:
    """The same commit is done once; another one is done whatever became of the first."""
    uncertain.fails_commit = uncertain.fails_reads = True
    uncertain.applies_it = applied
    for _ in range(3):
        with pytest.raises(sqlite3.OperationalError, match="disk"):
            writing.write(1)
        uncertain.fails_commit = False
    uncertain.fails_reads = False
    assert count_rows(uncertain) == applied
    writing.write(upto)
    assert count_rows(uncertain) == (1 + applied if upto == 2 else 1)
    writing.write(upto)
    assert count_rows(uncertain) == (2 + applied if upto == 2 else 2)


@pytest.mark.parametrize("applied", [True, False])
def test_others_go_on_while_an_outcome_is_unknown(
    uncertain: UncertainConnection, applied: bool
) -> None:
    tenures = Tenures()
    first = Writing(uncertain, tenures)
    other = tenures.begin(uncertain, OTHER, ["a"])
    uncertain.fails_commit = uncertain.fails_reads = True
    uncertain.applies_it = applied
    with pytest.raises(sqlite3.OperationalError, match="disk"):
        first.write(1)
    uncertain.fails_commit = uncertain.fails_reads = False
    tenures.commit(uncertain, other, Commit(upto=9), lambda _: CommitResult({}))
    with transaction(uncertain):
        uncertain.execute("INSERT INTO rows VALUES (2)")
    first.write(1)
    assert count_rows(uncertain) == 2


def test_another_tenures_commit_is_not_taken_for_ours(
    uncertain: UncertainConnection, writing: Writing
) -> None:
    uncertain.fails_commit = uncertain.fails_reads = True
    with pytest.raises(sqlite3.OperationalError, match="disk"):
        writing.write(1)
    uncertain.fails_commit = uncertain.fails_reads = False
    Writing(uncertain, Tenures()).write(1)
    for _ in range(2):
        with pytest.raises(StoreConflict, match="a, b"):
            writing.write(1)
    assert not uncertain.in_transaction
    assert count_rows(uncertain) == 1


def test_a_tenure_that_lost_one_of_its_projections_is_over(
    uncertain: UncertainConnection, writing: Writing
) -> None:
    other = Tenures().begin(uncertain, PARTITION, ["b", "c"])
    assert other.marks == {}
    with pytest.raises(StoreConflict):
        writing.write(1)
    assert count_rows(uncertain) == 0


@pytest.fixture
async def failing(database: SqliteDatabase, path: Path) -> UncertainConnection:
    """Return the writing connection of the database, with a driver that can fail."""
    return await make_uncertain(database, path)


@pytest.fixture
async def tenure(database: SqliteDatabase) -> Tenure:
    return await database.begin(PARTITION, ALL)


@pytest.mark.parametrize("applied", [True, False])
async def test_a_purge_whose_outcome_is_unknown_does_not_hide_the_next_commit(
    database: SqliteDatabase, tenure: Tenure, failing: UncertainConnection, applied: bool
) -> None:
    await database.commit(tenure, full_commit(1))
    failing.fails_commit = failing.fails_reads = True
    failing.applies_it = applied
    with pytest.raises(StoreUnavailable):
        await database.archive_store(ARCHIVE).purge(before_ms=NOON_MS, limit=10)
    failing.fails_commit = failing.fails_reads = False
    await database.commit(tenure, full_commit(2))
    assert await rows_of(database) == (2, 1, 2)
    assert await marks_of(database) == dict.fromkeys(ALL, 3)


@pytest.mark.parametrize("applied", [True, False])
@pytest.mark.parametrize("purges_between", [True, False])
async def test_a_commit_whose_outcome_is_unknown_is_done_once_when_it_is_repeated(
    database: SqliteDatabase,
    tenure: Tenure,
    failing: UncertainConnection,
    applied: bool,
    purges_between: bool,
) -> None:
    queued = make_queue([make_record(offset) for offset in range(4)])
    await commit_sessions(database, 4, a=ClientChanges(session=make_session("a"), queued=queued))
    tenure = await database.begin(PARTITION, ["sessions"])
    failing.fails_commit = failing.fails_reads = True
    failing.applies_it = applied
    trim = Commit(upto=4, sessions={"a": ClientChanges(trim=Trim(after=-1, messages=1, size=0))})
    with pytest.raises(StoreUnavailable):
        await database.commit(tenure, trim)
    failing.fails_commit = failing.fails_reads = False
    if purges_between:
        await database.archive_store(ARCHIVE).purge(before_ms=NOON_MS, limit=10)
    for left in (3, 2):  # the second time it is another commit, however equal
        result = await database.commit(tenure, trim)
        assert result.trimmed["a"].messages == 1
        page = await database.sessions.page(PARTITION, "a", after=-1, before=9, limit=9)
        assert len(page) == left


@pytest.mark.parametrize("applied", [True, False])
async def test_a_tenure_whose_beginning_is_unknown_is_begun_anew(
    database: SqliteDatabase, failing: UncertainConnection, applied: bool
) -> None:
    failing.fails_commit = True
    failing.applies_it = applied
    with pytest.raises(StoreUnavailable):
        await database.begin(PARTITION, ALL)
    failing.fails_commit = False
    tenure = await database.begin(PARTITION, ALL)
    await database.commit(tenure, Commit(upto=3, restart=2))
    assert (await database.begin(PARTITION, ALL)).marks == dict.fromkeys(ALL, Mark(3, 2))
