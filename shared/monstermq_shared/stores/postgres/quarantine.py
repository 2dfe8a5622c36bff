"""What stands in a log and is no record, in PostgreSQL."""

import base64
from collections.abc import Sequence

import asyncpg
import orjson

from monstermq_shared.positions import Partition
from monstermq_shared.stores.changes import Quarantined
from monstermq_shared.stores.ports import QuarantineEntry
from monstermq_shared.stores.postgres.connection import Connection
from monstermq_shared.stores.postgres.readers import Readers
from monstermq_shared.stores.postgres.rows import FRAGMENTS, Place, arrays
from monstermq_shared.stores.postgres.tables import TableKind, columns
from monstermq_shared.stores.quarantine import ROWS_MAX, SIZE_MAX, kept_size, newest
from monstermq_shared.stores.sql import fill_in, load_queries

_QUERIES = fill_in(load_queries(__package__, "quarantine.sql"), FRAGMENTS)

KINDS = (
    TableKind(
        name="quarantine",
        create=[_QUERIES["quarantine_table"]],
        columns=columns(
            "generation smallint, partition integer, position bigint, "
            "time timestamp with time zone, reason text, key bytea, value bytea, headers json, "
            "size bigint, kept_size bigint"
        ),
        key=["generation", "partition", "position"],
    ),
    TableKind(
        name="quarantine_drops",
        create=[_QUERIES["drops_table"]],
        columns=columns("generation smallint, partition integer, dropped bigint"),
        key=["generation", "partition"],
    ),
)


async def add(connection: Connection, place: Place, records: Sequence[Quarantined]) -> None:
    """Put records of one partition there, in a transaction that is open; old ones make room."""
    kept = newest(records)
    await connection.execute(_QUERIES["add"], *place, *arrays(map(_row, kept)))
    await connection.execute(_QUERIES["trim"], *place, ROWS_MAX, SIZE_MAX, len(records) - len(kept))


async def read_newest(readers: Readers, limit: int) -> list[QuarantineEntry]:
    """Return the newest of all partitions, newest first, without their values."""
    return [_entry(row) for row in await readers.fetch(_QUERIES["newest"], limit)]


async def read_at(readers: Readers, partition: Partition, offset: int) -> QuarantineEntry | None:
    """Return one with its value, None if nothing is kept of that position."""
    rows = await readers.fetch(_QUERIES["at"], *partition, offset)
    return _entry(rows[0]) if rows else None


async def discard(connection: Connection, partition: Partition, offset: int) -> bool:
    """Forget one, in a transaction that is open; return whether it was there."""
    return bool(await connection.fetch(_QUERIES["discard"], *partition, offset))


async def read_counts(readers: Readers) -> tuple[int, int]:
    """Return how many are kept, and how many were dropped to make room."""
    ((kept, dropped),) = await readers.fetch(_QUERIES["counts"])
    return int(kept), int(dropped)


def _row(record: Quarantined) -> tuple[object, ...]:
    headers = [(name, base64.b64encode(value).decode()) for name, value in record.headers]
    return (
        record.offset,
        record.time_ms,
        record.reason,
        record.key,
        record.value,
        orjson.dumps(headers).decode(),
        record.size,
        kept_size(record),
    )


def _entry(row: asyncpg.Record) -> QuarantineEntry:
    generation, partition, offset, time_ms, reason, key, value, headers, size = row
    return QuarantineEntry(
        Partition(generation, partition),
        Quarantined(
            offset=offset,
            time_ms=time_ms,
            reason=reason,
            key=key,
            value=value,
            headers=tuple(
                (name, base64.b64decode(encoded)) for name, encoded in orjson.loads(headers)
            ),
            size=size,
        ),
    )
