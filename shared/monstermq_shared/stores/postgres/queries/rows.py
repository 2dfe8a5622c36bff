"""Messages as our statements return them, and moments as the driver takes them."""

from datetime import UTC, datetime, timedelta

import asyncpg

from monstermq_shared.queries.history import Message

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

FIRST = _EPOCH
LAST = datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)


def moment(time_ms: int) -> datetime:
    """Return milliseconds since 1970-01-01 UTC as the driver takes a time."""
    return _EPOCH + timedelta(milliseconds=time_ms)


def end_of(time_ms: int) -> datetime:
    """Return the last moment of a millisecond: rows of others may have times between two."""
    return moment(time_ms) + timedelta(microseconds=999)


def microseconds(time: datetime) -> int:
    """Return a time as a number that a cursor can hold, exactly."""
    return (time - _EPOCH) // _MICROSECOND


def from_microseconds(number: int) -> datetime:
    """Return what ``microseconds`` was given."""
    return _EPOCH + number * _MICROSECOND


def message_of(row: asyncpg.Record) -> Message:
    """Return the message of a row that has the columns of the fragment ``message``."""
    return Message(
        topic=row["topic"],
        time_ms=row["time_ms"],
        payload=row["start"],
        payload_size=row["size"],
        is_text=row["is_text"],
        qos=row["qos"],
        retained=row["retained"],
        client_id=row["client_id"],
        message_id=row["message_uuid"],
    )
