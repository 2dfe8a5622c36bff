"""SQL of models: it reads the tables, and does nothing else."""

from pathlib import Path

import pytest
from mcp.client import Client
from tests.support.mcp_server import Asked, configured, fill, served, text_of

from monstermq_mcp.tools.sql import scalar
from monstermq_shared.queries.sql import CutValue
from monstermq_shared.testing.builders import make_record


async def test_a_statement_returns_columns_and_rows(rooms: Asked) -> None:
    found = await rooms.answer(
        "query-message-archive-by-sql",
        sql="SELECT topic, avg(payload) AS average, count(*), NULL FROM mcparchive"
        " WHERE topic LIKE 'rooms/%' GROUP BY topic ORDER BY average DESC",
    )

    assert found["columns"] == ["topic", "average", "count(*)", "NULL"]
    assert found["rows"][0] == ["rooms/kitchen/temperature", 211.5, 1440, None]
    assert (found["returned"], found["truncated"], found["database"]) == (3, False, "SQLITE")


async def test_more_rows_than_asked_for_are_said_to_be_there(rooms: Asked) -> None:
    found = await rooms.answer(
        "query-message-archive-by-sql", sql="SELECT time FROM mcparchive", limit=5
    )

    assert (found["returned"], found["truncated"]) == (5, True)
    assert "OFFSET" in found["hint"]


async def test_wide_and_long_rows_stay_within_the_bound(rooms: Asked) -> None:
    wide = ", ".join(f"p AS c{number}{'x' * 80}" for number in range(90))
    bars = f"(SELECT '{'|' * 1_000}' AS p FROM mcparchive)"
    result = await rooms.result(
        "query-message-archive-by-sql", sql=f"SELECT {wide} FROM {bars}", limit=1000
    )
    many = await rooms.refusal(
        "query-message-archive-by-sql", sql=f"SELECT {', '.join(['1'] * 101)}"
    )

    assert not result.is_error, text_of(result)
    assert len(text_of(result).encode()) <= 60_000
    assert "columns" in many


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM mcparchive",
        "SELECT 1; DROP TABLE mcparchive",
        "INSERT INTO mcparchive SELECT * FROM mcparchive",
        "WITH gone AS (SELECT 1) DELETE FROM mcparchive",
        "ATTACH '/tmp/x.db' AS x",
        "PRAGMA journal_mode = DELETE",
        "PRAGMA query_only = OFF",
        "VACUUM INTO '/tmp/x.db'",
        "SELECT load_extension('x')",
        "SELECT readfile('/etc/passwd')",
        "SELECT * FROM sessions",
        "SELECT * FROM sqlite_master",
        "SELECT * FROM nothing",
        "SELEC 1",
        "",
        "   ",
        "SELECT '\0'",
        "x" * 20_000,
    ],
)
async def test_hostile_statements_are_refused_in_a_sentence(rooms: Asked, sql: str) -> None:
    refusal = await rooms.refusal("query-message-archive-by-sql", sql=sql)
    after = await rooms.answer(
        "query-message-archive-by-sql", sql="SELECT count(*) FROM mcparchive"
    )

    assert 10 < len(refusal) < 1_500
    assert "Traceback" not in refusal
    assert after["rows"] == [[3 * 1440]]


async def test_the_tool_names_tables_and_columns(database: Path) -> None:
    await fill(database, archive=[make_record(0)])
    async with served(configured(database)) as asked, Client(asked.server) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}

    description = tools["query-message-archive-by-sql"].description
    assert description is not None
    assert "mcparchive: every message of an archive group. Columns: topic TEXT, time TEXT" in (
        description
    )
    assert "mcplastval" in description
    assert "SELECT topic, avg(payload_json ->> '$.temperature') FROM mcparchive" in description
    assert "time is text such as 2026-01-15T10:30:00.000Z" in description


async def test_a_list_of_tools_does_not_need_the_database(database: Path) -> None:
    async with served(configured(database)) as asked, Client(asked.server) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}

    description = tools["query-message-archive-by-sql"].description
    assert description is not None
    assert "does not answer" in description


def test_values_are_what_json_has() -> None:
    assert scalar(2**53, 100) == 2**53
    assert scalar(2**53 + 1, 100) == "9007199254740993"
    assert scalar(float("inf"), 100) == "inf"
    assert scalar(b"\xff\x00", 100) == "base64: /wA="
    assert scalar("x" * 10, 5) == "xxxx…"
    assert scalar(CutValue("abc", 5_000), 100) == "abc… (of 5,000)"
    assert scalar(True, 100) is True
    assert scalar(None, 100) is None
