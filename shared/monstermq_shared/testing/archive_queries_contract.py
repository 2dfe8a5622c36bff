# ruff: noqa: D102 - the names of the tests say what holds
"""What every archive must answer."""

from collections.abc import Sequence

import pytest

from monstermq_shared.errors import QueryRefused
from monstermq_shared.positions import Partition
from monstermq_shared.queries.bounds import PAYLOAD_WHOLE
from monstermq_shared.queries.history import HistoryPage, HistoryQuery, Message
from monstermq_shared.queries.ports import ArchiveQueries
from monstermq_shared.stores.ports import Database
from monstermq_shared.testing.aggregate_queries_contract import AggregateQueriesContract
from monstermq_shared.testing.builders import (
    AWKWARD_PAYLOADS,
    AWKWARD_TEXTS,
    LONG_TEXTS,
    NOON_MS,
    commit_archive,
    make_record,
)
from monstermq_shared.topics import matches

TOPICS = ("a", "a/b", "a/b/c", "a/b-c", "a/c", "a0", "b/b", "b/b/c", "/", "a//c", "$SYS/a", "A/b")
FILTERS = (
    *(
        "#",
        "+",
        "a/#",
        "a/+",
        "a/+/c",
        "a/+/#",
        "+/b",
        "+/b/#",
        "+/+/c/#",
        "a/b",
        "$SYS/#",
        "$SYS/+",
    ),
    *("a//+", "/#", "+/", "x/#", "a/b/c/#"),
)


