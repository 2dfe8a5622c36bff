"""The queues of kept sessions in one partition of the bus, as far as the database and others go."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from monstermq_shared.errors import StoreConflict, StoreError
from monstermq_shared.positions import Mark, Partition
from monstermq_shared.sessions.distributed.queue_limits import QueueBounds
from monstermq_shared.sessions.distributed.queues.counting import QueueCounting
from monstermq_shared.sessions.distributed.queues.cuts import CutTable
from monstermq_shared.sessions.distributed.queues.fold import QueueCounts, QueueFold
from monstermq_shared.stores.queue_changes import (
    NOTHING_WAITS,
    QueueBatch,
    QueueCount,
    QueueGrowth,
)
from monstermq_shared.stores.queues import KeepsQueues, QueueAsk

SWEEP_S = 60.0
"""Between sweeps of payloads that no row needs any more."""

SWEEP_ROWS = 5_000
"""Payloads that are deleted by one transaction."""

_EVERY = 2**62
"""An offset above all others."""

TellGap = Callable[[int, int], Awaitable[None]]
"""Appends ``gap(p, to)`` to every partition of the sessions log, and returns when it is there."""


@dataclass(slots=True, kw_only=True)
class QueueDesk:
    """What the queues of all partitions share.

    Attributes:
        database: Where they are.
        new_table: Makes the table of cuts of all partitions of this process.
        table: It; another one whenever partitions are dealt out.
        partitions: Of the bus.
        lateness_ms: L.
        bounds: What may be queued for a session.
        tell_gap: See above.
        counts: What the folds make.
        swept: Payloads deleted.
    """

    database: KeepsQueues
    new_table: Callable[[], CutTable]
    partitions: int
    lateness_ms: int
    bounds: QueueBounds
    tell_gap: TellGap
    counts: QueueCounts = field(default_factory=QueueCounts)
    swept: int = 0
    table: CutTable = field(init=False)

    def __post_init__(self) -> None:
        """Begin with no cuts."""
        self.forget()

    def forget(self) -> None:
        """Partitions are dealt out: each is loaded anew, and those of others mean nothing here."""
        self.table = self.new_table()


class PartitionQueues:
    """See ``log_lanes.QueueWork``.

    Args:
        desk: What all partitions share.
    """

    def __init__(self, desk: QueueDesk) -> None:
        self._desk = desk
        # Whoever is dealt partitions anew begins with no cuts at all.
        self._table = desk.table
        self._partition = Partition("", 0)
        self._fold: QueueFold | None = None
        self._counting = QueueCounting(desk.bounds, desk.partitions)
        self._restart = 0

    async def begin(self, partition: Partition, mark: Mark) -> QueueFold:
        """Load them, and return what folds them.

        Raises:
            StoreConflict: Rows reflect another offset than the mark.
        """
        desk = self._desk
        if self._fold is not None:
            self._fold = None
            await self._give_up(partition.number)
        self._partition = partition
        counting = self._counting = QueueCounting(desk.bounds, desk.partitions)
        async with desk.database.load_queues(partition) as snapshot:
            # P1: else what was acknowledged long ago would come again.
            if snapshot.state.mark.reflected != mark.reflected:
                raise StoreConflict("another worker has committed queues meanwhile")
            fold = self._fold = QueueFold(
                partition.number,
                self._table,
                snapshot.state,
                desk.counts,
                lateness_ms=desk.lateness_ms,
                has_rows=counting.has_rows,
            )
            async for page in snapshot.pages():
                fold.load(page)
                counting.load(page)
        self._restart = snapshot.state.mark.restart
        fold.counts_s = counting.due_s
        return fold

    async def _give_up(self, number: int) -> None:
        """Forget what was loaded before, by the piece."""
        table = self._table
        clients = [at for at in table.clients.values() if at.at(number) >= 0]
        for done, client in enumerate(clients):
            table.put(number, client.client_id, None)
            if not done % 500:
                await asyncio.sleep(0)

    async def prepare(self, batch: QueueBatch) -> None:
        """Tell of a gap (P7), and note what waits (S5)."""
        number = self._partition.number
        if batch.gap is not None:
            await self._desk.tell_gap(number, batch.gap)
            batch.gap = None
        notes = self._counting.take(asyncio.get_running_loop().time())
        if notes:
            batch.changes.counts.update(await self._count(notes))

    async def _count(self, notes: Mapping[str, tuple[int, int]]) -> dict[str, QueueCount]:
        """Return what is noted, with the time of the oldest, which only the rows know."""
        near = [client_id for client_id, (messages, _) in notes.items() if messages]
        asks = [QueueAsk(client_id, self._partition.number, 0, _EVERY, 1) for client_id in near]
        pages = []
        # Without an answer a queue counts as one whose messages are all old.
        with suppress(StoreError):
            generation = self._partition.generation
            pages = await self._desk.database.queue_pages(generation, asks, size_max=1)
        oldest = {
            client_id: page.rows[0].record.timestamp_ms
            for client_id, page in zip(near, pages, strict=False)
            if page.rows
        }
        return {
            client_id: QueueCount(messages, size, oldest.get(client_id, 0))
            if messages
            else NOTHING_WAITS
            for client_id, (messages, size) in notes.items()
        }

    def committed(self, batch: QueueBatch, grown: Mapping[str, QueueGrowth]) -> None:
        """Queues have grown by so much."""
        self._restart = batch.restart
        self._counting.grown(grown)
        if self._fold is not None:
            self._fold.counts_s = self._counting.due_s

    async def tend(self) -> None:
        """Sweep payloads that no row needs any more, now and then."""
        while True:
            await asyncio.sleep(SWEEP_S)
            with suppress(StoreError):
                while await self._sweep() == SWEEP_ROWS:
                    pass

    async def _sweep(self) -> int:
        """Delete some; return how many."""
        gone = await self._desk.database.sweep(
            self._partition, below=self._restart, limit=SWEEP_ROWS
        )
        self._desk.swept += gone
        return gone
