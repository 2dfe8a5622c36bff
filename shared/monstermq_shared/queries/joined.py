"""Topics that are retained in one place and have their last values in another."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

from monstermq_shared.queries.bounds import FILTERS_MAX, PAYLOAD_START_MAX, ROWS_MAX
from monstermq_shared.queries.cursors import Cursors
from monstermq_shared.queries.nearest import nearest_topics
from monstermq_shared.queries.pages import Page, page_of
from monstermq_shared.queries.ports import TopicQueries
from monstermq_shared.queries.topics import (
    ChildrenPage,
    ChildrenQuery,
    DescriptionSearch,
    FoundPage,
    FoundTopic,
    NameSearch,
    TopicChild,
    TopicValue,
    ValuesPage,
    ValuesQuery,
    config_topic,
    description_in,
)

_LAST_VALUES, _RETAINED = 0, 1
"""Where the names of a page are from: those with a last value come first."""

_Located = tuple[FoundTopic, int, str]
"""A found topic, where it is from, and the cursor after it there."""


class JoinedTopics:
    """A ``TopicQueries`` over two others.

    Their pages of values and of children must be in the same order, and their cursors be sealed by
    the same object, with the topic or the name of a row as its place.

    Args:
        retained: Answers for what is retained, and for descriptions.
        last_values: Answers for the last values.
        cursors: What seals where pages end.
    """

    def __init__(
        self, *, retained: TopicQueries, last_values: TopicQueries, cursors: Cursors
    ) -> None:
        types = dict.fromkeys([last_values.store_type, retained.store_type])
        self.store_type = " and ".join(types)
        self._retained = retained
        self._last_values = last_values
        self._cursors = cursors

    async def values(self, query: ValuesQuery) -> ValuesPage:
        """Return the values of topics, of each the newer one."""
        pages = [await self._last_values.values(query), await self._retained.values(query)]
        ends = [page.rows[-1].message.topic for page in pages if page.more]
        best: dict[str, TopicValue] = {}
        for page in pages:
            for value in page.rows:
                there = best.get(value.message.topic)
                if there is None or there.message.time_ms < value.message.time_ms:
                    best[value.message.topic] = value
        names = [topic for topic in sorted(best) if not ends or topic <= min(ends)]
        return page_of(
            [best[topic] for topic in names[: query.limit]],
            more=bool(ends) or len(names) > query.limit,
            cursors=self._cursors,
            question=query.question,
            place=lambda value: [value.message.topic],
        )

    async def find_by_name(self, query: NameSearch) -> FoundPage:
        """Return the topics with a value whose names match: first those with a last value."""
        side, cursor = _LAST_VALUES, ""
        if query.cursor is not None:
            place = self._cursors.open(query.question, query.cursor)
            side, cursor = int(place[0]), str(place[1])
        found: list[_Located] = []
        async for located in self._names(query, side, cursor):
            found.append(located)
            if len(found) > query.limit:
                break
        shown = found[: query.limit]
        return Page(
            rows=await self._described([topic for topic, *_ in shown]),
            more=len(found) > query.limit,
            cursor_of=lambda index: self._cursors.seal(query.question, shown[index][1:]),
        )

    async def find_by_description(self, query: DescriptionSearch) -> FoundPage:
        """Return the topics whose description matches."""
        return await self._retained.find_by_description(query)

    async def children(self, query: ChildrenQuery) -> ChildrenPage:
        """Return one level of the tree of the topics with a value."""
        pages = [await self._last_values.children(query), await self._retained.children(query)]
        ends = [page.rows[-1].name for page in pages if page.more]
        found: dict[str, TopicChild] = {}
        for page in pages:
            for child in page.rows:
                there = found.get(child.name, child)
                found[child.name] = replace(
                    child,
                    has_value=child.has_value or there.has_value,
                    has_children=child.has_children or there.has_children,
                )
        names = [name for name in sorted(found) if not ends or name <= min(ends)]
        return page_of(
            [found[name] for name in names[: query.limit]],
            more=bool(ends) or len(names) > query.limit,
            cursors=self._cursors,
            question=query.question,
            place=lambda child: [child.name],
        )

    async def similar(self, topic: str, *, limit: int) -> Sequence[str]:
        """Return topics with a value whose names are near that of one that has none."""
        return await nearest_topics(self.children, topic, limit=limit)

    async def _names(self, query: NameSearch, side: int, cursor: str) -> AsyncIterator[_Located]:
        while True:
            asked = self._last_values if side == _LAST_VALUES else self._retained
            page = await asked.find_by_name(replace(query, cursor=cursor or None))
            twice: set[str] = set()
            if side == _RETAINED:
                twice = await self._with_last_value([found.topic for found in page.rows])
            for index, found in enumerate(page.rows):
                if found.topic not in twice:
                    yield found, side, page.cursor_of(index)
            if page.more:
                cursor = page.cursor_of(len(page.rows) - 1)
            elif side == _LAST_VALUES:
                side, cursor = _RETAINED, ""
            else:
                return

    async def _with_last_value(self, topics: Sequence[str]) -> set[str]:
        values = await self._values_of(self._last_values, topics, payload_limit=0)
        return {value.message.topic for value in values}

    async def _described(self, found: Sequence[FoundTopic]) -> list[FoundTopic]:
        configs = await self._values_of(
            self._retained,
            [config_topic(one.topic) for one in found],
            payload_limit=PAYLOAD_START_MAX,
        )
        described: dict[str, tuple[str | None, str | None]] = {
            value.message.topic: (
                description_in(value.message.payload),
                value.message.text,
            )
            for value in configs
        }
        result = []
        for one in found:
            description, config = described.get(config_topic(one.topic), (None, None))
            result.append(FoundTopic.cut(one.topic, description=description, config=config))
        return result

    async def _values_of(
        self, asked: TopicQueries, topics: Sequence[str], *, payload_limit: int
    ) -> list[TopicValue]:
        """Return the values of exact topics, however many; of a page that bytes end, its rows."""
        found: list[TopicValue] = []
        usable = [topic for topic in topics if "+" not in topic and "#" not in topic]
        for first in range(0, len(usable), FILTERS_MAX):
            query = ValuesQuery(
                filters=tuple(usable[first : first + FILTERS_MAX]),
                limit=ROWS_MAX,
                payload_limit=payload_limit,
            )
            page = await asked.values(query)
            found += page.rows
            while page.more:
                cursor = page.cursor_after(len(page.rows))
                page = await asked.values(replace(query, cursor=cursor))
                found += page.rows
        return found
