"""Archives in SQLite."""

import sqlite3
from collections.abc import Sequence
from functools import partial

import orjson

from monstermq_shared.records import Record
from monstermq_shared.stores.changes import ArchiveChanges
from monstermq_shared.stores.ports import HISTORY_SIZE_MAX, check_limit
from monstermq_shared.stores.sql import fill_in, load_queries
from monstermq_shared.stores.sqlite.maintenance import Maintenance
from monstermq_shared.stores.sqlite.readers import Reader
from monstermq_shared.stores.sqlite.rows import (
    FRAGMENTS,
    Page,
    message_row,
    read_page,
    read_record,
    time_prefix,
    time_text,
)
from monstermq_shared.stores.sqlite.statements import RowsStatement
from monstermq_shared.stores.sqlite.tenures import PartitionColumns

_QUERIES = fill_in(load_queries(__package__, "archive.sql"), FRAGMENTS)
_FIRST_TIME = ""
_LAST_TIME = "~"  # above every digit
_INTEGER_MAX = 2**63 - 1
_SLICES_MAX = 16


class SqliteArchiveStore:
    """One row per record.

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
        self._append = RowsStatement(self._queries["append"], 11, shared=2)

    @staticmethod
    def schema(table: str) -> Sequence[str]:
        """Return the statements that create the table and its indexes unless they exist."""
        queries = fill_in(_QUERIES, {"table": table})
        return [queries["table"], queries["topic_time_index"], queries["time_index"]]

    def apply(
        self, connection: sqlite3.Connection, columns: PartitionColumns, changes: ArchiveChanges
    ) -> None:
        """Append the records in the transaction that is open; on the writer's thread."""
        self._append.execute(connection, [message_row(record) for record in changes], columns)

    async def history(
        self,
        topic: str,
        *,
        start_ms: int | None = None,
        end_ms: int | None = None,
        limit: int = 1000,
        newest_first: bool = True,
        size_max: int = HISTORY_SIZE_MAX,
    ) -> list[Record]:
        """Return a topic's records with start <= time <= end, ordered by (time, position)."""
        check_limit(limit)
        start = _FIRST_TIME if start_ms is None else time_prefix(start_ms)
        end = _LAST_TIME if end_ms is None else time_text(end_ms)
        if newest_first:
            query, until, at = "newest_first", start, (end, _INTEGER_MAX, _INTEGER_MAX)
        else:
            query, until, at = "oldest_first", end, (start, -1, -1)
        page = Page(limit, size_max)
        while rows_max := page.rows_max:
            ((*columns, row_numbers, last_time),) = await self._readers.fetch(
                self._queries[query], (topic, until, *at, rows_max)
            )
            records, left_out = read_page(columns)
            rows = orjson.loads(row_numbers)
            await page.add(records, left_out, partial(self._fetch, records, rows))
            if len(records) < rows_max:
                break
            at = (last_time, records[-1].offset, rows[-1])
        return page.records

    async def oldest_ms(self) -> int | None:
        """Return the time of the oldest record, None if there is none."""
        rows = await self._readers.fetch(self._queries["oldest"])
        return int(rows[0][0]) if rows else None

    async def purge(self, *, before_ms: int, limit: int) -> int:
        """Delete up to ``limit`` records older than that; return how many there were."""
        return await self._delete("purge", (time_prefix(before_ms),), limit)

    async def purge_oldest(self, *, limit: int) -> int:
        """Delete the ``limit`` oldest records; return how many there were."""
        return await self._delete("purge_oldest", (), limit)

    async def _delete(self, name: str, parameters: tuple[object, ...], limit: int) -> int:
        # Who asks for very many is in a hurry, and every slice costs a sync of the disk.
        slice_rows = max(self._maintenance.slice_rows, limit // _SLICES_MAX)
        deleted = 0
        while deleted < limit:
            rows = min(limit - deleted, slice_rows)
            gone = await self._maintenance.delete(self._queries[name], (*parameters, rows))
            deleted += gone
            if gone < rows:
                break
        return deleted

    async def _fetch(
        self, records: Sequence[Record], rows: Sequence[int], index: int
    ) -> Record | None:
        parameters = (rows[index], records[index].id)
        found = await self._readers.fetch(self._queries["get"], parameters)
        return read_record(found[0]) if found else None
