"""Records as rows: in the binary form that COPY takes, and as arrays for ``unnest``."""

import asyncio
import hashlib
import struct
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple, TypeVar

import asyncpg

from monstermq_shared.errors import StoreDamaged
from monstermq_shared.records import Record, size_of
from monstermq_shared.stores.postgres.connection import Connection
from monstermq_shared.stores.sql import fill_in, load_queries

T = TypeVar("T")

_FRAGMENTS = load_queries(__package__, "fragments.sql")

FRAGMENTS = fill_in(_FRAGMENTS, _FRAGMENTS)
"""Columns of records, for use in other statements."""

ROWS_MAX = 500
"""Rows that one statement carries: they are written in one go, while the event loop waits."""

SIZE_MAX = 256 * 1024
"""Bytes of records after which it carries no more."""

MESSAGE_UUID_LENGTH_MAX = 36

COPIED_COLUMNS = (
    "time",
    "generation",
    "qos",
    "partition",
    "position",
    "retained",
    "topic",
    "client_id",
    "message_uuid",
)
"""What ``encode_row`` writes, in this order; the payload follows, whatever its column is called."""

LINK_COLUMNS = ("client_digest", "generation", "partition", "position", "qos", "size")
"""What ``encode_link`` writes, in this order."""

_PIECE_SIZE = 64 * 1024
_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER = b"\xff\xff"
# The server counts microseconds, and from 2000.
_EPOCH_US = 946_684_800_000_000
# The number of columns, then each with its length before it.
_FIXED = struct.Struct("!hiqihihiiiqi?i")
_LINK = struct.Struct("!hi16sihiiiqihiq")
_pack_length = struct.Struct("!i").pack


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
    return record.id[:MESSAGE_UUID_LENGTH_MAX]


def encode_row(record: Record, place: Place) -> bytes:
    """Return the row of a record, ``COPIED_COLUMNS`` and payload, as COPY reads it."""
    topic = record.topic.encode()
    client_id = record.client_id.encode()
    uuid = message_uuid(record).encode()
    payload = record.payload
    generation, partition = place
    fixed = _FIXED.pack(
        *(10, 8, record.timestamp_ms * 1000 - _EPOCH_US, 2, generation, 2, record.qos),
        *(4, partition, 8, record.offset, 1, record.retained, len(topic)),
    )
    lengths = _pack_length(len(client_id)), _pack_length(len(uuid)), _pack_length(len(payload))
    return b"".join((fixed, topic, lengths[0], client_id, lengths[1], uuid, lengths[2], payload))


def encode_link(client_digest: bytes, place: Place, link: tuple[int, int, int]) -> bytes:
    """Return a row of ``queuedmessagesclients`` as COPY reads it.

    Args:
        client_digest: For whom.
        place: The partition of the message.
        link: Offset of the message, QoS of the delivery, size of the record.
    """
    generation, partition = place
    offset, qos, size = link
    return _LINK.pack(
        *(6, 16, client_digest, 2, generation, 4, partition, 8, offset, 2, qos, 8, size)
    )


async def copy_rows(
    connection: Connection, table: str, columns: Sequence[str], rows: Iterable[bytes]
) -> None:
    """Copy encoded rows into a table: made as they are sent, so others have their turn.

    Raises:
        StoreDamaged: A column has another type than the rows were encoded for.
        asyncpg.PostgresError, OSError: The server refused, or the connection was lost.
    """
    try:
        await connection.copy_to_table(
            table, source=_pieces(rows), columns=columns, format="binary"
        )
    except (asyncpg.InvalidBinaryRepresentationError, asyncpg.ProtocolViolationError) as exc:
        raise StoreDamaged(
            f"table {table} is not as the broker made it: somebody else has altered a column "
            f"({exc}); undo that, or go back to a backup"
        ) from exc


async def _pieces(rows: Iterable[bytes]) -> AsyncIterator[bytes]:
    """Yield what COPY reads."""
    yield _HEADER
    for piece in _joined(rows):
        for start in range(0, len(piece), _PIECE_SIZE):
            yield piece[start : start + _PIECE_SIZE]
            await asyncio.sleep(0)
    yield _TRAILER


def _joined(rows: Iterable[bytes]) -> Iterator[bytes]:
    """Join rows to pieces; only a row that is larger by itself makes one larger."""
    piece: list[bytes] = []
    size = 0
    for row in rows:
        piece.append(row)
        size += len(row)
        if size >= _PIECE_SIZE:
            yield b"".join(piece)
            piece.clear()
            size = 0
    if piece:
        yield b"".join(piece)


def parts(items: Iterable[T]) -> Iterator[list[T]]:
    """Split what is written, one item a row, into what one statement carries."""
    iterator = iter(items)
    while part := list(islice(iterator, ROWS_MAX)):
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
