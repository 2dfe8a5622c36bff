"""The queues of kept sessions on a shared log, in memory: the reference for ``KeepsQueues``."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from monstermq_shared.errors import StoreUnavailable
from monstermq_shared.positions import Partition
from monstermq_shared.records import Record, size_of
from monstermq_shared.stores.changes import QueuedMessage, StoredLogState
from monstermq_shared.stores.memory_logs import MemoryLogs
from monstermq_shared.stores.memory_sessions import count_within
from monstermq_shared.stores.queue_changes import (
    NOTHING_WAITS,
    Cut,
    OpenId,
    QueueChanges,
    QueueCount,
    QueueGrowth,
)
from monstermq_shared.stores.queues import (
    QUEUES_MARK,
    EdgeQueues,
    OldestAsk,
    QueueAsk,
    QueuePage,
    QueueTotal,
    StoredQueue,
)


class MemoryQueues(MemoryLogs):
    """The part of ``MemoryDatabase`` that is about queues."""

    def __init__(self) -> None:
        super().__init__()
        self._queues: dict[Partition, _Queues] = {}

    def queues_of(self, partition: Partition) -> "_Queues":
        """Return the queues of a partition."""
        return self._queues.setdefault(partition, _Queues())

    @asynccontextmanager
    async def load_queues(self, partition: Partition) -> AsyncIterator["MemoryQueueSnapshot"]:
        """Return a snapshot of a partition's queues, for its worker."""
        state = await self._state(partition)
        yield MemoryQueueSnapshot(state, self.queues_of(partition).stored())

    async def edge_queues(self, partition: Partition, *, since_ms: int) -> EdgeQueues:
        """Return what an edge must know of a partition; fences of cuts marked since a time."""
        state = await self._state(partition)
        queues = self.queues_of(partition)
        fences = {
            client_id: (cut.epoch, cut.marked_ms)
            for client_id, cut in queues.cuts.items()
            if cut.marked_ms >= since_ms
        }
        return EdgeQueues(state=state, fences=fences, open_ids=dict(queues.open_ids))

    async def queue_pages(
        self, generation: str, asks: Sequence[QueueAsk], *, size_max: int
    ) -> list[QueuePage]:
        """Return a page for each ask, all as of one moment."""
        return [
            self.queues_of(Partition(generation, ask.partition)).page(ask, size_max) for ask in asks
        ]

    async def old_cuts(
        self, generation: str, ended: Mapping[str, int]
    ) -> Mapping[str, Sequence[int]]:
        """Return client -> partitions whose cut is older than the epoch that ended it (S4)."""
        found: dict[str, list[int]] = {}
        for partition, queues in sorted(self._queues.items()):
            for client_id in ended.keys() & queues.cuts.keys():
                is_old = queues.cuts[client_id].epoch < ended[client_id]
                if partition.generation == generation and is_old:
                    found.setdefault(client_id, []).append(partition.number)
        return found

    async def queue_totals(
        self, generation: str, *, messages_over: int, size_over: int
    ) -> Mapping[str, QueueTotal]:
        """Return the clients of which more than that waits, as the counts say (S5)."""
        found: dict[str, dict[int, QueueCount]] = {}
        for partition, queues in self._queues.items():
            if partition.generation == generation:
                for client_id, count in queues.counts.items():
                    if count.messages:
                        found.setdefault(client_id, {})[partition.number] = count
        totals = {
            client_id: QueueTotal(
                messages=sum(count.messages for count in counts.values()),
                size=sum(count.size for count in counts.values()),
                by_partition=counts,
            )
            for client_id, counts in found.items()
        }
        return {
            client_id: total
            for client_id, total in totals.items()
            if total.messages > messages_over or total.size > size_over
        }

    async def oldest_rows(
        self, generation: str, asks: Sequence[OldestAsk]
    ) -> list[tuple[int, int] | None]:
        """Return for each ask the offset behind those rows, and how many there are (S5)."""
        return [
            self.queues_of(Partition(generation, ask.partition)).oldest(ask.client_id, ask.messages)
            for ask in asks
        ]

    async def sweep(self, partition: Partition, *, below: int, limit: int) -> int:
        """Delete payloads below an offset that no row needs; return how many there were."""
        return self.queues_of(partition).sweep(below, limit)

    async def _state(self, partition: Partition) -> StoredLogState:
        state = (await self.log_states(partition)).get(QUEUES_MARK)
        if state is None:
            raise StoreUnavailable("the queues have no mark yet; whoever starts makes it")
        return state


