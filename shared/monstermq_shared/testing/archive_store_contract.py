# ruff: noqa: D102 - the names of the tests say what holds
"""What every archive must do."""

import pytest

from monstermq_shared.stores.ports import ArchiveStore, Database, Shrinkable
from monstermq_shared.testing.builders import (
    ARCHIVE,
    AWKWARD_PAYLOADS,
    LARGE_PAYLOADS,
    LONG_TEXTS,
    NOON_MS,
    check_page,
    commit_archive,
    make_record,
)


class ArchiveStoreContract:
    """Subclass it with a fixture ``database`` that has an archive ``MCPArchive``."""

    @pytest.fixture
    def store(self, database: Database) -> ArchiveStore:
        return database.archive_store(ARCHIVE)

    @pytest.mark.parametrize("payload", AWKWARD_PAYLOADS.values(), ids=AWKWARD_PAYLOADS)
    async def test_a_record_comes_back_identical(
        self, database: Database, store: ArchiveStore, payload: bytes
    ) -> None:
        record = make_record(7, payload=payload)
        await commit_archive(database, record)
        (found,) = await store.history(record.topic)
        assert found == record
        assert found.id == record.id

    async def test_equal_timestamps_survive_in_order_of_position(
        self, database: Database, store: ArchiveStore
    ) -> None:
        records = [make_record(i, timestamp_ms=NOON_MS) for i in range(2_500)]
        await commit_archive(database, *records)
        assert await store.history("plant/1", limit=9_999, newest_first=False) == records
        assert await store.history("plant/1", limit=9_999) == records[::-1]

    async def test_a_repeated_record_changes_nothing(
        self, database: Database, store: ArchiveStore
    ) -> None:
        await commit_archive(database, make_record(1, payload=b"first"))
        await commit_archive(database, make_record(1, payload=b"again"), make_record(2))
        found = await store.history("plant/1", newest_first=False)
        assert [(at.offset, at.payload) for at in found] == [(1, b"first"), (2, b"23.5")]

    async def test_history_is_that_of_one_topic(
        self, database: Database, store: ArchiveStore
    ) -> None:
        topics = ["a", "a/b", "A", "a "]
        await commit_archive(database, *(make_record(i, at) for i, at in enumerate(topics)))
        for offset, topic in enumerate(topics):
            assert [record.offset for record in await store.history(topic)] == [offset]
        assert await store.history("a/#") == []

    async def test_both_ends_of_a_time_range_belong_to_it(
        self, database: Database, store: ArchiveStore
    ) -> None:
        # 11 and 20 milliseconds: as text with a varying fraction they would sort wrongly.
        moments = [NOON_MS, NOON_MS + 11, NOON_MS + 20, NOON_MS + 999, NOON_MS + 1_000]
        records = [make_record(i, timestamp_ms=at) for i, at in enumerate(moments)]
        await commit_archive(database, *records)
        found = await store.history(
            "plant/1", start_ms=moments[1], end_ms=moments[3], newest_first=False
        )
        assert found == records[1:4]
        assert await store.history("plant/1", start_ms=moments[3]) == records[:2:-1]
        assert await store.history("plant/1", end_ms=moments[1]) == records[1::-1]

    async def test_a_long_topic_and_publisher_come_back(
        self, database: Database, store: ArchiveStore
    ) -> None:
        records = [make_record(i, LONG_TEXTS[1]) for i in range(30)]
        for record in records:
            record.client_id = LONG_TEXTS[record.offset % 3]
        await commit_archive(database, *records)
        assert await store.history(LONG_TEXTS[1], newest_first=False) == records
        page = await store.history(LONG_TEXTS[1], newest_first=False, size_max=1_000_000)
        assert not check_page(page, limit=1_000, size_max=1_000_000)
        assert page == records[: len(page)]

    @pytest.mark.parametrize("newest_first", [True, False])
    async def test_a_negative_limit_is_not_all_records(
        self, store: ArchiveStore, newest_first: bool
    ) -> None:
        with pytest.raises(ValueError, match="limit is -1"):
            await store.history("plant/1", limit=-1, newest_first=newest_first)

    async def test_the_time_decides_before_the_position(
        self, database: Database, store: ArchiveStore
    ) -> None:
        late, early = make_record(1, timestamp_ms=NOON_MS + 5), make_record(2, timestamp_ms=NOON_MS)
        await commit_archive(database, late, early)
        assert await store.history("plant/1", newest_first=False) == [early, late]

    @pytest.mark.parametrize("timestamp_ms", [0, 1, 999, 1_767_225_599_999, 2**41])
    async def test_a_timestamp_is_kept_to_the_millisecond(
        self, database: Database, store: ArchiveStore, timestamp_ms: int
    ) -> None:
        await commit_archive(database, make_record(1, timestamp_ms=timestamp_ms))
        (found,) = await store.history("plant/1", start_ms=timestamp_ms, end_ms=timestamp_ms)
        assert found.timestamp_ms == timestamp_ms

    @pytest.mark.parametrize("limit", [1, 1_024, 1_025, 2_999])
    async def test_a_limit_keeps_the_newest_or_the_oldest(
        self, database: Database, store: ArchiveStore, limit: int
    ) -> None:
        records = [make_record(i) for i in range(3_000)]
        await commit_archive(database, *records)
        assert await store.history("plant/1", limit=limit) == records[: -limit - 1 : -1]
        oldest = await store.history("plant/1", limit=limit, newest_first=False)
        assert oldest == records[:limit]

    @pytest.mark.parametrize("newest_first", [True, False])
    async def test_a_history_of_large_payloads_is_bounded(
        self, database: Database, store: ArchiveStore, newest_first: bool
    ) -> None:
        records = [make_record(i, payload=at) for i, at in enumerate(LARGE_PAYLOADS)]
        await commit_archive(database, *records)
        expected = records[::-1] if newest_first else records
        size_max = 1_000_000
        found = await store.history("plant/1", newest_first=newest_first, size_max=size_max)
        assert found == expected[:4]
        assert not check_page(found, limit=1_000, size_max=size_max)
        assert await store.history("plant/1", newest_first=newest_first, size_max=1) == expected[:1]
        assert await store.history("plant/1", newest_first=newest_first) == expected

    async def test_a_purge_deletes_the_oldest_up_to_its_limit(
        self, database: Database, store: ArchiveStore
    ) -> None:
        await commit_archive(database, *(make_record(i) for i in range(3_000)))
        assert await store.purge(before_ms=NOON_MS + 2_000, limit=700) == 700
        assert (await store.history("plant/1", limit=1, newest_first=False))[0].offset == 700
        assert await store.purge(before_ms=NOON_MS + 2_000, limit=9_999) == 1_300
        assert await store.purge(before_ms=NOON_MS + 2_000, limit=9_999) == 0
        left = await store.history("plant/1", limit=9_999, newest_first=False)
        assert [record.offset for record in left] == list(range(2_000, 3_000))


class ShrinkableContract:
    """What an archive must do whose oldest records make room; with a fixture ``database``."""

    async def test_the_oldest_go_first(self, database: Database) -> None:
        store = database.archive_store(ARCHIVE)
        assert isinstance(store, Shrinkable)
        assert await store.oldest_ms() is None
        assert await store.purge_oldest(limit=5) == 0
        records = [make_record(i, timestamp_ms=NOON_MS + 5_000 - i) for i in range(2_000)]
        await commit_archive(database, *records)
        assert await store.oldest_ms() == NOON_MS + 3_001
        assert await store.purge_oldest(limit=1_200) == 1_200
        assert await store.oldest_ms() == NOON_MS + 4_201
        assert await store.history("plant/1", limit=9_999) == records[:800]
        assert await store.purge_oldest(limit=1_200) == 800
        assert await store.oldest_ms() is None
