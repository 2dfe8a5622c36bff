"""Questions about topics in PostgreSQL: their values, names, descriptions and tree."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from monstermq_shared.config import StoreType
from monstermq_shared.queries.cursors import Cursors
from monstermq_shared.queries.nearest import nearest_topics
from monstermq_shared.queries.pages import page_of
from monstermq_shared.queries.topics import (
    ChildrenPage,
    ChildrenQuery,
    DescriptionSearch,
    FoundPage,
    FoundTopic,
    NameSearch,
    ValuesPage,
    ValuesQuery,
)
from monstermq_shared.stores.postgres.queries.asking import Asking
from monstermq_shared.stores.postgres.queries.children import Children
from monstermq_shared.stores.postgres.queries.message_tables import MessageTables
from monstermq_shared.stores.postgres.queries.searches import Searches
from monstermq_shared.stores.postgres.queries.values import find_values, statements


class PostgresTopicQueries:
    """Answers from one or two tables.

    Args:
        tables: They are.
        in_order: Where to ask for what is read in order of topics.
        searching: Where to ask for what an index of their parts finds.
        cursors: What seals where pages end.
    """

    store_type = StoreType.POSTGRES.value

    def __init__(
        self, tables: MessageTables, in_order: Asking, searching: Asking, cursors: Cursors
    ) -> None:
        self._tables = tables
        self._values = statements(tables)
        self._searches = Searches(tables)
        self._children = Children(tables)
        self._in_order = in_order
        self._searching = searching
        self._cursors = cursors

    async def values(self, query: ValuesQuery) -> ValuesPage:
        """Return the values of topics; of one in both tables the newer of the two."""
        after = self._after(query.question, query.cursor)
        # What a plus leaves open, an index of parts finds better than a walk through all topics.
        open_within = any("+" in one for one in query.filters)
        asking = self._searching if open_within else self._in_order
        async with asking.question() as fetch:
            found = await find_values(fetch, self._values, query, after)
        return page_of(
            found.values,
            more=found.more,
            cursors=self._cursors,
            question=query.question,
            place=lambda value: [value.message.topic],
        )

    async def find_by_name(self, query: NameSearch) -> FoundPage:
        """Return the topics whose names match, in order of topic."""
        after = self._after(query.question, query.cursor)
        async with self._searching.question() as fetch:
            topics = await self._searches.by_name(fetch, query, after)
            if self._tables.retained is None:
                found = [FoundTopic(topic=topic, description=None, config=None) for topic in topics]
            else:
                found = await self._searches.with_descriptions(fetch, topics)
        return self._page(found, query)

    async def find_by_description(self, query: DescriptionSearch) -> FoundPage:
        """Return the topics whose descriptions have all words."""
        if self._tables.retained is None:
            return self._page([], query)
        after = self._after(query.question, query.cursor)
        async with self._searching.question() as fetch:
            found = await self._searches.by_description(fetch, query, after)
        return self._page(found, query)

    async def children(self, query: ChildrenQuery) -> ChildrenPage:
        """Return one level of the tree of topics."""
        after = self._cursors.after(query.question, query.cursor)
        async with self._in_order.question() as fetch:
            found = await self._children.find(fetch, query, after)
        return page_of(
            found[: query.limit],
            more=len(found) > query.limit,
            cursors=self._cursors,
            question=query.question,
            place=lambda child: [child.name],
        )

    async def similar(self, topic: str, *, limit: int) -> Sequence[str]:
        """Return topics whose names are near one that nothing has; none if that takes too long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._in_order.timeout_s):
                return await nearest_topics(self.children, topic, limit=limit)
        return []

    def _page(
        self, found: Sequence[FoundTopic], query: NameSearch | DescriptionSearch
    ) -> FoundPage:
        return page_of(
            found[: query.limit],
            more=len(found) > query.limit,
            cursors=self._cursors,
            question=query.question,
            place=lambda one: [one.topic],
        )

    def _after(self, question: str, cursor: str | None) -> str:
        return self._cursors.after(question, cursor) or ""
