"""What flows: messages as they come, the log from a place on, and publishing."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from monstermq_shared.queries.bounds import (
    PAYLOAD_START_DEFAULT,
    ROWS_DEFAULT,
    check_payload_start,
    check_rows,
    check_times,
)
from monstermq_shared.queries.filters import checked_filters
from monstermq_shared.queries.history import Message


@dataclass(frozen=True, slots=True, kw_only=True)
class LogQuery:
    """A question for what the log has; one that is wrong is refused when it is made.

    Attributes:
        filters: Topics and filters.
        start_ms: The earliest time, inclusive, where there is no cursor, milliseconds since
            1970-01-01 UTC; None: the newest messages.
        limit: Messages of the page at most.
        cursor: Where the page begins: ``LogPage.next_cursor`` of an earlier one.
        payload_limit: Bytes of each payload at most.
    """

    filters: tuple[str, ...]
    start_ms: int | None = None
    limit: int = ROWS_DEFAULT
    cursor: str | None = None
    payload_limit: int = PAYLOAD_START_DEFAULT

    def __post_init__(self) -> None:
        """Check it.

        Raises:
            QueryRefused: Something is out of its bounds.
        """
        object.__setattr__(self, "filters", checked_filters(self.filters))
        check_times(self.start_ms, None)
        check_rows(self.limit)
        check_payload_start(self.payload_limit)

    @property
    def question(self) -> str:
        """What is asked, without how much of it at a time: what a cursor belongs to."""
        return repr(("log", self.filters))


class LogSource(StrEnum):
    """What answers a ``LogQuery``."""

    BUS = "the bus"
    ARCHIVE = "the archive, because the internal bus keeps nothing once it is stored"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPage:
    """Messages of the log, in its order within a partition.

    Attributes:
        messages: They are.
        source: Where they are from.
        next_cursor: Where to go on; there is always one, because the log grows.
        cursors: For each message, where to go on after it, so that fewer can be shown.
        more: Whether others follow already.
        lost: How many records were deleted that stood behind the place where the page begins; so
            many messages at most are missing before these.
    """

    messages: Sequence[Message]
    source: LogSource
    next_cursor: str
    cursors: Sequence[str]
    more: bool
    lost: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """A message to publish.

    Attributes:
        topic: Its topic name.
        payload: Any bytes.
        qos: 0, 1 or 2.
        retained: Whether it is to be retained.
    """

    topic: str
    payload: bytes
    qos: int = 1
    retained: bool = False
