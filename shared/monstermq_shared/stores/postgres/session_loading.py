"""Reads all sessions as of one moment, by the page."""

import logging
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from typing import Any

import asyncpg
import orjson

from monstermq_shared.errors import StoreDamaged
from monstermq_shared.messages import Will
from monstermq_shared.positions import Mark
from monstermq_shared.stores.changes import InFlightState, SessionRow, StoredSession
from monstermq_shared.stores.postgres.connection import Connection
from monstermq_shared.stores.postgres.rows import Place
from monstermq_shared.stores.postgres.session_tables import QUERIES, TABLES

logger = logging.getLogger(__name__)

_PAGE_SESSIONS = 1_000
_ROWS_IN_ONE_GO = 1_000
_BELOW_ALL = b""


class PostgresSnapshot:
    """See ``SessionSnapshot``.

    Args:
        connection: In a transaction that sees one moment.
        marks: As of that moment.
        place: The partition whose sessions and offsets are returned; None if it has no rows.

    Attributes:
        marks: The same.
    """

    def __init__(
        self, connection: Connection, marks: Mapping[str, Mark], place: Place | None
    ) -> None:
        self.marks = marks
        self._connection = connection
        self._place = place
        self._strangers = 0

    async def pages(self) -> AsyncIterator[Sequence[StoredSession]]:
        """Yield every session.

        Rows of clients that have no session are left where they are, with a warning: only another
        hand can have made them.

        Raises:
            StoreDamaged: Somebody else has written a row that makes no sense.
        """
        after = _BELOW_ALL
        try:
            while page := await self._page(after):
                yield [*page.values()]
                after = max(page)
        except (ValueError, TypeError) as exc:
            raise StoreDamaged(
                f"a row of the session tables ({', '.join(TABLES)}) cannot be understood: "
                f"{exc!r}. Nothing was changed; correct or delete the row, or restore a backup"
            ) from exc
        if self._strangers:
            logger.warning(
                "the session tables have %d rows of clients that have no row in sessions; they "
                "are ignored",
                self._strangers,
            )

    async def _page(self, after: bytes) -> dict[bytes, StoredSession]:
        """Return the next sessions, by the digest of the client."""
        if self._place is None:
            return {}
        rows = await self._connection.fetch(
            QUERIES["load_sessions"], after, _PAGE_SESSIONS, *self._place
        )
        page = {row["client_digest"]: _read_session(row) for row in rows}
        if not page:
            return page
        bounds = (after, max(page), *self._place)
        async for rows in self._rows("subscriptions", *bounds):
            for session, topic_filter, qos in self._known(rows, page):
                session.subscriptions[topic_filter] = qos
        async for rows in self._rows("open_ids", *bounds):
            for session, packet_id, offset in self._known(rows, page):
                session.open_ids[packet_id] = offset
        async for rows in self._rows("inflight", *bounds):
            for session, packet_id, partition, offset, state in self._known(rows, page):
                if state is None:
                    session.opened[packet_id] = (partition, offset)
                else:
                    session.in_flight[packet_id] = (offset, InFlightState(state))
        return page

    async def _rows(self, table: str, *bounds: object) -> AsyncIterator[list[asyncpg.Record]]:
        """Yield what belongs to a page of sessions, which may be many times as much, in parts."""
        cursor = await self._connection.cursor(QUERIES[f"load_{table}"], *bounds)
        while rows := await cursor.fetch(_ROWS_IN_ONE_GO):
            yield rows

    def _known(
        self, rows: Iterable[asyncpg.Record], page: Mapping[bytes, StoredSession]
    ) -> Iterator[tuple[Any, ...]]:
        """Yield rows with their session in the place of the client's digest."""
        for key, *values in rows:
            session = page.get(key)
            if session is None:
                self._strangers += 1
            else:
                yield session, *values


def _read_session(row: asyncpg.Record) -> StoredSession:
    _, client_id, incarnation, clean, connected, updated_ms, information, *rest = row
    *will, queued_messages, queued_size, epoch, run, expiry_s, sent = rest
    return StoredSession(
        row=SessionRow(
            client_id=client_id,
            incarnation=incarnation,
            clean=clean,
            connected=connected,
            updated_ms=updated_ms,
            information=orjson.loads(information),
            will=None
            if will[0] is None
            else Will(topic=will[0], payload=will[1], qos=will[2], retain=will[3]),
            epoch=epoch,
            run=run,
            expiry_s=expiry_s,
            sent=None if sent is None else tuple((at[0], at[1]) for at in orjson.loads(sent)),
        ),
        subscriptions={},
        open_ids={},
        in_flight={},
        queued_messages=queued_messages,
        queued_size=queued_size,
    )
