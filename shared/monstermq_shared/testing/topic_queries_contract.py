# ruff: noqa: D102 - the names of the tests say what holds
"""What every database must answer about topics."""

from collections.abc import Sequence

import orjson
import pytest

from monstermq_shared.errors import QueryRefused
from monstermq_shared.queries.patterns import TopicPattern, matcher
from monstermq_shared.queries.ports import DatabaseQueries, TopicQueries
from monstermq_shared.queries.topics import (
    ChildrenQuery,
    DescriptionSearch,
    FoundTopic,
    NameSearch,
    TopicChild,
    TopicValue,
    ValueSource,
    ValuesQuery,
    config_topic,
)
from monstermq_shared.records import Record
from monstermq_shared.stores.changes import Commit
from monstermq_shared.stores.ports import Database
from monstermq_shared.testing.archive_queries_contract import FILTERS, TOPICS
from monstermq_shared.testing.builders import (
    AWKWARD_PAYLOADS,
    AWKWARD_TEXTS,
    LAST_VALUES,
    LONG_TEXTS,
    RETAINED,
    commit_messages,
    commit_once,
    make_record,
)
from monstermq_shared.topics import matches

NAMES = (
    *("plant/line1/Temperature", "plant/line1/pressure", "plant/line2/temperature", "plant"),
    *("plant/a_b", "plant/axb", "plant/100%", "plant/100x", "temp", "Plant/x", "$SYS/temp"),
    *("house/[a]/x", "house/a*b/x", "house/\\/x", "house/größe", "a-b/c", "a/c"),
)


