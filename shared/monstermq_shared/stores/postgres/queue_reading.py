"""Reads the queues of kept sessions on a shared log: for their worker, and for edges."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import groupby
from operator import itemgetter
from typing import Any

import asyncpg
import orjson

from monstermq_shared.errors import StoreDamaged
from monstermq_shared.messages import Subscription
from monstermq_shared.positions import Mark
from monstermq_shared.records import Record
from monstermq_shared.stores.changes import QueuedMessage, StoredLogState
from monstermq_shared.stores.postgres.connection import Connection
from monstermq_shared.stores.postgres.queue_tables import QUERIES
from monstermq_shared.stores.postgres.rows import Place, digest, parts
from monstermq_shared.stores.queue_changes import NOTHING_WAITS, Cut, OpenId, QueueCount
from monstermq_shared.stores.queues import KeptRow, KeptRows, QueuePage, StoredQueue

_ROWS_IN_ONE_GO = 1_000
_REMEMBERED_MAX = 8 * _ROWS_IN_ONE_GO
"""Lists of subscriptions that were read last. A worker loads all partitions side by side, and a
session mostly has the same list in each."""
_REMEMBERED_SIZE_MAX = 1_024


class PostgresQueueSnapshot:
    """See ``QueueSnapshot``.

    Args:
        connection: In a transaction that sees one moment.
        place: The partition.
        state: As of that moment.

    Attributes:
        state: The same.
    """

    def __init__(self, connection: Connection, place: Place, state: StoredLogState) -> None:
        self.state = state
        self._connection = connection
        self._place = place

    async def pages(self) -> AsyncIterator[Sequence[StoredQueue]]:
        """Yield all clients, by the page.

        Raises:
            StoreDamaged: Somebody else has written a row that makes no sense.
        """
        # The worker keeps these of all clients anyway.
        open_ids = await self._open_ids()
        waiting = await self._waiting()
        await self._connection.execute(QUERIES["by_block"])
        cursor = await self._connection.cursor(QUERIES["load_cuts"], *self._place)
        while rows := await cursor.fetch(_ROWS_IN_ONE_GO):
            with _understood("cuts"):
                page = [
                    StoredQueue(
                        client_id,
                        Cut(epoch, at, incarnation, _subscriptions(subscriptions), marked_ms),
                        open_ids.pop(client_id, {}),
                        waiting.pop(key, NOTHING_WAITS),
                    )
                    for key, client_id, epoch, at, incarnation, subscriptions, marked_ms in rows
                ]
            yield page
        for some in parts(open_ids.items(), _ROWS_IN_ONE_GO):
            yield [
                StoredQueue(client_id, None, opened, waiting.get(digest(client_id), NOTHING_WAITS))
                for client_id, opened in some
            ]

    async def _open_ids(self) -> dict[str, dict[int, OpenId]]:
        """Return client -> what it has open."""
        found: dict[str, dict[int, OpenId]] = {}
        all_open = await read_open_ids(self._connection, self._place)
        for (client_id, packet_id), opened in all_open.items():
            found.setdefault(client_id, {})[packet_id] = opened
        return found

    async def _waiting(self) -> dict[bytes, QueueCount]:
        """Return digest of a client -> what waits for it; those for whom nothing does are out."""
        found: dict[bytes, QueueCount] = {}
        await self._connection.execute(QUERIES["in_order"])
        cursor = await self._connection.cursor(QUERIES["load_counts"], *self._place)
        while rows := await cursor.fetch(_ROWS_IN_ONE_GO):
            for key, messages, size, oldest_ms in rows:
                found[key] = QueueCount(messages, size, -1 if oldest_ms is None else oldest_ms)
        return found


@contextmanager
def _understood(table: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError, LookupError) as exc:
        raise StoreDamaged(
            f"a row of the table {table} cannot be understood: {exc!r}. Nothing was changed; "
            "correct or delete the row, or restore a backup"
        ) from exc


async def read_fences(
    connection: Connection, place: Place, since_ms: int
) -> dict[str, tuple[int, int]]:
    """Return (epoch, time) of clients' cuts that were marked since a time; in a transaction."""
    found: dict[str, tuple[int, int]] = {}
    await connection.execute(QUERIES["in_order"])
    cursor = await connection.cursor(QUERIES["fences"], *place, since_ms)
    while rows := await cursor.fetch(_ROWS_IN_ONE_GO):
        for client_id, epoch, marked_ms in rows:
            found[client_id] = (epoch, marked_ms)
    return found


