"""SQL of others: one statement that reads the tables of messages, and can do nothing else.

Three things stand in the way of everything else, each of them enough: the connection cannot write
(``mode=ro``), an authorizer names what a statement may read and call, and a progress handler ends
it in time. What it takes in memory and on the disk meanwhile is bounded as well.
"""

import math
import sqlite3
from collections.abc import Iterator, Sequence
from functools import partial

from monstermq_shared.config import StoreType
from monstermq_shared.errors import QueryRefused
from monstermq_shared.queries.bounds import CELL_SIZE_MAX
from monstermq_shared.queries.sql import (
    Cell,
    Column,
    CutValue,
    SqlAnswer,
    SqlQuery,
    Table,
    TableKind,
)
from monstermq_shared.stores.sqlite.queries.connections import Connections
from monstermq_shared.stores.sqlite.tables import message_tables_in, tables_in

_LIMITS = {
    sqlite3.SQLITE_LIMIT_LENGTH: 4 * 1024 * 1024,  # of one value: some hundred may be held at once
    sqlite3.SQLITE_LIMIT_COLUMN: 100,
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 100,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 20,
    sqlite3.SQLITE_LIMIT_VDBE_OP: 25_000,
    sqlite3.SQLITE_LIMIT_FUNCTION_ARG: 32,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 1000,
    sqlite3.SQLITE_LIMIT_WORKER_THREADS: 0,
}

_SCALARS = """
abs char coalesce concat concat_ws format glob hex ifnull iif instr length like likelihood likely
lower ltrim max min nullif octet_length printf quote random replace round rtrim sign substr
substring trim typeof unhex unicode unlikely upper
date time datetime julianday unixepoch strftime timediff
current_date current_time current_timestamp
acos acosh asin asinh atan atan2 atanh ceil ceiling cos cosh degrees exp floor ln log log10 log2 mod
pi pow power radians sin sinh sqrt tan tanh trunc
json json_array json_array_length json_extract json_object json_patch json_quote json_remove
json_replace json_set json_insert json_type json_valid json_error_position -> ->>
"""
_AGGREGATES = """
avg count group_concat string_agg sum total json_group_array json_group_object
row_number rank dense_rank percent_rank cume_dist ntile lag lead first_value last_value nth_value
"""
_FUNCTIONS = frozenset([*_SCALARS.split(), *_AGGREGATES.split()])
_TABLE_FUNCTIONS = frozenset({"json_each", "json_tree"})
_SYSTEM_TABLES = ("sqlite_", "pragma_", "dbstat")
_KINDS = {
    "retainedmessages": TableKind.RETAINED,
    "lastval": TableKind.LAST_VALUES,
    "archive": TableKind.ARCHIVE,
}
"""What a table keeps, by the end of its name."""

_FORMS = (
    "This is SQLite: write CAST(payload AS REAL), payload_json ->> '$.value', and "
    "time > strftime('%Y-%m-%dT%H:%M', 'now', '-1 hour')"
)


class SqliteStatements:
    """Runs statements of others, one at a time.

    Args:
        path: The database file, as the configuration has it.
        timeout_s: Seconds after which a statement is given up.
    """

    store_type = StoreType.SQLITE.value

    def __init__(self, path: str, *, timeout_s: float) -> None:
        self._connections = Connections(
            path, timeout_s=timeout_s, size=1, prepare=_limit, bounded_disk=True
        )

    async def run(self, query: SqlQuery) -> SqlAnswer:
        """Run one statement that reads the tables of ``tables``, and nothing else."""
        return await self._connections.run(partial(_run, query))

    async def tables(self) -> Sequence[Table]:
        """Return what may be read."""
        return await self._connections.run(_describe)

    async def close(self) -> None:
        """End what is running."""
        await self._connections.close()


def _limit(connection: sqlite3.Connection) -> None:
    for limit, value in _LIMITS.items():
        connection.setlimit(limit, value)
    # Once they have been used they can be used under the authorizer, which lets nobody make tables.
    connection.execute("SELECT 1 FROM json_each('[]'), json_tree('[]')").fetchall()
    connection.text_factory = partial(str, encoding="utf-8", errors="replace")


