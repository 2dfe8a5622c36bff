"""Compares rows with what they should be: the server does it, and returns differences only."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

import asyncpg

from monstermq_shared.config.postgres_urls import ConnectionSettings, describe
from monstermq_shared.records import Record
from monstermq_shared.stores.postgres.connection import Connection, connect
from monstermq_shared.stores.postgres.readers import Readers
from monstermq_shared.stores.postgres.rows import Place, digest, record_arrays, record_parts
from monstermq_shared.stores.sql import fill_in, load_queries

QUERIES = load_queries(__package__, "comparing.sql")

STATEMENT_TIMEOUT_S = 24 * 3600.0
"""How long one statement may take: some read a whole table."""

IDLE_S = 3600
"""How long a snapshot may wait for the log that it is compared with."""

_ROWS_AT_ONCE = 5_000


class Reflected(NamedTuple):
    """How far a projection has come in a partition.

    Attributes:
        upto: Its rows reflect everything below.
        began: Where it began; None in rows of a release that did not note it.
    """

    upto: int
    began: int | None


class Difference(NamedTuple):
    """A record that is not in a table as it should be.

    Attributes:
        record: What should be there.
        columns: What is different; nothing where there is no row.
    """

    record: Record
    columns: Sequence[str]


class RowCounts(NamedTuple):
    """How many rows there are.

    Attributes:
        rows: In the part of the log that was asked for.
        older: Below it.
    """

    rows: int
    older: int


class ArchivePart(NamedTuple):
    """A part of an archive.

    Attributes:
        partition: Its number.
        first: The first offset.
        upto: The offset behind the last one.
    """

    partition: int
    first: int
    upto: int


class Comparing:
    """Connections that look into tables, and change nothing.

    Args:
        settings: How to connect.
    """

    def __init__(self, settings: ConnectionSettings) -> None:
        self._settings = settings
        where = describe(settings)
        self._readers = Readers(self._connect, where, size=2, settings=QUERIES["planner"])

    async def _connect(self) -> Connection:
        return await connect(
            self._settings,
            statement_timeout_s=STATEMENT_TIMEOUT_S,
            durable=False,
            idle_in_transaction_s=IDLE_S,
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._readers.close()

    @asynccontextmanager
    async def snapshot(self, tables: Sequence[str]) -> AsyncIterator["Snapshot"]:
        """See one moment of some tables, and of how far they are, for as long as the block lasts.

        Raises:
            StoreError: The server does not answer, or refuses.
        """
        async with (
            self._readers.connection() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            for table in tables:
                await connection.execute(fill_in(QUERIES, {"table": table})["hold"])
            yield Snapshot(connection)


class Snapshot:
    """What is asked of one moment; see ``Comparing.snapshot``.

    Args:
        connection: In a transaction.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def generation(self, generation: str) -> int | None:
        """Return the number that rows have for a log, None if there are none of it."""
        number: int | None = await self._connection.fetchval(QUERIES["generation"], generation)
        return number

    async def reflected(
        self, generation: str, projections: Sequence[str]
    ) -> Mapping[tuple[str, int], Reflected]:
        """Return (projection, partition) -> how far it is."""
        rows = await self._connection.fetch(QUERIES["marks"], generation, [*projections])
        return {(name, number): Reflected(upto, began) for name, number, upto, began in rows}

    async def first_rows(self, table: str, generation: int) -> Mapping[int, int]:
        """Return partition -> the lowest position there."""
        query = fill_in(QUERIES, {"table": table})["first_rows"]
        return {
            row["partition"]: row["first"]
            for row in await self._connection.fetch(query, generation)
        }

    async def archive_differences(
        self, table: str, place: Place, records: Sequence[Record]
    ) -> list[Difference]:
        """Return which records are not in an archive as they are."""
        query = fill_in(QUERIES, {"table": table})["archive_differences"]
        return await self._differences(query, place, records, record_arrays)

    async def archive_doubles(
        self,
        table: str,
        place: Place,
        records: Sequence[Record],
        deleted: range,
        within_ms: int,
    ) -> set[int]:
        """Return the offsets of records that an archive has once already, and not where they stand.

        Args:
            table: The archive.
            place: The partition.
            records: Of it. The table reflects all of them.
            deleted: The offsets at which the same message is looked for.
            within_ms: How far its time may be from the record's.
        """
        if not records:
            return set()
        query = fill_in(QUERIES, {"table": table})["archive_doubles"]
        bounds = (*place, deleted.start, deleted.stop, within_ms)
        found: set[int] = set()
        await self._connection.execute(QUERIES["look_up"])
        for part in record_parts(records):
            topics, times, payloads, qos, retained, clients, _, offsets = record_arrays(part)
            rows = await self._connection.fetch(
                query, topics, times, payloads, qos, retained, clients, offsets, *bounds
            )
            found |= {row["position"] for row in rows}
        return found

    async def message_differences(
        self, table: str, place: Place, records: Sequence[Record]
    ) -> list[Difference]:
        """Return which records are not their topics' rows."""
        query = fill_in(QUERIES, {"table": table})["message_differences"]
        return await self._differences(query, place, records, _digests_and_arrays)

    async def _differences(
        self,
        query: str,
        place: Place,
        records: Sequence[Record],
        arrays: Callable[[Sequence[Record]], Sequence[object]],
    ) -> list[Difference]:
        found: list[Difference] = []
        await self._connection.execute(QUERIES["look_up"])
        for part in record_parts(records):
            rows = await self._connection.fetch(query, *arrays(part), *place)
            found += [Difference(part[row["ordinal"] - 1], row["columns"]) for row in rows]
        return found

    async def archive_counts(
        self, table: str, generation: int, parts: Sequence[ArchivePart], since_ms: int
    ) -> Mapping[int | None, RowCounts]:
        """Return partition -> rows in its part that are not older than a time, and rows below it.

        Under None are those of other logs, and of partitions that were not asked for.
        """
        query = fill_in(QUERIES, {"table": table})["archive_counts"]
        columns = [list(column) for column in zip(*parts, strict=True)] or [[], [], []]
        rows = await self._connection.fetch(query, generation, *columns, since_ms)
        return {row["partition"]: RowCounts(row["rows"], row["older"]) for row in rows}

    async def archive_positions(
        self, table: str, generation: int, part: ArchivePart, since_ms: int
    ) -> AsyncIterator[tuple[int, str]]:
        """Yield position and topic of the rows that ``archive_counts`` has counted in a part."""
        query = fill_in(QUERIES, {"table": table})["archive_positions"]
        async for row in self._rows(query, generation, *part, since_ms):
            yield row["position"], row["topic"]

    async def message_rows(self, table: str, place: Place) -> AsyncIterator[tuple[str, int | None]]:
        """Yield topic and position of the partition's rows, and those of other logs, without."""
        query = fill_in(QUERIES, {"table": table})["message_rows"]
        async for row in self._rows(query, *place):
            yield row["topic"], row["position"]

    async def _rows(self, query: str, *arguments: object) -> AsyncIterator[asyncpg.Record]:
        cursor = await self._connection.cursor(query, *arguments)
        while rows := await cursor.fetch(_ROWS_AT_ONCE):
            for row in rows:
                yield row


def _digests_and_arrays(records: Sequence[Record]) -> Sequence[object]:
    return [digest(record.topic) for record in records], *record_arrays(records)
