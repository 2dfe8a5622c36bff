"""Statements read what they change or return and little more, whatever the planner believes."""

from collections.abc import AsyncIterator

import pytest
from tests.support.plans import blocks_of, executed, rows_of
from tests.support.postgres_database import connected, open_database

from monstermq_shared.stores.changes import ClientChanges
from monstermq_shared.stores.postgres import archives, comparing, readers
from monstermq_shared.stores.postgres.connection import Connection
from monstermq_shared.stores.postgres.rows import digest, record_arrays
from monstermq_shared.stores.postgres.session_tables import QUERIES
from monstermq_shared.stores.postgres.writer import SETTINGS
from monstermq_shared.stores.sql import fill_in
from monstermq_shared.testing.builders import (
    commit_sessions,
    make_queue,
    make_record,
    make_session,
)

pytestmark = pytest.mark.integration

QUEUED = 10_000
CLIENTS = 20
CHANGED = 100

# For each row to be changed; the key's index alone has a hundred pages.
ROWS_MAX = 20
BLOCKS_MAX = 30

READ = 1_000
HISTORY = """
INSERT INTO mcparchive (
    topic, time, payload_blob, qos, retained, client_id, message_uuid, generation, partition,
    position
)
SELECT 'plant/' || number % 10, to_timestamp(number), '1', 0, false, '', '', 1, 0, number
FROM generate_series(1, 150000) AS number
"""


def name_of(offset: int) -> str:
    return f"client{offset % CLIENTS}"


def keys(*clients: str) -> str:
    """Write digests of clients as an array of SQL."""
    return "ARRAY[" + ", ".join(f"'\\x{digest(name).hex()}'::bytea" for name in clients) + "]"


OFFSETS = range(5_000, 5_000 + CHANGED)
POSITIONS = f"ARRAY[{', '.join(map(str, OFFSETS))}]::bigint[]"
LINKS = f"{keys(*map(name_of, OFFSETS))}, {POSITIONS}"

STATEMENTS = {
    "delete_links": f"{LINKS}, 1, 0",
    "delete_messages": f"{POSITIONS}, 1, 0",
    "end_queues": f"{keys('client7')}, {CHANGED}",
    "oldest_links": f"{keys('client7')}, ARRAY[5000]::bigint[], 1, 0, {CHANGED}",
    "add_links": f"{LINKS}, ARRAY[{', '.join('1' for _ in OFFSETS)}]::smallint[], 1, 0",
}


@pytest.fixture
async def planned(postgres_schema: str) -> AsyncIterator[Connection]:
    """A connection that has planned all of them on empty tables, which are full by now."""
    database = await open_database(postgres_schema)
    sessions = {
        name: ClientChanges(session=make_session(name)) for name in map(name_of, range(CLIENTS))
    }
    await commit_sessions(database, 1, **sessions)
    async with connected(postgres_schema) as connection:
        await connection.execute(SETTINGS)
        for name, arguments in STATEMENTS.items():
            await connection.execute(f"PREPARE {name} AS {QUERIES[name]}")
            await connection.execute(f"EXECUTE {name}({arguments})")
        records = [make_record(offset) for offset in range(QUEUED)]
        queues = {
            name: ClientChanges(
                queued=make_queue(at for at in records if name_of(at.offset) == name)
            )
            for name in sessions
        }
        await commit_sessions(database, QUEUED, **queues)
        yield connection
    await database.close()


@pytest.mark.parametrize(("name", "arguments"), STATEMENTS.items(), ids=STATEMENTS)
async def test_a_statement_that_was_planned_on_empty_tables_reads_what_it_changes(
    planned: Connection, name: str, arguments: str
) -> None:
    found = await executed(planned, f"EXECUTE {name}({arguments})")
    assert CHANGED <= max(map(rows_of, found)) <= CHANGED * ROWS_MAX
    assert max(map(blocks_of, found)) <= CHANGED * BLOCKS_MAX


@pytest.mark.parametrize("name", ["newest_first", "oldest_first"])
async def test_a_topics_history_is_read_from_its_index(postgres_schema: str, name: str) -> None:
    """The planner would rather collect all of it, and sort."""
    await (await open_database(postgres_schema)).close()
    query = fill_in(archives.QUERIES, {"table": "mcparchive"})[name]
    async with connected(postgres_schema) as connection:
        await connection.execute(HISTORY)
        await connection.execute("ANALYZE mcparchive")
        await connection.execute(readers.SETTINGS)
        for start_ms, end_ms in [(None, None), (50_000_000, 80_000_000)]:
            bounds = ("plant/3", start_ms, end_ms, READ, 2**30)
            found = await executed(connection, query, *bounds)
            assert READ <= max(map(rows_of, found)) <= READ + 1
            assert max(map(blocks_of, found)) <= 2 * READ


async def test_what_is_verified_is_found_by_its_key_in_a_table_that_looks_empty(
    postgres_schema: str,
) -> None:
    """As one does that was just made anew: nobody has analysed it."""
    await (await open_database(postgres_schema)).close()
    query = fill_in(comparing.QUERIES, {"table": "mcparchive"})["archive_differences"]
    async with connected(postgres_schema) as connection:
        await connection.execute("ALTER TABLE mcparchive SET (autovacuum_enabled = off)")
        await connection.execute(HISTORY.replace("150000", "20000"))
        await connection.execute(comparing.QUERIES["planner"])
        records = [make_record(at, timestamp_ms=at * 1_000) for at in range(1, READ + 1)]
        async with connection.transaction():
            await connection.execute(comparing.QUERIES["look_up"])
            found = await executed(connection, query, *record_arrays(records), 1, 0)
    assert max(map(rows_of, found)) <= 2 * READ
    assert max(map(blocks_of, found)) <= READ * BLOCKS_MAX
