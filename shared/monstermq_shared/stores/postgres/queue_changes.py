"""Writes what a commit changes of the queues of one partition of a bus (P5)."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import orjson

from monstermq_shared.records import size_of
from monstermq_shared.stores.postgres.connection import Connection
from monstermq_shared.stores.postgres.copying import (
    LINK_COLUMNS,
    RECORD_COLUMNS,
    EncodedRow,
    copy_rows,
    encode_link,
    encode_record,
)
from monstermq_shared.stores.postgres.queue_tables import QUERIES
from monstermq_shared.stores.postgres.rows import Place, arrays, digest, parts
from monstermq_shared.stores.postgres.session_tables import QUERIES as SESSION_QUERIES
from monstermq_shared.stores.queue_changes import QueueChanges, QueueGrowth
from monstermq_shared.stores.sweeping import Sweeping

_NARROW_ROWS = 2_000
"""Rows of two or three short columns that one statement carries."""

_BELOW_ROWS = 10_000
"""Rows that one statement deletes of those below an offset."""

_BELOW_ALL = -1


@dataclass(slots=True)
class Written:
    """What may be there already of a partition, and what may have to go.

    Attributes:
        deliveries_below: Below this offset an earlier worker may have written deliveries.
        messages_below: And this one messages: one for many clients may come with several commits.
        sweeping: Where payloads may be left that nobody needs.
    """

    deliveries_below: int = 0
    messages_below: int = 0
    sweeping: Sweeping = field(default_factory=Sweeping)


class QueueBatch:
    """The changes of one partition, on their way into the transaction that is open.

    Rows go by COPY, which knows no ON CONFLICT; so what may be there is looked for before.

    Args:
        connection: Where.
        place: The partition.
        changes: What changes.
        written: What may be there already.
    """

    def __init__(
        self, connection: Connection, place: Place, changes: QueueChanges, written: Written
    ) -> None:
        self._connection = connection
        self._place = place
        self._changes = changes
        self._written = written
        self._clients: dict[bytes, str] = {}
        self._keys: dict[str, bytes] = {}
        self._grown: dict[str, tuple[int, int]] = {}

    async def write(self, *, careful: bool) -> dict[str, QueueGrowth]:
        """Write all of it, in the order that ``QueueChanges`` gives.

        Args:
            careful: Whether any row may be there already. It stays as it is.

        Returns:
            By how much the queues of clients have grown.

        Raises:
            asyncpg.UniqueViolationError: A row is there already, and this was not careful.
        """
        changes = self._changes
        await self._delete_below()
        if changes.queued:
            await self._queue(careful=careful)
        await self._put_open_ids()
        await self._dequeue()
        await self._put_cuts()
        await self._put_counts()
        return {client: QueueGrowth(*grown) for client, grown in self._grown.items()}

    def _key(self, client_id: str) -> bytes:
        key = self._keys.get(client_id)
        if key is None:
            key = self._keys[client_id] = digest(client_id)
            self._clients[key] = client_id
        return key

    def _grow(self, client_id: str, messages: int, size: int) -> None:
        before = self._grown.get(client_id, (0, 0))
        self._grown[client_id] = (before[0] + messages, before[1] + size)

    # -- deliveries and messages -------------------------------------------------------------------

    async def _queue(self, *, careful: bool) -> None:
        written, queued = self._written, self._changes.queued
        offsets = sorted(queued)
        below = offsets[-1] + 1 if careful else written.messages_below
        messages = await self._messages_there([at for at in offsets if at < below])
        written.messages_below = max(written.messages_below, offsets[-1] + 1)
        below = offsets[-1] + 1 if careful else written.deliveries_below
        deliveries = await self._deliveries_there([at for at in offsets if at < below])
        await copy_rows(
            self._connection,
            "queuedmessages",
            [*RECORD_COLUMNS, "payload"],
            (encode_record(queued[at][0], self._place) for at in offsets if at not in messages),
        )
        await copy_rows(
            self._connection,
            "queuedmessagesclients",
            LINK_COLUMNS,
            self._encoded_links(offsets, deliveries),
        )

    def _encoded_links(
        self, offsets: Sequence[int], there: set[tuple[bytes, int]]
    ) -> Iterator[EncodedRow]:
        """Yield the rows that are not there, and count them."""
        place = self._place
        for offset in offsets:
            record, targets = self._changes.queued[offset]
            size = size_of(record)
            for client_id, qos in targets:
                key = self._key(client_id)
                if (key, offset) not in there:
                    self._grow(client_id, 1, size)
                    yield encode_link(key, place, (offset, qos, size))

    async def _messages_there(self, offsets: Sequence[int]) -> set[int]:
        found: set[int] = set()
        for part in parts(offsets, _NARROW_ROWS):
            rows = await self._connection.fetch(QUERIES["messages_there"], part, *self._place)
            found.update(offset for (offset,) in rows)
        return found

    async def _deliveries_there(self, offsets: Sequence[int]) -> set[tuple[bytes, int]]:
        asked = (
            (self._key(client_id), offset)
            for offset in offsets
            for client_id, _ in self._changes.queued[offset][1]
        )
        found: set[tuple[bytes, int]] = set()
        for part in parts(asked, _NARROW_ROWS):
            rows = await self._connection.fetch(QUERIES["links_there"], *arrays(part), *self._place)
            found.update((key, offset) for key, offset in rows)
        return found

    async def _delete_below(self) -> None:
        """Delete rows of clients below an offset, however many, by statements of bounded size."""
        for part in parts(self._changes.below.items()):
            after = dict.fromkeys((self._key(client_id) for client_id, _ in part), _BELOW_ALL)
            below = [offset for _, offset in part]
            count = _BELOW_ROWS
            while count == _BELOW_ROWS:
                rows = await self._connection.fetch(
                    QUERIES["delete_below"],
                    *([*after], [*after.values()], below, *self._place, _BELOW_ROWS),
                )
                count = 0
                for key, messages, size, first, last in rows:
                    count += messages
                    after[key] = last
                    self._grow(self._clients[key], -messages, -size)
                    self._written.sweeping.add_stretch(first, last + 1)

    async def _dequeue(self) -> None:
        dequeued = self._changes.dequeued
        self._written.sweeping.add(offset for _, offset in dequeued)
        rows = ((self._key(client_id), offset) for client_id, offset in dequeued)
        for part in parts(rows, _NARROW_ROWS):
            for key, messages, size in await self._connection.fetch(
                SESSION_QUERIES["delete_links"], *arrays(part), *self._place
            ):
                self._grow(self._clients[key], -messages, -size)

    # -- open ids, cuts and what is counted --------------------------------------------------------

    async def _put_open_ids(self) -> None:
        changes = self._changes.open_ids.items()
        opened = (
            (self._key(client_id), client_id, packet_id, *at)
            for (client_id, packet_id), at in changes
            if at is not None
        )
        await self._put(QUERIES["put_open_ids"], opened, *self._place)
        closed = (
            (self._key(client_id), packet_id)
            for (client_id, packet_id), at in changes
            if at is None
        )
        await self._put(SESSION_QUERIES["delete_open_ids"], closed, self._place.partition)

    async def _put_cuts(self) -> None:
        cuts = self._changes.cuts.items()
        await self._put(
            QUERIES["put_cuts"],
            (
                (
                    *(self._key(client_id), client_id, cut.epoch, cut.at, cut.incarnation),
                    orjson.dumps(cut.subscriptions).decode(),
                    cut.marked_ms,
                )
                for client_id, cut in cuts
                if cut is not None
            ),
            *self._place,
        )
        gone = ((self._key(client_id),) for client_id, cut in cuts if cut is None)
        await self._put(QUERIES["delete_cuts"], gone, *self._place)

    async def _put_counts(self) -> None:
        rows = (
            (self._key(client_id), at.messages, at.size, at.oldest_ms if at.messages else None)
            for client_id, at in self._changes.counts.items()
        )
        await self._put(QUERIES["put_counts"], rows, *self._place)

    async def _put(
        self, statement: str, rows: Iterable[Sequence[object]], *parameters: object
    ) -> None:
        """Execute a statement that takes its rows as one array for each column."""
        for part in parts(rows):
            await self._connection.execute(statement, *arrays(part), *parameters)
