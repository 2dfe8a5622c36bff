"""Topic filters as rows that SQL can compare topics with, without asking Python about each.

A function of ours would need the interpreter lock for every topic, and wait for it while the event
loop is busy.
"""

from collections.abc import Sequence

from monstermq_shared.queries.patterns import escaped_for_glob
from monstermq_shared.stores.sqlite.statements import to_json
from monstermq_shared.stores.topic_ranges import (
    Range,
    first_after,
    merged_ranges,
    topic_ranges,
)
from monstermq_shared.topics import is_wildcard

_GLOB_SIZE_MAX = 10_000
"""Characters of a pattern; SQLite takes up to 50,000 bytes."""


def filter_rows(filters: Sequence[str]) -> str:
    """Return filters as the JSON that the fragment ``filters`` of ``fragments.sql`` reads.

    Of each it has: the topic it spells; or first and last topic, what the topic must look like,
    how many slashes it has at least and at most, and which levels it must have.
    """
    return to_json([row for one in filters for row in _rows(one)])


def ranges(filters: Sequence[str], *, after: str = "") -> list[Range]:
    """Return where in the order of topics the matches of some filters are, after a topic.

    The ranges are in order and do not touch each other. Each has the first topic, and the last one
    or one beyond all. They may hold topics that do not match.
    """
    return merged_ranges((at for one in filters for at in _ranges(one)), after=after)


def _ranges(topic_filter: str) -> list[Range]:
    if not is_wildcard(topic_filter):
        return [(topic_filter, topic_filter)]
    return [
        (low, low if high == first_after(low) else high) for low, high in topic_ranges(topic_filter)
    ]


def _rows(topic_filter: str) -> list[Sequence[object]]:
    if not is_wildcard(topic_filter):
        return [(topic_filter, None, None, None, None, None, None)]
    levels = topic_filter.split("/")
    open_end = levels[-1] == "#"
    wanted = levels[:-1] if open_end else levels
    slashes = len(wanted) - 1
    like = needed = None
    most = None if open_end else slashes
    if "+" in wanted:
        # With as many slashes as the filter has, no asterisk can stand for one.
        like = "/".join("*" if level == "+" else escaped_for_glob(level) for level in wanted)
        if open_end or len(like) > _GLOB_SIZE_MAX:
            first = wanted.index("+")  # what is before it, the range has
            needed = [
                (f"$[{at}]", level)
                for at, level in enumerate(wanted)
                if level != "+" and at > first
            ] or None
            like = f"{like}*" if len(like) <= _GLOB_SIZE_MAX else None
    rows: list[Sequence[object]] = []
    for low, last in _ranges(topic_filter):
        if low == last:
            rows.append((low, None, None, None, None, None, None))
        else:
            rows.append((None, low, last, like, slashes, most, needed))
    return rows
