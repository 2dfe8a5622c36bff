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
        rows = await fetch(
            queries["topics"],
            *(max(low, after), high, filters.expression, VISITED_MAX - visited),
        )
        if not rows:
            continue
        names = [row["start"] for row in rows if row["is_match"] and not _is_cut(row["start"])]
        beginnings = [row["start"] for row in rows if _is_cut(row["start"])]
        if beginnings:
            long = await fetch(queries["topics_beginning"], beginnings, filters.expression)
            names += [row["topic"] for row in long]
        found.update(names)
        visited += rows[-1]["number"]
        if visited >= VISITED_MAX or len(found) > TOPICS_MAX:
            upto = max([rows[-1]["start"], *names])
            return Topics(sorted(name for name in found if after < name <= upto), upto)
    return Topics(sorted(name for name in found if name > after), None)


def _is_cut(start: str) -> bool:
    return len(start) >= _INDEXED
