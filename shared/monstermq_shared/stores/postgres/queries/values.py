"""The values of topics, page by page, from one or two tables."""

from typing import NamedTuple

import asyncpg

from monstermq_shared.queries.bounds import PAGE_SIZE_MAX
from monstermq_shared.queries.topics import TopicValue, ValuesQuery
from monstermq_shared.stores.postgres.queries.asking import Fetch
from monstermq_shared.stores.postgres.queries.filters import Filters
from monstermq_shared.stores.postgres.queries.message_tables import RAW, SOURCES, MessageTables
from monstermq_shared.stores.postgres.queries.rows import message_of
from monstermq_shared.stores.postgres.rows import digest
from monstermq_shared.stores.sql import fill_in


class FoundValues(NamedTuple):
    """Values of a page, and whether others follow."""

    values: list[TopicValue]
    more: bool


class _Part(NamedTuple):
    """What one statement found: all there is up to its last row, and perhaps beyond."""

    rows: list[asyncpg.Record]
    is_cut: bool


def statements(tables: MessageTables) -> tuple[str, str]:
    """Return the statement for topics that are named, and that for a range of topics."""
    return _statement(tables, "exact", 3), _statement(tables, "walk", 5)


def _statement(tables: MessageTables, name: str, first: int) -> str:
    """Return a statement; its bounds are the parameters from a number on."""
    bounds = {
        "rows": f"${first}",
        "payload_limit": f"${first + 1}",
        "size_max": f"${first + 2}",
    }
    united = tables.each(name, " UNION ALL ", {"columns": RAW["columns"], "rows": bounds["rows"]})
    parts = {"value": RAW["value"], "united": united, **bounds}
    return fill_in({name: RAW["values"]}, parts)[name]


async def find_values(
    fetch: Fetch, statement_pair: tuple[str, str], query: ValuesQuery, after: str
) -> FoundValues:
    """Return the values of topics that match, in order of topic, after one of them.

    Args:
        fetch: Where to ask.
        statement_pair: What ``statements`` has returned.
        query: What is asked.
        after: The topic; empty: from the first one on.
    """
    exact, walk = statement_pair
    filters = Filters(query.filters)
    bounds = (query.limit + 1, query.payload_limit, PAGE_SIZE_MAX)
    parts = []
    named = [topic for topic in filters.exact if topic > after]
    if named:
        parts.append(_part(await fetch(exact, [*map(digest, named)], named, *bounds)))
    found = 0
    for low, high in filters.ranges(after):
        part = _part(await fetch(walk, low, after, high, filters.expression, *bounds))
        parts.append(part)
        found += len(part.rows)
        if found > query.limit or part.is_cut:
            break
    return _merged(parts, query.limit)


def _part(rows: list[asyncpg.Record]) -> _Part:
    return _Part(rows, bool(rows) and rows[0]["found"] > len(rows))


def _merged(parts: list[_Part], limit: int) -> FoundValues:
    """Join what statements found; beyond the end of one that was cut off nothing is certain."""
    ends = [part.rows[-1]["topic"] for part in parts if part.is_cut]
    by_topic = {row["topic"]: row for part in parts for row in part.rows}
    topics = sorted(topic for topic in by_topic if not ends or topic <= min(ends))
    size, shown = 0, []
    for topic in topics[:limit]:
        row = by_topic[topic]
        shown.append(TopicValue(message=message_of(row), source=SOURCES[row["rank"]]))
        size += len(topic) + len(row["start"])
        if size >= PAGE_SIZE_MAX:
            break
    return FoundValues(shown, bool(ends) or len(topics) > len(shown))
