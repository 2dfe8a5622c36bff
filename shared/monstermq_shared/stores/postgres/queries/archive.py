"""Questions to an archive in PostgreSQL."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial

import asyncpg

from monstermq_shared.config import StoreType
from monstermq_shared.queries.aggregates import (
    AggregatePage,
    AggregateQuery,
    Bucket,
    page_of_buckets,
)
from monstermq_shared.queries.bounds import PAGE_SIZE_MAX
from monstermq_shared.queries.cursors import Cursors
from monstermq_shared.queries.history import HistoryPage, HistoryQuery
from monstermq_shared.queries.pages import Page
from monstermq_shared.stores.postgres.queries.aggregates import Aggregates
from monstermq_shared.stores.postgres.queries.archive_topics import find_topics
from monstermq_shared.stores.postgres.queries.asking import Asking
from monstermq_shared.stores.postgres.queries.filters import Filters
from monstermq_shared.stores.postgres.queries.rows import (
    FIRST,
    LAST,
    end_of,
    from_microseconds,
    message_of,
    microseconds,
    moment,
)
from monstermq_shared.stores.postgres.rows import FRAGMENTS
from monstermq_shared.stores.sql import fill_in, load_queries

_RAW = load_queries(__package__, "archive.sql")


def _directed(**direction: str) -> Mapping[str, str]:
    """Return the statements for one order of time."""
    order = fill_in({"in_order": _RAW["in_order"]}, direction)
    parts = {name: _RAW[name] for name in ("page", "message", "stretch")}
    return fill_in(_RAW, {**parts, **FRAGMENTS, **order, **direction})


NEWEST_FIRST = _directed(**{"from": ">=", "upto": "<=", "beyond": "<", "order": "DESC"})
"""Statements on ``{table}``; those that do not depend on the order are in both."""

OLDEST_FIRST = _directed(**{"from": "<=", "upto": ">=", "beyond": ">", "order": "ASC"})


class PostgresArchiveQueries:
    """Answers from one table.

    Args:
        table: Its name.
        asking: Where to ask.
        cursors: What seals where pages end.
    """

    store_type = StoreType.POSTGRES.value

    def __init__(self, table: str, asking: Asking, cursors: Cursors) -> None:
        self._newest_first = fill_in(NEWEST_FIRST, {"table": table})
        self._oldest_first = fill_in(OLDEST_FIRST, {"table": table})
        self._aggregates = Aggregates(table, self._oldest_first, cursors)
        self._asking = asking
        self._cursors = cursors

    async def history(self, query: HistoryQuery) -> HistoryPage:
        """Return past messages."""
        queries = self._newest_first if query.newest_first else self._oldest_first
        filters = Filters(query.filters)
        bounds = (*self._stretch(query), query.limit + 1, query.payload_limit, PAGE_SIZE_MAX)
        async with self._asking.question() as fetch:
            topics = await find_topics(fetch, queries, filters)
            if topics.upto is None:
                rows = await fetch(queries["of_topics"], topics.names, *bounds)
            else:
                rows = await fetch(
                    queries["of_stretch"], filters.exact, *bounds, filters.expression
                )
        shown = rows[: query.limit]
        return Page(
            rows=[message_of(row) for row in shown],
            more=bool(rows) and rows[0]["found"] > len(shown),
            cursor_of=partial(self._cursor, query.question, shown),
        )

    async def aggregate(self, query: AggregateQuery) -> AggregatePage:
        """Return numbers of past messages in buckets of time."""
        found = await asyncio.gather(*map(self._buckets, query.halves()))
        buckets = [bucket for part in found for bucket in part]
        return page_of_buckets(query, buckets, self._cursors)

    async def _buckets(self, query: AggregateQuery) -> list[Bucket]:
        async with self._asking.question() as fetch:
            return await self._aggregates.buckets(fetch, query)

    def _stretch(self, query: HistoryQuery) -> tuple[datetime, datetime, object, object, object]:
        """Return where the stretch of time ends, and where the page begins."""
        start = FIRST if query.start_ms is None else moment(query.start_ms)
        end = LAST if query.end_ms is None else end_of(query.end_ms)
        until, begin = (start, end) if query.newest_first else (end, start)
        if query.cursor is None:
            return until, begin, None, None, None
        time_us, *place = self._cursors.open(query.question, query.cursor)
        generation, partition, position = place
        return until, from_microseconds(int(time_us)), generation, partition, position

    def _cursor(self, question: str, rows: Sequence[asyncpg.Record], index: int) -> str:
        row = rows[index]
        place = [row["generation"], row["partition"], row["position"]]
        return self._cursors.seal(question, [microseconds(row["time"]), *place])
