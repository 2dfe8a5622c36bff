"""Retained messages and last values in SQLite."""

import sqlite3
from collections.abc import Sequence
from functools import partial

import orjson

from monstermq_shared.records import Record
from monstermq_shared.stores.changes import MessageChanges
from monstermq_shared.stores.ports import PAGE_SIZE_MAX
from monstermq_shared.stores.sql import fill_in, load_queries
from monstermq_shared.stores.sqlite.maintenance import Maintenance
from monstermq_shared.stores.sqlite.readers import Reader
from monstermq_shared.stores.sqlite.rows import (
    FRAGMENTS,
    PAGE_ROWS_MAX,
    Page,
    message_row,
    read_page,
    read_record,
    time_prefix,
)
from monstermq_shared.stores.sqlite.statements import RowsStatement, to_json
from monstermq_shared.stores.sqlite.tenures import PartitionColumns
from monstermq_shared.stores.topic_ranges import first_after, topic_ranges
from monstermq_shared.topics import is_wildcard, matches

_QUERIES = fill_in(load_queries(__package__, "messages.sql"), FRAGMENTS)
_END_OF_TOPICS = b""  # SQLite sorts every blob after every text
_STRETCH_ROWS_MIN = 16


class SqliteMessageStore:
    """One row per topic.

    Args:
        name: The store's name, as the configuration has it.
        table: Its table, as ``sql.table_name`` returns it.
        readers: Where to read.
        maintenance: Where to purge.
    """

    def __init__(self, name: str, table: str, readers: Reader, maintenance: Maintenance) -> None:
        self.name = name
        self._readers = readers
        self._maintenance = maintenance
        self._queries = fill_in(_QUERIES, {"table": table})
        self._upsert = RowsStatement(self._queries["upsert"], 11, shared=2)
        self._stretch = _Stretch()

    @staticmethod
    def schema(table: str) -> Sequence[str]:
        """Return the statements that create the table unless it exists."""
        return [fill_in(_QUERIES, {"table": table})["table"]]

    def apply(
        self,
        connection: sqlite3.Connection,
        columns: PartitionColumns,
        changes: MessageChanges,
        upto: int,
    ) -> None:
        """Write the changes into the transaction that is open; on the writer's thread.

        Within the partition, a row is never replaced by an older one, nor cleared if it is at
        ``upto`` or above. Another partition's is always older: who reads a topic from two of them
        has given the first one up.
        """
        rows = [message_row(record) for record in changes.values() if record is not None]
        self._upsert.execute(connection, rows, columns)
        if len(rows) < len(changes):
            cleared = [topic for topic, record in changes.items() if record is None]
            connection.execute(self._queries["clear"], (to_json(cleared), *columns, upto))

    async def get(self, topic: str) -> Record | None:
        """Return the topic's record, or None if there is none."""
        rows = await self._readers.fetch(self._queries["get"], (topic,))
        return read_record(rows[0]) if rows else None

    async def find(
        self, topic_filter: str, *, after: str, limit: int, size_max: int = PAGE_SIZE_MAX
    ) -> list[Record]:
        """Return a page of the matching records after that topic, in order of topic."""
        if not is_wildcard(topic_filter):
            record = await self.get(topic_filter) if topic_filter > after and limit > 0 else None
            return [] if record is None else [record]
        # In the ranges of a filter without +, everything matches.
        scan = self._scan_some if "+" in topic_filter else self._scan_all
        page = Page(limit, size_max)
        for low, high in topic_ranges(topic_filter):
            first = max(low, first_after(after)) if after else low
            if high is not None and first >= high:
                continue  # earlier pages have had this range
            start: str | None = first
            while start is not None and page.rows_max:
                start = await scan(page, topic_filter, start, high)
        return page.records

    async def count(self) -> int:
        """Return how many topics it holds."""
        ((count,),) = await self._readers.fetch(self._queries["count"])
        return int(count)

    async def purge(self, *, before_ms: int, limit: int) -> int:
        """Delete up to ``limit`` records older than that; return how many there were.

        There may be more of them as long as it is not 0: many long topics are done in parts. They
        are sought by a reader, since that looks at all rows, and deleted by the writer.
        """
        before = time_prefix(before_ms)
        ((found,),) = await self._readers.fetch(
            self._queries["topics_before"], (before, limit, PAGE_SIZE_MAX)
        )
        topics = orjson.loads(found)
        size = self._maintenance.slice_rows
        deleted = 0
        for start in range(0, len(topics), size):
            parameters = (to_json(topics[start : start + size]), before)
            deleted += await self._maintenance.delete(self._queries["purge"], parameters)
        return deleted

    async def _scan_all(self, page: Page, _: str, low: str, high: str | None) -> str | None:
        """Add the first records of a range; return where it goes on, None at its end."""
        end = _END_OF_TOPICS if high is None else high
        rows_max = min(page.rows_max, self._stretch.rows)
        (row,) = await self._readers.fetch(self._queries["page"], (low, end, rows_max))
        records, left_out = read_page(row)
        known = next((index for index in left_out if not records[index].topic), len(records))
        if known == 0 and records:
            self._stretch.adapt(len(records), 1)
            return await self._scan_one(page, None, low, end)
        taken = await page.add(
            records[:known],
            [index for index in left_out if index < known],
            partial(self._fetch, records),
        )
        self._stretch.adapt(len(records), taken)
        more = known < len(records) or len(records) == rows_max
        return first_after(records[known - 1].topic) if more else None

    async def _scan_some(
        self, page: Page, topic_filter: str, low: str, high: str | None
    ) -> str | None:
        """Like ``_scan_all``, for a range where not everything matches: topics come first."""
        end = _END_OF_TOPICS if high is None else high
        rows_max = self._stretch.rows
        ((found,),) = await self._readers.fetch(self._queries["topics"], (low, end, rows_max))
        topics = orjson.loads(found)
        read = len(topics)
        if None in topics:
            del topics[topics.index(None) :]
            if not topics:
                self._stretch.adapt(read, 1)
                return await self._scan_one(page, topic_filter, low, end)
        more = len(topics) < read or read == rows_max
        at = first_after(topics[-1]) if more else None
        matching = [topic for topic in topics if matches(topic_filter, topic)]
        if len(matching) > page.rows_max:
            del matching[page.rows_max :]
            at = first_after(matching[-1])
        taken = len(topics)
        if matching:
            (row,) = await self._readers.fetch(
                self._queries["page_of_topics"], (to_json(matching),)
            )
            records, left_out = read_page(row)
            count = await page.add(records, left_out, partial(self._fetch, records))
            if count < len(records):
                taken = topics.index(records[count].topic)
        self._stretch.adapt(len(topics), taken)
        return at

    async def _scan_one(
        self, page: Page, topic_filter: str | None, low: str, end: str | bytes
    ) -> str | None:
        """Add the first record of a range, if it matches; for a topic too long for a page."""
        rows = await self._readers.fetch(self._queries["first"], (low, end))
        if not rows:
            return None
        record = read_record(rows[0])
        if topic_filter is None or matches(topic_filter, record.topic):
            await page.add([record], [], partial(self._fetch, [record]))
        return first_after(record.topic)

    async def _fetch(self, records: Sequence[Record], index: int) -> Record | None:
        return await self.get(records[index].topic)


class _Stretch:
    """How many rows a statement should read, going by the last one.

    SQLite reads a row of this table as a whole, whatever is selected of it; so of large rows, a
    statement should not read many more than a page takes.
    """

    def __init__(self) -> None:
        self.rows = PAGE_ROWS_MAX

    def adapt(self, read: int, taken: int) -> None:
        """Learn that so many of the rows that were read went into a page before it was full."""
        if taken < read:
            self.rows = max(_STRETCH_ROWS_MIN, 2 * taken)
        elif read == self.rows:
            self.rows = min(2 * self.rows, PAGE_ROWS_MAX)
