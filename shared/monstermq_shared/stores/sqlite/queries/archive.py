"""Questions to an archive in SQLite."""

import asyncio
import math
import sqlite3
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import orjson

from monstermq_shared.config import StoreType
from monstermq_shared.queries.aggregates import (
    AggregateFunction,
    AggregatePage,
    AggregateQuery,
    Bucket,
    page_of_buckets,
)
from monstermq_shared.queries.bounds import PAGE_SIZE_MAX
from monstermq_shared.queries.cursors import Cursors
from monstermq_shared.queries.history import HistoryPage, HistoryQuery
from monstermq_shared.queries.pages import Page
from monstermq_shared.stores.sql import fill_in, load_queries
from monstermq_shared.stores.sqlite.queries.connections import Connections
from monstermq_shared.stores.sqlite.queries.filters import filter_rows, ranges
from monstermq_shared.stores.sqlite.queries.rows import Found, read_messages
from monstermq_shared.stores.sqlite.rows import time_prefix, time_text
from monstermq_shared.stores.sqlite.statements import to_json
from monstermq_shared.topics import is_wildcard

_RAW = load_queries(__package__, "archive.sql")
_FRAGMENTS = load_queries(__package__, "fragments.sql")
_FIRST_TIME = ""
_LAST_TIME = "~"  # above every digit
_INTEGER_MAX = 2**63 - 1

_ALL = "#"

_TOPICS_MAX = 1000
"""Topics that are looked up one by one; of filters with more, messages are read by time."""

_VISITED_MAX = 4000
"""Topics that are looked at to find those: some ten microseconds each."""


def _directed(direction: Mapping[str, str]) -> Mapping[str, str]:
    """Return the statements for one order of time."""
    return fill_in(_RAW, {**_FRAGMENTS, "stretch": _RAW["stretch"], **direction})


def _sourced(source: str) -> Mapping[str, str]:
    """Return the statements that read numbers from one source."""
    parts = {name: _RAW[name] for name in ("told", "first_number", "last_number")}
    return fill_in(
        _RAW,
        {
            **parts,
            "source": _RAW[source],
            "number": _RAW["number"],
            "in_bucket": _RAW["in_bucket"],
            **_FRAGMENTS,
        },
    )


_NEWEST_FIRST = _directed({"from": ">=", "upto": "<=", "beyond": "<", "order": "DESC"})
_OLDEST_FIRST = _directed({"from": "<=", "upto": ">=", "beyond": ">", "order": "ASC"})


class _Topics(NamedTuple):
    """Topics of a question.

    Attributes:
        names: Those that were found, in order.
        upto: The last that was looked at, if there may be others; else None.
    """

    names: list[str]
    upto: str | None


