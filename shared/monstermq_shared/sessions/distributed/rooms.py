"""Who is held while a partition of the log takes no more, and what is dropped (E14).

A partition without a leader concerns those who publish to it, and nobody else.
"""

from collections.abc import Sequence

from monstermq_shared.counters import Counters, DropReason
from monstermq_shared.messages import MessageRun
from monstermq_shared.sessions.backpressure import Backpressure
from monstermq_shared.sessions.distributed.own_runs import OwnRuns
from monstermq_shared.sessions.distributed.ports import MessageWriter
from monstermq_shared.sessions.distributed.session import BusSession
from monstermq_shared.sessions.ports import Link


class _Room:
    """One partition, as what publishers are held for while it is full."""

    def __init__(self, messages: MessageWriter, partition: int) -> None:
        self._messages = messages
        self._partition = partition

    @property
    def is_full(self) -> bool:
        """See ``routing.Follower``."""
        return self._messages.is_full(self._partition)


class Rooms:
    """All partitions of the log of messages.

    Args:
        messages: The log.
        own: What was published here and not read back.
        backpressure: Holds publishers.
        counters: Counts what is dropped.
    """

    def __init__(
        self,
        messages: MessageWriter,
        own: OwnRuns,
        backpressure: Backpressure[BusSession],
        counters: Counters,
    ) -> None:
        self._messages = messages
        self._own = own
        self._backpressure = backpressure
        self._counters = counters
        self._rooms = [_Room(messages, partition) for partition in range(messages.partitions)]
        # Those that are full because nothing gets through.
        self._stuck: set[int] = set()

    @property
    def full(self) -> Sequence[int]:
        """The partitions that take no more."""
        return [partition for partition, room in enumerate(self._rooms) if room.is_full]

    @property
    def size(self) -> int:
        """Bytes of what is not read back, about, where that is not for want of a leader."""
        own, size = self._own, self._own.size
        if size > self._backpressure.backlog_max // 2:
            size -= sum(own.sizes[partition] for partition in self.full)
        return size

    def drops(self, partition: int, run: MessageRun) -> bool:
        """Whether a run of QoS 0 is dropped: it would wait where nothing gets through."""
        backlog_max = self._backpressure.backlog_max
        if partition not in self._stuck and self._own.sizes[partition] <= backlog_max:
            return False
        self._counters.dropped[DropReason.LOG_FULL] += run.count
        return True

    def appended(self, partition: int, publisher: Link | None) -> None:
        """Something was appended to a partition: hold its publisher where that was too much."""
        if self._messages.is_full(partition):
            self._backpressure.hold_for_followers((self._rooms[partition],), publisher)
        elif (
            self._own.size > self._backpressure.backlog_max
            and self.size > self._backpressure.backlog_max
        ):
            self._backpressure.hold_for_backlog(publisher)

    def look(self) -> None:
        """Let publishers go on once nothing gets through: what they send at QoS 0 is dropped.

        Those that are owed something by the partition are held again with their next message.
        """
        for partition, room in enumerate(self._rooms):
            if partition not in self._stuck and self._messages.is_stuck(partition):
                self._stuck.add(partition)
                self._backpressure.release_follower(room)

    def cleared(self, partition: int) -> None:
        """A partition is not full any more."""
        self._stuck.discard(partition)
        self._backpressure.release_follower(self._rooms[partition])
