"""Questions about the topics of message tables in SQLite."""

import sqlite3
from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

from monstermq_shared.config import StoreType
from monstermq_shared.queries.bounds import PAGE_SIZE_MAX, TEXT_SHOWN_MAX
from monstermq_shared.queries.cursors import Cursors
from monstermq_shared.queries.nearest import nearest_topics
from monstermq_shared.queries.pages import Page, page_of
from monstermq_shared.queries.patterns import TopicPattern
from monstermq_shared.queries.topics import (
    ChildrenPage,
    ChildrenQuery,
    DescriptionSearch,
    FoundPage,
    NameSearch,
    TopicChild,
    TopicValue,
    ValueSource,
    ValuesPage,
    ValuesQuery,
    config_topic,
)
from monstermq_shared.stores.sql import fill_in, load_queries
from monstermq_shared.stores.sqlite.queries.connections import Connections
from monstermq_shared.stores.sqlite.queries.filters import filter_rows, ranges
from monstermq_shared.stores.sqlite.queries.levels import children_of
from monstermq_shared.stores.sqlite.queries.rows import Found, Placed, read_messages
from monstermq_shared.stores.sqlite.queries.searching import Search, search, trigrams
from monstermq_shared.stores.sqlite.rows import FRAGMENTS
from monstermq_shared.stores.sqlite.statements import to_json

_RAW = load_queries(__package__, "topics.sql")
_FRAGMENTS = load_queries(__package__, "fragments.sql")


class MessageTables(NamedTuple):
    """The tables that answer together; at least one of them is there.

    Attributes:
        retained: The table of retained messages, if it is asked.
        last_values: The table of a group's last values, if it is asked.
    """

    retained: str | None
    last_values: str | None

    def names(self) -> Mapping[str, str]:
        """Return what the statements call the tables: one stands for both where there is one."""
        table = self.last_values or self.retained
        other = self.retained or self.last_values
        assert table is not None
        assert other is not None
        return {"table": table, "other": other, "retained": other}


class SqliteTopicQueries:
    """Answers from one or two tables.

    Args:
        tables: Their names.
        connections: Where to ask.
        cursors: What seals where pages end.
    """

    store_type = StoreType.SQLITE.value

    def __init__(self, tables: MessageTables, connections: Connections, cursors: Cursors) -> None:
        self._tables = tables
        self._names = {folds: _statements(tables, ignore_case=folds) for folds in (True, False)}
        self._sources = [
            (source, fill_in(_values(), {"table": table})["values"])
            for source, table in (
                (ValueSource.LAST_VALUE, tables.last_values),
                (ValueSource.RETAINED, tables.retained),
            )
            if table is not None
        ]
        self._connections = connections
        self._cursors = cursors

    async def values(self, query: ValuesQuery) -> ValuesPage:
        """Return the values of topics."""
        after = self._cursors.after(query.question, query.cursor) or ""
        parameters = {
            "filters": filter_rows(query.filters),
            "ranges": to_json(ranges(query.filters, after=after)),
            "after": after,
            "rows": query.limit + 1,
            "payload_limit": query.payload_limit,
            "size_max": PAGE_SIZE_MAX,
        }

        def ask(connection: sqlite3.Connection) -> list[tuple[ValueSource, Found]]:
            return [
                (source, read_messages(row, limit=query.limit))
                for source, statement in self._sources
                for row in connection.execute(statement, parameters)
            ]

        found, more = _newest(await self._connections.run(ask))
        return page_of(
            found[: query.limit],
            more=more or len(found) > query.limit,
            cursors=self._cursors,
            question=query.question,
            place=lambda value: [value.message.topic],
        )

    async def find_by_name(self, query: NameSearch) -> FoundPage:
        """Return the topics with a value whose names match."""
        low, high = ("", None) if query.ignore_case else _range(query.pattern.prefix)
        parameters = {
            "low": low,
            "high": high,
            "pattern": _pattern(query.pattern, ignore_case=query.ignore_case),
        }
        wanted = self._search(query, "names", trigrams(query.pattern.literals), parameters)
        return await self._found(query, wanted)

    async def find_by_description(self, query: DescriptionSearch) -> FoundPage:
        """Return the topics whose description matches; none where nothing retained is kept."""
        written = partial(_pattern, ignore_case=query.ignore_case)
        namespace = None
        if query.namespace is not None:
            namespace = written(TopicPattern.glob(config_topic("*")).below(query.namespace))
        parameters = {
            "pattern": namespace,
            "words": to_json([written(TopicPattern.containing(word)) for word in query.words]),
        }
        wanted = self._search(query, "descriptions", trigrams(query.words), parameters)
        if self._tables.retained is None:
            wanted = wanted._replace(rows=0)
        return await self._found(query, wanted)

    async def children(self, query: ChildrenQuery) -> ChildrenPage:
        """Return one level of the tree of the topics with a value."""
        after = self._cursors.after(query.question, query.cursor)
        ask = partial(children_of, self._names[True], query.parent, after, query.limit)
        found, more = await self._connections.run(ask)
        return page_of(
            found,
            more=more,
            cursors=self._cursors,
            question=query.question,
            place=_name_of,
        )

    async def similar(self, topic: str, *, limit: int) -> Sequence[str]:
        """Return topics with a value whose names are near that of one that has none."""
        return await nearest_topics(self.children, topic, limit=limit)

    def _search(
        self,
        query: NameSearch | DescriptionSearch,
        what: str,
        asked: str | None,
        parameters: Mapping[str, object],
    ) -> Search:
        row_id, after = 0, ""
        if query.cursor is not None:
            place = self._cursors.open(query.question, query.cursor)
            row_id, after = int(place[0]), str(place[1])
        return Search(
            what=what,
            trigrams=asked,
            parameters={**parameters, "text_max": TEXT_SHOWN_MAX},
            row_id=row_id,
            after=after,
            end=config_topic("") if what == "descriptions" else "",
            rows=query.limit + 1,
        )

    async def _found(self, query: NameSearch | DescriptionSearch, wanted: Search) -> FoundPage:
        statements = self._names[query.ignore_case]
        hits = await self._connections.run(partial(search, statements, wanted))
        shown = hits[: query.limit]
        return Page(
            rows=[hit.found for hit in shown],
            more=len(hits) > query.limit,
            cursor_of=lambda index: self._cursors.seal(
                query.question, [shown[index].row_id, shown[index].after]
            ),
        )


