"""Ports whose cursors belong to them alone: those of another archive group are refused.

A store's cursor says where a page of *its* rows ends; in another table that place means nothing.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Generic, TypeVar

from monstermq_shared.queries.aggregates import AggregatePage, AggregateQuery
from monstermq_shared.queries.cursors import Cursors
from monstermq_shared.queries.history import HistoryPage, HistoryQuery
from monstermq_shared.queries.pages import Page
from monstermq_shared.queries.ports import ArchiveQueries, TopicQueries
from monstermq_shared.queries.topics import (
    ChildrenPage,
    ChildrenQuery,
    DescriptionSearch,
    FoundPage,
    NameSearch,
    ValuesPage,
    ValuesQuery,
)

Row = TypeVar("Row")
Query = TypeVar(
    "Query",
    HistoryQuery,
    AggregateQuery,
    ValuesQuery,
    NameSearch,
    DescriptionSearch,
    ChildrenQuery,
)
Port = TypeVar("Port")


class _Scoped(Generic[Port]):
    """Takes cursors in and gives them out, sealed once more with a scope.

    Args:
        port: What answers.
        scope: What the cursors belong to.
        cursors: What seals.
    """

    def __init__(self, port: Port, scope: str, cursors: Cursors) -> None:
        self._port = port
        self._scope = scope
        self._cursors = cursors

    def _inner(self, query: Query) -> Query:
        """Return the query as the port is asked it."""
        if query.cursor is None:
            return query
        (cursor,) = self._cursors.open(self._about(query.question), query.cursor)
        return replace(query, cursor=str(cursor))

    def _outer(self, question: str, page: Page[Row]) -> Page[Row]:
        """Return the page as whoever asks gets it."""
        about, cursors = self._about(question), self._cursors
        return replace(page, cursor_of=lambda index: cursors.seal(about, [page.cursor_of(index)]))

    def _about(self, question: str) -> str:
        return repr((self._scope, question))


class ScopedArchive(_Scoped[ArchiveQueries]):
    """An ``ArchiveQueries`` over another one."""

    @property
    def store_type(self) -> str:
        """What keeps it."""
        return self._port.store_type

    async def history(self, query: HistoryQuery) -> HistoryPage:
        """Return past messages."""
        return self._outer(query.question, await self._port.history(self._inner(query)))

    async def aggregate(self, query: AggregateQuery) -> AggregatePage:
        """Return numbers of past messages in buckets of time."""
        return self._outer(query.question, await self._port.aggregate(self._inner(query)))


class ScopedTopics(_Scoped[TopicQueries]):
    """A ``TopicQueries`` over another one."""

    @property
    def store_type(self) -> str:
        """What answers."""
        return self._port.store_type

    async def values(self, query: ValuesQuery) -> ValuesPage:
        """Return the values of topics."""
        return self._outer(query.question, await self._port.values(self._inner(query)))

    async def find_by_name(self, query: NameSearch) -> FoundPage:
        """Return the topics with a value whose names match."""
        return self._outer(query.question, await self._port.find_by_name(self._inner(query)))

    async def find_by_description(self, query: DescriptionSearch) -> FoundPage:
        """Return the topics whose description matches."""
        found = await self._port.find_by_description(self._inner(query))
        return self._outer(query.question, found)

    async def children(self, query: ChildrenQuery) -> ChildrenPage:
        """Return one level of the tree of the topics with a value."""
        return self._outer(query.question, await self._port.children(self._inner(query)))

    async def similar(self, topic: str, *, limit: int) -> Sequence[str]:
        """Return topics with a value whose names are near that of one that has none."""
        return await self._port.similar(topic, limit=limit)
