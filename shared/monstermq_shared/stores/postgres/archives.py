"""Archives in PostgreSQL, which TimescaleDB may keep as hypertables."""

import asyncio
import logging

import asyncpg

from monstermq_shared.records import Record
from monstermq_shared.stores.changes import ArchiveChanges
from monstermq_shared.stores.ports import HISTORY_SIZE_MAX, check_limit
from monstermq_shared.stores.postgres.connection import Connection
from monstermq_shared.stores.postgres.copying import RECORD_COLUMNS, copy_rows, encode_record
from monstermq_shared.stores.postgres.readers import Readers
from monstermq_shared.stores.postgres.rows import FRAGMENTS, Place, record_arrays, record_parts
from monstermq_shared.stores.postgres.tables import TableKind, columns
from monstermq_shared.stores.sql import fill_in, load_queries

logger = logging.getLogger(__name__)

QUERIES = fill_in(load_queries(__package__, "archive.sql"), FRAGMENTS)

KIND = TableKind(
    name="archive",
    create=[QUERIES["table"], QUERIES["topic_index"]],
    columns=columns(
        "topic text, time timestamp with time zone, payload_blob bytea, payload text, "
        "payload_json jsonb, qos smallint, retained boolean, client_id text, "
        "message_uuid character varying(36), generation smallint, partition integer, "
        "position bigint, properties jsonb, expires_at timestamp with time zone"
    ),
    key=["time", "generation", "partition", "position"],
)

PURGE_ROWS_MAX = 5_000
"""Rows that one statement deletes."""

_ROWS_MAX = 2**31
_MOMENT_MS_MAX = 253_402_300_800_000  # the year 10000: nothing we write is later
_READ_IN_ONE_GO = 1_000


class PostgresArchiveStore:
    """One row per record.

    Args:
        name: The store's name, as the configuration has it.
        table: Its table, as ``sql.table_name`` returns it.
        readers: Where to read and purge.
    """

    def __init__(self, name: str, table: str, readers: Readers) -> None:
        self.name = name
        self._table = table
        self._readers = readers
        self._queries = fill_in(QUERIES, {"table": table})

    async def apply(
        self, connection: Connection, place: Place, changes: ArchiveChanges, *, careful: bool
    ) -> None:
        """Append the records in the transaction that is open.

        Args:
            connection: Where.
            place: The partition they are of.
            changes: The records.
            careful: Whether some may be there already. They stay as they are.

        Raises:
            asyncpg.UniqueViolationError: One is there, and this was not careful.
        """
        if careful:
            for part in record_parts(changes):
                await connection.execute(self._queries["append"], *record_arrays(part), *place)
            return
        await copy_rows(
            connection,
            self._table,
            [*RECORD_COLUMNS, "payload_blob"],
            (encode_record(record, place) for record in changes),
        )

    async def history(
        self,
        topic: str,
        *,
        start_ms: int | None = None,
        end_ms: int | None = None,
        limit: int = 1000,
        newest_first: bool = True,
        size_max: int = HISTORY_SIZE_MAX,
    ) -> list[Record]:
        """Return a topic's records with start <= time <= end, ordered by (time, position)."""
        check_limit(limit)
        rows = await self._readers.fetch(
            self._queries["newest_first" if newest_first else "oldest_first"],
            *(topic, _bound(start_ms), _bound(end_ms), min(limit, _ROWS_MAX), size_max),
        )
        records: list[Record] = []
        for start in range(0, len(rows), _READ_IN_ONE_GO):
            records += [Record(*row) for row in rows[start : start + _READ_IN_ONE_GO]]
            await asyncio.sleep(0)
        return records

    async def purge(self, *, before_ms: int, limit: int) -> int:
        """Delete up to ``limit`` records older than that; return how many there were."""
        return await self._readers.delete(
            self._queries["purge"], _within(before_ms), limit=limit, rows_max=PURGE_ROWS_MAX
        )


async def make_hypertable(connection: Connection, where: str, table: str) -> None:
    """Let TimescaleDB partition an archive by time, if the database has the extension.

    Without it, or if it refuses, the table stays an ordinary one, which does everything as well;
    a refusal is logged.

    Args:
        connection: Outside of a transaction.
        where: The database, as messages name it.
        table: An archive that has just been made.

    Raises:
        asyncpg.PostgresConnectionError, OSError: The connection was lost.
    """
    schema = await connection.fetchval(QUERIES["timescale_schema"])
    if schema is None:
        return
    statement = fill_in(QUERIES, {"table": table, "timescale": schema})["hypertable"]
    try:
        await connection.execute(statement)
    except asyncpg.PostgresConnectionError:
        raise
    except asyncpg.PostgresError as exc:
        logger.warning(
            "PostgreSQL at %s: TimescaleDB does not make %s a hypertable, it stays an ordinary "
            "table: %s",
            *(where, table, exc),
        )
    else:
        logger.info("PostgreSQL at %s: %s is a TimescaleDB hypertable", where, table)


def _within(moment_ms: int) -> int:
    """Return a moment that the server can read and that comes before and after the same records."""
    return max(0, min(moment_ms, _MOMENT_MS_MAX))


def _bound(moment_ms: int | None) -> int | None:
    return None if moment_ms is None else _within(moment_ms)
