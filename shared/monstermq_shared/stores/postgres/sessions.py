"""The session store in PostgreSQL."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from monstermq_shared.positions import Partition
from monstermq_shared.records import Record
from monstermq_shared.stores.changes import QueuedMessage, SessionChanges, Trimmed
from monstermq_shared.stores.ports import PAGE_SIZE_MAX
from monstermq_shared.stores.postgres.connection import Connection
from monstermq_shared.stores.postgres.readers import Readers
from monstermq_shared.stores.postgres.rows import Place, digest
from monstermq_shared.stores.postgres.session_changes import SessionBatch
from monstermq_shared.stores.postgres.session_loading import PostgresSnapshot
from monstermq_shared.stores.postgres.session_tables import QUERIES
from monstermq_shared.stores.postgres.tenures import Tenures

_PAGE_ROWS = 1_000


class PostgresSessionStore:
    """The session store.

    Args:
        readers: Where to read.
        tenures: Knows how rows name partitions, and how far projections have come.
    """

    def __init__(self, readers: Readers, tenures: Tenures) -> None:
        self._readers = readers
        self._tenures = tenures
        self._queued_upto: dict[Place, int] = {}

    async def apply(
        self, connection: Connection, place: Place, changes: SessionChanges, *, careful: bool
    ) -> dict[str, Trimmed]:
        """Write the changes into the transaction that is open.

        Args:
            connection: Where.
            place: The partition that offsets are of.
            changes: By client.
            careful: Whether some messages may be queued already. They stay as they are.

        Returns:
            For each client, what its ``Trim`` dropped.

        Raises:
            asyncpg.UniqueViolationError: A message is queued already, and this was not careful.
        """
        if not changes:
            return {}
        queued = [change.queued for change in changes.values() if change.queued]
        if queued:
            # A message for many clients may come with several commits.
            upto = self._queued_upto.get(place, 0)
            careful = careful or min(map(min, queued)) < upto
            self._queued_upto[place] = max(upto, 1 + max(map(max, queued)))
        return await SessionBatch(connection, place, changes).write(careful=careful)

    @asynccontextmanager
    async def load(self, partition: Partition) -> AsyncIterator[PostgresSnapshot]:
        """Return a snapshot; while it is open, what is committed does not show in it."""
        async with (
            self._readers.connection() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            marks = await self._tenures.marks(connection, partition)
            place = await self._tenures.find_place(connection, partition)
            yield PostgresSnapshot(connection, marks, place)

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
        page: list[QueuedMessage] = []
        async with self._readers.connection() as connection:
            place = await self._tenures.find_place(connection, partition)
            while place is not None and len(page) < limit and size_max > 0:
                rows_max = min(limit - len(page), _PAGE_ROWS)
                rows = await connection.fetch(
                    QUERIES["page"],
                    *(digest(client_id), *place, after, before, rows_max, size_max),
                )
                for *values, qos, size in rows:
                    page.append(QueuedMessage(record=Record(*values), qos=qos))
                    size_max -= size
                if len(rows) < rows_max:
                    break
                after = page[-1].record.offset
        return page
