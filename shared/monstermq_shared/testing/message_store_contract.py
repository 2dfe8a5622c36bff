# ruff: noqa: D102 - the names of the tests say what holds
"""What every store of retained messages and last values must do."""

from collections.abc import Sequence
from itertools import chain, count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from monstermq_shared.projections.last_value import LastValueProjection
from monstermq_shared.projections.selection import GroupSelection
from monstermq_shared.records import Record
from monstermq_shared.stores.changes import Commit
from monstermq_shared.stores.ports import PAGE_SIZE_MAX, Database, MessageStore
from monstermq_shared.testing.builders import (
    AWKWARD_PAYLOADS,
    AWKWARD_TEXTS,
    LARGE_PAYLOADS,
    LONG_TEXTS,
    NOON_MS,
    RETAINED,
    check_page,
    commit_messages,
    commit_once,
    make_record,
)
from monstermq_shared.topics import matches

_LEVELS = st.sampled_from(["", "a", "b", "a!", "a0", "$x", "\u00e4", "\U0010ffff", "0"])
_TOPICS = st.lists(_LEVELS, min_size=1, max_size=11).map("/".join).filter(bool)
_SIZES = st.sampled_from([0, 100, 4_096, 4_097, 9_000])
_WILDCARD_LEVELS = st.lists(st.one_of(_LEVELS, st.just("+")), min_size=1, max_size=5)
_FILTERS = st.builds(
    lambda levels, tail: "/".join([*levels, *tail]) or "#",
    _WILDCARD_LEVELS,
    st.sampled_from([[], ["#"]]),
) | st.just("#")


async def find_pages(
    store: MessageStore, topic_filter: str, *, limit: int, size_max: int = PAGE_SIZE_MAX
) -> list[list[Record]]:
    """Page through everything a filter matches, as long as a page says that more may follow."""
    pages: list[list[Record]] = []
    after = ""
    while True:
        page = await store.find(topic_filter, after=after, limit=limit, size_max=size_max)
        pages.append(page)
        if check_page(page, limit=limit, size_max=size_max):
            return pages
        after = page[-1].topic


async def find_all(
    store: MessageStore, topic_filter: str, *, limit: int, size_max: int = PAGE_SIZE_MAX
) -> list[Record]:
    """Return everything a filter matches, page after page."""
    pages = await find_pages(store, topic_filter, limit=limit, size_max=size_max)
    return list(chain.from_iterable(pages))


async def _commit_last_values(database: Database, records: Sequence[Record]) -> None:
    """Commit a batch as the projection of last values folds it."""
    changes = LastValueProjection("last", GroupSelection(["#"])).fold(records)
    upto = records[-1].offset + 1
    await commit_once(database, Commit(upto=upto, messages={RETAINED: changes}), "last")