class MemoryQueueSnapshot:
    """See ``QueueSnapshot``.

    Attributes:
        state: As of the moment it was made.
    """

    def __init__(self, state: StoredLogState, queues: Sequence[StoredQueue]) -> None:
        self.state = state
        self._queues = queues

    async def pages(self) -> AsyncIterator[Sequence[StoredQueue]]:
        """Yield all clients."""
        yield self._queues


class _Queues:
    """The queues of one partition.

    Attributes:
        payloads: Offset -> message.
        rows: Client -> offset -> QoS of the delivery.
        open_ids: (client, packet id) -> what it is open since.
        cuts: Client -> its cut.
        counts: Client -> what was written beside it.
    """

    def __init__(self) -> None:
        self.payloads: dict[int, Record] = {}
        self.rows: dict[str, dict[int, int]] = {}
        self.open_ids: dict[tuple[str, int], OpenId] = {}
        self.cuts: dict[str, Cut] = {}
        self.counts: dict[str, QueueCount] = {}

    def apply(self, changes: QueueChanges) -> dict[str, QueueGrowth]:
        """Take the changes, in the order that ``QueueChanges`` gives."""
        clients = {*changes.below, *(client_id for client_id, _ in changes.dequeued)}
        for _, targets in changes.queued.values():
            clients.update(client_id for client_id, _ in targets)
        before = {client_id: self._waiting(client_id) for client_id in clients}
        for client_id, below in changes.below.items():
            kept = self.rows.get(client_id, {})
            self.rows[client_id] = {at: qos for at, qos in kept.items() if at >= below}
        for offset, (record, targets) in changes.queued.items():
            self.payloads.setdefault(offset, record)
            for client_id, qos in targets:
                self.rows.setdefault(client_id, {}).setdefault(offset, qos)
        for key, opened in changes.open_ids.items():
            self.open_ids.pop(key, None)
            if opened is not None:
                self.open_ids[key] = opened
        for client_id, offset in changes.dequeued:
            self.rows.get(client_id, {}).pop(offset, None)
        self._put_cuts(changes)
        return {client_id: self._grown(client_id, before[client_id]) for client_id in clients}

    def _put_cuts(self, changes: QueueChanges) -> None:
        for client_id, cut in changes.cuts.items():
            if cut is None:
                self.cuts.pop(client_id, None)
                self.counts.pop(client_id, None)
            else:
                self.cuts[client_id] = cut
        for client_id, count in changes.counts.items():
            if client_id in self.cuts:
                self.counts[client_id] = count

    def _grown(self, client_id: str, before: QueueCount) -> QueueGrowth:
        now = self._waiting(client_id)
        return QueueGrowth(now.messages - before.messages, now.size - before.size)

    def _waiting(self, client_id: str) -> QueueCount:
        offsets = self.rows.get(client_id)
        if not offsets:
            return NOTHING_WAITS
        size = sum(size_of(self.payloads[offset]) for offset in offsets)
        return QueueCount(len(offsets), size, self.payloads[min(offsets)].timestamp_ms)

    def page(self, ask: QueueAsk, size_max: int) -> QueuePage:
        """Return a page."""
        rows = self.rows.get(ask.client_id, {})
        offsets = sorted(at for at in rows if ask.first <= at < ask.before)
        some = offsets[: ask.limit]
        some = some[: count_within((self.payloads[at] for at in some), size_max)]
        cut = self.cuts.get(ask.client_id)
        return QueuePage(
            [QueuedMessage(record=self.payloads[at], qos=rows[at]) for at in some],
            None if cut is None else (cut.epoch, cut.at),
            is_last=len(some) == len(offsets),
        )

    def oldest(self, client_id: str, messages: int) -> tuple[int, int] | None:
        """Return the offset behind a client's oldest rows, and how many they are."""
        offsets = sorted(self.rows.get(client_id, ()))[:messages]
        return (offsets[-1] + 1, len(offsets)) if offsets else None

    def sweep(self, below: int, limit: int) -> int:
        """Delete payloads below an offset that no row needs; return how many there were."""
        needed = {offset for offsets in self.rows.values() for offset in offsets}
        gone = [at for at in sorted(self.payloads) if at < below and at not in needed][:limit]
        for offset in gone:
            del self.payloads[offset]
        return len(gone)

    def stored(self) -> list[StoredQueue]:
        """Return all clients that have a cut or open ids."""
        open_ids: dict[str, dict[int, OpenId]] = {}
        for (client_id, packet_id), at in self.open_ids.items():
            open_ids.setdefault(client_id, {})[packet_id] = at
        return [
            StoredQueue(
                client_id=client_id,
                cut=self.cuts.get(client_id),
                open_ids=open_ids.get(client_id, {}),
                waiting=self._waiting(client_id),
            )
            for client_id in {**dict.fromkeys(self.cuts), **dict.fromkeys(open_ids)}
        ]
