"""The bus record: a message, or facts of the broker, as it stands in the log, and its JSON form.

The JSON is the contract with ``jq``, Spark and Flink (``schemas/bus-record.v1.json``); inside one
process a record is a light object and JSON is made only where somebody wants JSON.
"""

import base64
import random
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import orjson

from monstermq_shared.errors import InvalidRecord

CONTROL_TOPIC = "$SYS/bus/control"
"""The topic, and key, of control records on the bus: markers, acknowledgements, releases, drops."""

SESSION_TOPIC = "$SYS/bus/session"
"""The topic, and key, of control records in the sessions log: claims and session facts."""

CONTROL_KIND = 1
"""The kind of a control record nobody says the kind of; see ``bus.header.Kind``."""

TIMESTAMP_MS_MAX = 253_402_300_799_999
"""The last moment that can be written: 9999-12-31T23:59:59.999Z."""

PACKET_ID_MAX = 65_535

OFFSET_MAX = 2**63 - 1
"""The highest offset, and epoch, that a log or a row can have."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ENDS = tuple(f"{ms:03}Z" for ms in range(1000))  # made once: a time is written for each record
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

    def at(self, offset: int) -> "Record":
        """Return the same record at an offset."""
        return Record(
            self.topic,
            self.payload,
            self.qos,
            self.retained,
            self.client_id,
            self.timestamp_ms,
            offset,
            self.id,  # made now, so that both have the same
        )

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


class StampedRecord(Record):
    """A QoS 2 publish of a kept session: it counts only if no newer connection has fenced it (R3).

    Attributes:
        packet_id: Of the publish.
        epoch: Of the connection it came by.
    """

    __slots__ = ("epoch", "packet_id")

    def __init__(self, record: Record, packet_id: int, epoch: int) -> None:
        super().__init__(
            record.topic,
            record.payload,
            record.qos,
            record.retained,
            record.client_id,
            record.timestamp_ms,
            record.offset,
            record.id,
        )
        self.packet_id = packet_id
        self.epoch = epoch

    def at(self, offset: int) -> "StampedRecord":
        """See ``Record.at``."""
        return StampedRecord(super().at(offset), self.packet_id, self.epoch)


class ControlRecord(Record):
    """Facts of the broker itself, in one of the two logs of a bus. No client published it.

    Attributes:
        payload: The control text, as ``bus.control.decode_facts`` reads it.
        kind: What the facts are, so that a reader can skip them; see ``bus.header.Kind``.
    """

    __slots__ = ("kind",)

    def __init__(
        self, topic: str, payload: bytes, timestamp_ms: int, offset: int, kind: int = CONTROL_KIND
    ) -> None:
        super().__init__(topic, payload, 0, False, "", timestamp_ms, offset, "")
        self.kind = kind

    def at(self, offset: int) -> "ControlRecord":
        """See ``Record.at``."""
        return ControlRecord(self.topic, self.payload, self.timestamp_ms, offset, self.kind)


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
    seconds, ms = divmod(timestamp_ms, 1000)
    return _second(seconds) + _ENDS[ms]


@lru_cache(maxsize=16)
def _second(seconds: int) -> str:
    """Return all of a text but its milliseconds; those of one time are written many times."""
    return f"{_EPOCH + timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%S}."


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
    """Write the JSON of ``schemas/bus-record.v1.json``: a member that says nothing is left out.

    Exactly one of ``payload`` and ``payloadBase64`` is there: text, unless the bytes are no UTF-8
    or base64 is shorter than the text with its escapes.
    """
    members: dict[str, Any] = {"topic": record.topic}
    if isinstance(record, ControlRecord):
        members["timestamp"] = format_timestamp(record.timestamp_ms)
        members["control"] = record.payload.decode()
        return orjson.dumps(members)
    name, text = payload_member(record.payload)
    members[name] = orjson.Fragment(text)
    members["timestamp"] = format_timestamp(record.timestamp_ms)
    members["qos"] = record.qos
    members["retained"] = record.retained
    members["clientId"] = record.client_id
    members["id"] = record.id
    if isinstance(record, StampedRecord):
        members["packetId"] = record.packet_id
        members["epoch"] = record.epoch
    return orjson.dumps(members)


def payload_member(payload: bytes) -> tuple[str, bytes]:
    """Return the name of the member a payload is written in, and the JSON of its value."""
    try:
        text = orjson.dumps(payload.decode())
    except UnicodeDecodeError:
        return "payloadBase64", b'"%b"' % base64.b64encode(payload)
    if len(text) - 2 > base64_size(len(payload)):
        return "payloadBase64", b'"%b"' % base64.b64encode(payload)
    return "payload", text


def base64_size(size: int) -> int:
    """Return how many bytes so many bytes take in base64."""
    return (size + 2) // 3 * 4


def decode_record(
    data: bytes, *, offset: int, kind: int | None = None, timestamp_ms: int | None = None
) -> Record:
    """Read a record back; members it does not know are ignored.

    Args:
        data: The JSON.
        offset: Where it stands.
        kind: What its header says it is; None if it has none, then its members tell.
        timestamp_ms: The time the log has for it; None if it has none. It is that of the JSON, and
            knowing it saves reading that.

    Raises:
        InvalidRecord: It is not JSON, a member is missing or of the wrong type, or it is not what
            its header says.
    """
    try:
        members = orjson.loads(data)
        at_ms = _time(members, timestamp_ms)
        topic = _text(members, "topic")
        if kind if kind is not None else "control" in members:
            text = _text(members, "control")
            return _control(topic, text, at_ms, offset, kind or CONTROL_KIND)
        return _message(members, topic, at_ms, offset)
    except (ValueError, KeyError, TypeError, OverflowError) as exc:
        raise InvalidRecord(f"not a bus record: {exc}") from exc


def _control(topic: str, text: str, timestamp_ms: int, offset: int, kind: int) -> ControlRecord:
    if topic not in {CONTROL_TOPIC, SESSION_TOPIC}:
        raise ValueError(f"control record of topic {topic!r}")
    return ControlRecord(topic, text.encode(), timestamp_ms, offset, kind)


def _message(members: dict[str, Any], topic: str, timestamp_ms: int, offset: int) -> Record:
    if "control" in members:
        raise ValueError("a message has no member control")
    if "payloadBase64" not in members:
        payload = _text(members, "payload").encode()
    elif "payload" not in members:
        payload = base64.b64decode(_text(members, "payloadBase64"), validate=True)
    else:
        raise ValueError("payload and payloadBase64")
    qos, retained = members["qos"], members["retained"]
    if type(qos) is not int or not 0 <= qos <= 2:
        raise ValueError(f"qos is {qos!r}")
    if type(retained) is not bool:
        raise TypeError(f"retained is {retained!r}")
    record = Record(
        topic,
        payload,
        qos,
        retained,
        _text(members, "clientId"),
        timestamp_ms,
        offset,
        _text(members, "id") if "id" in members else None,
    )
    if "packetId" in members and "epoch" in members:
        packet_id = _whole(members, "packetId", 1, PACKET_ID_MAX)
        return StampedRecord(record, packet_id, _whole(members, "epoch", 0, OFFSET_MAX))
    return record


def _time(members: dict[str, Any], expected_ms: int | None) -> int:
    text = _text(members, "timestamp")
    if expected_ms is not None and format_timestamp(expected_ms) == text:
        return expected_ms
    timestamp_ms = parse_timestamp(text)
    if not 0 <= timestamp_ms <= TIMESTAMP_MS_MAX:
        raise ValueError(f"timestamp is {text!r}")
    return timestamp_ms


def _text(members: dict[str, Any], name: str) -> str:
    value = members[name]
    if type(value) is not str:
        raise TypeError(f"{name} is {value!r:.100}, not text")
    return value


def _whole(members: dict[str, Any], name: str, lowest: int, highest: int) -> int:
    value = members[name]
    if type(value) is not int or not lowest <= value <= highest:
        raise TypeError(f"{name} is {value!r:.100}, not a whole number from {lowest} to {highest}")
    return value
