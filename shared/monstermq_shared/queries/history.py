"""Past messages: what can be asked, and what comes back."""

from dataclasses import dataclass

from monstermq_shared.queries.bounds import (
    PAYLOAD_START_DEFAULT,
    ROWS_DEFAULT,
    check_payload_start,
    check_rows,
    check_times,
)
from monstermq_shared.queries.filters import checked_filters
from monstermq_shared.queries.pages import Page
from monstermq_shared.records import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryQuery:
    """A question for past messages; one that is wrong is refused when it is made.

    Attributes:
        filters: Topics and filters; a message counts once, however many of them it matches.
        start_ms: The earliest time, inclusive, milliseconds since 1970-01-01 UTC; None: from the
            beginning.
        end_ms: The latest, inclusive; None: to the end.
        newest_first: The order: by time, then by position in the log.
        limit: Rows of the page at most.
        cursor: Where the page begins, from the page before; it belongs to the same question, with
            any ``limit`` and ``payload_limit``.
        payload_limit: Bytes of each payload at most.
    """

    filters: tuple[str, ...]
    start_ms: int | None = None
    end_ms: int | None = None
    newest_first: bool = True
    limit: int = ROWS_DEFAULT
    cursor: str | None = None
    payload_limit: int = PAYLOAD_START_DEFAULT

    def __post_init__(self) -> None:
        """Check it.

        Raises:
            QueryRefused: Something is out of its bounds.
        """
        object.__setattr__(self, "filters", checked_filters(self.filters))
        check_times(self.start_ms, self.end_ms)
        check_rows(self.limit)
        check_payload_start(self.payload_limit)

    @property
    def question(self) -> str:
        """What is asked, without how much of it at a time: what a cursor belongs to."""
        return repr(("history", self.filters, self.start_ms, self.end_ms, self.newest_first))


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message that was kept.

    Attributes:
        topic: The topic.
        time_ms: When the broker received it, milliseconds since 1970-01-01 UTC.
        payload: The beginning of the payload, as much of it as was asked for.
        payload_size: Bytes of the whole payload.
        is_text: Whether the whole payload is UTF-8 without NUL. The beginning may end inside a
            character.
        qos: The publisher's QoS.
        retained: The publisher's retain flag.
        client_id: The publisher.
        message_id: Of the message, unique.
    """

    topic: str
    time_ms: int
    payload: bytes
    payload_size: int
    is_text: bool
    qos: int
    retained: bool
    client_id: str
    message_id: str

    @classmethod
    def of(cls, record: Record, *, payload_limit: int) -> "Message":
        """Return the message of a record, with so many bytes of its payload at most."""
        return cls(
            topic=record.topic,
            time_ms=record.timestamp_ms,
            payload=record.payload[:payload_limit],
            payload_size=len(record.payload),
            is_text=is_text(record.payload),
            qos=record.qos,
            retained=record.retained,
            client_id=record.client_id,
            message_id=record.id,
        )

    @property
    def complete(self) -> bool:
        """Whether ``payload`` is the whole payload."""
        return len(self.payload) == self.payload_size

    @property
    def text(self) -> str | None:
        """The payload, or its beginning, as text; None if it is binary."""
        return self.payload.decode(errors="ignore") if self.is_text else None


def is_text(payload: bytes) -> bool:
    """Tell whether a payload can be shown as text: UTF-8 without NUL."""
    try:
        return "\0" not in payload.decode()
    except UnicodeDecodeError:
        return False


HistoryPage = Page[Message]
"""Past messages, in the order that was asked for."""