def _run(query: SqlQuery, connection: sqlite3.Connection) -> SqlAnswer:
    names = _readable(connection)
    others = {name.lower() for name in tables_in(connection)}.difference(names)
    connection.set_authorizer(partial(_authorize, frozenset(names), frozenset(others)))
    try:
        cursor = connection.execute(query.text)
        if cursor.description is None:
            raise QueryRefused("this statement returns nothing; give one SELECT statement")
        rows, more = _take(cursor, query)
    except (sqlite3.Error, sqlite3.Warning, UnicodeEncodeError, MemoryError) as exc:
        if getattr(exc, "sqlite_errorcode", None) in _OURS:
            raise
        raise _refusal(exc, names) from exc
    finally:
        connection.set_authorizer(None)
    return SqlAnswer(columns=[name for name, *_ in cursor.description], rows=rows, more=more)


_OURS = {
    sqlite3.SQLITE_INTERRUPT,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_CANTOPEN,
}
"""What is not the fault of the statement."""


def _authorize(
    readable: frozenset[str],
    others: frozenset[str],
    action: int,
    first: str | None,
    second: str | None,
    *_: str | None,
) -> int:
    """Say whether a statement may do what it is about to do."""
    match action:
        case sqlite3.SQLITE_SELECT | sqlite3.SQLITE_RECURSIVE:
            allowed = True
        case sqlite3.SQLITE_READ:
            allowed = _may_read(readable, others, str(first).lower(), second)
        case sqlite3.SQLITE_FUNCTION:
            allowed = second is not None and second.lower() in _FUNCTIONS
        case _:
            allowed = False
    return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY


def _may_read(
    readable: frozenset[str], others: frozenset[str], table: str, column: str | None
) -> bool:
    """Say whether a column may be read.

    Without a column, somebody counts rows, of what may be a part of the statement: SQLite asks for
    that by the name alone.
    """
    if table in readable or table in _TABLE_FUNCTIONS:
        return True
    return not column and table not in others and not table.startswith(_SYSTEM_TABLES)


def _take(cursor: sqlite3.Cursor, query: SqlQuery) -> tuple[list[list[Cell]], bool]:
    rows: list[list[Cell]] = []
    size = 0
    for row in cursor:
        if len(rows) == query.limit or size >= query.size_max:
            cursor.close()
            return rows, True
        rows.append([_cell(value) for value in row])
        size += sum(map(_size, rows[-1]))
    return rows, False


def _cell(value: int | float | str | bytes | None) -> Cell:
    if isinstance(value, str | bytes) and len(value) > CELL_SIZE_MAX:
        return CutValue(value[:CELL_SIZE_MAX], len(value))
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _size(cell: Cell) -> int:
    if isinstance(cell, CutValue):
        return len(cell.start)
    return len(cell) if isinstance(cell, str | bytes) else 8


def _refusal(exc: Exception, names: Sequence[str]) -> QueryRefused:
    """Return a sentence about what is wrong with a statement."""
    code = getattr(exc, "sqlite_errorcode", None)
    tables = ", ".join(map(_written, names)) or "none"
    if isinstance(exc, sqlite3.Warning | sqlite3.ProgrammingError):
        return QueryRefused(f"give exactly one statement, without parameters ({exc})")
    if code == sqlite3.SQLITE_AUTH:
        return QueryRefused(
            f"this statement is not allowed ({exc}): only SELECT, on these tables: {tables}, with "
            "SQLite's usual functions"
        )
    if code == sqlite3.SQLITE_TOOBIG or isinstance(exc, MemoryError):
        return QueryRefused(
            "a value, or the statement, is too large; leave large payloads out: "
            "length(payload_blob) < 1000000"
        )
    return QueryRefused(f"SQLite does not understand the statement: {exc}. {_FORMS}. {tables}")


def _readable(connection: sqlite3.Connection) -> list[str]:
    return [name for name in message_tables_in(connection) if _kind(name) is not None]


def _kind(table: str) -> TableKind | None:
    return next((kind for end, kind in _KINDS.items() if table.endswith(end)), None)


def _describe(connection: sqlite3.Connection) -> list[Table]:
    return [*_described(connection)]


def _described(connection: sqlite3.Connection) -> Iterator[Table]:
    for name in _readable(connection):
        kind = _kind(name)
        assert kind is not None
        found = connection.execute("SELECT name, type FROM pragma_table_xinfo(?)", (name,))
        columns = [Column(name=column, type=type_.split(" ")[0]) for column, type_ in found]
        yield Table(name=_written(name), kind=kind, columns=columns)


def _written(table: str) -> str:
    """Return a name as it must be written in SQL."""
    return table if table.isidentifier() else f'"{table}"'
