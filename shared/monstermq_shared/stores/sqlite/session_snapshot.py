"""All sessions as of one moment, by the page."""

import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import orjson

from monstermq_shared.errors import StoreDamaged
from monstermq_shared.messages import Will
from monstermq_shared.positions import Mark
from monstermq_shared.stores.changes import InFlightState, SessionRow, StoredSession
from monstermq_shared.stores.sql import load_queries
from monstermq_shared.stores.sqlite.readers import Reader
from monstermq_shared.stores.topic_ranges import first_after

logger = logging.getLogger(__name__)

_QUERIES = load_queries(__package__, "sessions.sql")
_TABLES = ("subscriptions", "open_ids", "inflight")
_SESSIONS_MAX = 1_000
_ROWS_MAX = 20_000
"""How many rows of one table a page has, unless they are all of one session."""

_END_OF_CLIENTS = b""  # SQLite sorts every blob after every text


class SqliteSnapshot:
    """See ``SessionSnapshot``.

    Attributes:
        marks: As of the same moment.

    Args:
        reader: Sees the moment, as long as this is used.
        marks: See above.
    """

    def __init__(self, reader: Reader, marks: Mapping[str, Mark]) -> None:
        self.marks = marks
        self._reader = reader
        self._strangers: dict[str, set[str]] = {table: set() for table in _TABLES}

    async def pages(self) -> AsyncIterator[Sequence[StoredSession]]:
        """Yield every session, in order of client id.

        Rows of clients that have no session are left where they are, with a warning: only another
        hand can have made them.

        Raises:
            StoreDamaged: Somebody else has written a row that makes no sense.
        """
        after = ""
        limit = _SESSIONS_MAX
        more = True
        while more:
            rows = await self._reader.fetch(_QUERIES["load_sessions"], (after, limit))
            more = len(rows) == limit
            before = first_after(rows[-1][0]) if more else _END_OF_CLIENTS
            found = await self._read_others(after, before, bounded=limit > 1)
            if found is None:
                limit = max(1, limit // 4)
                more = True
                continue
            try:
                page = self._page(rows, found)
            except (ValueError, TypeError) as exc:
                raise StoreDamaged(
                    f"a row of the session tables (sessions, {', '.join(_TABLES)}) cannot be "
                    f"understood: {exc!r}. Nothing was changed; correct or delete the row, or "
                    "restore a backup"
                ) from exc
            if page:
                yield page
                after = page[-1].row.client_id
            limit = min(2 * limit, _SESSIONS_MAX)
        self._warn_of_strangers()

    async def _read_others(
        self, after: str, before: str | bytes, *, bounded: bool
    ) -> dict[str, list[tuple[Any, ...]]] | None:
        """Return the rows of some clients by table, None if they are too many."""
        limit = _ROWS_MAX + 1 if bounded else -1
        found = {}
        for table in _TABLES:
            rows = await self._reader.fetch(_QUERIES[f"load_{table}"], (after, before, limit))
            if len(rows) == limit:
                return None
            found[table] = rows
        return found

    def _page(
        self, rows: Sequence[tuple[Any, ...]], others: Mapping[str, Sequence[tuple[Any, ...]]]
    ) -> list[StoredSession]:
        sessions = {row[0]: _read_session(row) for row in rows}
        for session, topic_filter, qos in self._known("subscriptions", sessions, others):
            session.subscriptions[topic_filter] = qos
        for session, packet_id, offset in self._known("open_ids", sessions, others):
            session.open_ids[packet_id] = offset
        for session, packet_id, offset, state in self._known("inflight", sessions, others):
            session.in_flight[packet_id] = (offset, InFlightState(state))
        return [*sessions.values()]

    def _known(
        self,
        table: str,
        sessions: Mapping[str, StoredSession],
        others: Mapping[str, Sequence[tuple[Any, ...]]],
    ) -> list[tuple[Any, ...]]:
        """Return the rows of a table, each with its session in the place of the client."""
        rows = others[table]
        known = [(sessions[row[0]], *row[1:]) for row in rows if row[0] in sessions]
        if len(known) < len(rows):
            self._strangers[table].update(row[0] for row in rows if row[0] not in sessions)
        return known

    def _warn_of_strangers(self) -> None:
        for table, clients in self._strangers.items():
            if clients:
                logger.warning(
                    "table %s has rows of %d clients that have no row in sessions; they are "
                    "ignored",
                    table,
                    len(clients),
                )


def _read_session(row: tuple[Any, ...]) -> StoredSession:
    client_id, incarnation, clean, connected, updated_ms, information, *will, messages, size = row
    if updated_ms is None:
        raise ValueError(f"update_time of client {client_id!r}")
    return StoredSession(
        row=SessionRow(
            client_id=client_id,
            incarnation=incarnation,
            clean=bool(clean),
            connected=bool(connected),
            updated_ms=updated_ms,
            information=orjson.loads(information),
            will=None
            if will[0] is None
            else Will(topic=will[0], payload=will[1], qos=will[2], retain=bool(will[3])),
        ),
        subscriptions={},
        open_ids={},
        in_flight={},
        queued_messages=messages,
        queued_size=size,
    )
