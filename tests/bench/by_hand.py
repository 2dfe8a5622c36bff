"""PostgreSQL's own limit: the fastest way, by hand, to write rows that we have written.

They are taken out of our tables in the binary form of COPY, and put into the same tables of another
database by it. So what is measured is the server alone: nobody makes rows meanwhile. For archive
and queue that is the fastest there is. For upserts it is COPY into a temporary table and one INSERT
or UPDATE from there; arrays with ``unnest`` take a quarter longer. 20,000 rows at a time are no
slower than all at once.
"""

import time
from collections.abc import Callable, Mapping, Sequence
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


async def take_out(connection: asyncpg.Connection, table: str, first: int, last: int) -> bytes:
    """Return the rows from one position to another, in that order; the table stays as it is."""
    columns = ", ".join(await columns_of(connection, table))
    output = BytesIO()
    await connection.copy_from_query(
        f"SELECT {columns} FROM {table} "
        f"WHERE position BETWEEN {first} AND {last} ORDER BY position",
        output=output,
        format="binary",
    )
    return output.getvalue()


async def put_in(connection: asyncpg.Connection, rows: Mapping[str, bytes]) -> float:
    """Copy rows into tables in one transaction; return the seconds."""
    columns = {table: await columns_of(connection, table) for table in rows}
    began = time.perf_counter()
    async with connection.transaction():
        for table, part in rows.items():
            await _copy(connection, table, columns[table], part)
    return time.perf_counter() - began


async def insert(connection: asyncpg.Connection, rows: Mapping[str, bytes]) -> float:
    """Insert rows, or replace those of the same key, in one transaction; return the seconds."""
    return await _through_parts(connection, rows, _insert_query)


async def replace(connection: asyncpg.Connection, rows: Mapping[str, bytes]) -> float:
    """Replace rows that are there, in one transaction; return the seconds.

    That makes each row once, and ``INSERT ... ON CONFLICT`` twice.
    """
    return await _through_parts(connection, rows, _replace_query)


async def _through_parts(
    connection: asyncpg.Connection,
    rows: Mapping[str, bytes],
    query: Callable[[str, Sequence[str]], str],
) -> float:
    """Copy rows into temporary tables, and bring them from there to where they belong."""
    columns = {table: await columns_of(connection, table) for table in rows}
    for table, names in columns.items():
        await connection.execute(
            f"CREATE TEMPORARY TABLE IF NOT EXISTS {table}_part "
            f"AS SELECT {', '.join(names)} FROM {table} LIMIT 0"
        )
    began = time.perf_counter()
    async with connection.transaction():
        for table, part in rows.items():
            await _copy(connection, f"{table}_part", columns[table], part)
            await connection.execute(query(table, columns[table]))
            await connection.execute(f"TRUNCATE {table}_part")
    return time.perf_counter() - began


def _insert_query(table: str, columns: Sequence[str]) -> str:
    listed = ", ".join(columns)
    excluded = ", ".join(f"excluded.{column}" for column in columns)
    return (
        f"INSERT INTO {table} ({listed}) SELECT {listed} FROM {table}_part "
        f"ON CONFLICT ON CONSTRAINT {table}_pkey DO UPDATE SET ({listed}) = ROW({excluded})"
    )


def _replace_query(table: str, columns: Sequence[str]) -> str:
    values = ", ".join(f"part.{column}" for column in columns)
    return (
        f"UPDATE {table} AS stored SET ({', '.join(columns)}) = ROW({values}) "
        f"FROM {table}_part AS part WHERE stored.topic_digest = part.topic_digest"
    )


async def _copy(
    connection: asyncpg.Connection, table: str, columns: Sequence[str], part: bytes
) -> None:
    await connection.copy_to_table(table, source=BytesIO(part), columns=[*columns], format="binary")