def _values() -> Mapping[str, str]:
    return fill_in(_RAW, _FRAGMENTS)


def _statements(tables: MessageTables, *, ignore_case: bool) -> Mapping[str, str]:
    folded = "_ignoring_case" if ignore_case else ""
    described = "undescribed" if tables.retained is None else "described"
    return fill_in(
        _RAW,
        {
            "described": _RAW[described],
            "worded": _RAW["worded"],
            "configs": _RAW["configs"],
            "description": FRAGMENTS["description"],
            "there": _RAW["there"],
            "alike": _RAW[f"alike{folded}"],
            "containing": _RAW[f"containing{folded}"],
            "first_from_low": _RAW["first_from_low"],
            "first_from_next": _RAW["first_from_next"],
            "next": _RAW["next"],
            **tables.names(),
        },
    )


def _newest(found: Sequence[tuple[ValueSource, Found]]) -> tuple[list[TopicValue], bool]:
    """Return the newest value of each topic, and whether others follow.

    Topics beyond the end of a page that others follow are left for the next page.
    """
    ends = [page.rows[-1].message.topic for _, page in found if page.more]
    best: dict[str, tuple[ValueSource, Placed]] = {}
    for source, page in found:
        for placed in page.rows:
            there = best.get(placed.message.topic)
            if there is None or _moment(there[1]) < _moment(placed):
                best[placed.message.topic] = source, placed
    values = [
        TopicValue(message=placed.message, source=source)
        for topic, (source, placed) in sorted(best.items())
        if not ends or topic <= min(ends)
    ]
    return values, bool(ends)


def _moment(placed: Placed) -> tuple[int, int]:
    return placed.message.time_ms, placed.place


def _pattern(pattern: TopicPattern, *, ignore_case: bool) -> str:
    return pattern.to_like() if ignore_case else pattern.to_glob()


def _range(prefix: str) -> tuple[str, str | None]:
    """Return the range of the texts that begin with one; None: no end."""
    if not prefix:
        return "", None
    # The greatest code point; a topic that has it right there is beyond no other.
    return prefix, f"{prefix}{chr(0x10FFFF)}{chr(0x10FFFF)}"


def _name_of(child: TopicChild) -> list[str | int]:
    return [child.name]
