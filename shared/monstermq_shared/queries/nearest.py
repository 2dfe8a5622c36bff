"""Topics whose names are near one that does not exist, found level by level."""

import difflib
from collections.abc import Awaitable, Callable, Sequence

from monstermq_shared.errors import QueryRefused
from monstermq_shared.queries.topics import ChildrenPage, ChildrenQuery, TopicChild

_WAYS_MAX = 4
"""How many beginnings are followed at a time."""

_LEVELS_MAX = 12
_CHILDREN_READ = 200
_LIKENESS_MIN = 0.6
"""Of two levels, as ``difflib`` measures it: 1 for the same, 0 for nothing in common."""

_NAME_SIZE_MAX = 64
"""Characters of a level that are compared: the time it takes grows with their square."""


async def nearest_topics(
    children: Callable[[ChildrenQuery], Awaitable[ChildrenPage]], topic: str, *, limit: int
) -> Sequence[str]:
    """Return topics with a value whose every level is like that of the given one.

    Args:
        children: Returns a level of the tree.
        topic: What was meant.
        limit: Topics at most.
    """
    ways: list[tuple[float, TopicChild | None]] = [(0.0, None)]
    levels = topic.split("/")
    if len(levels) > _LEVELS_MAX:
        return []
    for depth, level in enumerate(levels):
        last = depth == len(levels) - 1
        found = []
        for likeness, way in ways:
            query = _query(way)
            nodes = [] if query is None else (await children(query)).rows
            found += [
                (likeness + _likeness(level, node.name), node)
                for node in nodes
                if (node.has_value if last else node.has_children)
            ]
        worst = (depth + 1) * _LIKENESS_MIN
        found = [way for way in found if way[0] >= worst]
        found.sort(key=lambda way: (-way[0], way[1].topic))
        ways = [*found[: limit if last else _WAYS_MAX]]
    return [way.topic for _, way in ways if way is not None and way.topic != topic]


def _query(way: TopicChild | None) -> ChildrenQuery | None:
    try:
        return ChildrenQuery(parent=None if way is None else way.topic, limit=_CHILDREN_READ)
    except QueryRefused:
        return None


def _likeness(wanted: str, name: str) -> float:
    if wanted == name:
        return 1.0
    lower = (wanted[:_NAME_SIZE_MAX].lower(), name[:_NAME_SIZE_MAX].lower())
    return 0.99 * difflib.SequenceMatcher(None, *lower, autojunk=False).ratio()