async def read_open_ids(connection: Connection, place: Place) -> dict[tuple[str, int], OpenId]:
    """Return what is open in a partition; in a transaction."""
    found: dict[tuple[str, int], OpenId] = {}
    cursor = await connection.cursor(QUERIES["open_ids"], *place)
    while rows := await cursor.fetch(_ROWS_IN_ONE_GO):
        for client_id, packet_id, since, epoch in rows:
            found[client_id, packet_id] = OpenId(since, epoch)
    return found


async def read_pages(rows: Sequence[asyncpg.Record], count: int) -> list[QueuePage]:
    """Return the pages that the statement of that name has found for so many asks."""
    pages: list[QueuePage] = []
    budget = _ROWS_IN_ONE_GO
    for _, group in groupby(rows, itemgetter(0)):
        pages.append(_read_page([*group]))
        budget -= 1 + len(pages[-1].rows)
        if budget <= 0:
            # Thousands of rows may come at once, and the loop has others to serve.
            await asyncio.sleep(0)
            budget = _ROWS_IN_ONE_GO
    assert len(pages) == count, "each ask has a row, whatever there is"
    return pages


def _read_page(rows: Sequence[asyncpg.Record]) -> QueuePage:
    _, epoch, at, *_, found, _ = rows[0]
    cut = None if epoch is None else (epoch, at)
    if found is None:
        return QueuePage((), cut, is_last=True)
    queued = [
        QueuedMessage(record=Record(*values), qos=qos) for _, _, _, *values, qos, _, _ in rows
    ]
    return QueuePage(queued, cut, is_last=found == len(queued))


def read_kept(rows: Sequence[asyncpg.Record]) -> dict[int, KeptRows]:
    """Return partition -> what the statement of that name has found.

    Raises:
        StoreDamaged: Somebody else has written a row that makes no sense.
    """
    with _understood("sessions"):
        return {number: _of_partition(group) for number, group in groupby(rows, itemgetter(0))}


def _of_partition(rows: Iterator[asyncpg.Record]) -> KeptRows:
    first = next(rows)
    mark = Mark(0, 0) if first["reflected"] is None else Mark(first["reflected"], first["restart"])
    found = (row for row in rows if row["client_id"] is not None)
    return KeptRows(mark, {row["client_id"]: _read_kept_row(row) for row in found})


def _read_kept_row(row: asyncpg.Record) -> KeptRow:
    return KeptRow(
        epoch=row["epoch"],
        incarnation=row["incarnation"],
        expiry_s=row["expiry_s"] or 0,
        attached=row["connected"],
        subscriptions={
            topic_filter: (qos, options)
            for topic_filter, qos, options in _list(row["subscriptions"])
        },
        in_flight={packet_id: (at, offset) for packet_id, at, offset in _list(row["opened"])},
        sent=None if row["sent"] is None else tuple((at[0], at[1]) for at in _list(row["sent"])),
    )


def _list(text: str | None) -> list[Any]:
    return [] if text is None else orjson.loads(text)


def _subscriptions(text: str) -> tuple[Subscription, ...]:
    return _remembered(text) if len(text) <= _REMEMBERED_SIZE_MAX else _parse(text)


def _parse(text: str) -> tuple[Subscription, ...]:
    return tuple([(name, qos, options) for name, qos, options in orjson.loads(text)])


_remembered = lru_cache(_REMEMBERED_MAX)(_parse)
