"""What is appended to a partition, before it is records: a run of messages, a record, facts."""

from collections.abc import Sequence

from monstermq_shared.bus.control import ControlText
from monstermq_shared.bus.header import (
    CONTROL_HEADER,
    HEADER,
    KIND_SHIFT,
    flags_of,
)
from monstermq_shared.bus.kafka.encoding import RunEncoder
from monstermq_shared.errors import BusRefused
from monstermq_shared.messages import MessageRun
from monstermq_shared.records import ControlRecord, Record, encode_record, size_of

RECORD_OVERHEAD = 300
"""Bytes a record takes beside its texts, about: its JSON's names and times, headers, objects."""

Headers = list[tuple[str, bytes]]
KafkaFields = tuple[int, bytes, bytes, Headers]
"""Time in milliseconds, key, value, headers: what aiokafka's batch takes."""


_FLAGS = [bytes([flags]) for flags in range(256)]


class Piece:
    """Consecutive sequences of one writer in one partition, with one key.

    Attributes:
        time_ms: Of all its records.
        key: Of all its records.
        writer: The run.
        sequence: Of the first record.
        count: How many records.
        size: Bytes, about.
        tickets: What whoever appended it is told by.
        left: How many of its records are not known to be appended or refused.
        error: Why one of them was refused.
    """

    __slots__ = (
        "_fields",
        "count",
        "error",
        "key",
        "left",
        "sequence",
        "size",
        "tickets",
        "time_ms",
        "writer",
    )

    time_ms: int
    key: bytes
    writer: bytes
    sequence: int
    count: int
    size: int
    tickets: Sequence[object]
    left: int
    error: BusRefused | None
    _fields: list[KafkaFields] | None

    def __init__(  # noqa: PLR0913, PLR0917 - positional, because one is made per record
        self,
        time_ms: int,
        key: bytes,
        writer: bytes,
        sequence: int,
        count: int,
        size: int,
        ticket: object | None,
    ) -> None:
        self.time_ms = time_ms
        self.key = key
        self.writer = writer
        self.sequence = sequence
        self.count = count
        self.size = size
        self.tickets = () if ticket is None else (ticket,)
        self.left = count
        self.error = None
        self._fields = None

    def fields(self) -> list[KafkaFields]:
        """Return what each record is for Kafka: always the same, because R1 repeats it."""
        fields = self._fields
        if fields is None:
            time_ms, key, flags = self.time_ms, self.key, self.flags()
            head = _FLAGS[flags] + self.writer
            more: Headers = [(CONTROL_HEADER, b"")] if flags >> KIND_SHIFT else []
            fields = self._fields = [
                (time_ms, key, value, [(HEADER, head + number.to_bytes(8, "big")), *more])
                for number, value in enumerate(self.values(), self.sequence)
            ]
        return fields

    def flags(self) -> int:
        """Return the first byte of the header."""
        raise NotImplementedError

    def values(self) -> Sequence[bytes]:
        """Return the value of each record."""
        raise NotImplementedError


class RunPiece(Piece):
    """A run of messages. One is made per run and chunk, so it does all by itself."""

    __slots__ = ("_client_id", "_encoder", "_run")

    def __init__(  # noqa: PLR0913, PLR0917 - as above
        self,
        topic: bytes,
        run: MessageRun,
        client_id: str,
        time_ms: int,
        writer: bytes,
        sequence: int,
        ticket: object | None,
        encoder: RunEncoder,
    ) -> None:
        count = run.count
        self.time_ms = time_ms
        self.key = topic
        self.writer = writer
        self.sequence = sequence
        self.count = self.left = count
        self.size = run.size + count * (RECORD_OVERHEAD + 2 * len(topic))
        self.tickets = () if ticket is None else (ticket,)
        self.error = None
        self._fields = None
        self._run = run
        self._client_id = client_id
        self._encoder = encoder

    def fields(self) -> list[KafkaFields]:
        """See ``Piece.fields``."""
        fields = self._fields
        if fields is None:
            run, time_ms, key, number = self._run, self.time_ms, self.key, self.sequence
            values = self._encoder.encode(key, run, self._client_id, time_ms)
            head = _FLAGS[run.qos | run.retain << 2] + self.writer
            if self.count == 1:
                fields = [(time_ms, key, values[0], [(HEADER, head + number.to_bytes(8, "big"))])]
            else:
                fields = [
                    (time_ms, key, value, [(HEADER, head + number.to_bytes(8, "big"))])
                    for number, value in enumerate(values, number)
                ]
            self._fields = fields
        return fields


class RecordPiece(Piece):
    """One record, whatever it is."""

    __slots__ = ("_record",)

    def __init__(self, record: Record, writer: bytes, sequence: int, ticket: object | None) -> None:
        key = record.topic.encode()
        size = size_of(record) + len(key) + RECORD_OVERHEAD
        super().__init__(record.timestamp_ms, key, writer, sequence, 1, size, ticket)
        self._record = record

    def flags(self) -> int:
        """See ``Piece.flags``."""
        return flags_of(self._record)

    def values(self) -> Sequence[bytes]:
        """See ``Piece.values``."""
        return (encode_record(self._record),)


class FactsPiece(Piece):
    """A control record that takes facts until its turn ends.

    Attributes:
        text: Takes the facts.
        waiting: Takes their tickets.
    """

    __slots__ = ("_topic", "text", "waiting")

    waiting: list[object]

    def __init__(self, topic: str, time_ms: int, writer: bytes, sequence: int) -> None:
        super().__init__(time_ms, topic.encode(), writer, sequence, 1, RECORD_OVERHEAD, None)
        self._topic = topic
        self.text = ControlText()
        self.tickets = self.waiting = []

    def grow(self) -> int:
        """Take the size of the text, and return by how much the piece has become larger."""
        size = RECORD_OVERHEAD + self.text.size
        grown, self.size = size - self.size, size
        return grown

    def flags(self) -> int:
        """See ``Piece.flags``."""
        return self.text.kind << KIND_SHIFT

    def values(self) -> Sequence[bytes]:
        """See ``Piece.values``."""
        record = ControlRecord(self._topic, self.text.close(), self.time_ms, 0, self.text.kind)
        return (encode_record(record),)


Part = tuple[Piece, Sequence[KafkaFields]]
"""Consecutive records of one piece in one batch."""

Batch = list[Part]


def count_of(batch: Batch) -> int:
    """Return how many records a batch has."""
    return sum(len(fields) for _, fields in batch)


def halves(batch: Batch) -> tuple[Batch, Batch]:
    """Return the first and the second half of a batch of two records or more."""
    wanted = count_of(batch) // 2
    first: Batch = []
    second: Batch = []
    for piece, fields in batch:
        if wanted:
            first.append((piece, fields[:wanted]))
        if len(fields) > wanted:
            second.append((piece, fields[wanted:]))
        wanted -= min(wanted, len(fields))
    return first, second