class SqliteArchiveQueries:
    """Answers from one table.

    Args:
        table: Its name.
        connections: Where to ask.
        cursors: What seals where pages end.
    """

    store_type = StoreType.SQLITE.value

    def __init__(self, table: str, connections: Connections, cursors: Cursors) -> None:
        names = {"table": table}
        self._newest_first = fill_in(_NEWEST_FIRST, names)
        self._oldest_first = fill_in(_OLDEST_FIRST, names)
        self._of_topic = fill_in(_sourced("source_of_topic"), names)["buckets_by_topic"]
        self._of_topics = fill_in(_sourced("source_of_topics"), names)["buckets_of_all"]
        self._of_stretch = fill_in(_sourced("source_of_stretch"), names)["buckets_of_all"]
        self._connections = connections
        self._cursors = cursors

    async def history(self, query: HistoryQuery) -> HistoryPage:
        """Return past messages."""
        parameters = self._stretch(query)
        found = await self._connections.run(partial(self._history, query, parameters))
        rows = [placed.message for placed in found.rows]
        seal = partial(self._cursors.seal, query.question)
        return Page(
            rows=rows, more=found.more, cursor_of=lambda index: seal(found.rows[index].place)
        )

    async def aggregate(self, query: AggregateQuery) -> AggregatePage:
        """Return numbers of past messages in buckets of time."""
        found = await asyncio.gather(*map(self._buckets, query.halves()))
        buckets = [bucket for part in found for bucket in part]
        return page_of_buckets(query, buckets, self._cursors)

    async def _buckets(self, query: AggregateQuery) -> list[Bucket]:
        after = ["", -1]
        if query.cursor is not None:
            after = [*self._cursors.open(query.question, query.cursor)]
        parameters = _bucket_parameters(query)
        ask = self._by_topic if query.by_topic else self._of_all
        found = await self._connections.run(partial(ask, query, parameters, after))
        return [_bucket(values, query.functions) for values in found]

    def _stretch(self, query: HistoryQuery) -> dict[str, object]:
        start = _FIRST_TIME if query.start_ms is None else time_prefix(query.start_ms)
        end = _LAST_TIME if query.end_ms is None else time_text(query.end_ms)
        at: Sequence[str | int]
        if query.newest_first:
            until, at = start, (end, _INTEGER_MAX, _INTEGER_MAX)
        else:
            until, at = end, (start, -1, -1)
        if query.cursor is not None:
            at = self._cursors.open(query.question, query.cursor)
        return {
            "until": until,
            **dict(zip(("time", "position", "row"), at, strict=True)),
            "rows": query.limit + 1,
            "payload_limit": query.payload_limit,
            "size_max": PAGE_SIZE_MAX,
        }

    def _history(
        self, query: HistoryQuery, parameters: dict[str, object], connection: sqlite3.Connection
    ) -> Found:
        queries = self._newest_first if query.newest_first else self._oldest_first
        # Of the filter of all topics, nearly every message matches.
        topics = None
        if _ALL not in query.filters:
            topics = self._topics(connection, query.filters, "")
        if topics is not None and topics.upto is None:
            statement = queries["of_topics"]
            parameters["topics"] = to_json(topics.names)
        else:
            statement = queries["of_stretch"]
            parameters["filters"] = filter_rows(query.filters)
        return read_messages(
            connection.execute(statement, parameters).fetchone(), limit=query.limit
        )

    def _topics(
        self, connection: sqlite3.Connection, filters: Sequence[str], after: str
    ) -> _Topics:
        """Return topics that match, in order, after one of them."""
        exact = {topic for topic in filters if not is_wildcard(topic)}
        found = {topic for topic in exact if topic > after}
        wild = [one for one in filters if is_wildcard(one)]
        visited = 0
        open_ranges = ranges(wild, after=after)
        for number, (low, last) in enumerate(open_ranges, 1):
            parameters = {
                "filters": filter_rows(wild),
                "low": low,
                "last": last,
                "visited_max": _VISITED_MAX - visited,
            }
            row = connection.execute(self._newest_first["distinct_topics"], parameters).fetchone()
            names = orjson.loads(row[0])
            found.update(name for name in names if name > after)
            visited += len(names)
            # Beyond what was looked at there may be others, before the exact ones that are.
            upto = row[1]
            full = len(found) > _TOPICS_MAX or visited >= _VISITED_MAX
            if upto is None and full and number < len(open_ranges):
                upto = last
            if upto is not None:
                return _Topics(sorted(name for name in found if name <= upto), upto)
        return _Topics(sorted(found), None)

    def _by_topic(
        self,
        query: AggregateQuery,
        parameters: dict[str, object],
        after: list[Any],
        connection: sqlite3.Connection,
    ) -> list[Any]:
        found: list[Any] = []
        after_topic, after_start = after
        begun = [after_topic] if after_topic else []
        upto: str | None = after_topic
        while upto is not None and len(found) <= query.limit:
            topics = self._topics(connection, query.filters, upto)
            parameters |= {
                "topics": to_json([*begun, *topics.names]),
                "after_topic": after_topic,
                "after_start": after_start,
                "rows": query.limit + 1 - len(found),
            }
            ((text,),) = connection.execute(self._of_topic, parameters)
            found += orjson.loads(text)
            upto, begun = topics.upto, []
        return found

    def _of_all(
        self,
        query: AggregateQuery,
        parameters: dict[str, object],
        after: list[Any],
        connection: sqlite3.Connection,
    ) -> list[Any]:
        topics = self._topics(connection, query.filters, "")
        parameters |= {
            "topics": to_json(topics.names),
            "filters": filter_rows(query.filters),
            "after_start": after[1],
            "rows": query.limit + 1,
        }
        statement = self._of_topics if topics.upto is None else self._of_stretch
        ((text,),) = connection.execute(statement, parameters)
        found: list[Any] = orjson.loads(text)
        return found


def _bucket_parameters(query: AggregateQuery) -> dict[str, object]:
    starts = range(query.start_ms, query.end_ms, query.bucket_ms)
    ends = (min(start + query.bucket_ms, query.end_ms) for start in starts)
    stretches = zip(starts, map(time_prefix, starts), map(time_prefix, ends), strict=True)
    return {
        "buckets": to_json([*stretches]),
        "field": "$" if query.field is None else str(query.field),
        "first": AggregateFunction.FIRST in query.functions,
        "last": AggregateFunction.LAST in query.functions,
    }


def _bucket(values: list[Any], functions: Sequence[AggregateFunction]) -> Bucket:
    topic, start_ms, (messages, numbers, *told), first, last = values
    names = (
        *(AggregateFunction.AVG, AggregateFunction.MIN, AggregateFunction.MAX),
        *(AggregateFunction.SUM, AggregateFunction.FIRST, AggregateFunction.LAST),
    )
    known: dict[AggregateFunction, float | int | None] = {
        name: _finite(text) if numbers and text is not None else None
        for name, text in zip(names, (*told, first, last), strict=True)
    }
    known[AggregateFunction.COUNT] = numbers
    return Bucket(
        topic=topic,
        start_ms=start_ms,
        messages=messages,
        numbers=numbers,
        values={name: known[name] for name in functions},
    )


def _finite(text: str) -> float | None:
    number = float(text)
    return number if math.isfinite(number) else None
