"""One level of the topic tree, read from the order of topics."""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence

import orjson

from monstermq_shared.queries.topics import TopicChild
from monstermq_shared.stores.sqlite.statements import to_json
from monstermq_shared.stores.topic_ranges import AFTER_SLASH, beginnings, behind_child

_VISITED = 50


def children_of(
    statements: Mapping[str, str],
    parent: str | None,
    after: str | None,
    limit: int,
    connection: sqlite3.Connection,
) -> tuple[list[TopicChild], bool]:
    """Return children in order of name, and whether others follow.

    Args:
        statements: Those of ``topics.sql``, for the tables in question.
        parent: The parent; None: the first level.
        after: The name after which they begin; None: the first.
        limit: How many at most.
        connection: Where to ask.
    """
    prefix = "" if parent is None else f"{parent}/"
    start: str | None = prefix if after is None else behind_child(prefix, prefix + after)
    children: dict[str, TopicChild] = {}
    while start is not None and len(children) <= limit:
        parameters = {
            "low": start,
            "high": None if parent is None else parent + AFTER_SLASH,
            "skipped": len(prefix),
            "visited_max": _VISITED + 2 * limit,
        }
        ((visited, stopped),) = connection.execute(statements["children"], parameters)
        topics = orjson.loads(visited)
        for child in _nodes(statements, prefix, topics, connection):
            if after is None or child.name > after:
                children[child.name] = child
        start = behind_child(prefix, topics[-1]) if stopped else None
    found = [children[name] for name in sorted(children)]
    return found[:limit], start is not None or len(found) > limit


def _nodes(
    statements: Mapping[str, str],
    prefix: str,
    topics: Sequence[str],
    connection: sqlite3.Connection,
) -> Iterator[TopicChild]:
    """Yield the children that some topics belong to, and those whose topics come after theirs."""
    names = {topic[len(prefix) :].split("/", 1)[0] for topic in topics}
    names |= {begin for name in names for begin in beginnings(name)}
    wanted = {"prefix": prefix, "names": to_json(sorted(names))}
    ((found,),) = connection.execute(statements["nodes"], wanted)
    for name, has_value, has_children in orjson.loads(found):
        if has_value or has_children:
            yield TopicChild(
                name=name,
                topic=prefix + name,
                has_value=bool(has_value),
                has_children=bool(has_children),
            )
