"""One level of the topic tree, from its index: each child by a few looks, whatever is below it."""

from monstermq_shared.queries.topics import ChildrenQuery, TopicChild
from monstermq_shared.stores.postgres.queries.asking import Fetch
from monstermq_shared.stores.postgres.queries.message_tables import RAW, MessageTables
from monstermq_shared.stores.sql import fill_in
from monstermq_shared.stores.topic_ranges import AFTER_SLASH, beginnings, behind_child

_HOPS_PER_CHILD = 2
_HOPS_MORE = 32
_END = "\U0010ffff"  # hardly any topic begins with it


class Children:
    """Answers from one or two tables.

    Attributes:
        hops: The statement that goes from child to child.
    """

    def __init__(self, tables: MessageTables) -> None:
        hop_on = RAW["hop_on"]
        hops = {
            "first": tables.each("first_topic", ", ", {"low": "$3"}),
            "following": tables.each("first_topic", ", ", {"low": f"({hop_on})"}),
        }
        kinds = {
            "has_value": tables.each("is_there", " OR "),
            "has_children": tables.each("is_above", " OR "),
        }
        self.hops = fill_in(RAW, hops)["hops"]
        self._children = fill_in(RAW, kinds)["children"]

    async def find(self, fetch: Fetch, query: ChildrenQuery, after: str | None) -> list[TopicChild]:
        """Return children in order of name after one of them, one more than the page takes."""
        base = "" if query.parent is None else f"{query.parent}/"
        names = await self._names(fetch, base, after, query.limit + 1)
        rows = await fetch(self._children, base, sorted(names))
        found = sorted(rows, key=lambda row: str(row["name"]))
        return [
            TopicChild(
                name=row["name"],
                topic=base + row["name"],
                has_value=row["has_value"],
                has_children=row["has_children"],
            )
            for row in found[: query.limit + 1]
        ]

    async def _names(self, fetch: Fetch, base: str, after: str | None, wanted: int) -> set[str]:
        """Return names among which the next ones are, and some that are no children.

        What comes later in the order of topics and earlier in that of names is the beginning of a
        name that was found: ``line-1`` comes before what is below ``line``.
        """
        high = base[:-1] + AFTER_SLASH if base else _END
        low: str | None = base if after is None else f"{base}{after}"
        hops_max = wanted * _HOPS_PER_CHILD + _HOPS_MORE
        found: set[str] = set()
        while low is not None and len(found) < wanted:
            rows = await fetch(self.hops, base, high, low, hops_max)
            topics = [row["topic"] for row in rows]
            names = {topic[len(base) :].partition("/")[0] for topic in topics}
            found |= {name for name in names if after is None or name > after}
            low = behind_child(base, topics[-1]) if len(topics) == hops_max else None
        first = sorted(found)[:wanted]
        others = {begin for name in first for begin in beginnings(name)}
        return {*first, *(name for name in others if after is None or name > after)}
