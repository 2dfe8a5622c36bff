"""Writes what a commit changes of sessions: of all clients together, a few statements in all."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import orjson

from monstermq_shared.records import Record, size_of
from monstermq_shared.stores.changes import (
    SessionChanges,
    SessionRow,
    Trim,
    Trimmed,
)
from monstermq_shared.stores.postgres.connection import Connection
from monstermq_shared.stores.postgres.copying import (
    LINK_COLUMNS,
    RECORD_COLUMNS,
    EncodedRow,
    copy_rows,
    encode_link,
    encode_record,
)
from monstermq_shared.stores.postgres.rows import (
    Place,
    arrays,
    digest,
    parts,
    record_arrays,
    record_parts,
)
from monstermq_shared.stores.postgres.session_tables import QUERIES
from monstermq_shared.stores.trimming import Trimming

_END_ROWS = 10_000
_TRIM_ROWS_MIN = 64
_TRIM_ROWS_MAX = 8_192

Row = tuple[object, ...]


class SessionBatch:
    """The changes of all clients, on their way into the transaction that is open.

    Args:
        connection: Where.
        place: The partition that offsets are of.
        changes: Client id -> what changes.
    """

    def __init__(self, connection: Connection, place: Place, changes: SessionChanges) -> None:
        self._connection = connection
        self._place = place
        self._changes = {
            client_id: (digest(client_id), change) for client_id, change in changes.items()
        }
        # Messages and bytes by which queues grow, or shrink.
        self._counted: dict[bytes, tuple[int, int]] = {}

    async def write(self, *, careful: bool) -> dict[str, Trimmed]:
        """Write all of it, in the order that ``ClientChanges`` gives.

        Args:
            careful: Whether some messages may be queued already. They stay as they are.

        Returns:
            For each client, what its ``Trim`` dropped.

        Raises:
            asyncpg.UniqueViolationError: A message is queued already, and this was not careful.
        """
        changes = self._changes.values()
        await self._end([key for key, change in changes if change.ended])
        await self._clear([key for key, change in changes if change.cleared])
        await self._put("put_sessions", self._session_rows(), *self._place)
        await self._put("put_subscriptions", self._subscription_rows())
        gone = ((key, digest(at)) for key, at, qos in self._subscriptions() if qos is None)
        await self._put("delete_subscriptions", gone)
        if any(change.queued for _, change in changes):
            await (self._add_queued() if careful else self._copy_queued())
        await self._dequeue((key, offset) for key, change in changes for offset in change.dequeued)
        await self._put_packet_ids()
        trims = {id_: change.trim for id_, (_, change) in self._changes.items() if change.trim}
        trimmed = await self._trim(trims) if trims else {}
        await self._put_counts()
        return trimmed

    # -- sessions and subscriptions ----------------------------------------------------------------

    async def _end(self, keys: Sequence[bytes]) -> None:
        """Delete everything there is of clients."""
        for part in parts(keys):
            while (
                await self._connection.fetchval(QUERIES["end_queues"], part, _END_ROWS) == _END_ROWS
            ):
                pass
            for table in ("subscriptions", "open_ids", "inflight", "sessions"):
                await self._connection.execute(QUERIES[f"end_{table}"], part)

    async def _clear(self, keys: Sequence[bytes]) -> None:
        """Delete what the worker of a sessions log has written of clients."""
        for part in parts(keys):
            for table in ("subscriptions", "inflight", "sessions"):
                await self._connection.execute(QUERIES[f"end_{table}"], part)

    def _session_rows(self) -> Iterator[Row]:
        for key, change in self._changes.values():
            if change.session is not None:
                yield key, *_session_row(change.session)

    def _subscriptions(self) -> Iterator[tuple[bytes, str, int | None]]:
        for key, change in self._changes.values():
            for topic_filter, qos in change.subscriptions.items():
                yield key, topic_filter, qos

    def _subscription_rows(self) -> Iterator[Row]:
        for client_id, (key, change) in self._changes.items():
            for topic_filter, qos in change.subscriptions.items():
                if qos is not None:
                    yield key, digest(topic_filter), client_id, topic_filter, qos

    async def _put(self, statement: str, rows: Iterable[Row], *parameters: object) -> None:
        """Execute a statement that takes its rows as one array for each column."""
        for part in parts(rows):
            await self._connection.execute(QUERIES[statement], *arrays(part), *parameters)

    # -- queues ------------------------------------------------------------------------------------

    def _messages(self) -> Iterator[Record]:
        """Yield each queued message once, however many clients it is for, in order of offset."""
        found: dict[int, Record] = {}
        for _, change in self._changes.values():
            for offset, (record, _) in change.queued.items():
                found[offset] = record
        for offset in sorted(found):
            yield found[offset]

    async def _copy_queued(self) -> None:
        """Queue messages of which none is queued already."""
        await copy_rows(
            self._connection,
            "queuedmessages",
            [*RECORD_COLUMNS, "payload"],
            (encode_record(record, self._place) for record in self._messages()),
        )
        await copy_rows(
            self._connection, "queuedmessagesclients", LINK_COLUMNS, self._encoded_links()
        )

    def _encoded_links(self) -> Iterator[EncodedRow]:
        """Yield the rows, and count them."""
        for key, change in self._changes.values():
            total = 0
            for record, qos in change.queued.values():
                size = size_of(record)
                total += size
                yield encode_link(key, self._place, (record.offset, qos, size))
            if change.queued:
                self._count(key, len(change.queued), total)

    async def _add_queued(self) -> None:
        """Queue messages of which some may be queued already."""
        for part in record_parts(self._messages()):
            await self._connection.execute(
                QUERIES["add_messages"], *record_arrays(part), *self._place
            )
        links = (
            (key, offset, qos)
            for key, change in self._changes.values()
            for offset, (_, qos) in change.queued.items()
        )
        for rows in parts(links):
            for key, messages, size in await self._connection.fetch(
                QUERIES["add_links"], *arrays(rows), *self._place
            ):
                self._count(key, messages, size)

    async def _dequeue(self, links: Iterable[tuple[bytes, int]]) -> None:
        """Delete queue rows, and the messages that nobody waits for any more."""
        offsets: set[int] = set()
        for part in parts(links):
            keys, gone = arrays(part)
            offsets.update(offset for _, offset in part)
            for key, messages, size in await self._connection.fetch(
                QUERIES["delete_links"], keys, gone, *self._place
            ):
                self._count(key, -messages, -size)
        # Each once: to ask for one passes over all of its rows that are deleted above.
        for positions in parts(offsets):
            await self._connection.execute(QUERIES["delete_messages"], positions, *self._place)

    def _count(self, key: bytes, messages: int, size: int) -> None:
        before = self._counted.get(key, (0, 0))
        self._counted[key] = (before[0] + messages, before[1] + size)

    async def _put_counts(self) -> None:
        """Write what was counted to the sessions.

        What was queued for clients that have no session goes again: nobody would ever count or
        delete it.
        """
        # Sorted, so that tenants of other partitions wait for each other in one direction.
        for part in parts(sorted(self._counted.items())):
            keys = [key for key, _ in part]
            messages, sizes = arrays([count for _, count in part])
            found = await self._connection.fetch(QUERIES["count_queued"], keys, messages, sizes)
            if len(found) < len(part):
                await self._end([*set(keys).difference(row[0] for row in found)])

    async def _trim(self, trims: Mapping[str, Trim]) -> dict[str, Trimmed]:
        """Drop the oldest rows; for all clients at once, in few rounds even if they are small."""
        trimming = Trimming(trims)
        rows_max = max([_TRIM_ROWS_MIN, *(trim.messages for trim in trims.values())])
        while trimming.waiting:
            rows_max = min(rows_max, _TRIM_ROWS_MAX)
            client_ids = [*trimming.waiting]
            found = await self._oldest_links(trimming.waiting, rows_max)
            dropped: list[tuple[bytes, int]] = []
            for client_id, links in zip(client_ids, found, strict=True):
                sizes = [size for _, size in links]
                count = trimming.drop(client_id, sizes, rows_asked=rows_max)
                key = self._changes[client_id][0]
                dropped += [(key, offset) for offset, _ in links[:count]]
            await self._dequeue(dropped)
            rows_max *= 2
        return trimming.trimmed

    async def _oldest_links(
        self, trims: Mapping[str, Trim], rows_max: int
    ) -> list[list[tuple[int, int]]]:
        """Return the next (offset, size) of each client's queue that may be dropped."""
        found: list[list[tuple[int, int]]] = []
        for part in parts(trims.items()):
            keys = [self._changes[client_id][0] for client_id, _ in part]
            after = [trim.after for _, trim in part]
            rows = await self._connection.fetch(
                QUERIES["oldest_links"], keys, after, *self._place, rows_max
            )
            links: list[list[tuple[int, int]]] = [[] for _ in part]
            for number, offset, size in rows:
                links[number - 1].append((offset, size))
            found += links
        return found

    # -- packet ids --------------------------------------------------------------------------------

    async def _put_packet_ids(self) -> None:
        """Write open ids and what is in flight."""
        changes = self._changes.values()
        open_ids = [
            (key, id_, at) for key, change in changes for id_, at in change.open_ids.items()
        ]
        await self._put(
            "put_open_ids", (row for row in open_ids if row[2] is not None), *self._place
        )
        closed = ((key, id_) for key, id_, at in open_ids if at is None)
        await self._put("delete_open_ids", closed, self._place.partition)
        in_flight = [
            (key, id_, at) for key, change in changes for id_, at in change.in_flight.items()
        ]
        sent = ((key, id_, *at) for key, id_, at in in_flight if at is not None)
        await self._put("put_inflight", sent, *self._place)
        done = ((key, id_) for key, id_, at in in_flight if at is None)
        await self._put("delete_inflight", done)
        opened = [(key, id_, at) for key, change in changes for id_, at in change.opened.items()]
        put = ((key, id_, *at) for key, id_, at in opened if at is not None)
        await self._put("put_opened", put, self._place.generation)
        closed = ((key, id_) for key, id_, at in opened if at is None)
        await self._put("delete_inflight", closed)


def _session_row(session: SessionRow) -> Row:
    will = session.will
    return (
        session.client_id,
        session.clean,
        session.connected,
        session.updated_ms,
        orjson.dumps(session.information).decode(),
        *(
            (None, None, None, None)
            if will is None
            else (will.topic, will.payload, will.qos, will.retain)
        ),
        session.incarnation,
        session.epoch,
        session.run,
        session.expiry_s,
        None if session.sent is None else orjson.dumps(session.sent).decode(),
    )
