"""PostgreSQL's own limit: the fastest way, by hand, to write rows that we have written.

They are taken out of our tables in the binary form of COPY, and put back by it. So what is measured
is the server alone: nobody makes rows meanwhile. For archive and queue, COPY of all rows in one
transaction is the fastest. For upserts it is COPY of 20,000 rows into a temporary table and one
INSERT from there, then the next ones; arrays with ``unnest`` take a quarter longer.
"""

import time
from collections.abc import Sequence
from io import BytesIO

import asyncpg

PART_ROWS = 20_000

_COLUMNS = """
SELECT attname FROM pg_attribute
WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
ORDER BY attnum
"""


async def columns_of(connection: asyncpg.Connection, table: str) -> list[str]:
    """Return the columns that are written; the server makes the others."""
    return [str(row["attname"]) for row in await connection.fetch(_COLUMNS, table)]


async def take_out(connection: asyncpg.Connection, table: str, *, part_rows: int) -> list[bytes]:
    """Return all rows in order of position, so many in a part; the table stays as it is."""
    columns = ", ".join(await columns_of(connection, table))
    first = await connection.fetchval(f"SELECT min(position) FROM {table}")
    last = await connection.fetchval(f"SELECT max(position) FROM {table}")
    taken: list[bytes] = []
    for start in range(first, last + 1, part_rows):
        output = BytesIO()
        await connection.copy_from_query(
            f"SELECT {columns} FROM {table} "
            f"WHERE position >= {start} AND position < {start + part_rows} ORDER BY position",
            output=output,
            format="binary",
        )
        taken.append(output.getvalue())
    return taken


async def put_in(connection: asyncpg.Connection, rows: dict[str, list[bytes]]) -> float:
    """Empty tables, copy rows into them in one transaction, and return the seconds of that."""
    columns = {table: await columns_of(connection, table) for table in rows}
    await connection.execute(f"TRUNCATE {', '.join(rows)}")
    began = time.perf_counter()
    async with connection.transaction():
        for table, parts in rows.items():
            for part in parts:
                await _copy(connection, table, columns[table], part)
    return time.perf_counter() - began


async def upsert(connection: asyncpg.Connection, table: str, parts: Sequence[bytes]) -> float:
    """Insert or replace rows by the table's key, a transaction a part; return the seconds."""
    columns = await columns_of(connection, table)
    listed = ", ".join(columns)
    excluded = ", ".join(f"excluded.{column}" for column in columns)
    await connection.execute(
        f"CREATE TEMPORARY TABLE IF NOT EXISTS part AS SELECT {listed} FROM {table} LIMIT 0"
    )
    began = time.perf_counter()
    for part in parts:
        async with connection.transaction():
            await _copy(connection, "part", columns, part)
            await connection.execute(
                f"INSERT INTO {table} ({listed}) SELECT {listed} FROM part "
                f"ON CONFLICT ON CONSTRAINT {table}_pkey "
                f"DO UPDATE SET ({listed}) = ROW({excluded})"
            )
            await connection.execute("TRUNCATE part")
    return time.perf_counter() - began


async def _copy(
    connection: asyncpg.Connection, table: str, columns: Sequence[str], part: bytes
) -> None:
    await connection.copy_to_table(table, source=BytesIO(part), columns=[*columns], format="binary")
