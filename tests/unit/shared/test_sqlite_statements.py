"""Statements with many rows: all of them arrive, in few executions with few distinct texts."""

import sqlite3

import pytest

from monstermq_shared.errors import ConfigError
from monstermq_shared.records import format_timestamp
from monstermq_shared.stores.sql import fill_in, table_name, table_names
from monstermq_shared.stores.sqlite.rows import time_text
from monstermq_shared.stores.sqlite.statements import RowsStatement


@pytest.fixture
def connection() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute("CREATE TABLE numbers (a INTEGER PRIMARY KEY, b TEXT)")
    return connection


@pytest.mark.parametrize("count", [0, 1, 2, 3, 16, 17, 33, 100, 1_029, 16_384, 40_001])
def test_every_row_arrives_once(connection: sqlite3.Connection, count: int) -> None:
    statement = RowsStatement("INSERT INTO numbers VALUES {rows} ON CONFLICT DO NOTHING", 2)
    statement.execute(connection, [(number, str(number)) for number in range(count)])
    rows = connection.execute("SELECT a, b FROM numbers ORDER BY a").fetchall()
    assert rows == [(number, str(number)) for number in range(count)]
    connection.close()


def test_few_texts_and_few_executions_serve_every_number_of_rows(
    connection: sqlite3.Connection,
) -> None:
    executed: list[str] = []
    connection.set_trace_callback(executed.append)
    statement = RowsStatement("INSERT INTO numbers VALUES {rows} ON CONFLICT DO NOTHING", 2)
    for count in range(1, 400):
        before = len(executed)
        statement.execute(connection, [(number, "") for number in range(count)])
        assert len(executed) - before <= 3
    assert len({text.count("(") for text in executed}) <= 10
    connection.close()


@pytest.mark.parametrize("timestamp_ms", [0, 1, 999, 1_768_478_400_123, -1, -62_135_596_800_000])
def test_time_is_written_as_in_records(timestamp_ms: int) -> None:
    expected = format_timestamp(timestamp_ms)
    assert time_text(timestamp_ms) == expected.rjust(len("2026-01-15T12:00:00.000Z"), "0")


@pytest.mark.parametrize(
    "name",
    [
        *("", "a b", 'x"; DROP TABLE sessions; --', "a'b", "1st", "-a", "caf\u00e9", "a\0b", "a.b"),
        *("x" * 64, "sqlite_master", "SQLITE_x", "pg_toast", "a\n"),
    ],
)
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"ArchiveGroups\[\]\.Name"):
        table_name(name)


def test_names_are_lowered_and_hyphens_kept() -> None:
    assert table_names(["MCPLastval", "my-groupArchive"]) == {
        "MCPLastval": "mcplastval",
        "my-groupArchive": "my-grouparchive",
    }


@pytest.mark.parametrize("names", [["MCPArchive", "mcpArchive"], ["Sessions"], ["a", "a"]])
def test_two_stores_never_share_a_table(names: list[str]) -> None:
    with pytest.raises(ConfigError, match="already"):
        table_names(names, reserved=["sessions"])


def test_only_the_words_given_are_filled_in() -> None:
    filled = fill_in({"q": "SELECT {page}, '{}' FROM {table} VALUES {rows}"}, {"table": "x"})
    assert filled == {"q": "SELECT {page}, '{}' FROM x VALUES {rows}"}
