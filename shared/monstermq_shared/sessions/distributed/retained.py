"""What is retained, as a log with partitions has it: see ``sessions.retained``."""

from collections.abc import Mapping

from monstermq_shared.messages import MessageRun
from monstermq_shared.records import Record
from monstermq_shared.sessions.distributed.overlay import BusOverlay
from monstermq_shared.sessions.distributed.ports import MessageWriter
from monstermq_shared.sessions.distributed.session import BusSession
from monstermq_shared.sessions.retained import IsOlder


class BusRetainedLog:
    """Implements ``RetainedLog``.

    Args:
        messages: Says in which partition a topic is.
        overlay: What the table does not show yet.

    Attributes:
        positions: Partition -> the next offset that is delivered live.
    """

    def __init__(self, messages: MessageWriter, overlay: BusOverlay) -> None:
        self.positions: Mapping[int, int] = {}
        self._messages = messages
        self._overlay = overlay

    def older_than_now(self) -> IsOlder:
        """See ``RetainedLog``: each partition has its own position."""
        begun_at = dict(self.positions)
        lowest = min(begun_at.values())
        partition_of = self._messages.partition_of

        def is_older(record: Record) -> bool:
            # To find the partition costs more than most records need.
            offset = record.offset
            return offset < lowest or offset < begun_at[partition_of(record.topic)]

        return is_older

    def fold(self) -> bool:
        """See ``RetainedLog``."""
        return self._overlay.fold()

    def scan(
        self, topic_filter: str, *, start: str, limit: int
    ) -> tuple[list[tuple[str, Record | None]], str | None]:
        """See ``RetainedLog``."""
        return self._overlay.scan(topic_filter, start=start, limit=limit)

    def copy(self, session: BusSession, record: Record, qos: int) -> None:
        """See ``RetainedLog``: a retained copy has no position."""
        run = MessageRun.single(record.topic.encode(), record.payload, qos, retained_copy=True)
        session.offer(run, qos)
