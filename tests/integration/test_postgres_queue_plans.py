"""Statements on the queues of a shared log read what they must, whatever the planner believes.

A worker plans its statements while the tables are empty, and keeps the plans while they fill. What
others read is planned anew each time, on tables that nobody has analysed.
"""

from collections.abc import AsyncIterator, Sequence

import pytest
from tests.support.plans import Node, blocks_of, executed, rows_of
from tests.support.postgres_database import connected, open_database

from monstermq_shared.stores.changes import Commit
from monstermq_shared.stores.postgres import readers
from monstermq_shared.stores.postgres.connection import Connection
from monstermq_shared.stores.postgres.database import PostgresDatabase
from monstermq_shared.stores.postgres.queue_tables import QUERIES
from monstermq_shared.stores.postgres.rows import digest
from monstermq_shared.stores.postgres.session_tables import QUERIES as SESSION_QUERIES
from monstermq_shared.stores.postgres.writer import SETTINGS
from monstermq_shared.stores.queue_changes import OpenId, QueueChanges, QueueCount
from monstermq_shared.stores.queues import QUEUES_MARK
from monstermq_shared.testing.builders import NOON_MS, commit_once, make_record
from monstermq_shared.testing.queues_contract import BUS, OTHER, make_cut

pytestmark = pytest.mark.integration

QUEUED = 10_000
CLIENTS = 5_000
ASKED = 100

ROWS_MAX = 20
BLOCKS_MAX = 30
"""For each that is asked for; a table has some hundred pages, and its key as many."""

NAMES = [f"client{number}" for number in range(CLIENTS)]
OFFSETS = range(5_000, 5_000 + ASKED)


def keys(*clients: str) -> str:
    """Write digests of clients as an array of SQL."""
    return "ARRAY[" + ", ".join(f"'\\x{digest(name).hex()}'::bytea" for name in clients) + "]"


def numbers(values: list[int] | range, kind: str = "bigint") -> str:
    """Write numbers as an array of SQL."""
    return f"ARRAY[{', '.join(map(str, values))}]::{kind}[]"


STATEMENTS = {**SESSION_QUERIES, **QUERIES}
SOME = keys(*NAMES[:ASKED])
LINKS = f"{keys(*(NAMES[at % CLIENTS] for at in OFFSETS))}, {numbers(OFFSETS)}"
ONES = numbers([1] * ASKED)

COMMITTED = {
    "delete_links": f"{LINKS}, 1, 0",
    "delete_below": f"{SOME}, {numbers([-1] * ASKED)}, {numbers([500] * ASKED)}, 1, 0, 1000",
    "messages_there": f"{numbers(OFFSETS)}, 1, 0",
    "links_there": f"{LINKS}, 1, 0",
    "delete_cuts": f"{SOME}, 1, 0",
    "put_counts": f"{SOME}, {ONES}, {ONES}, {numbers([1] * ASKED, 'float8')}, 1, 0",
}
"""Statements of commits, with what they are executed with."""

MANY = [*map(digest, NAMES[:ASKED])]

READ = {
    "pages": (MANY, [0] * ASKED, [0] * ASKED, [2**62] * ASKED, [1] * ASKED, 1, 2**20),
    "old_cuts": (MANY, [9] * ASKED, 1, QUEUES_MARK),
    "oldest_rows": (MANY, [0] * ASKED, [1] * ASKED, 1),
    "queue_totals": (1, 0, 0),
    "sweep": (1, 0, 5_000, 2**62, ASKED),
}
"""Statements that are planned when they are executed, with their parameters."""


async def fill(database: PostgresDatabase) -> None:
    """Queue everything for everybody, in two partitions, and count some of it."""
    changes = QueueChanges(
        queued={at: (make_record(at), [(NAMES[at % CLIENTS], 1)]) for at in range(QUEUED)},
        open_ids={(name, 1): OpenId(1, 1) for name in NAMES},
        cuts={name: make_cut(1, at) for at, name in enumerate(NAMES)},
        counts={name: QueueCount(9, 9, NOON_MS) for name in NAMES[:ASKED]},
    )
    for partition in [BUS, OTHER]:
        commit = Commit(upto=QUEUED, queues=changes)
        await commit_once(database, commit, QUEUES_MARK, partition=partition)


@pytest.fixture
async def planned(postgres_schema: str) -> AsyncIterator[Connection]:
    """A connection that has planned what commits execute, on tables that are full by now."""
    database = await open_database(postgres_schema, exclusive=False)
    await commit_once(database, Commit(upto=1), QUEUES_MARK)
    async with connected(postgres_schema) as connection:
        await connection.execute(SETTINGS)
        for name, arguments in COMMITTED.items():
            await connection.execute(f"PREPARE {name} AS {STATEMENTS[name]}")
            await connection.execute(f"EXECUTE {name}({arguments})")
        await fill(database)
        yield connection
    await database.close()


@pytest.fixture
async def reading(postgres_schema: str) -> AsyncIterator[Connection]:
    """A connection for reading, of full tables that nobody has analysed."""
    database = await open_database(postgres_schema, exclusive=False)
    await fill(database)
    async with connected(postgres_schema) as connection:
        await connection.execute(readers.SETTINGS)
        yield connection
    await database.close()


def check(found: Sequence[Node]) -> None:
    """Check that a statement has looked at what it was asked for and little more."""
    rows = max(rows_of(node, "Rows Removed by Filter") for node in found)
    assert ASKED <= rows <= ASKED * ROWS_MAX
    assert max(map(blocks_of, found)) <= ASKED * BLOCKS_MAX


@pytest.mark.parametrize(("name", "arguments"), COMMITTED.items(), ids=COMMITTED)
async def test_what_was_planned_on_empty_tables_reads_what_it_changes(
    planned: Connection, name: str, arguments: str
) -> None:
    check(await executed(planned, f"EXECUTE {name}({arguments})"))


@pytest.mark.parametrize(("name", "parameters"), READ.items(), ids=READ)
async def test_what_is_read_is_found_by_a_key(
    reading: Connection, name: str, parameters: tuple[object, ...]
) -> None:
    check(await executed(reading, QUERIES[name], *parameters))


async def test_all_cuts_of_a_partition_are_read_block_by_block(reading: Connection) -> None:
    async with reading.transaction():
        await reading.execute(QUERIES["by_block"])
        (scan, index) = await executed(reading, QUERIES["load_cuts"], 1, 0)
    assert scan["Node Type"] == "Bitmap Heap Scan"
    assert rows_of(scan, "Rows Removed by Index Recheck") == CLIENTS
    assert rows_of(index) <= CLIENTS + ASKED  # with what was there before counts were put
    assert blocks_of(scan) < CLIENTS / 5


async def test_all_that_waits_is_counted_in_the_order_of_its_key(reading: Connection) -> None:
    async with reading.transaction():
        await reading.execute(QUERIES["in_order"])
        found = await executed(reading, QUERIES["load_counts"], 1, 0)
    assert "Sort" not in {node["Node Type"] for node in found}
    assert max(map(rows_of, found)) <= 2 * QUEUED  # those of another partition are passed over


async def test_the_newest_markers_are_found_by_their_time(reading: Connection) -> None:
    async with reading.transaction():
        await reading.execute(QUERIES["in_order"])
        since_ms = NOON_MS + 1_000 - ASKED // 5
        check(await executed(reading, QUERIES["fences"], 1, 0, since_ms))
