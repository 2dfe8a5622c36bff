"""What is appended to a partition, before it is records: runs of messages, a record, facts."""

from collections.abc import Iterator, Sequence
from typing import Final

from monstermq_shared.bus.control import ControlText
from monstermq_shared.bus.header import (
    CONTROL_HEADER,
    HEADER,
    KIND_SHIFT,
    STAMPED,
    flags_of,
)
from monstermq_shared.bus.kafka.encoding import RunEncoder
from monstermq_shared.config import KIB
from monstermq_shared.errors import BusRefused
from monstermq_shared.messages import MessageRun
from monstermq_shared.records import ControlRecord, Record, encode_record, size_of

RECORD_OVERHEAD: Final = 300
"""Bytes a record takes beside its texts, about: its JSON's names and times, headers, objects."""

RUNS_SIZE_MAX: Final = 64 * KIB
"""Bytes, about, after which runs that wait begin another piece: all of a piece is told together."""

ALIKE_MS: Final = 1_000
"""Records whose times differ by no more are refused together for their time: if this machine's
clock goes wrong, Kafka refuses all of them. So a piece has no others."""

Headers = list[tuple[str, bytes]]
KafkaFields = tuple[int, bytes, bytes, Headers]
"""Time in milliseconds, key, value, headers: what aiokafka's batch takes."""


_FLAGS: Final = [bytes([flags]) for flags in range(256)]


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

    def refuse(self, first: int, count: int, error: BusRefused) -> None:
        """Note that Kafka will not take records of it.

        Args:
            first: The index of the first of them.
            count: How many.
            error: Why.
        """
        self.error = error

    def refused_count(self) -> int:
        """Return of how many records nothing is known, because one of them was refused."""
        return self.count

    def outcomes(self) -> list[tuple[object, BusRefused | None]]:
        """Return each ticket and why it is refused; None: it is appended."""
        return [(ticket, self.error) for ticket in self.tickets]

    def flags(self) -> int:
        """Return the first byte of the header."""
        raise NotImplementedError

    def values(self) -> Sequence[bytes]:
        """Return the value of each record."""
        raise NotImplementedError


_Run = tuple[bytes, MessageRun, str, int, object | None]
"""Topic, messages, client id, time, ticket; plain, because one is made per run and chunk."""


class RunsPiece(Piece):
    """Runs of messages that wait one behind the other; it takes more until a batch takes it.

    A publisher that changes its topic with each message makes runs of one, and a piece for each
    would cost as much as its JSON. Its time is that of the first.
    """

    __slots__ = ("_encoder", "_refused", "_runs")

    def __init__(self, time_ms: int, writer: bytes, sequence: int, encoder: RunEncoder) -> None:
        super().__init__(time_ms, b"", writer, sequence, 0, 0, None)
        self._encoder = encoder
        self._runs: list[_Run] = []
        self._refused: list[range] = []

    def takes(self, time_ms: int) -> bool:
        """Return whether it may take another run, of this time."""
        return self.size < RUNS_SIZE_MAX and 0 <= time_ms - self.time_ms <= ALIKE_MS

    def add(
        self, topic: bytes, run: MessageRun, client_id: str, time_ms: int, ticket: object | None
    ) -> int:
        """Take a run behind the others; return by how much the piece has become larger."""
        count = run.count
        self._runs.append((topic, run, client_id, time_ms, ticket))
        self.count = self.left = self.count + count
        grown = run.size + count * (RECORD_OVERHEAD + 2 * len(topic))
        self.size += grown
        return grown

    def fields(self) -> list[KafkaFields]:
        """See ``Piece.fields``."""
        if self._fields is None:
            self._fields = self._made()
        return self._fields

    def _made(self) -> list[KafkaFields]:
        fields: list[KafkaFields] = []
        append, encode = fields.append, self._encoder.encode
        writer, number = self.writer, self.sequence
        for topic, run, client_id, time_ms, _ in self._runs:
            stamped = 0 if run.epoch is None else STAMPED
            head = _FLAGS[run.qos | run.retain << 2 | stamped] + writer
            for value in encode(topic, run, client_id, time_ms):
                append((time_ms, topic, value, [(HEADER, head + number.to_bytes(8, "big"))]))
                number += 1
        return fields

    def refuse(self, first: int, count: int, error: BusRefused) -> None:
        """See ``Piece.refuse``."""
        self.error = error
        self._refused.append(range(first, first + count))

    def refused_count(self) -> int:
        """See ``Piece.refused_count``."""
        return sum(run.count for (_, run, *_), refused in self._told() if refused)

    def outcomes(self) -> list[tuple[object, BusRefused | None]]:
        """See ``Piece.outcomes``."""
        if self.error is None:
            return [(ticket, None) for *_, ticket in self._runs if ticket is not None]
        return [
            (ticket, self.error if refused else None)
            for (*_, ticket), refused in self._told()
            if ticket is not None
        ]

    def _told(self) -> Iterator[tuple[_Run, bool]]:
        """Yield each run, and whether one of its records was refused."""
        first = 0
        for one in self._runs:
            stop = first + one[1].count
            yield one, any(at.start < stop and first < at.stop for at in self._refused)
            first = stop


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
