"""Rows of the queues of kept sessions over a log of many partitions, and what a commit changes.

The worker of a partition of the bus writes only rows of that partition, so workers never contend.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from monstermq_shared.messages import Subscription
from monstermq_shared.records import Record


class Cut(NamedTuple):
    """The row (client, partition) of ``cuts``: the newest marker that the partition's rows reflect.

    Attributes:
        epoch: Of the marker.
        at: Its offset: the subscriptions answer for what stands above.
        incarnation: The epoch of the claim that began the session.
        subscriptions: All of the session in this partition.
        marked_ms: The time of the record at ``at``.
    """

    epoch: int
    at: int
    incarnation: int
    subscriptions: tuple[Subscription, ...]
    marked_ms: int


class OpenId(NamedTuple):
    """An inbound QoS 2 packet id that is open in a partition.

    Attributes:
        since: The offset of its publish.
        epoch: Of the connection that published it.
    """

    since: int
    epoch: int


class QueueCount(NamedTuple):
    """What waits for a client in one partition (S5).

    Attributes:
        messages: Rows.
        size: Their bytes, ``records.size_of``.
        oldest_ms: The time of the oldest, -1 if there is none.
    """

    messages: int
    size: int
    oldest_ms: int


class QueueGrowth(NamedTuple):
    """By how much a commit has made a client's queue longer; below 0: shorter.

    Attributes:
        messages: Rows that it has put there, less those it has deleted.
        size: The same of their bytes.
    """

    messages: int
    size: int


NOTHING_WAITS = QueueCount(0, 0, -1)


@dataclass(slots=True, kw_only=True)
class QueueChanges:
    """What one commit changes in the queues of its partition, applied in the order of the members.

    Attributes:
        below: Client -> offset: first delete its rows below that.
        queued: Offset -> (record, [(client, QoS of the delivery)]) to insert; nothing on conflict.
        open_ids: (client, packet id) -> what it is open since, or None to delete.
        dequeued: (client, offset) of rows to delete. Payloads that no row needs are swept later,
            see ``KeepsQueues.sweep``.
        cuts: Client -> its cut to insert or replace, or None to delete.
        counts: Client -> what is written of its queue beside its cut, if there is one (S5).
    """

    below: dict[str, int] = field(default_factory=dict)
    queued: dict[int, tuple[Record, list[tuple[str, int]]]] = field(default_factory=dict)
    open_ids: dict[tuple[str, int], OpenId | None] = field(default_factory=dict)
    dequeued: set[tuple[str, int]] = field(default_factory=set)
    cuts: dict[str, Cut | None] = field(default_factory=dict)
    counts: dict[str, QueueCount] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        """Whether nothing changes."""
        return not self.rows and not self.counts

    @property
    def rows(self) -> int:
        """How many rows change, ``counts`` not counted."""
        rows = sum(len(targets) for _, targets in self.queued.values())
        rows += len(self.dequeued) + len(self.open_ids) + len(self.cuts)
        return rows + len(self.below)


@dataclass(slots=True, kw_only=True)
class QueueBatch:
    """What a commit says of the queues of its partition.

    Attributes:
        changes: Of rows.
        restart: G: where reading begins again, so that what is in memory can be rebuilt.
        skips: Offsets from there on whose records did not count (P2).
        gap: Below this offset something could not be read any more (P7), which the sessions log has
            to be told first; None: nothing is missing.
    """

    changes: QueueChanges
    restart: int
    skips: Sequence[int]
    gap: int | None = None
