"""Sessions, subscriptions, queue, open ids and in-flight messages in SQLite."""

import sqlite3
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial

import orjson

from monstermq_shared.positions import Partition
from monstermq_shared.records import Record
from monstermq_shared.stores.changes import QueuedMessage, SessionChanges, Trim, Trimmed
from monstermq_shared.stores.ports import PAGE_SIZE_MAX
from monstermq_shared.stores.sql import fill_in, load_queries
from monstermq_shared.stores.sqlite.readers import Readers
from monstermq_shared.stores.sqlite.rows import (
    FRAGMENTS,
    Page,
    queue_row,
    read_page,
    read_record,
)
from monstermq_shared.stores.sqlite.session_batch import Batch, Rows
from monstermq_shared.stores.sqlite.session_snapshot import SqliteSnapshot
from monstermq_shared.stores.sqlite.statements import RowsStatement, to_json
from monstermq_shared.stores.sqlite.tenures import PartitionColumns, read_marks
from monstermq_shared.stores.trimming import Trimming

_QUERIES = fill_in(load_queries(__package__, "sessions.sql"), FRAGMENTS)
_DATABASE_QUERIES = load_queries(__package__, "database.sql")

TABLES = (
    "sessions",
    "subscriptions",
    "queuedmessages",
    "queuedmessagesclients",
    "queues",
    "open_ids",
    "inflight",
)
SCHEMA = (
    *(_QUERIES[f"{table}_table"] for table in TABLES),
    _QUERIES["queuedmessagesclients_index"],
)

_ENDED_STATEMENTS = (
    "end_messages",
    "end_links",
    "end_queues",
    "end_subscriptions",
    "end_open_ids",
    "end_inflight",
    "end_sessions",
)
_TRIM_ROWS_MIN = 64
_TRIM_ROWS_MAX = 65_536


