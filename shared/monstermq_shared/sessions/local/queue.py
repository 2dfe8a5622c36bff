"""The rows of one session's queue: how many there are, and how many there may be."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from monstermq_shared.counters import Counters, DropReason
from monstermq_shared.records import Record, size_of
from monstermq_shared.sessions.local.turn import Journal
from monstermq_shared.stores.changes import Trim, Trimmed


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueLimits:
    """What may be queued for one session.

    Attributes:
        enabled: ``QueuedMessagesEnabled``. Off: no rows are made, only connected clients are
            served. Rows of a time when it was on are sent and deleted all the same.
        messages_max: More rows than this are not kept for one session.
        size_max: More bytes (topic, publisher, payload) than this are not kept for one session.
        drop_oldest: At a limit the oldest rows go, else the newest message is not taken.
        tail_max: Messages that wait in memory behind the pages that are being read.
    """

    enabled: bool
    messages_max: int
    size_max: int
    drop_oldest: bool
    tail_max: int


class SessionQueue:
    """Writes and deletes the rows of one session, within its limits, and keeps count of them.

    Attributes:
        limits: The limits.
        messages: Rows there are, those of the collecting turn included.
        size: Their bytes, see ``records.size_of``.
    """

    __slots__ = (
        "_client_id",
        "_counters",
        "_journal",
        "_sizes",
        "_trimming_messages",
        "_trimming_size",
        "limits",
        "messages",
        "size",
    )

    def __init__(
        self, client_id: str, journal: Journal, limits: QueueLimits, counters: Counters
    ) -> None:
        self._client_id = client_id
        self._journal = journal
        self._counters = counters
        self.limits = limits
        self.messages = 0
        self.size = 0
        # Offset -> bytes of the rows that memory knows: sent, or waiting to be.
        self._sizes: dict[int, int] = {}
        # What was asked to be trimmed and is not committed yet.
        self._trimming_messages = 0
        self._trimming_size = 0

    # -- rows ------------------------------------------------------------------------------------

    def add(self, records: Sequence[Record], qos: int) -> None:
        """Write a row for each record, to be delivered with this QoS."""
        queued = self._journal.changes(self._client_id).queued
        size = 0
        for record in records:
            queued[record.offset] = (record, qos)
            size += size_of(record)
        self.messages += len(records)
        self.size += size

    def know(self, records: Iterable[Record]) -> None:
        """Remember the size of rows that wait in memory, or are sent."""
        sizes = self._sizes
        for record in records:
            sizes[record.offset] = size_of(record)

    def remove(self, offset: int, *, unread: bool) -> None:
        """Delete the row of a message that the client has; there is none if none was made.

        Args:
            offset: The message's.
            unread: An earlier process sent it, and its row, if there is one, was not read since.
        """
        size = self._sizes.pop(offset, None)
        if size is None and not unread:
            return
        self._journal.dequeue(self._client_id, offset, size)
        self.messages = max(self.messages - 1, 0)
        self.size = max(self.size - (size or 0), 0)

    def forget_from(self, offset: int) -> None:
        """Rows from this offset on wait in memory no more."""
        self._sizes = {o: size for o, size in self._sizes.items() if o < offset}

    def forget_except(self, offsets: Iterable[int]) -> None:
        """Only these rows, as far as they are known, are still of interest."""
        sizes = self._sizes
        self._sizes = {o: sizes[o] for o in offsets if o in sizes}

    # -- limits ----------------------------------------------------------------------------------

    def excess(self, records: Sequence[Record]) -> tuple[int, int] | None:
        """Return by how many messages and bytes these records exceed the limits, None if not."""
        limits = self.limits
        size = sum(size_of(record) for record in records)
        over = self.messages - self._trimming_messages + len(records) - limits.messages_max
        over_size = self.size - self._trimming_size + size - limits.size_max
        if over <= 0 and over_size <= 0:
            return None
        return max(over, 0), max(over_size, 0)

    def fitting(self, records: Sequence[Record]) -> list[Record]:
        """Return the records that there is room for, the oldest; the others are counted."""
        limits = self.limits
        room = limits.messages_max - self.messages
        room_size = limits.size_max - self.size
        admitted: list[Record] = []
        for record in records:
            room_size -= size_of(record)
            if len(admitted) >= room or room_size < 0:
                break
            admitted.append(record)
        self._counters.dropped[DropReason.QUEUE_FULL_NEWEST] += len(records) - len(admitted)
        return admitted

    def trim(self, after: int, messages: int, size: int) -> None:
        """Let the turn drop at least so much of the oldest rows beyond an offset."""
        changes = self._journal.changes(self._client_id)
        trim = changes.trim
        if trim is None:
            trim = changes.trim = Trim(after, 0, 0)
        trim.messages += messages
        trim.size += size
        self._trimming_messages += messages
        self._trimming_size += size

    @property
    def is_trimming(self) -> bool:
        """Whether the collecting turn drops rows."""
        return self._journal.changes(self._client_id).trim is not None

    def trimmed(self, asked: Trim, result: Trimmed) -> None:
        """A commit has dropped the oldest rows; that is counted."""
        self._trimming_messages -= asked.messages
        self._trimming_size -= asked.size
        self.messages = max(self.messages - result.messages, 0)
        self.size = max(self.size - result.size, 0)
        self._counters.dropped[DropReason.QUEUE_FULL_OLDEST] += result.messages
