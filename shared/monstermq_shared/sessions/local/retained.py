"""What is retained, as the local engine's log has it: see ``sessions.retained``."""

from collections.abc import Callable, Iterable, Sequence

from monstermq_shared.bus.internal import InternalLog
from monstermq_shared.messages import MessageRun
from monstermq_shared.projections.overlay import Overlay
from monstermq_shared.records import Record
from monstermq_shared.sessions.local.persistent import PersistentSession
from monstermq_shared.sessions.local.session import Session
from monstermq_shared.sessions.retained import IsOlder


class LocalRetainedLog:
    """Implements ``RetainedLog``.

    Args:
        log: The log.
        overlay: What the table does not show yet.
        uncommitted: Returns the records that the table may not show yet, in order of offset.
    """

    def __init__(
        self,
        log: InternalLog,
        overlay: Overlay,
        uncommitted: Callable[[], Iterable[Sequence[Record]]],
    ) -> None:
        self._log = log
        self._overlay = overlay
        self._uncommitted = uncommitted
        self.scan = overlay.scan

    def older_than_now(self) -> IsOlder:
        """See ``RetainedLog``."""
        begun_at = self._log.next_offset
        return lambda record: record.offset < begun_at

    def fold(self) -> bool:
        """See ``RetainedLog``."""
        return self._overlay.fold(self._uncommitted())

    def copy(self, session: Session, record: Record, qos: int) -> None:
        """See ``RetainedLog``: with its own offset and row."""
        offset = self._log.allot(1)
        run = MessageRun.single(record.topic.encode(), record.payload, qos, retained_copy=True)
        run.first_offset = offset
        if not isinstance(session, PersistentSession):
            session.offer(run, qos)
            return
        copy = Record(
            record.topic,
            record.payload,
            record.qos,
            True,
            record.client_id,
            record.timestamp_ms,
            offset,
        )
        session.enqueue(run, qos, (copy,))
