"""COPY: rows in the server's binary form, which is the fastest way into a table.

They are made as they are sent, and sent in small pieces, so that the event loop is never held.
"""

import asyncio
import struct
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import TypeAlias

import asyncpg

from monstermq_shared.errors import StoreDamaged
from monstermq_shared.records import Record
from monstermq_shared.stores.postgres.connection import Connection
from monstermq_shared.stores.postgres.rows import MESSAGE_UUID_LENGTH, Place, message_uuid

_PLACE_COLUMNS = ("time", "generation", "qos", "partition", "position", "retained")

RECORD_COLUMNS = (*_PLACE_COLUMNS, "topic", "client_id", "message_uuid")
"""What ``encode_record`` writes, in this order; the payload follows, whatever its column is."""

TOPIC_COLUMNS = (*_PLACE_COLUMNS, "topic", "client_id", "topic_digest", "message_uuid")
"""The same where the digest of the topic is given."""

LINK_COLUMNS = ("client_digest", "generation", "partition", "position", "qos", "size")
"""What ``encode_link`` writes, in this order."""

PIECE_SIZE = 64 * 1024
"""Bytes that are written at once; a piece may be longer by one row."""

EncodedRow: TypeAlias = tuple[bytes, bytes]
"""A row in two parts: a payload may be large, and is sent as it is."""

_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER = b"\xff\xff"
# The server counts microseconds, and from 2000.
_EPOCH_US = 946_684_800_000_000
# The number of columns, then each with its length before it.
_pack_fixed = struct.Struct("!hiqihihiiiqi?i").pack
_pack_uuid = struct.Struct("!i36si").pack
_pack_link = struct.Struct("!hi16sihiiiqihiq").pack
_pack_length = struct.Struct("!i").pack


def encode_record(record: Record, place: Place, *, topic_digest: bytes = b"") -> EncodedRow:
    """Return the row of a record.

    Args:
        record: What it says.
        place: Its partition.
        topic_digest: For tables that have it.
    """
    topic = record.topic.encode()
    client_id = record.client_id.encode()
    payload = record.payload
    generation, partition = place
    columns = len(RECORD_COLUMNS) + 1
    if topic_digest:
        columns += 1
        topic_digest = _pack_length(len(topic_digest)) + topic_digest
    uuid = record.id.encode()
    if len(uuid) == MESSAGE_UUID_LENGTH:
        tail = _pack_uuid(MESSAGE_UUID_LENGTH, uuid, len(payload))
    else:
        uuid = message_uuid(record).encode()
        tail = _pack_length(len(uuid)) + uuid + _pack_length(len(payload))
    time_us = record.timestamp_ms * 1000 - _EPOCH_US
    fixed = _pack_fixed(
        *(columns, 8, time_us, 2, generation, 2, record.qos, 4, partition, 8, record.offset),
        *(1, record.retained, len(topic)),
    )
    texts = (fixed, topic, _pack_length(len(client_id)), client_id, topic_digest, tail)
    return b"".join(texts), payload


def encode_link(client_digest: bytes, place: Place, link: tuple[int, int, int]) -> EncodedRow:
    """Return a row of ``queuedmessagesclients``.

    Args:
        client_digest: For whom.
        place: The partition of the message.
        link: Offset of the message, QoS of the delivery, size of the record.
    """
    generation, partition = place
    offset, qos, size = link
    row = _pack_link(
        *(6, 16, client_digest, 2, generation, 4, partition, 8, offset, 2, qos, 8, size)
    )
    return row, b""


async def copy_rows(
    connection: Connection,
    table: str,
    columns: Sequence[str],
    rows: Iterable[EncodedRow],
    *,
    schema: str | None = None,
) -> None:
    """Copy rows into a table.

    Args:
        connection: Where.
        table: Its name.
        columns: What the rows have, in order.
        rows: Asked for one by one, as they are sent.
        schema: Where the table is, if the search path does not tell.

    Raises:
        StoreDamaged: A column has another type than the rows were encoded for.
        asyncpg.PostgresError, OSError: The server refused, or the connection was lost.
    """
    try:
        await connection.copy_to_table(
            table, schema_name=schema, source=pieces(rows), columns=columns, format="binary"
        )
    except (asyncpg.InvalidBinaryRepresentationError, asyncpg.ProtocolViolationError) as exc:
        raise StoreDamaged(
            f"table {table} is not as the broker made it: somebody else has altered a column "
            f"({exc}); undo that, or go back to a backup"
        ) from exc


async def pieces(rows: Iterable[EncodedRow]) -> AsyncIterator[bytes]:
    """Yield what COPY reads; after each piece, others have their turn."""
    yield _HEADER
    for piece in _joined(rows):
        for start in range(0, len(piece), PIECE_SIZE):
            yield piece[start : start + PIECE_SIZE]
            await asyncio.sleep(0)
    yield _TRAILER


def _joined(rows: Iterable[EncodedRow]) -> Iterator[bytes]:
    """Join what is small to pieces; a large payload is one by itself."""
    piece: list[bytes] = []
    size = 0
    for row, payload in rows:
        piece.append(row)
        size += len(row) + len(payload)
        is_large = len(payload) > PIECE_SIZE
        if not is_large:
            piece.append(payload)
        if size >= PIECE_SIZE:
            yield b"".join(piece)
            piece.clear()
            size = 0
        if is_large:
            yield payload
    if piece:
        yield b"".join(piece)