class ArchiveQueriesContract(AggregateQueriesContract):
    """Subclass it with fixtures ``database``, with an archive ``MCPArchive``, and ``queries``."""

    # -- history ---------------------------------------------------------------------------------

    @pytest.mark.parametrize("payload", AWKWARD_PAYLOADS.values(), ids=AWKWARD_PAYLOADS)
    async def test_a_message_comes_with_the_beginning_of_its_payload(
        self, database: Database, archive: ArchiveQueries, payload: bytes
    ) -> None:
        record = make_record(7, payload=payload, qos=2, retained=False)
        await commit_archive(database, record)
        (found,) = await self.messages(archive, filters=("plant/1",), payload_limit=10)
        assert found == Message.of(record, payload_limit=10)
        (found,) = await self.messages(archive, filters=("plant/1",), payload_limit=PAYLOAD_WHOLE)
        assert found.complete
        assert found.payload == payload

    @pytest.mark.parametrize("topic", AWKWARD_TEXTS)
    async def test_topic_and_publisher_come_back_whatever_they_are(
        self, database: Database, archive: ArchiveQueries, topic: str
    ) -> None:
        record = make_record(7, topic)
        record.client_id = topic
        await commit_archive(database, record, make_record(8, "x"))
        (found,) = await self.messages(archive, filters=(topic.translate({43: 95, 35: 95}),))
        assert (found.topic, found.client_id) == (topic, topic)

    @pytest.mark.parametrize("topic_filter", FILTERS)
    @pytest.mark.parametrize("newest_first", [True, False])
    async def test_a_filter_finds_what_it_matches(
        self, database: Database, archive: ArchiveQueries, topic_filter: str, newest_first: bool
    ) -> None:
        records = [make_record(i, TOPICS[i % len(TOPICS)]) for i in range(5 * len(TOPICS))]
        await commit_archive(database, *records)
        expected = [record for record in records if matches(topic_filter, record.topic)]
        found = await self.messages(
            archive, filters=(topic_filter,), newest_first=newest_first, limit=1000
        )
        assert found == [
            Message.of(at, payload_limit=2048)
            for at in (expected[::-1] if newest_first else expected)
        ]

    async def test_several_topics_and_filters_are_one_answer(
        self, database: Database, archive: ArchiveQueries
    ) -> None:
        records = [make_record(i, TOPICS[i % len(TOPICS)]) for i in range(3 * len(TOPICS))]
        await commit_archive(database, *records)
        filters = ("a/#", "a/b", "b/b", "missing", "+/b")
        expected = [
            Message.of(record, payload_limit=2048)
            for record in records[::-1]
            if any(matches(topic_filter, record.topic) for topic_filter in filters)
        ]
        assert await self.messages(archive, filters=filters) == expected

    async def test_both_ends_of_a_stretch_of_time_belong_to_it(
        self, database: Database, archive: ArchiveQueries
    ) -> None:
        moments = [NOON_MS, NOON_MS + 11, NOON_MS + 20, NOON_MS + 999, NOON_MS + 1_000]
        records = [make_record(i, timestamp_ms=at) for i, at in enumerate(moments)]
        await commit_archive(database, *records)
        found = await self.messages(
            archive,
            filters=("plant/#",),
            start_ms=moments[1],
            end_ms=moments[3],
            newest_first=False,
        )
        assert [at.time_ms for at in found] == moments[1:4]

    @pytest.mark.parametrize("filters", [("#",), ("plant/1",), ("t/0", "t/1", "plant/+")])
    @pytest.mark.parametrize("newest_first", [True, False])
    async def test_pages_have_every_message_once(
        self,
        database: Database,
        archive: ArchiveQueries,
        filters: tuple[str, ...],
        newest_first: bool,
    ) -> None:
        # Many of one millisecond: only the position tells them apart.
        records = [
            make_record(i, ("plant/1", "t/0", "t/1")[i % 3], timestamp_ms=NOON_MS + i // 17)
            for i in range(100)
        ]
        await commit_archive(database, *records)
        expected = [
            record
            for record in (records[::-1] if newest_first else records)
            if any(matches(one, record.topic) for one in filters)
        ]
        found: list[Message] = []
        cursor: str | None = None
        while True:
            page = await archive.history(
                HistoryQuery(filters=filters, newest_first=newest_first, limit=7, cursor=cursor)
            )
            found += page.rows
            cursor = page.cursor_after(len(page.rows))
            assert (cursor is None) != page.more
            if cursor is None:
                break
        assert found == [Message.of(record, payload_limit=2048) for record in expected]

    async def test_a_page_can_be_left_after_any_of_its_rows(
        self, database: Database, archive: ArchiveQueries
    ) -> None:
        records = [make_record(i) for i in range(10)]
        await commit_archive(database, *records)
        query = {"filters": ("#",), "newest_first": False}
        page = await archive.history(HistoryQuery(**query, limit=8))  # type: ignore[arg-type]
        rest = await self.messages(archive, **query, cursor=page.cursor_after(3))
        assert rest == [Message.of(record, payload_limit=2048) for record in records[3:]]

    async def test_what_comes_meanwhile_moves_nothing(
        self, database: Database, archive: ArchiveQueries
    ) -> None:
        records = [make_record(i) for i in range(10)]
        await commit_archive(database, *records[:8])
        page = await archive.history(HistoryQuery(filters=("#",), limit=4))
        await commit_archive(database, *records[8:])
        rest = await self.messages(archive, filters=("#",), cursor=page.cursor_after(4))
        assert rest == [Message.of(record, payload_limit=2048) for record in records[3::-1]]

    async def test_equal_positions_of_several_partitions_are_all_there(
        self, database: Database, archive: ArchiveQueries
    ) -> None:
        for number in range(3):
            partition = Partition("a log", number)
            records = [make_record(i, f"t/{number}", timestamp_ms=NOON_MS) for i in range(5)]
            await commit_archive(database, *records, partition=partition)
        found: list[tuple[str, str]] = []
        cursor: str | None = None
        while True:
            page = await archive.history(HistoryQuery(filters=("t/#",), limit=4, cursor=cursor))
            found += [(at.topic, at.message_id) for at in page.rows]
            cursor = page.cursor_after(len(page.rows))
            if cursor is None:
                break
        assert len(found) == len(set(found)) == 15

    async def test_long_topics_end_a_page_early(
        self, database: Database, archive: ArchiveQueries
    ) -> None:
        records = [make_record(i, LONG_TEXTS[1]) for i in range(80)]
        for record in records:
            record.client_id = LONG_TEXTS[1]
        await commit_archive(database, *records)
        page = await archive.history(HistoryQuery(filters=("#",), limit=100))
        assert page.more
        assert 0 < len(page.rows) < 80
        rest = await self.messages(
            archive, filters=("#",), cursor=page.cursor_after(len(page.rows)), limit=100
        )
        assert rest
        assert rest[0] == Message.of(records[79 - len(page.rows)], payload_limit=2048)

    async def test_more_topics_than_are_looked_up_one_by_one(
        self, database: Database, archive: ArchiveQueries
    ) -> None:
        records = [make_record(i, f"many/{i % 1500:04}/x") for i in range(3000)]
        records += [make_record(3000 + i, "many/0000/y") for i in range(10)]
        await commit_archive(database, *records)
        found = await self.messages(archive, filters=("many/+/x",), limit=1000)
        assert found == [Message.of(record, payload_limit=2048) for record in records[2999:1999:-1]]

    @pytest.mark.parametrize("cursor", ["", "x", "AAAA" * 20, "é"])
    async def test_a_cursor_that_was_made_up_is_refused(
        self, archive: ArchiveQueries, cursor: str
    ) -> None:
        with pytest.raises(QueryRefused, match="cursor"):
            await archive.history(HistoryQuery(filters=("a",), cursor=cursor))

    async def test_a_cursor_of_another_question_is_refused(
        self, database: Database, archive: ArchiveQueries
    ) -> None:
        await commit_archive(database, *(make_record(i) for i in range(3)))
        page = await archive.history(HistoryQuery(filters=("plant/#",), limit=1))
        with pytest.raises(QueryRefused, match="cursor"):
            await archive.history(HistoryQuery(filters=("#",), cursor=page.cursor_after(1)))

    # -- helpers ---------------------------------------------------------------------------------

    async def messages(self, archive: ArchiveQueries, **query: object) -> Sequence[Message]:
        page: HistoryPage = await archive.history(HistoryQuery(**query))  # type: ignore[arg-type]
        return page.rows
