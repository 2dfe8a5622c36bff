"""Retained messages and last values in PostgreSQL."""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeAlias

import asyncpg

from monstermq_shared.records import Record, size_of
from monstermq_shared.stores.changes import MessageChanges
from monstermq_shared.stores.ports import PAGE_SIZE_MAX, ReflectedPage
from monstermq_shared.stores.postgres.connection import Connection
from monstermq_shared.stores.postgres.copying import TOPIC_COLUMNS, copy_rows, encode_record
from monstermq_shared.stores.postgres.readers import Readers, changed_rows
from monstermq_shared.stores.postgres.rows import (
    FRAGMENTS,
    Place,
    digest,
    fits_one_statement,
    parts,
    record_arrays,
    record_parts,
)
from monstermq_shared.stores.postgres.tables import TableKind, columns
from monstermq_shared.stores.sql import fill_in, load_queries
from monstermq_shared.stores.topic_ranges import topic_ranges
from monstermq_shared.topics import is_wildcard, matches

_QUERIES = fill_in(load_queries(__package__, "messages.sql"), FRAGMENTS)

KIND = TableKind(
    name="messages",
    create=[_QUERIES["table"], _QUERIES["topic_index"]],
    columns=columns(
        "topic text, topic_1 text, topic_2 text, topic_3 text, topic_4 text, topic_5 text, "
        "topic_6 text, topic_7 text, topic_8 text, topic_9 text, topic_r text[], topic_l text, "
        "time timestamp with time zone, payload_blob bytea, payload text, payload_json jsonb, "
        "qos smallint, retained boolean, client_id text, message_uuid character varying(36), "
        "generation smallint, partition integer, position bigint, properties jsonb, "
        "expires_at timestamp with time zone, topic_digest bytea"
    ),
    key=["topic_digest"],
)

PURGE_ROWS_MAX = 2_000
"""Rows that one statement deletes: others that want to write them wait until it has committed."""

BEFORE_THE_LOG = -1
"""The offset of a record of another log, for whoever compares it with those of this one."""

_PAGE_ROWS = 1_000
_STRETCH_ROWS_MAX = 10_000
_STRETCH_GROWTH = 4
_EXACT_COUNT_MAX = 100_000
_Fetch: TypeAlias = Callable[..., Awaitable[list[asyncpg.Record]]]

_IN_PATTERNS = re.compile(r"([\\%_])")


