"""What the local engine wants read from a store. The driver reads it and brings the page back."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from monstermq_shared.sessions.retained import RetainedRead

if TYPE_CHECKING:
    from monstermq_shared.sessions.local.persistent import PersistentSession


@dataclass(frozen=True, slots=True)
class QueueRead:
    """One page of a session's queue: ``after`` < offset < ``before``, oldest first.

    All rows in that range are committed when the engine asks. A session takes the page of its last
    read only, so one that comes back after a reconnect is ignored.
    """

    session: "PersistentSession"
    after: int
    before: int
    limit: int


Read = QueueRead | RetainedRead