class MessageStoreContract:
    """Subclass it with a fixture ``database`` that has a message store ``RetainedMessages``."""

    @pytest.fixture
    def store(self, database: Database) -> MessageStore:
        return database.message_store(RETAINED)

    @pytest.fixture
    def offsets(self) -> "count[int]":
        """Offsets that go on from one example of a property to the next."""
        return count(1)

    @pytest.mark.parametrize("payload", AWKWARD_PAYLOADS.values(), ids=AWKWARD_PAYLOADS)
    async def test_a_record_comes_back_identical(
        self, database: Database, store: MessageStore, payload: bytes
    ) -> None:
        record = make_record(7, payload=payload)
        await commit_messages(database, record)
        for found in (
            await store.get(record.topic),
            *await store.find("plant/#", after="", limit=10),
            *await store.find("+/1", after="", limit=10),
        ):
            assert found == record
            assert found is not None
            assert found.id == record.id

    async def test_payloads_of_all_kinds_share_a_page(
        self, database: Database, store: MessageStore
    ) -> None:
        payloads = enumerate(AWKWARD_PAYLOADS.values(), start=1)
        records = [make_record(i, f"plant/{i}", payload) for i, payload in payloads]
        await commit_messages(database, *records)
        assert await store.find("plant/+", after="", limit=100) == records
        assert await store.find("#", after="plant/2", limit=3) == records[2:5]

    @pytest.mark.parametrize("text", AWKWARD_TEXTS)
    async def test_a_topic_may_hold_any_text(
        self, database: Database, store: MessageStore, text: str
    ) -> None:
        record = make_record(1, f"plant/{text}/x")
        await commit_messages(database, record, make_record(2, "plant/other/x"))
        assert await store.get(record.topic) == record
        assert await store.find(f"plant/{text}/#", after="", limit=9) == [record]
        await commit_once(
            database, Commit(upto=9, messages={RETAINED: {record.topic: None}}), RETAINED
        )
        assert await store.get(record.topic) is None
        assert await store.count() == 1

    async def test_nothing_is_found_where_nothing_is(self, store: MessageStore) -> None:
        assert await store.get("plant/1") is None
        assert await store.find("#", after="", limit=10) == []
        assert await store.count() == 0

    async def test_the_newest_record_of_a_topic_stays(
        self, database: Database, store: MessageStore
    ) -> None:
        await commit_messages(database, make_record(1))
        newer = make_record(5, payload=b"newer")
        await commit_messages(database, newer)
        await commit_messages(database, make_record(4, payload=b"older"))
        assert await store.get(newer.topic) == newer
        assert await store.count() == 1

    async def test_a_cleared_topic_is_gone(self, database: Database, store: MessageStore) -> None:
        await commit_messages(database, make_record(1, "a"), make_record(2, "b"))
        await commit_once(database, Commit(upto=4, messages={RETAINED: {"a": None}}), RETAINED)
        assert await store.get("a") is None
        assert [record.topic for record in await store.find("#", after="", limit=9)] == ["b"]

    async def test_a_commit_does_not_clear_what_is_newer_than_itself(
        self, database: Database, store: MessageStore
    ) -> None:
        newer = make_record(9)
        await commit_messages(database, newer)
        await commit_once(
            database, Commit(upto=5, messages={RETAINED: {newer.topic: None}}), RETAINED
        )
        assert await store.get(newer.topic) == newer

    @pytest.mark.parametrize("start", range(5))
    async def test_a_replay_of_any_suffix_leaves_the_last_values_as_they_are(
        self, database: Database, store: MessageStore, start: int
    ) -> None:
        """A cleared topic stays away, what was written to it since stays, whatever comes again."""
        records = [
            make_record(1, "cleared"),
            make_record(2, "again"),
            make_record(3, "cleared", b""),
            make_record(4, "again", b""),
            make_record(5, "again", b"", retained=False),
        ]
        for record in records + records[start:]:
            await _commit_last_values(database, [record])
        assert await find_all(store, "#", limit=9) == [records[4]]
        await _commit_last_values(database, records[start:])
        assert await find_all(store, "#", limit=9) == [records[4]]

    async def test_an_exact_filter_finds_its_topic_once(
        self, database: Database, store: MessageStore
    ) -> None:
        await commit_messages(database, *(make_record(i, f"a{'/b' * i}") for i in range(3)))
        assert [at.topic for at in await store.find("a/b", after="", limit=9)] == ["a/b"]
        assert await store.find("a/b", after="a/b", limit=9) == []

    async def test_a_wildcard_first_leaves_dollar_topics_alone(
        self, database: Database, store: MessageStore
    ) -> None:
        topics = ["!/x", "$SYS/x", "%/x"]
        await commit_messages(database, *(make_record(i, at) for i, at in enumerate(topics)))
        for topic_filter in ("#", "+/#", "+/x"):
            found = await find_all(store, topic_filter, limit=9)
            assert [record.topic for record in found] == ["!/x", "%/x"]
        assert [at.topic for at in await store.find("$SYS/#", after="", limit=9)] == ["$SYS/x"]

    @pytest.mark.parametrize("limit", [7, 1_000, 5_000])
    async def test_pages_join_to_the_whole(
        self, database: Database, store: MessageStore, limit: int
    ) -> None:
        records = [make_record(i, f"plant/{i:05}/{i % 2}") for i in range(3_000)]
        await commit_messages(database, *records)
        assert await store.count() == len(records)
        assert await find_all(store, "plant/#", limit=limit) == records
        assert await find_all(store, "plant/+/1", limit=limit) == records[1::2]

    @pytest.mark.parametrize("topic_filter", ["#", "a/#", "a/+/c", "+/+/c/#"])
    async def test_pages_of_large_payloads_are_bounded_and_lose_nothing(
        self, database: Database, store: MessageStore, topic_filter: str
    ) -> None:
        records = [make_record(i, f"a/{i:02}/c", at) for i, at in enumerate(LARGE_PAYLOADS)]
        await commit_messages(database, *records, make_record(99, "$a/0/c"))
        pages = await find_pages(store, topic_filter, limit=500)
        assert list(chain.from_iterable(pages)) == records
        assert [len(page) for page in pages] == [4, 4, 4, 4, 4, 0]

    async def test_an_exact_filter_finds_a_large_payload(
        self, database: Database, store: MessageStore
    ) -> None:
        records = [make_record(i, f"a/{i:02}/c", at) for i, at in enumerate(LARGE_PAYLOADS)]
        await commit_messages(database, *records)
        assert await find_all(store, "a/07/c", limit=500) == [records[7]]
        assert await find_all(store, "a/07/c", limit=500, size_max=1) == [records[7]]

    @pytest.mark.parametrize("topic_filter", ["#", "+/#", "+/+", "b/#"])
    @pytest.mark.parametrize("limit", [1, 7, 2_000])
    async def test_long_topics_and_publishers_count_and_come_back(
        self, database: Database, store: MessageStore, topic_filter: str, limit: int
    ) -> None:
        topics = [
            f"{first}/{i:03}{text}" for i, text in enumerate(LONG_TEXTS * 6) for first in "ab"
        ]
        records = [make_record(i, topic) for i, topic in enumerate(topics)]
        for record in records:
            record.client_id = LONG_TEXTS[record.offset % 3]
        await commit_messages(database, *records)
        found: list[Record] = []
        while True:
            after = found[-1].topic if found else ""
            page = await store.find(topic_filter, after=after, limit=limit)
            found += page
            if check_page(page, limit=limit):
                break
        expected = [at for at in records if matches(topic_filter, at.topic)]
        assert found == sorted(expected, key=lambda record: record.topic)

    async def test_many_long_topics_are_purged(
        self, database: Database, store: MessageStore
    ) -> None:
        records = [make_record(i, f"{i}/{LONG_TEXTS[1]}") for i in range(40)]
        await commit_messages(database, *records)
        purged = 0
        while gone := await store.purge(before_ms=NOON_MS + 39, limit=1_000):
            purged += gone
        assert purged == 39
        assert await store.count() == 1

    @pytest.mark.parametrize("topic_filter", ["#", "a/+"])
    async def test_a_payload_above_the_size_of_a_page_is_a_page(
        self, database: Database, store: MessageStore, topic_filter: str
    ) -> None:
        payloads = [b"", AWKWARD_PAYLOADS["5 MB"], AWKWARD_PAYLOADS["5 MB"], b"last"]
        records = [make_record(i, f"a/{i}", at) for i, at in enumerate(payloads)]
        await commit_messages(database, *records)
        pages = await find_pages(store, topic_filter, limit=500)
        assert pages == [records[:2], records[2:3], records[3:]]

    @settings(
        suppress_health_check=[
            HealthCheck.function_scoped_fixture,
            HealthCheck.too_slow,
            # One method for every database.
            HealthCheck.differing_executors,
        ],
        deadline=None,
    )
    @given(
        topics=st.dictionaries(_TOPICS, _SIZES, min_size=1, max_size=12),
        filters=st.lists(_FILTERS, min_size=1, max_size=6),
        bounds=st.tuples(st.integers(1, 5), st.sampled_from([1, 4_196, 10_000, PAGE_SIZE_MAX])),
    )
    async def test_filters_agree_with_the_matcher(
        self,
        database: Database,
        store: MessageStore,
        offsets: "count[int]",
        topics: dict[str, int],
        filters: Sequence[str],
        bounds: tuple[int, int],
    ) -> None:
        await store.purge(before_ms=NOON_MS * 2, limit=1_000)
        records = [make_record(next(offsets), at, bytes(size)) for at, size in topics.items()]
        await commit_messages(database, *records)
        limit, size_max = bounds
        for topic_filter in filters:
            found = await find_all(store, topic_filter, limit=limit, size_max=size_max)
            expected = sorted(topic for topic in topics if matches(topic_filter, topic))
            assert [record.topic for record in found] == expected

    async def test_a_purge_deletes_what_is_older_up_to_its_limit(
        self, database: Database, store: MessageStore
    ) -> None:
        await commit_messages(database, *(make_record(i, f"a/{i}") for i in range(2_000)))
        assert await store.purge(before_ms=NOON_MS + 1_500, limit=200) == 200
        assert await store.purge(before_ms=NOON_MS + 1_500, limit=9_999) == 1_300
        assert await store.purge(before_ms=NOON_MS + 1_500, limit=9_999) == 0
        left = await find_all(store, "#", limit=1_000)
        assert {record.offset for record in left} == set(range(1_500, 2_000))
