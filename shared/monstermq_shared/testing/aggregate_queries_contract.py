# ruff: noqa: D102 - the names of the tests say what holds
"""What every archive must answer when it is asked for numbers in buckets of time."""

import pytest

from monstermq_shared.errors import QueryRefused
from monstermq_shared.queries.aggregates import (
    AggregateFunction,
    AggregatePage,
    AggregateQuery,
    Bucket,
)
from monstermq_shared.queries.fields import FieldPath
from monstermq_shared.queries.ports import ArchiveQueries, DatabaseQueries
from monstermq_shared.stores.ports import Database
from monstermq_shared.testing.builders import ARCHIVE, NOON_MS, commit_archive, make_record

HOUR_MS = 3_600_000


class AggregateQueriesContract:
    """Subclass it with fixtures ``database``, with an archive ``MCPArchive``, and ``queries``."""

    @pytest.fixture
    def archive(self, queries: DatabaseQueries) -> ArchiveQueries:
        return queries.archive(ARCHIVE)

    @pytest.mark.parametrize("cursor", ["", "x", "AAAA" * 20])
    async def test_a_cursor_of_buckets_that_was_made_up_is_refused(
        self, archive: ArchiveQueries, cursor: str
    ) -> None:
        with pytest.raises(QueryRefused, match="cursor"):
            await archive.aggregate(_aggregate(filters=("a",), cursor=cursor))

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

    @pytest.mark.parametrize(
        "number", [-(2**63), 2**63 - 1, 2**63, -(2**63) - 1, 10**300, 0, 1, -1, 2**53]
    )
    async def test_every_whole_number_that_a_double_holds_is_one(
        self, database: Database, archive: ArchiveQueries, number: int
    ) -> None:
        await commit_archive(database, make_record(0, payload=str(number).encode()))
        (bucket,) = (await archive.aggregate(_aggregate())).rows
        assert bucket.values[AggregateFunction.LAST] == pytest.approx(float(number))
        assert bucket.values[AggregateFunction.MIN] == pytest.approx(float(number))

    async def test_a_sum_beyond_what_a_double_holds_is_left_out(
        self, database: Database, archive: ArchiveQueries
    ) -> None:
        await commit_archive(database, *(make_record(i, payload=b"1.7e308") for i in range(2)))
        functions = (AggregateFunction.SUM, AggregateFunction.MAX)
        (bucket,) = (await archive.aggregate(_aggregate(functions=functions))).rows
        assert bucket.numbers == 2
        assert bucket.values[AggregateFunction.SUM] is None
        assert bucket.values[AggregateFunction.MAX] == pytest.approx(1.7e308)

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
    async def test_no_topic_is_left_out_beside_a_filter_of_very_many(
        self, database: Database, archive: ArchiveQueries, by_topic: bool
    ) -> None:
        names = [*(f"a/{number:04}" for number in range(1500)), "b/x", "c", "zzz"]
        records = [make_record(number, name, b"1") for number, name in enumerate(names)]
        await commit_archive(database, *records)
        buckets = await self.buckets(
            archive, filters=("zzz", "a/#", "b/#", "c"), by_topic=by_topic, limit=700
        )
        if by_topic:
            assert [at.topic for at in buckets] == names
        else:
            assert [at.messages for at in buckets] == [len(names)]

    @pytest.mark.parametrize(
        ("asked", "by_topic", "buckets"), [("t/#", True, 35), ("t/#", False, 7), ("t/1", True, 7)]
    )
    async def test_pages_have_every_bucket_once(
        self, database: Database, archive: ArchiveQueries, asked: str, by_topic: bool, buckets: int
    ) -> None:
        records = [
            make_record(i, f"t/{i % 5}", timestamp_ms=NOON_MS + i % 7 * HOUR_MS) for i in range(70)
        ]
        await commit_archive(database, *records)
        query = {"filters": (asked,), "hours": 7, "by_topic": by_topic}
        whole = await archive.aggregate(_aggregate(**query, limit=1000))
        assert not whole.more
        assert len(whole.rows) == buckets
        assert await self.buckets(archive, **query, limit=3) == whole.rows

    async def test_an_archive_without_messages_has_no_buckets(
        self, archive: ArchiveQueries
    ) -> None:
        for by_topic in (True, False):
            page = await archive.aggregate(_aggregate(filters=("#", "a"), by_topic=by_topic))
            assert (page.rows, page.more) == ([], False)

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
