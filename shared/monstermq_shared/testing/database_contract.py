# ruff: noqa: D102 - the names of the tests say what holds
"""What every database must do: tenures, commits, marks, and all of them together."""

import asyncio
from contextlib import AbstractAsyncContextManager, suppress
from typing import Protocol

import pytest

from monstermq_shared.errors import StoreConflict, StoreUnavailable
from monstermq_shared.positions import Mark, Partition
from monstermq_shared.stores.changes import ClientChanges, Commit, Tenure
from monstermq_shared.stores.ports import Database
from monstermq_shared.testing.builders import (
    ARCHIVE,
    PARTITION,
    RETAINED,
    commit_archive,
    commit_once,
    make_queue,
    make_record,
    make_session,
)

ALL = ["sessions", RETAINED, ARCHIVE]


def full_commit(offset: int) -> Commit:
    """Make a commit that changes every store."""
    record = make_record(offset)
    changes = ClientChanges(session=make_session("a"), queued=make_queue([record]))
    return Commit(
        upto=offset + 1,
        sessions={"a": changes},
        messages={RETAINED: {record.topic: record}},
        archives={ARCHIVE: [record]},
    )


async def rows_of(database: Database, partition: Partition = PARTITION) -> tuple[int, int, int]:
    """Count the rows of queue, message store and archive."""
    queue = await database.sessions.page(partition, "a", after=-1, before=2**62, limit=10_000)
    archive = await database.archive_store(ARCHIVE).history("plant/1", limit=10_000)
    return len(queue), await database.message_store(RETAINED).count(), len(archive)


async def marks_of(database: Database, partition: Partition = PARTITION) -> dict[str, int]:
    """Return what every projection reflects."""
    async with database.sessions.load(partition) as snapshot:
        return {name: mark.reflected for name, mark in snapshot.marks.items()}


class DatabaseContract:
    """Subclass it with a fixture ``database`` that has all stores."""

    @pytest.fixture
    async def tenure(self, database: Database) -> Tenure:
        return await database.begin(PARTITION, ALL)

    async def test_nothing_committed_means_no_mark(self, tenure: Tenure) -> None:
        assert tenure.marks == {}
        assert (tenure.partition, tenure.projections) == (PARTITION, tuple(ALL))

    async def test_all_stores_change_in_one_commit(
        self, database: Database, tenure: Tenure
    ) -> None:
        await database.commit(tenure, full_commit(1))
        assert await rows_of(database) == (1, 1, 1)
        assert await marks_of(database) == dict.fromkeys(ALL, 2)

    async def test_the_next_tenure_knows_the_marks(
        self, database: Database, tenure: Tenure
    ) -> None:
        await database.commit(tenure, Commit(upto=9, restart=4))
        after = await database.begin(PARTITION, [RETAINED, "new"])
        assert after.marks == {RETAINED: Mark(9, 4)}
        await database.commit(after, Commit(upto=12))
        last = await database.begin(PARTITION, [*ALL, "new"])
        assert last.marks == {
            "sessions": Mark(9, 4),
            RETAINED: Mark(12, 12),
            ARCHIVE: Mark(9, 4),
            "new": Mark(12, 12),
        }

    async def test_a_mark_never_goes_back(self, database: Database, tenure: Tenure) -> None:
        await database.commit(tenure, Commit(upto=9))
        await database.commit(tenure, Commit(upto=4))
        again = await database.begin(PARTITION, ALL)
        assert again.marks == dict.fromkeys(ALL, Mark(9, 9))

    async def test_partitions_and_generations_have_marks_of_their_own(
        self, database: Database
    ) -> None:
        partitions = [
            PARTITION,
            PARTITION._replace(number=2),
            PARTITION._replace(generation="another log"),
        ]
        tenures = [await database.begin(partition, ALL) for partition in partitions]
        for upto, tenure in enumerate(tenures, 5):
            await database.commit(tenure, Commit(upto=upto))
        for upto, partition in enumerate(partitions, 5):
            assert await marks_of(database, partition) == dict.fromkeys(ALL, upto)

    async def test_equal_offsets_of_partitions_and_generations_are_apart(
        self, database: Database
    ) -> None:
        await commit_archive(database, make_record(1, payload=b"first"))
        partition = PARTITION._replace(number=1)
        await commit_archive(database, make_record(1, payload=b"second"), partition=partition)
        partition = PARTITION._replace(generation="another log")
        await commit_archive(database, make_record(1, payload=b"third"), partition=partition)
        found = await database.archive_store(ARCHIVE).history("plant/1")
        assert sorted(record.payload for record in found) == [b"first", b"second", b"third"]

    async def test_a_newer_tenure_ends_an_older_one(
        self, database: Database, tenure: Tenure
    ) -> None:
        await database.commit(tenure, full_commit(1))
        newer = await database.begin(PARTITION, ALL)
        with pytest.raises(StoreConflict):
            await database.commit(tenure, full_commit(2))
        assert await rows_of(database) == (1, 1, 1)
        await database.commit(newer, full_commit(2))
        assert await rows_of(database) == (2, 1, 2)

    async def test_tenures_of_other_projections_and_partitions_go_on(
        self, database: Database, tenure: Tenure
    ) -> None:
        others = [
            await database.begin(PARTITION, ["another view"]),
            await database.begin(PARTITION._replace(number=1), ALL),
        ]
        await database.commit(tenure, full_commit(1))
        for other in others:
            await database.commit(other, Commit(upto=7))
        await database.commit(tenure, full_commit(2))
        assert await rows_of(database) == (2, 1, 2)

    async def test_a_repeated_commit_changes_nothing(
        self, database: Database, tenure: Tenure
    ) -> None:
        await database.commit(tenure, full_commit(1))
        await database.commit(tenure, full_commit(1))
        assert await rows_of(database) == (1, 1, 1)

    async def test_a_commit_is_visible_to_every_later_read(
        self, database: Database, tenure: Tenure
    ) -> None:
        for offset in range(20):
            await database.commit(tenure, full_commit(offset))
            pages = [rows_of(database) for _ in range(4)]
            assert await asyncio.gather(*pages) == [(offset + 1, 1, offset + 1)] * 4

    async def test_reads_and_purges_run_beside_commits(
        self, database: Database, tenure: Tenure
    ) -> None:
        await commit_once(
            database,
            Commit(
                upto=3_000,
                archives={ARCHIVE: [make_record(i, "old", timestamp_ms=i) for i in range(3_000)]},
            ),
            "another view",
        )
        archive = database.archive_store(ARCHIVE)

        async def commit_all() -> None:
            for offset in range(10_000, 10_050):
                await database.commit(tenure, full_commit(offset))

        async def purge_all() -> int:
            purged = 0
            while gone := await archive.purge(before_ms=3_000, limit=3_000):
                purged += gone
            return purged

        _, purged, *_ = await asyncio.gather(commit_all(), purge_all(), rows_of(database))
        assert purged == 3_000
        assert await archive.history("old") == []
        assert await rows_of(database) == (50, 1, 50)


