"""Sessions, subscriptions, queue, open ids and in-flight messages in SQLite."""

import logging
import sqlite3
from collections.abc import Mapping
from typing import Any

import orjson

from monstermq_shared.errors import StoreDamaged
from monstermq_shared.messages import Will
from monstermq_shared.records import Record
from monstermq_shared.stores.changes import (
    ClientChanges,
    InFlightState,
    QueuedMessage,
    SessionChanges,
    SessionRow,
    StoredSession,
    Trim,
    Trimmed,
)
from monstermq_shared.stores.ports import PAGE_SIZE_MAX
from monstermq_shared.stores.sql import fill_in, load_queries
from monstermq_shared.stores.sqlite.readers import Readers
from monstermq_shared.stores.sqlite.rows import (
    FRAGMENTS,
    Page,
    queue_row,
    read_page,
    read_record,
    time_text,
)
from monstermq_shared.stores.sqlite.statements import RowsStatement, to_json

logger = logging.getLogger(__name__)

_QUERIES = fill_in(load_queries(__package__, "sessions.sql"), FRAGMENTS)

TABLES = (
    "sessions",
    "subscriptions",
    "queuedmessages",
    "queuedmessagesclients",
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
        self._put_messages = RowsStatement(_QUERIES["put_messages"], 8)

    def apply(self, connection: sqlite3.Connection, changes: SessionChanges) -> dict[str, Trimmed]:
        """Write the changes into the transaction that is open; on the writer's thread."""
        if not changes:
            return {}
        batch = _Batch(changes)
        if batch.ended:
            ended = to_json(batch.ended)
            for name in _ENDED_STATEMENTS:
                connection.execute(_QUERIES[name], (ended,))
        self._put_sessions.execute(connection, batch.sessions)
        self._put_messages.execute(connection, [*map(queue_row, batch.messages.values())])
        for name, rows in batch.by_statement.items():
            if rows:
                connection.execute(_QUERIES[name], (to_json(rows),))
        return self._trim(connection, batch.trims)

    async def load(self) -> list[StoredSession]:
        """Return every session there is.

        Rows of clients that have no session are left where they are, with a warning: only another
        hand can have made them.

        Raises:
            StoreDamaged: Somebody else has written a row that makes no sense.
        """
        try:
            return await self._load()
        except ValueError as exc:
            raise StoreDamaged(
                f"a row of the session tables ({', '.join(TABLES)}) cannot be understood: "
                f"{exc!r}. Nothing was changed; correct or delete the row, or restore a backup"
            ) from exc

    async def _load(self) -> list[StoredSession]:
        sessions = {
            row[0]: StoredSession(
                row=_read_session(row),
                subscriptions={},
                open_ids={},
                in_flight={},
                queued_messages=0,
                queued_size=0,
            )
            for row in await self._readers.fetch(_QUERIES["load_sessions"])
        }
        for session, topic_filter, qos in await self._load_rows("subscriptions", sessions):
            session.subscriptions[topic_filter] = qos
        for session, packet_id, offset in await self._load_rows("open_ids", sessions):
            session.open_ids[packet_id] = offset
        for session, packet_id, offset, state in await self._load_rows("inflight", sessions):
            session.in_flight[packet_id] = (offset, InFlightState(state))
        for session, messages, size in await self._load_rows("queuedmessagesclients", sessions):
            session.queued_messages = messages
            session.queued_size = size
        return [*sessions.values()]

    async def _load_rows(
        self, table: str, sessions: Mapping[str, StoredSession]
    ) -> list[tuple[Any, ...]]:
        """Return the rows of a table, each with its session in the place of the client."""
        rows = await self._readers.fetch(_QUERIES[f"load_{table}"])
        known = [(sessions[row[0]], *row[1:]) for row in rows if row[0] in sessions]
        if len(known) < len(rows):
            clients = {row[0] for row in rows if row[0] not in sessions}
            logger.warning(
                "table %s has rows of %d clients that have no row in sessions; they are ignored",
                table,
                len(clients),
            )
        return known

    async def page(
        self,
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
                _QUERIES["page"], (client_id, after, before, rows_max)
            )
            records, left_out = read_page(columns)
            offsets = [record.offset for record in records]
            delivery_qos.update(zip(offsets, orjson.loads(qos_column), strict=True))
            await page.add(records, left_out, self._fetch)
            if len(records) < rows_max:
                break
            after = offsets[-1]
        return [QueuedMessage(record=at, qos=delivery_qos[at.offset]) for at in page.records]

    async def _fetch(self, record: Record) -> Record | None:
        rows = await self._readers.fetch(_QUERIES["get_message"], (record.offset,))
        return read_record(rows[0]) if rows else None

    def _trim(
        self, connection: sqlite3.Connection, trims: Mapping[str, Trim]
    ) -> dict[str, Trimmed]:
        """Drop the oldest rows; for all clients at once, in few rounds even if they are small."""
        trimmed: dict[str, Trimmed] = {}
        waiting = dict(trims)
        rows_max = max([_TRIM_ROWS_MIN, *(trim.messages for trim in trims.values())])
        while waiting:
            starts = {client_id: trim.after for client_id, trim in waiting.items()}
            ((found,),) = connection.execute(
                _QUERIES["oldest_links"], (to_json(starts), rows_max)
            ).fetchall()
            asked, rows_max = rows_max, min(2 * rows_max, _TRIM_ROWS_MAX)
            dropped: dict[str, list[int]] = {}
            for client_id, (positions, sizes) in orjson.loads(found).items():
                trim = waiting[client_id]
                count = _count_to_drop(trim, sizes)
                dropped[client_id] = positions[:count]
                size = sum(sizes[:count])
                before = trimmed.get(client_id, Trimmed(0, 0))
                trimmed[client_id] = Trimmed(before.messages + count, before.size + size)
                left = Trim(trim.after, trim.messages - count, trim.size - size)
                if len(positions) < asked or (left.messages <= 0 and left.size <= 0):
                    del waiting[client_id]
                else:
                    waiting[client_id] = left
            parameters = (to_json(dropped),)
            connection.execute(_QUERIES["delete_links"], parameters)
            connection.execute(_QUERIES["delete_messages"], parameters)
        return trimmed


class _Batch:
    """The changes of all clients, sorted by the statement that writes them.

    Attributes:
        ended: Clients of which everything goes first.
        sessions: Rows of ``sessions``.
        messages: Offset -> record, once however many clients it is for.
        by_statement: Name of the statement -> client -> what it reads, in the order to execute.
        trims: What comes last.
    """

    def __init__(self, changes: SessionChanges) -> None:
        self.ended: list[str] = []
        self.sessions: list[tuple[object, ...]] = []
        self.messages: dict[int, Record] = {}
        self.trims: dict[str, Trim] = {}
        self.by_statement: dict[str, dict[str, Any]] = {
            "put_subscriptions": {},
            "delete_subscriptions": {},
            "put_links": {},
            "delete_links": {},
            "delete_messages": {},
            "put_open_ids": {},
            "delete_open_ids": {},
            "put_inflight": {},
            "delete_inflight": {},
        }
        for client_id, change in changes.items():
            self._add(client_id, change)

    def _add(self, client_id: str, change: ClientChanges) -> None:
        if change.ended:
            self.ended.append(client_id)
        if change.session is not None:
            self.sessions.append(_session_row(change.session))
        if change.queued:
            self.messages.update((at, record) for at, (record, _) in change.queued.items())
            links = {at: qos for at, (_, qos) in change.queued.items()}
            self.by_statement["put_links"][client_id] = links
        if change.dequeued:
            self.by_statement["delete_links"][client_id] = change.dequeued
            self.by_statement["delete_messages"][client_id] = change.dequeued
        if change.trim is not None:
            self.trims[client_id] = change.trim
        self._add_mapping("subscriptions", client_id, change.subscriptions)
        self._add_mapping("open_ids", client_id, change.open_ids)
        self._add_mapping("inflight", client_id, change.in_flight)

    def _add_mapping(self, table: str, client_id: str, mapping: Mapping[Any, Any]) -> None:
        """Sort what has a value from what is to be deleted."""
        if not mapping:
            return
        put = {key: value for key, value in mapping.items() if value is not None}
        if put:
            self.by_statement[f"put_{table}"][client_id] = put
        if len(put) < len(mapping):
            deleted = [key for key, value in mapping.items() if value is None]
            self.by_statement[f"delete_{table}"][client_id] = deleted


def _count_to_drop(trim: Trim, sizes: list[int]) -> int:
    """Return how many of the oldest rows make the room that is asked for."""
    count = dropped = 0
    for size in sizes:
        if count >= trim.messages and dropped >= trim.size:
            break
        count += 1
        dropped += size
    return count


def _session_row(session: SessionRow) -> tuple[object, ...]:
    will = session.will
    return (
        session.client_id,
        session.clean,
        session.connected,
        time_text(session.updated_ms),
        orjson.dumps(session.information).decode(),
        *(
            (None, None, None, None)
            if will is None
            else (will.topic, will.payload, will.qos, will.retain)
        ),
        session.incarnation,
    )


def _read_session(row: tuple[Any, ...]) -> SessionRow:
    client_id, incarnation, clean, connected, updated_ms, information, *will = row
    return SessionRow(
        client_id=client_id,
        incarnation=incarnation,
        clean=bool(clean),
        connected=bool(connected),
        updated_ms=updated_ms,
        information=orjson.loads(information),
        will=None
        if will[0] is None
        else Will(topic=will[0], payload=will[1], qos=will[2], retain=bool(will[3])),
    )
