"""What waits for each client in one partition, and whom that is worth a note beside its cut (S5).

Only what is near the limit is noted: most queues are short, and then a commit says nothing of them.
"""

from collections.abc import Iterable, Mapping
from itertools import islice

from monstermq_shared.sessions.distributed.queue_limits import QueueBounds
from monstermq_shared.stores.queue_changes import QueueGrowth
from monstermq_shared.stores.queues import StoredQueue

NOTE_S = 1.0
"""Between notes."""

NOTES_MAX = 500
"""Clients of whom something is noted at a time; those that are more come next."""


class QueueCounting:
    """Counts the queues of one partition.

    Args:
        bounds: What may be queued for a session.
        partitions: Of the bus: a queue is near its limit from half of its share here on, so that
            at most half of the limit goes unseen.
    """

    def __init__(self, bounds: QueueBounds, partitions: int) -> None:
        self._messages_from = bounds.messages_max / (2 * partitions)
        self._size_from = bounds.size_max / (2 * partitions)
        # Client -> messages and bytes, where there are any.
        self._waiting: dict[str, tuple[int, int]] = {}
        self._noted: set[str] = set()
        # In order, so that everybody has a turn.
        self._changed: dict[str, None] = {}
        self._noted_s = float("-inf")

    def load(self, queues: Iterable[StoredQueue]) -> None:
        """Take what was counted from the rows."""
        for queue in queues:
            if queue.waiting.messages:
                # Nobody knows whether what is noted is still so.
                self._noted.add(queue.client_id)
                self._put(queue.client_id, queue.waiting.messages, queue.waiting.size)

    def grown(self, growth: Mapping[str, QueueGrowth]) -> None:
        """Queues have grown by a commit."""
        for client_id, (messages, size) in growth.items():
            before = self._waiting.get(client_id, (0, 0))
            self._put(client_id, before[0] + messages, before[1] + size)

    def _put(self, client_id: str, messages: int, size: int) -> None:
        if messages > 0:
            self._waiting[client_id] = messages, size
        else:
            self._waiting.pop(client_id, None)
        if client_id in self._noted or self._is_near(client_id):
            self._changed[client_id] = None

    def _is_near(self, client_id: str) -> bool:
        messages, size = self._waiting.get(client_id, (0, 0))
        return messages > self._messages_from or size > self._size_from

    def has_rows(self, client_id: str) -> bool:
        """Whether anything of a client waits."""
        return client_id in self._waiting

    @property
    def due_s(self) -> float:
        """When there is something to note."""
        return self._noted_s + NOTE_S if self._changed else float("inf")

    def take(self, now_s: float) -> dict[str, tuple[int, int]]:
        """Return client -> messages and bytes to note now, both 0 where it is not near any more."""
        if now_s < self.due_s:
            return {}
        self._noted_s = now_s
        notes: dict[str, tuple[int, int]] = {}
        for client_id in [*islice(self._changed, NOTES_MAX)]:
            del self._changed[client_id]
            if self._is_near(client_id):
                self._noted.add(client_id)
                notes[client_id] = self._waiting[client_id]
            else:
                self._noted.discard(client_id)
                notes[client_id] = (0, 0)
        return notes