class TopicQueriesContract:
    """Subclass it with fixtures ``database`` and ``queries``.

    The database has the message stores ``RetainedMessages`` and ``MCPLastval``.
    """

    @pytest.fixture
    def topics(self, queries: DatabaseQueries) -> TopicQueries:
        return queries.topics(retained=RETAINED, last_values=LAST_VALUES)

    # -- values ----------------------------------------------------------------------------------

    @pytest.mark.parametrize("payload", AWKWARD_PAYLOADS.values(), ids=AWKWARD_PAYLOADS)
    async def test_a_value_comes_with_the_beginning_of_its_payload(
        self, database: Database, topics: TopicQueries, payload: bytes
    ) -> None:
        record = make_record(7, payload=payload, qos=2)
        await commit_messages(database, record)
        page = await topics.values(ValuesQuery(filters=("plant/1",), payload_limit=10))
        (found,) = page.rows
        assert found.source is ValueSource.RETAINED
        assert (found.message.payload, found.message.payload_size) == (payload[:10], len(payload))
        assert (found.message.qos, found.message.retained) == (2, True)
        assert found.message.message_id == record.id

    @pytest.mark.parametrize("topic_filter", FILTERS)
    async def test_a_filter_finds_what_it_matches(
        self, database: Database, topics: TopicQueries, topic_filter: str
    ) -> None:
        await _fill(database, TOPICS)
        expected = sorted(topic for topic in TOPICS if matches(topic_filter, topic))
        assert await self.names_of(topics, topic_filter) == expected

    async def test_several_topics_and_filters_are_one_answer(
        self, database: Database, topics: TopicQueries
    ) -> None:
        await _fill(database, TOPICS)
        filters = ("a/#", "missing", "b/b", "a/b", "+/b", "a0")
        expected = sorted(at for at in TOPICS if any(matches(one, at) for one in filters))
        assert await self.names_of(topics, *filters) == expected

    @pytest.mark.parametrize("topic", AWKWARD_TEXTS)
    async def test_a_topic_is_found_whatever_it_is(
        self, database: Database, topics: TopicQueries, topic: str
    ) -> None:
        await commit_messages(database, make_record(1, f"x/{topic}/y"), make_record(2, "x/z/y"))
        assert f"x/{topic}/y" in await self.names_of(topics, "x/+/y")
        assert await self.names_of(topics, f"x/{topic}/#") == [f"x/{topic}/y"]

    async def test_the_newer_of_retained_and_last_value_counts(
        self, database: Database, topics: TopicQueries
    ) -> None:
        retained = [make_record(i, f"t/{i}", b"retained") for i in (1, 2, 3)]
        last = [make_record(i, topic, b"last") for i, topic in ((9, "t/1"), (0, "t/2"), (8, "t/4"))]
        await commit_messages(database, *retained)
        await commit_messages(database, *last, store=LAST_VALUES)
        page = await topics.values(ValuesQuery(filters=("t/#",)))
        assert [(at.message.topic, at.message.payload, at.source.name) for at in page.rows] == [
            ("t/1", b"last", "LAST_VALUE"),
            ("t/2", b"retained", "RETAINED"),
            ("t/3", b"retained", "RETAINED"),
            ("t/4", b"last", "LAST_VALUE"),
        ]

    @pytest.mark.parametrize("limit", [1, 2, 3, 7])
    async def test_pages_have_every_topic_once(
        self, database: Database, topics: TopicQueries, limit: int
    ) -> None:
        names = [f"t/{number:02}" for number in range(20)]
        await commit_messages(database, *(make_record(i, at) for i, at in enumerate(names[:12])))
        await commit_messages(
            database, *(make_record(i, at) for i, at in enumerate(names[8:])), store=LAST_VALUES
        )
        found: list[str] = []
        cursor: str | None = None
        while True:
            query = ValuesQuery(filters=("t/+", "t/03"), limit=limit, cursor=cursor)
            page = await topics.values(query)
            assert len(page.rows) <= limit
            found += [at.message.topic for at in page.rows]
            cursor = page.cursor_after(len(page.rows))
            assert (cursor is None) != page.more
            if cursor is None:
                break
        assert found == names

    async def test_a_page_can_be_left_after_any_of_its_rows(
        self, database: Database, topics: TopicQueries
    ) -> None:
        await _fill(database, [f"t/{number}" for number in range(9)])
        page = await topics.values(ValuesQuery(filters=("#",)))
        query = ValuesQuery(filters=("#",), cursor=page.cursor_after(4))
        assert [at.message.topic for at in (await topics.values(query)).rows] == [
            f"t/{number}" for number in range(4, 9)
        ]

    async def test_long_topics_end_a_page_early_and_none_is_missed(
        self, database: Database, topics: TopicQueries
    ) -> None:
        names = [f"{number:03}{LONG_TEXTS[1]}" for number in range(100)]
        for store in (RETAINED, LAST_VALUES):
            records = [make_record(i, at) for i, at in enumerate(names)]
            await commit_messages(database, *records, store=store)
        found: list[str] = []
        cursor: str | None = None
        pages = 0
        while cursor is not None or not pages:
            page = await topics.values(ValuesQuery(filters=("#",), limit=1000, cursor=cursor))
            found += [at.message.topic for at in page.rows]
            cursor = page.cursor_after(len(page.rows))
            pages += 1
        assert found == names
        assert pages > 1

    async def test_one_store_can_be_asked_alone(
        self, database: Database, queries: DatabaseQueries
    ) -> None:
        await commit_messages(database, make_record(1, "r"))
        await commit_messages(database, make_record(1, "l"), store=LAST_VALUES)
        for topics, name in (
            (queries.topics(retained=RETAINED, last_values=None), "r"),
            (queries.topics(retained=None, last_values=LAST_VALUES), "l"),
        ):
            assert await self.names_of(topics, "#") == [name]
            assert [at.topic for at in await self.found(topics, TopicPattern.glob("*"))] == [name]
            assert [at.name for at in (await topics.children(ChildrenQuery())).rows] == [name]

    async def test_a_cursor_of_another_question_is_refused(
        self, database: Database, topics: TopicQueries
    ) -> None:
        await _fill(database, ["a", "b"])
        cursor = (await topics.values(ValuesQuery(filters=("#",), limit=1))).cursor_after(1)
        with pytest.raises(QueryRefused, match="cursor"):
            await topics.values(ValuesQuery(filters=("+",), cursor=cursor))
        with pytest.raises(QueryRefused, match="cursor"):
            await topics.find_by_name(NameSearch(pattern=TopicPattern.glob("*"), cursor=cursor))
        with pytest.raises(QueryRefused, match="cursor"):
            await topics.find_by_description(DescriptionSearch(text="a", cursor=cursor))
        with pytest.raises(QueryRefused, match="cursor"):
            await topics.children(ChildrenQuery(cursor=cursor))

    # -- names -----------------------------------------------------------------------------------

    @pytest.mark.parametrize("ignore_case", [True, False])
    @pytest.mark.parametrize(
        "pattern",
        [
            TopicPattern.glob("*temp*"),
            TopicPattern.glob("plant/*/temperature"),
            TopicPattern.glob("plant/line+/*"),
            TopicPattern.glob("plant"),
            TopicPattern.glob("*"),
            TopicPattern.glob("????"),
            TopicPattern.glob("a_b"),
            TopicPattern.like("plant/a_b"),
            TopicPattern.like(r"plant/a\_b"),
            TopicPattern.like(r"plant/100\%"),
            TopicPattern.like("plant/100%"),
            TopicPattern.containing("a*b"),
            TopicPattern.containing("[a]"),
            TopicPattern.containing("\\"),
            TopicPattern.containing("größe"),
            TopicPattern.containing("'"),
            TopicPattern.containing('"'),
            TopicPattern.glob("*TEMPERATURE").below("plant"),
            TopicPattern.glob("*zzz*"),
            TopicPattern.glob("*e*e*"),
            TopicPattern.glob("*/x"),
        ],
        ids=str,
    )
    async def test_a_pattern_finds_what_it_matches(
        self, database: Database, topics: TopicQueries, pattern: TopicPattern, ignore_case: bool
    ) -> None:
        await _fill(database, NAMES)
        expected = {at for at in NAMES if matcher(pattern, ignore_case=ignore_case)(at)}
        found = [at.topic for at in await self.found(topics, pattern, ignore_case=ignore_case)]
        assert set(found) == expected
        assert len(found) == len(expected)

    async def test_a_found_topic_comes_with_its_description(
        self, database: Database, topics: TopicQueries
    ) -> None:
        names = [f"t/{number}" for number in range(6)]
        configs = [
            b'{"Description": "Kitchen", "Unit": "C"}',
            b'{"description": "Hall"}',
            b'{"Description": 5, "description": "Cellar"}',
            b"{}",
            b"no JSON",
        ]
        await _fill(database, names)
        await commit_messages(
            database,
            *(make_record(i, config_topic(f"t/{i}"), at) for i, at in enumerate(configs)),
        )
        found = {at.topic: at for at in await self.found(topics, TopicPattern.like("t/_"))}
        descriptions = [found[name].description for name in names]
        assert descriptions == ["Kitchen", "Hall", "Cellar", None, None, None]
        assert [found[name].config for name in names] == [*(at.decode() for at in configs), None]

    async def test_pages_of_names_have_every_topic_once(
        self, database: Database, topics: TopicQueries
    ) -> None:
        names = [f"t/{number:02}/x" for number in range(20)]
        await _fill(database, names)
        found: list[str] = []
        cursor: str | None = None
        while True:
            pattern = TopicPattern.glob("t/*x")
            page = await topics.find_by_name(NameSearch(pattern=pattern, limit=3, cursor=cursor))
            assert len(page.rows) <= 3
            found += [at.topic for at in page.rows]
            cursor = page.cursor_after(len(page.rows))
            assert (cursor is None) != page.more
            if cursor is None:
                break
        assert sorted(found) == names

    async def test_a_cleared_topic_is_found_no_more(
        self, database: Database, topics: TopicQueries
    ) -> None:
        await commit_messages(database, make_record(1, "t/gone"), make_record(2, "t/here"))
        await _clear(database, "t/gone")
        pattern = TopicPattern.glob("*/*e*")
        assert [at.topic for at in await self.found(topics, pattern)] == ["t/here"]

    @pytest.mark.parametrize(
        "text", ["%" * 500, "_" * 500, "*a" * 16, "a" * 1000, "[" * 500, "\\" * 999, "*?" * 16]
    )
    async def test_a_bomb_of_a_pattern_finds_nothing(
        self, database: Database, topics: TopicQueries, text: str
    ) -> None:
        await _fill(database, ["b" * 2000, "ab" * 200])
        for pattern in (TopicPattern.containing(text), TopicPattern.glob(f"*{text[:200]}c")):
            assert await self.found(topics, pattern) == []

    # -- descriptions ----------------------------------------------------------------------------

    async def test_every_word_must_occur_in_the_description(
        self, database: Database, topics: TopicQueries
    ) -> None:
        await _describe(
            database,
            {
                "house/1/t": "Temperature of the kitchen",
                "house/2/t": "Temperature of the hall",
                "plant/1": "Kitchen's 100% pressure_a",
            },
        )
        assert await self.described(topics, "kitchen temp") == ["house/1/t"]
        assert await self.described(topics, "TEMPERATURE") == ["house/1/t", "house/2/t"]
        assert await self.described(topics, "TEMPERATURE", ignore_case=False) == []
        assert await self.described(topics, "Kitchen", ignore_case=False) == ["plant/1"]
        assert await self.described(topics, "100% e_a") == ["plant/1"]
        assert await self.described(topics, "1%p") == []
        assert await self.described(topics, "kitchen's") == ["plant/1"]
        assert await self.described(topics, "of cellar") == []

    async def test_descriptions_of_a_namespace(
        self, database: Database, topics: TopicQueries
    ) -> None:
        names = ["house/1", "house", "house1/x", "houses/1", "plant/house/1", "ho_se/1"]
        await _describe(database, dict.fromkeys(names, "Room"))
        assert await self.described(topics, "room", namespace="house") == ["house/1"]
        assert await self.described(topics, "room", namespace="ho_se") == ["ho_se/1"]

    async def test_a_description_that_changes_is_found_as_it_is_now(
        self, database: Database, topics: TopicQueries
    ) -> None:
        await _describe(database, {"a": "Kitchen", "b": "Kitchen", "c": "Kitchen"})
        await _describe(database, {"b": "Hall"}, start=10)
        await _clear(database, config_topic("c"))
        assert await self.described(topics, "kitchen") == ["a"]
        assert await self.described(topics, "hall") == ["b"]

    async def test_a_described_topic_needs_no_value_and_shows_its_config(
        self, database: Database, topics: TopicQueries
    ) -> None:
        await _describe(database, {"a/b": "Größe"})
        (found,) = (await topics.find_by_description(DescriptionSearch(text="größe"))).rows
        assert found == FoundTopic(
            topic="a/b",
            description="Größe",
            config=orjson.dumps({"Description": "Größe"}).decode(),
        )

    async def test_pages_of_descriptions_have_every_topic_once(
        self, database: Database, topics: TopicQueries
    ) -> None:
        names = ["a", "a-b", "a/b", "a b", "$x/y", "b", "a/c", "a0"]
        await _describe(database, dict.fromkeys(names, "Room"))
        found: list[str] = []
        cursor: str | None = None
        while True:
            search = DescriptionSearch(text="room", limit=3, cursor=cursor)
            page = await topics.find_by_description(search)
            found += [at.topic for at in page.rows]
            cursor = page.cursor_after(len(page.rows))
            assert (cursor is None) != page.more
            if cursor is None:
                break
        assert sorted(found) == sorted(names)

    # -- the tree --------------------------------------------------------------------------------

    async def test_children_are_the_next_level(
        self, database: Database, topics: TopicQueries
    ) -> None:
        await _fill(database, ["a", "a/b", "a/b/c", "a/d/e", "f/g", "$SYS/x"])
        assert (await topics.children(ChildrenQuery())).rows == [
            TopicChild(name="$SYS", topic="$SYS", has_value=False, has_children=True),
            TopicChild(name="a", topic="a", has_value=True, has_children=True),
            TopicChild(name="f", topic="f", has_value=False, has_children=True),
        ]
        assert (await topics.children(ChildrenQuery(parent="a"))).rows == [
            TopicChild(name="b", topic="a/b", has_value=True, has_children=True),
            TopicChild(name="d", topic="a/d", has_value=False, has_children=True),
        ]
        assert (await topics.children(ChildrenQuery(parent="a/b/c"))).rows == []

    @pytest.mark.parametrize("limit", [1, 2, 3, 50])
    async def test_pages_of_children_have_every_name_once_and_in_order(
        self, database: Database, topics: TopicQueries, limit: int
    ) -> None:
        # What follows a name may come before the slash, or after it, in the order of topics.
        names = ["a", "a!", "a!b", "a-b", "a0", "aa", "b", "b-", "", "%", "ä"]
        levels = [f"p/{name}/x" for name in names] + [f"p/{name}" for name in names[1::2]]
        levels += ["p-/x", "p0", "p", *(f"p/{name}/y" for name in names[::3])]
        await _fill(database, levels)
        assert await _child_names(topics, limit) == sorted(names)

    @pytest.mark.parametrize("limit", [1, 2, 3])
    async def test_names_that_begin_each_other_end_no_page_early(
        self, database: Database, topics: TopicQueries, limit: int
    ) -> None:
        names = ["-".join("abcdefghijklmnopqrst"[:length]) for length in range(1, 21)] + ["z"]
        await _fill(database, [f"p/{name}/x" for name in names])
        assert await _child_names(topics, limit) == names

    async def test_a_name_of_very_many_beginnings_costs_no_more_than_others(
        self, database: Database, topics: TopicQueries
    ) -> None:
        # Each of them could be a name whose topics come later: together they would be gigabytes.
        name = "-" * 60_000
        await _fill(database, [f"p/{name}", "p/-/x"])
        assert await _child_names(topics, 10) == ["-", name]

    async def test_similar_topics_are_a_help(
        self, database: Database, topics: TopicQueries
    ) -> None:
        names = ["plant/line1/temperature", "plant/line2/temperature", "house/temperature", "x/y"]
        await _fill(database, names)
        found = await topics.similar("plant/lien1/Temprature", limit=5)
        assert found[0] == "plant/line1/temperature"
        assert set(found) <= set(names)
        assert await topics.similar("house/x", limit=5) == ["house/temperature"]
        assert await topics.similar("house/x/y", limit=5) == []

    # -- helpers ---------------------------------------------------------------------------------

    async def names_of(self, topics: TopicQueries, *filters: str) -> list[str]:
        values: Sequence[TopicValue] = (await topics.values(ValuesQuery(filters=filters))).rows
        return [value.message.topic for value in values]

    async def found(
        self, topics: TopicQueries, pattern: TopicPattern, *, ignore_case: bool = True
    ) -> Sequence[FoundTopic]:
        search = NameSearch(pattern=pattern, ignore_case=ignore_case)
        return (await topics.find_by_name(search)).rows

    async def described(
        self,
        topics: TopicQueries,
        text: str,
        *,
        namespace: str | None = None,
        ignore_case: bool = True,
    ) -> list[str]:
        search = DescriptionSearch(text=text, namespace=namespace, ignore_case=ignore_case)
        return sorted(at.topic for at in (await topics.find_by_description(search)).rows)


