"""Retained messages and last values in SQLite."""

import sqlite3
from collections.abc import Sequence

import orjson

from monstermq_shared.records import Record
from monstermq_shared.stores.ports import MessageChanges
from monstermq_shared.stores.sql import fill_in, load_queries
from monstermq_shared.stores.sqlite.maintenance import Maintenance
from monstermq_shared.stores.sqlite.readers import Readers
from monstermq_shared.stores.sqlite.rows import (
    FRAGMENTS,
    PAGE_ROWS_MAX,
    complete,
    message_row,
    read_page,
    read_record,
    time_text,
)
from monstermq_shared.stores.sqlite.statements import RowsStatement, to_json
from monstermq_shared.stores.topic_ranges import first_after, topic_ranges
from monstermq_shared.topics import is_wildcard, matches

_QUERIES = fill_in(load_queries(__package__, "messages.sql"), FRAGMENTS)
_END_OF_TOPICS = b""  # SQLite sorts every blob after every text


class SqliteMessageStore:
    """One row per topic.

    Args:
        name: The store's name, as the configuration has it.
        table: Its table, as ``sql.table_name`` returns it.
        readers: Where to read.
        maintenance: Where to purge.
    """

    def __init__(self, name: str, table: str, readers: Readers, maintenance: Maintenance) -> None:
        self.name = name
        self._readers = readers
        self._maintenance = maintenance
        self._queries = fill_in(_QUERIES, {"table": table})
        self._upsert = RowsStatement(self._queries["upsert"], 9)

    @staticmethod
    def schema(table: str) -> Sequence[str]:
        """Return the statements that create the table unless it exists."""
        return [fill_in(_QUERIES, {"table": table})["table"]]

    def apply(self, connection: sqlite3.Connection, changes: MessageChanges, upto: int) -> None:
        """Write the changes into the transaction that is open; on the writer's thread.

        A row is never replaced by an older one, nor cleared if it is at ``upto`` or above.
        """
        rows = [message_row(record) for record in changes.values() if record is not None]
        self._upsert.execute(connection, rows)
        if len(rows) < len(changes):
            cleared = [topic for topic, record in changes.items() if record is None]
            connection.execute(self._queries["clear"], (to_json(cleared), upto))

    async def get(self, topic: str) -> Record | None:
        """Return the topic's record, or None if there is none."""
        rows = await self._readers.fetch(self._queries["get"], (topic,))
        return read_record(rows[0]) if rows else None

    async def find(self, topic_filter: str, *, after: str, limit: int) -> list[Record]:
        """Return up to ``limit`` matching records after that topic, in order of topic."""
        if not is_wildcard(topic_filter):
            record = await self.get(topic_filter) if topic_filter > after and limit > 0 else None
            return [] if record is None else [record]
        # In the ranges of a filter without +, everything matches.
        scan = self._scan_some if "+" in topic_filter else self._scan_all
        found: list[Record] = []
        for low, high in topic_ranges(topic_filter):
            start: str | None = max(low, first_after(after)) if after else low
            while start is not None and len(found) < limit:
                rows_max = min(limit - len(found), PAGE_ROWS_MAX)
                records, start = await scan(topic_filter, start, high, rows_max)
                found += records
        return found

    async def count(self) -> int:
        """Return how many topics it holds."""
        ((count,),) = await self._readers.fetch(self._queries["count"])
        return int(count)

    async def purge(self, *, before_us: int, limit: int) -> int:
        """Delete up to ``limit`` records older than that; return how many there were.

        They are sought by a reader, since that looks at all rows, and deleted by the writer.
        """
        before = time_text(before_us)
        ((found,),) = await self._readers.fetch(self._queries["topics_before"], (before, limit))
        topics = orjson.loads(found)
        size = self._maintenance.slice_rows
        deleted = 0
        for start in range(0, len(topics), size):
            parameters = (to_json(topics[start : start + size]), before)
            deleted += await self._maintenance.delete(self._queries["purge"], parameters)
        if deleted:
            await self._maintenance.give_space_back()
        return deleted

    async def _scan_all(
        self, _: str, low: str, high: str | None, rows_max: int
    ) -> tuple[list[Record], str | None]:
        """Return the first records of a range, and where it goes on, None at its end."""
        end = _END_OF_TOPICS if high is None else high
        (row,) = await self._readers.fetch(self._queries["page"], (low, end, rows_max))
        records, left_out = read_page(row)
        at = first_after(records[-1].topic) if len(records) == rows_max else None
        await complete(records, left_out, self._fetch)
        return records, at

    async def _scan_some(
        self, topic_filter: str, low: str, high: str | None, rows_max: int
    ) -> tuple[list[Record], str | None]:
        """Like ``_scan_all``, for a range where not everything matches: topics come first."""
        end = _END_OF_TOPICS if high is None else high
        ((found,),) = await self._readers.fetch(self._queries["topics"], (low, end, PAGE_ROWS_MAX))
        topics = orjson.loads(found)
        at = first_after(topics[-1]) if len(topics) == PAGE_ROWS_MAX else None
        matching = [topic for topic in topics if matches(topic_filter, topic)]
        if len(matching) > rows_max:
            del matching[rows_max:]
            at = first_after(matching[-1])
        if not matching:
            return [], at
        (row,) = await self._readers.fetch(self._queries["page_of_topics"], (to_json(matching),))
        records, left_out = read_page(row)
        await complete(records, left_out, self._fetch)
        return records, at

    async def _fetch(self, record: Record) -> Record | None:
        return await self.get(record.topic)
