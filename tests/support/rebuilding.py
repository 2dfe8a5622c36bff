"""``rebuild`` and ``verify`` on tables that a projector might have made."""

import asyncio
import io
from typing import Any

import asyncpg
import orjson
from tests.support.projectors import Setting

from monstermq.invocations import Rebuild, Verify
from monstermq.rebuilding import rebuild
from monstermq.verifying import verify
from monstermq_shared.config.checks import postgres_connection
from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.positions import Partition
from monstermq_shared.stores.postgres.database import PostgresDatabase

TABLES = {"retained": "retainedmessages", "lastval:G": "glastval", "archive:G": "garchive"}


async def make_tables(setting: Setting) -> None:
    """Make the tables as a projector does that begins at the end of the log."""
    database = await PostgresDatabase.open(
        postgres_connection(setting.config),
        session_store=True,
        message_stores=("RetainedMessages", "GLastval"),
        archive_stores=("GArchive",),
        exclusive=False,
    )
    async with setting.bus() as writer:
        generation = writer.bus.generation
        ends = await writer.bus.messages.end_positions()
    names = ("retained", "GLastval", "GArchive")
    starts = {Partition(generation, p): dict.fromkeys(names, at) for p, at in ends.items()}
    await database.belong_to(generation)
    await database.begin_marks(generation, starts)
    await database.close()


async def run_rebuild(setting: Setting, table: str, **options: bool) -> str:
    output = io.StringIO()
    invocation = Rebuild(config=setting.path, table=table, **options)
    assert await asyncio.to_thread(rebuild, invocation, {}, output) == ExitCode.OK
    return output.getvalue()


async def run_verify(setting: Setting, *tables: str, limit: int = 100) -> tuple[int, list[Any]]:
    """Return its exit code, and what it has told."""
    output = io.StringIO()
    invocation = Verify(config=setting.path, tables=tables, as_json=True, limit=limit)
    code = await asyncio.to_thread(verify, invocation, {}, output)
    return code, [orjson.loads(line) for line in output.getvalue().splitlines()]


async def rows_of(setting: Setting) -> dict[str, list[tuple[Any, ...]]]:
    """Return all rows of all tables, whole."""
    return {
        table: sorted(await setting.rows(f'SELECT "{table}"::text FROM "{table}"'))
        for table in TABLES.values()
    }


async def change(setting: Setting, *statements: str) -> None:
    connection = await asyncpg.connect(setting.database_url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()