async def _fill(database: Database, names: Sequence[str]) -> None:
    """Spread topics over both stores, some of them in both."""
    records = [make_record(number, name) for number, name in enumerate(names)]
    await commit_messages(database, *_two_of_three(records, 0))
    await commit_messages(database, *_two_of_three(records, 1), store=LAST_VALUES)


def _two_of_three(records: Sequence[Record], but: int) -> list[Record]:
    chosen = [record for record in records if record.offset % 3 != but]
    return chosen or [*records]


async def _describe(database: Database, texts: dict[str, str], *, start: int = 1) -> None:
    await commit_messages(
        database,
        *(
            make_record(start + i, config_topic(topic), orjson.dumps({"Description": text}))
            for i, (topic, text) in enumerate(texts.items())
        ),
    )


async def _clear(database: Database, topic: str) -> None:
    await commit_once(database, Commit(upto=1000, messages={RETAINED: {topic: None}}), RETAINED)


async def _child_names(topics: TopicQueries, limit: int) -> list[str]:
    """Return the children of ``p``, page by page."""
    found: list[str] = []
    cursor: str | None = None
    while True:
        page = await topics.children(ChildrenQuery(parent="p", limit=limit, cursor=cursor))
        assert len(page.rows) <= limit
        found += [at.name for at in page.rows]
        cursor = page.cursor_after(len(page.rows))
        if cursor is None:
            return found
