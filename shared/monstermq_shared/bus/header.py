"""The header ``m``: what a reader has to know of a record before it decodes anything.

It is the first header of every record on Kafka, 17 bytes: flags, the writer's run, its sequence.
Where a record has none (a log in memory), the same flags are made from the record itself.
"""

import struct
from enum import IntEnum
from typing import Final, NamedTuple

from monstermq_shared.errors import InvalidRecord
from monstermq_shared.records import ControlRecord, Record, StampedRecord

HEADER: Final = "m"
"""The name of the header. A record that does not begin with it is foreign."""

CONTROL_HEADER: Final = "monstermq-control"
"""The second header of control records, empty; a message never has it, so stock tools can drop
what has it (Connect: ``Filter`` with ``HasHeaderKey``)."""

RUN_SIZE: Final = 8
"""Bytes of a run: drawn at random by a process when it starts."""

SEQUENCE_MAX = 2**64 - 1

QOS: Final = 0b0000_0011
"""The bits of the flags that hold the QoS."""

RETAIN: Final = 0b0000_0100
"""The flag of a message with the retain flag."""

STAMPED: Final = 0b0000_1000
"""The flag of a QoS 2 publish of a kept session: it can be fenced (R3)."""

KIND_SHIFT: Final = 4
"""``flags >> KIND_SHIFT`` is the kind, and is 0 for a message and for nothing else."""

FOREIGN_FLAGS: Final = 0xFF
"""The flags of an entry that has no valid header; no valid header has bit 7."""

_LAYOUT = struct.Struct(">B8sQ")
HEADER_SIZE = _LAYOUT.size


class Kind(IntEnum):
    """What a record is."""

    MESSAGE = 0
    """What a client published."""
    CONTROL = 1
    """Facts of the bus: markers, releases, drops, with acknowledgements or without."""
    ACKS = 2
    """Acknowledgements and nothing else: an edge has no use for them."""
    FACTS = 3
    """Session facts."""
    LEASE = 4
    """Leases and gaps: they belong to no client and stand in every sessions partition."""


class Header(NamedTuple):
    """A header that was read.

    Attributes:
        flags: Its first byte.
        run: The writer.
        sequence: Counted by the writer per topic and partition.
    """

    flags: int
    run: bytes
    sequence: int


def pack_header(
    kind: int, qos: int, retain: bool, stamped: bool, run: bytes, sequence: int
) -> bytes:
    """Write the header of one record.

    Args:
        kind: See ``Kind``.
        qos: Of a message, else 0.
        retain: Of a message, else False.
        stamped: Of a message, else False.
        run: 8 bytes.
        sequence: From 0 on.
    """
    assert len(run) == RUN_SIZE
    return _LAYOUT.pack(kind << KIND_SHIFT | stamped << 3 | retain << 2 | qos, run, sequence)


def unpack_header(value: bytes) -> Header:
    """Read a header. A kind of a later release is not refused here: R6 needs to know of it.

    Raises:
        InvalidRecord: These are not 17 bytes, or not ours.
    """
    if len(value) != HEADER_SIZE:
        raise InvalidRecord(f"header {HEADER!r} has {len(value)} bytes, not {HEADER_SIZE}")
    header = Header(*_LAYOUT.unpack(value))
    if header.flags & 0x80 or header.flags & QOS == QOS:
        raise InvalidRecord(f"header {HEADER!r} begins with {header.flags:#04x}: no such flags")
    return header


def flags_of(record: Record) -> int:
    """Return the flags that the header of a record has."""
    if isinstance(record, ControlRecord):
        return record.kind << KIND_SHIFT
    stamped = STAMPED if isinstance(record, StampedRecord) else 0
    return record.qos | record.retained << 2 | stamped
