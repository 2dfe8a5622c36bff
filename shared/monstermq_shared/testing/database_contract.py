# ruff: noqa: D102 - the names of the tests say what holds
"""What every database must do: commits, watermarks, and both together."""

import asyncio

from monstermq_shared.stores.ports import ClientChanges, Commit
from monstermq_shared.testing.builders import (
    ARCHIVE,
    RETAINED,
    StoreDatabase,
    commit_archive,
    make_queue,
    make_record,
    make_session,
)


def full_commit(offset: int) -> Commit:
    """Make a commit that changes every store."""
    record = make_record(offset)
    changes = ClientChanges(session=make_session("a"), queued=make_queue([record]))
    return Commit(
        upto=offset + 1,
        projections=["queue", RETAINED, ARCHIVE],
        sessions={"a": changes},
        messages={RETAINED: {record.topic: record}},
        archives={ARCHIVE: [record]},
    )


async def rows_of(database: StoreDatabase) -> tuple[int, int, int]:
    """Count the rows of queue, message store and archive."""
    queue = await database.sessions.page("a", after=-1, before=2**62, limit=10_000)
    archive = await database.archive_store(ARCHIVE).history("plant/1", limit=10_000)
    return len(queue), await database.message_store(RETAINED).count(), len(archive)


class DatabaseContract:
    """Subclass it with a fixture ``database`` that has all stores."""

    async def test_nothing_committed_means_no_watermark(self, database: StoreDatabase) -> None:
        assert await database.watermarks() == {}

    async def test_all_stores_change_in_one_commit(self, database: StoreDatabase) -> None:
        await database.commit(full_commit(1))
        assert await rows_of(database) == (1, 1, 1)
        assert await database.watermarks() == {"queue": 2, RETAINED: 2, ARCHIVE: 2}

    async def test_a_watermark_moves_only_for_the_projections_named(
        self, database: StoreDatabase
    ) -> None:
        await database.commit(full_commit(1))
        await database.commit(Commit(upto=9, projections=["queue"]))
        assert await database.watermarks() == {"queue": 9, RETAINED: 2, ARCHIVE: 2}

    async def test_a_watermark_never_goes_back(self, database: StoreDatabase) -> None:
        await database.commit(Commit(upto=9, projections=["queue"]))
        await database.commit(Commit(upto=4, projections=["queue", RETAINED]))
        assert await database.watermarks() == {"queue": 9, RETAINED: 4}

    async def test_a_repeated_commit_changes_nothing(self, database: StoreDatabase) -> None:
        await database.commit(full_commit(1))
        await database.commit(full_commit(1))
        assert await rows_of(database) == (1, 1, 1)

    async def test_a_commit_is_visible_to_every_later_read(self, database: StoreDatabase) -> None:
        for offset in range(20):
            await database.commit(full_commit(offset))
            pages = [rows_of(database) for _ in range(4)]
            assert await asyncio.gather(*pages) == [(offset + 1, 1, offset + 1)] * 4

    async def test_reads_and_purges_run_beside_commits(self, database: StoreDatabase) -> None:
        await commit_archive(
            database, *(make_record(i, "old", timestamp_ms=i) for i in range(3_000))
        )
        archive = database.archive_store(ARCHIVE)

        async def commit_all() -> None:
            for offset in range(10_000, 10_050):
                await database.commit(full_commit(offset))

        _, purged, *_ = await asyncio.gather(
            commit_all(), archive.purge(before_ms=3_000, limit=3_000), rows_of(database)
        )
        assert purged == 3_000
        assert await archive.history("old") == []
        assert await rows_of(database) == (50, 1, 50)

    async def test_space_is_given_back_until_there_is_no_more(
        self, database: StoreDatabase
    ) -> None:
        records = [make_record(i, payload=bytes(9_000)) for i in range(999)]
        await commit_archive(database, *records)
        assert await database.archive_store(ARCHIVE).purge_oldest(limit=999) == 999
        await database.commit(full_commit(1_000))
        async with asyncio.timeout(60):
            while await database.give_space_back():
                await database.commit(full_commit(1_001))
        await database.commit(full_commit(1_001))
        assert await rows_of(database) == (2, 1, 2)

    async def test_a_database_grows_with_what_it_holds(self, database: StoreDatabase) -> None:
        empty = await database.size()
        await commit_archive(database, make_record(1, payload=b"x" * 1_000_000))
        assert await database.size() - empty > 900_000
