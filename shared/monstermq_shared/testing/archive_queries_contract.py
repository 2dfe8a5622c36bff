# ruff: noqa: D102 - the names of the tests say what holds
"""What every archive must answer."""

from collections.abc import Sequence

import pytest

from monstermq_shared.errors import QueryRefused
from monstermq_shared.positions import Partition
from monstermq_shared.queries.aggregates import (
    AggregateFunction,
    AggregatePage,
    AggregateQuery,
    Bucket,
)
from monstermq_shared.queries.bounds import PAYLOAD_WHOLE
from monstermq_shared.queries.fields import FieldPath
from monstermq_shared.queries.history import HistoryPage, HistoryQuery, Message
from monstermq_shared.queries.ports import ArchiveQueries, DatabaseQueries
from monstermq_shared.stores.ports import Database
from monstermq_shared.testing.builders import (
    ARCHIVE,
    AWKWARD_PAYLOADS,
    AWKWARD_TEXTS,
    LONG_TEXTS,
    NOON_MS,
    commit_archive,
    make_record,
)
from monstermq_shared.topics import matches

HOUR_MS = 3_600_000
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


class ArchiveQueriesContract:
    """Subclass it with fixtures ``database``, with an archive ``MCPArchive``, and ``queries``."""

    @pytest.fixture
    def archive(self, queries: DatabaseQueries) -> ArchiveQueries:
        return queries.archive(ARCHIVE)

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
        with pytest.raises(QueryRefused, match="cursor"):
            await archive.aggregate(_aggregate(filters=("a",), cursor=cursor))

    async def test_a_cursor_of_another_question_is_refused(
        self, database: Database, archive: ArchiveQueries
    ) -> None:
        await commit_archive(database, *(make_record(i) for i in range(3)))
        page = await archive.history(HistoryQuery(filters=("plant/#",), limit=1))
        with pytest.raises(QueryRefused, match="cursor"):
            await archive.history(HistoryQuery(filters=("#",), cursor=page.cursor_after(1)))

    # -- aggregates ------------------------------------------------------------------------------

    async def test_a_bucket_has_what_is_asked_of_it(
        self, database: Database, archive: ArchiveQueries
    ) -> None:
        values = [b"2", b"0.5", b"-1e3", b"7"]
        await commit_archive(
            database, *(make_record(i, payload=value) for i, value in enumerate(values))
        )
        (bucket,) = (await archive.aggregate(_aggregate())).rows
        assert bucket == Bucket(
            topic="plant/1",
            start_ms=NOON_MS,
            messages=4,
            numbers=4,
            values={
                AggregateFunction.AVG: -247.625,
                AggregateFunction.MIN: -1000.0,
                AggregateFunction.MAX: 7.0,
                AggregateFunction.FIRST: 2.0,
                AggregateFunction.LAST: 7.0,
                AggregateFunction.COUNT: 4,
                AggregateFunction.SUM: -990.5,
            },
        )

    async def test_only_what_was_asked_for_is_there(
        self, database: Database, archive: ArchiveQueries
    ) -> None:
        await commit_archive(database, make_record(0))
        functions = (AggregateFunction.MAX, AggregateFunction.COUNT)
        (bucket,) = (await archive.aggregate(_aggregate(functions=functions))).rows
        assert bucket.values == {AggregateFunction.MAX: 23.5, AggregateFunction.COUNT: 1}

    @pytest.mark.parametrize(
        "payload",
        [
            *(b"", b"warm", b'"23.5"', b"true", b"null", b"{}", b"[1]", b"\xff", b"1\x00", b"NaN"),
            *(b"0x10", b"1e999", b"-1e999", b"23,5", b"Infinity", b"1 2"),
        ],
    )
    async def test_what_is_no_number_is_left_out_and_counted(
        self, database: Database, archive: ArchiveQueries, payload: bytes
    ) -> None:
        await commit_archive(
            database,
            make_record(0, payload=payload),
            make_record(1, payload=b"3"),
            make_record(2, payload=payload),
            make_record(HOUR_MS, payload=payload),
        )
        first, second = (await archive.aggregate(_aggregate())).rows
        assert (first.messages, first.numbers) == (3, 1)
        assert set(first.values.values()) == {3.0, 1}
        assert (second.messages, second.numbers) == (1, 0)
        assert second.values == {
            name: 0 if name is AggregateFunction.COUNT else None for name in AggregateFunction
        }

    @pytest.mark.parametrize(
        ("path", "payload"),
        [
            ("value", b'{"value": 2.25, "other": 9}'),
            ("a.b[1].c", b'{"a": {"b": [0, {"c": 2.25}]}}'),
            ('"a.b"', b'{"a.b": 2.25, "a": {"b": 9}}'),
            ("[0]", b"[2.25]"),
            ("it's", b'{"it\'s": 2.25}'),
            ("%_", b'{"%_": 2.25}'),
            ("größe", '{"größe": 2.25}'.encode()),
            ("a b", b'{"a b": 2.25}'),
            ("0", b'{"0": 2.25}'),
        ],
    )
    async def test_a_field_of_the_payload_is_found_by_its_path(
        self, database: Database, archive: ArchiveQueries, path: str, payload: bytes
    ) -> None:
        await commit_archive(
            database, make_record(0, payload=payload), make_record(1, payload=b'{"x": 9}')
        )
        field = FieldPath.parse(path)
        (bucket,) = (await archive.aggregate(_aggregate(field=field))).rows
        assert (bucket.messages, bucket.numbers) == (2, 1)
        assert bucket.values[AggregateFunction.SUM] == 2.25

    async def test_an_index_is_no_member(self, database: Database, archive: ArchiveQueries) -> None:
        await commit_archive(database, make_record(0, payload=b'{"0": 1}'))
        (bucket,) = (await archive.aggregate(_aggregate(field=FieldPath((0,))))).rows
        assert bucket.numbers == 0

    async def test_numbers_come_back_to_their_last_digit_but_one(
        self, database: Database, archive: ArchiveQueries
    ) -> None:
        values = [0.1, 1e-300, 123456789.12345679, 9007199254740991.0, 1.7976931348623e308]
        await commit_archive(
            database,
            *(make_record(i * HOUR_MS, payload=repr(at).encode()) for i, at in enumerate(values)),
        )
        page = await archive.aggregate(_aggregate(hours=5))
        found = [bucket.values[AggregateFunction.FIRST] for bucket in page.rows]
        assert found == pytest.approx(values, rel=1e-15, abs=0)

    async def test_large_whole_numbers_do_not_overflow(
        self, database: Database, archive: ArchiveQueries
    ) -> None:
        await commit_archive(
            database, *(make_record(i, payload=b"9223372036854775807") for i in range(3))
        )
        (bucket,) = (await archive.aggregate(_aggregate())).rows
        assert bucket.values[AggregateFunction.SUM] == pytest.approx(3 * 2.0**63)

    async def test_buckets_are_counted_from_the_start_and_empty_ones_left_out(
        self, database: Database, archive: ArchiveQueries
    ) -> None:
        minutes = [-31, -30, 0, 29, 30, 89, 150, 209, 210]
        await commit_archive(
            database,
            *(
                make_record(i, timestamp_ms=NOON_MS + minute * 60_000)
                for i, minute in enumerate(minutes)
            ),
        )
        start_ms = NOON_MS - 30 * 60_000
        page = await archive.aggregate(_aggregate(start_ms=start_ms, hours=4))
        assert [(at.start_ms - start_ms) // HOUR_MS for at in page.rows] == [0, 1, 3]
        assert [at.messages for at in page.rows] == [3, 2, 2]

    async def test_the_last_bucket_ends_with_the_stretch_of_time(
        self, database: Database, archive: ArchiveQueries
    ) -> None:
        await commit_archive(database, *(make_record(i * 1000) for i in range(100)))
        query = _aggregate(end_ms=NOON_MS + 50_000, bucket_ms=20_000)
        page = await archive.aggregate(query)
        assert [at.messages for at in page.rows] == [20, 20, 10]

    async def test_each_topic_has_its_buckets(
        self, database: Database, archive: ArchiveQueries
    ) -> None:
        await commit_archive(
            database,
            *(
                make_record(
                    i, f"room/{i % 3}/t", str(i).encode(), timestamp_ms=NOON_MS + i * 60_000
                )
                for i in range(120)
            ),
            make_record(120, "room/0/h"),
        )
        page = await archive.aggregate(_aggregate(filters=("room/+/t",), hours=2))
        assert [(at.topic, at.start_ms - NOON_MS, at.messages) for at in page.rows] == [
            (f"room/{room}/t", hour * HOUR_MS, 20) for room in range(3) for hour in range(2)
        ]
        assert page.rows[1].values[AggregateFunction.FIRST] == 60.0
        assert page.rows[1].values[AggregateFunction.LAST] == 117.0

    async def test_all_topics_can_share_their_buckets(
        self, database: Database, archive: ArchiveQueries
    ) -> None:
        await commit_archive(
            database,
            *(
                make_record(
                    i, f"room/{i % 3}/t", str(i).encode(), timestamp_ms=NOON_MS + i * 60_000
                )
                for i in range(120)
            ),
        )
        page = await archive.aggregate(_aggregate(filters=("room/#",), by_topic=False, hours=2))
        assert [(at.topic, at.messages) for at in page.rows] == [(None, 60), (None, 60)]
        assert page.rows[1].values == {
            AggregateFunction.AVG: 89.5,
            AggregateFunction.MIN: 60.0,
            AggregateFunction.MAX: 119.0,
            AggregateFunction.FIRST: 60.0,
            AggregateFunction.LAST: 119.0,
            AggregateFunction.COUNT: 60,
            AggregateFunction.SUM: 5370.0,
        }

    @pytest.mark.parametrize("by_topic", [True, False])
    async def test_buckets_of_more_topics_than_are_looked_up_one_by_one(
        self, database: Database, archive: ArchiveQueries, by_topic: bool
    ) -> None:
        records = [make_record(i, f"many/{i:05}", b"1") for i in range(5000)]
        await commit_archive(database, *records)
        buckets = await self.buckets(archive, filters=("many/+",), by_topic=by_topic, limit=1000)
        assert sum(at.messages for at in buckets) == 5000
        assert len(buckets) == (5000 if by_topic else 1)

    @pytest.mark.parametrize("by_topic", [True, False])
    async def test_pages_have_every_bucket_once(
        self, database: Database, archive: ArchiveQueries, by_topic: bool
    ) -> None:
        records = [
            make_record(i, f"t/{i % 5}", timestamp_ms=NOON_MS + i % 7 * HOUR_MS) for i in range(70)
        ]
        await commit_archive(database, *records)
        query = {"filters": ("t/#",), "hours": 7, "by_topic": by_topic}
        whole = await archive.aggregate(_aggregate(**query, limit=1000))
        assert not whole.more
        assert len(whole.rows) == (35 if by_topic else 7)
        assert await self.buckets(archive, **query, limit=3) == whole.rows

    async def test_an_archive_without_messages_has_no_buckets(
        self, archive: ArchiveQueries
    ) -> None:
        for by_topic in (True, False):
            page = await archive.aggregate(_aggregate(filters=("#", "a"), by_topic=by_topic))
            assert (page.rows, page.more) == ([], False)

    # -- helpers ---------------------------------------------------------------------------------

    async def messages(self, archive: ArchiveQueries, **query: object) -> Sequence[Message]:
        page: HistoryPage = await archive.history(HistoryQuery(**query))  # type: ignore[arg-type]
        return page.rows

    async def buckets(self, archive: ArchiveQueries, **query: object) -> list[Bucket]:
        found: list[Bucket] = []
        cursor: str | None = None
        while True:
            page: AggregatePage = await archive.aggregate(_aggregate(**query, cursor=cursor))
            found += page.rows
            cursor = page.cursor_after(len(page.rows))
            assert (cursor is None) != page.more
            if cursor is None:
                return found


def _aggregate(**changed: object) -> AggregateQuery:
    hours, start_ms = changed.pop("hours", 3), changed.get("start_ms", NOON_MS)
    assert isinstance(hours, int)
    assert isinstance(start_ms, int)
    values: dict[str, object] = {
        "filters": ("plant/1",),
        "functions": tuple(AggregateFunction),
        "start_ms": start_ms,
        "end_ms": start_ms + hours * HOUR_MS,
        "bucket_ms": HOUR_MS,
    }
    return AggregateQuery(**{**values, **changed})  # type: ignore[arg-type]
