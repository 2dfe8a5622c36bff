"""One level of the topic tree, read from the order of topics."""

import sqlite3
from collections.abc import Mapping

import orjson

from monstermq_shared.queries.topics import TopicChild
from monstermq_shared.stores.sqlite.statements import to_json

_AFTER_SLASH = "0"  # the character after the slash
_BEGINNINGS_MAX = 64


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
    parameters = {
        "low": prefix if after is None else f"{prefix}{after}\x01",
        "high": None if parent is None else parent + _AFTER_SLASH,
        "skipped": len(prefix),
        # Each name comes up to two times, the last one of the page before once more.
        "visited_max": 2 * limit + 4,
    }
    ((visited, stopped),) = connection.execute(statements["children"], parameters)
    names = {topic[len(prefix) :].split("/", 1)[0] for topic in orjson.loads(visited)}
    names |= {begin for name in names for begin in _beginnings(name)}
    wanted = {"prefix": prefix, "names": to_json(sorted(names))}
    ((found,),) = connection.execute(statements["nodes"], wanted)
    children = [
        TopicChild(
            name=name,
            topic=prefix + name,
            has_value=bool(has_value),
            has_children=bool(has_children),
        )
        for name, has_value, has_children in orjson.loads(found)
        if (has_value or has_children) and (after is None or name > after)
    ]
    return children[:limit], bool(stopped) or len(children) > limit


def _beginnings(name: str) -> list[str]:
    """Return names that come before this one, but whose topics may come after all of its own.

    Of ``a-b`` it is ``a``, if there is no topic ``a`` but ``a/c``, since ``-`` comes before the
    slash.
    """
    ends = [at for at, character in enumerate(name) if character < "/"]
    return [name[:at] for at in ends[:_BEGINNINGS_MAX]]