class PostgresMessageStore:
    """One row per topic.

    Args:
        name: The store's name, as the configuration has it.
        table: Its table, as ``sql.table_name`` returns it.
        readers: Where to read and purge.
    """

    def __init__(self, name: str, table: str, readers: Readers) -> None:
        self.name = name
        self._readers = readers
        self._staging = f"new_{digest(table).hex()}"
        self._queries = fill_in(_QUERIES, {"table": table, "staging": self._staging})

    async def apply(
        self, connection: Connection, place: Place, changes: MessageChanges, upto: int
    ) -> None:
        """Write the changes into the transaction that is open.

        A row is never replaced by an older one, nor cleared if it is at ``upto`` or above.
        """
        records = [record for record in changes.values() if record is not None]
        if not fits_one_statement(records) and await self._has_staging(connection):
            await self._put_staged(connection, place, records)
        else:
            await self._put(connection, place, records)
        if len(records) < len(changes):
            cleared = [topic for topic, record in changes.items() if record is None]
            for topics in parts(cleared):
                digests = [digest(topic) for topic in topics]
                await connection.execute(self._queries["clear"], digests, upto, *place)

    async def get(self, topic: str) -> Record | None:
        """Return the topic's record, or None if there is none."""
        rows = await self._readers.fetch(self._queries["get"], digest(topic), topic)
        return Record(*rows[0]) if rows else None

    async def find(
        self, topic_filter: str, *, after: str, limit: int, size_max: int = PAGE_SIZE_MAX
    ) -> list[Record]:
        """Return a page of the matching records after that topic, in order of topic."""
        page = _Page(topic_filter, limit, size_max)
        await _Filling(page, self._readers.fetch, self._queries).fill(topic_filter, after)
        return page.records

    async def find_reflected(
        self,
        view: tuple[str, str],
        topic_filter: str,
        *,
        after: str,
        limit: int,
        size_max: int = PAGE_SIZE_MAX,
    ) -> ReflectedPage:
        """Return what ``find`` does, with the marks of that moment; see ``ReflectedReader``."""
        page = _Page(topic_filter, limit, size_max)
        async with (
            self._readers.connection() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            await connection.execute(self._queries["hold"])
            marks = await connection.fetch(self._queries["view_marks"], *view)
            await _Filling(page, connection.fetch, self._queries).fill(topic_filter, after)
            digests = [digest(record.topic) for record in page.records]
            rows = await connection.fetch(self._queries["of_other_logs"], digests, view[1])
        others = {row["topic"] for row in rows}
        for record in page.records:
            if record.topic in others:
                record.offset = BEFORE_THE_LOG
        return ReflectedPage(page.records, {row["partition"]: row["reflected"] for row in marks})

    async def count(self) -> int:
        """Return how many topics it holds, estimated if it is many."""
        ((exact,),) = await self._readers.fetch(self._queries["count"], _EXACT_COUNT_MAX + 1)
        if exact <= _EXACT_COUNT_MAX:
            return int(exact)
        ((estimate,),) = await self._readers.fetch(self._queries["estimate"])
        return max(int(exact), int(estimate))

    async def purge(self, *, before_ms: int, limit: int) -> int:
        """Delete up to ``limit`` records older than that; return how many there were.

        Rows that are being replaced at the moment are not older any more.
        """
        return await self._readers.delete(
            self._queries["purge"], before_ms, limit=limit, rows_max=PURGE_ROWS_MAX
        )

    async def _put(self, connection: Connection, place: Place, records: Sequence[Record]) -> None:
        """Write records by as many statements as carry them."""
        for part in record_parts(records):
            digests = [digest(record.topic) for record in part]
            await connection.execute(self._queries["upsert"], digests, *record_arrays(part), *place)

    async def _put_staged(
        self, connection: Connection, place: Place, records: Sequence[Record]
    ) -> None:
        """Write many records: copied to a table of the session, and from there by two statements.

        These are planned anew each time, because it matters how many rows both tables have.
        """
        await copy_rows(
            connection,
            self._staging,
            [*TOPIC_COLUMNS, "payload"],
            (encode_record(record, place, topic_digest=digest(record.topic)) for record in records),
            schema="pg_temp",
        )
        # In this order: what has been replaced cannot be purged any more, and what was purged
        # before is added. In the other one a purge in between would leave neither.
        changed = changed_rows(await connection.execute(self._queries["replace_staged"]))
        if changed < len(records):
            changed += changed_rows(await connection.execute(self._queries["add_staged"]))
        if changed < len(records):
            # What is there is newer, or of another partition's tenant, who came in between.
            await connection.execute(self._queries["replace_staged"])

    async def _has_staging(self, connection: Connection) -> bool:
        """Make the table of the session, unless it is there; tell whether it may be."""
        ((is_there, may_be_made),) = await connection.fetch(self._queries["staging"])
        if not is_there and may_be_made:
            await connection.execute(self._queries["make_staging"])
        return bool(is_there or may_be_made)


class _Page:
    """A page that is being filled.

    Attributes:
        records: What it holds so far, in order.
        rows_left: How many more it takes.
        size_left: Bytes of records after which it takes no more.
    """

    def __init__(self, topic_filter: str, limit: int, size_max: int) -> None:
        self.records: list[Record] = []
        self.rows_left = limit
        self.size_left = size_max
        self._filter = topic_filter
        self._stretch = limit

    def next_stretch(self) -> int:
        """Return how many rows to look at next: more each time, because matches may be rare."""
        stretch = self._stretch = min(self._stretch * _STRETCH_GROWTH, _STRETCH_ROWS_MAX)
        return stretch

    @property
    def is_full(self) -> bool:
        """Whether it takes no more."""
        return self.rows_left <= 0 or (self.size_left <= 0 and bool(self.records))

    def look_at(self, record: Record) -> None:
        """Add a record if it matches: the ranges of a filter with + hold others as well."""
        if matches(self._filter, record.topic):
            self.records.append(record)
            self.rows_left -= 1
            self.size_left -= size_of(record)


class _Filling:
    """Fills a page.

    Args:
        page: Which.
        fetch: Runs a statement, and returns its rows.
        queries: The statements of the table.
    """

    def __init__(self, page: _Page, fetch: _Fetch, queries: Mapping[str, str]) -> None:
        self._page = page
        self._fetch = fetch
        self._queries = queries

    async def fill(self, topic_filter: str, after: str) -> None:
        """Add the matching records after that topic, in order of topic."""
        if not is_wildcard(topic_filter):
            await self._add_topic(topic_filter, after)
            return
        pattern = _pattern(topic_filter) if "+" in topic_filter else None
        for low, high in topic_ranges(topic_filter):
            if high is not None and high.endswith("\0"):
                await self._add_topic(low, after)
                continue
            start: str | None = after
            while start is not None and not self._page.is_full and (high is None or start < high):
                start = await self._add_range((low, start, high), pattern)

    async def _add_topic(self, topic: str, after: str) -> None:
        """Add the record of one topic, if it is not on an earlier page."""
        if topic > after and not self._page.is_full:
            rows = await self._fetch(self._queries["get"], digest(topic), topic)
            if rows:
                self._page.look_at(Record(*rows[0]))

    async def _add_range(
        self, bounds: tuple[str, str, str | None], pattern: str | None
    ) -> str | None:
        """Add records of a range: from a topic on, above another, below a third.

        Returns:
            Above which topic it goes on; None at the end of the range.
        """
        rows_max, size_max = min(self._page.rows_left, _PAGE_ROWS), self._page.size_left
        # Without a pattern everything is wanted, so no more is looked at than there is room for.
        stretch = rows_max if pattern is None else self._page.next_stretch()
        rows = await self._fetch(
            self._queries["page"], *bounds, pattern, rows_max, stretch, size_max
        )
        for *values, is_wanted, is_last in rows:
            if is_wanted:
                record = Record(*values)
                self._page.look_at(record)
                rows_max -= 1
                size_max -= size_of(record)
            if is_last or rows_max == 0 or size_max <= 0:
                return str(values[0])
        return None


def _pattern(topic_filter: str) -> str:
    """Return what every match of a filter is LIKE, and some other topics."""
    levels = topic_filter.split("/")
    tail = levels.pop() == "#"
    if not tail:
        levels = topic_filter.split("/")
    literal = "/".join(
        "%" if level == "+" else _IN_PATTERNS.sub(r"\\\1", level) for level in levels
    )
    return f"{literal}%" if tail else literal
