"""Queues over their limit lose their oldest messages, over all partitions of the bus (S5).

It is approximate by what is under way: counts are written once a second, and a drop takes a while
until they show it.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from monstermq_shared.bus.facts import Drop
from monstermq_shared.sessions.distributed.session_asks import Ask
from monstermq_shared.stores.queues import OldestAsk, QueueTotal

REST_S = 3.0
"""So long after a drop a queue is left alone: its counts are those from before, perhaps."""

DROP_MAX = 50_000
"""Messages of one queue that are dropped at once."""

QUEUES_MAX = 1_000
"""Queues that are dealt with at once; there will be another time for the others."""


class QueueBounds(NamedTuple):
    """What may be queued for a session: messages, and their bytes (``records.size_of``)."""

    messages_max: int
    size_max: int


class Overfull:
    """Queues that are over their limit.

    Args:
        bounds: The limit.
    """

    def __init__(self, bounds: QueueBounds) -> None:
        self._bounds = bounds
        self._now_s = 0.0
        # Client -> until when it is left alone, in that order; it has been dropped from.
        self._resting: dict[str, float] = {}

    def look(self, totals: Mapping[str, QueueTotal], elapsed_s: float) -> list[OldestAsk]:
        """Return what has to be known of queues to make them smaller.

        Args:
            totals: Of queues that may be over their limit.
            elapsed_s: Since the last look.
        """
        self._now_s += elapsed_s
        while self._resting and next(iter(self._resting.values())) <= self._now_s:
            del self._resting[next(iter(self._resting))]
        asks: list[OldestAsk] = []
        for client_id, total in totals.items():
            if len(asks) >= QUEUES_MAX:
                break
            ask = None if client_id in self._resting else self._excess(client_id, total)
            if ask is not None:
                asks.append(ask)
        return asks

    def _excess(self, client_id: str, total: QueueTotal) -> OldestAsk | None:
        waiting = {p: count for p, count in total.by_partition.items() if count.messages > 0}
        if not waiting:
            return None
        # Over all partitions there is no order but that of time.
        partition = min(waiting, key=lambda p: (waiting[p].oldest_ms, p))
        here = waiting[partition]
        size_each = max(1, here.size // here.messages)
        over_size = total.size - self._bounds.size_max
        over = max(total.messages - self._bounds.messages_max, -(-over_size // size_each))
        if over <= 0:
            return None
        return OldestAsk(client_id, partition, min(over, here.messages, DROP_MAX))

    def drops(
        self, asked: Sequence[OldestAsk], found: Sequence[tuple[int, int] | None]
    ) -> list[tuple[Ask, int]]:
        """Return the facts to append, and how many messages each drops.

        Args:
            asked: What ``look`` has returned.
            found: For each, the offset behind those rows, and how many there are; None: none.
        """
        drops = []
        for ask, rows in zip(asked, found, strict=True):
            self._resting[ask.client_id] = self._now_s + REST_S
            if rows is not None:
                below, count = rows
                fact = Drop(client_id=ask.client_id, below=below, count=count)
                drops.append((Ask(ask.partition, fact), count))
        return drops
