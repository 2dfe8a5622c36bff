"""What the engine wants read from a store. The driver reads it and brings the page back."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from monstermq_shared.sessions.local.persistent import PersistentSession
    from monstermq_shared.sessions.local.retained import RetainedReplay


PAGE_MESSAGES = 500
"""Stored messages read at once, at most."""


def page_size(pending_max: int) -> int:
    """Return how many stored messages to read at once, for one client's window.

    Two pages may wait for it. They must not count as a subscriber that is too slow, for which
    publishers are held from ``pending_max`` messages on.
    """
    return max(min(PAGE_MESSAGES, pending_max // 2), 1)


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


@dataclass(frozen=True, slots=True)
class RetainedRead:
    """One page of the retained messages that match a filter, by topic, after a topic."""

    replay: "RetainedReplay"
    topic_filter: str
    after: str
    limit: int


Read = QueueRead | RetainedRead
