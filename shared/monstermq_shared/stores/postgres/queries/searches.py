"""Searches for topics by their names and descriptions, by the indexes that ``db init`` makes."""

from collections.abc import Sequence

from monstermq_shared.queries.bounds import TEXT_SHOWN_MAX
from monstermq_shared.queries.patterns import TopicPattern
from monstermq_shared.queries.topics import (
    CONFIG_LEVEL,
    DescriptionSearch,
    FoundTopic,
    NameSearch,
    config_topic,
)
from monstermq_shared.stores.postgres.queries.asking import Fetch
from monstermq_shared.stores.postgres.queries.message_tables import RAW, MessageTables
from monstermq_shared.stores.postgres.rows import digest
from monstermq_shared.stores.sql import fill_in
from monstermq_shared.stores.topic_ranges import AFTER_SLASH

_LIKES = ("LIKE", "ILIKE")

STROLL_MAX = 2_000
"""Topics that are looked at in order: so is found what is in many names; what is in few is not."""

_LAST_BEFORE_SURROGATES, _FIRST_BEHIND = 0xD7FF, 0xE000
_LAST = 0x10FFFF


class Searches:
    """Answers from one or two tables."""

    def __init__(self, tables: MessageTables) -> None:
        self._strolls = {like: _each(tables, "stroll", like) for like in _LIKES}
        matching = {like: _each(tables, "matching", like) for like in _LIKES}
        self._names = {
            like: fill_in({"names": RAW["names"]}, {"united": matching[like]})["names"]
            for like in _LIKES
        }
        retained = {"description": RAW["description"], "table": tables.retained or ""}
        self._configs = fill_in(RAW, retained)["configs"]
        self._described = {
            like: fill_in(RAW, {**retained, "like": like})["described"] for like in _LIKES
        }

    async def by_name(self, fetch: Fetch, search: NameSearch, after: str) -> list[str]:
        """Return topics whose names match, in order, after one of them; one more than asked for."""
        like = _like(ignore_case=search.ignore_case)
        low, high = (None, None) if search.ignore_case else _range_of(search.pattern)
        asked = (after, low, high, search.pattern.to_like())
        first = await fetch(self._strolls[like], *asked, STROLL_MAX)
        ends = [row["topic"] for row in first if row["is_last"]]
        found = {row["topic"] for row in first if row["is_match"]}
        certain = sorted(topic for topic in found if not ends or topic <= min(ends))
        if not ends or len(certain) > search.limit:
            return certain[: search.limit + 1]
        rows = await fetch(self._names[like], *asked, search.limit + 1)
        return [row["topic"] for row in rows]

    async def with_descriptions(self, fetch: Fetch, topics: Sequence[str]) -> list[FoundTopic]:
        """Return topics with what describes them."""
        configs = [config_topic(topic) for topic in topics]
        rows = await fetch(self._configs, [*map(digest, configs)], configs, TEXT_SHOWN_MAX)
        found = {row["topic"]: row for row in rows}
        return [
            FoundTopic(
                topic=topic,
                description=found[config]["description"] if config in found else None,
                config=found[config]["config"] if config in found else None,
            )
            for topic, config in zip(topics, configs, strict=True)
        ]

    async def by_description(
        self, fetch: Fetch, search: DescriptionSearch, after: str
    ) -> list[FoundTopic]:
        """Return described topics, in order of what describes them, one more than asked for."""
        namespace = search.namespace
        low, high = ("", None) if namespace is None else (f"{namespace}/", namespace + AFTER_SLASH)
        words = [TopicPattern.containing(word).to_like() for word in search.words]
        rows = await fetch(
            self._described[_like(ignore_case=search.ignore_case)],
            *(config_topic(after) if after else "", low, high, words),
            *(search.limit + 1, TEXT_SHOWN_MAX),
        )
        return [
            FoundTopic(
                topic=row["topic"].removesuffix(f"/{CONFIG_LEVEL}"),
                description=row["description"],
                config=row["config"],
            )
            for row in rows
        ]


def _each(tables: MessageTables, name: str, like: str) -> str:
    return tables.each(name, " UNION ALL ", {"named": RAW["named"], "like": like})


def _like(*, ignore_case: bool) -> str:
    return "ILIKE" if ignore_case else "LIKE"


def _range_of(pattern: TopicPattern) -> tuple[str | None, str | None]:
    """Return from where on and below what all matches are, as far as the beginning tells."""
    prefix = pattern.prefix
    if not prefix:
        return None, None
    last = ord(prefix[-1])
    if last == _LAST:
        return prefix, None
    following = _FIRST_BEHIND if last == _LAST_BEFORE_SURROGATES else last + 1
    return prefix, prefix[:-1] + chr(following)
