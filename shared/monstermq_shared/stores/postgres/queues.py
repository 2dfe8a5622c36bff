"""The queues of kept sessions on a shared log, in PostgreSQL; see ``KeepsQueues``."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from monstermq_shared.errors import StoreUnavailable
from monstermq_shared.positions import Partition
from monstermq_shared.stores.changes import StoredLogState
from monstermq_shared.stores.postgres import log_states
from monstermq_shared.stores.postgres.connection import Connection
from monstermq_shared.stores.postgres.queue_changes import QueueBatch, Written
from monstermq_shared.stores.postgres.queue_reading import (
    PostgresQueueSnapshot,
    read_fences,
    read_kept,
    read_open_ids,
    read_pages,
)
from monstermq_shared.stores.postgres.queue_tables import QUERIES
from monstermq_shared.stores.postgres.readers import Readers
from monstermq_shared.stores.postgres.rows import Place, arrays, digest
from monstermq_shared.stores.postgres.tenures import Tenures
from monstermq_shared.stores.queue_changes import QueueChanges, QueueCount, QueueGrowth
from monstermq_shared.stores.queues import (
    QUEUES_MARK,
    SESSIONS_MARK,
    EdgeQueues,
    KeptRows,
    KeptTotals,
    OldestAsk,
    QueueAsk,
    QueuePage,
    QueueTotal,
)
from monstermq_shared.stores.sweeping import Sweeping

_SWEPT_ROWS = 2_000
"""Messages that one statement looks at."""

_SWEPT_ALL_ROWS = 100_000
"""Messages that one call looks at of those where nobody knows whether anything has gone."""


_NO_GENERATION = -1
"""What no generation is numbered."""


class PostgresQueues:
    """The part of ``PostgresDatabase`` that is about queues.

    Args:
        readers: Where to read.
        tenures: Knows how rows name partitions.
        where: The database, as messages name it.
    """

    def __init__(self, readers: Readers, tenures: Tenures, where: str) -> None:
        self._readers = readers
        self._tenures = tenures
        self._where = where
        self._written: dict[Partition, Written] = {}

    def begin_queues(self, partition: Partition, reflected: int) -> None:
        """Take note of a new tenure: what is below its mark may have been written before it."""
        written = self._written.setdefault(partition, Written())
        written.deliveries_below = max(written.deliveries_below, reflected)
        written.messages_below = max(written.messages_below, reflected)

    async def apply_queues(
        self,
        connection: Connection,
        partition: Partition,
        place: Place,
        changes: QueueChanges,
        *,
        careful: bool,
    ) -> dict[str, QueueGrowth]:
        """Write the changes into the transaction that is open.

        Returns:
            By how much the queues of clients have grown.

        Raises:
            asyncpg.UniqueViolationError: A row is there already, and this was not careful.
        """
        written = self._written.setdefault(partition, Written())
        return await QueueBatch(connection, place, changes, written).write(careful=careful)

    # -- for workers -------------------------------------------------------------------------------

    @asynccontextmanager
    async def load_queues(self, partition: Partition) -> AsyncIterator[PostgresQueueSnapshot]:
        """Return a snapshot; while it is open, what is committed does not show in it."""
        async with self._moment() as connection:
            place, state = await self._state(connection, partition)
            yield PostgresQueueSnapshot(connection, place, state)
        # What an earlier worker has left for the sweeper, only the rows can tell.
        self._written.setdefault(partition, Written()).sweeping.give_all(0)

    async def old_cuts(self, generation: str, ended: Mapping[str, int]) -> dict[str, Sequence[int]]:
        """Return client -> partitions whose cut is older than the epoch that ended it (S4)."""
        found: dict[str, list[int]] = {}
        client_ids = [*ended]
        async with self._readers.connection() as connection:
            log = await self._tenures.find_generation(connection, generation)
            if log is None:
                return {}
            rows = await connection.fetch(
                QUERIES["old_cuts"],
                *([*map(digest, client_ids)], [*ended.values()], log, QUEUES_MARK),
            )
        for number, partition in rows:
            found.setdefault(client_ids[number - 1], []).append(partition)
        return {**found}

    async def queue_totals(
        self, generation: str, *, messages_over: int, size_over: int
    ) -> dict[str, QueueTotal]:
        """Return the clients of which more than that waits, as the counts say (S5)."""
        found: dict[str, dict[int, QueueCount]] = {}
        async with self._readers.connection() as connection:
            log = await self._tenures.find_generation(connection, generation)
            if log is None:
                return {}
            rows = await connection.fetch(QUERIES["queue_totals"], log, messages_over, size_over)
        for client_id, partition, messages, size, oldest_ms in rows:
            found.setdefault(client_id, {})[partition] = QueueCount(messages, size, oldest_ms)
        return {
            client_id: QueueTotal(
                messages=sum(count.messages for count in counts.values()),
                size=sum(count.size for count in counts.values()),
                by_partition=counts,
            )
            for client_id, counts in found.items()
        }

    async def oldest_rows(
        self, generation: str, asks: Sequence[OldestAsk]
    ) -> list[tuple[int, int] | None]:
        """Return for each ask the offset behind those rows, and how many there are (S5)."""
        async with self._readers.connection() as connection:
            log = await self._tenures.find_generation(connection, generation)
            if log is None:
                return [None for _ in asks]
            rows = await connection.fetch(
                QUERIES["oldest_rows"],
                [digest(ask.client_id) for ask in asks],
                [ask.partition for ask in asks],
                [ask.messages for ask in asks],
                log,
            )
        return [None if below is None else (below, messages) for _, below, messages in rows]

    async def sweep(self, partition: Partition, *, below: int, limit: int) -> int:
        """Delete payloads below an offset that no row needs; return how many there were."""
        sweeping = self._written.setdefault(partition, Written()).sweeping
        async with self._readers.connection() as connection:
            place = await self._tenures.find_place(connection, partition)
            if place is None:
                return 0
            gone = await self._sweep_known(connection, place, sweeping, (below, limit))
            start = sweeping.take_all() if gone < limit else None
            if start is not None:
                sweeping.give_all(start)
                more, reached = await _sweep_stretch(
                    connection, place, (start, below), (limit - gone, _SWEPT_ALL_ROWS)
                )
                gone += more
                sweeping.take_all()
                if reached < below:
                    sweeping.give_all(reached)
            return gone

    async def _sweep_known(
        self,
        connection: Connection,
        place: Place,
        sweeping: Sweeping,
        bounds: tuple[int, int],
    ) -> int:
        """Sweep where deliveries have gone; below an offset, and so many at most."""
        below, limit = bounds
        gone = 0
        stretches = sweeping.take(below)
        try:
            while stretches and gone < limit:
                first, end = stretches[-1]
                more, reached = await _sweep_stretch(
                    connection, place, (first, end), (limit - gone, end - first)
                )
                gone += more
                stretches.pop()
                if reached < end:
                    stretches.append((reached, end))
        finally:
            for first, end in stretches:
                sweeping.add_stretch(first, end)
        return gone

    # -- for edges ---------------------------------------------------------------------------------

    async def edge_queues(self, partition: Partition, *, since_ms: int) -> EdgeQueues:
        """Return what an edge must know of a partition; fences of cuts marked since a time."""
        async with self._moment() as connection:
            place, state = await self._state(connection, partition)
            return EdgeQueues(
                state=state,
                fences=await read_fences(connection, place, since_ms),
                open_ids=await read_open_ids(connection, place),
            )

    async def kept_totals(self, generation: str, sessions: str) -> KeptTotals:
        """Count what is kept; takes a second for some millions of messages.

        Args:
            generation: Of the bus.
            sessions: Of its sessions log.
        """
        async with self._moment() as connection:
            await connection.execute("SET LOCAL enable_seqscan = on")
            row = await connection.fetchrow(QUERIES["kept_totals"], generation, sessions)
        assert row is not None, "it counts"
        return KeptTotals(*row)

    async def queue_pages(
        self, generation: str, asks: Sequence[QueueAsk], *, size_max: int
    ) -> list[QueuePage]:
        """Return a page for each ask, all as of one moment."""
        if not asks:
            return []
        async with self._readers.connection() as connection:
            log = await self._tenures.find_generation(connection, generation)
            if log is None:
                return [QueuePage((), None, is_last=True) for _ in asks]
            rows = await connection.fetch(
                QUERIES["pages"],
                [digest(ask.client_id) for ask in asks],
                [ask.partition for ask in asks],
                [ask.first for ask in asks],
                [ask.before for ask in asks],
                [ask.limit for ask in asks],
                log,
                size_max,
            )
        return await read_pages(rows, len(asks))

    async def kept_rows(
        self, generation: str, asked: Mapping[int, Sequence[str]]
    ) -> dict[int, KeptRows]:
        """Return rows of clients of partitions of the sessions log, as of one moment."""
        # The first of each partition is nobody, so that there is a row with the mark.
        keys = [
            (key, number)
            for number, client_ids in asked.items()
            for key in (b"", *map(digest, client_ids))
        ]
        async with self._readers.connection() as connection:
            log = await self._tenures.find_generation(connection, generation)
            log = _NO_GENERATION if log is None else log
            return read_kept(
                await connection.fetch(QUERIES["kept"], *arrays(keys), log, SESSIONS_MARK)
            )

    @asynccontextmanager
    async def _moment(self) -> AsyncIterator[Connection]:
        async with (
            self._readers.connection() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            yield connection

    async def _state(
        self, connection: Connection, partition: Partition
    ) -> tuple[Place, StoredLogState]:
        """Return how rows name a partition, and how far its queues have come (P1).

        Raises:
            StoreUnavailable: They have no mark: nobody has said where they begin.
        """
        place = await self._tenures.find_place(connection, partition)
        only = (QUEUES_MARK,)
        states = {} if place is None else await log_states.read_states(connection, place, only)
        state = states.get(QUEUES_MARK)
        if place is None or state is None:
            raise StoreUnavailable(
                f"PostgreSQL at {self._where}: the queues of partition {partition.number} have no "
                "mark yet; whoever starts makes it"
            )
        return place, state


async def _sweep_stretch(
    connection: Connection, place: Place, stretch: tuple[int, int], most: tuple[int, int]
) -> tuple[int, int]:
    """Sweep first <= offset < end.

    Args:
        connection: Where.
        place: Of which partition.
        stretch: First and end.
        most: How many to delete at most, and how many to look at.

    Returns:
        How many were deleted, and where to go on: the end if all was looked at.
    """
    position, end = stretch
    gone = 0
    limit, looks = most
    while position < end and gone < limit and looks > 0:
        rows_max = min(_SWEPT_ROWS, limit - gone, looks)
        row = await connection.fetchrow(QUERIES["sweep"], *place, position, end, rows_max)
        assert row is not None, "it counts"
        gone += row["gone"]
        looks -= row["looked"]
        position = end if row["looked"] < rows_max else row["last"] + 1
    return gone, position
