"""``docs/postgres.md``, taken at its word: its columns are there, its queries run."""

import re
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.postgres_database import connected, open_database

from monstermq_shared.records import Record, size_of
from monstermq_shared.stores.changes import ClientChanges, Commit
from monstermq_shared.stores.postgres.connection import Connection
from monstermq_shared.stores.queue_changes import QueueChanges
from monstermq_shared.stores.queues import SESSIONS_MARK
from monstermq_shared.testing.builders import (
    ARCHIVE,
    NOON_MS,
    commit_once,
    make_queue,
    make_session,
)
from monstermq_shared.testing.queues_contract import OTHER, SESSIONS_LOG, queued, write

pytestmark = pytest.mark.integration

DOCUMENT = (Path(__file__).parents[2] / "docs" / "postgres.md").read_text(encoding="utf-8")
TABLES = DOCUMENT.partition("## The tables\n")[2].partition("\n## ")[0]
USEFUL = DOCUMENT.partition("## Useful queries\n")[2].partition("\n## ")[0]
QUERIES = re.findall(r"^```sql\n(.*?)^```$", USEFUL, re.MULTILINE | re.DOTALL)
COLUMNS = re.findall(r"^\|[^|]*\| (`[^|]+) \|", TABLES, re.MULTILINE)

MESSAGES = [
    ("plant/line1/temperature", b"21.5"),
    ("plant/line1/temperature", b"22.5"),
    ("plant/line1/temperature", b"broken"),
    ("plant/line2/temperature", b"\xff"),
    ("plant/line1/pressure", b'{"value": 3.2, "unit": "bar"}'),
    ("plant/line1/speed", b"7"),
]
"""The last one comes now, the others came at noon of a day long ago."""


@pytest.fixture
async def sql(postgres_schema: str) -> AsyncIterator[Connection]:
    """A database with something in it."""
    database = await open_database(postgres_schema)
    records = [
        Record(topic, payload, 1, False, "press", NOON_MS + number, number)
        for number, (topic, payload) in enumerate(MESSAGES)
    ]
    records[-1].timestamp_ms = int(time.time() * 1000)
    changes = ClientChanges(
        session=make_session("panel"),
        subscriptions={"plant/+/temperature": 1},
        queued=make_queue(records),
    )
    commit = Commit(upto=9, archives={ARCHIVE: records}, sessions={"panel": changes})
    await commit_once(database, commit, "all")
    await database.close()
    async with connected(postgres_schema) as connection:
        yield connection


async def test_what_it_names_is_there(sql: Connection) -> None:
    rows = await sql.fetch(
        "SELECT column_name FROM information_schema.columns WHERE table_schema = current_schema()"
    )
    found = {row["column_name"] for row in rows}
    named = {name for cell in COLUMNS for name in re.findall(r"`(\w+)`", cell)}
    assert named - found == {"is_text", "levels"}
    assert {"client_digest", "topic_digest", "holder_host", "kind"} <= named


async def test_its_queries_answer(sql: Connection) -> None:
    history, below, fields, average, owed = [await sql.fetch(query) for query in QUERIES]
    assert [row["payload"] for row in history] == ["21.5", "22.5", "broken"]
    assert [(row["topic"], row["payload"]) for row in below] == [("plant/line1/speed", "7")]
    assert [(row["value"], row["unit"]) for row in fields] == [("3.2", "bar")]
    assert [(row["topic"], row["average"]) for row in average] == [
        ("plant/line1/temperature", 22.0)
    ]
    (row,) = owed
    size = sum(size_of(Record(*message, 0, False, "press", 0, 0)) for message in MESSAGES)
    assert (row["client_id"], row["messages"], row["size"]) == ("panel", 6, size)
    assert (row["oldest"].timestamp(), row["filters"]) == (
        NOON_MS / 1000,
        ["plant/+/temperature"],
    )


async def test_the_history_is_read_by_an_index(sql: Connection) -> None:
    await sql.execute("SET enable_seqscan = off; SET enable_bitmapscan = off")
    for query in QUERIES[:3]:
        plan = await sql.fetch(f"EXPLAIN {query}")
        assert any("left_time_position_idx" in row[0] for row in plan)


async def test_what_clients_are_owed_on_kafka_is_found_alike(postgres_schema: str) -> None:
    database = await open_database(postgres_schema, exclusive=False)
    row = make_session("panel")
    row.epoch = 1
    changes = ClientChanges(session=row, subscriptions={"plant/#": 1})
    commit = Commit(upto=2, sessions={"panel": changes})
    await commit_once(database, commit, SESSIONS_MARK, partition=SESSIONS_LOG)
    records = [Record("plant/1", b"x", 1, False, "press", NOON_MS, offset) for offset in range(3)]
    await write(database, QueueChanges(queued=queued("panel", records=records)), at=OTHER)
    await database.close()
    async with connected(postgres_schema) as connection:
        (owed,) = await connection.fetch(QUERIES[-1])
    assert (owed["client_id"], owed["messages"]) == ("panel", 3)
    assert owed["size"] == sum(map(size_of, records))
    assert owed["oldest"].timestamp() == NOON_MS / 1000
    assert owed["filters"] == ["plant/#"]
