"""Where in the order of topics the matches of a filter are: what a table's index can answer."""

from collections.abc import Iterable

Range = tuple[str, str | None]
"""The first topic, and what ends it; None: no end."""

AFTER_SLASH = "0"
"""The character after the slash: what is below a topic ends before the topic with it."""

_BEGINNINGS_MAX = 64  # of a name with more, nobody has the others
_AFTER_DOLLAR = "%"
_LEAST = "\x01"  # the least character of a topic: none has a NUL


def topic_ranges(topic_filter: str) -> list[Range]:
    """Return ranges of topics, from low to below high (None: no end), that hold all matches.

    They are in order and do not overlap. All that is in them matches if the filter is a wildcard
    without ``+``; else each topic must be tried with ``topics.matches``. The order is that of code
    points, which is that of UTF-8.

    Args:
        topic_filter: A valid filter with a wildcard.
    """
    levels = topic_filter.split("/")
    start = next(depth for depth, level in enumerate(levels) if level in {"+", "#"})
    if start == 0:
        return [("", "$"), (_AFTER_DOLLAR, None)]  # [MQTT-4.7.2-1]
    parent = "/".join(levels[:start])
    below = (f"{parent}/", parent + AFTER_SLASH)
    if levels[start] == "#":
        return [(parent, first_after(parent)), below]
    return [below]


def merged_ranges(ranges: Iterable[Range], *, after: str = "") -> list[Range]:
    """Return what some ranges cover after a topic, in order, as ranges that do not overlap."""
    merged: list[Range] = []
    for low, high in sorted(ranges, key=lambda found: found[0]):
        if high is not None and high <= after:
            continue
        before = merged[-1] if merged else None
        if before is None or (before[1] is not None and before[1] < low):
            merged.append((max(low, after), high))
        elif before[1] is not None:
            merged[-1] = (before[0], None if high is None else max(before[1], high))
    return merged


def first_after(topic: str) -> str:
    """Return the smallest text above a topic. It is not a topic, because it contains NUL."""
    return topic + "\0"


def beginnings(name: str) -> list[str]:
    """Return names of a level that come before one, but whose topics may come after all of its own.

    Of ``a-b`` it is ``a``, if there is no topic ``a`` but ``a/c``, since ``-`` comes before the
    slash.
    """
    ends = [at for at, character in enumerate(name) if character < "/"]
    return [name[:at] for at in ends[:_BEGINNINGS_MAX]]


def behind_child(prefix: str, topic: str) -> str:
    """Return the first text that may be a topic of another child than this topic's.

    Args:
        prefix: The parent of both, with its slash; empty for the first level.
        topic: A topic below it.
    """
    name, slash, _ = topic[len(prefix) :].partition("/")
    return f"{prefix}{name}{AFTER_SLASH}" if slash else f"{topic}{_LEAST}"