class SqliteSessionStore:
    """The session store; changes of many clients are written together, a few statements in all.

    Args:
        readers: Where to read.
    """

    def __init__(self, readers: Readers) -> None:
        self._readers = readers
        self._put_sessions = RowsStatement(_QUERIES["put_sessions"], 10)
        self._put_messages = RowsStatement(_QUERIES["put_messages"], 10, shared=2)
        self._add_to_queues = RowsStatement(_QUERIES["add_to_queues"], 3)

    def apply(
        self, connection: sqlite3.Connection, columns: PartitionColumns, changes: SessionChanges
    ) -> dict[str, Trimmed]:
        """Write the changes into the transaction that is open; on the writer's thread."""
        if not changes:
            return {}
        batch = Batch(changes)
        if batch.ended:
            ended = to_json(batch.ended)
            for name in _ENDED_STATEMENTS:
                connection.execute(_QUERIES[name], (ended,))
        self._put_sessions.execute(connection, batch.sessions)
        _write(connection, batch.subscriptions, ())
        self._queue(connection, columns, batch)
        self._dequeue(connection, columns, batch)
        _write(connection, batch.open_ids, columns)
        _write(connection, batch.in_flight, columns)
        trimmed = self._trim(connection, columns, batch.trims)
        self._count(connection, batch, trimmed)
        return trimmed

    @asynccontextmanager
    async def load(self, partition: Partition) -> AsyncIterator[SqliteSnapshot]:
        """Return a snapshot; while it is open, what is committed does not show in it."""
        async with self._readers.snapshot() as reader:
            marks = await reader.fetch(_DATABASE_QUERIES["marks"], partition)
            yield SqliteSnapshot(reader, read_marks(marks))

    async def page(
        self,
        partition: Partition,
        client_id: str,
        *,
        after: int,
        before: int,
        limit: int,
        size_max: int = PAGE_SIZE_MAX,
    ) -> list[QueuedMessage]:
        """Return a page of the queue rows with after < offset < before, oldest first."""
        page = Page(limit, size_max)
        delivery_qos: dict[int, int] = {}
        while rows_max := page.rows_max:
            ((*columns, qos_column),) = await self._readers.fetch(
                _QUERIES["page"], (*partition, client_id, after, before, rows_max)
            )
            records, left_out = read_page(columns)
            offsets = [record.offset for record in records]
            delivery_qos.update(zip(offsets, orjson.loads(qos_column), strict=True))
            await page.add(records, left_out, partial(self._fetch, partition, offsets))
            if len(records) < rows_max:
                break
            after = offsets[-1]
        return [QueuedMessage(record=at, qos=delivery_qos[at.offset]) for at in page.records]

    async def _fetch(
        self, partition: Partition, offsets: Sequence[int], index: int
    ) -> Record | None:
        rows = await self._readers.fetch(_QUERIES["get_message"], (*partition, offsets[index]))
        return read_record(rows[0]) if rows else None

    def _queue(
        self, connection: sqlite3.Connection, columns: PartitionColumns, batch: Batch
    ) -> None:
        if not batch.queued:
            return
        messages = [*map(queue_row, batch.messages.values())]
        self._put_messages.execute(connection, messages, columns)
        parameters = (to_json(batch.queued), *columns)
        added = connection.execute(_QUERIES["put_links"], parameters).rowcount
        if added < sum(map(len, batch.queued.values())):
            batch.to_count.update(batch.queued)

    def _dequeue(
        self, connection: sqlite3.Connection, columns: PartitionColumns, batch: Batch
    ) -> None:
        if not batch.dequeued:
            return
        if batch.unknown:
            parameters = (to_json(batch.unknown), *columns)
            ((sizes,),) = connection.execute(_QUERIES["sizes_of_links"], parameters).fetchall()
            for client_id, size in orjson.loads(sizes).items():
                batch.grown[client_id][1] -= size
        parameters = (to_json(batch.dequeued), *columns)
        gone = connection.execute(_QUERIES["delete_links"], parameters).rowcount
        if gone < sum(map(len, batch.dequeued.values())):
            batch.to_count.update(batch.dequeued)
        connection.execute(_QUERIES["delete_messages"], parameters)

    def _count(
        self, connection: sqlite3.Connection, batch: Batch, trimmed: Mapping[str, Trimmed]
    ) -> None:
        """Bring what ``queues`` says up to date."""
        for client_id, gone in trimmed.items():
            grown = batch.grown.setdefault(client_id, [0, 0])
            grown[0] -= gone.messages
            grown[1] -= gone.size
        rows = [
            (client_id, messages, size)
            for client_id, (messages, size) in batch.grown.items()
            if (messages or size) and client_id not in batch.to_count
        ]
        if rows:
            nothing = (rows[-1][0], 0, 0)
            self._add_to_queues.execute(connection, rows, filler=nothing)
        if batch.to_count:
            connection.execute(_QUERIES["count_queues"], (to_json([*batch.to_count]),))

    def _trim(
        self, connection: sqlite3.Connection, columns: PartitionColumns, trims: Mapping[str, Trim]
    ) -> dict[str, Trimmed]:
        """Drop the oldest rows; for all clients at once, in few rounds even if they are small."""
        trimming = Trimming(trims)
        rows_max = max([_TRIM_ROWS_MIN, *(trim.messages for trim in trims.values())])
        while trimming.waiting:
            starts = {client_id: trim.after for client_id, trim in trimming.waiting.items()}
            ((found,),) = connection.execute(
                _QUERIES["oldest_links"], (to_json(starts), *columns, rows_max)
            ).fetchall()
            asked, rows_max = rows_max, min(2 * rows_max, _TRIM_ROWS_MAX)
            dropped: dict[str, list[int]] = {}
            for client_id, (positions, sizes) in orjson.loads(found).items():
                count = trimming.drop(client_id, sizes, rows_asked=asked)
                dropped[client_id] = positions[:count]
            parameters = (to_json(dropped), *columns)
            connection.execute(_QUERIES["delete_links"], parameters)
            connection.execute(_QUERIES["delete_messages"], parameters)
        return trimming.trimmed


def _write(connection: sqlite3.Connection, rows: Rows, columns: Sequence[int]) -> None:
    if rows.put:
        connection.execute(_QUERIES[f"put_{rows.table}"], (to_json(rows.put), *columns))
    if rows.deleted:
        connection.execute(_QUERIES[f"delete_{rows.table}"], (to_json(rows.deleted),))
