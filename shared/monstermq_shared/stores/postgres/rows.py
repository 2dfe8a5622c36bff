"""What rows say of records, and how many rows a statement carries."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple, TypeVar

from monstermq_shared.records import Record, size_of
from monstermq_shared.stores.sql import fill_in, load_queries

T = TypeVar("T")

_FRAGMENTS = load_queries(__package__, "fragments.sql")

FRAGMENTS = fill_in(_FRAGMENTS, _FRAGMENTS)
"""Columns of records, for use in other statements."""

ROWS_MAX = 500
"""Rows that one statement carries: they are written in one go, while the event loop waits."""

SIZE_MAX = 256 * 1024
"""Bytes of records after which it carries no more."""

MESSAGE_UUID_LENGTH = 36


class Place(NamedTuple):
    """A partition as rows name it.

    Attributes:
        generation: The number of it in ``generations``.
        partition: From 0.
    """

    generation: int
    partition: int


def digest(text: str) -> bytes:
    """Return what stands for a topic, filter or client id in keys, which cannot hold 64 KiB."""
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def message_uuid(record: Record) -> str:
    """Return a record's id as its column takes it; whoever wrote to the bus may have made it."""
    return record.id[:MESSAGE_UUID_LENGTH]


def fits_one_statement(records: Sequence[Record]) -> bool:
    """Whether one statement carries all of them."""
    return len(records) <= ROWS_MAX and sum(map(size_of, records)) <= SIZE_MAX


def parts(items: Iterable[T], rows_max: int = ROWS_MAX) -> Iterator[list[T]]:
    """Split what is written, one item a row, into what one statement carries."""
    iterator = iter(items)
    while part := list(islice(iterator, rows_max)):
        yield part


def record_parts(records: Iterable[Record]) -> Iterator[list[Record]]:
    """Split records into what one statement carries: they may be large."""
    part: list[Record] = []
    size = 0
    for record in records:
        part.append(record)
        size += size_of(record)
        if len(part) == ROWS_MAX or size >= SIZE_MAX:
            yield part
            part, size = [], 0
    if part:
        yield part


def arrays(rows: Iterable[Sequence[object]]) -> Iterator[Sequence[object]]:
    """Return the columns of rows, of which there is at least one."""
    return zip(*rows, strict=True)


def record_arrays(records: Sequence[Record]) -> tuple[list[object], ...]:
    """Return topics, times in ms, payloads, QoS, retained, clients, ids and offsets of records."""
    return (
        [record.topic for record in records],
        [record.timestamp_ms for record in records],
        [record.payload for record in records],
        [record.qos for record in records],
        [record.retained for record in records],
        [record.client_id for record in records],
        [message_uuid(record) for record in records],
        [record.offset for record in records],
    )
