"""Which topics of an archive a question is about."""

from collections.abc import Mapping
from typing import NamedTuple

from monstermq_shared.stores.postgres.queries.asking import Fetch
from monstermq_shared.stores.postgres.queries.filters import Filters

TOPICS_MAX = 500
"""Topics that are looked up one by one; of filters with more, messages are read by time."""

VISITED_MAX = 1_000
"""Topics that are looked at to find those: some ten microseconds each."""

_INDEXED = 250
"""Characters of a topic that the index has."""


class Topics(NamedTuple):
    """Topics of a question.

    Attributes:
        names: Those that were found, in order.
        upto: Up to where all were found, if there may be others; else None.
    """

    names: list[str]
    upto: str | None


async def find_topics(
    fetch: Fetch, queries: Mapping[str, str], filters: Filters, after: str = ""
) -> Topics:
    """Return topics that match, in order, after one of them.

    Args:
        fetch: Where to ask.
        queries: The statements of ``archive.sql`` for the table.
        filters: What they match.
        after: The topic.
    """
    found = {topic for topic in filters.exact if topic > after}
    visited = 0
    for low, high in filters.ranges(after):
        rows = await fetch(queries["topics"], low, high, filters.expression, VISITED_MAX - visited)
        if not rows:
            continue
        names = [row["start"] for row in rows if row["is_match"] and not _is_cut(row["start"])]
        beginnings = [row["start"] for row in rows if _is_cut(row["start"])]
        long = []
        if beginnings:
            asked = (beginnings, filters.expression, after, TOPICS_MAX + 1)
            long = [row["topic"] for row in await fetch(queries["topics_beginning"], *asked)]
        found.update(name for name in (*names, *long) if name > after)
        visited += rows[-1]["number"]
        if len(long) > TOPICS_MAX:
            return _up_to(long[-1], found)
        if visited >= VISITED_MAX or len(found) > TOPICS_MAX:
            return _up_to(max([rows[-1]["start"], *names, *long]), found)
    return Topics(sorted(found), None)


def _up_to(upto: str, found: set[str]) -> Topics:
    return Topics(sorted(name for name in found if name <= upto), upto)


def _is_cut(start: str) -> bool:
    return len(start) >= _INDEXED