class Faults(Protocol):
    """What can befall a database; a fixture of each that can fail."""

    async def second_tenant(self) -> Database:
        """Return another process's view of the same rows, which may begin tenures of its own."""
        ...

    def unavailable(self) -> AbstractAsyncContextManager[None]:
        """Return a time in which the database takes no commit, as when it is down or full."""
        ...

    def unknown_outcome(self, *, applied: bool) -> AbstractAsyncContextManager[None]:
        """Return a time in which the next COMMIT fails, having taken effect or not."""
        ...


class DatabaseFaultContract:
    """What every database must do that can fail: with fixtures ``database`` and ``faults``."""

    @pytest.fixture
    async def tenure(self, database: Database) -> Tenure:
        return await database.begin(PARTITION, ALL)

    async def test_what_is_unavailable_says_so_and_goes_on(
        self, database: Database, faults: Faults, tenure: Tenure
    ) -> None:
        await database.commit(tenure, full_commit(1))
        async with faults.unavailable():
            for _ in range(3):
                with pytest.raises(StoreUnavailable):
                    await database.commit(tenure, full_commit(2))
        await commit_until_it_works(database, tenure, full_commit(2))
        await database.commit(tenure, full_commit(3))
        assert await rows_of(database) == (3, 1, 3)
        assert await marks_of(database) == dict.fromkeys(ALL, 4)

    @pytest.mark.parametrize("applied", [True, False])
    async def test_a_commit_of_unknown_outcome_is_applied_once(
        self, database: Database, faults: Faults, tenure: Tenure, applied: bool
    ) -> None:
        await database.commit(tenure, full_commit(1))
        async with faults.unknown_outcome(applied=applied):
            with suppress(StoreUnavailable):  # some databases find out by themselves
                await database.commit(tenure, full_commit(2))
        await commit_until_it_works(database, tenure, full_commit(2))
        await database.commit(tenure, full_commit(3))
        assert await rows_of(database) == (3, 1, 3)
        assert await marks_of(database) == dict.fromkeys(ALL, 4)

    async def test_a_second_tenant_ends_the_tenure_of_the_first(
        self, database: Database, faults: Faults, tenure: Tenure
    ) -> None:
        await database.commit(tenure, full_commit(1))
        second = await faults.second_tenant()
        theirs = await second.begin(PARTITION, ALL)
        assert theirs.marks == dict.fromkeys(ALL, Mark(2, 2))
        await second.commit(theirs, full_commit(2))
        with pytest.raises(StoreConflict):
            await database.commit(tenure, full_commit(3))
        assert await rows_of(second) == (2, 1, 2)
        await second.commit(theirs, full_commit(4))
        assert await rows_of(second) == (3, 1, 3)


async def commit_until_it_works(database: Database, tenure: Tenure, commit: Commit) -> None:
    """Repeat a commit as its caller would, for a bounded time."""
    async with asyncio.timeout(30):
        while True:
            try:
                await database.commit(tenure, commit)
            except StoreUnavailable:
                await asyncio.sleep(0.02)  # as the backoff of whoever commits
            else:
                return
