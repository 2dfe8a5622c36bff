"""``docs/tables.md``, taken at its word: its columns are those of the tables, its queries run."""

import asyncio
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from monstermq_shared.records import Record
from monstermq_shared.stores.changes import ClientChanges, Commit
from monstermq_shared.stores.sqlite import SqliteDatabase
from monstermq_shared.testing.builders import (
    ARCHIVE,
    NOON_MS,
    RETAINED,
    commit_once,
    make_queue,
    make_session,
)

DOCUMENT = (Path(__file__).parents[3] / "docs" / "tables.md").read_text(encoding="utf-8")
SECTION = re.compile(r"^### `(?P<table>[^`]+)`\n(?P<text>.*?)(?=^##)", re.MULTILINE | re.DOTALL)
ROW = re.compile(r"^\| (`[^|]+) \|", re.MULTILINE)
QUERY = re.compile(r"^```sql\n(.*?)^```$", re.MULTILINE | re.DOTALL)

HOUR_MS = 3_600_000


def messages() -> list[Record]:
    """Return what the queries are asked about."""
    sent = [
        ("plant/line1/temperature", b"21.5"),
        ("plant/line1/temperature", b"22.5"),
        ("plant/line1/temperature", b"broken"),
        ("plant/line1/pressure", b'{"value": 3, "unit": "bar"}'),
        ("plant/line1/pressure", b"\xff\x00"),
        ("plant/line1/temperature", b"30"),
    ]
    return [
        Record(topic, payload, 1, False, "sensor", NOON_MS + n * HOUR_MS // 5 + n, n)
        for n, (topic, payload) in enumerate(sent, 1)
    ]


async def fill(path: Path) -> None:
    database = await SqliteDatabase.open(
        str(path),
        session_store=True,
        message_stores=[RETAINED, "MCPLastval"],
        archive_stores=[ARCHIVE],
    )
    records = messages()
    away = ClientChanges(
        session=make_session("away", connected=False),
        subscriptions={"plant/#": 1, "other": 0},
        queued=make_queue(records[:2]),
    )
    here = ClientChanges(session=make_session("here"), queued=make_queue(records[1:2]))
    latest = {record.topic: record for record in records}
    commit = Commit(
        upto=10,
        sessions={"away": away, "here": here},
        messages={RETAINED: latest, "MCPLastval": latest},
        archives={ARCHIVE: records},
    )
    await commit_once(database, commit, "sessions")
    await database.close()


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    path = tmp_path_factory.mktemp("tables") / "x.db"
    asyncio.run(fill(path))
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        yield connection


def documented() -> dict[str, set[str]]:
    """Return table -> columns, as the document has them."""
    return {
        section["table"].replace("<name>", "mcp"): {
            column
            for cell in ROW.findall(section["text"])
            for column in re.findall(r"`(\w+)`", cell)
        }
        for section in SECTION.finditer(DOCUMENT)
    }


def test_every_table_and_column_is_explained_and_no_other(database: sqlite3.Connection) -> None:
    tables = [
        name
        for (name,) in database.execute(
            "SELECT name FROM sqlite_schema"
            # Those of the full-text indexes are SQLite's.
            " WHERE type = 'table' AND name NOT GLOB 'topic_index*'"
            " AND name NOT GLOB 'description_index*'"
        )
    ]
    # Generated columns included.
    actual = {
        table: {row[1] for row in database.execute(f"PRAGMA table_xinfo({table})")}
        for table in tables
    }
    assert documented() == actual


EXPECTED: list[list[tuple[Any, ...]]] = [
    [
        ("2026-01-15T12:12:00.001Z", "21.5"),
        ("2026-01-15T12:24:00.002Z", "22.5"),
        ("2026-01-15T12:36:00.003Z", "broken"),
    ],
    [("2026-01-15T12:48:00.004Z", 3, "bar")],
    [
        ("plant/line1/temperature", "2026-01-15T12", 22.0, 2),
        ("plant/line1/temperature", "2026-01-15T13", 30.0, 1),
    ],
    [],
    [
        ("away", 0, "2026-01-15T12:00:00.000Z", "192.0.2.1:4711", 2),
        ("here", 1, "2026-01-15T12:00:00.000Z", "192.0.2.1:4711", 0),
    ],
    [
        ("away", 2, 66, "2026-01-15T12:12:00.001Z"),
        ("here", 1, 33, "2026-01-15T12:24:00.002Z"),
    ],
]


@pytest.mark.parametrize(
    ("query", "rows"),
    list(zip(QUERY.findall(DOCUMENT), EXPECTED, strict=True)),
    ids=range(len(EXPECTED)),
)
def test_the_queries_answer_what_they_say(
    database: sqlite3.Connection, query: str, rows: list[tuple[Any, ...]]
) -> None:
    assert database.execute(query).fetchall() == rows


def test_a_binary_payload_shows_only_as_bytes(database: sqlite3.Connection) -> None:
    columns = "payload, payload_json, is_text, hex(payload_blob)"
    query = f"SELECT {columns} FROM mcparchive WHERE position = 5"
    assert database.execute(query).fetchall() == [(None, None, 0, "FF00")]
