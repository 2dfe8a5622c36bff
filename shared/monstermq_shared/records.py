"""The bus record: a message as it stands in the log, and its JSON form.

The JSON is the contract with ``jq``, Spark and Flink (``schemas/bus-record.v1.json``); inside one
process a record is a light object and JSON is made only where somebody wants JSON.
"""

import base64
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from monstermq_shared.errors import InvalidRecord

CONTROL_TOPIC = "$SYS/bus/control"
"""The reserved topic of control records (subscribe, attach, acknowledge, release)."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Ids must be unique, not secret; the system's generator would cost a system call per message.
_random_bits = random.Random().getrandbits  # noqa: S311


class Record:
    """One message in the log. A plain object, because one is made per stored message.

    Attributes:
        topic: The MQTT topic name.
        payload: The application message, any bytes.
        qos: The publisher's QoS.
        retained: The publisher's retain flag.
        client_id: The publisher.
        timestamp_ms: When the broker received it, milliseconds since 1970-01-01 UTC.
        offset: Where it stands in its partition.
    """

    __slots__ = (
        "_id",
        "client_id",
        "offset",
        "payload",
        "qos",
        "retained",
        "timestamp_ms",
        "topic",
    )

    def __init__(  # noqa: PLR0913, PLR0917 - positional, because one is made per stored message
        self,
        topic: str,
        payload: bytes,
        qos: int,
        retained: bool,
        client_id: str,
        timestamp_ms: int,
        offset: int,
        record_id: str | None = None,
    ) -> None:
        self.topic = topic
        self.payload = payload
        self.qos = qos
        self.retained = retained
        self.client_id = client_id
        self.timestamp_ms = timestamp_ms
        self.offset = offset
        self._id = record_id

    @property
    def id(self) -> str:
        """A UUIDv7 (RFC 9562), made on first use and then the same for ever."""
        if self._id is None:
            self._id = uuid7(self.timestamp_ms)
        return self._id

    def __eq__(self, other: object) -> bool:
        """Two records are equal if all they say is; the id only matters if both have one."""
        if not isinstance(other, Record):
            return NotImplemented
        mine = (self.topic, self.payload, self.qos, self.retained, self.client_id)
        theirs = (other.topic, other.payload, other.qos, other.retained, other.client_id)
        return (mine, self.timestamp_ms, self.offset) == (
            theirs,
            other.timestamp_ms,
            other.offset,
        )

    __hash__ = None  # type: ignore[assignment]  # mutable, and never a key

    def __repr__(self) -> str:
        return f"Record({self.topic!r}, {len(self.payload)} bytes, offset={self.offset})"


def size_of(record: Record) -> int:
    """Return the bytes of a record's texts and payload, which is what bounds in bytes count.

    Those of topic, publisher and payload: each may be 64 KiB and more, so none can be left out.
    """
    return text_size(record.topic) + text_size(record.client_id) + len(record.payload)


def text_size(text: str) -> int:
    """Return how many bytes a text takes as UTF-8."""
    return len(text) if text.isascii() else len(text.encode())


def uuid7(timestamp_ms: int) -> str:
    """Return a UUID version 7 for that moment: sortable by millisecond, random below (RFC 9562)."""
    bits = _random_bits(74)
    value = (
        (timestamp_ms & 0xFFFFFFFFFFFF) << 80
        | 0x7 << 76
        | (bits >> 62) << 64
        | 0x2 << 62
        | bits & 0x3FFFFFFFFFFFFFFF
    )
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def format_timestamp(timestamp_ms: int) -> str:
    """Write a moment as ISO 8601 in UTC with three digits, so that text order is time order.

    Six digits are misread by common Kafka tools, which take them for milliseconds.
    """
    moment = _EPOCH + timedelta(milliseconds=timestamp_ms)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{timestamp_ms % 1000:03}Z"


def parse_timestamp(text: str) -> int:
    """Read an ISO 8601 moment into milliseconds since 1970; what is finer is cut off.

    Raises:
        ValueError: It is not ISO 8601, or has no offset from UTC.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no offset from UTC; append Z")
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def encode_record(record: Record) -> bytes:
    """Write the JSON of ``schemas/bus-record.v1.json``.

    Exactly one of ``payload`` (text, when the bytes are UTF-8) and ``payloadBase64`` is there: a
    member that says nothing is left out, never null.
    """
    members: dict[str, Any] = {"topic": record.topic}
    try:
        members["payload"] = record.payload.decode()
    except UnicodeDecodeError:
        members["payloadBase64"] = base64.b64encode(record.payload).decode()
    members["timestamp"] = format_timestamp(record.timestamp_ms)
    members["qos"] = record.qos
    members["retained"] = record.retained
    members["clientId"] = record.client_id
    members["id"] = record.id
    return orjson.dumps(members)


def decode_record(data: bytes, *, offset: int) -> Record:
    """Read a record back; members it does not know are ignored.

    Raises:
        InvalidRecord: It is not JSON, or a member is missing or of the wrong type.
    """
    try:
        members = orjson.loads(data)
        encoded = members.get("payloadBase64")
        if encoded is None:
            payload = members["payload"].encode()
        else:
            payload = base64.b64decode(encoded, validate=True)
        qos = members["qos"]
        if qos not in {0, 1, 2}:
            raise InvalidRecord(f"qos is {qos!r}")
        return Record(
            str(members["topic"]),
            payload,
            qos,
            bool(members["retained"]),
            str(members["clientId"]),
            parse_timestamp(members["timestamp"]),
            offset,
            members.get("id"),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise InvalidRecord(f"not a bus record: {exc}") from exc
