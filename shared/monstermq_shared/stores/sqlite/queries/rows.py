"""Messages as they come back from statements that return everything as one JSON text."""

from typing import Any, NamedTuple

import orjson

from monstermq_shared.queries.history import Message


class Placed(NamedTuple):
    """A message, and where it stands in the order of the answer."""

    message: Message
    place: Any


class Found(NamedTuple):
    """What a statement found.

    Attributes:
        rows: The messages, no more than were asked for.
        more: Whether others follow.
    """

    rows: list[Placed]
    more: bool


def read_messages(row: tuple[str, int], *, limit: int) -> Found:
    """Read the row of the fragment ``page``, of a statement that was given one more than ``limit``.

    Its bound in bytes may have left some out as well.
    """
    text, count = row
    rows = [_placed(values) for values in orjson.loads(text)[:limit]]
    return Found(rows, len(rows) < count)


def _placed(values: list[Any]) -> Placed:
    topic, time_ms, start, size, is_text, qos, retained, client_id, message_id, place = values
    message = Message(
        topic=topic,
        time_ms=time_ms,
        payload=bytes.fromhex(start),
        payload_size=size,
        is_text=bool(is_text),
        qos=qos,
        retained=bool(retained),
        client_id=client_id,
        message_id=message_id,
    )
    return Placed(message, place)
