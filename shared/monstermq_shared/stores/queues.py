"""What workers and edges read of the queues of kept sessions over a log of many partitions.

What an edge reads of several partitions and clients at once is as of one moment, because rows and
the cut that says what they reflect mean something only together (R5).
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple, Protocol, runtime_checkable

from monstermq_shared.positions import Mark, Partition
from monstermq_shared.stores.changes import QueuedMessage, StoredLogState
from monstermq_shared.stores.queue_changes import Cut, OpenId, QueueCount

QUEUES_MARK = "queues"
"""The projection whose mark says how far the queues of a partition have come."""

SESSIONS_MARK = "sessions"
"""The same of the session store."""

# -- what a worker loads -------------------------------------------------------------------------


class StoredQueue(NamedTuple):
    """What a worker must know of one client in its partition.

    Attributes:
        client_id: Whose.
        cut: Its row of ``cuts``; None where only open ids are left.
        open_ids: Packet id -> what it is open since.
        waiting: What waits, counted from the rows.
    """

    client_id: str
    cut: Cut | None
    open_ids: dict[int, OpenId]
    waiting: QueueCount


class QueueSnapshot(Protocol):
    """The queues of one partition as of one moment.

    Attributes:
        state: What is kept with the mark of the queues there, ``skips`` included.
    """

    state: StoredLogState

    def pages(self) -> AsyncIterator[Sequence[StoredQueue]]:
        """Yield all clients, by the page."""
        ...


# -- what an edge reads --------------------------------------------------------------------------


class QueueAsk(NamedTuple):
    """A page of one client's rows in one partition: first <= offset < before, oldest first."""

    client_id: str
    partition: int
    first: int
    before: int
    limit: int


class QueuePage(NamedTuple):
    """What was there.

    Attributes:
        rows: Oldest first.
        cut: (epoch, at) of the client's cut, None if there is none.
        is_last: Nothing follows below ``before``.
    """

    rows: Sequence[QueuedMessage]
    cut: tuple[int, int] | None
    is_last: bool


class EdgeQueues(NamedTuple):
    """What an edge must know of one partition when it starts, as of one moment (E1).

    Attributes:
        state: What is kept with the mark of the queues.
        fences: Client -> (epoch, time in ms) of its cut, of those marked since a time.
        open_ids: (client, packet id) -> what it is open since.
    """

    state: StoredLogState
    fences: Mapping[str, tuple[int, int]]
    open_ids: Mapping[tuple[str, int], OpenId]


class KeptRow(NamedTuple):
    """The rows of one client's session, as the worker of the sessions log keeps them.

    Attributes:
        epoch: Of the newest claim.
        incarnation: Of the claim that began the session.
        expiry_s: How long it outlives its connection, 0: not at all.
        attached: Its connection is not detached.
        subscriptions: Filter -> (QoS, options).
        in_flight: Outgoing QoS 2 packet id -> (partition, offset), both None for a retained
            message.
        sent: (partition, offset) of QoS 1 deliveries that were not acknowledged when it was
            detached; None if that is not known.
    """

    epoch: int
    incarnation: int
    expiry_s: int
    attached: bool
    subscriptions: Mapping[str, tuple[int, int]]
    in_flight: Mapping[int, tuple[int | None, int | None]]
    sent: Sequence[tuple[int, int]] | None


class KeptRows(NamedTuple):
    """Rows of some clients of one partition of the sessions log, as of one moment.

    Attributes:
        mark: How far the worker of the sessions log had come there.
        rows: By client; those that have no session are not there.
    """

    mark: Mark
    rows: Mapping[str, KeptRow]


class QueueTotal(NamedTuple):
    """What waits for a client, as the ``counts`` of its partitions say (S5).

    Attributes:
        messages: In all partitions.
        size: The same in bytes.
        by_partition: The same of each partition that says anything.
    """

    messages: int
    size: int
    by_partition: Mapping[int, QueueCount]


class KeptTotals(NamedTuple):
    """What is kept of all sessions of a log, counted from the rows.

    Attributes:
        sessions: Those that outlive their connection.
        connected: Those of them that have one.
        queues: Clients that messages wait for.
        messages: All that wait, once for each client.
        size: The same in bytes (``records.size_of``).
    """

    sessions: int
    connected: int
    queues: int
    messages: int
    size: int


class OldestAsk(NamedTuple):
    """Where do the oldest ``messages`` rows of a client in one partition end?"""

    client_id: str
    partition: int
    messages: int


@runtime_checkable
class KeepsQueues(Protocol):
    """A database with the queues of kept sessions over a log of many partitions."""

    def load_queues(self, partition: Partition) -> AbstractAsyncContextManager[QueueSnapshot]:
        """Return a snapshot of a partition's queues, for its worker."""
        ...

    async def edge_queues(self, partition: Partition, *, since_ms: int) -> EdgeQueues:
        """Return what an edge must know of a partition; fences of cuts marked since a time."""
        ...

    async def queue_pages(
        self, generation: str, asks: Sequence[QueueAsk], *, size_max: int
    ) -> list[QueuePage]:
        """Return a page for each ask, all as of one moment (R5, E5).

        ``size_max`` bounds the bytes of each; a page has a row if there is one.
        """
        ...

    async def kept_rows(
        self, generation: str, asked: Mapping[int, Sequence[str]]
    ) -> Mapping[int, KeptRows]:
        """Return rows of clients of partitions of the sessions log, as of one moment (E2)."""
        ...

    async def old_cuts(
        self, generation: str, ended: Mapping[str, int]
    ) -> Mapping[str, Sequence[int]]:
        """Return client -> partitions whose cut is older than the epoch that ended it (S4)."""
        ...

    async def queue_totals(
        self, generation: str, *, messages_over: int, size_over: int
    ) -> Mapping[str, QueueTotal]:
        """Return the clients of which more than that waits, as the counts say (S5)."""
        ...

    async def oldest_rows(
        self, generation: str, asks: Sequence[OldestAsk]
    ) -> list[tuple[int, int] | None]:
        """Return for each ask the offset behind those rows, and how many there are (S5).

        There may be fewer than were asked for; None: there is none.
        """
        ...

    async def sweep(self, partition: Partition, *, below: int, limit: int) -> int:
        """Delete payloads below an offset that no row needs; return how many there were.

        There are more of them if it is ``limit``. What an earlier worker has left may be found by
        later calls only: one call looks at a bounded number of payloads.

        Args:
            partition: Whose.
            below: At most the committed G: what stands there gets no rows any more.
            limit: How many to delete at most.
        """
        ...
