"""Archived messages as they are: the value is the payload, and the headers say the rest."""

from monstermq_shared.records import Record, format_timestamp

Headers = list[tuple[str, bytes]]

_QOS = (b"0", b"1", b"2")
_FLAGS = (b"false", b"true")


def headers_of(record: Record) -> Headers:
    """Return the headers of a message whose payload is the value."""
    return [
        ("mqtt.topic", record.topic.encode()),
        ("mqtt.qos", _QOS[record.qos]),
        ("mqtt.retained", _FLAGS[record.retained]),
        ("mqtt.clientId", record.client_id.encode()),
        ("mqtt.timestamp", format_timestamp(record.timestamp_ms).encode()),
    ]
