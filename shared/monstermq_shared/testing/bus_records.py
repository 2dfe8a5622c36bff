"""Records that the bus contract appends, and what it finds of them."""

from collections.abc import Sequence
from time import time_ns

from monstermq_shared.bus.ports import Entry
from monstermq_shared.records import CONTROL_TOPIC, ControlRecord, Record

WRITER, OTHER = b"writer-1", b"writer-2"


def a_record(key: str, payload: bytes = b"") -> Record:
    """Return a record of this key, of now: a server may refuse what is older (R7)."""
    return Record(key, payload, 1, False, key, time_ns() // 1_000_000, 0)


def a_control_record(payload: bytes) -> ControlRecord:
    """Return a control record, of now."""
    return ControlRecord(CONTROL_TOPIC, payload, time_ns() // 1_000_000, 0)


def numbered(key: str, count: int) -> list[Record]:
    """Return records of one key that say 0, 1, 2, ..."""
    return [a_record(key, str(number).encode()) for number in range(count)]


def payloads(entries: Sequence[Entry]) -> list[bytes]:
    """Return what the records of entries say."""
    return [entry.record().payload for entry in entries]
