"""Topics whose names are near one that does not exist, found level by level."""

import asyncio
import difflib
from collections.abc import Awaitable, Callable, Sequence

from monstermq_shared.errors import QueryRefused
from monstermq_shared.queries.topics import ChildrenPage, ChildrenQuery, TopicChild

_WAYS_MAX = 4
"""How many beginnings are followed at a time."""

_LEVELS_MAX = 12
_CHILDREN_READ = 100
_QUESTIONS_MAX = 16
"""Levels that are read for one topic: it is a help, and must not cost more than an answer."""

_LIKENESS_MIN = 0.6
"""Of two levels, as ``difflib`` measures it: 1 for the same, 0 for nothing in common."""

_FEW = 10
"""Of so few, all may be meant, where none of them is like what was given."""

_ALIKE_MIN = 0.3
"""Less than that is nothing."""

_NAME_SIZE_MAX = 32
"""Characters of a level that are compared: the time it takes grows with their square."""


async def nearest_topics(
    children: Callable[[ChildrenQuery], Awaitable[ChildrenPage]], topic: str, *, limit: int
) -> Sequence[str]:
    """Return topics with a value whose every level is like that of the given one.

    Where none is and there are only few, it is any of these.

    Args:
        children: Returns a level of the tree.
        topic: What was meant.
        limit: Topics at most.
    """
    ways: list[tuple[float, TopicChild | None]] = [(0.0, None)]
    levels = topic.split("/")
    if len(levels) > _LEVELS_MAX:
        return []
    asked = 0
    for depth, level in enumerate(levels):
        last = depth == len(levels) - 1
        found: list[tuple[float, TopicChild]] = []
        for likeness, way in ways[: _QUESTIONS_MAX - asked]:
            asked += 1
            nodes = await _nodes(children, way, with_value=last)
            found += [(likeness + _likeness(level, node.name), node) for node in nodes]
        near = [way for way in found if way[0] >= (depth + 1) * _LIKENESS_MIN]
        if near or len(found) > _FEW:
            found = near
        found.sort(key=lambda way: (-way[0], way[1].topic))
        ways = [*found[: limit if last else _WAYS_MAX]]
    return [way.topic for _, way in ways if way is not None and way.topic != topic]


async def _nodes(
    children: Callable[[ChildrenQuery], Awaitable[ChildrenPage]],
    way: TopicChild | None,
    *,
    with_value: bool,
) -> list[TopicChild]:
    """Return nodes below one, those that can be the last level, or those that cannot."""
    query = _query(way)
    if query is None:
        return []
    page = await children(query)
    await asyncio.sleep(0)  # comparing them takes milliseconds
    return [node for node in page.rows if (node.has_value if with_value else node.has_children)]


def _query(way: TopicChild | None) -> ChildrenQuery | None:
    try:
        return ChildrenQuery(parent=None if way is None else way.topic, limit=_CHILDREN_READ)
    except QueryRefused:
        return None


def _likeness(wanted: str, name: str) -> float:
    if wanted == name:
        return 1.0
    lower = (wanted[:_NAME_SIZE_MAX].lower(), name[:_NAME_SIZE_MAX].lower())
    matcher = difflib.SequenceMatcher(None, *lower, autojunk=False)
    # The cheap ones are above the true one.
    if matcher.real_quick_ratio() < _ALIKE_MIN or matcher.quick_ratio() < _ALIKE_MIN:
        return 0.0
    return 0.99 * matcher.ratio()
