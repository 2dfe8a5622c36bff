"""Records as they come from Kafka: what their headers say, at once; what they hold, on demand."""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from struct import Struct
from typing import Final, Protocol

from monstermq_shared.bus.header import (
    CONTROL_HEADER,
    FOREIGN_FLAGS,
    HEADER,
    HEADER_SIZE,
    KIND_SHIFT,
    QOS,
    RETAIN,
    RUN_SIZE,
    STAMPED,
    Kind,
)
from monstermq_shared.bus.ports import Stamp
from monstermq_shared.bus.runs import Runs
from monstermq_shared.errors import InvalidRecord, InvalidTopic, UnknownFact
from monstermq_shared.records import ControlRecord, Record, StampedRecord, decode_record
from monstermq_shared.topics import TOPIC_SIZE_MAX, check_topic_name

# Not by IGNORECASE, which takes several times as long, for every record that is read.
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_NO_RUN: Final = bytes(8)
_HEADER: Final = Struct(f">B{RUN_SIZE}sQ")
_PLAIN: Final = frozenset(range(QOS))  # messages that are neither retained nor stamped


class KafkaRecord(Protocol):
    """What is used of aiokafka's ``ConsumerRecord``."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]


class KafkaEntry:
    """A record on Kafka, see ``ports.Entry``. One is made for each record that is read.

    Attributes:
        flags, writer, sequence, offset, time_ms, topic: See ``ports.Entry``. The time is Kafka's
            CreateTime, which the record's own JSON repeats.
        source: The record as Kafka has it.
    """

    __slots__ = ("flags", "offset", "sequence", "source", "time_ms", "topic", "writer")

    def __init__(self, source: KafkaRecord, flags: int, writer: bytes, sequence: int) -> None:
        self.source = source
        self.offset = source.offset
        self.time_ms = source.timestamp
        self.topic = source.key or b""
        self.flags = flags
        self.writer = writer
        self.sequence = sequence

    @property
    def key(self) -> str:
        """See ``Entry.key``; of a foreign one, what can be read of it."""
        return self.topic.decode(errors="replace")

    @property
    def kind(self) -> int | None:
        """See ``Entry.kind``."""
        return None if self.flags == FOREIGN_FLAGS else self.flags >> KIND_SHIFT

    @property
    def foreign(self) -> bool:
        """See ``Entry.foreign``."""
        return self.flags == FOREIGN_FLAGS

    @property
    def stamp(self) -> Stamp:
        """See ``Entry.stamp``."""
        return Stamp(self.writer, self.sequence)

    @property
    def size(self) -> int:
        """See ``Entry.size``."""
        return len(self.topic) + len(self.source.value or b"")

    @property
    def raw_key(self) -> bytes:
        """The key as it stands on Kafka."""
        return self.topic

    @property
    def value(self) -> bytes:
        """The value as it stands on Kafka."""
        return self.source.value or b""

    @property
    def headers(self) -> list[tuple[str, bytes]]:
        """The headers as they stand on Kafka."""
        return [(name, value or b"") for name, value in self.source.headers]

    def record(self) -> Record:
        """See ``Entry.record``. What passes here, every store can hold.

        Raises:
            InvalidRecord, UnknownFact: See there.
        """
        flags = self.flags
        if flags == FOREIGN_FLAGS:
            raise InvalidRecord(_why_foreign(self.headers))
        kind = flags >> KIND_SHIFT
        if kind > Kind.LEASE:
            raise UnknownFact(f"record of kind {kind}, which this release does not know")
        record = decode_record(self.value, offset=self.offset, kind=kind, timestamp_ms=self.time_ms)
        if record.topic.encode() != self.topic:
            raise InvalidRecord(f"topic {record.topic[:100]!r} is not the record's key")
        if not isinstance(record, ControlRecord):
            _check_message(record, flags)
        return record


def _check_message(record: Record, flags: int) -> None:
    if (record.qos, record.retained) != (flags & QOS, bool(flags & RETAIN)):
        raise InvalidRecord("qos or retained is not what the header says")
    if isinstance(record, StampedRecord) != bool(flags & STAMPED):
        raise InvalidRecord("packetId and epoch are not what the header says")
    problem = _topic_problem(record.topic)
    if problem is not None:
        raise InvalidRecord(f"topic: {problem}")
    if "\0" in record.client_id:
        raise InvalidRecord("clientId has a NUL")
    if not _UUID.fullmatch(record.id):
        raise InvalidRecord(f"id is {record.id[:100]!r}, not a UUID")


@lru_cache(maxsize=4096)
def _topic_problem(topic: str) -> str | None:
    """Return what MQTT has against a topic name; how many levels it may have is the edge's own."""
    try:
        check_topic_name(topic, levels_max=TOPIC_SIZE_MAX)
    except InvalidTopic as exc:
        return str(exc)
    return None


def _why_foreign(headers: Sequence[tuple[str, bytes]]) -> str:
    if headers and headers[0][0] == HEADER:
        return f"header {HEADER!r} is not one of ours"
    return (
        f"its first header is not {HEADER!r}, so MonsterMQ has not written it: another producer's "
        "partitions are not ours, and it should write to a topic of its own"
    )


def entries_of(records: Iterable[KafkaRecord]) -> list[KafkaEntry]:
    """Return the entries of records in their order, the foreign and the doubled ones among them."""
    entries: list[KafkaEntry] = []
    append, parts = entries.append, _HEADER.unpack
    for record in records:
        headers = record.headers
        header = headers[0][1] if headers and headers[0][0] == HEADER else None
        if header is None or len(header) != HEADER_SIZE:
            append(KafkaEntry(record, FOREIGN_FLAGS, _NO_RUN, 0))
            continue
        flags, writer, sequence = parts(header)
        if flags in _PLAIN or _is_ours(flags, headers):
            append(KafkaEntry(record, flags, writer, sequence))
        else:
            append(KafkaEntry(record, FOREIGN_FLAGS, _NO_RUN, 0))
    return entries


def _is_ours(flags: int, headers: Sequence[tuple[str, bytes | None]]) -> bool:
    if flags < 1 << KIND_SHIFT:
        return flags & QOS != QOS
    # A kind of a later release is ours, too: R6 needs to know of it.
    return flags < 0x80 and len(headers) > 1 and headers[1][0] == CONTROL_HEADER


def new_entries(entries: Iterable[KafkaEntry], runs: Runs) -> list[KafkaEntry]:
    """Return the entries without those that have been there before (R1); these are noted."""
    is_new = runs.is_new
    return [
        entry
        for entry in entries
        if entry.flags == FOREIGN_FLAGS or is_new(entry.writer, entry.sequence, entry.time_ms)
    ]
